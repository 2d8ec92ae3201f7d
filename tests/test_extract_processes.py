"""Killed and concurrent extractions, with real processes and signals."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest
from conftest import JANUARY, SHORT_WAITS, start_command
from http_source import Fault, HttpSource
from waiting import eventually

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile, extract_release
from pipeline.extract.locations import locations
from pipeline.progress import silent
from pipeline.sample import write_month

JANUARY_GREEN = Release(dataset_named("green"), JANUARY)
PATH = "green/green_tripdata_2019-01.csv.gz"


@pytest.fixture
def release(green: Dataset, tmp_path: Path) -> bytes:
    """The release file of green 2019-01, with 2,000 generated rows."""
    return write_month(green, JANUARY, 2_000, tmp_path / "mirror").read_bytes()


@pytest.fixture
def release_site(site: HttpSource, release: bytes) -> HttpSource:
    """A site that has the release."""
    site.files[f"/{PATH}"] = release
    return site


@contextmanager
def started_extraction(site: HttpSource, root: Path, *options: str) -> Iterator[Popen[str]]:
    """Runs the `luigi` command that extracts green 2019-01 to a storage root; kills it if it still runs at the end."""
    process = start_command(
        *("luigi", "--module", "pipeline", "ExtractTripdata", "--taxi", "green", "--month", "2019-01", *options),
        PIPELINE__STORAGE__ROOT=str(root),
        PIPELINE__SOURCE__BASE_URL=site.url,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_download_leaves_no_file_and_is_resumed(
    release_site: HttpSource, green: Dataset, tmp_path: Path, release: bytes
) -> None:
    file = tmp_path / "raw" / PATH
    part = file.with_name(file.name + ".part")
    release_site.faults = [Fault(stall_after=3_000)]

    with started_extraction(release_site, tmp_path) as process:
        eventually(lambda: part.exists() and part.stat().st_size == 3_000)
        process.send_signal(signal.SIGKILL)
    assert not file.exists()

    extract_release(JANUARY_GREEN, locations(JANUARY_GREEN, release_site.url), file.parents[1], SHORT_WAITS, silent)
    assert release_site.ranges == [None, "bytes=3000-"]
    assert file.read_bytes() == release


needs_proc_locks = pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="only Linux lists in /proc/locks which process waits for a file's lock"
)


@needs_proc_locks
def test_concurrent_processes_download_a_file_once(release_site: HttpSource, tmp_path: Path, release: bytes) -> None:
    release_site.faults = [Fault(hold=True)]

    with started_extraction(release_site, tmp_path) as one, started_extraction(release_site, tmp_path) as other:
        eventually(lambda: waits_for_lock(one) or waits_for_lock(other) or len(release_site.requests) > 1)
        release_site.gate.set()
        assert (one.wait(20), other.wait(20)) == (0, 0)

    assert len(release_site.requests) == 1
    assert (tmp_path / "raw" / PATH).read_bytes() == release


@needs_proc_locks
def test_file_is_not_removed_while_a_process_extracts_it(release_site: HttpSource, tmp_path: Path) -> None:
    file = tmp_path / "raw" / PATH
    release_site.faults = [Fault(hold=True)]

    with started_extraction(release_site, tmp_path) as extraction:
        eventually(lambda: release_site.requests != [])
        forget = start_command("pipeline", "forget", "green", "2019-01", PIPELINE__STORAGE__ROOT=str(tmp_path))
        with forget:
            eventually(lambda: waits_for_lock(forget) or forget.poll() is not None)
            release_site.gate.set()
            assert extraction.wait(20) == 0
            output, _ = forget.communicate(timeout=20)

    assert output == f"green/2019-01: {file} removed\n"
    assert not file.exists()


@needs_proc_locks
def test_lock_of_a_killed_process_is_released(release_site: HttpSource, tmp_path: Path) -> None:
    release_site.faults = [Fault(hold=True)]

    with started_extraction(release_site, tmp_path) as killed, started_extraction(release_site, tmp_path) as waiting:
        eventually(lambda: waits_for_lock(killed) or waits_for_lock(waiting))
        if waits_for_lock(killed):
            killed, waiting = waiting, killed
        killed.kill()
        assert waiting.wait(20) == 0

    assert len(release_site.requests) == 2


def waits_for_lock(process: Popen[str]) -> bool:
    """Whether a process waits for a file's lock, according to the kernel (proc_locks(5))."""
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {process.pid} " in line for line in locks)


def run_until_step(step: int, action: Callable[[], object]) -> bool:
    """Runs an action in a child process that is killed with SIGKILL before its nth change to a file or folder.

    Returns whether the action was completed because it makes fewer changes.
    """
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal steps
            changes = event in ("os.rename", "os.remove", "os.truncate")
            changes |= event == "open" and str(arguments[1]).startswith(("w", "a"))
            steps += changes
            if changes and steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == 0


def test_after_a_kill_at_any_step_file_and_facts_agree_and_the_next_run_succeeds(
    release_site: HttpSource, green: Dataset, tmp_path: Path, release: bytes
) -> None:
    file, old = tmp_path / "raw" / PATH, write_month(green, JANUARY, 50, tmp_path / "old").read_bytes()
    places = locations(JANUARY_GREEN, release_site.url)

    def extract(replace: bool = True) -> ExtractedFile:
        return extract_release(JANUARY_GREEN, places, file.parents[1], SHORT_WAITS, silent, replace=replace)

    for step in range(1, 100):
        release_site.files[f"/{PATH}"], release_site.etag = old, '"old"'
        extract()
        release_site.faults = [Fault(cut_after=1_000), Fault(status=403)]
        with pytest.raises(PipelineError):
            extract()  # leaves the beginning of the old edition
        release_site.files[f"/{PATH}"], release_site.etag = release, '"new"'
        release_site.faults = [Fault(cut_after=10_000)]
        completed = run_until_step(step, extract)

        assert file.read_bytes() in (old, release)
        facts = ExtractedFile.read(file)
        assert facts is None or facts.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        release_site.faults = []
        assert extract(replace=facts is not None).rows == 2_000
        assert file.read_bytes() == release
        if completed:
            break
    assert 8 < step < 99
