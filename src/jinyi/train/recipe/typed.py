"""Plain data (what YAML gives) made into dataclasses, with every type checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jinyi.errors import InputError, shorten

Place = Callable[[str], str]
"""Says where a dotted key was written: file and line, or the option."""

_NOWHERE: Mapping[str, str] = types.MappingProxyType({})


def build(
    cls: type[Any],
    raw: object,
    path: str = "",
    *,
    place: Place = str,
    kinds: Mapping[str, Any] | None = None,
    elsewhere: Mapping[str, str] = _NOWHERE,
) -> Any:
    """Make a dataclass from a mapping.

    Numbers in text count as numbers ("2e-5", which YAML 1.1 takes for text); nothing else is converted.

    Args:
        cls: the dataclass.
        raw: mapping of field names to plain values.
        path: dotted key of this section.
        place: for error messages.
        kinds: types of fields that take precedence over the annotations.
        elsewhere: the dotted key that is meant by a name which is not known in its place.

    Raises:
        InputError: an unknown or missing key or a wrong type; `where` names the key.
    """
    if not isinstance(raw, Mapping):
        raise _wrong(path, raw, "a mapping of keys to values", place)
    hints = {**get_type_hints(cls), **(kinds or {})}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in raw:
        if key not in fields:
            raise unknown_key(path, key, list(fields), place, elsewhere)
    values = {
        name: convert(hints[name], raw[name], _join(path, name), place=place, elsewhere=elsewhere)
        for name in fields
        if name in raw
    }
    missing = [name for name, field in fields.items() if name not in raw and _required(field)]
    if missing:
        raise InputError(
            where=place(path),
            found=f"no {', '.join(_join(path, name) for name in missing)}",
            expected="a value for each",
            fix="Add it.",
        )
    return cls(**values)


def convert(
    kind: Any, raw: object, path: str, *, place: Place = str, elsewhere: Mapping[str, str] = _NOWHERE
) -> Any:
    """Return `raw` as a value of the annotated type `kind`; arguments as for `build`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return raw
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in arguments:
            return None
        (inner,) = (part for part in arguments if part is not type(None))
        return convert(inner, raw, path, place=place, elsewhere=elsewhere)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return build(kind, raw, path, place=place, elsewhere=elsewhere)
    if origin is Literal:
        if raw not in arguments or isinstance(raw, bool):
            near = f" Did you mean {nearest(str(raw), arguments)}?" if isinstance(raw, str) else ""
            raise _wrong(path, raw, f"one of {', '.join(arguments)}", place, f"Choose one of them.{near}")
        return raw
    if origin is tuple:
        return _tuple(arguments, raw, path, place, elsewhere)
    if origin in (dict, Mapping):
        if not isinstance(raw, Mapping):
            raise _wrong(path, raw, "a mapping of keys to values", place)
        inner = arguments[1]
        return {
            _key(key, path, place): convert(inner, value, _join(path, str(key)), place=place)
            for key, value in raw.items()
        }
    return _scalar(kind, raw, path, place)


def plain(value: Any) -> Any:
    """Return dataclasses, mappings and tuples as dicts and lists, which YAML and JSON can write."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return plain data as {dotted key: value}; places in lists count as keys, from 0."""
    if isinstance(value, Mapping) and value:
        items: Any = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)
    else:
        return {path: value}
    out: dict[str, Any] = {}
    for key, part in items:
        out.update(flat(part, _join(path, str(key))))
    return out


def unknown_key(
    path: str, key: object, known: Sequence[str], place: Place = str, elsewhere: Mapping[str, str] = _NOWHERE
) -> InputError:
    """The error for a key that is not known in section `path`; names the nearest one that is."""
    name = str(key)
    close = difflib.get_close_matches(name, known, n=1)
    best = _join(path, close[0] if close else nearest(name, known))
    if not close:
        best = elsewhere.get(name, best)
    return InputError(
        where=place(_join(path, name)),
        found=f"an unknown key {shorten(name)}" + (f" in {path}" if path else ""),
        expected=f"one of {', '.join(known)}",
        fix=f"The nearest known key is {best}.",
    )


def nearest(name: str, known: Sequence[Any]) -> str:
    """The one of `known` (not empty) that is most like `name`."""
    return difflib.get_close_matches(name, list(map(str, known)), n=1, cutoff=0.0)[0]


def _tuple(
    arguments: Any, raw: object, path: str, place: Place, elsewhere: Mapping[str, str]
) -> tuple[Any, ...]:
    if not isinstance(raw, (list, tuple)):
        raise _wrong(path, raw, "a list", place, "Write [a, b] or one line for each, beginning with a dash.")
    inner = [arguments[0]] * len(raw) if arguments[-1] is Ellipsis else list(arguments)
    if len(raw) != len(inner):
        raise _wrong(path, raw, f"a list of {len(inner)} values", place)
    return tuple(
        convert(kind, part, _join(path, str(number)), place=place, elsewhere=elsewhere)
        for number, (kind, part) in enumerate(zip(inner, raw, strict=True))
    )


def _scalar(kind: Any, raw: object, path: str, place: Place) -> Any:
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is str:
        if isinstance(raw, str):
            return raw
        raise _wrong(path, raw, "text", place, "Put it into quotes if text is meant.")
    if kind in (int, float) and not isinstance(raw, bool):
        number = _number(raw)
        if number is not None and kind is float:
            return float(number)
        if number is not None and number == int(number):
            return int(number)
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    raise _wrong(path, raw, names[kind], place)


def _number(raw: object) -> float | int | None:
    if isinstance(raw, str):
        try:
            raw = float(raw)
        except ValueError:
            return None
    return raw if isinstance(raw, (int, float)) and math.isfinite(raw) else None


def _key(key: object, path: str, place: Place) -> str:
    """Keys such as 0 or 1.5 count as their text; true, no and off were words before YAML read them."""
    if isinstance(key, bool) or key is None or not isinstance(key, (str, int, float)):
        raise _wrong(path, key, "keys that are text or numbers", place, f"Put {key!r} into quotes.")
    return str(key)


def _wrong(
    path: str, raw: object, expected: str, place: Place, fix: str = "Correct the value."
) -> InputError:
    kind = "nothing" if raw is None else f"{shorten(raw)} ({type(raw).__name__})"
    return InputError(where=place(path), found=kind, expected=expected, fix=fix)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
