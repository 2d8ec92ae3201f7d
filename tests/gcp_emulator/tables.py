"""Datasets and tables: their resources in memory, their rows in DuckDB."""

from __future__ import annotations

import contextlib
import re
import threading
import uuid

import duckdb

from .errors import ApiError, not_found, only
from .values import MACROS, duck_type, normal, now, q


class Tables:
    """What there is, and what may be done to it short of SQL."""

    def __init__(self, gcs_host, wire):
        self.gcs_host, self.wire, self.lock = gcs_host, wire, threading.RLock()
        self.datasets, self.tables, self.jobs, self.requests, self.uploads = {}, {}, {}, {}, {}
        self.main, self.transaction = duckdb.connect(), threading.local()
        # Tables are small, and tests run in several processes.
        self.con.execute("SET threads=1; PRAGMA disable_optimizer")
        self.con.execute(MACROS)
        self.con.execute("SET TimeZone='UTC'")

    @property
    def con(self):
        """The connection of the transaction that this thread runs, or the one that serves all else."""
        return getattr(self.transaction, "con", None) or self.main

    @contextlib.contextmanager
    def in_transaction(self):
        """Runs what this thread does in a transaction of its own, which sees the tables as they are now."""
        self.transaction.con = con = self.main.cursor()
        try:
            con.execute("SET TimeZone='UTC'")
            con.execute("BEGIN TRANSACTION")
            con.execute("SELECT count(*) FROM duckdb_tables()").fetchall()  # or it began with its first statement
            yield con
        finally:
            self.transaction.con = None
            con.close()

    def dataset(self, p, d, location=None):
        ds = self.datasets.get((p, d))
        if ds is None or (location and ds["location"].upper() != location.upper()):
            raise not_found("Dataset", f"{p}:{d}", location)
        return ds

    def table(self, p, d, t):
        r = self.tables.get((p, d, t))
        if r and int(r.get("expirationTime") or 1 << 62) < now():
            self.drop(p, d, t)
            r = None
        if r is None:
            self.dataset(p, d)
            raise not_found("Table", f"{p}:{d}.{t}")
        return r

    def drop(self, p, d, t):
        r = self.tables.pop((p, d, t))
        self.con.execute(f"DROP {'VIEW' if r['type'] == 'VIEW' else 'TABLE'} IF EXISTS {q(p + '.' + d, t)}")

    def put(self, p, d, t, fields, kind="TABLE", replace=False, **extra):
        ds = self.dataset(p, d)
        if (p, d, t) in self.tables:
            if not replace:
                raise ApiError(409, "duplicate", f"Already Exists: Table {p}:{d}.{t}")
            if self.tables[(p, d, t)]["type"] != kind:
                raise ApiError(400, "invalid", f"{p}:{d}.{t} is currently a {self.tables[(p, d, t)]['type']}.")
            self.drop(p, d, t)
        r = {
            "kind": "bigquery#table",
            "id": f"{p}:{d}.{t}",
            "tableReference": {"projectId": p, "datasetId": d, "tableId": t},
            "type": kind,
            "schema": {"fields": normal(fields)},
            "creationTime": str(now()),
            "lastModifiedTime": str(now()),
            "location": ds["location"],
            "etag": uuid.uuid4().hex,
        }
        r.update({k: v for k, v in extra.items() if v})
        types = {f["name"].lower(): f["type"] if f["mode"] != "REPEATED" else "ARRAY" for f in r["schema"]["fields"]}
        for c in (r.get("clustering") or {}).get("fields", []):
            if types.get(c.lower()) not in (
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
                    f"Clustering column {c} has type {types.get(c.lower())}, which cannot be used for clustering.",
                )
        by = (r.get("timePartitioning") or {}).get("field")
        if by and types.get(by.lower()) not in ("DATE", "DATETIME", "TIMESTAMP"):
            raise ApiError(400, "invalid", f"The field specified for partitioning, {by}, is {types.get(by.lower())}.")
        if ds.get("defaultTableExpirationMs") and kind == "TABLE":
            r.setdefault("expirationTime", str(now() + int(ds["defaultTableExpirationMs"])))
        if kind != "VIEW":
            cols = ", ".join(
                f"{q(f['name'])} {duck_type(f)}" + (" NOT NULL" if f["mode"] == "REQUIRED" and kind == "TABLE" else "")
                for f in r["schema"]["fields"]
            )
            self.con.execute(f"CREATE TABLE {q(p + '.' + d, t)} ({cols or 'dummy INT'})")
        self.tables[(p, d, t)] = r
        return r

    def shown(self, r, full=True):
        ref = r["tableReference"]
        out = {k: v for k, v in r.items() if not k.startswith("_")}
        if full and r["type"] == "TABLE":
            rows, size = self.size(r)
            out |= {"numRows": str(rows), "numBytes": str(size), "numLongTermBytes": "0"}
        out["selfLink"] = f"/projects/{ref['projectId']}/datasets/{ref['datasetId']}/tables/{ref['tableId']}"
        return out

    def size(self, r):
        """Rows and bytes: 8 for each value, as BigQuery counts numbers and times."""
        ref = r["tableReference"]
        table = q(ref["projectId"] + "." + ref["datasetId"], ref["tableId"])
        rows = self.con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        return rows, 8 * rows * len(r["schema"]["fields"])

    def new_dataset(self, p, body):
        ref = body["datasetReference"]
        d = ref["datasetId"]
        if not re.fullmatch(r"\w{1,1024}", d):
            raise ApiError(400, "invalid", f'Invalid dataset ID "{d}".')
        if (p, d) in self.datasets:
            raise ApiError(409, "duplicate", f"Already Exists: Dataset {p}:{d}")
        r = {
            **body,
            "kind": "bigquery#dataset",
            "id": f"{p}:{d}",
            "datasetReference": {"projectId": p, "datasetId": d},
            "location": body.get("location") or "US",
            "creationTime": str(now()),
            "lastModifiedTime": str(now()),
            "etag": uuid.uuid4().hex,
        }
        r["location"] = r["location"].upper() if r["location"].upper() in ("EU", "US") else r["location"]
        self.datasets[(p, d)] = r
        self.con.execute(f"CREATE SCHEMA IF NOT EXISTS {q(p + '.' + d)}")
        return r

    def new_table(self, p, d, body):
        t, known = (
            body["tableReference"]["tableId"],
            (
                "kind",
                "etag",
                "id",
                "tableReference",
                "schema",
                "timePartitioning",
                "clustering",
                "description",
                "friendlyName",
                "labels",
                "expirationTime",
                "type",
            ),
        )
        only(body, known, "table")
        extra = {
            k: body.get(k)
            for k in ("timePartitioning", "clustering", "description", "friendlyName", "labels", "expirationTime")
        }
        fields = (body.get("schema") or {}).get("fields") or []
        with self.lock:
            return self.shown(self.put(p, d, t, fields, **extra))

    def patch(self, r, body, allowed):
        only(
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
        for k, v in body.items():
            if k == "labels" and v:
                r["labels"] = {n: x for n, x in {**r.get("labels", {}), **v}.items() if x is not None}
            elif k == "schema":
                self.change_columns(r, normal(v["fields"]))
            elif k in allowed:
                r.pop(k, None) if v is None else r.__setitem__(k, v)
        r["etag"], r["lastModifiedTime"] = uuid.uuid4().hex, str(now())
        return r

    def change_columns(self, r, new):
        """Columns may be added at the end, nullable ones; nothing else of them may change."""
        old, ref = r["schema"]["fields"], r["tableReference"]
        if [(f["name"], f["type"]) for f in new[: len(old)]] != [(f["name"], f["type"]) for f in old]:
            raise ApiError(400, "invalid", f"Provided Schema does not match Table {r['id']}.")
        for f in new[len(old) :]:
            if f["mode"] == "REQUIRED":
                raise ApiError(
                    400, "invalid", f"Cannot add required fields to an existing schema. (field: {f['name']})"
                )
            table = q(ref["projectId"] + "." + ref["datasetId"], ref["tableId"])
            self.con.execute(f"ALTER TABLE {table} ADD COLUMN {q(f['name'])} {duck_type(f)}")
        r["schema"] = {"fields": new}

    def drop_dataset(self, p, d, with_contents):
        mine = [k for k in self.tables if k[:2] == (p, d)]
        if mine and not with_contents:
            raise ApiError(400, "resourceInUse", f"Dataset {p}:{d} is still in use")
        for k in mine:
            self.drop(*k)
        del self.datasets[(p, d)]
        self.con.execute(f"DROP SCHEMA {q(p + '.' + d)} CASCADE")
