"""Stopping the embedded server."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import lock_held
from pipeline.warehouses.postgres.embedded.server import library_server, lock_file, pg_ctl, postmaster, short_folder


def stop(folder: Path) -> bool:
    """Stops the server whose data is in `folder`; says whether it ran. Transactions at hand are rolled back.

    :raises PipelineError: when it runs and does not stop.
    """
    folder = folder.expanduser().resolve()
    if not (folder / "postmaster.pid").exists():
        return False
    with lock_held(lock_file(folder)):
        stopped = pg_ctl(library_server(folder), "-m", "fast", "stop")
        with contextlib.suppress(OSError):
            short_folder(folder).rmdir()
    if not stopped and postmaster(folder) is not None:
        raise PipelineError(f"the embedded PostgreSQL in {folder} does not stop; see {folder / 'log'}")
    return stopped
