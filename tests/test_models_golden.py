"""Golden sentences: checked at load, also of encoders that read little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder
from jinyi.models.golden import make_golden
from jinyi.models.source import FolderEngine, Source
from jinyi.runtime import Engine, Head
from small_models import CONFIG, random_weights, write_small


@pytest.mark.parametrize(
    ("positions", "prompt"),
    [(48, "下面是一则关于{}的新闻："), (17, "下面是一则关于{}的新闻："), (14, "关于{}："), (6, "{}")],
)
def test_the_prompt_leaves_room_for_text(tmp_path: Path, positions: int, prompt: str) -> None:
    config = replace(CONFIG, max_position_embeddings=positions)
    weights = random_weights(config, head="mlm")
    path = write_small(tmp_path / "m", "mlm", config=config, weights=weights, golden=make_golden)
    golden = read_folder(path).golden
    assert golden is not None and golden.prompt == prompt and golden.values.shape == (3, len(golden.labels))
    topics = TopicClassifier.load(path, labels=["体育", "财经"], prompt="{}")  # checks them
    assert topics.predict("今天") in ("体育", "财经")


def test_a_prompt_of_the_folder_has_to_fit(tmp_path: Path) -> None:
    own = {"prompts": {"a": "下面是一则关于{}的新闻："}, "default_prompt_name": "a", "max_length": 14}
    with pytest.raises(InputError, match="14, of which"):
        write_small(tmp_path / "m", "topic", labels=["体育", "财经"], golden=make_golden, **own)


def test_words_of_one_length_are_checked_without_the_whole_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jinyi.models.golden.WORDS", ("体育", "财经"))
    path = write_small(tmp_path / "m", "mlm", golden=make_golden)
    heads: list[Head] = []

    def opener(source: Source, head: Head) -> Engine:
        heads.append(head)
        return FolderEngine(source, head)

    for labels in (["体育", "财经"], ["体育", "财", "经"]):
        TopicClassifier.load(path, labels=labels, opener=opener)
    assert [head.log_normalizer for head in heads] == [False, True]

    record = json.loads((path / "jinyi.json").read_text(encoding="utf-8"))
    record["golden"]["values"][1][0] += 0.01
    (path / "jinyi.json").write_text(json.dumps(record), encoding="utf-8")
    for labels in (["体育", "财经"], ["体育", "财"]):
        with pytest.raises(FolderError, match="golden sentences"):
            TopicClassifier.load(path, labels=labels)


def test_one_golden_word_of_its_length_needs_the_normaliser(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", "mlm", golden=make_golden)
    record = json.loads((path / "jinyi.json").read_text(encoding="utf-8"))
    golden = record["golden"]
    golden["labels"] = golden["labels"][:1]
    golden["values"] = [[row[0] + 0.01] for row in golden["values"]]
    (path / "jinyi.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(FolderError, match="golden sentences"):
        TopicClassifier.load(path, labels=["体育", "财经"])


@pytest.mark.parametrize(
    ("task", "kind"), [("embed", SentenceEncoder), ("pair", PairScorer), ("topic", TopicClassifier)]
)
def test_golden_sentences(tmp_path: Path, task: str, kind) -> None:
    options = {
        "pair": {"outputs": 2, "labels": ["not similar", "similar"]},
        "topic": {"labels": ["体育", "财经的"]},
    }
    folder = write_small(tmp_path / task, task, golden=make_golden, **options.get(task, {}))
    kind.load(folder)
    record = json.loads((folder / "jinyi.json").read_text(encoding="utf-8"))
    values = np.asarray(record["golden"]["values"])
    record["golden"]["values"] = (values + 0.01).tolist()
    (folder / "jinyi.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(FolderError, match="golden sentences"):
        kind.load(folder)


def test_golden_of_other_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes"):
        make_golden(write_small(tmp_path / "c", "classes", outputs=2, labels=["a", "b"]))
