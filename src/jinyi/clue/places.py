"""Where a task's files lie: folders and zips, nested or flat, as people have them on their disks."""

from __future__ import annotations

import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from jinyi.clue.tasks import PACKED, ClueTask
from jinyi.errors import InputError

UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # a password, or a compression that Python lacks
)
"""What a damaged or locked zip, or a member of it, raises."""
_DEPTH: Final = 4
_REPOSITORIES: Final = {"clue": ("clue",), "fewclue": ("fewclue", "zeroclue"), "qbqtc": ("qbqtc",)}
"""What the name of a zip of a whole benchmark begins with."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or a folder inside a zip, that holds files of one task.

    Args:
        path: the folder or the zip.
        inside: the folder inside the zip; None for a folder on the disk.
        names: files directly in it.
    """

    path: Path
    inside: PurePosixPath | None
    names: frozenset[str]

    def where(self, name: str) -> str:
        """Return the place of a file for messages: "data/afqmc_public.zip!train.json"."""
        return str(self.path / name) if self.inside is None else f"{self.path}!{self.inside / name}"

    def find(self, candidates: tuple[str, ...]) -> str | None:
        """Return the first of the names, packed or not, that is there."""
        return next((name + end for name in candidates for end in PACKED if name + end in self.names), None)

    def read(self, name: str) -> bytes:
        """Return the unpacked bytes of a file; InputError where it is damaged."""
        try:
            if self.inside is None:
                raw = (self.path / name).read_bytes()
            else:
                with zipfile.ZipFile(self.path) as archive:
                    raw = archive.read(str(self.inside / name))
            if name.endswith(".xz"):
                return lzma.decompress(raw)
            return gzip.decompress(raw) if name.endswith(".gz") else raw
        except UNREADABLE as fault:
            raise _damaged(self.where(name), fault) from fault


def search_place(task: ClueTask, data: str | os.PathLike[str]) -> Place | None:
    """Return where the files of a task lie, None if nothing there has one.

    `data` may be the task's folder or zip, a folder with such folders or zips in it ("afqmc", "afqmc_public",
    "afqmc_public.zip"), or a copy of a whole repository as a folder or zip. What has most of the task's files
    wins; then the official name, then the shorter path, then a folder before a zip.

    Raises:
        InputError: no such folder or zip, or a damaged zip.
    """
    root = Path(data)
    if not root.exists():
        raise InputError(
            found="no such folder or file",
            expected="a folder with the data of CLUE, or a zip",
            fix="Check --data.",
            where=str(root),
        )
    wanted = [names for split in task.splits for names in (task.files(split, "1.0"), task.files(split))]

    def rank(entry: tuple[Place, tuple[str, ...]]) -> tuple[int, int, int, bool, str]:
        place, parts = entry
        held = sum(place.find(names) is not None for names in wanted)
        named = min((task.folders.index(part) for part in parts if part in task.folders), default=99)
        return (-held, named, len(parts), place.inside is not None, place.where(""))

    best = min(_places(task, root), key=rank, default=None)
    return best[0] if best is not None and any(best[0].find(names) for names in wanted) else None


def find_place(task: ClueTask, data: str | os.PathLike[str]) -> Place:
    """Return where the files of a task lie, as `search_place`.

    Raises:
        InputError: nothing there has a file of the task; says what was looked for.
    """
    place = search_place(task, data)
    if place is None:
        raise InputError(
            found="no file of this task",
            expected=f"{_some(task)} in a folder or zip called {' or '.join(task.folders)}",
            fix=f"Fetch it: jinyi clue download --tasks {task.name} --data FOLDER.",
            where=f"{data}, task {task.name}",
        )
    return place


def _some(task: ClueTask) -> str:
    names = [task.files(split)[0] for split in task.splits]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _places(task: ClueTask, root: Path) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Yield folders that may hold the task's files, with the names on the way to them."""
    if root.is_file():
        yield from _in_zip(task, root, (), whole=True)
        return
    for folder, inner, files in os.walk(root):
        here = Path(folder)
        parts = here.relative_to(root).parts
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if len(parts) < _DEPTH else []
        if not parts or set(parts).intersection(task.folders):
            yield Place(here, None, frozenset(files)), parts or (root.resolve().name,)
        for name in sorted(files):
            stem = name.removesuffix(".zip")
            if stem == name:
                continue
            if stem in task.folders:
                yield from _in_zip(task, here / name, (*parts, stem), whole=True)
            elif stem.lower().startswith(_REPOSITORIES[task.benchmark]):
                yield from _in_zip(task, here / name, parts, whole=False)


def _in_zip(
    task: ClueTask, path: Path, above: tuple[str, ...], *, whole: bool
) -> Iterator[tuple[Place, tuple[str, ...]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
    except UNREADABLE as fault:
        raise _damaged(str(path), fault) from fault
    folders: dict[PurePosixPath, set[str]] = {}
    for member in members:
        if not any(part.startswith((".", "__MACOSX")) for part in member.parts):
            folders.setdefault(member.parent, set()).add(member.name)
    for folder, names in folders.items():
        if whole or set(folder.parts).intersection(task.folders):
            yield Place(path, folder, frozenset(names)), (*above, *folder.parts)


def _damaged(where: str, fault: Exception) -> InputError:
    return InputError(
        found=f"a file that cannot be read ({fault})",
        expected="a whole file, in a zip without a password",
        fix="Fetch or pack it again.",
        where=where,
    )
