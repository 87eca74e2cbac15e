"""`jinyi quantize`: prepares a model folder for 8-bit arithmetic and measures what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jinyi.cli.common import Json, Threads, check_copy, known_entries, print_note, quiet_truncation
from jinyi.cli.named import named_files
from jinyi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def quantize(
    model: Annotated[str, typer.Option("--model", "-m", help="Name or folder.")],
    samples: Annotated[
        list[Path],
        typer.Option(
            "--samples", help="Texts, or pairs for a pair model, like those of later use; repeatable."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data", "-d", metavar="[NAME=]FILE", help="Labelled rows that were not trained on; repeatable."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for a prepared copy; default: the model's own folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model folder at --output.")
    ] = False,
    rows: Annotated[
        int, typer.Option(min=1, help="Sample texts or pairs taken of each file, from its beginning.")
    ] = 80,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure the ranges that `precision="int8"` rounds to, and what it costs on labelled files; saved in the folder.

    A loss above 0.3 points is stored too: such a model refuses int8.

    jinyi quantize -m my-model --samples train.jsonl --data bq=bq/dev.jsonl
    """
    from jinyi.cli.printing import show_evaluation
    from jinyi.evals.eight_bits import METRIC, measure_loss
    from jinyi.folder import read_folder, update_record
    from jinyi.models.int8 import measure
    from jinyi.registry import locate
    from jinyi.scratch import Scratch

    named = named_files(data)
    found = locate(model)
    folder = read_folder(found.path, facts=found.facts)
    check_copy(folder.path, output, overwrite, "prepared copy")
    if folder.task not in METRIC:
        raise InputError(
            found=f"a model of task {folder.task!r}",
            expected=f"one of {', '.join(METRIC)}",
            fix="What 8 bits cost shows in scores: train the encoder for a task first.",
            where=str(folder.path),
        )
    prompt = folder.prompts.get(folder.default_prompt_name or "", "") if folder.task == "topic" else ""
    inputs = _samples(samples, rows, pairs=folder.task == "pair", prompt=prompt)
    with Scratch() as scratch, quiet_truncation():
        # The copy first: it is read by its path when ranges are measured too.
        prepared = update_record(
            folder.path, target=scratch / folder.path.name, int8=None, **known_entries(found, folder)
        )
        update_record(prepared, ranges=measure(prepared, inputs))
        measured, table = measure_loss(prepared, named, threads=threads)
        saved = update_record(
            prepared, target=output or folder.path, overwrite=overwrite or output is None, int8=measured
        )
    show_evaluation(table, as_json=as_json)
    print_note(f"prepared model: {saved}")


def _samples(
    files: Sequence[Path], rows: int, *, pairs: bool, prompt: str
) -> list[str] | list[tuple[str, str]]:
    from itertools import islice

    from jinyi.files import read_pairs

    if pairs:
        return [(row.a, row.b) for file in files for row in islice(read_pairs(file), rows)]
    from jinyi.evals.labelled_pairs import read_plain_texts

    # As zero-shot prediction reads them: behind the prompt, here with a word in place of its [MASK]s.
    before = prompt.replace("{}", "体育")
    return [before + text for file in files for text in read_plain_texts(file)[:rows]]
