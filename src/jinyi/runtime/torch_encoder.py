"""The encoder in PyTorch: for training, and for prediction on CUDA.

One module for BERT (post-layer-norm, Devlin et al. 2018) and MegatronBERT (pre-layer-norm, Shoeybi et al. 2019) with
the parameter names of Hugging Face's classes, so that `state_dict()` goes to disk and back without renaming.
The MLM head sees masked positions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from jinyi.config import EncoderConfig

_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def _norm(config: EncoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention.

    Training short texts on a processor multiplies the matrices out instead of calling PyTorch's fused kernel, whose
    backward pass is many times slower there, in bfloat16 most of all (benchmarks/attention.py).

    Args:
        query, key, value: [B, heads, L, size].
        mask: broadcasts to [B, heads, L, L]; True = may look. None for no mask.
        dropout: share of the attention weights that is dropped.

    Returns:
        [B, heads, L, size].
    """
    short = 16 if query.dtype == torch.float32 else 128
    if query.device.type != "cpu" or not query.requires_grad or query.shape[-2] > short:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return F.dropout(scores.softmax(-1), dropout) @ value


def _activate(x: Tensor, name: str) -> Tensor:
    return F.relu(x) if name == "relu" else F.gelu(x, approximate=_ACTIVATIONS[name])


class _Embeddings(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.Identity() if config.pre_layer_norm else _norm(config)
        self.dropout = config.hidden_dropout_prob

    def forward(self, ids: Tensor, segments: Tensor | None, places: Tensor | None) -> Tensor:
        positions = (
            self.position_embeddings.weight[: ids.shape[1]]
            if places is None
            else self.position_embeddings(places)
        )
        types = (
            self.token_type_embeddings.weight[0] if segments is None else self.token_type_embeddings(segments)
        )
        x = self.LayerNorm(self.word_embeddings(ids) + positions + types)
        return F.dropout(x, self.dropout, self.training)


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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, width = x.shape
        own = self.self
        weight = torch.cat((own.query.weight, own.key.weight, own.value.weight))
        bias = torch.cat((own.query.bias, own.key.bias, own.value.bias))
        qkv = F.linear(x, weight, bias).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, mask, dropout)
        return mixed.transpose(1, 2).reshape(rows, length, width)


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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attention = self.attention
        if self.pre_layer_norm:
            x = x + self._drop(attention.output.dense(attention(attention.ln(x), mask)))
            return x + self._drop(self.output.dense(self._inner(self.ln(x))))
        x = attention.output.LayerNorm(x + self._drop(attention.output.dense(attention(x, mask))))
        normed: Tensor = self.output.LayerNorm(x + self._drop(self.output.dense(self._inner(x))))
        return normed

    def _inner(self, x: Tensor) -> Tensor:
        return _activate(self.intermediate.dense(x), self.activation)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class _Stack(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        if config.pre_layer_norm:
            self.ln = _norm(config)


class TorchEncoder(nn.Module):
    """BERT or MegatronBERT encoder.

    Args:
        config: shape; `config.pre_layer_norm` chooses MegatronBERT.

    Weights start as in BERT: normal with standard deviation 0.02, biases 0, layer norms 1.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
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
    ) -> list[Tensor]:
        """Run the encoder.

        Args:
            ids: token ids [B, L].
            lengths: real tokens of each row [B]; None when no row is padded.
            segments: segment ids [B, L]; None for all 0.
            mask: attention mask that broadcasts to [B, heads, L, L] (True = may look), instead of `lengths`;
                block-diagonal masks let several short texts share a row.
            places: position ids [B, L]; None for 0..L-1.

        Returns:
            Hidden states [B, L, hidden]: the embeddings, then the output of each layer.
        """
        if mask is None and lengths is not None:
            mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[:, None, None, :]
        states = [self.embeddings(ids, segments, places)]
        for layer in self.encoder.layer:
            states.append(layer(states[-1], mask))
        if self.config.pre_layer_norm:
            states[-1] = self.encoder.ln(states[-1])
        return states


class _Transform(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = _norm(config)
        self.activation = config.hidden_act

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(_activate(self.dense(x), self.activation))
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
            word_embeddings: the embedding matrix [V, hidden].
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
