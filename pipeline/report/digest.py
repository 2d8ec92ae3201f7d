"""A digest of what a page is made from: whether it is still what would be made now."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipeline.files import SQL

_DIGEST = re.compile(r'<meta name="build" content="([^"]*)">')
_HEAD = 2000  # characters of a page, in which it is


def digest_in(page: Path) -> str | None:
    """The digest that is in a page; None when there is no such page."""
    try:
        with page.open() as file:
            found = _DIGEST.search(file.read(_HEAD))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def report_digest(models_digest: str, loads_digest: str) -> str:
    """The digest of what a page made now is made from: the models, what is loaded, and the report's own sources."""
    digest = hashlib.sha256(f"{models_digest} {loads_digest}".encode())
    for file in sorted([*Path(__file__).parent.rglob("*.*"), *(SQL / "report").glob("*.sql")]):
        if file.suffix in {".py", ".html", ".css", ".js", ".json", ".sql"}:
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()
