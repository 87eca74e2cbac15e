"""One function for each kind of figure, from its numbers to a matplotlib figure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# A colour that nothing else has: the drawing replaces it by the page's own text colour.
INK: Final = "#010203"
# Told apart by people who see few colours too (Okabe and Ito), on light and dark pages.
COLOURS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#8c6bb1", "#7f7f7f", "#b2912f", "#4d9078"),
)
_WIDTH = 7.2
_NAMED = 30
_RASTER = 800


def histogram(values: Mapping[str, Any]) -> Any:
    """Shares of rows by score, a step line for each group, on common bins."""
    groups = {str(name): _finite(scores) for name, scores in values["groups"].items()}
    figure, axis = _one(3.0)
    everything = np.concatenate([*groups.values(), np.zeros(0)])
    low, high = (everything.min(), everything.max()) if len(everything) else (0.0, 1.0)
    if low >= 0 and high <= 1:  # probabilities: the same axis for every model
        low, high = 0.0, 1.0
    edges = np.linspace(low, high if high > low else low + 1, 41)
    for place, (name, scores) in enumerate(groups.items()):
        if not len(scores):
            continue
        shares = 100 * np.histogram(scores, edges)[0] / len(scores)
        colour = COLOURS[place % len(COLOURS)]
        if len(groups) <= 3:  # more filled shapes over each other would hide one another
            axis.stairs(shares, edges, color=colour, fill=True, alpha=0.28, linewidth=0)
        axis.stairs(shares, edges, color=colour, linewidth=1.4, label=f"{name} ({len(scores):,})")
    for place, (name, x) in enumerate(values.get("lines", {}).items()):
        style = ("--", ":", "-.")[place % 3]
        axis.axvline(x, color=INK, linewidth=1.0, linestyle=style, label=f"{name} {x:.3g}")
    axis.set_xlabel(values.get("unit", "score"))
    axis.set_ylabel("% of the group")
    _legend(axis)
    return figure


def reliability(values: Mapping[str, Any]) -> Any:
    """Observed against predicted share, with how many rows fell into each bin below."""
    figure = _new(4.4, width=5.4)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
    above.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=0.9, linestyle="--", label="calibrated")
    for place, (name, curve) in enumerate(values["curves"].items()):
        predicted, observed, count = (_numbers(curve[key]) for key in ("predicted", "observed", "count"))
        there = np.isfinite(predicted) & np.isfinite(observed) & (count > 0)
        colour = COLOURS[place % len(COLOURS)]
        above.plot(
            predicted[there],
            observed[there],
            color=colour,
            linewidth=1.3,
            marker="o",
            markersize=3.5,
            label=name,
        )
        below.plot(predicted[there], count[there], color=colour, linewidth=1.0, marker="o", markersize=2.5)
    above.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="observed share")
    below.set(xlabel="predicted probability", ylabel="rows")
    below.set_yscale("symlog", linthresh=10)
    below.yaxis.set_major_formatter(lambda rows, _: f"{rows:,.0f}")
    below.set_ylim(bottom=0)
    _legend(above)
    return figure


def confusion(values: Mapping[str, Any]) -> Any:
    """Shares of each true class by predicted class; with few classes the counts are written into the fields."""
    labels = [str(label) for label in values["labels"]]
    counts = np.asarray(values["counts"], dtype=np.float64).reshape(len(labels), len(labels))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = min(7.2, max(3.2, 1.6 + 0.27 * len(labels)))
    figure = _new(side, width=min(_WIDTH, side + 0.9))
    axis = figure.subplots()
    axis.grid(False)
    shown = axis.imshow(shares, cmap=_fading(), vmin=0, vmax=1, aspect="equal")
    named = len(labels) <= _NAMED
    ticks = range(len(labels)) if named else range(0, len(labels), max(1, len(labels) // 12))
    names = [labels[place] if named else str(place) for place in ticks]
    axis.set_yticks(list(ticks), names)
    upright = named and (len(labels) > 6 or max(map(len, names), default=0) > 4)
    turned = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"} if upright else {}
    axis.set_xticks(list(ticks), names, **turned)
    _leave_room(figure, left=names, below=names if upright else ())
    axis.set(xlabel="predicted" if named else "predicted (place of the label)", ylabel="true")
    if len(labels) <= 16:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=7)
    bar = figure.colorbar(shown, ax=axis, shrink=0.6, format=lambda share, _: f"{100 * share:.0f}%")
    bar.outline.set_visible(False)
    bar.set_label("of the true class")
    return figure


def curve(values: Mapping[str, Any]) -> Any:
    """Lines over a common axis."""
    figure, axis = _one(3.2)
    for place, (name, line) in enumerate(values["lines"].items()):
        x, y = _numbers(line["x"]), _numbers(line["y"])
        there = np.isfinite(x) & np.isfinite(y)
        axis.plot(
            x[there],
            y[there],
            color=COLOURS[place % len(COLOURS)],
            linestyle="-" if place < len(COLOURS) else "--",
            linewidth=1.4,
            marker="o" if there.sum() <= 40 else "",
            markersize=3,
            label=name,
        )
    axis.set(xlabel=values.get("x", ""), ylabel=values.get("y", ""))
    _legend(axis)
    return figure


def map_of_points(values: Mapping[str, Any]) -> Any:
    """Points of each panel coloured by group; many points become one picture inside the drawing."""
    panels = dict(values["panels"])
    groups = list(dict.fromkeys(str(group) for panel in panels.values() for group in panel["groups"]))
    figure = _new(3.6 + 0.18 * math.ceil(len(groups) / 6))
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, (title, panel) in zip(axes, panels.items(), strict=False):
        points = np.asarray(panel["points"], dtype=np.float64).reshape(-1, 2)
        of = np.asarray([str(group) for group in panel["groups"]])
        for place, group in enumerate(groups):
            here = points[(of == group) & np.isfinite(points).all(axis=1)]
            handles[group] = axis.scatter(
                here[:, 0],
                here[:, 1],
                s=7,
                linewidths=0,
                alpha=0.65,
                color=COLOURS[place % len(COLOURS)],
                marker=("o", "^", "s", "D")[place // len(COLOURS) % 4],
                rasterized=len(points) > _RASTER,
            )
        axis.set_title(title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(False)
    if len(groups) <= _NAMED:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=8, markerscale=1.8
        )
    return figure


def bars(values: Mapping[str, Any]) -> Any:
    """A bar for each name, in the given order from above."""
    named = {str(name): float(value) for name, value in values["bars"].items() if math.isfinite(value)}
    figure, axis = _one(0.9 + 0.26 * max(len(named), 2))
    places = np.arange(len(named))
    drawn = axis.barh(places, list(named.values()), height=0.66, color=COLOURS[0], alpha=0.85)
    axis.bar_label(drawn, [f"{value:,.4g}" for value in named.values()], padding=3, fontsize=8)
    axis.set_yticks(places, list(named))
    _leave_room(figure, left=list(named))
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(values.get("unit", ""))
    return figure


def _new(height: float, *, width: float = _WIDTH) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _one(height: float) -> tuple[Any, Any]:
    figure = _new(height)
    return figure, figure.subplots()


def _leave_room(figure: Any, *, left: Sequence[str], below: Sequence[str] = ()) -> None:
    """Chinese characters, which the drawing's own font lacks, turn out wider on the page than they were measured."""
    width, height = figure.get_size_inches()
    x, y = (0.45 * 9 / 72 * max(map(_wide, names), default=0) for names in (left, below))
    figure.set_size_inches(width + x, height + y)
    figure.get_layout_engine().set(
        rect=(x / (width + x), y / (height + y), width / (width + x), height / (height + y))
    )


def _wide(text: str) -> int:
    return sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def _legend(axis: Any) -> None:
    handles, _ = axis.get_legend_handles_labels()
    if handles:
        axis.legend(fontsize=8, loc="best", ncols=1 if len(handles) <= 6 else 2)


def _fading() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # From nothing to full colour: the page behind, light or dark, is the colour of 0%.
    return LinearSegmentedColormap.from_list("fading", [(0.0, 0.45, 0.7, 0.0), (0.0, 0.45, 0.7, 1.0)])


def _numbers(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    return np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)


def _finite(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    numbers = _numbers(values)
    return numbers[np.isfinite(numbers)]
