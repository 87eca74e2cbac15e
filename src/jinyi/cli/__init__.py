"""The command line: `jinyi COMMAND`. One command, one function; errors end as messages and exit codes."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import traceback

from jinyi.errors import InputError, JinyiError

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENAMETOOLONG)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    as_json = "--json" in sys.argv
    code: object = 1
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal without Chinese is no reason to fail
                stream.reconfigure(errors="backslashreplace")
        from jinyi.cli.commands import app  # here: Ctrl-C meets no traceback meanwhile

        code = app(standalone_mode=False)
    except JinyiError as error:
        _print_error(error, as_json=as_json)
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except Exception as error:
        code = _failed(error, as_json=as_json)
    _let_go()
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong outside jinyi's own checks; the exit code."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        refused = InputError(
            found=error.strerror or str(error),
            expected="a place that takes what is written",
            fix="Free space, or choose another name or place.",
            where=str(error.filename or ""),
        )
        _print_error(refused, as_json=as_json)
        return 2
    # Errors of Typer about options; where their class lies differs between its versions.
    if hasattr(error, "format_message") and hasattr(error, "show"):
        if not as_json:
            error.show()
            return 2
        command = getattr(getattr(error, "ctx", None), "command_path", "jinyi")
        told = error.format_message()
        wrong = InputError(
            found=told, expected="what the help names", fix=f"Run: {command} --help.", where=command
        )
        _print_error(wrong, as_json=True)
        return 2
    traceback.print_exc()
    print("This is a defect of jinyi; please report it with the lines above.", file=sys.stderr)
    return 1


def _let_go() -> None:
    """Print what is still held; where nobody takes it, drop it, or Python would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def to_json(value: object, encoding: str | None) -> str:
    """Return JSON with its characters as they are, or escaped where the stream's encoding has not all of them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _print_error(error: JinyiError, *, as_json: bool) -> None:
    fix = re.sub(r"\btruncate='(\w+)'", r"--truncate \1", error.fix)  # as the option is called here
    parts = {"where": error.where, "found": error.found, "expected": error.expected, "fix": fix}
    if as_json:
        print(to_json({"error": parts}, sys.stderr.encoding), file=sys.stderr)
        return
    print(f"error: {error.where}" if error.where else "error", file=sys.stderr)
    for name in ("found", "expected", "fix"):
        print(f"  {name:<9} {parts[name]}", file=sys.stderr)
