"""Writes an exported model: a folder that sentence-transformers opens, with graphs for other runtimes in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinyi.convert.carried import carried, refuse_idle
from jinyi.convert.export.extras import load_onnx, load_onnxruntime
from jinyi.convert.export.onnx_graph import translate
from jinyi.convert.export.parity import (
    check,
    compute,
    encode_samples,
    measure,
    measure_folder,
    onnx_reader,
    openvino_reader,
)
from jinyi.convert.export.reader_graph import reader_graph, shape_of
from jinyi.convert.parity import Parity
from jinyi.errors import InputError, shorten
from jinyi.folder import MANIFEST, RECORD, Golden, ModelFolder, StagedFolder, write_folder
from jinyi.hashes import file_sha256
from jinyi.models.golden import make_golden
from jinyi.models.source import Source
from jinyi.runtime.openvino_api import load_openvino

FORMATS = ("onnx", "openvino", "sentence-transformers")
DTYPES = ("auto", "float32", "float16")
ONNX_FILE = "onnx/model.onnx"
OPENVINO_FILE = "openvino/openvino_model.xml"
# Left out where the graph does more than the encoder: PyTorch would give other vectors by them.
_PYTORCH = ("model.safetensors", RECORD)
_WORK = "export-in-work"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        path: the folder.
        formats: of `FORMATS`.
        task: of the model.
        dtype: in which the matrices are stored.
        files: graphs and weights, by their paths in the folder.
        parities: how far what was written is from the model it was made from.
        notes: what to know about the folder, one sentence each.
    """

    path: Path
    formats: tuple[str, ...]
    task: str
    dtype: str
    files: tuple[str, ...]
    parities: tuple[Parity, ...]
    notes: tuple[str, ...]


def export(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    to: str | Sequence[str],
    dtype: str = "auto",
    task: str | None = None,
    pooling: str | None = None,
    similar_label: int | str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model for other readers, whole or not at all, and compare it with the model.

    The folder is one that sentence-transformers and transformers open. "onnx" adds onnx/model.onnx to it (opset 17,
    weights of more than 1 GiB beside it in model.onnx_data), "openvino" adds openvino/openvino_model.xml with its
    .bin. Inputs of both: input_ids, attention_mask and token_type_ids, int64 [batch, sequence]. Outputs, float32: for
    vectors last_hidden_state [batch, sequence, width] and sentence_embedding [batch, size]; for classifiers logits
    [batch, labels]; for masked language models logits [batch, sequence, words].

    Whitening and other dense layers are applied to each token's state, which with "cls" and "mean" pooling is the same
    as applying them to the vector (Su et al. 2021), so that readers which know nothing of them get the right vectors.
    Such a folder holds no PyTorch weights and lists no dense layer, which would whiten twice; likewise for "first_last"
    pooling, of which readers see the mean.

    Args:
        model: a name or a folder.
        folder: folder to create.
        to: one or several of `FORMATS`.
        dtype: "float32" or "float16", in which matrices are stored; readers compute in float32. "auto" takes the
            model's own, float32 for bfloat16, which ONNX readers do not compute in: no number changes.
        task: open the model for this task, as "embed" or "encoder" for the vectors of a masked language model.
        pooling: "cls", "mean", "max", "first_last" or "pooler", for folders that do not state it.
        similar_label: which label of a pair model means similar, if the names do not tell.
        overwrite: replace a model folder that is there.

    Returns:
        What was written, and how equal it is.

    Raises:
        InputError: an unknown format or type, an option that this model has no use for, a topic classifier with a
            fitted head, or formats that exclude each other.
        FolderError: the model is incomplete, the folder exists, or what was written differs by more than rounding.
        ModelNotFoundError: no such model on this disk.
        MissingExtraError: "onnx" without the extra `export`.

    Cost: the model is held in memory about twice (ONNX below 1 GiB: four times), and computed on a few sentences.
    """
    formats = _formats(to)
    if dtype not in DTYPES:
        raise InputError(
            found=shorten(dtype), expected=f"one of {', '.join(DTYPES)}", fix="Choose one.", where="dtype"
        )
    if "onnx" in formats:  # told before anything is computed
        load_onnx(), load_onnxruntime()
    source = Source.open(
        model, "", as_task=task, pooling=pooling, similar_label=similar_label, precision="float32"
    )
    opened, shape = source.folder, shape_of(source.folder)
    _check_topic(opened)
    refuse_idle(opened, pooling=pooling, similar_label=similar_label, vectors=shape.pooling is not None)
    graphs = [name for name in formats if name != "sentence-transformers"]
    folded = shape.folded and bool(graphs)
    if folded and "sentence-transformers" in formats:
        raise InputError(
            found=f"{' and '.join(formats)} for a model with {_extra(opened)}",
            expected="a folder of its own for sentence-transformers",
            fix="Export twice: the graph applies it to each token, and PyTorch after pooling.",
            where="to",
        )
    stored = "float16" if dtype == "float16" or (dtype == "auto" and opened.dtype == "F16") else "float32"
    encoded = encode_samples(source)
    expected = compute(source, encoded)
    parities: list[Parity] = []
    with StagedFolder(folder, overwrite=overwrite) as stage:
        work = stage.path / _WORK
        work.mkdir()
        whole = _write_whole(source, work / "folder", stored, folded)
        for file in sorted(entry for entry in whole.rglob("*") if entry.is_file()):
            name = file.relative_to(whole).as_posix()
            if folded and name == "1_Pooling/config.json":
                stage.put(name, _resized(file, opened.vector_size))
            elif name != MANIFEST and not (folded and name in _PYTORCH):
                stage.link(file, name, file_sha256(file))
        if not folded:
            parities += measure_folder(whole, source, encoded, expected, stored)
        if "onnx" in formats:
            _write_onnx(opened, stage, stored)
            parities += measure(*onnx_reader(stage.path / ONNX_FILE), source, encoded, expected, stored)
        if "openvino" in formats:
            _write_openvino(opened, stage, stored, work)
            parities += measure(
                *openvino_reader(stage.path / OPENVINO_FILE), source, encoded, expected, stored
            )
        check(parities, stored, str(stage.target))
        shutil.rmtree(work)
        kinds = (".safetensors", ".onnx", ".onnx_data", ".xml", ".bin")
        files = [entry for entry in sorted(stage.path.rglob("*")) if entry.suffix in kinds]
        names = tuple(entry.relative_to(stage.path).as_posix() for entry in files)
    return Exported(
        path=stage.target,
        formats=formats,
        task=opened.task,
        dtype=stored,
        files=names,
        parities=tuple(parities),
        notes=_notes(opened, folded, graphs),
    )


def _formats(to: str | Sequence[str]) -> tuple[str, ...]:
    asked = (to,) if isinstance(to, str) else tuple(to)
    unknown = [name for name in asked if name not in FORMATS]
    if unknown or not asked:
        raise InputError(
            found=shorten(unknown[0]) if unknown else "no format",
            expected=f"one or several of {', '.join(FORMATS)}",
            fix="Choose one.",
            where="to",
        )
    return tuple(name for name in FORMATS if name in asked)


def _check_topic(folder: ModelFolder) -> None:
    if (folder.record.get("topic") or {}).get("fitted"):
        raise InputError(
            found="a topic classifier that was fitted on labelled texts",
            expected="a model whose answer is the encoder's own: embed, pair, classes, mlm",
            fix="What `fit` learnt is jinyi's own. Export the masked language model it started from, or train a "
            "classifier with `jinyi train`.",
            where=str(folder.path),
        )


def _extra(folder: ModelFolder) -> str:
    return "first_last pooling" if folder.pooling == "first_last" else "whitening or other dense layers"


def _write_whole(source: Source, path: Path, dtype: str, folded: bool) -> Path:
    """Write what sentence-transformers and transformers open; of a folded one all but the weights is used."""
    folder = source.folder
    kept = carried(folder)
    same_task = folder.record.get("task") == folder.task
    golden: Golden | Callable[[Path], Golden] | None = folder.golden if same_task and not folded else None
    if golden is not None and dtype != ("float16" if folder.dtype == "F16" else "float32"):
        golden = make_golden  # rounded weights give other numbers
    name = str(folder.record.get("name") or folder.path.name)
    if folded:
        kept |= {"pooling": shape_of(folder).pooling, "dense": (), "ranges": None, "int8": None}
    return write_folder(
        path,
        **kept,
        weights=folder.weights(),
        tokenizer=source.tokenizer,
        dtype=dtype,
        name=name,
        golden=golden,
        card=_card(folder, name, kept["licence"]) if folded else None,
    )


def _card(folder: ModelFolder, name: str, licence: str | None) -> str:
    """The README of a folder that holds graphs alone."""
    head = f"---\nlanguage: zh\nlicense: {licence}\n---\n\n" if licence else ""
    return (
        f"{head}# {name}\n\nSentence vectors of {folder.vector_size} numbers by a graph, in `onnx/` or `openvino/`: "
        f"{shape_of(folder).pooling} pooling of `last_hidden_state`, or `sentence_embedding` as it is. The graph does "
        f"the {_extra(folder)} too, so there are no PyTorch weights here. Written by `jinyi export`.\n"
    )


def _write_onnx(folder: ModelFolder, stage: StagedFolder, dtype: str) -> None:
    graph = translate(reader_graph(folder, keep_half=dtype == "float16"), half=_rounds(folder, dtype))
    for name, data in graph.files():
        stage.put(f"onnx/{name}", data)


def _write_openvino(folder: ModelFolder, stage: StagedFolder, dtype: str, work: Path) -> None:
    model = reader_graph(folder, keep_half=dtype == "float16")
    written = work / Path(OPENVINO_FILE).name
    load_openvino().save_model(model, str(written), compress_to_fp16=_rounds(folder, dtype))
    for file in (written, written.with_suffix(".bin")):
        stage.link(file, f"openvino/{file.name}", file_sha256(file))


def _rounds(folder: ModelFolder, dtype: str) -> bool:
    """Whether float32 matrices are rounded; those of a float16 folder are written as they are."""
    return dtype == "float16" and folder.dtype != "F16"


def _resized(file: Path, size: int) -> str:
    """The pooling of a folder whose graph has the dense layers in it: of states of another width."""
    body = json.loads(file.read_text(encoding="utf-8"))
    return json.dumps({**body, "word_embedding_dimension": size}, indent=2) + "\n"


def _notes(folder: ModelFolder, folded: bool, graphs: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if folded:
        notes.append(
            f"{_extra(folder)[0].upper()}{_extra(folder)[1:]}: done in the graph; the folder holds no PyTorch weights, "
            "which would leave it out."
        )
    if folder.task == "pair" and folder.n_labels == 2:
        notes.append(
            "Two logits: text-embeddings-inference /rerank and CrossEncoder.rank want one; "
            "`jinyi convert --logits 1` makes the equal model with one."
        )
    if graphs and folder.record.get("calibration") and folder.record.get("task") == folder.task:
        notes.append("The graph gives the model's own logits; calibration is jinyi's.")
    return tuple(notes)
