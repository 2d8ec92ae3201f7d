"""Output of the results: tables to read, and JSON with every sample."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_STARTED = time.monotonic()


@dataclass
class Section:
    """One table with notes for its reader, and the samples (seconds) from which it was computed."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)


def log(message: str) -> None:
    """Prints a line of progress to standard error."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {message}", file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def seconds(value: float) -> str:
    return f"{value:.2f}"


def ratio(value: float) -> str:
    return f"{value:.2f}"


def ratio_range(values: Sequence[float]) -> str:
    """Returns the smallest and the largest value, which shows the noise of the machine."""
    return f"{min(values):.2f} … {max(values):.2f}"


def rows_per_second(rows: int, duration: float) -> str:
    return f"{rows / duration:,.0f}"


def ratios(values: Sequence[float], floors: Sequence[float]) -> list[float]:
    """Divides each sample by the one of the floor measured next to it, so that load on the machine cancels out."""
    return [value / floor for value, floor in zip(values, floors, strict=True)]


def machine_facts(postgresql: str, set_by_benchmarks: Sequence[str]) -> dict[str, str]:
    """Returns facts needed to compare results with those of other machines; none of them identifies this machine."""
    given = {key: value for key, value in os.environ.items() if key.startswith("PIPELINE__")}
    settings = {key: value for key, value in given.items() if key not in set_by_benchmarks}
    facts = {
        "cores": str(os.cpu_count()),
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": f"{postgresql}, embedded, its default settings",
    }
    # Settings in the environment apply to the pipeline's commands; they are listed so that nobody overlooks them.
    return facts | (
        {"settings in the environment": " ".join(f"{k}={v}" for k, v in settings.items())} if settings else {}
    )


def print_facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    if float(facts["load average at the start"]) > 0.5:
        print("The machine is not idle: even the ratios are inexact.")


def print_section(section: Section) -> None:
    """Prints a section's table and notes at once, so that results are visible if the run is interrupted later."""
    widths = [max(len(row[i]) for row in (section.header, *section.rows)) for i in range(len(section.header))]
    print(f"\n{section.title}\n")
    for row in (section.header, tuple("-" * width for width in widths), *section.rows):
        cells = [f"{cell:<{widths[i]}}" if i == 0 else f"{cell:>{widths[i]}}" for i, cell in enumerate(row)]
        print("  " + "  ".join(cells).rstrip())
    for note in section.notes:
        print(f"  {note}")
    sys.stdout.flush()


def save(path: Path, facts: dict[str, str], options: dict[str, object], sections: list[Section]) -> None:
    content = {"facts": facts, "options": options, "sections": [asdict(section) for section in sections]}
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
