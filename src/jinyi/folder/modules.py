"""The modules of a sentence-transformers folder: Transformer, Pooling, Dense, Normalize."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, shorten
from jinyi.folder.jsonfile import optional_json, parse_json, read_json
from jinyi.folder.model import Dense
from jinyi.folder.tensors import TensorMap, read_header
from jinyi.folder.weights import no_weights, weight_files
from jinyi.runtime import POOLINGS

POOLER = "pooler"
"""[CLS] through the stored pooler as a linear layer, without its tanh: the vectors of SimBERT and RoFormer-Sim."""
STATED_POOLINGS = (*POOLINGS, POOLER)
"""What a folder or a caller may say of pooling."""
OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ELSEWHERE = "jinyi does not compute this; use sentence-transformers for this model."


class Modules:
    """What modules.json and the files it names say: Transformer, Pooling, Dense..., Normalize, in that order.

    Without modules.json a lone 1_Pooling is read. Attributes: `transformer` folder of config.json and
    weights, `pooling` and `normalize` (None: not stated), `dense` folders, `settings` of
    config_sentence_transformers.json.

    Args:
        root: the model folder.

    Raises:
        FolderError: a file is damaged, or the chain is one that jinyi does not compute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.transformer = root
        self.pooling: str | None = None
        self.normalize: bool | None = None
        self.dense: list[Path] = []
        self.settings = optional_json(root / "config_sentence_transformers.json")
        self._where = str(root / "modules.json")
        if (root / "modules.json").is_file():
            self.normalize = False
            for entry in parse_json(root / "modules.json", list):
                self._add(entry)
        elif (root / "1_Pooling" / "config.json").is_file():
            self.pooling = self._read_pooling(root / "1_Pooling")

    def _add(self, entry: Any) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise FolderError(
                where=self._where,
                found=shorten(entry),
                expected="modules with type and path",
                fix="The file is damaged: copy it again.",
            )
        kind = entry["type"].rsplit(".", 1)[-1]
        relative = PurePosixPath(str(entry.get("path", "")).replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise FolderError(
                where=self._where,
                found=f"path {str(relative)!r}",
                expected="a path inside the folder",
                fix="Do not use this folder unless you trust where it comes from.",
            )
        if self.normalize and kind != "Normalize":
            raise FolderError(
                where=self._where,
                found=f"{kind} after Normalize",
                expected="Normalize as the last step",
                fix=_ELSEWHERE,
            )
        folder = self.root / relative
        if kind == "Transformer":
            self.transformer = folder
        elif kind == "Pooling":
            self.pooling = self._read_pooling(folder)
        elif kind == "Dense":
            self.dense.append(folder)
        elif kind == "Normalize":
            self.normalize = True
        else:
            raise FolderError(
                where=self._where,
                found=f"a module of type {entry['type']}",
                expected="Transformer, Pooling, Dense and Normalize",
                fix=_ELSEWHERE,
            )

    def _read_pooling(self, folder: Path) -> str:
        where = str(folder / "config.json")
        body = read_json(folder / "config.json", "the pooling to be stated there")
        modes = body.get("pooling_mode")  # sentence-transformers 5.4 and later; booleans before
        if modes is None:
            modes = [mode for key, mode in OLD_POOLING.items() if body.get(key)]
        modes = [modes] if isinstance(modes, str) else list(modes)
        if len(modes) != 1 or modes[0] not in POOLINGS:
            raise FolderError(
                where=where,
                found=f"pooling {' + '.join(map(str, modes)) or 'with no mode switched on'}",
                expected=f"exactly one of {', '.join(POOLINGS)}",
                fix=_ELSEWHERE,
            )
        if body.get("include_prompt") is False and self.settings.get("prompts"):
            raise FolderError(
                where=where,
                found="include_prompt = false with prompts",
                expected="prompts that are pooled together with the text",
                fix=_ELSEWHERE,
            )
        return str(modes[0])


def read_dense(folder: Path) -> Dense:
    """Read one Dense module as (weight [out, in], bias [out] or None).

    Raises:
        FolderError: it is not a plain linear layer, or its files are missing or damaged.
    """
    where = str(folder / "config.json")
    body = read_json(folder / "config.json", "every Dense module to have one")
    activation = str(body.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation != "Identity" or body.get("use_residual"):
        raise FolderError(
            where=where,
            found=f"a Dense module with {'a residual' if activation == 'Identity' else activation}",
            expected="a plain linear layer (activation Identity, no residual)",
            fix=_ELSEWHERE,
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise no_weights(folder)
    tensors = TensorMap(read_header(file))
    outer = body.get("out_features")
    shapes: dict[str, tuple[Any, ...]] = {"linear.weight": (outer, body.get("in_features"))}
    if body.get("bias", True):
        shapes["linear.bias"] = (outer,)
    for name, shape in shapes.items():
        if name not in tensors or tensors.shape(name) != shape:
            raise FolderError(
                where=str(file),
                found=f"{name} of shape {list(tensors.shape(name)) if name in tensors else 'none'}",
                expected=f"shape {list(shape)} by its config.json",
                fix="config.json and weights of this module do not belong together.",
            )
    bias = np.array(tensors["linear.bias"]) if "linear.bias" in shapes else None
    return np.array(tensors["linear.weight"]), bias


def read_pooler(root: Path, tensors: TensorMap, config: EncoderConfig) -> Dense | None:
    """Read the pooler of an encoder as (weight [out, in], bias [out]); None where it is not stored.

    A RoFormer's is not among its tensors: transformers has none in that class, and what jinyi calls `pooler.dense`
    there belongs to a classifier.

    Args:
        root: the folder of the weights.
        tensors: the weights by their names in jinyi.
        config: the encoder.

    Raises:
        FolderError: it is of another width.
    """
    source: TensorMap = tensors
    if config.rotary:
        stored = {name: info for file in weight_files(root) for name, info in read_header(file).items()}
        own = {name: info for name, info in stored.items() if ".pooler.dense." in f".{name}"}
        source = TensorMap({f"pooler.dense.{name.rpartition('.')[2]}": info for name, info in own.items()})
    width = config.hidden_size
    shapes = {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
    if not all(name in source for name in shapes):
        return None
    for name, shape in shapes.items():
        if source.shape(name) != shape:
            raise FolderError(
                where=str(root),
                found=f"{name} of shape {list(source.shape(name))}",
                expected=f"shape {list(shape)} by config.json",
                fix="config.json and weights do not belong together: take both from one source.",
            )
    weight, bias = (np.array(source[name], np.float32) for name in shapes)
    return weight, bias
