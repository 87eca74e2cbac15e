"""`convert` on every form of source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    BertForSequenceClassification,
)

import jinyi
from convert_tools import (
    BIN,
    OTHERS,
    TF,
    lay_out,
    left_behind,
    original,
    probabilities,
    scores,
    shards,
)
from folder_tools import edit
from jinyi.convert import convert
from jinyi.convert.parity import TEXT_PAIRS, TEXTS
from jinyi.errors import FolderError, ModelNotFoundError
from jinyi.folder import read_folder, verify_folder
from small_models import whitening, write_small

pytestmark = pytest.mark.filterwarnings("ignore::jinyi.errors.TruncationWarning")  # some texts are long


def old_format(folder: Path) -> None:
    state = torch.load(folder / BIN, weights_only=True)
    torch.save(state, folder / BIN, _use_new_zipfile_serialization=False)


def other_name(folder: Path) -> None:
    (folder / BIN).rename(folder / "best.pt")
    (folder / "config.json").rename(folder / "bert_config.json")
    torch.save({"lr": 1e-3}, folder / "training_args.bin")
    torch.save({}, folder / "optimizer.pt")


def training_checkpoint(folder: Path) -> None:
    torch.save({"epoch": 1, "state_dict": torch.load(folder / BIN, weights_only=True)}, folder / BIN)


def links(folder: Path) -> None:
    """As the hub's cache has it."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))


def sharded_safetensors(folder: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / BIN).unlink()


FORMS = [lambda folder: None, shards, old_format, other_name, training_checkpoint, links, sharded_safetensors]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_says_the_same(tmp_path: Path, form: Any) -> None:
    model = original()
    source = lay_out(tmp_path / "source", model)
    expected = probabilities(model, source)
    form(source)
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    done = convert(source, tmp_path / "out")
    np.testing.assert_allclose(scores(done.path), expected, atol=1e-5)
    again = BertForSequenceClassification.from_pretrained(done.path)
    np.testing.assert_allclose(probabilities(again, done.path), expected, atol=1e-6)
    assert done.folder.labels == ("not similarity", "similarity") and done.stored_before == "float32"
    assert done.parity.largest_difference <= 1e-6 and done.parity.rows == len(TEXT_PAIRS)
    verify_folder(done.path)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before
    assert left_behind(tmp_path) == []


def test_a_file_itself(tmp_path: Path) -> None:
    model = original()
    source = lay_out(tmp_path / "source", model)
    expected = probabilities(model, source)
    torch.save(original("encoder").state_dict(), source / "other.bin")
    (source / BIN).rename(source / "right.bin")
    with pytest.raises(FolderError, match="2 files that may hold the weights"):
        convert(source, tmp_path / "out")
    done = convert(source / "right.bin", tmp_path / "out")
    np.testing.assert_allclose(scores(done.path), expected, atol=1e-5)
    save_file(torch.load(source / "right.bin", weights_only=True), source / "right.safetensors")
    done = convert(source / "right.safetensors", tmp_path / "safe")
    assert done.form == "safetensors" and done.files == ("right.safetensors",)
    np.testing.assert_allclose(scores(done.path), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "pair", "albert", "roformer"])
def test_tensorflow(tmp_path: Path, kind: str) -> None:
    done = convert(TF / kind, tmp_path / "out")
    assert done.form == "TensorFlow checkpoint"
    assert done.folder.task == ("pair" if kind == "pair" else "mlm")
    assert done.account.renamed and not any("." in old for old in done.account.renamed.values()), (
        "TensorFlow's"
    )
    verify_folder(done.path)
    AutoModel.from_pretrained(done.path)


def test_half_precision_and_other_names(tmp_path: Path) -> None:
    def old_names(name: str) -> str:
        module, _, kind = name.rpartition(".")
        kind = {"weight": "gamma", "bias": "beta"}[kind] if module.endswith("LayerNorm") else kind
        return f"{module}.{kind}"

    for dtype, stored in (
        (torch.float16, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.float64, "float32"),
    ):
        model = original().to(dtype)
        source = lay_out(tmp_path / f"{stored}", model, old_names, dtype)
        edit(source / "config.json", model_type="roberta", vocab_size=21128)
        done = convert(source, tmp_path / f"{stored}-out")
        assert (done.stored_before, done.dtype) == (stored, stored)
        np.testing.assert_allclose(scores(done.path), probabilities(model, done.path), atol=1e-5)
        assert done.account.renamed["bert.embeddings.LayerNorm.weight"] == "bert.embeddings.LayerNorm.gamma"
        assert json.loads((done.path / "config.json").read_text(encoding="utf-8"))["model_type"] == "bert"
        assert any("21128" in note for note in done.notes)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    model = original(kind)
    source = lay_out(tmp_path / "source", model)
    done = convert(source, tmp_path / "out", logits=1)
    np.testing.assert_allclose(scores(done.path), probabilities(model, source), atol=1e-5)
    assert done.folder.raw_config["model_type"] == kind and done.account.dropped == ()


def test_dense_modules_of_old_sentence_transformers(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", dense=[whitening()])
    expected = jinyi.SentenceEncoder.load(path).encode(list(TEXTS[:3]))
    (path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(FolderError, match="jinyi convert") as caught:
        read_folder(path)
    assert f"jinyi convert {path} " in caught.value.fix, "the whole model, not the module"
    done = convert(path, tmp_path / "out")
    np.testing.assert_allclose(
        jinyi.SentenceEncoder.load(done.path).encode(list(TEXTS[:3])), expected, atol=1e-6
    )


def test_names_and_what_is_known_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    name = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
    with pytest.raises(ModelNotFoundError, match="jinyi models download"):
        convert(name, tmp_path / "out")
    source = lay_out(tmp_path / "home" / "models" / name, original("encoder"))
    done = convert(name, tmp_path / "out")
    assert (done.folder.task, done.folder.pooling) == ("encoder", "cls")
    done = convert(name, tmp_path / "vectors", task="embed")
    assert (done.folder.task, done.folder.pooling) == ("embed", "cls")
    assert convert(source, tmp_path / "path").folder.pooling is None, "a path is not guessed at"
