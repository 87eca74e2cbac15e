"""The weights before the first step."""

from jinyi.train.start.weights import Heads, build, heads_of

__all__ = ["Heads", "build", "heads_of"]
