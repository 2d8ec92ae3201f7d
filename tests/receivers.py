"""Receivers of alerts for the tests: a mail server and a webhook, on free ports of this machine."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from central import free_port

WEBHOOK_PATH = "/services/T000/B000/s3cr3t"


@dataclass
class Receivers:
    """The messages that have arrived so far, and the settings that direct alerts to these servers."""

    smtp_port: int
    webhook_url: str
    mails: list[EmailMessage] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    webhook_status: int = 200

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PIPELINE__EMAIL__RECEIVER": "ops@example.org, data@example.org",
            "PIPELINE__SMTP__HOST": "127.0.0.1",
            "PIPELINE__SMTP__PORT": str(self.smtp_port),
            "PIPELINE__ALERTS__WEBHOOK_URL": self.webhook_url,
            "NO_PROXY": "127.0.0.1",
        }

    def counts(self) -> tuple[int, int]:
        return len(self.mails), len(self.posts)


@contextlib.contextmanager
def running_receivers() -> Iterator[Receivers]:
    """Runs both servers until the block ends."""
    found = Receivers(free_port(), "")

    class Mailbox:
        async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
            content = cast(bytes, envelope.content)
            found.mails.append(cast(EmailMessage, email.message_from_bytes(content, policy=email.policy.default)))
            return "250 OK"

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.webhook_status == 200:
                found.posts.append(json.loads(body) | {"path": self.path})
            self.send_response(found.webhook_status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    mail = Controller(Mailbox(), hostname="127.0.0.1", port=found.smtp_port)
    web = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    found.webhook_url = f"http://127.0.0.1:{web.server_address[1]}{WEBHOOK_PATH}"
    threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
    mail.start()
    try:
        yield found
    finally:
        mail.stop()
        web.shutdown()
        web.server_close()
