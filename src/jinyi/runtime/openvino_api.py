"""Imports OpenVINO without its converter, which reports every import to a remote server, and compiles graphs."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from functools import cache
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


@cache
def openvino_core() -> Any:
    """Return OpenVINO's entry point; making one loads the processor plugin."""
    return load_openvino().Core()


def _leave_core() -> None:
    """In a forked child the parent's core is never used, and never freed, which would wait for its threads."""
    if openvino_core.cache_info().currsize:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(openvino_core()))
        openvino_core.cache_clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_leave_core)


def compile_graph(graph: Any, *, precision: str, threads: int, streams: int, kernels: int) -> Any:
    """Compile a graph for processors.

    Args:
        graph: an `openvino.Model`, which stays as it is.
        precision: of `jinyi.runtime.open_engine`, "auto" resolved.
        threads: processor threads of all streams.
        streams: batches that are computed at a time.
        kernels: how many kernels are kept for shapes that come again.
    """
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        # Beside 8-bit weights OpenVINO rounds activations too unless told not to.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32" if precision == "int8-dynamic" else "0",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads),
        # A pinned thread waits for its core when another process has it.
        "ENABLE_CPU_PINNING": "NO",
        # Not in the list of properties, but the only bound there is.
        "CPU_RUNTIME_CACHE_CAPACITY": str(kernels),
    }
    return openvino_core().compile_model(graph, "CPU", options)
