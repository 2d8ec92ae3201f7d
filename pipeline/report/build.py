"""What a page is made from, so that it can be told whether it still is what would be made now."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipeline.report.warehouse import FOLDER

_BUILD = re.compile(r'<meta name="build" content="([^"]*)">')
_HEAD = 2000  # characters of a page, in which it is


def build_of(page: Path) -> str | None:
    """What the page says that it was made from; None when there is none."""
    try:
        with page.open() as file:
            found = _BUILD.search(file.read(_HEAD))
    except FileNotFoundError:
        return None
    return found[1] if found else None


def build_from(models_digest: str, loads_digest: str) -> str:
    """What a page made now is made from: the models, what is loaded, and the report's own sources."""
    digest = hashlib.sha256(f"{models_digest} {loads_digest}".encode())
    for file in sorted([*Path(__file__).parent.rglob("*.*"), *FOLDER.glob("*.sql")]):
        if file.suffix in {".py", ".html", ".css", ".sql"}:
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()
