"""Curves of a run: what is drawn, what is called the best, names in Chinese."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from jinyi.train.run import curves  # noqa: E402

FILES = {f"{name}{metric}": 0.5 for name in ("", "bq_", "lcqmc_") for metric in ("f1", "macro_f1", "auc")}


def test_the_best_is_not_before_the_first_step() -> None:
    axis = Figure().subplots()
    dev = [{"step": step, "dev": {"f1": score}} for step, score in ((0, 0.9), (4, 0.5), (8, 0.7))]
    curves._scores(axis, dev, "f1")
    assert axis.get_title(loc="right") == "best f1: 0.7 at step 8"


@pytest.mark.parametrize(
    ("names", "metric", "shown"),
    [
        (FILES, "f1", "f1 auc macro_f1 bq_f1 bq_macro_f1 lcqmc_f1 lcqmc_macro_f1"),
        (FILES, "auc", "auc f1 macro_f1 bq_auc lcqmc_auc"),
        (FILES, "bq_auc", "bq_auc auc f1 macro_f1"),
        ([name for name in FILES if "lcqmc" not in name], "auc", "auc f1 macro_f1"),
        (["accuracy", "zeros"], "accuracy", "accuracy zeros"),
    ],
)
def test_which_scores_are_drawn(names: list[str], metric: str, shown: str) -> None:
    assert curves._shown(set(names), metric) == shown.split()


def test_chinese_names_are_no_noise(tmp_path: Path) -> None:
    entries = [{"step": 1, "loss": 0.5, "lr": 0.1, "norm": 1.0}, {"step": 1, "dev": {"准确率": 0.5}}]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    (tmp_path / "log.jsonl").write_text(lines, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert curves.draw(tmp_path, "我的模型", "准确率") == tmp_path / "curves.png"
