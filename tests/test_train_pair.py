"""Training of cross-encoders: learns small sets, inputs as at prediction, dev scores, folders, cuts of a batch."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi import PairScorer  # noqa: E402
from jinyi.errors import InputError, TruncationWarning  # noqa: E402
from jinyi.folder import write_folder  # noqa: E402
from jinyi.train.data.rows import read_rows  # noqa: E402
from jinyi.train.recipe import Batch, Evaluation, PairObjective, Source  # noqa: E402
from jinyi.train.task import Share  # noqa: E402
from jinyi.train.tasks.pair import PairTask, similar_class  # noqa: E402
from train_toys import ALONE, SENTENCES, gradients, jsonl, network, recipe, tokenizer, total, train  # noqa: E402

PAIRS = [
    {"texta": a, "textb": b, "label": int(i // 2 == j // 2)}
    for (i, a), (j, b) in product(enumerate(SENTENCES), enumerate(SENTENCES))
    if i < j
]


def make(
    tmp_path: Path, objective: PairObjective, rows: list = PAIRS, *, source: Any = None, **sections: Any
) -> PairTask:
    train_path, dev_path = (
        jsonl(tmp_path / "toy" / "train.jsonl", rows),
        jsonl(tmp_path / "toy" / "dev.jsonl", rows),
    )
    options = source or {}
    made = recipe(
        "pair",
        objective,
        [Source(str(train_path), **options)],
        dev=[Source(str(dev_path), **options)],
        **sections,
    )
    heads = {"outputs": objective.outputs}
    return PairTask(made, network(**heads), tokenizer(), ALONE)


@pytest.mark.parametrize("outputs", [1, 2])
def test_learns_a_small_set_by_heart(tmp_path: Path, outputs: int) -> None:
    task = make(tmp_path, PairObjective(outputs=outputs), batch=Batch(rows=14))
    before = task.evaluate()
    losses = train(task, 140)
    after = task.evaluate()
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5]), losses
    assert before["accuracy"] < 1.0 and after["accuracy"] == after["f1"] == after["auc"] == 1.0
    assert after["accuracy"] == 1.0 and task.metric == "accuracy"
    assert (task.rows, task.epoch_steps) == (28, 2)


def test_ordered_classes_are_learned(tmp_path: Path) -> None:
    rows = [{"texta": a, "textb": a, "label": k % 3} for k, a in enumerate(SENTENCES)]
    objective = PairObjective(outputs=3, labels=("no", "some", "yes"), loss="pcl", prior=0.5)
    task = make(tmp_path, objective, rows)
    losses = train(task, 60, lr=4e-3)
    scores = task.evaluate()
    assert losses[-1] < 0.2 * losses[0] and scores == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
    }
    assert task.folder() == {"task": "pair", "labels": ("no", "some", "yes"), "similar_label": 2}


@pytest.mark.parametrize("segments", ["pair", "zeros"])
@pytest.mark.parametrize("both_orders", [True, False])
def test_trained_and_finished_model_agree(tmp_path: Path, segments: str, both_orders: bool) -> None:
    """What `PairScorer` computes from the written folder is what dev scores were computed from."""
    task = make(tmp_path, PairObjective(segments=segments, both_orders=both_orders))  # type: ignore[arg-type]
    folder = write_folder(
        tmp_path / "model",
        config=task.network.config,
        weights=task.network.weights(),
        tokenizer=task.tokenizer,
        **task.folder(),
    )
    scorer = PairScorer.load(folder)
    pairs = [(row["texta"], row["textb"]) for row in PAIRS]
    expected = scorer.predict(pairs, symmetric=both_orders, raw_scores=True, segment_ids=segments)
    rows = read_rows(task.recipe.data.dev[0], task.recipe.data, task.tokenizer, "pairs")
    assert np.abs(task.logits(rows)[:, 0] - expected).max() < 1e-4


def test_inputs_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """Ids, segments and cuts of a training batch are what `Tokenizer.encode_pairs` makes."""
    rows = [{"texta": "改密码" * k, "textb": "天气" * (9 - k), "label": 0} for k in range(1, 9)]
    with pytest.warns(
        TruncationWarning, match=r"(train|dev)\.jsonl: 8 of 8 rows cut, 44 tokens not read: data.max_length"
    ):
        task = make(tmp_path, PairObjective(both_orders=False), rows, max_length=20)
    [part] = task.parts(0, ALONE)
    ids, lengths, segments = (part.inputs[name] for name in ("ids", "lengths", "segments"))
    if lengths is None:
        lengths = torch.full((len(ids),), ids.shape[1])
    got = {
        tuple(row[:n].tolist()): int((kinds[:n] == 0).sum())
        for row, n, kinds in zip(ids, lengths.tolist(), segments, strict=True)
    }
    encoded = task.tokenizer.encode_pairs(
        [(row["texta"], row["textb"]) for row in rows], max_length=20, truncate="report"
    )
    assert got == dict(zip(map(tuple, encoded.ids), encoded.splits, strict=True))
    assert part.weight == 8 and part.tokens == sum(map(len, encoded.ids))


def test_both_orders_are_shown(tmp_path: Path) -> None:
    task = make(tmp_path, PairObjective(), [{"texta": "改密码", "textb": "天气", "label": 0}] * 8)
    first = task.tokenizer.ids_of_word("改")[0]
    shares = [
        (part.inputs["ids"][:, 1] == first).float().mean()
        for step in range(50)
        for part in task.parts(step, ALONE)
    ]
    assert 0.4 < float(np.mean(shares)) < 0.6
    fixed = make(
        tmp_path, PairObjective(both_orders=False), [{"texta": "改密码", "textb": "天气", "label": 0}] * 8
    )
    assert bool((fixed.parts(0, ALONE)[0].inputs["ids"][:, 1] == first).all())


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "pcl"])
def test_a_step_does_not_depend_on_how_it_is_cut(tmp_path: Path, loss: str) -> None:
    objective = PairObjective(outputs=2, loss=loss, smoothing=0.1)  # type: ignore[arg-type]
    whole = make(tmp_path, objective, batch=Batch(rows=14))
    cut = make(tmp_path, objective, batch=Batch(rows=14, accumulate=2))
    for step in range(3):
        one, two = total(whole, step), total(cut, step, worlds=2)
        assert len(cut.parts(step, Share(0, 2))) == 2
        assert one.item() == pytest.approx(two.item(), rel=1e-5)
        expected, got = gradients(whole, one), gradients(cut, two)
        assert all(torch.allclose(expected[name], got[name], atol=1e-5) for name in expected)


def test_graded_labels_and_names(tmp_path: Path) -> None:
    rows = [{"texta": a, "textb": "天气", "label": k / 7} for k, a in enumerate(SENTENCES)]
    task = make(tmp_path, PairObjective(), rows)
    assert task.metric == "spearman" and list(task.evaluate()) == ["spearman"]
    named = [{**row, "label": ("different", "same")[row["label"]]} for row in PAIRS]
    task = make(tmp_path, PairObjective(labels=("different", "same")), named)
    assert task.parts(0, ALONE)[0].inputs["targets"].dtype == torch.float32
    assert task.folder() == {"task": "pair", "labels": ("same",)}
    # The names tell which means similar, not their order.
    turned = make(tmp_path, PairObjective(labels=("same", "different")), named)
    assert turned.folder() == task.folder()
    assert torch.equal(turned.parts(0, ALONE)[0].inputs["targets"], task.parts(0, ALONE)[0].inputs["targets"])


@pytest.mark.parametrize(
    ("objective", "similar"),
    [
        (PairObjective(outputs=1), 0),
        (PairObjective(outputs=2), 1),
        (PairObjective(outputs=2, labels=("similar", "not similar")), 0),
        (PairObjective(outputs=2, labels=("x", "y")), 1),
        (PairObjective(outputs=3, labels=("contradiction", "entailment", "neutral")), 1),
        (PairObjective(outputs=3, loss="pcl_compat"), 2),
        (PairObjective(outputs=3), None),
    ],
)
def test_which_class_means_similar(objective: PairObjective, similar: int | None) -> None:
    assert similar_class(objective) == similar


def test_bad_rows_and_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.jsonl:1: found label 2; expected a number from 0 to 1"):
        make(tmp_path, PairObjective(), [{"texta": "改", "textb": "密", "label": 2}])
    with pytest.raises(
        InputError, match=r"train\.jsonl:2: found label '3'; expected one of \['0', '1', '2'\]"
    ):
        make(tmp_path, PairObjective(outputs=3), [{"texta": "改", "textb": "密", "label": k} for k in "23"])
    with pytest.raises(InputError, match="evaluation.metric: found 'bleu'; expected one of accuracy, auc"):
        make(tmp_path, PairObjective(), evaluation=Evaluation(metric="bleu"))
    with pytest.raises(InputError, match="a batch of 2 rows; expected at least 4"):
        make(tmp_path, PairObjective(), PAIRS[:2], batch=Batch(rows=8, accumulate=4))
    task = make(tmp_path, PairObjective(), evaluation=Evaluation(metric="auc"))
    assert task.metric == "auc"
    assert task.describe(0, ALONE, 0).count("train.jsonl:") == 5 and task.describe(0, ALONE, 0).endswith(
        "and 2 more"
    )


@pytest.mark.parametrize("segments", ["pair", "zeros"])
def test_the_folder_scores_as_dev_rows_were_scored(tmp_path: Path, segments: str) -> None:
    task = make(tmp_path, PairObjective(segments=segments))  # type: ignore[arg-type]
    weights = task.finished(task.network.weights())
    options = {"config": task.network.config, "tokenizer": task.tokenizer, **task.folder()}
    path = write_folder(tmp_path / "folder", weights=weights, **options)
    scores = PairScorer.load(path).predict([(row["texta"], row["textb"]) for row in PAIRS], raw_scores=True)
    assert scores == pytest.approx(task.logits(task._train[0])[:, 0], abs=1e-4)


def test_scoring_leaves_no_trace(tmp_path: Path) -> None:
    task = make(tmp_path, PairObjective())
    task.network.train()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert task.evaluate() == task.evaluate()
    assert torch.equal(torch.rand(4), expected) and task.network.training


def test_a_triplet_is_two_pairs(tmp_path: Path) -> None:
    triplets = [
        {"anchor": a, "positive": b, "negative": c}
        for a, b, c in zip(SENTENCES, SENTENCES[1:], SENTENCES[2:], strict=False)
    ]
    pairs = [
        {"texta": row["anchor"], "textb": row[side], "label": label}
        for row in triplets
        for side, label in (("positive", 1), ("negative", 0))
    ]
    theirs, ours = (
        make(tmp_path / "pairs", PairObjective(), pairs),
        make(tmp_path / "triplets", PairObjective(), triplets, source={"kind": "triplets"}),
    )
    assert ours.rows == len(pairs) and ours.evaluate() == theirs.evaluate()
    for one, other in zip(ours.parts(3, ALONE), theirs.parts(3, ALONE), strict=True):
        assert all(
            torch.equal(one.inputs[name], other.inputs[name]) for name in ("ids", "segments", "targets")
        )
    limited = make(tmp_path / "few", PairObjective(), triplets, source={"kind": "triplets", "limit": 3})
    assert limited.rows == 3
