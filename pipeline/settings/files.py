"""Settings of files: where releases come from, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import luigi

from pipeline.extract.download import HttpOptions
from pipeline.settings.section import Section

RELEASE_MIRROR = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"


class source(Section):
    """Where release files come from."""

    base_url: str = luigi.Parameter(
        default=RELEASE_MIRROR,
        significant=False,
        description="the release site, or a mirror of it: an http(s) or file URL, or a folder",
    )
    connect_timeout: float = luigi.FloatParameter(default=10, description="seconds to wait for a connection")
    read_timeout: float = luigi.FloatParameter(default=60, description="seconds to wait for the next bytes")
    retries: int = luigi.IntParameter(default=4, description="how often to try again without any progress")
    longest_wait: float = luigi.FloatParameter(default=60, description="seconds to wait between two tries, at most")

    def http_options(self) -> HttpOptions:
        return HttpOptions(self.connect_timeout, self.read_timeout, self.retries, self.longest_wait)


class storage(Section):
    """Where files are kept."""

    root: str = luigi.Parameter(
        default="data", description="the folder for raw files, the embedded database, reports, logs and metrics"
    )
    keep_raw: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="keep a raw file after it has been loaded",
    )

    def raw_file(self, source_path: str) -> Path:
        return self.folder("raw") / source_path

    def reconciled_file(self, partition_key: str) -> Path:
        """Where the proof is kept that both warehouses hold the same rows of a file."""
        return self.folder("reconciled") / f"{partition_key}.json"

    def dbt_folder(self) -> Path:
        """Where dbt keeps its runs, logs and what it remembers of the project."""
        return self.folder("dbt").resolve()

    def report_folder(self, warehouse: str) -> Path:
        """Where the report on a warehouse is put."""
        return self.folder("reports") / warehouse

    def postgres_folder(self) -> Path:
        """Where the embedded server keeps its data."""
        return self.folder("postgres")

    def folder(self, name: str) -> Path:
        """Where one part of the pipeline keeps what is its own."""
        return Path(self.root).expanduser() / name

    def alert_book(self) -> Path:
        """Where it is kept who has been told what."""
        return self.folder("alerts") / "book.json"

    def metrics_file(self) -> Path:
        """What node_exporter's textfile collector is to read."""
        return self.folder("metrics") / "pipeline.prom"
