"""dbt signs in with a password that libpq finds in any of its places; the password is in no output and no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_command
from password_server import password_server

# Digits only, to check that a password is never converted to a number.
PASSWORDS = {"POSTGRES_PASSWORD": "0123", "TAXI_PASSWORD": "00123"}


@pytest.fixture(scope="module")
def port(server: str) -> Iterator[int]:
    with password_server(PASSWORDS) as port:
        yield port


def password_in(where: str, port: int, password: str, folder: Path) -> dict[str, str]:
    """The environment that gives libpq the password in one of its places, and the DSN to use with it."""
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
def test_dbt_signs_in_with_the_password_in(where: str, port: int, tmp_path: Path) -> None:
    root = tmp_path / "data"
    done = run_command(
        "pipeline",
        *("dbt", "debug", "--connection", "--log-level", "debug"),
        **password_in(where, port, PASSWORDS["TAXI_PASSWORD"], tmp_path),
        PIPELINE__STORAGE__ROOT=str(root),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "connection ok" in done.stdout
    files = [path.read_text() for path in root.rglob("*") if path.is_file()]
    assert files
    assert not [text for text in (done.stdout, done.stderr, *files) if PASSWORDS["TAXI_PASSWORD"] in text]
