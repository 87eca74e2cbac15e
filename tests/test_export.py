"""Exported graphs against transformers on the source folder: any mask, any batch, every kind of model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import jinyi
from folder_tools import edit
from jinyi.convert import convert
from jinyi.convert.export import export, onnx_file, onnx_graph, parity, write
from jinyi.convert.export.onnx_graph import translate
from jinyi.convert.export.reader_graph import reader_graph
from jinyi.errors import FolderError, InputError, MissingExtraError
from jinyi.folder import read_folder, verify_folder, write_folder
from jinyi.runtime import Head
from jinyi.runtime.graph import build_graph
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, whitening, write_small

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CASES: dict[str, dict[str, Any]] = {
    "cls": {"pooling": "cls"},
    "mean-whitened": {"pooling": "mean", "dense": [whitening()], "normalize": True},
    "cls-whitened-twice": {"pooling": "cls", "dense": [whitening(), whitening(12, 5)]},
    "max-whitened": {"pooling": "max", "dense": [whitening()]},
    "first-last": {"pooling": "first_last"},
    "half": {"pooling": "mean", "dtype": "float16"},
    "megatron-whitened": {"pooling": "first_last", "config": MEGATRON, "dense": [whitening()]},
    "encoder": {"task": "encoder"},
    "pair": {"task": "pair", "outputs": 2},
    "pair-one": {"task": "pair", "outputs": 1},
    "pair-zeros": {"task": "pair", "outputs": 1, "segment_ids": "zeros"},
    "pair-megatron": {"task": "pair", "outputs": 1, "config": MEGATRON},
    "classes": {"task": "classes", "outputs": 3, "labels": ["体育", "财经", "新闻"]},
    "words": {"task": "mlm"},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case as NAME (source) and NAME-to (export to both runtimes)."""
    root = tmp_path_factory.mktemp("export")
    for name, options in CASES.items():
        write_small(root / name, **options)
        done = export(root / name, root / f"{name}-to", to=["openvino", "onnx"])
        assert done.path == root / f"{name}-to"
        assert done.formats == ("onnx", "openvino")
    return root


def inputs(rows: int = 5, width: int = 11) -> dict[str, np.ndarray]:
    """Random ids and segments; masks of padding behind, in front and in the middle of rows."""
    rng = np.random.default_rng(rows)
    mask = np.ones((rows, width), np.int64)
    for row, hole in enumerate(
        [slice(7, None), slice(4, 6), slice(1, 2), slice(0, 0), slice(2, None)][:rows]
    ):
        mask[row, hole] = 0
    return {
        "input_ids": rng.integers(0, len(VOCAB), (rows, width)),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (rows, width)),
    }


def in_onnxruntime(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def in_openvino(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import openvino

    model = openvino.Core().read_model(folder / "openvino" / "openvino_model.xml")
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    done = compiled(given)
    return {port.get_any_name(): done[port].copy() for port in compiled.outputs}


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def by_transformers(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What transformers makes of the source folder, with pooling and dense layers by their formulas."""
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

    opened = read_folder(folder)
    kinds = {"pair": AutoModelForSequenceClassification, "classes": AutoModelForSequenceClassification}
    kind = AutoModelForMaskedLM if opened.task == "mlm" else kinds.get(opened.task, AutoModel)
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        out = model(**{name: torch.from_numpy(a) for name, a in given.items()}, output_hidden_states=True)
    if opened.task in ("pair", "classes", "mlm"):
        return {"logits": out.logits.numpy()}
    states = out.last_hidden_state.numpy()
    if opened.task == "encoder":
        return {"last_hidden_state": states}
    mask = given["attention_mask"][..., None]
    first = out.hidden_states[1].numpy()
    vectors = {
        "cls": lambda: states[:, 0],
        "mean": lambda: (states * mask).sum(1) / mask.sum(1),
        "max": lambda: np.where(mask > 0, states, -np.inf).max(1),
        "first_last": lambda: ((states + first) / 2 * mask).sum(1) / mask.sum(1),
    }[opened.pooling or ""]()
    for weight, bias in opened.dense:
        vectors = vectors @ weight.T + bias
    if opened.normalize:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return {"sentence_embedding": vectors, "states": states}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(exported: Path, name: str, runtime: str) -> None:
    for rows in (1, 5):
        given = inputs(rows)
        found = RUNTIMES[runtime](exported / f"{name}-to", given)
        if name == "pair-zeros":
            given = {**given, "token_type_ids": np.zeros_like(given["token_type_ids"])}
        expected = by_transformers(exported / name, given)
        for output in set(expected) - {"states"}:
            assert found[output].dtype == np.float32
            np.testing.assert_allclose(found[output], expected[output], atol=2e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].get("pooling")])
def test_pooled_states_are_the_vectors(exported: Path, name: str, runtime: str) -> None:
    """Readers that know the stated pooling and nothing else get whitened vectors (fastembed, TEI)."""
    given = inputs()
    found = RUNTIMES[runtime](exported / f"{name}-to", given)
    states, mask = found["last_hidden_state"], given["attention_mask"][..., None]
    stated = json.loads((exported / f"{name}-to" / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    [pooling] = [key for key, value in stated.items() if key.startswith("pooling_mode_") and value]
    vectors = {
        "pooling_mode_cls_token": states[:, 0],
        "pooling_mode_mean_tokens": (states * mask).sum(1) / mask.sum(1),
        "pooling_mode_max_tokens": np.where(mask > 0, states, -np.inf).max(1),
    }[pooling]
    opened = read_folder(exported / name)
    if opened.pooling == "max":
        vectors = vectors @ opened.dense[0][0].T + opened.dense[0][1]
    else:
        assert stated["word_embedding_dimension"] == vectors.shape[1] == opened.vector_size
    if opened.normalize:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, found["sentence_embedding"], atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_padding_changes_nothing(exported: Path, runtime: str) -> None:
    given = inputs(4)
    given["attention_mask"][:] = 1
    given["attention_mask"][2, 6:] = 0
    whole = RUNTIMES[runtime](exported / "mean-whitened-to", given)["sentence_embedding"]
    alone = {key: value[2:3, :6] for key, value in given.items()}
    found = RUNTIMES[runtime](exported / "mean-whitened-to", alone)["sentence_embedding"]
    np.testing.assert_allclose(found, whole[2:3], atol=1e-5)


def test_what_the_file_says(exported: Path) -> None:
    model = onnx.load(exported / "mean-whitened-to" / "onnx" / "model.onnx")
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]

    def described(values: Any) -> list[tuple[str, int, list[Any]]]:
        kinds = [(value.name, value.type.tensor_type) for value in values]
        return [
            (name, kind.elem_type, [size.dim_param or size.dim_value for size in kind.shape.dim])
            for name, kind in kinds
        ]

    free = ["batch_size", "sequence_length"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert described(model.graph.input) == [(name, onnx.TensorProto.INT64, free) for name in names]
    # In this order: fastembed takes the first output, whatever its name.
    assert described(model.graph.output) == [
        ("last_hidden_state", onnx.TensorProto.FLOAT, [*free, 12]),
        ("sentence_embedding", onnx.TensorProto.FLOAT, ["batch_size", 12]),
    ]
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 5 and all(len(node.input) == 3 for node in norms)  # gain and shift are in the node


def test_rows_that_the_model_cannot_read_are_refused(exported: Path) -> None:
    def row(length: int, token: int, segment: int) -> dict[str, np.ndarray]:
        shape = (1, length)
        return {
            "input_ids": np.full(shape, token),
            "attention_mask": np.ones(shape, np.int64),
            "token_type_ids": np.full(shape, segment),
        }

    in_onnxruntime(exported / "cls-to", row(48, 5, 1))
    for wrong in (row(49, 5, 0), row(49, 5, 1), row(3, len(VOCAB), 0), row(3, 5, 2)):
        with pytest.raises(Exception, match="out of data bounds"):
            in_onnxruntime(exported / "cls-to", wrong)


def test_a_folder_whitens_once(exported: Path) -> None:
    folder = exported / "mean-whitened-to"
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    assert [module["type"].rsplit(".", 1)[1] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert not list(folder.rglob("*.safetensors"))
    assert not (folder / "2_Dense").exists()
    assert "jinyi.SentenceEncoder" not in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(FolderError, match="exported from"):
        read_folder(folder)


def test_other_folders_stay_whole(exported: Path) -> None:
    assert len(verify_folder(exported / "cls-to").checked) > 10
    texts = ["怎么改密码", "今天天气很好"]
    ours, again = (jinyi.SentenceEncoder.load(exported / name).encode(texts) for name in ("cls", "cls-to"))
    np.testing.assert_array_equal(ours, again)
    assert jinyi.PairScorer.load(exported / "pair-zeros-to").segment_ids == "zeros"
    # An export is a model like others: it can be exported again.
    assert (
        export(exported / "cls-to", exported / "cls-to-to", to="onnx").parities[0].largest_difference < 1e-6
    )


def test_float16(exported: Path, tmp_path: Path) -> None:
    whole = (exported / "cls-to" / "onnx" / "model.onnx").stat().st_size
    done = export(exported / "cls", tmp_path / "half", to=["onnx", "openvino"], dtype="float16")
    assert done.dtype == "float16"
    assert {parity.least_cosine < 1 for parity in done.parities} == {True}
    assert (tmp_path / "half" / "onnx" / "model.onnx").stat().st_size < 0.7 * whole
    assert jinyi.SentenceEncoder.load(tmp_path / "half").encode("密码").shape == (32,)
    # What is float16 already is stored so and equals the model; it may be widened.
    kept, wide = (exported / f"half-to{extra}" / "onnx" / "model.onnx" for extra in ("", "-wide"))
    done = export(exported / "half", wide.parent.parent, to="onnx", dtype="float32")
    assert kept.stat().st_size < 0.7 * wide.stat().st_size
    assert done.dtype == "float32" and all(parity.largest_difference < 1e-6 for parity in done.parities)


def test_golden_outputs_follow_the_type(tmp_path: Path) -> None:
    from jinyi.models.golden import make_golden

    write_small(tmp_path / "pair", "pair", golden=make_golden)
    export(tmp_path / "pair", tmp_path / "same", to="sentence-transformers")
    export(tmp_path / "pair", tmp_path / "half", to="sentence-transformers", dtype="float16")
    golden = [read_folder(tmp_path / name).golden for name in ("pair", "same", "half")]
    assert all(golden)
    np.testing.assert_array_equal(golden[0].values, golden[1].values)  # type: ignore[union-attr]
    assert (golden[0].values != golden[2].values).any()  # type: ignore[union-attr]
    jinyi.PairScorer.load(tmp_path / "half")  # checks them


def test_a_weight_beyond_float16(tmp_path: Path) -> None:
    weights = random_weights(CONFIG)
    weights["encoder.layer.0.output.dense.weight"][3, 5] = 1e5
    write_small(tmp_path / "model", weights=weights)
    with pytest.raises((InputError, FolderError), match="float16|65504"):
        export(tmp_path / "model", tmp_path / "out", to="onnx", dtype="float16")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_large_models_keep_weights_beside_the_graph(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 1000)
    done = export(exported / "pair", tmp_path / "out", to="onnx")
    assert "onnx/model.onnx_data" in done.files
    assert (tmp_path / "out" / "onnx" / "model.onnx").stat().st_size < 40_000
    verify_folder(tmp_path / "out")
    given = inputs()
    found = in_onnxruntime(tmp_path / "out", given)["logits"]
    np.testing.assert_array_equal(found, in_onnxruntime(exported / "pair-to", given)["logits"])
    onnx.checker.check_model(str(tmp_path / "out" / "onnx" / "model.onnx"), full_check=True)


def test_shared_arrays_are_stored_once(tmp_path: Path) -> None:
    weights = random_weights(CONFIG)
    for name in [name for name in weights if name.startswith("encoder.layer.1.")]:
        weights[name] = weights[name.replace("layer.1.", "layer.0.")].copy()
    write_small(tmp_path / "same", weights=weights)
    write_small(tmp_path / "two")
    sizes = []
    for name in ("same", "two"):
        [(_, data)] = translate(reader_graph(read_folder(tmp_path / name), keep_half=True)).files()
        sizes.append(len(data))
    layer = sum(array.nbytes for name, array in weights.items() if name.startswith("encoder.layer.1."))
    assert sizes[1] - sizes[0] > 0.9 * layer


def test_every_activation(tmp_path: Path) -> None:
    from dataclasses import replace

    for activation in ("relu", "gelu_new"):
        write_small(tmp_path / activation, config=replace(CONFIG, hidden_act=activation), pooling="cls")
        done = export(tmp_path / activation, tmp_path / f"{activation}-to", to="onnx")
        assert max(parity.largest_difference for parity in done.parities) < 1e-6


def test_an_operation_without_translation() -> None:
    span = {
        f"encoder.layer.{n}.{site}": np.ones((2, 64 if site == "output.dense" else 32), np.float32)
        for n in (0, 1)
        for site in ("attention.self", "attention.output.dense", "intermediate.dense", "output.dense")
    }
    for array in span.values():
        array[0] = -1
    model = build_graph(CONFIG, random_weights(), Head("tokens"), ranges=span)
    with pytest.raises(InputError, match="FakeQuantize"):
        translate(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onxx"}, "'onxx'"),
        ({"to": []}, "no format"),
        ({"to": "onnx", "dtype": "int8"}, "'int8'"),
        ({"to": ["onnx", "sentence-transformers"]}, "whitening"),
    ],
)
def test_wrong_use(exported: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        export(exported / "mean-whitened", tmp_path / "out", **options)
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_a_fitted_topic_classifier_is_no_graph(tmp_path: Path) -> None:
    write_small(tmp_path / "topic", "topic", labels=["体育", "财经"])
    topics = jinyi.TopicClassifier.load(tmp_path / "topic")
    topics.fit(["体育新闻", "财经新闻", "体育好", "财经好"] * 2, ["体育", "财经"] * 4, method="linear")
    topics.save(tmp_path / "fitted")
    with pytest.raises(InputError, match="fitted"):
        export(tmp_path / "fitted", tmp_path / "out", to="onnx")


def test_what_differs_is_not_left_behind(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_graph._Translator.on_Softmax

    def wrong(self: Any, node: Any) -> None:
        right(
            self,
            SimpleNamespace(
                **{name: getattr(node, name) for name in ("input_values", "get_friendly_name")},
                get_attributes=lambda: {"axis": -2},
            ),
        )

    monkeypatch.setattr(onnx_graph._Translator, "on_Softmax", wrong)
    with pytest.raises(FolderError, match="cosine"):
        export(exported / "cls", tmp_path / "out", to="onnx")
    assert not list(tmp_path.iterdir())
    broken = parity.Parity("onnxruntime", "logits", 3, float("nan"), None, 1e-4, None)
    with pytest.raises(FolderError, match="nan"):
        parity.check([broken], "float32", "here")


def test_an_export_replaces_models_alone(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(FolderError, match="not a model folder"):
        export(exported / "cls", tmp_path / "mine", to="onnx", overwrite=True)
    export(exported / "cls", tmp_path / "out", to="onnx")
    with pytest.raises(FolderError, match="already"):
        export(exported / "cls", tmp_path / "out", to="onnx")
    export(exported / "mean-whitened", tmp_path / "out", to="openvino", overwrite=True)
    assert not (tmp_path / "out" / "onnx").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine", "out"]


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r'pip install "jinyi\[export\]"'):
        export(exported / "cls", tmp_path / "out", to="onnx")
    assert (
        export(exported / "cls", tmp_path / "out", to="openvino").files[-1] == "openvino/openvino_model.xml"
    )


def test_options_open_the_model_otherwise(exported: Path, tmp_path: Path) -> None:
    write_small(tmp_path / "words", "mlm")
    done = export(tmp_path / "words", tmp_path / "out", to="onnx", task="embed", pooling="cls")
    assert done.task == "embed"
    assert {parity.compared for parity in done.parities} == {
        "sentence_embedding",
        "last_hidden_state, cls pooling",
    }
    assert json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["architectures"] == [
        "BertModel"
    ]


def test_what_was_made_for_another_task_stays_behind(tmp_path: Path) -> None:
    """An encoder of a pair model has no calibrated scores, no labels, and no results of pairs."""
    calibration = {"method": "platt", "slope": 2.0, "intercept": 0.0}
    results = [{"protocol": "dev", "auc": 0.9}]
    pair = write_small(
        tmp_path / "pair", "pair", calibration=calibration, results=results, summary="P(similar)."
    )
    same = export(pair, tmp_path / "same", to="onnx")
    record = read_folder(same.path).record
    assert (record["calibration"], record["results"], record["summary"]) == (
        calibration,
        results,
        "P(similar).",
    )
    assert any("calibration" in note for note in same.notes)
    other = export(pair, tmp_path / "other", to="onnx", task="embed", pooling="mean")
    record = read_folder(other.path).record
    kept = {
        key: record[key] for key in ("calibration", "results", "labels", "summary", "golden") if record[key]
    }
    assert kept == {} and not other.notes
    (pair / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert read_folder(export(pair, tmp_path / "card", to="openvino").path).record["licence"] == "mit"


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_how_outputs_relate_is_kept(tmp_path: Path, problem: str) -> None:
    """transformers chooses softmax, sigmoid or neither by it."""
    source = write_small(tmp_path / "m", "classes", outputs=3, labels=["体育", "财经", "新闻"])
    edit(source / "config.json", problem_type=problem)
    written = [export(source, tmp_path / "out", to="sentence-transformers").path]
    written.append(convert(source, tmp_path / "converted").path)
    expected = jinyi.pipeline("text-classification", source)("今天天气很好", top_k=None)
    for folder in written:
        assert read_folder(folder).problem_type == problem
        got = jinyi.pipeline("text-classification", folder)("今天天气很好", top_k=None)
        assert [row["label"] for row in got] == [row["label"] for row in expected]
        assert [row["score"] for row in got] == pytest.approx([row["score"] for row in expected], abs=1e-6)


@pytest.mark.parametrize("write", [convert, partial(export, to="openvino")], ids=["convert", "export"])
def test_options_without_effect_are_refused(exported: Path, tmp_path: Path, write: Any) -> None:
    with pytest.raises(InputError, match="pooling"):
        write(exported / "pair", tmp_path / "out", pooling="mean")
    with pytest.raises(InputError, match="similar_label"):
        write(exported / "cls", tmp_path / "out", similar_label="甲")
    if write is not convert:  # which makes an encoder of it
        with pytest.raises(InputError, match="task embed"):
            write(exported / "words", tmp_path / "out", pooling="mean")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_tools(tmp_path: Path) -> None:
    """Label names that do not tell, and vocab.txt alone."""
    write_folder(
        tmp_path / "pair",
        task="classes",
        config=CONFIG,
        weights=random_weights(head="classifier", labels=2),
        tokenizer=write_small(tmp_path / "tokens"),
        labels=["甲", "乙"],
    )
    for file in ("jinyi.json", "MANIFEST.sha256", "tokenizer.json"):
        (tmp_path / "pair" / file).unlink()
    with pytest.raises(FolderError, match="similar_label"):
        export(tmp_path / "pair", tmp_path / "out", to="onnx")
    export(tmp_path / "pair", tmp_path / "out", to="onnx", similar_label="甲")
    assert read_folder(tmp_path / "out").similar == 0


def test_command(run: Any, exported: Path, tmp_path: Path) -> None:
    code, out, err = run("export", exported / "pair", tmp_path / "out", "--to", "onnx")
    assert code == 0
    assert "logits (onnxruntime)" in out and "difference" in out
    assert "onnx/model.onnx" in err and "jinyi convert --logits 1" in err
    code, _, err = run("export", exported / "pair", tmp_path / "out", "--to", "onnx")
    assert code == 2 and "--overwrite" in err
    code, out, _ = run(
        "export", exported / "pair-one", tmp_path / "out", "--to", "openvino", "--overwrite", "--json"
    )
    body = json.loads(out)
    assert code == 0 and body["formats"] == ["openvino"] and len(body["parities"]) == 2
    assert {"path", "task", "dtype", "files", "notes"} <= set(body)
    code, _, err = run("export", exported / "pair", tmp_path / "else", "--to", "tflite")
    assert code == 2 and "sentence-transformers" in err


def test_formats_are_those_of_the_command() -> None:
    from jinyi.cli import export as command

    assert all(name in (command.export.__annotations__["to"] or "") for name in write.FORMATS)
