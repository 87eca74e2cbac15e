"""What a written model gives beside the one it was made from, on the same sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch, make_batches
from jinyi.convert.export.extras import load_onnxruntime
from jinyi.convert.export.reader_graph import INPUTS, shape_of
from jinyi.convert.parity import TEXT_PAIRS, TEXTS, Parity, least_cosine
from jinyi.errors import FolderError
from jinyi.models.heads import softmax
from jinyi.models.pair_scorer import sigmoid
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.runtime.openvino_api import load_openvino
from jinyi.tokens import Encoded

Rows = list[npt.NDArray[np.float32]]
Reader = Callable[[Mapping[str, npt.NDArray[np.int64]]], Mapping[str, npt.NDArray[np.float32]]]

LEAST_COSINE = 0.99999
LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2}


def encode_samples(source: Source) -> Encoded:
    """Return sentences to compare on, pairs for a pair model, of different lengths."""
    tokenizer, limit = source.tokenizer, source.folder.max_length
    if source.folder.task == "pair":
        habit = source.folder.segment_ids
        return tokenizer.encode_pairs(TEXT_PAIRS, max_length=limit, truncate="report", segment_ids=habit)
    return tokenizer.encode(TEXTS, max_length=limit, truncate="report")


def compute(source: Source, encoded: Encoded) -> dict[str, Rows]:
    """Return what jinyi computes of each sample, by the name of an exported output."""
    shape = shape_of(source.folder)
    if shape.head.kind == "mlm":
        return {"logits": _words(source, encoded)}
    rows = _run(source, shape.head, encoded)
    if shape.head.kind == "classes":
        return {"logits": rows}
    return {"last_hidden_state": rows} if shape.head.kind == "tokens" else {"sentence_embedding": rows}


def _run(source: Source, head: Head, encoded: Encoded) -> Rows:
    rows: dict[int, npt.NDArray[np.float32]] = {}
    for batch, output in source.engine(head).run(make_batches(encoded, pad_id=source.tokenizer.pad_id)):
        assert isinstance(output, np.ndarray)
        for place, row, length in zip(range(len(output)), batch.rows.tolist(), batch.lengths, strict=True):
            rows[row] = output[place][:length] if head.kind == "tokens" else output[place]
    return [rows[row] for row in range(len(encoded.ids))]


def _words(source: Source, encoded: Encoded) -> Rows:
    """Scores of all words at every position; the runtime computes them at positions that a batch names."""
    batches = [
        Batch(
            np.array([row]),
            np.array([ids], np.int32),
            np.array([len(ids)], np.int32),
            None,
            np.arange(len(ids), dtype=np.int32)[None],
        )
        for row, ids in enumerate(encoded.ids)
    ]
    done = {int(batch.rows[0]): output for batch, output in source.engine(Head("mlm")).run(batches)}
    return [np.asarray(done[row])[0] for row in range(len(batches))]


def measure(
    reader: Reader, name: str, source: Source, encoded: Encoded, expected: Mapping[str, Rows], dtype: str
) -> list[Parity]:
    """Feed a written graph with the samples in one padded batch and compare it with the source.

    Args:
        reader: computes the graph's outputs from its inputs.
        name: of the reader, with its version.
        source: the model that was exported.
        encoded: samples of `encode_samples`.
        expected: of `compute`.
        dtype: in which matrices are stored.
    """
    inputs = _padded(encoded, source.tokenizer.pad_id)
    outputs, shape, folder = reader(inputs), shape_of(source.folder), source.folder
    lengths = [len(ids) for ids in encoded.ids]
    found: dict[str, tuple[Rows, Rows]] = {}
    for key, rows in expected.items():
        given = list(outputs[key])
        if rows[0].ndim == 2:
            given = [row[:length] for row, length in zip(given, lengths, strict=True)]
        found[key] = given, rows
    if shape.pooling is not None and shape.head.kind == "vector":
        states = [row[:length] for row, length in zip(outputs["last_hidden_state"], lengths, strict=True)]
        pools = {
            "cls": lambda rows: rows[0],
            "mean": lambda rows: rows.mean(0),
            "max": lambda rows: rows.max(0),
        }
        vectors = [pools[shape.pooling](rows) for rows in states]
        for weight, bias in () if shape.folded else folder.dense:
            vectors = [weight @ vector + (0 if bias is None else bias) for vector in vectors]
        found[f"last_hidden_state, {shape.pooling} pooling"] = vectors, expected["sentence_embedding"]
    return [_compared(source, name, key, *pair, dtype) for key, pair in found.items()]


def measure_folder(
    path: Path, source: Source, encoded: Encoded, expected: Mapping[str, Rows], dtype: str
) -> list[Parity]:
    """Compare a written model folder with its source, both computed by jinyi."""
    options = {"as_task": source.folder.task, "similar_label": source.folder.similar_label}
    written = Source.open(path, "", precision="float32", **options)  # type: ignore[arg-type]
    given = compute(written, encoded)
    return [_compared(source, "jinyi", key, given[key], rows, dtype) for key, rows in expected.items()]


def check(parities: list[Parity], dtype: str, where: str) -> None:
    """Refuse what differs by more than rounding.

    Raises:
        FolderError: a cosine below `LEAST_COSINE` or a difference above `LARGEST_DIFFERENCE` of the type.
    """
    for parity in parities:
        if not parity.same:
            raise FolderError(
                found=f"{parity.reader} computes something else: {parity}",
                expected=f"the same but for the rounding of {dtype}",
                fix="Nothing was written. Export in float32; if it is that already, this is a defect of jinyi.",
                where=where,
            )


def onnx_reader(file: Path) -> tuple[Reader, str]:
    """Open an ONNX file in onnxruntime; returns the reader and its name."""
    onnxruntime = load_onnxruntime()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def read(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return read, f"onnxruntime {onnxruntime.__version__}"


def openvino_reader(file: Path) -> tuple[Reader, str]:
    """Open OpenVINO IR from the disk; returns the reader and its name."""
    openvino = load_openvino()
    model = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def read(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = model(dict(inputs))
        return {port.get_any_name(): outputs[port].copy() for port in model.outputs}

    return read, f"openvino {openvino.__version__.split('-')[0]}"


def _padded(encoded: Encoded, pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
    width = max(map(len, encoded.ids))
    inputs = {name: np.zeros((len(encoded.ids), width), np.int64) for name in INPUTS}
    inputs["input_ids"][:] = pad_id
    for row, (ids, split) in enumerate(zip(encoded.ids, encoded.splits, strict=True)):
        inputs["input_ids"][row, : len(ids)] = ids
        inputs["attention_mask"][row, : len(ids)] = 1
        inputs["token_type_ids"][row, split : len(ids)] = 1
    return inputs


def _compared(source: Source, reader: str, output: str, given: Rows, expected: Rows, dtype: str) -> Parity:
    ours, theirs = (np.concatenate([np.atleast_2d(row) for row in rows]) for rows in (expected, given))
    directed = output != "logits" or ours.shape[1] > 2
    cosine = least_cosine(ours, theirs) if directed else None
    if output == "logits":
        # One logit says yes or no, several exclude each other.
        shares = sigmoid if source.folder.n_labels == 1 else softmax
        ours, theirs = shares(ours), shares(theirs)
    elif output != "last_hidden_state":
        ours, theirs = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs))
    return Parity(
        reader=reader,
        compared=output,
        rows=len(ours),
        largest_difference=float(np.abs(ours - theirs).max()),
        least_cosine=cosine,
        most_allowed=LARGEST_DIFFERENCE[dtype],
        least_allowed=LEAST_COSINE if directed else None,
    )
