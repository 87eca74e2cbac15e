"""Whole runs: resumed bit for bit, on one process and on several, and everything a run's folder holds."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import math
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import forked  # noqa: E402
import toy_training as toy  # noqa: E402
from jinyi.errors import FolderError, InputError  # noqa: E402
from jinyi.folder import atomic, read_folder, verify_folder  # noqa: E402
from jinyi.train.recipe import DistillObjective, Start  # noqa: E402
from jinyi.train.run import checkpoint, curves, train  # noqa: E402
from jinyi.train.run.journal import read_log  # noqa: E402
from jinyi.train.run.outcome import data_hashes  # noqa: E402
from small_models import random_weights, write_small  # noqa: E402

LONG = ("schedule.steps=40", "checkpoint.every=5", "evaluation.every=20", "batch.accumulate=2")
"""40 steps of two parts, 7 steps an epoch: step 20 is in the middle of one."""


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: runs sync every file, and each sync would wait for a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def tmp_path(memory: Path, request: pytest.FixtureRequest) -> Path:
    path = memory / hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    path.mkdir()
    return path


@pytest.fixture
def drawn() -> None:
    """Asks for curves."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No curves otherwise: drawing takes longer than these runs."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(curves, "draw", lambda *arguments: None)


def killed(folder: Path, at: int, *sets: str, **options: Any) -> None:
    """Begin a run that dies when it asks for batch `at`."""
    made = toy.recipe(*sets)
    task = toy.dies(toy.ToyTask(made), at, toy.leave)
    with pytest.raises(toy.Killed):
        train(made, task, folder=folder, progress=False, **options)


def log(folder: Path) -> list[dict[str, Any]]:
    """The log without times."""
    return [
        {key: value for key, value in entry.items() if key != "seconds"}
        for entry in read_log(folder / "log.jsonl")
    ]


def same(one: Path, other: Path) -> None:
    """Logs, last checkpoints and models of two runs agree in every bit."""
    assert log(one) == log(other)
    for a, b in zip(*(checkpoint.listed(path / "checkpoints") for path in (one, other)), strict=True):
        assert a.name == b.name
        for name in (checkpoint.NETWORK, checkpoint.OPTIMIZER):
            assert (a / name).read_bytes() == (b / name).read_bytes(), (a.name, name)
    for name in ("best", "last"):
        assert (one / name / "model.safetensors").read_bytes() == (
            other / name / "model.safetensors"
        ).read_bytes()


@pytest.fixture(scope="module")
def straight(memory: Path) -> Path:
    folder = memory / "straight"
    result, _ = toy.run(folder, *LONG)
    assert result.steps == 40 and result.why == "finished"
    return folder


@pytest.mark.parametrize("moments", [(22,), (3, 13, 27, 39)])
def test_killed_and_resumed_is_straight(tmp_path: Path, straight: Path, moments: tuple[int, ...]) -> None:
    for at in moments:
        killed(tmp_path, at, *LONG, resume=True)
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and 0 <= moments[-1] - found.step <= 6
    result, task = toy.run(tmp_path, *LONG, resume=True)
    assert (result.steps, result.why) == (40, "finished")
    assert result.tokens == 40 * 8 * toy.LENGTH
    same(straight, tmp_path)


def test_a_finished_run_stays_as_it_is(tmp_path: Path, straight: Path) -> None:
    toy.run(tmp_path, *LONG)
    result, _ = toy.run(tmp_path, *LONG, resume=True)
    assert result.loss is None and result.steps == 40 and result.model == tmp_path / "best"
    same(straight, tmp_path)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_one_interval(tmp_path: Path, straight: Path) -> None:
    killed(tmp_path, 22, *LONG)
    os.truncate(tmp_path / "checkpoints/step-00000020/network.safetensors", 100)
    with pytest.warns(UserWarning, match="damaged checkpoint passed over"):
        result, _ = toy.run(tmp_path, *LONG, resume=True)
    same(straight, tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_and_resume_goes_on(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    original = atomic._sync_directory

    def full(path: Path) -> None:
        if "step-00000025" in path.name:
            raise OSError(code, os.strerror(code))
        original(path)

    monkeypatch.setattr(atomic, "_sync_directory", full)
    with pytest.raises(FolderError, match=os.strerror(code)):
        toy.run(tmp_path, *LONG)
    monkeypatch.undo()
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found.step == 20
    toy.run(tmp_path, *LONG, resume=True)
    same(straight, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends(tmp_path: Path, straight: Path, number: int) -> None:
    made = toy.recipe(*LONG)
    task = toy.dies(toy.ToyTask(made), 12, lambda: os.kill(os.getpid(), number))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    result = train(made, task, folder=tmp_path, progress=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert result.why == "interrupted" and 12 <= result.steps <= 14
    assert not (tmp_path / "last").exists()
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found.step == result.steps
    again, _ = toy.run(tmp_path, *LONG, resume=True)
    assert log(tmp_path) == log(straight)


def test_checkpoints_by_the_clock(tmp_path: Path) -> None:
    toy.run(tmp_path, "checkpoint.every=1000", "checkpoint.minutes=0.000001", "checkpoint.keep=99")
    made = [path.name for path in checkpoint.listed(tmp_path / "checkpoints")]
    assert len(made) > 3


def test_a_run_without_a_score_says_why_it_leaves_no_best_model(tmp_path: Path) -> None:
    made = toy.recipe("schedule.steps=4", "evaluation.every=2", "data.dev=[toy.tsv]")
    task = toy.ToyTask(made)
    task.scores = [math.nan, math.nan, math.nan]
    with pytest.warns(UserWarning, match=r"no dev score \(accuracy\) was a number, so there is no best/"):
        result = train(made, task, folder=tmp_path, progress=False)
    assert result.best is None and result.model == tmp_path / "last"


def test_best_is_kept_and_training_stops_early(tmp_path: Path) -> None:
    made = toy.recipe(
        "schedule.steps=30", "evaluation.every=2", "evaluation.patience=3", "data.dev=[toy.tsv]"
    )
    task = toy.ToyTask(made)
    task.scores = [0.99, 0.2, 0.5, math.nan, 0.5, 0.4, 0.9]  # 0.99 is before the first step
    result = train(made, task, folder=tmp_path, progress=False)
    assert (result.why, result.steps, result.best, result.best_step) == ("early stop", 10, 0.5, 4)
    assert result.model == tmp_path / "best"
    best, last = (read_folder(tmp_path / name) for name in ("best", "last"))
    assert best.record["training"]["step"] == 4 and last.record["training"]["step"] == 10
    assert best.record["results"][0]["accuracy"] == 0.5
    assert not np.array_equal(best.weights()["classifier.weight"], last.weights()["classifier.weight"])
    # With more patience the same run goes on, and finds something better.
    longer = toy.recipe(
        "schedule.steps=30", "evaluation.every=2", "evaluation.patience=4", "data.dev=[toy.tsv]"
    )
    task = toy.ToyTask(longer)
    task.scores = [0.9]
    result = train(longer, task, folder=tmp_path, resume=True, progress=False)
    assert (result.best, result.best_step, result.steps) == (0.9, 12, 20)


def test_the_folder(tmp_path: Path, drawn: None) -> None:
    (tmp_path / "toy.tsv").write_text("x", encoding="utf-8")
    sets = (
        f"data.folder={tmp_path}",
        "output.card=More.",
        "output.licence=MIT",
        "output.name=Toy",
        "optimizer.lr=0.01",
    )
    result, task = toy.run(tmp_path / "run", *sets)
    root = tmp_path / "run"
    assert (root / "recipe.yaml").read_text(encoding="utf-8").startswith("name: toy")
    assert (root / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    entries = log(root)
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 13))
    assert [entry["step"] for entry in entries if "dev" in entry] == [0, 4, 8, 12]
    assert verify_folder(root / "last").checked and verify_folder(root / "best").checked
    record = read_folder(root / "last").record["training"]
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert record["data"] == {"toy.tsv": digest}
    assert record["recipe"]["optimizer.lr"] == 0.01 and record["step"] == 12 and record["tokens"] == 768
    assert record["versions"]["torch"] == torch.__version__
    card = (root / "last/README.md").read_text(encoding="utf-8")
    for words in ("# Toy", "license: mit", digest, "12 steps", "| accuracy |", "More."):
        assert words.lower() in card.lower(), words
    assert result.scores.keys() == {"accuracy", "zeros"}


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    toy.run(tmp_path)
    with pytest.raises(FolderError, match=r"a run there already.*--resume"):
        toy.run(tmp_path)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    made = toy.recipe()
    task = toy.ToyTask(made)
    plain = task.evaluate

    def evaluate() -> dict[str, float]:
        with pytest.raises(FolderError, match="still going on"):
            toy.run(tmp_path, resume=True)
        return plain()

    task.evaluate = evaluate  # type: ignore[method-assign]
    assert train(made, task, folder=tmp_path, progress=False).why == "finished"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("optimizer.lr=0.001", "batch.rows=4"), ("optimizer.lr 0.002 -> 0.001", "batch.rows 8 -> 4")),
        (("seed=4",), ("seed 3 -> 4",)),
        (("machine.precision=bf16",), ("machine.precision",)),
        (("data.train=[other.tsv]",), ("data.train.0.file",)),
        (("schedule.steps=50",), ("schedule.steps", "step 5 ", "constant")),
        (("schedule.warmup=4",), ("schedule.warmup", "step 1 ")),
    ],
)
def test_resume_with_a_changed_recipe(
    tmp_path: Path, change: tuple[str, ...], names: tuple[str, ...]
) -> None:
    killed(tmp_path, 9)
    with pytest.raises(InputError) as caught:
        toy.run(tmp_path, *change, resume=True)
    for name in names:
        assert name in str(caught.value)
    result, _ = toy.run(tmp_path, resume=True)  # nothing was harmed
    assert result.steps == 12


def test_what_may_change(tmp_path: Path) -> None:
    killed(tmp_path, 9, "schedule.shape=constant")
    sets = (
        "schedule.shape=constant",
        "schedule.steps=14",
        "evaluation.every=3",
        "checkpoint.keep=5",
        "name=new",
    )
    with pytest.warns(UserWarning, match="threads 1 -> 2"):
        result, _ = toy.run(tmp_path, *sets, "machine.threads=2", resume=True)
    assert result.steps == 14
    with pytest.raises(InputError, match="14 steps are done"):
        toy.run(tmp_path, "schedule.shape=constant", "schedule.steps=11", resume=True)


def test_other_data(tmp_path: Path) -> None:
    file = tmp_path / "toy.tsv"
    file.write_text("x", encoding="utf-8")
    sets = (f"data.folder={tmp_path}",)
    killed(tmp_path / "run", 9, *sets)
    file.write_text("y", encoding="utf-8")
    with pytest.raises(InputError, match=r"other content in toy\.tsv"):
        toy.run(tmp_path / "run", *sets, resume=True)


def test_another_tokenizer(tmp_path: Path) -> None:
    model = write_small(tmp_path / "model")
    sets = (f"start.model={model}", f"start.tokenizer={model / 'tokenizer.json'}")
    killed(tmp_path / "run", 9, *sets)
    with open(model / "tokenizer.json", "a", encoding="utf-8") as stream:
        stream.write("\n")
    with pytest.raises(InputError, match=r"other content in tokenizer of .*tokenizer\.json"):
        toy.run(tmp_path / "run", *sets, resume=True)


def test_another_teacher(tmp_path: Path) -> None:
    teacher = write_small(tmp_path / "teacher")
    recipe = toy.recipe()
    objective = DistillObjective(teacher=str(teacher))
    recipe = replace(recipe, task="distill", objective=objective, start=Start(model=str(teacher)))
    before = data_hashes(recipe)
    assert list(before) == [f"teacher {teacher}", f"tokenizer of {teacher}"]
    (teacher / "README.md").write_text("another card", encoding="utf-8")
    assert data_hashes(recipe) == before
    write_small(teacher, weights=random_weights(seed=1), overwrite=True)
    changed = data_hashes(recipe)
    assert [name for name in before if changed[name] != before[name]] == [f"teacher {teacher}"]


def test_an_unknown_metric_is_noticed_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'speed'.*accuracy, zeros"):
        toy.run(tmp_path, "evaluation.metric=speed", "data.dev=[toy.tsv]")
    assert not [entry for entry in log(tmp_path) if "loss" in entry]
    toy.run(tmp_path)  # nothing worth keeping was there


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    made = toy.recipe()
    task = toy.ToyTask(made)
    task.broken[9] = math.nan
    with pytest.raises(InputError, match=r"step 10: .*toy\.tsv, batch 9"):
        train(made, task, folder=tmp_path, progress=False)
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found.step == 8
    assert log(tmp_path)[-1]["step"] == 9


def test_an_evaluation_that_fails_names_the_step(tmp_path: Path) -> None:
    made = toy.recipe()
    task = toy.ToyTask(made)
    plain = task.evaluate

    def evaluate() -> dict[str, float]:
        if task.evaluations == 2:
            raise InputError(found="nan among the scores", expected="numbers", fix="Look.", where="row 0")
        return plain()

    task.evaluate = evaluate  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"dev files after step 8: found nan .* optimizer\.lr"):
        train(made, task, folder=tmp_path, progress=False)


def test_a_cut_line_in_the_log(tmp_path: Path) -> None:
    killed(tmp_path, 9)
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"step": 10, "lo')
    toy.run(tmp_path, resume=True)
    assert [entry["step"] for entry in log(tmp_path) if "loss" in entry] == list(range(1, 13))


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = toy.recipe()
    train(made, toy.ToyTask(made), folder=tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "toy" in shown and "12/12" in shown and "loss" in shown


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed(tmp_path, 9)
    toy.run(tmp_path, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [entry["loss"] for entry in log(tmp_path) if "loss" in entry]
    written = events.Scalars("train/loss")
    assert [event.step for event in written] == list(range(1, 13))
    assert [event.value for event in written] == pytest.approx(losses)
    assert len(events.Scalars("dev/accuracy")) == 4


# Several processes talk through PyTorch's own sockets on the loopback device, which the block of Python's sockets does
# not see; the block itself stays in place in each of them. They meet as torchrun lets them, by the same variables.


def together(world: int, *runs: dict[str, Any]) -> list[int | None]:
    """Run the toy script in `world` processes, one run after the other; gives their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listed = json.dumps([{**run, "folder": str(run["folder"])} for run in runs])
    variables = [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        }
        for rank in range(world)
    ]
    ended = forked.together("toy_training.py", [[listed]] * world, variables)
    for code, printed in ended:
        if code:  # shown where the test fails
            print(printed, file=sys.stderr)
    return [code for code, _ in ended]


def close(one: Path, other: Path) -> None:
    """Two runs agree within float32 rounding."""
    a, b = log(one), log(other)
    assert [entry["step"] for entry in a] == [entry["step"] for entry in b]
    for left, right in zip(a, b, strict=True):
        assert left.get("loss", 0.0) == pytest.approx(right.get("loss", 0.0), rel=2e-4)
        assert left.get("tokens") == right.get("tokens")
        assert left.get("dev") == right.get("dev")
    first, second = (read_folder(path / "last").weights() for path in (one, other))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=2e-3)


@pytest.mark.slow
def test_a_real_sigkill(tmp_path: Path, straight: Path) -> None:
    assert together(1, {"folder": tmp_path, "sets": LONG, "kill": 22}) == [-signal.SIGKILL]
    toy.run(tmp_path, *LONG, resume=True)
    same(straight, tmp_path)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    one, other = tmp_path / "straight", tmp_path / "killed"
    assert 0 not in together(2, {"folder": other, "sets": LONG, "kill": 22})
    runs = {"folder": one, "sets": LONG}, {"folder": other, "sets": LONG, "resume": True}
    assert together(2, *runs) == [0, 0]
    same(one, other)


@pytest.mark.slow
def test_three_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    """Sums of three numbers depend on their order, which must not depend on when a run was begun."""
    one, other = tmp_path / "straight", tmp_path / "killed"
    sets = ["batch.rows=7"]
    runs = (
        {"folder": one, "sets": sets},
        {"folder": other, "sets": sets, "leave": 6},
        {"folder": other, "sets": sets, "resume": True},
    )
    assert together(3, *runs) == [0, 0, 0]
    same(one, other)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    """The same global batch, dropout included: two parts on one process, or one part on each of two; DDP and FSDP.

    FSDP's checkpoints hold whole weights, so another number of processes can go on from them.
    """
    sets = ["batch.rows=7"]
    runs = (
        {"folder": tmp_path / "copied", "sets": sets},
        {"folder": tmp_path / "shared", "sets": [*sets, "machine.fsdp=true"]},
        {"folder": tmp_path / "moved", "sets": [*sets, "machine.fsdp=true"], "leave": 6, "dropout": 0.0},
    )
    assert together(2, *runs) == [0, 0]
    toy.run(tmp_path / "one", *sets, "batch.accumulate=2")
    close(tmp_path / "one", tmp_path / "copied")
    close(tmp_path / "one", tmp_path / "shared")
    with pytest.warns(UserWarning, match="processes 2 -> 1"):
        toy.run(tmp_path / "moved", *sets, dropout=0.0, resume=True)
    toy.run(tmp_path / "plain", *sets, dropout=0.0)
    close(tmp_path / "plain", tmp_path / "moved")
