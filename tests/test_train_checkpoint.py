"""Checkpoints: bit for bit, whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi.errors import FolderError  # noqa: E402
from jinyi.folder import atomic  # noqa: E402
from jinyi.train.run import checkpoint  # noqa: E402
from jinyi.train.run.checkpoint import NETWORK, STATE, newest, save  # noqa: E402

FAULTS = (errno.ENOSPC, errno.EIO)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one: many syncs, each of which would wait for a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as path:
        yield Path(path)


def arrays(step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(step)
    network = {
        "a.weight": rng.normal(size=(40, 30)).astype(np.float32),
        "a.bias": np.float32([step, -0.0, 1e-42]),
    }
    moments = {f"exp_avg/{name}": array * 2 for name, array in network.items()}
    return network, moments | {"step/a.weight": np.float32(step).reshape(())}


def write(folder: Path, step: int, keep: int = 2) -> Path:
    return save(folder, step, *arrays(step), {"note": f"步 {step}"}, keep=keep)


def check(found: checkpoint.Checkpoint | None) -> int:
    """Every bit of a checkpoint is what its step says; gives the step."""
    assert found is not None
    for expected, got in zip(arrays(found.step), (found.network, found.optimizer), strict=True):
        assert expected.keys() == got.keys()
        for name, array in expected.items():
            assert (
                array.tobytes() == np.ascontiguousarray(got[name]).tobytes()
                and array.shape == got[name].shape
            )
    assert found.state["note"] == f"步 {found.step}"
    return found.step


def test_bit_for_bit(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None
    path = write(tmp_path, 7)
    assert path.name == "step-00000007"
    assert check(newest(tmp_path)) == 7


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (3, 20, 100, 99_999_999, 100_000_000):
        write(tmp_path, step, keep=3)
    assert [path.name for path in checkpoint.listed(tmp_path)] == [
        "step-100000000",
        "step-99999999",
        "step-00000100",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in checkpoint.listed(tmp_path)
    )


def cut(path: Path) -> None:
    file = path / NETWORK
    os.truncate(file, file.stat().st_size - 1)


def flip(path: Path) -> None:
    file = path / NETWORK
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def state_of_another(path: Path) -> None:
    (path / STATE).write_text((path / STATE).read_text().replace("9", "8"))


DAMAGES: list[Callable[[Path], object]] = [
    cut,
    flip,
    state_of_another,
    lambda path: (path / "MANIFEST.sha256").unlink(),
    lambda path: (path / "optimizer.safetensors").unlink(),
    lambda path: (path / "MANIFEST.sha256").write_text("zzz"),
    lambda path: [file.unlink() for file in path.iterdir()],
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    write(tmp_path, 5)
    damage(write(tmp_path, 9))
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert check(newest(tmp_path)) == 5
    checkpoint.tidy(tmp_path, 5)
    assert (tmp_path / "step-00000009.damaged").is_dir()
    write(tmp_path, 9)  # the place is free again, and the damaged one does not count among those kept
    assert [check(checkpoint.read(path)) for path in checkpoint.listed(tmp_path)] == [9, 5]


def test_all_damaged(tmp_path: Path) -> None:
    cut(write(tmp_path, 5))
    with pytest.warns(UserWarning), pytest.raises(FolderError, match="1 checkpoints, all damaged"):
        newest(tmp_path)


def test_tidy_clears_what_was_left(tmp_path: Path) -> None:
    write(tmp_path, 5)
    for name in (".step-00000009.0a1b2c3d.tmp", ".step-00000003.old", "step-00000008.damaged"):
        shutil.copytree(tmp_path / "step-00000005", tmp_path / name)
    checkpoint.tidy(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


@contextmanager
def failing(number: int, code: int) -> Iterator[list[str]]:
    """Calls that change the disk fail from the given one on (counted from 0); yields what was called."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def guard(name: str, original: Any) -> Any:
            def guarded(*args: Any, **kwargs: Any) -> Any:
                calls.append(name)
                if len(calls) > number:
                    raise OSError(code, os.strerror(code), str(args[0]))
                return original(*args, **kwargs)

            return guarded

        for name in ("fsync", "rename", "mkdir"):
            patch.setattr(os, name, guard(name, getattr(os, name)))
        patch.setattr(atomic, "open", guard("open", open), raising=False)
        yield calls


@pytest.mark.parametrize("code", FAULTS)
def test_a_failing_disk_leaves_the_old_ones(tmp_path: Path, code: int) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    failed = 0
    for number in range(100):
        with failing(number, code) as calls, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old checkpoint that cannot be removed
            try:
                write(tmp_path, 3)
            except FolderError as error:
                assert os.strerror(code) in str(error)
                failed += 1
            else:
                assert check(newest(tmp_path)) == 3
                break
        assert check(newest(tmp_path)) in (2, 3)  # 3: all that failed was telling the disk about the new name
        assert not list(tmp_path.glob("*.tmp"))
        shutil.rmtree(tmp_path / "step-00000003", ignore_errors=True)
        write(tmp_path, 1)
        write(tmp_path, 2)
    assert failed >= 10 and {"open", "fsync", "rename", "mkdir"} <= set(calls)


def test_a_write_that_fills_the_disk(tmp_path: Path) -> None:
    """Not the call before it but the write itself runs out of room, in the middle of a tensor file."""
    write(tmp_path, 1)

    class Full(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "a.weight":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().__getitem__(name)

    class Late(Full):
        asked = 0

        def __getitem__(self, name: str) -> Any:
            self.asked += 1
            return super().__getitem__(name) if self.asked > 5 else dict.__getitem__(self, name)

    network, moments = arrays(2)
    with pytest.raises(FolderError, match="No space left"):
        save(tmp_path, 2, Late(network), moments, {}, keep=2)
    assert check(newest(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_at_random_moments(memory_path: Path, kills: int) -> None:
    """A child saves one checkpoint after the other until SIGKILL; the next child goes on from the newest."""
    tmp_path, chance = memory_path, random.Random(kills)
    begin = time.perf_counter()
    for step in (1, 2, 3):
        write(tmp_path, step)
    duration = (time.perf_counter() - begin) / 3
    done, torn = 3, 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                step = check(newest(tmp_path))
                checkpoint.tidy(tmp_path, step)
                os.write(writer, step.to_bytes(8, "little"))
                while True:
                    step += 1
                    write(tmp_path, step)
                    os.write(writer, step.to_bytes(8, "little"))
            finally:
                os._exit(1)
        os.close(writer)
        if chance.random() < 0.9:  # else it may die before its first checkpoint
            os.read(reader, 8)
            time.sleep(chance.uniform(0.0, 6 * duration))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        with os.fdopen(reader, "rb") as stream:
            reported = stream.read()
        told = int.from_bytes(reported[-8:], "little") if reported else done
        assert told >= done
        torn += bool(list(tmp_path.glob(".step-*")))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing damaged is ever in place
            done = check(newest(tmp_path))
        assert done in (told, told + 1)
    assert done > 3 + kills // 12 and torn > kills // 12


def test_another_network_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    found = newest(tmp_path)
    assert found is not None
    network = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(network.parameters())
    with pytest.raises(FolderError, match=r"other weights.*a\.bias"):
        checkpoint.restore(network, optimizer, found)
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3)})
    with pytest.raises(FolderError, match=r"other weights.*a\.weight"):
        checkpoint.restore(module, optimizer, found)


@pytest.mark.parametrize("fused", [False, True])
def test_network_and_optimizer_come_back(tmp_path: Path, fused: bool) -> None:
    def made() -> tuple[Any, Any]:
        torch.manual_seed(1)
        network = torch.nn.ModuleDict({"used": torch.nn.Linear(5, 4), "unused": torch.nn.Linear(2, 2)})
        return network, torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)

    def step(network: Any, optimizer: Any, number: int) -> None:
        x = torch.randn(3, 5, generator=torch.Generator().manual_seed(number))
        network["used"](x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    network, optimizer = made()
    for number in range(6):
        if number == 3:
            save(tmp_path, 3, *checkpoint.collect(network, optimizer), {}, keep=1)
        step(network, optimizer, number)
    other, second = made()
    found = newest(tmp_path)
    assert found is not None
    assert not [name for name in found.optimizer if "unused" in name]
    checkpoint.restore(other, second, found)
    for number in range(3, 6):
        step(other, second, number)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name
