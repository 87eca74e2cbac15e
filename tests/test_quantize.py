"""`jinyi quantize`: ranges and their measured loss come into the folder, and `precision="int8"` follows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import jinyi
from folder_tools import edit
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder, update_record
from jinyi.models.golden import make_golden
from jinyi.models.int8 import measure
from jinyi.registry import models_home
from small_models import write_small

PAIRS = [
    ("怎么改密码", "如何修改密码", 1), ("怎么改密码", "怎么注销账号", 0), ("今天天气好", "今天天气不错", 1),
    ("今天心情不好", "今天很开心", 0), ("手机坏了", "手机坏掉了", 1), ("手机坏了", "天气很好", 0),
]  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [json.dumps({"texta": a, "textb": b, "label": y}, ensure_ascii=False) for a, b, y in PAIRS]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("task", ["embed", "pair"])
def test_a_copy_computes_in_eight_bits(run, tmp_path: Path, pairs: Path, task: str) -> None:
    folder, out = write_small(tmp_path / "model", task=task), tmp_path / "prepared"
    code, told, err = run("quantize", "-m", folder, "--samples", pairs, "-d", f"toy={pairs}", "-o", out)
    assert code == 0, err
    assert "int8" in told and "Loss" in told
    measured = read_folder(out).record["int8"]
    assert set(measured["data"]) == {"toy"} and measured["metric"].endswith("x100 on toy")
    assert read_folder(folder).ranges() is None  # the original is as it was
    update_record(out, int8={**measured, "loss": 0.0})
    kind = jinyi.SentenceEncoder if task == "embed" else jinyi.PairScorer
    exact, rounded = kind.load(out), kind.load(out, precision="int8")
    given = [a for a, _, _ in PAIRS] if task == "embed" else [(a, b) for a, b, _ in PAIRS]
    compute = (lambda m: m.encode(given)) if task == "embed" else (lambda m: m.predict(given))
    difference = np.abs(compute(exact) - compute(rounded)).max()
    assert 0 < difference < 0.1


def test_in_place_and_refused_above_the_limit(run, tmp_path: Path, pairs: Path) -> None:
    folder = write_small(tmp_path / "model", task="pair")
    code, out, err = run("quantize", "-m", folder, "--samples", pairs, "-d", pairs, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert json.loads(out)["kind"] == "pairs"
    assert [row["protocol"] for row in rows] == ["float32", "int8"]
    stored = read_folder(folder).record["int8"]["loss"]
    assert stored == pytest.approx(rows[0]["scores"]["auc"] - rows[1]["scores"]["auc"], abs=1e-3)
    update_record(folder, int8={**read_folder(folder).record["int8"], "loss": 0.31})
    with pytest.raises(InputError, match="loss of 0.31"):
        jinyi.PairScorer.load(folder, precision="int8")


def test_what_the_registry_knows_counts_and_stays(
    run, tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published folder has no jinyi.json: how its pairs are marked, and which label means similar, is by its name."""
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    facts = {"segment_ids": "zeros", "labels": ["similar", "not similar"]}
    monkeypatch.setattr("jinyi.registry.facts_of", lambda name: facts if name == "authors/pairs" else {})
    place = write_small(models_home() / "authors/pairs", "pair", outputs=2, similar_label=0)
    stated = update_record(place, target=tmp_path / "stated", segment_ids="zeros")
    for file in ("jinyi.json", "MANIFEST.sha256"):
        (place / file).unlink()
    edit(place / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id=None)
    for name, out in (("authors/pairs", "known"), (stated, "said")):
        options = ("--samples", pairs, "-d", f"toy={pairs}", "-o", tmp_path / out)
        code, _, err = run("quantize", "-m", name, *options)
        assert code == 0, err
    known, said = read_folder(tmp_path / "known"), read_folder(tmp_path / "said")
    assert (known.segment_ids, known.similar) == (said.segment_ids, said.similar) == ("zeros", 0)
    assert known.record["int8"] == said.record["int8"]
    expected, plain = said.ranges(), measure(place, [(a, b) for a, b, _ in PAIRS])
    ranges = known.ranges()
    assert ranges and expected and set(ranges) == set(expected)
    assert all(np.array_equal(ranges[key], expected[key]) for key in expected)
    assert any(not np.array_equal(ranges[key], plain[key]) for key in expected)


def test_faults(run, tmp_path: Path, pairs: Path) -> None:
    code, _, err = run("quantize", "-m", "jinyi-tiny-pair", "--samples", pairs, "-d", pairs)
    assert code == 2 and "--output" in err
    encoder = write_small(tmp_path / "mlm", task="mlm")
    code, _, err = run("quantize", "-m", encoder, "--samples", pairs, "-d", pairs)
    assert code == 2 and "task 'mlm'" in err
    texts = tmp_path / "texts.txt"
    texts.write_text("只有一句\n", encoding="utf-8")
    folder = write_small(tmp_path / "model", task="pair")
    code, _, err = run("quantize", "-m", folder, "--samples", pairs, "-d", pairs, "--rows", -1)
    assert code == 2 and "--rows" in err
    code, _, err = run("quantize", "-m", folder, "--samples", texts, "-d", pairs, "-o", encoder)
    assert code == 2 and "something there already" in err  # before any file is read
    code, _, err = run("quantize", "-m", folder, "--samples", texts, "-d", pairs)
    assert code == 2 and "texts.txt" in err
    assert read_folder(folder).ranges() is None


def test_ranges_that_do_not_fit_are_told_from_damage(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "model", golden=make_golden)
    wide = {name: np.float32(1e4) * span for name, span in measure(folder, ["今天天气好"]).items()}
    update_record(folder, ranges=wide, int8={"loss": 0.0, "metric": "spearman", "data": {}})
    jinyi.SentenceEncoder.load(folder)
    with pytest.raises(FolderError, match="give `jinyi quantize` more"):
        jinyi.SentenceEncoder.load(folder, precision="int8")


def test_int8_is_of_the_pooling_it_was_measured_with(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "model")
    update_record(
        folder, ranges=measure(folder, ["今天天气好"]), int8={"loss": 0.0, "metric": "spearman", "data": {}}
    )
    pooling = read_folder(folder).pooling
    other = "max" if pooling != "max" else "cls"
    jinyi.SentenceEncoder.load(folder, precision="int8", pooling=pooling)
    jinyi.SentenceEncoder.load(folder, pooling=other)
    with pytest.raises(InputError, match=f"found pooling '{other}'.*measured"):
        jinyi.SentenceEncoder.load(folder, precision="int8", pooling=other)
