"""Labels and places of rows, as every reader of labelled files takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jinyi.files.formats import file_format


def place_of(path: Path, line: int) -> str:
    """Return the place of a row, for messages."""
    return f"{path}, row {line}" if file_format(path)[0] == "parquet" else f"{path}:{line}"


def label_name(label: Any) -> str:
    """Return a label as text: 1, 1.0 and "1" are the same label, in whatever format the file is."""
    if isinstance(label, bool):
        return str(label).lower()
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def label_number(label: Any) -> float | None:
    """Return a label as a finite number, None where it is none."""
    if not isinstance(label, (str, int, float)):
        return None
    try:
        number = float(label)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
