"""Fine-tuning by prompt and label words: what it learns, repeats, keeps and refuses."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi import InputError, MissingExtraError, TopicClassifier, TruncationWarning  # noqa: E402
from jinyi.folder import read_folder  # noqa: E402
from jinyi.models.tuned import FineTuning  # noqa: E402
from small_models import write_small  # noqa: E402
from test_models_topic import examples  # noqa: E402

QUICK = {"method": "prompt", "epochs": 12, "learning_rate": 5e-3, "batch_size": 10}
WORDS = {"密码": "改密码", "天气": "天气", "新闻": "财"}
NUMBERED = {9: "体育", 3: "财经", 5: "新闻"}
PROMPT = "关于{}的："


@pytest.fixture(scope="module")
def folder(small_folders: Path) -> Path:
    return small_folders / "topic"


def test_less_than_a_step_is_refused_in_the_words_of_fit(folder: Path) -> None:
    topics = TopicClassifier.load(folder, labels=["体育", "财经"])
    with pytest.raises(InputError) as caught:
        topics.fit(["今天赢球", "股票大涨"], ["体育", "财经"], method="prompt", epochs=1e-6)
    assert caught.value.where == "epochs" and "1e-06 passes over 2 texts" in caught.value.found
    assert "schedule" not in str(caught.value) and "steps None" not in str(caught.value)


def test_settings_take_numbers_of_numpy() -> None:
    given = FineTuning(np.float32(2), np.float64(1e-3), np.int64(4), np.uint8(1))
    assert json.loads(json.dumps(asdict(given))) == asdict(FineTuning(2.0, 1e-3, 4, 1))


@pytest.fixture(scope="module")
def fitted(folder: Path) -> TopicClassifier:
    texts, labels = examples(120)
    return TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1).fit(texts, labels, **QUICK)


def test_learns_and_leaves_the_model_as_it_was(folder: Path, fitted: TopicClassifier) -> None:
    texts, labels = examples(60, seed=1)
    zero_shot = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1)
    before = zero_shot.predict_proba(texts)
    assert zero_shot.score(texts, labels) < 0.6 and fitted.score(texts, labels) >= 0.8
    assert fitted.classes_.tolist() == sorted(WORDS) and fitted.method == "linear"  # as the class was given
    assert fitted.path != folder
    again = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1)
    assert np.array_equal(again.predict_proba(texts), before)


def test_equal_calls_give_equal_weights(folder: Path, fitted: TopicClassifier) -> None:
    texts, labels = examples(120)
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    same = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1).fit(
        texts, labels, **QUICK, seed=0
    )
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    other = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1).fit(
        texts, labels, **QUICK, seed=1
    )
    proba = fitted.predict_proba(texts)
    assert np.array_equal(same.predict_proba(texts), proba)
    assert not np.array_equal(other.predict_proba(texts), proba)


def test_is_kept_whole(fitted: TopicClassifier, tmp_path: Path) -> None:
    texts, _ = examples(20, seed=1)
    proba = fitted.predict_proba(texts)
    path = fitted.save(tmp_path / "mine")
    again = TopicClassifier.load(path)
    assert again.classes_.tolist() == sorted(WORDS)
    assert np.allclose(again.predict_proba(texts), proba, atol=1e-6)
    again.save(tmp_path / "twice")
    assert np.allclose(TopicClassifier.load(tmp_path / "twice").predict_proba(texts), proba, atol=1e-6)
    record = read_folder(path).record
    assert record["training"]["seed"] == 0 and record["training"]["rows"] == 120
    assert record["topic"]["fitted"] == {"method": "prompt", "classes": sorted(WORDS)}
    assert record["seen_texts"] is None  # hashes of texts that are not ours to tell
    # Other words by the trained weights: zero-shot again.
    assert TopicClassifier.load(path, labels=["体育", "财经"]).classes_.tolist() == ["体育", "财经"]


def test_copies_and_pickles_outlive_the_original(folder: Path) -> None:
    texts, labels = examples(20)
    topics = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1).fit(texts, labels, **QUICK)
    proba, place = topics.predict_proba(texts), topics.path
    body, twin = pickle.dumps(topics), copy.deepcopy(topics)
    assert twin.path == place
    del topics
    assert np.allclose(twin.predict_proba(texts), proba, atol=1e-6)
    del twin
    assert not place.parent.exists(), "the last copy takes the folder along"
    read = pickle.loads(body)
    assert read.path != place and np.allclose(read.predict_proba(texts), proba, atol=1e-6)


def test_words_for_the_labels(folder: Path) -> None:
    texts, labels = examples(20)
    quick = QUICK | {"epochs": 1}
    # Without labels: the label is its own word, unless the folder has words for all.
    assert TopicClassifier.load(folder, threads=1).fit(texts, labels, **quick).classes_.tolist() == sorted(
        WORDS
    )
    own = ["财经" if label == "新闻" else "体育" for label in labels]
    assert TopicClassifier.load(folder, threads=1).fit(texts, own, **quick).classes_.tolist() == [
        "体育",
        "财经",
    ]
    # Given words stay possible answers.
    more = TopicClassifier.load(folder, labels=NUMBERED, threads=1)
    more.fit(texts, [3 if label == "新闻" else 9 for label in labels], **quick)
    assert more.classes_.tolist() == [3, 5, 9] and more.predict_proba(texts).shape == (20, 3)
    assert isinstance(more.predict(texts[0]).item(), int)
    with pytest.raises(InputError, match=r"label 7.*one of \[9, 3, 5\]"):
        TopicClassifier.load(folder, labels=NUMBERED, threads=1).fit(texts, [7, 9] * 10, **quick)
    with pytest.raises(InputError, match=r"label 1, which has no word"):
        TopicClassifier.load(folder, threads=1).fit(texts, [1, 2] * 10, **quick)
    with pytest.raises(InputError, match="vocabulary"):
        TopicClassifier.load(folder, threads=1).fit(texts, ["龘", "体育"] * 10, **quick)


def test_fits_begin_at_the_model_given(folder: Path, fitted: TopicClassifier) -> None:
    texts, labels = examples(120)
    topics = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1)
    topics.fit(texts, labels, **QUICK | {"seed": 3}).fit(texts, labels, **QUICK)
    assert np.array_equal(topics.predict_proba(texts), fitted.predict_proba(texts))
    topics.fit(texts, labels, method="linear")
    plain = TopicClassifier.load(folder, threads=1).fit(texts, labels)
    assert topics.path == folder
    assert np.allclose(topics.predict_proba(texts), plain.predict_proba(texts), atol=1e-6)


def test_half_precision_folders_stay_so(tmp_path: Path) -> None:
    base = write_small(tmp_path / "half", "topic", labels=["体育", "财经"], dtype="float16")
    texts, labels = examples(20)
    topics = TopicClassifier.load(base, threads=1).fit(texts, labels, **QUICK | {"epochs": 1})
    assert read_folder(topics.path).dtype == "F16"


def test_long_texts_are_told_once_and_by_row(folder: Path) -> None:
    texts, labels = examples(20)
    texts[4] = "今天天气" * 20
    topics = TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, threads=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        topics.fit(texts, labels, **QUICK | {"epochs": 1})
    told = [warning for warning in caught if issubclass(warning.category, TruncationWarning)]
    assert len(told) == 1 and "1 of 20" in str(told[0].message) and told[0].filename == __file__


def test_refuses(small_folders: Path, folder: Path) -> None:
    texts, labels = examples(20)
    for option in ({"epochs": 0}, {"epochs": "a"}, {"learning_rate": -1.0}, {"batch_size": 0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(option))):
            TopicClassifier.load(folder, threads=1).fit(texts, labels, method="prompt", **option)
    with pytest.raises(InputError, match="epochs, seed for method 'linear'"):
        TopicClassifier.load(folder, threads=1).fit(texts, labels, epochs=3, seed=1)
    with pytest.raises(InputError, match="'embed'"):
        TopicClassifier.load(small_folders / "embed").fit(texts, labels, method="prompt")
    with pytest.raises(InputError, match="row 2"):
        TopicClassifier.load(folder, threads=1).fit([*texts[:2], "\x00", *texts[3:]], labels, method="prompt")
    with pytest.raises(InputError, match="step .* loss .*text number .*lower learning_rate"):
        TopicClassifier.load(folder, threads=1).fit(
            texts, labels, method="prompt", epochs=3, learning_rate=1e30
        )


def test_without_the_packages_for_training(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import jinyi\n"
        f"topics = jinyi.TopicClassifier.load({str(folder)!r})\n"
        "try:\n    topics.fit(['今天', '天气'] * 4, ['体育', '财经'] * 4, method='prompt')\n"
        "except jinyi.MissingExtraError as error:\n    print(error)\n"
        "print(topics.predict('今天') in ('体育', '财经'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "jinyi[train]"' in done.stdout and done.stdout.endswith("True\n")
    assert issubclass(MissingExtraError, ImportError)
