"""dbt signs in on a server that asks for a password, wherever libpq finds it; it is in nothing that is said or kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_command
from password_server import password_server

# Digits only, which must not be taken for a number on the way.
PASSWORDS = {"POSTGRES_PASSWORD": "0123", "TAXI_PASSWORD": "00123"}


@pytest.fixture(scope="module")
def port(server: str) -> Iterator[int]:
    with password_server(PASSWORDS) as port:
        yield port


def given_by(where: str, port: int, password: str, folder: Path) -> dict[str, str]:
    """The environment that tells libpq the password in one way, and the DSN that goes with it."""
    dsn = f"postgresql://taxi@127.0.0.1:{port}/taxi"
    file = folder / "secret"
    if where == "PGPASSWORD":
        return {"PIPELINE__POSTGRES__DSN": dsn, "PGPASSWORD": password}
    if where == "password file":
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        file.write_text(f"127.0.0.1:{port}:taxi:taxi:{escaped}\n")
        file.chmod(0o600)
        return {"PIPELINE__POSTGRES__DSN": dsn, "PGPASSFILE": str(file)}
    file.write_text(f"[taxi]\nhost=127.0.0.1\nport={port}\ndbname=taxi\nuser=taxi\npassword={password}\n")
    return {"PIPELINE__POSTGRES__DSN": "postgresql:///?service=taxi", "PGSERVICEFILE": str(file)}


@pytest.mark.parametrize("where", ["PGPASSWORD", "password file", "service file"])
def test_dbt_signs_in_with_the_password_of(where: str, port: int, tmp_path: Path) -> None:
    kept = tmp_path / "data"
    done = run_command(
        "pipeline",
        *("dbt", "debug", "--connection", "--log-level", "debug"),
        **given_by(where, port, PASSWORDS["TAXI_PASSWORD"], tmp_path),
        PIPELINE__STORAGE__ROOT=str(kept),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "connection ok" in done.stdout
    written = [path.read_text() for path in kept.rglob("*") if path.is_file()]
    assert written
    assert not [text for text in (done.stdout, done.stderr, *written) if PASSWORDS["TAXI_PASSWORD"] in text]
