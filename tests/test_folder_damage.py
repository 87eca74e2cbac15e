"""Model folders that are damaged, incomplete or contradictory: refused, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folder_tools import edit, error_of, plain, rewrite_weights
from jinyi.errors import FolderError, InputError
from jinyi.folder import Golden, read_folder, verify_folder
from jinyi.folder.labels import find_similar
from jinyi.folder.tensors import read_header
from small_models import VOCAB, whitening, write_small

# Refused, with what to do


def test_pooling_is_never_guessed(tmp_path: Path) -> None:
    path = plain(tmp_path / "m", task="mlm")
    error = error_of(path, task="embed")
    assert "pooling=" in error.fix
    assert "--pooling" in error.fix
    assert read_folder(path, task="embed", pooling="mean").pooling == "mean"
    with pytest.raises(InputError, match="middle"):
        read_folder(path, task="embed", pooling="middle")


def test_contradictions(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    edit(path / "jinyi.json", pooling="cls")
    assert "'cls' in jinyi.json but 'mean' in modules.json" in error_of(path).found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pooling_mode_mean_tokens": False}, "no mode switched on"),
        ({"pooling_mode_cls_token": True}, "cls + mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": ["cls", "mean"]}, "cls + mean"),
    ],
)
def test_poolings_that_are_not_computed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_small(tmp_path / "m")
    edit(path / "1_Pooling" / "config.json", **change)
    assert words in error_of(path).found


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([{"path": "", "type": "sentence_transformers.models.WordEmbeddings"}], "WordEmbeddings"),
        ([{"path": "../x", "type": "sentence_transformers.models.Pooling"}], "../x"),
        (
            [{"path": "", "type": "a.Normalize"}, {"path": "2_Dense", "type": "a.Dense"}],
            "Dense after Normalize",
        ),
        ([17], "17"),
        ({}, "{}"),
    ],
)
def test_module_chains_that_are_not_computed(tmp_path: Path, modules: Any, words: str) -> None:
    path = write_small(tmp_path / "m")
    (path / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    assert words in error_of(path).found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, "Tanh"),
        ({"use_residual": True}, "residual"),
        ({"out_features": 11}, "linear.weight"),
    ],
)
def test_dense_modules_that_are_not_computed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_small(tmp_path / "m", dense=[whitening()])
    edit(path / "2_Dense" / "config.json", **change)
    assert words in error_of(path).found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("1_Pooling/config.json", "no config.json"),
        ("2_Dense/config.json", "no config.json"),
        ("2_Dense/model.safetensors", "weights only as pytorch_model.bin"),
    ],
)
def test_missing_files(tmp_path: Path, name: str, words: str) -> None:
    path = write_small(tmp_path / "m", dense=[whitening()])
    (path / name).unlink()
    assert words in error_of(path).found


def test_missing_tokenizer_and_pickled_weights(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    (path / "tokenizer.json").unlink()
    (path / "vocab.txt").unlink()
    assert "vocab.txt" in error_of(path).found
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    error = error_of(path)
    assert "pytorch_model.bin" in error.found
    assert "jinyi convert" in error.fix
    assert "nothing there" in error_of(tmp_path / "none").found
    assert "a file" in error_of(path / "config.json").found
    for name in ("~nobody-of-that-name", "\0", "x" * 5000):
        assert "nothing there" in error_of(Path(name)).found


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1, -4000])
def test_truncated_weights(tmp_path: Path, keep: int) -> None:
    path = write_small(tmp_path / "m")
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:keep])
    assert "copy" in error_of(path).fix


def test_longer_file_and_broken_header(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data + b"\0")
    assert f"{len(data) + 1} bytes" in error_of(path).found
    (path / "model.safetensors").write_bytes(data[:8] + b"#" + data[9:])
    assert "no JSON" in error_of(path).found
    (path / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + data[8:])
    assert str(2**62) in error_of(path).found


@pytest.mark.parametrize(
    ("side", "words"), [("48e32", "bytes 0 to"), ("1e999", "described as"), ("-1", "bytes 0 to")]
)
def test_a_side_no_tensor_has(tmp_path: Path, side: str, words: str) -> None:
    header = f'{{"x":{{"dtype":"F32","shape":[{side}],"data_offsets":[0,8]}}}}'.encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(FolderError, match=words):
        read_header(tmp_path / "x.safetensors")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_of_the_header_is_a_folder_error_or_harmless(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damage"
    if not path.exists():
        write_small(path)
        (path / "whole").write_bytes((path / "model.safetensors").read_bytes())
    whole = (path / "whole").read_bytes()
    size = int.from_bytes(whole[:8], "little") + 8
    place = data.draw(st.integers(0, size - 1))
    damaged = bytearray(whole)
    damaged[place] = data.draw(st.integers(0, 255))
    (path / "model.safetensors").write_bytes(damaged)
    try:
        weights = read_folder(path).weights()
    except FolderError:
        return
    assert all(weights[name].shape for name in weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 3}, "weights without"),
        ({"num_hidden_layers": 1}, "too many"),
        ({"intermediate_size": 128}, "of shape [64, 32]"),
        ({"hidden_size": 64}, "of shape"),
        ({"max_position_embeddings": 512}, "position_embeddings"),
        ({"type_vocab_size": 1}, "token_type_embeddings"),
        ({"hidden_act": "swish"}, "swish"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_weights_against_config(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_small(tmp_path / "m")
    edit(path / "config.json", **change)
    assert words in str(error_of(path))


def test_vocabulary_against_weights(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    for name, vocabulary, words in (
        ("more tokens than rows", [*VOCAB, "甲"], f"{len(VOCAB) + 1} tokens"),
        ("no [SEP]", [token for token in VOCAB if token != "[SEP]"], "[SEP]"),
    ):
        (path / "tokenizer.json").unlink(missing_ok=True)
        (path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        assert words in error_of(path).found, name
    (path / "vocab.txt").write_text("\n".join(VOCAB[:-3]) + "\n", encoding="utf-8")
    assert "3 rows" in read_folder(path).notes[0]
    (path / "vocab.txt").write_bytes("[PAD]\n今".encode("gbk"))
    assert "UTF-8" in error_of(path).found


def test_other_kinds_of_models(tmp_path: Path) -> None:
    path = plain(tmp_path / "m")
    whole = (path / "model.safetensors").read_bytes()
    rewrite_weights(path / "model.safetensors", lambda name: name.replace("bert.", "roberta."))
    assert "numbers positions differently" in error_of(path).fix
    rewrite_weights(path / "model.safetensors", lambda name: name.replace("word_embeddings", "tokens"))
    assert "jinyi does not run this kind of model" in error_of(path).fix
    (path / "model.safetensors").write_bytes(whole)
    edit(path / "tokenizer.json", model={"type": "BPE", "vocab": {}})
    assert "BPE" in error_of(path).found


def test_task_without_its_head(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    for task, words in (("pair", "a sequence classifier"), ("topic", "a masked language model")):
        assert words in error_of(path, task=task).expected
    assert "no weights" not in str(read_folder(path, task="encoder"))
    with pytest.raises(InputError):
        read_folder(path, task="cook")
    with pytest.raises(FolderError, match="classifier"):
        _ = read_folder(path).similar


def test_untied_decoder(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = plain(tmp_path / "m", task="mlm")
    tensors = load_file(path / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1
    save_file(tensors, path / "model.safetensors")
    assert "tied" in error_of(path).expected
    assert read_folder(path, task="encoder").task == "encoder"


def test_newer_format_and_damaged_records(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    for change, words in (
        ({"format": 99}, "upgrade"),
        ({"task": "cook"}, "Correct"),
        ({"golden": {"kind": "vectors", "inputs": ["a"], "values": [[1.0], [2.0]]}}, "edited or damaged"),
        ({"golden": {"kind": "vectors", "inputs": ["a"], "values": [["x"]]}}, "edited or damaged"),
    ):
        record = (path / "jinyi.json").read_text(encoding="utf-8")
        edit(path / "jinyi.json", **change)
        assert words in error_of(path).fix
        (path / "jinyi.json").write_text(record, encoding="utf-8")
    (path / "jinyi.json").write_bytes(b"\xff{")
    assert "UTF-8" in error_of(path).expected
    (path / "jinyi.json").write_text("[]", encoding="utf-8")
    assert "JSON object" in error_of(path).expected


@pytest.mark.parametrize(
    "entry",
    [{"labels": 5}, {"labels": "ab"}, {"prompts": ["a"]}, {"prompts": {"a": 3}}, {"calibration": [1]}],
)
def test_records_of_another_form(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write_small(tmp_path / "m", "pair")
    edit(path / "jinyi.json", **entry)
    assert next(iter(entry)) in error_of(path).found


@pytest.mark.parametrize("change", [{"added_tokens": [1]}, {"added_tokens": [{"content": "[X]"}]}])
def test_tokens_without_a_number(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_small(tmp_path / "m")
    edit(path / "tokenizer.json", **change)
    assert "tokens without a number" in error_of(path).found


def test_sentence_transformers_that_lower_case_themselves(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", pooling="cls")
    edit(path / "sentence_bert_config.json", do_lower_case=True)
    read_folder(path)  # the tokenizer does it too
    edit(path / "tokenizer_config.json", do_lower_case=False)
    assert "do_lower_case" in error_of(path).found


def test_label_names(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", "pair", outputs=2)
    edit(path / "config.json", id2label={"0": "a"})
    assert "id2label" in error_of(path).found
    edit(path / "config.json", id2label={"0": "positive", "1": "negative"})
    with pytest.raises(FolderError, match="--similar-label"):
        _ = read_folder(path).similar
    assert read_folder(path, similar_label="positive").similar == 0
    assert read_folder(path, similar_label=1).similar == 1
    edit(path / "config.json", id2label=None, label2id=None)
    edit(path / "jinyi.json", labels=None)
    assert read_folder(path).labels == ("LABEL_0", "LABEL_1")
    assert read_folder(path).similar == 1


@pytest.mark.parametrize(
    ("labels", "similar"),
    [
        (["not similarity", "similarity"], 1),
        (["similar", "not similar"], 0),
        (["0", "1"], 1),
        (["不相似", "相似"], 1),
    ],
)
def test_find_similar(labels: list[str], similar: int) -> None:
    assert find_similar(labels, 2, None, "") == similar


# verify


def test_verify_finds_one_flipped_bit_in_any_file(tmp_path: Path) -> None:
    path = write_small(
        tmp_path / "m", dense=[whitening()], golden=Golden("vectors", ("a",), np.ones((1, 12), "f4"))
    )
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    assert len(verify_folder(path).checked) == len(files) - 1
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        whole = file.read_bytes()
        file.write_bytes(data)
        with pytest.raises(FolderError):
            verify_folder(path)
        file.write_bytes(whole)
    verify_folder(path)
    (path / "vocab.txt").unlink()
    with pytest.raises(FolderError, match=r"no vocab\.txt"):
        verify_folder(path)


def test_verify_without_manifest(tmp_path: Path) -> None:
    path = plain(tmp_path / "m")
    assert verify_folder(path).checked == ()
    whole = (path / "vocab.txt").read_text(encoding="utf-8")
    (path / "vocab.txt").write_text(whole.replace("怎\n么", "么\n怎"), encoding="utf-8")
    with pytest.raises(FolderError, match=r"tokenizer\.json gives it"):
        verify_folder(path)
    (path / "vocab.txt").write_text(whole, encoding="utf-8")
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-4:] = np.float32("nan").tobytes()
    (path / "model.safetensors").write_bytes(data)
    with pytest.raises(FolderError, match="not finite"):
        verify_folder(path)
