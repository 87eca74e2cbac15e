"""Models for other readers: ONNX, OpenVINO IR and sentence-transformers, from the runtime's own graph."""

from __future__ import annotations

from jinyi.convert.export.write import DTYPES, FORMATS, Exported, export

__all__ = ["DTYPES", "FORMATS", "Exported", "export"]
