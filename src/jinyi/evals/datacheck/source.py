"""Which files are checked, what they are called and what they are for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinyi.errors import InputError

Role = Literal["train", "evaluated", "unlabelled", "unknown"]

_ROLES: tuple[tuple[Role, str], ...] = (
    ("train", "train"),
    ("evaluated", "dev|development|val|valid|validation|eval|test"),
    ("unlabelled", "unlabeled|unlabelled|unsup|raw"),
)
_SUFFIXES = re.compile(r"(\.(txt|tsv|csv|jsonl|ndjson|json|parquet|gz|xz))+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file to check.

    Args:
        path: where it is.
        name: what tables call it, as a rule "set/split".
        set: the data set it belongs to.
        role: what its split is for, by its name.
    """

    path: Path
    name: str
    set: str
    role: Role


def data_files(given: Iterable[str | os.PathLike[str]]) -> list[DataFile]:
    """Name files by where they lie: `afqmc/train.jsonl.xz` is "afqmc/train" of the set "afqmc".

    Args:
        given: paths, or "name=path", where the name is that of the set, or of the split.

    Raises:
        InputError: none given, or one twice; or two that would be called the same.
    """
    files = [_named(str(one)) for one in given]
    if not files:
        raise InputError(
            found="no file", expected="at least one", fix="Name the files to check: train.jsonl dev.jsonl"
        )
    seen: dict[str, DataFile] = {}
    for file in files:
        before = seen.setdefault(file.name, file)
        if before is not file:
            twice = os.path.abspath(before.path) == os.path.abspath(file.path)
            raise InputError(
                found=f"{before.path} twice" if twice else f"{before.path} and {file.path}, both {file.name}",
                expected="different files with different names",
                fix="Leave one out." if twice else "Give names: first=FILE second=FILE.",
            )
    return files


def role_of(split: str) -> Role:
    """Return what a split is for: "dev_few_all" and "test_public" are evaluated, "train_0" is for training."""
    for role, words in _ROLES:
        if re.match(rf"({words})([-_.0-9]|$)", split, re.IGNORECASE):
            return role
    return "unknown"


def _named(given: str) -> DataFile:
    name, path = "", Path(given)
    if "=" in given and not path.exists():
        name, _, rest = given.partition("=")
        path = Path(rest)
    stem = _SUFFIXES.sub("", path.name)
    own = role_of(stem)
    if name and role_of(name) != "unknown":
        return DataFile(path, name, "", role_of(name))
    if own == "unknown":
        return DataFile(path, name or stem, name or stem, own)
    of_set = name or path.absolute().parent.name
    return DataFile(path, f"{of_set}/{stem}", of_set, own)
