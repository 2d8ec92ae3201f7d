"""The report on a warehouse's marts: which page is current. `page.py` writes it, and imports Jinja."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipeline.files import SQL
from pipeline.warehouses.ledger import Build

_SOURCES = {".py", ".html", ".css", ".js", ".json", ".sql"}
_DIGEST = re.compile(r'<meta name="build" content="([^"]*)">')  # as in templates/page.html
_HEAD = 2000  # characters at the start of the page, which contain the digest


def digest_of(build: Build) -> str:
    """Returns the digest of the report on a build: of the models, the loads, and the report's own source files."""
    digest = hashlib.sha256(f"{build.models_digest} {build.loads_digest}".encode())
    for file in sorted([*Path(__file__).parent.rglob("*.*"), *(SQL / "report").glob("*.sql")]):
        if file.suffix in _SOURCES:
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def digest_in(page: Path) -> str | None:
    """Returns the digest in a page, or None if there is no page or no digest."""
    try:
        with page.open() as file:
            found = _DIGEST.search(file.read(_HEAD))
    except FileNotFoundError:
        return None
    return found[1] if found else None
