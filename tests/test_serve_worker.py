"""What the worker opens: each folder once for all its engines, and never another model than the server has."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from jinyi.errors import FolderError
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.serve.queue.engine import opening
from jinyi.serve.worker import Folders
from small_models import random_weights, write_small


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were read."""
    found: list[str] = []
    read = Source.open.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Source], model: str, task: str, **options: Any) -> Source:
        found.append(model)
        return read(cls, model, task, **options)

    monkeypatch.setattr(Source, "open", classmethod(counted))
    return found


def told(folder: Path, **options: Any) -> dict[str, Any]:
    """What the server tells of a model."""
    frame, _ = opening(Source.open(folder, "", **options), Head())
    model: dict[str, Any] = frame["model"]
    return model


def test_a_folder_is_read_once_for_all_its_engines(folders: dict[str, Path], reads: list[str]) -> None:
    model, other = told(folders["embed"]), told(folders["embed"], threads=1)
    reads.clear()
    opener = Folders()
    engines = [opener.open(dict(model), head) for head in (Head(), Head("tokens"), Head(pooling="mean"))]
    assert len(reads) == 1
    engines.append(opener.open(other, Head()))
    assert len(reads) == 2 and engines[-1].info()["threads"] == 1
    engines.clear()
    gc.collect()
    engines.append(opener.open(model, Head()))
    assert len(reads) == 3, "what no engine needs is not kept"


def test_another_model_in_the_folder_is_refused(tmp_path: Path, reads: list[str]) -> None:
    folder = write_small(tmp_path / "model")
    model = told(folder)
    opener = Folders()
    first = opener.open(model, Head())
    write_small(folder, weights=random_weights(seed=5), overwrite=True)
    reads.clear()
    second = opener.open(model, Head("tokens"))  # of what was read, like the first
    assert reads == [] and first.precision == second.precision
    with pytest.raises(FolderError, match="Start the server again"):
        Folders().open(model, Head())


def test_weights_written_over_are_refused_though_they_were_read(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "model")
    model = told(folder)
    opener = Folders()
    engine = opener.open(model, Head())
    file = folder / "model.safetensors"
    other = (
        write_small(tmp_path / "other", weights=random_weights(seed=5)) / "model.safetensors"
    ).read_bytes()
    assert len(other) == file.stat().st_size
    with file.open("r+b") as stream:
        stream.write(other)
    with pytest.raises(FolderError, match="Start the server again"):
        opener.open(model, Head("tokens"))
    assert engine.info()["device"] == "cpu"
