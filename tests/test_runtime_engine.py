"""The runtime against itself, whatever the batch, order and threads; what it refuses; 8 bits."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jinyi.batches import make_batches
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError
from jinyi.runtime import Head, open_engine
from jinyi.runtime.graph_pieces import with_zero
from jinyi.runtime.int8 import measure_ranges
from jinyi.runtime.openvino_api import load_openvino
from runtime_oracle import (
    CHARACTERS,
    CLS,
    SEP,
    Opens,
    Oracle,
    both_engines,
    encode,
    oracle,
    results,
    texts,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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
        lambda self, *given: (made := inputs(self, *given), shapes.add(made[0].shape))[0],
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
    single = [1, 2] if kind == "classes" else [1]  # made ready beforehand: a pair has both orders
    assert sorted({rows for rows, _ in shapes}) == [*single, 10, 20, 40, 48]


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


@both_engines
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_unreal_numbers_are_an_error(poison: float, opened: Opens) -> None:
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


@both_engines
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ids": [[CLS, 304, SEP]]}, "token id: 304"),
        ({"ids": [[CLS] * 65]}, "tokens in a row: 65"),
        ({"masks": [[8]]}, "mask position: 8"),
        ({"masks": None}, "without mask positions"),
    ],
)
def test_rows_that_do_not_fit_the_model(change: dict[str, Any], named: str, opened: Opens) -> None:
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


@both_engines
@pytest.mark.parametrize("name", ["encoder.layer.2.output.dense.weight", "embeddings.LayerNorm.weight"])
def test_missing_and_misshapen_weights_are_named(name: str, opened: Opens) -> None:
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


def test_calls_beside_others_give_the_same_vectors() -> None:
    found = oracle("bert")
    engine = open_engine(found.config, found.weights, Head(pooling="mean"), threads=2)
    rows = encode(texts(40))
    plain = results(engine, rows)
    differences: list[float] = []

    def call(number: int) -> None:
        for _ in range(20):  # the first are computed while the graph for them is compiled
            part = slice(number, number + 5)
            few = SimpleNamespace(ids=rows.ids[part], splits=rows.splits[part], masks=None)
            for batch, output in engine.run(make_batches(few, pad_id=250, token_budget=100), shared=True):
                differences.append(float(np.abs(output - plain[part][batch.rows]).max()))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(differences) >= 80
    assert max(differences) < 2e-6
