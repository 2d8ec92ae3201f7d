"""SVG drawings, which use the colours and the font of the page, or are standalone files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

WIDE, NARROW = 760, 360  # pixels; narrow drawings are for phones, on which a scaled wide one would have tiny text

# The colours of the light theme by the names of their CSS variables.
COLOURS = {
    "ink": "#1f2328", "muted": "#59636e", "grid": "#d3d9e0", "paper": "#ffffff", "shade": "#f4f6f8",
    "green": "#00664f", "yellow": "#c98500", "other": "#2f6db5", "fourth": "#8250a8",
}  # fmt: skip
_SERVICES = {"Green": "green", "Yellow": "yellow", "For-hire": "other"}
_FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_CHARACTER = 0.56  # mean width of a character, relative to the font size


def colour_of(service: str) -> str:
    """Returns the CSS colour of a service, which is the same in every chart."""
    return f"var(--{_SERVICES.get(service, 'fourth')})"


def text_width(words: str, size: float = 12) -> float:
    """Estimates the width of a text in pixels."""
    return _CHARACTER * size * len(words)


def round_steps(low: float, high: float, steps: int = 3) -> list[float]:
    """Returns round numbers between `low` and `high`, about `steps` of them."""
    span = (high - low) or 1.0
    size = 10 ** math.floor(math.log10(span / steps))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * steps >= span)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass
class Svg:
    """A drawing of `width` by `height` pixels, to which shapes are added."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 12,
        colour: str = "ink",
        anchor: Literal["start", "middle", "end"] = "start",
        bold: bool = False,
    ) -> None:
        """Adds text at a point on its baseline."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="var(--{colour})" text-anchor="{anchor}"{weight}>'
            f"{escape(words)}</text>"
        )

    def rect(
        self, x: float, y: float, width: float, height: float, colour: str, title: str = "", *, opacity: float = 1
    ) -> None:
        """Adds a filled rectangle with a tooltip. If `height` is negative, it extends upwards from `y`."""
        y, height = (y + height, -height) if height < 0 else (y, height)
        faint = f' fill-opacity="{opacity:.3g}"' if opacity < 1 else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"{faint}>'
            f"{_title(title)}</rect>"
        )

    def outlined(self, x: float, y: float, width: float, height: float, colour: str, title: str = "") -> None:
        """Adds a rectangle with a dashed border and a light filling, for a value that is not comparable."""
        y, height = (y + height, -height) if height < 0 else (y, height)
        self.parts.append(
            f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(width - 1, 1):.1f}" height="{height:.1f}" fill="{colour}"'
            f' fill-opacity="0.2" stroke="{colour}" stroke-dasharray="3 2">{_title(title)}</rect>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = "grid") -> None:
        """Adds a thin line."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--{colour})"/>')

    def raw(self, markup: Markup) -> None:
        """Adds SVG markup."""
        self.parts.append(markup)

    def markup(self) -> Markup:
        """Returns the drawing as an `<svg>` element for an HTML page."""
        return Markup(  # texts are escaped when parts are added
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}">{"".join(self.parts)}</svg>'
        )

    def file(self) -> bytes:
        """Returns the drawing as a standalone file in light colours."""
        body = re.sub(r"var\(--(\w+)\)", lambda found: COLOURS[found[1]], "".join(self.parts))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 -16 {self.width + 32:g} {self.height + 32:g}"'
            f' width="{self.width + 32:g}" font-family="{_FONT}">'
            f'<rect x="-16" y="-16" width="100%" height="100%" fill="{COLOURS["paper"]}"/>{body}</svg>\n'
        ).encode()


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


@dataclass(frozen=True)
class Bar:
    """One bar of a ranking. Each of its pieces is a colour, a value and a tooltip."""

    name: str
    pieces: list[tuple[str, float, str]]
    label: str


def ranking(width: int, bars: list[Bar], legend: dict[str, str]) -> Svg:
    """Draws a bar chart with names beside the bars, or above them if narrow. `legend` maps names to colours."""
    narrow = width <= NARROW
    names = [bar.name if len(bar.name) <= 40 else f"{bar.name[:39]}…" for bar in bars]
    row = 42 if narrow else 28
    left = 0.0 if narrow else min(300.0, max(map(text_width, names)) + 12)
    right = max(text_width(bar.label) for bar in bars) + 10
    top = 30 if len(legend) > 1 else 0
    svg = Svg(width, top + row * len(bars))
    _legend(svg, left, legend if top else {})
    most = max(1e-9, *(sum(max(0, value) for _, value, _ in bar.pieces) for bar in bars))
    for place, (bar, name) in enumerate(zip(bars, names, strict=True)):
        y, x = top + row * place, left
        bar_top, height = (y + 20, 15) if narrow else (y + 5, 18)
        for colour, value, title in bar.pieces:
            size = max(0, value) / most * (width - left - right)
            svg.rect(x, bar_top, size, height, colour, title)
            x += size
        svg.text(x + 6, bar_top + height - 4, bar.label)
        if narrow:
            svg.text(0, y + 14, name)
        else:
            svg.text(left - 10, bar_top + height - 4, name, anchor="end")
    return svg


def _legend(svg: Svg, left: float, names: dict[str, str]) -> None:
    x = left
    for name, colour in names.items():
        svg.rect(x, 2, 12, 12, colour)
        svg.text(x + 17, 12, name)
        x += 17 + text_width(name) + 18
