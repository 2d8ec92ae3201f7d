"""What Google Cloud may fail with, in one line that says what to do."""

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
def translate_errors(what: str) -> Iterator[None]:
    """Whatever Google's libraries fail with in here is a PipelineError that begins with `what`."""
    try:
        yield
    except google.auth.exceptions.RefreshError as error:
        raise PipelineError(
            f"{what}: Google refused the credentials ({first_line(error.args[0] if error.args else error)}); renew"
            " them with `gcloud auth application-default login`, or use another key"
        ) from None
    except exceptions.RetryError as error:
        raise TransientError(f"{what}: Google Cloud did not answer ({_why(error.cause)}); run again") from error
    except exceptions.GoogleAPICallError as error:
        passes = isinstance(error, exceptions.ServerError | exceptions.TooManyRequests)
        kind = TransientError if passes else PipelineError
        raise kind(f"{what}: {message_of(error)}; {_remedy(error)}") from error
    except (requests.ConnectionError, requests.Timeout, google.auth.exceptions.TransportError) as error:
        raise TransientError(f"{what}: Google Cloud cannot be reached ({_why(error)}); run again") from error


def short_retry() -> Retry:
    """How calls to Cloud Storage are tried again that are the first to find the network, or the service, gone."""
    retry: Retry = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)
    return retry


def message_of(error: GoogleAPICallError) -> str:
    """What Google says of an error, without the request's address before it and the details behind."""
    # Cloud Storage's client puts "GET https://…: " in front.
    return first_line(error.message.split("prettyPrint=false: ")[-1]).rstrip(".")


def first_line(error: Any) -> str:
    """An error in one line, cut to 500 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _why(error: Any) -> str:
    """The reason at the bottom of a failed connection, without the connection and the address in front of it."""
    inner = error.args[0] if getattr(error, "args", None) else None
    if reason := getattr(inner, "reason", None):
        return first_line(str(reason).split(": ", 1)[-1])
    return first_line(error)


def _remedy(error: GoogleAPICallError) -> str:
    if any(detail.get("reason") == "bytesBilledLimitExceeded" for detail in error.errors):
        return "raise [gcp] maximum_bytes_billed if that is meant to be"
    if isinstance(error, exceptions.Unauthorized):
        return "renew the credentials"
    if isinstance(error, exceptions.Forbidden):
        return _GRANT
    if isinstance(error, exceptions.NotFound):
        return "run SetupGcp, and check the names in [gcp]"
    if isinstance(error, exceptions.ServerError | exceptions.TooManyRequests):
        return "run again"
    return "see docs/google-cloud.md"
