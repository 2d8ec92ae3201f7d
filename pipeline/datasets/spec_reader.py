"""Reads and validates the YAML file of a dataset; errors have the file and the line."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.datasets.cron import check_cron, check_time_zone
from pipeline.datasets.spec import (
    COLUMN_NAME,
    LEDGER,
    MIRROR,
    QUARANTINE,
    RESERVED_COLUMNS,
    TLC,
    ZONES,
    Column,
    Dataset,
    Schedule,
    Source,
)
from pipeline.datasets.yaml_node import Node, read_yaml

_POSTGRES_TYPES = ("text", "integer", "bigint", "double precision", "numeric", "boolean", "date", "timestamp")
_BIGQUERY_TYPES = ("STRING", "INT64", "NUMERIC", "FLOAT64", "BOOL", "DATE", "TIMESTAMP")
_SUFFIXES = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",)}
_REQUIRED = {"name", "title", "version", "table", "row_key", "columns"}
_ONE_SOURCE = {"path", "first_month", "last_month"}
_OPTIONAL = {"event_time", "sources", "schedule", "key_blanks", "lines_in_quotes", "month_share"} | _ONE_SOURCE
# Names in PostgreSQL have at most 63 bytes; the longest one here is <table>_2019_01_loading_time.
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,41}")
_VERSION, _SHARE = re.compile(r"0*[1-9][0-9]*"), re.compile(r"0(\.[0-9]+)?|1(\.0+)?")
_OWN_TABLES = dict.fromkeys((LEDGER, QUARANTINE), "the pipeline itself")
_COLUMN_REQUIRED = {"name", "postgres", "bigquery", "description"}
_COLUMN_OPTIONAL = {"since", "until", "aliases", "whole", "sources"}


def read_spec(file: Path, used_tables: Mapping[str, str] = MappingProxyType({})) -> Dataset:
    """Returns the dataset that a YAML file declares; `used_tables` maps tables that are in use to their owners.

    :raises PipelineError: with file and line, if the file is not a valid spec.
    """
    root = read_yaml(file)
    keys = root.mapping(_REQUIRED, _OPTIONAL)
    dataset = _spec(keys, root)
    _check(dataset, keys, root)
    if owner := {**_OWN_TABLES, **used_tables}.get(dataset.table):
        raise keys["table"].error(f"the table {dataset.table} already belongs to {owner}")
    return dataset


def _spec(keys: dict[str, Node], root: Node) -> Dataset:
    event, share, sources = keys.get("event_time"), keys.get("month_share"), _sources(keys, root)
    blanks = keys["key_blanks"].mapping() if "key_blanks" in keys else {}
    return Dataset(
        name=keys["name"].matching(_TABLE_NAME, "a name of lower-case letters, digits and underscores"),
        title=keys["title"].text(),
        version=int(keys["version"].matching(_VERSION, "a whole number from 1 on")),
        table=keys["table"].matching(_TABLE_NAME, "a table name of at most 42 lower-case letters, digits, underscores"),
        columns=_columns(keys["columns"], sources),
        row_key=tuple(node.text().lower() for node in keys["row_key"].items()),
        event_time=event.text().lower() if event else None,
        sources=sources,
        schedule=_schedule(keys["schedule"]) if "schedule" in keys else None,
        key_blanks={name.lower(): value.text().lower() for name, value in blanks.items()},
        lines_in_quotes=keys["lines_in_quotes"].boolean() if "lines_in_quotes" in keys else False,
        month_share=float(share.matching(_SHARE, "a share from 0 to 1, such as 0.5")) if share else 0.5,
    )


def _sources(keys: dict[str, Node], root: Node) -> tuple[Source, ...]:
    if "sources" not in keys:
        if "path" not in keys:
            raise root.error("missing key path or sources")
        return (_source({name: keys[name] for name in _ONE_SOURCE & keys.keys()}, MIRROR, "csv"),)
    if misplaced := sorted(_ONE_SOURCE & keys.keys()):
        raise keys[misplaced[0]].error(f"'{misplaced[0]}' must be a key of a source, because sources are given")
    sources: dict[str, Source] = {}
    for entry in keys["sources"].items():
        found = entry.mapping({"name", "format", "path"}, _ONE_SOURCE | {"before"})
        name = found["name"].choice((MIRROR, TLC))
        if name in sources:
            raise found["name"].error(f"there are two sources called {name}")
        sources[name] = _source(found, name, found["format"].choice(tuple(_SUFFIXES)))
        first = next(iter(sources.values()))
        if _base_name(sources[name].path) != _base_name(first.path):
            raise found["path"].error(f"the file must be called {_base_name(first.path)} in every source")
    return tuple(sources.values())


def _source(keys: dict[str, Node], name: str, format_: str) -> Source:
    path = keys["path"].text()
    if not path.endswith(_SUFFIXES[format_]):
        raise keys["path"].error(f"the path must end in {' or '.join(_SUFFIXES[format_])}")
    before = keys["before"].text() if "before" in keys else ""
    return Source(name, format_, path, _month(keys, "first_month"), _month(keys, "last_month"), before)


def _base_name(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".gz").rsplit(".", 1)[0]


def _columns(node: Node, sources: tuple[Source, ...]) -> tuple[Column, ...]:
    columns, names = list[Column](), set(RESERVED_COLUMNS)
    known_sources = tuple(sorted(source.name for source in sources))
    reads_parquet = any(source.format == "parquet" for source in sources)
    for entry in node.items():
        keys = entry.mapping(_COLUMN_REQUIRED, _COLUMN_OPTIONAL)
        aliases = tuple(item.text() for item in _items(keys, "aliases"))
        column = Column(
            source_name=keys["name"].matching(COLUMN_NAME, "a column name"),
            postgres_type=keys["postgres"].choice(_POSTGRES_TYPES),
            bigquery_type=keys["bigquery"].choice(_BIGQUERY_TYPES),
            description=keys["description"].text(),
            since=_month(keys, "since"),
            until=_month(keys, "until"),
            aliases=aliases,
            whole=keys["whole"].boolean() if "whole" in keys else False,
            sources=tuple(item.choice(known_sources) for item in _items(keys, "sources")),
        )
        # Names are compared in lower case; an alias may be the column's own name in another case.
        for name in sorted({column.name, *(alias.lower() for alias in aliases)}):
            if name in names:
                raise keys["name"].error(f"column '{name}' is taken")
            names.add(name)
        if reads_parquet and column.postgres_type == "numeric":
            raise entry.error("numeric is not read from Parquet files; use double precision")
        if column.whole and column.postgres_type not in ("text", "integer", "bigint"):
            raise entry.error(f"whole is for text, integer and bigint, not for {column.postgres_type}")
        if column.since and column.until and column.until < column.since:
            raise entry.error("until is before since")
        columns.append(column)
    return tuple(columns)


def _month(keys: dict[str, Node], key: str) -> datetime.date | None:
    return keys[key].month() if key in keys else None


def _items(keys: dict[str, Node], key: str) -> list[Node]:
    return keys[key].items() if key in keys else []


def _schedule(node: Node) -> Schedule:
    keys = node.mapping({"cron", "timezone"}, {"start"})
    for name, check in (("cron", check_cron), ("timezone", check_time_zone)):
        try:
            check(keys[name].text())
        except ValueError as error:
            raise keys[name].error(str(error)) from None
    return Schedule(keys["cron"].text(), keys["timezone"].text(), _month(keys, "start"))


def _check(dataset: Dataset, keys: dict[str, Node], root: Node) -> None:
    if dataset.name != root.file.stem:
        raise keys["name"].error(f"the name '{dataset.name}' must be the file's own name, '{root.file.stem}'")
    types = {column.name: column.postgres_type for column in dataset.columns}
    for index, node in enumerate(keys["row_key"].items()):
        if node.text().lower() not in types:
            raise node.error(f"row_key names '{node.text()}', which is not a column")
        if node.text().lower() in dataset.row_key[:index]:
            raise node.error(f"row_key names '{node.text()}' twice")
    for name, blank_with in dataset.key_blanks.items():
        if name not in dataset.row_key:
            raise keys["key_blanks"].error(f"key_blanks names '{name}', which is not part of row_key")
        if blank_with not in types:
            raise keys["key_blanks"].error(f"key_blanks names '{blank_with}', which is not a column")
    if len({"{month}" in source.path for source in dataset.sources}) > 1:
        raise keys["sources"].error("either every source has {month} in its path, or none")
    if not dataset.is_monthly:
        if dataset.name != ZONES:
            node = keys["path"] if "path" in keys else keys["sources"]
            raise node.error("the path has no {month}, such as …_{month}.csv.gz; only the dataset zones is one file")
        return
    missing = [] if "event_time" in keys else ["event_time"]
    missing += [] if all(source.first_month for source in dataset.sources) else ["first_month"]
    if missing:
        raise root.error(f"a dataset with {{month}} in its path also needs {', '.join(missing)}")
    # Rows with equal ids then have equal times, which makes the search for duplicates in other months fast.
    if types.get(dataset.event_time or "") != "timestamp" or dataset.event_time not in dataset.row_key:
        raise keys["event_time"].error("event_time must name a timestamp column that is part of row_key")
