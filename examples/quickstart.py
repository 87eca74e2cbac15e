"""The main job at a glance: scores of sentence pairs, nearest sentences, topics. `make run` shows it."""

from __future__ import annotations

import time

from rich import box
from rich.console import Console
from rich.table import Table

import jinyi

PAIRS = [
    ("怎么修改登录密码？", "登录密码在哪里改"),
    ("花呗还款日可以改吗", "能不能换一天还花呗"),
    ("这件衣服有大码吗", "衣服可以退货吗"),
    ("明天上海会下雨吗？", "明天北京会下雨吗？"),
    ("孩子发烧了要不要去医院", "手机充不进去电是什么原因"),
]
FAQ = [
    "如何修改登录密码",
    "怎么注销账号",
    "银行卡丢了怎么挂失",
    "发货以后多久能收到",
    "可以开发票吗",
    "退款多久到账",
    "优惠券为什么不能用",
    "客服几点上班",
]
QUESTIONS = ["密码忘了怎么办", "钱什么时候能退回来", "快递几天到", "我的卡找不到了"]
TOPICS = ["体育", "财经", "房产", "汽车", "教育", "科技", "旅游", "农业"]
NEWS = [
    "主队加时赛险胜，晋级总决赛",
    "央行下调存款准备金率，股市应声上涨",
    "这款混动车百公里油耗不到四升",
    "高考志愿填报要注意哪些事",
    "今年小麦收购价比去年高一成",
    "周末去古镇看花，住在河边的小客栈",
]


def table(title: str, *columns: str) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )


def main() -> None:
    console = Console()
    start = time.perf_counter()

    scorer = jinyi.PairScorer.load()
    scores = table("Do two sentences mean the same?", "P(similar)", "sentence", "sentence")
    for (a, b), score in zip(PAIRS, scorer.predict(PAIRS), strict=True):
        scores.add_row(f"{score:.3f}", a, b)

    encoder = jinyi.SentenceEncoder.load()
    cosines = encoder.similarity(QUESTIONS, FAQ)
    nearest = table("Which known question is nearest?", "cosine", "asked", "nearest known question")
    for question, row in zip(QUESTIONS, cosines, strict=True):
        nearest.add_row(f"{row.max():.3f}", question, FAQ[row.argmax()])

    classifier = jinyi.TopicClassifier.load(labels=TOPICS)
    topics = table(f"What is it about? ({' '.join(TOPICS)})", "probability", "topic", "text")
    for text, row in zip(NEWS, classifier.predict_proba(NEWS), strict=True):
        topics.add_row(f"{row.max():.3f}", str(classifier.classes_[row.argmax()]), text)

    seconds = time.perf_counter() - start
    for shown in (scores, nearest, topics):
        console.print(shown)
    console.print(
        f"Three models loaded and run in {seconds:.1f} s, offline and without PyTorch. Try: jinyi --help"
    )


if __name__ == "__main__":
    main()
