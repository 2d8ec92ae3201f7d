"""Asks a source whether it has a file, without fetching it."""

from __future__ import annotations

import datetime

import requests
import urllib3
from requests.adapters import HTTPAdapter

from pipeline.datasets import Dataset, Release
from pipeline.errors import PipelineError
from pipeline.extract.download import RETRIED_STATUS, HttpOptions, without_credentials
from pipeline.extract.extraction import local_path, source_url

_ABSENT = (404, 410)


def published_months(
    dataset: Dataset, months: list[datetime.date], base_url: str, options: HttpOptions
) -> list[datetime.date]:
    """Those of the months that the source has a file of, in the order given.

    :raises PipelineError: when the source cannot be asked.
    """
    with requests.Session() as session:
        retry = urllib3.Retry(
            options.retries,
            backoff_factor=0.5,
            backoff_max=options.longest_wait,
            status_forcelist=RETRIED_STATUS,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return [month for month in months if _exists(_url(base_url, Release(dataset, month)), session, options)]


def _url(base_url: str, release: Release) -> str:
    return source_url(base_url, release.path_in(release.source_named()))


def _exists(url: str, session: requests.Session, options: HttpOptions) -> bool:
    if local := local_path(url):
        return local.is_file()
    try:
        # Not HEAD, which signed addresses that a site redirects to may refuse.
        with session.get(url, stream=True, timeout=(options.connect_timeout, options.read_timeout)) as response:
            if not response.ok and response.status_code not in _ABSENT:
                raise PipelineError(_NO_ANSWER.format(without_credentials(url), f"status {response.status_code}"))
            return response.ok
    except requests.exceptions.RequestException as error:
        raise PipelineError(_NO_ANSWER.format(without_credentials(url), type(error).__name__)) from error


_NO_ANSWER = "cannot tell whether there is a {} ({}); check the network, or name another source with --source-base-url"
