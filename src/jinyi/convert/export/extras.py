"""The packages of the extra `export`, imported when an export needs them."""

from __future__ import annotations

import importlib
from typing import Any

from jinyi.errors import MissingExtraError


def load_onnx() -> Any:
    """Return the module `onnx`.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _load("onnx")


def load_onnxruntime() -> Any:
    """Return the module `onnxruntime`, of whatever package brings it (onnxruntime-gpu does, too).

    Raises:
        MissingExtraError: it is not installed.
    """
    return _load("onnxruntime")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            found=f"no {name}",
            expected="the packages that write and check ONNX files",
            fix='Install them: pip install "jinyi[export]".',
            where="export to ONNX",
        ) from error
