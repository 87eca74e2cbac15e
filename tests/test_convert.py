"""Models of every form converted: equal to what transformers computes from the source, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BertForMaskedLM,
    BertTokenizer,
)

import jinyi
from convert_tools import (
    BIN,
    TF,
    lay_out,
    left_behind,
    original,
    probabilities,
    scores,
    shards,
)
from folder_tools import edit
from jinyi.convert import Conversion, convert
from jinyi.convert.parity import TEXT_PAIRS, TEXTS
from jinyi.errors import FolderError, InputError, JinyiError, ModelNotFoundError
from jinyi.folder import update_record
from small_models import CONFIG, random_weights, write_small

pytestmark = pytest.mark.filterwarnings("ignore::jinyi.errors.TruncationWarning")  # some texts are long


# Heads


def test_two_logits_as_one(tmp_path: Path) -> None:
    model = original()
    source = lay_out(tmp_path / "source", model)
    done = convert(source, tmp_path / "out", logits=1)
    assert done.folder.n_labels == 1 and done.folder.labels == ("similarity",)
    two = jinyi.PairScorer.load(convert(source, tmp_path / "two").path)
    np.testing.assert_allclose(
        scores(done.path), two.predict(list(TEXT_PAIRS), symmetric=False), atol=1e-6, rtol=0
    )
    np.testing.assert_allclose(scores(done.path), probabilities(model, source), atol=1e-5)
    config = json.loads((done.path / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "similarity"} and config["label2id"] == {"similarity": 0}
    assert "Two logits became one" in done.changes[0]
    again = convert(done.path, tmp_path / "again", logits=1)
    assert again.changes == () and "one logit already" in again.notes[-1]


@pytest.mark.slow  # importing sentence_transformers takes most of it
def test_one_logit_in_a_cross_encoder(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    model = original()
    source = lay_out(tmp_path / "source", model)
    cross = CrossEncoder(str(convert(source, tmp_path / "out", logits=1).path), device="cpu")
    np.testing.assert_allclose(cross.predict(TEXT_PAIRS), probabilities(model, source), atol=1e-5)
    ranked = cross.rank(TEXTS[0], list(TEXTS[1:4]))
    best = np.argmax(cross.predict([(TEXTS[0], text) for text in TEXTS[1:4]]))
    assert len(ranked) == 3 and ranked[0]["corpus_id"] == best


@pytest.mark.parametrize("labels", [{0: "相似", 1: "不相似"}, {0: "LABEL_0", 1: "LABEL_1"}, {0: "a", 1: "b"}])
def test_which_label_means_similar(tmp_path: Path, labels: dict[int, str]) -> None:
    model = original()
    source = lay_out(tmp_path / "source", model)
    edit(source / "config.json", id2label=labels, label2id={name: index for index, name in labels.items()})
    first = "不相似" in labels.values()
    options = {"similar_label": "b"} if "b" in labels.values() else {}
    if options:
        with pytest.raises(FolderError, match="similar_label="):
            convert(source, tmp_path / "out", logits=1)
    done = convert(source, tmp_path / "out", logits=1, **options)
    expected = probabilities(model, source)
    np.testing.assert_allclose(scores(done.path), 1 - expected if first else expected, atol=1e-5)
    assert done.folder.labels == ({"相似": "相似", "LABEL_0": "similar", "a": "b"}[labels[0]],)


def test_calibration_and_ranges_stay_with_one_logit(tmp_path: Path) -> None:
    weights = random_weights(head="classifier", labels=2)
    options = {"outputs": 2, "labels": ["similar", "not similar"], "weights": weights}
    ranges = {"encoder.layer.0.attention.self": np.ones((2, 32), np.float32)}
    source = write_small(tmp_path / "m", "pair", ranges=ranges, **options)
    thresholds = {"rows": 10, "similar": 5, "points": [[0.5, 8, 5]]}
    platt = {"method": "platt", "scores": [0.0], "log_odds": [1.0], "slope": 0.5}
    calibration = {**platt, "output": 0, "thresholds": thresholds}
    source = update_record(source, calibration=calibration, similar_label="similar")
    expected = jinyi.PairScorer.load(source).predict(list(TEXT_PAIRS))
    done = convert(source, tmp_path / "one", logits=1)
    scorer = jinyi.PairScorer.load(done.path)
    assert scorer.calibration == "platt" and scorer.threshold() == 0.5
    np.testing.assert_allclose(scorer.predict(list(TEXT_PAIRS)), expected, atol=1e-6)
    assert done.folder.ranges() is not None
    other = convert(source, tmp_path / "other", similar_label="not similar", logits=1)
    assert jinyi.PairScorer.load(other.path).calibration is None, "it was fitted for the other output"


def test_more_than_two_outputs(tmp_path: Path) -> None:
    source = write_small(tmp_path / "m", "classes", outputs=3, labels=["体育", "财经", "新闻"])
    assert convert(source, tmp_path / "same").parity.compared == "probabilities"
    with pytest.raises(FolderError, match="3 outputs"):
        convert(source, tmp_path / "one", logits=1)


def test_encoder_of_a_language_model(tmp_path: Path) -> None:
    model = original("mlm")
    source = lay_out(tmp_path / "source", model)
    kept = convert(source, tmp_path / "mlm")
    assert kept.folder.task == "mlm" and kept.parity.compared == "log-probabilities of words"
    BertForMaskedLM.from_pretrained(kept.path)
    done = convert(source, tmp_path / "encoder", encoder=True, pooling="mean")
    head = [name for name in model.state_dict() if name.startswith("cls.")]
    assert set(done.account.dropped) == set(head)
    numbers = sum(p.numel() for name, p in model.named_parameters() if name.startswith("cls."))
    assert done.account.dropped_parameters == numbers > 0, "the decoder, tied, is not counted again"
    assert done.account.added == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    tokenizer = BertTokenizer.from_pretrained(source)
    batch = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = model.bert(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    expected = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    ours = jinyi.SentenceEncoder.load(done.path).encode(list(TEXTS), normalize=False, truncate="warn")
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_encoder_without_a_word_on_pooling(tmp_path: Path) -> None:
    topic = write_small(tmp_path / "topic", "topic", labels=["体育", "财经"], prompts={"news": "关于{}："})
    done = convert(topic, tmp_path / "encoder", encoder=True)
    assert (done.folder.task, done.folder.pooling, done.parity.compared) == ("encoder", None, "hidden states")
    assert done.parity.least_cosine == pytest.approx(1)
    assert not done.folder.prompts and not done.folder.labels, "they belong to the language model"
    with pytest.raises(FolderError, match="--pooling"):
        convert(topic, tmp_path / "embed", task="embed")
    done = convert(tmp_path / "encoder", tmp_path / "embed", pooling="cls")
    assert (done.folder.task, done.folder.pooling) == ("embed", "cls")


# Types


@pytest.mark.parametrize("task", ["embed", "pair", "mlm"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_types(tmp_path: Path, task: str, dtype: str) -> None:
    done = convert(write_small(tmp_path / "m", task), tmp_path / "out", dtype=dtype)
    stored = load_file(done.path / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    before = load_file(tmp_path / "m" / "model.safetensors")
    for name, tensor in before.items():
        assert torch.equal(stored[name], tensor.to(getattr(torch, dtype))), "rounded as torch rounds"
    back = convert(done.path, tmp_path / "back", dtype="float32")
    assert back.parity.largest_difference <= 1e-5, "nothing more is lost"


def test_a_type_that_cannot_hold_the_weights(tmp_path: Path) -> None:
    weights = random_weights()
    for name in ("word", "position", "token_type"):
        weights[f"embeddings.{name}_embeddings.weight"] *= 1e-9  # float16 ends at 6e-8
    source = write_small(tmp_path / "small", weights=weights, config=replace(CONFIG, layer_norm_eps=1e-30))
    with pytest.raises(FolderError, match="--dtype float32") as caught:
        convert(source, tmp_path / "out", dtype="float16")
    assert "least cosine" in caught.value.found
    weights = random_weights() | {"embeddings.LayerNorm.weight": np.full(32, 1e5, np.float32)}
    source = write_small(tmp_path / "large", weights=weights)
    with pytest.raises(FolderError, match="not finite"):
        convert(source, tmp_path / "out", dtype="float16")
    assert sorted(os.listdir(tmp_path)) == ["large", "small"], "nothing is left behind"
    convert(source, tmp_path / "out", dtype="bfloat16")


def test_a_wrong_result_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jinyi.convert import conversion

    source = lay_out(tmp_path / "source", original())
    right = conversion.one_logit
    monkeypatch.setattr(
        conversion, "one_logit", lambda folder: {name: -row for name, row in right(folder).items()}
    )
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(FolderError, match="says something else"):
            convert(source, tmp_path / "out", logits=1, dtype=dtype)
    assert os.listdir(tmp_path) == ["source"]


# The folder


def test_what_is_carried_over_and_recorded(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", original())
    card = "---\nlanguage: zh\nlicense: apache-2.0\n---\n# Model\nlicense: none of this\n"
    (source / "README.md").write_text(card, encoding="utf-8")
    done = convert(source, tmp_path / "out", summary="P(similar).")
    record = done.folder.record
    assert record["licence"] == "apache-2.0" and record["summary"] == "P(similar)."
    made = record["conversion"]
    assert (made["source"], made["form"], made["stored_as"]) == ("source", "PyTorch weights", "float32")
    assert made["parity"]["largest_difference"] == done.parity.largest_difference
    assert record["golden"]["kind"] == "scores"
    assert str(tmp_path) not in json.dumps(record), "no paths of this machine"
    body = json.loads(json.dumps(done.to_dict()))
    assert body["task"] == "pair" and body["parity"]["most_allowed"] == 1e-6


def test_results_belong_to_their_pooling(tmp_path: Path) -> None:
    source = write_small(tmp_path / "m", pooling="cls", results=[{"name": "sts", "value": 0.5}])
    assert convert(source, tmp_path / "same").folder.record["results"]
    other = convert(source, tmp_path / "other", pooling="mean").folder
    assert other.pooling == "mean" and not other.record["results"]


def test_in_place_and_over_others(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", original())
    expected = probabilities(original(), source)
    with pytest.raises(FolderError, match="overwrite=True"):
        convert(source, source)
    done = convert(source, source, overwrite=True, logits=1)
    assert not (done.path / BIN).exists()
    np.testing.assert_allclose(scores(source), expected, atol=1e-5)
    again = convert(source, source, overwrite=True, dtype="float16", encoder=True)
    assert set(again.account.dropped) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} | {
        "classifier.weight",
        "classifier.bias",
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(FolderError, match="only a model folder"):
        convert(source, tmp_path / "mine", overwrite=True)


def test_other_configuration_and_vocabulary(tmp_path: Path) -> None:
    model = original()
    source = lay_out(tmp_path / "source", model)
    expected = probabilities(model, source)
    for name in ("vocab.txt", "config.json"):
        (source / name).rename(tmp_path / name)
    with pytest.raises(FolderError, match="--config"):
        convert(source, tmp_path / "out")
    given = {"config": tmp_path / "config.json"}
    with pytest.raises(FolderError, match=r"vocab\.txt"):
        convert(source, tmp_path / "out", **given)
    done = convert(source, tmp_path / "out", vocab=tmp_path / "vocab.txt", **given)
    np.testing.assert_allclose(scores(done.path), expected, atol=1e-5)
    again = convert(done.path, tmp_path / "again", vocab=done.path / "tokenizer.json")
    np.testing.assert_allclose(scores(again.path), expected, atol=1e-5)
    with pytest.raises(InputError, match="--vocab"):
        convert(source, tmp_path / "third", vocab=tmp_path / "none.txt")
    assert left_behind(tmp_path) == []


def test_refused_sources(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", original())
    shards(source)
    (source / "pytorch_model-00002-of-00002.bin").unlink()
    empty = tmp_path / "empty"
    empty.mkdir()
    keras = shutil.copytree(source, tmp_path / "keras", ignore=shutil.ignore_patterns("*.bin*"))
    (keras / "tf_model.h5").write_bytes(b"\x89HDF")
    broken = lay_out(tmp_path / "broken", original())
    (broken / BIN).write_bytes((broken / BIN).read_bytes()[:-5000])
    nan = original()
    torch.nn.init.constant_(nan.classifier.bias, float("nan"))
    roberta = lay_out(tmp_path / "roberta", original(), lambda name: name.replace("bert.", "roberta."))
    for path, words in (
        (source, "00002-of-00002.bin not there"),
        (empty, "no weights"),
        (keras, "tf_model.h5"),
        (broken, "damaged archive"),
        (lay_out(tmp_path / "nan", nan), "not finite"),
        (roberta, "true RoBERTa"),
        (tmp_path / "none", "no model and no folder"),
        (source / "config.json", "begins with"),
    ):
        with pytest.raises(JinyiError, match=words):
            convert(path, tmp_path / "out" / "model")
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("form", ["bin", "zip"])
def test_a_full_disk(tmp_path: Path, form: str) -> None:
    """Also while the source is laid out, before any folder is begun."""
    source = lay_out(tmp_path / "source", original())
    if form == "zip":
        pair = Path(__file__).with_name("fixtures") / "tf" / "pair"
        source = Path(shutil.make_archive(str(tmp_path / "pair"), "zip", pair))
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from jinyi.cli import main\nmain()"
    )
    command = [sys.executable, "-c", limited, "convert", source, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "a disk that refuses" in done.stderr and "Free space" in done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted({"source", source.name})


def test_messages_name_the_source(tmp_path: Path) -> None:
    """And not the place where it was laid out, which is gone by then."""
    source = lay_out(tmp_path / "source", original())
    edit(source / "config.json", num_attention_heads=7)
    with pytest.raises(FolderError) as caught:
        convert(source, tmp_path / "out", task="mlm")
    assert ".tmp" not in str(caught.value)
    edit(source / "config.json", num_attention_heads=4)
    with pytest.raises(FolderError, match="masked language model") as caught:
        convert(source, tmp_path / "out", task="mlm")
    assert caught.value.where == str(source)


def test_nothing_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(tmp_path / "source", original()))
    with pytest.raises(ModelNotFoundError):
        convert("", tmp_path / "out")
    assert convert(".", tmp_path / "out").folder.task == "pair"


def test_refused_options(tmp_path: Path, small_folders: Path) -> None:
    for options, words in (
        (dict(dtype="int8"), "bfloat16"),
        (dict(logits=2), "logits"),
        (dict(encoder=True, logits=1), "encoder"),
        (dict(encoder=True, task="pair"), "encoder"),
        (dict(task="cook"), "cook"),
        (dict(pooling="best"), "best"),
    ):
        with pytest.raises(InputError, match=words):
            convert(small_folders / "pair", tmp_path / "out", **options)
    assert os.listdir(tmp_path) == []


# The command


def test_command(run, tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", original())
    code, out, err = run("convert", source, tmp_path / "out", "--logits", 1, "--dtype", "float16")
    assert code == 0 and f"written: {tmp_path / 'out'}" in err
    for words in (
        BIN,
        "bert, 2 layers, 32 wide",
        "float16 (was float32)",
        "Two logits",
        "parity",
        "similarity",
    ):
        assert words in out, words
    code, out, err = run("convert", source, tmp_path / "encoder", "--encoder", "--pooling", "cls", "--json")
    assert code == 0 and err == ""
    body = json.loads(out)
    assert body["task"] == "embed" and body["dropped_parameters"] == 32 * 32 + 32 + 2 * 32 + 2
    assert body["parity"]["least_cosine"] == pytest.approx(1)
    code, out, err = run("convert", TF / "bert", tmp_path / "tf")
    assert code == 0 and "TensorFlow checkpoint" in out and "optimiser" in out and "->" in out
    code, out, err = run("convert", source, tmp_path / "out")
    assert code == 2 and "there already" in err
    code, out, err = run("convert", tmp_path / "nothing", tmp_path / "new", "--json")
    assert code == 2 and "error" in json.loads(err)


def test_report_is_complete(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", original("mlm"), lambda name: f"model.{name}")
    state = torch.load(source / BIN, weights_only=True)
    state |= {
        "model.bert.embeddings.position_ids": torch.arange(128)[None],
        "cls.seq_relationship.bias": torch.ones(2),
    }
    torch.save(state, source / BIN)
    done: Conversion = convert(source, tmp_path / "out")
    assert done.left_out == {"whole numbers": ("model.bert.embeddings.position_ids",)}
    assert "cls.seq_relationship.bias" in done.account.dropped and done.account.dropped_parameters == 2
    now = set(load_file(done.path / "model.safetensors"))
    before = {name for name in state if name not in done.account.dropped and "position_ids" not in name}
    assert {done.account.renamed.get(name, name) for name in now} == before, "every tensor is accounted for"
