"""What training minimises. Every loss takes tensors of any device and type and returns a scalar.

`vectors.py`: sentence vectors (InfoNCE, CoSENT, supervised contrastive). `classes.py`: logits against labels
(cross-entropy and its kin, the propensity-corrected losses). `teacher.py`: imitation of a teacher. `precision.py`: all
of them compute in float32 at least, whatever autocast says.
"""

from __future__ import annotations

from jinyi.train.losses.classes import KINDS, class_shares, pair_loss
from jinyi.train.losses.teacher import hidden_loss, similarity_loss, soften, vector_loss
from jinyi.train.losses.vectors import cosent, info_nce, supcon

__all__ = [
    "KINDS",
    "class_shares",
    "cosent",
    "hidden_loss",
    "info_nce",
    "pair_loss",
    "similarity_loss",
    "soften",
    "supcon",
    "vector_loss",
]
