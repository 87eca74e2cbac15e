"""Topic classification: zero-shot by scoring label words in a prompt, or fitted on a few labelled texts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.batches import make_batches
from jinyi.errors import FolderError, InputError, NotFittedError, shorten
from jinyi.folder import MANIFEST, RECORD, Golden, StagedFolder, TensorMap
from jinyi.folder.tensors import read_header
from jinyi.models.common import (
    FloatArray,
    Source,
    as_list,
    as_texts,
    check_golden,
    check_truncate,
    compute_once,
    merge_windows,
    normalise_rows,
    run_rows,
    warn_cut,
)
from jinyi.models.heads import DECIDERS, LinearHead, ReferenceHead, softmax
from jinyi.runtime import Engine, Head
from jinyi.tokens import TruncateMode, TruncationReport

DEFAULT_PROMPT = "下面是一则关于{}的新闻："
METHODS = ("linear", "reference")
_FITTED_FILE = "topic.safetensors"
_EMPTY = "。"  # stands for "no text" in contextual calibration
Labels = Sequence[str] | Mapping[str, str]


class TopicClassifier:
    """Assigns a topic to each text.

    Without training, each label's word is put into a prompt in front of the text and the language model says how
    well it fits there (zero-shot; TCBert, Han et al. 2022; label words may have any length). After `fit`, sentence
    vectors and labelled examples decide. Conventions are scikit-learn's; open one with `TopicClassifier.load`.

    Args:
        model: None for the shipped model, a name (`jinyi models list`) or a folder.
        labels: label words, or {label: word} where the word in the prompt differs from the label; None takes the
            model's own.
        prompt: what comes before the text, {} for the word; "{text}" in it puts the text there. None takes the
            model's own.
        method: how `fit` learns. "linear": multinomial logistic regression on sentence vectors; "reference":
            comparison with the labelled vectors.
        decider: for "reference": "prototype" (class means), "nearest" (the single nearest) or "knn".
        neighbors: for "knn".
        whitening: for "reference": whiten the vectors (see `Whitening`) to so many dimensions, fitted on the training
            texts, which must be more; None does not.
        C: for "linear": inverse strength of the penalty on the weights.
        calibrate: zero-shot: subtract each label's score on a text without content (contextual calibration, Zhao et
            al. 2021), which removes the preference for frequent words.
        precision: "float32", "bfloat16", "int8", or "auto" for float32.
        threads: processor threads; None takes the cores really available.
        device: "cpu" or "cuda" (extra `train`).

    Attributes:
        classes_: the labels; the columns of `predict_proba`. Zero-shot in the order given, after `fit` sorted.
    """

    classes_: npt.NDArray[Any]
    _source: Source
    _estimator_type = "classifier"

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        labels: Labels | None = None,
        prompt: str | None = None,
        method: str = "linear",
        decider: str = "prototype",
        neighbors: int = 5,
        whitening: int | None = None,
        C: float = 1.0,
        calibrate: bool = False,
        precision: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.labels = labels
        self.prompt = prompt
        self.method = method
        self.decider = decider
        self.neighbors = neighbors
        self.whitening = whitening
        self.C = C
        self.calibrate = calibrate
        self.precision = precision
        self.threads = threads
        self.device = device

    @classmethod
    def load(cls, model: str | os.PathLike[str] | None = None, **options: Any) -> TopicClassifier:
        """Open a model; the options are those of the class.

        Raises:
            ModelNotFoundError: no such model on this disk.
            FolderError: the folder is incomplete or damaged, or its golden sentences come out differently.
            InputError: labels or prompt cannot be used.
        """
        classifier = cls(model, **options)
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
        warn_cut(report, truncate, self._open().folder.max_length)
        labels: npt.NDArray[Any] = self.classes_[proba.argmax(axis=1)]
        return labels[0] if single else labels

    def predict_proba(
        self,
        X: str | Iterable[str],
        *,
        truncate: str = "warn",
        show_progress: bool | None = None,
        return_report: bool = False,
    ) -> Any:
        """Return the probability of each label, float32 [n, classes]; [classes] for one str.

        Args:
            X: as in `predict`.
            truncate: as in `predict`.
            show_progress: as in `predict`.
            return_report: also return a TruncationReport: how many texts were cut, which, by how much.

        Raises:
            InputError: as `predict`.
            NotFittedError: as `predict`.
        """
        proba, report, single = self._proba(X, truncate, show_progress)
        warn_cut(report, truncate, self._open().folder.max_length)
        result = proba[0] if single else proba
        return (result, report) if return_report else result

    def decision_function(self, X: str | Iterable[str]) -> FloatArray:
        """Return log-probabilities, float32 [n, classes]."""
        proba, report, _ = self._proba(X, "warn", None)
        warn_cut(report, "warn", self._open().folder.max_length)
        result: FloatArray = np.log(np.maximum(proba, np.finfo(np.float32).tiny))
        return result

    def score(self, X: Iterable[str], y: Iterable[Any]) -> float:
        """Return the accuracy on labelled texts."""
        labels, predicted = as_list(y, "labels"), self.predict(as_list(X, "texts"))
        if not labels or len(labels) != len(predicted):
            raise InputError(
                found=f"{len(predicted)} texts and {len(labels)} labels",
                expected="one label for each text, one text at least",
                fix="Check that both come from the same rows.",
            )
        return float(np.mean(predicted == np.asarray(labels)))

    def fit(self, X: Iterable[str], y: Iterable[Any], *, method: str | None = None) -> TopicClassifier:
        """Learn from labelled texts; the encoder itself does not change.

        Args:
            X: texts.
            y: as many labels, str or int, of at least two classes.
            method: "linear" or "reference"; None takes the one given to the class.

        Raises:
            InputError: texts and labels differ in number, one class only, an unknown method.
        """
        if method is not None:
            self.method = method
        self._check_method()
        texts, _ = as_texts(as_list(X, "texts"))
        given = as_list(y, "labels")
        for row, label in enumerate(given):
            if label is None or label != label:
                raise InputError(
                    found=f"{label}, a missing label",
                    expected="a label for each text",
                    fix="Drop the row or fill in its label.",
                    where=f"row {row}",
                )
        if len({isinstance(label, str) for label in given}) > 1:
            raise InputError(
                found="labels of which some are text and some are not",
                expected="all str, or all int",
                fix="Pass [str(label) for label in labels].",
            )
        labels = np.asarray(given)
        if len(labels) != len(texts) or labels.ndim != 1:
            raise InputError(
                found=f"{len(texts)} texts and labels of shape {labels.shape}",
                expected="one label for each text",
                fix="Check that both come from the same rows.",
            )
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(
                found=f"{len(classes)} class in {len(texts)} texts",
                expected="at least two classes",
                fix="Add texts with other labels.",
            )
        vectors, report = self._vectors(texts, "warn", None)
        warn_cut(report, "warn", self._open().folder.max_length)
        if self.method == "linear":
            self._head: LinearHead | ReferenceHead = LinearHead.fit(vectors, targets, len(classes), self.C)
        else:
            self._head = ReferenceHead.fit(
                vectors,
                targets,
                len(classes),
                decider=self.decider,
                neighbors=self.neighbors,
                whitening=self.whitening,
            )
        self.classes_ = classes
        return self

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a model folder that `TopicClassifier.load` opens with labels, prompt and what `fit` learnt.

        Args:
            path: folder to create, whole or not at all.
            overwrite: replace a model folder that is there.

        Returns:
            The absolute path of the folder.

        Raises:
            FolderError: the folder exists or cannot be written.
        """
        folder = self._open().folder
        state: dict[str, Any] = {"calibrate": self.calibrate}
        if self._words:
            state |= {"words": self._words, "prompt": self._prompt}
        head = getattr(self, "_head", None)
        if head is not None:
            state["fitted"] = {
                "method": self.method,
                "classes": self.classes_.tolist(),
                "decider": self.decider,
                "neighbors": self.neighbors,
            }
        record = {"format": 1, "task": folder.task, **folder.record, "topic": state}
        with StagedFolder(path, overwrite=overwrite) as stage:
            for file in sorted(entry for entry in folder.path.rglob("*") if entry.is_file()):
                name = file.relative_to(folder.path).as_posix()
                if name not in (RECORD, MANIFEST, _FITTED_FILE):
                    stage.link(file, name, None)
            if head is not None:
                from safetensors.numpy import save

                stage.put(
                    _FITTED_FILE, save({key: np.ascontiguousarray(v) for key, v in head.arrays().items()})
                )
            stage.put(RECORD, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
        return stage.target

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self._open().folder.path

    def info(self) -> dict[str, Any]:
        """Return what runs where: device, precision, threads, streams and why."""
        self._open()
        engine = self._label_engine or self._vector_engine()
        return engine.info()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> TopicClassifier:
        """Set constructor arguments; the model is opened anew when it is next needed."""
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise InputError(
                    found=f"parameter {name}",
                    expected=f"one of {', '.join(_PARAMETERS)}",
                    fix="Correct the name.",
                )
            setattr(self, name, value)
        for name in ("_source", "_head", "classes_"):
            self.__dict__.pop(name, None)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(string=True, two_d_array=False),
        )

    def _open(self) -> Source:
        if hasattr(self, "_source"):
            return self._source
        self._check_method()
        source = Source.open(
            self.model, "topic", precision=self.precision, threads=self.threads, device=self.device
        )
        folder = source.folder
        if folder.task == "pair":
            raise FolderError(
                found="a pair model",
                expected="a topic, classifier, embedding or language model",
                fix="Take PairScorer for this folder.",
                where=str(folder.path),
            )
        saved = folder.record.get("topic") or {}
        self._vectors_by: Engine | None = None
        self._label_engine: Engine | None = None
        self._words: dict[str, str] = {}
        own = saved.get("words") or dict(zip(folder.labels, folder.labels, strict=True))
        if folder.task in ("topic", "mlm"):
            self._prompt = self._choose_prompt(source, saved)
            self._words = own if self.labels is None else _words(self.labels)
        elif self.labels is not None:
            raise InputError(
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
        elif folder.task == "classes":
            self._label_engine = source.engine(Head("classes"))
            self.classes_ = np.asarray(folder.labels)
        self._source = source
        if self._words:
            self._open_labels(source)
        if saved.get("fitted") and self.labels is None:
            self._restore(saved["fitted"])
        return source

    def _open_labels(self, source: Source) -> None:
        golden = source.folder.golden
        words = list(self._words.values())
        checked = list(golden.labels) if golden is not None and golden.kind == "log_probs" else []
        ids = {word: word_ids(source, word) for word in [*words, *checked]}
        known = np.unique(np.concatenate([np.asarray(value, np.int64) for value in ids.values()]))
        columns = {word: np.searchsorted(known, value) for word, value in ids.items()}
        # Words of one length share the normaliser at every mask, which then cancels between labels.
        lengths = {len(value) for value in ids.values()}
        head = Head("mlm", label_ids=known, log_normalizer=len(lengths) > 1 or bool(checked))
        engine = self._label_engine = source.engine(head)
        self.classes_ = np.asarray(list(self._words))
        self._columns = [columns[word] for word in words]
        self._baseline: FloatArray | None = None

        def log_probs(golden: Golden) -> FloatArray:
            texts = [str(text) for text in golden.inputs]
            chosen = [columns[word] for word in golden.labels]
            return label_log_probs(source, engine, texts, chosen, golden.prompt or self._prompt, "report")[0]

        check_golden(source, engine, log_probs, "log_probs")
        if self.calibrate:
            self._baseline = label_log_probs(source, engine, [_EMPTY], self._columns, self._prompt, "report")[
                0
            ]

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        file = self._source.folder.path / _FITTED_FILE
        if not file.is_file():
            raise FolderError(
                found=f"no {_FITTED_FILE}",
                expected="what fit learnt, as jinyi.json says",
                fix="Copy the whole folder again.",
                where=str(file.parent),
            )
        arrays = TensorMap(read_header(file))
        self.method = str(fitted["method"])
        kind = LinearHead if self.method == "linear" else ReferenceHead
        settings = {**fitted, "classes": len(fitted["classes"])}
        self._head = kind.from_arrays({name: np.asarray(arrays[name]) for name in arrays}, settings)
        self.classes_ = np.asarray(fitted["classes"])

    def _choose_prompt(self, source: Source, saved: Mapping[str, Any]) -> str:
        folder = source.folder
        default = folder.prompts.get(folder.default_prompt_name or "")
        prompt = self.prompt or saved.get("prompt") or default or DEFAULT_PROMPT
        if not isinstance(prompt, str) or prompt.count("{}") != 1:
            raise InputError(
                found=shorten(prompt),
                expected=f'one "{{}}" for the label word, as in "{DEFAULT_PROMPT}"',
                fix="Put {} where the word belongs.",
                where="prompt",
            )
        return prompt

    def _check_method(self) -> None:
        if self.method == "prompt":
            raise InputError(
                found="method 'prompt'",
                expected=" or ".join(map(repr, METHODS)),
                fix="Fine-tuning the encoder on a prompt belongs to training, which this version does not have yet.",
                where="method",
            )
        for name, value, known in (("method", self.method, METHODS), ("decider", self.decider, DECIDERS)):
            if value not in known:
                raise InputError(
                    found=shorten(value),
                    expected=" or ".join(map(repr, known)),
                    fix="Choose one of them.",
                    where=name,
                )
        if isinstance(self.C, bool) or not isinstance(self.C, (int, float, np.number)) or not self.C > 0:
            raise InputError(
                found=shorten(self.C), expected="a number above 0", fix="Leave it out.", where="C"
            )
        if not isinstance(self.neighbors, (int, np.integer)) or self.neighbors < 1:
            raise InputError(
                found=shorten(self.neighbors),
                expected="a whole number from 1",
                fix="Leave it out.",
                where="neighbors",
            )

    def _proba(
        self, X: str | Iterable[str], truncate: str, show_progress: bool | None
    ) -> tuple[FloatArray, TruncationReport, bool]:
        source = self._open()
        check_truncate(truncate)
        texts, single = as_texts(X)
        if hasattr(self, "_head"):
            vectors, report = self._vectors(texts, truncate, show_progress)
            return self._head.proba(vectors), report, single
        engine = self._label_engine
        if engine is None:
            raise NotFittedError(
                found="neither labels nor training examples",
                expected="label words for a language model, or a fitted classifier",
                fix='Give labels=["体育", "财经"], or call fit(texts, labels) first.',
                where=str(source.folder.path),
            )
        mode: TruncateMode = "window" if truncate == "window" else "report"

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            if source.folder.task == "classes":
                encoded = source.tokenizer.encode(part, max_length=source.folder.max_length, truncate=mode)
                logits = run_rows(engine, encoded, source.tokenizer.pad_id)
                return softmax(merge_windows(logits, encoded, len(part))), encoded.report
            scores, report = label_log_probs(source, engine, part, self._columns, self._prompt, mode)
            return softmax(scores if self._baseline is None else scores - self._baseline), report

        proba, report = self._compute(texts, len(self.classes_), compute, truncate, show_progress)
        return proba, report, single

    def _vector_engine(self) -> Engine:
        if self._vectors_by is None:
            folder = self._source.folder
            # Mean of the last layer is what TCBert compares; a folder of vectors states its own pooling.
            self._vectors_by = self._source.engine(
                Head("vector", pooling=folder.pooling or "mean", dense=folder.dense)
            )
        return self._vectors_by

    def _vectors(
        self, texts: list[str], truncate: str, show_progress: bool | None
    ) -> tuple[FloatArray, TruncationReport]:
        source = self._open()
        engine = self._vector_engine()
        mode: TruncateMode = "window" if truncate == "window" else "report"

        def compute(part: list[str]) -> tuple[FloatArray, TruncationReport]:
            encoded = source.tokenizer.encode(part, max_length=source.folder.max_length, truncate=mode)
            vectors = merge_windows(run_rows(engine, encoded, source.tokenizer.pad_id), encoded, len(part))
            return normalise_rows(vectors), encoded.report

        return self._compute(texts, source.folder.vector_size, compute, truncate, show_progress)

    def _compute(
        self, texts: list[str], width: int, compute: Any, truncate: str, show_progress: bool | None
    ) -> tuple[FloatArray, TruncationReport]:
        return compute_once(
            texts,
            (width,),
            compute,
            truncate=truncate,
            max_length=self._source.folder.max_length,
            label="texts",
            show_progress=show_progress,
        )


_PARAMETERS = (
    "model",
    "labels",
    "prompt",
    "method",
    "decider",
    "neighbors",
    "whitening",
    "C",
    "calibrate",
    "precision",
    "threads",
    "device",
)


def _words(labels: Labels) -> dict[str, str]:
    """Return {label: word}, checked."""
    if isinstance(labels, str) or not isinstance(labels, (Mapping, Iterable)):
        raise InputError(
            found=shorten(labels),
            expected='a list of label words such as ["体育", "财经"], or {label: word}',
            fix="Pass a list.",
            where="labels",
        )
    given = list(labels.values()) if isinstance(labels, Mapping) else as_list(labels, "labels")
    problem = ""
    if any(not isinstance(word, str) or not word.strip() for word in given):
        problem = "a label word that is not text"
    elif len(set(given)) < len(given):
        problem = "a label word twice"
    elif len(given) < 2:
        problem = "too few labels"
    if problem:
        raise InputError(
            found=f"{problem} in {shorten(given, 80)}",
            expected="at least two different words",
            fix="Correct the labels.",
            where="labels",
        )
    return dict(labels) if isinstance(labels, Mapping) else {word: word for word in given}


def word_ids(source: Source, word: str) -> list[int]:
    """Return the token ids of a label word.

    Raises:
        InputError: a character of it is not in the vocabulary.
    """
    ids: list[int] = source.tokenizer.ids_of_word(word)
    if not ids or source.tokenizer.unk_id in ids:
        raise InputError(
            found=f"label word {word!r} with characters outside this model's vocabulary",
            expected="words made of known characters",
            fix='Choose another word for the label: labels={"label": "word"}.',
            where="labels",
        )
    return ids


def label_log_probs(
    source: Source,
    engine: Engine,
    texts: list[str],
    columns: list[npt.NDArray[np.int64]],
    prompt: str,
    mode: TruncateMode,
) -> tuple[FloatArray, TruncationReport]:
    """Return how well each label word fits into the prompt before each text; one run for each length of words.

    Args:
        source: the model.
        engine: its engine with an "mlm" head; without `log_normalizer` the values of words of one length are off by
            the same amount.
        texts: the texts.
        columns: for each word, the columns of its tokens in the engine's output.
        prompt: with {} for the word.
        mode: "report" or "window".

    Returns:
        mean log-probability per token, float32 [n, words], and what was cut.
    """
    result = np.empty((len(texts), len(columns)), np.float32)
    report = TruncationReport(len(texts), np.empty(0, np.int64), np.empty(0, np.int64))
    for length in sorted({len(column) for column in columns}):
        chosen = [place for place, column in enumerate(columns) if len(column) == length]
        at = np.asarray([columns[place] for place in chosen])
        encoded = source.tokenizer.encode_prompt(
            texts, prompt, n_masks=length, max_length=source.folder.max_length, truncate=mode
        )
        scores = np.empty((len(encoded.ids), len(chosen)), np.float32)
        for batch, output in engine.run(make_batches(encoded, pad_id=source.tokenizer.pad_id)):
            logits, normaliser = output if isinstance(output, tuple) else (output, None)
            summed = np.sum([logits[:, mask, at[:, mask]] for mask in range(length)], axis=0)
            if normaliser is not None:
                summed = summed - normaliser.sum(axis=1, keepdims=True)
            scores[batch.rows] = summed / length
        result[:, chosen] = merge_windows(scores, encoded, len(texts))
        report = encoded.report  # the longest word leaves the least room for the text
    return result, report
