"""Reading CSV release files: headers, line ends, quotes and gzip, and the errors in files that are reported."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import FEBRUARY, trip, write_load_job

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.releases import csv_file, open_release
from pipeline.releases.csv_records import Block, count_records, records

ZONES = replace(dataset_named("zones"), lines_in_quotes=True)
HEADER = b"LocationID,Borough,Zone,service_zone"
BODY = b'1,EWR,"Newark, ""the"" Airport",EWR\r\n2,Queens,"Jamaica\nBay",Boro Zone\r\n3,Bronx,Allerton,Boro Zone\r\n'
WHOLE = HEADER + b"\r\n" + BODY

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def run(content: bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content)
        return path

    return run


def read(path: Path, dataset: Dataset = ZONES) -> list[Block]:
    with open_release(path, Release(dataset)) as release:
        return list(release.blocks())


def joined(blocks: list[Block]) -> bytes:
    return b"".join(block.data for block in blocks)


def error_message(path: Path, dataset: Dataset = ZONES) -> str:
    """Returns the one-line message of the error that reading the file raises."""
    with pytest.raises(PipelineError) as caught:
        read(path, dataset)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 1_000
    return message


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE, id="plain"),
        pytest.param(gzip.compress(WHOLE), id="gzip"),
        pytest.param(gzip.compress(WHOLE[:50]) + gzip.compress(WHOLE[50:]), id="several gzip members"),
        pytest.param(gzip.compress(WHOLE) + bytes(512), id="padded with zeros"),
    ],
)
def test_file_is_read_completely_with_or_without_compression(
    write: Write, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 20)

    with open_release(write(content), Release(ZONES)) as release:
        blocks = list(release.blocks())

    assert joined(blocks) == BODY
    assert sum(block.rows for block in blocks) == 3
    assert release.bytes_read == len(content)
    assert release.sha256 == hashlib.sha256(content).hexdigest()


def test_lf_line_ends_are_kept(write: Write) -> None:
    assert joined(read(write(HEADER + b"\n1,EWR,a,b\n2,EWR,c,d\n"))) == b"1,EWR,a,b\n2,EWR,c,d\n"


@pytest.mark.parametrize("block_bytes", [1, 7, 4 << 20])
def test_last_record_needs_no_newline(write: Write, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block_bytes)

    blocks = read(write(WHOLE.removesuffix(b"\r\n")))

    assert sum(block.rows for block in blocks) == 3
    assert joined(blocks) == BODY


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (HEADER, "locationid borough zone service_zone"),
        (b'"LocationID","Borough","Zone","service_zone"', "locationid borough zone service_zone"),
        (b"LOCATIONID,borough, Zone ,Service_Zone", "locationid borough zone service_zone"),
        (b"service_zone,Zone,LocationID,Borough", "service_zone zone locationid borough"),
    ],
)
def test_columns_are_in_the_order_of_the_file(write: Write, bom: bytes, header: bytes, columns: str) -> None:
    with open_release(write(bom + header + b"\r\n" + BODY), Release(ZONES)) as release:
        assert release.columns == tuple(columns.split())


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"LocationID,Borough,service_zone", "lacks Zone;"),
        (HEADER + b",ZONE", "repeats 'ZONE';"),
        (HEADER + b",", "adds '';"),
        (b"LocationID,Borough,Zones,service_zone", "lacks Zone, adds 'Zones';"),
        (HEADER + b",\x1b[2J", r"adds '\x1b[2J';"),
        (HEADER + b",x" * 1_000, "and has 1,987 more problems;"),
    ],
)
def test_changed_header_is_reported_with_its_changes_and_the_spec_to_edit(
    write: Write, header: bytes, problem: str
) -> None:
    message = error_message(write(header + b"\r\n" + BODY))

    assert ", line 1: the header " in message
    assert problem in message
    assert "pipeline/datasets/zones.yaml" in message


def test_column_may_have_any_other_name_in_files(write: Write) -> None:
    columns = (replace(ZONES.columns[0], aliases=("location no., from 1",)), *ZONES.columns[1:])
    header = WHOLE.replace(b"LocationID", b'"Location no., from 1"', 1)

    with open_release(write(header), Release(replace(ZONES, columns=columns))) as release:
        assert release.columns[0] == "locationid"
        assert joined(list(release.blocks())) == BODY


def test_undeclared_column_is_ignored_if_empty_otherwise_reported_with_its_declaration(write: Write) -> None:
    def with_tax(*values: bytes) -> Path:
        lines = zip((b"1,EWR", b'2,"Que\nens"', b"3,Bronx"), values, strict=True)
        return write(
            b"LocationID,Borough,tax,Zone,service_zone\r\n" + b"".join(b"%b,%b,Z,S\r\n" % line for line in lines)
        )

    def notes(file: Path, ignore: bool) -> tuple[str, ...]:
        with open_release(file, Release(ZONES), ignore_unknown_columns=ignore) as release:
            assert joined(list(release.blocks())) == b'1,EWR,Z,S\r\n2,"Que\nens",Z,S\r\n3,Bronx,Z,S\r\n'
            assert release.header == b"locationid,borough,zone,service_zone\r\n" and not release.notes[1:]
            return release.notes

    assert notes(with_tax(b"", b"", b""), False) == (
        "the column 'tax' is not declared and was left out: it has no values",
    )
    for value, types in ((b"2.5", "double precision, bigquery: NUMERIC"), (b"x", "text, bigquery: STRING")):
        message = error_message(with_tax(b"", value, b""))
        assert f"'tax' is not declared and has values, the first on line 3: '{value.decode()}'; add the line" in message
        assert message.endswith("ignore_unknown_columns = true (PIPELINE__SOURCE__IGNORE_UNKNOWN_COLUMNS=true)")
        assert f'`- {{name: tax, postgres: {types}, description: "…"}}` to pipeline/datasets/zones.yaml' in message
    assert notes(with_tax(b"7", b"", b"8"), True) == (
        "the column 'tax' is not declared and was left out: its 2 values were ignored",
    )


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"<!DOCTYPE html>\n<html>Please log in</html>\n", "'<!DOCTYPE html>'"),
        (b"<html>" + b"x" * 1_000_000, "'<html>xxxxxx"),
        (BODY, "'1,EWR,"),
        (b"a\rb\rc\r", r"'a\rb\rc'"),
        (b'"' + b"x" * 200_000 + b'"', "'\"xxxx"),
        (b"\x1f", r"'\x1f'"),
        (b"PAR1\x00\xff\xfe\n", r"'PAR1\x00\\xff\\xfe'"),
        (gzip.compress(gzip.compress(WHOLE, mtime=0), mtime=0), r"'\x1f\\x8b"),
        (b"\r\n" + WHOLE, "''"),
    ],
    ids=("html", "long line", "no header", "CR", "long field", "one byte", "parquet", "gzip twice", "blank line"),
)
def test_file_that_is_not_a_release_is_reported_with_its_beginning(write: Write, content: bytes, shown: str) -> None:
    assert f", line 1: not a zones file: it begins with {shown}" in error_message(write(content))


def test_endless_first_line_does_not_use_much_memory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as zeros:
        zeros.truncate(50_000_000)
    tracemalloc.start()
    try:
        assert "not a zones file" in error_message(file)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_empty_file_is_reported_as_empty(write: Write) -> None:
    assert ": the file is empty; " in error_message(write(b""))
    assert ": the file is empty; " in error_message(write(gzip.compress(b"")))


def test_file_with_only_a_header_has_no_rows(write: Write) -> None:
    assert read(write(HEADER)) == read(write(HEADER + b"\r\n")) == []


def gzip_of_several_blocks() -> bytes:
    """Returns a gzip file whose end is not read together with its beginning."""
    rows = b"".join(b"%d,%d,x,y\r\n" % (i, i * i) for i in range(5_000))
    return gzip.compress(HEADER + b"\r\n" + rows, mtime=0)


@pytest.mark.parametrize("kept", [2, 3, 9, 10, 11, 20, 5_000, -9, -8, -4, -1])
def test_truncated_gzip_file_is_refused(write: Write, kept: int) -> None:
    assert "the gzip stream is cut off" in error_message(write(gzip_of_several_blocks()[:kept]))


def test_truncated_second_gzip_member_is_refused(write: Write) -> None:
    assert "the gzip stream is cut off" in error_message(write(gzip_of_several_blocks() + gzip.compress(BODY)[:-1]))


@pytest.mark.parametrize("at", [-8, -5, -4, -1, 2_000], ids=["CRC", "CRC's end", "size", "size's end", "data"])
def test_gzip_file_with_flipped_bits_is_refused(write: Write, at: int) -> None:
    content = bytearray(gzip_of_several_blocks())
    content[at] ^= 0b101

    assert "the gzip stream is c" in error_message(write(bytes(content)))


@pytest.mark.parametrize("garbage", [b"x", b"<html>", bytes(8) + b"x", b"\x1f\x8b"])
def test_garbage_after_gzip_is_refused(write: Write, garbage: bytes) -> None:
    assert "other bytes follow it" in error_message(write(gzip.compress(WHOLE) + garbage))


def test_rows_without_a_time_are_in_no_month(tmp_path: Path) -> None:
    blank = [trip(number, lpep_pickup_datetime="") for number in range(2)]
    with write_load_job([*blank, trip(3, FEBRUARY)], tmp_path).open_file() as release:
        assert release.describe_wrong_month(release.survey()) == "0 of 3 rows lie in 2019-01, 1 in 2019-02"


def test_unclosed_quote_is_reported_with_its_line(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 100)
    monkeypatch.setattr(csv_file, "MAX_RECORD_BYTES", 1_000)
    rows = [b"1,EWR,a,b\r\n"] * 500
    rows[100] = b'1,EWR,"a,b\r\n'

    assert ", line 102: a record of more than 1,000 bytes" in error_message(write(HEADER + b"\r\n" + b"".join(rows)))


@pytest.mark.parametrize("block_bytes", [1 << 20, 9])  # 9 bytes end before the quote
def test_unclosed_quote_near_the_end_is_reported_with_its_line(
    write: Write, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block_bytes)
    message = error_message(write(HEADER + b'\n1,"a",b,c\n2,a,"b,c\n3,a,b,c\n'))

    assert ", line 3: a quote that is never closed; " in message


def test_stray_quote_does_not_slow_down_the_splitter() -> None:
    block = b'"' + b"1,EWR,a,b\r\n" * 300_000
    started = time.monotonic()

    assert count_records(block) == 1
    assert sum(1 for _ in records(Block(block, 2, 1))) == 1
    assert time.monotonic() - started < 5  # scanning the whole block for each line would take minutes


FIELDS = st.text('ab,"\n\r é\0', max_size=6)
ROWS = st.lists(st.tuples(FIELDS, FIELDS, FIELDS, FIELDS), max_size=12)


def as_csv(rows: list[tuple[str, ...]], line_end: str, quoting: int) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows(rows)
    return text.getvalue().encode()


def lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text)


def read_by_csv_module(body: bytes) -> tuple[list[list[str]], list[int]]:
    """Returns the records as Python's csv module reads them, and the line of each in a file with a header."""
    found, starts = [], [2]
    reader = csv.reader(lines(body.decode()))
    for record in reader:
        found.append(record)
        starts.append(reader.line_num + 2)
    return found, starts[:-1]


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    style=st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
    ends_with_newline=st.booleans(),
    zipped=st.booleans(),
    block_bytes=st.integers(1, 60),
)
def test_blocks_make_up_the_body_and_records_equal_those_of_the_csv_module(
    rows: list[tuple[str, ...]], style: tuple[str, int], ends_with_newline: bool, zipped: bool, block_bytes: int
) -> None:
    body = as_csv(rows, *style)
    content = HEADER + style[0].encode() + (body if ends_with_newline else body.removesuffix(b"\n"))
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        Path(file.name).write_bytes(gzip.compress(content) if zipped else content)
        patch.setattr(csv_file, "BLOCK_BYTES", block_bytes)
        blocks = read(Path(file.name))

    assert joined(blocks) == body
    found = [record for block in blocks for record in records(block)]
    expected, starts = read_by_csv_module(body)
    assert [record.line_number for record in found] == starts
    assert [next(csv.reader(lines(record.data.decode()))) for record in found] == expected
    assert all(block.rows == count_records(block.data) == len(list(records(block))) for block in blocks)
    assert sum(block.rows for block in blocks) == len(rows)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=40) | st.text('a"\n', max_size=40).map(str.encode))
def test_any_bytes_are_counted_and_split_consistently(data: bytes) -> None:
    found = list(records(Block(data + b"\n", 2, 0)))

    assert b"".join(record.data for record in found) == data + b"\n"
    assert count_records(data + b"\n") == len(found)


def test_text_of_a_record_escapes_bytes_that_are_not_text() -> None:
    (record,) = records(Block(b"caf\xc3\xa9,\xff,\0\r\n", 2, 1))

    assert record.text == r"café,\xff,\x00"
