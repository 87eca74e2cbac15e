"""jinyi's models in the shapes that other libraries call: mteb and LangChain. Neither library is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinyi.adapters.langchain import LangChainEmbeddings
    from jinyi.adapters.mteb import MtebCrossEncoder, MtebEncoder

_HOME = {
    "LangChainEmbeddings": "jinyi.adapters.langchain",
    "MtebCrossEncoder": "jinyi.adapters.mteb",
    "MtebEncoder": "jinyi.adapters.mteb",
}

__all__ = ["LangChainEmbeddings", "MtebCrossEncoder", "MtebEncoder"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jinyi.adapters' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
