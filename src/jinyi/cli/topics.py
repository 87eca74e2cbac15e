"""`jinyi evaluate topics`: how well topics are found."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jinyi.cli.common import Json, Precision, Threads
from jinyi.cli.evaluate_options import (
    Baselines,
    Examples,
    Intervals,
    Models,
    Quoted,
    Report,
    Seed,
    names_of,
    watched,
    widths_of,
)
from jinyi.cli.named import named_files


def topics(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[[NAME=]PLACE]...", help="Further sets.")
    ] = None,
    models: Models = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="[NAME=]PLACE",
            help="Folder with train, dev and labels.json or as FewCLUE has it, or a labelled file; repeatable. Sets "
            "called tnews, csldcp and iflytek have label words and prompts.",
        ),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE", help="Training rows of a set that is given as a file; repeatable."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE", help="Labels of a set: codes, names, words; repeatable."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="What is scored in folders: dev, test_public, ...")
    ] = None,
    output: Report = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="own, zero-shot, reference, linear or prompt (fine-tuning; minutes); repeatable. Default: all that "
            "model and set allow, but not prompt.",
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", help="1 or 2 for the set's own, or a text with {}; repeatable. Default: all."
        ),
    ] = None,
    folds: Annotated[
        list[str] | None,
        typer.Option(
            "--fold",
            help="0 to 4, few_all or train; repeatable. Default: the mean over 0 to 4 where there are folds.",
        ),
    ] = None,
    prompt_on: Annotated[
        list[str] | None,
        typer.Option(
            help="reference: texts without prompt (none), with it before the scored texts (scored) or before all "
            "(both); repeatable. Default: none and scored."
        ),
    ] = None,
    deciders: Annotated[
        list[str] | None,
        typer.Option("--decider", help="reference: prototype, nearest or knn; repeatable. Default: all."),
    ] = None,
    neighbors: Annotated[int, typer.Option(min=1, help="reference: voters of knn.")] = 5,
    whitening: Annotated[
        list[str] | None,
        typer.Option(
            help="reference: none, train (fitted on the training texts) or train+scored; repeatable. Default: none and "
            "train."
        ),
    ] = None,
    k: Annotated[
        list[str] | None,
        typer.Option("--k", help="Dimensions kept by whitening, a number or all; repeatable. Default: 64."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="prompt: passes over the training rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="prompt: peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="prompt: rows of a step.")] = None,
    examples: Examples = 10,
    baselines: Baselines = True,
    quoted: Quoted = True,
    intervals: Intervals = True,
    seed: Seed = 0,
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Accuracy and macro-F1 of topics: label words, references, linear, fine-tuned; few-shot folds.

    jinyi evaluate topics --data tnews=fewclue/tnews csldcp=fewclue/csldcp --split test_public --output report
    """
    from jinyi.cli.printing import check_output, show_evaluation

    places = named_files([*(data or ()), *(files or ())])
    trained = named_files(train, option="--train", of=places) if train else {}
    labelled = named_files(labels, option="--labels", of=places) if labels else {}
    check_output(output)
    from jinyi.evals.topic_data import read_topic_data
    from jinyi.evals.topics import evaluate_topics

    folders = any(place.is_dir() for place in places.values())
    sets = {
        name: read_topic_data(
            place,
            name=name,
            train=trained.get(name),
            labels=labelled.get(name),
            split=split
            if place.is_dir() or not folders
            else None,  # beside folders it is not meant for files
        )
        for name, place in places.items()
    }
    options = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    given: dict[str, Any] = {
        "prompt_on": prompt_on,
        "deciders": deciders,
        "whitening": whitening,
        "k": k and widths_of(k),
    }
    evaluation = evaluate_topics(
        names_of(models),
        sets,
        methods=methods,
        prompts=prompts,
        folds=folds,
        neighbors=neighbors,
        prompt_options={name: value for name, value in options.items() if value is not None},
        baselines=baselines,
        quoted=quoted,
        intervals=intervals,
        examples=examples,
        seed=seed,
        precision=precision,
        threads=threads,
        progress=watched(as_json),
        **{name: value for name, value in given.items() if value},
    )
    show_evaluation(evaluation, output=output, as_json=as_json)
