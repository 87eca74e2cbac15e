"""Topic classification: label words of any length, fitting, saving, scikit-learn's conventions."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi import TopicClassifier
from jinyi.batches import make_batches
from jinyi.errors import FolderError, InputError, NotFittedError, TruncationWarning
from jinyi.folder import read_folder
from jinyi.models.logistic import fit_logistic
from jinyi.models.topic_model import TopicModel
from jinyi.runtime import Head, open_engine
from jinyi.tokens import Tokenizer
from small_models import write_small

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好", "新闻", "财经新闻的一则"]
PROMPT = "下面是关于{}的新闻："


@pytest.fixture(scope="module")
def folder(small_folders: Path) -> Path:
    return small_folders / "topic"


def true_log_probs(folder: Path, texts: list[str], words: list[str], prompt: str) -> np.ndarray:
    """From the full-vocabulary head, one text and one word at a time."""
    model, tokenizer = read_folder(folder), Tokenizer.from_folder(folder)
    engine = open_engine(model.config, model.weights(), Head("mlm"))
    result = np.empty((len(texts), len(words)))
    for column, word in enumerate(words):
        ids = tokenizer.ids_of_word(word)
        encoded = tokenizer.encode_prompt(texts, prompt, n_masks=len(ids), max_length=48)
        for batch, logits in engine.run(make_batches(encoded, pad_id=0)):
            logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
            result[batch.rows, column] = np.mean(
                [logs[:, place, token] for place, token in enumerate(ids)], axis=0
            )
    return result


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "words", [["体育", "财经"], ["新闻", "体", "天气很"], ["好", "改密码", "心情", "不"]], ids=str
)
@pytest.mark.parametrize("prompt", [PROMPT, "关于{}：{text}。"])
def test_label_words_of_any_length(folder: Path, words: list[str], prompt: str) -> None:
    topics = TopicClassifier.load(folder, labels=words, prompt=prompt)
    scores = true_log_probs(folder, TEXTS, words, prompt)
    proba = topics.predict_proba(TEXTS)
    assert proba.dtype == np.float32
    assert np.allclose(proba, softmax(scores), atol=1e-5)
    assert topics.classes_.tolist() == words
    assert topics.predict(TEXTS).tolist() == [words[place] for place in scores.argmax(1)]
    empty = true_log_probs(folder, ["。"], words, prompt)
    calibrated = TopicClassifier.load(folder, labels=words, prompt=prompt, calibrate=True)
    assert np.allclose(calibrated.predict_proba(TEXTS), softmax(scores - empty), atol=1e-5)


def test_forms_of_input(folder: Path) -> None:
    topics = TopicClassifier.load(folder)
    assert topics.classes_.tolist() == ["体育", "财经"], "the folder's own labels"
    assert topics.predict("今天") in ("体育", "财经")
    assert topics.predict_proba("今天").shape == (2,)
    assert topics.predict_proba(iter(TEXTS)).shape == (6, 2)
    assert topics.predict([]).shape == (0,)
    assert np.allclose(topics.predict_proba(TEXTS).sum(1), 1, atol=1e-6)
    assert np.allclose(np.exp(topics.decision_function(TEXTS)), topics.predict_proba(TEXTS), atol=1e-6)
    named = TopicClassifier.load(folder, labels={"news_sports": "体育", "news_money": "财经"})
    assert set(named.predict(TEXTS)) <= {"news_sports", "news_money"}
    assert np.allclose(named.predict_proba(TEXTS), topics.predict_proba(TEXTS), atol=1e-6)
    for bad in (None, "", 3, ["今天", None]):
        with pytest.raises(InputError):
            topics.predict(bad)


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (["体育"], "too few labels"),
        ([], "too few labels"),
        (["体育", "体育"], "twice"),
        ({"a": "体育", "b": "体育"}, "twice"),
        (["体育", ""], "not text"),
        (["体育", " 体育"], "twice"),
        ({"a": "体育", 1: "财经"}, "neither all str nor all int"),
        ({None: "体育", "b": "财经"}, "neither all str nor all int"),
        (["体育", 3], "not text"),
        ("体育", "list of label words"),
        (3, "list of label words"),
        (["体育", "龘"], "vocabulary"),
    ],
    ids=str,
)
def test_bad_labels(folder: Path, labels, part: str) -> None:
    with pytest.raises(InputError, match="labels") as caught:
        TopicClassifier.load(folder, labels=labels)
    assert part in str(caught.value)


def test_bad_options(folder: Path, small_folders: Path) -> None:
    for prompt in ("没有", "{}和{}", 3, ""):
        with pytest.raises(InputError, match="prompt"):
            TopicClassifier.load(folder, prompt=prompt)
    for wrong in ({"method": "forest"}, {"features": "words"}, {"decider": "median"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TopicClassifier.load(folder, **wrong)
    with pytest.raises(FolderError, match="PairScorer"):
        TopicClassifier.load(small_folders / "pair")
    with pytest.raises(InputError, match="parameter depth"):
        TopicClassifier(folder).set_params(depth=3)
    with pytest.raises(TypeError):
        TopicClassifier.load(folder, depth=3)


def test_long_texts(folder: Path) -> None:
    topics = TopicClassifier.load(folder, labels=["体育", "新闻的"], prompt=PROMPT)
    texts = ["今天", "今天天气" * 20]
    with pytest.warns(TruncationWarning, match="1 of 2") as caught:
        topics.predict(texts)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.raises(InputError, match="row 1"):
        topics.predict(texts, truncate="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba, report = topics.predict_proba(texts, truncate="window", return_report=True)
    assert report.cut == 0 and np.allclose(proba.sum(1), 1, atol=1e-6)


@settings(max_examples=100)
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=())) | st.just("今天天气"), min_size=1, max_size=3
    )
)
def test_any_unicode(folder: Path, texts: list[str]) -> None:
    topics = _cached(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        try:
            proba = topics.predict_proba(texts)
        except InputError:
            assert set(texts) != {"今天天气"}
            return
    assert np.isfinite(proba).all() and np.allclose(proba.sum(1), 1, atol=1e-5)


_CACHE: dict[Path, TopicClassifier] = {}


def _cached(folder: Path) -> TopicClassifier:
    return _CACHE.setdefault(folder, TopicClassifier.load(folder) if folder not in _CACHE else _CACHE[folder])


def examples(count: int = 90, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts whose topic shows in their characters."""
    rng = np.random.default_rng(seed)
    kinds = {"密码": "怎么改密码登录修", "天气": "今天气很好，。", "新闻": "新闻的一则财经"}
    texts, labels = [], []
    for _ in range(count):
        label = str(rng.choice(list(kinds)))
        texts.append("".join(rng.choice(list(kinds[label]), 8)))
        labels.append(label)
    return texts, labels


FITS = [
    {"method": "linear"},
    {"method": "linear", "features": "vectors"},
    {"method": "linear", "features": "ngrams"},
    {"method": "reference", "decider": "prototype"},
    {"method": "reference", "decider": "nearest"},
    {"method": "reference", "decider": "knn", "neighbors": 7},
    {"method": "reference", "decider": "prototype", "whitening": 8},
]


@pytest.mark.parametrize("options", FITS, ids=str)
@pytest.mark.parametrize("model", ["topic", "embed"])
def test_fit(small_folders: Path, tmp_path: Path, model: str, options: dict) -> None:
    texts, labels = examples()
    topics = TopicClassifier.load(small_folders / model, **options)
    assert topics.fit(texts, labels) is topics
    assert topics.classes_.tolist() == sorted(set(labels))
    test_texts, test_labels = examples(60, seed=1)
    assert topics.score(test_texts, test_labels) > 0.55  # of three; the encoder is random
    proba = topics.predict_proba(test_texts)
    assert np.allclose(proba.sum(1), 1, atol=1e-5) and np.isfinite(topics.decision_function(test_texts)).all()
    assert (topics.classes_[proba.argmax(1)] == topics.predict(test_texts)).all()

    topics.save(tmp_path / "fitted")
    again = TopicClassifier.load(tmp_path / "fitted")
    assert again.classes_.tolist() == topics.classes_.tolist()
    assert np.allclose(again.predict_proba(test_texts), proba, atol=1e-6)
    assert again.C_ == topics.C_ and (topics.C_ is None) == (
        topics.features == "vectors" or topics.method != "linear"
    )
    for twin in (pickle.loads(pickle.dumps(topics)), copy.deepcopy(topics)):
        assert twin.classes_.tolist() == topics.classes_.tolist()
        assert np.allclose(twin.predict_proba(test_texts), proba, atol=1e-6)
    with pytest.raises(FolderError):
        topics.save(tmp_path / "fitted")
    (tmp_path / "fitted/topic.safetensors").unlink()
    with pytest.raises(FolderError, match="topic.safetensors"):
        TopicClassifier.load(tmp_path / "fitted")


def test_columns_follow_the_labels(folder: Path) -> None:
    texts, labels = examples(60)
    names = {"密码": 20, "天气": 3, "新闻": 11}
    by_name = TopicClassifier.load(folder).fit(texts, labels)
    by_number = TopicClassifier.load(folder).fit(texts, [names[label] for label in labels])
    assert by_number.classes_.tolist() == [3, 11, 20]
    assert by_number.predict(texts).tolist() == [names[label] for label in by_name.predict(texts)]
    order = [by_name.classes_.tolist().index(name) for name in ("天气", "新闻", "密码")]
    assert np.allclose(by_number.predict_proba(texts), by_name.predict_proba(texts)[:, order], atol=1e-3)
    assert isinstance(by_number.predict(texts[0]).item(), int)


def test_fit_refuses(folder: Path) -> None:
    topics = TopicClassifier.load(folder)
    with pytest.raises(InputError, match="one label for each"):
        topics.fit(TEXTS, ["a", "b"])
    with pytest.raises(InputError, match="two classes"):
        topics.fit(TEXTS, ["a"] * 6)
    with pytest.raises(InputError, match="row 1"):
        topics.fit(["今天", None], ["a", "b"])
    with pytest.raises(InputError, match="more than the 8"):
        topics.set_params(method="reference", whitening=8).fit(TEXTS, list("aabbcc"))


def test_without_labels(small_folders: Path, tmp_path: Path) -> None:
    topics = TopicClassifier.load(small_folders / "embed")
    with pytest.raises(NotFittedError, match="labels="):
        topics.predict("今天")
    plain = write_small(tmp_path / "mlm", "mlm")
    with pytest.raises(NotFittedError):
        TopicClassifier.load(plain).predict("今天")
    assert TopicClassifier.load(plain, labels=["体育", "财经"]).predict("今天") in ("体育", "财经")


def test_zero_shot_settings_are_saved(folder: Path, tmp_path: Path) -> None:
    topics = TopicClassifier.load(folder, labels={"s": "体育", "n": "新闻的"}, prompt="关于{}：")
    topics.save(tmp_path / "mine")
    again = TopicClassifier.load(tmp_path / "mine")
    assert again.classes_.tolist() == ["s", "n"]
    assert np.allclose(again.predict_proba(TEXTS), topics.predict_proba(TEXTS), atol=1e-6)


def test_classifier_folder(small_folders: Path) -> None:
    topics = TopicClassifier.load(small_folders / "classes")
    assert topics.classes_.tolist() == ["体育", "财经", "新闻"]
    assert np.allclose(topics.predict_proba(TEXTS).sum(1), 1, atol=1e-6)


def test_scikit_learn(folder: Path) -> None:
    from sklearn.base import clone, is_classifier
    from sklearn.model_selection import cross_val_score

    topics = TopicClassifier(folder, method="linear", whitening=None, C=0.5)
    assert topics.get_params() == clone(topics).get_params()
    assert is_classifier(topics)
    texts, labels = examples(45)
    scores = cross_val_score(topics, np.array(texts), np.array(labels), cv=3)
    assert scores.min() > 0.5


def test_logistic_regression_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 10))
    targets = (vectors @ rng.normal(size=(10, 4)) + rng.gumbel(size=(400, 4))).argmax(1)
    weight, bias = fit_logistic(vectors, targets, 4, C=0.3, tolerance=1e-8, rounds=1000)
    theirs = LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(vectors, targets)
    assert np.abs(weight - theirs.coef_).max() < 1e-4
    assert np.abs((bias - bias.mean()) - (theirs.intercept_ - theirs.intercept_.mean())).max() < 1e-4


@pytest.mark.parametrize("kind", [np.array, iter])
def test_a_repeated_label_word_is_refused_in_any_container(small_folders: Path, kind) -> None:
    with pytest.raises(InputError, match="twice"):
        TopicClassifier.load(small_folders / "topic", labels=kind(["体育", "体育", "新闻"]))


@pytest.mark.parametrize(
    "labels",
    [["x", None, "x", "y"], ["x", float("nan"), "x", "y"], ["x", 1, "x", 2], [1.0, float("nan"), 2, 2]],
)
def test_missing_and_mixed_labels_are_refused(small_folders: Path, labels: list) -> None:
    with pytest.raises(InputError, match="label"):
        TopicClassifier.load(small_folders / "embed").fit(["今天", "天气", "体育", "财经"], labels)


def test_settings_of_fit_are_checked(small_folders: Path) -> None:
    for option in ({"C": 0}, {"C": -1.0}, {"C": "a"}, {"neighbors": 0}, {"neighbors": -1}):
        with pytest.raises(InputError, match=next(iter(option))):
            TopicClassifier.load(small_folders / "embed", **option)


def test_score_wants_a_label_for_each_text(small_folders: Path) -> None:
    topics = TopicClassifier.load(small_folders / "topic")
    for labels in (["体育"], ["体育"] * 3, []):
        with pytest.raises(InputError, match="one label for each text"):
            topics.score(["今天", "天气"], labels)


def test_labels_keep_their_type(folder: Path, tmp_path: Path) -> None:
    words = {np.int64(7): "体育 ", 3: "\t新闻的"}
    topics = TopicClassifier.load(folder, labels=words)
    assert topics.classes_.tolist() == [7, 3] and topics.classes_.dtype.kind == "i"
    plain = TopicClassifier.load(folder, labels=["体育", "新闻的"])
    assert np.allclose(topics.predict_proba(TEXTS), plain.predict_proba(TEXTS), atol=1e-6)
    assert TopicClassifier.load(folder, labels=[" 体育", "新闻的 "]).classes_.tolist() == ["体育", "新闻的"]
    topics.save(tmp_path / "numbers")
    again = TopicClassifier.load(tmp_path / "numbers")
    assert again.classes_.tolist() == [7, 3]
    assert again.predict(TEXTS).tolist() == topics.predict(TEXTS).tolist()


def test_a_classifier_can_be_pickled_before_fit(folder: Path) -> None:
    for topics in (
        TopicClassifier(folder, C=0.5),
        TopicClassifier.load(folder, labels=["体育", "新闻的"], calibrate=True),
    ):
        for twin in (pickle.loads(pickle.dumps(topics)), copy.deepcopy(topics)):
            assert twin.get_params() == topics.get_params()
            assert np.allclose(twin.predict_proba(TEXTS), topics.predict_proba(TEXTS), atol=1e-6)


def test_ngrams_need_no_encoder_and_are_of_the_whole_text(folder: Path, monkeypatch) -> None:
    texts, labels = examples()
    late = ["怎么改密码" + "，" * 60 + "今天天气很好"]
    both = TopicClassifier.load(folder).fit(texts, labels)
    with pytest.warns(TruncationWarning):  # the vector is of the beginning
        proba = both.predict_proba(late)
    with pytest.warns(TruncationWarning):
        beginning = both.predict_proba([late[0][:-6]])
    topics = TopicClassifier.load(folder, features="ngrams").fit(texts, labels)
    monkeypatch.setattr(TopicModel, "_vectors", lambda self: pytest.fail("an encoder was built"))
    weather = topics.classes_.tolist().index("天气")
    assert proba[0, weather] > beginning[0, weather]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = topics.predict_proba(late)
        assert (topics.predict_proba(late, truncate="error") == whole).all(), "nothing is cut"
        assert whole[0, weather] > topics.predict_proba([late[0][:-6]])[0, weather]


def test_a_repeated_text_counts_as_often_as_it_is_there(folder: Path) -> None:
    texts, labels = examples(30)
    texts, labels = texts + texts[:10], labels + labels[:10]
    order = np.random.default_rng(1).permutation(len(texts))
    one = TopicClassifier.load(folder).fit(texts, labels)
    two = TopicClassifier.load(folder).fit([texts[i] for i in order], [labels[i] for i in order])
    # The factor of the scores is chosen on other rows, the order of the classes' scores is not.
    one_scores, two_scores = one.decision_function(TEXTS), two.decision_function(TEXTS)
    scale = np.ptp(one_scores, axis=1) / np.ptp(two_scores, axis=1)
    assert np.allclose(scale, scale[0], rtol=0.02)
    assert one.predict(TEXTS).tolist() == two.predict(TEXTS).tolist()
