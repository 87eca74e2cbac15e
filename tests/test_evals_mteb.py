"""mteb's own tasks, fed with local rows, give the shipped model the numbers that jinyi gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eval_pairs import write_pairs
from jinyi import SentenceEncoder, TopicClassifier
from jinyi.evals.pairs import evaluate_pairs
from jinyi.evals.sts import evaluate_sts
from jinyi.metrics import accuracy, macro_f1

pytestmark = pytest.mark.slow

SUBJECTS = ("登录密码", "花呗账单", "银行卡", "手机号码", "快递", "会员", "发票", "红包", "贷款", "地铁票")
ASKED = (
    "怎么修改{}",
    "{}怎么改",
    "如何更换{}？",
    "{}在哪里可以查到",
    "想查一下{}",
    "{}不见了怎么办",
    "为什么没有{}",
)
SAME = ((0, 1, 2), (3, 4), (5, 6))
NEWS = {
    0: ("主队在加时赛里险胜", "前锋打进两个球", "教练谈下一场比赛", "球迷在看台上唱歌", "门将扑出点球"),
    1: ("股市今天大涨", "央行下调利率", "基金收益创新高", "银行公布年报", "人民币汇率走强"),
    2: ("新楼盘下月开盘", "二手房价格回落", "租房合同要注意什么", "小区车位怎么卖", "装修预算表"),
}


class Ours:
    """Our encoder behind mteb's protocol."""

    mteb_model_meta = None

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        return self.encoder.encode([text for batch in inputs for text in batch["text"]])

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.encoder.similarity(a, b)

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.encoder.similarity_pairwise(a, b)


class Mteb:
    """mteb's kinds of task; imported here, because that takes seconds."""

    def __init__(self) -> None:
        import datasets
        from mteb import abstasks
        from mteb.abstasks.task_metadata import TaskMetadata

        self.datasets, self.abstasks, self.metadata = datasets, abstasks, TaskMetadata

    def scores(
        self, kind: str, rows: dict[str, dict[str, list[Any]]], model: Ours, **settings: Any
    ) -> dict[str, Any]:
        """Build a task of a kind over rows by split, with attributes set as mteb's own tasks do, and run it."""
        described = self.metadata(
            name=f"Local{kind}",
            description="rows written by a test",
            dataset={"path": "local", "revision": "0"},
            type=kind,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["cmn-Hans"],
            main_score=settings.pop("main_score"),
        )
        base = getattr(self.abstasks, f"AbsTask{kind}")
        task = type(described.name, (base,), {"metadata": described, **settings})()
        task.dataset = self.datasets.DatasetDict(
            {split: self.datasets.Dataset.from_dict(columns) for split, columns in rows.items()}
        )
        task.data_loaded = True
        return task.evaluate(model, "test", encode_kwargs={"batch_size": 16})["default"]


def questions() -> tuple[list[str], list[str], list[float]]:
    """Pairs of questions: 5 the same asked in other words, 2 the same subject, 0 neither; some far off."""
    rng = np.random.default_rng(0)
    group = {place: number for number, places in enumerate(SAME) for place in places}
    a, b, scores = [], [], []
    for _ in range(300):
        (x, y), (u, v) = rng.integers(0, len(SUBJECTS), 2), rng.integers(0, len(ASKED), 2)
        y = x if rng.random() < 0.6 else y
        a.append(ASKED[u].format(SUBJECTS[x]))
        b.append(ASKED[v].format(SUBJECTS[y]))
        scores.append(0.0 if x != y else 5.0 if group[u] == group[v] else 2.0)
    return a, b, scores


@pytest.fixture(scope="module")
def mteb() -> Mteb:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        return Mteb()


@pytest.fixture(scope="module")
def ours() -> Ours:
    return Ours(SentenceEncoder.load())


def test_sts(ours: Ours, mteb: Mteb, tmp_path: Path) -> None:
    a, b, scores = questions()
    theirs = mteb.scores(
        "STS",
        {"test": {"sentence1": a, "sentence2": b, "score": scores}},
        ours,
        main_score="cosine_spearman",
    )
    path = write_pairs(tmp_path / "sts.jsonl", a, b, scores, "score")
    (row,) = evaluate_sts([None], {"sts": path}, baselines=False, quoted=False, intervals=False).rows
    assert row.scores["Spearman"] == pytest.approx(100 * theirs["cosine_spearman"], abs=1e-3)
    assert row.scores["Pearson"] == pytest.approx(100 * theirs["cosine_pearson"], abs=1e-3)
    assert 30 < row.scores["Spearman"] < 99


def test_pair_classification(ours: Ours, mteb: Mteb, tmp_path: Path) -> None:
    a, b, scores = questions()
    labels = [int(score == 5) for score in scores]
    theirs = mteb.scores(
        "PairClassification",
        {"test": {"sentence1": a, "sentence2": b, "labels": labels}},
        ours,
        main_score="cosine_ap",
    )
    path = write_pairs(tmp_path / "pairs.jsonl", a, b, labels)
    (row,) = evaluate_pairs(["jinyi-tiny-embed"], {"pairs": path}, baselines=False, intervals=False).rows
    assert row.scores["average precision"] == pytest.approx(100 * theirs["cosine_ap"], abs=1e-3)
    assert row.protocol == "cosine, [CLS]"


# Logistic regression on standardised vectors is what method="linear" fits; mteb's tasks state their classifier.
@pytest.mark.parametrize(
    ("options", "classifier"),
    [
        (
            {"method": "linear", "features": "vectors", "C": 1.0},
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-8)),
        ),
        ({"method": "reference", "decider": "nearest"}, KNeighborsClassifier(1, metric="cosine")),
    ],
    ids=["linear", "nearest"],
)
def test_classification(ours: Ours, mteb: Mteb, options: dict[str, Any], classifier: Any) -> None:
    rows = [(text, label) for label, texts in NEWS.items() for text in texts]
    rows += [(f"{other}，{text}", label) for text, label in rows for other, _ in rows[:: 4 + label]]
    shuffled = np.random.default_rng(1).permutation(len(rows)).tolist()
    texts, labels = [rows[row][0] for row in shuffled], [rows[row][1] for row in shuffled]
    split = {
        "train": {"text": texts[:40], "label": labels[:40]},
        "test": {"text": texts[40:], "label": labels[40:]},
    }
    theirs = mteb.scores(
        "Classification",
        split,
        ours,
        main_score="accuracy",
        n_experiments=1,
        samples_per_label=1000,  # all of them
        evaluator_model=classifier,
    )
    topics = TopicClassifier.load("jinyi-tiny-embed", **options).fit(texts[:40], labels[:40])
    predicted = topics.predict(texts[40:])
    assert theirs["accuracy"] == pytest.approx(accuracy(labels[40:], predicted), abs=1e-9)
    assert theirs["f1"] == pytest.approx(macro_f1(labels[40:], predicted), abs=1e-9)
    assert 0.4 < theirs["accuracy"] < 1
