"""Every recipe in recipes/ is valid, and trains at toy scale: the same file, toy data and models, `--set`."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("yaml")

from forked import command  # noqa: E402
from jinyi import cli  # noqa: E402
from jinyi.folder import read_folder  # noqa: E402
from jinyi.train.recipe import Recipe, reading  # noqa: E402
from toy_recipes import MODELS, RECIPES, RUNS, SHAPE, text, vocabulary, write_text, write_toy  # noqa: E402

ALL = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
REFERENCE = {
    *(f"erlangshen-similarity-{size}" for size in ("110m", "330m", "1.3b")),
    *("erlangshen-simcse-unsup", "erlangshen-simcse-sup", "erlangshen-pcl-qbqtc"),
    *(
        f"tcbert-{family}-{size}"
        for family in ("classification", "embedding")
        for size in ("110m", "330m", "1.3b")
    ),
    *("roberta-tiny-clue", "roberta-tiny-pair", "roberta-tiny3l768-clue", "roberta-tiny3l312-clue"),
    *("roberta-large-clue", "roberta-large-pair"),
}
FAST = (
    "jinyi-tiny-pretrain",
    "jinyi-tiny-embed-labelled",
    "jinyi-tiny-pair-labelled",
    "tcbert-fewshot-tnews",
    "erlangshen-1.3b-to-tiny",
)
SHIPPED = ("pretrain", "embed-labelled", "pair-labelled", "embed", "pair", "topic")
FOLDERS = {"pretrain": "mlm", "contrastive": "embed", "topic": "topic", "distill": "pair"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    recipes = [reading.read(path) for path in ALL.values()]
    write_toy(root, {source.file for recipe in recipes for source in (*recipe.data.train, *recipe.data.dev)})
    return root


def test_there_is_one_for_each_reference_model() -> None:
    assert set(ALL) >= REFERENCE
    assert set(ALL) >= {f"jinyi-tiny-{name}" for name in SHIPPED}


@pytest.mark.parametrize("name", ALL)
def test_recipe_is_valid(name: str) -> None:
    text = ALL[name].read_text(encoding="utf-8")
    recipe = reading.read(ALL[name])
    assert recipe.name == name  # its run folder is found by the file's name
    assert reading.parse(reading.dump(recipe)) == recipe
    assert recipe.data.folder is None and not Path(recipe.data.train[0].file).is_absolute()
    if recipe.start.model is not None:
        assert recipe.start.model in {**MODELS, **RUNS}
    assert name.startswith("jinyi") or "Chosen here" in text or "nothing of the kind was published" in text
    assert max(map(len, text.splitlines())) <= 110


def small(recipe: Recipe) -> list[str]:
    """What makes a recipe small: two steps, one thread, and a small shape where weights begin at random."""
    sets = ["--set", "schedule.steps=2", "--set", "machine.threads=1"]
    if recipe.start.model is None:
        sets += ["--set", f"start.config={json.dumps(SHAPE)}"]
    return sets


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in ALL]
)
def test_recipe_trains(
    name: str, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JINYI_HOME", str(toy / "home"))
    monkeypatch.chdir(toy)
    recipe = reading.read(ALL[name])
    run = tmp_path / "run"
    arguments = ["train", ALL[name], *small(recipe), "--data", toy / "data", "--run", run, "--json"]
    monkeypatch.setattr(sys, "argv", ["jinyi", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert not ended.value.code, printed.err
    result = json.loads(printed.out.splitlines()[-1])
    assert (result["why"], result["steps"], result["total"]) == ("finished", 2, 2)
    assert math.isfinite(result["loss"]) and result["tokens"] > 0
    assert bool(result["scores"]) == bool(recipe.data.dev)
    model = Path(result["model"])
    assert model == run / ("best" if recipe.data.dev else "last")
    for folder in {model, run / "last"}:
        made = read_folder(folder)
        assert made.record["training"]["recipe"]["name"] == name
    if recipe.task != "pair":
        family = getattr(recipe.objective, "family", None)
        assert made.task == ("embed" if family == "embedding" else FOLDERS[recipe.task])
    else:
        assert made.task in ("pair", "classes")
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2]


def test_triplets_of_inference_pairs(tmp_path: Path) -> None:
    said = [
        ("p", "e1", "entailment"),
        ("p", "n", "neutral"),
        ("q", "c", "contradiction"),
        ("p", "c1", "contradiction"),
    ]
    said += [
        ("p", "e2", "entailment"),
        ("p", "e1", "entailment"),
        ("p", "c2", "contradiction"),
        ("r", "e", "entailment"),
    ]
    rows = [json.dumps({"premise": a, "hypothesis": b, "label": label}) for a, b, label in said]
    (tmp_path / "nli.jsonl").write_text("\n".join(rows), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, RECIPES / "nli_triplets.py", tmp_path / "nli.jsonl"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"anchor": "p", "positive": "e1", "negative": "c1"},
        {"anchor": "p", "positive": "e2", "negative": "c2"},
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="the story is a shell script")
def test_shipped_models_by_one_command(toy: Path, tmp_path: Path) -> None:
    """recipes/jinyi-tiny.sh: raw text to vocabulary, shards and the models."""
    pytest.importorskip("rjieba")
    data = tmp_path / "data"
    shutil.copytree(
        toy / "data",
        data,
        ignore=shutil.ignore_patterns(
            "shards",
            "lexical",
            "everyday",
            "opposites",
            "contrast",
            "taught",
            "pseudo",
            "shortened",
            "keywords",
            "titles",
        ),
    )
    shutil.copyfile(data / "tnews/dev.jsonl", data / "tnews/unlabeled.jsonl")
    script = (RECIPES / "jinyi-tiny.sh").read_text(encoding="utf-8")
    sources = [
        part.split("=")[0] for part in re.search(r"^mix=\((.*?)^\)", script, re.M | re.S).group(1).split()
    ]
    rng = random.Random(0)
    write_text(data / "corpus", sources, lambda: text(rng) + "".join(rng.sample(vocabulary()[5:], 20)))
    sets = ("schedule.steps=2", "evaluation.every=2", "checkpoint.every=2", "machine.precision=float32")
    sets += ("evaluation.limit=4", "machine.threads=1")
    options = [part for change in sets for part in ("--set", change)]
    with tempfile.TemporaryDirectory() as short, command(Path(short)) as shim:  # a socket's path is short
        path = os.pathsep.join([str(shim), str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", RECIPES / "jinyi-tiny.sh", data, *options],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "TAUGHT": "200", "EACH": "1", "SEEDS": "1 2"},
            capture_output=True,
            text=True,
            check=False,
        )
    # The last command is `jinyi calibrate`: after two steps scores are chance, and where they fall with the labels it
    # has read everything and refuses.
    assert done.returncode == 0 or "scores that do not rise with the labels" in done.stderr, done.stderr
    for name in SHIPPED:
        made = read_folder(tmp_path / "runs" / f"jinyi-tiny-{name}" / "last")
        assert (made.config.num_hidden_layers, made.config.hidden_size) == (4, 312)
        parts = (made.record["training"] or {}).get("average_of", [])
        assert [part["training"]["seed"] for part in parts] == (
            [1, 2] if name in ("embed", "pair", "topic") else []
        )


def test_lexical_pairs_are_labelled_by_the_characters_they_share(tmp_path: Path) -> None:
    rng = random.Random(1)
    lines = [text(rng) + "".join(rng.sample(vocabulary()[5:], 12)) for _ in range(90)]
    file = tmp_path / "news.txt"
    file.write_text("\n".join("\n".join(lines[row : row + 3]) + "\n" for row in range(0, 90, 3)), "utf-8")
    command = [sys.executable, RECIPES / "lexical_pairs.py", "--rows", "60", file]
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == again
    rows = [json.loads(line) for line in first.splitlines()]
    assert 40 <= len(rows) <= 60
    for row in rows:
        assert row["texta"].strip() and row["textb"].strip() and row["texta"] != row["textb"]
        shared = set(row["texta"]) & set(row["textb"])
        assert 0 <= row["score"] <= 0.9 and (shared or row["score"] == 0)
    assert len({row["score"] for row in rows}) > 3


def made_by(script: str, *arguments: str | Path) -> list[dict[str, Any]]:
    """The rows that a script prints, the same ones each time."""
    command = [sys.executable, RECIPES / script, *arguments]
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == again
    return [json.loads(line) for line in first.splitlines()]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def test_pseudo_labels_are_what_the_labelled_rows_say(tmp_path: Path) -> None:
    sport, money = "球队主场险胜联赛冠军教练", "银行利率股市基金投资涨跌"
    rng = random.Random(0)
    texts = {
        kind: ["".join(rng.sample(letters, 8)) for _ in range(60)]
        for kind, letters in (("体育", sport), ("财经", money))
    }
    labelled = [{"text": text, "label": kind} for kind, own in texts.items() for text in own[:30]]
    train = write_rows(tmp_path / "train.jsonl", labelled)
    scored = texts["体育"][30:35]
    dev = write_rows(tmp_path / "dev.jsonl", [{"sentence": text} for text in scored])
    unlabelled = [text for own in texts.values() for text in own[30:45]] + [labelled[0]["text"]]
    own = write_rows(tmp_path / "unlabeled.jsonl", [{"text": text} for text in unlabelled])
    titles = tmp_path / "titles.txt"
    titles.write_text(
        "\n".join(["短", "长" * 50, *(text for part in texts.values() for text in part[45:])]), "utf-8"
    )
    rows = made_by("pseudo_labels.py", "--train", train, "--without", dev, own, f"{titles}=20")
    found = {row["text"]: row["label"] for row in rows}
    assert len(rows) == len(found) == 25 + 20 and not found.keys() & {
        *scored,
        labelled[0]["text"],
        "短",
        "长" * 50,
    }
    right = sum(text in texts[label] for text, label in found.items())
    assert right >= 40, "drawn, so not all, but nearly"


def test_shortened_texts_keep_some_sentences(tmp_path: Path) -> None:
    long = "一是甲。二是乙！三是丙；四是丁.五是戊"
    rows = [
        {"text": long, "label": 3, "id": 7},
        {"text": "只有一句。", "label": 1},
        {"text": "两句。都短。", "label": 2},
    ]
    made = made_by("shortened_texts.py", write_rows(tmp_path / "train.jsonl", rows), "--copies", "20")
    assert len(made) == 20 and all(row["label"] == 3 for row in made)
    sentences = ["一是甲。", "二是乙！", "三是丙；", "四是丁.", "五是戊"]
    subsets = {"".join(part for part in sentences if part in row["text"]) for row in made}
    assert subsets == {row["text"] for row in made} and long not in subsets and len(subsets) > 5


def test_keyword_rows_are_keywords_of_labelled_texts(tmp_path: Path) -> None:
    rows = [
        {"text": "甲队险胜", "label": 3, "keywords": "张三,李四,王五"},
        {"text": "没有", "label": 1, "keywords": ""},
        {"text": "也没有", "label": 1},
        {"text": "股市", "label": 4, "keywords": "银行"},
    ]
    train = write_rows(tmp_path / "train.jsonl", rows * 20)
    alone, behind = made_by("keyword_rows.py", train), made_by("keyword_rows.py", train, "--with-text")
    assert [row["label"] for row in alone] == [row["label"] for row in behind] == [3, 4] * 20
    parts = [re.split("[、， ]", row["text"]) for row in alone]
    assert all(set(part) <= {"张三", "李四", "王五"} for part in parts[::2]) and parts[1] == ["银行"]
    assert {len(part) for part in parts[::2]} == {1, 2, 3}  # some of them, in any order
    assert len({tuple(part) for part in parts[::2] if len(part) == 3}) > 3
    for row in behind[::2]:
        title, *words = re.split("[、， 。]", row["text"])
        assert title == "甲队险胜" and sorted(words) == ["张三", "李四", "王五"]


QUESTIONS = {
    "密码": ("怎么修改登录密码", "登录密码在哪里改", "如何更改登录的密码", "登录密码怎么改"),
    "快递": ("快递几天能到", "快递要几天才到", "快递多久可以到", "几天能收到快递"),
    "花呗": ("花呗怎么提高额度", "如何提升花呗的额度", "花呗额度怎么提高", "怎么提高花呗额度"),
    "天气": ("明天上海天气怎么样", "上海明天的天气如何", "明天上海是什么天气", "上海明天天气好吗"),
}


def test_taught_pairs_say_what_scorer_and_vectors_say(tmp_path: Path) -> None:
    kinds = list(QUESTIONS.values())
    same = [(kind[row], kind[row + 1]) for kind in kinds for row in (0, 2)]
    other = [(kind[row], kinds[place - 1][row]) for place, kind in enumerate(kinds) for row in (0, 2)]
    dev = write_rows(
        tmp_path / "dev.jsonl",
        [
            {"texta": a, "textb": b, "label": label}
            for label, pairs in ((1, same), (0, other))
            for a, b in pairs
        ],
    )
    rows = [
        {"texta": kinds[0][0], "textb": kinds[0][3], "label": 1},
        {"texta": kinds[0][0], "textb": kinds[0][3], "label": 0},
    ]
    unlabelled = [
        {"texta": kinds[0][0], "textb": kinds[0][3], "label": "graded"},
        {"texta": kinds[0][1], "textb": kinds[3][1]},
    ]
    train, bare = write_rows(tmp_path / "train.jsonl", rows), write_rows(tmp_path / "bare.jsonl", unlabelled)
    made = made_by("taught_pairs.py", "--dev", dev, "--labelled", train, "--pairs", bare)
    assert [(row["texta"], row["textb"]) for row in made] == [
        (row["texta"], row["textb"]) for row in (*rows, *unlabelled)
    ]
    alike, unlike, p, low = (row["label"] for row in made)
    assert p > 0.5 > low, "two questions about one thing, and two about others"
    assert alike == pytest.approx((1 + p) / 2, abs=0.01) and unlike == pytest.approx(p / 2, abs=0.01)

    triplets = write_rows(tmp_path / "triplets.jsonl", [{"anchor": "甲", "positive": "乙", "negative": "丙"}])
    near = made_by(
        "taught_pairs.py", "--dev", dev, "--texts", f"{dev}=12", "--triplets", triplets, "--rows", "150"
    )
    known = {frozenset(pair) for pair in same + other}
    texts = {row[side] for row in near for side in ("texta", "textb")}
    assert 60 < len(near) <= 150 and {"甲", "乙", "丙"} < texts
    assert texts - {"甲", "乙", "丙"} <= {text for pair in known for text in pair}
    for row in near:
        assert row["texta"] != row["textb"] and 0 <= row["label"] <= 1
        assert frozenset((row["texta"], row["textb"])) not in known, "dev pairs stay out"
    refused = subprocess.run(
        [sys.executable, RECIPES / "taught_pairs.py", "--dev", dev, "--labelled", bare],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1 and "label 'graded'" in refused.stderr
