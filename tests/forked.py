"""Scripts and commands in processes of their own, forked from one that has imported PyTorch.

Importing it takes seconds in each process otherwise.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PRELOADED = ("torch", "torch._dynamo", "accelerate", "jinyi.train.build", "jinyi.train.run")
_CALLER = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.connect({address!r})
    door.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    code, printed = json.load(door.makefile())
print(printed, end="", file=sys.stderr)
sys.exit(code)
"""


def _script(
    path: Path, arguments: Sequence[str], variables: Mapping[str, str], log: Path, place: str = "."
) -> None:
    """What the child does: `python path arguments` in a folder, with what it prints going to `log`."""
    os.chdir(place)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def _context() -> Any:
    if not hasattr(os, "fork"):  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def together(
    script: str,
    each: Sequence[Sequence[object]],
    variables: Sequence[Mapping[str, str]] = (),
    *,
    seconds: float = 240,
) -> list[tuple[int | None, str]]:
    """Run a script of this folder once for each of the lists of arguments, all at a time.

    Args:
        script: its file name.
        each: the arguments of each process.
        variables: the environment that each has beside this process's own.
        seconds: after which those that still run are killed.

    Returns:
        Of each its exit code (negative: the signal that ended it) and what it printed.
    """
    context = _context()
    path = Path(__file__).with_name(script)
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for number, arguments in enumerate(each):
            own = {**os.environ, **(variables[number] if variables else {})}
            log = Path(folder) / str(number)
            child = context.Process(target=_script, args=(path, [*map(str, arguments)], own, log))
            children.append((child, log))
        try:
            for child, _ in children:
                child.start()
            end = time.monotonic() + seconds
            for child, _ in children:
                child.join(max(0.0, end - time.monotonic()))
        finally:
            for child, _ in children:
                if child.is_alive():
                    child.kill()
                    child.join()
        return [(child.exitcode, log.read_text("utf-8") if log.exists() else "") for child, log in children]


def succeed(script: str, each: Sequence[Sequence[object]]) -> None:
    """Run a script as `together` does; every process must end well."""
    for code, printed in together(script, each):
        assert code == 0, printed


@contextmanager
def command(folder: Path) -> Iterator[Path]:
    """The command `jinyi` for shell scripts, to stand first in PATH: gives the folder that holds it.

    What it prints comes out as errors when it has ended.
    """
    address, log = str(folder / "door"), folder / "printed.log"
    installed = Path(sys.executable).with_name("jinyi")

    class Call(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            arguments, place, variables = json.loads(self.rfile.readline())
            child = _context().Process(target=_script, args=(installed, arguments, variables, log, place))
            child.start()
            child.join()
            self.wfile.write(json.dumps([child.exitcode, log.read_text("utf-8")]).encode())

    (folder / "jinyi").write_text(_CALLER.format(python=sys.executable, address=address), encoding="utf-8")
    (folder / "jinyi").chmod(0o755)
    with socketserver.UnixStreamServer(address, Call) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield folder
        finally:
            server.shutdown()
            thread.join()
