"""`jinyi average`: the mean of the weights of several models of one kind, as a model folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from jinyi.convert.average import average
from jinyi.errors import FolderError, InputError
from jinyi.folder import read_folder, update_record
from jinyi.models.golden import make_golden
from jinyi.models.seen import MOST_HASHES, SeenTexts, seen_texts
from jinyi.registry import models_home
from jinyi.tokens import build_tokenizer
from small_models import CONFIG, VOCAB, random_weights, whitening, write_small

HEADS = {"embed": "", "pair": "classifier", "topic": "mlm", "mlm": "mlm", "encoder": ""}


def small(path: Path, task: str, seed: int, **options: Any) -> Path:
    return write_small(path, task=task, weights=random_weights(head=HEADS[task], seed=seed), **options)


@pytest.mark.parametrize("task", list(HEADS))
def test_weights_are_the_weighted_mean(tmp_path: Path, task: str) -> None:
    parts = [small(tmp_path / f"seed{seed}", task, seed) for seed in range(3)]
    made = read_folder(average(list(zip(parts, (1, 2, 5), strict=True)), tmp_path / "mean"))
    assert (made.task, made.config) == (task, CONFIG)
    given = [read_folder(part).weights() for part in parts]
    assert set(made.weights()) == set(given[0])
    for key, tensor in made.weights().items():
        expected = sum(np.asarray(w[key], np.float64) * s for w, s in zip(given, (1, 2, 5), strict=True)) / 8
        np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-7)
        assert not np.allclose(tensor, given[2][key]) or np.allclose(given[0][key], given[2][key])


def test_what_was_measured_on_other_weights_stays_behind(tmp_path: Path) -> None:
    parts = [small(tmp_path / f"seed{seed}", "pair", seed, golden=make_golden) for seed in range(2)]
    for part in parts:
        update_record(
            part,
            results=[{"protocol": "dev"}],
            int8={"loss": 0.1, "metric": "AUC", "data": {}},
            ranges={"x": np.zeros((2, 3), np.float32)},
            calibration={"method": "platt", "slope": 2.0, "intercept": 0.0, "points": {}},
        )
    made = read_folder(average([(part, 1) for part in parts], tmp_path / "mean", summary="两个"))
    assert made.ranges() is None and read_folder(parts[0]).ranges() is not None
    assert [made.record[key] for key in ("results", "int8", "calibration", "summary")] == [
        [],
        None,
        None,
        "两个",
    ]
    golden = [read_folder(path).golden.values for path in (*parts, made.path)]
    assert not any(np.allclose(golden[2], other) for other in golden[:2])
    jinyi.PairScorer.load(made.path).predict([("怎么改密码", "如何修改密码")])  # checks the golden pairs


def test_topic_words_and_texts_of_all_are_kept(tmp_path: Path) -> None:
    sketches = [SeenTexts.of([[number] for number in range(*span)]) for span in ((0, 30), (20, 50))]
    words = (["体育", "财经"], ["体育", "新闻"])
    parts = [
        small(
            tmp_path / f"seed{seed}",
            "topic",
            seed,
            labels=["体育", "财经"],
            prompts={"news": "一则{}的新闻：", "more": "关于{}："},
            default_prompt_name="news",
            trained_words=words[seed],
            seen_texts=sketches[seed].to_text(),
            licence="Apache-2.0",
        )
        for seed in range(2)
    ]
    made = read_folder(average([(part, 1) for part in parts], tmp_path / "mean"))
    assert made.record["trained_words"] == ["体育", "新闻", "财经"]
    assert (
        seen_texts(made).hashes.tolist() == SeenTexts.of([[number] for number in range(50)]).hashes.tolist()
    )
    assert (made.labels, made.default_prompt_name, made.record["licence"]) == (
        ("体育", "财经"),
        "news",
        "Apache-2.0",
    )
    update_record(parts[1], seen_texts=None)
    half = read_folder(average([(part, 1) for part in parts], tmp_path / "half"))
    assert seen_texts(half).hashes.tolist() == sketches[0].hashes.tolist()  # what is told is known


def test_merged_sketches_are_those_of_all_texts() -> None:
    texts = [[[number, side] for number in range(count)] for side, count in enumerate((9000, 20000, 50))]
    whole = SeenTexts.of([text for part in texts for text in part])
    merged = SeenTexts.of(texts[2]).merged(SeenTexts.of(texts[0])).merged(SeenTexts.of(texts[1]))
    assert len(whole.hashes) == MOST_HASHES and merged.hashes.tolist() == whole.hashes.tolist()


def test_training_of_each_part_is_recorded(run, tmp_path: Path) -> None:
    runs = [
        {
            "recipe": {"name": f"run{seed}", "data.train.0.file": "own/train.jsonl"},
            "seed": seed,
            "step": 7,
            "data": {"own/train.jsonl": "a1b2", "own/dev.jsonl": "c3d4"},
        }
        for seed in range(2)
    ]
    plain = dict(runs[1]["recipe"])
    runs[1]["recipe"] |= {"output.card": "长长的", "data.train.0.limit": None}
    parts = [small(tmp_path / f"seed{seed}", "embed", seed, training=runs[seed]) for seed in range(2)]
    card = tmp_path / "card.md"
    card.write_text("## 数据\n\n自己的。\n", encoding="utf-8")
    code, out, err = run(
        "average", f"{parts[0]}=0.3", f"{parts[1]}=0.1", "-o", tmp_path / "mean", "--card", card, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["path"] == str(tmp_path / "mean")
    told = read_folder(tmp_path / "mean").record["training"]["average_of"]
    assert [(part["name"], part["weight"], part["training"]) for part in told] == [
        ("seed0", pytest.approx(0.75), runs[0]),
        ("seed1", pytest.approx(0.25), {**runs[1], "recipe": plain}),
    ]
    assert set(told[0]["sha256"]) == {"model.safetensors"} and told[0]["sha256"] != told[1]["sha256"]
    readme = (tmp_path / "mean/README.md").read_text(encoding="utf-8")
    assert "| 0.75 | seed0 | run0 | 0 | 7 |" in readme and readme.endswith("\n\n## 数据\n\n自己的。\n")
    assert "| own/train.jsonl | a1b2 |" in readme and "c3d4" not in readme
    code, out, err = run("models", "show", tmp_path / "mean")
    assert code == 0 and all(words in out for words in ("weight: 0.75", "model: seed0", "recipe: run1")), (
        out + err
    )


def test_means_of_means_and_runs_of_one_name(run, tmp_path: Path) -> None:
    def trained(seed: int, digest: str) -> dict[str, Any]:
        recipe = {"name": "r|un", "data.train.0.file": "/own/x.jsonl", "data.train.0.name": "x"}
        return {"recipe": recipe, "seed": seed, "data": {"/own/x.jsonl": digest}}

    parts = [
        small(tmp_path / f"seed{seed}", "embed", seed, name="tiny", training=trained(seed, f"a{seed}"))
        for seed in range(3)
    ]
    bare = small(tmp_path / "bare", "embed", 4, training={"recipe": "r.yaml"})
    first = average([(part, 1) for part in parts], tmp_path / "first", name="first")
    assert [run(*("models", "show", first))[1].count(f"seed: {seed}") for seed in range(3)] == [1, 1, 1]
    made = average([(first, 3), (bare, 1)], tmp_path / "mean")
    readme = (made / "README.md").read_text(encoding="utf-8")
    assert "| 0.75 | first |  |  |  |" in readme and "| 0.333 | of this: tiny | r\\|un | 2 |  |" in readme
    assert [f"| x | a{seed} |" in readme for seed in range(3)] == [True] * 3 and "/own" not in readme
    code, out, err = run("models", "show", made)
    assert code == 0 and "mean of: 3" in out, out + err


def test_a_published_model_is_read_with_what_is_known_of_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    name = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
    published = small(models_home() / name, "encoder", 0)
    for file in ("jinyi.json", "MANIFEST.sha256"):
        (published / file).unlink()
    other = small(tmp_path / "more", "embed", 1, pooling="cls")
    made = read_folder(average([(name, 1), (other, 1)], tmp_path / "mean"))
    assert (made.task, made.pooling) == ("embed", "cls")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_options_and_stored_type(run, tmp_path: Path, dtype: str) -> None:
    parts = [
        small(tmp_path / f"seed{seed}", "embed", seed, dtype=dtype, licence=licence)
        for seed, licence in enumerate(("MIT", "Apache-2.0"))
    ]
    options = {"--name": "mine", "--summary": "一句", "--licence": "CC0-1.0"}
    told = [part for option in options.items() for part in option]
    code, _, err = run("average", *parts, "-o", tmp_path / "mean", *told)
    assert code == 0, err
    made = read_folder(tmp_path / "mean")
    assert made.stored_type == dtype
    assert [made.record[key] for key in ("name", "summary", "licence")] == list(options.values())
    code, _, err = run("average", *parts, "-o", tmp_path / "more", *told, "--dtype", "float32")
    assert code == 0 and read_folder(tmp_path / "more").stored_type == "float32"


def other_kinds() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    wider = replace(CONFIG, intermediate_size=48)
    fewer = [*VOCAB[:-2], VOCAB[-1], VOCAB[-2]]
    pair = {"task": "pair", "outputs": 2}
    return {
        "task": ({}, {"task": "pair"}),
        "pooling": ({}, {"pooling": "cls"}),
        "intermediate_size": ({}, {"config": wider, "weights": random_weights(wider)}),
        "vocabulary": ({}, {"tokenizer": build_tokenizer(fewer)}),
        "dense layers": ({}, {"dense": [whitening()]}),
        "labels": (pair | {"labels": ["no", "similar"]}, pair | {"labels": ["different", "similar"]}),
        "similar label": (pair | {"similar_label": 0}, pair | {"similar_label": 1}),
        "segment ids": ({"task": "pair"}, {"task": "pair", "segment_ids": "zeros"}),
        "problem type": (pair, pair | {"problem_type": "multi_label_classification"}),
    }


@pytest.mark.parametrize("kind", list(other_kinds()))
def test_models_of_different_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    one, two = other_kinds()[kind]
    first, other = write_small(tmp_path / "first", **one), write_small(tmp_path / "other", **two)
    again = write_small(tmp_path / "again", **one)
    with pytest.raises(FolderError, match=f"its own {kind}"):
        average([(first, 1), (again, 1), (other, 1)], tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "first", "other"]


def test_equal_dense_layers_and_other_dropout_are_no_hindrance(tmp_path: Path) -> None:
    parts = [
        small(tmp_path / "a", "embed", 0, dense=[whitening()]),
        small(
            tmp_path / "b", "embed", 1, dense=[whitening()], config=replace(CONFIG, hidden_dropout_prob=0.0)
        ),
    ]
    made = read_folder(average([(part, 1) for part in parts], tmp_path / "mean", dtype="float16"))
    np.testing.assert_array_equal(made.dense[0][0], whitening()[0])
    assert made.stored_type == "float16"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["a"], "1 of them"),
        (["a", "a"], "the same model twice"),
        (["a", "b/../a"], "the same model twice"),
        (["a=0", "b"], "a number above 0"),
        (["a=-1", "b"], "-1"),
        (["a=nan", "b"], "nan"),
        (["a", "b=inf"], "inf"),
        (["a=half", "b"], "the weight 'half'"),
        (["a", "licensed"], "Apache-2.0, None"),
        (["a", "fitted"], "fitted or saved TopicClassifier"),
    ],
)
def test_wrong_use(run, tmp_path: Path, monkeypatch, models: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        small(tmp_path / name, "embed", seed)
    small(tmp_path / "licensed", "embed", 2, licence="Apache-2.0")
    if "fitted" in models:
        encoder = small(tmp_path / "topic", "topic", 3, labels=["体育", "财经"])
        jinyi.TopicClassifier.load(encoder).save(tmp_path / "fitted")
        models = ["topic", "fitted"]
    code, out, err = run("average", *models, "-o", "mean")
    assert (code, out) == (2, "") and words in err and "fix" in err, err
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("weight", ["1", None, True, 10**400])
def test_weights_that_are_none(tmp_path: Path, weight: Any) -> None:
    parts = [small(tmp_path / name, "embed", seed) for seed, name in enumerate("ab")]
    with pytest.raises(InputError, match="a number above 0"):
        average([(parts[0], 1), (parts[1], weight)], tmp_path / "mean")


def test_weights_of_any_size_and_paths_with_an_equals_sign(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("lr=1", "lr=2")):
        small(tmp_path / name, "embed", seed)
    code, out, err = run("average", "lr=1", "lr=2=3", "-o", "mean", "--json")
    assert code == 0 and [part["weight"] for part in json.loads(out)["models"]] == [1, 3], err
    made = read_folder(average([("lr=1", np.float32(1e38)), ("lr=2", 1e308)], "other"))
    assert made.record["training"]["average_of"][1]["weight"] == pytest.approx(1)


def test_models_inside_the_folder_to_replace_stay(run, tmp_path: Path) -> None:
    outer = small(tmp_path / "outer", "embed", 0)
    parts = [small(outer / name, "embed", seed) for seed, name in enumerate("ab")]
    code, _, err = run("average", *parts, "-o", outer, "--overwrite")
    assert code == 2 and "a model inside" in err
    assert all((part / "model.safetensors").is_file() for part in parts)


def test_a_model_there_is_replaced_when_asked(run, tmp_path: Path) -> None:
    parts = [small(tmp_path / f"seed{seed}", "embed", seed) for seed in range(2)]
    before = (parts[0] / "model.safetensors").read_bytes()
    code, _, err = run("average", *parts, "-o", parts[0])
    assert code == 2 and "there already" in err
    assert (parts[0] / "model.safetensors").read_bytes() == before
    code, _, err = run("average", *parts, "-o", parts[0], "--overwrite")
    assert code == 0, err
    assert (parts[0] / "model.safetensors").read_bytes() != before
    code, _, err = run("average", *parts, "-o", tmp_path / "more", "--card", tmp_path / "none.md")
    assert code == 2 and "none.md" in err
