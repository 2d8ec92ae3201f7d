"""What the dbt models in BigQuery go by: their marker in the bucket, and the ledger as a table that SQL can read."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
from dataclasses import asdict, fields
from typing import Any

from pipeline.datasets.spec import LEDGER
from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import translate_errors
from pipeline.warehouses.bigquery.ledger import FOLDER, GcpLedgerEntry
from pipeline.warehouses.bigquery.resources import LABELS
from pipeline.warehouses.ledger import Build, LedgerEntry

_TYPES = {"str": "STRING", "int": "INT64", "datetime.datetime": "TIMESTAMP", "datetime.datetime | None": "TIMESTAMP"}


def find_build(project: GcpProject, dataset: str) -> Build | None:
    """What the models were last built from, or None where they never were."""
    name = _marker(dataset)
    with translate_errors(f"the marker gs://{project.bucket}/{name}"), contextlib.closing(project.storage()) as client:
        blob = client.bucket(project.bucket).get_blob(name)
        text = None if blob is None else blob.download_as_bytes()
    if text is None:
        return None
    try:
        values = json.loads(text)
        times = {key: datetime.datetime.fromisoformat(at) for key, at in values.items() if key.endswith("_at") and at}
        return Build(**values | times)
    except (ValueError, TypeError, AttributeError):
        raise PipelineError(
            f"gs://{project.bucket}/{name} is not a marker of this pipeline; remove it and run again"
        ) from None


def record_build(project: GcpProject, dataset: str, build: Build) -> None:
    """Writes the marker in the place of any there was."""
    name = _marker(dataset)
    text = json.dumps(asdict(build), default=lambda time: time.isoformat(), indent=2)
    with translate_errors(f"the marker gs://{project.bucket}/{name}"), contextlib.closing(project.storage()) as client:
        client.bucket(project.bucket).blob(name).upload_from_string(text, content_type="application/json")


def copy_ledger(project: GcpProject, entries: list[GcpLedgerEntry]) -> None:
    """Returns when the table `load_ledger` holds these entries and no others; a load job, which costs nothing."""
    from google.cloud.bigquery import LoadJobConfig, SchemaField

    schema = [SchemaField(field.name, _TYPES[str(field.type)]) for field in fields(LedgerEntry)]
    config = LoadJobConfig(schema=schema, write_disposition="WRITE_TRUNCATE", source_format="CSV", labels=LABELS)
    with translate_errors(f"the table {LEDGER}"), contextlib.closing(project.bigquery()) as client:
        rows = io.BytesIO(_as_csv(entries, [field.name for field in schema]))
        client.load_table_from_file(rows, project.table_id(LEDGER), job_config=config).result()


def _as_csv(entries: list[GcpLedgerEntry], names: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_value(getattr(entry, name)) for name in names] for entry in entries)
    return text.getvalue().encode()


def _value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def _marker(dataset: str) -> str:
    return f"{FOLDER}/DbtBuild/{dataset}.json"
