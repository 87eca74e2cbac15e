"""The fast ways of training compute what the plain ones do: packing, products, dropout, checkpointing, first tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from jinyi.config import EncoderConfig  # noqa: E402
from jinyi.runtime.torch_attention import attend  # noqa: E402
from jinyi.runtime.torch_dropout import add_dropped, draw_kept, dropout, gain  # noqa: E402
from jinyi.runtime.torch_encoder import TorchEncoder  # noqa: E402
from jinyi.runtime.torch_packing import Packing, collect, pays, spread  # noqa: E402

BERT = EncoderConfig(
    vocab_size=40,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SHAPES = {"bert": BERT, "megatron": replace(BERT, pre_layer_norm=True)}
LENGTHS = [3, 17, 1, 30, 5, 5, 17, 2, 29, 8]


def encoder(config: EncoderConfig) -> TorchEncoder:
    """Random weights, large enough that every sublayer matters."""
    torch.manual_seed(1)
    made = TorchEncoder(config)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.2 * torch.randn(weight.shape)
    return made


def rows(lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, lengths and segments of a padded batch; padding holds arbitrary ids."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(40, (len(lengths), max(lengths)), generator=generator)
    segments = torch.randint(2, ids.shape, generator=generator)
    return ids, torch.tensor(lengths), segments


def outcome(model: TorchEncoder, run: Callable[[], list[Tensor]], read: Callable[[Tensor], Tensor]) -> list:
    """What is read of the last state, and the gradient of every weight for a sum with fixed random factors."""
    model.zero_grad()
    value = read(run()[-1])
    factors = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=value.dtype)
    (value * factors).sum().backward()
    return [value.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


def assert_equal(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-6) -> None:
    assert len(one) == len(other) > 10
    for a, b in zip(one, other, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_packed_equals_padded(name: str, dtype: Any) -> None:
    """Every state's real tokens, and all gradients; a mask instead of lengths is the padded way."""
    model = encoder(SHAPES[name]).to(dtype)
    ids, lengths, segments = rows()
    assert pays(lengths, ids.shape[1])
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    packed = model(ids, lengths, segments)
    padded = model(ids, None, segments, mask=real[:, None, None])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5  # values reach 10
    for one, other in zip(packed, padded, strict=True):
        assert one.shape == other.shape == (*ids.shape, 24)
        assert (one - other)[real].abs().max() < tolerance
        assert not one[~real].any()
    assert_equal(
        outcome(model, lambda: model(ids, lengths, segments), lambda last: last[real]),
        outcome(model, lambda: model(ids, None, segments, mask=real[:, None, None]), lambda last: last[real]),
        1e-12 if dtype == torch.float64 else 1e-5,
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("lengths", [LENGTHS, [9, 9, 8], [4, 4]], ids=["packed", "padded", "full"])
def test_first_tokens_alone_equal_the_whole_layer(name: str, lengths: list[int]) -> None:
    model = encoder(SHAPES[name]).double()
    ids, counts, segments = rows(lengths)
    last = model(ids, counts, segments, first=True)[-1]
    assert last.shape == (len(lengths), 1, 24)
    assert_equal(
        outcome(model, lambda: model(ids, counts, segments, first=True), lambda last: last[:, 0]),
        outcome(model, lambda: model(ids, counts, segments), lambda last: last[:, 0]),
        1e-12,
    )


def test_first_tokens_with_a_mask_of_all_positions() -> None:
    model = encoder(BERT).double()
    ids, _, segments = rows([6, 6])
    mask = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(4)) < 0.5
    mask |= torch.eye(6, dtype=torch.bool)
    whole = model(ids, None, segments, mask=mask)[-1][:, 0]
    assert (model(ids, None, segments, mask=mask, first=True)[-1][:, 0] - whole).abs().max() < 1e-12


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("lengths", [LENGTHS, [9, 9, 8]], ids=["packed", "padded"])
def test_checkpointing_changes_no_gradient(name: str, lengths: list[int]) -> None:
    """With dropout: layers computed again drop the same elements."""
    config = replace(SHAPES[name], hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    model = encoder(config).train()
    ids, counts, segments = rows(lengths)
    found = []
    for model.checkpointing in (False, True):
        torch.manual_seed(5)
        found.append(outcome(model, lambda: model(ids, counts, segments), lambda last: last[:, 0]))
    assert_equal(*found, tolerance=0.0)


def test_checkpointing_keeps_less() -> None:
    model = encoder(replace(BERT, num_hidden_layers=2, hidden_dropout_prob=0.1))
    ids = torch.randint(40, (4, 32))
    kept = []
    for model.checkpointing in (False, True):
        total = 0

        def pack(x: Tensor) -> Tensor:
            nonlocal total
            total += x.numel() * x.element_size()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(ids)[-1].sum()
        kept.append(total)
    assert kept[1] < kept[0] / 4


def test_packing_is_left_out_where_little_is_padded() -> None:
    assert pays(torch.tensor([1, 10]), 10)
    assert not pays(torch.tensor([9, 10]), 10)
    model = encoder(BERT)
    ids, lengths, _ = rows([29, 30])
    assert model(ids, lengths)[-1][0, 29].any(), "computed as padded rows"


def test_packing_lays_rows_end_to_end() -> None:
    lengths = torch.tensor([5, 2, 30, 3])
    packing = Packing(lengths, 30)
    assert packing.columns.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3, 4, *range(30)]
    assert packing.places.tolist() == [30, 31, 90, 91, 92, 0, 1, 2, 3, 4, *range(60, 90)]
    assert packing.firsts.tolist() == [0, 2, 5, 10]
    assert packing.order.tolist() == [2, 0, 3, 1]
    assert [(group.rows, group.length, group.tokens) for group in packing.groups] == [(3, 5, 10), (1, 30, 30)]
    assert packing.groups[1].mask is None


def test_spread_and_collect_are_each_others_gradient() -> None:
    places = torch.tensor([4, 0, 2])
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    wide = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: spread(x, places, 6), (x,))
    assert torch.autograd.gradcheck(lambda x: collect(x, places), (wide,))
    assert torch.equal(collect(spread(x, places, 6), places), x)


def test_products_of_attention_pass_gradcheck() -> None:
    """With queries of fewer places than keys, masked keys, and dropout held by its seed."""
    inputs = [torch.randn(2, 2, n, 3, dtype=torch.float64, requires_grad=True) for n in (2, 4, 4)]
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])[:, None, None]

    def held(*inputs: Tensor) -> Tensor:
        torch.manual_seed(6)
        return attend(*inputs, mask, 0.3)

    assert torch.autograd.gradcheck(held, inputs)
    assert torch.autograd.gradcheck(lambda *inputs: attend(*inputs, mask, 0.0), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
def test_dropout_drops_the_asked_share_and_keeps_the_mean(rate: float, dtype: Any) -> None:
    torch.manual_seed(7)
    x = torch.ones(300, 700, dtype=dtype, requires_grad=True)
    dropped = dropout(x, rate)
    share = (dropped == 0).double().mean()
    assert abs(float(share) - rate) < 5 * (rate * (1 - rate) / x.numel()) ** 0.5
    assert set(dropped.detach().unique().tolist()) == {0.0, float(torch.tensor(gain(rate), dtype=dtype))}
    assert gain(rate) == pytest.approx(1 / (1 - rate), rel=1e-2 if rate > 0.9 else 1e-4)
    dropped.backward(torch.full_like(dropped, 2.0))
    assert x.grad is not None and torch.equal(x.grad, 2 * dropped.detach())


def test_dropout_follows_the_seed_alone() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.stack([draw_kept(torch.Size((50, 9)), 0.5) for _ in range(2)])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(*draw(1)), "each draw is another"
    together = draw(3).double().flatten(1)
    assert abs(float(torch.corrcoef(together)[0, 1])) < 0.2


@pytest.mark.parametrize("kinds", [(torch.float32, torch.bfloat16), (torch.float64, torch.float64)])
def test_add_dropped_is_the_sum(kinds: tuple[Any, Any]) -> None:
    x = torch.randn(6, 5, dtype=kinds[0], requires_grad=True)
    branch = torch.randn(6, 5, dtype=kinds[1], requires_grad=True)
    slope = torch.randn(6, 5, dtype=kinds[0])
    found = []
    for total in (lambda: add_dropped(x, branch, 0.4), lambda: x + dropout(branch, 0.4)):
        torch.manual_seed(8)
        x.grad = branch.grad = None
        value = total()
        value.backward(slope)
        found.append((value.detach(), x.grad, branch.grad))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() < (0.03 if torch.bfloat16 in kinds else 1e-12)


def test_rates_at_the_ends() -> None:
    x = torch.randn(4, 4)
    assert torch.equal(dropout(x, 0.0), x)
    assert not dropout(x, 1.0).any()
    assert torch.equal(add_dropped(x, x, 0.0), 2 * x)
    assert torch.equal(add_dropped(x, x, 1.0), x)


def test_training_learns_as_with_pytorchs_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small language model ends at the same loss, in bfloat16 too."""
    config = replace(BERT, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    ids = torch.randint(40, (16, 12), generator=torch.Generator().manual_seed(9))

    def learn(half: bool) -> float:
        torch.manual_seed(10)
        model = TorchEncoder(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(60):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                states = model(ids)[-1]
                loss = F.cross_entropy(
                    (states @ model.embeddings.word_embeddings.weight.T).float().flatten(0, 1), ids.flatten()
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    ours = [learn(half) for half in (False, True)]
    monkeypatch.setattr("jinyi.runtime.torch_dropout.fast", lambda x, rate: False)
    monkeypatch.setattr("jinyi.runtime.torch_attention.fast", lambda x, rate: False)
    theirs = learn(False)
    assert theirs < 1.0
    assert ours == pytest.approx([theirs, theirs], abs=0.15)


@pytest.mark.slow
def test_the_benchmark_prints_its_table(tmp_path: Path) -> None:
    """Both sides train on the same rows; no timing is asserted."""
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "training.py"
    file = tmp_path / "result.json"
    options = ["--quick", "--rounds", "1", "--threads", "1", "--sections", "tiny-pair"]
    options += ["--only", "jinyi-fp32,hf"]
    command = [sys.executable, str(script), *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))["sections"][0]
    assert found["failed"] == {} and set(found["systems"]) == {"jinyi-fp32", "hf"}
    for values in found["systems"].values():
        assert values["rounds"][0]["tokens"] > 64
        assert 0.3 < values["rounds"][0]["losses"][0] < 1.2, "two classes, random weights"
    assert "Trainer, defaults" in done.stdout
