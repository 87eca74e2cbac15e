"""Temporary folders that do not stay behind for good when a process is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from weakref import finalize

from jinyi.errors import FolderError

PREFIX = "jinyi-"
_LOCK = ".scratch-lock"  # of no other folder: a finished training run in the same place has a file .lock


class Scratch:
    """A folder that is there until it is closed, or nobody holds this object any more.

    Its maker holds a lock on a file in it, which the system gives back however the process ends. Whoever makes the next
    folder at that place removes those whose lock is free. Where files cannot be locked (Windows), nothing is removed.

    Use it in a `with` block, which gives the path, or keep it and read `path`.

    Args:
        parent: where to make it; None takes the system's place for temporary files.
        prefix: of its name, and of those that are removed.

    Raises:
        FolderError: the disk refuses.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None, *, prefix: str = PREFIX) -> None:
        home = Path(tempfile.gettempdir() if parent is None else parent)
        try:
            _remove_abandoned(home, prefix)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
            stream = _locked(self.path)
        except OSError as error:
            raise FolderError(
                where=str(home),
                found=f"a disk that refuses the write: {error}",
                expected="a place with room for temporary files",
                fix="Free space, check permissions, or choose another place (TMPDIR says the system's).",
            ) from error
        self._end = finalize(self, _remove, self.path, stream, os.getpid())

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(stream: BinaryIO) -> bool:
    """Lock an open file for as long as it is open; False where another process has, or the system cannot."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked(folder: Path) -> BinaryIO:
    """Put a locked file into a folder; it gets its name when it is locked, so that nobody finds it free before."""
    new = folder / f"{_LOCK}.new"
    stream = open(new, "wb")  # noqa: SIM115 - open as long as the folder is there
    _lock(stream)
    new.rename(folder / _LOCK)
    return stream


def _remove_abandoned(home: Path, prefix: str) -> None:
    for file in home.glob(f"{prefix}*/{_LOCK}"):
        # Another user's, or one that another process has just removed.
        with suppress(OSError), open(file, "r+b") as stream:
            if _lock(stream):
                shutil.rmtree(file.parent, ignore_errors=True)


def _remove(path: Path, stream: BinaryIO, process: int) -> None:
    if process == os.getpid():  # a forked child does not own it
        shutil.rmtree(path, ignore_errors=True)
    stream.close()
