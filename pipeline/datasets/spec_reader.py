"""Reads a dataset's YAML file into a spec; every complaint names the file and the line."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.datasets.spec import LEDGER, QUARANTINE, Column, Dataset, Schedule, parse_month
from pipeline.errors import PipelineError

POSTGRES_TYPES = ("text", "integer", "bigint", "double precision", "numeric", "boolean", "date", "timestamp")
BIGQUERY_TYPES = ("STRING", "INT64", "NUMERIC", "FLOAT64", "BOOL", "DATE", "TIMESTAMP")
_REQUIRED = {"name", "title", "version", "table", "path", "row_key", "columns"}
_MONTHLY = {"event_time", "first_month"}
_OPTIONAL = {"event_time", "first_month", "last_month", "schedule"}
# PostgreSQL cuts names at 63 bytes; the longest of ours is <table>_2019_01_loading_time.
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,41}")
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NO_TABLES: Mapping[str, str] = {}
_OWN_TABLES = dict.fromkeys((LEDGER, QUARANTINE), "the pipeline itself")
_RESERVED_COLUMNS = {"unique_row_id", "filename"}
# The C parser is ten times faster and in every published wheel; the Python one reads the same language.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Node:
    """A YAML node that knows its place, so that a complaint can name it."""

    def __init__(self, file: Path, node: yaml.Node):
        self.file = file
        self.node = node

    def error(self, message: str) -> PipelineError:
        return PipelineError(f"{self.file}, line {self.node.start_mark.line + 1}: {message}")

    def mapping(self, allowed: set[str], required: set[str]) -> dict[str, _Node]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a mapping of keys to values")
        found: dict[str, _Node] = {}
        for key_node, value_node in self.node.value:
            key = _Node(self.file, key_node)
            name = key.text()
            if name not in allowed:
                raise key.error(f"unknown key '{name}'; known keys: {', '.join(sorted(allowed))}")
            if name in found:
                raise key.error(f"key '{name}' is given twice")
            found[name] = _Node(self.file, value_node)
        if missing := sorted(required - found.keys()):
            raise self.error(f"missing key{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
        return found

    def items(self) -> list[_Node]:
        if not isinstance(self.node, yaml.SequenceNode) or not self.node.value:
            raise self.error("expected a list with at least one entry")
        return [_Node(self.file, node) for node in self.node.value]

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode) or not str(self.node.value).strip():
            raise self.error("expected a text")
        return str(self.node.value)

    def matching(self, pattern: re.Pattern[str], what: str) -> str:
        if not pattern.fullmatch(value := self.text()):
            raise self.error(f"'{value}' is not {what}")
        return value

    def choice(self, choices: tuple[str, ...]) -> str:
        if (value := self.text()) not in choices:
            raise self.error(f"'{value}' is not one of {', '.join(choices)}")
        return value

    def integer(self) -> int:
        if not (value := self.text()).isdecimal():
            raise self.error(f"'{value}' is not a whole number")
        return int(value)

    def month(self) -> datetime.date:
        try:
            return parse_month(self.text())
        except ValueError as error:
            raise self.error(str(error)) from None


def read_spec(file: Path, taken: Mapping[str, str] = _NO_TABLES) -> Dataset:
    """Returns the dataset that a YAML file declares; `taken` tells which tables belong to whom already.

    :raises PipelineError: naming file and line, when the file is not a valid dataset spec.
    """
    text = file.read_bytes()
    try:
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise PipelineError(f"{file}, line {_line_of(error, text)}: not valid YAML: {_problem(error)}") from error
    if tree is None:
        raise PipelineError(f"{file}, line 1: the file is empty")
    root = _Node(file, tree)
    keys = root.mapping(_REQUIRED | _OPTIONAL, _REQUIRED)
    spec = _spec(keys)
    _check(spec, keys, root, file)
    if owner := {**_OWN_TABLES, **taken}.get(spec.table):
        raise keys["table"].error(f"the table {spec.table} belongs to {owner} already")
    return spec


def _line_of(error: yaml.YAMLError, text: bytes) -> int:
    if isinstance(error, yaml.reader.ReaderError):  # a byte that is no text
        return text.count(b"\n", 0, error.position) + 1
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return mark.line + 1 if mark else 1


def _problem(error: yaml.YAMLError) -> str:
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return problem or " ".join(str(error).split())


def _spec(keys: dict[str, _Node]) -> Dataset:
    first, last, event = keys.get("first_month"), keys.get("last_month"), keys.get("event_time")
    return Dataset(
        name=keys["name"].matching(_TABLE_NAME, "a name of lower-case letters, digits and underscores"),
        title=keys["title"].text(),
        version=keys["version"].integer(),
        table=keys["table"].matching(_TABLE_NAME, "a table name of at most 42 lower-case letters, digits, underscores"),
        path=keys["path"].text(),
        columns=_columns(keys["columns"]),
        row_key=tuple(node.text().lower() for node in keys["row_key"].items()),
        event_time=event.text().lower() if event else None,
        first_month=first.month() if first else None,
        last_month=last.month() if last else None,
        schedule=_schedule(keys["schedule"]) if "schedule" in keys else None,
    )


def _columns(node: _Node) -> tuple[Column, ...]:
    columns: dict[str, Column] = {}
    wanted = {"name", "postgres", "bigquery", "description"}
    for entry in node.items():
        keys = entry.mapping(wanted, wanted)
        column = Column(
            source_name=keys["name"].matching(_COLUMN_NAME, "a column name"),
            postgres_type=keys["postgres"].choice(POSTGRES_TYPES),
            bigquery_type=keys["bigquery"].choice(BIGQUERY_TYPES),
            description=keys["description"].text(),
        )
        if column.name in columns or column.name in _RESERVED_COLUMNS:
            raise keys["name"].error(f"column '{column.name}' is taken")
        columns[column.name] = column
    return tuple(columns.values())


def _schedule(node: _Node) -> Schedule:
    keys = node.mapping({"cron", "timezone"}, {"cron", "timezone"})
    return Schedule(cron=keys["cron"].text(), timezone=keys["timezone"].text())


def _check(spec: Dataset, keys: dict[str, _Node], root: _Node, file: Path) -> None:
    if spec.name != file.stem:
        raise keys["name"].error(f"the name '{spec.name}' must be the file's own name, '{file.stem}'")
    if not spec.path.removesuffix(".gz").endswith(".csv"):
        raise keys["path"].error("the path must end in .csv or .csv.gz")
    types = {column.name: column.postgres_type for column in spec.columns}
    for at, node in enumerate(keys["row_key"].items()):
        if node.text().lower() not in types:
            raise node.error(f"row_key names '{node.text()}', which is not a column")
        if node.text().lower() in spec.row_key[:at]:
            raise node.error(f"row_key names '{node.text()}' twice")
    if not spec.is_monthly:
        return
    if missing := sorted(_MONTHLY - keys.keys()):
        raise root.error(f"a dataset with {{month}} in its path also needs {', '.join(missing)}")
    # Rows with equal ids then have equal times, which is what keeps the look for repeats across months cheap.
    if types.get(spec.event_time or "") != "timestamp" or spec.event_time not in spec.row_key:
        raise keys["event_time"].error("event_time must name a timestamp column that is part of row_key")
