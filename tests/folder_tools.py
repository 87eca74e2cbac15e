"""Changes to model folders, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jinyi.errors import FolderError
from jinyi.folder import read_folder
from small_models import write_small


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    body = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    body = {key: value for key, value in {**body, **changes}.items() if value is not None}
    file.write_text(json.dumps(body), encoding="utf-8")


def rewrite_weights(file: Path, rename: Any, dtype: str = "float32") -> None:
    """Store the tensors of a file under other names (`rename` gives None for those to leave out)."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {rename(name): tensor.to(getattr(torch, dtype)) for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in tensors.items() if name}, file)


def plain(path: Path, **options: Any) -> Path:
    """A folder as other tools write it: no jinyi.json, no manifest."""
    write_small(path, **options)
    (path / "jinyi.json").unlink()
    (path / "MANIFEST.sha256").unlink()
    return path


def error_of(path: Path, **options: Any) -> FolderError:
    with pytest.raises(FolderError) as caught:
        read_folder(path, **options)
    assert caught.value.found and caught.value.expected and caught.value.fix
    return caught.value
