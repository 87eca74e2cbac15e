"""`jinyi calibrate`: probabilities that hold, and thresholds, fitted on labelled rows and saved with the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jinyi.cli.common import (
    Device,
    Json,
    Model,
    Precision,
    Threads,
    check_copy,
    known_entries,
    print_note,
    quiet_truncation,
)
from jinyi.cli.named import named_files
from jinyi.errors import InputError

if TYPE_CHECKING:
    from jinyi.folder import ModelFolder


def calibrate(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[[NAME=]FILE]...", help="Further labelled files.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="[NAME=]FILE",
            help="Labelled rows that were not trained on; repeatable, all are taken together.",
        ),
    ] = None,
    model: Model = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="isotonic or platt for pairs (default: the one with the lower cross-fitted log loss), temperature for "
            "topics."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for a calibrated copy; default: the model's own folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model folder at --output.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for a report with the reliability plot.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Topics: label words joined by commas, or `data` for those of the file's own labels; default: the "
            "model's own."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Topics: text before the input, {} for the word.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds of cross-fitting.")] = 0,
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Make P(similar) or the probabilities of topics hold, and measure thresholds; saved in the model folder.

    jinyi calibrate --model my-model --data dev.jsonl --report report

    jinyi calibrate --data dev.jsonl --output calibrated (the shipped pair model)
    """
    from jinyi.cli.printing import check_output, show_evaluation
    from jinyi.files.formats import repeated
    from jinyi.folder import read_folder, update_record
    from jinyi.registry import default_model, locate

    named = named_files([*(data or ()), *(files or ())])
    if twice := repeated(named.values()):
        raise InputError(
            found="the same file under two names",
            expected="each row once: one that is fitted on is not left out of its own fold",
            fix="Name it once.",
            where=str(twice),
        )
    found = locate(default_model("pair") if model is None else model)
    folder = read_folder(found.path, facts=found.facts)
    known = found.name or found.path  # by its name, so that the registry's facts count in what is fitted too
    _check(folder, output, overwrite, topics=bool(labels or prompt))
    check_output(report)
    settings: dict[str, Any] = {"precision": precision, "threads": threads, "device": device}
    progress = None if not as_json else False
    if folder.task == "pair":
        from jinyi.evals.calibration import calibrate_pairs
        from jinyi.models.pair_scorer import PairScorer

        scorer = PairScorer.load(known, precision=precision, threads=threads, device=device)
        with quiet_truncation():
            calibrated = calibrate_pairs(scorer, named, method=method, seed=seed, progress=progress)
        saved = update_record(
            folder.path,
            target=output,
            overwrite=overwrite,
            calibration=calibrated.record,
            **known_entries(found, folder),
        )
    else:
        from jinyi.evals.topic_calibration import calibrate_topics, own_words
        from jinyi.models.topic_classifier import TopicClassifier

        words: dict[str, str] | list[str] | None = None
        if labels is not None:
            given = [word.strip() for word in labels.replace("，", ",").split(",")]
            words = own_words(next(iter(named.values()))) if given == ["data"] else given
        classifier = TopicClassifier.load(known, labels=words, prompt=prompt, **settings)
        with quiet_truncation():
            calibrated = calibrate_topics(classifier, named, method=method, seed=seed, progress=progress)
        if output is None:
            saved = update_record(folder.path, calibration=calibrated.record)
        else:
            saved = classifier.save(output, calibration=calibrated.record, overwrite=overwrite)
    show_evaluation(calibrated.evaluation, output=report, as_json=as_json)
    print_note(f"calibrated model: {saved}")


def _check(folder: ModelFolder, output: Path | None, overwrite: bool, *, topics: bool) -> None:
    """Refuse before anything is computed what could not be saved or calibrated."""
    where = str(folder.path)
    if folder.task in ("embed", "encoder") and not folder.record.get("topic"):
        raise InputError(
            found=f"a model of task {folder.task!r}, which gives vectors",
            expected="a pair model, or a topic model with labels",
            fix="Cosines are no probabilities: take a pair model, or fit a TopicClassifier on this one and save it.",
            where=where,
        )
    if topics and folder.task == "pair":
        raise InputError(
            found="--labels or --prompt for a pair model",
            expected="them for a topic model",
            fix="Leave them out.",
            where=where,
        )
    check_copy(folder.path, output, overwrite, "calibrated copy")
    if output is None and topics:
        raise InputError(
            found="--labels or --prompt without --output",
            expected="a folder for the copy that remembers them",
            fix="Add --output FOLDER.",
            where=where,
        )
