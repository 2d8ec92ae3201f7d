"""Which loaded months their sources have published again, as catch-ups have seen it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.extract.availability import Edition
from pipeline.files import locked, replace_file


class NewEditions:
    """A file that holds, by release key and source, the edition that was seen in the place of the loaded one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "editions.json"

    def read(self) -> dict[tuple[str, str], Edition]:
        """What was seen last; nothing where nothing was, or another version wrote the file."""
        try:
            seen = json.loads(self._file.read_text())
            return {(each.pop("key"), each.pop("source")): Edition(**each) for each in seen}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def record(self, seen: Mapping[tuple[str, str], Edition | None]) -> set[tuple[str, str]]:
        """Takes in what was seen now, None where the loaded edition is still there; returns what was not known yet.

        :raises OSError: when it cannot be written.
        """
        if not seen:
            return set()
        with locked(self._file):
            known = self.read()
            kept = {at: edition for at, edition in {**known, **seen}.items() if edition}
            if kept != known:
                entries = [{"key": key, "source": source, **asdict(edition)} for (key, source), edition in kept.items()]
                replace_file(self._file, json.dumps(entries, indent=2).encode() + b"\n")
        return {at for at, edition in kept.items() if at in seen and known.get(at) != edition}
