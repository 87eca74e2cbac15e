"""The runtime against transformers in float64, and against itself: whatever the batch, order and threads."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    MegatronBertConfig,
    MegatronBertForMaskedLM,
    MegatronBertForSequenceClassification,
)

from jinyi.batches import make_batches
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError
from jinyi.runtime import Engine, Head, open_engine
from jinyi.runtime.graph import build_graph
from jinyi.runtime.graph_pieces import with_zero
from jinyi.runtime.int8 import measure_ranges
from jinyi.runtime.openvino_api import load_openvino
from jinyi.runtime.torch_encoder import attend
from jinyi.runtime.torch_engine import TorchEngine

MODELS = {
    "bert": (BertConfig, BertForMaskedLM, BertForSequenceClassification, {}),
    "bert, 1 layer, relu": (
        BertConfig,
        BertForMaskedLM,
        BertForSequenceClassification,
        {"num_hidden_layers": 1, "hidden_act": "relu"},
    ),
    "megatron": (MegatronBertConfig, MegatronBertForMaskedLM, MegatronBertForSequenceClassification, {}),
    "megatron, gelu_new": (
        MegatronBertConfig,
        MegatronBertForMaskedLM,
        MegatronBertForSequenceClassification,
        {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    ),
}
CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
CLS, SEP, MASK, FIRST = 1, 2, 3, 4
MASKS = (2, 3)
LABELS = np.array([40, 7, 291])


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Idle PyTorch threads spin and would slow OpenVINO's down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texts(count: int = 200) -> list[str]:
    """Sentences of 2 to 40 characters."""
    rng = np.random.default_rng(5)
    return ["".join(rng.choice(CHARACTERS, rng.integers(2, 41))) for _ in range(count)]


def encode(rows: list[str]) -> SimpleNamespace:
    """[CLS] first two characters [MASK] [MASK] rest [SEP]; the second half is segment 1."""
    place = {character: FIRST + number for number, character in enumerate(CHARACTERS)}
    ids = [
        [CLS, place[row[0]], MASK, MASK, *(place[character] for character in row[1:]), SEP] for row in rows
    ]
    return SimpleNamespace(ids=ids, splits=[len(row) // 2 for row in ids], masks=[MASKS] * len(ids))


@dataclass
class Oracle:
    """What transformers computes in float64."""

    config: EncoderConfig
    weights: dict[str, Any]
    hidden: list[np.ndarray]
    first: list[np.ndarray]
    words: np.ndarray
    classes: np.ndarray


@lru_cache
def oracle(name: str) -> Oracle:
    """Save a small random model with transformers, read its weights, run it in float64."""
    make_config, masked, classifier, options = MODELS[name]
    torch.manual_seed(3)
    config = make_config(
        **{
            "vocab_size": FIRST + len(CHARACTERS),
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 96,
            "max_position_embeddings": 64,
            "initializer_range": 0.1,
            "num_labels": 3,
            **options,
        }
    )
    weights: dict[str, Any] = {}
    models = [masked(config), classifier(config)]
    models[0].get_submodule("bert").load_state_dict(
        models[1].get_submodule("bert").state_dict(), strict=False
    )
    for model in models:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    shared = models[1].get_submodule("bert").state_dict()
    models[0].get_submodule("bert").load_state_dict(shared, strict=False)
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            arrays = load_file(Path(folder) / "model.safetensors")
        weights |= {key.removeprefix("bert."): value for key, value in arrays.items()}
    rows = encode(texts())
    lengths = torch.tensor([len(ids) for ids in rows.ids])
    columns = torch.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    batch = {
        "input_ids": torch.tensor([ids + [0] * (len(columns) - len(ids)) for ids in rows.ids]),
        "token_type_ids": ((columns >= torch.tensor(rows.splits)[:, None]) & real).long(),
        "attention_mask": real.long(),
    }
    with torch.no_grad():
        out = models[0].double().eval()(**batch, output_hidden_states=True)
        classes = models[1].double().eval()(**batch).logits.numpy()
    hidden, first = (
        [states[:length].numpy() for states, length in zip(layer, lengths, strict=True)]
        for layer in (out.hidden_states[-1], out.hidden_states[1])
    )
    ours = EncoderConfig.from_dict(config.to_dict())
    return Oracle(ours, weights, hidden, first, out.logits[:, list(MASKS)].numpy(), classes)


def results(engine: Engine, rows: Any, **options: Any) -> np.ndarray:
    """Run rows and put the outputs back in their order."""
    output: np.ndarray | None = None
    for batch, part in engine.run(make_batches(rows, pad_id=0, **options)):
        assert isinstance(part, np.ndarray) and part.dtype == np.float32
        if output is None:
            output = np.empty((len(rows.ids), *part.shape[1:]), np.float32)
        output[batch.rows] = part
    assert output is not None
    return output


def softmax(scores: np.ndarray) -> np.ndarray:
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    return mass / mass.sum(-1, keepdims=True)


def openvino_engine(found: Oracle, head: Head) -> Engine:
    return open_engine(found.config, found.weights, head)


def torch_engine(found: Oracle, head: Head) -> Engine:
    return TorchEngine(found.config, found.weights, head, device="cpu")


@pytest.fixture(params=MODELS)
def found(request: pytest.FixtureRequest) -> Oracle:
    return oracle(request.param)


@pytest.fixture(params=[openvino_engine, torch_engine], ids=["openvino", "torch"])
def opened(request: pytest.FixtureRequest) -> Callable[[Oracle, Head], Engine]:
    return request.param  # type: ignore[no-any-return]


def test_hidden_states(found: Oracle, opened: Callable[[Oracle, Head], Engine]) -> None:
    engine = opened(found, Head(kind="tokens"))
    seen = 0
    for batch, output in engine.run(make_batches(encode(texts()), pad_id=0)):
        assert isinstance(output, np.ndarray) and output.shape[:2] == batch.ids.shape
        for row, length, states in zip(batch.rows, batch.lengths, output, strict=True):
            np.testing.assert_allclose(states[:length], found.hidden[row], rtol=0, atol=1e-5)
            seen += 1
    assert seen == 200


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "first_last"])
def test_pooling(found: Oracle, opened: Callable[[Oracle, Head], Engine], pooling: str) -> None:
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


def test_dense_maps_and_normalisation(opened: Callable[[Oracle, Head], Engine]) -> None:
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


def test_class_probabilities(found: Oracle, opened: Callable[[Oracle, Head], Engine]) -> None:
    logits = results(opened(found, Head(kind="classes")), encode(texts()))
    np.testing.assert_allclose(softmax(logits), softmax(found.classes), rtol=0, atol=1e-6)


def test_word_scores_at_the_masks(found: Oracle, opened: Callable[[Oracle, Head], Engine]) -> None:
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


@pytest.mark.parametrize("name", ["bert", "megatron"])
def test_same_vector_whatever_the_batch_order_and_threads(name: str) -> None:
    found, sentences = oracle(name), texts()
    shuffled = np.random.default_rng(1).permutation(200)
    head = Head(pooling="mean", normalize=True)
    vectors = []
    for threads in (1, 2):
        engine = open_engine(found.config, found.weights, head, threads=threads)
        for size in (1, 7, 32, 200):
            for order in (np.arange(200), shuffled):
                vectors.append(np.empty((200, 48), np.float32))
                for start in range(0, 200, size):
                    part = order[start : start + size]
                    vectors[-1][part] = results(engine, encode([sentences[row] for row in part]))
        vectors.append(results(engine, encode(sentences), token_budget=300))
    for other in vectors[1:]:
        np.testing.assert_allclose(other, vectors[0], rtol=0, atol=2e-6)


def test_padding_never_changes_a_result() -> None:
    found = oracle("bert")
    engine = open_engine(found.config, found.weights, Head(pooling="max"))
    rows = encode(texts(30))
    plain = results(engine, rows)
    for batch, output in engine.run(make_batches(rows, pad_id=250, token_budget=10**6)):
        np.testing.assert_allclose(output, plain[batch.rows], rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["vector", "tokens", "classes", "mlm"])
def test_batches_are_filled_up_to_few_shapes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = oracle("bert")
    engine = open_engine(found.config, found.weights, Head(kind, log_normalizer=kind == "mlm"))
    shapes: set[tuple[int, ...]] = set()
    inputs = type(engine)._inputs
    monkeypatch.setattr(
        type(engine),
        "_inputs",
        lambda self, batch: (made := inputs(self, batch), shapes.add(made[0].shape))[0],
    )
    rows = encode(["".join(CHARACTERS[place : place + 8]) for place in range(41)])
    alone = [values for _, values in engine.run(make_batches(rows, pad_id=0, most_rows=1))]
    for size in (9, 17, 33, 41):
        part = SimpleNamespace(ids=rows.ids[:size], splits=rows.splits[:size], masks=rows.masks[:size])
        ((batch, values),) = engine.run(make_batches(part, pad_id=0))
        pairs = zip(values, zip(*alone, strict=True), strict=True) if kind == "mlm" else [(values, alone)]
        for whole, single in pairs:
            assert len(whole) == len(batch.rows) == size
            np.testing.assert_allclose(whole, np.concatenate(single)[batch.rows], rtol=0, atol=5e-6)
    assert sorted({rows for rows, _ in shapes}) == [1, 10, 20, 40, 48]


def test_rows_may_fill_all_positions() -> None:
    found = oracle("bert")
    engine = open_engine(found.config, found.weights, Head())
    row = encode(["".join(CHARACTERS[:60])])
    assert len(row.ids[0]) == 64
    assert results(engine, row).shape == (1, 48)
    odd = EncoderConfig.from_dict({**found.config.to_dict(), "max_position_embeddings": 37})
    name = "embeddings.position_embeddings.weight"
    weights = {**found.weights, name: found.weights[name][:37]}
    row = encode(["".join(CHARACTERS[:33])])
    assert len(row.ids[0]) == 37
    np.testing.assert_allclose(
        results(open_engine(odd, weights, Head()), row), results(engine, row), rtol=0, atol=2e-6
    )


def test_threads_share_an_engine() -> None:
    found, rows = oracle("bert"), encode(texts())
    engine = open_engine(found.config, found.weights, Head())
    alone = results(engine, rows)
    others: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: others.append(results(engine, rows))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(others) == 4
    for other in others:
        np.testing.assert_array_equal(other, alone)


def test_a_run_may_be_left_early() -> None:
    found, rows = oracle("bert"), encode(texts())
    engine = open_engine(found.config, found.weights, Head())
    drawn = []

    def source() -> Any:
        for batch in make_batches(rows, pad_id=0, token_budget=300):
            drawn.append(batch)
            yield batch

    run = engine.run(source())
    next(run)
    run.close()
    ahead = 2048 // 250 + 2 * engine.info()["streams"] + 2
    assert 0 < len(drawn) <= ahead < sum(1 for _ in make_batches(rows, pad_id=0, token_budget=300))
    assert len(results(engine, rows)) == 200


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


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_unreal_numbers_are_an_error(poison: float, opened: Callable[[Oracle, Head], Engine]) -> None:
    found = oracle("bert")
    name = "embeddings.word_embeddings.weight"
    words = found.weights[name].copy()
    words[encode(["乀"]).ids[0][1]] = poison
    broken = Oracle(found.config, {**found.weights, name: words}, [], [], found.words, found.classes)
    engine = opened(broken, Head())
    rows = encode(["一丁", "乀丁", "丁一"])
    with pytest.raises(FolderError, match="row 1") as caught:
        results(engine, rows)
    assert "1 rows" in caught.value.found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ids": [[CLS, 304, SEP]]}, "token id: 304"),
        ({"ids": [[CLS] * 65]}, "tokens in a row: 65"),
        ({"masks": [[8]]}, "mask position: 8"),
        ({"masks": None}, "without mask positions"),
    ],
)
def test_rows_that_do_not_fit_the_model(
    change: dict[str, Any], named: str, opened: Callable[[Oracle, Head], Engine]
) -> None:
    rows = SimpleNamespace(**{"ids": [[CLS, 5, SEP]], "splits": [100], "masks": [[1]], **change})
    with pytest.raises(InputError, match=named):
        list(opened(oracle("bert"), Head(kind="mlm")).run(make_batches(rows, pad_id=0)))


def test_segments_that_the_model_lacks() -> None:
    found = oracle("bert")
    config = EncoderConfig.from_dict({**found.config.to_dict(), "type_vocab_size": 1})
    name = "embeddings.token_type_embeddings.weight"
    engine = open_engine(config, {**found.weights, name: found.weights[name][:1]}, Head())
    with pytest.raises(InputError, match="segment: 1"):
        results(engine, encode(["一丁"]))


@pytest.mark.parametrize("name", ["encoder.layer.2.output.dense.weight", "embeddings.LayerNorm.weight"])
def test_missing_and_misshapen_weights_are_named(name: str, opened: Callable[[Oracle, Head], Engine]) -> None:
    found = oracle("bert")
    weights = dict(found.weights)
    weights[name] = weights[name][1:]
    for broken in (weights, {key: value for key, value in weights.items() if key != name}):
        with pytest.raises(FolderError, match=name):
            opened(Oracle(found.config, broken, [], [], found.words, found.classes), Head())


@pytest.mark.parametrize(
    "options",
    [{"precision": "fp8"}, {"device": "tpu"}, {"threads": 0}, {"threads": True}, {"precision": "int8"}],
)
def test_unknown_options(options: dict[str, Any]) -> None:
    found = oracle("bert")
    with pytest.raises(InputError, match=next(iter(options))):
        open_engine(found.config, found.weights, Head(), **options)
    with pytest.raises(InputError, match="kind"):
        Head(kind="sentence")
    with pytest.raises(InputError, match="pooling"):
        Head(pooling="average")


def test_bfloat16_runs_or_says_what_is_missing() -> None:
    found = oracle("bert")
    if "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        head, rows = Head(normalize=True), encode(texts(20))
        exact = results(open_engine(found.config, found.weights, head), rows)
        rough = results(open_engine(found.config, found.weights, head, precision="bfloat16"), rows)
        assert (exact * rough).sum(1).min() > 0.999
    else:
        with pytest.raises(InputError, match="bfloat16"):
            open_engine(found.config, found.weights, Head(), precision="bfloat16")


@pytest.mark.parametrize("name", ["bert", "megatron"])
def test_int8_is_close(name: str) -> None:
    found, rows = oracle(name), encode(texts())
    head = Head(pooling="mean", normalize=True)
    ranges = measure_ranges(found.config, found.weights, make_batches(encode(texts(50)), pad_id=0))
    assert len(ranges) == 4 * found.config.num_hidden_layers
    exact = results(open_engine(found.config, found.weights, head), rows)
    engine = open_engine(found.config, found.weights, head, precision="int8", ranges=ranges)
    rough = results(engine, rows)
    assert engine.info()["precision"] == "int8"
    cosines = (exact * rough).sum(1)
    assert cosines.min() > 0.99 and cosines.mean() < 1 - 1e-6
    with pytest.raises(InputError, match="no rows"):
        measure_ranges(found.config, found.weights, [])


@pytest.mark.parametrize("span", [(-0.17, 25.0), (-3.0, 3.0), (0.4, 2.0), (-5.0, -1.0), (-1e-6, 1e-5)])
def test_zero_is_one_of_the_8_bit_values(span: tuple[float, float]) -> None:
    least, greatest = with_zero(np.array(span, np.float32))
    step = (greatest - least) / 255
    assert -least / step == pytest.approx(round(-least / step), abs=1e-6)
    reach = max(span[1], 0.0) - min(span[0], 0.0)
    assert step == pytest.approx(reach / 255)
    assert least - step <= min(span[0], 0.0) <= least + step


def test_info_says_what_runs_and_why() -> None:
    found = oracle("bert")
    info = open_engine(found.config, found.weights, Head(), threads=1).info()
    assert (info["device"], info["precision"], info["threads"], info["streams"]) == ("cpu", "float32", 1, 1)
    assert info["why_threads"] == "as asked"
    assert "affinity" in open_engine(found.config, found.weights, Head()).info()["why_threads"]


def test_no_socket_and_no_converter() -> None:
    """OpenVINO's converter reports each import to a server, in a process of its own; it must not be loaded."""
    program = """
import sys
blocked = []
def hook(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        blocked.append(event)
        raise OSError("blocked: " + event)
sys.addaudithook(hook)
sys.path.insert(0, "tests")
from jinyi.runtime import Head, open_engine
from jinyi.runtime.openvino_api import load_openvino
from small_models import CONFIG, random_weights
from jinyi.batches import Batch
import numpy as np
engine = open_engine(CONFIG, random_weights(), Head())
batch = Batch(np.arange(1), np.ones((1, 4), np.int32), np.full(1, 4, np.int32))
assert [output.shape for _, output in engine.run([batch])] == [(1, 32)]
loaded = [name for name in sys.modules if "telemetry" in name or "openvino.tools" in name or name == "torch"]
assert not loaded and not blocked, (loaded, blocked)
assert callable(load_openvino().convert_model)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
