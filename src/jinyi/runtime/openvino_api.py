"""Imports OpenVINO without its converter, which reports every import to a remote server."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

_CONVERTER = "openvino.tools.ovc"
_lock = threading.Lock()


def load_openvino() -> ModuleType:
    """Return the module `openvino`, imported on first use (about 0.2 s).

    `import openvino` imports its model converter, whose first act is to send a telemetry event. jinyi needs
    no converter, so it is hidden during the import (which also saves a third of the time).
    `openvino.convert_model` still works for whoever calls it: the converter is imported at that moment.
    """
    with _lock:
        if "openvino" in sys.modules or _CONVERTER in sys.modules:
            return importlib.import_module("openvino")
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # makes the import raise ImportError
        try:
            openvino = importlib.import_module("openvino")
        finally:
            del sys.modules[_CONVERTER]
        if not hasattr(openvino, "convert_model"):
            openvino.convert_model = _convert_model  # type: ignore[attr-defined]
        return openvino


def _convert_model(*args: Any, **kwargs: Any) -> Any:
    return importlib.import_module(_CONVERTER).convert_model(*args, **kwargs)
