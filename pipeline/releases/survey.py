"""Row counts of a release file by month, and messages about columns that the spec does not declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.datasets import Release, format_month
from pipeline.errors import PipelineError

# The PostgreSQL and BigQuery types to declare for each kind of values.
TYPES = {
    "text": ("text", "STRING"),
    "integer": ("bigint", "INT64"),
    "number": ("double precision", "NUMERIC"),
    "boolean": ("boolean", "BOOL"),
    "time": ("timestamp", "TIMESTAMP"),
    "date": ("date", "DATE"),
}


@dataclass
class Survey:
    """Row counts of a file. `months` counts rows by the month of the event time (such as `2020-04`), if known."""

    rows: int = 0
    rows_in_month: int = 0
    months: Counter[str] = field(default_factory=Counter)

    def describe_wrong_month(self, release: Release) -> str | None:
        """Returns a message if too few rows are in the release's month, otherwise None."""
        if not release.month or self.rows_in_month >= self.rows * release.dataset.month_share:
            return None
        found = f"{self.rows_in_month:,} of {self.rows:,} rows lie in {format_month(release.month)}"
        fullest = self.months.most_common(1)
        return found + (f", {fullest[0][1]:,} in {fullest[0][0]}" if fullest else "")


def undeclared_column_error(label: str, name: str, kind: str, found: str, release: Release) -> PipelineError:
    """Returns the error for an undeclared column that has values; it includes the line to add to the spec."""
    return PipelineError(
        f"{label}: the column '{name}' is not declared and {found}; add the line"
        f" `{column_declaration(name, kind, release)}` to pipeline/datasets/{release.dataset.name}.yaml, or leave such"
        " columns out with --source-ignore-unknown-columns true"
    )


def column_declaration(name: str, kind: str, release: Release) -> str:
    """Returns the spec's line for a column that first appears in this release."""
    postgres, bigquery = TYPES[kind]
    since = f" since: {format_month(release.month)}," if release.month else ""
    return f'- {{name: {name}, postgres: {postgres}, bigquery: {bigquery},{since} description: "…"}}'


def dropped_column_note(name: str, values: int) -> str:
    """Returns the message about a column that was left out."""
    holds = f"its {values:,} values were ignored" if values else "it has no values"
    return f"the column '{name}' is not declared and was left out: {holds}"


def infer_kind(values: Iterable[str]) -> str:
    """Infers the kind of a CSV column from some of its values."""
    kinds = {_kind_of_text(value) for value in values if value}
    return kinds.pop() if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else "text"


def _kind_of_text(value: str) -> str:
    for kind, parse in (("integer", int), ("number", float)):
        try:
            parse(value)
            return kind
        except ValueError:
            pass
    return "text"
