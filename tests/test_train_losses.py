"""Losses over sentence vectors, against loops in float64 and finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.autograd import gradcheck  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.losses import cosent, info_nce, supcon  # noqa: E402
from loss_checks import cosine, gradient, random  # noqa: E402


def slow_info_nce(
    a: Tensor,
    b: Tensor,
    negatives: Tensor,
    keys: tuple[Tensor, Tensor, Tensor] | None,
    temperature: float,
    weight: float,
    offset: int,
) -> list[float]:
    losses = []
    for i in range(len(a)):
        own = offset + i
        terms = []
        for j, column in enumerate([*b, *negatives]):
            if keys is not None and j != own:
                key = torch.cat(keys[1:])[j]
                if key == keys[0][i] or key == keys[1][own]:
                    continue
            terms.append(cosine(a[i], column) / temperature + weight * (j == len(b) + own))
        positive = cosine(a[i], b[own]) / temperature
        losses.append(math.log(sum(math.exp(term) for term in terms)) - positive)
    return losses


KEYS = torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3, 2, 5, 4]), torch.tensor([9, 7, 2, 8, 3, 10])


@pytest.mark.parametrize("offset", [0, 2, 3])
@pytest.mark.parametrize("keys", [None, KEYS], ids=["", "keys"])
@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_info_nce(offset: int, keys: tuple[Tensor, Tensor, Tensor] | None, weight: float) -> None:
    a, b, negatives = random(3, 4), random(6, 4, seed=1), random(6, 4, seed=2)
    named = {} if keys is None else {"keys_a": keys[0], "keys_b": keys[1], "keys_negatives": keys[2]}

    def loss(a: Tensor, b: Tensor, negatives: Tensor, **options: Any) -> Tensor:
        return info_nce(
            a, b, negatives=negatives, hard_negative_weight=weight, temperature=0.3, offset=offset,
            **named, **options,
        )  # fmt: skip

    expected = slow_info_nce(a, b, negatives, keys, 0.3, weight, offset)
    each = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(loss(a, b, negatives, reduction="none"), each, rtol=0, atol=1e-12)
    assert float(loss(a, b, negatives, reduction="sum")) == pytest.approx(sum(expected), abs=1e-12)
    assert float(loss(a, b, negatives)) == pytest.approx(sum(expected) / 3, abs=1e-12)
    assert gradcheck(loss, [x.requires_grad_() for x in (a, b, negatives)])


def test_info_nce_is_cross_entropy_of_simcse() -> None:
    a, b = F.normalize(random(5, 8), dim=-1), F.normalize(random(5, 8, seed=1), dim=-1)
    expected = F.cross_entropy(a @ b.T / 0.05, torch.arange(5))
    torch.testing.assert_close(info_nce(a, b), expected)
    torch.testing.assert_close(info_nce(3 * a, b / 7), expected)


def test_equal_texts_are_no_negatives() -> None:
    a, b = random(3, 4), random(3, 4, seed=1)
    keys = {"keys_a": torch.tensor([1, 2, 3]), "keys_b": torch.tensor([4, 5, 4])}  # b[2] is b[0] again
    pull = gradient(lambda b: info_nce(a, b, **keys, reduction="none")[0], b)
    assert pull[0].abs().sum() > 0 and pull[1].abs().sum() > 0
    assert not pull[2].any()
    # The partner itself stays, even where it is the row's own text (unsupervised SimCSE).
    same = torch.tensor([1, 1, 1])
    assert info_nce(a, b, keys_a=same, keys_b=same) == 0
    assert info_nce(a, b, keys_a=torch.arange(3), keys_b=torch.arange(3)) == info_nce(a, b)


def test_info_nce_of_no_rows_has_a_gradient() -> None:
    a, b = random(0, 4).requires_grad_(), random(3, 4).requires_grad_()
    loss = info_nce(a, b, offset=3)
    loss.backward()
    assert loss == 0 and b.grad is not None and not b.grad.any()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("offset 4", {"offset": 4}),
        ("offset -1", {"offset": -1}),
        ("one hard negative for each row", {"hard_negative_weight": 1.0}),
        ("one hard negative for each row", {"hard_negative_weight": 1.0, "negatives": random(2, 4)}),
        ("one key for each", {"keys_a": torch.arange(3)}),
        ("one key for each", {"keys_b": torch.arange(6)}),
        ("one key for each", {"keys_a": torch.arange(3), "keys_b": torch.arange(5)}),
        (
            "one key for each",
            {"keys_a": torch.arange(3), "keys_b": torch.arange(6), "negatives": random(2, 4)},
        ),
    ],
)
def test_info_nce_refuses(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        info_nce(random(3, 4), random(6, 4), **options)


def test_cosent() -> None:
    cosines, labels = torch.tanh(random(6)), torch.tensor([0.0, 1.0, 3.0, 1.0, 5.0, 0.0])
    total = 0.0
    for i in range(6):
        for j in range(6):
            if labels[i] > labels[j]:
                total += math.exp(7 * (float(cosines[j]) - float(cosines[i])))
    assert float(cosent(cosines, labels, scale=7)) == pytest.approx(math.log(1 + total), abs=1e-12)
    assert gradcheck(lambda c: cosent(c, labels), [cosines.requires_grad_()])


def test_cosent_of_equal_labels() -> None:
    for size in (0, 1, 4):
        cosines = random(size).requires_grad_()
        loss = cosent(cosines, torch.ones(size))
        loss.backward()
        assert loss == 0 and not cosines.grad.any()


def test_supcon() -> None:
    vectors, labels = random(7, 4), torch.tensor([0, 1, 0, 2, 1, 0, 3])
    losses = []
    for i in range(7):
        partners = [p for p in range(7) if p != i and labels[p] == labels[i]]
        if partners:
            total = sum(math.exp(cosine(vectors[i], vectors[a]) / 0.2) for a in range(7) if a != i)
            logs = [cosine(vectors[i], vectors[p]) / 0.2 - math.log(total) for p in partners]
            losses.append(-sum(logs) / len(partners))
    assert len(losses) == 5
    ours = supcon(vectors, labels, temperature=0.2)
    assert float(ours) == pytest.approx(sum(losses) / 5, abs=1e-12)
    assert gradcheck(lambda v: supcon(v, labels, temperature=0.2), [vectors.requires_grad_()])


@pytest.mark.parametrize("size", [0, 1, 3])
def test_supcon_without_partners(size: int) -> None:
    vectors = random(size, 4).requires_grad_()
    loss = supcon(vectors, torch.arange(size))
    loss.backward()
    assert loss == 0 and not vectors.grad.any()
