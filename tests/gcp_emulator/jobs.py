"""Jobs: queries and loads that run in the background, each under its name once."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
import traceback
import uuid

import sqlglot

from . import analyzer
from .errors import ApiError, not_found, only, unsupported
from .source_files import csv_into, read_uri
from .sql import Sql
from .values import duck_type, encode, normal, now, q

HIDDEN = "_results"  # dataset of anonymous query results


@functools.lru_cache(256)
def split(text):
    """The statements of a script."""
    found, start = [], 0
    for token in [*sqlglot.tokenize(text, read="bigquery"), None]:
        if token is None or token.token_type == sqlglot.TokenType.SEMICOLON:
            piece = text[start : token.start if token else None]
            start = token.end + 1 if token else None
            bare = re.sub(r"^\s*(--[^\n]*\n\s*)*", "", piece).strip()
            found += [bare] if bare else []
    return tuple(found)


class Jobs(Sql):
    """Tables on which jobs run, one at a time."""

    def context(self, project, location, c):
        ctx = {
            "project": project,
            "location": location,
            "params": {},
            "param_types": {},
            "zparams": {},
            "max_bytes": int(c.get("maximumBytesBilled") or 0),
        }
        if c.get("defaultDataset"):
            ctx["dataset"] = (c["defaultDataset"].get("projectId", project), c["defaultDataset"]["datasetId"])
        for p in c.get("queryParameters") or []:
            if not p.get("name"):
                raise unsupported("positional query parameters")
            f, v = {"name": p["name"], "type": p["parameterType"]["type"]}, p["parameterValue"]
            if f["type"] in ("ARRAY", "STRUCT", "BYTES"):
                raise unsupported(f"query parameters of type {f['type']}")
            value = v.get("value")
            f = normal([f])[0]
            ctx["params"][p["name"].lower()], ctx["param_types"][p["name"].lower()], ctx["zparams"][p["name"]] = (
                value,
                duck_type(f),
                analyzer.type_of(f),
            )
        return ctx

    def run_query(self, job, dry):
        c, stats = job["configuration"]["query"], job["_stats"]
        only(
            c,
            (
                "query",
                "queryParameters",
                "parameterMode",
                "destinationTable",
                "writeDisposition",
                "createDisposition",
                "defaultDataset",
                "useQueryCache",
                "maximumBytesBilled",
                "priority",
                "timePartitioning",
                "clustering",
                "allowLargeResults",
            ),
            "configuration.query",
        )
        ctx = self.context(job["jobReference"]["projectId"], job["jobReference"].get("location"), c)
        statements = split(c["query"])
        if len(statements) > 1:
            result = self.script(job["jobReference"]["jobId"], statements, ctx, stats, dry)
        else:
            result = self.one(statements[0], ctx, stats, dry)
        job["jobReference"]["location"] = ctx["location"]
        if "dmlStats" in stats:
            stats["numDmlAffectedRows"] = sum(stats["dmlStats"].values())
        job["_result"] = result if result else ([], [])
        if not c.get(
            "destinationTable"
        ):  # as BigQuery shows it: the target of DDL and DML, or a hidden table of results
            name = ctx.get("target") or (
                job["jobReference"]["projectId"],
                HIDDEN,
                "anon" + job["jobReference"]["jobId"],
            )
            c["destinationTable"] = dict(zip(("projectId", "datasetId", "tableId"), name, strict=True))
        elif result and not dry:
            raise unsupported("destination tables of queries")

    def one(self, text, ctx, stats, dry):
        """Check and run a statement. `ASSERT condition AS 'why'` is run as the query for its condition."""
        asserted = re.fullmatch(r"ASSERT(.*)AS '[^']*'", text, re.DOTALL)
        return self.statement(text, f"SELECT {asserted[1]}" if asserted else text, ctx, stats, dry)

    def script(self, jid, statements, ctx, stats, dry):
        """Check and run a script of the only shape there is: a transaction of statements, some of them in an IF.

        Each step is noted on the wire as "STEP job_id statement", and other jobs may run between two of them.
        """
        if (statements[0], statements[-1]) != ("BEGIN TRANSACTION", "COMMIT TRANSACTION"):
            raise unsupported("scripts that are not one transaction")
        with contextlib.nullcontext() if dry else self.in_transaction() as con:
            applies = True
            for text in statements[1:-1]:
                if text == "END IF":
                    applies = True
                    continue
                if condition := re.match(r"IF (.*?) THEN\s", text, re.DOTALL):
                    text, asked = text[condition.end() :], f"SELECT {condition[1]}"
                    result = self.step(jid, asked, ctx, stats, dry)
                    applies = dry or result[1][0][0]
                if applies:
                    self.step(jid, text, ctx, stats, dry)
            if not dry:
                self.step(jid, "COMMIT TRANSACTION", ctx, stats, dry)
                con.execute("COMMIT")
        stats["statementType"] = "SCRIPT"
        stats.pop("dmlStats", None)
        ctx.pop("target", None)

    def step(self, jid, text, ctx, stats, dry):
        incident = None if dry else self.wire.receive(f"STEP {jid} {text}")
        if incident and incident.status:
            raise ApiError(incident.status, incident.reason, incident.message)
        if text != "COMMIT TRANSACTION":
            with self.lock:
                return self.one(text, ctx, stats, dry)
        return None

    def write(self, dest, fields, c, fill):
        """Write a load job's rows to its destination, all or none of them."""
        p, d, t = dest["projectId"], dest["datasetId"], dest["tableId"]
        old = self.tables.get((p, d, t))
        tmp = f"_write_{uuid.uuid4().hex}"
        self.con.execute(f"CREATE TEMP TABLE {tmp} ({', '.join(q(f['name']) + ' ' + duck_type(f) for f in fields)})")
        try:
            fill(tmp)
            rows = self.con.execute(f"SELECT count(*) FROM {tmp}").fetchall()[0][0]
            if old is None or c.get("writeDisposition") == "WRITE_TRUNCATE":
                self.put(p, d, t, fields, replace=old is not None, **(c.get("destinationTableProperties") or {}))
            have = {f["name"].lower(): f["type"] for f in self.tables[(p, d, t)]["schema"]["fields"]}
            if any(have.get(f["name"].lower()) != f["type"] for f in fields):
                raise ApiError(400, "invalid", f"Provided Schema does not match Table {p}:{d}.{t}.")
            names = ", ".join(q(f["name"]) for f in fields)
            self.con.execute(f"INSERT INTO {q(f'{p}.{d}', t)} ({names}) SELECT {names} FROM {tmp}")
            return rows
        finally:
            self.con.execute(f"DROP TABLE IF EXISTS {tmp}")

    def run_load(self, job, dry):
        c = job["configuration"]["load"]
        only(
            c,
            (
                "sourceUris",
                "destinationTable",
                "schema",
                "sourceFormat",
                "skipLeadingRows",
                "writeDisposition",
                "allowQuotedNewlines",
                "fieldDelimiter",
                "destinationTableProperties",
            ),
            "configuration.load",
        )
        if (c.get("sourceFormat") or "CSV") != "CSV" or not c.get("schema"):
            raise unsupported("loads of anything but CSV, or without a schema")
        dest = c["destinationTable"]
        ds = self.dataset(dest["projectId"], dest["datasetId"], job["jobReference"].get("location"))
        job["jobReference"]["location"] = ds["location"]
        sources = (
            [("upload", job.pop("_upload"))]
            if "_upload" in job
            else [read_uri(u, self.gcs_host, ds["location"]) for u in c["sourceUris"]]
        )
        fields = normal(c["schema"]["fields"])
        rows = self.write(dest, fields, c, lambda target: csv_into(self.con, target, sources, fields, c))
        job["_stats"]["load"] = {
            "inputFiles": str(len(sources)),
            "inputFileBytes": str(sum(len(b) for _, b in sources)),
            "outputRows": str(rows),
            "badRecords": "0",
        }

    def insert_job(self, project, body, upload=None):
        ref = dict(body.get("jobReference") or {})
        jid = ref.setdefault("jobId", "job_" + uuid.uuid4().hex)
        ref["projectId"], conf = project, body["configuration"]
        kinds = [k for k in ("query", "load", "copy", "extract") if k in conf]
        only({k: v for k, v in conf.items() if k not in kinds}, ("labels", "jobTimeoutMs", "jobType"), "configuration")
        with self.lock:
            if (project, jid) in self.jobs:
                raise ApiError(409, "duplicate", f"Already Exists: Job {project}:{ref.get('location', 'US')}.{jid}")
            conf["jobType"] = kinds[0].upper()
            job = {
                "kind": "bigquery#job",
                "id": f"{project}:{jid}",
                "jobReference": ref,
                "configuration": conf,
                "user_email": "tests@example.invalid",
                "etag": uuid.uuid4().hex,
                "status": {"state": "RUNNING"},
                "_stats": {},
                "_done": threading.Event(),
                "_created": now(),
            }
            if upload is not None:
                job["_upload"] = upload
            runner = getattr(self, f"run_{kinds[0]}", None)
            if runner is None:
                raise unsupported(f"{kinds[0]} jobs")
            if kinds[0] == "query":  # BigQuery answers an invalid query at once, with an HTTP error
                trial = {**job, "_stats": {}, "jobReference": dict(ref), "configuration": json.loads(json.dumps(conf))}
                self.run_query(trial, True)
                ref["location"] = trial["jobReference"]["location"]
            self.jobs[(project, jid)] = job
        first = self.job(job)
        threading.Thread(target=self.work, args=(job, runner), daemon=True).start()
        return first

    def work(self, job, runner):
        incident = self.wire.receive(f"RUN {job['jobReference']['jobId']}")
        is_script = len(split(job["configuration"].get("query", {}).get("query", ""))) > 1
        with contextlib.nullcontext() if is_script else self.lock:
            try:
                if incident and incident.status:
                    raise ApiError(incident.status, incident.reason, incident.message)
                runner(job, False)
            except ApiError as e:
                job["status"] |= {"errorResult": e.proto(), "errors": [e.proto(), *e.errors]}
                job["_error"] = e
            except Exception as e:
                traceback.print_exc()
                job["_error"] = ApiError(500, "internalError", f"{type(e).__name__}: {e}")
                job["status"] |= {"errorResult": job["_error"].proto(), "errors": [job["_error"].proto()]}
            job["status"]["state"], job["_ended"] = "DONE", now()
        job["_done"].set()

    def find_job(self, project, jid, query):
        job = self.jobs.get((project, jid))
        where = query.get("location")
        if job is None or (
            where and job["jobReference"].get("location") and job["jobReference"]["location"].upper() != where.upper()
        ):
            raise not_found("Job", f"{project}:{where + '.' if where else ''}{jid}")
        return job

    def job(self, job):
        s = job["_stats"]
        out = {k: v for k, v in job.items() if not k.startswith("_")}
        out["status"] = dict(job["status"])
        out["statistics"] = st = {
            "creationTime": str(job["_created"]),
            "startTime": str(job["_created"]),
            "totalBytesProcessed": str(s.get("totalBytesProcessed", 0)),
        }
        if job.get("_ended"):
            st["endTime"] = str(job["_ended"])
        if "query" in job["configuration"]:
            st["query"] = {
                "totalBytesProcessed": str(s.get("totalBytesProcessed", 0)),
                "totalBytesBilled": str(s.get("totalBytesProcessed", 0)),
                "cacheHit": False,
                "statementType": s.get("statementType", "SELECT"),
            }
            if "numDmlAffectedRows" in s:
                st["query"] |= {
                    "numDmlAffectedRows": str(s["numDmlAffectedRows"]),
                    "dmlStats": {k: str(v) for k, v in s["dmlStats"].items()},
                }
        if "load" in s:
            st["load"] = s["load"]
        return out

    def results(self, job, query):
        if not job["_done"].wait(min(float(query.get("timeoutMs", 10000)), 60000) / 1000):
            return {
                "kind": "bigquery#getQueryResultsResponse",
                "jobReference": job["jobReference"],
                "jobComplete": False,
            }
        if "_error" in job:
            raise job["_error"]
        fields, rows = job.get("_result", ([], []))
        start, size = (
            int(query.get("pageToken") or query.get("startIndex") or 0),
            int(query["maxResults"]) if query.get("maxResults") else 10000,
        )
        s, out = (
            job["_stats"],
            {
                "kind": "bigquery#getQueryResultsResponse",
                "jobReference": job["jobReference"],
                "jobComplete": True,
                "cacheHit": False,
                "totalBytesProcessed": str(job["_stats"].get("totalBytesProcessed", 0)),
                "schema": {"fields": fields},
            },
        )
        if "numDmlAffectedRows" in s:
            return out | {"numDmlAffectedRows": str(s["numDmlAffectedRows"])}
        out["totalRows"] = str(len(rows))
        ts = str(query.get("formatOptions.useInt64Timestamp", "false")).lower() == "true"
        if size:
            out["rows"] = [
                {"f": [{"v": encode(r[i], f, ts)} for i, f in enumerate(fields)]} for r in rows[start : start + size]
            ]
        if size and start + size < len(rows):
            out["pageToken"] = str(start + size)
        return out
