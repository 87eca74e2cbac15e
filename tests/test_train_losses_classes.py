"""Losses of logits against labels, against loops in float64 and finite differences."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.autograd import gradcheck  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.losses import KINDS, class_shares, pair_loss  # noqa: E402
from jinyi.train.recipe import PairObjective  # noqa: E402
from loss_checks import gradient, random  # noqa: E402

SHARES = [0.25, 0.63, 0.12]


def slow_pair_loss(
    logits: list[list[float]],
    targets: list[list[float]],
    kind: str,
    smoothing: float,
    gamma: float,
    prior: float,
    order_weight: float,
    propensity: float,
    shares: list[float],
) -> float:
    classes, total = len(shares), 0.0
    for z, t in zip(logits, targets, strict=True):
        adjusted = [z[c] + prior * math.log(shares[c]) for c in range(classes)]
        log_sum = math.log(sum(math.exp(value) for value in adjusted))
        for c in range(classes):
            log_p = adjusted[c] - log_sum
            term = -((1 - smoothing) * t[c] + smoothing / classes) * log_p
            total += term * (1 - math.exp(log_p)) ** gamma if kind == "focal" else term
        if kind == "pcl":
            p = [math.exp(z[c]) / sum(math.exp(value) for value in z) for c in range(classes)]
            scale = sum(share ** (1 - propensity) for share in shares)
            for y in range(classes):
                weight = shares[y] ** -propensity / scale
                total += order_weight * t[y] * weight * sum(p[c] * abs(y - c) for c in range(classes))
    return total / len(logits)


LABELS = torch.tensor([0, 2, 1, 1, 0])
SOFT = random(5, 3, seed=3).softmax(1)


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "pcl"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("prior", [0.0, 1.3])
@pytest.mark.parametrize("form", ["classes", "distributions", "one logit", "one column"])
def test_pair_loss(kind: str, smoothing: float, prior: float, form: str) -> None:
    options = {
        "kind": kind, "smoothing": smoothing, "gamma": 1.7, "prior": prior, "order_weight": 0.8, "propensity": 0.4
    }  # fmt: skip
    if form in ("classes", "distributions"):
        shares, logits = SHARES, 2 * random(5, 3)
        targets = LABELS if form == "classes" else SOFT
        slow_logits, slow_targets = logits.tolist(), (F.one_hot(LABELS, 3) if form == "classes" else SOFT)
    else:
        shares, logits = [0.7, 0.3], 2 * random(5)
        targets = torch.tensor([0.0, 1.0, 0.25, 1.0, 0.0], dtype=torch.float64)
        slow_logits, slow_targets = [[0.0, float(z)] for z in logits], torch.stack((1 - targets, targets), 1)
        logits = logits[:, None] if form == "one column" else logits
    options["shares"] = torch.tensor(shares, dtype=torch.float64)
    expected = slow_pair_loss(
        slow_logits, slow_targets.tolist(), kind, smoothing, 1.7, prior, 0.8, 0.4, shares
    )
    assert float(pair_loss(logits, targets, **options)) == pytest.approx(expected, abs=1e-12)
    assert gradcheck(lambda z: pair_loss(z, targets, **options), [logits.requires_grad_()])


def test_pair_loss_is_the_usual_cross_entropy() -> None:
    logits = random(5, 3)
    torch.testing.assert_close(pair_loss(logits, LABELS), F.cross_entropy(logits, LABELS))
    smooth = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(pair_loss(logits, LABELS, smoothing=0.1), smooth)
    torch.testing.assert_close(pair_loss(logits, LABELS, kind="focal", gamma=0.0), pair_loss(logits, LABELS))
    one, binary = random(5), torch.tensor([0, 1, 1, 0, 1])
    usual = F.binary_cross_entropy_with_logits(one, binary.double())
    for logits, targets in (
        (one, binary),
        (one[:, None], binary),
        (one, binary.bool()),
        (one, binary.float()),
    ):
        torch.testing.assert_close(pair_loss(logits, targets), usual)


def test_kinds_are_those_of_the_recipe() -> None:
    assert get_args(get_type_hints(PairObjective)["loss"]) == KINDS


def slow_compat(logits: Tensor, targets: Tensor) -> float:
    """The published code, step by step."""
    classes, eps = logits.shape[1], 0.1
    log_p = [[float(z) - math.log(sum(math.exp(float(v)) for v in row)) for z in row] for row in logits]
    uniform = sum(-sum(row) for row in log_p) / len(log_p)
    nll = sum(-row[int(y)] for row, y in zip(log_p, targets, strict=True)) / len(log_p)
    k = 0.0
    for i in range(classes):
        said, true = int(logits[i].argmax()), int(targets[i])
        if said + true == 1:
            k += 0 if abs(said - true) == 1 else -eps * 0.5945275813408382
        elif said + true >= 2:
            k += eps / 0.32447699714575207
    return eps / classes * uniform + (1 - eps) * nll + k / classes


def test_compat_is_the_published_value() -> None:
    seen = set()
    for seed in range(40):
        logits = 2 * random(5, 3, seed=seed)
        targets = torch.randint(0, 3, (5,), generator=torch.Generator().manual_seed(seed))
        ours = pair_loss(logits, targets, kind="pcl_compat")
        assert float(ours) == pytest.approx(slow_compat(logits, targets), abs=1e-12)
        seen.add(round(float(ours - pair_loss(logits, targets, smoothing=0.1)), 4))
    assert seen == {0.0, 0.1027, 0.2055, 0.3082}


def test_compat_has_the_gradient_of_label_smoothing_and_pcl_has_one_of_its_own() -> None:
    logits, shares = 2 * random(5, 3), torch.tensor(SHARES, dtype=torch.float64)
    smooth = gradient(lambda z: pair_loss(z, LABELS, smoothing=0.1), logits)
    compat = gradient(lambda z: pair_loss(z, LABELS, kind="pcl_compat"), logits)
    torch.testing.assert_close(compat, smooth, rtol=0, atol=1e-15)
    ours = gradient(lambda z: pair_loss(z, LABELS, kind="pcl", smoothing=0.1, shares=shares), logits)
    alone = gradient(
        lambda z: pair_loss(z, LABELS, kind="pcl", smoothing=0.1, order_weight=0, shares=shares), logits
    )
    torch.testing.assert_close(alone, smooth, rtol=0, atol=1e-15)
    # Another direction, not a longer step.
    assert F.cosine_similarity(ours.flatten(), smooth.flatten(), dim=0) < 0.999
    undecided, lowest = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])
    entropy = gradient(lambda z: pair_loss(z, lowest), undecided)[0]
    ordered = gradient(lambda z: pair_loss(z, lowest, kind="pcl", shares=shares), undecided)[0]
    assert entropy[1] == entropy[2] and ordered[2] > ordered[1] + 0.1


def test_compat_of_small_batches() -> None:
    logits, targets = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([2])
    gap = pair_loss(logits, targets, kind="pcl_compat") - pair_loss(logits, targets, smoothing=0.1)
    assert float(gap) == pytest.approx(0.1 / 0.32447699714575207 / 3, abs=1e-6)


def test_pcl_knows_order_and_rarity() -> None:
    shares = torch.tensor(SHARES, dtype=torch.float64)

    def order(p: list[float], label: int, propensity: float = 0.5) -> float:
        logits, targets = torch.tensor([p], dtype=torch.float64).log(), torch.tensor([label])
        options = {"kind": "pcl", "shares": shares, "propensity": propensity}
        without = pair_loss(logits, targets, order_weight=0.0, **options)
        return float(pair_loss(logits, targets, **options) - without)

    # The same chance for the true grade 0, the rest on grade 1 or on grade 2: cross-entropy sees no difference.
    assert order([0.5, 0.1, 0.4], 0) > order([0.5, 0.4, 0.1], 0)
    # The same mistake on a rare grade and on a common one.
    assert order([0.1, 0.45, 0.45], 2) > order([0.45, 0.1, 0.45], 1) * 1.2
    # Without propensity all grades weigh 1, with it the mean over the training rows is 1.
    assert order([0.0001, 0.0001, 0.9998], 1, propensity=0.0) == pytest.approx(0.9999, abs=1e-9)
    far = [order([0.2, 0.3, 0.5], y) / order([0.2, 0.3, 0.5], y, propensity=0.0) for y in range(3)]
    assert sum(w * share for w, share in zip(far, SHARES, strict=True)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_certain_rows_is_finite(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [40.0, 0.0]])
    targets = torch.tensor([0, 0, 0])
    grad = gradient(lambda z: pair_loss(z, targets, kind="focal", gamma=gamma), logits)
    assert torch.isfinite(grad).all()


def test_class_shares() -> None:
    shares = class_shares(torch.tensor([0, 2, 2, 2]), 4)
    torch.testing.assert_close(shares, torch.tensor([2, 1, 4, 1], dtype=torch.float64) / 8)
    torch.testing.assert_close(
        class_shares(torch.tensor([0.0, 1.0, 0.9]), 2), torch.tensor([2, 3]).double() / 5
    )


@pytest.mark.parametrize(
    ("message", "logits", "targets", "options"),
    [
        ("loss 'hinge'", random(5, 3), LABELS, {"kind": "hinge"}),
        ("no class shares", random(5, 3), LABELS, {"kind": "pcl"}),
        ("no class shares", random(5, 3), LABELS, {"prior": 1.0}),
        ("the shares of 2 classes", random(5), LABELS.bool(), {"prior": 1.0, "shares": torch.tensor(SHARES)}),
        ("smoothing of 0.1 built in", random(5, 3), LABELS, {"kind": "pcl_compat", "smoothing": 0.1}),
        ("smoothing of 0.1 built in", random(5, 3), LABELS, {"kind": "pcl_compat", "prior": 1.0}),
        ("one label for each row", random(4, 3), LABELS, {}),
        ("one label for each row", random(5, 3), LABELS.double(), {}),
        ("one label for each row", random(5, 4), SOFT, {}),
        ("one label for each row", random(5, 1), LABELS[:, None], {}),
        ("one label for each row", random(5, 3, 2), LABELS, {}),
    ],
)
def test_pair_loss_refuses(message: str, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        pair_loss(logits, targets, **options)
