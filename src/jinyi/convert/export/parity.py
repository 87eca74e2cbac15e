"""What a written model gives beside the one it was made from, on the same sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch, make_batches
from jinyi.convert.export.extras import load_onnxruntime
from jinyi.convert.export.reader_graph import INPUTS, shape_of
from jinyi.convert.parity import TEXT_PAIRS, TEXTS
from jinyi.errors import FolderError
from jinyi.models.source import Source
from jinyi.runtime import Head
from jinyi.runtime.openvino_api import load_openvino
from jinyi.tokens import Encoded

Rows = list[npt.NDArray[np.float32]]
Reader = Callable[[Mapping[str, npt.NDArray[np.int64]]], Mapping[str, npt.NDArray[np.float32]]]

LEAST_COSINE = 0.99999
LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2}


@dataclass(frozen=True)
class Parity:
    """How far a written model is from its source.

    Args:
        reader: what computed the written model, with its version.
        output: what was compared: an output of the model, and what was made of it.
        rows: number of rows compared.
        least_cosine: the smallest cosine of two rows; None for rows of a few probabilities.
        largest_difference: of any two numbers: of vectors of length 1, of hidden states, or of probabilities.
    """

    reader: str
    output: str
    rows: int
    least_cosine: float | None
    largest_difference: float


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
    reader: Reader, name: str, source: Source, encoded: Encoded, expected: Mapping[str, Rows]
) -> list[Parity]:
    """Feed a written graph with the samples in one padded batch and compare it with the source.

    Args:
        reader: computes the graph's outputs from its inputs.
        name: of the reader, with its version.
        source: the model that was exported.
        encoded: samples of `encode_samples`.
        expected: of `compute`.
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
    return [_compared(name, key, *pair, single=_single(source)) for key, pair in found.items()]


def measure_folder(
    path: Path, source: Source, encoded: Encoded, expected: Mapping[str, Rows]
) -> list[Parity]:
    """Compare a written model folder with its source, both computed by jinyi."""
    options = {"as_task": source.folder.task, "similar_label": source.folder.similar_label}
    written = Source.open(path, "", precision="float32", **options)  # type: ignore[arg-type]
    given = compute(written, encoded)
    return [
        _compared("jinyi", key, given[key], rows, single=_single(source)) for key, rows in expected.items()
    ]


def check(parities: list[Parity], dtype: str, where: str) -> None:
    """Refuse what differs by more than rounding.

    Raises:
        FolderError: a cosine below `LEAST_COSINE` or a difference above `LARGEST_DIFFERENCE` of the type.
    """
    for parity in parities:
        cosine = 1.0 if parity.least_cosine is None else parity.least_cosine
        # Written so that NaN is refused, too.
        if not (cosine >= LEAST_COSINE and parity.largest_difference <= LARGEST_DIFFERENCE[dtype]):
            raise FolderError(
                found=f"{parity.output} by {parity.reader} with cosine {cosine:.7f} and a difference of "
                f"{parity.largest_difference:.2g}",
                expected=f"at least {LEAST_COSINE} and at most {LARGEST_DIFFERENCE[dtype]}, rounding of {dtype}",
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


def _single(source: Source) -> bool:
    """Whether logits are yes or no each (sigmoid) or exclude each other (softmax)."""
    return source.folder.n_labels == 1


def _compared(reader: str, output: str, given: Rows, expected: Rows, *, single: bool) -> Parity:
    ours = np.concatenate([np.atleast_2d(row) for row in expected]).astype(np.float64)
    theirs = np.concatenate([np.atleast_2d(row) for row in given]).astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    cosine: float | None = float(((ours * theirs).sum(1) / lengths[0] / lengths[1]).min())
    if output == "logits":
        cosine = cosine if ours.shape[1] > 2 else None
        ours, theirs = _probabilities(ours, single), _probabilities(theirs, single)
    elif output != "last_hidden_state":
        ours, theirs = ours / lengths[0][:, None], theirs / lengths[1][:, None]
    return Parity(reader, output, len(ours), cosine, float(np.abs(ours - theirs).max()))


def _probabilities(logits: npt.NDArray[np.float64], single: bool) -> npt.NDArray[np.float64]:
    if single:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares
