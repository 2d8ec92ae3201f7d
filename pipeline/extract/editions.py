"""Stores which loaded months have a new edition at their source, as found by catch-ups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.extract.availability import Edition
from pipeline.files import locked, replace_file


class NewEditions:
    """A file of the editions that have replaced loaded ones at their sources, by release key and source."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "editions.json"

    def read(self) -> dict[tuple[str, str], Edition]:
        """Returns the stored editions; empty if there is no file or another version wrote it."""
        try:
            entries = json.loads(self._file.read_text())
            return {(each.pop("key"), each.pop("source")): Edition(**each) for each in entries}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def record(self, seen: Mapping[tuple[str, str], Edition | None]) -> set[tuple[str, str]]:
        """Updates the file; None means that the source still has the loaded edition. Returns the keys of new editions.

        :raises OSError: if the file cannot be written.
        """
        if not seen:
            return set()
        with locked(self._file):
            known = self.read()
            kept = {key: edition for key, edition in {**known, **seen}.items() if edition}
            if kept != known:
                entries = [{"key": key, "source": source, **asdict(edition)} for (key, source), edition in kept.items()]
                replace_file(self._file, json.dumps(entries, indent=2).encode() + b"\n")
        return {key for key, edition in kept.items() if key in seen and known.get(key) != edition}
