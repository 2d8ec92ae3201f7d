"""Extraction of a release: what is downloaded, how it is verified, and which file exists after a failure."""

from __future__ import annotations

import datetime
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from conftest import JANUARY, SHORTEST_WAITS, file_size_limit, run_command
from http_source import Fault, HttpSource

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile, extract_release, remove_extracted
from pipeline.extract import locations as extract_locations
from pipeline.extract.locations import locations
from pipeline.files import storage_errors
from pipeline.progress import Progress, silent

PATH = "green/green_tripdata_2019-01.csv.gz"
PARQUET = "green_tripdata_2019-01.parquet"

Extract = Callable[..., ExtractedFile]


def extract_from(
    base_url: object, release: Release, folder: Path, progress: Progress = silent, *, replace: bool = False
) -> ExtractedFile:
    """Extracts a release into a folder from one base URL that stands for all sources."""
    return extract_release(
        release, locations(release, str(base_url)), folder, SHORTEST_WAITS, progress, replace=replace
    )


@pytest.fixture
def release(mirror: Path) -> bytes:
    """The release file of green 2019-01, with 500 generated rows."""
    return (mirror / PATH).read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "raw" / PATH


@pytest.fixture
def extract(site: HttpSource, green: Dataset, file: Path, release: bytes) -> Extract:
    """Extracts green 2019-01, from the site unless another base URL is given."""
    site.files[f"/{PATH}"] = release

    def run(base_url: object = None, *, force: bool = False) -> ExtractedFile:
        return extract_from(base_url or site.url, Release(green, JANUARY), file.parents[1], replace=force)

    return run


def names(folder: Path) -> set[str]:
    """The files in a folder, without the locks, which are never removed."""
    return {path.name for path in folder.iterdir() if path.name != ".locks"}


def error_of(action: Callable[[], object]) -> str:
    """Runs an action that must fail with a one-line PipelineError, and returns that line."""
    with pytest.raises(PipelineError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_extraction_writes_the_release_and_a_file_with_its_facts(
    extract: Extract, site: HttpSource, file: Path, release: bytes
) -> None:
    facts = extract()

    assert file.read_bytes() == release
    assert names(file.parent) == {file.name, f"{file.name}.json"}
    assert facts == ExtractedFile.read(file)
    assert (facts.source_url, facts.bytes, facts.rows) == (f"{site.url}/{PATH}", len(release), 500)
    assert facts.sha256 == hashlib.sha256(release).hexdigest()


def test_metadata_without_facts_counts_as_none(file: Path) -> None:
    file.parent.mkdir(parents=True)
    ExtractedFile.metadata_path(file).write_text("{}")

    assert ExtractedFile.read(file) is None


def test_url_of_a_relative_base_url_does_not_depend_on_the_current_directory(
    extract: Extract, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mirror.parent)
    assert extract(mirror.name).source_url == f"{mirror}/{PATH}"


def test_base_url_may_end_with_a_slash(extract: Extract, site: HttpSource) -> None:
    assert extract(f"{site.url}/").source_url == f"{site.url}/{PATH}"


def test_file_does_not_exist_until_its_extraction_is_complete(
    site: HttpSource, green: Dataset, file: Path, extract: Extract
) -> None:
    site.faults = [Fault(cut_after=5_000)]
    existed: list[bool] = []

    extract_from(site.url, Release(green, JANUARY), file.parents[1], lambda *_: existed.append(file.exists()))

    assert file.exists()
    assert existed
    assert not any(existed)


def test_extracted_file_is_not_downloaded_again_unless_forced(extract: Extract, site: HttpSource) -> None:
    facts = extract()

    assert extract() == facts
    assert len(site.requests) == 1
    extract(force=True)
    assert len(site.requests) == 2


def test_forced_extraction_replaces_the_file_with_the_new_edition(
    extract: Extract, site: HttpSource, file: Path, release: bytes
) -> None:
    extract()
    edition = site.files[f"/{PATH}"] = gzip.compress(gzip.decompress(release) + b"\r\n")

    facts = extract(force=True)

    assert file.read_bytes() == edition
    assert facts == ExtractedFile.read(file)
    assert facts.sha256 == hashlib.sha256(edition).hexdigest()


def truncated_gzip(release: bytes) -> bytes:
    return release[:-20]


def wrong_crc(release: bytes) -> bytes:
    return release[:-8] + bytes(4) + release[-4:]


def html_page(_: bytes) -> bytes:
    return b"<!DOCTYPE html><title>Please log in</title>\n"


def empty_file(_: bytes) -> bytes:
    return b""


def header_only(release: bytes) -> bytes:
    return gzip.compress(gzip.decompress(release).split(b"\n")[0] + b"\n")


def renamed_column(release: bytes) -> bytes:
    return gzip.compress(gzip.decompress(release).replace(b"extra", b"surplus", 1))


INVALID_FILES = pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncated_gzip, "the gzip stream is cut off"),
        (wrong_crc, "the gzip stream is corrupt"),
        (html_page, "line 1: not a green file: it begins with '<!DOCTYPE html>"),
        (empty_file, "the file is empty"),
        (header_only, "a header but no rows"),
        (renamed_column, "lacks extra, adds 'surplus'"),
    ],
)


@INVALID_FILES
def test_invalid_file_is_refused_and_not_kept(
    extract: Extract, site: HttpSource, file: Path, damage: Callable[[bytes], bytes], problem: str
) -> None:
    site.files[f"/{PATH}"] = damage(site.files[f"/{PATH}"])

    message = error_of(extract)

    assert message.startswith(f"{site.url}/{PATH}")
    assert problem in message
    assert names(file.parent) == set()


@INVALID_FILES
def test_failed_forced_extraction_keeps_the_earlier_file(
    extract: Extract, site: HttpSource, file: Path, release: bytes, damage: Callable[[bytes], bytes], problem: str
) -> None:
    facts = extract()
    site.files[f"/{PATH}"] = damage(release)

    assert problem in error_of(lambda: extract(force=True))
    assert file.read_bytes() == release
    assert ExtractedFile.read(file) == facts


def test_fixed_file_is_downloaded_from_the_start_after_an_invalid_one(
    extract: Extract, site: HttpSource, release: bytes
) -> None:
    site.files[f"/{PATH}"] = truncated_gzip(release)
    error_of(extract)
    site.files[f"/{PATH}"] = release

    assert extract().bytes == len(release)
    assert site.ranges == [None, None]


def test_next_extraction_resumes_a_failed_download(extract: Extract, site: HttpSource, file: Path) -> None:
    site.faults = [Fault(cut_after=5_000), *[Fault(status=503)] * 3]
    error_of(extract)
    assert not file.exists()

    extract()

    assert site.ranges[-1] == "bytes=5000-"


def test_copy_from_a_folder_is_not_mixed_with_a_failed_download(
    extract: Extract, site: HttpSource, file: Path, mirror: Path, release: bytes
) -> None:
    site.faults = [Fault(cut_after=5_000), *[Fault(status=503)] * 3]
    error_of(extract)
    (mirror / PATH).write_bytes(gzip.compress(gzip.decompress(release), 1))
    with file_size_limit(8_000):
        error_of(lambda: extract(mirror))  # leaves 8,000 bytes that are not the site's

    extract()

    assert site.ranges[-1] is None
    assert file.read_bytes() == release


@pytest.mark.parametrize("status", [404, 410, None], ids=["404", "410", "folder"])
def test_error_for_a_custom_source_lists_no_published_months(
    extract: Extract, site: HttpSource, mirror: Path, release: bytes, status: int | None
) -> None:
    site.later_fault = Fault(status=status or 404)
    (mirror / PATH).unlink()
    base_url = site.url if status else mirror

    assert error_of(lambda: extract(base_url)) == (
        f"green 2019-01 does not exist at {base_url}/{PATH} or {base_url}/{PARQUET};"
        " check [source] base_url and tlc_base_url"
    )


def test_error_for_an_unpublished_month_lists_the_published_months(
    site: HttpSource, green: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_locations, "RELEASE_MIRROR", site.url)
    monkeypatch.setattr(extract_locations, "TLC_SITE", site.url)

    assert error_of(lambda: extract_from(site.url, Release(green, JANUARY), tmp_path)) == (
        f"green 2019-01 does not exist at {site.url}/{PATH} or {site.url}/{PARQUET}; months known to be published:"
        " 2014-01 onwards"
    )


def test_missing_source_folder_is_reported(extract: Extract, tmp_path: Path) -> None:
    assert "http://: names no host; check [source] base_url" in error_of(lambda: extract("http://"))
    assert "names no host; check [source] base_url" in error_of(lambda: extract("http://:80"))
    expected = f"{tmp_path}/nowhere: there is no such folder; check [source] base_url and tlc_base_url"

    assert error_of(lambda: extract(tmp_path / "nowhere")) == expected
    assert error_of(lambda: extract(f"file://{tmp_path}/nowhere/")) == expected


@pytest.mark.parametrize("name", ["mirror", "a folder", "100%", "50%25", "#1?", "[x]", "Zoë"])
def test_source_folder_may_be_a_path_or_a_file_url(
    extract: Extract, mirror: Path, tmp_path: Path, file: Path, release: bytes, name: str
) -> None:
    mirror.rename(tmp_path / name)

    for base_url in (
        f"{tmp_path / name}",
        f"{tmp_path / name}/",
        f"file://{quote(str(tmp_path / name))}",
        f"file://localhost{quote(str(tmp_path / name))}",
    ):
        assert extract(base_url, force=True).source_url == f"{base_url.rstrip('/')}/{PATH}"
        assert file.read_bytes() == release


@pytest.mark.parametrize("base_url", ["ftp://host/mirror", "s3://bucket", "file://data/mirror"])
def test_unsupported_base_url_is_refused(extract: Extract, base_url: str) -> None:
    assert "[source] base_url" in error_of(lambda: extract(base_url))


@pytest.mark.parametrize("source", ["site", "folder"])
def test_full_disk_is_reported_in_one_line_and_keeps_the_earlier_file(
    extract: Extract, mirror: Path, file: Path, release: bytes, source: str
) -> None:
    base_url = mirror if source == "folder" else None
    facts = extract(base_url)

    with file_size_limit(8_000):
        message = error_of(lambda: extract(base_url, force=True))

    assert str(file) in message
    assert "free some space, or change [storage] root" in message
    assert file.read_bytes() == release
    assert ExtractedFile.read(file) == facts


def test_extraction_resumes_after_a_full_disk(extract: Extract, site: HttpSource, file: Path, release: bytes) -> None:
    with file_size_limit(8_000):
        error_of(extract)

    extract()

    assert site.ranges == [None, "bytes=8000-"]
    assert file.read_bytes() == release


def test_unusable_storage_is_reported_in_one_line(extract: Extract, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where the folder should be")

    assert f"{tmp_path}/raw" in error_of(extract)


def test_real_release_is_extracted(green: Dataset, real_releases: Path, file: Path) -> None:
    april = datetime.date(2020, 4, 1)

    assert extract_from(real_releases, Release(green, april), file.parents[1]).rows == 35_612


def test_zones_are_extracted_without_a_month(site: HttpSource, tmp_path: Path) -> None:
    zones = Release(dataset_named("zones"))
    site.files["/misc/taxi_zone_lookup.csv"] = (
        b'"LocationID","Borough","Zone","service_zone"\r\n1,"EWR","Newark","EWR"\r\n'
    )

    assert extract_from(site.url, zones, tmp_path).rows == 1
    site.files.clear()
    assert error_of(lambda: extract_from(site.url, zones, tmp_path, replace=True)) == (
        f"zones does not exist at {site.url}/misc/taxi_zone_lookup.csv; check [source] base_url and tlc_base_url"
    )


def test_removal_deletes_all_files_and_returns_whether_there_was_one(
    extract: Extract, site: HttpSource, file: Path
) -> None:
    extract()
    site.faults = [Fault(cut_after=5_000), *[Fault(status=503)] * 3]
    error_of(lambda: extract(force=True))

    assert remove_extracted(file)
    assert names(file.parent) == set()
    assert not remove_extracted(file)


def test_command_reports_an_unpublished_month_in_one_line(site: HttpSource, tmp_path: Path) -> None:
    environment = {"PIPELINE__STORAGE__ROOT": str(tmp_path), "NO_PROXY": "127.0.0.1"}

    run = run_command(
        *("luigi", "--module", "pipeline", "ExtractTripdata", "--taxi", "green", "--month", "2031-01"),
        *("--source-base-url", site.url),
        **environment,
    )

    assert run.returncode == 30
    (line,) = [line for line in run.stderr.splitlines() if "does not exist" in line]
    assert "green 2031-01 does not exist" in line and "onwards" not in line
    assert "Traceback" not in run.stderr
    assert not any(path.is_file() for path in (tmp_path / "raw" / "green").iterdir())


@pytest.mark.parametrize("error", [requests.ConnectionError("reset"), ConnectionResetError(104, "reset")], ids=repr)
def test_error_of_a_connection_is_not_reported_as_one_of_the_disk(error: OSError, tmp_path: Path) -> None:
    with pytest.raises(type(error)), storage_errors(tmp_path):
        raise error
