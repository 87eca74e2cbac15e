"""How well topics are found: by label words, by comparison with labelled texts, after fitting, over few-shot folds.

One table holds what the tables of TCBert (arXiv 2211.11304) and FewCLUE (arXiv 2107.07498) show: every way of using a
model, both prompts of a set, whitening by what it was fitted on, the mean over folds with its deviation; beside it a
linear SVM on the same training rows and the largest class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from jinyi.arguments import whole_number
from jinyi.errors import FolderError, InputError, shorten
from jinyi.evals.naming import model_names
from jinyi.evals.result import Evaluation, Row
from jinyi.evals.topic_data import Fold, TopicData
from jinyi.evals.topic_figures import confusion, examples_of, f1_bars, vector_map
from jinyi.evals.topic_notes import cut_texts, known_texts, notes_on
from jinyi.evals.topic_references import check_choices, references
from jinyi.evals.topic_scores import quoted_rows, row_of
from jinyi.evals.topic_systems import (
    Answers,
    Model,
    linear,
    majority,
    own,
    prompt_tuned,
    tfidf_svm,
    zero_shot,
)
from jinyi.evals.topic_vectors import TextVectors
from jinyi.models.heads import DECIDERS
from jinyi.models.source import Source

METHODS = ("own", "zero-shot", "reference", "linear", "prompt")


def evaluate_topics(
    models: Sequence[str | None],
    data: Mapping[str, TopicData],
    *,
    methods: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    folds: Sequence[str] | None = None,
    prompt_on: Sequence[str] = ("none", "scored"),
    deciders: Sequence[str] = DECIDERS,
    neighbors: int = 5,
    whitening: Sequence[str] = ("none", "train"),
    k: Sequence[int | None] = (64,),
    prompt_options: Mapping[str, Any] | None = None,
    baselines: bool = True,
    quoted: bool = True,
    intervals: bool = True,
    examples: int = 10,
    seed: int = 0,
    precision: str = "auto",
    threads: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score models on topic sets.

    Args:
        models: names or folders; None is the shipped topic model.
        data: sets by the name that tables show; see `read_topic_data`.
        methods: some of `METHODS`. "own": what a trained classifier's folder answers itself; "zero-shot": label words
            in a prompt; "reference": comparison of vectors with those of the training rows; "linear": as
            `TopicClassifier.fit` by default; "prompt": fine-tuning on label words (extra `train`; minutes for each
            fold and prompt). None takes all that model and set allow, but not "prompt".
        prompts: "1" and "2" for the set's own templates, or texts with {} for the word. None takes all templates of a
            set, or the model's own prompt for sets without.
        folds: names of folds, see `TopicData.choose`; a row then is the mean over them.
        prompt_on: for "reference": texts without prompt ("none"), with [MASK]s in the prompt before scored texts alone
            ("scored", what TCBert's card does) or before training texts too ("both").
        deciders: for "reference": "prototype" (class means), "nearest" (the single nearest text), "knn".
        neighbors: voters of "knn".
        whitening: for "reference": "none", "train" (fitted on the fold's training texts) or "train+scored" (on the
            scored texts too, without their labels).
        k: dimensions that whitening keeps; None keeps all. 64 is what GTS-Engine, of TCBert's authors, takes.
        prompt_options: for "prompt": `epochs`, `learning_rate`, `batch_size` of `TopicClassifier.fit`.
        baselines: also a linear SVM on TF-IDF fitted on the same rows, and the largest class.
        quoted: also published rows of TNEWS, CSLDCP and IFLYTEK, marked as quoted.
        intervals: 95% bootstrap intervals over the scored rows, where all folds are scored on the same.
        examples: wrong answers shown for each set, the most confident first.
        seed: of the bootstrap and of "prompt".
        precision: of the runtime.
        threads: of the runtime.
        progress: say on the standard error stream what is being computed.

    Returns:
        accuracy and macro-F1 x100 (mean over the classes that occur among labels or answers), best answers in figures.

    Raises:
        InputError: a method that a model or set does not allow, an unknown choice, no models or sets, a model twice.
        FolderError: a model for pairs.

    Cost: every text is encoded once for each model and prompt; deciders, whitenings and folds are small linear algebra.
    """
    _check(models, data, methods, prompt_options or {})
    names = model_names(models, "topic")
    check_choices(deciders, whitening, prompt_on)
    whole_number(neighbors, "neighbors", fix="Leave it out.")
    result = Evaluation(
        title="Topics",
        kind="topics",
        layout="sets across",
        across=("accuracy", "macro-F1"),
        averages={"mean": tuple(data)} if len(data) > 1 else {},
    )
    options = {"precision": precision, "threads": threads}
    for name, given_set in data.items():
        each = replace(given_set, name=name)
        chosen = each.choose(folds)
        result.notes += notes_on(each, chosen)
        answers: list[Answers] = []
        maps: list[TextVectors] = []
        for given, shown in zip(models, names, strict=True):
            source = Source.open(given, "topic", precision=precision, threads=threads)
            model = Model(given, shown, options)
            wanted = _methods(source, each, chosen, methods, model.name, result.notes)
            result.notes += known_texts(name, source, chosen)
            vectors = TextVectors(source)
            steps = _answers(
                model, each, chosen, wanted, vectors, _templates(each, prompts),
                prompt_on=prompt_on, deciders=deciders, neighbors=neighbors, whitening=whitening, k=k,
                notes=result.notes, prompt_options=prompt_options or {}, seed=seed,
            )  # fmt: skip
            for step in steps:
                if progress:
                    print(f"{name}: {step.system}, {step.protocol}", file=sys.stderr)
                answers.append(step)
            maps += [vectors] if wanted & {"reference", "linear"} else []
            result.notes += cut_texts(
                name, source, [step for step in answers if step.system == model.name], vectors
            )
        if baselines:
            answers += [tfidf_svm(each, chosen)] if all(fold.train for fold in chosen) else []
            answers.append(majority(chosen))
        if not answers:
            raise InputError(
                found=f"nothing that can be computed: {result.notes[-1]}",
                expected="a method with prompts and whitening that the set allows",
                fix="Give a prompt, keep fewer dimensions (--k), or leave --method and --prompt-on out.",
                where=name,
            )
        result.rows += [row_of(each, chosen, step, intervals=intervals, seed=seed) for step in answers]
        best = _best(chosen, answers)
        result.figures += [confusion(each, chosen, best), f1_bars(each, chosen, best)]
        result.figures += [vector_map(each, chosen[0], found, k[0], seed) for found in maps[:1]]
        result.examples += examples_of(each, chosen[0], best, examples)
    if quoted:
        published = (resources.files("jinyi.evals") / "published_topics.json").read_text(encoding="utf-8")
        result.rows += quoted_rows(published, data)
    result.rows = _in_order(result.rows)
    return result


def _check(
    models: Sequence[str | None],
    data: Mapping[str, TopicData],
    methods: Sequence[str] | None,
    prompt_options: Mapping[str, Any],
) -> None:
    wrong = [method for method in methods or () if method not in METHODS]
    if wrong or methods is not None and not methods:
        raise InputError(
            found=shorten(wrong[0]) if wrong else "no method",
            expected=" or ".join(METHODS),
            fix="Choose one of them, or several.",
            where="methods",
        )
    if prompt_options and "prompt" not in (methods or ()):
        raise InputError(
            found=f"{', '.join(prompt_options)} without the method prompt",
            expected="them for fine-tuning on label words",
            fix="Name the method (--method prompt), or leave them out.",
            where="prompt",
        )
    if not models or not data:
        raise InputError(
            found=f"{len(models)} models and {len(data)} sets",
            expected="at least one of both",
            fix="Name them.",
            where="topics",
        )


def _methods(
    source: Source,
    data: TopicData,
    folds: Sequence[Fold],
    asked: Sequence[str] | None,
    name: str,
    notes: list[str],
) -> set[str]:
    """Return the methods to run; those asked for must be possible."""
    folder = source.folder
    if folder.task == "pair":
        raise FolderError(
            found="a pair model",
            expected="a topic, classifier, embedding or language model",
            fix="Score it with `jinyi evaluate pairs`.",
            where=str(folder.path),
        )
    trained = folder.task == "classes" or bool((folder.record.get("topic") or {}).get("fitted"))
    reasons = {
        "own": "" if trained else f"{name} holds no trained classifier",
        "zero-shot": ""
        if folder.task in ("topic", "mlm") and data.labels.words
        else f"{name} cannot score words"
        if data.labels.words
        else f"{data.name} has no label words",
    }
    reasons["prompt"] = reasons["zero-shot"]
    if any(fold.train is None for fold in folds):
        lacking = f"{data.name} has no training rows"
        reasons |= {"reference": lacking, "linear": lacking, "prompt": lacking}
    impossible = [method for method in asked or () if reasons.get(method)]
    if impossible:
        raise InputError(
            found=f"method {impossible[0]}: {reasons[impossible[0]]}",
            expected="a method that the model and the set allow",
            fix="Leave the method out, give training rows or label words (labels.json), or take another model.",
            where=data.name,
        )
    possible = {method for method in METHODS if not reasons.get(method)}
    if asked is not None:
        return set(asked)
    if "zero-shot" not in possible:
        notes.append(f"{data.name}: no zero-shot rows: {reasons['zero-shot']}.")
    return possible - {"prompt"}


def _templates(data: TopicData, asked: Sequence[str] | None) -> dict[str, str | None]:
    """Return prompts by the name that tables show; None is the model's own prompt."""
    own_templates = {str(place): prompt for place, prompt in enumerate(data.labels.prompts, 1)}
    if asked is None:
        return {f"template {place}": prompt for place, prompt in own_templates.items()} or {
            "own prompt": None
        }
    chosen: dict[str, str | None] = {}
    for each in asked:
        if each not in own_templates and each.count("{}") != 1:
            raise InputError(
                found=shorten(each),
                expected=f'{" or ".join([*own_templates, "a text"])} with one "{{}}" for the label word',
                fix="Write the prompt with {} where the word belongs.",
                where=f"prompt for {data.name}",
            )
        chosen[f"template {each}" if each in own_templates else f"“{each}”"] = own_templates.get(each, each)
    return chosen


def _answers(
    model: Model,
    data: TopicData,
    folds: Sequence[Fold],
    wanted: set[str],
    vectors: TextVectors,
    templates: Mapping[str, str | None],
    *,
    prompt_options: Mapping[str, Any],
    seed: int,
    **reference: Any,
) -> Iterator[Answers]:
    if "own" in wanted:
        yield own(model, data, folds)
    if "zero-shot" in wanted:
        for name, prompt in templates.items():
            yield zero_shot(model, data, folds, name, prompt)
    if "reference" in wanted:
        texts = {name: prompt for name, prompt in templates.items() if prompt is not None}
        yield from references(model, data, folds, vectors, prompts=texts, **reference)
    if "linear" in wanted:
        # Where words can be scored, as `_methods` has found.
        yield from linear(model, data, folds, vectors, templates if "zero-shot" in wanted else {})
    if "prompt" in wanted:
        for name, prompt in templates.items():
            yield prompt_tuned(model, data, folds, name, prompt, prompt_options, seed)


def _best(folds: Sequence[Fold], answers: Sequence[Answers]) -> Answers:
    """The model under test with the most right answers; a baseline where there is no model."""

    def right(step: Answers) -> tuple[bool, float]:
        pairs = zip(folds, step.predicted, strict=True)
        return not step.baseline, sum(float((fold.scored.targets == said).mean()) for fold, said in pairs)

    return max(answers, key=right)


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """Models first, then baselines, then quoted rows, each in the order they were computed."""
    baseline = {"tfidf svm": 1, "majority": 1}
    return sorted(rows, key=lambda row: 2 if row.quoted else baseline.get(str(row.settings.get("method")), 0))
