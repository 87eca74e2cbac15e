"""The shape of the network a recipe begins with."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from jinyi.config import EncoderConfig
from jinyi.errors import FolderError, InputError, shorten
from jinyi.folder import ModelFolder
from jinyi.tokens import Tokenizer
from jinyi.train.recipe import Recipe, Start
from jinyi.train.start.shrink import even_layers

_CHANGEABLE = (
    "num_hidden_layers",
    "max_position_embeddings",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
)


def new_shape(recipe: Recipe, tokenizer: Tokenizer) -> EncoderConfig:
    """Return the shape of a network of random weights: `start.config`, with as many rows as the tokenizer has ids.

    Raises:
        InputError: a field that does not exist, a size that is missing or unusable, or fewer rows than ids.
    """
    given = dict(recipe.start.config)
    _known_keys(given, tuple(EncoderConfig.__dataclass_fields__), "")
    base = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
    try:
        config = EncoderConfig.from_dict({**base, **given})
    except FolderError as error:
        raise contradiction(
            "start.config", error.found, error.expected, "Correct the recipe, or name a start.model."
        ) from error
    if config.vocab_size < tokenizer.vocab_size:
        raise contradiction(
            "start.config.vocab_size",
            str(config.vocab_size),
            f"at least {tokenizer.vocab_size}, the tokens of the tokenizer",
            "Leave it out.",
        )
    return config


def changed_shape(recipe: Recipe, folder: ModelFolder) -> EncoderConfig:
    """Return the shape of the model a recipe starts from, with what `start.config` and `start.layers` change.

    Raises:
        InputError: a field that cannot be changed, layers the model does not have, or more positions than it has.
    """
    given, own = dict(recipe.start.config), folder.config
    _known_keys(given, _CHANGEABLE, "; the other sizes are the model's own")
    layers = chosen_layers(recipe, own)
    if own.num_hidden_groups is not None and layers != tuple(range(own.num_hidden_layers)):
        raise contradiction(
            "start.layers",
            f"{len(layers)} of {own.num_hidden_layers} layers of an ALBERT",
            "all of them: they share their weights",
            "Leave out start.layers and num_hidden_layers; fewer would save time, but no weight.",
        )
    if given.get("num_hidden_layers", len(layers)) != len(layers):
        raise contradiction(
            "start.config.num_hidden_layers",
            f"{shorten(given['num_hidden_layers'])} with {len(layers)} start.layers",
            "one of the two, or both the same",
            "Leave out num_hidden_layers.",
        )
    try:
        config = replace(own, **{**given, "num_hidden_layers": len(layers)})
    except FolderError as error:
        raise contradiction("start.config", error.found, error.expected, "Correct the recipe.") from error
    if config.max_position_embeddings > own.max_position_embeddings:
        raise contradiction(
            "start.config.max_position_embeddings",
            str(config.max_position_embeddings),
            f"at most {own.max_position_embeddings}, those of {folder.path}",
            "Lower it: further positions would have learned nothing.",
        )
    return config


def check_suited(recipe: Recipe, config: EncoderConfig) -> None:
    """Check that nothing in the recipe is meant for another architecture.

    The prepared starts write into position embeddings, layers of their own and word vectors as wide as the layers,
    which ALBERT and RoFormer do not all have.

    Raises:
        InputError: `start.words`, `heads` or `last_layer` with one of them, or `machine.fsdp` with an ALBERT.
    """
    if config.model_type not in ("albert", "roformer"):
        return
    start, usual = recipe.start, Start()
    for name in ("words", "heads", "last_layer"):
        if getattr(start, name) != getattr(usual, name):
            raise contradiction(
                f"start.{name}",
                f"{getattr(start, name)!r} with {config.architecture}",
                "it with BERT or MegatronBERT only",
                f"Leave out start.{name}.",
            )
    if recipe.machine.fsdp and config.num_hidden_groups is not None:
        raise contradiction(
            "machine.fsdp",
            "it with an ALBERT, whose layers share their weights",
            "each process to hold all of its few weights",
            "Leave out machine.fsdp.",
        )


def _known_keys(given: dict[str, object], known: tuple[str, ...], rest: str) -> None:
    for key, value in given.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            raise contradiction(
                f"start.config.{key}",
                f"{key} = {shorten(value)}",
                f"one of {', '.join(known)}{rest}",
                f"Did you mean {close[0]}?" if close else "Leave it out.",
            )


def chosen_layers(recipe: Recipe, config: EncoderConfig) -> tuple[int, ...]:
    """Return which layers of a model are kept: `start.layers`, or evenly spaced ones, or all.

    Raises:
        InputError: the model does not have them.
    """
    count, layers = config.num_hidden_layers, recipe.start.layers
    if layers is None:
        keep = recipe.start.config.get("num_hidden_layers", count)
        if isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= count:
            raise contradiction(
                "start.config.num_hidden_layers",
                shorten(keep),
                f"a whole number from 1 to {count}, the layers of the model",
                "Lower it.",
            )
        return even_layers(count, keep)
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong or not layers:
        raise contradiction(
            "start.layers",
            f"{list(layers)}",
            f"numbers from 0 to {count - 1}, the layers of {recipe.start.model}",
            "Correct the recipe; layers are counted from 0.",
        )
    return layers


def contradiction(where: str, found: str, expected: str, fix: str) -> InputError:
    """Return the error for a place in the recipe."""
    return InputError(where=where, found=found, expected=expected, fix=fix)
