"""An encoder that was trained on the very texts of a fit: its vectors decide apart."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jinyi import SentenceEncoder, TopicClassifier
from jinyi.convert.carried import carried
from jinyi.errors import FolderError
from jinyi.evals.topic_data import read_topic_data
from jinyi.evals.topics import evaluate_topics
from jinyi.folder import read_folder
from jinyi.folder.write import update_record
from jinyi.models.mixture import mixed
from jinyi.models.seen import MOST_HASHES, SeenTexts, known_share, knows
from jinyi.models.source import Source
from jinyi.vocab.model import prune_model

WORDS = ["体育", "财经"]
PROMPT = "下面是关于{}的新闻："
EACH = 30
rng = np.random.default_rng(5)


def made(word: str, count: int) -> list[str]:
    parts = {"体育": "球队比赛进场赢", "财经": "股市银行今年涨"}[word]
    other = "的一天很好怎么改密码新闻"
    return [
        "".join(rng.choice(list(parts), 3)) + "".join(rng.choice(list(other), 6)) + str(number)
        for number in range(count)
    ]


TEXTS = [text for word in WORDS for text in made(word, EACH)]
LABELS = [word for word in WORDS for _ in range(EACH)]
NEW = [text for word in WORDS for text in made(word, EACH)]


@pytest.fixture(scope="module")
def folder(small_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says it was trained on `TEXTS`."""
    source = small_folders / "topic"
    seen = SeenTexts.of(Source.open(source, "topic", threads=1).tokenizer.read(TEXTS)).to_text()
    target = tmp_path_factory.mktemp("seen") / "topic"
    return update_record(source, target=target, seen_texts=seen)


def test_share_of_a_large_set_is_estimated_from_few_hashes() -> None:
    tokens = rng.integers(5, 8000, (100_000, 40)).astype(np.uint16)
    seen = SeenTexts.of(tokens[:80_000])
    assert len(seen.hashes) == MOST_HASHES and len(seen.to_text()) < 45_000
    again = SeenTexts.from_text(seen.to_text(), "here")
    assert np.array_equal(again.hashes, seen.hashes)
    assert again.share(tokens[1000:9000]) == 1.0
    assert again.share(tokens[80_000:]) == 0.0
    half = again.share(tokens[70_000:90_000])
    assert half is not None and abs(half - 0.5) < 0.06  # of some 2,000 hashes
    # What a training has cut behind the first tokens is the same text; other widths of integers too.
    assert again.share([row[:32].tolist() for row in tokens[:2000]]) == 1.0
    assert again.share(np.roll(tokens[:2000], 1, axis=0)[:, ::-1]) == 0.0


def test_few_texts_say_nothing() -> None:
    seen = SeenTexts.of([[number, 7] for number in range(10)])
    assert seen.share([[number, 7] for number in range(3)]) is None
    assert seen.share([[number, 7] for number in range(4)]) == 1.0
    assert seen.share([[number, 7] for number in range(20)]) == 0.5


def test_known_texts_are_told_from_new_ones(folder: Path, small_folders: Path) -> None:
    source = Source.open(folder, "topic", threads=1)
    assert knows(source, TEXTS) and not knows(source, NEW)
    assert knows(source, TEXTS + NEW[:-1]) and not knows(source, TEXTS[:-1] + NEW)
    assert not knows(Source.open(small_folders / "topic", "topic", threads=1), TEXTS)


def fitted(model: Path, texts: list[str], targets: list[str], **options: object) -> TopicClassifier:
    return TopicClassifier.load(model, threads=1, word_examples=0, **options).fit(texts, targets)


def test_vectors_of_many_known_texts_decide_apart(folder: Path, small_folders: Path, tmp_path: Path) -> None:
    known = fitted(folder, TEXTS, LABELS)
    ngrams, vectors = (
        fitted(folder, TEXTS, LABELS, features=kind, C=C) for kind, C in (("ngrams", None), ("vectors", 1))
    )
    mean = mixed(ngrams.predict_proba(NEW), vectors.predict_proba(NEW), 0.15)
    assert np.allclose(known.predict_proba(NEW), mean, atol=2e-3)  # weights of n-grams are float16
    assert np.abs(mean - ngrams.predict_proba(NEW)).max() > 0.02
    assert known.C_ == ngrams.C_
    given, weak = (fitted(folder, TEXTS, LABELS, C=0.1, features=kind) for kind in ("both", "ngrams"))
    mean = mixed(weak.predict_proba(NEW), vectors.predict_proba(NEW), 0.15)
    assert given.C_ == 0.1 and np.allclose(given.predict_proba(NEW), mean, atol=2e-3)
    # Texts that are new or few are fitted as where nothing is told: one system of both.
    silent = small_folders / "topic"
    for texts, targets in ((NEW, LABELS), (TEXTS[6:54], LABELS[6:54])):
        told, untold = (fitted(model, texts, targets).predict_proba(NEW) for model in (folder, silent))
        assert np.array_equal(told, untold)
    assert np.abs(fitted(silent, TEXTS, LABELS).predict_proba(NEW) - known.predict_proba(NEW)).max() > 0.01
    again = TopicClassifier.load(known.save(tmp_path / "saved"), threads=1)
    assert np.array_equal(again.predict_proba(NEW), known.predict_proba(NEW))
    assert all(np.array_equal(again.predict_proba(text), known.predict_proba(text)) for text in NEW)


def test_evaluation_does_as_fit(folder: Path, tmp_path: Path) -> None:
    for name, texts in (("train", TEXTS), ("dev", NEW)):
        rows = [{"text": text, "label": label} for text, label in zip(texts, LABELS, strict=True)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = {"toy": read_topic_data(tmp_path)}
    result = evaluate_topics([str(folder)], data, methods=["linear"], intervals=False, baselines=False)
    expected = 100 * fitted(folder, TEXTS, LABELS).score(NEW, LABELS)
    assert expected != 100 * fitted(folder, TEXTS, LABELS, features="ngrams").score(NEW, LABELS)
    assert result.rows[0].scores["accuracy"] == pytest.approx(expected)
    assert "toy: topic was trained on 100 % of the training texts, as its folder tells." in result.notes
    own = {"toy": read_topic_data(tmp_path / "train.jsonl")}
    notes = evaluate_topics([str(folder)], own, prompts=[PROMPT], intervals=False).notes
    told = "trained on 100 % of the scored texts, as its folder tells. Their scores say nothing of new texts."
    assert f"toy: topic was {told}" in notes


@pytest.mark.parametrize(
    "damaged",
    ["!!", "", base64.b64encode(b"abc").decode(), base64.b64encode(b"\2\0\0\0\1\0\0\0").decode()],
)
def test_damaged_sketch_is_refused(damaged: str) -> None:
    with pytest.raises(FolderError, match=r"seen_texts.*sorted hashes"):
        SeenTexts.from_text(damaged, "jinyi.json")


def test_sketch_goes_along_with_the_same_vocabulary_alone(
    folder: Path, small_folders: Path, tmp_path: Path
) -> None:
    opened = read_folder(folder)
    told = opened.record["seen_texts"]
    assert carried(opened)["seen_texts"] == told
    assert carried(read_folder(small_folders / "topic"))["seen_texts"] is None
    assert carried(read_folder(folder, task="mlm"))["seen_texts"] is None
    vectors = update_record(small_folders / "embed", target=tmp_path / "embed", seen_texts=told)
    assert carried(read_folder(vectors))["seen_texts"] == told
    saved = SentenceEncoder.load(vectors, threads=1).save(tmp_path / "saved")
    assert read_folder(saved).record["seen_texts"] == told
    entries = Source.open(folder, "topic", threads=1).tokenizer.backend.get_vocab()
    fewer = sorted(entries, key=entries.__getitem__)[:-3]
    pruned = prune_model(folder, fewer, tmp_path / "pruned").path
    assert read_folder(pruned).record["seen_texts"] is None
    with pytest.raises(FolderError, match=re.escape("a JSON string")):
        update_record(folder, target=tmp_path / "bad", seen_texts=[1])


def test_share_of_a_large_set_is_of_texts_by_chance(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source.open(folder, "topic", threads=1)
    monkeypatch.setattr("jinyi.models.seen._LOOKED_AT", 40)
    share = known_share(source, [text for pair in zip(TEXTS, NEW, strict=True) for text in pair])
    assert share is not None and 0.2 < share < 0.8
    assert known_share(source, TEXTS[:3]) is None and known_share(source, []) is None
