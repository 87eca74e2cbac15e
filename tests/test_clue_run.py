"""`jinyi clue run`: settings, training gone on with, choice on dev, predictions, submissions, the table."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi import metrics  # noqa: E402
from jinyi.clue import published, training  # noqa: E402
from jinyi.clue.checking import check_submission  # noqa: E402
from jinyi.clue.predicting import predict  # noqa: E402
from jinyi.clue.reading import read_split  # noqa: E402
from jinyi.clue.running import Finished, run_clue  # noqa: E402
from jinyi.clue.settings import (  # noqa: E402
    FEW,
    PUBLISHED,
    SMALL_RATES,
    label_of,
    make_recipe,
    points,
)
from jinyi.clue.tasks import ClueTask, task_by_name, tasks, tasks_by_name  # noqa: E402
from jinyi.clue.training import run_folder, train_once, write_split  # noqa: E402
from jinyi.errors import FolderError, InputError  # noqa: E402
from jinyi.train.build import build_task  # noqa: E402
from small_models import write_small  # noqa: E402

SEVEN = ("afqmc", "tnews", "iflytek", "cmnli", "ocnli", "wsc", "csl")
WORDS = "怎么改密码如何修登录今天气很好不心情体育财经新闻"
QUICK = (
    "schedule.steps=4",
    "data.max_length=32",
    "batch.rows=8",
    "evaluation.every=0.5",
    "machine.threads=1",
    "machine.device=cpu",
)


def text(rng: random.Random) -> str:
    return "".join(rng.choices(WORDS, k=rng.randint(4, 12)))


def row(task: ClueTask, number: int, rng: random.Random, *, labelled: bool) -> dict[str, Any]:
    a, b = text(rng), text(rng)
    found: dict[str, Any]
    if task.form == "pair":
        found = dict(zip(task.fields, (a, b), strict=True))
    elif task.form == "csl":
        found = {"keyword": [a[:2], b[:2]], "abst": a + b}
    elif task.form == "wsc":
        target = {"span1_text": a[:2], "span1_index": 0, "span2_text": b[0], "span2_index": len(a)}
        found = {"text": a + b, "target": target}
    else:
        found = {task.fields[0]: a}
    if labelled:
        found["label"] = task.labels[number % len(task.labels)]
    else:
        found["id"] = str(5 * number) if task.id_type is str else 5 * number
    return found


def write_task(
    data: Path, name: str, *, splits: Iterable[str] = ("train", "dev", "test"), rows: int = 16
) -> None:
    task = task_by_name(name)
    folder = data / task.folders[-1]
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        rng = random.Random(f"{name} {split}")
        lines = [
            json.dumps(row(task, number, rng, labelled=split != "test"), ensure_ascii=False)
            for number in range(rows)
        ]
        (folder / task.files(split)[-1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("model") / "embed")


def go(model: Path, names: str, root: Path, **options: Any) -> Finished:
    options = {"sets": QUICK, "threads": 1, "progress": False, **options}
    return run_clue(model, tasks_by_name(names), data=root / "data", output=root / "out", **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the runs that were really trained."""
    calls: list[Path] = []
    train = training.train

    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["folder"])
        return train(*arguments, **options)

    monkeypatch.setattr(training, "train", noted)
    return calls


@pytest.mark.slow
def test_all_seven_tasks_end_in_a_submission_that_is_accepted(
    tmp_path: Path, model: Path, run: Callable[..., tuple[int, str, str]], counted: list[Path]
) -> None:
    for name in SEVEN:
        write_task(tmp_path / "data", name)
    out = tmp_path / "out"
    options = [part for each in QUICK for part in ("--set", each)]
    command = ["clue", "run", "--model", model, "--tasks", ",".join(SEVEN), "--data", tmp_path / "data"]
    command += ["--output", out, "--version", "1.0", "--threads", "1", *options]
    code, shown, said = run(*command)
    assert code == 0, said
    assert "accuracy" in shown and "majority class" in shown and "RoBERTa-tiny-clue" in shown
    report = check_submission(out / "clue.zip", data=tmp_path / "data")
    assert report.accepted and report.version == "1.0" and len(report.members) == 7
    record = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    assert record["kind"] == "clue" and (out / "report" / "report.html").is_file()
    assert len(counted) == 7
    # Started again nothing is trained, and the submission is the same byte for byte.
    before = (out / "clue.zip").read_bytes()
    code, shown, _ = run(*command, "--json")
    assert code == 0 and len(counted) == 7 and (out / "clue.zip").read_bytes() == before
    ours = [row for row in json.loads(shown)["rows"] if not row["quoted"]]
    assert {row["data"] for row in ours} == {task_by_name(name).title for name in SEVEN}


def test_a_stopped_run_goes_on(
    tmp_path: Path, model: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("afqmc", "wsc"):
        write_task(tmp_path / "data", name)
    build = training.build_task

    def stop(name: str, at: int) -> None:
        """SIGTERM comes when a task asks for the batch of step `at`."""

        def built(recipe: Any) -> Any:
            task = build(recipe)
            parts = task.parts

            def signalled(step: int, share: Any) -> Any:
                if recipe.name == name and step == at:
                    os.kill(os.getpid(), signal.SIGTERM)
                return parts(step, share)

            task.parts = signalled  # type: ignore[method-assign]
            return task

        monkeypatch.setattr(training, "build_task", built)
        with pytest.raises(KeyboardInterrupt):
            go(model, "afqmc,wsc", tmp_path)

    stop("afqmc", 3)  # the last step: the run ends, and the others do not begin
    assert [path.parent.parent.name for path in counted] == ["afqmc"]
    stop("wsc", 1)
    assert list(counted[1].glob("checkpoints/*")) and not (counted[1] / "result.json").exists()
    monkeypatch.setattr(training, "build_task", build)
    finished = go(model, "afqmc,wsc", tmp_path)
    assert [path.parent.parent.name for path in counted] == ["afqmc", "wsc", "wsc"]
    steps = [json.loads(line)["step"] for line in (counted[1] / "log.jsonl").open(encoding="utf-8")]
    assert (
        sorted(set(steps)) == [0, 1, 2, 3, 4] and len(steps) == 4 + 3
    )  # each step once, and three evaluations
    assert check_submission(finished.zips["clue"], data=tmp_path / "data").accepted
    for folder in counted:
        assert (folder / "best").is_dir() and (folder / "log.jsonl").is_file()
        assert not (folder / "checkpoints").exists() and not (folder / "last").exists()
    # Other data are another run; the old one stays.
    write_task(tmp_path / "data", "wsc", rows=20)
    go(model, "wsc", tmp_path)
    assert len(counted) == 4 and counted[3] != counted[1]


def test_the_grid_is_chosen_on_dev(tmp_path: Path, model: Path, counted: list[Path]) -> None:
    write_task(tmp_path / "data", "tnews", rows=30)
    sets = (*QUICK, "tnews.schedule.steps=2", "evaluation.every=2")
    finished = go(model, "tnews", tmp_path, grid="small", seeds=(1, 2), sets=sets)
    assert len(counted) == 2 * (1 + len(SMALL_RATES))
    ours, common = (row for row in finished.evaluation.rows if not row.quoted)
    assert (common.system, common.protocol, common.scores) == (
        "majority class",
        "dev",
        {"accuracy": 100 * 2 / 30},
    )
    [job] = ours.settings["jobs"]
    tried = {entry["settings"]: entry["dev"] for entry in job["tried"]}
    assert len(tried) == 4 and tried[job["settings"]] == max(tried.values())
    assert ours.scores["accuracy"] == pytest.approx(max(tried.values()), abs=1e-6)
    best = max(job["runs"], key=lambda entry: entry["dev"])
    assert job["runs"][0] == best and {entry["seed"] for entry in job["runs"]} == {1, 2}
    task = task_by_name("tnews")
    said = predict(Path(best["folder"]) / "best", read_split(task, tmp_path / "data", "test"))
    written = (tmp_path / "out" / "tnews" / "predictions" / task.member()).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in written.splitlines()]
    assert [entry["label"] for entry in rows] == [task.labels[k] for k in said.classes]
    assert [entry["id"] for entry in rows] == [5 * k for k in range(30)]


@pytest.mark.parametrize("name", ["cmnli", "iflytek", "csl"])
def test_scores_are_those_of_training(tmp_path: Path, model: Path, name: str) -> None:
    """The runtime's logits on dev are those that chose the checkpoint, cut texts included."""
    write_task(tmp_path / "data", name)
    task, data = task_by_name(name), tmp_path / "rows"
    dev = read_split(task, tmp_path / "data", "dev")
    for split in ("train", "dev"):
        write_split(data, split, read_split(task, tmp_path / "data", split))
    sets = (*QUICK, "data.max_length=12", "optimizer.lr=0.01")
    recipe = make_recipe(task, PUBLISHED[name], model=str(model), data=data, seed=1, sets=sets)
    with pytest.warns(UserWarning, match="rows cut|texts cut"):
        run = train_once(recipe, tmp_path / "run", "", progress=False)
        trained = build_task(replace(recipe, start=replace(recipe.start, model=str(run.model))))
    kept = tmp_path / "kept"
    found = predict(run.model, dev, kept=kept)
    expected = trained.logits(trained._dev[0])  # type: ignore[attr-defined]
    assert np.abs(found.logits - expected).max() < 1e-4
    labels = [task.labels.index(str(record.label)) for record in dev.records]
    assert metrics.accuracy(labels, found.classes) == run.best
    assert found.cut > 0 and found.probabilities.sum(1) == pytest.approx(1.0)
    again = predict(tmp_path / "not there", dev, kept=kept)  # read from the disk
    assert np.array_equal(again.logits, found.logits) and again.cut == found.cut


def test_a_model_of_other_labels_predicts_nothing(tmp_path: Path, small_folders: Path) -> None:
    write_task(tmp_path / "data", "afqmc")
    split = read_split(task_by_name("afqmc"), tmp_path / "data", "test")
    with pytest.raises(
        FolderError, match="found a classifier of 3 labels; expected one of the 2 labels of AFQMC"
    ):
        predict(small_folders / "classes", split)


def test_fewclue_folds_and_qbqtc(tmp_path: Path, model: Path) -> None:
    folds = [f"{split}_{fold}" for split in ("train", "dev") for fold in ("0", "1", "few_all")]
    write_task(tmp_path / "data", "bustm", splits=(*folds, "test_public", "test"))
    write_task(tmp_path / "data", "qbqtc", splits=("train", "dev", "test_public", "test"), rows=18)
    finished = go(model, "bustm,qbqtc", tmp_path, folds=("0", "1", "all"))
    names = set(check_submission(finished.zips["fewclue"]).members)
    assert names == {f"bustm_predict_{fold}.json" for fold in ("0", "1", "all")}
    assert check_submission(finished.zips["qbqtc"], data=tmp_path / "data").accepted
    computed = [row for row in finished.evaluation.rows if not row.quoted]
    common = {(row.data, row.protocol): row for row in computed if row.system == "majority class"}
    ours = {(row.data, row.protocol): row for row in computed if row.system != "majority class"}
    assert set(ours) == {(data, split) for data in ("BUSTM", "QBQTC") for split in ("dev", "test_public")}
    public = ours["BUSTM", "test_public"]
    assert len(public.settings["jobs"]) == 3 and "accuracy" in public.deviations
    assert common["BUSTM", "test_public"].scores["accuracy"] == 50.0 and {"F1", "AUC"} <= set(public.scores)
    low, high = public.intervals["accuracy"]
    assert low <= public.scores["accuracy"] <= high
    assert ours["BUSTM", "dev"].n is None and not ours["BUSTM", "dev"].intervals  # other rows in every fold
    graded = ours["QBQTC", "dev"]
    assert graded.settings["jobs"][0]["runs"][0]["dev"] == pytest.approx(graded.scores["macro-F1"])
    alone = go(model, "bustm", tmp_path)  # of a single fold: the other form, from the same runs
    assert list(check_submission(alone.zips["fewclue"]).members) == ["bustm_predict.json"]


def test_without_a_test_file_there_is_a_table_alone(tmp_path: Path, model: Path) -> None:
    write_task(tmp_path / "data", "afqmc", splits=("train", "dev"))
    finished = go(model, "afqmc", tmp_path)
    assert finished.zips == {} and any("no test file" in note for note in finished.evaluation.notes)


def test_published_settings_and_changes(tmp_path: Path) -> None:
    assert all(task.benchmark == "fewclue" or name in PUBLISHED for name, task in tasks().items())
    tnews, wsc, few = (task_by_name(name) for name in ("tnews", "wsc", "tnewsf"))
    assert points(tnews, "none") == (PUBLISHED["tnews"],) and points(few, "none") == (FEW,)
    assert {each.lr for each in points(wsc, "small")} == {1e-5, *SMALL_RATES}
    sets = ("optimizer.lr=3e-4", "wsc.optimizer.lr=1e-3", "schedule.steps=7")
    recipes = {
        task.name: make_recipe(
            task, PUBLISHED[task.name], model="m", data=tmp_path, seed=5, name=task.name, sets=sets
        )
        for task in (tnews, wsc)
    }
    assert {name: recipe.optimizer.lr for name, recipe in recipes.items()} == {"tnews": 3e-4, "wsc": 1e-3}
    assert recipes["wsc"].schedule.steps == 7 and recipes["wsc"].schedule.epochs is None
    assert recipes["wsc"].output.max_length == recipes["wsc"].data.max_length == 128
    assert recipes["wsc"].objective.labels == ("false", "true")  # type: ignore[union-attr]
    assert label_of(recipes["wsc"]) == "lr 0.001, batch 16, 7 steps, 128 tokens"
    moved = replace(recipes["wsc"], name="other", data=replace(recipes["wsc"].data, folder="elsewhere"))
    assert run_folder(tmp_path, moved, "x") == run_folder(tmp_path, recipes["wsc"], "x")
    assert run_folder(tmp_path, moved, "y") != run_folder(tmp_path, moved, "x")
    shorter = replace(moved, output=replace(moved.output, max_length=16))  # predicts another way
    assert run_folder(tmp_path, shorter, "x") != run_folder(tmp_path, moved, "x")
    for change, message in (
        ("optimizer.rate=1", "rate"),
        ("schedule.warmup=-1", "-1"),
        ("optimizer.lr", "no KEY=VALUE"),
    ):
        with pytest.raises(InputError, match=message):
            make_recipe(wsc, PUBLISHED["wsc"], model="m", data=tmp_path, seed=5, sets=[change])


def test_published_rows_name_tasks_and_sources() -> None:
    every = list(tasks().values())
    rows = published.quoted_rows(every)
    assert {row.data for row in rows} >= {task.title for task in every if task.form != "idiom"}
    assert all(row.quoted and 0 < score < 100 for row in rows for score in row.scores.values())
    keys = {(row.data, row.system, row.protocol) for row in rows}
    assert len(keys) == len(rows) and {row.protocol for row in rows} == {"dev", "test", "test_public"}
    assert published.quoted_rows([task_by_name("csl")])[0].data == "CSL"


def test_wrong_use_is_told_before_anything_is_trained(
    tmp_path: Path, model: Path, run: Callable[..., tuple[int, str, str]], counted: list[Path]
) -> None:
    write_task(tmp_path / "data", "afqmc")
    write_task(tmp_path / "data", "csl", splits=("train", "test"))
    for names, options, message in (
        ("afqmc,csl", {}, "expected also dev.json"),
        ("afqmc", {"folds": ("7",)}, "found 7; expected some of 0, 1"),
        ("afqmc", {"seeds": (1, 1)}, "found seeds 1, 1"),
        ("chidf", {}, "idioms"),
        ("afqmc,wsc", {}, "no file of this task"),
        ("afqmc", {"sets": ("optimiser.lr=1",)}, "optimiser"),
        # These are no part of a run's name: it would be taken for the run of another model or other data.
        ("afqmc", {"sets": ("start.model=jinyi-tiny-pair",)}, "Use --model"),
        ("afqmc", {"sets": ("afqmc.data.folder=/tmp",)}, "Use --data"),
        ("afqmc", {"precision": "float99"}, "float99"),
        ("afqmc", {"precision": "int8"}, "no measured ranges"),
        ("afqmc", {"threads": 0}, "threads"),
    ):
        with pytest.raises(InputError, match=message):
            go(model, names, tmp_path, **options)
    assert not counted and not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="folder that can be written"):
        go(model, "afqmc", tmp_path)
    (tmp_path / "out").unlink()
    command = ["clue", "run", "--model", model, "--data", tmp_path / "data", "--output", tmp_path / "out"]
    for options, message in (
        (["--tasks", "afqcm"], "Did you mean afqmc?"),
        (["--tasks", "afqmc", "--grid", "large"], "expected  none or small"),
        (["--tasks", "afqmc", "--version", "2.0"], "1.0 or 1.1"),
        (["--tasks", "afqmc", "--seeds", "x"], "whole numbers"),
    ):
        code, _, said = run(*command, *options)
        assert code == 2 and message in said, said
