from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinyi.errors import FolderError, InputError
from jinyi.folder import Golden, StagedFolder, read_folder, update_record, verify_folder, write_folder
from jinyi.folder import atomic as atomic_module
from jinyi.folder.model import find_similar
from jinyi.folder.tensors import read_header
from jinyi.folder.weights import encoder_shapes
from jinyi.tokens import build_tokenizer
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, whitening, write_small


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    body = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    body = {key: value for key, value in {**body, **changes}.items() if value is not None}
    file.write_text(json.dumps(body), encoding="utf-8")


def rewrite_weights(file: Path, rename: Any, dtype: str = "float32") -> None:
    """Store the tensors of a file under other names (`rename` gives None for those to leave out)."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {rename(name): tensor.to(getattr(torch, dtype)) for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in tensors.items() if name}, file)


def plain(path: Path, **options: Any) -> Path:
    """A folder as other tools write it: no jinyi.json, no manifest."""
    write_small(path, **options)
    (path / "jinyi.json").unlink()
    (path / "MANIFEST.sha256").unlink()
    return path


def error_of(path: Path, **options: Any) -> FolderError:
    with pytest.raises(FolderError) as caught:
        read_folder(path, **options)
    assert caught.value.found and caught.value.expected and caught.value.fix
    return caught.value


# What is written is what is read


@pytest.mark.parametrize("config", [CONFIG, MEGATRON], ids=["bert", "megatron"])
@pytest.mark.parametrize(("dtype", "bits"), [("float32", 0.0), ("float16", 2.0**-11)])
def test_round_trip(tmp_path: Path, config: Any, dtype: str, bits: float) -> None:
    weights, (matrix, shift) = random_weights(config), whitening()
    path = write_small(
        tmp_path / "m",
        config=config,
        weights=weights,
        dtype=dtype,
        dense=[(matrix, shift), (np.eye(12, dtype=np.float32), None)],
        normalize=True,
        prompts={"query": "查询："},
        default_prompt_name="query",
        max_length=32,
        licence="apache-2.0",
        training={"seed": 1},
        results=[{"protocol": "dev", "spearman": 0.5}],
    )
    folder = read_folder(path)
    assert (folder.task, folder.pooling, folder.normalize, folder.max_length) == ("embed", "mean", True, 32)
    assert (folder.prompts, folder.default_prompt_name) == ({"query": "查询："}, "query")
    assert folder.config == config
    assert folder.vector_size == 12
    assert folder.dtype == {"float32": "F32", "float16": "F16"}[dtype]
    assert folder.record["training"] == {"seed": 1}
    assert folder.record["results"][0]["spearman"] == 0.5
    np.testing.assert_array_equal(folder.dense[0][0], matrix)
    np.testing.assert_array_equal(folder.dense[0][1], shift)
    assert folder.dense[1][1] is None
    stored = folder.weights()
    for name, values in weights.items():
        np.testing.assert_allclose(np.asarray(stored[name], np.float32), values, rtol=bits, atol=1e-7)
    assert not folder.notes
    assert not folder.ignored


def test_weights_stay_on_the_disk(tmp_path: Path) -> None:
    folder = read_folder(write_small(tmp_path / "m", dtype="float16"))
    words = folder.weights()["embeddings.word_embeddings.weight"]
    assert isinstance(words.base, np.ndarray)
    assert not words.flags.owndata
    before = words.copy()
    words[:] = 0  # copy on write: the runtime may share the memory, the file never changes
    np.testing.assert_array_equal(
        read_folder(folder.path).weights()["embeddings.word_embeddings.weight"], before
    )


def test_files_are_what_other_libraries_expect(tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    matrix, shift = whitening()
    path = write_small(tmp_path / "m", dense=[(matrix, shift)], dtype="float16")
    tensors = load_file(path / "model.safetensors")
    assert tensors["bert.embeddings.word_embeddings.weight"].dtype == np.float16
    state = torch.load(path / "2_Dense" / "pytorch_model.bin", weights_only=True)
    np.testing.assert_array_equal(state["linear.weight"].numpy(), matrix)
    np.testing.assert_array_equal(state["linear.bias"].numpy(), shift)
    assert (path / "vocab.txt").read_text(encoding="utf-8").splitlines() == VOCAB
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize(
    ("outputs", "names", "similar"), [(1, ("similar",), 0), (2, ("not similar", "similar"), 1)]
)
def test_pair_folder(tmp_path: Path, outputs: int, names: tuple[str, ...], similar: int) -> None:
    folder = read_folder(write_small(tmp_path / "m", "pair", outputs=outputs))
    assert (folder.task, folder.labels, folder.similar, folder.n_labels) == ("pair", names, similar, outputs)
    config = folder.raw_config
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert len(config["id2label"]) == len(config["label2id"]) == outputs
    assert ("sbert_ce_default_activation_function" in config) == (outputs == 1)
    assert not (folder.path / "modules.json").exists()


def test_topic_folder(tmp_path: Path) -> None:
    folder = read_folder(write_small(tmp_path / "m", "topic", labels=["体育", "财经"], pooling="mean"))
    assert (folder.task, folder.labels, folder.pooling) == ("topic", ("体育", "财经"), "mean")
    assert folder.raw_config["architectures"] == ["BertForMaskedLM"]
    assert "pooler.dense.weight" not in folder.weights()
    assert read_folder(folder.path, task="embed").task == "embed"


@pytest.mark.slow
def test_first_last_is_stated_so_that_others_refuse_it(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", pooling="first_last")
    assert read_folder(path).pooling == "first_last"
    with pytest.raises(ValueError, match="first_last"):
        from sentence_transformers import SentenceTransformer

        SentenceTransformer(str(path), device="cpu")


def test_golden_survives_to_the_last_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    golden = Golden("vectors", ("今天", "天气", "\"'\n很好"), values)
    folder = read_folder(write_small(tmp_path / "m", golden=golden))
    assert folder.golden is not None
    assert folder.golden.inputs == golden.inputs
    np.testing.assert_array_equal(folder.golden.values, values)
    assert read_folder(folder.path, pooling="cls").golden is None, "made with another pooling"
    pairs = Golden("scores", (("今天", "天气"),), np.array([0.25], np.float32))
    assert Golden.from_dict(json.loads(json.dumps(pairs.to_dict())), "").inputs == pairs.inputs


def test_golden_can_be_computed_from_the_finished_folder(tmp_path: Path) -> None:
    def compute(path: Path) -> Golden:
        rows = np.asarray(read_folder(path).weights()["embeddings.word_embeddings.weight"][:2])
        return Golden("vectors", ("今天", "天气"), rows)

    folder = read_folder(write_small(tmp_path / "m", golden=compute))
    assert folder.golden is not None
    np.testing.assert_array_equal(
        folder.golden.values, folder.weights()["embeddings.word_embeddings.weight"][:2]
    )
    verify_folder(folder.path)


def test_update_record_keeps_the_rest(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    (path / "notes.txt").write_text("mine", encoding="utf-8")
    before = (path / "model.safetensors").read_bytes()
    update_record(path, calibration={"a": 1.5}, results=[{"protocol": "x"}])
    assert read_folder(path).record["calibration"] == {"a": 1.5}
    assert (path / "model.safetensors").read_bytes() == before
    assert verify_folder(path).unlisted == ("notes.txt",)
    with pytest.raises(InputError, match="colour"):
        update_record(path, colour=1)
    assert os.listdir(tmp_path) == ["m"]


# Recognised by content


def test_bert_weights_under_a_roberta_config(tmp_path: Path) -> None:
    path = plain(tmp_path / "m", task="mlm")
    edit(path / "config.json", model_type="roberta", architectures=["RobertaForMaskedLM"], vocab_size=21128)
    folder = read_folder(path)
    assert folder.config == CONFIG
    assert folder.task == "mlm"
    assert "21128" in folder.notes[0]


def test_megatron_by_names_alone(tmp_path: Path) -> None:
    path = plain(tmp_path / "m", config=MEGATRON)
    edit(path / "config.json", model_type="bert")
    assert read_folder(path).config.pre_layer_norm


def test_old_names_other_prefixes_and_unused_heads(tmp_path: Path) -> None:
    path = plain(tmp_path / "m", task="mlm")
    whole = dict(read_folder(path).weights())

    def old(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return f"module.{name}"

    rewrite_weights(path / "model.safetensors", old)
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path / "model.safetensors")
    tensors["module.cls.seq_relationship.weight"] = np.zeros((2, 32), np.float32)
    tensors["module.bert.embeddings.position_ids"] = np.arange(48)
    tensors["module.cls.predictions.decoder.weight"] = tensors[
        "module.bert.embeddings.word_embeddings.weight"
    ]
    tensors["module.cls.predictions.decoder.bias"] = tensors["module.cls.predictions.bias"]
    save_file(tensors, path / "model.safetensors")
    folder = read_folder(path)
    assert folder.ignored == ("module.bert.embeddings.position_ids", "module.cls.seq_relationship.weight")
    assert set(folder.weights()) == set(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(folder.weights()[name], values)


def test_bare_names_without_pooler(tmp_path: Path) -> None:
    path = plain(tmp_path / "m")
    rewrite_weights(
        path / "model.safetensors", lambda name: None if "pooler" in name else name.removeprefix("bert.")
    )
    folder = read_folder(path)
    assert set(folder.weights()) == dict(encoder_shapes(CONFIG)).keys()


def test_bfloat16(tmp_path: Path) -> None:
    path = plain(tmp_path / "m")
    exact = read_folder(path).weights()["encoder.layer.0.output.dense.weight"].copy()
    rewrite_weights(path / "model.safetensors", lambda name: name, "bfloat16")
    folder = read_folder(path)
    assert folder.dtype == "BF16"
    rounded = folder.weights()["encoder.layer.0.output.dense.weight"]
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, rtol=2.0**-8)


def test_shards(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = plain(tmp_path / "m")
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    np.testing.assert_array_equal(
        read_folder(path).weights()["encoder.layer.1.output.dense.bias"],
        tensors["bert.encoder.layer.1.output.dense.bias"],
    )
    (path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in error_of(path).found


def test_vocab_text_alone(tmp_path: Path) -> None:
    path = plain(tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (path / name).unlink()
    folder = read_folder(path)
    assert folder.tokenizer_file.name == "vocab.txt"
    assert folder.lowercase


def test_both_dialects_of_pooling(tmp_path: Path) -> None:
    path = plain(tmp_path / "m", pooling="cls")
    assert read_folder(path).pooling == "cls"
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 32, "pooling_mode": "max", "include_prompt": True}),
        encoding="utf-8",
    )
    assert read_folder(path).pooling == "max"
    (path / "modules.json").unlink()
    assert read_folder(path).pooling == "max"


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
    assert "not supported yet" in error.fix
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


def test_label_names(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m", "pair", outputs=2)
    edit(path / "config.json", id2label={"0": "a"})
    assert "id2label" in error_of(path).found
    edit(path / "config.json", id2label={"0": "positive", "1": "negative"})
    with pytest.raises(FolderError, match="--similar-label"):
        _ = read_folder(path).similar
    assert read_folder(path, similar_label="positive").similar == 0
    assert read_folder(path, similar_label=1).similar == 1
    edit(path / "config.json", id2label=None)
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


# Writing: refused arguments


def test_refused_arguments(tmp_path: Path) -> None:
    weights, tokenizer = random_weights(), build_tokenizer(VOCAB)
    good: dict[str, Any] = dict(
        task="embed", config=CONFIG, weights=weights, tokenizer=tokenizer, pooling="cls"
    )
    bad = weights | {"embeddings.LayerNorm.weight": np.full(32, np.nan, np.float32)}
    large = weights | {"embeddings.LayerNorm.weight": np.full(32, 1e5, np.float32)}
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps({"model": {"type": "BPE", "vocab": {}}}), encoding="utf-8")
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    for change, words in (
        (dict(task="cook"), "cook"),
        (dict(pooling=None), "None"),
        (dict(dtype="int8"), "int8"),
        (dict(task="pair", pooling=None), "classifier.weight"),
        (dict(task="topic"), "cls.predictions.bias"),
        (dict(weights=bad), "not finite"),
        (dict(weights=large, dtype="float16"), "not finite"),
        (dict(config=replace(CONFIG, num_hidden_layers=3)), "weights without"),
        (dict(tokenizer=tmp_path), "no such file"),
        (dict(tokenizer=odd), "special tokens"),
        (dict(tokenizer=broken), "no readable JSON"),
        (dict(max_length=2), "at least 3"),
        (dict(default_prompt_name="query"), "query"),
        (dict(training={"x": object()}), "JSON"),
        (dict(training={"x": float("nan")}), "JSON"),
        (dict(tokenizer=build_tokenizer([*VOCAB, "甲"])), "tokens"),
        (dict(task="encoder", pooling=None, dense=[whitening()]), "without pooling"),
    ):
        with pytest.raises((FolderError, InputError), match=words):
            write_folder(tmp_path / "m", **{**good, **change})
    assert sorted(os.listdir(tmp_path)) == ["broken.json", "odd.json"], "nothing may be left behind"


def test_existing_targets(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    with pytest.raises(FolderError, match="overwrite=True"):
        write_small(path)
    write_small(path, pooling="cls", overwrite=True)
    assert read_folder(path).pooling == "cls"
    (tmp_path / "empty").mkdir()
    write_small(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(FolderError, match="only model folders"):
            write_small(tmp_path / "mine", overwrite=overwrite)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FolderError):
        write_small(tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(path)
    write_small(tmp_path / "link", pooling="max", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert read_folder(path).pooling == "max"
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "link", "m", "mine"]


def test_memory_maps_outlive_an_overwrite(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    words = read_folder(path).weights()["embeddings.word_embeddings.weight"]
    before = words.copy()
    write_small(path, weights=random_weights(seed=5), overwrite=True)
    np.testing.assert_array_equal(words, before)


# Writing: whole or not at all


class Disk:
    """Fails at the n-th call of a system operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.code = code
        self.calls = 0
        self.fail_at = -1
        for name in ("fsync", "rename", "link", "mkdir"):
            monkeypatch.setattr(atomic_module.os, name, self.wrap(getattr(os, name)))
        real_open = open

        def opener(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if "x" not in mode:
                return real_open(file, mode, *args, **options)
            stream = real_open(file, mode, buffering=0)
            return _Stream(stream, self.wrap(stream.write))

        monkeypatch.setattr(atomic_module, "open", opener, raising=False)

    def wrap(self, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **options)

        return call


class _Stream:
    def __init__(self, stream: Any, write: Any) -> None:
        self._stream, self.write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


@pytest.mark.slow
@pytest.mark.parametrize("code", [28, 5], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fails_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, existing: bool
) -> None:
    path = tmp_path / "m"
    if existing:
        write_small(path, pooling="cls")
    disk = Disk(monkeypatch, code)
    write_small(tmp_path / "count")
    if existing:
        disk.calls = 0
        write_small(tmp_path / "count", overwrite=True)
    calls = disk.calls
    assert calls > 50
    shutil.rmtree(tmp_path / "count")
    failures = 0
    for fail_at in range(1, calls + 1):
        disk.calls, disk.fail_at = 0, fail_at
        try:
            write_small(path, pooling="mean", overwrite=existing)
            expected = {"mean"}
        except FolderError as error:
            failures += 1
            assert os.strerror(code) in error.found
            # The last call syncs the parent directory, after the new folder is in place.
            expected = {"mean"} if fail_at == calls else {"cls"} if existing else {None}
        disk.fail_at = -1
        assert os.listdir(tmp_path) in ([], ["m"]), "nothing may be left behind"
        assert (verify_folder(path).folder.pooling if path.exists() else None) in expected
        if expected == {"mean"}:
            shutil.rmtree(path)
            if existing:
                write_small(path, pooling="cls")
    assert failures > calls * 0.8, "pathlib forgives failing to make a directory that is there"


def test_exchange_by_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_module, "_exchange", lambda one, other: False)
    path = write_small(tmp_path / "m", pooling="cls")
    write_small(path, pooling="mean", overwrite=True)
    assert read_folder(path).pooling == "mean"
    real, calls = os.rename, []

    def second_fails(one: Any, other: Any) -> None:
        calls.append(one)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        real(one, other)

    monkeypatch.setattr(atomic_module.os, "rename", second_fails)
    with pytest.raises(FolderError):
        write_small(path, pooling="max", overwrite=True)
    assert read_folder(path).pooling == "mean"
    assert os.listdir(tmp_path) == ["m"]


def test_abandoned_directories_are_removed_after_an_hour(tmp_path: Path) -> None:
    old, new = tmp_path / ".m.00000000.tmp", tmp_path / ".m.11111111.tmp"
    for leftover in (old, new):
        leftover.mkdir()
        (leftover / "config.json").write_text("{}", encoding="utf-8")
    past = time.time() - 7200
    os.utime(old / "config.json", (past, past))
    os.utime(old, (past, past))
    write_small(tmp_path / "m")
    assert not old.exists()
    assert new.exists(), "may belong to a writer that is still at work"


def test_an_error_inside_the_block_removes_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), StagedFolder(tmp_path / "m") as stage:
        stage.put("a/b.txt", "x")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


_WRITER = """
import itertools, os, sys
sys.path.insert(0, sys.argv[2])
from small_models import *
weights = random_weights()
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)
        continue
    for turn in itertools.count(int(line)):
        write_small(Path(sys.argv[1]), weights=weights, pooling=("cls", "mean")[turn % 2], overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and exchange of directories are POSIX")
def test_killed_at_random_instants(tmp_path: Path) -> None:
    path, rng = tmp_path / "m", np.random.default_rng(0)
    arguments = [sys.executable, "-c", _WRITER, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    poolings, leftovers = set(), 0
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for turn in range(100):
            starter.stdin.write(f"{turn}\n")
            starter.stdin.flush()
            child = int(starter.stdout.readline())
            time.sleep(float(rng.uniform(0, 0.3)))
            os.kill(child, signal.SIGKILL)
            assert starter.stdout.readline() == "gone\n"
            if path.exists():
                poolings.add(verify_folder(path).folder.pooling)
            else:
                assert not poolings, "the exchange is one step: once written, the target is never absent"
            leftovers = len(os.listdir(tmp_path)) - path.exists()
        starter.stdin.close()
    assert poolings == {"cls", "mean"}
    assert leftovers > 10, "most writers must have been killed at work"


# Tensor files against the library


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_safetensors_are_read_by_the_library(
    tmp_path_factory: Any, shapes: list[list[int]], dtype: str
) -> None:
    from safetensors.numpy import load_file

    from jinyi.folder.tensors import TensorMap, safetensors_chunks

    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    tensors = {f"t{index}": np.full(shape, index, np.float32) for index, shape in enumerate(shapes)}
    file.write_bytes(b"".join(safetensors_chunks(tensors, dtype)))
    theirs, ours = load_file(file), TensorMap(read_header(file))
    assert set(theirs) == set(ours) == set(tensors)
    for name, values in tensors.items():
        assert theirs[name].dtype == ours[name].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(ours[name], values)
        np.testing.assert_array_equal(theirs[name], values)
