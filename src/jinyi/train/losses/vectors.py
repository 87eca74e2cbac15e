"""Losses over sentence vectors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from jinyi.errors import InputError
from jinyi.train.losses.precision import exactly, wide


def info_nce(
    a: Tensor,
    b: Tensor,
    *,
    negatives: Tensor | None = None,
    keys_a: Tensor | None = None,
    keys_b: Tensor | None = None,
    keys_negatives: Tensor | None = None,
    temperature: float = 0.05,
    hard_negative_weight: float = 0.0,
    offset: int = 0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Each text against its partner among all others: -log softmax of the cosine / temperature.

    The loss of SimCSE (Gao et al. 2021, arXiv 2104.08821): unsupervised when `a` and `b` are the same texts under two
    dropout masks, supervised when `b` are their paraphrases, with `negatives` the supervised one with hard negatives.

    Args:
        a: vectors [n, d]; need not have length 1.
        b: vectors [m, d]: the partner of a[i] is b[offset + i], all other rows are its negatives. More rows than `a`
            when `b` was gathered from all processes (`jinyi.train.distributed.gather_rows` gives the offset too).
        negatives: more negatives for every row, [k, d].
        keys_a, keys_b, keys_negatives: int64 [n], [m], [k], equal for equal texts, all or none. A column whose text is
            the row's own text or that of its partner is left out: it is no negative.
        temperature: divides the cosine.
        hard_negative_weight: added to the logit of negatives[offset + i] in row i; needs k = m.
        offset: first column of `b` that belongs to `a`.
        reduction: "mean" or "sum" over the rows of `a`, or "none": [n].

    Returns:
        A scalar (0 for no rows), or [n].

    Raises:
        InputError: shapes do not fit, or keys are given in part.

    Cost: a matrix [n, m + k] in float32.
    """
    n, m = len(a), len(b)
    if not 0 <= offset <= m - n:
        raise InputError(
            found=f"{n} rows in a, {m} in b, offset {offset}",
            expected="a partner b[offset + i] for every a[i]",
            fix="Give the rows of b in the order of a, and the offset that the gather returned.",
        )
    if hard_negative_weight and (negatives is None or len(negatives) != m):
        raise InputError(
            found=f"hard_negative_weight {hard_negative_weight} and "
            f"{'no' if negatives is None else len(negatives)} negatives for {m} rows of b",
            expected="one hard negative for each row of b, in the same order",
            fix="Leave hard_negative_weight at 0 where negatives belong to no row.",
        )
    own = torch.arange(n, device=a.device)
    with exactly(a.device):
        columns = F.normalize(wide(b), dim=-1)
        if negatives is not None:
            columns = torch.cat((columns, F.normalize(wide(negatives), dim=-1)))
        logits = F.normalize(wide(a), dim=-1) @ columns.T / temperature
    if hard_negative_weight:
        raised = torch.zeros_like(logits)
        raised[own, m + offset + own] = hard_negative_weight
        logits = logits + raised
    same = _equal_texts(n, m, offset, negatives, keys_a, keys_b, keys_negatives)
    if same is not None:
        same[own, offset + own] = False
        logits = logits.masked_fill(same, -torch.inf)
    losses = torch.logsumexp(logits, 1) - logits[own, offset + own]
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / max(n, 1)


def _equal_texts(
    n: int,
    m: int,
    offset: int,
    negatives: Tensor | None,
    keys_a: Tensor | None,
    keys_b: Tensor | None,
    keys_negatives: Tensor | None,
) -> Tensor | None:
    """[n, m + k] bool: the column holds the text of the row or of its partner; None without keys."""
    if keys_a is None and keys_b is None and keys_negatives is None:
        return None
    k = 0 if negatives is None else len(negatives)
    sizes = [None if keys is None else len(keys) for keys in (keys_a, keys_b, keys_negatives)]
    if keys_a is None or keys_b is None or [size or 0 for size in sizes] != [n, m, k]:
        raise InputError(
            found=f"keys of {sizes[0]}, {sizes[1]} and {sizes[2]} rows for {n}, {m} and {k} vectors",
            expected="keys of a, b and negatives, or of none of them",
            fix="Give one key for each vector.",
        )
    columns = keys_b if keys_negatives is None else torch.cat((keys_b, keys_negatives))
    partners = keys_b[offset : offset + n]
    return (columns == keys_a[:, None]) | (columns == partners[:, None])


def cosent(cosines: Tensor, labels: Tensor, *, scale: float = 20.0) -> Tensor:
    """Pairs of higher label should have the higher cosine (CoSENT, Su 2022).

    log(1 + sum over labels[i] > labels[j] of exp(scale * (cosines[j] - cosines[i]))): nearly 0 when all pairs stand in
    the right order, which is what Spearman's correlation sees. Not a mean over rows: it grows with the logarithm of the
    batch.

    Args:
        cosines: of the pairs, [n].
        labels: graded or binary, [n].
        scale: of the differences; 20 in the author's code.

    Returns:
        A scalar; 0 when all labels are equal.

    Cost: a matrix [n, n] in float32.
    """
    values = wide(cosines)
    gaps = scale * (values[None, :] - values[:, None])
    ordered = labels[:, None] > labels[None, :]
    terms = gaps.masked_fill(~ordered, -torch.inf).flatten()
    return torch.logsumexp(torch.cat((terms.new_zeros(1), terms)), 0)


def supcon(vectors: Tensor, labels: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Texts of one topic together, of different topics apart (Khosla et al. 2020, arXiv 2004.11362, L_out).

    For row i with the other rows P(i) of its label: -1 / |P(i)| * sum over p in P(i) of
    log(exp(cos(i, p) / temperature) / sum over all a != i of exp(cos(i, a) / temperature)).

    Args:
        vectors: [n, d]; need not have length 1. Views of one text are rows of their own.
        labels: int64 [n].
        temperature: divides the cosine.

    Returns:
        The mean over the rows whose label occurs again; 0 when none does.

    Cost: a matrix [n, n] in float32.
    """
    with exactly(vectors.device):
        unit = F.normalize(wide(vectors), dim=-1)
        logits = unit @ unit.T / temperature
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    partners = positive.sum(1)
    # A row alone would have an empty sum: its own column stays in, and the row counts for nothing below.
    left_out = itself & (len(unit) > 1)
    log_p = logits - torch.logsumexp(logits.masked_fill(left_out, -torch.inf), 1, keepdim=True)
    losses = -(log_p * positive).sum(1) / partners.clamp_min(1)
    return losses.sum() / (partners > 0).sum().clamp_min(1)
