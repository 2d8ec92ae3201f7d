"""Runs BigQuery jobs exactly once: a job's id is derived from its work, and a second submission joins it."""

from __future__ import annotations

import datetime
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud.bigquery import Client, Row, ScalarQueryParameter
from google.cloud.bigquery.job import LoadJob, QueryJob, QueryJobConfig

from pipeline.datasets import Dataset
from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject
from pipeline.warehouses.bigquery.error_messages import TRANSIENT_REASONS, first_line, remedy_for

logger = logging.getLogger("luigi-interface")

_RETRIES = 5
_RETRY_WAIT = 1  # seconds before the first attempt to run a failed job again
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_RETRIED_REASONS = {*TRANSIENT_REASONS, "stopped"}
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")
_PARAMETER_TYPES: dict[type, str] = {str: "STRING", int: "INT64", datetime.datetime: "TIMESTAMP"}

Value = str | int | datetime.datetime


class JobFailed(PipelineError):
    """Raised if a job failed; for `reason` see https://cloud.google.com/bigquery/docs/error-messages."""

    def __init__(self, job: LoadJob | QueryJob):
        super().__init__(_message(job))
        self.reason = str((job.error_result or {}).get("reason"))
        self.message = str((job.error_result or {}).get("message"))


def job_labels(dataset: Dataset, filename: str, step: str) -> dict[str, str]:
    """Returns the labels that identify a job in Google's billing reports.

    https://cloud.google.com/bigquery/docs/labels-intro#requirements
    """
    labels = {"pipeline": "tlc", "dataset": dataset.name, "file": filename, "step": step}
    return {key: _NOT_IN_LABELS.sub("_", value.lower())[:63] for key, value in labels.items()}


def query_config(project: GoogleProject, labels: dict[str, str], **values: Value) -> QueryJobConfig:
    """Returns the configuration of a query with bound values and the configured limit of billed bytes."""
    config = QueryJobConfig(
        labels=labels,
        query_parameters=[ScalarQueryParameter(name, _PARAMETER_TYPES[type(v)], v) for name, v in values.items()],
    )
    if project.maximum_bytes_billed:  # the library would send None as the string "None"
        config.maximum_bytes_billed = project.maximum_bytes_billed
    return config


def run_job(
    client: Client,
    name: str,
    description: str,
    submit: Callable[[str], Any],
    observer: LoadObserver,
    is_result_usable: Callable[[], bool] = lambda: True,
) -> Any:
    """Returns the job of that name after it has succeeded, whichever process started it and when.

    The job's id is its name and the number of the attempt, so that BigQuery rejects a second submission (409). Another
    attempt follows one that failed earlier or fails for a transient reason. So does one after the job of another
    account, which only that account may read: the work is done again. `is_result_usable` is called for a job that
    finished earlier, because its result may have been deleted.

    https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid

    :raises JobFailed: with BigQuery's own message.
    :raises TransientError: if the job still fails for a transient reason after some attempts.
    """
    failures = attempt = 0
    while True:
        attempt += 1
        job_id, joined = f"{name}_{attempt}", False
        try:
            job = submit(job_id)
        except exceptions.Conflict:
            job, joined = _existing_job(client, job_id), True
        if job is None:
            continue
        if joined and job.state == "DONE" and (job.error_result or not is_result_usable()):
            continue
        _wait(client, job, description, observer)
        if not job.error_result:
            return job
        if job.error_result.get("reason") not in _RETRIED_REASONS:
            raise JobFailed(job)
        if failures == _RETRIES:
            raise TransientError(f"{description}: {_message(job)}; run again")
        wait = _RETRY_WAIT * 2**failures
        failures += 1
        logger.warning("%s: %s; trying again in %s s", description, _message(job), wait)
        time.sleep(wait)


def run_query(client: Client, query: str, config: QueryJobConfig) -> list[Row]:
    """Returns the rows of a query that may run more than once; the library repeats it after transient failures."""
    return [*client.query_and_wait(query, job_config=config, api_timeout=REQUEST_SECONDS)]


def _existing_job(client: Client, job_id: str) -> Any:
    """Returns a job whose id is taken, or None if it is another account's.

    BigQuery may not find it yet: googleapis/python-bigquery issue 2134. Without `bigquery.jobs.get`, an account can
    only read its own jobs: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/get
    """
    until_found = Retry(predicate=if_exception_type(exceptions.NotFound), timeout=REQUEST_SECONDS)
    try:
        return until_found(client.get_job)(job_id, timeout=REQUEST_SECONDS)
    except exceptions.Forbidden:
        return None


def _wait(client: Client, job: LoadJob | QueryJob, description: str, observer: LoadObserver) -> None:
    started, wait = time.monotonic(), _SHORTEST_WAIT
    observer.set_tracking_url(_console_url(client, job.job_id))
    while job.state != "DONE":
        observer.set_status(f"{description}: {str(job.state).lower()}, {time.monotonic() - started:.0f} s")
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)
        job.reload(timeout=REQUEST_SECONDS)


def _message(job: LoadJob | QueryJob) -> str:
    assert job.error_result is not None
    # The details contain the rows; the result often only says that there are details.
    messages = [error.get("message", "") for error in (job.errors or [job.error_result])]
    shown = list(dict.fromkeys(first_line(message).rstrip(".") for message in messages if message))[:3]
    remedy = remedy_for(str(job.error_result.get("reason")))
    return f"BigQuery says: {'; '.join([*shown, *filter(None, [remedy])])}"


def _console_url(client: Client, job_id: str | None) -> str:
    """Returns the URL of the job in Google's console."""
    return (
        f"https://console.cloud.google.com/bigquery?project={client.project}"
        f"&j=bq:{client.location}:{job_id}&page=queryresults"
    )
