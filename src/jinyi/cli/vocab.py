"""`jinyi vocab`: build a vocabulary from text, prune a large one, look into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jinyi.cli.common import Encoding, Json, print_json, print_note, print_table
from jinyi.cli.corpus import refuse_same
from jinyi.errors import InputError

app = typer.Typer(help="Vocabularies: build, prune, inspect.", no_args_is_help=True, rich_markup_mode=None)

Inputs = Annotated[
    list[Path],
    typer.Option("--input", "-i", help="Text: txt, tsv, csv, jsonl or parquet; may be given again."),
]
Column = Annotated[str | None, typer.Option(help="Column of the text; found by usual names.")]


@app.command("build")
def build(
    source: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for vocab.txt and tokenizer.json.")],
    size: Annotated[int, typer.Option(help="Number of entries.")] = 8000,
    han: Annotated[int, typer.Option(help="At most so many Chinese characters.")] = 5900,
    symbols: Annotated[int, typer.Option(help="At most so many symbols besides punctuation.")] = 300,
    overwrite: Annotated[bool, typer.Option(help="Replace a vocabulary that is there already.")] = False,
    column: Column = None,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Build a vocabulary of single Chinese characters, symbols and Latin word pieces from text.

    jinyi vocab build -i clean.txt -o vocabulary --size 8000
    """
    from jinyi import vocab
    from jinyi.tokens import build_tokenizer
    from jinyi.train.corpus.read import read_documents
    from jinyi.vocab.files import save_text, write_entries

    _check_place(output, overwrite)
    texts = read_documents(source, form="lines", column=column, encoding=encoding)
    entries = vocab.build((line for lines in texts for line in lines), size, han=han, symbols=symbols)
    output.mkdir(parents=True, exist_ok=True)
    save_text(output / "tokenizer.json", build_tokenizer(entries).to_str(pretty=True))
    write_entries(output / "vocab.txt", entries)
    if as_json:
        print_json({"output": str(output), "entries": len(entries)})
        return
    print_note(f"{len(entries):,} entries -> {output}")


@app.command("prune")
def prune(
    vocabulary: Annotated[str, typer.Argument(help="vocab.txt, tokenizer.json, or a model folder or name.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="vocab.txt; for a model its new folder (see --model).")
    ],
    rules: Annotated[
        str, typer.Option(help="clue: CLUE's rules; seen: what the text of --input needs.")
    ] = "clue",
    source: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help="Text for --rules seen; may be given again.")
    ] = None,
    least: Annotated[int, typer.Option(help="seen: how often an entry must occur.")] = 1,
    size: Annotated[int | None, typer.Option(help="seen: most entries to keep.")] = None,
    model: Annotated[
        bool, typer.Option("--model", help="Write the whole model with its embedding rows carried over.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a model folder that is there already.")] = False,
    column: Column = None,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """Make a large vocabulary small, or a model with it.

    jinyi vocab prune google/vocab.txt -o vocab.txt

    jinyi vocab prune MODEL --model --rules seen -i texts.txt -o SMALL
    """
    from jinyi.train.corpus.read import read_documents
    from jinyi.vocab import RULES, prune_model, prune_unseen
    from jinyi.vocab import prune as run
    from jinyi.vocab.files import open_tokenizer, read_entries, write_entries

    if rules not in (*RULES, "seen"):
        raise InputError(
            found=rules,
            expected=f"one of {', '.join((*RULES, 'seen'))}",
            fix="Choose one of them; seen goes with --input.",
            where="--rules",
        )
    if (rules == "seen") != bool(source):
        raise InputError(
            found="--rules seen without --input" if rules == "seen" else f"--input with --rules {rules}",
            expected="--rules seen together with --input",
            fix="Give both or none.",
        )
    place = _place(vocabulary)
    if not model:
        refuse_same(output, [place, *(source or ())])
    if source:
        texts = read_documents(source, form="lines", column=column, encoding=encoding)
        lines = (line for part in texts for line in part)
        pruned = prune_unseen(open_tokenizer(place), lines, least=least, size=size)
    else:
        pruned = run(read_entries(place), rules=rules)
    body: dict[str, object] = {
        "output": str(output),
        "entries": len(pruned.entries),
        "dropped": {rule: len(rows) for rule, rows in pruned.dropped.items()},
        "added": len(pruned.added),
    }
    if model:
        from jinyi.folder import read_folder
        from jinyi.models.golden import golden_for

        golden = golden_for(read_folder(place).task)
        carried = prune_model(place, pruned.entries, output, golden=golden, overwrite=overwrite)
        body |= {"equal": carried.equal, "composed": len(carried.composed), "fresh": carried.fresh}
    else:
        write_entries(output, pruned.entries)
    if as_json:
        print_json(body)
        return
    print_table(
        ["dropped", "entries", "such as"],
        [[rule, f"{len(rows):,}", " ".join(rows[:8])] for rule, rows in pruned.dropped.items()],
    )
    print_note(f"{len(pruned.entries):,} entries, {len(pruned.added):,} of them new -> {output}")


@app.command("inspect")
def inspect(
    vocabulary: Annotated[str, typer.Argument(help="vocab.txt, tokenizer.json, or a model folder or name.")],
    source: Inputs,
    top: Annotated[int, typer.Option(help="How many of the missing characters to show.")] = 20,
    column: Column = None,
    encoding: Encoding = "utf-8",
    as_json: Json = False,
) -> None:
    """What a vocabulary makes of a text: tokens, share of [UNK], what is missing.

    jinyi vocab inspect MODEL -i texts.txt
    """
    from jinyi import vocab
    from jinyi.train.corpus.read import read_documents
    from jinyi.vocab.files import open_tokenizer

    tokenizer = open_tokenizer(_place(vocabulary))
    texts = read_documents(source, form="lines", column=column, encoding=encoding)
    coverage = vocab.inspect(tokenizer.backend, (line for lines in texts for line in lines), top=top)
    body = {
        "entries": tokenizer.vocab_size,
        "tokens": coverage.tokens,
        "characters": coverage.characters,
        "tokens_per_character": coverage.tokens / coverage.characters if coverage.characters else None,
        "unknown": coverage.unknown,
        "unknown_rate": coverage.unknown_rate,
        "missing": coverage.missing,
    }
    if as_json:
        print_json(body)
        return
    missing = " ".join(f"{text} ({count:,})" for text, count in coverage.missing)
    rate = f"{coverage.unknown:,} ({coverage.unknown_rate:.3%})"
    print_table(
        ["", vocabulary],
        [
            ["entries", f"{tokenizer.vocab_size:,}"],
            ["characters", f"{coverage.characters:,}"],
            ["tokens", f"{coverage.tokens:,}"],
            ["[UNK]", rate],
            ["missing most", missing],
        ],
    )


def _check_place(output: Path, overwrite: bool) -> None:
    """Refuse to write a vocabulary into a model, whose weights belong to another one, or over one unasked."""
    if (output / "config.json").exists():
        raise InputError(
            found="a model folder",
            expected="a folder of its own for the vocabulary: the model's weights belong to its own",
            fix="Choose another folder.",
            where=str(output),
        )
    there = [name for name in ("tokenizer.json", "vocab.txt") if (output / name).exists()]
    if there and not overwrite:
        raise InputError(
            found=f"{' and '.join(there)} there already",
            expected="a folder without them",
            fix="Choose another folder, or pass --overwrite to replace them.",
            where=str(output),
        )


def _place(name: str) -> Path:
    """A path that is there, or else the folder of a model of that name."""
    from jinyi.registry import find_model

    path = Path(name).expanduser()
    return path if path.is_file() else find_model(name)
