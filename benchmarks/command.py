"""The command line that benchmarks of several systems share: options, names, the file of the result."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def shared_options(about: str | None) -> argparse.ArgumentParser:
    """A parser with --json, --quick and --rounds; `about` is the script's own text."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: does it run at all")
    parser.add_argument("--rounds", type=int, help="default 5, with --quick 2")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with `rounds` settled."""
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options


def names_of(known: Iterable[Any]) -> Callable[[str], set[str]]:
    """An argparse type: names from a comma-separated list."""
    names = {item.name for item in known}

    def parse(text: str) -> set[str]:
        chosen = set(text.split(","))
        if not chosen <= names:
            raise argparse.ArgumentTypeError(
                f"unknown {', '.join(sorted(chosen - names))}; known: {', '.join(sorted(names))}"
            )
        return chosen

    return parse


def write_result(file: Path | None, result: dict[str, Any]) -> None:
    """Write all that was measured so far to --json, where it was asked for."""
    if file:
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
