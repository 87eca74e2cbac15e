"""`jinyi data`: files looked at before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jinyi.cli.common import Encoding, Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from jinyi.evals.datacheck import DataCheck, FileReport, Finding

app = typer.Typer(help="Data files: check.", no_args_is_help=True, rich_markup_mode=None)
_WIDEST = 60  # characters of a text shown


@app.command("check")
def check(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="txt, tsv, csv, jsonl (also .gz, .xz) or parquet with texts or pairs; default name: folder/split.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name or folder: count what it would cut or not know.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of the texts, as in texta,textb; found by usual names.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Default: label or score.")] = None,
    encoding: Encoding = "utf-8",
    simplified: Annotated[
        bool, typer.Option(help="Traditional and simplified characters are alike (jinyi[zh]).")
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="Rows shown for each finding.")] = 1,
    strict: Annotated[bool, typer.Option(help="Exit with 2 if there is a problem.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for a report: HTML, Markdown, JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find repeats, conflicting labels, rows shared between splits, and what a model would not read.

    jinyi data check afqmc/train.jsonl afqmc/dev.jsonl --model jinyi-tiny-pair --strict
    """
    from jinyi.batches import progress
    from jinyi.cli.printing import check_output
    from jinyi.evals.datacheck import as_dict, as_evaluation, check_data
    from jinyi.evals.provenance import stamp
    from jinyi.evals.report import save

    check_output(output)
    with progress("rows", None) as advance:
        found = check_data(
            files,
            model=model,
            columns=columns.split(",") if columns else None,
            label_column=label_column,
            encoding=encoding,
            simplified=simplified,
            examples=examples,
            advance=advance,
        )
    saved = save(stamp(as_evaluation(found)), output) if output is not None else None
    if as_json:
        print_json({**as_dict(found), "report": None if saved is None else str(saved)})
    else:
        _show(found)
        if saved is not None:
            print_note(f"report: {saved / 'report.html'}")
    if strict and found.problems:
        raise typer.Exit(2)


def _show(found: DataCheck) -> None:
    with_model = found.files[0].tokens is not None
    heads = ["file", "rows", "repeated", "conflicts", "labels", "top label", "length"]
    print_table(
        [*heads, *(["cut", "unknown"] if with_model else [])], [_line(report) for report in found.files]
    )
    print(
        "length: characters of a row, median/95%/longest; repeated and conflicts: width, case, punctuation aside"
    )
    if found.sets:
        print_table(
            ["distinct rows in several sets", "same", "other label", "alike", "other label"],
            [
                [
                    " + ".join(one.sets),
                    *(
                        f"{count:,}"
                        for count in (one.same, one.same_differing, one.alike, one.alike_differing)
                    ),
                ]
                for one in found.sets
            ],
        )
    for finding in found.findings:
        _tell(finding)
    problems = len(found.problems)
    print_note(
        f"{problems} problem{'' if problems == 1 else 's'}, {len(found.findings) - problems} notes"
        if found.findings
        else "nothing found"
    )


def _line(report: FileReport) -> list[str]:
    from jinyi.evals.datacheck import quantiles

    labels = report.labels
    top, most = labels.most_common(1)[0] if labels else ("", 0)
    cells = [
        report.file.name,
        f"{report.rows:,}",
        f"{report.repeats.alike:,}",
        f"{report.conflicts.alike:,}",
        f"{len(labels):,}" if labels else "none",
        f"{top}: {most / labels.total():.1%}" if labels else "",
        "/".join(map(str, quantiles(report))),
    ]
    if report.tokens is not None:
        cells += [f"{len(report.tokens.cut):,}", f"{report.tokens.unknown_rate:.2%}"]
    return cells


def _tell(finding: Finding) -> None:
    from jinyi.evals.datacheck import sentence

    print(sentence(finding))
    for group in finding.examples:
        for place in group:
            label = "" if place.label is None else f"  [{place.label}]"
            texts = " | ".join(
                text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…" for text in place.texts
            )
            print(f"    {place.where}  {texts}{label}")
