"""A partially downloaded file and a record of the version that its bytes belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_ETAG, _LAST_MODIFIED = "ETag", "Last-Modified"


class PartialDownload:
    """A download in progress: the bytes, and next to them a file with their URL, ETag and Last-Modified.

    Crash-safe: the bytes always belong to the recorded version.
    """

    def __init__(self, path: Path):
        self.path = path
        self._version_file = path.with_name(path.name + ".version")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """Returns the value of If-Range to resume the download, or None if it cannot be resumed."""
        version = self._read_version()
        if not self.size or version.get("url") != url:
            return None
        return _strong(version.get(_ETAG)) or version.get(_LAST_MODIFIED)

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Returns whether a response's headers are those of the recorded version, or missing."""
        version = self._read_version()
        return all(headers.get(name, version.get(name)) == version.get(name) for name in (_ETAG, _LAST_MODIFIED))

    def start(self, url: str, headers: Mapping[str, str]) -> None:
        """Removes the bytes and then records the new version; in this order, so that a crash does not mix versions."""
        self.discard()
        version = {"url": url} | {name: headers[name] for name in (_ETAG, _LAST_MODIFIED) if name in headers}
        self._version_file.write_text(json.dumps(version))

    def complete(self) -> tuple[str, str]:
        """Ends the download; returns the ETag and the Last-Modified of the bytes, empty if missing."""
        version = self._read_version()
        self._version_file.unlink(missing_ok=True)
        return version.get(_ETAG, ""), version.get(_LAST_MODIFIED, "")

    def discard(self) -> None:
        """Removes the bytes and the version file."""
        self.path.unlink(missing_ok=True)
        self._version_file.unlink(missing_ok=True)

    def _read_version(self) -> dict[str, str]:
        try:
            version = json.loads(self._version_file.read_text())
        except (OSError, ValueError):  # missing, or incomplete after a crash
            return {}
        return version if isinstance(version, dict) else {}


def _strong(etag: str | None) -> str | None:
    return etag if etag and etag.startswith('"') else None  # RFC 9110, 13.1.5: If-Range requires a strong entity tag
