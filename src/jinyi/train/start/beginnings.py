"""Better beginnings than random numbers, for parts of an encoder.

A small encoder on a small budget spends much of it on finding out that neighbouring tokens matter, that equal words in
two texts match, that a sentence is about all of its words. Each function here puts one such fact into the weights;
all of them stay trainable. Cf. mimetic initialisation (Trockman & Kolter 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jinyi.config import EncoderConfig
from jinyi.errors import InputError
from jinyi.runtime.torch_encoder import MlmHead, TorchEncoder

OFFSETS = (-1, 1, -2, 2, -3, 3)  # the places that the first heads of the first two layers look at
WINDOW = 4  # tokens on either side that count as neighbours
_PEAK = 4.8  # attention logit at the place looked at
_MATCH = 7.1  # attention logit of equal tokens
_SIDE = 4.0  # and of tokens of different texts; its negative for tokens of one text
_CHUNK = 1_000_000
Corpus = Sequence[tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]


def word_width(config: EncoderConfig, *, neighbours: bool) -> int:
    """Return in how many directions word embeddings begin; positions have the rest where heads find neighbours."""
    return config.hidden_size - (_position_width(config) if neighbours else 0)


def word_vectors(
    corpus: Corpus, size: int, width: int, *, seed: int = 0, most: int = 20_000_000
) -> npt.NDArray[np.float32]:
    """Count word vectors: leading directions of the positive pointwise mutual information of neighbouring tokens.

    Levy & Goldberg 2014 ("Neural Word Embedding as Implicit Matrix Factorization") and, for the details (weight 1 / k
    at distance k, context counts to the power 0.75), Levy, Goldberg & Dagan 2015.

    Args:
        corpus: (ids [T], bounds of the sentences in them [S+1]) of each shard; no pair reaches over a bound.
        size: number of ids.
        width: length of the vectors.
        seed: of the random subspace and of the rotation at the end, which spreads the directions over all columns.
        most: count about so many tokens, evenly spread over the corpus.

    Returns:
        float32 [size, width]: eigenvectors times the roots of their eigenvalues, rotated.

    Cost, on one core with 8,000 ids: two seconds for each million tokens counted and ten for the directions; memory
    some 100 bytes for each different pair of neighbours (a few million pairs).
    """
    joint = _sparse(torch.zeros((2, 0), dtype=torch.long), torch.zeros(0, dtype=torch.float64), size)
    for ids, lines in _chunks(corpus, most):
        pairs, weights = [], []
        for step in range(1, WINDOW + 1):
            together = lines[step:] == lines[:-step]
            pairs.append(np.stack((ids[:-step][together], ids[step:][together])))
            weights.append(np.full(pairs[-1].shape[1], 1 / step))
        indices, values = (torch.from_numpy(np.concatenate(part, -1)) for part in (pairs, weights))
        joint = (joint + _sparse(indices, values, size).coalesce()).coalesce()
    joint = (joint + joint.t()).coalesce()
    row, column = joint.indices()
    total = torch.zeros(size, dtype=torch.float64).index_add_(0, row, joint.values())
    context = total**0.75
    information = torch.log(joint.values() / (total[row] * (context / context.sum())[column])).clamp(min=0)
    ppmi = _sparse(torch.stack((row, column)), information.float() / 2, size)
    return _leading((ppmi + ppmi.t()).coalesce(), width, seed)


def begin_words(encoder: TorchEncoder, vectors: Tensor | None, *, neighbours: bool) -> None:
    """Set the word embeddings to vectors.

    Args:
        encoder: its word embeddings are overwritten.
        vectors: [vocab_size, `word_width`]; None keeps random ones.
        neighbours: put them into the directions that `begin_neighbours` leaves to words.
    """
    weight = encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        if vectors is None:
            vectors = weight[:, : word_width(encoder.config, neighbours=neighbours)]
        vectors = vectors / vectors.std() * 0.04
        weight.copy_(vectors @ _axes(encoder.config)[0] if neighbours else vectors)


def begin_bias(head: MlmHead, corpus: Corpus) -> None:
    """Set the bias of the vocabulary logits to the logarithm of the tokens' shares of the corpus, plus log V."""
    size = len(head.bias)
    counts = np.ones(size)
    for ids, _ in corpus:
        for start in range(0, len(ids), _CHUNK):
            counts += np.bincount(ids[start : start + _CHUNK], minlength=size)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(np.log(counts / counts.sum()) + math.log(size)))


def begin_neighbours(encoder: TorchEncoder) -> None:
    """Let up to six heads of each of the first two layers look at the places -1, 1, -2, 2, -3, 3; half of the heads.

    Positions begin as sinusoids in directions of their own, half of them with frequencies spread evenly over (0, pi):
    the query "position i, turned by an offset" then matches the key "position j" at j = i + offset alone, and the slow
    other half, in heads that have room for it, keeps places far away from looking the same. Words have to keep out of
    these directions: `begin_words(..., neighbours=True)`.
    """
    config = encoder.config
    place_axes = _axes(config)[1]
    even = len(place_axes) // 4
    size, used = config.head_size, torch.arange(min(config.head_size // 2, 2 * even))
    spread = math.pi * (torch.arange(even) + 0.5) / even
    frequency = torch.cat((spread, 0.5 * 0.001 ** (torch.arange(even) / even)))
    angle = torch.arange(config.max_position_embeddings)[:, None] * frequency
    places = torch.stack((angle.sin(), angle.cos()), 2).flatten(1)  # (sin, cos) of each frequency
    # After the layer norm a (sin, cos) of amplitude 0.04 has a squared norm of about hidden / (hidden - places / 2).
    norm = config.hidden_size / (config.hidden_size - len(place_axes) / 2)
    gain = math.sqrt(_PEAK * math.sqrt(size) / (min(len(used), even) * norm))
    sin, cos = place_axes[2 * used], place_axes[2 * used + 1]
    keys = torch.stack((sin, cos), 1).flatten(0, 1)
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.copy_(places * 0.04 @ place_axes)
        for layer in _layers(encoder)[:2]:
            own = layer.attention.self
            for head, offset in enumerate(OFFSETS[: max(1, config.num_attention_heads // 2)]):
                turn = (frequency[used] * offset)[:, None]
                # sin(x + t) and cos(x + t) from sin x and cos x.
                turned = torch.stack(
                    (turn.cos() * sin + turn.sin() * cos, turn.cos() * cos - turn.sin() * sin), 1
                )
                rows = slice(head * size, head * size + len(keys))
                own.query.weight[rows] = gain * turned.flatten(0, 1)
                own.key.weight[rows] = gain * keys


def begin_matching(encoder: TorchEncoder, *, seed: int = 0) -> None:
    """Let a few heads of the first two layers look for the same token in the other text of a pair.

    Alignment of the two texts is what a cross-encoder has to discover first, and random heads need long for it. Queries
    and keys of these heads are one random projection of the word vectors (equal tokens match) and one channel that
    tells the segments apart, with opposite signs (the other text is preferred). A third of the heads of the first
    layer and a sixth of the second have it, but for the first half of the heads, which `begin_neighbours` uses.

    Raises:
        InputError: the encoder has one segment embedding only.
    """
    config = encoder.config
    if config.type_vocab_size < 2:
        raise InputError(
            where="start.heads",
            found="'matching' with an encoder that has one segment embedding",
            expected="two: one for each text of a pair",
            fix="Leave out start.heads.",
        )
    size, count = config.head_size, config.num_attention_heads
    generator = torch.Generator().manual_seed(seed + 3)
    embeddings = encoder.embeddings
    words = embeddings.word_embeddings.weight
    with torch.no_grad():
        axes = _principal(words, word_width(config, neighbours=True))
        axes, side = axes[:-1], axes[-1]
        types = embeddings.token_type_embeddings.weight
        types[1] = types[0] + 8 * words.std() * side
        # What the encoder's layers then see of words and segments is measured, not derived.
        first, second = (_seen(encoder, segment, generator) for segment in (0, 1))
        low, high = (first @ side).mean(), (second @ side).mean()
        middle, half = (low + high) / 2, (high - low) / 2
        spread = ((first - first.mean(0)) @ axes.T).square().mean()
        rank = min(size - 1, len(axes))
        mix_gain = torch.sqrt(_MATCH * math.sqrt(size) / (rank * spread))
        side_gain = math.sqrt(_SIDE * math.sqrt(size)) / half
        halfway, third, sixth = count // 2, max(1, count // 3), max(1, count // 6)
        chosen = (range(halfway, halfway + third), range(count - sixth, count))
        for layer, heads in zip(_layers(encoder)[:2], chosen, strict=False):
            own = layer.attention.self
            for head in heads:
                random = torch.randn(len(axes), rank, generator=generator)
                mix = mix_gain * torch.linalg.qr(random)[0].T @ axes
                first_row, last_row = head * size, head * size + rank
                for linear, sign in ((own.query, -1.0), (own.key, 1.0)):
                    linear.weight[first_row:last_row] = mix
                    linear.weight[last_row] = sign * side_gain * side
                    linear.bias[first_row:last_row] = 0.0
                    linear.bias[last_row] = -sign * side_gain * middle


def begin_pooling(encoder: TorchEncoder) -> None:
    """Let the last layer begin as mean pooling: [CLS] looks at all tokens alike and takes over their states.

    A mean of token states is a good sentence vector from the first step, [CLS] of a masked language model is not. The
    last layer of such a model serves the prediction of tokens, so little is lost; training then decides where [CLS]
    looks. At prediction time only the first position of the last layer is computed, which a mean would not allow.
    """
    last = _layers(encoder)[-1]
    attention, identity = last.attention, torch.eye(encoder.config.hidden_size)
    norm = attention.ln if encoder.config.pre_layer_norm else attention.output.LayerNorm
    with torch.no_grad():
        for tensor in (attention.self.query.weight, attention.self.query.bias, attention.self.value.bias):
            tensor.zero_()
        attention.self.value.weight.copy_(identity)
        # The mean of many states is shorter than one of them, and [CLS]'s own state should hardly count.
        attention.output.dense.weight.copy_(8 * identity)
        attention.output.dense.bias.zero_()
        norm.weight.fill_(1.0)
        norm.bias.zero_()
        last.output.dense.weight.mul_(0.1)
        last.output.dense.bias.zero_()


def _position_width(config: EncoderConfig) -> int:
    """Directions that only positions use at the start: 64, in narrow encoders a quarter; a multiple of four."""
    return max(4, min(64, config.hidden_size // 16 * 4))


def _axes(config: EncoderConfig) -> tuple[Tensor, Tensor]:
    """Orthonormal directions of words and of positions, rows; the same for every encoder of a width."""
    width = config.hidden_size
    random = torch.randn(width, width, generator=torch.Generator().manual_seed(2))
    words, places = torch.linalg.qr(random)[0].split(
        (width - _position_width(config), _position_width(config))
    )
    return words, places


def _layers(encoder: TorchEncoder) -> Any:
    return encoder.encoder.layer


def _principal(words: Tensor, count: int) -> Tensor:
    """The `count` leading principal directions of word vectors, rows, the leading one first."""
    centred = words - words.mean(0)
    leading: Tensor = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, :count].T
    return leading


def _seen(encoder: TorchEncoder, segment: int, generator: torch.Generator) -> Tensor:
    """What attention of the first layer gets of 1,024 random tokens in a segment: [1024, hidden]."""
    config = encoder.config
    length = min(16, config.max_position_embeddings)
    ids = torch.randint(min(5, config.vocab_size - 1), config.vocab_size, (64, length), generator=generator)
    training = encoder.training
    encoder.eval()
    states = encoder(ids, None, torch.full_like(ids, segment))[0]
    encoder.train(training)
    if config.pre_layer_norm:
        states = _layers(encoder)[0].attention.ln(states)
    seen: Tensor = states.flatten(0, 1)
    return seen


def _chunks(corpus: Corpus, most: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Ids of whole sentences, about a million at a time, with the number of the sentence of each."""
    total = sum(int(bounds[-1]) for _, bounds in corpus)
    every = -(-total // most)
    number = 0
    for ids, bounds in corpus:
        cuts = np.unique(np.searchsorted(bounds, np.arange(0, int(bounds[-1]) + _CHUNK, _CHUNK)))
        for first, last in zip(cuts[:-1], np.minimum(cuts[1:], len(bounds) - 1), strict=True):
            number += 1
            if (number - 1) % every == 0:
                own = np.asarray(bounds[first : last + 1])
                lines = np.repeat(np.arange(last - first), np.diff(own))
                yield np.asarray(ids[own[0] : own[-1]], np.int64), lines


def _sparse(indices: Tensor, values: Tensor, size: int) -> Tensor:
    # Without a word on the checks PyTorch warns; the indices are token ids that were checked before.
    return torch.sparse_coo_tensor(indices, values, (size, size), check_invariants=False)


def _leading(matrix: Tensor, width: int, seed: int) -> npt.NDArray[np.float32]:
    """Leading eigenvectors of a sparse symmetric matrix times the roots of their eigenvalues, rotated at random.

    Randomised subspace iteration (Halko et al. 2011): enough for start vectors.
    """
    size = matrix.shape[0]
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(size, min(width + 48, size), generator=generator)
    for _ in range(4):
        basis = torch.linalg.qr(torch.sparse.mm(matrix, basis))[0]
    values, rotation = torch.linalg.eigh(basis.T @ torch.sparse.mm(matrix, basis))
    values, rotation = values.flip(0)[:width], rotation.flip(1)[:, :width]
    vectors = torch.zeros(size, width)
    vectors[:, : len(values)] = (basis @ rotation) * values.clamp(min=1e-6).sqrt()
    spread = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    array: npt.NDArray[np.float32] = (vectors @ spread).numpy()
    return array
