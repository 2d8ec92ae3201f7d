"""The Makefile's targets, on a machine that cannot reach the release site."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest
from conftest import CHECKOUT


def make(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_make_without_a_target_prints_help(checkout: Path) -> None:
    shown = make(checkout).stdout

    assert all(
        f"make {target} " in shown
        for target in ("load", "demo", "gcp", "ui", "test", "graph", "screenshots", "bench", "clean")
    )


def test_make_demo_runs_pipeline_demo(checkout: Path) -> None:
    """`test_install` runs `pipeline demo` itself."""
    commands = make(checkout, "--dry-run", "--no-print-directory", "demo").stdout.splitlines()
    assert commands[-1].strip() == ".venv/bin/pipeline demo"


def test_samples_are_small_and_complete() -> None:
    files = [path for path in (CHECKOUT / "samples").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 3 * 10**6
    for path in files:
        if path.suffix == ".gz":
            assert gzip.decompress(path.read_bytes()).endswith(b"\r\n")


@pytest.mark.parametrize("site", ["http://127.0.0.1:9", "http://release-site.invalid"])
def test_load_without_the_release_site_reports_a_remedy(checkout: Path, server: str, site: str) -> None:
    done = make(
        checkout,
        "load",
        PIPELINE__SOURCE__BASE_URL=site,
        PIPELINE__SOURCE__RETRIES="1",
        PIPELINE__POSTGRES__DSN=server,
        PIPELINE__POSTGRES__SCHEMA="not_created",
    )

    errors = [line for line in done.stderr.splitlines() if "ERROR: " in line]
    assert done.returncode != 0
    assert len(errors) == 1
    assert "make demo" in errors[0]
    assert "[source] base_url" in errors[0]
    assert "Traceback" not in done.stderr
