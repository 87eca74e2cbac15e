"""The command line: `jinyi COMMAND`. One command, one function; errors end as messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback

from jinyi.errors import JinyiError


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from jinyi.cli.commands import app  # here: Ctrl-C meets no traceback meanwhile

        app()
    except JinyiError as error:
        _print_error(error, as_json="--json" in sys.argv)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        print("This is a defect of jinyi; please report it with the lines above.", file=sys.stderr)
        sys.exit(1)


def _print_error(error: JinyiError, *, as_json: bool) -> None:
    parts = {"where": error.where, "found": error.found, "expected": error.expected, "fix": error.fix}
    if as_json:
        print(json.dumps({"error": parts}, ensure_ascii=False), file=sys.stderr)
        return
    print(f"error: {error.where}" if error.where else "error", file=sys.stderr)
    for name in ("found", "expected", "fix"):
        print(f"  {name:<9} {parts[name]}", file=sys.stderr)
