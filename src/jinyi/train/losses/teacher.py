"""Losses against a teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.errors import InputError
from jinyi.train.losses.precision import exactly, wide


def soften(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of the student from the teacher, both softened (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student_logits, teacher_logits: [n, C]; [n] or [n, 1] for models with one logit. The teacher gets no gradient.
        temperature: divides both; the loss is multiplied by its square, so that gradients keep their size.

    Returns:
        The mean over rows; 0 for no rows.

    Raises:
        InputError: the shapes differ.
    """
    _same_shape(student_logits, teacher_logits)
    student, teacher = _log_softmax(student_logits, temperature), _log_softmax(teacher_logits, temperature)
    divergence = F.kl_div(student, teacher.detach(), reduction="sum", log_target=True)
    return temperature**2 * divergence / max(len(student), 1)


def vector_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between the student's and the teacher's vector of the same text.

    Args:
        student, teacher: [n, d]; where the widths differ, a linear map comes before. No gradient reaches the teacher.

    Returns:
        A scalar from 0 to 2; 0 for no rows.

    Raises:
        InputError: the shapes differ.
    """
    _same_shape(student, teacher)
    cosines = F.cosine_similarity(wide(student), wide(teacher).detach(), dim=-1)
    return (1 - cosines).sum() / max(len(cosines), 1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines between the texts of a batch (after Tung & Mori 2019, arXiv 1907.09682).

    Widths may differ: what is imitated is which texts are close. Cosines of a text with itself are left out.

    Args:
        student, teacher: vectors [n, d] and [n, e]. No gradient reaches the teacher.

    Returns:
        A scalar; 0 for fewer than two rows.

    Raises:
        InputError: the numbers of rows differ.

    Cost: two matrices [n, n] in float32.
    """
    _same_shape(student[..., :1], teacher[..., :1])
    with exactly(student.device):
        ours = F.normalize(wide(student), dim=-1)
        theirs = F.normalize(wide(teacher).detach(), dim=-1)
        gaps = ours @ ours.T - (theirs @ theirs.T).to(ours.dtype)
    rows = len(gaps)
    others = ~torch.eye(rows, dtype=torch.bool, device=gaps.device)
    return (gaps * others).square().sum() / max(rows * (rows - 1), 1)


def hidden_loss(student: Tensor, teacher: Tensor, real: Tensor | None = None) -> Tensor:
    """Mean squared error between hidden states, over real tokens.

    Args:
        student, teacher: states [B, L, d] or [n, d] of one width. No gradient reaches the teacher.
        real: bool [B, L] or [n], True at tokens that are not padding; None takes all.

    Returns:
        The mean over the components of all real tokens; 0 for none.

    Raises:
        InputError: the shapes differ.
    """
    _same_shape(student, teacher)
    errors = (wide(student) - wide(teacher).detach()).square().mean(-1)
    if real is None:
        return errors.sum() / max(errors.numel(), 1)
    # Not errors * real: states of padding may be anything, and 0 times infinity is NaN.
    return errors.masked_fill(~real, 0).sum() / real.sum().clamp_min(1)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities [n, C] with C >= 2; one logit z is the two-class model (0, z)."""
    logits = wide(logits) / temperature
    if logits.ndim == 1 or logits.shape[-1] == 1:
        logits = logits.reshape(-1, 1)
        logits = torch.cat((torch.zeros_like(logits), logits), 1)
    return F.log_softmax(logits, -1)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise InputError(
            found=f"{tuple(student.shape)} from the student and {tuple(teacher.shape)} from the teacher",
            expected="equal shapes",
            fix="Map the student's width to the teacher's first, and give both the same rows.",
        )
