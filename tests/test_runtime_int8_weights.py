"""Weight-only 8 bits: what is rounded, by how much, and that nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import jinyi
from jinyi.batches import make_batches
from jinyi.config import EncoderConfig
from jinyi.errors import FolderError
from jinyi.folder import Golden, read_folder
from jinyi.folder.tensors import TensorMap
from jinyi.folder.weights import encoder_shapes
from jinyi.runtime import Engine, Head, int8_weights, open_engine
from jinyi.runtime.cores import has_int8_dot, processor_flags
from jinyi.runtime.graph import build_graph
from jinyi.runtime.int8_weights import round_rows
from jinyi.runtime.openvino_api import load_openvino
from small_models import CONFIG, MEGATRON, random_weights, write_small

CONFIGS = {"bert": CONFIG, "megatron": MEGATRON}
HEADS = {
    "vector": Head(pooling="mean", normalize=True),
    "first position": Head(pooling="cls"),
    "classes": Head(kind="classes"),
    "mlm": Head(kind="mlm"),
}
MAPS = 6  # matrices of a layer
BOUND = 0.05  # of the spread of what is computed: the root mean square of the differences to float32
PAIRS = [("怎么改密码", "如何修改密码"), ("今天天气好", "今天天气不错"), ("心情不好", "怎么登录")]


def weights_for(config: EncoderConfig, head: Head) -> dict[str, Any]:
    kind = {"classes": "classifier", "mlm": "mlm"}.get(head.kind, "")
    return random_weights(config, head=kind, labels=2)


def in_layers(name: str) -> bool:
    return name.startswith("encoder.layer.") and name.endswith(("dense.weight", *_ATTENTION))


_ATTENTION = ("query.weight", "key.weight", "value.weight")


def rows(count: int = 20) -> SimpleNamespace:
    """Random rows of 4 to 30 tokens with two masks each; the second half is segment 1."""
    rng = np.random.default_rng(2)
    ids = [rng.integers(5, CONFIG.vocab_size, rng.integers(4, 31)).tolist() for _ in range(count)]
    return SimpleNamespace(ids=ids, splits=[len(row) // 2 for row in ids], masks=[(1, 2)] * count)


def results(engine: Engine, encoded: Any, **options: Any) -> np.ndarray:
    found: dict[int, np.ndarray] = {}
    for batch, output in engine.run(make_batches(encoded, pad_id=0, **options)):
        assert isinstance(output, np.ndarray)
        found.update(zip(batch.rows.tolist(), output, strict=True))
    return np.stack([found[row] for row in range(len(encoded.ids))])


@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32]),
        st.tuples(st.integers(1, 9), st.integers(1, 40)),
        elements=st.floats(-100, 100, width=16),
    )
)
def test_a_weight_moves_by_half_a_step(matrix: np.ndarray) -> None:
    steps, sizes, error = round_rows(matrix)
    assert steps.dtype == np.int8 and sizes.dtype == np.float32 and sizes.shape == (len(matrix), 1)
    exact = matrix.astype(np.float64)
    reach = np.abs(exact).max(axis=1, keepdims=True)
    np.testing.assert_allclose(sizes, reach / 127, rtol=1e-6, atol=1e-30)
    assert (np.abs(steps * sizes.astype(np.float64) - exact) <= reach / 254 * 1.0001).all()
    assert (steps[exact == 0] == 0).all()
    at_the_end = np.abs(np.take_along_axis(steps, np.abs(exact).argmax(axis=1, keepdims=True), axis=1))
    assert (at_the_end == np.where(reach > 0, 127, 0)).all()
    assert np.isfinite(error) and (error > 0) == bool(reach.any())


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).normal(size=(37, 24)).astype(np.float16)
    whole = round_rows(matrix)
    for block in (1, 24, 24 * 5):
        monkeypatch.setattr(int8_weights, "_BLOCK", block)
        for found, expected in zip(round_rows(matrix), whole, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


def test_the_error_is_as_expected() -> None:
    """Normal rows lose 0.7%; one outlier in each row makes that many times as much."""
    matrix = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    outliers = matrix.copy()
    outliers[:, 7] = 20
    for values, low, high in ((matrix, 0.006, 0.008), (outliers, 0.04, 0.05)):
        steps, sizes, error = round_rows(values)
        lost = np.linalg.norm(steps * sizes - values) / np.linalg.norm(matrix)
        assert low < error < high and error == pytest.approx(lost, rel=0.1)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(("name", "stored"), [("bert", np.float32), ("megatron", np.float16)])
def test_only_the_layers_matrices_are_rounded(name: str, kind: str, stored: type) -> None:
    """The same as float32 arithmetic on rounded matrices, and close to float32 on the exact ones."""
    config, head, encoded = CONFIGS[name], HEADS[kind], rows()
    weights = {key: value.astype(stored) for key, value in weights_for(config, head).items()}
    rounded = dict(weights)
    for key in filter(in_layers, weights):
        steps, sizes, _ = round_rows(weights[key])
        rounded[key] = steps * sizes
    assert sum(map(in_layers, weights)) == MAPS * config.num_hidden_layers
    engine = open_engine(config, weights, head, precision="int8-weights")
    assert (engine.precision, engine.info()["precision"]) == ("int8-weights", "int8-weights")
    found = results(engine, encoded)
    np.testing.assert_allclose(found, results(open_engine(config, rounded, head), encoded), rtol=0, atol=2e-5)
    exact = results(open_engine(config, weights, head), encoded)
    assert 0 < np.sqrt(np.square(found - exact).mean()) < BOUND * exact.std()


@pytest.mark.parametrize(("name", "kind"), [("bert", "classes"), ("megatron", "vector")])
def test_activations_rounded_as_they_come(name: str, kind: str) -> None:
    """The groups of a token's own values decide: what else is in the batch changes a last digit at most."""
    config, head, encoded = CONFIGS[name], HEADS[kind], rows()
    weights = weights_for(config, head)
    engine = open_engine(config, weights, head, precision="int8-dynamic")
    found, exact = results(engine, encoded), results(open_engine(config, weights, head), encoded)
    assert 0 < np.sqrt(np.square(found - exact).mean()) < 2 * BOUND * exact.std()
    again = results(engine, encoded, token_budget=100)
    assert np.sqrt(np.square(found - again).mean()) < BOUND / 2 * exact.std()
    by_weights = results(open_engine(config, weights, head, precision="int8-weights"), encoded)
    vnni = not processor_flags().isdisjoint({"avx512_vnni", "avx_vnni"})
    assert (np.abs(found - by_weights).max() > 1e-5) == vnni
    assert ("VNNI" in engine.info()["why_precision"]) == (not has_int8_dot())


def test_a_result_does_not_depend_on_the_batch() -> None:
    """Activations are not rounded: rounding them would turn differences of 1e-7 into ones of 1e-3."""
    encoded = rows()
    engine = open_engine(CONFIG, random_weights(), HEADS["vector"], precision="int8-weights")
    together = results(engine, encoded)
    for number, ids in enumerate(encoded.ids):
        alone = SimpleNamespace(ids=[ids], splits=[encoded.splits[number]], masks=[(1, 2)])
        np.testing.assert_allclose(results(engine, alone)[0], together[number], rtol=0, atol=2e-6)
    bulk = results(engine, encoded, token_budget=300)
    np.testing.assert_allclose(bulk, together, rtol=0, atol=2e-6)


def test_matrices_that_would_lose_too_much_stay() -> None:
    head, weights = HEADS["vector"], random_weights()
    kept = [f"encoder.layer.1.{name}.weight" for name in ("attention.self.value", "output.dense")]
    for name in kept:
        weights[name][:, 3] = 10
    rounded = dict(weights)
    for name in set(filter(in_layers, weights)).difference(kept):
        steps, sizes, _ = round_rows(weights[name])
        rounded[name] = steps * sizes
    engine = open_engine(CONFIG, weights, head, precision="int8-weights")
    assert "10 of 12 matrices" in engine.info()["why_precision"]
    expected = results(open_engine(CONFIG, rounded, head), rows())
    np.testing.assert_allclose(results(engine, rows()), expected, rtol=0, atol=2e-5)


def constants(model: Any) -> Counter[str]:
    """Types of the matrices among a graph's constants."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return Counter(
        node.get_element_type().get_type_name()
        for node in nodes
        if len(node.get_output_shape(0)) == 2 and min(node.get_output_shape(0)) > 1
    )


def test_the_kernels_get_bytes() -> None:
    head, count = HEADS["classes"], MAPS * CONFIG.num_hidden_layers
    graph = build_graph(CONFIG, weights_for(CONFIG, head), head, int8_weights=True)
    assert constants(graph)["i8"] == count
    if "avx2" not in processor_flags():
        return  # what other processors' kernels take is the runtime's choice
    core = load_openvino().Core()
    compiled = core.compile_model(graph, "CPU", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"})
    types = Counter(
        str(node.get_rt_info()["outputPrecisions"].value)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].value == "Const"
    )
    assert types["i8"] == count


def test_shared_layers_are_rounded_once() -> None:
    """ALBERT computes one stored layer again and again: its matrices are one constant each."""
    config = replace(CONFIG, num_hidden_layers=5, num_hidden_groups=1)
    weights = random_weights(config)
    graph = build_graph(config, weights, HEADS["vector"], int8_weights=True)
    assert constants(graph)["i8"] == MAPS
    engine = open_engine(config, weights, HEADS["vector"], precision="int8-weights")
    assert "6 of 6 matrices" in engine.info()["why_precision"]
    exact = results(open_engine(config, weights, HEADS["vector"]), rows())
    assert 0.99 < (results(engine, rows()) * exact).sum(1).min() < 1 - 1e-9


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_unreal_weights_are_still_an_error(poison: float) -> None:
    weights = random_weights()
    weights["encoder.layer.1.intermediate.dense.weight"][3, 2] = poison
    engine = open_engine(CONFIG, weights, HEADS["vector"], precision="int8-weights")
    with pytest.raises(FolderError, match="NaN or infinity"):
        results(engine, rows(3))


@pytest.mark.parametrize("precision", ["int8-weights", "int8-dynamic"])
def test_all_three_models_take_it(small_folders: Path, precision: str) -> None:
    texts = [a for a, _ in PAIRS]
    exact = jinyi.SentenceEncoder.load(small_folders / "embed").encode(texts)
    found = jinyi.SentenceEncoder.load(small_folders / "embed", precision=precision).encode(texts)
    assert 0.999 < (exact * found).sum(1).min() < 1 - 1e-9
    for name in ("pair", "pair1"):
        exact = jinyi.PairScorer.load(small_folders / name).predict(PAIRS)
        found = jinyi.PairScorer.load(small_folders / name, precision=precision).predict(PAIRS)
        assert 0 < np.abs(exact - found).max() < 0.05
    exact = jinyi.TopicClassifier.load(small_folders / "topic").predict_proba(texts)
    found = jinyi.TopicClassifier.load(small_folders / "topic", precision=precision).predict_proba(texts)
    assert 0 < np.abs(exact - found).max() < 0.05


def test_golden_sentences_are_checked_with_room_for_rounding(tmp_path: Path) -> None:
    values = jinyi.SentenceEncoder.load(write_small(tmp_path / "first")).encode(
        ["今天天气好"], normalize=False
    )
    golden = Golden("vectors", ("今天天气好",), values)
    folder = write_small(tmp_path / "golden", golden=golden)
    jinyi.SentenceEncoder.load(folder, precision="int8-weights")
    wrong = write_small(tmp_path / "wrong", golden=replace(golden, values=-values))
    with pytest.raises(FolderError, match="golden"):
        jinyi.SentenceEncoder.load(wrong, precision="int8-weights")


def test_the_command_knows_it(run: Any, small_folders: Path) -> None:
    arguments = ("score", "怎么改密码", "如何修改密码", "-m", small_folders / "pair", "--json")
    scores = []
    for precision in ("float32", "int8-weights"):
        code, out, err = run(*arguments, "--precision", precision)
        assert code == 0, err
        scores.append(json.loads(out)["score"])
    assert 0 < abs(scores[0] - scores[1]) < 0.05
    code, _, err = run(*arguments, "--precision", "int4")
    assert code == 2 and "int8-weights" in err


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stored_halves_are_not_widened_and_count_the_same(precision: str) -> None:
    """In bfloat16 too the layers' matrices stay as they are in the file; only a head's are widened."""
    head, encoded = HEADS["classes"], rows()
    halves = {name: value.astype(np.float16) for name, value in weights_for(CONFIG, head).items()}
    graph = build_graph(CONFIG, halves, head, wide_heads=precision == "bfloat16")
    kinds = constants(graph)
    assert kinds["f16"] >= MAPS * CONFIG.num_hidden_layers
    assert (kinds["f32"] > 1) == (precision == "bfloat16")  # positions and segments are one float32 table
    core = load_openvino().Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return  # refused on such a processor, see test_runtime.py
    widened = {name: value.astype(np.float32) for name, value in halves.items()}
    found, wide = (
        results(open_engine(CONFIG, weights, head, precision=precision), encoded)
        for weights in (halves, widened)
    )
    np.testing.assert_allclose(found, wide, rtol=0, atol=1e-6)


def test_showing_a_model_of_gigabytes_reads_no_weights(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes come from headers; the file of this test is a hole of 2.6 GB."""
    folder = write_small(tmp_path / "large", "pair", config=MEGATRON, outputs=2, labels=["no", "similar"])
    for name in ("jinyi.json", "MANIFEST.sha256", "model.safetensors"):
        (folder / name).unlink()
    sizes = {"hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 8192, "vocab_size": 21248}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | sizes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_hole(folder / "model.safetensors", config)
    monkeypatch.setattr(TensorMap, "__getitem__", lambda *_: pytest.fail("weights were read"))
    code, out, err = run("models", "show", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["parameters"] == read_folder(folder).parameters > 1_250_000_000


def write_hole(file: Path, config: dict[str, Any]) -> None:
    """A safetensors file with the header of a pair model and nothing in it."""
    encoder = EncoderConfig.from_dict(config)
    width = encoder.hidden_size
    shapes = {f"bert.{name}": shape for name, shape in encoder_shapes(encoder)}
    shapes |= {"bert.pooler.dense.weight": (width, width), "bert.pooler.dense.bias": (width,)}
    shapes |= {"classifier.weight": (2, width), "classifier.bias": (2,)}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
