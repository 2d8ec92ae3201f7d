"""docker-compose.yml: its restrictions, and its services, which run here without containers.

No container engine is needed. A service is a process with the service's own arguments and environment, in which
addresses and folders of this machine replace those of the containers. Instead of the PostgreSQL image, there is a
server of the same version that is created in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from central import free_port
from conftest import BIN, CHECKOUT, start_command
from password_server import password_server
from waiting import eventually

from pipeline.warehouses.postgres.embedded_programs import program
from pipeline.warehouses.postgres.embedded_server import SETTINGS

FILE = CHECKOUT / "docker-compose.yml"
PAGE = CHECKOUT / "docs" / "containers.md"
EXAMPLE = (CHECKOUT / ".env.example").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
PASSWORDS = re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
IMAGE_ENTRYPOINT = json.loads(re.findall(r"^ENTRYPOINT (.*)$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)[-1])


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """The file as compose reads it, with values for its variables; each of them has a default or is required."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        if kind == "?" and not variables.get(name):
            raise LookupError(f"{name} {word}")
        return variables.get(name) or word

    return VARIABLE.sub(value, text)


class Stack:
    """The compose file with generated passwords, and replacements for its network and its folders."""

    def __init__(self, folder: Path) -> None:
        self.variables = {name: secrets.token_hex(8) for name in PASSWORDS}
        self.file = yaml.safe_load(interpolated(FILE.read_text(), self.variables))
        self.services = self.file["services"]
        self.postgres_port, self.ui_port = free_port(), free_port()
        self.folder = folder

    def local(self, text: str) -> str:
        """A value of the file, changed so that it applies without containers."""
        for in_container, replacement in (
            ("postgres:5432", f"127.0.0.1:{self.postgres_port}"),
            ("--host=postgres", "--host=127.0.0.1"),
            ("luigid:8082", f"127.0.0.1:{self.ui_port}"),
            ("127.0.0.1:8082", f"127.0.0.1:{self.ui_port}"),
            ("/app/", f"{CHECKOUT}/"),
        ):
            text = text.replace(in_container, replacement)
        return text

    def environment(self, service: str) -> dict[str, str]:
        given = {name: self.local(str(value)) for name, value in self.services[service]["environment"].items()}
        return {
            "PIPELINE__STORAGE__ROOT": str(self.folder / "data"),
            "PIPELINE__SOURCE__BASE_URL": str(self.folder / "mirror"),
            "PIPELINE__UI__PORT": str(self.ui_port),
            **given,
        }

    def start(self, service: str, *more: str) -> subprocess.Popen[str]:
        name, *arguments = self.services[service].get("entrypoint") or IMAGE_ENTRYPOINT
        arguments += self.services[service].get("command", [])
        return start_command(name, *arguments, *more, **self.environment(service))

    def is_healthy(self, service: str) -> bool:
        kind, name, *arguments = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        path = BIN / name if (BIN / name).exists() else program(name)
        port = [f"--port={self.postgres_port}"] if service == "postgres" else []
        argv = [path, *map(self.local, arguments), *port]
        environment = os.environ | self.environment(service)
        return subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.fixture
def stack(tmp_path: Path, mirror: Path) -> Stack:
    assert mirror.parent == tmp_path
    return Stack(tmp_path)


@pytest.fixture
def postgres(stack: Stack, server: str) -> Iterator[Stack]:
    """The stack with a server that is created and started as by the service's image, with the service's settings."""
    name, *settings = stack.services["postgres"]["command"]
    assert name == "postgres"
    with password_server(stack.services["postgres"]["environment"], settings, stack.postgres_port):
        yield stack


@pytest.fixture
def luigid(postgres: Stack) -> Iterator[Stack]:
    process = postgres.start("luigid")
    eventually(lambda: postgres.is_healthy("luigid"))
    yield postgres
    process.terminate()
    process.communicate(timeout=30)


def test_file_conforms_to_the_compose_specification() -> None:
    checked = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_every_variable_is_in_the_example_and_every_password_is_required() -> None:
    used = {(name, kind) for name, kind, _ in VARIABLE.findall(FILE.read_text())}
    optional = set(re.findall(r"^# (\w+)=", EXAMPLE, re.MULTILINE))

    assert {name for name, kind in used if kind == "?"} == set(PASSWORDS)
    assert {name for name, kind in used if kind == "-"} == optional
    assert FILE.read_text().count("$") == len(VARIABLE.findall(FILE.read_text()))
    for name in PASSWORDS:
        with pytest.raises(LookupError, match=name):
            interpolated(FILE.read_text(), dict.fromkeys(PASSWORDS, "x") | {name: ""})


def test_defaults_of_the_example_are_those_of_the_file() -> None:
    defaults = {name: word for name, kind, word in VARIABLE.findall(FILE.read_text()) if kind == "-"}
    assert dict(re.findall(r"^# (\w+)=(.*)$", EXAMPLE, re.MULTILINE)) == defaults


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_limited_privileges_and_resources(service: str) -> None:
    definition = SERVICES[service]

    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["mem_limit"] and definition["pids_limit"]
    assert all(port.startswith("127.0.0.1:") for port in definition.get("ports", []))
    assert definition["restart"] == ("no" if service == "pipeline" else "unless-stopped")
    assert definition["image"] == "tlc-pipeline" or re.search(r":\d+\.\d+", definition["image"]), "pinned to a version"
    # pgAdmin writes its configuration into its image.
    assert definition.get("read_only", False) == (service != "pgadmin")


def test_one_service_builds_the_image_and_long_running_services_have_health_checks() -> None:
    """Two services that build the same tag leave an untagged image behind at every build."""
    assert [service for service, definition in SERVICES.items() if "build" in definition] == ["luigid"]
    assert [service for service, definition in SERVICES.items() if "healthcheck" not in definition] == ["pipeline"]


def test_server_has_the_settings_of_the_embedded_one() -> None:
    settings = SERVICES["postgres"]["command"]
    assert dict(setting.split("=") for setting in settings[2::2]) == SETTINGS


def test_server_without_the_database_is_not_healthy(postgres: Stack) -> None:
    assert postgres.is_healthy("postgres")
    password = postgres.variables["POSTGRES_PASSWORD"]
    owner = f"postgresql://postgres@127.0.0.1:{postgres.postgres_port}/postgres"
    with contextlib.closing(psycopg2.connect(owner, password=password)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE taxi")
    assert not postgres.is_healthy("postgres")


def test_server_with_another_password_is_not_healthy(postgres: Stack) -> None:
    service = postgres.services["postgres"]
    assert postgres.is_healthy("postgres")
    service["environment"]["PGPASSWORD"] = "another"
    assert not postgres.is_healthy("postgres")
    # The image trusts connections from 127.0.0.1 and by the socket; the server here does not.
    assert "--host=postgres" in service["healthcheck"]["test"]


def test_month_is_loaded_by_a_role_without_special_rights(luigid: Stack) -> None:
    assert luigid.is_healthy("postgres")
    load = luigid.start("pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
    output, _ = load.communicate(timeout=60)
    assert load.returncode == 0, output

    environment = luigid.environment("pipeline")
    dsn, password = environment["PIPELINE__POSTGRES__DSN"], environment["PGPASSWORD"]
    with psycopg2.connect(dsn, password=password) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM green_tripdata")
        assert cursor.fetchone() == (500,)
        cursor.execute("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False, False, False)
    connection.close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(dsn, password="wrong")
    assert not [value for value in luigid.variables.values() if value in output]


def test_schedule_starts_and_stops_on_sigterm(luigid: Stack) -> None:
    schedule = luigid.start("scheduler")
    assert schedule.stdout
    assert any("green: next at" in line for line in schedule.stdout)
    schedule.terminate()
    output, _ = schedule.communicate(timeout=60)
    assert schedule.returncode == 0, output


def test_pgadmin_connects_with_its_configured_role_and_password(postgres: Stack, tmp_path: Path) -> None:
    (configured,) = json.loads((CHECKOUT / "deploy" / "pgadmin" / "servers.json").read_text())["Servers"].values()
    passfile = tmp_path / "pgpass"
    passfile.write_text(postgres.local(postgres.file["configs"]["pgpass"]["content"]))
    passfile.chmod(0o600)
    host, port = postgres.local(f"{configured['Host']}:{configured['Port']}").split(":")

    psycopg2.connect(
        host=host, port=port, dbname=configured["MaintenanceDB"], user=configured["Username"], passfile=str(passfile)
    ).close()


def test_documented_command_generates_passwords_and_keeps_existing_ones(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shutil.copy(CHECKOUT / ".env.example", tmp_path)
    shutil.copytree(CHECKOUT / "deploy", tmp_path / "deploy")
    mounted = tmp_path / "deploy" / "postgres" / "create_database.sql"
    mounted.chmod(0o600)
    generated = []
    for _ in range(2):
        script = f"umask 027\n{block}\ntouch later"
        subprocess.run(["bash", "-e"], input=script, text=True, cwd=tmp_path, check=True)
        generated.append(dict(re.findall(r"^(\w+)=(\w+)$", (tmp_path / ".env").read_text(), re.MULTILINE)))

    assert set(generated[0]) == set(PASSWORDS)
    assert len(set(generated[0].values())) == len(PASSWORDS)
    assert generated[1] == generated[0], "existing passwords are kept"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".env", tmp_path / "later", mounted)}
    assert list(modes.values()) == [0o600, 0o640, 0o644], "only .env is private, and what is mounted can be read"
