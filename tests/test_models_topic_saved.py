"""What a fitted topic classifier leaves behind: whole folders, its own options, labels that can be written down."""

from __future__ import annotations

import json
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from jinyi import TopicClassifier
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder
from jinyi.folder.verify import verify_folder
from jinyi.folder.write import update_record
from jinyi.models.ngrams import find_ngrams

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好", "新闻", "财经新闻的一则"]
LABELS = ["密码", "密码", "天气", "天气", "新闻", "新闻"]


class Topic(str, Enum):
    """Labels whose `str` is not their value."""

    PASSWORDS = "密码"
    WEATHER = "天气"
    NEWS = "新闻"


@pytest.fixture(scope="module")
def folder(small_folders: Path) -> Path:
    return small_folders / "embed"


def load(model: Path, **options: Any) -> TopicClassifier:
    return TopicClassifier.load(model, threads=1, **options)


def head_of(classifier: TopicClassifier, path: Path) -> str:
    record = json.loads((classifier.save(path) / "jinyi.json").read_text("utf-8"))
    return f"{record['topic']['fitted']['head']} {record['topic']['fitted']['features']}"


@pytest.fixture
def cache(folder: Path, tmp_path: Path) -> Path:
    """The folder as the hub's cache holds it: symbolic links to files elsewhere."""
    snapshot = tmp_path / "cache/snapshots/0"
    for number, file in enumerate(sorted(entry for entry in folder.rglob("*") if entry.is_file())):
        link, blob = snapshot / file.relative_to(folder), tmp_path / f"cache/blobs/{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link.symlink_to(
            Path("../" * (len(link.relative_to(tmp_path / "cache").parts) - 1)) / f"blobs/{number}"
        )
    return snapshot


def test_a_copy_of_a_folder_of_links_has_the_files(cache: Path, tmp_path: Path) -> None:
    classifier = load(cache).fit(TEXTS, LABELS)
    saved = classifier.save(tmp_path / "elsewhere/deep/saved")
    assert not any(file.is_symlink() for file in saved.rglob("*"))
    assert np.array_equal(load(saved).predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_checksums_are_of_all_files(folder: Path, tmp_path: Path) -> None:
    saved = load(folder).fit(TEXTS, LABELS).save(tmp_path / "saved")
    copied = update_record(saved, target=tmp_path / "copied", summary="another")
    for path in (saved, copied):
        lines = (path / "MANIFEST.sha256").read_text("utf-8").splitlines()
        listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        assert listed.keys() == files.keys() - {"MANIFEST.sha256"}
        assert all(sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in listed.items())
    weights = saved / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.unlink()  # a hard link to the folder that was opened
    weights.write_bytes(bytes(changed))
    with pytest.raises(FolderError, match="checksum"):
        verify_folder(saved)


def test_a_file_that_the_list_lacks_gets_a_checksum(folder: Path, tmp_path: Path) -> None:
    first = update_record(folder, target=tmp_path / "first", summary="one")
    (first / "notes.txt").write_text("added by hand", encoding="utf-8")
    second = update_record(first, target=tmp_path / "second", summary="two")
    assert "  notes.txt\n" in (second / "MANIFEST.sha256").read_text("utf-8")


def test_a_saved_folder_does_not_change_the_options(folder: Path, tmp_path: Path) -> None:
    saved = (
        load(folder, method="reference", decider="knn", neighbors=2).fit(TEXTS, LABELS).save(tmp_path / "s")
    )
    again = load(saved, features="ngrams", C=1.0)
    assert again.get_params() == clone(again).get_params()
    assert (again.method, again.features, again.decider) == ("linear", "ngrams", "prototype")
    assert head_of(again.fit(TEXTS, LABELS), tmp_path / "a") == "joint ngrams"
    assert (
        head_of(again.set_params(features="vectors").fit(TEXTS, LABELS), tmp_path / "b") == "linear vectors"
    )
    assert head_of(again.fit(TEXTS, LABELS, method="reference"), tmp_path / "c").startswith("reference")
    assert again.method == "linear"
    assert head_of(again.fit(TEXTS, LABELS), tmp_path / "d") == "linear vectors"


@pytest.mark.parametrize("decider", ["knn", "nearest", "prototype"])
def test_a_reference_head_stays_what_it_is(folder: Path, tmp_path: Path, decider: str) -> None:
    classifier = load(folder, method="reference", decider=decider, neighbors=3).fit(TEXTS, LABELS)
    proba = classifier.predict_proba(TEXTS)
    classifier.decider = "prototype"  # for the next fit
    once = load(classifier.save(tmp_path / "once"))
    twice = load(once.save(tmp_path / "twice"))
    assert read_folder(tmp_path / "twice").record["topic"]["fitted"]["decider"] == decider
    for saved in (once, twice):
        assert np.array_equal(saved.predict_proba(TEXTS), proba)


def test_folders_of_before_places_counted_go_on_as_they_were(folder: Path, tmp_path: Path) -> None:
    saved = load(folder, features="ngrams").fit(TEXTS, LABELS).save(tmp_path / "s")
    late = ["怎么改密码" + "，" * 90 + "今天天气很好，心情不好"]
    now = load(saved).predict_proba(late)
    record = json.loads((saved / "jinyi.json").read_text("utf-8"))
    del record["topic"]["fitted"]["lead"]
    update_record(saved, topic=record["topic"])
    before = load(saved)
    topics = before._open()
    tokenizer = topics.source.tokenizer
    plain = find_ngrams(tokenizer.read(late), tokenizer.vocab_size, lead=False)
    assert topics.head is not None and not topics.head.lead
    expected = topics.head.proba(np.empty((1, 0), np.float32), plain)
    assert np.array_equal(before.predict_proba(late), expected)
    assert np.abs(now - expected).max() > 0.01, "what stands first counts more now"


def test_a_method_that_fails_is_not_kept(folder: Path) -> None:
    classifier = load(folder)
    with pytest.raises(InputError, match="knn"):
        classifier.fit(TEXTS, LABELS, method="knn")
    assert classifier.fit(TEXTS, LABELS).predict(TEXTS).shape == (6,)


def test_labels_of_an_enumeration_are_its_values(folder: Path, tmp_path: Path) -> None:
    classifier = load(folder).fit(TEXTS, [Topic(label) for label in LABELS])
    assert classifier.classes_.tolist() == sorted(set(LABELS))
    assert load(classifier.save(tmp_path / "saved")).classes_.tolist() == sorted(set(LABELS))


@pytest.mark.parametrize(
    "label",
    [b"x", [1], {"a": 1}, 1j, 2**63, float("inf"), np.datetime64("2020-01-01"), "\ud800", "a\0"],
    ids=repr,
)
def test_labels_that_cannot_be_told_apart_or_written_are_refused(folder: Path, label: Any) -> None:
    others: list[Any] = ["b"] * 5 if isinstance(label, str) else [1] * 5
    with pytest.raises(InputError, match="row 5") as caught:
        load(folder).fit(TEXTS, [*others, label])
    assert "label" in str(caught.value)


@pytest.mark.parametrize("labels", [[1, 2, 2, 1, 1, 2], [True, False] * 3, [0.5, 1.5] * 3], ids=str)
@pytest.mark.parametrize("kind", [list, np.array])
def test_labels_that_are_numbers_come_back(
    folder: Path, tmp_path: Path, labels: list[Any], kind: Any
) -> None:
    classifier = load(folder).fit(TEXTS, kind(labels))
    for one in (classifier, load(classifier.save(tmp_path / "saved"))):
        assert one.classes_.tolist() == sorted(set(labels))


@pytest.mark.parametrize("C", [1e-40, 0.0, -1.0, float("inf"), float("nan"), 1e300, True])
def test_a_penalty_out_of_range_is_told(folder: Path, C: float) -> None:
    with pytest.raises(InputError, match="C"):
        load(folder, C=C).fit(TEXTS, LABELS)


@pytest.mark.parametrize("C", [1e-12, 1e12])
@pytest.mark.parametrize("features", ["both", "ngrams", "vectors"])
def test_the_edges_of_the_penalty_give_numbers(folder: Path, C: float, features: str) -> None:
    classifier = load(folder, C=C, features=features, word_examples=0).fit(TEXTS, LABELS)
    assert np.isfinite(classifier.predict_proba(TEXTS)).all()


def test_one_text_is_not_a_list_of_its_characters(folder: Path) -> None:
    with pytest.raises(InputError, match="1 texts"):
        load(folder).fit("体育课", ["a", "b", "a"])
    with pytest.raises(InputError, match="one label for each text"):
        load(folder).fit(["体育", "财经", "新闻"], "aba")
