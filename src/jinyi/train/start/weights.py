"""Weights before the first step: from a model folder, from chosen layers of it, with another vocabulary, or random.

`build(recipe)` is how every task gets its network and tokenizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from jinyi.errors import FolderError, InputError, ModelNotFoundError, shorten
from jinyi.folder import ModelFolder, read_folder
from jinyi.folder.weights import CLASSIFIER, MLM_BIAS
from jinyi.registry import find_model, locate
from jinyi.tokens import Tokenizer
from jinyi.train.corpus.shards import Shards
from jinyi.train.data.rows import source_path
from jinyi.train.network import Network
from jinyi.train.recipe import (
    ClassesObjective,
    ContrastiveObjective,
    DistillObjective,
    PairObjective,
    PretrainObjective,
    Recipe,
    TopicObjective,
)
from jinyi.train.start import beginnings
from jinyi.train.start.shape import changed_shape, check_suited, chosen_layers, contradiction, new_shape
from jinyi.train.start.shrink import FittedWeights


@dataclass(frozen=True)
class Heads:
    """Which heads a network has; the keyword arguments of `Network`."""

    mlm: bool = False
    pooler: bool = False
    outputs: int = 0
    dropout: float = 0.0


@dataclass(frozen=True, eq=False)
class _Origin:
    """The model a recipe starts from."""

    folder: ModelFolder
    tokenizer: Tokenizer


def build(recipe: Recipe) -> tuple[Network, Tokenizer]:
    """Make the network a recipe begins with.

    Args:
        recipe: its `start`, `seed`, `task` with `objective`; shards among its training files are opened.

    Returns:
        The network on the CPU, in float32 and in training mode, and the tokenizer of its vocabulary, whose
        `max_length` are the positions of the encoder. The same recipe gives the same weights; the random numbers of
        the caller go on as they were.

    Raises:
        InputError: the start contradicts itself or the rest of the recipe.
        FolderError, ModelNotFoundError: a folder the recipe names is missing or damaged, or shards were made with
            another tokenizer.

    Memory: the weights once, 4 bytes each, and the largest tensor once more. `words: ppmi` reads the shards; see
    `beginnings.word_vectors`.
    """
    _check(recipe)
    heads = heads_of(recipe)
    origin = _origin(recipe, heads)
    tokenizer = _tokenizer(recipe, origin)
    if origin is None:
        config = new_shape(recipe, tokenizer)
    else:
        config = changed_shape(recipe, origin.folder)
        if not _same_vocabulary(origin.tokenizer, tokenizer):
            config = replace(config, vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
    check_suited(recipe, config)
    if recipe.data.max_length > config.max_position_embeddings:
        raise contradiction(
            "data.max_length",
            str(recipe.data.max_length),
            f"at most {config.max_position_embeddings}, the positions of the encoder",
            "Lower it, or start with more positions.",
        )
    tokenizer.max_length = config.max_position_embeddings
    for shards in _shards(recipe):
        shards.check_tokenizer(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(config, **asdict(heads))
    if origin is not None:
        _load(network, origin, tokenizer, chosen_layers(recipe, origin.folder.config))
    _begin(network, recipe)
    network.encoder.checkpointing = recipe.machine.checkpointing
    return network.train(), tokenizer


def heads_of(recipe: Recipe) -> Heads:
    """Return the heads that a task trains. Those the model started from has keep their weights, others are random.

    | task | heads |
    |---|---|
    | pretrain | MLM; with `sentence_order` also pooler and two classes |
    | contrastive | MLM with `mlm` above 0 |
    | pair | pooler and `outputs` classes |
    | classes | pooler and a class for each label |
    | topic | MLM |
    | distill | those of the target: none for vectors and similarities; pooler and the teacher's classes; MLM |

    Raises:
        FolderError, ModelNotFoundError: the teacher of `targets: pair` is missing or has no classifier.
    """
    match recipe.objective:
        case PretrainObjective(sentence_order=order):
            return Heads(mlm=True, pooler=order, outputs=2 if order else 0)
        case ContrastiveObjective(mlm=mlm):
            return Heads(mlm=mlm > 0)
        case PairObjective(outputs=outputs, dropout=dropout):
            return Heads(pooler=True, outputs=outputs, dropout=dropout)
        case ClassesObjective(labels=labels, dropout=dropout):
            return Heads(pooler=True, outputs=len(labels), dropout=dropout)
        case TopicObjective():
            return Heads(mlm=True)
        case DistillObjective(targets="pair", teacher=teacher):
            found = locate(teacher)
            classes = read_folder(found.path, facts=found.facts).n_labels
            if not classes:
                raise FolderError(
                    where=f"objective.teacher = {teacher}",
                    found="a model without a classifier",
                    expected="a pair model, as `targets: pair` says",
                    fix="Name a pair model, or imitate vectors or mlm.",
                )
            return Heads(pooler=True, outputs=classes)
        case DistillObjective(targets=targets):
            return Heads(mlm=targets == "mlm")
    raise TypeError(f"no task has the objective {type(recipe.objective).__name__}")


def _check(recipe: Recipe) -> None:
    start = recipe.start
    if start.model is None:
        if start.layers is not None:
            raise contradiction(
                "start.layers",
                f"{list(start.layers)} without start.model",
                "layers of a model",
                "Name the model, or give num_hidden_layers in start.config.",
            )
        return
    for key, value in (("words", start.words), ("heads", start.heads)):
        if value in ("ppmi", "neighbours"):
            raise contradiction(
                f"start.{key}",
                f"{value!r} with start.model",
                "it with random weights only: it would overwrite what the model has learned",
                f"Leave out start.{key} or start.model.",
            )


def _origin(recipe: Recipe, heads: Heads) -> _Origin | None:
    if recipe.start.model is None:
        return None
    found = locate(recipe.start.model)
    # Any folder opens as an encoder; as a masked language model its decoder is checked to be tied.
    folder = read_folder(found.path, task="encoder", facts=found.facts)
    if heads.mlm and MLM_BIAS in folder.weights():
        folder = read_folder(found.path, task="mlm", facts=found.facts)
    elif heads.mlm:
        warnings.warn(
            f"{found.path} has no masked-language-model head: training begins with a random one.",
            stacklevel=3,
        )
    return _Origin(folder, Tokenizer.from_folder(folder.tokenizer_file.parent))


def _tokenizer(recipe: Recipe, origin: _Origin | None) -> Tokenizer:
    if recipe.start.tokenizer is not None:
        return _named_tokenizer(recipe.start.tokenizer)
    if origin is not None:
        return Tokenizer(origin.tokenizer.backend)
    shards = next(_shards(recipe), None)
    if shards is None:
        raise contradiction(
            "start.tokenizer",
            "nothing",
            "the tokenizer of a network that begins with random weights",
            "Name a folder, a tokenizer.json or a vocab.txt.",
        )
    return shards.tokenizer


def _named_tokenizer(named: str) -> Tokenizer:
    path = Path(named).expanduser()
    if path.is_file():
        return Tokenizer.from_vocab(path) if path.suffix == ".txt" else Tokenizer.from_file(path)
    try:
        folder = find_model(named)
    except ModelNotFoundError as error:
        raise InputError(
            where="start.tokenizer",
            found=f"no file, folder or model {shorten(named, 80)}",
            expected="a folder with a tokenizer, a tokenizer.json, a vocab.txt or the name of a model",
            fix="Correct the path; relative ones begin in the working directory.",
        ) from error
    return Tokenizer.from_folder(folder)


def _shards(recipe: Recipe) -> Iterator[Shards]:
    for source in recipe.data.train:
        if source.kind == "shards" or (source.kind is None and recipe.task == "pretrain"):
            yield Shards.open(source_path(source, recipe.data))


def _same_vocabulary(one: Tokenizer, other: Tokenizer) -> bool:
    return one.vocab == other.vocab


def _load(network: Network, origin: _Origin, tokenizer: Tokenizer, layers: tuple[int, ...]) -> None:
    folder, config = origin.folder, network.config
    outputs = 0 if network.classifier is None else network.classifier.out_features
    network.load(
        FittedWeights(
            folder.weights(),
            layers=layers,
            positions=config.max_position_embeddings,
            vocabularies=None
            if _same_vocabulary(origin.tokenizer, tokenizer)
            else (origin.tokenizer, tokenizer),
            # A classifier of other classes has nothing to say on these.
            without=() if folder.n_labels == outputs else (CLASSIFIER.split(".")[0],),
        )
    )


def _begin(network: Network, recipe: Recipe) -> None:
    """Give parts of the network their own start."""
    start, encoder = recipe.start, network.encoder
    if start.words == "ppmi":
        shards = list(_shards(recipe))
        if not shards:
            raise contradiction(
                "start.words",
                "'ppmi' without training shards",
                "token shards among data.train: word vectors are counted in them",
                "Make them with jinyi corpus shard, or leave out start.words.",
            )
        width = beginnings.word_width(network.config, neighbours=start.heads == "neighbours")
        corpus = [(part.ids, part.sentences) for part in shards]
        vectors = beginnings.word_vectors(corpus, network.config.vocab_size, width, seed=recipe.seed)
        beginnings.begin_words(encoder, torch.from_numpy(vectors), neighbours=start.heads == "neighbours")
        if network.mlm is not None:
            beginnings.begin_bias(network.mlm, corpus)
    elif start.heads == "neighbours":
        beginnings.begin_words(encoder, None, neighbours=True)
    if start.heads == "neighbours":
        beginnings.begin_neighbours(encoder)
    if start.heads == "matching":
        beginnings.begin_matching(encoder, seed=recipe.seed)
    if start.last_layer == "pooling":
        beginnings.begin_pooling(encoder)
