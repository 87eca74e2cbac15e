"""Topic classification: zero-shot by scoring label words in a prompt, or fitted on labelled texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.models.common import (
    FloatArray,
    as_list,
    as_texts,
    check_truncate,
    compute_once,
    refuse_cut,
    refuse_none,
    warn_cut,
)
from jinyi.models.estimator import TextEstimator
from jinyi.models.joint_head import JointHead
from jinyi.models.labels import Labels, class_numbers
from jinyi.models.mixture import WORD_EXAMPLES
from jinyi.models.source import Opener, Source
from jinyi.models.temperature import TopicCalibration
from jinyi.models.topic_fit import HeadSettings, fit_head
from jinyi.models.topic_folder import write_topic
from jinyi.models.topic_model import TopicModel
from jinyi.models.tuned import FineTuning, OwnFolder, fine_tune, words_for
from jinyi.models.work import Work, run
from jinyi.tokens import TruncateMode, TruncationReport


class TopicClassifier(TextEstimator):
    """Assigns a topic to each text.

    Without training, each label's word is put into a prompt in front of the text and the language model says how
    well it fits there (zero-shot; TCBert, Han et al. 2022; label words may have any length). After `fit`, labelled
    examples decide. A classifier can be copied and pickled; a pickle holds the folder's name or path and what was
    fitted, no weights of the encoder but those that `fit` trained. Conventions are scikit-learn's; open one with
    `TopicClassifier.load`.

    Args:
        model: None for the shipped model, a name (`jinyi models list`) or a folder.
        labels: label words, or {label: word} where the word in the prompt differs from the label, all str or all
            int; None takes the model's own.
        prompt: what comes before the text, {} for the word; "{text}" in it puts the text there. None takes the
            model's own.
        method: how `fit` learns. "linear": a linear model; "reference": comparison with the labelled vectors; "prompt":
            the encoder itself is fine-tuned so that the right label word fits best (extra `train`).
        features: for "linear", what it sees: "vectors" of sentences (multinomial logistic regression), "ngrams",
            the tokens and pairs of neighbouring tokens of whole texts, or "both" (regularised least squares).
            Where there are more than 24 texts a class and the encoder was trained on most of them, as its folder tells,
            its vectors of those look better than they are, and decide apart from the n-grams, with 0.15 of the say.
        decider: for "reference": "prototype" (class means), "nearest" (the single nearest) or "knn".
        neighbors: for "knn".
        whitening: for "reference": whiten the vectors (see `Whitening`) to so many dimensions, fitted on the training
            texts, which must be more; None does not.
        C: for "linear": inverse strength of the penalty on the weights; labels that are often wrong want less, clean
            ones more. None chooses it with n-grams on texts left out of a fit, and is 1 for "vectors".
        word_examples: for "linear", where every class has a label word: how many examples of each class the words are
            worth at most. What words and examples say is mixed accordingly, or with less of the words where texts left
            out of a fit are told better so; 0 leaves the words out.
        calibrate: zero-shot: subtract each label's score on a text without content (contextual calibration, Zhao et
            al. 2021), which removes the preference for frequent words, and for those that the model was trained to say.
            None does so where a label word is none of these. It changes labels and needs no labelled texts;
            the temperature that `jinyi calibrate` fits changes probabilities alone.
        precision: "float32", "bfloat16", "int8", "int8-weights", "int8-dynamic", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda" (extra `train`).

    Attributes:
        classes_: the labels; the columns of `predict_proba`. Zero-shot in the order given, after `fit` sorted.
    """

    classes_: npt.NDArray[Any]
    _topics: TopicModel
    _opener: Opener | None = None
    _tuned: OwnFolder | None = None

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        labels: Labels | None = None,
        prompt: str | None = None,
        method: str = "linear",
        features: str = "both",
        decider: str = "prototype",
        neighbors: int = 5,
        whitening: int | None = None,
        C: float | None = None,
        word_examples: float = WORD_EXAMPLES,
        calibrate: bool | None = None,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.labels = labels
        self.prompt = prompt
        self.method = method
        self.features = features
        self.decider = decider
        self.neighbors = neighbors
        self.whitening = whitening
        self.C = C
        self.word_examples = word_examples
        self.calibrate = calibrate
        self.precision = precision
        self.threads = threads
        self.device = device

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] | None = None, *, opener: Opener | None = None, **options: Any
    ) -> TopicClassifier:
        """Open a model; the options are those of the class.

        Args:
            model: None for the shipped one, a name (`jinyi models list`) or a folder.
            opener: makes the engines in place of those in this process (see `jinyi.models.source.Opener`).
            options: those of the class.

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is incomplete or damaged, is a pair model, or its golden sentences come out
                differently.
            InputError: labels, prompt or another option that cannot be used; a precision, device or number of threads
                that does not exist or that this machine does not have; "int8" also for a folder without ranges
                (`jinyi quantize` measures them) or with too great a measured loss.
            MissingExtraError: device "cuda" without PyTorch.
            TypeError: an option that the class does not have.
        """
        classifier = cls(model, **options)
        classifier._opener = opener
        classifier._open()
        return classifier

    def predict(
        self, X: str | Iterable[str], *, truncate: str = "warn", show_progress: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return the most likely label of each text, [n]; for one str the label itself.

        Args:
            X: one str, or a list (array, series, iterator) of str.
            truncate: what happens to long texts: "warn" cuts them and gives one TruncationWarning with the count,
                "error" refuses them, "window" reads them in overlapping windows and averages their scores.
            show_progress: True, False, or None for a bar on a terminal when it takes more than a second.

        Raises:
            InputError: not text, an empty text, a text too long with truncate="error"; names the row.
            NotFittedError: no labels were given and `fit` has not run.
        """
        proba, report, single = self._proba(X, truncate, show_progress)
        warn_cut(report, truncate, self._open().source.folder.max_length)
        labels: npt.NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels[0] if single else labels

    def predict_proba(
        self,
        X: str | Iterable[str],
        *,
        truncate: str = "warn",
        show_progress: bool | None = None,
        return_report: bool = False,
        calibrated: bool = True,
    ) -> Any:
        """Return the probability of each label, float32 [n, classes]; [classes] for one str.

        Args:
            X: as in `predict`.
            truncate: as in `predict`.
            show_progress: as in `predict`.
            calibrated: divide log-probabilities by the temperature that `jinyi calibrate` put into the folder, if they
                are made as they were then: same labels and prompt, nothing fitted since. The most likely label stays.
            return_report: also return a TruncationReport: how many texts were cut, which, by how much.

        Raises:
            InputError: as `predict`.
            NotFittedError: as `predict`.
        """
        proba, report, single = self._proba(X, truncate, show_progress)
        warn_cut(report, truncate, self._open().source.folder.max_length)
        proba = self._tempered(proba) if calibrated else proba
        result = proba[0] if single else proba
        return (result, report) if return_report else result

    def prepare(self, texts: Iterable[str], *, truncate: str = "warn", calibrated: bool = True) -> Work:
        """Return the rows that `predict_proba` would compute, for those who compute rows of many callers together.

        Args:
            texts: as in `predict`; equal texts are not merged.
            truncate: as in `predict`; cut texts are in the work's report, there is no warning.
            calibrated: as in `predict_proba`.

        Returns:
            work whose `finish` gives float32 [n, classes].

        Raises:
            InputError: as `predict`.
            NotFittedError: as `predict`.
        """
        checked, _, mode = self._checked(texts, truncate)
        refuse_none(checked, "texts")
        work = self._topics.work(checked, mode)
        refuse_cut(work.report, truncate, self._topics.source.folder.max_length)
        if not calibrated or self.calibration is None:
            return work
        return replace(work, finish=lambda outputs: self._tempered(work.finish(outputs)))

    def decision_function(self, X: str | Iterable[str]) -> FloatArray:
        """Return log-probabilities: the logarithm of `predict_proba`; long texts are cut, with one warning.

        Args:
            X: as in `predict`.

        Returns:
            float32 [n, classes], with one row for one str.

        Raises:
            InputError: as `predict`.
            NotFittedError: as `predict`.
        """
        proba, report, _ = self._proba(X, "warn", None)
        warn_cut(report, "warn", self._open().source.folder.max_length)
        result: FloatArray = np.log(np.maximum(self._tempered(proba), np.finfo(np.float32).tiny))
        return result

    def fit(
        self,
        X: Iterable[str],
        y: Iterable[Any],
        *,
        method: str | None = None,
        epochs: float | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        show_progress: bool | None = None,
    ) -> TopicClassifier:
        """Learn from labelled texts; with "linear" and "reference" the encoder itself does not change.

        By "prompt" each label has a word: the one in the class's `labels`, all of which stay possible answers, or else
        the model's own word for it, or the label itself. The trained encoder lies in a temporary folder, which is
        there as long as this object and its copies; `save` keeps it. The same call on one machine with the same number
        of threads gives the same weights.

        Args:
            X: texts.
            y: as many labels, str or int, of at least two classes.
            method: "linear", "reference" or "prompt", for this call; None takes the one given to the class.
            epochs: for "prompt": passes over the texts; None makes about 300 steps of them, in 3 to 20 passes.
            learning_rate: for "prompt": highest rate of AdamW; None is 5e-4 for encoders less than 512 wide, else 2e-5.
            batch_size: for "prompt": texts of a step; None is 16.
            seed: for "prompt": of order and dropout; None is 0.
            show_progress: for "prompt": True, False, or None for a line on a terminal.

        Raises:
            InputError: texts and labels differ in number, one class only, an unknown method; for "prompt" a label
                without a word, or a model that cannot score words.
            MissingExtraError: "prompt" without the packages for training.
            FolderError: the folder's record of the texts it was trained on is damaged.

        Cost of "prompt": minutes for a thousand short texts with a small encoder on a processor.
        """
        how = self._settings(method)
        settings = FineTuning.of(
            how.method, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, seed=seed
        )
        texts, _ = as_texts(as_list([X] if isinstance(X, str) else X, "texts"))
        classes, targets = class_numbers(y, len(texts))
        if self._tuned is not None:
            self._forget()  # what an earlier call trained
        topics = self._open()
        source = topics.source
        if how.method == "prompt":
            given = self.labels is not None
            words = words_for(source, classes.tolist(), topics.words, given=given)
            labels = classes[targets].tolist()
            tuned, report = fine_tune(source, texts, labels, words, topics.prompt, settings, show_progress)
            warn_cut(report, "warn", source.folder.max_length)
            self._forget()
            self._tuned = tuned
            self._open()
            return self
        head, weight, report = fit_head(topics, texts, targets, classes, how)
        warn_cut(report, "warn", source.folder.max_length)
        topics.learnt(head, classes, method=how.method, features=how.features, word_weight=weight)
        self.classes_ = classes
        return self

    @property
    def calibration(self) -> TopicCalibration | None:
        """The temperature that `predict_proba` applies; None without one, or where it was fitted for something else."""
        return self._open().calibration

    @property
    def C_(self) -> float | None:
        """The C of a linear fit that n-grams took part in, given or chosen; None for everything else."""
        head = self._open().head
        return head.C if isinstance(head, JointHead) else None

    def state(self) -> dict[str, Any]:
        """Return what probabilities are made of, as plain data: classes, label words and prompt, what was fitted."""
        return self._open().state()

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        calibration: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a model folder that `TopicClassifier.load` opens with labels, prompt and what `fit` learnt.

        Args:
            path: folder to create, whole or not at all.
            calibration: the `record` that `jinyi.evals.topic_calibration.calibrate_topics` makes for this classifier;
                None keeps the folder's where it still applies.
            overwrite: replace a model folder that is there.

        Returns:
            The absolute path of the folder.

        Raises:
            FolderError: the folder exists or cannot be written.
        """
        topics = self._open()
        folder, head = topics.source.folder, topics.head
        state: dict[str, Any] = {"calibrate": topics.contextual}
        if topics.words:
            # Pairs, for JSON makes every key of an object text.
            state |= {"words": list(topics.words.items()), "prompt": topics.prompt}
        if head is None and topics.method == "prompt":
            state["fitted"] = {"method": "prompt", "classes": self.classes_.tolist()}
        elif head is not None:
            state["fitted"] = {
                "method": topics.method,
                "features": topics.features,
                "word_weight": topics.word_weight,
                "classes": self.classes_.tolist(),
                **head.settings(),
            }
        if calibration is None and topics.calibration is not None:
            calibration = folder.record.get("calibration")
        return write_topic(path, folder, state, head, calibration=calibration, overwrite=overwrite)

    @property
    def source(self) -> Source:
        """The opened folder with its tokenizer."""
        return self._open().source

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._open().source.folder.path

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        return self._open().info()

    def __getstate__(self) -> dict[str, Any]:
        # A temporary folder has another path when it is read, and an opener is not there.
        left = ("_opener",) if self._tuned is None else ("_opener", "_topics")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def _forget(self) -> None:
        for name in ("_topics", "_tuned", "classes_"):
            self.__dict__.pop(name, None)

    def _open(self) -> TopicModel:
        if hasattr(self, "_topics"):
            return self._topics
        self._settings()
        # What was trained has labels and prompt of its own.
        model, labels, prompt = self.model, self.labels, self.prompt
        if self._tuned is not None:
            model, labels, prompt = self._tuned.path, None, None
        source = Source.open(
            model,
            "topic",
            precision=self.precision,
            threads=self.threads,
            device=self.device,
            opener=self._opener,
        )
        topics = TopicModel(source, labels=labels, prompt=prompt, calibrate=self.calibrate)
        if topics.classes is not None:
            self.classes_ = topics.classes
        self._topics = topics
        return topics

    def _tempered(self, proba: FloatArray) -> FloatArray:
        calibration = self.calibration
        return proba if calibration is None else calibration.apply(proba)

    def _settings(self, method: str | None = None) -> HeadSettings:
        """Return how `fit` learns, checked."""
        return HeadSettings(
            self.method if method is None else method,
            self.features,
            self.decider,
            self.neighbors,
            self.whitening,
            self.C,
            self.word_examples,
        )

    def _proba(
        self, X: str | Iterable[str], truncate: str, show_progress: bool | None
    ) -> tuple[FloatArray, TruncationReport, bool]:
        texts, single, mode = self._checked(X, truncate)

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            work = self._topics.work(part, mode)
            return run(work), work.report

        proba, report = compute_once(
            texts,
            (len(self.classes_),),
            compute,
            truncate=truncate,
            max_length=self._topics.source.folder.max_length,
            label="texts",
            show_progress=show_progress,
        )
        return proba, report, single

    def _checked(self, X: str | Iterable[str], truncate: str) -> tuple[list[str], bool, TruncateMode]:
        topics = self._open()
        check_truncate(truncate)
        texts, single = as_texts(X)
        topics.known_classes()
        return texts, single, "window" if truncate == "window" else "report"
