"""Label words that a topic model was not trained to say are calibrated where nobody says otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jinyi import TopicClassifier
from jinyi.convert.carried import carried
from jinyi.errors import FolderError
from jinyi.folder import read_folder, write_folder
from jinyi.folder.write import update_record
from jinyi.models.open_labels import OpenLabels
from jinyi.models.source import Source
from jinyi.models.work import run

TEXTS = ["怎么改密码", "今天天气很好", "财经新闻的一则"]
TRAINED = ["体育", "财经", "天气"]
PROMPT = "下面是关于{}的新闻："


@pytest.fixture(scope="module")
def folder(small_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that tells which words its model was trained to say."""
    target = tmp_path_factory.mktemp("words") / "topic"
    return update_record(small_folders / "topic", target=target, trained_words=TRAINED)


def proba(folder: Path, words: list[str] | None, calibrate: bool | None = None) -> np.ndarray:
    classifier = TopicClassifier.load(folder, labels=words, prompt=PROMPT, calibrate=calibrate, threads=1)
    return classifier.predict_proba(TEXTS)


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (["体育", "财经"], False),
        (["财经", "体育", "天气"], False),
        (["体育", "新闻"], True),
        (["新闻", "心情"], True),
    ],
)
def test_new_words_are_calibrated(folder: Path, small_folders: Path, words: list[str], new: bool) -> None:
    with_it, without = (proba(folder, words, calibrate) for calibrate in (True, False))
    assert np.abs(with_it - without).max() > 1e-3
    assert np.array_equal(proba(folder, words), with_it if new else without)
    # A folder that does not tell its words is taken as it is.
    assert np.array_equal(proba(small_folders / "topic", words), without)
    labels = OpenLabels(Source.open(folder, "topic", threads=1))
    asked = run(labels.prepare(TEXTS, words, prompt=PROMPT))
    assert np.allclose(asked, with_it if new else without, atol=1e-6)


def test_several_labels_each_for_itself_are_as_before(folder: Path, small_folders: Path) -> None:
    asked = [
        run(
            OpenLabels(Source.open(path, "topic", threads=1)).prepare(
                TEXTS, ["体育", "新闻"], multi_label=True
            )
        )
        for path in (folder, small_folders / "topic")
    ]
    assert np.array_equal(*asked)


def test_a_saved_choice_stays_and_can_be_taken_back(folder: Path, tmp_path: Path) -> None:
    words = ["体育", "新闻"]
    saved = TopicClassifier.load(folder, labels=words, prompt=PROMPT, threads=1).save(tmp_path / "s")
    assert json.loads((saved / "jinyi.json").read_text("utf-8"))["topic"]["calibrate"] is True
    assert np.array_equal(proba(saved, None), proba(folder, words, True))
    assert np.array_equal(proba(saved, None, False), proba(folder, words, False))
    plain = TopicClassifier.load(folder, labels=words, prompt=PROMPT, calibrate=False).save(tmp_path / "p")
    assert np.array_equal(proba(plain, None), proba(folder, words, False))
    assert np.array_equal(proba(plain, None, True), proba(folder, words, True))


def test_other_folders_carry_the_words(folder: Path, tmp_path: Path) -> None:
    opened = read_folder(folder)
    again = write_folder(tmp_path / "again", weights=opened.weights(), tokenizer=folder, **carried(opened))
    assert read_folder(again).record["trained_words"] == TRAINED


def test_words_that_are_no_list_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="trained_words"):
        update_record(folder, target=tmp_path / "bad", trained_words="体育")
    assert not (tmp_path / "bad").exists()
