"""The channels that send alerts: e-mail, with Luigi's settings, and a webhook."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import luigi.notifications

from pipeline.errors import TransientError
from pipeline.monitoring.alerts import Message

_WEBHOOK_SECONDS = 5
# Characters of Slack's markup: https://docs.slack.dev/messaging/formatting-message-text
_SLACK_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

Channel = Callable[[Message], None]
Channels = Mapping[str, Channel]


def configured_channels(webhook_url: str) -> dict[str, Channel]:
    """Returns the configured channels by name."""
    channels: dict[str, Channel] = {}
    if (mail := Mail()).is_enabled():
        channels["e-mail"] = mail.send
    if webhook_url:
        channels["webhook"] = functools.partial(_post, webhook_url)
    return channels


def _post(url: str, message: Message) -> None:
    """Sends the message as a POST request with JSON that Slack accepts, and waits until the receiver accepts it.

    :raises TransientError: if it does not; without the URL, whose path is secret.
    """
    import requests

    try:
        host = urlsplit(url).hostname or "no host"
    except ValueError:
        host = "no host"
    body = {"text": message.text.translate(_SLACK_ESCAPES), **message.fields()}
    try:
        answer = requests.post(url, json=body, timeout=_WEBHOOK_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise TransientError(f"the webhook at {host} cannot be reached ({type(error).__name__})") from None
    if answer.status_code // 100 != 2:
        raise TransientError(f"the webhook at {host} answered {answer.status_code}")


class Mail:
    """Sends messages by e-mail with Luigi's settings, which are read when the object is created."""

    def __init__(self) -> None:
        self._email = luigi.notifications.email()
        if self.is_enabled():
            with warnings.catch_warnings():  # Luigi's defaults of [smtp] have types that Luigi warns about
                warnings.simplefilter("ignore", UserWarning)
                self._smtp = luigi.notifications.smtp()

    def is_enabled(self) -> bool:
        """Returns whether there is a receiver; like Luigi, not on a terminal unless `force_send` is set."""
        if not self._email.receiver or self._email.format == "none":
            return False
        return bool(self._email.force_send or not sys.stdout.isatty())

    def send(self, message: Message) -> None:
        """Sends the message and waits until it is accepted.

        :raises Exception: any exception of the configured method if it fails; OSError for smtp.
        """
        recipients = [address.strip() for address in self._email.receiver.split(",") if address.strip()]
        subject = f"{self._email.prefix} {message.subject}".strip()
        if self._email.method == "smtp":
            self._send_by_smtp(recipients, subject, message.text)
        else:
            send_email = getattr(luigi.notifications, f"send_email_{self._email.method}")
            send_email(self._email.sender, subject, message.text, recipients, None)

    def _send_by_smtp(self, recipients: list[str], subject: str, text: str) -> None:
        """Sends the mail like Luigi, but raises errors instead of logging them."""
        import smtplib
        from email.message import EmailMessage
        from email.utils import formatdate

        mail, smtp = EmailMessage(), self._smtp
        mail["From"], mail["To"], mail["Subject"] = self._email.sender, ", ".join(recipients), subject
        mail["Date"], mail["Auto-Submitted"] = formatdate(localtime=True), "auto-generated"
        mail.set_content(text)
        connect = smtplib.SMTP_SSL if smtp.ssl else smtplib.SMTP
        with connect(smtp.host, smtp.port, smtp.local_hostname, timeout=smtp.timeout or 10) as server:
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls") and not smtp.no_tls:
                server.starttls()
            if smtp.username and smtp.password:
                server.login(smtp.username, smtp.password)
            server.send_message(mail)
