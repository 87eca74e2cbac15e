"""The speed table: what is measured and said, with small shapes; no timing is asserted."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from jinyi.errors import InputError
from jinyi.evals.speed import SHAPES, Shape, evaluate_speed, make_shapes
from jinyi.evals.speed import systems as systems_module
from jinyi.evals.speed.shapes import write_shape
from jinyi.evals.speed.systems import Jinyi, Peer, installed_peers
from jinyi.evals.speed.texts import long_texts, made_up
from jinyi.tokens import Tokenizer

SMALL = Shape("small", 2, 32, 4, 64, 400)
QUICK: dict[str, Any] = {"rounds": 2, "seconds": 0.0, "singles": 3, "threads": 1}


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "small", SMALL)
    monkeypatch.setitem(SHAPES, "other", Shape("other", 1, 16, 2, 32, 500))


def test_shapes_have_the_published_sizes() -> None:
    parameters = {name: shape.parameters / 1e6 for name, shape in SHAPES.items()}
    pooler = {"base": 0.59, "tiny": 0.1}
    assert parameters["base-21k"] == pytest.approx(102.3 - pooler["base"], abs=0.1)
    assert parameters["base-8k"] == pytest.approx(92.2 - pooler["base"], abs=0.1)
    assert parameters["tiny-8k"] == pytest.approx(7.45 - pooler["tiny"], abs=0.1)


def test_unknown_shapes() -> None:
    with pytest.raises(InputError, match="Did you mean tiny-8k"):
        make_shapes(["tiny8k"])
    with pytest.raises(InputError, match="twice"):
        make_shapes(["small", "small"])
    with pytest.raises(InputError, match="neither a shape nor a model"):
        evaluate_speed([])
    with pytest.raises(InputError, match="2 distinct texts"):
        evaluate_speed(["small"], texts=["甲", "乙", "甲"])


def test_a_written_shape_has_its_vocabulary(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_shape(tmp_path / "small", SMALL))
    assert tokenizer.vocab_size == 400
    ids = [row for text in made_up(50) for row in tokenizer.ids_of_word(text)]
    assert ids.count(tokenizer.unk_id) == 0


def test_texts() -> None:
    texts = made_up(300)
    lengths = sorted(map(len, texts))
    assert len(set(texts)) == 300
    assert 11 <= lengths[150] <= 13
    assert made_up(300) == texts
    long = long_texts(texts[:20], 40, 126)
    assert {len(text) for text in long} == {126}
    assert len(set(long)) > 1


def test_table(small_folders: Path) -> None:
    said: list[str] = []
    trained: list[tuple[dict[str, Any], bool]] = []

    def train(sizes: Any, tokenizer: Path) -> list[float]:
        trained.append((dict(sizes), tokenizer.is_file()))
        return [100.0 * sizes["hidden_size"], 100.0 * sizes["hidden_size"]]

    folder = str(small_folders / "embed")
    texts = ["怎么改密码如何修"[start:] + str(number) for number in range(10) for start in range(4)]
    found = evaluate_speed(["small", "other"], [folder], texts=texts, train=train, say=said.append, **QUICK)
    assert found.kind == "speed"
    assert [row.data for row in found.rows] == ["small", "other", folder]
    assert {row.system for row in found.rows} == {"jinyi, float32"}
    assert [row.protocol for row in found.rows][:2] == [
        "2 x 32, 400 entries",
        "1 x 16, 500 entries",
    ]
    first, other, given = (row.scores for row in found.rows)
    assert first["speed-up"] == 1.0
    assert other["speed-up"] == pytest.approx(other["sentences/s"] / first["sentences/s"])
    assert first["p50 ms"] <= first["p99 ms"]
    assert (first["training tokens/s"], other["training tokens/s"]) == (3200, 1600)
    assert other["training speed-up"] == 0.5
    assert "training tokens/s" not in given
    assert "long texts/s" in first
    assert "long texts/s" not in given, "it reads 48 tokens"
    assert trained[0] == (
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
        True,
    )
    assert len(found.rows[0].settings["rates"]) == 2
    assert said[-1] == "training other"
    assert "6 sentences one by one" in found.notes[0]
    assert "the sentences given" in found.notes[0]


PEER = """
    import json, sys
    if sys.argv[1] == "probe":
        print(json.dumps({"good": "good 1.0", "bad": "bad 1.0", "broken": "broken 1.0"}))
        raise SystemExit
    if sys.argv[2] == "broken":
        raise ImportError("no module named peer")
    import jinyi
    model = jinyi.SentenceEncoder.load(sys.argv[3], threads=int(sys.argv[4]))
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        texts = request["texts"]
        if request["what"] == "vectors":
            vectors = model.encode(texts if sys.argv[2] == "good" else texts[::-1], normalize=False)
            answer = vectors.tolist()
        else:
            answer = 0.5 if request["what"] == "many" else [0.25 for _ in texts]
        print(json.dumps(answer), flush=True)
"""


def test_peers_are_measured_if_they_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "peer.py"
    script.write_text(textwrap.dedent(PEER), encoding="utf-8")
    monkeypatch.setattr(systems_module, "SCRIPT", script)
    found = evaluate_speed(["small", "other"], peers=sys.executable, **QUICK)
    assert [(row.data, row.system) for row in found.rows] == [
        ("small", "jinyi, float32"),
        ("small", "good"),
        ("other", "jinyi, float32"),
        ("other", "good"),
    ]
    good = found.rows[1].scores
    assert good["sentences/s"] == 32 / 0.5
    assert good["p99 ms"] == 250
    assert found.rows[3].scores["speed-up"] == 1.0, "compared with the same system"
    notes = "\n".join(found.notes)
    assert "good (good 1.0)" in notes
    assert "bad with small was left out: its vectors are at cosine" in notes
    assert (
        "broken with other was left out: it ended with exit code 1 ImportError: no module named peer" in notes
    )


def test_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable interpreter"):
        installed_peers(str(tmp_path / "python"))
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    other.chmod(0o755)
    with pytest.raises(InputError, match="no usable interpreter"):
        installed_peers(str(other))


def test_numbers_out_of_range(small_folders: Path) -> None:
    with pytest.raises(InputError, match="seconds: found inf"):
        evaluate_speed([], [str(small_folders / "embed")], seconds=float("inf"))
    texts = [f"句子{number}" for number in range(40)]
    few = evaluate_speed([], [str(small_folders / "embed")], texts=texts, rounds=1, seconds=0)
    assert "40 sentences one by one" in few.notes[0], "not the 50 that were asked for"


@pytest.mark.slow
def test_sentence_transformers_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    kind = "sentence-transformers, torch"
    assert installed_peers()[kind].startswith("sentence-transformers ")
    folder = write_shape(tmp_path / "small", SMALL)
    texts = made_up(8)
    peer = Peer(kind, sys.executable, folder, threads=1)
    try:
        own = Jinyi(folder, precision="float32", threads=1).vectors(texts)
        assert (peer.vectors(texts) * own).sum(1).min() > 0.9999
        assert peer.many(texts) > 0
        assert len(peer.one(texts)) == 8
    finally:
        peer.close()


def test_training_speed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from jinyi.train.speed import training_speed

    folder = write_shape(tmp_path / "small", SMALL)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    options: dict[str, Any] = {"texts": made_up(200), "rows": 4, "threads": 1}
    rates = training_speed(sizes, folder / "tokenizer.json", steps=2, **options)
    assert len(rates) == 2
    assert min(rates) > 0
    with pytest.raises(InputError, match="steps"):
        training_speed(sizes, folder / "tokenizer.json", steps=0, **options)


def test_command(tmp_path: Path, run: Any) -> None:
    arguments = ("evaluate", "speed", "--shapes", "small", "--rounds", 1, "--seconds", 0, "--singles", 2)
    code, out, error = run(*arguments, "--no-training", "--output", tmp_path / "report", "--json")
    assert code == 0, error
    body = json.loads(out)
    assert body["kind"] == "speed"
    assert body["rows"][0]["data"] == "small"
    assert (tmp_path / "report/report.html").is_file()
    code, _, error = run("evaluate", "speed", "--shapes", "smal")
    assert code == 2
    assert "Did you mean small" in error
    assert run(*arguments, "--training-precision", "half")[0] == 2
