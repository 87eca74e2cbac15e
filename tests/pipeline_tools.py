"""What the tests of pipelines share: inputs, pipelines of ours and of transformers, comparison of answers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import jinyi

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好", "心情不好，abc 123", "新闻"]
PAIRS = [("怎么改密码", "如何修改登录密码？"), ("今天天气很好", "心情不好"), ("新闻", "财经新闻的一则")]
NAMED = [{"text": a, "text_pair": b} for a, b in PAIRS]
LABELS = ["体育", "财经", "天气", "心情"]
LONG = "今天天气很好，心情不好。" * 10
# Small random weights have extreme scores, where a difference of a float's last place shows less.
CLOSE = 1e-5


def theirs(task: str, folder: Path, **options: Any) -> Any:
    from transformers import pipeline

    return pipeline(task, model=str(folder), device="cpu", **options)


@cache
def _opened(task: str, folder: Path) -> Any:
    return jinyi.pipeline(task, folder)


def opened(task: str, folder: Path, **options: Any) -> Any:
    """A pipeline; without options the same one again."""
    return jinyi.pipeline(task, folder, **options) if options else _opened(task, folder)


def assert_same(ours: Any, expected: Any, at: str = "") -> None:
    """Same types, keys in the same order, lengths and texts; numbers within CLOSE."""
    assert type(ours) is type(expected), (at, ours, expected)
    if isinstance(expected, dict):
        assert list(ours) == list(expected), at
        for key in expected:
            assert_same(ours[key], expected[key], f"{at}.{key}")
    elif isinstance(expected, list):
        assert len(ours) == len(expected), (at, ours, expected)
        for place, (own, other) in enumerate(zip(ours, expected, strict=True)):
            assert_same(own, other, f"{at}[{place}]")
    elif isinstance(expected, float):
        assert ours == pytest.approx(expected, abs=CLOSE), at
    else:
        assert ours == expected, at
