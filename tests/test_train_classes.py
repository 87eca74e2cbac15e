"""Training of classifiers of single texts: learns a small set, inputs and folder as at prediction, bad labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi import TopicClassifier  # noqa: E402
from jinyi.errors import InputError, TruncationWarning  # noqa: E402
from jinyi.folder import read_folder, write_folder  # noqa: E402
from jinyi.train.build import build_task  # noqa: E402
from jinyi.train.recipe import Batch, ClassesObjective, Source, Start, reading, rules  # noqa: E402
from jinyi.train.tasks.classes import ClassesTask  # noqa: E402
from small_models import write_small  # noqa: E402
from train_toys import ALONE, SENTENCES, jsonl, network, recipe, tokenizer, train  # noqa: E402

LABELS = ("体育", "财经", "新闻")
ROWS = [{"sentence": text, "label": LABELS[k % 3]} for k, text in enumerate(SENTENCES)]


def make(tmp_path: Path, rows: Any = ROWS, labels: tuple[str, ...] = LABELS, **sections: Any) -> ClassesTask:
    files = [Source(str(jsonl(tmp_path / "toy" / f"{split}.jsonl", rows))) for split in ("train", "dev")]
    made = recipe("classes", ClassesObjective(labels), files[:1], dev=files[1:], **sections)
    return ClassesTask(made, network(outputs=len(labels)), tokenizer(), ALONE)


def test_learns_a_small_set_by_heart(tmp_path: Path) -> None:
    task = make(tmp_path, batch=Batch(rows=8))
    before = task.evaluate()
    losses = train(task, 60, lr=4e-3)
    after = task.evaluate()
    assert losses[-1] < 0.2 * losses[0] and before["accuracy"] < 1.0
    assert after["accuracy"] == after["macro_f1"] == 1.0 and task.metric == "accuracy"


def test_two_classes_are_measured_as_such(tmp_path: Path) -> None:
    rows = [{"text": text, "label": ("true", "false")[k % 2]} for k, text in enumerate(SENTENCES)]
    task = make(tmp_path, rows, ("true", "false"))
    scores = task.evaluate()
    assert {"accuracy", "macro_f1", "f1", "auc", "average_precision"} <= set(scores)
    logits = task.logits(task._dev[0])
    said = [("true", "false")[k] for k in logits.argmax(1)]
    assert scores["accuracy"] == np.mean([a == row["label"] for a, row in zip(said, rows, strict=True)])


def test_inputs_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    rows = [{"text": "改密码" * k, "label": "体育"} for k in range(1, 9)]
    with pytest.warns(TruncationWarning, match=r"4 of 8 texts cut, 30 tokens not read: data.max_length"):
        task = make(tmp_path, rows, max_length=14)
    [part] = task.parts(0, ALONE)
    ids, lengths, segments = (part.inputs[name] for name in ("ids", "lengths", "segments"))
    assert segments is None
    got = sorted(tuple(row[:n].tolist()) for row, n in zip(ids, lengths.tolist(), strict=True))
    encoded = task.tokenizer.encode([row["text"] for row in rows], max_length=14, truncate="report")
    assert got == sorted(map(tuple, encoded.ids))
    assert part.weight == 8 and part.tokens == sum(map(len, encoded.ids))


def test_the_folder_classifies_as_dev_rows_were_classified(tmp_path: Path) -> None:
    task = make(tmp_path)
    weights = task.finished(task.network.weights())
    options = {"config": task.network.config, "tokenizer": task.tokenizer, **task.folder()}
    path = write_folder(tmp_path / "folder", weights=weights, **options)
    assert (read_folder(path).task, read_folder(path).labels) == ("classes", LABELS)
    found = TopicClassifier.load(path)
    logits = task.logits(task._dev[0])
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.abs(found.predict_proba(list(SENTENCES)) - expected).max() < 1e-5
    assert list(found.predict(list(SENTENCES))) == [LABELS[k] for k in expected.argmax(1)]


def test_starts_from_a_folder_of_other_classes(tmp_path: Path) -> None:
    model = write_small(tmp_path / "pair", "pair", outputs=2)
    made = make(tmp_path).recipe
    task = build_task(replace(made, start=Start(model=str(model))))
    assert isinstance(task, ClassesTask)
    weights, own = task.network.weights(), read_folder(model).weights()
    assert weights["classifier.weight"].shape == (3, 32)
    assert np.array_equal(weights["pooler.dense.weight"], own["pooler.dense.weight"])
    assert reading.parse(reading.dump(task.recipe)) == task.recipe


def test_bad_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.jsonl:1: found label '娱乐'; expected one of"):
        make(tmp_path, [{"text": "改", "label": "娱乐"}])
    with pytest.raises(InputError, match=r"train\.jsonl:1: found label None"):
        make(tmp_path, [{"text": "改"}])
    made = make(tmp_path).recipe
    for labels, message in ((("a",), "1 labels; expected the names of two"), (("a", "b", "a"), "'a' twice")):
        with pytest.raises(InputError, match=message):
            rules.check(replace(made, start=Start(model="toy"), objective=ClassesObjective(labels)))
