"""SVG drawings, which use the colours and the font of the page, or are standalone files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
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


def _text_width(words: str) -> float:
    """Estimates the width of a text in pixels, in the usual size of 12."""
    return _CHARACTER * 12 * len(words)


def round_steps(low: float, high: float) -> list[float]:
    """Returns round numbers between `low` and `high`: three to six of them if `low` is 0."""
    span = (high - low) or 1.0
    size = 10 ** math.floor(math.log10(span / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * 5 >= span)
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
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        title: str = "",
        *,
        opacity: float = 1,
        dashed: bool = False,
    ) -> None:
        """Adds a filled rectangle with a tooltip. If `height` is negative, it extends upwards from `y`.

        If it is `dashed`, for a value that is not comparable, it has a dashed border.
        """
        y, height = (y + height, -height) if height < 0 else (y, height)
        border = ""
        if dashed:
            x, width, border = x + 0.5, max(width - 1, 1), f' stroke="{colour}" stroke-dasharray="3 2"'
        faint = f' fill-opacity="{opacity:.3g}"' if opacity < 1 else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"{faint}{border}>'
            f"{_title(title)}</rect>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Adds a thin line."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--grid)"/>')

    def raw(self, markup: str) -> None:
        """Adds SVG markup, in which the caller has escaped texts."""
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


Amounts = Mapping[str, Mapping[str, float]]  # by name and service


def ranking(
    width: int,
    names: Sequence[str],
    amounts: Amounts,
    label: Callable[[str], str],
    describe: Callable[[str, str], str],
) -> Svg:
    """Draws a bar for each name, divided by service, with the names beside the bars, or above them if narrow.

    `label` returns the text at a bar's end, `describe` that on the piece of a name and a service.
    """
    narrow = width <= NARROW
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    services = services_in(amounts)
    row = 42 if narrow else 28
    left = 0.0 if narrow else min(300.0, max(map(_text_width, shown)) + 12)
    right = max(_text_width(label(name)) for name in names) + 10
    top = 30 if len(services) > 1 else 0
    svg = Svg(width, top + row * len(names))
    if top:
        _legend(svg, left, services)
    most = max(1e-9, *(sum(max(0, amount) for amount in amounts[name].values()) for name in names))
    for place, name in enumerate(names):
        y, x = top + row * place, left
        bar_top, height = (y + 20, 15) if narrow else (y + 5, 18)
        for service in services:
            if amount := amounts[name].get(service):
                size = max(0, amount) / most * (width - left - right)
                title = f"{name}, {service}: {describe(name, service)}"
                svg.rect(x, bar_top, size, height, colour_of(service), title)
                x += size
        svg.text(x + 6, bar_top + height - 4, label(name))
        if narrow:
            svg.text(0, y + 14, shown[place])
        else:
            svg.text(left - 10, bar_top + height - 4, shown[place], anchor="end")
    return svg


def services_in(amounts: Amounts) -> list[str]:
    """Returns the services that have an amount."""
    return sorted({service for of in amounts.values() for service, amount in of.items() if amount})


def _legend(svg: Svg, left: float, services: Sequence[str]) -> None:
    x = left
    for service in services:
        svg.rect(x, 2, 12, 12, colour_of(service))
        svg.text(x + 17, 12, service)
        x += 17 + _text_width(service) + 18
