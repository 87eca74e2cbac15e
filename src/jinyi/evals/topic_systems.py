"""What can be asked for a topic: each system and protocol, with its answers on every fold.

Systems yield `Answers`; scoring and tables are in `topics.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.errors import InputError, MissingExtraError, TruncationWarning
from jinyi.evals.topic_data import Fold, TopicData
from jinyi.evals.topic_labels import one_way
from jinyi.evals.topic_vectors import TextVectors, compact
from jinyi.models.common import FloatArray
from jinyi.models.heads import LeftOut
from jinyi.models.joint_head import JointHead
from jinyi.models.mixture import WORD_EXAMPLES, earned_word_weight, mixed, most_word_weight
from jinyi.models.topic_classifier import TopicClassifier
from jinyi.models.topic_fit import knows_too_much

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a system answers under one protocol.

    Args:
        system: model or baseline.
        protocol: how it was used.
        predicted: for each fold int64 [n], the numbers of labels.
        sure: for each fold float32 [n], the probability of what was predicted, or None.
        baseline: not a model under test.
        cut: scored texts of one file that were cut.
        settings: for programs.
        seed: where chance plays a part.
    """

    system: str
    protocol: str
    predicted: Sequence[Numbers]
    sure: Sequence[FloatArray] | None = None
    baseline: bool = False
    cut: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model under test: what to load it by, its name in tables, the runtime's options."""

    given: str | None
    name: str
    options: Mapping[str, Any]

    def classifier(self, **more: Any) -> TopicClassifier:
        """Open it as a classifier."""
        return TopicClassifier.load(self.given, **self.options, **more)


def own(model: Model, data: TopicData, folds: Sequence[Fold]) -> Answers:
    """Ask a folder that holds a trained classifier.

    Raises:
        InputError: it has a class that the set does not know.
    """
    classifier = model.classifier()
    classes = [str(label) for label in classifier.classes_]
    places = one_way(data.labels.ways, classes)
    unknown = [label for label in classes if label not in places]
    if unknown:
        raise InputError(
            found=f"classes {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''} in the model",
            expected=f"labels of {data.name}",
            fix="Score it on the set it was trained for, or give the set's labels (labels.json) as the model has them.",
            where=str(classifier.path),
        )
    numbers = np.asarray([places[label] for label in classes])
    answers, cut = [], 0
    for fold in folds:
        proba, fold_cut = _ask(classifier, fold)
        answers.append(best_of(proba, numbers))
        cut = max(cut, fold_cut)
    return answers_of(model, "as trained", answers, {"method": "own"}, cut=cut)


def zero_shot(
    model: Model, data: TopicData, folds: Sequence[Fold], prompt_name: str, prompt: str | None
) -> Answers:
    """Score the label words in a prompt, without any training row."""
    classifier = model.classifier(labels=data.labels.by_word, prompt=prompt)
    scores, cut = _word_scores(classifier, folds)
    # One answer for the folds that score one file: nothing deviates between them.
    done = {id(proba): best_of(proba, np.arange(len(data.labels))) for proba in scores}
    answers = [done[id(proba)] for proba in scores]
    # A model that was trained to say other words is calibrated unless its folder says nothing of them.
    calibrated = bool(classifier.state().get("contextual"))
    settings = {"method": "zero-shot", "prompt": prompt, "calibrated": calibrated}
    name = f"zero-shot, {prompt_name}" + (", calibrated" if calibrated else "")
    return answers_of(model, name, answers, settings, cut=cut)


def _word_scores(classifier: TopicClassifier, folds: Sequence[Fold]) -> tuple[list[FloatArray], int]:
    """Return what the label words say of each fold's texts, float32 [n, labels], and how many of a file were cut."""
    done: dict[Path, FloatArray] = {}
    cut = 0
    for fold in folds:
        if fold.scored.path not in done:
            done[fold.scored.path], fold_cut = _ask(classifier, fold)
            cut = max(cut, fold_cut)
    return [done[fold.scored.path] for fold in folds], cut


def prompt_tuned(
    model: Model,
    data: TopicData,
    folds: Sequence[Fold],
    prompt_name: str,
    prompt: str | None,
    options: Mapping[str, Any],
    seed: int,
) -> Answers:
    """Fine-tune the encoder on the label words of each fold's training rows (needs the extra `train`)."""
    answers, cut = [], 0
    for fold in trained(data, folds):
        assert fold.train is not None  # noqa: S101 - `trained` has looked
        classifier = model.classifier(labels=data.labels.by_word, prompt=prompt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # as in `_ask`
            classifier.fit(fold.train.texts, fold.train.targets, method="prompt", seed=seed, **options)
        proba, fold_cut = _ask(classifier, fold)
        answers.append(best_of(proba, np.asarray(classifier.classes_, np.int64)))
        cut = max(cut, fold_cut)
    settings = {"method": "prompt", "prompt": prompt, **options}
    return answers_of(model, f"prompt fine-tuning, {prompt_name}", answers, settings, seed=seed, cut=cut)


def linear(
    model: Model,
    data: TopicData,
    folds: Sequence[Fold],
    vectors: TextVectors,
    templates: Mapping[str, str | None],
) -> Iterator[Answers]:
    """Fit the linear model of `TopicClassifier.fit(method="linear")` with its defaults on each fold.

    Args:
        model: the model.
        data: the set.
        folds: with training rows.
        vectors: of the model.
        templates: prompts by name; with each, what was learnt is mixed with what the label words say. May be empty.
    """
    learnt: list[tuple[Fold, Numbers, Numbers, LeftOut, FloatArray]] = []
    for fold in trained(data, folds):
        assert fold.train is not None  # noqa: S101
        classes, targets = compact(fold.train.targets)
        seen = vectors.vectors(fold.train), vectors.ngrams(fold.train)
        known = knows_too_much(vectors.source, fold.train.texts, len(classes))
        head, left_out = JointHead.fit(*seen, targets, len(classes), known=known)
        proba = head.proba(vectors.vectors(fold.scored), vectors.ngrams(fold.scored))
        learnt.append((fold, classes, targets, left_out, proba))
    settings = {"method": "linear", "pooling": vectors.pooling}
    cut = max(vectors.cut[fold.scored.path, None] for fold in folds)
    protocol = "linear, vectors and n-grams"
    answers = [best_of(proba, classes) for _, classes, _, _, proba in learnt]
    yield answers_of(model, protocol, answers, settings, cut=cut)
    for name, prompt in templates.items():
        classifier = model.classifier(labels=data.labels.by_word, prompt=prompt)
        words, more_cut = _word_scores(classifier, folds)
        answers = []
        for (fold, classes, targets, left_out, proba), scores in zip(learnt, words, strict=True):
            weight = most_word_weight(WORD_EXAMPLES, len(targets), len(classes))
            if weight:
                said = _train_scores(classifier, fold, left_out.rows)[:, classes]
                weight = earned_word_weight(left_out.proba, said, targets[left_out.rows], weight)
            answers.append(best_of(mixed(proba, scores[:, classes], weight), classes))
        with_words = {**settings, "prompt": prompt, "word_examples": WORD_EXAMPLES}
        yield answers_of(
            model, f"{protocol}, label words, {name}", answers, with_words, cut=max(cut, more_cut)
        )


def _train_scores(classifier: TopicClassifier, fold: Fold, rows: Numbers) -> FloatArray:
    """Return what the label words say of some training rows, float32 [rows, labels]."""
    assert fold.train is not None  # noqa: S101
    return _proba(classifier, [fold.train.texts[row] for row in rows.tolist()])[0]


def tfidf_svm(data: TopicData, folds: Sequence[Fold]) -> Answers:
    """Fit a linear SVM (C = 1) on TF-IDF of characters and pairs of characters, as scikit-learn has them."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC
    except ImportError as fault:
        raise MissingExtraError(
            found="no scikit-learn",
            expected="scikit-learn, which fits the baseline",
            fix='Install it: pip install "jinyi[eval]"; or leave the baselines out.',
        ) from fault
    predicted = []
    for fold in trained(data, folds):
        assert fold.train is not None  # noqa: S101
        grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
        # The seed orders the solver's coordinates; without it two runs differ in a row or two.
        svm = LinearSVC(C=1.0, random_state=0).fit(grams.fit_transform(fold.train.texts), fold.train.targets)
        predicted.append(np.asarray(svm.predict(grams.transform(fold.scored.texts)), np.int64))
    return Answers(
        system="TF-IDF + linear SVM",
        protocol="characters and pairs of characters",
        predicted=predicted,
        baseline=True,
        settings={"method": "tfidf svm", "C": 1.0},
    )


def majority(folds: Sequence[Fold]) -> Answers:
    """Answer with the largest class of the scored rows everywhere: no constant answer has more right."""
    done: dict[Path, Numbers] = {}
    for fold in folds:
        largest = np.bincount(fold.scored.targets).argmax()
        done.setdefault(fold.scored.path, np.full(len(fold.scored), largest, np.int64))
    return Answers(
        system="largest class",
        protocol="of the scored rows, everywhere",
        predicted=[done[fold.scored.path] for fold in folds],
        baseline=True,
        settings={"method": "majority"},
    )


def trained(data: TopicData, folds: Sequence[Fold]) -> Sequence[Fold]:
    """Return the folds; InputError if one has no training rows, or none but of one label."""
    if any(fold.train is None for fold in folds):
        raise InputError(
            found="no training rows",
            expected="labelled rows to learn from",
            fix="Give a training file or a folder with one, or take the method zero-shot alone.",
            where=data.name,
        )
    for fold in folds:
        if fold.train is not None and (fold.train.targets == fold.train.targets[0]).all():
            raise InputError(
                found=f"{len(fold.train)} training labels that are all equal",
                expected="labels that differ",
                fix="Give training rows of several labels, or take zero-shot alone, without baselines.",
                where=str(fold.train.path),
            )
    return folds


def best_of(proba: FloatArray, classes: Numbers) -> tuple[Numbers, FloatArray]:
    """Return the likeliest class of each row of probabilities [n, m], by the numbers of the m classes, and its own."""
    place = proba.argmax(axis=1)
    return classes[place], proba[np.arange(len(proba)), place]


def answers_of(
    model: Model,
    protocol: str,
    answers: Sequence[tuple[Numbers, FloatArray]],
    settings: Mapping[str, Any],
    *,
    seed: int | None = None,
    cut: int,
) -> Answers:
    """Put the answers on each fold together."""
    return Answers(
        system=model.name,
        protocol=protocol,
        predicted=[numbers for numbers, _ in answers],
        sure=[sure for _, sure in answers],
        settings={"model": model.given or model.name, "precision": model.options["precision"], **settings},
        seed=seed,
        cut=cut,
    )


def _ask(classifier: TopicClassifier, fold: Fold) -> tuple[FloatArray, int]:
    """Return probabilities of the scored texts, float32 [n, classes], and how many texts were cut."""
    return _proba(classifier, fold.scored.texts)


def _proba(classifier: TopicClassifier, texts: Sequence[str]) -> tuple[FloatArray, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # told once, in the notes of the evaluation
        proba, report = classifier.predict_proba(texts, show_progress=False, return_report=True)
    return proba, report.cut
