"""Label words beside labelled examples: what both say, mixed; kept in folders, copies and pickles."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from jinyi import TopicClassifier
from jinyi.errors import InputError
from jinyi.models import topic_fit
from jinyi.models.mixture import earned_word_weight, mixed, most_word_weight

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好", "新闻", "财经新闻的一则"]
Y = ["密码", "密码", "天气", "心情", "新闻", "新闻"]
WORDS = {"密码": "改密码", "天气": "天气", "心情": "心情", "新闻": "新闻", "体育": "体育"}
PROMPT = "下面是关于{}的新闻："
WORD_OF = {"a": "体育", "b": "财经", "c": "教育"}
TOPICS = (
    [
        *(
            "主队加时赛险胜对手",
            "国足小组赛两连败",
            "他打破了百米世界纪录",
            "湖人签下自由球员",
            "中超第三轮前瞻",
        ),
        *("奥运冠军宣布退役", "女排三比零横扫对手", "球队主帅赛后下课"),
        *("央行下调存款利率", "沪指收盘上涨百分之一", "公司全年净利润翻倍", "人民币汇率小幅走低"),
        *("基金经理谈下半年布局", "多家银行调整房贷利率", "原油期货价格大跌", "这家企业递交上市申请"),
        *("高考分数线今日公布", "大学新生开学报到", "中小学期末考试时间", "研究生招生计划扩大"),
        *("老师怎样布置作业", "英语四六级报名开始", "家长如何选择幼儿园", "考研复试准备什么"),
    ],
    [label for label in "abc" for _ in range(8)],
)


@pytest.fixture(scope="module")
def folder(small_folders: Path) -> Path:
    return small_folders / "topic"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words have earned all their weight: those of a random model earn little."""
    monkeypatch.setattr(topic_fit, "earned_word_weight", lambda learnt, words, targets, most: most)


def classifier(folder: Path, **options: object) -> TopicClassifier:
    return TopicClassifier.load(folder, labels=WORDS, prompt=PROMPT, **options)


def expected(folder: Path, worth: float, **options: object) -> np.ndarray:
    """The geometric mean in float64, of a fit without words and of words without a fit."""
    weight = worth / (worth + 6 / 4)  # six texts of four classes
    learnt = classifier(folder, word_examples=0, **options).fit(TEXTS, Y)
    words = classifier(folder)
    columns = [list(words.classes_).index(label) for label in learnt.classes_]
    logs = (1 - weight) * np.log(learnt.predict_proba(TEXTS).astype(np.float64))
    logs += weight * np.log(words.predict_proba(TEXTS)[:, columns].astype(np.float64))
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("features", ["both", "vectors", "ngrams"])
@pytest.mark.parametrize("worth", [0.5, 20])
def test_words_and_examples_are_mixed(folder: Path, features: str, worth: float) -> None:
    fitted = classifier(folder, features=features, word_examples=worth).fit(TEXTS, Y)
    assert fitted.classes_.tolist() == ["天气", "密码", "心情", "新闻"]  # those with examples
    wanted = expected(folder, worth, features=features)
    np.testing.assert_allclose(fitted.predict_proba(TEXTS), wanted, rtol=0, atol=1e-5)
    assert fitted.predict(TEXTS).tolist() == fitted.classes_[wanted.argmax(axis=1)].tolist()


@pytest.mark.usefixtures("trusted")
def test_it_is_the_default_and_can_be_left_out(folder: Path) -> None:
    fitted = classifier(folder).fit(TEXTS, Y)
    assert fitted.word_examples > 1
    np.testing.assert_allclose(
        fitted.predict_proba(TEXTS), expected(folder, fitted.word_examples), rtol=0, atol=1e-5
    )
    plain = TopicClassifier.load(folder).fit(TEXTS, Y).predict_proba(TEXTS)
    assert np.abs(plain - fitted.predict_proba(TEXTS)).max() > 1e-3
    without = classifier(folder, word_examples=0).fit(TEXTS, Y).predict_proba(TEXTS)
    np.testing.assert_allclose(without, plain, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_a_class_without_a_word_leaves_words_out(folder: Path) -> None:
    labels = [*Y[:-1], "别的"]
    fitted = classifier(folder).fit(TEXTS, labels).predict_proba(TEXTS)
    plain = TopicClassifier.load(folder).fit(TEXTS, labels).predict_proba(TEXTS)
    np.testing.assert_allclose(fitted, plain, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_comparison_with_examples_has_no_words(folder: Path) -> None:
    fitted = classifier(folder, method="reference").fit(TEXTS, Y).predict_proba(TEXTS)
    plain = TopicClassifier.load(folder, method="reference").fit(TEXTS, Y).predict_proba(TEXTS)
    np.testing.assert_allclose(fitted, plain, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_saved_copied_pickled(folder: Path, tmp_path: Path) -> None:
    fitted = classifier(folder, word_examples=2).fit(TEXTS, Y)
    wanted = fitted.predict_proba(TEXTS)
    opened = TopicClassifier.load(fitted.save(tmp_path / "saved"))
    for other in (opened, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(other.predict_proba(TEXTS), wanted, rtol=0, atol=1e-6)
        assert other.state() == fitted.state()
    again = TopicClassifier.load(opened.save(tmp_path / "again"))
    np.testing.assert_allclose(again.predict_proba(TEXTS), wanted, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_label_numbers_and_long_texts(folder: Path) -> None:
    words = {7: "密码", 3: "天气"}
    fitted = TopicClassifier.load(folder, labels=words, prompt=PROMPT).fit(TEXTS[:3], [7, 7, 3])
    long = "今天天气很好" * 40
    for truncate in ("window", "warn"):
        proba = fitted.predict_proba([long, TEXTS[0]], truncate=truncate)
        assert proba.shape == (2, 2)
        np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert fitted.classes_.tolist() == [3, 7]


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan"), "3", None, True])
def test_bad_weights(folder: Path, weight: object) -> None:
    with pytest.raises(InputError, match="word_examples"):
        classifier(folder, word_examples=weight)


def test_certain_classifiers_can_be_mixed() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    found = mixed(sure, sure[::-1].copy(), 0.3)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, sure, atol=1e-6)


def test_words_have_the_weight_they_earn() -> None:
    draw = np.random.default_rng(1)
    targets = draw.integers(0, 4, 300)
    right = np.eye(4)[targets]
    good = (0.7 * right + 0.3 * draw.dirichlet(np.ones(4), 300)).astype(np.float32)
    poor = draw.dirichlet(np.ones(4), 300).astype(np.float32)
    assert earned_word_weight(poor, good, targets, 0.8) == pytest.approx(0.8)
    assert earned_word_weight(good, poor, targets, 0.8) == 0
    fair = (0.3 * right + 0.7 * draw.dirichlet(np.ones(4), 300)).astype(np.float32)
    other = (0.25 * right + 0.75 * draw.dirichlet(np.ones(4), 300)).astype(np.float32)
    steps = [0.2 * step for step in range(5)]
    losses = [-np.log(mixed(fair, other, step)[np.arange(300), targets]).mean() for step in steps]
    assert earned_word_weight(fair, other, targets, 0.8) == pytest.approx(steps[int(np.argmin(losses))])
    assert 0 < int(np.argmin(losses)) < 4  # a step between


def test_words_say_nothing_beside_many_examples() -> None:
    assert most_word_weight(6, 80, 10) == pytest.approx(6 / 14)
    assert most_word_weight(6, 240, 10) == pytest.approx(6 / 30)
    assert most_word_weight(6, 250, 10) == 0
    assert most_word_weight(0, 10, 10) == 0


def test_words_that_mean_something_else_are_left_out() -> None:
    """With the shipped model: swapped words, beside eight examples a class, and the right ones."""
    texts, labels = TOPICS
    swapped = dict(zip(WORD_OF, list(WORD_OF.values())[1:] + list(WORD_OF.values())[:1], strict=True))
    kept = {}
    for name, words in (("right", WORD_OF), ("swapped", swapped)):
        fitted = TopicClassifier.load(labels=words).fit(texts, labels)
        kept[name] = fitted.state().get("word_weight", 0.0)
    assert 0 < kept["right"] <= 6 / 14
    assert kept["swapped"] == 0
