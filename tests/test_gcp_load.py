"""Loading into BigQuery: every row of a file is accounted for, whatever its layout and values."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import JANUARY, execute
from gcp import GoogleCloud
from gcp_trips import FILE, forget_month, load_lines, load_uploaded, quarantined_rows, trips_in, upload_lines
from trips import FEBRUARY, HEADER, quote_all, trip, trips, write_load_job

from pipeline.datasets import Column, Dataset, Release, dataset_named, parse_month
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile
from pipeline.progress import silent
from pipeline.sample import write_month
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.loading import forget, orphaned_duplicates
from pipeline.warehouses.bigquery.objects import upload
from pipeline.warehouses.bigquery.resources import create_resources
from pipeline.warehouses.bigquery.tables import ensure_tables, partitioning
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse
from pipeline.warehouses.checksums import differences
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load
from pipeline.warehouses.postgres.partitions import file_checksums as postgres_checksums

FEBRUARY_FILE = "green_tripdata_2019-02.csv"


def test_table_is_partitioned_clustered_and_described(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, trips(3), tmp_path)

    project = prepared_cloud.project
    with project.bigquery() as client:
        table = client.get_table(project.table_id("green_tripdata"))
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "lpep_pickup_datetime")
    assert table.clustering_fields == ["filename"]
    assert table.labels == {"managed-by": "tlc-pipeline"}
    described = {field.name: field.description for field in table.schema}
    green = dataset_named("green")
    assert list(described) == ["unique_row_id", "filename", *green.column_names]
    assert all(described.values())
    assert described["trip_distance"] == green.columns[green.column_names.index("trip_distance")].description
    types = {field.name: (field.field_type, field.mode) for field in table.schema}
    assert types["unique_row_id"] == ("BYTES", "REQUIRED") and types["fare_amount"][0] == "NUMERIC"


def test_month_in_a_table_that_its_dataset_had_before_is_found_there(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    entry = load_lines(prepared_cloud, trips(3), tmp_path)
    warehouse = BigQueryWarehouse(prepared_cloud.project, prepared_cloud.project.dataset, 1, Path())
    renamed = Release(replace(dataset_named("green"), table="green_trips"), JANUARY)

    assert warehouse.find_load(entry.task_family, renamed) == entry
    assert warehouse.find_loads(entry.task_family, [renamed]) == {renamed.key: entry}


def test_jobs_have_names_labels_and_a_limit_of_bytes_billed(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    entry = load_lines(prepared_cloud, trips(3), tmp_path)

    labelled = [(job, job["configuration"]["labels"].get("step", "ledger")) for job in prepared_cloud.jobs()]
    jobs = {step: job for job, step in labelled if step != "ledger"}
    assert list(jobs) == ["stage", "days", "load"]
    for job in jobs.values():
        labels = {"pipeline": "tlc", "dataset": "green", "file": "green_tripdata_2019-01_csv"}
        assert job["configuration"]["labels"].items() >= labels.items()
        assert job["jobReference"]["location"] == "US"
    for step in ("days", "load"):
        assert jobs[step]["configuration"]["query"]["maximumBytesBilled"] == str(
            prepared_cloud.project.maximum_bytes_billed
        )
    assert entry.jobs == tuple(jobs[step]["jobReference"]["jobId"] for step in ("stage", "load"))
    day = "`lpep_pickup_datetime` >= TIMESTAMP '2019-01-01 00:00:00+00'"
    assert day in jobs["load"]["configuration"]["query"]["query"]


def test_marker_records_what_was_loaded(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    uploaded = upload_lines(prepared_cloud, [*trips(3), trip(1)], tmp_path, rows=4)
    entry = load_uploaded(prepared_cloud)

    marker = prepared_cloud.marker()
    assert marker["object_generation"] == uploaded.generation
    assert marker["object_uri"] == f"gs://{prepared_cloud.project.bucket}/{FILE}"
    facts = ("source_url", "source_bytes", "source_sha256")
    assert [marker[fact] for fact in facts] == [getattr(uploaded, fact) for fact in facts]
    counts = ("rows_read", "rows_loaded", "rows_duplicate", "rows_rejected", "spec_version")
    assert [marker[count] for count in counts] == [4, 3, 1, 0, dataset_named("green").version]
    assert (marker["target_table"], marker["partition_key"]) == ("green_tripdata", "green/2019-01")
    assert marker["jobs"] == list(entry.jobs) and len(entry.jobs) == 2
    assert marker["days"] == ["2019-01-01"]
    assert marker["started_at"] < marker["finished_at"]


def test_rows_repeated_in_the_file_or_in_another_file_are_quarantined(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, [*trips(2, FEBRUARY), trip(5, JANUARY, tip_amount="7")], tmp_path, FEBRUARY)
    load_lines(prepared_cloud, [*trips(9), trip(1), trip(1), trip(3)], tmp_path)

    counts = {key: prepared_cloud.marker()[key] for key in ("rows_read", "rows_loaded", "rows_duplicate")}
    assert counts == {"rows_read": 12, "rows_loaded": 8, "rows_duplicate": 4}
    assert quarantined_rows(prepared_cloud) == [("duplicate_in_file", FILE, 3), ("duplicate_of_other_file", FILE, 1)]
    assert len({row_id for row_id, _, _ in trips_in(prepared_cloud)}) == 11
    [(values, detail)] = prepared_cloud.rows(
        "SELECT row_values, detail FROM load_quarantine WHERE reason = 'duplicate_of_other_file'"
    )
    assert json.loads(values)["tip_amount"] == 0
    assert detail == f"its id is already there from {FEBRUARY_FILE}"


def test_rows_whose_duplicate_is_not_loaded_any_more_are_counted(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    shared = [*trips(3, FEBRUARY), trip(3, FEBRUARY, lpep_pickup_datetime="")]
    january = Release(dataset_named("green"), JANUARY)
    load_lines(prepared_cloud, [*trips(2), *shared], tmp_path)
    assert orphaned_duplicates(prepared_cloud.project, january.dataset) == {}
    load_lines(prepared_cloud, [*shared, *trips(5, FEBRUARY)[4:]], tmp_path, FEBRUARY)
    assert orphaned_duplicates(prepared_cloud.project, january.dataset) == {}

    load_lines(prepared_cloud, [*trips(2), shared[0]], tmp_path)
    assert orphaned_duplicates(prepared_cloud.project, january.dataset) == {FEBRUARY_FILE: 3}
    assert forget(prepared_cloud.project, january)
    assert orphaned_duplicates(prepared_cloud.project, january.dataset) == {FEBRUARY_FILE: 4}

    load_lines(prepared_cloud, [*shared, *trips(5, FEBRUARY)[4:]], tmp_path, FEBRUARY)
    assert orphaned_duplicates(prepared_cloud.project, january.dataset) == {}
    assert len(trips_in(prepared_cloud)) == 5


def test_different_rows_with_the_same_key_are_all_loaded_in_any_order(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path
) -> None:
    tips = ["10", "9", "", "-1.5"]
    key = "2" + "2019-01-01 00:01:00" + "2019-01-01 00:10:00" + "41" + "42" + "8" + "0.79"
    # The amount whose text is the last in order has the plain id: "9", then "10", "-1.5" and "".
    texts = [key, f"{key}#2", f"{key}#3", f"{key}#4"]
    expected = dict(zip([9, 10, -1.5, None], [hashlib.md5(text.encode()).hexdigest() for text in texts], strict=True))
    for order in (tips, tips[::-1]):
        repeated = [trip(1, tip_amount="9"), trip(1, tip_amount="10")]
        lines = [trip(0), *(trip(1, tip_amount=tip) for tip in order), *repeated, trip(2)]

        entry = load_lines(prepared_cloud, lines, tmp_path)

        assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (8, 6, 2)
        query = "SELECT CAST(tip_amount AS FLOAT64), TO_HEX(unique_row_id) FROM green_tripdata WHERE fare_amount = 8"
        at = " AND lpep_pickup_datetime = TIMESTAMP '2019-01-01 00:01:00+00'"
        assert dict(prepared_cloud.rows(query + at)) == expected
        assert quarantined_rows(prepared_cloud) == [("duplicate_in_file", FILE, 2)]
    load(database, write_load_job(lines, tmp_path), silent)
    ids = "SELECT {id}, {tip} FROM green_tripdata ORDER BY 1"
    assert prepared_cloud.rows(ids.format(id="TO_HEX(unique_row_id)", tip="CAST(tip_amount AS FLOAT64)")) == execute(
        database, ids.format(id="unique_row_id", tip="tip_amount")
    )
    aside = "SELECT {id}, reason, detail FROM load_quarantine ORDER BY 1"
    assert prepared_cloud.rows(aside.format(id="TO_HEX(unique_row_id)")) == execute(
        database, aside.format(id="unique_row_id")
    )


def test_rows_that_differ_in_an_empty_text_are_different_in_both_warehouses(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path
) -> None:
    lines = [trip(1, store_and_fwd_flag=flag) for flag in ("", '""', "", '""', "N")]

    assert load_lines(prepared_cloud, lines, tmp_path).rows_duplicate == 2
    assert load(database, write_load_job(lines, tmp_path), silent).rows_duplicate == 2

    ids = "SELECT {id}, store_and_fwd_flag FROM green_tripdata ORDER BY 1"
    assert prepared_cloud.rows(ids.format(id="TO_HEX(unique_row_id)")) == execute(
        database, ids.format(id="unique_row_id")
    )


def test_file_with_quotes_around_everything_is_the_file_without_them(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    lines = [trip(1), trip(2, passenger_count="", store_and_fwd_flag=""), trip(3, store_and_fwd_flag='"a ""b"", c"')]
    load_lines(prepared_cloud, lines, tmp_path)
    query = "SELECT * FROM green_tripdata ORDER BY lpep_pickup_datetime"
    plain = prepared_cloud.rows(query)

    load_lines(prepared_cloud, map(quote_all, lines), tmp_path, header=quote_all(HEADER))

    assert len(plain) == 3 and prepared_cloud.rows(query) == plain


def test_key_leaves_out_the_vendor_of_a_row_without_passenger_count(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    assert dataset_named("green").key_blanks == {"vendorid": "passenger_count"}
    load_lines(prepared_cloud, [trip(1, passenger_count=""), trip(2)], tmp_path)

    key = "2019-01-01 00:01:00" + "2019-01-01 00:10:00" + "41" + "42" + "8" + "0.79"
    query = "SELECT vendorid, TO_HEX(unique_row_id) FROM green_tripdata WHERE passenger_count IS NULL"
    assert prepared_cloud.rows(query) == [("2", hashlib.md5(key.encode()).hexdigest())]


def test_parquet_month_is_the_same_in_both_warehouses(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path
) -> None:
    """The month has rows of other days, rows with equal keys, vendors that the key leaves out, and both new columns."""
    release = Release(dataset_named("green"), parse_month("2026-06"))
    file = write_month(release.dataset, parse_month("2026-06"), 400, tmp_path, "tlc")
    table = pq.read_table(file)
    voided = table.slice(7, 1)
    total = voided.schema.get_field_index("total_amount")
    voided = voided.set_column(total, "total_amount", pa.array([-20.35]))
    blank = pa.array([1, *([None] * 400)], table.schema.field("passenger_count").type)
    table = pa.concat_tables([table, voided])
    project = table.schema.get_field_index("passenger_count")
    pq.write_table(table.set_column(project, "passenger_count", blank), file)
    job = LoadJob("LoadTripdata", release, "test", file=file, extracted=ExtractedFile(source="tlc"))

    upload(prepared_cloud.project, job, silent)
    entry = load_uploaded(prepared_cloud, release.month)
    assert load(database, job, silent).rows_loaded == entry.rows_loaded == 401

    assert (entry.source, entry.format) == ("tlc", "parquet")
    ids = "SELECT {id}, vendorid, request_source FROM green_tripdata ORDER BY 1"
    assert prepared_cloud.rows(ids.format(id="TO_HEX(unique_row_id)")) == execute(
        database, ids.format(id="unique_row_id")
    )
    with contextlib.closing(database.connect()) as connection:
        ours = postgres_checksums(connection, database.schema, release)
    theirs = BigQueryWarehouse(prepared_cloud.project, prepared_cloud.project.dataset, 1, Path()).checksums(release)
    assert sum(day.rows for day in ours.values()) == 401 and len(ours) > 30
    assert differences(ours, theirs) == []


def test_coordinates_have_the_same_checksums_in_both_warehouses(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path
) -> None:
    """They have more decimal places than NUMERIC, in which BigQuery adds them up."""
    green = dataset_named("green")
    latitude = Column("latitude", "double precision", "FLOAT64", "Where the trip began.")
    dataset = replace(green, columns=(*green.columns, latitude))
    lines = [trip(n) + f",4{n}.89646666666667".encode() for n in range(7)]
    layout: dict[str, Any] = {"dataset": dataset, "header": HEADER + b",latitude"}

    load(database, write_load_job(lines, tmp_path, **layout), silent)
    load_lines(prepared_cloud, lines, tmp_path, **layout)

    release = Release(dataset, JANUARY)
    with contextlib.closing(database.connect()) as connection:
        ours = postgres_checksums(connection, database.schema, release)
    theirs = BigQueryWarehouse(prepared_cloud.project, prepared_cloud.project.dataset, 1, Path()).checksums(release)
    assert differences(ours, theirs) == []


def test_column_added_to_the_spec_is_added_to_the_table_without_reloading_months(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    green = dataset_named("green")
    older = replace(green, columns=tuple(c for c in green.columns if c.since is None), version=green.version - 1)
    load_lines(prepared_cloud, trips(3), tmp_path, dataset=older)
    before = trips_in(prepared_cloud)

    entry = load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)

    assert entry.rows_loaded == 2
    added = {c.name for c in green.columns} - {c.name for c in older.columns}
    assert added
    for column in added:
        assert prepared_cloud.rows(f"SELECT COUNT(*), COUNT({column}) FROM green_tripdata") == [(5, 0)]
    assert [row for row in trips_in(prepared_cloud) if row[1] == FILE] == before


def test_columns_added_by_another_load_at_the_same_time_are_kept(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    green, added = dataset_named("green"), ["cbd_congestion_fee", "request_source"]
    older = replace(green, columns=tuple(c for c in green.columns if c.name not in added), version=green.version - 1)
    load_lines(prepared_cloud, trips(3), tmp_path, dataset=older)
    other = replace(green, columns=tuple(c for c in green.columns if c.name != added[1]))
    prepared_cloud.wire.requests.clear()
    prepared_cloud.wire.inject("^PATCH .*/tables/green_tripdata", action=lambda: ensure_columns(prepared_cloud, other))

    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)

    assert len(prepared_cloud.wire.seen("^PATCH .*/tables/green_tripdata")) == 3  # ours is refused once
    counts = ", ".join(f"COUNT({column})" for column in ["*", *added])
    assert prepared_cloud.rows(f"SELECT {counts} FROM green_tripdata") == [(5, 0, 0)]


def ensure_columns(cloud: GoogleCloud, dataset: Dataset) -> None:
    with contextlib.closing(cloud.project.bigquery()) as client:
        ensure_tables(client, cloud.project, dataset)


def test_without_a_dataset_there_is_nothing_to_forget_but_the_object(google_cloud: GoogleCloud, tmp_path: Path) -> None:
    assert not forget_month(google_cloud)

    create_resources(google_cloud.project)
    load_lines(google_cloud, trips(2), tmp_path)
    with google_cloud.project.connect_bigquery("") as client:
        client.delete_dataset(google_cloud.project.dataset, delete_contents=True)
    assert forget_month(google_cloud)
    assert not forget_month(google_cloud)


def test_datasets_with_the_same_file_name_do_not_share_an_object(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, trips(3), tmp_path)
    other = replace(dataset_named("green"), name="lime", table="lime_tripdata")

    for attempt in (
        lambda: load_uploaded(prepared_cloud, dataset=other),
        lambda: upload_lines(prepared_cloud, [], tmp_path, dataset=other),
    ):
        with pytest.raises(
            PipelineError, match="contains a file of the dataset green, and the file of lime has the same name"
        ):
            attempt()
    assert not forget(prepared_cloud.project, Release(other, JANUARY))
    assert FILE in prepared_cloud.objects()


def test_yellow_is_partitioned_by_month_and_the_others_by_day() -> None:
    # Yellow begins so early that its days would exceed BigQuery's limit of partitions before 2037.
    assert {name: partitioning(dataset_named(name)) for name in ("green", "yellow", "fhv")} == {
        "green": "DAY",
        "yellow": "MONTH",
        "fhv": "DAY",
    }


def test_second_load_of_a_month_does_nothing(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    first = load_lines(prepared_cloud, trips(3), tmp_path)
    jobs = len(prepared_cloud.jobs())

    assert load_uploaded(prepared_cloud) == first
    steps = [job["configuration"]["labels"]["step"] for job in prepared_cloud.jobs()[jobs:]]
    assert steps == ["ledger"]  # only the ledger was queried


def test_first_load_of_a_month_does_not_list_the_markers_of_all(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, trips(3, FEBRUARY), tmp_path, FEBRUARY)  # fills the new ledger from the markers
    assert prepared_cloud.wire.seen("^GET .*/o[?].*prefix=_ledger")
    prepared_cloud.wire.requests.clear()

    load_lines(prepared_cloud, trips(3), tmp_path)

    assert prepared_cloud.wire.seen("^GET .*/o[?].*prefix=_ledger") == []


def test_republished_file_replaces_the_old_rows_on_all_days(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    old = [*trips(3), trip(0, FEBRUARY), trip(1, lpep_pickup_datetime=""), trip(2)]
    load_lines(prepared_cloud, old, tmp_path)
    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    assert quarantined_rows(prepared_cloud) == [
        ("duplicate_in_file", FILE, 1),
        ("duplicate_of_other_file", FEBRUARY_FILE, 1),
    ]

    new = [trip(number, lpep_pickup_datetime=f"2019-01-{number:02} 00:00:00") for number in range(10, 14)]
    entry = load_lines(prepared_cloud, new, tmp_path)

    assert (entry.rows_loaded, entry.rows_duplicate) == (4, 0)
    january = [time for _, file, time in trips_in(prepared_cloud) if file == FILE]
    assert sorted(january) == [f"2019-01-{day} 00:00:00+00" for day in range(10, 14)]
    assert quarantined_rows(prepared_cloud) == [("duplicate_of_other_file", FEBRUARY_FILE, 1)]


def test_rows_whose_ledger_row_was_deleted_are_replaced_and_forgotten(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    """The copy in the bucket has the days on which they are."""
    for lines in (trips(2), []):
        load_lines(prepared_cloud, [*trips(3), trip(0, FEBRUARY)], tmp_path)
        prepared_cloud.rows("DELETE FROM load_ledger WHERE TRUE")

        if lines:
            assert load_lines(prepared_cloud, lines, tmp_path).rows_loaded == 2
        else:
            assert forget_month(prepared_cloud)

        assert len(trips_in(prepared_cloud)) == len(lines)


def test_forgotten_month_is_removed_and_loads_again_with_the_same_rows(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    lines = [*trips(4), trip(2), trip(9, lpep_pickup_datetime="")]
    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    first = load_lines(prepared_cloud, lines, tmp_path)
    before = trips_in(prepared_cloud), quarantined_rows(prepared_cloud)

    assert forget_month(prepared_cloud)
    assert [file for _, file, _ in trips_in(prepared_cloud)] == [FEBRUARY_FILE] * 2
    assert quarantined_rows(prepared_cloud) == []
    assert prepared_cloud.objects() == ["_ledger/LoadTripdataToBigQuery/green/2019-02.json", FEBRUARY_FILE]
    assert not forget_month(prepared_cloud)

    again = load_lines(prepared_cloud, lines, tmp_path)
    assert (again.rows_read, again.rows_loaded, again.rows_duplicate) == (6, 5, 1)
    assert (trips_in(prepared_cloud), quarantined_rows(prepared_cloud)) == before
    assert again.load_id != first.load_id


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_file_may_have_any_column_order_blanks_quotes_and_line_ends(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path, end: bytes
) -> None:
    names = HEADER.split(b",")
    order = sorted(range(len(names)), key=lambda index: names[index].lower(), reverse=True)
    lines = [
        trip(1, store_and_fwd_flag='"a ""b"", c"'),
        trip(2, store_and_fwd_flag=" ", vendorid="", congestion_surcharge=""),
        trip(3, store_and_fwd_flag="ß漢", lpep_dropoff_datetime="2019-01-01 00:00:00.5", fare_amount="-3.5"),
    ]
    shuffled = [b",".join(cells(line)[index] for index in order) for line in lines]
    header = b",".join(names[index] for index in order)

    entry = load_lines(prepared_cloud, shuffled, tmp_path, header=header, end=end)
    load(database, write_load_job(shuffled, tmp_path, header=header, end=end), silent)

    assert entry.rows_loaded == 3
    query = "SELECT {id}, store_and_fwd_flag, vendorid, {surcharge} FROM green_tripdata ORDER BY 1"
    assert prepared_cloud.rows(
        query.format(id="TO_HEX(unique_row_id)", surcharge="CAST(congestion_surcharge AS FLOAT64)")
    ) == execute(database, query.format(id="unique_row_id", surcharge="congestion_surcharge"))


def test_file_without_rows_is_loaded(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    entry = load_lines(prepared_cloud, [], tmp_path)

    assert (entry.rows_read, entry.rows_loaded, entry.days) == (0, 0, ())
    assert trips_in(prepared_cloud) == []
    assert prepared_cloud.marker()["finished_at"]


@pytest.mark.parametrize("number", ["1e35", "0.7900000000000001"])
def test_bad_row_fails_the_load_with_its_line_and_the_corrected_file_is_loaded(
    prepared_cloud: GoogleCloud, tmp_path: Path, number: str
) -> None:
    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    for _ in range(2):  # the second try needs another job name than the first
        with pytest.raises(PipelineError) as failure:  # PostgreSQL accepts this number
            load_lines(prepared_cloud, [*trips(3), trip(3, trip_distance=number)], tmp_path)
        message = str(failure.value)
        assert message.startswith(
            f"gs://{prepared_cloud.project.bucket}/{FILE} was not loaded, and no row of it: BigQuery says: "
        )
        assert f"Could not parse '{number}' as NUMERIC" in message and "line_number: 5" in message
        assert message.endswith("; correct the file at its source and run again with --force") and "\n" not in message
    assert len(trips_in(prepared_cloud)) == 2
    assert "_ledger/LoadTripdataToBigQuery/green/2019-01.json" not in prepared_cloud.objects()

    entry = load_lines(prepared_cloud, trips(4), tmp_path)
    assert (entry.rows_loaded, len(trips_in(prepared_cloud))) == (4, 6)


def test_load_fails_if_bigquery_reads_fewer_rows_than_the_file_has(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    upload_lines(prepared_cloud, trips(3), tmp_path, rows=4)

    with pytest.raises(PipelineError, match="has 4 rows and BigQuery read 3; nothing was loaded"):
        load_uploaded(prepared_cloud)
    assert trips_in(prepared_cloud) == []


def test_zones_replace_the_old_zones(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    zones: Dataset = dataset_named("zones")
    header = b'"LocationID","Borough","Zone","service_zone"'
    for lines in ([b'1,"EWR","Newark","EWR"', b'2,"Queens","Jamaica Bay","Boro"'], [b'1,"EWR","Newark ""N""","EWR"']):
        load_lines(prepared_cloud, lines, tmp_path, None, zones, header=header)
    assert prepared_cloud.rows("SELECT * FROM taxi_zone_lookup") == [("1", "EWR", 'Newark "N"', "EWR")]


def cells(line: bytes) -> list[bytes]:
    """The fields of a CSV line as written, with their quotes."""
    return re.findall(rb'(?:^|(?<=,))("(?:[^"]|"")*"|[^,]*)', line)
