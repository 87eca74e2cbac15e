"""The output of a long job, which may be killed at any byte and goes on where it was."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType

from jinyi.errors import InputError
from jinyi.files.write import cannot_write, sync_folder


class BulkOutput:
    """The output file of a long job: killed at any byte, it goes on where it was; unfinished, it is not there.

    Data go to `<path>.part`; after each block is on disk, `<path>.part.json` says how many rows and bytes count. A
    new run with an equal `key` continues behind them, with another key it begins anew. `finish` renames the part to
    its place. Use as a context manager.

    Args:
        path: where the finished file will be.
        key: what the result depends on (input hash, model hash, settings); JSON values.
        header: bytes the file begins with.

    Raises:
        InputError: the folder cannot be written, or another process is writing this output.
    """

    rows: int
    """Rows already on disk; the caller skips as many of its input."""
    cut: int
    """How many of them were cut."""

    def __init__(
        self, path: str | os.PathLike[str], *, key: Mapping[str, object], header: bytes = b""
    ) -> None:
        self.path = Path(path)
        self._part = self.path.with_name(self.path.name + ".part")
        self._journal = self.path.with_name(self.path.name + ".part.json")
        self._next = self.path.with_name(self.path.name + ".part.json.tmp")
        self._key = json.loads(json.dumps(key))
        try:
            if self.path.is_dir():
                raise IsADirectoryError(None, "a folder of that name")
            with suppress(FileNotFoundError):
                self._next.lstat()  # the longest of the names: one too long is told before anything is written
            self._stream = self._part.open("ab")
        except OSError as fault:
            raise cannot_write(self.path, fault) from fault
        self._lock()
        self.rows, self.cut, length = self._recorded()
        with self._on_disk():
            self._stream.truncate(length)
            if length == 0:
                self._stream.write(header)
                self._record()

    def append(self, block: bytes, rows: int, cut: int = 0) -> None:
        """Write the bytes of the next `rows` rows, `cut` of them cut; they are safe on disk when this returns.

        Raises:
            InputError: the disk is full or refuses the write; the blocks before stay for the next start.
        """
        with self._on_disk():
            self._stream.write(block)
            self.rows += rows
            self.cut += cut
            self._record()

    def finish(self) -> None:
        """Give the file its name."""
        self._stream.close()
        os.replace(self._part, self.path)
        self._journal.unlink(missing_ok=True)
        self._next.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove everything written, for input that turned out bad."""
        self._stream.close()
        for file in (self._part, self._journal, self._next):
            file.unlink(missing_ok=True)

    def __enter__(self) -> BulkOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a refused write the rest of the buffer is refused again; the first fault is the one to tell.
        with suppress(OSError) if fault is not None else nullcontext():
            self._stream.close()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise InputError(
                found=f"a disk that refuses the write: {fault.strerror or fault}",
                expected="room for the results",
                fix="Free space, then start the same job again: it goes on where it was.",
                where=str(self.path),
            ) from fault

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            self._stream.close()
            raise InputError(
                found="another process writing this output",
                expected="one job per output file",
                fix="Wait for it or choose another output.",
                where=str(self.path),
            ) from fault

    def _recorded(self) -> tuple[int, int, int]:
        try:
            with self._journal.open(encoding="utf-8") as stream:
                state = json.load(stream)
        except (FileNotFoundError, json.JSONDecodeError):
            return 0, 0, 0
        if state["key"] != self._key or self._part.stat().st_size < state["bytes"]:
            return 0, 0, 0
        return state["rows"], state["cut"], state["bytes"]

    def _record(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        state = {"key": self._key, "rows": self.rows, "cut": self.cut, "bytes": self._stream.tell()}
        # One name, not one per process as in atomic_file: a killed writer's leftover is taken over by the next.
        with self._next.open("w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self._next, self._journal)
