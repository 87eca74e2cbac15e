"""An evaluation as JSON and back: the schema of report.json (docs/evaluation.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

from jinyi.errors import InputError, shorten
from jinyi.evals.result import Evaluation, Example, Figure, Row

SCHEMA: Final = 1


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain lists and dicts for JSON, with `"schema": 1`.

    Numbers of numpy become Python's, paths text, and numbers that are not finite None: JSON knows no NaN, and a score
    that is not defined is no number.
    """
    fields = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    return {"schema": SCHEMA, **{name: _plain(value) for name, value in fields.items()}}


def from_record(record: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation of a report.json.

    Args:
        record: as `json.loads` gives it.

    Raises:
        InputError: not such a record, or one of another schema.
    """
    if record.get("schema") != SCHEMA:
        raise InputError(
            found=f"schema {shorten(record.get('schema'))}",
            expected=f"schema {SCHEMA}",
            fix="Give the report.json of an evaluation by this version of jinyi.",
            where="report.json",
        )
    fields = {name: value for name, value in record.items() if name != "schema"}
    try:
        fields["rows"] = [_row(row) for row in fields["rows"]]
        fields["figures"] = [Figure(**figure) for figure in fields.get("figures", ())]
        fields["examples"] = [Example(**example) for example in fields.get("examples", ())]
        fields["across"] = tuple(fields["across"])
        fields["averages"] = {name: tuple(sets) for name, sets in fields["averages"].items()}
        return Evaluation(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            found=f"a record that does not fit: {error}",
            expected="the fields of an evaluation",
            fix="Give a report.json as jinyi wrote it.",
            where="report.json",
        ) from error


def _row(row: Mapping[str, Any]) -> Row:
    scores = {name: math.nan if value is None else value for name, value in row["scores"].items()}
    intervals = {name: (low, high) for name, (low, high) in row["intervals"].items()}
    return Row(**{**row, "scores": scores, "intervals": intervals})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PathLike):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, range)):
        return [_plain(part) for part in value]
    raise TypeError(f"a {type(value).__name__} in an evaluation: {shorten(value)}")
