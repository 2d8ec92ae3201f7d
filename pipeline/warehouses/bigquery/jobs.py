"""Jobs of BigQuery that are done once: each has a name of its own, and whoever comes second joins it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.datasets import Dataset
from pipeline.errors import PipelineError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import first_line

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.bigquery.job import LoadJob, QueryJob, QueryJobConfig

logger = logging.getLogger("luigi-interface")

REQUEST_SECONDS = 60.0  # for one answer; Google's client would wait for ever
_ATTEMPTS = 50
_RETRIES = 5
_LONGEST_WAIT = 5.0
# https://cloud.google.com/bigquery/docs/error-messages
_PASSING = {"backendError", "internalError", "jobBackendError", "jobInternalError", "rateLimitExceeded", "stopped"}
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")
_CONFLICT = "Could not serialize access"  # two statements changed one partition at the same time


class JobFailed(PipelineError):
    """BigQuery ran a job and it failed, for a reason out of https://cloud.google.com/bigquery/docs/error-messages."""

    def __init__(self, job: LoadJob | QueryJob):
        super().__init__(_message(job))
        self.reason = str((job.error_result or {}).get("reason"))


def job_labels(spec: Dataset, filename: str, step: str) -> dict[str, str]:
    """Labels that tell a job's cost apart in Google's billing reports.

    https://cloud.google.com/bigquery/docs/labels-intro#requirements
    """
    labels = {"pipeline": "tlc", "dataset": spec.name, "file": filename, "step": step}
    return {key: _NOT_IN_LABELS.sub("_", value.lower())[:63] for key, value in labels.items()}


def query_config(project: GcpProject, labels: dict[str, str], **values: str) -> QueryJobConfig:
    """How statements are run: with bound values, and no dearer than the settings allow."""
    from google.cloud import bigquery

    config = bigquery.QueryJobConfig(
        labels=labels,
        query_parameters=[bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in values.items()],
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
    """Returns the job of that name once it has succeeded, whoever started it and whenever.

    The job's id is the name and the attempt's number, so that BigQuery itself refuses a second one (409). An attempt
    that failed before is followed by another; so is one that fails now by something that passes. `may_join` tells
    whether a job that was there already still serves, as its result may be gone.

    https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid

    :raises JobFailed: with BigQuery's own message.
    """
    from google.api_core import exceptions

    retries = 0
    for attempt in range(1, _ATTEMPTS + 1):
        job_id = f"{name}_{attempt}"
        joined = False
        try:
            job = submit(job_id)
        except exceptions.Conflict:
            job, joined = client.get_job(job_id, timeout=REQUEST_SECONDS), True
        over = joined and job.state == "DONE"
        if over and (job.error_result or not may_join()):
            continue
        _wait(client, job, doing, observer)
        if not job.error_result:
            return job
        if retries == _RETRIES or not _passes(job.error_result):
            raise JobFailed(job)
        logger.warning("%s: %s; trying again in %s s", doing, _message(job), 2**retries)
        time.sleep(2**retries)
        retries += 1
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


def wait_for_jobs(client: Client, name: str) -> None:
    """Returns when no job of that name is running any more, whose worker may be dead."""
    from google.api_core import exceptions

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            job: Any = client.get_job(f"{name}_{attempt}", timeout=REQUEST_SECONDS)
        except exceptions.NotFound:
            return
        _wait(client, job, f"waiting for {name}", LoadObserver())


def _wait(client: Client, job: LoadJob | QueryJob, doing: str, observer: LoadObserver) -> None:
    started, wait = time.monotonic(), 0.1
    observer.set_tracking_url(_page(client, job.job_id))
    while job.state != "DONE":
        observer.set_status(f"{doing}: {str(job.state).lower()}, {time.monotonic() - started:.0f} s")
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)
        job.reload(timeout=REQUEST_SECONDS)


def _passes(error: dict[str, Any]) -> bool:
    return error.get("reason") in _PASSING or _CONFLICT in error.get("message", "")


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
