"""The Makefile's targets, as a user on a machine without the release site meets them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import BIN


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


def test_make_prints_its_own_help(checkout: Path) -> None:
    shown = make(checkout).stdout

    assert all(
        f"make {target} " in shown
        for target in ("load", "demo", "ui", "test", "graph", "screenshots", "bench", "clean")
    )


def test_demo_loads_generated_rows_apart_from_real_ones(checkout: Path) -> None:
    done = make(checkout, "demo")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert "GENERATED" in done.stdout
        assert "10,000" in done.stdout
        assert (checkout / "demo" / "data" / "postgres" / "PG_VERSION").exists()
        assert not (checkout / "data").exists()
    finally:
        subprocess.run(
            [BIN / "pipeline", "stop"],
            cwd=checkout,
            env={**os.environ, "PIPELINE__STORAGE__ROOT": "demo/data"},
            check=True,
        )


@pytest.mark.parametrize("site", ["http://127.0.0.1:9", "http://release-site.invalid"])
def test_load_without_the_release_site_says_what_to_do(checkout: Path, server: str, site: str) -> None:
    done = make(
        checkout,
        "load",
        PIPELINE__SOURCE__BASE_URL=site,
        PIPELINE__SOURCE__RETRIES="1",
        PIPELINE__POSTGRES__DSN=server,
        PIPELINE__POSTGRES__SCHEMA="never_made",
    )

    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert done.returncode != 0
    assert len(errors) == 1
    assert "make demo" in errors[0]
    assert "--source-base-url" in errors[0]
    assert "Traceback" not in done.stderr
