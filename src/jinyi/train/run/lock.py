"""The folder of a run: made once, used by one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from jinyi.errors import FolderError
from jinyi.train.run import checkpoint

CHECKPOINTS, BEST, LAST = "checkpoints", "best", "last"
_LOCK = ".lock"


@contextmanager
def locked(root: Path, accelerator: Accelerator, resume: bool) -> Iterator[None]:
    """Make the run's folder and keep others out of it until the run ends, however it ends."""
    made = (*checkpoint.listed(root / CHECKPOINTS), root / BEST, root / LAST)
    if not resume and any(path.exists() for path in made):
        raise FolderError(
            where=str(root),
            found="a run there already",
            expected="a folder without one",
            fix="Go on with --resume, or choose another folder with --run.",
        )
    accelerator.wait_for_everyone()  # nobody writes before all have looked
    if not accelerator.is_main_process:
        yield
        return
    try:
        (root / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        stream = open(root / _LOCK, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise FolderError(
            where=str(root),
            found=f"a disk that refuses the write: {error}",
            expected="a place with room where files may be written",
            fix="Free space, check permissions, or choose another folder.",
        ) from error
    with stream:
        _lock(stream, root)
        yield


def _lock(stream: Any, root: Path) -> None:
    """Lock an open file; the system gives the lock back when the process ends, even by SIGKILL."""
    try:
        import fcntl
    except (
        ImportError
    ):  # Windows: an open file cannot be replaced there, which keeps a second run out of the log
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderError(
            where=str(root),
            found="a run that is still going on",
            expected="a folder nobody writes to",
            fix="Wait for it, or choose another folder with --run.",
        ) from error
