"""Fine-tuning for `TopicClassifier.fit(method="prompt")`: its settings, its label words, and where its weights lie."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from jinyi.arguments import whole_number
from jinyi.errors import InputError, MissingExtraError, shorten
from jinyi.models.labels import label_words
from jinyi.models.source import Source
from jinyi.models.topic_folder import write_topic
from jinyi.models.zero_shot import word_ids
from jinyi.scratch import Scratch
from jinyi.tokens import TruncationReport

_TRAINING = ("torch", "accelerate", "yaml", "psutil")


@dataclass(frozen=True)
class FineTuning:
    """How an encoder is fine-tuned.

    Args:
        epochs: passes over the texts; None makes about 300 steps of them, in 3 to 20 passes.
        learning_rate: highest rate of AdamW; None is 5e-4 for encoders less than 512 wide, else TCBert's 2e-5.
        batch_size: texts of a step.
        seed: of order and dropout.

    Raises:
        InputError: a number out of range.
    """

    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int = 16
    seed: int = 0

    @classmethod
    def of(cls, method: str, **given: Any) -> FineTuning:
        """Return the settings for `fit`; None stands for a default.

        Raises:
            InputError: some are given with a method that has none, or a number out of range.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if given and method != "prompt":
            raise InputError(
                found=f"{', '.join(given)} for method {method!r}",
                expected='them with method="prompt"',
                fix="Leave them out.",
                where=next(iter(given)),
            )
        return cls(**given)

    def __post_init__(self) -> None:
        given: dict[str, Any] = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        for name, value in given.items():
            if value is None:
                continue
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and 0 < value < float("inf")):
                raise InputError(
                    found=shorten(value), expected="a number above 0", fix="Leave it out.", where=name
                )
            object.__setattr__(self, name, float(value))  # numpy's numbers are no JSON
        batch = whole_number(self.batch_size, "batch_size", fix="Leave it out.")
        seed = whole_number(self.seed, "seed", least=0, most=2**32 - 1, fix="Leave it out.")
        object.__setattr__(self, "batch_size", batch)
        object.__setattr__(self, "seed", seed)


class OwnFolder:
    """A folder in the system's place for temporary files that is there as long as this object.

    A pickle holds its files; copies share it.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()
        self.path = self._scratch.path / "model"

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnFolder:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        files = (file for file in sorted(self.path.rglob("*")) if file.is_file())
        return _unpack, ({file.relative_to(self.path).as_posix(): file.read_bytes() for file in files},)


def _unpack(files: Mapping[str, bytes]) -> OwnFolder:
    own = OwnFolder()
    for name, data in files.items():
        (own.path / name).parent.mkdir(parents=True, exist_ok=True)
        (own.path / name).write_bytes(data)
    return own


def words_for(
    source: Source, classes: Sequence[Any], words: Mapping[Any, str], *, given: bool
) -> dict[Any, str]:
    """Return the labels to tell apart with their words, sorted by label.

    Args:
        source: the model.
        classes: the distinct labels of the training texts.
        words: label words that the classifier has.
        given: whether the user gave them: then all are kept, and there may be no other label. Else they serve where
            they cover the classes, and labels that are text are their own words.

    Raises:
        InputError: a label without a word, labels that cannot be words, or a model that cannot score words.
    """
    if source.folder.task not in ("topic", "mlm"):
        raise InputError(
            found=f"a model of task {source.folder.task!r}",
            expected="a topic or language model, which can score words",
            fix='Take another model, or method="linear" or "reference".',
            where='method="prompt"',
        )
    missing = [label for label in classes if label not in words]
    if given and missing:
        raise InputError(
            found=f"label {shorten(missing[0])}",
            expected=f"one of {shorten(list(words), 80)}",
            fix="Give its word too: labels={label: word}.",
            where="labels",
        )
    if not missing:
        kept = set(words) if given else set(classes)
        return {label: words[label] for label in sorted(words) if label in kept}
    if not all(isinstance(label, str) for label in classes):
        raise InputError(
            found=f"label {shorten(missing[0])}, which has no word",
            expected="a word for each label: by prompt, topics are told apart by words",
            fix='Open the classifier with labels={label: word}, for example {0: "体育", 1: "财经"}.',
            where="labels",
        )
    return label_words({label: label for label in sorted(classes)})


def fine_tune(
    source: Source,
    texts: Sequence[str],
    classes: Sequence[Any],
    words: Mapping[Any, str],
    prompt: str,
    settings: FineTuning,
    progress: bool | None,
) -> tuple[OwnFolder, TruncationReport]:
    """Fine-tune a model with an MLM head, and write it with its label words as a folder; also say what was cut.

    Args:
        source: the model to begin from.
        texts: checked texts.
        classes: label of each.
        words: label words, by label.
        prompt: with {} for the word.
        settings: numbers of the training.
        progress: as in `TopicClassifier.fit`.

    Raises:
        MissingExtraError: the packages for training are not installed.
        InputError: precision "int8"; a text with nothing to read, or a word outside the vocabulary; training diverges.
    """
    if source.precision == "int8":
        raise InputError(
            found='precision="int8"',
            expected='"auto", "float32" or "bfloat16": ranges for 8 bits belong to the weights they were measured on',
            fix="Open the model without it.",
            where='method="prompt"',
        )
    masks = max(len(word_ids(source, word)) for word in words.values())
    encoded = source.tokenizer.encode_prompt(
        texts, prompt, masks, max_length=source.folder.max_length, truncate="report"
    )
    try:
        from jinyi.train.prompt_fit import prompt_fit
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _TRAINING:
            raise
        raise MissingExtraError(
            found=f"no package {error.name}",
            expected='the packages for training, for fit(method="prompt")',
            fix='Run: pip install "jinyi[train]" - or fit with method="linear" or "reference".',
            where='method="prompt"',
        ) from error
    own, numbers = OwnFolder(), {label: number for number, label in enumerate(words)}
    trained = prompt_fit(
        source,
        texts,
        [numbers[label] for label in classes],
        words=list(words.values()),
        prompt=prompt,
        target=own.path.with_name("trained"),
        settings=settings,
        progress=progress,
    )
    state = {
        "calibrate": False,
        "words": list(words.items()),
        "prompt": prompt,
        "fitted": {"method": "prompt", "classes": list(words)},
    }
    write_topic(own.path, Source.open(trained, "topic").folder, state, None, overwrite=False)
    shutil.rmtree(trained)
    return own, encoded.report
