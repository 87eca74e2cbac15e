"""Checks of data files before anything is trained or scored on them: repeats, conflicts, leaks, labels, lengths.

    check = check_data(["train.jsonl", "dev.jsonl", "test.jsonl"])
    check.findings

No text is kept in memory, only hashes: 24 bytes a text (docs/data-check.md).
"""

from __future__ import annotations

from jinyi.evals.datacheck.check import DataCheck, FileReport, check_data
from jinyi.evals.datacheck.findings import Finding, Place
from jinyi.evals.datacheck.report import as_dict, as_evaluation, quantiles, sentence
from jinyi.evals.datacheck.shared import SharedPair, SharedSets

__all__ = [
    "DataCheck",
    "FileReport",
    "Finding",
    "Place",
    "SharedPair",
    "SharedSets",
    "as_dict",
    "as_evaluation",
    "check_data",
    "quantiles",
    "sentence",
]
