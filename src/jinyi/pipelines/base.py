"""What all pipelines share: the options of a call, one input or many, and streams."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from jinyi.arguments import whole_number
from jinyi.batches import chunks
from jinyi.errors import InputError, shorten
from jinyi.models.common import as_list, check_truncate
from jinyi.models.source import Source

STREAM_BLOCK = 1024  # inputs of a stream that are computed at a time


@dataclass(frozen=True)
class Reading:
    """The options that every pipeline takes, in `pipeline(...)` for all calls or in one call.

    Args:
        truncate: what happens to texts that are too long: "warn" cuts them and gives a TruncationWarning with the
            count, "error" refuses them, "window" reads single texts in overlapping windows and averages them.
        max_length: tokens read, [CLS] and [SEP] included; None takes the model's own limit.
        batch_size: most rows computed at a time; None leaves it to the tokens, which is faster, and which language
            models (topic, mlm) do in any case.
        show_progress: True, False, or None for a bar on a terminal when it takes more than a second.
    """

    truncate: str = "warn"
    max_length: int | None = None
    batch_size: int | None = None
    show_progress: bool | None = None

    def __post_init__(self) -> None:
        check_truncate(self.truncate)
        if self.batch_size is not None:
            whole_number(self.batch_size, "batch_size", fix="Leave it out: tokens are counted.")

    def limit(self, source: Source) -> int:
        """Return the tokens read of an input.

        Raises:
            InputError: more than the model has positions for.
        """
        if self.max_length is None:
            return source.folder.max_length
        most = source.folder.config.max_position_embeddings
        fix = "Choose a length the model has positions for."
        return whole_number(self.max_length, "max_length", least=4, most=most, unit="tokens", fix=fix)


Chosen = TypeVar("Chosen", bound=Reading)


class Pipeline(ABC, Generic[Chosen]):
    """A model with the call of transformers' pipeline of the same task; made by `jinyi.pipeline`.

    One input gives one answer, a list a list of answers in its order. A generator or another iterator gives an
    iterator that draws 1,024 inputs at a time, in flat memory.
    """

    task: ClassVar[str]
    options: type[Chosen]

    def __init__(self, source: Source, defaults: Mapping[str, Any]) -> None:
        self._source = source
        # Between the model and the options of a call stand those that open it.
        self._defaults = self._read(defaults, list(signature(type(self)).parameters)[1:-1])
        self.options(**self._defaults)  # wrong values are told now

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._source.folder.path

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Compute answers.

        Args:
            inputs: one input, or a list, array, series or iterator of inputs.
            options: those of the class's `options`; they count more than those given to `pipeline`.

        Raises:
            InputError: an input or option that cannot be used; names the row.
            TypeError: an option that this pipeline does not have.
        """
        given = self._read(options)
        chosen = self.options(**{**self._defaults, **given})
        if isinstance(inputs, Iterator):
            return self._stream(inputs, chosen)
        if self.is_one(inputs):
            (answer,) = self.answers([inputs], chosen)
            return self.alone(answer, inputs, given)
        return self.answers(as_list(inputs, "inputs"), chosen)

    @abstractmethod
    def answers(self, rows: list[Any], chosen: Chosen) -> list[Any]:
        """Return one answer for each row."""

    def is_one(self, inputs: Any) -> bool:
        """Return whether this is one input and not a list of them."""
        return isinstance(inputs, str)

    def alone(self, answer: Any, inputs: Any, given: Mapping[str, Any]) -> Any:
        """Return the answer to one input in the form it has outside a list."""
        return answer

    def _stream(self, inputs: Iterator[Any], chosen: Chosen) -> Iterator[Any]:
        seen = 0
        for block in chunks(inputs, STREAM_BLOCK):
            try:
                answers = self.answers(block, chosen)
            except InputError as error:
                if seen and error.where:
                    error.where = f"of the inputs from number {seen} on, {error.where}"
                    error.rows = tuple(row + seen for row in error.rows)
                raise
            yield from answers
            seen += len(block)

    def _read(self, options: Mapping[str, Any], beside: Sequence[str] = ()) -> dict[str, Any]:
        """Translate transformers' names of options and refuse those that nobody knows.

        Args:
            options: as they were given.
            beside: names that could have been meant besides those of a call.
        """
        read = {**options, **(options.get("tokenize_kwargs") or {})}
        for without_effect in ("tokenize_kwargs", "padding", "num_workers"):  # rows are padded in any case
            read.pop(without_effect, None)
        cut = read.pop("truncation", None)
        if cut is not None:
            if "truncate" in read:
                raise InputError(
                    found="truncate and truncation",
                    expected="one of them: they mean the same",
                    fix="Leave one out.",
                )
            read["truncate"] = "error" if cut in (False, "do_not_truncate") else "warn"
        known = [field.name for field in fields(self.options)]
        unknown = next((name for name in read if name not in known), None)
        if unknown is not None:
            known += beside
            close = difflib.get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}"
            raise TypeError(f"the {self.task} pipeline has no option {unknown!r}{hint}")
        return read


def device_name(device: Any) -> str:
    """Return "cpu" or "cuda" for a device as transformers names it: -1, 0, "cpu", "cuda", "cuda:0".

    Raises:
        InputError: none of these.
    """
    text = str(device)
    if text in ("-1", "cpu"):
        return "cpu"
    if text in ("0", "cuda", "cuda:0"):
        return "cuda"
    raise InputError(
        found=shorten(device),
        expected='"cpu" or "cuda" (or -1 and 0, as transformers names them)',
        fix="Choose one of them; CUDA_VISIBLE_DEVICES says which GPU is the first.",
        where="device",
    )


def has_no(name: str, what: str, why: str) -> InputError:
    """Return the error for an option that a kind of model does not have."""
    return InputError(
        found=f"{name} for {what}", expected="it to be left out", fix=f"Leave it out. {why}", where=name
    )
