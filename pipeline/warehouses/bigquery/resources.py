"""Creates the bucket and the datasets if they are missing, and checks their locations."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from google.api_core import exceptions
from google.cloud import bigquery

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject, short_bigquery_retry, short_retry
from pipeline.warehouses.bigquery.error_messages import message_of

LABELS = {"managed-by": "tlc-pipeline"}
_STAGING_DAYS = 2


def missing_resources(project: GoogleProject) -> list[str]:
    """Returns what `create_resources` would create.

    :raises PipelineError: if a resource is not accessible or not in the configured location.
    """
    return [what for what, _ in _missing(project)]


def create_resources(project: GoogleProject) -> list[str]:
    """Creates missing resources and returns what it created; idempotent and safe to run concurrently.

    The bucket has uniform access and public access prevention; tables in the staging dataset expire after two days.

    :raises PipelineError: like `missing_resources`, or if a resource cannot be created or its name is taken.
    """
    created = []
    for what, create in _missing(project):
        create()
        created.append(f"{what} in {project.location}")
    return created


def check_location(project: GoogleProject, what: str, location: str | None) -> None:
    """Checks that a resource is in the configured location.

    :raises PipelineError: if it is elsewhere, where jobs of the configured location would not find it.
    """
    if (location or "").lower() != project.location.lower():
        raise PipelineError(
            f"{what} is in {location} and [gcp] location is {project.location}; a bucket and the datasets loaded from"
            " it must be in one location and cannot move: change [gcp] location, or choose another name"
        )


def get_dataset(client: bigquery.Client, project: GoogleProject, name: str) -> bigquery.Dataset:
    """Returns a dataset that is in the configured location and does not delete what is loaded into it.

    BigQuery drops a partition as soon as its day is longer ago than the expiration, which is at once for old months.

    :raises PipelineError: if one of its defaults would make the tables or their partitions expire, or it is elsewhere.
    :raises google.api_core.exceptions.NotFound: if there is no such dataset.
    """
    dataset = client.get_dataset(f"{project.project}.{name}", retry=short_bigquery_retry(), timeout=REQUEST_SECONDS)
    check_location(project, f"dataset {dataset.dataset_id}", dataset.location)
    expires = dataset.default_table_expiration_ms or dataset.default_partition_expiration_ms
    if expires and dataset.dataset_id != project.staging_dataset:
        raise PipelineError(
            f"dataset {dataset.dataset_id} deletes new tables or their partitions after a time, so that rows would be"
            " lost; run `bq update --default_table_expiration 0 --default_partition_expiration 0"
            f" {dataset.project}:{dataset.dataset_id}`, or choose another [gcp] dataset"
        )
    return dataset


def dataset_exists(client: bigquery.Client, project: GoogleProject, name: str) -> bool:
    """Returns whether there is such a dataset.

    :raises PipelineError: like `get_dataset`.
    """
    try:
        get_dataset(client, project, name)
    except exceptions.NotFound:
        return False
    return True


def _missing(project: GoogleProject) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields each missing resource and the function that creates it."""
    if not _bucket_exists(project):
        yield f"bucket gs://{project.bucket}", functools.partial(_create_bucket, project)
    for name, days in ((project.dataset, None), (project.staging_dataset, _STAGING_DAYS)):
        with project.connect_bigquery(f"dataset {name}") as client:
            exists = dataset_exists(client, project, name)
        if not exists:
            yield f"dataset {name}", functools.partial(_create_dataset, project, name, days)


def _bucket_exists(project: GoogleProject) -> bool:
    with project.connect_bucket(f"bucket gs://{project.bucket}") as bucket:
        try:
            bucket.reload(retry=short_retry())
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
    what = f"bucket gs://{project.bucket}"
    with project.connect_bucket(f"{what} was not created") as bucket, _explain_forbidden(project, what):
        bucket.labels = LABELS
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        try:
            bucket.create(location=project.location)
        except exceptions.Conflict:
            if not _bucket_exists(project):  # raises if the bucket is somebody else's
                raise


def _create_dataset(project: GoogleProject, name: str, days: int | None) -> None:
    what = f"dataset {name}"
    with project.connect_bigquery(f"{what} was not created") as client, _explain_forbidden(project, what):
        dataset = bigquery.Dataset(f"{project.project}.{name}")
        dataset.location = project.location
        dataset.labels = LABELS
        dataset.description = "New York taxi trip records" + (", on their way into their tables" if days else "")
        if days:
            dataset.default_table_expiration_ms = days * 24 * 3600 * 1000
        client.create_dataset(dataset, exists_ok=True, timeout=REQUEST_SECONDS)


@contextlib.contextmanager
def _explain_forbidden(project: GoogleProject, what: str) -> Iterator[None]:
    try:
        yield
    except exceptions.Forbidden as error:
        raise PipelineError(
            f"{what} was not created: {message_of(error)}; let a project administrator run SetupGcp, or grant"
            f" roles/storage.admin and roles/bigquery.dataOwner on project {project.project}"
        ) from None
