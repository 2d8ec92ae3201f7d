"""Datasets and tables, with their REST resources in memory and their rows in DuckDB."""

from __future__ import annotations

import contextlib
import re
import threading
import uuid

import duckdb

from .errors import ApiError, check_keys, not_found
from .values import MACROS, duckdb_type, normalized, now_ms, quoted


class Tables:
    """The datasets and tables, and the operations on them that need no SQL."""

    def __init__(self, storage_url, wire):
        self.storage_url, self.wire, self.lock = storage_url, wire, threading.RLock()
        self.datasets, self.tables, self.jobs, self.requests, self.uploads = {}, {}, {}, {}, {}
        self.main, self.transaction = duckdb.connect(), threading.local()
        # One thread, as the tables are small and the tests run in several processes.
        self.connection.execute("SET threads=1; PRAGMA disable_optimizer")
        self.connection.execute(MACROS)
        self.connection.execute("SET TimeZone='UTC'")

    @property
    def connection(self):
        """The connection of this thread's transaction if it runs one, otherwise the main connection."""
        return getattr(self.transaction, "connection", None) or self.main

    @contextlib.contextmanager
    def in_transaction(self):
        """Runs the statements of this thread in a transaction, which sees the tables as they are at its beginning."""
        self.transaction.connection = connection = self.main.cursor()
        try:
            connection.execute("SET TimeZone='UTC'")
            connection.execute("BEGIN TRANSACTION")
            # Without a query, DuckDB's transaction would only begin with its first statement.
            connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
            yield connection
        finally:
            self.transaction.connection = None
            connection.close()

    def dataset(self, project, dataset, location=None):
        """The resource of a dataset, which must be in this location if one is given."""
        dataset_resource = self.datasets.get((project, dataset))
        if dataset_resource is None or (location and dataset_resource["location"].upper() != location.upper()):
            raise not_found("Dataset", f"{project}:{dataset}", location)
        return dataset_resource

    def table(self, project, dataset, table):
        """The resource of a table; an expired table is dropped and not found."""
        resource = self.tables.get((project, dataset, table))
        if resource and int(resource.get("expirationTime") or 1 << 62) < now_ms():
            self.drop(project, dataset, table)
            resource = None
        if resource is None:
            self.dataset(project, dataset)
            raise not_found("Table", f"{project}:{dataset}.{table}")
        return resource

    def drop(self, project, dataset, table):
        resource = self.tables.pop((project, dataset, table))
        kind = "VIEW" if resource["type"] == "VIEW" else "TABLE"
        self.connection.execute(f"DROP {kind} IF EXISTS {quoted(project + '.' + dataset, table)}")

    def put(self, project, dataset, table, fields, kind="TABLE", replace=False, **extra):
        """Creates a table, or the resource of a view; returns the resource."""
        dataset_resource = self.dataset(project, dataset)
        if (project, dataset, table) in self.tables:
            if not replace:
                raise ApiError(409, "duplicate", f"Already Exists: Table {project}:{dataset}.{table}")
            if self.tables[(project, dataset, table)]["type"] != kind:
                raise ApiError(
                    400,
                    "invalid",
                    f"{project}:{dataset}.{table} is currently a {self.tables[(project, dataset, table)]['type']}.",
                )
            self.drop(project, dataset, table)
        resource = {
            "kind": "bigquery#table",
            "id": f"{project}:{dataset}.{table}",
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": table},
            "type": kind,
            "schema": {"fields": normalized(fields)},
            "creationTime": str(now_ms()),
            "lastModifiedTime": str(now_ms()),
            "location": dataset_resource["location"],
            "etag": uuid.uuid4().hex,
        }
        resource.update({key: value for key, value in extra.items() if value})
        types = {
            field["name"].lower(): field["type"] if field["mode"] != "REPEATED" else "ARRAY"
            for field in resource["schema"]["fields"]
        }
        for column in (resource.get("clustering") or {}).get("fields", []):
            column_type = types.get(column.lower())
            if column_type not in (
                "STRING",
                "INTEGER",
                "NUMERIC",
                "BIGNUMERIC",
                "DATE",
                "DATETIME",
                "TIMESTAMP",
                "BOOLEAN",
                "GEOGRAPHY",
                "RANGE",
            ):
                raise ApiError(
                    400,
                    "invalid",
                    f"Clustering column {column} has type {column_type}, which cannot be used for clustering.",
                )
        partitioned_by = (resource.get("timePartitioning") or {}).get("field")
        if partitioned_by and types.get(partitioned_by.lower()) not in ("DATE", "DATETIME", "TIMESTAMP"):
            raise ApiError(
                400,
                "invalid",
                f"The field specified for partitioning, {partitioned_by}, is {types.get(partitioned_by.lower())}.",
            )
        if dataset_resource.get("defaultTableExpirationMs") and kind == "TABLE":
            resource.setdefault("expirationTime", str(now_ms() + int(dataset_resource["defaultTableExpirationMs"])))
        if kind != "VIEW":
            columns = ", ".join(
                f"{quoted(field['name'])} {duckdb_type(field)}"
                + (" NOT NULL" if field["mode"] == "REQUIRED" and kind == "TABLE" else "")
                for field in resource["schema"]["fields"]
            )
            self.connection.execute(f"CREATE TABLE {quoted(project + '.' + dataset, table)} ({columns or 'dummy INT'})")
        self.tables[(project, dataset, table)] = resource
        return resource

    def table_resource(self, resource, full=True):
        """The resource as the REST API returns it, if `full` with the size of a table."""
        reference = resource["tableReference"]
        response = {key: value for key, value in resource.items() if not key.startswith("_")}
        if full and resource["type"] == "TABLE":
            rows, size = self.size(resource)
            response |= {"numRows": str(rows), "numBytes": str(size), "numLongTermBytes": "0"}
        response["selfLink"] = (
            f"/projects/{reference['projectId']}/datasets/{reference['datasetId']}/tables/{reference['tableId']}"
        )
        return response

    def size(self, resource):
        """The number of rows and bytes of a table: 8 bytes for each value, as BigQuery counts numbers and times."""
        reference = resource["tableReference"]
        table = quoted(reference["projectId"] + "." + reference["datasetId"], reference["tableId"])
        rows = self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        return rows, 8 * rows * len(resource["schema"]["fields"])

    def new_dataset(self, project, body):
        reference = body["datasetReference"]
        dataset = reference["datasetId"]
        if not re.fullmatch(r"\w{1,1024}", dataset):
            raise ApiError(400, "invalid", f'Invalid dataset ID "{dataset}".')
        if (project, dataset) in self.datasets:
            raise ApiError(409, "duplicate", f"Already Exists: Dataset {project}:{dataset}")
        resource = {
            **body,
            "kind": "bigquery#dataset",
            "id": f"{project}:{dataset}",
            "datasetReference": {"projectId": project, "datasetId": dataset},
            "location": body.get("location") or "US",
            "creationTime": str(now_ms()),
            "lastModifiedTime": str(now_ms()),
            "etag": uuid.uuid4().hex,
        }
        resource["location"] = (
            resource["location"].upper() if resource["location"].upper() in ("EU", "US") else resource["location"]
        )
        self.datasets[(project, dataset)] = resource
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(project + '.' + dataset)}")
        return resource

    def new_table(self, project, dataset, body):
        table = body["tableReference"]["tableId"]
        optional = ("timePartitioning", "clustering", "description", "friendlyName", "labels", "expirationTime")
        check_keys(body, (*optional, "kind", "etag", "id", "tableReference", "schema", "type"), "table")
        extra = {key: body.get(key) for key in optional}
        fields = (body.get("schema") or {}).get("fields") or []
        with self.lock:
            return self.table_resource(self.put(project, dataset, table, fields, **extra))

    def patch(self, resource, body, allowed):
        """Changes the allowed properties of a resource, and adds columns if the schema has more."""
        check_keys(
            body,
            (
                *allowed,
                "kind",
                "etag",
                "id",
                "tableReference",
                "datasetReference",
                "schema",
                "location",
                "type",
                "access",
            ),
            "patch",
        )
        for key, value in body.items():
            if key == "labels" and value:
                resource["labels"] = {
                    name: label for name, label in {**resource.get("labels", {}), **value}.items() if label is not None
                }
            elif key == "schema":
                self.change_columns(resource, normalized(value["fields"]))
            elif key in allowed:
                resource.pop(key, None) if value is None else resource.__setitem__(key, value)
        resource["etag"], resource["lastModifiedTime"] = uuid.uuid4().hex, str(now_ms())
        return resource

    def change_columns(self, resource, new):
        """Adds nullable columns at the end of a table; any other change of its columns is refused."""
        old, reference = resource["schema"]["fields"], resource["tableReference"]
        if [(field["name"], field["type"]) for field in new[: len(old)]] != [
            (field["name"], field["type"]) for field in old
        ]:
            raise ApiError(400, "invalid", f"Provided Schema does not match Table {resource['id']}.")
        for field in new[len(old) :]:
            if field["mode"] == "REQUIRED":
                raise ApiError(
                    400, "invalid", f"Cannot add required fields to an existing schema. (field: {field['name']})"
                )
            table = quoted(reference["projectId"] + "." + reference["datasetId"], reference["tableId"])
            self.connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(field['name'])} {duckdb_type(field)}")
        resource["schema"] = {"fields": new}

    def drop_dataset(self, project, dataset, with_contents):
        tables = [key for key in self.tables if key[:2] == (project, dataset)]
        if tables and not with_contents:
            raise ApiError(400, "resourceInUse", f"Dataset {project}:{dataset} is still in use")
        for key in tables:
            self.drop(*key)
        del self.datasets[(project, dataset)]
        self.connection.execute(f"DROP SCHEMA {quoted(project + '.' + dataset)} CASCADE")
