"""Scored pairs that stand in training files are found and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval_pairs import random_pairs, write_pairs
from jinyi.errors import InputError
from jinyi.evals.known_pairs import KnownPairs, leave_out
from jinyi.evals.labelled_pairs import read_labelled_pairs
from jinyi.evals.sts import evaluate_sts


def test_a_known_pair_is_known_whatever_its_order_width_and_punctuation(tmp_path: Path) -> None:
    scored = write_pairs(
        tmp_path / "dev.jsonl", ["甲乙", "甲乙", "丙丁", "戊己"], ["丙", "丁", "甲", "庚"], [0, 1, 1, 0]
    )
    train = write_pairs(
        tmp_path / "train.jsonl", ["丙！", "戊 己", "甲"], ["甲乙", "辛", "丙丁？"], [1, 1, 0]
    )
    data = read_labelled_pairs("dev", scored, graded=False)
    left = KnownPairs.read([train]).unseen(data)
    # Pairs count, not single texts: 戊己 is known, but beside another sentence.
    assert (left.a, left.b, left.lines) == (["甲乙", "戊己"], ["丁", "庚"], (2, 4))
    np.testing.assert_array_equal(left.labels, [1, 0])
    assert left.place(1).endswith("dev.jsonl:4")


def test_scores_are_those_of_a_file_without_the_known_rows(tmp_path: Path) -> None:
    a, b, labels = random_pairs(80)
    scored = write_pairs(tmp_path / "all.jsonl", a, b, labels)
    known = write_pairs(tmp_path / "known.jsonl", b[:30], a[:30], [0] * 30)
    pairs = {frozenset(pair) for pair in zip(a[:30], b[:30], strict=True)}
    rest = [row for row in range(80) if frozenset((a[row], b[row])) not in pairs]
    rows = [[side[row] for row in rest] for side in (a, b, labels)]
    expected = evaluate_sts([None], {"x": write_pairs(tmp_path / "rest.jsonl", *rows)}, intervals=False)
    found = evaluate_sts([None], {"x": scored}, intervals=False, without=[known])
    assert [row.scores for row in found.rows] == [row.scores for row in expected.rows]
    assert {row.n for row in found.rows} == {len(rest)}
    assert {row.settings["left out"] for row in found.rows} == {80 - len(rest)}
    assert any(f"{80 - len(rest)} of 80 pairs stand in" in note for note in found.notes)


def test_without_files_nothing_changes(tmp_path: Path) -> None:
    data = read_labelled_pairs("x", write_pairs(tmp_path / "x.jsonl", *random_pairs(20)), graded=False)
    assert leave_out([data], []) == ([data], {}, [])


def test_the_scored_file_itself_leaves_nothing(tmp_path: Path) -> None:
    scored = write_pairs(tmp_path / "x.jsonl", *random_pairs(20))
    with pytest.raises(InputError, match="0 of 20 pairs left"):
        evaluate_sts([None], {"x": scored}, without=[scored])


def test_the_command_says_what_it_left_out(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    a, b, labels = random_pairs(40)
    scored = write_pairs(tmp_path / "dev.jsonl", a, b, labels)
    known = write_pairs(tmp_path / "train.jsonl", a[:9], b[:9], labels[:9])
    options = ["--without", str(known), "--no-intervals", "--no-baselines", "--json"]
    code, out, _ = run("evaluate", "pairs", scored, *options)
    assert code == 0
    report = json.loads(out)
    assert report["rows"][0]["settings"]["left out"] >= 9
