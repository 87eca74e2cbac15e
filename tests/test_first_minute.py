"""The minute after installation: the README's example and `make run`'s sentences, by the shipped models."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jinyi import PairScorer, SentenceEncoder

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_first_example_runs_and_is_right(name: str) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)[:1]
    values: dict[str, Any] = {}
    shown = []
    for line in code.splitlines():
        if re.match(r"[\w.]+\(", line):  # a call whose result the reader sees
            exec("shown = " + line, values)
            shown.append(values["shown"])
        else:
            exec(line, values)
    similar, best, cosines, topics = shown[0], shown[1], shown[2], shown[3]
    assert similar[0] > 0.5 > similar[1], similar
    assert [result["corpus_id"] for result in best] == [0]
    assert cosines.shape == (2, 2) and cosines[0, 1] > 0.8
    assert list(topics) == ["体育", "财经"]


def test_make_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["quickstart.py"])
    shown = runpy.run_path(str(ROOT / "examples/quickstart.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in (*(text for pair in shown["PAIRS"] for text in pair), *shown["QUESTIONS"], *shown["NEWS"]):
        assert text in printed
    scores = [float(score) for score in re.findall(r"^ *(\d\.\d{3})", printed, re.M)]
    assert len(scores) == len(shown["PAIRS"]) + len(shown["QUESTIONS"]) + len(shown["NEWS"])
    assert min(scores[:2]) > 0.5 > max(scores[2:5]), scores
    assert "offline and without PyTorch" in printed


def test_everyday_pairs() -> None:
    lines = (ROOT / "benchmarks/everyday.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    a, b = ([row[side] for row in rows] for side in ("texta", "textb"))
    gold = np.array([row["label"] for row in rows])
    assert len(rows) == 400 and gold.sum() == 200
    scores = PairScorer.load().predict(list(zip(a, b, strict=True)))
    assert roc_auc_score(gold, scores) > 0.8
    assert np.mean((scores > 0.5) == gold) > 0.7
    assert roc_auc_score(gold, SentenceEncoder.load().similarity_pairwise(a, b)) > 0.6
