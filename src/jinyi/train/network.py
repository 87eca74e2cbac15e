"""What is trained: the encoder with the heads a task puts on it, under the names of the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from jinyi.config import EncoderConfig
from jinyi.runtime.rotary import with_rotary_table
from jinyi.runtime.torch_encoder import MlmHead, TorchEncoder, activate, initialize

EXTRAS = "extras."


class Network(nn.Module):
    """Encoder and heads.

    Args:
        config: shape of the encoder.
        mlm: with a masked-language-model head.
        pooler: with BERT's pooler (dense + tanh on the first position; RoFormer has its own activation there).
        outputs: classes of a classifier on the pooler's output; 0 for none.
        dropout: on the classifier's input.

    Weights start as BERT's do; `jinyi.train.start` gives them better ones.

    Attributes:
        extras: modules of training alone, such as a map between the widths of teacher and student: trained and kept in
            checkpoints, but no part of the model folder.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        mlm: bool = False,
        pooler: bool = False,
        outputs: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = TorchEncoder(config)
        self.mlm = MlmHead(config) if mlm else None
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooler or outputs else None
        self.classifier = nn.Linear(config.hidden_size, outputs) if outputs else None
        self.extras = nn.ModuleDict()
        self.dropout = dropout
        for head in (self.pooler, self.classifier):
            if head is not None:
                initialize(head)

    def forward(self, *inputs: Any, **options: Any) -> list[Tensor]:
        """Hidden states; arguments as for `TorchEncoder.forward`."""
        states: list[Tensor] = self.encoder(*inputs, **options)
        return states

    def classify(self, first: Tensor) -> Tensor:
        """Logits [B, outputs] of the pooled states [B, hidden]."""
        assert self.pooler is not None and self.classifier is not None
        pooled = activate(self.pooler(first), self.config.pooler_activation)
        logits: Tensor = self.classifier(F.dropout(pooled, self.dropout, self.training))
        return logits

    def words(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """Vocabulary logits [n, V] of states [n, hidden]; with `rows` [k] only those entries, [n, k]."""
        assert self.mlm is not None
        logits: Tensor = self.mlm(states, self.encoder.embeddings.word_embeddings.weight, rows)
        return logits

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights by the names of the model folder, float32, on the CPU; under FSDP every process has to ask."""
        return {
            public_name(name): whole(tensor).float().cpu().numpy()
            for name, tensor in self.state_dict().items()
            if not name.startswith(EXTRAS)
        }

    def load(self, weights: Mapping[str, npt.NDArray[Any]]) -> list[str]:
        """Take weights by folder names; heads the folder lacks keep their start.

        Returns:
            The names of weights of this network that were not in `weights` (those of `extras` aside).

        Raises:
            ValueError: a weight has another shape.
        """
        missing = []
        weights = with_rotary_table(self.config, weights)
        for name, tensor in self.state_dict().items():
            if name.startswith(EXTRAS):
                continue
            array = weights.get(public_name(name))
            if array is None:
                missing.append(public_name(name))
            elif tuple(array.shape) != tuple(tensor.shape):
                raise ValueError(f"{public_name(name)} is {array.shape}, expected {tuple(tensor.shape)}")
            else:
                # One tensor at a time: the largest models fit into memory once, not twice.
                tensor.copy_(torch.from_numpy(np.array(array, dtype=np.float32)))
        return missing


def whole(weight: Tensor) -> Tensor:
    """The weight without gradient; one that FSDP shares among processes is put together, which all must ask for."""
    tensor = weight.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def public_name(name: str) -> str:
    """The model folder's name of a parameter of `Network`."""
    head, _, rest = name.partition(".")
    return {"encoder": rest, "mlm": f"cls.predictions.{rest}", "pooler": f"pooler.dense.{rest}"}.get(
        head, name
    )


def pool(states: list[Tensor], lengths: Tensor | None, pooling: str) -> Tensor:
    """Text vectors [B, hidden] of the layers' hidden states.

    Args:
        states: output of `Network.forward`, each [B, L, hidden].
        lengths: real tokens of each row [B]; None when no row is padded.
        pooling: "cls", "mean" (all real tokens, [CLS] and [SEP] included) or "first_last" (that mean over the average
            of the first and the last layer's output).
    """
    if pooling == "cls":
        return states[-1][:, 0]
    last = states[-1] if pooling == "mean" else (states[1] + states[-1]) / 2
    if lengths is None:
        return last.mean(1)
    real = torch.arange(last.shape[1], device=last.device) < lengths[:, None]
    return (last * real[:, :, None]).sum(1) / lengths[:, None]
