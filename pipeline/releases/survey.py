"""What a release file holds, in either format: the months of its rows, and columns that the spec does not declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.datasets import Release, format_month
from pipeline.errors import PipelineError

# How a spec is to declare what a file holds: by the kind of the values, in PostgreSQL's and BigQuery's types.
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
    """`months` counts rows by the month of their event time (such as `2020-04`) as far as that was looked at."""

    rows: int = 0
    rows_in_month: int = 0
    months: Counter[str] = field(default_factory=Counter)

    def wrong_month(self, release: Release) -> str | None:
        """What is wrong with the months of the rows, None where enough of them lie in the release's own."""
        if not release.month or self.rows_in_month >= self.rows * release.dataset.month_share:
            return None
        found = f"{self.rows_in_month:,} of {self.rows:,} rows lie in {format_month(release.month)}"
        fullest = self.months.most_common(1)
        return found + (f", {fullest[0][1]:,} in {fullest[0][0]}" if fullest else "")


def refusal(label: str, name: str, kind: str, found: str, release: Release) -> PipelineError:
    """The error that a column with values in it is; it has the line to paste into the spec."""
    return PipelineError(
        f"{label}: the column '{name}' is not declared and {found}; add the line `{declaration(name, kind, release)}`"
        f" to pipeline/datasets/{release.dataset.name}.yaml, or leave such columns out with"
        " --source-ignore-unknown-columns true"
    )


def declaration(name: str, kind: str, release: Release) -> str:
    """The line that declares a column that first came with this release."""
    postgres, bigquery = TYPES[kind]
    since = f" since: {format_month(release.month)}," if release.month else ""
    return f'- {{name: {name}, postgres: {postgres}, bigquery: {bigquery},{since} description: "…"}}'


def left_out(name: str, values: int) -> str:
    """What is said of a column that was left out."""
    holds = f"its {values:,} values were ignored" if values else "it has no values"
    return f"the column '{name}' is not declared and was left out: {holds}"


def kind_of_texts(values: Iterable[str]) -> str:
    """The kind of the values of a CSV column, judged by some of them."""
    kinds = {_kind_of_text(value) for value in values if value}
    return kinds.pop() if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else "text"


def _kind_of_text(value: str) -> str:
    for kind, reads in (("integer", int), ("number", float)):
        try:
            reads(value)
            return kind
        except ValueError:
            pass
    return "text"
