"""TensorFlow checkpoints against what TensorFlow itself computed from them (tests/fixtures/tf/make.py)."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinyi.batches import Batch
from jinyi.convert import convert
from jinyi.convert.tensorflow import Checkpoint, is_checkpoint, open_checkpoint
from jinyi.convert.tensorflow.bundle import Bundle
from jinyi.convert.tensorflow.places import FolderPlace
from jinyi.errors import FolderError
from jinyi.folder import read_folder
from jinyi.folder.tensors import safetensors_chunks
from jinyi.runtime import Head, open_engine

HERE = Path(__file__).parent / "fixtures" / "tf"
KINDS = ("bert", "pair", "albert", "albert_zh", "roformer")


def expected(kind: str) -> dict[str, np.ndarray]:
    with np.load(HERE / kind / "expected.npz") as file:
        return dict(file)


def copy(kind: str, target: Path) -> Path:
    return Path(shutil.copytree(HERE / kind, target))


def error_of(path: Path, **options: Any) -> FolderError:
    with pytest.raises(FolderError) as caught:
        open_checkpoint(path, **options)
    assert caught.value.found and caught.value.expected and caught.value.fix and caught.value.where
    return caught.value


def pack(source: Path, target: Path, inside: str = "chinese_L-2/", **options: Any) -> Path:
    with zipfile.ZipFile(target, "w", **options) as archive:
        for file in sorted(source.iterdir()):
            archive.write(file, inside + file.name)
        archive.writestr("__MACOSX/._bert_model.ckpt.index", b"")
    return target


def lay_out(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write the model as a plain Hugging Face folder."""
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as stream:
        stream.writelines(safetensors_chunks(checkpoint.tensors))
    (folder / "config.json").write_text(json.dumps(checkpoint.config), encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in checkpoint.vocab), encoding="utf-8")
    return folder


# The forward pass


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_computes_what_tensorflow_computed(kind: str) -> None:
    import torch
    import transformers

    checkpoint, wanted = open_checkpoint(HERE / kind), expected(kind)
    (architecture,) = checkpoint.config["architectures"]
    config = transformers.AutoConfig.for_model(**checkpoint.config)
    model = getattr(transformers, architecture)(config).eval()
    state = {name: torch.from_numpy(np.array(values)) for name, values in checkpoint.tensors.items()}
    lacking, extra = model.load_state_dict(state, strict=False)
    tied = ("decoder.weight", "decoder.bias", "embed_positions.weight")
    pooler = "bert.pooler.dense." if architecture == "BertForMaskedLM" else "albert.pooler."
    assert [name for name in lacking if not name.endswith(tied)] == []
    assert [name for name in extra if not name.startswith(pooler)] == []
    with torch.no_grad():
        output = model(
            input_ids=torch.from_numpy(wanted["ids"]),
            token_type_ids=torch.from_numpy(wanted["segments"]),
            attention_mask=torch.from_numpy(wanted["mask"]),
            output_hidden_states=True,
        )
    real = wanted["mask"].astype(bool)
    last = output.hidden_states[-1].numpy()
    np.testing.assert_allclose(last[real], wanted["hidden"][real], rtol=0, atol=1e-5)
    logits = output.logits.numpy()
    if kind == "pair":
        np.testing.assert_allclose(logits, wanted["classes"], rtol=0, atol=1e-5)
    else:
        np.testing.assert_allclose(
            logits[:, :4][real[:, :4]], wanted["words"][real[:, :4]], rtol=0, atol=1e-5
        )


def run(folder: Path, head: Head, wanted: dict[str, np.ndarray], positions: Any = None) -> np.ndarray:
    opened = read_folder(folder, task="mlm" if head.kind == "mlm" else None, pooling="cls")
    batch = Batch(
        rows=np.arange(3),
        ids=wanted["ids"].astype(np.int32),
        lengths=wanted["mask"].sum(1).astype(np.int32),
        segments=wanted["segments"].astype(np.int32),
        positions=positions,
    )
    ((_, output),) = open_engine(opened.config, opened.weights(), head).run([batch])
    assert isinstance(output, np.ndarray)
    return output


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_computes_what_tensorflow_computed(kind: str, tmp_path: Path) -> None:
    wanted = expected(kind)
    folder = lay_out(open_checkpoint(HERE / kind), tmp_path / "folder")
    hidden = run(folder, Head(kind="tokens"), wanted)
    real = wanted["mask"].astype(bool)
    np.testing.assert_allclose(hidden[real], wanted["hidden"][real], rtol=0, atol=1e-5)
    if kind == "pair":
        classes = run(folder, Head(kind="classes"), wanted)
        np.testing.assert_allclose(classes, wanted["classes"], rtol=0, atol=1e-5)
    else:
        positions = np.tile(np.arange(4, dtype=np.int32), (3, 1))
        words = run(folder, Head(kind="mlm"), wanted, positions)
        np.testing.assert_allclose(words, wanted["words"], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::jinyi.errors.TruncationWarning")  # the model reads 12 tokens
def test_a_folder_converted_from_a_zip(tmp_path: Path) -> None:
    wanted = expected("pair")
    source = pack(HERE / "pair", tmp_path / "pair.zip", compression=zipfile.ZIP_DEFLATED)
    convert(source, tmp_path / "folder")
    classes = run(tmp_path / "folder", Head(kind="classes"), wanted)
    np.testing.assert_allclose(classes, wanted["classes"], rtol=0, atol=1e-5)

    bad = copy("pair", tmp_path / "bad")
    data = bad / "bert_model.ckpt.data-00001-of-00003"
    words = Bundle(FolderPlace(bad), "bert_model.ckpt")["bert/embeddings/LayerNorm/gamma"].tobytes()
    assert data.read_bytes().count(words) == 1
    data.write_bytes(data.read_bytes().replace(words, words[::-1]))
    with pytest.raises(FolderError, match="LayerNorm/gamma, 48 bytes whose CRC-32C is wrong"):
        convert(bad, tmp_path / "other")
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".other*"))


# What is in a checkpoint


def test_every_variable_is_accounted_for() -> None:
    checkpoint = open_checkpoint(HERE / "bert")
    bundle = Bundle(FolderPlace(HERE / "bert"), "bert_model.ckpt")
    used = [source for sources in checkpoint.renamed.values() for source in sources]
    assert sorted([*used, *checkpoint.optimizer, *checkpoint.dropped]) == sorted(bundle.entries)
    assert len(checkpoint.optimizer) == 2 * 46 + 1  # two moments of each variable, and the step
    assert "global_step" in checkpoint.optimizer
    assert checkpoint.dropped == ("cls/seq_relationship/output_bias", "cls/seq_relationship/output_weights")
    assert set(checkpoint.renamed) == set(checkpoint.tensors)
    pair = open_checkpoint(HERE / "pair")
    assert {"beta1_power", "beta2_power", "global_step"} < set(pair.optimizer)
    assert pair.dropped == () and pair.config["architectures"] == ["BertForSequenceClassification"]


def test_kernels_are_transposed_and_tables_are_not() -> None:
    checkpoint = open_checkpoint(HERE / "bert")
    bundle = Bundle(FolderPlace(HERE / "bert"), "bert_model.ckpt")
    kernel = bundle["bert/encoder/layer_1/intermediate/dense/kernel"]
    moved = checkpoint.tensors["bert.encoder.layer.1.intermediate.dense.weight"]
    assert kernel.shape == (12, 20) and checkpoint.tensors.shape(
        "bert.encoder.layer.1.intermediate.dense.weight"
    ) == (20, 12)
    np.testing.assert_array_equal(moved, kernel.T)
    assert all(values.flags.c_contiguous for values in checkpoint.tensors.values())
    table = "bert.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(checkpoint.tensors[table], bundle["bert/embeddings/word_embeddings"])


def test_types() -> None:
    bundle = Bundle(FolderPlace(HERE / "types"), "types.ckpt")
    for name, values in expected("types").items():
        np.testing.assert_array_equal(bundle[name].astype(np.float64), values)
    kept = {"float16": np.float16, "int64": np.int64, "bool": np.bool_}
    turned = {"bfloat16": np.float32, "float64": np.float32}
    for name, kind in {**kept, **turned}.items():
        assert bundle[name].dtype == kind
    assert bundle["scalar"] == np.float32(3.5) and bundle["scalar"].shape == ()
    assert bundle["empty"].shape == (0, 4)
    with pytest.raises(FolderError, match="values of type string"):
        _ = bundle["string"]


def test_several_data_files_and_a_partitioned_variable() -> None:
    bundle = Bundle(FolderPlace(HERE / "pair"), "bert_model.ckpt")
    assert {entry.shard for entry in bundle.entries.values()} == {0, 1, 2}
    words = bundle.entries["bert/embeddings/word_embeddings"]
    assert len(words.slices) == 3 and words.shape == (39, 12)
    assert len(list((HERE / "pair").glob("*.data-*"))) == 3


# Finding it


def ways(folder: Path, tmp_path: Path) -> Iterator[Path]:
    yield folder
    yield folder.parent
    yield folder / "bert_model.ckpt"
    yield folder / "bert_model.ckpt.index"
    yield folder / "bert_model.ckpt.meta"
    yield folder / "bert_model.ckpt.data-00000-of-00001"
    yield pack(folder, tmp_path / "packed.zip", compression=zipfile.ZIP_DEFLATED)
    yield pack(folder, tmp_path / "stored.zip", "")


def test_every_way_to_name_it(tmp_path: Path) -> None:
    folder = copy("bert", tmp_path / "around" / "bert")
    wanted = open_checkpoint(folder)
    for way in ways(folder, tmp_path):
        assert is_checkpoint(way)
        found = open_checkpoint(way)
        assert found.config == wanted.config and found.vocab == wanted.vocab
        for name, values in wanted.tensors.items():
            np.testing.assert_array_equal(found.tensors[name], values)
    assert open_checkpoint(tmp_path / "packed.zip").where == str(
        tmp_path / "packed.zip!chinese_L-2/bert_model.ckpt"
    )


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "other.zip", tmp_path / "nothing"):
        assert not is_checkpoint(path)
        assert "no checkpoint" in error_of(path).found


def test_several_checkpoints_are_named(tmp_path: Path) -> None:
    folder = copy("bert", tmp_path / "m")
    for end in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / f"bert_model.ckpt{end}", folder / f"model.ckpt-9{end}")
    error = error_of(folder)
    assert "2 checkpoints" in error.found and "model.ckpt-9" in error.found
    assert len(open_checkpoint(folder / "model.ckpt-9").tensors) == 44


def test_missing_files(tmp_path: Path) -> None:
    folder = copy("pair", tmp_path / "m")
    (folder / "bert_model.ckpt.data-00001-of-00003").unlink()
    error = error_of(folder)
    assert "data-00001-of-00003" in error.where and "all 3 data files" in error.expected
    (folder / "bert_model.ckpt.index").unlink()
    assert "data-00000" not in error_of(folder / "bert_model.ckpt").found
    one = copy("bert", tmp_path / "one")
    (one / "bert_model.ckpt.index").unlink()
    assert "without an .index file" in error_of(one / "bert_model.ckpt").found


def test_the_old_format_is_named(tmp_path: Path) -> None:
    old = tmp_path / "model.ckpt"
    old.write_bytes((HERE / "bert" / "bert_model.ckpt.index").read_bytes())
    assert is_checkpoint(old)
    assert "before 0.12" in error_of(old).found


def test_configuration_and_vocabulary_beside_it(tmp_path: Path) -> None:
    folder = copy("bert", tmp_path / "m")
    config, vocab = folder / "bert_config.json", folder / "vocab.txt"
    shutil.copy(config, folder / "again.json")
    open_checkpoint(folder)  # the same twice is no question
    other = json.loads(config.read_text(encoding="utf-8"))
    (folder / "again.json").write_text(json.dumps({**other, "num_hidden_layers": 3}), encoding="utf-8")
    error = error_of(folder)
    assert "again.json, bert_config.json" in error.found and "--config" in error.fix
    assert len(open_checkpoint(folder, config=config).tensors) == 44
    assert "layer_2" in error_of(folder, config=folder / "again.json").found
    (folder / "again.json").unlink()
    vocab.rename(tmp_path / "words")
    assert "no vocab.txt" in error_of(folder).found
    assert open_checkpoint(folder, vocab=tmp_path / "words").vocab[2] == "[CLS]"
    assert "no such file" in error_of(folder, vocab=tmp_path / "nothing").found
    (folder / "spiece.model").write_bytes(b"")
    assert "SentencePiece" in error_of(folder).found
    config.unlink()
    assert "no bert_config.json" in error_of(folder).found
    assert "no JSON object" in error_of(folder, config=tmp_path / "words").found


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["[PAD]", "[CLS]", "[SEP]"], "no [UNK]"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(40))], "44 tokens"),
    ],
)
def test_a_vocabulary_of_another_model(tmp_path: Path, lines: list[str], words: str) -> None:
    folder = copy("bert", tmp_path / "m")
    (folder / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    assert words in error_of(folder).found


def test_lines_of_a_vocabulary(tmp_path: Path) -> None:
    folder = copy("bert", tmp_path / "m")
    text = "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n\u2028\r\nb\r\n"
    (folder / "vocab.txt").write_bytes(text.encode())
    assert open_checkpoint(folder).vocab == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2028", "b"]
    many = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(35))]
    (folder / "vocab.txt").write_text("\n".join([*many, "", "", ""]), encoding="utf-8")
    assert open_checkpoint(folder).vocab == many
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    assert "UTF-8" in error_of(folder).found


# Kinds of models


def edit(folder: Path, **changes: Any) -> Path:
    file = folder / "bert_config.json"
    body = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in body.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("bert", {"num_hidden_layers": 1}, "bert/encoder/layer_1"),
        ("bert", {"num_hidden_layers": 3}, "bert/encoder/layer_2"),
        ("bert", {"intermediate_size": 24}, "of shape [12, 20]"),
        ("bert", {"hidden_size": 24}, "word_embeddings of shape [39, 12]"),
        ("bert", {"intermediate_size": None}, "intermediate_size = None"),
        ("bert", {"intermediate_size": True}, "intermediate_size = True"),
        ("albert", {"num_hidden_groups": 1}, "group_1"),
        ("albert_zh", {"ln_type": "preln"}, "ln_type = 'preln'"),
        ("roformer", {"use_relative_position": True}, "use_relative_position = True"),
        ("roformer", {"embedding_size": None}, "word_embeddings of shape [39, 8]"),
    ],
)
def test_a_configuration_of_another_model(tmp_path: Path, kind: str, changes: Any, words: str) -> None:
    assert words in error_of(edit(copy(kind, tmp_path / "m"), **changes)).found


def test_sizes_of_tables_are_those_of_the_weights(tmp_path: Path) -> None:
    folder = edit(copy("bert", tmp_path / "m"), vocab_size=21128, type_vocab_size=16)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config["vocab_size"] == 39 and checkpoint.config["type_vocab_size"] == 2
    assert sum("rows, and they count" in note for note in checkpoint.notes) == 2


def test_what_a_user_is_told(tmp_path: Path) -> None:
    def notes(kind: str) -> str:
        return " ".join(open_checkpoint(HERE / kind).notes)

    assert "erf" in notes("bert") and "gelu_new" in notes("albert")
    assert "2 equal layers" in notes("albert_zh")
    assert "rotary" in notes("roformer")
    assert open_checkpoint(edit(copy("bert", tmp_path / "m"), hidden_act="relu")).notes == ()


def test_other_models_are_refused() -> None:
    wrong = HERE / "types" / "types.ckpt"
    error = error_of(wrong, config=HERE / "bert" / "bert_config.json")
    assert "variables named ['bfloat16'" in error.found
