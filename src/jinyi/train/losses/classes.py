"""Losses of logits against labels.

A model with one logit z is the two-class model with logits (0, z): its softmax is (1 - sigmoid(z), sigmoid(z)), its
cross-entropy the binary one. So every loss here has a version for it without being written twice.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.errors import InputError, shorten
from jinyi.train.losses.precision import exactly, wide

KINDS: tuple[str, ...] = ("cross_entropy", "focal", "pcl", "pcl_compat")

# Constants of the published code (Fengshenbang-LM, examples/clue_sim); where they come from is not known.
COMPAT_SMOOTHING = 0.1
COMPAT_DIVISOR = 0.32447699714575207


def pair_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    kind: str = "cross_entropy",
    smoothing: float = 0.0,
    gamma: float = 2.0,
    prior: float = 0.0,
    order_weight: float = 1.0,
    propensity: float = 0.5,
    shares: Tensor | None = None,
) -> Tensor:
    """Mean loss of logits against labels; the options have the names of the recipe (`PairObjective`).

    With p = softmax(z), smoothed label distribution t' = (1 - smoothing) t + smoothing / C, class shares pi:

    - "cross_entropy": -sum_c t'_c log softmax(z + prior * log pi)_c. `smoothing` as in Szegedy et al. 2016, the logit
      adjustment as in Menon et al. 2021 (arXiv 2007.07314).
    - "focal": the same with each term times (1 - p_c) ** gamma (Lin et al. 2017, arXiv 1708.02002).
    - "pcl": ours, for labels in the order of relevance: cross-entropy as above, plus `order_weight` times
      sum_y t_y w_y sum_c p_c |y - c|, the expected distance between predicted and true grade. The weight of a true
      grade is w_y = pi_y ** -propensity / sum_k pi_k ** (1 - propensity): rare grades count more, the mean over the
      training rows is 1. p = softmax(z) is without adjustment, since w already makes up for the shares.
    - "pcl_compat": the value of the published PCL (arXiv 2208.02959 has no formula): label smoothing of 0.1 plus a
      term of whole numbers, (1 / C) * sum over the first C rows of 0.1 / 0.3245 where predicted + true class >= 2. It
      has no gradient, so training by it is training by label smoothing. Of fewer than C rows those there count (the
      published code fails). A row with a distribution as label has its likeliest class.

    Args:
        logits: [n, C]; [n] or [n, 1] for one logit.
        targets: int64 classes [n], or distributions [n, C]; for one logit P(similar) [n], any number type.
        kind: see above.
        smoothing: label smoothing.
        gamma: of "focal".
        prior: strength of the logit adjustment.
        order_weight, propensity: of "pcl".
        shares: class shares of the training rows [C] (2 for one logit), all above 0: `class_shares`. Needed where prior
            is not 0 and for "pcl".

    Returns:
        A scalar; 0 for no rows.

    Raises:
        InputError: an unknown kind, shapes that do not fit, shares missing, options that "pcl_compat" does not have.
    """
    logits, target = _two_sided(logits, targets)
    _check(logits, kind, smoothing, prior, shares)
    if kind == "pcl_compat":
        return _compat(logits, target)
    classes, rows = logits.shape[1], max(len(logits), 1)
    smooth = (1 - smoothing) * target + smoothing / classes
    adjusted = logits
    if prior:
        assert shares is not None
        adjusted = logits + prior * shares.to(logits).log()
    log_p = F.log_softmax(adjusted, 1)
    terms = -smooth * log_p
    if kind == "focal":
        # Away from 0, where a root (gamma < 1) has no gradient and 0 times infinity would be NaN.
        missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        terms = terms * missing**gamma
    loss = terms.sum() / rows
    if kind == "pcl":
        assert shares is not None
        with exactly(logits.device):
            costs = target @ _grade_costs(shares.to(logits), propensity)
        loss = loss + order_weight * (costs * logits.softmax(1)).sum() / rows
    return loss


def class_shares(targets: Tensor, classes: int) -> Tensor:
    """Shares [C] of the classes in the training labels; one row more of each, so that none is 0.

    Args:
        targets: int64 classes [n]; for a model with one logit P(similar), of which above 0.5 is class 1.
        classes: C; 2 for one logit.
    """
    if targets.is_floating_point():
        targets = (targets > 0.5).long()
    counts = torch.bincount(targets, minlength=classes) + 1
    return counts.double() / counts.sum()


def _two_sided(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [n, C] with C >= 2 and label distributions of the same shape."""
    shape = tuple(logits.shape)
    one = logits.ndim == 1 or (logits.ndim == 2 and shape[1] == 1)
    logits = wide(logits)
    if one:
        logits = logits.reshape(-1, 1)
        logits = torch.cat((torch.zeros_like(logits), logits), 1)
    fits = targets.shape == logits.shape[:1] or (targets.shape == logits.shape and not one)
    if logits.ndim != 2 or not fits or (targets.ndim == 1 and targets.is_floating_point() and not one):
        raise InputError(
            found=f"logits {shape} and targets {tuple(targets.shape)} of {targets.dtype}",
            expected="logits [n, C] with classes [n] or distributions [n, C], or one logit with P(similar) [n]",
            fix="Give one label for each row of logits.",
        )
    if one:
        likely = targets.to(logits)
        return logits, torch.stack((1 - likely, likely), 1)
    if targets.ndim == 2:
        return logits, targets.to(logits)
    return logits, F.one_hot(targets.long(), logits.shape[1]).to(logits)


def _check(logits: Tensor, kind: str, smoothing: float, prior: float, shares: Tensor | None) -> None:
    if kind not in KINDS:
        raise InputError(
            found=f"loss {shorten(kind)}", expected=" or ".join(KINDS), fix="Choose one of them."
        )
    if kind == "pcl_compat" and (smoothing or prior):
        raise InputError(
            found=f"pcl_compat with smoothing {smoothing} and prior {prior}",
            expected="neither: the published loss has a smoothing of 0.1 built in",
            fix='Leave both at 0, or take "pcl" or "cross_entropy".',
        )
    if (prior or kind == "pcl") and (shares is None or shares.shape != logits.shape[1:]):
        raise InputError(
            found="no class shares" if shares is None else f"class shares of shape {tuple(shares.shape)}",
            expected=f"the shares of {logits.shape[1]} classes in the training rows",
            fix="Count them with class_shares.",
        )


def _grade_costs(shares: Tensor, propensity: float) -> Tensor:
    """[C, C]: cost of predicting grade c (column) for true grade y (row)."""
    grades = torch.arange(len(shares), device=shares.device)
    weight = shares**-propensity / (shares ** (1 - propensity)).sum()
    return weight[:, None] * (grades[:, None] - grades[None, :]).abs()


def _compat(logits: Tensor, target: Tensor) -> Tensor:
    classes = logits.shape[1]
    smooth = (1 - COMPAT_SMOOTHING) * target + COMPAT_SMOOTHING / classes
    entropy = -(smooth * F.log_softmax(logits, 1)).sum() / max(len(logits), 1)
    total = logits[:classes].argmax(1) + target[:classes].argmax(1)
    # For a sum of 1 the published code has another value that cannot occur: then predicted and true differ by 1.
    return entropy + (total >= 2).to(entropy).sum() * (COMPAT_SMOOTHING / COMPAT_DIVISOR) / classes
