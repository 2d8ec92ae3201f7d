"""SetupGcp, and problems of a project: each is reported in one line that names the remedy and contains no secret."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run
from gcp import GoogleCloud

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery import client as gcp_client
from pipeline.warehouses.bigquery.markers import read_marker
from pipeline.warehouses.bigquery.resources import create_resources, missing_resources
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse

SECRET = "0ne-t1me-s3cret"
KEY = {
    "type": "service_account",
    "client_email": "me@my-project.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
    "private_key": SECRET,
}


def test_bucket_and_datasets_are_created_once(google_cloud: GoogleCloud, luigi: Run) -> None:
    first = luigi("SetupGcp")
    assert first.returncode == 0, first.stderr
    project = google_cloud.project
    for resource in (f"bucket gs://{project.bucket}", "dataset tlc", "dataset tlc_staging"):
        assert f"created {resource} in US" in first.stderr
    with contextlib.closing(project.bigquery()) as client:
        dataset, staging = (client.get_dataset(name) for name in (project.dataset, project.staging_dataset))
    assert dataset.labels == staging.labels == {"managed-by": "tlc-pipeline"}
    assert dataset.default_table_expiration_ms is None
    assert staging.default_table_expiration_ms == 2 * 24 * 3600 * 1000

    google_cloud.wire.requests.clear()
    again = luigi("SetupGcp")
    assert again.returncode == 0
    assert "1 complete ones were encountered" in again.stderr
    assert google_cloud.wire.seen("^(POST|PUT|PATCH|DELETE) ") == []


def test_bucket_is_not_public(google_cloud: GoogleCloud) -> None:
    create_resources(google_cloud.project)

    with contextlib.closing(google_cloud.project.storage()) as client:
        bucket = client.get_bucket(google_cloud.project.bucket)
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.iam_configuration.public_access_prevention == "enforced"
    assert bucket.labels == {"managed-by": "tlc-pipeline"}
    assert bucket.location == "US"


@pytest.mark.parametrize(
    ("request_of", "fault"),
    [
        ("^POST /storage/v1/b", {"response_lost": True}),
        ("^GET /storage/v1/b", {"status": 503}),
        ("^POST /bigquery.*datasets", {"response_lost": True}),
        ("^POST /bigquery.*datasets", {"status": 503}),
    ],
)
def test_transient_failure_does_not_stop_the_setup(
    google_cloud: GoogleCloud, request_of: str, fault: dict[str, object]
) -> None:
    google_cloud.wire.inject(request_of, **fault)

    create_resources(google_cloud.project)

    assert missing_resources(google_cloud.project) == []


@pytest.mark.parametrize("kind", ["bucket", "dataset"])
def test_wrong_location_is_reported(google_cloud: GoogleCloud, kind: str) -> None:
    create_resources(google_cloud.project)
    elsewhere = replace(google_cloud.project, location="europe-west2")
    if kind == "dataset":
        elsewhere = replace(elsewhere, bucket=f"{elsewhere.bucket}-europe")

    with pytest.raises(PipelineError) as failure:
        create_resources(elsewhere)
    assert str(failure.value).startswith(kind)
    assert "is in US and [gcp] location is europe-west2" in str(failure.value)
    assert "change [gcp] location, or choose another name" in str(failure.value)


def test_bucket_of_somebody_else_is_reported(google_cloud: GoogleCloud) -> None:
    google_cloud.wire.inject("^GET /storage", status=403, reason="forbidden", message="you do not have permission")

    with pytest.raises(PipelineError) as failure:
        create_resources(google_cloud.project)
    assert "is somebody else's, or these credentials lack storage.buckets.get" in str(failure.value)
    assert "choose another [gcp] bucket" in str(failure.value)


@pytest.mark.parametrize("path", ["/storage/v1/b", "/bigquery/.*datasets"])
def test_missing_permission_is_reported(google_cloud: GoogleCloud, path: str) -> None:
    google_cloud.wire.inject(f"^POST {path}", status=403, reason="forbidden", message="Permission denied.")

    with pytest.raises(
        PipelineError, match=r"was not created: Permission denied; let a project administrator run SetupGcp"
    ):
        create_resources(google_cloud.project)


@pytest.mark.parametrize("default", ["table", "partition"])
def test_dataset_that_deletes_what_is_loaded_is_refused(google_cloud: GoogleCloud, default: str) -> None:
    create_resources(google_cloud.project)
    key = f"default_{default}_expiration_ms"
    with contextlib.closing(google_cloud.project.bigquery()) as client:
        dataset = client.get_dataset(google_cloud.project.dataset)
        setattr(dataset, key, 60 * 24 * 3600 * 1000)
        client.update_dataset(dataset, [key])

    with pytest.raises(PipelineError, match=r"dataset tlc deletes new tables .*; run `bq update --default_table_exp"):
        missing_resources(google_cloud.project)


def test_command_that_counts_rows_names_the_project(google_cloud: GoogleCloud) -> None:
    warehouse = BigQueryWarehouse(google_cloud.project, "tlc", 1, Path())

    assert warehouse.count_command("green_tripdata") == (
        f"bq --project_id={google_cloud.project.project} query --use_legacy_sql=false"
        " 'select count(*) from tlc.green_tripdata'"
    )


def test_unset_project_is_reported(google_cloud: GoogleCloud, luigi: Run) -> None:
    failed = luigi("SetupGcp", PIPELINE__GCP__PROJECT="")

    assert failed.returncode == 35
    assert error_line(failed.stderr).endswith(
        "[gcp] project is not set; set it in luigi.cfg or as PIPELINE__GCP__PROJECT"
    )
    assert "Traceback" not in failed.stderr


def test_unreachable_service_is_reported_soon(google_cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr("pipeline.warehouses.bigquery.client._RETRY_SECONDS", 0.1)

    project, threads = google_cloud.project, ThreadPoolExecutor(2)
    resources = threads.submit(missing_resources, project)
    marker = threads.submit(read_marker, project, "LoadTripdataToBigQuery", "green/2019-01")

    for request in (resources, marker):
        with pytest.raises(PipelineError, match=r"Google Cloud did not answer \(.*\); run again"):
            request.result(20)
    threads.shutdown(wait=False)


def malformed_key(folder: Path) -> dict[str, str]:
    (folder / "key.json").write_text(json.dumps(KEY))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json")}


def key_that_is_not_json(folder: Path) -> dict[str, str]:
    (folder / "key.json").write_text(SECRET)
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json")}


def missing_key(folder: Path) -> dict[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "none.json")}


def key_that_is_a_list(folder: Path) -> dict[str, str]:
    (folder / "key.json").write_text(json.dumps([SECRET]))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "key.json")}


def key_that_is_a_folder(folder: Path) -> dict[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(folder)}


def no_credentials(folder: Path) -> dict[str, str]:
    return {}


def secret_that_is_not_json(folder: Path) -> dict[str, str]:
    return {"SECRET_GCP_SERVICE_ACCOUNT": base64.b64encode(SECRET.encode()).decode()}


def secret_malformed_key(folder: Path) -> dict[str, str]:
    return {"SECRET_GCP_SERVICE_ACCOUNT": base64.b64encode(json.dumps(KEY).encode()).decode()}


def secret_incomplete_key(folder: Path) -> dict[str, str]:
    return {"SECRET_GCP_SERVICE_ACCOUNT": base64.b64encode(b'{"type": "service_account"}').decode()}


def secret_not_encoded(folder: Path) -> dict[str, str]:
    return {"SECRET_GCP_SERVICE_ACCOUNT": json.dumps(KEY)}


APPLICATION_DEFAULT = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
BASE64 = "SECRET_GCP_SERVICE_ACCOUNT is not the base64 of a service account's JSON key; make it with"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (make, APPLICATION_DEFAULT)
        for make in (
            no_credentials,
            missing_key,
            key_that_is_not_json,
            key_that_is_a_list,
            key_that_is_a_folder,
            malformed_key,
        )
    ]
    + [
        (make, BASE64)
        for make in (secret_that_is_not_json, secret_malformed_key, secret_incomplete_key, secret_not_encoded)
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_invalid_credentials_are_reported_in_one_line_without_the_secret(
    environment: Callable[[Path], dict[str, str]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", *gcp_client.SECRET_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(PipelineError) as failure:
        gcp_client.credentials(emulated=False)

    assert message in str(failure.value)
    assert "\n" not in str(failure.value) and "Error(" not in str(failure.value)
    assert_secret_is_not_in(str(failure.value))


@pytest.mark.parametrize("variable", gcp_client.SECRET_VARIABLES)
@pytest.mark.parametrize("lines", [0, 1, 20])
def test_service_account_key_in_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, lines: int, variable: str
) -> None:
    """As plain JSON, or as base64 in one line or in several, as `base64` wraps it by default."""
    plain = json.dumps(KEY | {"private_key": new_private_key()})
    encoded = base64.b64encode(plain.encode()).decode() if lines else plain
    lines = lines or 1
    step = len(encoded) // lines
    broken = "\n".join(encoded[start : start + step] for start in range(0, len(encoded), step))
    for name in gcp_client.SECRET_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, broken)

    found = gcp_client.credentials(emulated=False)

    assert getattr(found, "service_account_email", None) == KEY["client_email"]


def test_invalid_key_is_not_in_the_output(google_cloud: GoogleCloud, luigi: Run) -> None:
    secret = base64.b64encode(json.dumps(KEY).encode()).decode()
    failed = luigi("SetupGcp", "--log-level", "DEBUG", STORAGE_EMULATOR_HOST="", SECRET_GCP_SERVICE_ACCOUNT=secret)

    assert failed.returncode == 35
    assert BASE64 in error_line(failed.stderr)
    assert_secret_is_not_in(failed.stdout + failed.stderr)
    assert secret not in failed.stdout + failed.stderr


def error_line(log: str) -> str:
    (line,) = [line for line in log.splitlines() if "ERROR: " in line]
    return line


def assert_secret_is_not_in(text: str) -> None:
    assert SECRET not in text and SECRET[5:10] not in text


def new_private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def test_missing_libraries_are_reported_in_one_line(google_cloud: GoogleCloud, luigi: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['google.cloud'] = None\n")

    failed = luigi("LoadTripdataToBigQuery", "--taxi", "green", "--month", "2019-01", PYTHONPATH=str(tmp_path))

    assert failed.returncode == 35
    assert error_line(failed.stderr).endswith(
        "Google Cloud needs more packages: run `make gcp`, or pip install 'tlc-pipeline[gcp]'"
    )
    assert "Traceback" not in failed.stderr
