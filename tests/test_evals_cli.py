"""`jinyi evaluate`: what options become, what is printed and saved; the evaluators themselves are fakes here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jinyi import FolderError, InputError
from jinyi.cli.common import print_table
from jinyi.cli.named import default_name, named_files
from jinyi.evals.result import Evaluation, Figure, Row


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("lcqmc/dev.jsonl", "bq/dev.jsonl.xz", "mine.tsv", "tnews/labels.json", "texts.txt"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("", encoding="utf-8")
    return tmp_path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[Any]]:
    """Puts a fake in the place of a function, and returns where its calls are kept."""

    def put(module: str, name: str) -> list[Any]:
        calls: list[Any] = []

        def evaluate(*arguments: Any, **options: Any) -> Evaluation:
            calls.append((arguments, options))
            row = Row(data="lcqmc", system="jinyi", protocol="[CLS]", scores={"accuracy": 70.5}, n=1000)
            other = Row(data="lcqmc", system="majority class", protocol="", scores={"accuracy": 51.0}, n=1000)
            bars = Figure(kind="bars", title="Bars", values={"bars": {"a": 1.0}, "unit": "x"})
            return Evaluation(title="T", kind="sts", rows=[row, other], figures=[bars], notes=["A note."])

        monkeypatch.setattr(f"{module}.{name}", evaluate)
        return calls

    return put


def test_sts(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.sts", "evaluate_sts")
    data = [files / "lcqmc/dev.jsonl", f"my bq={files / 'bq/dev.jsonl.xz'}"]
    code, out, err = run(
        *("evaluate", "sts", "-m", "a", "-m", "b", "--data", *data, "--pooling", "cls", "--pooling", "own"),
        *("--whitening", "none", "--whitening", files / "texts.txt", "--k", 64, "--k", "all", "--seed", 5),
        *("--no-baselines", "--no-intervals", "--no-quoted", "--threads", 2, "--precision", "float32"),
    )
    assert (code, err) == (0, "")
    (((models, named), options),) = calls
    assert models == ["a", "b"]
    assert named == {"lcqmc": files / "lcqmc/dev.jsonl", "my bq": files / "bq/dev.jsonl.xz"}
    assert options == {
        "pooling": ["cls", "own"],
        "whitening": ["none", str(files / "texts.txt")],
        "k": [64, None],
        "baselines": False,
        "intervals": False,
        "seed": 5,
        "quoted": False,
        "without": (),
        "precision": "float32",
        "threads": 2,
        "progress": False,
    }
    assert "70.50*" in out and "51.00" in out and "- A note." in out and "best computed value" in out


def test_defaults(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.sts", "evaluate_sts")
    assert run("evaluate", "sts", files / "lcqmc/dev.jsonl")[0] == 0
    (((models, _), options),) = calls
    assert models == [None]
    assert options["pooling"] is None and options["whitening"] == ["none"] and options["k"] == [None]
    assert options["baselines"] and options["intervals"] and options["quoted"] and options["seed"] == 0


def test_pairs_with_a_report(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.pairs", "evaluate_pairs")
    code, out, err = run(
        *("evaluate", "pairs", "--data", f"q={files / 'mine.tsv'}", "--choose", files / "lcqmc/dev.jsonl"),
        *("--examples", 3, "--output", files / "report", "--json"),
    )
    assert code == 0
    (((_, named), options),) = calls
    assert named == {"q": files / "mine.tsv"}
    assert options["choose"] == {"q": files / "lcqmc/dev.jsonl"} and options["examples"] == 3
    printed = json.loads(out)
    saved = json.loads((files / "report/report.json").read_text(encoding="utf-8"))
    assert saved["figures"] and "figures" not in printed
    assert printed.pop("report") == str(files / "report")
    assert printed == {name: value for name, value in saved.items() if name != "figures"}
    assert saved["command"].startswith("jinyi evaluate pairs --data q=") and saved["version"]


def test_topics(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.topics", "evaluate_topics")
    read = fake("jinyi.evals.topic_data", "read_topic_data")
    code, _, err = run(
        *("evaluate", "topics", "--data", files / "tnews", f"m={files / 'mine.tsv'}", "--split", "dev"),
        *("--train", f"m={files / 'texts.txt'}", "--labels", f"m={files / 'tnews/labels.json'}"),
        *("--method", "linear", "--prompt", "1", "--fold", "0", "--fold", "1", "--prompt-on", "both"),
        *("--decider", "knn", "--whitening", "train", "--k", "all", "--epochs", 3),
    )
    assert (code, err) == (0, "")
    assert read == [
        ((files / "tnews",), {"name": "tnews", "train": None, "labels": None, "split": "dev"}),
        (
            (files / "mine.tsv",),
            {
                "name": "m",
                "train": files / "texts.txt",
                "labels": files / "tnews/labels.json",
                "split": None,
            },
        ),
    ]
    (((models, sets), options),) = calls
    assert models == [None] and list(sets) == ["tnews", "m"]
    assert options["methods"] == ["linear"] and options["prompts"] == ["1"] and options["folds"] == ["0", "1"]
    assert options["prompt_on"] == ["both"] and options["deciders"] == ["knn"]
    assert options["whitening"] == ["train"] and options["k"] == [None]
    assert options["prompt_options"] == {"epochs": 3}


def test_topics_leave_defaults_to_the_evaluator(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.topics", "evaluate_topics")
    fake("jinyi.evals.topic_data", "read_topic_data")
    assert run("evaluate", "topics", "--data", files / "tnews")[0] == 0
    ((_, options),) = calls
    assert not options.keys() & {"prompt_on", "deciders", "whitening", "k"}
    assert options["methods"] is None and options["prompt_options"] == {}


def test_the_report_folder_is_looked_at_before_the_work(run, fake, files: Path) -> None:
    calls = fake("jinyi.evals.sts", "evaluate_sts")
    code, _, err = run("evaluate", "sts", files / "lcqmc/dev.jsonl", "--output", files)
    assert code == 2 and "a folder of its own" in err and calls == []


def test_tables_are_printed_where_the_report_cannot_be_saved(
    run, fake, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise FolderError(found="a full disk", expected="room", fix="Make some.")

    fake("jinyi.evals.sts", "evaluate_sts")
    monkeypatch.setattr("jinyi.evals.report.save", full)
    code, out, err = run("evaluate", "sts", files / "lcqmc/dev.jsonl", "--output", files / "report")
    assert code == 2 and "70.50*" in out and "a full disk" in err


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["[/b]", "[red]"], [["1", "2"]], title="a[/b]:cat:")
    printed = capsys.readouterr().out
    assert "a[/b]:cat:" in printed and "[red]" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sts"], "no data"),
        (["sts", "nothing.jsonl"], "no file or folder nothing.jsonl"),
        (["sts", "lcqmc/dev.jsonl", "lcqmc=mine.tsv"], "the name lcqmc twice"),
        (["sts", "lcqmc/dev.jsonl", "--k", "half"], "half"),
        (["pairs", "lcqmc/dev.jsonl", "mine.tsv", "--choose", "bq=texts.txt"], "the name bq"),
        (["topics", "tnews", "--train", "other=mine.tsv"], "the name other"),
    ],
)
def test_bad_use(run, files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str) -> None:
    monkeypatch.chdir(files)
    code, out, err = run("evaluate", *arguments)
    assert code == 2 and told in err and "fix" in err and out == ""


@pytest.mark.parametrize("command", [("evaluate", "sts"), ("evaluate", "topics"), ("calibrate",)])
def test_a_seed_is_not_negative(run, files: Path, command: tuple[str, ...]) -> None:
    code, out, err = run(*command, files / "mine.tsv", "--seed", "-1")
    assert code == 2 and "--seed" in err and out == ""


def test_names_of_files(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    assert default_name(Path("lcqmc/dev.jsonl")) == "lcqmc"
    assert default_name(Path("bq/dev.jsonl.xz")) == "bq"
    assert default_name(Path("mine.tsv")) == "mine"
    assert default_name(Path("tnews")) == "tnews"
    assert default_name(Path("test_public.json")) == files.name
    (files / "k=2.tsv").write_text("", encoding="utf-8")
    assert named_files(["k=2.tsv"]) == {"k=2": Path("k=2.tsv")}  # a name with "=" in it
    with pytest.raises(InputError):
        named_files([])
