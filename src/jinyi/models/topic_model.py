"""What an opened folder says of topics: label words in a prompt, its own classes, or what `fit` has learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import FolderError, InputError, NotFittedError
from jinyi.folder import RECORD, ModelFolder
from jinyi.models.common import FloatArray, merge_windows, normalise_rows
from jinyi.models.heads import softmax
from jinyi.models.joint_head import JointHead
from jinyi.models.labels import Labels, label_words
from jinyi.models.mixture import mixed_work
from jinyi.models.ngrams import SparseRows, find_ngrams
from jinyi.models.source import Source
from jinyi.models.temperature import TopicCalibration
from jinyi.models.topic_folder import TopicHead, read_head
from jinyi.models.work import Pass, Work
from jinyi.models.zero_shot import ZeroShot, check_prompt, needs_calibration, own_prompt
from jinyi.runtime import Engine, Head
from jinyi.tokens import TruncateMode, TruncationReport


class TopicModel:
    """A folder with its engines, and the head that turns their outputs into class probabilities.

    Args:
        source: a topic, language, classifier or embedding model.
        labels: label words; None takes the folder's own, and then what was fitted and saved too.
        prompt: with {} for the word; None takes the folder's own.
        calibrate: contextual calibration, see `ZeroShot`; None takes what the folder was saved with, and with other
            label words what `needs_calibration` says.

    Raises:
        FolderError: a pair model, or golden sentences that come out differently.
        InputError: labels or a prompt that cannot be used.

    Attributes:
        words: {label: word}; empty without label words.
        classes: the labels of the probabilities; None as long as there are none.
        head: what was fitted on vectors or n-grams; None without.
        method: how what the folder holds was fitted; None where nothing was.
        features: of that fit.
        word_weight: how much the label words count beside what was fitted.
    """

    def __init__(
        self, source: Source, *, labels: Labels | None, prompt: str | None, calibrate: bool | None
    ) -> None:
        folder = source.folder
        if folder.task == "pair":
            raise FolderError(
                found="a pair model",
                expected="a topic, classifier, embedding or language model",
                fix="Take PairScorer for this folder.",
                where=str(folder.path),
            )
        saved = folder.record.get("topic") or {}
        self.source = source
        self.prompt = ""
        self.words: dict[Any, str] = {}
        self.classes: npt.NDArray[Any] | None = None
        self.head: TopicHead | None = None
        self._vector_engine: Engine | None = None  # opened when it is first asked for
        self._class_engine: Engine | None = None
        self._zero_shot: ZeroShot | None = None
        own = dict(saved.get("words") or zip(folder.labels, folder.labels, strict=True))
        if folder.task in ("topic", "mlm"):
            self.prompt = own_prompt(folder) if prompt is None else check_prompt(prompt)
            self.words = own if labels is None else label_words(labels)
        elif labels is not None:
            raise _no_words(folder)
        elif folder.task == "classes":
            self._class_engine = source.engine(Head("classes"))
            self.classes = np.asarray(folder.labels)
        fitted = (saved.get("fitted") or {}) if labels is None else {}
        self.method = str(fitted["method"]) if fitted else None
        self.features = str(fitted.get("features", "vectors"))
        self.word_weight = float(fitted.get("word_weight", 0.0))
        if calibrate is None:
            told = saved.get("calibrate") if labels is None else None
            calibrate = needs_calibration(folder, self.words.values()) if told is None else bool(told)
        self.contextual = self.method != "prompt" and calibrate
        if self.words:
            words = list(self.words.values())
            self._zero_shot = ZeroShot(source, words, self.prompt, calibrate=self.contextual)
            self.classes = np.asarray(list(self.words))
        if fitted:
            if self.method != "prompt":
                self.head = read_head(folder, fitted)
            self.classes = np.asarray(fitted["classes"])
        # A temperature belongs to the head it was fitted with.
        self._calibrated_head = self.head
        self._calibration = self._own_calibration()

    @property
    def calibration(self) -> TopicCalibration | None:
        """The folder's temperature; None without one, or where it was fitted for something else."""
        return self._calibration if self._calibrated_head is self.head else None

    def state(self) -> dict[str, Any]:
        """Return what probabilities are made of, as plain data: classes, label words and prompt, what was fitted."""
        state: dict[str, Any] = {"classes": [] if self.classes is None else self.classes.tolist()}
        if self.head is not None:
            state["fitted"] = self.method
            if not self.word_weight:
                return state
            state["word_weight"] = self.word_weight
        if self._zero_shot is not None:
            words = list(self.words.values())
            return state | {"words": words, "prompt": self.prompt, "contextual": self.contextual}
        return state

    def learnt(
        self, head: TopicHead, classes: npt.NDArray[Any], *, method: str, features: str, word_weight: float
    ) -> None:
        """Take a fitted head in place of what decided before.

        Args:
            head: the head.
            classes: its labels.
            method: how it was fitted.
            features: what it sees.
            word_weight: of the label words beside it; 0 where a class has none.
        """
        self.head, self.classes, self.method, self.features = head, classes, method, features
        self.word_weight = word_weight

    def has_words(self, classes: npt.NDArray[Any]) -> bool:
        """Whether each of these classes has a label word."""
        return self._zero_shot is not None and all(label in self.words for label in classes.tolist())

    def word_work(self, texts: list[str], mode: TruncateMode, classes: npt.NDArray[Any]) -> Work:
        """Return rows of texts, whose outputs become probabilities of these classes by their words, [n, classes].

        They are shares of all words, and sum to less than one where there are more words than classes.
        """
        assert self._zero_shot is not None  # noqa: S101 - has_words was asked
        places = {label: place for place, label in enumerate(self.words)}
        columns = np.array([places[label] for label in classes.tolist()], np.int64)
        work = self._zero_shot.work(texts, mode)
        return replace(work, finish=lambda outputs: work.finish(outputs)[:, columns])

    def known_classes(self) -> npt.NDArray[Any]:
        """Return the labels of the probabilities.

        Raises:
            NotFittedError: there are none yet.
        """
        if self.classes is None:
            raise NotFittedError(
                found="neither labels nor training examples",
                expected="label words for a language model, or a fitted classifier",
                fix='Give labels=["体育", "财经"], or call fit(texts, labels) first.',
                where=str(self.source.folder.path),
            )
        return self.classes

    def work(self, texts: list[str], mode: TruncateMode) -> Work:
        """Return rows of texts, whose outputs become class probabilities, float32 [n, classes]."""
        if self.head is not None:
            learnt = self._learnt_work(self.head, texts, mode)
            if not self.word_weight:
                return learnt
            words = self.word_work(texts, mode, self.known_classes())
            return mixed_work(learnt, words, self.word_weight)
        if self._zero_shot is not None:
            return self._zero_shot.work(texts, mode)
        assert self._class_engine is not None  # noqa: S101 - classes come from one of these
        tokenizer = self.source.tokenizer
        encoded = tokenizer.encode(texts, max_length=self.source.folder.max_length, truncate=mode)

        def finish(outputs: list[FloatArray]) -> FloatArray:
            return softmax(merge_windows(outputs[0], encoded, len(texts)))

        return Work((Pass(self._class_engine, encoded, tokenizer.pad_id),), finish, encoded.report)

    def _learnt_work(self, head: TopicHead, texts: list[str], mode: TruncateMode) -> Work:
        if isinstance(head, JointHead):
            joint = head
            features = "both" if len(head.vector_weight) else "ngrams"
            vectors, grams = self.inputs(texts, mode, features, lead=head.lead)
            return replace(vectors, finish=lambda outputs: joint.proba(vectors.finish(outputs), grams))
        vectors, _ = self.inputs(texts, mode, "vectors")
        return replace(vectors, finish=lambda outputs: head.proba(vectors.finish(outputs)))

    def inputs(
        self, texts: list[str], mode: TruncateMode, features: str, *, lead: bool = True
    ) -> tuple[Work, SparseRows]:
        """Return what a fitted head sees of texts, both from the same ids; without columns what is not asked for.

        Vectors are of what the encoder reads of a text, n-grams of all of it, with `lead` as in `find_ngrams`.
        """
        tokenizer = self.source.tokenizer
        tokens = tokenizer.read(texts)
        named = tokens if features != "vectors" else [[] for _ in tokens]
        grams = find_ngrams(named, tokenizer.vocab_size, lead=lead)
        if features == "ngrams":
            nothing = np.empty(0, np.int64)
            report = TruncationReport(len(texts), nothing, nothing)
            return Work((), lambda _: np.empty((len(texts), 0), np.float32), report), grams
        encoded = tokenizer.frame(tokens, max_length=self.source.folder.max_length, truncate=mode)

        def vectors(outputs: list[FloatArray]) -> FloatArray:
            return normalise_rows(merge_windows(outputs[0], encoded, len(texts)))

        return Work((Pass(self._vectors(), encoded, tokenizer.pad_id),), vectors, encoded.report), grams

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        engine = self._zero_shot.engine if self._zero_shot else self._class_engine or self._vectors()
        return engine.info()

    def _vectors(self) -> Engine:
        if self._vector_engine is None:
            folder = self.source.folder
            # Mean of the last layer is what TCBert compares; a folder of vectors states its own pooling.
            self._vector_engine = self.source.engine(
                Head("vector", pooling=folder.pooling or "mean", dense=folder.dense)
            )
        return self._vector_engine

    def _own_calibration(self) -> TopicCalibration | None:
        folder = self.source.folder
        record = folder.record.get("calibration")
        if not record:
            return None
        calibration = TopicCalibration.from_dict(record, str(folder.path / RECORD))
        return calibration if calibration.fits == self.state() else None


def _no_words(folder: ModelFolder) -> InputError:
    return InputError(
        found=f"label words for a model of task {folder.task!r}",
        expected="a topic or language model, which can score words",
        fix="Leave labels out"
        + (
            f": the classes of this model are {', '.join(folder.labels)}."
            if folder.task == "classes"
            else " and call fit(texts, labels), or take another model."
        ),
        where="labels",
    )
