"""The figures of an evaluation as SVG, drawn by matplotlib.

Text stays text, so that the reader's own fonts show Chinese labels; axes and text take the colour of the page
(`currentColor`), so one picture serves a light and a dark page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from jinyi.errors import MissingExtraError
from jinyi.evals.report import panels
from jinyi.evals.result import Figure

FONTS: Final = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'PingFang SC', 'Hiragino Sans GB', 'Noto Sans CJK SC', "
    "'Noto Sans SC', 'Source Han Sans SC', 'Microsoft YaHei', 'WenQuanYi Micro Hei', sans-serif"
)
_DRAW: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "histogram": panels.histogram,
    "reliability": panels.reliability,
    "confusion": panels.confusion,
    "curve": panels.curve,
    "map": panels.map_of_points,
    "bars": panels.bars,
}


def draw(figure: Figure, *, name: str = "figure") -> str:
    """Draw a figure.

    Args:
        figure: any kind; numbers that are not finite are left out.
        name: letters, digits and "-"; every id inside the picture begins with it, so that several pictures can stand
            in one HTML page.

    Returns:
        an `<svg>` element that asks for nothing outside itself. The same figure gives the same text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with _matplotlib(name):
        drawn = _DRAW[figure.kind](figure.values)
        drawn.patch.set_alpha(0.0)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawn.savefig(stream, format="svg", metadata=nothing)
    return _inline(stream.getvalue(), name)


def standalone(svg: str) -> str:
    """Return a drawn figure as a file of its own, whose text is dark on a light page and light on a dark one."""
    style = (
        f"<style>svg{{color:#222;font-family:{FONTS.replace(chr(39), '')}}}"
        "@media (prefers-color-scheme:dark){svg{color:#ddd}}</style>"
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head, mark, body = svg.partition(">")
    return f"<svg {names}{head.removeprefix('<svg')}{mark}{style}{body}"


@contextmanager
def _matplotlib(name: str) -> Iterator[None]:
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise MissingExtraError(
            found="no matplotlib",
            expected="matplotlib for the figures of a report",
            fix='pip install "jinyi[eval]"',
            where="report",
        ) from error
    ink = panels.INK
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # "$" in a label is a dollar
        "font.size": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.18,
        "grid.color": ink,
        "legend.frameon": False,
        "axes.facecolor": "none",
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
        ),
    }
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def _inline(text: str, name: str) -> str:
    """The bare element: no XML head, no namespaces, ids of its own, the page's colour and fonts."""
    svg = text[text.index("<svg") :].strip()
    head, mark, body = svg.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(
        r'\b(id|clip-path|href)="(#|url\(#)?([^":)]+)(\))?"',
        lambda found: f'{found[1]}="{found[2] or ""}{name}-{found[3]}{found[4] or ""}"',
        body,
    )
    body = re.sub(r"xlink:href=\"data:", 'href="data:', body)
    body = body.replace("xlink:href=", "href=").replace(panels.INK, "currentColor")
    body = re.sub(
        r"font-family: ?[^;\"]*;? ?", "", re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 inherit", body)
    )
    assert box is not None  # matplotlib writes one
    width = float(box[1].split()[2]) * 4 / 3  # points to pixels
    return f'<svg viewBox="{box[1]}" width="{width:.0f}" role="img"{mark}{body}'
