"""Options of the benchmarks: what to measure, and in which sizes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import FOLDER

SECTIONS = ("load", "old-flow", "parquet", "backfill", "to-sql", "noop", "memory", "models", "whole-month")

_FULL = {"rows": 600_000, "months": 12, "rounds": 3, "yellow_rows": 3_000_000, "fhvhv_rows": 20_000_000}
_QUICK = {"rows": 50_000, "months": 3, "rounds": 2, "yellow_rows": 200_000, "fhvhv_rows": 200_000}


@dataclass(frozen=True)
class Options:
    """The sizes and sections of one run."""

    rows: int
    months: int
    old_flow_months: int
    rounds: int
    noop_rounds: int
    yellow_rows: int
    fhvhv_rows: int
    sections: tuple[str, ...]
    cache: Path
    json: Path | None


def read_options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=_count, help="rows of a green month (default 600000)")
    parser.add_argument("--months", type=_count, help="months loaded into one table (default 12)")
    parser.add_argument("--rounds", type=_count, help="how often everything is repeated (default 3)")
    parser.add_argument(
        "--yellow-rows", type=_count, help="rows of the yellow month whose memory is measured (default 3000000)"
    )
    parser.add_argument(
        "--fhvhv-rows", type=_count, help="rows of the Parquet month whose memory is measured (default 20000000)"
    )
    parser.add_argument(
        "--old-flow-months", type=_count, help="stop the older flow, which gets slower, after so many months"
    )
    parser.add_argument(
        "--noop-rounds", type=_count, default=15, help="runs of each command after everything is loaded (default 15)"
    )
    parser.add_argument(
        "--only", type=_sections, default=SECTIONS, help=f"only these sections, of: {','.join(SECTIONS)}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that the benchmarks work")
    parser.add_argument("--cache", type=Path, default=FOLDER, help="where generated files are kept")
    parser.add_argument("--json", type=Path, help="save every sample to this file")
    arguments = parser.parse_args()
    sizes = _QUICK if arguments.quick else _FULL
    months = arguments.months or sizes["months"]
    return Options(
        rows=arguments.rows or sizes["rows"],
        months=months,
        old_flow_months=min(arguments.old_flow_months or months, months),
        rounds=arguments.rounds or sizes["rounds"],
        noop_rounds=arguments.noop_rounds,
        yellow_rows=arguments.yellow_rows or sizes["yellow_rows"],
        fhvhv_rows=arguments.fhvhv_rows or sizes["fhvhv_rows"],
        sections=arguments.only,
        cache=arguments.cache.resolve(),
        json=arguments.json,
    )


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _sections(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section is called {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in names)
