"""TensorFlow checkpoints of BERT, ALBERT and RoFormer, read without TensorFlow and checked byte by byte."""

from __future__ import annotations

from jinyi.convert.tensorflow.checkpoint import Checkpoint, is_checkpoint, open_checkpoint

__all__ = ["Checkpoint", "is_checkpoint", "open_checkpoint"]
