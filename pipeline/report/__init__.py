"""The report on a warehouse's marts: one page, and its charts as files.

A digest of its inputs in the page shows whether it is up to date.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipeline.files import SQL

_DIGEST = re.compile(r'<meta name="build" content="([^"]*)">')
_HEAD = 2000  # characters at the start of a page, which contain the digest


def digest_in(page: Path) -> str | None:
    """Returns the digest in a page, or None if there is no page or no digest."""
    try:
        with page.open() as file:
            found = _DIGEST.search(file.read(_HEAD))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def report_digest(models_digest: str, loads_digest: str) -> str:
    """Returns the digest of the current inputs: the models, the loads, and the report's own source files."""
    digest = hashlib.sha256(f"{models_digest} {loads_digest}".encode())
    for file in sorted([*Path(__file__).parent.rglob("*.*"), *(SQL / "report").glob("*.sql")]):
        if file.suffix in {".py", ".html", ".css", ".js", ".json", ".sql"}:
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()
