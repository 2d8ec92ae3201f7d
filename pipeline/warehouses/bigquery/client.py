"""The Google Cloud project that the pipeline uses, clients for it, and their credentials."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import google.auth
import google.auth.credentials
import google.auth.exceptions
from google.api_core.retry import Retry
from google.cloud.bigquery import DEFAULT_RETRY as BIGQUERY_RETRY
from google.cloud.bigquery import Client as BigQueryClient
from google.cloud.storage import Bucket
from google.cloud.storage import Client as StorageClient
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.error_messages import translate_errors

REQUEST_SECONDS = 60.0  # timeout of a request to BigQuery; Google's client has none
_RETRY_SECONDS = 30.0
# The variables that Google's libraries read.
_BIGQUERY_EMULATOR, _STORAGE_EMULATOR = "BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"
# The first one that is set is used. Kestra stores secret('GCP_CREDS') and kv('GCP_CREDS') in the last two.
SECRET_VARIABLES = ("SECRET_GCP_SERVICE_ACCOUNT", "SECRET_GCP_CREDS", "GCP_CREDS")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REMEDY = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a service"
    f" account's key, or {SECRET_VARIABLES[0]} to its base64"
)


@dataclass(frozen=True)
class GoogleProject:
    """A bucket and a dataset of a project, in one location; contains neither credentials nor connections."""

    project: str
    location: str
    bucket: str
    dataset: str
    maximum_bytes_billed: int

    @property
    def staging_dataset(self) -> str:
        """The dataset of the staging tables, which expire."""
        return f"{self.dataset}_staging"

    @property
    def is_bigquery_emulated(self) -> bool:
        """Whether the environment sends BigQuery's requests to an emulator."""
        return bool(os.environ.get(_BIGQUERY_EMULATOR))

    def table_id(self, table: str) -> str:
        return f"{self.project}.{self.dataset}.{table}"

    def staging_table_id(self, table: str) -> str:
        return f"{self.project}.{self.staging_dataset}.{table}"

    def storage(self) -> StorageClient:
        """Returns a new client; clients must not be shared with forked workers.

        :raises PipelineError: if there are no usable credentials; the message does not contain them.
        """
        emulated = bool(os.environ.get(_STORAGE_EMULATOR))
        return StorageClient(project=self.project, credentials=credentials(emulated))

    def bigquery(self) -> BigQueryClient:
        """Returns a new client whose jobs run in the project's location.

        :raises PipelineError: if there are no usable credentials; the message does not contain them.
        """
        return BigQueryClient(
            project=self.project, location=self.location, credentials=credentials(self.is_bigquery_emulated)
        )

    @contextlib.contextmanager
    def connect_bigquery(self, failure: str) -> Iterator[BigQueryClient]:
        """Yields a client until the block ends, and translates its errors as `translate_errors` does."""
        with translate_errors(failure), contextlib.closing(self.bigquery()) as client:
            yield client

    @contextlib.contextmanager
    def connect_bucket(self, failure: str) -> Iterator[Bucket]:
        """Yields the bucket, which need not exist, until the block ends; translates errors as `translate_errors`."""
        with translate_errors(failure), contextlib.closing(self.storage()) as client:
            yield client.bucket(self.bucket)


def credentials(emulated: bool) -> google.auth.credentials.Credentials:
    """Returns the credentials of the service account in `SECRET_VARIABLES`, or else the application default ones.

    Anonymous for an emulator. https://cloud.google.com/docs/authentication/application-default-credentials

    :raises PipelineError: if there are none, or they are malformed.
    """
    found: google.auth.credentials.Credentials
    if emulated:
        return google.auth.credentials.AnonymousCredentials()
    if key := service_account_key():
        try:
            found = service_account.Credentials.from_service_account_info(key, scopes=[_SCOPE])
        except (ValueError, TypeError, AttributeError):
            raise _malformed_key_error() from None
        return found
    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
    except google.auth.exceptions.GoogleAuthError as error:
        reason = str(error.args[0]).split(". ")[0].strip().splitlines()[0].rstrip(".")
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
    except AttributeError:  # the file is JSON, but not an object
        reason = f"{os.environ.get('GOOGLE_APPLICATION_CREDENTIALS', 'what gcloud has stored')} is not a key"
    else:
        return found
    raise PipelineError(f"no Google Cloud credentials ({reason}); {_REMEDY}")


def service_account_key() -> dict[str, str] | None:
    """Returns the service account's key in `SECRET_VARIABLES`, given as JSON or base64; None if none is set.

    :raises PipelineError: if it is malformed.
    """
    secret = os.environ.get(_secret_variable(), "").strip()
    try:
        text = secret if secret.startswith("{") else base64.b64decode("".join(secret.split()), validate=True)
        return dict(json.loads(text)) if secret else None
    except (binascii.Error, ValueError, TypeError):
        raise _malformed_key_error() from None


def _secret_variable() -> str:
    return next((name for name in SECRET_VARIABLES if os.environ.get(name)), SECRET_VARIABLES[0])


def _malformed_key_error() -> PipelineError:
    # Neither the value nor the library's message, which may quote it, may be logged.
    return PipelineError(
        f"{_secret_variable()} is not the base64 of a service account's JSON key; make it with"
        " `base64 -w0 key.json`, or unset it"
    )


def short_retry() -> Retry:
    """Returns the retry policy for calls to Cloud Storage that are the first to detect a failure: 30 seconds."""
    retry: Retry = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)
    return retry


def short_bigquery_retry() -> Retry:
    """Returns the same for calls to BigQuery, which also refuses too many requests with status 403."""
    retry: Retry = BIGQUERY_RETRY.with_timeout(_RETRY_SECONDS)
    return retry
