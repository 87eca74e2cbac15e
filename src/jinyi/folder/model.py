"""An opened model folder: what it holds, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, shorten
from jinyi.folder.labels import find_similar
from jinyi.folder.tensors import TensorMap, read_header

FORMAT: Final = 1
RECORD: Final = "jinyi.json"
RANGES: Final = "int8_ranges.safetensors"
SEGMENT_IDS: Final = ("pair", "zeros")
PROBLEM_TYPES: Final = ("single_label_classification", "multi_label_classification", "regression")
TASKS: Final = ("embed", "pair", "classes", "topic", "mlm", "encoder")
ARCHITECTURES: Final = {
    "embed": "Model",
    "encoder": "Model",
    "pair": "ForSequenceClassification",
    "classes": "ForSequenceClassification",
    "topic": "ForMaskedLM",
    "mlm": "ForMaskedLM",
}
Dense = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]


@dataclass(frozen=True)
class Golden:
    """A few inputs with the outputs the model gave when it was written; checked whenever it is opened.

    Args:
        kind: `"vectors"`: `values` [n, d] are the vectors of n texts as the folder defines them (pooled,
            dense applied, L2-normalised if the folder says so);
            `"scores"`: `values` [n] are P(similar) of n pairs, in the given order of each pair;
            `"log_probs"`: `values` [n, k] are mean log-probabilities per token of k label words, prompt
            applied.
        inputs: n texts, or n pairs of texts.
        values: float32 array; see `kind`.
        labels: the k label words of `"log_probs"`.
        prompt: the prompt of `"log_probs"`, with {} for the label word.
    """

    kind: str
    inputs: tuple[str, ...] | tuple[tuple[str, str], ...]
    values: npt.NDArray[np.float32]
    labels: tuple[str, ...] = ()
    prompt: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form kept in `jinyi.json`."""
        body: dict[str, Any] = {"kind": self.kind, "inputs": self.inputs}
        if self.kind == "log_probs":
            body |= {"labels": self.labels, "prompt": self.prompt}
        # Nine digits give every float32 back exactly.
        rounded = [float(f"{value:.9g}") for value in np.asarray(self.values, np.float32).ravel().tolist()]
        values = np.asarray(rounded).reshape(np.shape(self.values)).tolist()
        return body | {"values": values}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], where: str) -> Golden:
        """Read the JSON form.

        Raises:
            FolderError: the entry is not of that form.
        """
        try:
            kind = str(body["kind"])
            inputs = tuple(item if isinstance(item, str) else tuple(item) for item in body["inputs"])
            values = np.asarray(body["values"], dtype=np.float32)
            labels = tuple(str(label) for label in body.get("labels") or ())
            known = {"vectors": 2, "scores": 1, "log_probs": 2}
            sound = (
                known[kind] == values.ndim and len(inputs) == len(values) > 0 and np.isfinite(values).all()
            )
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise FolderError(
                where=where,
                found=f"golden = {shorten(body)}",
                expected="kind, inputs and as many finite values",
                fix="The file was edited or damaged: take it again from where the model came from.",
            )
        return cls(kind, inputs, values, labels, body.get("prompt"))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A checked model folder; see `jinyi.folder.read_folder`.

    Args:
        path: the folder.
        config: shape of the encoder, with `vocab_size` and `pre_layer_norm` as the weights have them.
        raw_config: `config.json` as it is.
        task: `"embed"` sentence vectors, `"pair"` classifier of sentence pairs, `"classes"` other sequence
            classifier, `"topic"` or `"mlm"` masked language model, `"encoder"` bare encoder.
        pooling: `"cls"`, `"mean"`, `"max"` or `"first_last"`; None where nothing states it and none was
            needed.
        normalize: whether vectors are L2-normalised as the last step.
        asked_pooling: as it was stated or asked for: `"pooler"` where the first of `dense` is the encoder's own pooler.
        dense: linear layers after pooling, in order, as (weight [out, in], bias [out] or None).
        labels: names of the classifier's outputs in their order; for a topic model its default label words.
        prompts: named prompts: text put before a sentence, or topic templates with {} for the label word.
        default_prompt_name: the prompt used when none is named.
        tokenizer_file: `tokenizer.json`, or `vocab.txt` where that is all there is.
        lowercase: whether `vocab.txt` alone is to be read with lower-casing.
        max_length: longest input in tokens, [CLS] and [SEP] included.
        weights: the tensors; see `ModelFolder.weights`.
        record: `jinyi.json` (empty if there is none): task, training record, results, calibration...
        golden: inputs with their stored outputs, or None; also None if an option overrides what they were
            made with.
        ignored: names of stored tensors that nothing uses.
        notes: corrections made while reading, one sentence each.
    """

    path: Path
    config: EncoderConfig
    raw_config: Mapping[str, Any]
    task: str
    pooling: str | None
    normalize: bool
    dense: tuple[Dense, ...]
    labels: tuple[str, ...]
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    tokenizer_file: Path
    lowercase: bool
    max_length: int
    tensors: TensorMap
    record: Mapping[str, Any]
    golden: Golden | None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    similar_label: int | str | None = field(default=None, repr=False)
    asked_pooling: str | None = None

    def weights(self) -> TensorMap:
        """Return the tensors by Hugging Face name without the leading `bert.`, read when asked for.

        LayerNorms are named weight and bias, whatever the file calls them. The decoder of a masked language
        model is left out: it equals the word embeddings, which is checked. float32 and float16 tensors are
        views of the memory-mapped file; others come as float32.
        """
        return self.tensors

    def ranges(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the ranges of activations for 8-bit arithmetic (see `jinyi.runtime.int8`), if they are stored.

        Raises:
            FolderError: the file is damaged.
        """
        file = self.path / RANGES
        if not file.is_file():
            return None
        stored = TensorMap(read_header(file))
        return {name: np.asarray(stored[name], np.float32) for name in stored}

    @property
    def n_labels(self) -> int:
        """Number of classifier outputs; 0 without a classifier."""
        return self.tensors.shape("classifier.weight")[0] if "classifier.weight" in self.tensors else 0

    @property
    def vector_size(self) -> int:
        """Length of the sentence vectors."""
        return int(self.dense[-1][0].shape[0]) if self.dense else self.config.hidden_size

    @property
    def dtype(self) -> str:
        """Type in which the word embeddings are stored: `F16`, `BF16` or `F32`."""
        return self.tensors.dtype("embeddings.word_embeddings.weight")

    @property
    def stored_type(self) -> Literal["float32", "float16", "bfloat16"]:
        """`dtype` in the words of `write_folder`."""
        return "float16" if self.dtype == "F16" else "bfloat16" if self.dtype == "BF16" else "float32"

    @property
    def parameters(self) -> int:
        """Number of stored parameters, dense layers included."""
        sizes = [int(np.prod(self.tensors.shape(name), dtype=np.int64)) for name in self.tensors]
        sizes += [part.size for layer in self.dense for part in layer if part is not None]
        return sum(sizes)

    @property
    def problem_type(self) -> str | None:
        """How a classifier's outputs relate, as config.json states it (one of `PROBLEM_TYPES`); None: it does not."""
        stated = self.raw_config.get("problem_type")
        return stated if stated in PROBLEM_TYPES else None

    @property
    def segment_ids(self) -> str:
        """How the two texts of a pair are marked: "pair" (segments 0 and 1) or "zeros" (all of segment 0).

        What `jinyi.json` or the registry states; else "pair", unless the weights have one segment alone.
        """
        stated = self.record.get("segment_ids")
        return str(stated) if stated else "pair" if self.config.type_vocab_size > 1 else "zeros"

    @property
    def similar(self) -> int:
        """Index of the pair classifier's output that means "similar".

        With one output it is that one: P(similar) = sigmoid(z). Otherwise the option, `similar_label` of
        `jinyi.json` or the label names decide (`find_similar`).

        Raises:
            FolderError: there is no classifier, or its label names do not tell.
        """
        if self.n_labels == 0:
            raise FolderError(
                where=str(self.path),
                found=f"a folder of task {self.task!r} without classifier.weight",
                expected="a pair classifier",
                fix="Take a pair model, or compare vectors with SentenceEncoder.",
            )
        return find_similar(self.labels, self.n_labels, self.similar_label, str(self.path))
