"""Model folders written: whole or not at all, and never over what is not asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi.errors import FolderError, InputError
from jinyi.folder import StagedFolder, read_folder, verify_folder, write_folder
from jinyi.folder import atomic as atomic_module
from jinyi.tokens import build_tokenizer
from small_models import CONFIG, VOCAB, random_weights, whitening, write_small

# Writing: refused arguments


def test_refused_arguments(tmp_path: Path) -> None:
    weights, tokenizer = random_weights(), build_tokenizer(VOCAB)
    good: dict[str, Any] = dict(
        task="embed", config=CONFIG, weights=weights, tokenizer=tokenizer, pooling="cls"
    )
    bad = weights | {"embeddings.LayerNorm.weight": np.full(32, np.nan, np.float32)}
    large = weights | {"embeddings.LayerNorm.weight": np.full(32, 1e5, np.float32)}
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps({"model": {"type": "BPE", "vocab": {}}}), encoding="utf-8")
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    for change, words in (
        (dict(task="cook"), "cook"),
        (dict(pooling=None), "None"),
        (dict(dtype="int8"), "int8"),
        (dict(task="pair", pooling=None), "classifier.weight"),
        (dict(task="topic"), "cls.predictions.bias"),
        (dict(weights=bad), "not finite"),
        (dict(weights=large, dtype="float16"), "not finite"),
        (dict(config=replace(CONFIG, num_hidden_layers=3)), "weights without"),
        (dict(tokenizer=tmp_path), "no tokenizer.json and no vocab.txt"),
        (dict(tokenizer=odd), "special tokens"),
        (dict(tokenizer=broken), "no readable JSON"),
        (dict(max_length=2), "at least 3"),
        (dict(default_prompt_name="query"), "query"),
        (dict(training={"x": object()}), "JSON"),
        (dict(training={"x": float("nan")}), "JSON"),
        (dict(tokenizer=build_tokenizer([*VOCAB, "甲"])), "tokens"),
        (dict(task="encoder", pooling=None, dense=[whitening()]), "without pooling"),
    ):
        with pytest.raises((FolderError, InputError), match=words):
            write_folder(tmp_path / "m", **{**good, **change})
    assert sorted(os.listdir(tmp_path)) == ["broken.json", "odd.json"], "nothing may be left behind"


def test_existing_targets(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    with pytest.raises(FolderError, match="overwrite=True"):
        write_small(path)
    write_small(path, pooling="cls", overwrite=True)
    assert read_folder(path).pooling == "cls"
    (tmp_path / "empty").mkdir()
    write_small(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(FolderError, match="only a model folder"):
            write_small(tmp_path / "mine", overwrite=overwrite)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FolderError):
        write_small(tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(path)
    write_small(tmp_path / "link", pooling="max", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert read_folder(path).pooling == "max"
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "link", "m", "mine"]


def test_memory_maps_outlive_an_overwrite(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    words = read_folder(path).weights()["embeddings.word_embeddings.weight"]
    before = words.copy()
    write_small(path, weights=random_weights(seed=5), overwrite=True)
    np.testing.assert_array_equal(words, before)


# Writing: whole or not at all


class Disk:
    """Fails at the n-th call of a system operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.code = code
        self.calls = 0
        self.fail_at = -1
        for name in ("fsync", "rename", "link", "mkdir"):
            monkeypatch.setattr(atomic_module.os, name, self.wrap(getattr(os, name)))
        real_open = open

        def opener(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if "x" not in mode:
                return real_open(file, mode, *args, **options)
            stream = real_open(file, mode, buffering=0)
            return _Stream(stream, self.wrap(stream.write))

        monkeypatch.setattr(atomic_module, "open", opener, raising=False)

    def wrap(self, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **options)

        return call


class _Stream:
    def __init__(self, stream: Any, write: Any) -> None:
        self._stream, self.write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


@pytest.mark.slow
@pytest.mark.parametrize("code", [28, 5], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fails_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, existing: bool
) -> None:
    path = tmp_path / "m"
    if existing:
        write_small(path, pooling="cls")
    disk = Disk(monkeypatch, code)
    write_small(tmp_path / "count")
    if existing:
        disk.calls = 0
        write_small(tmp_path / "count", overwrite=True)
    calls = disk.calls
    assert calls > 50
    shutil.rmtree(tmp_path / "count")
    failures = 0
    for fail_at in range(1, calls + 1):
        disk.calls, disk.fail_at = 0, fail_at
        try:
            write_small(path, pooling="mean", overwrite=existing)
            expected = {"mean"}
        except FolderError as error:
            failures += 1
            assert os.strerror(code) in error.found
            # The last call syncs the parent directory, after the new folder is in place.
            expected = {"mean"} if fail_at == calls else {"cls"} if existing else {None}
        disk.fail_at = -1
        assert os.listdir(tmp_path) in ([], ["m"]), "nothing may be left behind"
        assert (verify_folder(path).folder.pooling if path.exists() else None) in expected
        if expected == {"mean"}:
            shutil.rmtree(path)
            if existing:
                write_small(path, pooling="cls")
    assert failures > calls * 0.8, "pathlib forgives failing to make a directory that is there"


def test_exchange_by_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_module, "_exchange", lambda one, other: False)
    path = write_small(tmp_path / "m", pooling="cls")
    write_small(path, pooling="mean", overwrite=True)
    assert read_folder(path).pooling == "mean"
    real, calls = os.rename, []

    def second_fails(one: Any, other: Any) -> None:
        calls.append(one)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        real(one, other)

    monkeypatch.setattr(atomic_module.os, "rename", second_fails)
    with pytest.raises(FolderError):
        write_small(path, pooling="max", overwrite=True)
    assert read_folder(path).pooling == "mean"
    assert os.listdir(tmp_path) == ["m"]


def test_abandoned_directories_are_removed_after_an_hour(tmp_path: Path) -> None:
    old, new = tmp_path / ".m.00000000.tmp", tmp_path / ".m.11111111.tmp"
    for leftover in (old, new):
        leftover.mkdir()
        (leftover / "config.json").write_text("{}", encoding="utf-8")
    past = time.time() - 7200
    os.utime(old / "config.json", (past, past))
    os.utime(old, (past, past))
    write_small(tmp_path / "m")
    assert not old.exists()
    assert new.exists(), "may belong to a writer that is still at work"


def test_an_error_inside_the_block_removes_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), StagedFolder(tmp_path / "m") as stage:
        stage.put("a/b.txt", "x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


_WRITER = """
import itertools, os, sys
sys.path.insert(0, sys.argv[2])
from small_models import *
weights = random_weights()
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)
        continue
    for turn in itertools.count(int(line)):
        write_small(Path(sys.argv[1]), weights=weights, pooling=("cls", "mean")[turn % 2], overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and exchange of directories are POSIX")
def test_killed_at_random_instants(tmp_path: Path) -> None:
    path, rng = tmp_path / "m", np.random.default_rng(0)
    arguments = [sys.executable, "-c", _WRITER, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    poolings, leftovers = set(), 0
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for turn in range(100):
            starter.stdin.write(f"{turn}\n")
            starter.stdin.flush()
            child = int(starter.stdout.readline())
            time.sleep(float(rng.uniform(0, 0.3)))
            os.kill(child, signal.SIGKILL)
            assert starter.stdout.readline() == "gone\n"
            if path.exists():
                poolings.add(verify_folder(path).folder.pooling)
            else:
                assert not poolings, "the exchange is one step: once written, the target is never absent"
            leftovers = len(os.listdir(tmp_path)) - path.exists()
        starter.stdin.close()
    assert poolings == {"cls", "mean"}
    assert leftovers > 10, "most writers must have been killed at work"
