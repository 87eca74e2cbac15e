"""The encoder in PyTorch: for training, and for prediction on CUDA.

One module for BERT (post-layer-norm, Devlin et al. 2018), MegatronBERT (pre-layer-norm, Shoeybi et al. 2019), ALBERT
(shared layers, narrow embeddings, Lan et al. 2020) and RoFormer (rotary positions, Su et al. 2021), with the parameter
names of `jinyi.folder.names`, so that `state_dict()` goes to a folder and back without renaming.
The MLM head sees masked positions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from jinyi.runtime.torch_attention import attend as attend
from jinyi.runtime.torch_attention import attend_packed
from jinyi.runtime.torch_dropout import add_dropped, dropout
from jinyi.runtime.torch_packing import Packing, collect, pays, spread
from jinyi.runtime.torch_rotary import Angles, PositionTable, turn

if TYPE_CHECKING:
    from jinyi.config import EncoderConfig

_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def _norm(config: EncoderConfig, width: int | None = None) -> nn.LayerNorm:
    return nn.LayerNorm(width or config.hidden_size, eps=config.layer_norm_eps)


def activate(x: Tensor, name: str) -> Tensor:
    """The activation function of that name in `EncoderConfig`, or "tanh"."""
    if name in ("relu", "tanh"):
        return F.relu(x) if name == "relu" else torch.tanh(x)
    return F.gelu(x, approximate=_ACTIVATIONS[name])


class _Embeddings(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        if not config.rotary:
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.Identity() if config.pre_layer_norm else _norm(config, width)
        self.rotary = config.rotary
        self.dropout = config.hidden_dropout_prob

    def forward(self, ids: Tensor, segments: Tensor | None, places: Tensor | None) -> Tensor:
        types = (
            self.token_type_embeddings.weight[0] if segments is None else self.token_type_embeddings(segments)
        )
        x: Tensor = self.word_embeddings(ids)
        if not self.rotary:
            table = self.position_embeddings
            x = x + (table.weight[: ids.shape[1]] if places is None else table(places))
        x = self.LayerNorm(x + types)
        return dropout(x, self.dropout) if self.training else x


class _Projections(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)


class _Output(nn.Module):
    """A dense layer back to the hidden size; the residual and, for BERT, the layer norm come after it."""

    def __init__(self, config: EncoderConfig, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        if not config.pre_layer_norm:
            self.LayerNorm = _norm(config)


class _Attention(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.pre_layer_norm:
            self.ln = _norm(config)
        self.self = _Projections(config)  # Hugging Face's name
        self.output = _Output(config, config.hidden_size)
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.turns_values = config.rotary_value

    def forward(self, x: Tensor, mask: Tensor | Packing | None, angles: Angles | None, first: bool) -> Tensor:
        """Mix the values of [B, L, width], or of packed [T, width]; with `first` for the rows' first tokens only."""
        width, own = x.shape[-1], self.self
        rate = self.dropout if self.training else 0.0
        sides = (own.key.weight, own.value.weight), (own.key.bias, own.value.bias)
        if first:
            query = F.linear(first_tokens(x, mask), own.query.weight, own.query.bias)
            key_value = F.linear(x, torch.cat(sides[0]), torch.cat(sides[1]))
        else:
            weight, bias = torch.cat((own.query.weight, *sides[0])), torch.cat((own.query.bias, *sides[1]))
            query, key_value = torch.split(F.linear(x, weight, bias), [width, 2 * width], -1)
        if angles is not None:
            own_angles = Angles(*(first_tokens(part, mask) for part in angles)) if first else angles
            query = turn(query, own_angles, self.heads)
            key, value = key_value.chunk(2, -1)
            value = turn(value, angles, self.heads) if self.turns_values else value
            key_value = torch.cat((turn(key, angles, self.heads), value), -1)
        if isinstance(mask, Packing):
            return attend_packed(query, key_value, mask, self.heads, rate)
        if first and mask is not None:
            mask = mask[..., :1, :]
        query = torch.unflatten(query, -1, (self.heads, -1)).transpose(1, 2)
        key, value = torch.unflatten(key_value, -1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return attend(query, key, value, mask, rate).transpose(1, 2).flatten(2)


def first_tokens(x: Tensor, mask: Tensor | Packing | None) -> Tensor:
    """The rows' first tokens: [B, 1, width] of [B, L, width], or [B, width] of packed [T, width]."""
    return collect(x, mask.firsts) if isinstance(mask, Packing) else x[:, :1]


class _Intermediate(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)


class _Layer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        if config.pre_layer_norm:
            self.ln = _norm(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config, config.intermediate_size)
        self.pre_layer_norm = config.pre_layer_norm
        self.dropout = config.hidden_dropout_prob
        self.activation = config.hidden_act

    def forward(self, x: Tensor, mask: Tensor | Packing | None, angles: Angles | None, first: bool) -> Tensor:
        attention = self.attention
        inner = attention.ln(x) if self.pre_layer_norm else x
        mixed = attention.output.dense(attention(inner, mask, angles, first))
        x = self._add(first_tokens(x, mask) if first else x, mixed)
        if self.pre_layer_norm:
            return self._add(x, self.output.dense(self._inner(self.ln(x))))
        x = attention.output.LayerNorm(x)
        normed: Tensor = self.output.LayerNorm(self._add(x, self.output.dense(self._inner(x))))
        return normed

    def _inner(self, x: Tensor) -> Tensor:
        return activate(self.intermediate.dense(x), self.activation)

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        return add_dropped(x, branch, self.dropout) if self.training else x + branch


class _Stack(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.stored_layers))
        if config.rotary:
            self.embed_positions = PositionTable(config)
        if config.pre_layer_norm:
            self.ln = _norm(config)


class TorchEncoder(nn.Module):
    """Encoder of any architecture of `EncoderConfig`.

    Args:
        config: shape and architecture.

    Weights start as in BERT: normal with standard deviation 0.02, biases 0, layer norms 1.

    Attributes:
        checkpointing: while training, keep each layer's input only and compute the layer again backwards: less memory,
            a third more work (Chen et al. 2016).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.embeddings = _Embeddings(config)
        if config.projects_embeddings:
            self.embeddings_project = nn.Linear(config.embedding_width, config.hidden_size)
        self.encoder = _Stack(config)
        self.apply(initialize)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        places: Tensor | None = None,
        first: bool = False,
    ) -> list[Tensor]:
        """Run the encoder.

        On a processor, a batch of which a tenth or more would be padding is computed without it, and its states are 0
        at the padded places; elsewhere states of padding mean nothing.

        Args:
            ids: token ids [B, L].
            lengths: real tokens of each row [B], at least 1; None when no row is padded.
            segments: segment ids [B, L]; None for all 0.
            mask: attention mask that broadcasts to [B, heads, L, L] (True = may look), instead of `lengths`;
                block-diagonal masks let several short texts share a row.
            places: position ids [B, L]; None for 0..L-1.
            first: compute the last layer for the rows' first tokens only, where nothing else of it is read ([CLS]):
                most of a layer saved.

        Returns:
            Hidden states [B, L, hidden]: the embeddings, then the output of each layer; the last one [B, 1, hidden]
            with `first`.
        """
        if mask is None and lengths is not None:
            if places is None and pays(lengths, ids.shape[1]):
                return self._packed(ids, lengths, segments, first)
            mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[:, None, None, :]
        return self._layers(self._embed(ids, segments, places), mask, self._angles(ids, places), first)

    def _packed(self, ids: Tensor, lengths: Tensor, segments: Tensor | None, first: bool) -> list[Tensor]:
        packing = Packing(lengths, ids.shape[1])
        kinds = None if segments is None else segments.flatten()[packing.places]
        x = self._embed(ids.flatten()[packing.places], kinds, packing.columns)
        states = self._layers(x, packing, self._angles(ids, packing.columns), first)
        last = [states.pop()[packing.order, None]] if first else []
        return [spread(x, packing.places, ids.numel()).view(*ids.shape, -1) for x in states] + last

    def _embed(self, ids: Tensor, segments: Tensor | None, places: Tensor | None) -> Tensor:
        x: Tensor = self.embeddings(ids, segments, places)
        if self.config.projects_embeddings:
            # Under autocast the sum over the layers stays in float32, as it does without a projection.
            x = self.embeddings_project(x).to(x.dtype)
        return x

    def _angles(self, ids: Tensor, places: Tensor | None) -> Angles | None:
        if not self.config.rotary:
            return None
        if places is None:
            places = torch.arange(ids.shape[1], device=ids.device)[None]
        angles: Angles = self.encoder.embed_positions(places)
        return angles

    def _layers(
        self, x: Tensor, mask: Tensor | Packing | None, angles: Angles | None, first: bool
    ) -> list[Tensor]:
        states, count = [x], self.config.num_hidden_layers
        for number in range(count):
            layer = self.encoder.layer[self.config.weights_of(number)]
            arguments = (states[-1], mask, angles, first and number == count - 1)
            if self.checkpointing and self.training:
                states.append(checkpoint(layer, *arguments, use_reentrant=False))
            else:
                states.append(layer(*arguments))
        if self.config.pre_layer_norm:
            states[-1] = self.encoder.ln(states[-1])
        return states


class _Transform(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_width)
        self.LayerNorm = _norm(config, config.embedding_width)
        self.activation = config.hidden_act

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(activate(self.dense(x), self.activation))
        return normed


class MlmHead(nn.Module):
    """BERT's masked-language-model head; the decoder is the word-embedding matrix.

    Parameter names are those under `cls.predictions.` in Hugging Face's classes.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.apply(initialize)

    def forward(self, states: Tensor, word_embeddings: Tensor, rows: Tensor | None = None) -> Tensor:
        """Score vocabulary entries.

        Args:
            states: hidden states of masked positions [n, hidden].
            word_embeddings: the embedding matrix [V, embedding width].
            rows: vocabulary ids to score [k]; None for all.

        Returns:
            Logits [n, V] or [n, k].
        """
        x = self.transform(states)
        if rows is None:
            return F.linear(x, word_embeddings, self.bias)
        return F.linear(x, word_embeddings[rows], self.bias[rows])


def initialize(module: nn.Module) -> None:
    """Initialise one module as BERT does (normal 0.02; biases 0; layer norms 1)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
