"""Speed of model shapes on this machine: `evaluate_speed`. See docs/speed.md."""

from __future__ import annotations

from jinyi.evals.speed.measure import evaluate_speed
from jinyi.evals.speed.shapes import SHAPES, Shape, make_shapes

__all__ = ["SHAPES", "Shape", "evaluate_speed", "make_shapes"]
