"""`jinyi train`: what it prints, its exit codes, resuming, and faults told before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from jinyi import PairScorer, cli  # noqa: E402
from jinyi.cli.train import readable_size, readable_time  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.corpus import write_shards  # noqa: E402
from small_models import VOCAB, write_small  # noqa: E402
from test_train_plan import RECIPE, TEXTS  # noqa: E402


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs `jinyi train recipe.yaml --data data` in tmp_path: (exit code, standard output, standard error)."""
    write_small(tmp_path / "model", "pair")
    (tmp_path / "data").mkdir()
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    write_rows(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> tuple[int, str, str]:
        words = ["jinyi", "train", "recipe.yaml", "--data", "data", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def write_rows(folder: Path, labels: tuple[object, ...] = (0, 1), count: int = 24) -> None:
    rows = [
        {"texta": TEXTS[i % 7], "textb": TEXTS[(i + 1) % 7], "label": labels[i % len(labels)]}
        for i in range(count)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "data" / "pairs.jsonl").write_text(text, encoding="utf-8")


def test_train(run, tmp_path: Path) -> None:
    code, out, err = run("--set", "schedule.steps=4", "--set", "optimizer.lr=1e-3", "--run", "there")
    assert code == 0, err
    assert "finished, step 4 of 4" in out and "best" in out
    assert (tmp_path / "there" / "recipe.yaml").is_file()
    assert 0 <= PairScorer.load(tmp_path / "there" / "best").predict(("怎么改密码", "今天天气很好")) <= 1
    code, out, err = run("--set", "schedule.steps=4", "--run", "there")  # there is a run already
    assert code == 2 and "--resume" in err and "there" in err


def test_json_and_the_usual_folder(run, tmp_path: Path) -> None:
    code, out, err = run("--set", "schedule.steps=2", "--set", "data.dev=[]", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["steps"], result["why"], result["scores"]) == (2, "finished", {})
    assert Path(result["folder"]) == tmp_path / "runs" / "toy" and Path(result["model"]).name == "last"


def test_resume(run, tmp_path: Path) -> None:
    # With a constant rate the length of a run is free.
    same = ["--set", "schedule.shape=constant", "--set", "schedule.warmup=0.0", "--json"]
    code, out, err = run("--set", "schedule.steps=6", "--folder", "straight", *same)
    assert code == 0, err
    straight = json.loads(out)
    assert run("--set", "schedule.steps=3", "--run", "twice", *same)[0] == 0
    code, out, err = run("--set", "schedule.steps=6", "--run", "twice", "--resume", *same)
    assert code == 0, err
    resumed = json.loads(out)
    assert resumed["steps"] == 6 and resumed["loss"] == straight["loss"]
    code, out, err = run("--set", "schedule.steps=6", "--set", "seed=5", "--run", "twice", "--resume", *same)
    assert code == 2 and "seed" in err


def test_check(run, tmp_path: Path) -> None:
    code, out, err = run("--check", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["steps"] == 2 * found["epoch_steps"] and found["rows"] == 24 and found["seconds"] > 0
    code, out, err = run("--check")
    assert code == 0, err
    for part in (f"{found['steps']} of about", "tokens/s", "at the highest", "measured steps", "24 rows"):
        assert part in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("optimizer.lrr=1", ("optimizer.lrr", "nearest known key is optimizer.lr")),
        ("batch.rows=some", ("batch.rows", "a whole number")),
        (
            "data.train=[pairs.jsonl, none.jsonl, gone.tsv]",
            ("none.jsonl, gone.tsv", "no such file", "--data"),
        ),
        ("start.model=none", ("none",)),
        ("evaluation.metric=bleu", ("evaluation.metric", "accuracy")),
        ("objective.outputs=2", ("recipe.yaml",)),
        ("data.max_length=4000", ("data.max_length",)),
    ],
)
def test_bad_recipes(run, assignment: str, parts: tuple[str, ...]) -> None:
    if assignment == "objective.outputs=2":  # a label that is none of two classes
        write_rows(Path(), labels=(0, 1, 2))
        parts = ("pairs.jsonl:3", "label 2")
    code, out, err = run("--set", assignment)
    assert code == 2 and out == ""
    assert all(part in err for part in parts), err
    assert "Traceback" not in err


def test_bad_data(run, tmp_path: Path) -> None:
    write_rows(tmp_path, count=0)
    code, _, err = run()
    assert code == 2 and "at least one row" in err
    write_rows(tmp_path, labels=(0, 7))
    code, _, err = run()
    assert code == 2 and "pairs.jsonl:2" in err and "from 0 to 1" in err


def test_loss_that_is_no_number(run) -> None:
    code, _, err = run("--set", "optimizer.lr=1e30", "--set", "data.dev=[]", "--set", "schedule.warmup=0")
    assert code == 2 and "step 2" in err and "finite" in err and "optimizer.lr" in err


def test_shards_of_another_vocabulary(run, tmp_path: Path) -> None:
    other = Tokenizer(build_tokenizer([*VOCAB[:5], *VOCAB[:4:-1]]))
    write_shards([["今天天气很好"] * 9], other, tmp_path / "data" / "shards", words=lambda line: [*line])
    (tmp_path / "recipe.yaml").write_text(
        RECIPE.replace("pair\n", "pretrain\n", 1)
        .replace("objective: {outputs: 1}", "")
        .replace("pairs.jsonl", "shards"),
        encoding="utf-8",
    )
    code, _, err = run("--set", "data.dev=[]")
    assert code == 2 and "shards" in err and "tokenizer" in err


def test_cut_texts_are_told_once(run) -> None:
    code, _, err = run("--set", "data.max_length=8", "--set", "schedule.steps=1")
    assert code == 0, err
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert notes and len(notes) == len(set(notes)) and "cut" in notes[0]


def test_missing_extra(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jinyi.train.recipe.reading", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    code, _, err = run()
    assert code == 2 and "yaml" in err and "jinyi[train]" in err


def test_numbers_for_people() -> None:
    assert [readable_size(n) for n in (0, 999, 12_340, 2.5e9, 3e12)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "2.5 GB",
        "3 TB",
    ]
    assert [readable_time(s) for s in (0.25, 59, 61, 3600, 90_000, 1e6)] == [
        *("0.25 s", "59 s", "1 min", "1 h 00 min", "25 h 00 min", "11.6 days"),
    ]


def test_pretraining_on_a_vocabulary_without_the_usual_words(run, tmp_path: Path) -> None:
    """The golden sentences of a folder need words that its vocabulary can spell."""
    assert not {"生活", "问答"} & {a + b for a in VOCAB for b in VOCAB}
    write_shards([TEXTS] * 9, Tokenizer(build_tokenizer(VOCAB)), tmp_path / "data" / "shards", words=list)
    write_small(tmp_path / "mlm", "mlm")
    (tmp_path / "recipe.yaml").write_text(
        "{name: toy, task: pretrain, start: {model: mlm}, data: {train: [shards], max_length: 16}, "
        "batch: {rows: 4}, schedule: {steps: 1}}",
        encoding="utf-8",
    )
    code, _, err = run()
    assert code == 0, err
    record = json.loads((tmp_path / "runs" / "toy" / "last" / "jinyi.json").read_text(encoding="utf-8"))
    assert record["golden"]["labels"] == ["体育"]
