"""`jinyi corpus`: raw text to what pretraining reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from jinyi.cli.common import Encoding, Json, print_json, print_note, print_table
from jinyi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jinyi.train.corpus.clean import Report
    from jinyi.train.corpus.read import Form

app = typer.Typer(help="Raw text: clean, mix, shard.", no_args_is_help=True, rich_markup_mode=None)
_PIECE = 1 << 20

Inputs = Annotated[
    list[Path],
    typer.Option(
        "--input", "-i", help="txt (also .gz, .xz), tsv, csv, jsonl or parquet; may be given again."
    ),
]
Documents = Annotated[
    str, typer.Option(help="In a txt: blank (a blank line ends a document) or lines (each line is one).")
]
Column = Annotated[str | None, typer.Option(help="Column of the text; found by usual names.")]


@app.command("clean")
def clean(
    source: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="txt file (also .gz, .xz).")],
    documents: Documents = "blank",
    column: Column = None,
    encoding: Encoding = "utf-8",
    split: Annotated[bool, typer.Option(help="One sentence a line.")] = True,
    simplified: Annotated[bool, typer.Option(help="Traditional to simplified characters.")] = False,
    characters: Annotated[int, typer.Option(help="Fewest characters of a line.")] = 5,
    han: Annotated[float, typer.Option(help="Smallest share of Chinese characters of a line.")] = 0.3,
    ended: Annotated[bool, typer.Option(help="Only lines that end with a punctuation mark.")] = True,
    code: Annotated[bool, typer.Option(help="Drop lines with markup or program code.")] = True,
    boilerplate: Annotated[bool, typer.Option(help="Drop lines such as 版权所有.")] = True,
    bad_words: Annotated[
        Path | None, typer.Option(help="txt with a word a line; documents with one are dropped.")
    ] = None,
    sentences: Annotated[int, typer.Option(help="Fewest lines left of a document.")] = 1,
    span: Annotated[int, typer.Option(help="Drop runs of so many lines that came before; 0: keep.")] = 3,
    near: Annotated[
        float, typer.Option(help="Drop documents this similar to an earlier one; 0: keep.")
    ] = 0.8,
    report: Annotated[Path | None, typer.Option(help="JSON file for the account.")] = None,
    as_json: Json = False,
) -> None:
    """Clean text by rules, drop duplicates, and say what each rule took away.

    jinyi corpus clean -i raw.txt -o clean.txt --simplified
    """
    from jinyi.files import atomic_file
    from jinyi.files.formats import PACKED, file_format
    from jinyi.train.corpus.clean import Report, Rules
    from jinyi.train.corpus.clean import clean as run
    from jinyi.train.corpus.read import read_documents

    _need_txt(output)
    refuse_same(output, source)
    words: tuple[str, ...] = ()
    if bad_words is not None:
        listed = read_documents([bad_words], form="lines", encoding=encoding)
        words = tuple(line.strip() for lines in listed for line in lines)
    rules = Rules(
        split=split,
        simplified=simplified,
        characters=characters,
        han=han,
        ended=ended,
        code=code,
        boilerplate=boilerplate,
        bad_words=words,
        sentences=sentences,
        span=span or None,
        near=near or None,
    )
    account = Report()
    texts = read_documents(source, form=cast("Form", documents), column=column, encoding=encoding)
    pack = PACKED.get(file_format(output)[1], bytes)
    with atomic_file(output) as stream:
        for piece in _pieces(run(texts, rules, report=account)):
            stream.write(pack(piece))
    body = {"output": str(output), **account.to_dict()}
    if report is not None:
        with atomic_file(report) as stream:
            stream.write((json.dumps(body, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))
    if as_json:
        print_json(body)
        return
    _show(account)
    print_note(f"{account.kept_documents:,} of {account.documents:,} documents -> {output}")


def _need_txt(output: Path) -> None:
    from jinyi.files.formats import file_format

    kind, _ = file_format(output)
    if kind != "txt":
        raise InputError(
            found=f"a {kind} file for the text",
            expected="txt (also .gz, .xz)",
            fix="Choose another name for the output.",
            where=str(output),
        )


def refuse_same(output: Path, sources: Iterable[Path]) -> None:
    """Refuse to write over what is read: it would be lost."""
    if output.exists() and any(path.exists() and output.samefile(path) for path in sources):
        raise InputError(
            found="the same file for input and output",
            expected="two files",
            fix="Give the output another name: the input would be lost.",
            where=str(output),
        )


def _pieces(documents: Iterable[list[str]], *, blank: bool = True) -> Iterator[bytes]:
    """Sentences a line, a blank line after each document unless told otherwise, about a megabyte at a time."""
    block: list[str] = []
    size = 0
    for lines in documents:
        block += [*lines, ""] if blank else lines
        size += sum(map(len, lines))
        if size >= _PIECE:
            yield ("\n".join(block) + "\n").encode("utf-8")
            block, size = [], 0
    if block:
        yield ("\n".join(block) + "\n").encode("utf-8")


def _show(account: Report) -> None:
    def share(characters: int) -> str:
        return f"{characters / account.characters:.1%}" if account.characters else ""

    def row(name: str, documents: int, lines: int, characters: int, examples: str = "") -> list[str]:
        return [name, f"{documents:,}", f"{lines:,}", f"{characters:,}", share(characters), examples]

    rows = [row("read", account.documents, account.lines, account.characters)]
    for rule, part in sorted(account.dropped.items(), key=lambda item: -item[1].characters):
        rows.append(row(rule, part.documents, part.lines, part.characters, " / ".join(part.examples)))
    rows.append(row("kept", account.kept_documents, account.kept_lines, account.kept_characters))
    print_table(["", "documents", "lines", "characters", "share", "such as"], rows)


@app.command("mix")
def mix(
    take: Annotated[
        list[str],
        typer.Option("--take", help="FILE=CHARACTERS: how much of a file; may be given again."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="txt file (also .gz, .xz).")],
    documents: Documents = "blank",
    column: Column = None,
    encoding: Encoding = "utf-8",
    scale: Annotated[float, typer.Option(help="Multiplies all the characters.")] = 1.0,
    block: Annotated[int, typer.Option(help="Neighbouring documents that are drawn together.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a corpus from several: so many characters of each file.

    jinyi corpus mix --take news.txt=9000000 --take forum.txt.xz=600000 -o corpus.txt
    """
    from jinyi.files import atomic_file
    from jinyi.files.formats import PACKED, file_format
    from jinyi.train.corpus.mix import mix as run

    _need_txt(output)
    takes = [_take(text) for text in take]
    refuse_same(output, [path for path, _ in takes])
    counts = {"documents": 0, "characters": 0}

    def counted() -> Iterator[list[str]]:
        form = cast("Form", documents)
        for lines in run(
            takes, form=form, column=column, encoding=encoding, scale=scale, block=block, seed=seed
        ):
            counts["documents"] += 1
            counts["characters"] += sum(map(len, lines))
            yield lines

    pack = PACKED.get(file_format(output)[1], bytes)
    with atomic_file(output) as stream:
        for piece in _pieces(counted(), blank=documents == "blank"):
            stream.write(pack(piece))
    body = {"output": str(output), **counts}
    if as_json:
        print_json(body)
        return
    print_note(f"{counts['documents']:,} documents, {counts['characters']:,} characters -> {output}")


def _take(text: str) -> tuple[Path, int]:
    name, _, number = text.rpartition("=")
    try:
        return Path(name or number), int(number.replace("_", "") if name else "")
    except ValueError as error:
        raise InputError(
            found=text,
            expected="FILE=CHARACTERS with a whole number",
            fix="For example --take news.txt=9000000.",
            where="--take",
        ) from error


@app.command("shard")
def shard(
    source: Inputs,
    tokenizer: Annotated[str, typer.Option(help="Model folder or name, tokenizer.json or vocab.txt.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    documents: Documents = "blank",
    column: Column = None,
    encoding: Encoding = "utf-8",
    longest: Annotated[
        int, typer.Option(help="Cut lines of more characters at ends of sentences; 0: as they are.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a shard folder that is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Tokenise text once, with word boundaries, for `jinyi train` to read.

    jinyi corpus shard -i clean.txt --tokenizer vocab.txt -o shards
    """
    from jinyi.train.corpus.read import cut_line, read_documents
    from jinyi.train.corpus.shards import Shards, write_shards
    from jinyi.vocab.files import open_tokenizer

    texts = read_documents(source, form=cast("Form", documents), column=column, encoding=encoding)
    if longest > 0:
        texts = ([piece for line in lines for piece in cut_line(line, longest)] for lines in texts)
    path = write_shards(texts, open_tokenizer(tokenizer), output, overwrite=overwrite)
    body: dict[str, Any] = {"output": str(path), **Shards.open(path).record}
    if as_json:
        print_json(body)
        return
    counts = body["counts"]
    print_note(
        f"{counts['documents']:,} documents, {counts['sentences']:,} sentences, {counts['tokens']:,} tokens "
        f"({counts['unknown'] / counts['tokens']:.2%} [UNK]) -> {path}"
    )
