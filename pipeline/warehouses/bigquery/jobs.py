"""Jobs of BigQuery that are done once: each has a name of its own, and a second attempt joins it."""

from __future__ import annotations

import datetime
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions
from google.cloud.bigquery import Client, ScalarQueryParameter
from google.cloud.bigquery.job import LoadJob, QueryJob, QueryJobConfig

from pipeline.datasets import Dataset
from pipeline.errors import PipelineError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import first_line

logger = logging.getLogger("luigi-interface")

REQUEST_SECONDS = 60.0  # for one answer; Google's client would wait for ever
_ATTEMPTS = 50
_RETRIES = 5
_LONGEST_WAIT = 5.0
# https://cloud.google.com/bigquery/docs/error-messages
_PASSING = {"backendError", "internalError", "jobBackendError", "jobInternalError", "rateLimitExceeded", "stopped"}
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")
# What BigQuery cancels a transaction, or a statement, with because another changed the same table at the same time.
_CONFLICTS = ("aborted due to concurrent update", "Could not serialize access")
_LONGEST_CONFLICT_WAIT = 15.0
_PARAMETER_TYPES: dict[type, str] = {str: "STRING", int: "INT64", datetime.datetime: "TIMESTAMP"}

Value = str | int | datetime.datetime


class JobFailed(PipelineError):
    """BigQuery ran a job and it failed, for a reason out of https://cloud.google.com/bigquery/docs/error-messages."""

    def __init__(self, job: LoadJob | QueryJob):
        super().__init__(_message(job))
        self.reason = str((job.error_result or {}).get("reason"))
        self.message = str((job.error_result or {}).get("message"))


def job_labels(spec: Dataset, filename: str, step: str) -> dict[str, str]:
    """Labels that tell a job's cost apart in Google's billing reports.

    https://cloud.google.com/bigquery/docs/labels-intro#requirements
    """
    labels = {"pipeline": "tlc", "dataset": spec.name, "file": filename, "step": step}
    return {key: _NOT_IN_LABELS.sub("_", value.lower())[:63] for key, value in labels.items()}


def query_config(project: GoogleProject, labels: dict[str, str], **values: Value) -> QueryJobConfig:
    """How statements are run: with bound values, and no dearer than the settings allow."""
    config = QueryJobConfig(
        labels=labels,
        query_parameters=[ScalarQueryParameter(name, _PARAMETER_TYPES[type(v)], v) for name, v in values.items()],
    )
    if project.maximum_bytes_billed:  # the library would send None as a word
        config.maximum_bytes_billed = project.maximum_bytes_billed
    return config


def run_job(
    client: Client,
    name: str,
    doing: str,
    submit: Callable[[str], Any],
    observer: LoadObserver,
    may_join: Callable[[], bool] = lambda: True,
) -> Any:
    """Returns the job of that name once it has succeeded, no matter which process started it, or when.

    The job's id is the name and the attempt's number, so that BigQuery itself refuses a second one (409). An attempt
    that failed before is followed by another; so is one that fails now by something that passes, or conflicts with
    another change of the same table. `may_join` says whether a job that was there already still serves, as its result
    may be gone.

    https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid

    :raises JobFailed: with BigQuery's own message.
    """
    failures = conflicts = 0
    for attempt in range(1, _ATTEMPTS + 1):
        job_id = f"{name}_{attempt}"
        joined = False
        try:
            job = submit(job_id)
        except exceptions.Conflict:
            job, joined = client.get_job(job_id, timeout=REQUEST_SECONDS), True
        if joined and job.state == "DONE" and (job.error_result or not may_join()):
            continue
        _wait(client, job, doing, observer)
        if not job.error_result:
            return job
        if _is_conflict(job.error_result):
            conflicts += 1
            wait = random.uniform(0.5, 1) * min(2**conflicts, _LONGEST_CONFLICT_WAIT)
            observer.set_status(f"{doing}: waiting for another change of the same tables")
        elif failures < _RETRIES and job.error_result.get("reason") in _PASSING:
            wait = 2**failures
            failures += 1
            logger.warning("%s: %s; trying again in %s s", doing, _message(job), wait)
        else:
            raise JobFailed(job)
        time.sleep(wait)
    raise PipelineError(f"{doing} failed {_ATTEMPTS} times; see {_page(client, job_id)}")


def run_query(client: Client, doing: str, sql: str, config: QueryJobConfig, observer: LoadObserver) -> QueryJob:
    """Runs a query that may be run any number of times, and returns it when it is done.

    :raises JobFailed: with BigQuery's own message.
    """
    job = client.query(sql, job_config=config, timeout=REQUEST_SECONDS)
    _wait(client, job, doing, observer)
    if job.error_result:
        raise JobFailed(job)
    return job


def _wait(client: Client, job: LoadJob | QueryJob, doing: str, observer: LoadObserver) -> None:
    started, wait = time.monotonic(), 0.1
    observer.set_tracking_url(_page(client, job.job_id))
    while job.state != "DONE":
        observer.set_status(f"{doing}: {str(job.state).lower()}, {time.monotonic() - started:.0f} s")
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)
        job.reload(timeout=REQUEST_SECONDS)


def _is_conflict(error: dict[str, Any]) -> bool:
    return any(conflict in error.get("message", "") for conflict in _CONFLICTS)


def _message(job: LoadJob | QueryJob) -> str:
    assert job.error_result is not None
    # The details name rows; the result often only says that there are details.
    messages = [error.get("message", "") for error in (job.errors or [job.error_result])]
    shown = list(dict.fromkeys(first_line(message).rstrip(".") for message in messages if message))[:3]
    remedy = (
        "; raise [gcp] maximum_bytes_billed if that is meant to be"
        if job.error_result.get("reason") == "bytesBilledLimitExceeded"
        else ""
    )
    return f"BigQuery says: {'; '.join(shown)}{remedy}"


def _page(client: Client, job_id: str | None) -> str:
    """The job's page in Google's console."""
    return (
        f"https://console.cloud.google.com/bigquery?project={client.project}"
        f"&j=bq:{client.location}:{job_id}&page=queryresults"
    )
