"""Recipes from YAML and back; single values set from outside.

recipe = read("recipes/afqmc.yaml", sets=["optimizer.lr=1e-4", "schedule.steps=100"], data="corpora")
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from jinyi.errors import InputError, shorten
from jinyi.train.recipe import TASKS, Recipe, rules, typed

FAMILIAR = {
    "learning_rate": "optimizer.lr",
    "max_grad_norm": "optimizer.clip",
    "batch_size": "batch.rows",
    "per_device_train_batch_size": "batch.rows",
    "train_batch_size": "batch.rows",
    "gradient_accumulation_steps": "batch.accumulate",
    "num_train_epochs": "schedule.epochs",
    "num_epochs": "schedule.epochs",
    "max_steps": "schedule.steps",
    "warmup_ratio": "schedule.warmup",
    "warmup_steps": "schedule.warmup",
    "lr_scheduler_type": "schedule.shape",
    "eval_steps": "evaluation.every",
    "metric_for_best_model": "evaluation.metric",
    "save_steps": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "max_seq_length": "data.max_length",
    "model_name_or_path": "start.model",
    "model_name": "start.model",
    "gradient_checkpointing": "machine.checkpointing",
    "fp16": "machine.precision",
    "bf16": "machine.precision",
    "num_labels": "objective.outputs",
    "label_smoothing_factor": "objective.smoothing",
    "mlm_probability": "objective.rate",
}
"""What other trainers call our keys, for messages."""

EXCLUSIVE = (("batch.rows", "batch.tokens"), ("schedule.steps", "schedule.epochs"))
"""Keys of which a recipe has exactly one: setting one from outside takes the other away."""


def read(
    path: str | os.PathLike[str], *, sets: Sequence[str] = (), data: str | os.PathLike[str] | None = None
) -> Recipe:
    """Read a recipe and check all that can be checked without its data.

    Args:
        path: YAML file.
        sets: changes as for `override`, applied in their order.
        data: folder of the data files; takes the place of `data.folder`.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest known one), a wrong type, a value out of
            range, or parts that do not go together; `where` names file, line and key.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            where=str(file),
            found=f"no readable recipe: {error.strerror if isinstance(error, OSError) else error}",
            expected="a YAML file in UTF-8",
            fix="Check the path; recipes of the known models lie in the folder recipes/.",
        ) from error
    return parse(text, sets=sets, data=data, where=str(file))


def parse(
    text: str,
    *,
    sets: Sequence[str] = (),
    data: str | os.PathLike[str] | None = None,
    where: str = "recipe",
) -> Recipe:
    """As `read`, from the text of a recipe; `where` is what messages call it."""
    raw, lines = _load(text, where)
    if not isinstance(raw, dict):
        raise InputError(
            where=where,
            found=shorten(raw) if raw is not None else "an empty recipe",
            expected="a mapping of keys to values",
            fix="Begin from one of the recipes in recipes/; docs/training.md explains every key.",
        )
    raw = _short_sources(raw)
    changed = {}
    for assignment in sets:
        raw = override(raw, assignment)
        changed[assignment.partition("=")[0].strip()] = assignment
    if data is not None:
        raw = override(raw, "data.folder=null")
        raw["data"]["folder"] = str(data)

    def place(path: str) -> str:
        for key in reversed(changed):
            new = path not in lines and key.startswith(path + ".")
            if path == key or path.startswith(key + ".") or (path and new):
                return f"--set {changed[key]}: {path}"
        key = path
        while key and key not in lines:
            key = key.rpartition(".")[0]
        return f"{where}:{lines[key]}: {path}" if key else f"{where}: {path}".rstrip(": ")

    recipe = from_plain(raw, place=place)
    rules.check(recipe, place)
    return recipe


def from_plain(raw: Mapping[str, Any], *, place: typed.Place = str) -> Recipe:
    """Make a recipe from nested dicts and lists. Types are checked, `rules.check` is not run.

    Raises:
        InputError: an unknown or missing key, or a wrong type.
    """
    task = raw.get("task")
    objective = TASKS.get(task, Any) if isinstance(task, str) else Any
    recipe: Recipe = typed.build(
        Recipe,
        {"objective": {}, **_short_sources(raw)},
        place=place,
        kinds={"objective": objective},
        elsewhere=_elsewhere(objective),
    )
    return recipe


def override(raw: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """Return the raw recipe with one value set; the given one is not changed.

    Args:
        raw: nested dicts and lists.
        assignment: `optimizer.lr=1e-4`: a dotted key, where a number is a place in a list (`data.train.0.limit=100`),
            and a value in YAML (`[a, b]`, `{a: 1}`, `null`). Of batch.rows and batch.tokens, and of schedule.steps and
            schedule.epochs, the one not set is taken away.

    Raises:
        InputError: no equals sign, no YAML, or a key that goes through a value or past the end of a list.
    """
    key, equals, text = assignment.partition("=")
    key = key.strip()
    where = f"--set {assignment}"
    if not equals or not all(key.split(".")):
        raise InputError(
            where=where, found="no KEY=VALUE", expected="such as optimizer.lr=1e-4", fix="Write it like that."
        )
    value, _ = _load(text, where)
    out: dict[str, Any] = copy.deepcopy(dict(raw))
    *parents, last = key.split(".")
    at: Any = out
    for name in parents:
        at = _step(at, name, where)
    if isinstance(at, list):
        at[_index(at, last, where)] = value
    else:
        at[last] = value
    for pair in EXCLUSIVE:
        if key in pair and value is not None:
            other = pair[key == pair[0]].split(".")
            section = out.get(other[0])
            if isinstance(section, dict):
                section.pop(other[1], None)
    return out


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML, every key written out; `parse(dump(recipe)) == recipe`."""
    text: str = yaml.safe_dump(typed.plain(recipe), allow_unicode=True, sort_keys=False, width=110)
    return text


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as {dotted key: value}."""
    return typed.flat(typed.plain(recipe))


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Return the dotted keys in which two recipes differ, in the order of the recipe."""
    a, b = flatten(one), flatten(other)
    absent = object()
    return [key for key in {**a, **b} if a.get(key, absent) != b.get(key, absent)]


def fingerprint(recipe: Recipe, *, without: Collection[str] = ()) -> str:
    """Return the SHA-256 of the recipe's content, as 64 hexadecimal digits.

    Args:
        recipe: the recipe.
        without: dotted keys, of values or of whole sections, that do not count.
    """
    kept = {
        key: value
        for key, value in flatten(recipe).items()
        if not any(key == name or key.startswith(name + ".") for name in without)
    }
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _load(text: str, where: str) -> tuple[Any, dict[str, int]]:
    """Value of a YAML text, and the line of every dotted key in it."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        _lines(node, "", lines, where)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            where=f"{where}:{mark.line + 1}" if mark else where,
            found=f"no YAML: {getattr(error, 'problem', None) or error}",
            expected="keys and values",
            fix="Texts with : # or [ in them need quotes; sections are indented by blanks.",
        ) from error
    finally:
        loader.dispose()


def _lines(node: yaml.Node | None, path: str, lines: dict[str, int], where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            if name in seen and key.value != "<<":
                raise InputError(
                    where=f"{where}:{key.start_mark.line + 1}: {name}",
                    found="the key a second time",
                    expected="every key once",
                    fix="Take one of them away; the earlier one would be lost.",
                )
            seen.add(name)
            lines[name] = key.start_mark.line + 1
            _lines(value, name, lines, where)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            name = f"{path}.{number}"
            lines[name] = value.start_mark.line + 1
            _lines(value, name, lines, where)


def _short_sources(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The raw recipe with a source {"file": name} where the name of a file stands alone."""
    data = raw.get("data")
    if not isinstance(data, Mapping):
        return dict(raw)
    full = {
        key: [{"file": source} if isinstance(source, str) else source for source in value]
        for key, value in data.items()
        if key in ("train", "dev") and isinstance(value, list)
    }
    return {**raw, "data": {**data, **full}}


def _elsewhere(objective: Any) -> dict[str, str]:
    """What key may be meant by a name that stands in the wrong place, or comes from other trainers."""
    sections = {**get_type_hints(Recipe), "objective": objective}
    ours = {
        name: f"{section}.{name}"
        for section, kind in sections.items()
        for name in getattr(kind, "__dataclass_fields__", ())
    }
    return {**FAMILIAR, **ours}


def _step(at: Any, name: str, where: str) -> Any:
    if isinstance(at, list):
        return at[_index(at, name, where)]
    if at.get(name) is None:
        at[name] = {}
    if not isinstance(at[name], (dict, list)):
        raise InputError(
            where=where,
            found=f"{name} = {shorten(at[name])}, a value",
            expected="a section or a list on the way to the key",
            fix="Check the dotted key.",
        )
    return at[name]


def _index(at: list[Any], name: str, where: str) -> int:
    if name.isdecimal() and int(name) < len(at):
        return int(name)
    raise InputError(
        where=where,
        found=f"place {shorten(name)} in a list of {len(at)}",
        expected=f"a number from 0 to {len(at) - 1}" if at else "a list that is not empty",
        fix="Set the whole list, or count from 0.",
    )
