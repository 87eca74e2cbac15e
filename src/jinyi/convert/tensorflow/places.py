"""Where a checkpoint lies: beside other files in a folder, or inside a zip as CLUE and Google publish them."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from jinyi.convert.tensorflow.wire import damaged
from jinyi.errors import FolderError

_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What a damaged or locked zip raises; RuntimeError is a password, or a compression that Python does not have."""


class Place(Protocol):
    """A folder with files: on the disk, or inside a zip."""

    def __contains__(self, name: object) -> bool:
        """Whether a file of that name is there."""

    def __iter__(self) -> Iterator[str]:
        """Names of the files."""

    def where(self, name: str) -> str:
        """Name of a file for messages: "bert.zip!chinese/vocab.txt"."""

    def size(self, name: str) -> int:
        """Length of a file in bytes."""

    def read(self, name: str) -> bytes:
        """Content of a small file."""

    def map(self, name: str) -> np.ndarray:
        """Content of a large file as a memory-mapped uint8 array."""


class FolderPlace:
    """A folder on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names = sorted(file.name for file in root.iterdir() if file.is_file())

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def where(self, name: str) -> str:
        """See `Place`."""
        return str(self._root / name)

    def size(self, name: str) -> int:
        """See `Place`."""
        return (self._root / name).stat().st_size

    def read(self, name: str) -> bytes:
        """See `Place`."""
        return (self._root / name).read_bytes()

    def map(self, name: str) -> np.ndarray:
        """See `Place`."""
        # Copy on write, so that native code which asks for writable memory may share it.
        return np.memmap(self._root / name, dtype=np.uint8, mode="c") if self.size(name) else _EMPTY


class ZipPlace:
    """A folder inside a zip. Large files are unpacked into a nameless temporary file and mapped from there.

    Args:
        path: the zip.
        inside: the folder in it.
        members: the files directly in that folder, by name.
    """

    def __init__(self, path: Path, inside: PurePosixPath, members: dict[str, zipfile.ZipInfo]) -> None:
        self._path, self._inside, self._members = path, inside, members

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def where(self, name: str) -> str:
        """See `Place`."""
        return f"{self._path}!{self._inside / name}"

    def size(self, name: str) -> int:
        """See `Place`."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """See `Place`."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                return archive.read(self._members[name])
        except _ZIP_FAULTS as fault:
            raise _bad_zip(self.where(name), fault) from fault

    def map(self, name: str) -> np.ndarray:
        """See `Place`."""
        with tempfile.TemporaryFile(prefix="jinyi-") as target:
            try:
                with zipfile.ZipFile(self._path) as archive, archive.open(self._members[name]) as source:
                    while piece := source.read(1 << 22):
                        target.write(piece)
                target.flush()
            except _ZIP_FAULTS as fault:
                raise _bad_zip(self.where(name), fault) from fault
            except OSError as fault:
                raise FolderError(
                    where=self.where(name),
                    found=f"a disk that refuses to unpack it in {tempfile.gettempdir()}: {fault}",
                    expected=f"room for {self.size(name):,} bytes",
                    fix="Free space, or set TMPDIR to a folder on another disk.",
                ) from fault
            # The map holds the file after it is closed and has no name any more.
            return np.memmap(target, dtype=np.uint8, mode="c") if self.size(name) else _EMPTY


_EMPTY = np.zeros(0, np.uint8)


def _bad_zip(where: str, fault: Exception) -> FolderError:
    return damaged(where, f"a zip that cannot be read ({fault})", "a whole zip without a password")


def find_checkpoints(path: str | os.PathLike[str]) -> list[tuple[Place, str]]:
    """Return the checkpoints that a path can mean: place and prefix ("bert_model.ckpt") of each.

    Args:
        path: the prefix, one of the files, a folder (also the one around it, as zips unpack) or a zip.

    Raises:
        FolderError: a zip that cannot be read.
    """
    given = Path(os.path.expanduser(path))
    if given.is_dir():
        here = _checkpoints(FolderPlace(given))
        inner = sorted(folder for folder in given.iterdir() if folder.is_dir() and folder.name[0] != ".")
        return here or [found for folder in inner for found in _checkpoints(FolderPlace(folder))]
    if given.is_file() and (zipfile.is_zipfile(given) or given.suffix.lower() == ".zip"):
        return [found for place in _zip_places(given) for found in _checkpoints(place)]
    prefix = _PART.sub("", given.name)
    if (given.parent / f"{prefix}.index").is_file():
        return [(FolderPlace(given.parent), prefix)]
    return []


def _checkpoints(place: Place) -> list[tuple[Place, str]]:
    prefixes = [name.removesuffix(".index") for name in place if name.endswith(".index")]
    # Other tools have files called .index too.
    whole = [prefix for prefix in prefixes if any(name.startswith(f"{prefix}.data-") for name in place)]
    return [(place, prefix) for prefix in whole or prefixes]


def _zip_places(path: Path) -> list[ZipPlace]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_FAULTS as fault:
        raise _bad_zip(str(path), fault) from fault
    folders: dict[PurePosixPath, dict[str, zipfile.ZipInfo]] = {}
    for member in members:
        name = PurePosixPath(member.filename)
        if not member.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in name.parts):
            folders.setdefault(name.parent, {})[name.name] = member
    return [ZipPlace(path, inside, files) for inside, files in sorted(folders.items())]
