"""The generator over steps: gradients, accumulation, seeds, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.run import loop  # noqa: E402
from jinyi.train.run.loop import State, StepReport, evaluate, start, steps  # noqa: E402
from jinyi.train.run.machine import open_machine  # noqa: E402
from jinyi.train.task import Share  # noqa: E402
from toy_training import ToyTask, recipe  # noqa: E402

Hook = Callable[[ToyTask, State], None]


def go(
    count: int, *sets: str, dropout: float = 0.1, hook: Hook | None = None
) -> tuple[list[StepReport], ToyTask]:
    made = recipe(*sets)
    task = ToyTask(made, dropout=dropout)
    reports = []
    with open_machine(made.machine) as accelerator:
        state = start(task, made, accelerator)
        if hook is not None:
            hook(task, state)
        for report in steps(task, made, accelerator, state):
            reports.append(report)
            if len(reports) == count:
                break
    return reports, task


def weights(task: ToyTask) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in task.network.named_parameters()}


def gradients(found: dict[str, Any]) -> Hook:
    """Keep the gradients the optimiser gets in its first step."""

    def hook(task: ToyTask, state: State) -> None:
        original = state.optimizer.optimizer.step

        def step(closure: Any = None) -> Any:
            if not found:
                named = task.network.named_parameters()
                found.update({name: weight.grad.clone() for name, weight in named if weight.grad is not None})
            return original(closure)

        state.optimizer.optimizer.step = step

    return hook


def test_gradient_is_that_of_the_whole_batch() -> None:
    found: dict[str, Any] = {}
    sets = ("optimizer.clip=null", "batch.accumulate=3")  # 8 rows in parts of 3, 3 and 2
    reports, _ = go(1, *sets, dropout=0.0, hook=gradients(found))
    task = ToyTask(recipe(), dropout=0.0)
    loss, _ = task.loss(task.parts(0, Share())[0].inputs)
    loss.backward()
    assert reports[0].loss == pytest.approx(loss.item(), rel=1e-6)
    expected = {
        name: weight.grad for name, weight in task.network.named_parameters() if weight.grad is not None
    }
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    total = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in expected.values()))
    assert reports[0].norm == pytest.approx(total, rel=1e-5)


def test_clipping_reports_the_norm_before_it() -> None:
    found: dict[str, Any] = {}
    reports, _ = go(1, "optimizer.clip=0.01", hook=gradients(found))
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in found.values()))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert reports[0].norm > 0.02


def test_reports() -> None:
    reports, task = go(99, "schedule.steps=5", "schedule.warmup=1")
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    assert [report.lr / 0.002 for report in reports] == pytest.approx([0.5, 1, 0.75, 0.5, 0.25])
    assert all(report.tokens == 64 and 0 < report.seconds < 60 for report in reports)
    assert all(set(report.numbers) == {"right"} and 0 <= report.numbers["right"] <= 1 for report in reports)
    assert task.network.training
    assert all(weight.grad is None for weight in task.network.parameters())


def test_numbers_are_means_over_parts() -> None:
    class Counting(ToyTask):
        def loss(self, inputs: Any) -> tuple[Any, dict[str, float]]:
            value, _ = super().loss(inputs)
            rows = len(inputs["labels"])
            return value, {"rows": rows} | ({"twos": 5.0} if rows == 2 else {})

    made = recipe("batch.accumulate=3")
    with open_machine(made.machine) as accelerator:
        task = Counting(made)
        report = next(steps(task, made, accelerator, start(task, made, accelerator)))
    assert report.numbers == {"rows": pytest.approx((9 + 9 + 4) / 8), "twos": 5.0}


def test_a_step_depends_on_its_number_alone() -> None:
    """Dropout of step 4 is the same whatever random numbers were drawn before."""
    straight, _ = go(5)
    made = recipe()
    task = ToyTask(made)
    with open_machine(made.machine) as accelerator:
        state = start(task, made, accelerator)
        losses = []
        for report in steps(task, made, accelerator, state):
            losses.append(report.loss)
            torch.rand(17)
            evaluate(state)
            if report.step == 5:
                break
    assert losses == [report.loss for report in straight]
    other, _ = go(1, "seed=4")
    assert other[0].loss != losses[0]


def test_dropout_differs_between_steps_and_parts() -> None:
    class Same(ToyTask):
        def parts(self, step: int, share: Share) -> Any:
            part = super().parts(0, Share())[0]
            return [part, part]

        def loss(self, inputs: Any) -> Any:
            value, numbers = super().loss(inputs)
            seen.append(value.item())
            return value, numbers

    seen: list[float] = []
    made = recipe("optimizer.lr=1e-12")
    with open_machine(made.machine) as accelerator:
        task = Same(made)
        for report in steps(task, made, accelerator, start(task, made, accelerator)):
            if report.step == 2:
                break
    assert len(set(seen)) == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(value: float) -> None:
    made = recipe("batch.accumulate=2")
    task = ToyTask(made)
    task.broken[2] = value
    with open_machine(made.machine) as accelerator:
        state = start(task, made, accelerator)
        loop = steps(task, made, accelerator, state)
        next(loop), next(loop)
        before = weights(task)
        with pytest.raises(InputError) as caught:
            next(loop)
    text = str(caught.value)
    assert "step 3" in text and "toy.tsv, batch 2, part 1" in text and "optimizer.lr" in text
    assert state.step == 2
    assert all(torch.equal(before[name], weight) for name, weight in weights(task).items())


def test_a_gradient_that_is_not_finite() -> None:
    class Steep(ToyTask):
        def loss(self, inputs: Any) -> Any:
            value, numbers = super().loss(inputs)
            return value + 0 * (self.network.classifier.bias * 0).sqrt().sum(), numbers

    made = recipe()
    with open_machine(made.machine) as accelerator:
        task = Steep(made)
        before = weights(task)
        with pytest.raises(InputError, match="gradient norm nan"):
            next(steps(task, made, accelerator, start(task, made, accelerator)))
    assert all(torch.equal(before[name], weight) for name, weight in weights(task).items())


def test_a_batch_without_weight() -> None:
    class Empty(ToyTask):
        def parts(self, step: int, share: Share) -> Any:
            part = super().parts(step, share)[0]
            return [type(part)(part.inputs, weight=0.0, tokens=0)]

    made = recipe()
    with open_machine(made.machine) as accelerator:
        task = Empty(made)
        with pytest.raises(InputError, match="batch of weight 0"):
            next(steps(task, made, accelerator, start(task, made, accelerator)))


def test_layer_decay_sets_the_rates() -> None:
    made = recipe("optimizer.layer_decay=0.5", "schedule.warmup=0")
    with open_machine(made.machine) as accelerator:
        task = ToyTask(made)
        state = start(task, made, accelerator)
        next(steps(task, made, accelerator, state))
        assert sorted({group["lr"] for group in state.optimizer.param_groups}) == [0.0005, 0.001, 0.002]


def test_bfloat16_keeps_weights_in_float32() -> None:
    exact, _ = go(4, dropout=0.0)
    rounded, task = go(4, "machine.precision=bf16", dropout=0.0)
    losses = [report.loss for report in rounded]
    assert losses == pytest.approx([report.loss for report in exact], rel=0.02)
    assert losses != [report.loss for report in exact]
    assert {weight.dtype for weight in task.network.parameters()} == {torch.float32}


def test_machine_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    with open_machine(recipe("machine.threads=3").machine):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with (
        pytest.raises(InputError, match="no cuda device"),
        open_machine(recipe("machine.device=cuda").machine),
    ):
        pass


def test_only_the_process_with_the_bad_rows_names_them() -> None:
    made = recipe()
    task, losses = ToyTask(made), [torch.tensor(1.0)]
    parts = task.parts(0, Share(0, 2))
    with pytest.raises(InputError, match="rows of another process"):
        loop._check(task, Share(0, 2), parts, losses, 0, math.nan, 1.0, 8.0)
    with pytest.raises(InputError, match=r"toy\.tsv, batch 0, part 0 of process 1"):
        loop._check(task, Share(1, 2), parts, [torch.tensor(math.nan)], 0, math.nan, 1.0, 8.0)
