"""An opened model folder, and the engines built from it: both go into other processes by the folder's name."""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from jinyi.batches import Batch
from jinyi.errors import FolderError, InputError, ModelNotFoundError
from jinyi.folder import ModelFolder, read_folder
from jinyi.registry import default_model, locate
from jinyi.runtime import Engine, Head, Output, open_engine
from jinyi.tokens import Tokenizer

Opener = Callable[["Source", Head], Engine]
"""Makes the engine of an opened model and a head: a server computes rows of many requests in one place."""

INT8_LOSS = 0.3  # points of the metric that 8 bits may cost; more is refused


@dataclass(frozen=True, eq=False)
class Source:
    """An opened model folder with its tokenizer and the options its engines are built with.

    Nothing in it changes, so a copy is the same object. A pickle holds the name or path of the folder and the
    options, no weights; the folder is opened again where the pickle is read, and refused if it holds another model.
    """

    folder: ModelFolder
    tokenizer: Tokenizer
    precision: str = "auto"
    threads: int | None = None
    device: str = "cpu"
    segment_ids: str | None = None
    """How pairs are marked in place of the folder's own habit; None: as the folder says."""
    name: str | None = None
    """The name it was found by, for a pickle; None where it was given by its path."""
    pooling: str | None = None
    """The pooling asked for, for a pickle; None: as the folder or the registry says."""
    opener: Opener | None = None
    """Makes engines in place of those of this process; a pickle leaves it out."""

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | None,
        task: str,
        *,
        as_task: str | None = None,
        pooling: str | None = None,
        similar_label: int | str | None = None,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        segment_ids: str | None = None,
        opener: Opener | None = None,
    ) -> Source:
        """Find and open a model: None is the shipped model for `task`, else a name or a folder.

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is damaged, incomplete or for another task.
        """
        found = locate(default_model(task) if model is None else model)
        folder = read_folder(
            found.path, task=as_task, pooling=pooling, similar_label=similar_label, facts=found.facts
        )
        tokenizer = Tokenizer.from_folder(
            folder.tokenizer_file.parent, max_length=folder.config.max_position_embeddings
        )
        return cls(folder, tokenizer, precision, threads, device, segment_ids, found.name, pooling, opener)

    def engine(self, head: Head) -> Engine:
        """Build an engine with this head.

        Raises:
            InputError: precision "int8" for a folder without ranges, or one whose measured loss is too great.
        """
        return FolderEngine(self, head) if self.opener is None else self.opener(self, head)

    def ranges(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the ranges of activations that the precision needs; None but for "int8".

        Raises:
            InputError: there are none, they are of another pooling, or the measured loss is too great.
        """
        if self.precision != "int8":
            return None
        pooling = self.folder.record.get("pooling")
        if self.pooling not in (None, pooling):
            raise InputError(
                found=f"pooling {self.pooling!r}",
                expected=f"{pooling!r}, with which the ranges of activations and the loss were measured",
                fix='Leave pooling out, or use precision="auto".',
                where=f'precision="int8" for {self.folder.path.name}',
            )
        measured: Mapping[str, Any] = self.folder.record.get("int8") or {}
        loss = measured.get("loss")
        if isinstance(loss, (int, float)) and loss > INT8_LOSS:
            raise InputError(
                found=f"a measured loss of {loss:.2f} {measured.get('metric', 'points')} in 8 bits",
                expected=f"at most {INT8_LOSS}",
                fix='Use precision="auto".',
                where=f'precision="int8" for {self.folder.path.name}',
            )
        ranges = self.folder.ranges()
        if ranges is None:
            raise InputError(
                found="a folder without ranges of activations",
                expected="those that `jinyi quantize` measures and stores",
                fix='Run `jinyi quantize -m FOLDER --samples texts --data dev`, or use precision="auto".',
                where=f'precision="int8" for {self.folder.path.name}',
            )
        return ranges

    def fingerprint(self) -> str:
        """Return a hash that tells models apart: of the tokenizer, and of the weights in one dimension.

        Biases and layer norms change in every training; reading them takes milliseconds for any size of model.
        """
        reading = [str(self.tokenizer.lowercase), *(["words"] if self.tokenizer.words else [])]
        tokenizer = "\n".join([*reading, *self.tokenizer.vocab])
        digest = hashlib.sha256(tokenizer.encode("utf-8"))
        weights = self.folder.weights()
        for name in sorted(weights):
            if len(weights.shape(name)) == 1:
                digest.update(weights[name].tobytes())
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        folder = self.folder
        options = {
            "as_task": folder.task,
            "pooling": self.pooling,
            "similar_label": folder.similar_label,
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device,
            "segment_ids": self.segment_ids,
        }
        return _open_again, (self.name or str(folder.path), options, self.fingerprint())

    def __deepcopy__(self, memo: dict[int, Any]) -> Source:
        return self


def _open_again(model: str, options: dict[str, Any], fingerprint: str) -> Source:
    try:
        source = Source.open(model, "", **options)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            found=error.found,
            expected="the model that was pickled: a pickle holds the folder's name or path and no weights",
            fix=f"Put the folder there again, or pickle the model anew from where it is. {error.fix}",
            where=error.where,
        ) from error
    if source.fingerprint() != fingerprint:
        raise FolderError(
            found="other weights or another tokenizer than when the model was pickled",
            expected="the same model",
            fix="Put the old model back, or load this one and pickle it anew: what was fitted on the old one does "
            "not fit the new one.",
            where=str(source.folder.path),
        )
    return source


class FolderEngine:
    """An engine of a model folder that works in every process.

    The threads of a runtime stay behind when a process forks, and neither threads nor compiled graphs can be
    pickled: in a forked child, and where a pickle is read, the engine is built anew. Otherwise it hands calls on; see
    `jinyi.runtime.Engine`. Safe to use from several threads.

    Args:
        source: the folder and options.
        head: what is computed from the hidden states.

    Raises:
        InputError: an option this machine or folder does not have.
    """

    def __init__(self, source: Source, head: Head) -> None:
        self._source = source
        self._head = head
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._forked = False
        self.precision = self._opened().precision
        _engines.add(self)

    def run(self, batches: Iterable[Batch], *, shared: bool = False) -> Iterator[tuple[Batch, Output]]:
        """Yield each batch with its output; see `jinyi.runtime.Engine.run`."""
        return self._opened().run(batches, shared=shared)

    def info(self) -> dict[str, Any]:
        """Return what runs where and why; see `jinyi.runtime.Engine.info`."""
        return self._opened().info()

    @property
    def is_open(self) -> bool:
        """Whether the engine exists in this process."""
        return self._engine is not None

    def leave_to_parent(self) -> None:
        """Forget the parent's engine in a forked child; the next call builds another."""
        if self._engine is not None:
            # Never freed: taking it down would wait for threads that exist in the parent alone.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
            self._engine = None
        self._forked = True
        self._lock = threading.Lock()  # another thread of the parent may have held the old one

    def __reduce__(self) -> tuple[type[FolderEngine], tuple[Source, Head]]:
        return FolderEngine, (self._source, self._head)

    def __deepcopy__(self, memo: dict[int, Any]) -> FolderEngine:
        return self

    def _opened(self) -> Engine:
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._open()
        return self._engine

    def _open(self) -> Engine:
        source = self._source
        if (self._forked and source.device == "cuda") or (_fork.unusable and source.device == "cpu"):
            raise InputError(
                found="a forked process whose parent has used "
                + ("a GPU" if source.device == "cuda" else "models"),
                expected="a process of its own: the runtime's threads did not come along",
                fix='Use multiprocessing.get_context("spawn"), or load models only after the fork.',
                where=str(source.folder.path),
            )
        _fork.used = _fork.used or source.device == "cpu"
        return open_engine(
            source.folder.config,
            source.folder.weights(),
            self._head,
            precision=source.precision,
            threads=source.threads,
            device=source.device,
            ranges=source.ranges(),
        )


class _Fork:
    """Whether engines were opened in this process or before its fork, and can be opened."""

    used = False
    unusable = False


_fork = _Fork()
_engines: WeakSet[FolderEngine] = WeakSet()


def _after_fork() -> None:
    alive = list(_engines)
    # Tried with OpenVINO 2026.4: beside an inherited graph a child compiles its own. Where all graphs of the parent
    # were gone before the fork, compiling would wait for ever.
    _fork.unusable = _fork.unusable or (_fork.used and not any(engine.is_open for engine in alive))
    for engine in alive:
        engine.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)
