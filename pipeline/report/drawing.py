"""Figures drawn for two media: SVG that takes colours and font from the page it is in, and PNG to pass on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The page's light colours by their CSS names; in SVG each becomes a reference to its name.
INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d3d9e0", "#ffffff"
GREEN, YELLOW, OTHER = "#00664f", "#c98500", "#2f6db5"  # of taxis; apart in lightness too
COLOURS = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER, "green": GREEN, "yellow": YELLOW, "other": OTHER}
_PNG_DPI = 144  # at 72, a unit of the drawing is a pixel


@dataclass(frozen=True)
class Layout:
    """A width in pixels to draw for. A phone has its own, as scaling a wide drawing down shrinks its text."""

    width: int
    is_narrow: bool = False

    def figure(self, height: float) -> Figure:
        """An empty figure, `height` pixels high."""
        return Figure(figsize=(self.width / 72, height / 72))


WIDE, NARROW = Layout(760), Layout(360, is_narrow=True)

Draw = Callable[[Layout], Figure]


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without frame and ticks at a place in pixels from the figure's upper left corner."""
    whole_width, whole_height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    bottom = whole_height - top - height
    box = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    axes = figure.add_axes(box, frameon=False)
    axes.tick_params(length=0, pad=5, labelsize=11, labelcolor=MUTED)
    axes.set(xticks=[], yticks=[])
    return axes


def write(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    *,
    size: float = 12,
    offset: tuple[float, float] = (0, 0),
    colour: str = INK,
    ha: Literal["left", "center", "right"] = "left",
    bold: bool = False,
) -> None:
    """Puts words at a point of the axes' data, moved by an offset in pixels; `$` and `_` are only characters."""
    axes.annotate(
        words,
        (x, y),
        offset,
        textcoords="offset points",
        annotation_clip=False,
        horizontalalignment=ha,
        verticalalignment="baseline",
        fontsize=size,
        fontweight="bold" if bold else "normal",
        color=colour,
        parse_math=False,
    )


def svg(draw: Draw, layout: Layout) -> str:
    """The figure as an `<svg>` element for a page, any number of which may be in one."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        file = io.StringIO()
        draw(layout).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)  # its style would be the whole page's
    text = re.sub(r'\b(?:width|height)="[\d.]+pt" ?', "", text)
    text = re.sub(r' id="[\w.]+"', "", text)  # nothing refers to them, and two figures have the same
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    for css_name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{css_name})")
    return text


def png(draw: Draw) -> bytes:
    """The figure as an image in light colours."""
    file = io.BytesIO()
    draw(WIDE).savefig(file, format="png", dpi=_PNG_DPI, facecolor=PAPER, bbox_inches="tight", pad_inches=0.3)
    return file.getvalue()
