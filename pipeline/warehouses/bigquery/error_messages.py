"""Translates errors of Google's libraries to messages of one line that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import google.auth.exceptions
import requests
from google.api_core import exceptions
from google.api_core.exceptions import GoogleAPICallError

from pipeline.errors import PipelineError, TransientError

_REMEDIES: dict[type[GoogleAPICallError], str] = {
    exceptions.Unauthorized: "renew the credentials",
    exceptions.Forbidden: "grant what is missing (docs/google-cloud.md lists the roles)",
    exceptions.NotFound: "run SetupGcp, and check the names in [gcp]",
}
# https://cloud.google.com/bigquery/docs/error-messages, https://cloud.google.com/storage/docs/json_api/v1/status-codes.
# Google refuses most of these requests with 400 or 403, like invalid ones and those that lack a permission.
TRANSIENT_REASONS = {
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
    "userRateLimitExceeded",
}
_KEPT_BY_BUCKET = "choose a [gcp] bucket without retention and holds, as objects are replaced"
_REMEDIES_BY_REASON = {
    "accessNotConfigured": "enable the API in the project (docs/google-cloud.md)",
    "accountDisabled": "link the project to a billing account (docs/google-cloud.md)",
    "billingNotEnabled": "link the project to a billing account (docs/google-cloud.md)",
    "bytesBilledLimitExceeded": "raise [gcp] maximum_bytes_billed if this is intended",
    "objectUnderActiveHold": _KEPT_BY_BUCKET,
    "quotaExceeded": "run again when the project has quota left, or raise it in Google's console",
    "retentionPolicyNotMet": _KEPT_BY_BUCKET,
}


@contextlib.contextmanager
def translate_errors(failure: str) -> Iterator[None]:
    """Translates errors of Google's libraries to PipelineError with a message that begins with `failure`."""
    try:
        yield
    except google.auth.exceptions.RefreshError as error:
        raise PipelineError(
            f"{failure}: Google refused the credentials ({first_line(error.args[0] if error.args else error)}); renew"
            " them with `gcloud auth application-default login`, or use another key"
        ) from None
    except exceptions.RetryError as error:
        if isinstance(error.cause, GoogleAPICallError):
            raise TransientError(f"{failure}: {message_of(error.cause)}; run again") from error
        reason = _connection_failure(error.cause)
        raise TransientError(f"{failure}: Google Cloud did not answer ({reason}); run again") from error
    except GoogleAPICallError as error:
        if _is_transient(error):
            raise TransientError(f"{failure}: {message_of(error)}; run again") from error
        raise PipelineError(f"{failure}: {message_of(error)}; {_remedy(error)}") from error
    except (requests.ConnectionError, requests.Timeout, google.auth.exceptions.TransportError) as error:
        reason = _connection_failure(error)
        raise TransientError(f"{failure}: Google Cloud cannot be reached ({reason}); run again") from error


def message_of(error: GoogleAPICallError) -> str:
    """Returns Google's error message without the request's URL and without details."""
    # Cloud Storage's client prepends "GET https://…: ", and for uploads its message contains the whole response.
    text = _response_error(error).get("message") or error.message.split("prettyPrint=false: ")[-1]
    return first_line(text).rstrip(".")


def remedy_for(reason: str) -> str:
    """Returns what to do about an error with this reason; empty if the reason does not say."""
    return _REMEDIES_BY_REASON.get(reason, "")


def first_line(error: Any) -> str:
    """Returns the first line of an error, truncated to 500 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _connection_failure(error: Any) -> str:
    """Returns the underlying reason of a failed connection, without the connection's description and address."""
    inner = error.args[0] if getattr(error, "args", None) else None
    reason = getattr(inner, "reason", None)
    return first_line(str(reason).split(": ", 1)[-1] if reason else error)


def _response_error(error: GoogleAPICallError) -> dict[str, Any]:
    """Returns the error object in the response, or an empty dictionary if there is none."""
    try:
        return dict(error.response.json()["error"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _reasons(error: GoogleAPICallError) -> list[str]:
    details = error.errors or _response_error(error).get("errors") or []
    return [str(detail.get("reason")) for detail in details]


def _is_transient(error: GoogleAPICallError) -> bool:
    reasons = _reasons(error)
    if any(map(remedy_for, reasons)):  # the library gives a failed job status 500 if it does not know the reason
        return False
    is_server_error = isinstance(error, exceptions.ServerError | exceptions.TooManyRequests)
    return is_server_error or not TRANSIENT_REASONS.isdisjoint(reasons)


def _remedy(error: GoogleAPICallError) -> str:
    found = filter(None, map(remedy_for, _reasons(error)))
    return next(found, _REMEDIES.get(type(error), "see docs/google-cloud.md"))
