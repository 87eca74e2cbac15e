"""`jinyi.train.run.plan` against what a run then does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from jinyi.errors import InputError  # noqa: E402
from jinyi.train.build import build_task, share_here  # noqa: E402
from jinyi.train.recipe import Recipe, reading  # noqa: E402
from jinyi.train.run import plan, train  # noqa: E402
from jinyi.train.task import Share  # noqa: E402
from small_models import write_small  # noqa: E402

TEXTS = (
    "怎么改密码",
    "如何修登录密码",
    "今天天气很好",
    "不好",
    "体育新闻",
    "财经新闻是下面的一则",
    "关于天气",
)
RECIPE = """
name: toy
task: pair
data: {max_length: 32, train: [pairs.jsonl], dev: [{file: pairs.jsonl, name: dev, limit: 8}]}
start: {model: model}
batch: {rows: 8}
schedule: {epochs: 2}
evaluation: {every: 3}
objective: {outputs: 1}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_small(tmp_path / "model", "pair")
    rows = [
        {"texta": TEXTS[i % 7], "textb": TEXTS[(3 * i + 1) % 7] * (1 + i % 2), "label": i % 2}
        for i in range(41)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "pairs.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe_of(*sets: str) -> Recipe:
    return reading.parse(RECIPE, sets=["machine.threads=1", *sets])


def test_plan_is_what_the_run_does(toy: Path) -> None:
    recipe = recipe_of()
    found = plan.measure(recipe, build_task(recipe))
    task = build_task(recipe)
    assert (found.rows, found.epoch_steps, found.steps) == (41, task.epoch_steps, 2 * task.epoch_steps)
    assert found.parameters == sum(weight.numel() for weight in task.network.parameters())
    assert found.state_bytes == 16 * found.parameters
    result = train(recipe, task, folder=toy / "run", progress=False)
    lines = [
        json.loads(line) for line in (toy / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert result.steps == found.steps and result.tokens == found.tokens
    assert sum("dev" in line for line in lines) == found.evaluations
    assert set(found.scores) == set(result.scores)
    assert found.step_tokens == pytest.approx(result.tokens / result.steps)
    assert found.step_seconds == pytest.approx(found.step_tokens / found.tokens_per_second)
    expected = found.step_seconds * found.steps + found.evaluations * found.evaluation_seconds
    assert found.seconds == pytest.approx(expected)
    assert 1e7 < found.peak_bytes < found.memory_bytes


def test_measured_steps_hold_the_largest(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = plan.steps

    def spy(task, recipe, accelerator, state):
        for report in real(task, recipe, accelerator, state):
            seen.append(report.tokens)
            yield report

    monkeypatch.setattr(plan, "steps", spy)
    recipe = recipe_of()
    task = build_task(recipe)
    sizes = [sum(part.tokens for part in task.parts(step, Share())) for step in range(2 * task.epoch_steps)]
    found = plan.measure(recipe, task)
    assert seen[0] == max(sizes) and min(seen) == min(sizes)
    assert found.measured_steps == len(seen) - 1 == plan.MEASURED
    seen.clear()
    assert plan.measure(recipe, build_task(recipe), budget=0.0).measured_steps == 1


def test_plan_of_one_step_and_without_dev(toy: Path) -> None:
    found = plan.measure(recipe := recipe_of("schedule.steps=1", "data.dev=[]"), build_task(recipe))
    assert (found.steps, found.evaluations, found.evaluation_seconds, found.scores) == (1, 0, 0.0, {})


def test_the_model_folder_is_tried(toy: Path) -> None:
    recipe = recipe_of()
    found = plan.measure(recipe, build_task(recipe), folder=toy / "runs" / "new")
    assert sorted(path.name for path in toy.iterdir()) == ["model", "pairs.jsonl"], "nothing is left"
    result = train(recipe, build_task(recipe), folder=toy / "run", progress=False)
    files = sum(file.stat().st_size for file in result.model.rglob("*") if file.is_file())
    assert found.model_bytes == pytest.approx(files, rel=0.1)
    # A prompt that the finished model has no room for shows before training.
    rows = [{"text": text, "label": "体育"} for text in TEXTS]
    lines = "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, {**rows[0], "label": "财经"}]
    )
    (toy / "topics.jsonl").write_text(lines, encoding="utf-8")
    write_small(toy / "words", "mlm")
    topic = reading.parse(
        "{name: toy, task: topic, data: {train: [{file: topics.jsonl, prompts: ['下面是一则关于{}的新闻：']}], "
        "max_length: 32}, "
        "start: {model: words}, batch: {rows: 4}, schedule: {steps: 3}, objective: {}, output: {max_length: 10}, "
        "machine: {threads: 1}}"
    )
    with pytest.raises(InputError, match="10, of which .* the prompt take 15"):
        plan.measure(topic, build_task(topic))


def test_faults_are_found_before_training(toy: Path) -> None:
    recipe = recipe_of("optimizer.lr=1e-3")
    with pytest.raises(InputError) as error:
        plan.measure(wrong := recipe_of("evaluation.metric=bleu"), build_task(wrong))
    assert error.value.where == "evaluation.metric"
    if not torch.cuda.is_available():
        with pytest.raises(InputError) as error:
            plan.measure(wrong := recipe_of("machine.device=cuda"), build_task(wrong))
        assert error.value.where == "machine.device"
    wrong = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, lr=0.0))
    with pytest.raises(InputError) as error:
        build_task(wrong)
    assert error.value.where == "optimizer.lr"


def test_share_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert share_here() == Share(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share_here() == Share(2, 3)
