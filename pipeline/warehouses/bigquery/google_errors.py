"""Translates errors of Google's client libraries into messages of one line that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import google.auth.exceptions
import requests
from google.api_core import exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.api_core.retry import Retry
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.errors import PipelineError, TransientError

_RETRY_SECONDS = 30.0
_GRANT = "grant what is missing (docs/google-cloud.md lists the roles)"


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
        reason = _connection_failure(error.cause)
        raise TransientError(f"{failure}: Google Cloud did not answer ({reason}); run again") from error
    except exceptions.GoogleAPICallError as error:
        is_transient = isinstance(error, exceptions.ServerError | exceptions.TooManyRequests)
        kind = TransientError if is_transient else PipelineError
        raise kind(f"{failure}: {message_of(error)}; {_remedy(error)}") from error
    except (requests.ConnectionError, requests.Timeout, google.auth.exceptions.TransportError) as error:
        reason = _connection_failure(error)
        raise TransientError(f"{failure}: Google Cloud cannot be reached ({reason}); run again") from error


def short_retry() -> Retry:
    """Returns the retry policy for calls that are the first to detect a network or service failure: 30 seconds."""
    retry: Retry = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)
    return retry


def message_of(error: GoogleAPICallError) -> str:
    """Returns Google's error message without the request's URL and without details."""
    # Cloud Storage's client prepends "GET https://…: ".
    return first_line(error.message.split("prettyPrint=false: ")[-1]).rstrip(".")


def first_line(error: Any) -> str:
    """Returns the first line of an error, truncated to 500 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _connection_failure(error: Any) -> str:
    """Returns the underlying reason of a failed connection, without the connection's description and address."""
    inner = error.args[0] if getattr(error, "args", None) else None
    if reason := getattr(inner, "reason", None):
        return first_line(str(reason).split(": ", 1)[-1])
    return first_line(error)


def _remedy(error: GoogleAPICallError) -> str:
    if any(detail.get("reason") == "bytesBilledLimitExceeded" for detail in error.errors):
        return "raise [gcp] maximum_bytes_billed if this is intended"
    if isinstance(error, exceptions.Unauthorized):
        return "renew the credentials"
    if isinstance(error, exceptions.Forbidden):
        return _GRANT
    if isinstance(error, exceptions.NotFound):
        return "run SetupGcp, and check the names in [gcp]"
    if isinstance(error, exceptions.ServerError | exceptions.TooManyRequests):
        return "run again"
    return "see docs/google-cloud.md"
