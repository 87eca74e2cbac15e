"""What the weights are before the first step."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jinyi.errors import FolderError, InputError  # noqa: E402
from jinyi.folder import read_folder  # noqa: E402
from jinyi.tokens import Tokenizer, build_tokenizer  # noqa: E402
from jinyi.train.corpus.shards import write_shards  # noqa: E402
from jinyi.train.network import Network  # noqa: E402
from jinyi.train.recipe import (  # noqa: E402
    Batch,
    ContrastiveObjective,
    Data,
    DistillObjective,
    PairObjective,
    PretrainObjective,
    Recipe,
    Schedule,
    Source,
    Start,
    TopicObjective,
)
from jinyi.train.start import (  # noqa: E402
    beginnings,  # noqa: E402
    build,
    heads_of,
)
from jinyi.train.start.shrink import carry_rows, even_layers  # noqa: E402
from small_models import CONFIG, MEGATRON, VOCAB, random_weights, write_small  # noqa: E402

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
}
TASKS = {
    PretrainObjective: "pretrain",
    ContrastiveObjective: "contrastive",
    PairObjective: "pair",
    TopicObjective: "topic",
    DistillObjective: "distill",
}
CHARACTERS = "怎么改密码如何修登录今天气很好不心情体育财经新闻"


def recipe(objective: Any = None, *, train: tuple[Source, ...] = (), seed: int = 0, **start: Any) -> Recipe:
    objective = objective or ContrastiveObjective()
    return Recipe(
        name="small",
        task=TASKS[type(objective)],
        data=Data(train=train, max_length=32),
        start=Start(**start),
        batch=Batch(rows=4),
        schedule=Schedule(steps=2),
        objective=objective,
        seed=seed,
    )


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    build_tokenizer(VOCAB).save(str(file))
    return str(file)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    documents = [["".join(rng.choice(list(CHARACTERS), 12)) for _ in range(5)] for _ in range(40)]
    path = tmp_path_factory.mktemp("shards") / "corpus"
    tokenizer = Tokenizer(build_tokenizer(VOCAB))
    write_shards(documents, tokenizer, path, words=lambda text: list(text))
    return str(path)


def states(network: Network, tokenizer: Tokenizer, text: str) -> Any:
    with torch.no_grad():
        return network.eval()(torch.tensor(tokenizer.encode([text]).ids))[-1]


def test_random_start(tokenizer_file: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    network, tokenizer = build(recipe(config=SHAPE, tokenizer=tokenizer_file))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.config.vocab_size == tokenizer.vocab_size == len(VOCAB)
    assert tokenizer.max_length == 48 and network.training
    again, other = (build(recipe(config=SHAPE, tokenizer=tokenizer_file, seed=seed))[0] for seed in (0, 1))
    ours, same, different = (
        n.weights()["embeddings.word_embeddings.weight"] for n in (network, again, other)
    )
    assert np.array_equal(ours, same) and not np.array_equal(ours, different)


def test_from_a_folder(tmp_path: Path) -> None:
    weights = random_weights(head="mlm")
    folder = write_small(tmp_path / "mlm", "mlm", weights=weights)
    network, tokenizer = build(recipe(PretrainObjective(), model=str(folder), tokenizer=str(folder)))
    stored = network.weights()
    assert stored.keys() == weights.keys()
    assert all(np.array_equal(stored[name], weights[name]) for name in weights)
    assert tokenizer.vocab == VOCAB
    changed = build(recipe(model=str(folder), config={"hidden_dropout_prob": 0.0}))[0]
    assert changed.config == replace(CONFIG, hidden_dropout_prob=0.0)


@pytest.mark.parametrize(
    ("objective", "mlm", "pooler", "outputs"),
    [
        (PretrainObjective(), True, False, 0),
        (PretrainObjective(sentence_order=True), True, True, 2),
        (ContrastiveObjective(), False, False, 0),
        (ContrastiveObjective(mlp="train", mlm=0.1), True, False, 0),
        (PairObjective(outputs=3), False, True, 3),
        (TopicObjective(), True, False, 0),
        (DistillObjective(teacher="nobody"), False, False, 0),
        (DistillObjective(teacher="nobody", targets="mlm"), True, False, 0),
        (DistillObjective(teacher="jinyi-tiny-pair", targets="pair"), False, True, 1),
    ],
)
def test_heads(objective: Any, mlm: bool, pooler: bool, outputs: int) -> None:
    heads = heads_of(recipe(objective))
    assert (heads.mlm, heads.pooler, heads.outputs) == (mlm, pooler, outputs)


def test_a_classifier_is_kept_only_for_as_many_classes(tmp_path: Path) -> None:
    weights = random_weights(head="classifier", labels=2)
    folder = write_small(tmp_path / "pair", "pair", outputs=2, weights=weights)
    same = build(recipe(PairObjective(outputs=2), model=str(folder)))[0].weights()
    assert np.array_equal(same["classifier.weight"], weights["classifier.weight"])
    other = build(recipe(PairObjective(outputs=3), model=str(folder)))[0].weights()
    assert other["classifier.weight"].shape == (3, 32)
    assert np.array_equal(other["pooler.dense.weight"], weights["pooler.dense.weight"])


def test_a_missing_mlm_head_is_said(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "embed")
    with pytest.warns(UserWarning, match="no masked-language-model head"):
        build(recipe(TopicObjective(), model=str(folder)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(recipe(model=str(folder)))


@pytest.mark.parametrize("base", [CONFIG, MEGATRON])
def test_chosen_layers(tmp_path: Path, base: Any) -> None:
    config = replace(base, num_hidden_layers=4)
    weights = random_weights(config)
    folder = write_small(tmp_path / "deep", "encoder", config=config, weights=weights)
    network = build(recipe(model=str(folder), layers=(3, 1)))[0]
    assert network.config.num_hidden_layers == 2
    stored = network.weights()
    for name, source in (("0.", "3."), ("1.", "1.")):
        key = "attention.self.query.weight"
        assert np.array_equal(stored[f"encoder.layer.{name}{key}"], weights[f"encoder.layer.{source}{key}"])
    even = build(recipe(model=str(folder), config={"num_hidden_layers": 2}))[0].weights()
    key = "encoder.layer.1.output.dense.weight"
    assert np.array_equal(even[key], weights["encoder.layer.3.output.dense.weight"])
    short = build(recipe(model=str(folder), config={"max_position_embeddings": 40}))[0].weights()
    name = "embeddings.position_embeddings.weight"
    assert np.array_equal(short[name], weights[name][:40])


def test_even_layers() -> None:
    assert even_layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert even_layers(3, 3) == (0, 1, 2)
    assert even_layers(24, 1) == (0,)


def test_another_vocabulary(tmp_path: Path) -> None:
    weights = random_weights(head="mlm")
    folder = write_small(tmp_path / "mlm", "mlm", weights=weights)
    smaller = [*VOCAB[:5], *"改密码天气", "##b", "密码", "龙"]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(smaller) + "\n", encoding="utf-8")
    network, tokenizer = build(recipe(PretrainObjective(), model=str(folder), tokenizer=str(file), train=()))
    assert tokenizer.vocab == smaller and network.config.vocab_size == len(smaller)
    stored, name = network.weights(), "embeddings.word_embeddings.weight"
    old = {token: weights[name][i] for i, token in enumerate(VOCAB)}
    for index, token in enumerate(smaller[:-2]):
        assert np.array_equal(stored[name][index], old[token])
        bias = weights["cls.predictions.bias"][VOCAB.index(token)]
        assert stored["cls.predictions.bias"][index] == bias
    # A new word is the mean of its pieces, an unknown one the mean of all rows.
    np.testing.assert_allclose(stored[name][-2], (old["密"] + old["码"]) / 2, rtol=1e-6)
    np.testing.assert_allclose(stored[name][-1], weights[name].mean(0), rtol=1e-4, atol=1e-6)
    # Text of common tokens alone is computed as before.
    before, own = build(recipe(PretrainObjective(), model=str(folder)))
    text = "改天气"
    torch.testing.assert_close(states(network, tokenizer, text), states(before, own, text))


def test_carried_rows_drop_rows_without_a_token() -> None:
    tokenizer = Tokenizer(build_tokenizer(VOCAB))
    rows = np.arange(len(VOCAB) + 7, dtype=np.float32)[:, None]
    assert np.array_equal(carry_rows(rows, tokenizer, tokenizer), rows[: len(VOCAB)])


def test_shards_bring_their_tokenizer_and_refuse_another(shards: str, tmp_path: Path) -> None:
    source = Source(file=shards)
    network, tokenizer = build(recipe(PretrainObjective(), train=(source,), config=SHAPE))
    assert tokenizer.vocab == VOCAB and network.config.vocab_size == len(VOCAB)
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join([*VOCAB[:5], *VOCAB[:4:-1]]) + "\n", encoding="utf-8")
    with pytest.raises(FolderError, match="token 5 is '怎' in the shards and '##2' in the model"):
        build(recipe(PretrainObjective(), train=(source,), config=SHAPE, tokenizer=str(file)))


def test_word_vectors_are_the_leading_directions_of_ppmi(shards: str) -> None:
    from jinyi.train.corpus.shards import Shards

    opened = Shards.open(shards)
    size, width = opened.vocabulary_size, 8
    vectors = beginnings.word_vectors([(opened.ids, opened.sentences)], size, width)
    joint = np.zeros((size, size))
    for first, last in zip(opened.sentences[:-1], opened.sentences[1:], strict=True):
        line = opened.ids[first:last].astype(int)
        for i, a in enumerate(line):
            for step in range(1, 5):
                if i + step < len(line):
                    joint[a, line[i + step]] += 1 / step
                    joint[line[i + step], a] += 1 / step
    context = joint.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.log(joint / np.outer(joint.sum(1), context / context.sum()))
    ppmi = np.where(joint > 0, np.maximum(ppmi, 0), 0)
    values, directions = np.linalg.eigh((ppmi + ppmi.T) / 2)
    best = directions[:, -width:] * np.maximum(values[-width:], 0) @ directions[:, -width:].T
    np.testing.assert_allclose(vectors @ vectors.T, best, atol=2e-4 * np.abs(best).max())
    part = beginnings.word_vectors([(opened.ids, opened.sentences)], size, width, most=600)
    assert part.shape == vectors.shape


def test_ppmi_start(shards: str) -> None:
    source = (Source(file=shards),)
    plain = recipe(PretrainObjective(), train=source, config=SHAPE, words="ppmi")
    network = build(plain)[0]
    weights = network.weights()
    words = weights["embeddings.word_embeddings.weight"]
    assert words.std() == pytest.approx(0.04, rel=0.01)
    assert np.array_equal(build(plain)[0].weights()["embeddings.word_embeddings.weight"], words)
    # The bias is the logarithm of the tokens' shares: likely tokens above unlikely ones.
    bias = weights["cls.predictions.bias"]
    assert bias[VOCAB.index("怎")] > bias[VOCAB.index("[PAD]")]
    both = build(replace(plain, start=replace(plain.start, heads="neighbours")))[0].weights()
    places = both["embeddings.position_embeddings.weight"]
    assert np.abs(both["embeddings.word_embeddings.weight"] @ places.T).max() < 1e-5


@pytest.mark.parametrize("pre_layer_norm", [False, True])
@pytest.mark.parametrize("shape", [(312, 12), (128, 4)])
def test_neighbour_heads_look_at_their_place(
    tokenizer_file: str, shape: tuple[int, int], pre_layer_norm: bool
) -> None:
    width, heads = shape
    config = SHAPE | {"hidden_size": width, "num_attention_heads": heads, "pre_layer_norm": pre_layer_norm}
    network, _ = build(recipe(config=config, tokenizer=tokenizer_file, heads="neighbours"))
    generator = torch.Generator().manual_seed(0)
    weights, places = _attention(network, torch.randint(5, len(VOCAB), (4, 48), generator=generator))
    for head, offset in enumerate(beginnings.OFFSETS[: heads // 2]):
        inner = torch.arange(4, 44)
        looked = weights[:, head, inner].argmax(-1)
        assert (looked == inner + offset).float().mean() > 0.9, (head, offset)
    assert places == width // heads


def _attention(network: Network, ids: Any, segments: Any = None) -> tuple[Any, int]:
    """Attention weights of the first layer [B, heads, L, L]."""
    config, layer = network.config, network.encoder.encoder.layer[0]
    with torch.no_grad():
        x = network.eval()(ids, None, segments)[0]
        x = layer.attention.ln(x) if config.pre_layer_norm else x
        shape = (*ids.shape, config.num_attention_heads, config.head_size)
        query, key = (
            part(x).view(shape).transpose(1, 2)
            for part in (layer.attention.self.query, layer.attention.self.key)
        )
        return (query @ key.transpose(-1, -2) / config.head_size**0.5).softmax(-1), config.head_size


@pytest.mark.parametrize("pre_layer_norm", [False, True])
def test_matching_heads_look_for_the_same_token_in_the_other_text(
    tokenizer_file: str, pre_layer_norm: bool
) -> None:
    config = SHAPE | {"hidden_size": 96, "num_attention_heads": 6, "pre_layer_norm": pre_layer_norm}
    network, _ = build(recipe(PairObjective(), config=config, tokenizer=tokenizer_file))
    with torch.no_grad():  # as in a trained model, where words count for more than places
        network.encoder.embeddings.word_embeddings.weight.mul_(8)
    beginnings.begin_matching(network.encoder)
    generator = torch.Generator().manual_seed(0)
    first = torch.stack([torch.randperm(len(VOCAB) - 5, generator=generator)[:12] + 5 for _ in range(8)])
    order = torch.randperm(12, generator=generator)
    ids = torch.cat((first, first[:, order]), 1)
    segments = torch.cat((torch.zeros_like(first), torch.ones_like(first)), 1)
    weights, _ = _attention(network, ids, segments)
    partner = 12 + order.argsort()
    for head in (3, 4):
        looked = weights[:, head, :12].argmax(-1)
        assert (looked == partner).float().mean() > 0.9
    random = weights[:, 0, :12].argmax(-1)
    assert (random == partner).float().mean() < 0.4


@pytest.mark.parametrize("name", ["embed", "megatron"])
def test_pooling_start_makes_the_last_cls_a_mean(small_folders: Path, name: str) -> None:
    before, tokenizer = build(recipe(model=str(small_folders / name)))
    after, _ = build(recipe(model=str(small_folders / name), last_layer="pooling"))
    ids = torch.tensor(tokenizer.encode(["怎么改密码，今天天气很好"]).ids)
    with torch.no_grad():
        mean = before.eval()(ids)[1].mean(1)
        near, far = after.eval()(ids)[-1][:, 0], before(ids)[-1][:, 0]
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(near, mean).item() > 0.8 > cosine(far, mean).item()


@pytest.mark.parametrize(
    ("start", "where"),
    [
        ({"layers": (0,)}, "start.layers"),
        ({"config": SHAPE}, "start.tokenizer"),
        ({"config": SHAPE, "tokenizer": "no/such/folder"}, "start.tokenizer"),
        ({"config": SHAPE | {"hidden": 3}}, "start.config.hidden"),
        ({"config": {"hidden_size": 32}}, "start.config"),
        ({"config": SHAPE | {"vocab_size": 9}}, "start.config.vocab_size"),
        ({"config": SHAPE, "words": "ppmi"}, "start.words"),
        ({"config": SHAPE | {"max_position_embeddings": 16}}, "data.max_length"),
        ({"config": SHAPE | {"type_vocab_size": 1}, "heads": "matching"}, "start.heads"),
    ],
)
def test_contradictions_without_a_model(tokenizer_file: str, start: dict[str, Any], where: str) -> None:
    if where != "start.tokenizer":
        start = {"tokenizer": tokenizer_file} | start
    with pytest.raises(InputError) as error:
        build(recipe(**start))
    assert error.value.where == where


@pytest.mark.parametrize(
    ("start", "where"),
    [
        ({"layers": (0, 2)}, "start.layers"),
        ({"layers": (0,), "config": {"num_hidden_layers": 2}}, "start.config.num_hidden_layers"),
        ({"config": {"num_hidden_layers": 3}}, "start.config.num_hidden_layers"),
        ({"config": {"hidden_size": 64}}, "start.config.hidden_size"),
        ({"config": {"hidden_dropout_prob": 2}}, "start.config"),
        ({"config": {"max_position_embeddings": 512}}, "start.config.max_position_embeddings"),
        ({"words": "ppmi"}, "start.words"),
        ({"heads": "neighbours"}, "start.heads"),
    ],
)
def test_contradictions_with_a_model(small_folders: Path, start: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as error:
        build(recipe(model=str(small_folders / "embed"), **start))
    assert error.value.where == where


def test_a_teacher_of_pairs_needs_classes(small_folders: Path) -> None:
    with pytest.raises(FolderError, match="without a classifier"):
        heads_of(recipe(DistillObjective(teacher=str(small_folders / "embed"), targets="pair")))


def test_extras_are_trained_but_not_written(tokenizer_file: str) -> None:
    network, _ = build(recipe(config=SHAPE, tokenizer=tokenizer_file))
    plain = network.weights().keys()
    network.extras["map"] = torch.nn.Linear(32, 8)
    assert network.weights().keys() == plain
    assert any(name.startswith("extras.map") for name, _ in network.named_parameters())
    assert network.load(network.weights()) == []


def test_read_back(tmp_path: Path, tokenizer_file: str) -> None:
    """What is built can be written: no weight is missing, none too many."""
    network, tokenizer = build(recipe(PairObjective(outputs=2), config=SHAPE, tokenizer=tokenizer_file))
    folder = write_small(
        tmp_path / "out",
        "pair",
        config=network.config,
        weights=network.weights(),
        tokenizer=tokenizer,
        labels=["not similar", "similar"],
    )
    assert read_folder(folder).n_labels == 2


@pytest.mark.slow
def test_large_step_runs() -> None:
    """The benchmark of the 1.3B step, at a size that takes seconds."""
    script = Path(__file__).parent.parent / "benchmarks" / "large_step.py"
    small = ["--layers", "2", "--width", "64", "--heads", "4", "--vocabulary", "8000", "--threads", "1"]
    done = subprocess.run([sys.executable, script, *small], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["steps"]) == 2 and result["parameters"] > 500_000
