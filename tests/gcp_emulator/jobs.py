"""Jobs: queries and loads that run in the background. An id can be used for one job only."""

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
from .errors import ApiError, check_keys, not_found, unsupported
from .source_files import csv_into, read_uri
from .sql import Sql
from .values import duckdb_type, encode, normalized, now_ms, quoted

HIDDEN = "_results"  # the dataset of anonymous query results


@functools.lru_cache(256)
def split(text):
    """The statements of a script."""
    statements, start = [], 0
    for token in [*sqlglot.tokenize(text, read="bigquery"), None]:
        if token is None or token.token_type == sqlglot.TokenType.SEMICOLON:
            piece = text[start : token.start if token else None]
            start = token.end + 1 if token else None
            bare = re.sub(r"^\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*", "", piece, flags=re.DOTALL).strip()
            statements += [bare] if bare else []
    return tuple(statements)


class Jobs(Sql):
    """Tables on which jobs run, one at a time except for transactions."""

    def query_context(self, project, location, config):
        """What the statements of a query have in common: project, location, dataset, parameters and limit."""
        context = {
            "project": project,
            "location": location,
            "parameters": {},
            "duckdb_types": {},
            "zetasql_types": {},
            "max_bytes": int(config.get("maximumBytesBilled") or 0),
        }
        if config.get("defaultDataset"):
            context["dataset"] = (
                config["defaultDataset"].get("projectId", project),
                config["defaultDataset"]["datasetId"],
            )
        for parameter in config.get("queryParameters") or []:
            if not parameter.get("name"):
                raise unsupported("positional query parameters")
            field = {"name": parameter["name"], "type": parameter["parameterType"]["type"]}
            if field["type"] in ("ARRAY", "STRUCT", "BYTES"):
                raise unsupported(f"query parameters of type {field['type']}")
            field = normalized([field])[0]
            name = parameter["name"].lower()
            context["parameters"][name] = parameter["parameterValue"].get("value")
            context["duckdb_types"][name] = duckdb_type(field)
            context["zetasql_types"][parameter["name"]] = analyzer.type_of(field)
        return context

    def run_query(self, job, dry):
        config, stats = job["configuration"]["query"], job["_stats"]
        check_keys(
            config,
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
        context = self.query_context(job["jobReference"]["projectId"], job["jobReference"].get("location"), config)
        statements = split(config["query"])
        if len(statements) > 1:
            result = self.run_script(job["jobReference"]["jobId"], statements, context, stats, dry)
        else:
            result = self.run_statement(statements[0], context, stats, dry)
        job["jobReference"]["location"] = context["location"]
        if "dmlStats" in stats:
            stats["numDmlAffectedRows"] = sum(stats["dmlStats"].values())
        job["_result"] = result if result else ([], [])
        # BigQuery returns the target of DDL and DML as the destination, otherwise a hidden table with the results.
        if not config.get("destinationTable"):
            name = context.get("target") or (
                job["jobReference"]["projectId"],
                HIDDEN,
                "anon" + job["jobReference"]["jobId"],
            )
            config["destinationTable"] = dict(zip(("projectId", "datasetId", "tableId"), name, strict=True))
        elif result and not dry:
            raise unsupported("destination tables of queries")

    def run_statement(self, text, context, stats, dry):
        """Checks and runs a statement. For `ASSERT condition AS 'text'`, DuckDB runs a query for the condition."""
        asserted = re.fullmatch(r"ASSERT(.*)AS '[^']*'", text, re.DOTALL)
        return self.statement(text, f"SELECT {asserted[1]}" if asserted else text, context, stats, dry)

    def run_script(self, job_id, statements, context, stats, dry):
        """Checks and runs a script, which must be one transaction; some of its statements may be in an IF.

        `wire` records each statement as "STEP job_id statement". Other jobs may run between two statements.
        """
        if (statements[0], statements[-1]) != ("BEGIN TRANSACTION", "COMMIT TRANSACTION"):
            raise unsupported("scripts that are not one transaction")
        with contextlib.nullcontext() if dry else self.in_transaction() as connection:
            applies = True
            for text in statements[1:-1]:
                if text == "END IF":
                    applies = True
                    continue
                if condition := re.match(r"IF (.*?) THEN\s", text, re.DOTALL):
                    text, condition_query = text[condition.end() :], f"SELECT {condition[1]}"
                    result = self.run_step(job_id, condition_query, context, stats, dry)
                    applies = dry or result[1][0][0]
                if applies:
                    self.run_step(job_id, text, context, stats, dry)
            if not dry:
                self.run_step(job_id, "COMMIT TRANSACTION", context, stats, dry)
                with self.lock:
                    connection.execute("COMMIT")
        stats["statementType"] = "SCRIPT"
        stats.pop("dmlStats", None)
        context.pop("target", None)

    def run_step(self, job_id, text, context, stats, dry):
        incident = None if dry else self.wire.receive(f"STEP {job_id} {text}")
        if incident and incident.status:
            raise ApiError(incident.status, incident.reason, incident.message)
        if text != "COMMIT TRANSACTION":
            with self.lock:
                return self.run_statement(text, context, stats, dry)
        return None

    def write(self, destination, fields, config, fill):
        """Writes all rows of a load job to its destination, or none of them."""
        project, dataset, table = destination["projectId"], destination["datasetId"], destination["tableId"]
        old_table = self.tables.get((project, dataset, table))
        temporary = f"_write_{uuid.uuid4().hex}"
        columns = ", ".join(f"{quoted(field['name'])} {duckdb_type(field)}" for field in fields)
        self.connection.execute(f"CREATE TEMP TABLE {temporary} ({columns})")
        try:
            fill(temporary)
            rows = self.connection.execute(f"SELECT count(*) FROM {temporary}").fetchall()[0][0]
            if old_table and config.get("writeDisposition") == "WRITE_EMPTY" and self.has_rows(project, dataset, table):
                raise ApiError(409, "duplicate", f"Already Exists: Table {project}:{dataset}.{table}")
            if old_table is None or config.get("writeDisposition") == "WRITE_TRUNCATE":
                self.put(
                    project,
                    dataset,
                    table,
                    fields,
                    replace=old_table is not None,
                    **(config.get("destinationTableProperties") or {}),
                )
            types = {
                field["name"].lower(): field["type"]
                for field in self.tables[(project, dataset, table)]["schema"]["fields"]
            }
            if any(types.get(field["name"].lower()) != field["type"] for field in fields):
                raise ApiError(400, "invalid", f"Provided Schema does not match Table {project}:{dataset}.{table}.")
            names = ", ".join(quoted(field["name"]) for field in fields)
            self.connection.execute(
                f"INSERT INTO {quoted(f'{project}.{dataset}', table)} ({names}) SELECT {names} FROM {temporary}"
            )
            return rows
        finally:
            self.connection.execute(f"DROP TABLE IF EXISTS {temporary}")

    def has_rows(self, project, dataset, table):
        query = f"SELECT 1 FROM {quoted(f'{project}.{dataset}', table)} LIMIT 1"
        return self.connection.execute(query).fetchall() != []

    def run_load(self, job, dry):
        config = job["configuration"]["load"]
        check_keys(
            config,
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
        if (config.get("sourceFormat") or "CSV") != "CSV" or not config.get("schema"):
            raise unsupported("loads of anything but CSV, or without a schema")
        destination = config["destinationTable"]
        dataset = self.dataset(destination["projectId"], destination["datasetId"], job["jobReference"].get("location"))
        job["jobReference"]["location"] = dataset["location"]
        sources = (
            [("upload", job.pop("_upload"))]
            if "_upload" in job
            else [read_uri(uri, self.storage_url, dataset["location"]) for uri in config["sourceUris"]]
        )
        fields = normalized(config["schema"]["fields"])
        rows = self.write(
            destination, fields, config, lambda target: csv_into(self.connection, target, sources, fields, config)
        )
        job["_stats"]["load"] = {
            "inputFiles": str(len(sources)),
            "inputFileBytes": str(sum(len(content) for _, content in sources)),
            "outputRows": str(rows),
            "badRecords": "0",
        }

    def insert_job(self, project, body, upload=None):
        """Starts a job; returns its resource."""
        reference = dict(body.get("jobReference") or {})
        job_id = reference.setdefault("jobId", "job_" + uuid.uuid4().hex)
        reference["projectId"], config = project, body["configuration"]
        kinds = [key for key in ("query", "load", "copy", "extract") if key in config]
        check_keys(
            {key: value for key, value in config.items() if key not in kinds},
            ("labels", "jobTimeoutMs", "jobType"),
            "configuration",
        )
        with self.lock:
            if (project, job_id) in self.jobs:
                raise ApiError(
                    409, "duplicate", f"Already Exists: Job {project}:{reference.get('location', 'US')}.{job_id}"
                )
            config["jobType"] = kinds[0].upper()
            job = {
                "kind": "bigquery#job",
                "id": f"{project}:{job_id}",
                "jobReference": reference,
                "configuration": config,
                "user_email": "tests@example.invalid",
                "etag": uuid.uuid4().hex,
                "status": {"state": "RUNNING"},
                "_stats": {},
                "_done": threading.Event(),
                "_created": now_ms(),
            }
            if upload is not None:
                job["_upload"] = upload
            runner = getattr(self, f"run_{kinds[0]}", None)
            if runner is None:
                raise unsupported(f"{kinds[0]} jobs")
            if kinds[0] == "query":  # BigQuery refuses an invalid query at once, with an HTTP error
                trial = {
                    **job,
                    "_stats": {},
                    "jobReference": dict(reference),
                    "configuration": json.loads(json.dumps(config)),
                }
                self.run_query(trial, True)
                reference["location"] = trial["jobReference"]["location"]
            self.jobs[(project, job_id)] = job
        response = self.job_resource(job)
        threading.Thread(target=self.run_job, args=(job, runner), daemon=True).start()
        return response

    def run_job(self, job, runner):
        """Runs a job to its end, in a thread of its own; `wire` records it as "RUN job_id"."""
        is_script = len(split(job["configuration"].get("query", {}).get("query", ""))) > 1
        try:
            incident = self.wire.receive(f"RUN {job['jobReference']['jobId']}")
            if incident and incident.status:
                raise ApiError(incident.status, incident.reason, incident.message)
            with contextlib.nullcontext() if is_script else self.lock:
                runner(job, False)
        except ApiError as error:
            job["status"] |= {"errorResult": error.error_proto(), "errors": [error.error_proto(), *error.errors]}
            job["_error"] = error
        except Exception as error:
            traceback.print_exc()
            job["_error"] = ApiError(500, "internalError", f"{type(error).__name__}: {error}")
            job["status"] |= {"errorResult": job["_error"].error_proto(), "errors": [job["_error"].error_proto()]}
        job["status"]["state"], job["_ended"] = "DONE", now_ms()
        job["_done"].set()

    def find_job(self, project, job_id, query):
        job = self.jobs.get((project, job_id))
        location = query.get("location")
        if job is None or (
            location
            and job["jobReference"].get("location")
            and job["jobReference"]["location"].upper() != location.upper()
        ):
            raise not_found("Job", f"{project}:{location + '.' if location else ''}{job_id}")
        return job

    def job_resource(self, job):
        """The resource of a job as the REST API returns it."""
        stats = job["_stats"]
        resource = {key: value for key, value in job.items() if not key.startswith("_")}
        resource["status"] = dict(job["status"])
        resource["statistics"] = statistics = {
            "creationTime": str(job["_created"]),
            "startTime": str(job["_created"]),
            "totalBytesProcessed": str(stats.get("totalBytesProcessed", 0)),
        }
        if job.get("_ended"):
            statistics["endTime"] = str(job["_ended"])
        if "query" in job["configuration"]:
            statistics["query"] = {
                "totalBytesProcessed": str(stats.get("totalBytesProcessed", 0)),
                "totalBytesBilled": str(stats.get("totalBytesProcessed", 0)),
                "cacheHit": False,
                "statementType": stats.get("statementType", "SELECT"),
            }
            if "numDmlAffectedRows" in stats:
                statistics["query"] |= {
                    "numDmlAffectedRows": str(stats["numDmlAffectedRows"]),
                    "dmlStats": {key: str(value) for key, value in stats["dmlStats"].items()},
                }
        if "load" in stats:
            statistics["load"] = stats["load"]
        return resource

    def results(self, job, query):
        """The response to a request for a query's results."""
        if not job["_done"].wait(min(float(query.get("timeoutMs", 10000)), 60000) / 1000):
            return {
                "kind": "bigquery#getQueryResultsResponse",
                "jobReference": job["jobReference"],
                "jobComplete": False,
            }
        if "_error" in job:
            raise job["_error"]
        fields, rows = job.get("_result", ([], []))
        start = int(query.get("pageToken") or query.get("startIndex") or 0)
        size = int(query["maxResults"]) if query.get("maxResults") else 10000
        stats = job["_stats"]
        response = {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": job["jobReference"],
            "jobComplete": True,
            "cacheHit": False,
            "totalBytesProcessed": str(stats.get("totalBytesProcessed", 0)),
            "schema": {"fields": fields},
        }
        if "numDmlAffectedRows" in stats:
            return response | {"numDmlAffectedRows": str(stats["numDmlAffectedRows"])}
        response["totalRows"] = str(len(rows))
        int64_timestamps = str(query.get("formatOptions.useInt64Timestamp", "false")).lower() == "true"
        if size:
            response["rows"] = [
                {"f": [{"v": encode(row[index], field, int64_timestamps)} for index, field in enumerate(fields)]}
                for row in rows[start : start + size]
            ]
        if size and start + size < len(rows):
            response["pageToken"] = str(start + size)
        return response
