"""A line of CLUE's files, and how it becomes a text or a pair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jinyi.clue.tasks import ClueTask
from jinyi.errors import InputError, shorten
from jinyi.text import check_text


def json_lines(raw: bytes, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines with their line numbers from 1; blank lines are skipped.

    Lines end at "\\n" only. A byte order mark is skipped.

    Raises:
        InputError: bytes that are no UTF-8, a line that is no JSON object; names file and line.
    """
    for number, part in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not part.strip():
            continue
        try:
            row = json.loads(part.decode("utf-8"))
        except UnicodeDecodeError:
            raise _bad_line(part, "no UTF-8", f"{where}:{number}") from None
        except (ValueError, RecursionError) as fault:
            raise _bad_line(part, getattr(fault, "msg", "no JSON"), f"{where}:{number}") from None
        if not isinstance(row, dict):
            raise _bad_line(part, "no object", f"{where}:{number}")
        yield number, row


def _bad_line(part: bytes, reason: str, where: str) -> InputError:
    return InputError(
        found=f"{shorten(part.decode('utf-8', 'replace'))} ({reason})",
        expected="one JSON object a line, in UTF-8",
        fix="Fetch the file again, or repair the line.",
        where=where,
    )


def _field(task: ClueTask, row: dict[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise InputError(
            found=f"fields {', '.join(row) or '(none)'}",
            expected=f"{', '.join(task.fields)}, as {task.title} has",
            fix="Check that the file belongs to this task.",
            where=where,
        )
    return row[name]


def texts_of(task: ClueTask, row: dict[str, Any], where: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the text or both texts of a row, as the task's form has them, and the idioms of ChID.

    Raises:
        InputError: a field is missing, or is no text.
    """
    first = _field(task, row, task.fields[0], where)
    if task.form == "csl":
        words = first if isinstance(first, list) else [first]
        joined = " ".join(check_text(word, f"{where}, keyword") for word in words)
        return check_text(joined, f"{where}, keyword"), _checked(task, row, 1, where), ()
    text = check_text(first, f"{where}, {task.fields[0]}")
    if task.form == "wsc":
        return mark_spans(text, _field(task, row, "target", where), where), None, ()
    if task.form == "idiom":
        options = _field(task, row, "candidates", where)
        if not isinstance(options, list) or len(options) != len(task.labels):
            raise InputError(
                found=f"candidates {shorten(options)}",
                expected=f"a list of {len(task.labels)} idioms",
                fix="Fetch the file again.",
                where=where,
            )
        return text, None, tuple(check_text(option, f"{where}, candidates") for option in options)
    return text, _checked(task, row, 1, where) if task.form == "pair" else None, ()


def _checked(task: ClueTask, row: dict[str, Any], place: int, where: str) -> str:
    name = task.fields[place]
    return check_text(_field(task, row, name, where), f"{where}, {name}")


def mark_spans(text: str, target: object, where: str) -> str:
    """Return a text of WSC with its noun as _noun_ and its pronoun as [pronoun], as CLUE's baselines read it.

    Args:
        text: the text.
        target: {"span1_text", "span1_index", "span2_text", "span2_index"}, places in characters.
        where: for messages.

    Raises:
        InputError: a span that does not stand where it should, or both overlap.
    """
    spans: list[tuple[int, int, str, str]] = []
    if isinstance(target, dict):
        for number, before, after in (("1", "_", "_"), ("2", "[", "]")):
            word, start = target.get(f"span{number}_text"), target.get(f"span{number}_index")
            if not isinstance(word, str) or not isinstance(start, int) or not word or start < 0:
                break
            if text[start : start + len(word)] != word:
                break
            spans.append((start, start + len(word), before, after))
    spans.sort()
    if len(spans) != 2 or spans[0][1] > spans[1][0]:
        raise InputError(
            found=f"target {shorten(target, 120)}",
            expected="span1_text and span2_text at span1_index and span2_index of the text, apart from each other",
            fix="Fetch the file again, or repair the row.",
            where=where,
        )
    (a, b, open_a, close_a), (c, d, open_c, close_c) = spans
    return f"{text[:a]}{open_a}{text[a:b]}{close_a}{text[b:c]}{open_c}{text[c:d]}{close_c}{text[d:]}"
