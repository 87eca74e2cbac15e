"""Training of sentence vectors: each loss learns, equal to brute force, cut and cached batches equal whole ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from contrastive_process import task as process_task  # noqa: E402
from forked import succeed  # noqa: E402
from jinyi import SentenceEncoder  # noqa: E402
from jinyi.errors import InputError  # noqa: E402
from jinyi.folder import write_folder  # noqa: E402
from jinyi.train.data.rows import read_rows  # noqa: E402
from jinyi.train.recipe import Batch, ContrastiveObjective, Machine, Source  # noqa: E402
from jinyi.train.task import Share  # noqa: E402
from jinyi.train.tasks.contrastive import ContrastiveTask  # noqa: E402
from train_toys import (  # noqa: E402
    ALONE,
    SENTENCES,
    gradients,
    jsonl,
    network,
    recipe,
    shares_of_steps,
    tokenizer,
    total,
    train,
)

TEXTS = [{"text": text} for text in SENTENCES]
TRIPLETS = [
    {"anchor": SENTENCES[k], "positive": SENTENCES[k ^ 1], "negative": SENTENCES[(k + 3) % 8]}
    for k in range(8)
]
PAIRS = [
    {"texta": SENTENCES[k], "textb": SENTENCES[other], "label": label}
    for k in range(8)
    for other, label in ((k ^ 1, 1), ((k + 3) % 8, 0))
]
GRADED = [{"texta": SENTENCES[k], "textb": SENTENCES[0], "score": 5 - 0.5 * k} for k in range(8)]
KINDS = {"texts": TEXTS, "triplets": TRIPLETS, "pairs": PAIRS, "graded": GRADED}


def make(
    tmp_path: Path,
    objective: ContrastiveObjective,
    *kinds: str,
    dev: str | None = None,
    dropout: float = 0.0,
    **sections: Any,
) -> ContrastiveTask:
    def source(kind: str) -> Source:
        path = jsonl(tmp_path / kind / "train.jsonl", KINDS[kind])
        return Source(str(path), kind="pairs" if kind == "graded" else kind)  # type: ignore[arg-type]

    made = recipe("contrastive", objective, map(source, kinds), dev=[source(dev)] if dev else [], **sections)
    return ContrastiveTask(made, network(dropout=dropout, mlm=objective.mlm > 0), tokenizer(), ALONE)


def vectors_of(task: ContrastiveTask, texts: list[str]) -> torch.Tensor:
    """[CLS] of each text by itself, of length 1."""
    rows = [task.network(torch.tensor([ids]))[-1][0, 0] for ids in task.tokenizer.encode(texts).ids]
    return torch.nn.functional.normalize(torch.stack(rows).double(), dim=-1)


@pytest.mark.parametrize(
    ("loss", "kind", "metric"),
    [("infonce", "triplets", "accuracy"), ("infonce", "pairs", "spearman"), ("cosent", "graded", "spearman")],
)
def test_learns_a_small_set_by_heart(tmp_path: Path, loss: str, kind: str, metric: str) -> None:
    task = make(tmp_path, ContrastiveObjective(loss=loss), kind, dev=kind, batch=Batch(rows=16))  # type: ignore[arg-type]
    before = task.evaluate()
    losses = train(task, 60)
    after = task.evaluate()
    assert losses[-1] < 0.1 * losses[0], losses
    assert task.metric == metric and set(after) == {metric}
    best = {"triplets": 1.0, "graded": 1.0, "pairs": 0.86}[
        kind
    ]  # tied labels: Spearman of two halves is 0.866
    assert before[metric] < best <= after[metric]


def test_unsupervised_simcse_tells_texts_apart(tmp_path: Path) -> None:
    task = make(tmp_path, ContrastiveObjective(mlp="train"), "texts", dropout=0.1)
    before = mean_cosine(task)
    task.network.train()
    torch.manual_seed(0)
    [part] = task.parts(0, ALONE)
    assert len(part.inputs["chunks"][0]["ids"]) == 16 and part.weight == 8
    vectors = task._vectors(part.inputs["chunks"])[0][part.inputs["order"]]
    assert not torch.equal(vectors[:8], vectors[8:])  # the same texts, other dropout
    losses = train(task, 60)
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5]), losses
    assert mean_cosine(task) < before


def mean_cosine(task: ContrastiveTask) -> float:
    """Of different texts, by the finished model."""
    vectors = task.vectors(task._train[0].rows)[0]
    return float((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].mean())


def test_infonce_is_that_of_the_definition(tmp_path: Path) -> None:
    objective = ContrastiveObjective(hard_negative_weight=0.7)
    task = make(tmp_path, objective, "triplets")
    anchors, positives, negatives = (
        vectors_of(task, [row[side] for row in TRIPLETS]).detach()
        for side in ("anchor", "positive", "negative")
    )
    expected = 0.0
    for i in range(8):
        terms = {}
        for j in range(8):
            for name, side, vectors in (("p", "positive", positives), ("n", "negative", negatives)):
                equal = TRIPLETS[j][side] in (TRIPLETS[i]["anchor"], TRIPLETS[i]["positive"])
                if not equal or (name == "p" and i == j):
                    terms[name, j] = float(anchors[i] @ vectors[j]) / 0.05 + 0.7 * (name == "n" and i == j)
        expected += np.logaddexp.reduce(list(terms.values())) - terms["p", i]
    assert total(task, 0).item() == pytest.approx(expected / 8, rel=1e-4)


def test_pairs_give_both_losses(tmp_path: Path) -> None:
    task = make(tmp_path, ContrastiveObjective(loss="both", infonce=0.3), "pairs", batch=Batch(rows=16))
    a, b = (vectors_of(task, [row[side] for row in PAIRS]) for side in ("texta", "textb"))
    cosines, labels = (a * b).sum(1), torch.tensor([row["label"] for row in PAIRS])
    gaps = [20 * (cosines[j] - cosines[i]) for i in range(16) for j in range(16) if labels[i] > labels[j]]
    cosent = torch.logsumexp(torch.stack([torch.zeros((), dtype=torch.float64), *gaps]), 0)
    loss, numbers = task.loss(task.parts(0, ALONE)[0].inputs)
    assert numbers["cosent"] == pytest.approx(cosent.item(), rel=1e-4)
    assert loss.item() == pytest.approx(float(numbers["cosent"] + 0.3 * numbers["infonce"]), rel=1e-5)
    # The mean over the rows of label 1.
    one = make(tmp_path, ContrastiveObjective(), "pairs", batch=Batch(rows=16))
    assert total(one, 0).item() == pytest.approx(float(numbers["infonce"]), rel=1e-5)


def test_grades_beyond_one_enter_cosent_alone(tmp_path: Path) -> None:
    task = make(tmp_path, ContrastiveObjective(loss="both"), "graded")
    assert float(task.loss(task.parts(0, ALONE)[0].inputs)[1]["infonce"]) == 0.0
    with pytest.raises(
        InputError, match=r"train\.jsonl: found pairs with labels from 1\.5 to 5; expected texts, trip"
    ):
        make(tmp_path, ContrastiveObjective(), "graded")
    with pytest.raises(InputError, match="found texts with no labels; expected pairs with different labels"):
        make(tmp_path, ContrastiveObjective(loss="cosent"), "texts")
    with pytest.raises(InputError, match="found texts without different labels; expected pairs with labels"):
        make(tmp_path, ContrastiveObjective(), "texts", dev="texts")


@pytest.mark.parametrize("kind", ["texts", "triplets", "pairs"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "first_last"])
def test_cached_gradients_are_the_gradients(tmp_path: Path, kind: str, pooling: str) -> None:
    options: dict[str, Any] = {"loss": "both", "pooling": pooling, "mlm": 0.1, "mlp": "kept"}
    whole = make(tmp_path, ContrastiveObjective(**options), kind)
    cached = make(tmp_path, ContrastiveObjective(**options, cache=3), kind)
    assert len(cached.parts(0, ALONE)[0].inputs["chunks"]) == {"texts": 6, "pairs": 6, "triplets": 8}[kind]
    one, two = total(whole, 0), total(cached, 0)
    assert one.item() == pytest.approx(two.item(), rel=1e-5)
    expected, got = gradients(whole, one), gradients(cached, two)
    assert expected.keys() == got.keys() and any("mlp" in name for name in got)
    for name in expected:
        assert torch.allclose(expected[name], got[name], atol=1e-5, rtol=1e-4), name


def test_cached_gradients_with_dropout(tmp_path: Path) -> None:
    """Computed again backwards under the same dropout: the gradient is that of the loss that was reported."""
    task = make(tmp_path, ContrastiveObjective(cache=5), "texts", dropout=0.2)
    task.network.train()
    torch.manual_seed(1)
    cached = gradients(task, total(task, 0))
    torch.manual_seed(1)
    kept = gradients(task, _uncached(task))
    assert all(torch.allclose(kept[name], cached[name], atol=1e-6) for name in kept)


def _uncached(task: ContrastiveTask) -> torch.Tensor:
    """The loss from the same chunks without recomputation."""
    [part] = task.parts(0, ALONE)
    vectors = torch.cat([task._chunk(chunk)[0] for chunk in part.inputs["chunks"]])[part.inputs["order"]]
    return task._info_nce(vectors, part.inputs) * part.inputs["share"]


def test_accumulated_parts_are_means_over_the_step(tmp_path: Path) -> None:
    """Parts are batches of their own for InfoNCE, but count by their rows; masks do not depend on the cut."""
    objective = ContrastiveObjective(mlm=0.5)
    task = make(tmp_path, objective, "pairs", batch=Batch(rows=16, accumulate=4))
    whole = make(tmp_path, objective, "pairs", batch=Batch(rows=16))
    parts = [part for rank in (0, 1) for part in task.parts(0, Share(rank, 2))]
    assert len(parts) == 8 and sum(part.weight for part in parts) == 16
    numbers = [task.loss(part.inputs)[1] for part in parts]
    mlm = sum(float(each["mlm"]) * part.weight for each, part in zip(numbers, parts, strict=True)) / 16
    assert mlm == pytest.approx(float(whole.loss(whole.parts(0, ALONE)[0].inputs)[1]["mlm"]), rel=1e-5)
    sums = [
        task._info_nce(task._vectors(p.inputs["chunks"])[0][p.inputs["order"]], p.inputs).item()
        for p in parts
    ]
    rows = sum(len(part.inputs["a"]) for part in parts)
    weighed = (
        sum(float(each["infonce"]) * part.weight for each, part in zip(numbers, parts, strict=True)) / 16
    )
    assert rows == 8 and weighed == pytest.approx(sum(sums) / rows, rel=1e-5)


def test_masked_language_model_beside(tmp_path: Path) -> None:
    task = make(tmp_path, ContrastiveObjective(mlm=1.0), "texts")
    chunk = task.parts(0, ALONE)[0].inputs["chunks"][0]
    masked = chunk["masked"]
    assert len(masked["ids"]) == 8  # each text once
    assert 8 <= len(masked["targets"]) <= 16
    assert not torch.isin(masked["targets"], torch.tensor([task.tokenizer.pad_id, 2, 3])).any()
    restored = masked["ids"].flatten()
    restored[masked["places"]] = masked["targets"]
    texts = {tuple(row) for row in chunk["ids"].tolist()}
    assert {tuple(row) for row in restored.view_as(masked["ids"]).tolist()} == texts and len(texts) == 8
    [first], [again] = task.parts(3, ALONE), task.parts(3, ALONE)
    assert torch.equal(first.inputs["chunks"][0]["masked"]["ids"], again.inputs["chunks"][0]["masked"]["ids"])
    losses = train(task, 60)
    assert losses[-1] < 0.6 * losses[0], losses


@pytest.mark.parametrize("mlp", ["none", "train", "kept"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "first_last"])
def test_trained_and_finished_model_agree(tmp_path: Path, mlp: str, pooling: str) -> None:
    """What `SentenceEncoder` computes from the written folder is what dev scores were computed from."""
    objective = ContrastiveObjective(mlp=mlp, pooling=pooling)  # type: ignore[arg-type]
    task = make(tmp_path, objective, "pairs")
    path = tmp_path / "model"
    own = {"config": task.network.config, "weights": task.network.weights(), "tokenizer": task.tokenizer}
    write_folder(path, **own, **task.folder())
    expected = SentenceEncoder.load(path).encode([row["texta"] for row in PAIRS])
    rows = read_rows(task.recipe.data.train[0], task.recipe.data, task.tokenizer, "pairs")
    assert np.abs(task.vectors(rows)[0] - expected).max() < 1e-4


def test_batches_are_of_one_file_and_errors_name_lines(tmp_path: Path) -> None:
    task = make(
        tmp_path, ContrastiveObjective(loss="both"), "pairs", "triplets", "texts", batch=Batch(rows=8)
    )
    assert (task.epoch_steps, task.rows) == (4, 32)
    files = {task.describe(step, ALONE, 0).split("/")[-2] for step in range(4)}
    assert files == {"pairs", "triplets", "texts"}
    assert all(torch.isfinite(total(task, step)) for step in range(8))
    with pytest.raises(InputError, match="a batch of 8 rows; expected at least 16"):
        make(tmp_path, ContrastiveObjective(), "texts", batch=Batch(rows=8, accumulate=16))
    for loss in ("infonce", "cosent"):  # parts of one row have nothing to compare: the loss would be 0
        objective, batch = ContrastiveObjective(loss=loss), Batch(rows=8, accumulate=8)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"a single row for {loss}"):
            make(tmp_path, objective, "pairs", batch=batch)
        make(tmp_path, objective, "triplets", batch=batch)  # these have negatives of their own
    with pytest.raises(InputError, match="mlp: kept with machine.fsdp"):
        make(tmp_path, ContrastiveObjective(mlp="kept"), "texts", machine=Machine(fsdp=True))


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    """With gathered rows two processes have the loss and the gradients of one with the whole batch."""
    for kind in ("pairs", "triplets", "texts"):
        jsonl(tmp_path / f"{kind}.jsonl", KINDS[kind])
    succeed("contrastive_process.py", [(rank, 2, tmp_path) for rank in range(2)])
    expected = shares_of_steps(process_task(tmp_path, ALONE), ALONE)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for (loss, whole), (one, first), (two, second) in zip(expected, *parts, strict=True):
        assert one + two == pytest.approx(loss, rel=1e-5)
        for name in whole:
            torch.testing.assert_close(
                first[name] + second[name], whole[name], rtol=1e-3, atol=1e-5, msg=name
            )
