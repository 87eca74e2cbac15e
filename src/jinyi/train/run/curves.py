"""The curves of a run as a picture: loss, learning rate, dev scores."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi.train.run.journal import LOG, read_log

CURVES = "curves.png"
_MEANS = 100
_SHARES = 1.5
_CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "PingFang SC", "Heiti SC", "Microsoft YaHei", "SimHei", "Droid Sans Fallback"),
)
_COLOURS = ("#1f5fa8", "#d1495b", "#2e8b57", "#8e5ea2", "#c98a1b", "#4d4d4d")


def draw(folder: Path, title: str, metric: str) -> Path | None:
    """Draw `curves.png` from the log of a run.

    Long runs are drawn as means over equal stretches of steps, with the range of the loss in them as a band.

    Args:
        folder: of the run, with its log.
        title: name of the run.
        metric: the dev score that decides; its best place is marked.

    Returns:
        The picture; None where matplotlib is not installed or no step was made.
    """
    log = read_log(folder / LOG)
    if not any("loss" in entry for entry in log) or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib import rc_context

    # Names may be Chinese: the first of these fonts that is there draws what matplotlib's own cannot.
    with rc_context({"font.family": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return _draw(folder, title, metric, log)


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _CHINESE if name in there)]


def _draw(folder: Path, title: str, metric: str, log: Sequence[dict[str, Any]]) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [entry for entry in log if "loss" in entry]
    dev = [entry for entry in log if "dev" in entry]
    rows = 3 if dev else 2
    figure = Figure(figsize=(9, 2.9 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, gridspec_kw={"height_ratios": [3, *[2] * (rows - 1)]})
    figure.suptitle(title, fontsize=12)
    _loss(axes[0], steps)
    _plain(axes[1], steps)
    if dev:
        _scores(axes[2], dev, metric)
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("optimiser step")
    fresh = folder / f".{CURVES}.tmp"
    figure.savefig(fresh, format="png")
    return fresh.replace(folder / CURVES)


def _loss(axis: Any, steps: Sequence[dict[str, Any]]) -> None:
    place, losses = _columns(steps, "loss")
    middle, mean, low, high = _stretches(place, losses)
    if len(losses) > len(mean):
        axis.fill_between(middle, low, high, color=_COLOURS[0], alpha=0.15, linewidth=0, label="5% to 95%")
    axis.plot(
        middle, mean, color=_COLOURS[0], linewidth=1.4, label="mean" if len(losses) > len(mean) else "loss"
    )
    axis.set_ylabel("training loss")
    axis.set_title(
        f"last: {mean[-1]:.4g}, lowest: {mean.min():.4g}", fontsize=9, loc="right", color="#555555"
    )
    if len(losses) > len(mean):
        axis.legend(frameon=False, fontsize=8)


def _plain(axis: Any, steps: Sequence[dict[str, Any]]) -> None:
    place, rates = _columns(steps, "lr")
    axis.plot(place, rates, color=_COLOURS[4], linewidth=1.4)
    axis.set_ylabel("learning rate", color=_COLOURS[4])
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _, norms = _columns(steps, "norm")
    middle, mean, _, _ = _stretches(place, norms)
    other = axis.twinx()
    other.plot(middle, mean, color=_COLOURS[5], linewidth=0.8, alpha=0.7)
    other.set_ylabel("gradient norm", color=_COLOURS[5])
    other.set_ylim(bottom=0)
    other.spines["top"].set_visible(False)


def _scores(axis: Any, dev: Sequence[dict[str, Any]], metric: str) -> None:
    """Shares and correlations on the left; numbers of another size, such as losses, on the right."""
    names = _shown({name for entry in dev for name in entry["dev"]}, metric)
    place = [entry["step"] for entry in dev]
    columns = {
        name: np.array([entry["dev"].get(name) for entry in dev], dtype=float)  # None becomes NaN
        for name in names
    }
    small = {name for name, values in columns.items() if not np.nanmax(np.abs(values), initial=0.0) > _SHARES}
    left, right = axis, axis.twinx() if small and len(small) < len(names) else None
    for number, (name, values) in enumerate(columns.items()):
        axis = left if right is None or name in small else right
        style = (
            {"linewidth": 1.8, "markersize": 4} if name == metric else {"linewidth": 1.0, "markersize": 2.5}
        )
        colour = _COLOURS[number % len(_COLOURS)]
        axis.plot(
            place, values, marker="o", color=colour, label=name, alpha=1 if name == metric else 0.7, **style
        )
        chosen = np.where(np.array(place) > 0, values, np.nan)  # before the first step nothing is chosen
        if name == metric and np.isfinite(chosen).any():
            best = int(np.nanargmax(chosen))
            left.axvline(place[best], color=colour, linewidth=0.8, linestyle=":")
            text = f"best {metric}: {values[best]:.4g} at step {place[best]}"
            left.set_title(text, fontsize=9, loc="right", color="#555555")
    left.set_ylabel("dev score")
    left.legend(frameon=False, fontsize=8, ncols=3, loc="upper left" if right else "best")
    if right is not None:
        right.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
        right.spines["top"].set_visible(False)


def _shown(names: set[str], metric: str) -> list[str]:
    """The deciding score first, then the means over the files, then that score of each file; those of a single file
    are the means again."""
    means = {name for name in names if any(other.endswith(f"_{name}") for other in names)} or names
    files = {name for name in names - means if name.endswith(f"_{metric}")}
    shown = means | ({metric} & names) | (files if len(files) > 1 else set())
    return sorted(shown, key=lambda name: (name != metric, name in files, name))


def _columns(
    steps: Sequence[dict[str, Any]], name: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return (
        np.array([entry["step"] for entry in steps], dtype=float),
        np.array([entry[name] for entry in steps], dtype=float),
    )


def _stretches(
    place: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], ...]:
    """Middle, mean, 5% and 95% of at most `_MEANS` equal stretches."""
    count = min(len(values), _MEANS)
    parts = np.array_split(values, count)
    return (
        np.array([part.mean() for part in np.array_split(place, count)]),
        np.array([part.mean() for part in parts]),
        np.array([np.quantile(part, 0.05) for part in parts]),
        np.array([np.quantile(part, 0.95) for part in parts]),
    )
