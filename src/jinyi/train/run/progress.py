"""What a person sees of a running training, and the signals they may send it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinyi.train.run.loop import State, StepReport

Show = Callable[[StepReport, float | None], None]
_SMOOTH = 0.95


@contextmanager
def shown(name: str, state: State, wanted: bool | None) -> Iterator[Show]:
    """Show a line with step, loss, dev score, tokens/s and time left on standard error.

    Args:
        name: of the run.
        state: of the loop; the bar begins at the steps done.
        wanted: True or False decides; None shows the line on a terminal only.

    Yields:
        A function to call with each step's report and the last dev score, if there is one.
    """
    if wanted is False:
        yield lambda report, score: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if wanted is None and not console.is_terminal:
        yield lambda report, score: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=console,
    )
    line = bar.add_task(name, total=state.total, completed=state.step, numbers="")
    smooth: dict[str, float] = {}

    def show(report: StepReport, score: float | None) -> None:
        for key, value in (("loss", report.loss), ("tokens", report.tokens), ("seconds", report.seconds)):
            smooth[key] = _SMOOTH * smooth.get(key, value) + (1 - _SMOOTH) * value
        speed = smooth["tokens"] / max(smooth["seconds"], 1e-9)
        dev = "" if score is None else f"  dev {score:.4f}"
        bar.update(
            line, completed=report.step, numbers=f"loss {smooth['loss']:.4f}{dev}  {speed:,.0f} tokens/s"
        )

    with bar:
        yield show


class Signals:
    """Notes Ctrl-C and SIGTERM instead of dying in the middle of a step.

    Attributes:
        asked: whether one came. A second Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python hands signals to that thread alone
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
