"""The engine on CUDA: the PyTorch encoder behind the same call as OpenVINO's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch
from jinyi.config import EncoderConfig
from jinyi.errors import InputError, MissingExtraError
from jinyi.runtime import Head, Output
from jinyi.runtime.checks import check_batch, check_finite, checked_weight
from jinyi.runtime.rotary import with_rotary_table

try:
    import torch
    from torch import Tensor
    from torch.nn import functional as F

    from jinyi.runtime.torch_encoder import MlmHead, TorchEncoder, activate
except ImportError as error:
    raise MissingExtraError(
        found="no PyTorch",
        expected="PyTorch for the device cuda",
        fix='Install it with: pip install "jinyi[train]"',
        where=str(error),
    ) from error

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchEngine:
    """Runs `TorchEncoder` with the same heads; see `jinyi.runtime.open_engine` for the arguments.

    Args:
        device: any PyTorch device; "cpu" serves to compare results.
    """

    def __init__(
        self,
        config: EncoderConfig,
        weights: Mapping[str, npt.NDArray[Any]],
        head: Head,
        *,
        precision: str = "auto",
        device: str = "cuda",
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(
                found="no CUDA device that PyTorch can use",
                expected="an NVIDIA GPU with its driver and a CUDA build of PyTorch",
                fix='Use device="cpu".',
                where='device="cuda"',
            )
        self.precision = "float32" if precision == "auto" else precision
        if self.precision not in _DTYPES:
            raise InputError(
                found=f'precision="{precision}"',
                expected=f"one of auto, {', '.join(_DTYPES)}",
                fix="8 bits run on processors only.",
                where=f'device="{device}"',
            )
        self._config, self._head = config, head
        self._device = torch.device(device)
        self._dtype = _DTYPES[self.precision]
        weights = with_rotary_table(config, weights)
        with torch.device("meta"):
            self._encoder = TorchEncoder(config)
            self._mlm = MlmHead(config) if head.kind == "mlm" else None
        self._fill(self._encoder, weights, "")
        if self._mlm is not None:
            self._fill(self._mlm, weights, "cls.predictions.")
        self._dense = [
            (self._tensor(np.asarray(weight)), None if bias is None else self._tensor(np.asarray(bias)))
            for weight, bias in head.dense
        ]
        if head.kind == "classes":
            self._dense = self._class_layers(weights)
        self._labels = None
        if head.label_ids is not None:
            self._labels = torch.from_numpy(np.asarray(head.label_ids, np.int64)).to(self._device)

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        """Yield each batch with its output; see `jinyi.runtime.Engine.run`."""
        for batch in batches:
            check_batch(self._config, batch, masks=self._mlm is not None)
            with torch.inference_mode():
                outputs = [tensor.float().cpu().numpy() for tensor in self._compute(batch)]
            for output in outputs:
                check_finite(batch, output)
            yield batch, outputs[0] if len(outputs) == 1 else (outputs[0], outputs[1])

    def info(self) -> dict[str, Any]:
        """Return what runs where; see `jinyi.runtime.Engine.info`."""
        cuda = self._device.type == "cuda"
        return {
            "device": str(self._device),
            "processor": torch.cuda.get_device_name(self._device) if cuda else "cpu",
            "runtime": f"torch {torch.__version__}",
            "precision": self.precision,
            "why_precision": "as asked or, for auto, the same vector whatever the batch",
            "threads": torch.get_num_threads(),
            "why_threads": "PyTorch's choice",
            "streams": 1,
        }

    def _compute(self, batch: Batch) -> list[Tensor]:
        head = self._head
        # Padding may reach beyond the last position.
        width = min(batch.ids.shape[1], self._config.max_position_embeddings)
        ids = self._ids(batch.ids[:, :width])
        lengths = self._ids(batch.lengths)
        segments = None if batch.segments is None else self._ids(batch.segments[:, :width])
        padded = int(batch.lengths.min()) < width
        states = self._encoder(ids, lengths if padded else None, segments)
        last: Tensor = states[-1]
        if head.kind == "tokens":
            return [F.pad(last, (0, 0, 0, batch.ids.shape[1] - width))]
        if head.kind == "mlm":
            return self._score_words(last, batch)
        if head.kind == "classes":
            vector = last[:, 0]
            for weight, bias in self._dense[:-1]:
                vector = activate(F.linear(vector, weight, bias), self._config.pooler_activation)
            return [F.linear(vector, *self._dense[-1])]
        return [self._vector(states[1], last, lengths)]

    def _vector(self, first: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        head = self._head
        if head.pooling == "cls":
            vector = last[:, 0]
        else:
            columns = torch.arange(last.shape[1], device=last.device)
            real = (columns < lengths[:, None])[:, :, None]
            if head.pooling == "max":
                vector = last.masked_fill(~real, torch.finfo(last.dtype).min).amax(1)
            else:
                states = (first.float() + last.float()) / 2 if head.pooling == "first_last" else last.float()
                vector = ((states * real).sum(1) / lengths[:, None]).to(last.dtype)
        for weight, bias in self._dense:
            vector = F.linear(vector, weight, bias)
        return F.normalize(vector.float(), dim=-1) if head.normalize else vector

    def _score_words(self, last: Tensor, batch: Batch) -> list[Tensor]:
        assert batch.positions is not None and self._mlm is not None  # see check_batch and __init__
        positions = self._ids(batch.positions)
        at_masks = last.gather(1, positions[:, :, None].expand(-1, -1, last.shape[-1]))
        table = self._encoder.embeddings.word_embeddings.weight
        if not self._head.log_normalizer:
            return [self._mlm(at_masks, table, self._labels)]
        scores = self._mlm(at_masks, table)
        chosen = scores if self._labels is None else scores[..., self._labels]
        return [chosen, torch.logsumexp(scores.float(), -1)]

    def _class_layers(self, weights: Mapping[str, npt.NDArray[Any]]) -> list[tuple[Tensor, Tensor | None]]:
        width = self._config.hidden_size
        labels = len(weights["classifier.weight"]) if "classifier.weight" in weights else 1
        shapes = {"classifier": (labels, width)}
        if "pooler.dense.weight" in weights:
            shapes = {"pooler.dense": (width, width), **shapes}
        return [
            (
                self._tensor(checked_weight(weights, f"{name}.weight", shape)),
                self._tensor(checked_weight(weights, f"{name}.bias", shape[:1])),
            )
            for name, shape in shapes.items()
        ]

    def _fill(self, module: torch.nn.Module, weights: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        tensors = {
            name: self._tensor(checked_weight(weights, prefix + name, tuple(tensor.shape)))
            for name, tensor in module.state_dict().items()
        }
        module.load_state_dict(tensors, assign=True)
        module.eval()

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        # Copied, as memory-mapped arrays are read-only.
        return torch.tensor(array.astype(np.float32, copy=False)).to(self._device, self._dtype)

    def _ids(self, array: npt.NDArray[np.int32]) -> Tensor:
        return torch.tensor(array, dtype=torch.int64).to(self._device)
