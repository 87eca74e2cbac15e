"""Graphs of every architecture, and exported folders in the hands of their other readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jinyi
from jinyi.convert.export import export
from jinyi.folder import read_folder
from small_models import whitening, write_small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("transformers")

from test_export import RUNTIMES, inputs  # noqa: E402
from zoo_models import ARCHITECTURES, CLASSES, ENCODER, MLM, build, save  # noqa: E402

TEXTS = ["怎么改密码", "如何修改登录密码？", "今天天气很好，心情不好。", "体育新闻"]
PAIRS = [("怎么改密码", "如何修改登录密码"), ("今天天气", "体育财经"), ("1a", "2b")]


@pytest.mark.parametrize("kind", [ENCODER, CLASSES, MLM])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_equals_transformers(tmp_path: Path, name: str, kind: str) -> None:
    import torch

    save(tmp_path / "model", name, kind)
    done = export(tmp_path / "model", tmp_path / "out", to=["onnx", "openvino"])
    output = {ENCODER: "last_hidden_state"}.get(kind, "logits")
    given = inputs()
    with torch.no_grad():
        out = build(name, kind)(**{key: torch.from_numpy(value) for key, value in given.items()})
    for runtime in RUNTIMES.values():
        np.testing.assert_allclose(runtime(done.path, given)[output], out[output].numpy(), atol=2e-5)
    # The folder around the graph is still of its own architecture.
    assert read_folder(done.path).raw_config["model_type"] == build(name, kind).config.model_type


def test_layers_of_albert_are_stored_once(tmp_path: Path) -> None:
    sizes = {}
    for name in ("albert", "albert, 2 groups"):
        save(tmp_path / name, name, ENCODER)
        export(tmp_path / name, tmp_path / f"{name} out", to=["onnx", "openvino"])
        stored = (tmp_path / name / "model.safetensors").stat().st_size
        for file in ("onnx/model.onnx", "openvino/openvino_model.bin"):
            sizes[name, file] = (tmp_path / f"{name} out" / file).stat().st_size / stored
    assert max(sizes.values()) < 1.5, sizes


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Any:
    """All that libraries log from WARNING on, and warn."""
    return lambda: (
        [record.getMessage() for record in caplog.records if record.levelno >= 30]
        + [str(entry.message) for entry in recwarn]
    )


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_vectors_in_sentence_transformers(tmp_path: Path, warned: Any, pooling: str) -> None:
    from sentence_transformers import SentenceTransformer

    write_small(tmp_path / "model", pooling=pooling, dense=[whitening()], normalize=True)
    done = export(tmp_path / "model", tmp_path / "out", to="sentence-transformers")
    assert done.parities[0].reader == "jinyi"
    model = SentenceTransformer(str(done.path), device="cpu")
    np.testing.assert_allclose(
        model.encode(TEXTS), jinyi.SentenceEncoder.load(tmp_path / "model").encode(TEXTS), atol=1e-6
    )
    assert not warned()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_vectors_by_the_plain_bert_model(tmp_path: Path, warned: Any, pooling: str) -> None:
    import torch
    from transformers import BertModel, BertTokenizerFast

    write_small(tmp_path / "model", pooling=pooling)
    done = export(tmp_path / "model", tmp_path / "out", to=["onnx", "openvino", "sentence-transformers"])
    batch = BertTokenizerFast.from_pretrained(done.path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(done.path).eval()(**batch).last_hidden_state.numpy()
    mask = batch["attention_mask"].numpy()[..., None]
    vectors = {
        "cls": lambda: states[:, 0],
        "mean": lambda: (states * mask).sum(1) / mask.sum(1),
        "max": lambda: np.where(mask > 0, states, -np.inf).max(1),
    }[pooling]()
    ours = jinyi.SentenceEncoder.load(tmp_path / "model").encode(TEXTS, normalize=False)
    np.testing.assert_allclose(vectors, ours, atol=1e-5)
    assert not warned()


@pytest.mark.slow
def test_pairs_in_cross_encoder(tmp_path: Path, warned: Any) -> None:
    from sentence_transformers import CrossEncoder

    write_small(tmp_path / "model", "pair")
    done = export(tmp_path / "model", tmp_path / "out", to=["onnx", "openvino"])
    model, ours = CrossEncoder(str(done.path), device="cpu"), jinyi.PairScorer.load(tmp_path / "model")
    expected = ours.predict(PAIRS, symmetric=False)
    np.testing.assert_allclose(model.predict(PAIRS), expected, atol=1e-6)
    ranked = model.rank(TEXTS[0], TEXTS[1:], return_documents=True)
    scores = ours.predict([(TEXTS[0], text) for text in TEXTS[1:]], symmetric=False)
    assert [row["corpus_id"] for row in ranked] == np.argsort(-scores, kind="stable").tolist()
    for row in ranked:
        assert row["score"] == pytest.approx(scores[row["corpus_id"]], abs=1e-6)
        assert row["text"] == TEXTS[1:][row["corpus_id"]]
    assert not warned()
