"""The webhook: one POST a message, in the JSON that Slack takes."""

from __future__ import annotations

from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.monitoring.messages import Message

_SECONDS = 5
# https://docs.slack.dev/messaging/formatting-message-text: what Slack would take for its markup.
_SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def post(url: str, message: Message) -> None:
    """Returns once the receiver has accepted the message.

    :raises PipelineError: when it has not; the error does not show the URL, whose path is the receiver's password.
    """
    import requests

    host = _host(url)
    body = {"text": message.text.translate(_SLACK_ESCAPES), **message.fields()}
    try:
        answer = requests.post(url, json=body, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise PipelineError(f"the webhook at {host} cannot be reached ({type(error).__name__})") from None
    if answer.status_code // 100 != 2:
        raise PipelineError(f"the webhook at {host} answered {answer.status_code}")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"
