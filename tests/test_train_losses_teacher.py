"""Losses against a teacher; and all losses compute in float32 at least."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.autograd import gradcheck  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.losses import (  # noqa: E402
    KINDS,
    cosent,
    hidden_loss,
    info_nce,
    pair_loss,
    similarity_loss,
    soften,
    supcon,
    vector_loss,
)
from loss_checks import cosine, random  # noqa: E402


def test_soften() -> None:
    student, teacher = random(4, 3), random(4, 3, seed=1)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(v / 2) / sum(math.exp(u / 2) for u in t) for v in t]
        q = [math.exp(v / 2) / sum(math.exp(u / 2) for u in s) for v in s]
        total += sum(pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True))
    assert float(soften(student, teacher, 2.0)) == pytest.approx(4 * total / 4, abs=1e-12)
    assert float(soften(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-12)
    one, other = random(4), random(4, seed=1)
    two = [torch.stack((torch.zeros(4, dtype=torch.float64), z), 1) for z in (one, other)]
    for shape in ((4,), (4, 1)):
        torch.testing.assert_close(soften(one.view(shape), other.view(shape), 3.0), soften(*two, 3.0))
    assert gradcheck(lambda z: soften(z, teacher, 2.0), [student.requires_grad_()])


def test_vector_loss() -> None:
    student, teacher = random(4, 5), random(4, 5, seed=1)
    expected = sum(1 - cosine(s, t) for s, t in zip(student, teacher, strict=True)) / 4
    assert float(vector_loss(student, teacher)) == pytest.approx(expected, abs=1e-12)
    assert gradcheck(lambda v: vector_loss(v, teacher), [student.requires_grad_()])


def test_similarity_loss() -> None:
    student, teacher = random(4, 5), random(4, 7, seed=1)
    gaps = [
        cosine(student[i], student[j]) - cosine(teacher[i], teacher[j])
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    expected = sum(gap**2 for gap in gaps) / 12
    assert float(similarity_loss(student, teacher)) == pytest.approx(expected, abs=1e-12)
    assert similarity_loss(student[:1], teacher[:1]) == 0
    assert gradcheck(lambda v: similarity_loss(v, teacher), [student.requires_grad_()])


def test_hidden_loss() -> None:
    student, teacher = random(2, 3, 4), random(2, 3, 4, seed=1)
    real = torch.tensor([[True, True, False], [True, False, False]])
    squares = [
        (float(student[b, k, d]) - float(teacher[b, k, d])) ** 2
        for b in range(2)
        for k in range(3)
        if real[b, k]
        for d in range(4)
    ]
    assert float(hidden_loss(student, teacher, real)) == pytest.approx(sum(squares) / 12, abs=1e-12)
    torch.testing.assert_close(hidden_loss(student, teacher), F.mse_loss(student, teacher))
    assert gradcheck(lambda h: hidden_loss(h, teacher, real), [student.requires_grad_()])
    broken = teacher.masked_fill(~real[:, :, None], torch.inf)  # padding of the teacher may hold anything
    torch.testing.assert_close(hidden_loss(student, broken, real), hidden_loss(student, teacher, real))


@pytest.mark.parametrize("loss", [soften, vector_loss, hidden_loss, similarity_loss])
def test_teacher_losses(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = random(4, 5).requires_grad_(), random(4, 5, seed=1).requires_grad_()
    loss(student, teacher).backward()
    assert student.grad.any() and teacher.grad is None
    with pytest.raises(InputError, match="equal shapes"):
        loss(student, teacher[:3])
    assert loss(student[:0], teacher[:0]) == 0


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "info_nce": lambda x: info_nce(x, x.flip(0), negatives=x.flip(1), hard_negative_weight=0.5),
    "cosent": lambda x: cosent(x[:, 0], x[:, 1]),
    "supcon": lambda x: supcon(x, torch.arange(len(x)) // 2),
    **{
        kind: lambda x, kind=kind: pair_loss(
            x[:, :3], torch.arange(len(x)) % 3, kind=kind, shares=torch.tensor([0.25, 0.63, 0.12])
        )
        for kind in KINDS
    },
    "soften": lambda x: soften(x, x.flip(0), 2.0),
    "vectors": lambda x: vector_loss(x, x.flip(0)),
    "similarities": lambda x: similarity_loss(x, x[:, :9]),
    "hidden": lambda x: hidden_loss(x, x.flip(0)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_at_least_float32_whatever_comes(name: str, dtype: torch.dtype) -> None:
    x = random(12, 32).to(dtype)
    expected = CASES[name](x.float())
    with torch.autocast("cpu", torch.bfloat16):
        ours, inside = CASES[name](x), CASES[name](x.float())
    for value in (ours, inside):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    assert CASES[name](x.double()).dtype == torch.float64
