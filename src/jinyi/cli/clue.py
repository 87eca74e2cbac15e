"""`jinyi clue`: CLUE's data, runs over its tasks, submissions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jinyi.cli.common import Json, Precision, Threads, print_json, print_note, print_table
from jinyi.errors import InputError, shorten

if TYPE_CHECKING:
    from jinyi.clue.checking import CheckReport

app = typer.Typer(
    help="CLUE, FewCLUE, ZeroCLUE, QBQTC: download, run, check.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("download")
def download(
    data: Annotated[Path, typer.Option("--data", "-d", metavar="FOLDER", help="Where the zips go.")],
    tasks: Annotated[str, typer.Option(help="Names with commas between, or clue, fewclue, qbqtc.")] = "clue",
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A folder with the same zips, for the official addresses."),
    ] = None,
    verify: Annotated[bool, typer.Option(help="Refuse a zip that is not the known one.")] = True,
    as_json: Json = False,
) -> None:
    """Fetch the data of tasks as zips; a broken download goes on where it was."""
    from jinyi.batches import progress
    from jinyi.clue.download import download, source_of
    from jinyi.clue.tasks import tasks_by_name

    chosen = tasks_by_name(tasks)
    for source in dict.fromkeys(source_of(task) for task in chosen):
        with progress(source.name, source.size) as advance:
            done = 0

            def told(size: int, total: int | None) -> None:
                nonlocal done
                advance(max(size - done, 0))  # noqa: B023 - called inside this turn of the loop only
                done = size

            path = download(source, data, mirror=mirror, verify=verify, progress=told)
        if as_json:
            print_json({"file": str(path), "bytes": path.stat().st_size, "url": source.url})
        else:
            print_note(f"{path}: {path.stat().st_size:,} bytes")


@app.command("run")
def run(
    tasks: Annotated[str, typer.Option(help="Names with commas between, or clue, fewclue, qbqtc.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder or zip with CLUE's files.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="For runs, submissions and the report."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or folder of the encoder to begin from.")
    ] = "jinyi-tiny-embed",
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[TASK.]KEY=VALUE",
            help="Change a key of the recipes, of all or of one task: wsc.schedule.epochs=30; repeatable.",
        ),
    ] = None,
    grid: Annotated[
        str, typer.Option(help="none: published settings; small: also what small models need.")
    ] = "none",
    version: Annotated[str, typer.Option(help="Of CLUE's board, 1.0 or 1.1.")] = "1.1",
    seeds: Annotated[str, typer.Option(help="A run for each, with commas between.")] = "42",
    folds: Annotated[
        str, typer.Option(help="Of FewCLUE: one of 0 to 4 or all; several make the multi-fold submission.")
    ] = "0",
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train tasks, choose on dev, predict test, write the submission and a table.

    jinyi clue run --model jinyi-tiny-embed --tasks afqmc,tnews --data clue --output out --grid small

    A stopped run started again goes on where it was.
    """
    from jinyi.cli.printing import check_output, show_evaluation
    from jinyi.cli.train import training_extra, warnings_as_notes
    from jinyi.clue.tasks import check_version, tasks_by_name

    report = output / "report"
    check_output(report)
    with training_extra("jinyi clue run"), warnings_as_notes():
        from jinyi.clue.running import run_clue
        from jinyi.clue.settings import check_grid

        finished = run_clue(
            model,
            tasks_by_name(tasks),
            data=data,
            output=output,
            sets=sets or (),
            grid=check_grid(grid),
            version=check_version(version),
            seeds=[whole(entry, "--seeds") for entry in seeds.split(",")],
            folds=folds.split(","),
            precision=precision,
            threads=threads,
            progress=False if as_json else None,
            say=print_note,
        )
    show_evaluation(finished.evaluation, output=report, as_json=as_json)
    for benchmark, path in finished.zips.items():
        print_note(f"{benchmark}: {path}")


def whole(text: str, option: str) -> int:
    """Return a whole number of at least 0 out of an option, or raise InputError."""
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise InputError(
            found=shorten(text),
            expected="whole numbers with commas between",
            fix=f"For example {option} 42,43.",
            where=option,
        )
    return int(text)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The zip, or one of its files.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Folder or zip with the test files: ids are compared one by one."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of CLUE's board, 1.0 or 1.1; default: as the names tell.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a submission; exit code 2 and all faults if a board would score it wrong."""
    from jinyi.clue.checking import check_submission
    from jinyi.clue.tasks import check_version

    report = check_submission(file, data=data, version=check_version(version) if version else None)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    if not report.accepted:
        raise typer.Exit(2)


def _as_json(report: CheckReport) -> dict[str, object]:
    return {
        "file": report.path,
        "accepted": report.accepted,
        "version": report.version,
        "members": dict(report.members),
        "findings": [
            {"member": entry.member, "kind": entry.kind, "message": entry.message, "lines": list(entry.lines)}
            for entry in report.findings
        ],
        "notes": list(report.notes),
    }


def _print(report: CheckReport) -> None:
    for note in report.notes:
        print_note(note)
    if not report.accepted:
        print(f"{report.path}: not accepted, faults: {len(report.findings)}")
        for entry in report.findings:
            print(f"{entry.member}: {entry.kind}: {entry.message}{_places(entry.lines)}")
        return
    print(f"{report.path}: accepted{f' for CLUE {report.version}' if report.version else ''}")
    print_table(["member", "rows"], [[member, f"{rows:,}"] for member, rows in report.members.items()])


def _places(lines: tuple[int, ...]) -> str:
    if not lines:
        return ""
    more = f", ..., {len(lines):,} in all" if len(lines) > 5 else ""
    return f" (line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:5]))}{more})"
