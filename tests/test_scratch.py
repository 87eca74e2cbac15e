"""Temporary folders: gone when nobody needs them, and after a kill gone with the next one."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator

from jinyi.errors import FolderError
from jinyi.scratch import Scratch
from jinyi.train.run.lock import locked

HOLD = "import sys; from jinyi.scratch import Scratch; s = Scratch(sys.argv[1]); print(s.path, flush=True); input()"


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that keeps a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_there_as_long_as_it_is_needed(tmp_path: Path) -> None:
    with Scratch(tmp_path) as path:
        (path / "folder").mkdir()
        (path / "folder" / "file").write_text("x", encoding="utf-8")
        assert path.parent == tmp_path
    assert not path.exists()
    kept = Scratch(tmp_path)
    path = kept.path
    assert path.is_dir()
    del kept
    gc.collect()
    assert not path.exists()


def test_of_a_killed_process_removed_by_the_next(tmp_path: Path) -> None:
    living, held = holder(tmp_path)
    killed, left = holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left.is_dir()
    (tmp_path / "jinyi-notes").mkdir()  # somebody's own
    run = tmp_path / "jinyi-tiny-topic"  # a finished training, which has left its lock
    with locked(run, Accelerator(cpu=True), resume=False):
        pass
    assert any(file.name.endswith("lock") for file in run.iterdir())
    with Scratch(tmp_path) as own:
        assert not left.exists()
        assert own.is_dir() and held.is_dir() and (tmp_path / "jinyi-notes").is_dir() and run.is_dir()
    living.communicate("\n")
    assert living.returncode == 0 and not held.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_it_to_its_parent(tmp_path: Path) -> None:
    kept = Scratch(tmp_path)
    child = os.fork()
    if child == 0:
        kept.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert kept.path.is_dir()
    with Scratch(tmp_path):
        assert kept.path.is_dir()


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="refuses the write"):
        Scratch(tmp_path / "none")
