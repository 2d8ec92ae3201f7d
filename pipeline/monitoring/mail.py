"""E-mail by Luigi's own settings: `[email]`, and `[smtp]` or what else `[email] method` names."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import luigi.notifications

if TYPE_CHECKING:
    from pipeline.monitoring.messages import Message


class Mail:
    """Sends alerts as Luigi's configuration says; the settings are those of the moment it is made."""

    def __init__(self) -> None:
        self._email = luigi.notifications.email()
        if self.is_wanted():
            with warnings.catch_warnings():  # Luigi's own defaults of [smtp] are not what Luigi expects
                warnings.simplefilter("ignore", UserWarning)
                self._smtp = luigi.notifications.smtp()

    def is_wanted(self) -> bool:
        """Whether there is a receiver; as ever with Luigi, not on a terminal without `force_send`."""
        if not self._email.receiver or self._email.format == "none":
            return False
        return bool(self._email.force_send or not sys.stdout.isatty())

    def send(self, message: Message) -> None:
        """Returns once the mail is accepted.

        :raises Exception: whatever the method raises when it is not; smtp: OSError.
        """
        recipients = [address.strip() for address in self._email.receiver.split(",") if address.strip()]
        subject = f"{self._email.prefix} {message.subject}".strip()
        if self._email.method == "smtp":
            self._send_by_smtp(recipients, subject, message.text)
        else:
            by_method = getattr(luigi.notifications, f"send_email_{self._email.method}")
            by_method(self._email.sender, subject, message.text, recipients, None)

    def _send_by_smtp(self, recipients: list[str], subject: str, text: str) -> None:
        """As Luigi does it, except that Luigi only logs a failure."""
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
