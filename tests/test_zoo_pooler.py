"""SimBERT and RoFormer-Sim: vectors by the stored pooler as a linear layer, against PyTorch's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from folder_tools import error_of
from jinyi import SentenceEncoder, TopicClassifier
from jinyi.convert import convert
from jinyi.errors import FolderError
from jinyi.folder import read_folder
from jinyi.registry import locate, models_home
from zoo_models import ENCODER, build, save

TEXTS = ["怎么改密码？", "这家店的面条很好吃，就是排队太久。", "今天 abc 12"]
SIM = {"bert": "WangZeJun/simbert-base-chinese", "roformer": "junnyu/roformer_chinese_sim_char_base"}
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
each_kind = pytest.mark.parametrize("kind", SIM)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def published(path: Path, kind: str) -> Path:
    """A folder as these models are published: an encoder with its pooler, no word on pooling."""
    save(path, kind, ENCODER)
    if kind == "roformer":  # its class in transformers has none, the published files do
        tensors = load_file(path / "model.safetensors")
        chance = torch.Generator().manual_seed(3)
        for name, shape in zip(POOLER, ((32, 32), (32,)), strict=True):
            tensors[f"roformer.{name}"] = torch.randn(shape, generator=chance) * 0.3
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def expected(path: Path, kind: str) -> np.ndarray:
    """The pooler's linear map of transformers' [CLS], in float32."""
    stored = load_file(path / "model.safetensors")
    weight, bias = (next(stored[name] for name in stored if name.endswith(end)) for end in POOLER)
    tokenizer = AutoTokenizer.from_pretrained(path, model_max_length=40)
    with torch.no_grad():
        rows = [
            build(kind, ENCODER)(
                input_ids=torch.tensor([tokenizer(text)["input_ids"]]),
            ).last_hidden_state[0, 0]
            for text in TEXTS
        ]
        return (torch.stack(rows) @ weight.T + bias).numpy()


@each_kind
def test_the_pooler_makes_the_vectors(tmp_path: Path, kind: str) -> None:
    path = published(tmp_path / "sim", kind)
    encoder = SentenceEncoder.load(path, pooling="pooler")
    vectors = encoder.encode(TEXTS, normalize=False)
    assert np.abs(vectors - expected(path, kind)).max() < 1e-5
    before = SentenceEncoder.load(path, pooling="cls").encode(TEXTS, normalize=False)
    assert np.abs(vectors - before).max() > 0.1
    again = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(again.encode(TEXTS, normalize=False), vectors)


@each_kind
def test_a_written_folder_says_it_in_everyones_words(tmp_path: Path, kind: str) -> None:
    path = published(tmp_path / "sim", kind)
    wanted = expected(path, kind)
    saved = SentenceEncoder.load(path, pooling="pooler").save(tmp_path / "saved")
    done = convert(path, tmp_path / "converted", pooling="pooler")
    assert done.folder.task == "embed" and not any("pooler" in name for name in done.account.dropped)
    for folder in (saved, done.path):
        assert np.abs(SentenceEncoder.load(folder).encode(TEXTS, normalize=False) - wanted).max() < 1e-5
        theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=False)
        assert np.abs(theirs - wanted).max() < 1e-5
    assert read_folder(saved).pooling == "cls" and len(read_folder(saved).dense) == 1


@each_kind
def test_the_registry_knows_whose_vectors_these_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    name = SIM[kind]
    path = published(models_home() / name, kind)
    encoder = SentenceEncoder.load(name)
    assert np.abs(encoder.encode(TEXTS, normalize=False) - expected(path, kind)).max() < 1e-5
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).encode(TEXTS), encoder.encode(TEXTS))
    with pytest.raises(FolderError, match="no word on pooling"):
        SentenceEncoder.load(path)  # a path says nothing
    topics = TopicClassifier.load(name, method="reference").fit(TEXTS, ["a", "b", "b"])
    saved = TopicClassifier.load(topics.save(tmp_path / "topics"))
    assert np.allclose(saved.predict_proba(TEXTS), topics.predict_proba(TEXTS), atol=1e-6)


def test_a_folder_that_lost_its_pooler_is_not_guessed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "plain", "roformer", ENCODER)
    found = error_of(path, task="embed", pooling="pooler")
    assert found.found == "weights without a pooler"
    monkeypatch.setenv("JINYI_HOME", str(tmp_path / "home"))
    save(models_home() / SIM["roformer"], "roformer", ENCODER)
    with pytest.raises(FolderError, match="no word on pooling"):
        SentenceEncoder.load(SIM["roformer"])
    assert SentenceEncoder.load(SIM["roformer"], pooling="cls").dimension == 32
    assert read_folder(models_home() / SIM["roformer"], facts=locate(SIM["roformer"]).facts).pooling is None
