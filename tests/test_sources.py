"""The two sources of a month: which is used, what a 403 means, republished months, credentials and limits."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SHORTEST_WAITS, Run, execute, job_for
from http_source import Fault, HttpSource
from receivers import running_receivers

from pipeline.datasets import Release, dataset_named, parse_month
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile, extract_release
from pipeline.extract.availability import Edition, find_edition, published_months
from pipeline.extract.locations import RELEASE_MIRROR, TLC_SITE, local_path, locations, source_url, without_credentials
from pipeline.progress import silent
from pipeline.sample import write_month
from pipeline.warehouses.postgres.connection import PostgresDatabase


def release_of(taxi: str, month: str) -> Release:
    return Release(dataset_named(taxi), parse_month(month))


def urls(taxi: str, month: str, base: str = RELEASE_MIRROR, tlc: str = "", source: str = "") -> list[str]:
    release = release_of(taxi, month)
    return [place.url(release) for place in locations(release, base, tlc, source)]


def publish(site: HttpSource, folder: Path, *months: str) -> None:
    """Puts generated months of green on a site like TLC's, which sends 403 for a file that does not exist."""
    site.missing_status = 403
    for month in months:
        file = write_month(dataset_named("green"), parse_month(month), 50, folder, "tlc")
        site.files[f"/{file.name}"] = file.read_bytes()


def extract(site: HttpSource, month: str, folder: Path, **options: bool) -> ExtractedFile:
    release = release_of("green", month)
    return extract_release(release, locations(release, site.url), folder, SHORTEST_WAITS, silent, **options)


def test_mirror_is_used_for_the_months_that_it_has_and_tlc_for_the_others() -> None:
    mirror = f"{RELEASE_MIRROR}/green/green_tripdata_2020-04.csv.gz"
    assert urls("green", "2020-04") == [mirror, f"{TLC_SITE}/green_tripdata_2020-04.parquet"]
    assert urls("green", "2024-07") == [f"{TLC_SITE}/green_tripdata_2024-07.parquet"]
    assert urls("green", "2024-07", f"{RELEASE_MIRROR}/") == urls("green", "2024-07")
    assert urls("green", "2014-01") == [f"{TLC_SITE}/green_tripdata_2014-01.parquet"]
    assert urls("fhvhv", "2020-04") == [f"{TLC_SITE}/fhvhv_tripdata_2020-04.parquet"]
    assert urls("green", "2020-04", source="tlc") == [f"{TLC_SITE}/green_tripdata_2020-04.parquet"]


def test_custom_base_url_replaces_both_sources_unless_tlc_has_its_own() -> None:
    assert urls("green", "2024-07", "/m") == [
        "/m/green_tripdata_2024-07.parquet",
        "/m/green/green_tripdata_2024-07.csv.gz",
    ]
    assert urls("green", "2024-07", "/m", "/t")[0] == "/t/green_tripdata_2024-07.parquet"
    assert urls("green", "2020-04", RELEASE_MIRROR, "/t")[1] == "/t/green_tripdata_2020-04.parquet"


def test_early_yellow_months_and_unknown_sources_are_refused() -> None:
    with pytest.raises(
        PipelineError, match=r"yellow 2009-05 is not loaded: .*no taxi zones; the first month is 2011-01"
    ):
        urls("yellow", "2009-05")
    with pytest.raises(PipelineError, match="fhvhv has no source called 'mirror'; it has: tlc"):
        urls("fhvhv", "2020-04", source="mirror")


def test_month_has_the_same_name_and_key_for_every_source(tmp_path: Path) -> None:
    for month in ("2020-04", "2024-07"):
        release = release_of("green", month)
        assert release.filename == f"green_tripdata_{month}.csv"
        assert release.key == f"green/{month}"


def test_facts_of_a_parquet_file_include_etag_and_last_modified(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    site.last_modified = "Thu, 17 Sep 2026 13:38:15 GMT"
    site.faults = [Fault(cut_after=3_000)]

    facts = extract(site, "2024-07", tmp_path)
    assert (facts.source, facts.format, facts.rows) == ("tlc", "parquet", 50)
    assert (facts.etag, facts.last_modified) == ('"first"', site.last_modified)
    assert (tmp_path / "green" / "green_tripdata_2024-07.parquet").exists()


def test_interrupted_parquet_download_resumes_where_it_stopped(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    site.faults = [Fault(cut_after=3_000)]

    extract(site, "2024-07", tmp_path)
    assert site.ranges == [None, "bytes=3000-"]


def test_403_means_unpublished_if_the_site_has_other_months(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")

    with pytest.raises(PipelineError, match=r"green 2024-08 does not exist at .*green_tripdata_2024-08.parquet"):
        extract(site, "2024-08", tmp_path)
    months = [release_of("green", month) for month in ("2024-07", "2024-08")]
    found = published_months(months, lambda release: locations(release, site.url), SHORTEST_WAITS)
    assert found == [datetime.date(2024, 7, 1)]


def test_403_means_blocked_if_the_site_has_no_month(site: HttpSource, tmp_path: Path) -> None:
    site.missing_status = 403

    with pytest.raises(PipelineError, match=r"^blocked: .* also for 2014-01; check the network"):
        extract(site, "2024-08", tmp_path)
    with pytest.raises(PipelineError, match=r"^blocked: "):
        published_months([release_of("green", "2024-08")], lambda release: locations(release, site.url), SHORTEST_WAITS)


def test_range_loads_published_months_and_reports_the_others(
    luigi: Run, database: PostgresDatabase, site: HttpSource, tmp_path: Path
) -> None:
    publish(site, tmp_path / "generated", "2024-06", "2024-08")
    months = ("--start", "2024-06", "--stop", "2024-09", "--workers", "2")
    load = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', *months)

    done = luigi(*load, PIPELINE__SOURCE__BASE_URL=site.url)
    assert done.returncode == 30
    assert f"green 2024-07 does not exist at {site.url}/green_tripdata_2024-07.parquet" in done.stderr
    loaded = "SELECT partition_key, format, rows_loaded FROM load_ledger ORDER BY 1"
    assert execute(database, loaded) == [("green/2024-06", "parquet", 50), ("green/2024-08", "parquet", 50)]

    publish(site, tmp_path / "generated", "2024-07")
    assert luigi(*load, PIPELINE__SOURCE__BASE_URL=site.url).returncode == 0
    assert len(execute(database, loaded)) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda file: b"<!DOCTYPE html>\n<html>", "not a Parquet file: it begins with '<!DOCTYPE html>'"),
        (lambda file: b"", "the file is empty"),
        (lambda file: file[:-3], "the Parquet file is cut off"),
        (lambda file: file[: len(file) // 2], "the Parquet file is cut off"),
        (lambda file: file[:-40] + bytes(36) + file[-4:], "the Parquet file is damaged, its footer cannot be read"),
        (
            lambda file: b"PAR1" + bytes(500) + file[504:],
            "the Parquet file is damaged, it cannot be read near row 1 (",
        ),
    ],
    ids=("HTML", "empty", "truncated end", "first half", "damaged footer", "damaged pages"),
)
def test_invalid_parquet_file_is_refused_and_not_kept(
    site: HttpSource, tmp_path: Path, content: object, problem: str
) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    path = "/green_tripdata_2024-07.parquet"
    site.files[path] = content(site.files[path])  # type: ignore[operator]

    with pytest.raises(PipelineError) as refused:
        extract(site, "2024-07", tmp_path / "raw")
    assert problem in str(refused.value) and "\n" not in str(refused.value)
    assert [file for file in (tmp_path / "raw").rglob("*") if file.is_file() and ".locks" not in file.parts] == []


@pytest.mark.parametrize("layout", ["mirror", "tlc"])
def test_file_of_another_month_is_refused_unless_any_month_is_allowed(
    site: HttpSource, tmp_path: Path, layout: str
) -> None:
    may = write_month(dataset_named("green"), parse_month("2020-05"), 500, tmp_path / "generated", layout)
    april = release_of("green", "2020-04").path_in(release_of("green", "2020-04").source_named(layout))
    site.files[f"/{april}"] = may.read_bytes()

    with pytest.raises(
        PipelineError,
        match=r"not the file of green 2020-04: \d of 500 rows lie in 2020-04, 49\d in .*"
        r"or accept it with \[source\] any_month = true \(PIPELINE__SOURCE__ANY_MONTH=true\)$",
    ):
        extract(site, "2020-04", tmp_path)
    assert extract(site, "2020-04", tmp_path, any_month=True).rows == 500


def test_file_of_another_dataset_is_refused(site: HttpSource, tmp_path: Path) -> None:
    yellow = write_month(dataset_named("yellow"), parse_month("2024-07"), 50, tmp_path / "generated", "tlc")
    site.files["/green_tripdata_2024-07.parquet"] = yellow.read_bytes()

    with pytest.raises(PipelineError, match="the file lacks lpep_pickup_datetime, lacks lpep_dropoff_datetime"):
        extract(site, "2024-07", tmp_path)


def test_editions_are_compared_by_etag_then_by_length_and_date(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    site.last_modified = "Thu, 17 Sep 2026 13:38:15 GMT"
    release = release_of("green", "2024-07")
    size = len(site.files["/green_tripdata_2024-07.parquet"])

    found = find_edition(release, locations(release, site.url)[0], SHORTEST_WAITS)
    assert found == Edition('"first"', site.last_modified, size)
    assert found.url == f"{site.url}/green_tripdata_2024-07.parquet"
    assert not found.differs_from('"first"', "", 1)
    assert found.differs_from('"second"', site.last_modified, size)
    assert replace(found, etag="").differs_from("", site.last_modified, size + 1)
    assert not replace(found, etag="").differs_from("", site.last_modified, size)


def test_check_of_a_source_ends_if_its_headers_are_not_complete_in_time(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    site.later_fault = Fault(trickle_head=0.02)
    release, options = release_of("green", "2024-07"), replace(SHORTEST_WAITS, retries=1, read_timeout=0.4)

    with pytest.raises(PipelineError, match=r"cannot check whether http://.* exists \(ConnectionError\)"):
        find_edition(release, locations(release, site.url)[0], options)
    assert len(site.requests) == 2


def test_credentials_are_not_in_messages_or_facts(site: HttpSource, tmp_path: Path) -> None:
    publish(site, tmp_path / "generated", "2024-07")
    site.files = {f"{path}?token=s3cret": content for path, content in site.files.items()}
    release = release_of("green", "2024-07")
    base = site.url.replace("://", "://me:s3cret@") + "/?token=s3cret"

    facts = extract_release(release, locations(release, base), tmp_path, SHORTEST_WAITS, silent)
    facts_text = "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    assert "s3cret" not in facts_text and json.loads(facts_text)["source_url"] == facts.source_url
    with pytest.raises(PipelineError) as absent:
        extract_release(
            release_of("green", "2024-08"),
            locations(release_of("green", "2024-08"), base),
            tmp_path,
            SHORTEST_WAITS,
            silent,
        )
    with pytest.raises(PipelineError) as wrong:
        local_path(locations(release, "file://me:s3cret@host/mirror")[0].base_url)
    assert "s3cret" not in f"{absent.value} {wrong.value}"
    assert without_credentials("see https://u:p@h/x?sig=1 and file:///a") == "see https://h/x and file:///a"
    assert source_url("https://h/x/?sig=1", "a/b") == "https://h/x/a/b?sig=1"


def test_catch_up_reports_loaded_months_that_were_published_again(
    pipeline: Run, database: PostgresDatabase, site: HttpSource, tmp_path: Path
) -> None:
    site.missing_status = 403
    for month in ("2019-01", "2019-02"):
        file = write_month(dataset_named("green"), parse_month(month), 50, tmp_path / "generated")
        site.files[f"/green/{file.name}"] = file.read_bytes()

    def catch_up(**settings: str) -> str:
        done = pipeline(
            "schedule", "--taxi", "green", "--once", PIPELINE__SOURCE__BASE_URL=site.url, **alerts.settings, **settings
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def republished() -> list[bool]:
        return [load["republished"] for load in json.loads(pipeline("status", "--json").stdout)]

    with running_receivers() as alerts:
        catch_up()
        assert (republished(), alerts.posts) == ([False, False], [])

        site.etag = '"second"'
        for _ in range(2):  # the second one sends no new alert, and only logs it
            log = catch_up()
            assert "green 2019-02 was published again since it was loaded; load it again with --force" in log
            assert "running   LoadTripdata" not in log and republished() == [True, True]
        assert "2019  *   *\n" in pipeline("status", "--grid").stdout
        (post,) = alerts.posts
        assert post["status"] == "republished" and "published again since it was loaded; load" in post["text"]
        assert [task["parameters"]["month"] for task in post["tasks"]] == ["2019-01", "2019-02"]
        assert alerts.mails[0]["Subject"].startswith("2 tasks republished on ")

        catch_up(PIPELINE__SCHEDULE__RELOAD="always")
        assert execute(database, "SELECT DISTINCT etag FROM load_ledger") == [('"second"',)]
        assert republished() == [False, False] and len(alerts.posts) == 1
        assert "published again" not in catch_up()


def test_catch_up_loads_a_new_edition_from_the_source_that_has_it(
    luigi: Run, pipeline: Run, database: PostgresDatabase, site: HttpSource, tmp_path: Path
) -> None:
    green, month = dataset_named("green"), parse_month("2019-01")
    for source, rows, path in (("mirror", 50, "/green/"), ("tlc", 60, "/")):
        file = write_month(green, month, rows, tmp_path / "generated", source)
        site.files[path + file.name] = file.read_bytes()
    settings = {"PIPELINE__SOURCE__BASE_URL": site.url}
    loaded = "SELECT source, etag, rows_loaded FROM load_ledger"
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-01", "--source", "tlc", **settings)
    assert execute(database, loaded) == [("tlc", site.etag, 60)]

    site.etag = '"second"'
    catch_up = ("schedule", "green", "--once")
    assert "load it again with --force --source tlc" in pipeline(*catch_up, **settings).stderr
    done = pipeline(*catch_up, PIPELINE__SCHEDULE__RELOAD="always", **settings)
    assert done.returncode == 0, done.stderr
    assert execute(database, loaded) == [("tlc", '"second"', 60)]


def test_catch_up_takes_no_other_copy_of_the_loaded_file_for_a_new_edition(
    pipeline: Run, site: HttpSource, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    file = write_month(dataset_named("green"), parse_month("2019-01"), 50, copy)
    site.files[f"/green/{file.name}"] = file.read_bytes()
    site.last_modified = "Mon, 01 Apr 2019 00:00:00 GMT"
    assert pipeline("load", "green", "2019-01", "--source-base-url", str(copy)).returncode == 0

    catch_up = ("schedule", "green", "--once")
    assert "published again" not in pipeline(*catch_up, PIPELINE__SOURCE__BASE_URL=site.url).stderr

    site.files[f"/green/{file.name}"] += b"longer"
    assert "published again" in pipeline(*catch_up, PIPELINE__SOURCE__BASE_URL=site.url).stderr
    assert json.loads(pipeline("status", "--json").stdout)[0]["republished"]


def test_job_records_the_source_of_its_file(tmp_path: Path) -> None:
    write_month(dataset_named("green"), parse_month("2019-01"), 50, tmp_path / "mirror", "tlc")
    job = job_for(dataset_named("green"), tmp_path / "mirror", tmp_path)
    assert (job.extracted.source, job.extracted.format) == ("tlc", "parquet")


def test_loaded_month_is_loaded_from_another_source_only_if_forced(
    luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    write_month(dataset_named("green"), parse_month("2019-01"), 500, mirror, "tlc")
    load = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
    runs = [luigi(*load), luigi(*load, "--source", "tlc"), luigi(*load, "--source", "tlc", "--force")]

    assert [run.returncode for run in runs] == [0, 0, 0], runs[-1].stderr
    assert "running   LoadTripdata" not in runs[1].stderr
    assert execute(database, "SELECT source, format, rows_loaded FROM load_ledger") == [("tlc", "parquet", 500)]
    assert execute(database, "SELECT DISTINCT filename FROM green_tripdata") == [("green_tripdata_2019-01.csv",)]
