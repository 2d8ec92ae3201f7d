"""Creates the bucket and the datasets if they are missing, and checks their locations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from google.api_core import exceptions
from google.cloud import bigquery
from google.cloud.bigquery.table import TableListItem

from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import message_of, short_retry, translate_errors
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS

LABELS = {"managed-by": "tlc-pipeline"}
STAGING_DAYS = 2


def missing_resources(project: GoogleProject) -> list[str]:
    """Returns what `create_resources` would create.

    :raises PipelineError: if a resource is not accessible or not in the configured location.
    """
    missing = [] if _bucket_exists(project) else [f"bucket gs://{project.bucket}"]
    return missing + [f"dataset {name}" for name in _datasets(project) if not _dataset_exists(project, name)]


def create_resources(project: GoogleProject) -> list[str]:
    """Creates missing resources and returns what it created; idempotent and safe to run concurrently.

    The bucket has uniform access and public access prevention; tables in the staging dataset expire after two days.

    :raises PipelineError: like `missing_resources`, or if a resource cannot be created or its name is taken.
    """
    created = []
    if not _bucket_exists(project):
        _create_bucket(project)
        created.append(f"bucket gs://{project.bucket} in {project.location}")
    for name, days in _datasets(project).items():
        if not _dataset_exists(project, name):
            _create_dataset(project, name, days)
            created.append(f"dataset {name} in {project.location}")
    return created


def _datasets(project: GoogleProject) -> dict[str, int | None]:
    """Returns the names of the datasets, each with the days after which its tables expire."""
    return {project.dataset: None, project.staging_dataset: STAGING_DAYS}


def _bucket_exists(project: GoogleProject) -> bool:
    with translate_errors(f"bucket gs://{project.bucket}"), contextlib.closing(project.storage()) as client:
        try:
            bucket = client.get_bucket(project.bucket, retry=short_retry())
        except exceptions.NotFound:
            return False
        except exceptions.Forbidden as error:
            raise PipelineError(
                f"bucket gs://{project.bucket} is somebody else's, or these credentials lack storage.buckets.get on"
                f" it ({message_of(error)}); choose another [gcp] bucket (names are globally unique), or grant"
                " roles/storage.legacyBucketReader"
            ) from None
    check_location(project, f"bucket gs://{project.bucket}", bucket.location)
    return True


def _create_bucket(project: GoogleProject) -> None:
    with (
        _translate_create_errors(project, f"bucket gs://{project.bucket}"),
        contextlib.closing(project.storage()) as client,
    ):
        bucket = client.bucket(project.bucket)
        bucket.labels = LABELS
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        try:
            client.create_bucket(bucket, location=project.location)
        except exceptions.Conflict:
            if not _bucket_exists(project):  # raises if the bucket is somebody else's
                raise


def _dataset_exists(project: GoogleProject, name: str) -> bool:
    with translate_errors(f"dataset {name}"), contextlib.closing(project.bigquery()) as client:
        try:
            dataset = client.get_dataset(f"{project.project}.{name}", retry=short_retry(), timeout=REQUEST_SECONDS)
        except exceptions.NotFound:
            return False
    check_location(project, f"dataset {name}", dataset.location)
    return True


def _create_dataset(project: GoogleProject, name: str, days: int | None) -> None:
    with _translate_create_errors(project, f"dataset {name}"), contextlib.closing(project.bigquery()) as client:
        dataset = bigquery.Dataset(f"{project.project}.{name}")
        dataset.location = project.location
        dataset.labels = LABELS
        dataset.description = "New York taxi trip records" + (", on their way into their tables" if days else "")
        if days:
            dataset.default_table_expiration_ms = days * 24 * 3600 * 1000
        client.create_dataset(dataset, exists_ok=True, timeout=REQUEST_SECONDS)


@contextlib.contextmanager
def _translate_create_errors(project: GoogleProject, what: str) -> Iterator[None]:
    with translate_errors(f"{what} was not created"):
        try:
            yield
        except exceptions.Forbidden as error:
            raise PipelineError(
                f"{what} was not created: {message_of(error)}; let a project administrator run SetupGcp, or grant"
                f" roles/storage.admin and roles/bigquery.dataOwner on project {project.project}"
            ) from None


def check_location(project: GoogleProject, what: str, location: str | None) -> None:
    """Checks that a resource is in the configured location.

    :raises PipelineError: if it is elsewhere, where jobs of the configured location would not find it.
    """
    if (location or "").lower() != project.location.lower():
        raise PipelineError(
            f"{what} is in {location} and [gcp] location is {project.location}; a bucket and the datasets loaded from"
            " it must be in one location and cannot move: change [gcp] location, or choose another name"
        )


def table_exists(client: bigquery.Client, project: GoogleProject, table_id: str) -> bool:
    """Returns whether the table exists; looks up the table itself, so that its location does not matter.

    :raises PipelineError: if it is not in the configured location.
    """
    try:
        table = client.get_table(table_id, retry=short_retry(), timeout=REQUEST_SECONDS)
    except exceptions.NotFound:
        return False
    check_location(project, f"table {table_id}", table.location)
    return True


def list_tables(client: bigquery.Client, project: GoogleProject, dataset: str) -> list[TableListItem]:
    """Returns the tables and views of a dataset; empty if it is missing."""
    try:
        return [*client.list_tables(f"{project.project}.{dataset}", timeout=REQUEST_SECONDS)]
    except exceptions.NotFound:
        return []


def check_table_missing(client: bigquery.Client, project: GoogleProject, table_id: str) -> None:
    """Checks that a table that BigQuery did not find does not exist.

    :raises TransientError: if it exists.
    :raises PipelineError: if it is not in the configured location.
    """
    if table_exists(client, project, table_id):
        raise TransientError(f"BigQuery did not find {table_id}, although it exists; run again")
