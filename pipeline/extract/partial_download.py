"""The beginning of a file that a broken download left, with a note of the version of the file that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_ETAG, _LAST_MODIFIED = "ETag", "Last-Modified"


class PartialDownload:
    """A download in progress: a file, and beside it the URL and version that its bytes are of.

    Safe to be killed at any moment: bytes and note never belong to different versions.
    """

    def __init__(self, path: Path):
        self.path = path
        self._note = path.with_name(path.name + ".version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """What If-Range takes to go on with these bytes, or None if they cannot be gone on with."""
        note = self._read_note()
        if not self.size or note.get("url") != url:
            return None
        return _strong(note.get(_ETAG)) or note.get(_LAST_MODIFIED)

    def is_of(self, headers: Mapping[str, str]) -> bool:
        """Whether a response's headers name the noted version, or say nothing of it."""
        note = self._read_note()
        return all(headers.get(name, note.get(name)) == note.get(name) for name in (_ETAG, _LAST_MODIFIED))

    def begin(self, url: str, headers: Mapping[str, str]) -> None:
        """Drops the bytes and notes the version of those to come, in this order: killed between, nothing is mixed."""
        self.discard()
        note = {"url": url} | {name: headers[name] for name in (_ETAG, _LAST_MODIFIED) if name in headers}
        self._note.write_text(json.dumps(note))

    def edition(self) -> tuple[str, str]:
        """The ETag and the Last-Modified that the bytes came with, each empty where there was none."""
        note = self._read_note()
        return note.get(_ETAG, ""), note.get(_LAST_MODIFIED, "")

    def complete(self) -> None:
        """Drops the note, as nothing is left to go on with."""
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> dict[str, str]:
        try:
            note = json.loads(self._note.read_text())
        except (OSError, ValueError):  # none, or torn by a kill
            return {}
        return note if isinstance(note, dict) else {}


def _strong(etag: str | None) -> str | None:
    return etag if etag and etag.startswith('"') else None  # RFC 9110, 13.1.5: If-Range takes no weak entity tag
