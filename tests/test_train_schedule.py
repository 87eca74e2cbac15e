"""Learning rates, lengths and parameter groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.network import Network  # noqa: E402
from jinyi.train.recipe import Optimizer, Schedule  # noqa: E402
from jinyi.train.run.schedule import (  # noqa: E402
    first_difference,
    interval,
    parameter_groups,
    rate,
    total_steps,
)
from small_models import CONFIG, MEGATRON  # noqa: E402


def rates(total: int, **fields: object) -> list[float]:
    return [rate(Schedule(**fields), step, total) for step in range(total)]


def test_linear_with_warmup_in_steps() -> None:
    assert rates(8, warmup=3) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])


def test_warmup_as_a_share_equals_it_in_steps() -> None:
    assert rates(20, warmup=0.25) == rates(20, warmup=5)


def test_minimum_is_where_the_decay_ends() -> None:
    schedule = Schedule(warmup=0, minimum=0.1)
    assert rate(schedule, 0, 10) == 1
    assert rate(schedule, 9, 10) == pytest.approx(0.1 + 0.9 * 0.1)
    assert rate(schedule, 10, 10) == pytest.approx(0.1)
    assert rate(schedule, 50, 10) == pytest.approx(0.1)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert rate(Schedule(warmup=0, shape="cosine"), 5, 10) == pytest.approx(0.5)
    assert rate(Schedule(warmup=0, shape="cosine", minimum=0.2), 5, 10) == pytest.approx(0.6)


def test_constant() -> None:
    assert rates(6, warmup=2, shape="constant") == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


def test_wsd_falls_over_its_last_share_only() -> None:
    assert rates(10, warmup=0, shape="wsd", decay=0.4) == pytest.approx([1] * 7 + [3 / 4, 2 / 4, 1 / 4])


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant", "wsd"])
@pytest.mark.parametrize("warmup", [0, 0.1, 7, 400])
def test_no_step_is_wasted(shape: str, warmup: float) -> None:
    values = rates(30, warmup=warmup, shape=shape)
    assert all(0 < value <= 1 for value in values)


def test_total_steps() -> None:
    assert total_steps(Schedule(steps=5), 100) == 5
    assert total_steps(Schedule(epochs=1.5), 7) == 10
    with pytest.raises(InputError, match="at least one step"):
        total_steps(Schedule(epochs=0.01), 7)


def test_interval() -> None:
    assert [interval(0.1, 50), interval(0.1, 3), interval(7, 50)] == [5, 1, 7]


def test_first_difference() -> None:
    constant = Schedule(steps=10, warmup=2, shape="constant")
    assert first_difference(constant, 10, replace(constant, steps=99), 99, 10) is None
    linear = Schedule(steps=10, warmup=2)
    assert first_difference(linear, 10, replace(linear, steps=99), 99, 10) == 3
    stable = Schedule(steps=100, warmup=2, shape="wsd", decay=0.5)
    assert first_difference(stable, 100, stable, 200, 50) is None
    assert first_difference(stable, 100, stable, 200, 52) == 51


@pytest.mark.parametrize("config", [CONFIG, MEGATRON])
def test_what_is_decayed(config: object) -> None:
    network = Network(config, mlm=True, outputs=2)  # type: ignore[arg-type]
    names = {id(weight): name for name, weight in network.named_parameters()}
    groups = parameter_groups(network, Optimizer(weight_decay=0.3))
    found = {names[id(weight)]: group["weight_decay"] for group in groups for weight in group["params"]}
    assert sorted(found) == sorted(names.values())
    for name, decay in found.items():
        plain = name.endswith("bias") or "LayerNorm" in name or ".ln." in name or "embeddings" in name
        assert decay == (0.0 if plain else 0.3), name
    assert {group["scale"] for group in groups} == {1.0}


def test_layer_decay_and_frozen_weights() -> None:
    network = Network(CONFIG, outputs=2)
    network.encoder.embeddings.position_embeddings.weight.requires_grad_(False)
    groups = parameter_groups(network, Optimizer(layer_decay=0.5))
    scale = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    layers = network.encoder.encoder.layer
    assert scale[id(network.classifier.weight)] == scale[id(layers[1].intermediate.dense.weight)] == 1
    assert scale[id(layers[0].intermediate.dense.bias)] == 0.5
    assert scale[id(network.encoder.embeddings.word_embeddings.weight)] == 0.25
    assert id(network.encoder.embeddings.position_embeddings.weight) not in scale
    with pytest.raises(InputError, match="no weight that is trained"):
        parameter_groups(network.requires_grad_(False), Optimizer())


def test_a_warm_up_as_long_as_the_run_is_told() -> None:
    with pytest.warns(UserWarning, match="warmup is 400 steps of a run of 30"):
        assert total_steps(Schedule(steps=30, warmup=400), 10) == 30
