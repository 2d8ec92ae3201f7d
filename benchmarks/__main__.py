"""Measures the pipeline and other ways to load data, and prints their ratios; see docs/benchmarks.md."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

from benchmarks.backfill import measure_backfill
from benchmarks.loaders import SET_BY_BENCHMARKS
from benchmarks.loading import measure_loading
from benchmarks.memory import measure_memory
from benchmarks.models import measure_models, measure_whole_month
from benchmarks.noop import measure_noop
from benchmarks.options import Options, read_options
from benchmarks.parquet import measure_parquet
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, log, machine_facts, print_facts, print_section, save
from benchmarks.server import Server, running_server
from benchmarks.to_sql import measure_to_sql

_MEASURES: dict[Callable[[Server, Options], Iterator[Section]], tuple[str, ...]] = {
    measure_loading: ("load", "old-flow"),
    measure_parquet: ("parquet",),
    measure_backfill: ("backfill",),
    measure_to_sql: ("to-sql",),
    measure_noop: ("noop",),
    measure_memory: ("memory",),
    measure_models: ("models",),
    measure_whole_month: ("whole-month",),
}


def main() -> None:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the server is also stopped
    sections: list[Section] = []
    try:
        with running_server(options.cache) as server:
            facts = machine_facts(server.version(), SET_BY_BENCHMARKS)
            print_facts(facts)
            for measure, names in _MEASURES.items():
                if set(names) & set(options.sections):
                    for section in measure(server, options):
                        sections.append(section)
                        print_section(section)
    except BenchmarkError as error:
        sys.exit(f"benchmark stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark interrupted")
    finally:
        if options.json and sections:
            sizes = {name: value for name, value in asdict(options).items() if name not in ("cache", "json")}
            save(options.json, facts, sizes, sections)
    log("done")


if __name__ == "__main__":
    main()
