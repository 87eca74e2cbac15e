"""A trained model as the teacher of another: its vectors, logits and hidden states, without gradient."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder import read_folder
from jinyi.registry import locate
from jinyi.tokens import Tokenizer
from jinyi.train.data.tensors import Padded
from jinyi.train.network import Network, pool

_TASKS = {"vectors": "embed", "similarities": "embed", "pair": None, "mlm": "mlm"}
_LEAST_SHARED = 0.5


class Teacher:
    """A model folder that answers batches. It goes to the device of the batches it gets.

    Args:
        model: folder or registered name.
        targets: what is asked of it, as in `DistillObjective`; decides its head.
        bf16: keep its matrices in bfloat16 and multiply in it: half the memory.

    Attributes:
        folder: the opened model folder.
        tokenizer: its own.
        prefix: ids of the folder's default prompt, which belongs before every text.

    Raises:
        ModelNotFoundError: no such model on this disk.
        FolderError: damaged, without the head that is needed, or for vectors without a word on pooling.

    Memory: 4 bytes a weight, with `bf16` 2 for those of matrices.
    """

    def __init__(self, model: str, targets: str, *, bf16: bool = False) -> None:
        found = locate(model)
        self.folder = read_folder(found.path, task=_TASKS[targets], facts=found.facts)
        if self.folder.pooling == "max" and targets in ("vectors", "similarities"):
            raise FolderError(
                where=str(self.folder.path),
                found="pooling 'max'",
                expected="cls, mean or first_last for a teacher",
                fix="Take another teacher.",
            )
        config = self.folder.config
        self.tokenizer = Tokenizer.from_folder(
            self.folder.tokenizer_file.parent, max_length=config.max_position_embeddings
        )
        prompt = self.folder.prompts.get(self.folder.default_prompt_name or "", "")
        self.prefix = self.tokenizer.ids_of_word(prompt) if targets in ("vectors", "similarities") else []
        classes = self.folder.n_labels if targets == "pair" else 0
        with torch.random.fork_rng(devices=[]):
            self._network = Network(config, mlm=targets == "mlm", outputs=classes)
            self._dense = [_dense(*layer) for layer in self.folder.dense]
        if missing := self._network.load(self.folder.weights()):
            raise FolderError(
                where=str(self.folder.path),
                found=f"no {shorten(missing, 120)}",
                expected=f"a teacher of `targets: {targets}` with all of its head",
                fix="Take another teacher.",
            )
        self._network.eval().requires_grad_(False)
        self._bf16 = bf16
        if bf16:
            for module in self._network.modules():
                if isinstance(module, nn.Linear):
                    module.to(torch.bfloat16)

    @property
    def width(self) -> int:
        """Hidden size."""
        return self.folder.config.hidden_size

    @property
    def pre_layer_norm(self) -> bool:
        """Whether hidden states between the layers are not normalised."""
        return self.folder.config.pre_layer_norm

    def states(self, batch: Padded) -> list[Tensor]:
        """Hidden states of all layers, float32 [B, L, width] each, the embeddings first."""
        device = batch.ids.device
        if self._network.encoder.embeddings.word_embeddings.weight.device != device:
            self._network.to(device)
            self._dense = [layer.to(device) for layer in self._dense]
        segments = batch.segments if self.folder.segment_ids == "pair" else None
        with torch.no_grad(), self._precision(device):
            return [state.float() for state in self._network(batch.ids, batch.lengths, segments)]

    def vectors(self, states: list[Tensor], lengths: Tensor | None) -> Tensor:
        """Text vectors [B, d] as the folder defines them, before L2 normalisation."""
        with torch.no_grad(), self._precision(states[-1].device):
            vectors = pool(states, lengths, self.folder.pooling or "")
            for layer in self._dense:
                vectors = layer(vectors)
            return vectors.float()

    def logits(self, states: list[Tensor]) -> Tensor:
        """Logits of the classes [B, classes]."""
        with torch.no_grad(), self._precision(states[-1].device):
            return self._network.classify(states[-1][:, 0]).float()

    def words(self, states: list[Tensor], places: Tensor, rows: Tensor) -> Tensor:
        """Logits of the vocabulary entries `rows` [k] at `places` [n] of the B * L tokens: [n, k]."""
        with torch.no_grad(), self._precision(states[-1].device):
            return self._network.words(states[-1].flatten(0, 1)[places], rows).float()

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self._bf16 else nullcontext()


def shared_tokens(student: Tokenizer, teacher: Tokenizer) -> npt.NDArray[np.int64]:
    """Say which id of the teacher has the token of each id of the student.

    So a teacher reads the student's own tokens, one for one, though its vocabulary is another: the teacher's text may
    then be cut finer than it is used to, but every place is the same place for both.

    Returns:
        int64 [ids of the student]; -1 where the teacher does not have the token.

    Raises:
        InputError: the teacher has less than half of the student's tokens.
    """
    place = {token: index for index, token in enumerate(teacher.vocab) if token}
    ids = np.array([place.get(token, -1) for token in student.vocab], np.int64)
    if (share := float(np.mean(ids >= 0))) < _LEAST_SHARED:
        raise InputError(
            where="objective.teacher",
            found=f"a teacher whose vocabulary has {share:.0%} of the student's tokens",
            expected=f"at least {_LEAST_SHARED:.0%}, for logits at masks",
            fix="Prune the student's vocabulary from the teacher's, or imitate vectors or pair.",
        )
    return ids


def normalised(states: Tensor) -> Tensor:
    """States with mean 0 and variance 1 in each token; those of pre-layer-norm models grow from layer to layer."""
    return F.layer_norm(states, states.shape[-1:])


def _dense(weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32] | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight, np.float32)))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(np.array(bias, np.float32)))
    layer.requires_grad_(False)
    return layer
