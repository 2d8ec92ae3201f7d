"""Credentials for Google Cloud: those of the environment, or a service account's key in base64."""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SECRET_VARIABLE = "SECRET_GCP_SERVICE_ACCOUNT"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REMEDY = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a service"
    f" account's key, or {SECRET_VARIABLE} to its base64"
)


def credentials(emulated: bool) -> Credentials:
    """The service account in `SECRET_GCP_SERVICE_ACCOUNT` (base64 of the key's JSON) if set, otherwise the application
    default credentials; none at all for an emulator.

    https://cloud.google.com/docs/authentication/application-default-credentials

    :raises PipelineError: when there are none, or they are malformed.
    """
    import google.auth
    import google.auth.credentials
    import google.auth.exceptions

    if emulated:
        return google.auth.credentials.AnonymousCredentials()
    if key := service_account_key():
        return _service_account(key)
    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
    except google.auth.exceptions.GoogleAuthError as error:
        reason = str(error.args[0]).split(". ")[0].strip().splitlines()[0].rstrip(".")
        raise PipelineError(f"no Google Cloud credentials ({reason}); {_REMEDY}") from None
    return found


def service_account_key() -> dict[str, str] | None:
    """The service account's key in `SECRET_GCP_SERVICE_ACCOUNT`; None when that is not set.

    :raises PipelineError: when it is malformed.
    """
    secret = "".join(os.environ.get(SECRET_VARIABLE, "").split())
    try:
        return dict(json.loads(base64.b64decode(secret, validate=True))) if secret else None
    except (binascii.Error, ValueError, TypeError):
        raise _malformed() from None


def _service_account(key: dict[str, str]) -> Credentials:
    from google.oauth2 import service_account

    try:
        account: Credentials = service_account.Credentials.from_service_account_info(key, scopes=[_SCOPE])
    except (ValueError, TypeError, AttributeError):
        raise _malformed() from None
    return account


def _malformed() -> PipelineError:
    # Neither the value nor the library's words on it, which may quote from it, may get into a log.
    return PipelineError(
        f"{SECRET_VARIABLE} is not the base64 of a service account's JSON key; make it with"
        " `base64 -w0 key.json`, or unset it"
    )
