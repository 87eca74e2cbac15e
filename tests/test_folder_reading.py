"""Model folders read: what was written, and what other tools write, recognised by content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folder_tools import edit, error_of, plain, rewrite_weights
from jinyi.errors import FolderError, InputError
from jinyi.folder import MANIFEST, Golden, read_folder, update_record, verify_folder
from jinyi.folder.tensors import read_header
from jinyi.folder.weights import encoder_shapes
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, whitening, write_small

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
    assert verify_folder(path).unlisted == ()  # from now on the note is looked after as well
    with pytest.raises(InputError, match="colour"):
        update_record(path, colour=1)
    assert os.listdir(tmp_path) == ["m"]


def test_a_copy_of_a_folder_without_checksums_has_them_all(tmp_path: Path) -> None:
    path = write_small(tmp_path / "m")
    names = {str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file()}
    (path / MANIFEST).unlink()
    with pytest.raises(FolderError, match="--output"):
        update_record(path, calibration={"a": 1.5})
    copy = update_record(path, target=tmp_path / "copy", calibration={"a": 1.5})
    checked = verify_folder(copy)
    assert set(checked.checked) == names - {MANIFEST} and not checked.unlisted


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
