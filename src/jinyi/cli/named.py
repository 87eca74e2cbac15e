"""Files with names, as options give them: `--data lcqmc=lcqmc/dev.jsonl`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from jinyi.errors import InputError

# Files whose folder, not their own name, says which set they belong to.
_SPLITS = ("train", "dev", "valid", "validation", "test", "test_public")


def named_files(
    given: Sequence[str], *, option: str = "--data", of: Collection[str] | None = None
) -> dict[str, Path]:
    """Return {name: file} of `[NAME=]FILE` options.

    Args:
        given: the options; without a name a file is called after itself, `lcqmc/dev.jsonl` after its folder.
        option: what messages call them.
        of: names of the data sets these files belong to. With a single set the name may be left out.

    Raises:
        InputError: none given, a name twice, a name that is no data set's, a file that is not there.
    """
    if not given:
        raise InputError(
            found="no data",
            expected="a labelled file",
            fix="Name one: --data lcqmc=lcqmc/dev.jsonl.",
            where=option,
        )
    named: dict[str, Path] = {}
    for entry in given:
        name, mark, text = entry.partition("=")
        path = Path(text if mark else entry)
        if not path.exists() and Path(entry).exists():  # a path with "=" in it
            mark, path = "", Path(entry)
        if not path.exists():
            raise InputError(
                found=f"no file or folder {path}",
                expected="NAME=FILE with a file that is there",
                fix="Check the path; a name stands before the =.",
                where=f"{option} {entry}",
            )
        name = name if mark else default_name(path) if of is None or len(of) > 1 else next(iter(of))
        if of is not None and name not in of:
            raise InputError(
                found=f"the name {name}",
                expected=f"one of the data sets: {', '.join(of)}",
                fix=f"Name the set: {option} {next(iter(of))}={path}.",
                where=f"{option} {entry}",
            )
        if name in named:
            raise InputError(
                found=f"the name {name} twice",
                expected="a name of its own for every file",
                fix=f"Give names: {option} NAME=FILE.",
                where=f"{option} {entry}",
            )
        named[name] = path
    return named


def default_name(path: Path) -> str:
    """Return what a file is called when no name is given: `afqmc/dev.jsonl.xz` is afqmc, `my_pairs.tsv` my_pairs."""
    stem = path.name.partition(".")[0]
    parent = path.resolve().parent.name
    return parent if stem in _SPLITS and parent else stem or path.name
