"""Checks of arguments that several modules take."""

from __future__ import annotations

import operator
from typing import Any

from jinyi.errors import InputError, shorten


def whole_number(
    value: Any, where: str, *, fix: str, least: int = 1, most: int | None = None, unit: str = ""
) -> int:
    """Return a whole number of any kind (int, or numpy's integers) as an int.

    Args:
        value: what the user gave.
        where: name of the argument, for the message.
        fix: advice for the message.
        least: the smallest value allowed.
        most: the largest one; None for any.
        unit: what is counted, for the message.

    Raises:
        InputError: not a whole number, a bool, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(
            found=f"{shorten(value)} of type {type(value).__name__}" if number is None else str(number),
            expected=f"a whole number {limits}{unit and ' '}{unit}",
            fix=fix,
            where=where,
        )
    return number
