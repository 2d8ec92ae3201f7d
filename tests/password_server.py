"""A PostgreSQL server that requires passwords, created and started as by the image in docker-compose.yml."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from central import free_port
from conftest import CHECKOUT

from pipeline.warehouses.postgres.embedded_programs import program

# PostgreSQL refuses to run as root; for tests that do, the embedded server's library creates this user.
AS_SERVER = {"user": "pgserver"} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def password_server(
    passwords: Mapping[str, str], settings: Sequence[str] = (), port: int | None = None
) -> Iterator[int]:
    """Yields the port of a server on 127.0.0.1 whose database `taxi` belongs to the role `taxi`.

    `passwords` are the variables of docker-compose.yml: POSTGRES_PASSWORD and TAXI_PASSWORD.
    """
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    (folder / "password").write_text(passwords["POSTGRES_PASSWORD"])
    scripts = folder / "docker-entrypoint-initdb.d"
    shutil.copytree(CHECKOUT / "deploy" / "postgres", scripts)
    for path in (folder, *folder.rglob("*")) if AS_SERVER else ():
        shutil.chown(path, **AS_SERVER)

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name), *arguments],
            env={**os.environ, **passwords},
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **AS_SERVER,
        )

    data, log = str(folder / "docker"), str(folder / "log")
    made = ("--username=postgres", f"--pwfile={folder / 'password'}", "--auth-host=scram-sha-256", "--no-sync")
    run("initdb", f"--pgdata={data}", *made)
    local = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", data, "-l", log, "-o", " ".join([*settings, local]), "-w", "start")
    try:
        psql = ("-v", "ON_ERROR_STOP=1", "--no-psqlrc", f"--host={folder}", f"--port={port}")
        for script in sorted(scripts.glob("*.sql")):
            run("psql", *psql, "--username=postgres", "--dbname=postgres", f"--file={script}")
        yield port
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)
