"""Every architecture against transformers: folders saved by its own classes, computed by both engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)

from folder_tools import edit, error_of, rewrite_weights
from jinyi import PairScorer, SentenceEncoder, TopicClassifier
from jinyi.batches import make_batches
from jinyi.folder import ModelFolder, read_folder, write_folder
from jinyi.folder.names import canonical_names, public_names
from jinyi.models.golden import make_golden
from jinyi.runtime import Engine, Head, open_engine
from jinyi.runtime.int8 import measure_ranges
from jinyi.runtime.rotary import TABLE
from jinyi.runtime.torch_encoder import TorchEncoder
from jinyi.runtime.torch_engine import TorchEngine
from small_models import VOCAB
from zoo_models import ARCHITECTURES, CLASSES, ENCODER, MLM, build, save

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CLS, SEP, MASK = 2, 3, 4
MASKS = (2, 3)


def rows(*, segments: bool, count: int = 16) -> SimpleNamespace:
    """Rows of 6 to 36 ids with two masks; with segments the second half is segment 1."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 33, count)
    ids = [[CLS, *(MASK, MASK), *rng.integers(5, len(VOCAB), length).tolist(), SEP] for length in lengths]
    ids = [[row[0], row[3], *row[1:3], *row[4:]] for row in ids]
    splits = [len(row) // 2 if segments else len(row) for row in ids]
    return SimpleNamespace(ids=ids, splits=splits, masks=[MASKS] * count)


def padded(encoded: SimpleNamespace) -> dict[str, torch.Tensor]:
    """What transformers reads."""
    lengths = torch.tensor([len(row) for row in encoded.ids])
    columns = torch.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    return {
        "input_ids": torch.tensor([row + [0] * (len(columns) - len(row)) for row in encoded.ids]),
        "token_type_ids": ((columns >= torch.tensor(encoded.splits)[:, None]) & real).long(),
        "attention_mask": real.long(),
    }


@cache
def oracle(name: str, kind: str, *, segments: bool) -> Any:
    """The output of transformers' own class for `rows`, computed in float64."""
    encoded = rows(segments=segments)
    model = type(build(name, kind))(build(name, kind).config)
    model.load_state_dict(build(name, kind).state_dict())
    with torch.no_grad():
        return model.double().eval()(**padded(encoded), output_hidden_states=True)


def run(engine: Engine, encoded: SimpleNamespace, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Outputs in the order of the rows; hidden states of padding are 0."""
    output: np.ndarray | None = None
    for batch, part in engine.run(make_batches(encoded, pad_id=0)):
        assert isinstance(part, np.ndarray)
        if output is None:
            output = np.zeros((len(encoded.ids), *(shape or part.shape[1:])), np.float32)
        for place, length, values in zip(batch.rows, batch.lengths, part, strict=True):
            if shape:
                output[place, :length] = values[:length]
            else:
                output[place] = values
    assert output is not None
    return output


def openvino_engine(folder: ModelFolder, head: Head) -> Engine:
    return open_engine(folder.config, folder.weights(), head)


def torch_engine(folder: ModelFolder, head: Head) -> Engine:
    return TorchEngine(folder.config, folder.weights(), head, device="cpu")


both_engines = pytest.mark.parametrize("engine", [openvino_engine, torch_engine], ids=["openvino", "torch"])
with_segments = pytest.mark.parametrize("segments", [True, False], ids=["segments", "no segments"])
every_model = pytest.mark.parametrize("name", ARCHITECTURES)
Opened = Callable[[str, str], ModelFolder]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens the natively saved folder of an architecture and class."""
    root = tmp_path_factory.mktemp("zoo")

    def call(name: str, kind: str) -> ModelFolder:
        path = root / f"{name} {kind}"
        if not path.exists():
            save(path, name, kind)
        return read_folder(path)

    return call


def softmax(scores: np.ndarray) -> np.ndarray:
    mass = np.exp(scores - scores.max(-1, keepdims=True))
    return mass / mass.sum(-1, keepdims=True)


# What transformers computes


@every_model
@both_engines
@with_segments
def test_hidden_states(name: str, engine: Any, segments: bool, opened: Opened) -> None:
    folder, encoded = opened(name, ENCODER), rows(segments=segments)
    found = run(engine(folder, Head(kind="tokens")), encoded, (40, 32))
    expected = oracle(name, ENCODER, segments=segments).last_hidden_state.numpy()
    assert np.abs(expected).mean() > 0.3
    for row, states, ids in zip(found, expected, encoded.ids, strict=True):
        np.testing.assert_allclose(row[: len(ids)], states[: len(ids)], atol=1e-5, rtol=0)


@every_model
@both_engines
@with_segments
@pytest.mark.parametrize("pooling", ["cls", "mean", "first_last", "max"])
def test_poolings(name: str, engine: Any, segments: bool, pooling: str, opened: Opened) -> None:
    folder, encoded = opened(name, ENCODER), rows(segments=segments)
    states = oracle(name, ENCODER, segments=segments).hidden_states
    assert len(states) == 4
    found = run(engine(folder, Head(kind="vector", pooling=pooling)), encoded)
    for row, ids, first, last in zip(found, encoded.ids, states[1].numpy(), states[-1].numpy(), strict=True):
        first, last = first[: len(ids)], last[: len(ids)]
        expected = {
            **{"cls": last[0], "mean": last.mean(0), "max": last.max(0)},
            "first_last": ((first + last) / 2).mean(0),
        }[pooling]
        np.testing.assert_allclose(row, expected, atol=1e-5, rtol=0)


@every_model
@both_engines
@with_segments
def test_classes(name: str, engine: Any, segments: bool, opened: Opened) -> None:
    folder, encoded = opened(name, CLASSES), rows(segments=segments)
    assert (folder.task, folder.n_labels) == ("classes", 3)
    found = run(engine(folder, Head(kind="classes")), encoded)
    expected = oracle(name, CLASSES, segments=segments).logits.numpy()
    assert np.ptp(expected, axis=0).min() > 0.02
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=2e-6, rtol=0)


@every_model
@both_engines
@with_segments
def test_words_at_masks(name: str, engine: Any, segments: bool, opened: Opened) -> None:
    folder, encoded = opened(name, MLM), rows(segments=segments)
    assert folder.task == "mlm"
    found = run(engine(folder, Head(kind="mlm")), encoded)
    expected = oracle(name, MLM, segments=segments).logits[:, list(MASKS)].numpy()
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=2e-6, rtol=0)
    some = np.array([9, 30, 5])
    chosen = run(engine(folder, Head(kind="mlm", label_ids=some)), encoded)
    np.testing.assert_allclose(chosen, expected[..., some], atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["albert, 2 groups", "roformer, narrow"])
def test_half_precision(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Positions are rounded in such files too, and transformers computes with what is stored."""
    path, encoded = save(tmp_path / "m", name, CLASSES, dtype=dtype), rows(segments=True)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        expected = model(**padded(encoded)).logits.numpy()
    for engine in (openvino_engine, torch_engine):
        np.testing.assert_allclose(
            run(engine(read_folder(path), Head(kind="classes")), encoded), expected, atol=1e-5, rtol=0
        )


# The torch encoder alone


@every_model
def test_packed_rows_and_first_positions(name: str, opened: Opened) -> None:
    """Rows without their padding, and the last layer for [CLS] alone, give the same states and gradients."""
    folder, encoded = opened(name, ENCODER), rows(segments=True)
    encoder = TorchEncoder(folder.config).eval()
    stored = {key: torch.from_numpy(np.array(folder.weights()[key])) for key in encoder.state_dict()}
    encoder.load_state_dict(stored)
    inputs = padded(encoded)
    ids, segments, real = inputs["input_ids"], inputs["token_type_ids"], inputs["attention_mask"].bool()
    lengths = real.sum(1)
    assert lengths.sum() < 0.9 * ids.numel()
    packed = encoder(ids, lengths, segments)[-1]
    whole = encoder(ids, None, segments, mask=real[:, None, None, :])[-1]
    places = torch.arange(ids.shape[1]).expand(ids.shape)
    placed = encoder(ids, lengths, segments, places=places)[-1]
    for other in (whole, placed):
        torch.testing.assert_close(packed[real], other[real], atol=1e-5, rtol=0)
    for first in (
        encoder(ids, lengths, segments, first=True)[-1],
        encoder(ids, None, segments, mask=real[:, None, None, :], first=True)[-1],
    ):
        torch.testing.assert_close(first[:, 0], whole[:, 0], atol=1e-5, rtol=0)

    slopes = []
    for checkpointing in (False, True):
        encoder.train()
        encoder.checkpointing = checkpointing
        for module in encoder.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        encoder.zero_grad()
        encoder(ids, lengths, segments)[-1].square().sum().backward()
        slopes.append({key: weight.grad for key, weight in encoder.named_parameters()})
    assert all(slope is not None for slope in slopes[0].values())
    for key, slope in slopes[0].items():
        torch.testing.assert_close(slope, slopes[1][key])


def test_places_beyond_the_row(opened: Opened) -> None:
    """Texts that share a row under a block-diagonal mask keep the positions they are given."""
    folder = opened("roformer", ENCODER)
    encoder = TorchEncoder(folder.config).eval()
    stored = {key: torch.from_numpy(np.array(folder.weights()[key])) for key in encoder.state_dict()}
    encoder.load_state_dict(stored)
    ids = torch.tensor([[CLS, 10, 11, SEP], [CLS, 20, 21, SEP]])
    alone = encoder(ids)[-1]
    mask = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4)).bool()[None, None]
    shared = encoder(ids.view(1, 8), mask=mask, places=torch.arange(4).repeat(2)[None])[-1]
    torch.testing.assert_close(shared.view(2, 4, -1), alone, atol=1e-6, rtol=0)


# 8 bits


@pytest.mark.parametrize("name", ["albert", "albert, 2 groups", "roformer", "roformer, values"])
def test_eight_bits(name: str, opened: Opened) -> None:
    """Layers that share weights have ranges of their own."""
    folder, encoded = opened(name, ENCODER), rows(segments=True)
    ranges = measure_ranges(folder.config, folder.weights(), make_batches(encoded, pad_id=0))
    assert {key.split(".")[2] for key in ranges} == {"0", "1", "2"}
    head = Head(kind="vector", pooling="mean", normalize=True)
    found = run(open_engine(folder.config, folder.weights(), head, precision="int8", ranges=ranges), encoded)
    exact = run(openvino_engine(folder, head), encoded)
    assert (found * exact).sum(1).min() > 0.995


# Written and read again


AUTO = {ENCODER: AutoModel, CLASSES: AutoModelForSequenceClassification, MLM: AutoModelForMaskedLM}
TASKS = {ENCODER: "encoder", CLASSES: "classes", MLM: "mlm"}


@every_model
@pytest.mark.parametrize("kind", [ENCODER, CLASSES, MLM])
def test_written_folder_opens_in_its_own_class(
    name: str, kind: str, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, encoded = opened(name, kind), rows(segments=True)
    path = write_folder(
        tmp_path / "m",
        task=TASKS[kind],
        config=folder.config,
        weights=folder.weights(),
        tokenizer=folder.tokenizer_file,
        labels=["甲", "乙", "丙"] if kind == CLASSES else (),
    )
    assert read_folder(path).config == folder.config
    family, _ = ARCHITECTURES[name]
    with caplog.at_level("WARNING"):
        model, report = AUTO[kind].from_pretrained(path, output_loading_info=True)
    assert type(model).__name__ == family + kind
    assert not any(report.values()), report
    assert not caplog.records
    with torch.no_grad():
        again = model.double().eval()(**padded(encoded))
    field = "last_hidden_state" if kind == ENCODER else "logits"
    torch.testing.assert_close(again[field], oracle(name, kind, segments=True)[field])


@every_model
@pytest.mark.parametrize("kind", [ENCODER, CLASSES, MLM])
def test_names_there_and_back(name: str, kind: str, opened: Opened) -> None:
    folder = opened(name, kind)
    names = public_names(folder.config, folder.weights())
    assert len(set(names.values())) == len(names)
    prefix = f"{build(name, kind).base_model_prefix}."
    back = canonical_names(names.values(), prefix)
    assert {old: back[new] for old, new in names.items()} == {old: old for old in names}
    assert set(build(name, kind).state_dict()) >= {
        public.removeprefix(prefix) if kind == ENCODER else public for public in names.values()
    }


def test_table_of_positions_is_computed_where_it_is_missing(tmp_path: Path, opened: Opened) -> None:
    path, encoded = save(tmp_path / "m", "roformer, values", CLASSES), rows(segments=True)
    rewrite_weights(path / "model.safetensors", lambda name: None if "embed_positions" in name else name)
    folder = read_folder(path)
    assert TABLE not in folder.weights()
    whole = opened("roformer, values", CLASSES)
    for engine in (openvino_engine, torch_engine):
        found, expected = (run(engine(each, Head(kind="classes")), encoded) for each in (folder, whole))
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_weights_say_what_the_architecture_is(tmp_path: Path) -> None:
    """config.json may name another architecture, as Chinese "roberta" models do."""
    for name in ("bert", "albert", "roformer"):
        path = save(tmp_path / name, name, ENCODER)
        model_type = read_folder(path).config.model_type
        edit(path / "config.json", model_type="roberta")
        assert read_folder(path).config.model_type == model_type == name


def test_electra_is_an_albert_with_a_group_for_each_layer(tmp_path: Path) -> None:
    """Chinese ELECTRA encoders have BERT's layers behind narrow embeddings; no part of that is new."""
    config = ElectraConfig(
        **{"vocab_size": len(VOCAB), "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 3},
        **{"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 40},
        initializer_range=0.15,
    )
    save(path := tmp_path / "m", "bert", ENCODER)
    model, encoded = ElectraModel(config).eval(), rows(segments=True)
    model.save_pretrained(path)
    folder = read_folder(path)
    assert (folder.config.num_hidden_groups, folder.config.embedding_width) == (3, 16)
    with torch.no_grad():
        expected = model(**padded(encoded)).last_hidden_state[:, 0].numpy()
    for engine in (openvino_engine, torch_engine):
        np.testing.assert_allclose(
            run(engine(folder, Head(kind="vector")), encoded), expected, atol=1e-5, rtol=0
        )


# What is not computed is refused


@pytest.mark.parametrize("segments", [1, 2])
def test_a_bare_true_roberta_is_refused(tmp_path: Path, segments: int) -> None:
    """Saved alone it has BERT's names, but its positions count from 2 on."""
    config = RobertaConfig(
        **{"vocab_size": len(VOCAB), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4},
        **{"intermediate_size": 48, "max_position_embeddings": 42, "type_vocab_size": segments},
    )
    save(path := tmp_path / "m", "bert", ENCODER)
    model = RobertaModel(config)
    if segments == 1:  # then the padding row need not be zero
        torch.nn.init.normal_(model.embeddings.position_embeddings.weight)
    model.save_pretrained(path)
    assert "a true RoBERTa" in str(error_of(path))
    edit(path / "config.json", model_type="bert")  # who knows better may say so
    assert read_folder(path).config.model_type == "bert"


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    groups = save(tmp_path / "groups", "albert", ENCODER)
    edit(groups / "config.json", inner_group_num=2)
    assert "inner_group_num" in str(error_of(groups))

    roberta = save(tmp_path / "roberta", "bert", CLASSES)
    rewrite_weights(roberta / "model.safetensors", lambda name: name.replace("bert.", "roberta."))
    assert "a true RoBERTa" in str(error_of(roberta))

    bare = save(tmp_path / "v2", "roformer", ENCODER)
    rewrite_weights(bare / "model.safetensors", lambda name: None if "LayerNorm" in name else name)
    assert "RoFormer v2" in str(error_of(bare))

    headless = save(tmp_path / "headless", "roformer", CLASSES)
    rewrite_weights(
        headless / "model.safetensors",
        lambda name: (
            None if "classifier.dense" in name else name.replace("classifier.out_proj", "classifier")
        ),
    )
    assert "pooler.dense.weight" in str(error_of(headless))

    lost = save(tmp_path / "lost", "bert", ENCODER)
    rewrite_weights(lost / "model.safetensors", lambda name: None if "position_embeddings" in name else name)
    assert "NEZHA" in str(error_of(lost))


# From text


@pytest.mark.parametrize("name", ["megatron", "albert, 2 groups", "roformer, values"])
def test_vectors_from_text(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder of transformers, and the same written by jinyi, give its vectors; AutoTokenizer reads both."""
    folder = read_folder(save(tmp_path / "theirs", name, ENCODER))
    ours = write_folder(
        tmp_path / "ours",
        task="embed",
        pooling="mean",
        config=folder.config,
        weights=folder.weights(),
        tokenizer=folder.tokenizer_file,
        golden=make_golden,
    )
    texts = ["怎么改密码", "今天天气很好，不是？", "abc 12"]
    for path in (folder.path, ours):
        with caplog.at_level("WARNING"):
            tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
        assert not caplog.records
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model.eval()(**batch).last_hidden_state
        real = batch["attention_mask"][:, :, None]
        expected = ((states * real).sum(1) / real.sum(1)).numpy()
        found = SentenceEncoder.load(path, pooling="mean").encode(texts, normalize=False)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["albert", "roformer, narrow"])
def test_pairs_and_topics_from_text(name: str, tmp_path: Path) -> None:
    """Both orders of a pair, and label words in a prompt, as transformers computes them from the same ids."""
    folder = read_folder(save(tmp_path / "classes", name, CLASSES))
    weights = dict(folder.weights())
    weights |= {key: weights[key][:2] for key in ("classifier.weight", "classifier.bias")}
    pair = write_folder(
        tmp_path / "pair",
        task="pair",
        config=folder.config,
        weights=weights,
        tokenizer=folder.tokenizer_file,
        golden=make_golden,
    )
    tokenizer = AutoTokenizer.from_pretrained(pair)
    model = AutoModelForSequenceClassification.from_pretrained(pair).eval()
    with torch.no_grad():
        logits = model(**tokenizer("怎么改密码", "如何修改登录密码", return_tensors="pt")).logits[0]
    found = PairScorer.load(pair).predict(("怎么改密码", "如何修改登录密码"), symmetric=False)
    assert found == pytest.approx(logits.softmax(-1)[1].item(), abs=1e-6)

    masked = save(tmp_path / "mlm", name, MLM)
    topics = TopicClassifier.load(masked, labels=["体育", "财经"], prompt="下面是一则关于{}的新闻：")
    shares = topics.predict_proba(["今天天气很好"])[0]
    assert shares.sum() == pytest.approx(1.0) and shares.min() > 0.0
