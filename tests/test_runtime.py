"""The runtime against transformers in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jinyi.batches import make_batches
from jinyi.runtime import Head, open_engine
from jinyi.runtime.graph import build_graph
from jinyi.runtime.torch_encoder import attend
from runtime_oracle import (
    LABELS,
    MODELS,
    Opens,
    Oracle,
    both_engines,
    encode,
    oracle,
    results,
    softmax,
    texts,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(params=MODELS)
def found(request: pytest.FixtureRequest) -> Oracle:
    return oracle(request.param)


@both_engines
def test_hidden_states(found: Oracle, opened: Opens) -> None:
    engine = opened(found, Head(kind="tokens"))
    seen = 0
    for batch, output in engine.run(make_batches(encode(texts()), pad_id=0)):
        assert isinstance(output, np.ndarray) and output.shape[:2] == batch.ids.shape
        for row, length, states in zip(batch.rows, batch.lengths, output, strict=True):
            np.testing.assert_allclose(states[:length], found.hidden[row], rtol=0, atol=1e-5)
            seen += 1
    assert seen == 200


@both_engines
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "first_last"])
def test_pooling(found: Oracle, opened: Opens, pooling: str) -> None:
    pool = {
        "cls": lambda first, last: last[0],
        "mean": lambda first, last: last.mean(0),
        "max": lambda first, last: last.max(0),
        "first_last": lambda first, last: ((first + last) / 2).mean(0),
    }[pooling]
    wanted = np.stack([pool(first, last) for first, last in zip(found.first, found.hidden, strict=True)])
    np.testing.assert_allclose(
        results(opened(found, Head(pooling=pooling)), encode(texts())), wanted, rtol=0, atol=1e-5
    )


@both_engines
def test_dense_maps_and_normalisation(opened: Opens) -> None:
    found, rng = oracle("bert"), np.random.default_rng(0)
    maps = [
        (rng.normal(size=(20, 48)), rng.normal(size=20)),
        (rng.normal(size=(8, 20)).astype(np.float16), None),
    ]
    wanted = np.stack([last[0] for last in found.hidden])
    for weight, bias in maps:
        wanted = wanted @ weight.T.astype(np.float64) + (0 if bias is None else bias)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    head = Head(pooling="cls", dense=maps, normalize=True)
    np.testing.assert_allclose(results(opened(found, head), encode(texts())), wanted, rtol=0, atol=1e-5)


@both_engines
def test_class_probabilities(found: Oracle, opened: Opens) -> None:
    logits = results(opened(found, Head(kind="classes")), encode(texts()))
    np.testing.assert_allclose(softmax(logits), softmax(found.classes), rtol=0, atol=1e-6)


@both_engines
def test_word_scores_at_the_masks(found: Oracle, opened: Opens) -> None:
    rows = encode(texts())
    everything = results(opened(found, Head(kind="mlm")), rows)
    np.testing.assert_allclose(everything, found.words, rtol=0, atol=1e-5)
    np.testing.assert_allclose(softmax(everything), softmax(found.words), rtol=0, atol=1e-6)
    some = results(opened(found, Head(kind="mlm", label_ids=LABELS)), rows)
    np.testing.assert_allclose(some, found.words[..., LABELS], rtol=0, atol=1e-5)
    normaliser = np.log(np.exp(found.words).sum(-1))
    engine = opened(found, Head(kind="mlm", label_ids=LABELS, log_normalizer=True))
    for batch, (scores, total) in engine.run(make_batches(rows, pad_id=0)):
        np.testing.assert_allclose(scores, found.words[batch.rows][..., LABELS], rtol=0, atol=1e-5)
        np.testing.assert_allclose(total, normaliser[batch.rows], rtol=0, atol=1e-5)


def test_first_position_alone_equals_the_whole_computation(found: Oracle) -> None:
    rows = encode(texts())
    whole = np.empty((200, 48), np.float32)
    for batch, output in open_engine(found.config, found.weights, Head(kind="tokens")).run(
        make_batches(rows, pad_id=0)
    ):
        whole[batch.rows] = output[:, 0]
    shortcut = results(open_engine(found.config, found.weights, Head(pooling="cls")), rows)
    np.testing.assert_allclose(shortcut, whole, rtol=0, atol=2e-6)


def test_half_precision_weights_are_read() -> None:
    found = oracle("bert")
    halves = {name: array.astype(np.float16) for name, array in found.weights.items()}
    widened = {name: array.astype(np.float32) for name, array in halves.items()}
    for array in halves.values():
        array.flags.writeable = False  # as in a file mapped for reading
    rows = encode(texts(20))
    np.testing.assert_array_equal(
        results(open_engine(found.config, halves, Head()), rows),
        results(open_engine(found.config, widened, Head()), rows),
    )


def test_float32_weights_are_not_copied() -> None:
    found = oracle("bert")
    model = build_graph(found.config, found.weights, Head())
    constants = {node.data.ctypes.data for node in model.get_ops() if node.get_type_name() == "Constant"}
    word = found.weights["embeddings.word_embeddings.weight"]
    assert word.ctypes.data in constants


@pytest.mark.parametrize("length", [1, 7, 16, 17, 100])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_attention_in_training_is_the_fused_kernel(length: int, kind: torch.dtype) -> None:
    """Values and all three gradients, with padded keys."""
    generator = torch.Generator().manual_seed(length)
    base = [torch.randn(3, 2, length, 5, generator=generator).to(kind) for _ in range(4)]
    mask = (torch.arange(length) < torch.tensor([length, max(length - 3, 1), 1])[:, None])[:, None, None]

    def outcome(function: Any) -> list[torch.Tensor]:
        inputs = [tensor.clone().requires_grad_() for tensor in base[:3]]
        value = function(*inputs)
        value.backward(base[3])
        return [value.detach(), *(tensor.grad for tensor in inputs if tensor.grad is not None)]

    ours = outcome(lambda q, k, v: attend(q, k, v, mask, 0.0))
    fused = outcome(lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    tolerance = 2e-6 if kind == torch.float32 else 2e-2
    assert len(ours) == len(fused) == 4
    for one, other in zip(ours, fused, strict=True):
        assert (one - other).abs().max() <= tolerance * max(1.0, float(other.abs().max()))
