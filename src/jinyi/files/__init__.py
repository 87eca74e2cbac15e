"""User files: rows of texts and pairs in, results out.

Read: txt (one text a line), tsv, csv, jsonl, each also as .gz or .xz, and parquet (extra `[parquet]`). Everything
streams, so a file of any length needs the memory of one row. Lines end at "\\n" only: U+2028 or U+0085 inside a text
do not split it. Every fault names the file and the line.

Written files are whole or not there: `atomic_file` for small ones, `BulkOutput` for long jobs, which may be killed
at any byte and go on where they were.
"""

from __future__ import annotations

from jinyi.files.bulk import BulkOutput
from jinyi.files.columns import LABEL_COLUMNS, PAIR_COLUMNS, TEXT_COLUMNS
from jinyi.files.formats import Format, file_format
from jinyi.files.read import PairRow, TextRow, read_pairs, read_texts
from jinyi.files.write import RowEncoder, atomic_file, npy_header, write_rows

__all__ = [
    "LABEL_COLUMNS",
    "PAIR_COLUMNS",
    "TEXT_COLUMNS",
    "BulkOutput",
    "Format",
    "PairRow",
    "RowEncoder",
    "TextRow",
    "atomic_file",
    "file_format",
    "npy_header",
    "read_pairs",
    "read_texts",
    "write_rows",
]
