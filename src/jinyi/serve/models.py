"""The models a server has open, by name, and what each of them can be asked."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jinyi.errors import FolderError, InputError
from jinyi.models.open_labels import OpenLabels
from jinyi.models.pair_scorer import PairScorer
from jinyi.models.sentence_encoder import SentenceEncoder
from jinyi.models.source import Opener, Source
from jinyi.models.topic_classifier import TopicClassifier
from jinyi.models.work import Work
from jinyi.runtime import Engine, Head
from jinyi.serve.label_scores import LabelScores
from jinyi.serve.problems import ModelNotFound, WrongModel
from jinyi.serve.settings import ModelSetting, Settings
from jinyi.serve.token_states import TokenStates

DEFAULT = "default"
"""A name that stands for whichever model can answer."""

_NEEDS = {
    "embed": "sentence vectors",
    "embed_all": "vectors of tokens",
    "rerank": "scores of pairs",
    "predict": "a classifier's labels",
    "classify": "topics of its own",
    "zero_shot": "topics for labels named in the request",
    "tokenize": "tokens",
}
Operation = str
"""What is asked of a model: one of the keys of `_NEEDS`."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One opened model.

    Args:
        name: what clients call it.
        source: its folder and tokenizer.
        encoder: for sentence vectors.
        scorer: for P(similar) of pairs.
        outputs: for the classifier's own labels.
        classifier: for the topics the folder knows.
        open_labels: for topics named in the request.
        states: for the vectors of tokens.
        precision: what it computes in.
        created: when it was opened, in seconds since 1970.
    """

    name: str
    source: Source
    encoder: SentenceEncoder | None = None
    scorer: PairScorer | None = None
    outputs: LabelScores | None = None
    classifier: TopicClassifier | None = None
    open_labels: OpenLabels | None = None
    states: TokenStates | None = None
    precision: str = "float32"
    created: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """What it can be asked."""
        has = {
            "embed": self.encoder,
            "embed_all": self.states,
            "rerank": self.scorer,
            "predict": self.outputs or self.classifier,
            "classify": self.classifier,
            "zero_shot": self.open_labels,
        }
        return (*(name for name, part in has.items() if part is not None), "tokenize")

    @property
    def max_length(self) -> int:
        """Tokens read of an input, control tokens included."""
        return self.source.folder.max_length

    @property
    def topics(self) -> list[str]:
        """The topics the folder knows, in the order of the classifier's columns."""
        return [] if self.classifier is None else [str(label) for label in self.classifier.classes_.tolist()]

    @property
    def labels(self) -> list[str]:
        """Names of the outputs that /predict gives, in their order."""
        return self.topics if self.outputs is None else [str(label) for label in self.outputs.labels]

    @property
    def threshold(self) -> dict[str, float] | None:
        """From which P(similar) on pairs count as similar, where `jinyi calibrate` has put one into the folder."""
        if self.scorer is None or not self.source.folder.record.get("calibration"):
            return None
        try:
            point = self.scorer.operating_point()
        except InputError:  # calibrated, but not for the way this scorer reads pairs
            return None
        return {"value": point.threshold, "precision": point.precision, "recall": point.recall}

    def works(self, text: str) -> Iterator[Work]:
        """Yield one work for each engine, for warming it up and for asking whether it still computes.

        Args:
            text: cut where it is longer than the model reads.
        """
        if self.encoder is not None:
            yield self.encoder.prepare([text])
        if self.scorer is not None:
            yield self.scorer.prepare([(text, text)])
        elif self.outputs is not None:
            yield self.outputs.prepare([text])
        elif self.classifier is not None:
            yield self.classifier.prepare([text])
        if self.open_labels is not None:
            yield self.open_labels.prepare([text], _known_words(self.source))


class ServedModels:
    """All models of a server.

    Args:
        models: in the order in which they are taken where a request names none.

    Raises:
        InputError: none, or two of one name.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        names = [model.name for model in models]
        if not models or len(set(names)) < len(names) or DEFAULT in names:
            raise InputError(
                found=f"the names {', '.join(names) or '(none)'}",
                expected=f"one model at least, each of another name, none called {DEFAULT}",
                fix="Name them: --model faq=FOLDER.",
                where="--model",
            )
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    @property
    def names(self) -> list[str]:
        """The models' names, in their order."""
        return list(self._models)

    def choose(self, operation: Operation, name: str | None = None) -> ServedModel:
        """Return the model that answers a request.

        Args:
            operation: what is asked.
            name: of the model; None, "" or "default" take the first that can answer.

        Raises:
            ModelNotFound: no such name.
            WrongModel: the named model cannot answer, or none can.
        """
        if name and name != DEFAULT:
            model = self._models.get(name)
            if model is None:
                raise ModelNotFound(name, self.names)
            if operation in model.operations:
                return model
            others = [other.name for other in self if operation in other.operations]
            raise WrongModel(
                f"the model {name} does not give {_NEEDS[operation]}; "
                + (f"{', '.join(others)} does" if others else "start the server with one that does")
            )
        for model in self:
            if operation in model.operations:
                return model
        raise WrongModel(
            f"no model served here ({', '.join(self.names)}) gives {_NEEDS[operation]}; "
            "start the server with one that does"
        )


def open_model(setting: ModelSetting, settings: Settings, opener: Opener) -> ServedModel:
    """Open one model for everything it can be asked.

    Args:
        setting: which one, under which name.
        settings: precision, threads and device.
        opener: makes its engines.

    Raises:
        JinyiError: it is not there, is damaged, or is a bare encoder that states no pooling.
    """
    opener = _sharing(opener)
    options = {"precision": settings.precision, "threads": settings.threads, "device": settings.device}
    source = Source.open(setting.source, "", opener=opener, **options)  # type: ignore[arg-type]
    folder = source.folder
    fitted = bool((folder.record.get("topic") or {}).get("fitted"))
    encoder = scorer = outputs = classifier = open_labels = states = None
    if folder.task == "embed" or (folder.task == "encoder" and not fitted):
        if folder.task == "embed":
            encoder = SentenceEncoder(source)
        else:  # read as one
            encoder = SentenceEncoder.load(setting.source, opener=opener, **options)  # type: ignore[arg-type]
        states = TokenStates(source, encoder)
    if folder.task == "pair":
        scorer = PairScorer(source)
    if folder.task in ("pair", "classes"):
        outputs = LabelScores(source)
    if fitted or folder.task in ("classes", "topic", "mlm"):
        classifier = TopicClassifier.load(setting.source, opener=opener, **options)
        if hasattr(classifier, "classes_"):
            # Opens the engine of fitted classes now: in a request it would hold up the loop.
            classifier.prepare(["好"])
        else:
            classifier = None
    if folder.task in ("topic", "mlm"):
        open_labels = OpenLabels(source)
        states = TokenStates(source)
    name = setting.name or source.name or folder.path.name
    parts = (part for part in (encoder, scorer, classifier) if part is not None)
    precision = next((str(part.info()["precision"]) for part in parts), settings.precision)
    model = ServedModel(name, source, encoder, scorer, outputs, classifier, open_labels, states, precision)
    if len(model.operations) == 1:
        raise FolderError(
            found=f"a folder of task {folder.task!r} that can be asked nothing",
            expected="vectors, pair scores, classes or a language model",
            fix="Fit or convert it for one of them first.",
            where=str(folder.path),
        )
    return model


def _known_words(source: Source) -> list[str]:
    """Return two words of one character that the vocabulary has."""
    tokenizer = source.tokenizer
    singles = (word for word in tokenizer.vocab if len(word) == 1 and tokenizer.ids_of_word(word))
    return list(itertools.islice(singles, 2))


def _sharing(opener: Opener) -> Opener:
    """Return an opener that gives one engine where two parts of one model read the classifier's outputs."""
    classes: list[Engine] = []

    def opened(source: Source, head: Head) -> Engine:
        if head.kind != "classes":
            return opener(source, head)
        if not classes:
            classes.append(opener(source, head))
        return classes[0]

    return opened
