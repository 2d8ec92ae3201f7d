"""BigQuery's REST API on a real HTTP server."""

from __future__ import annotations

import gzip
import json
import re
import threading
import traceback
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .errors import ApiError, check_keys, unsupported
from .jobs import HIDDEN, Jobs


class Emulator(Jobs):
    """The emulator; a call that is not implemented gets status 501."""

    def route(self, method, path, query, body):
        """Handles an API call; returns the JSON response."""
        match = re.fullmatch(r"/projects/([^/]+)/(datasets|jobs|queries)(?:/([^/]+))?(?:/tables)?(/[^/]+)?", path)
        if not match:
            raise unsupported(f"{method} {path}")
        project, kind, name, table = match.groups()
        if kind == "queries":
            return self.query_call(method, project, name, query, body)
        if kind == "jobs":
            return self.job_call(method, project, name, query, body)
        if name is None:
            return self.datasets_call(method, project, body)
        if name == HIDDEN and table:
            return self.results_table(project, table[1:])
        with self.lock:
            if table:
                return self.table_call(method, project, name, table[1:], query, body)
            if path.endswith("/tables"):
                return self.tables_call(method, project, name, body)
            return self.dataset_call(method, project, name, query, body)

    def query_call(self, method, project, job_id, query, body):
        if method != "POST":
            return self.results(self.find_job(project, job_id, query), query)
        keep = {
            key: body[key]
            for key in (
                "query",
                "queryParameters",
                "parameterMode",
                "defaultDataset",
                "maximumBytesBilled",
                "useQueryCache",
                "useLegacySql",
            )
            if key in body
        }
        check_keys(
            body,
            (
                *keep,
                "requestId",
                "formatOptions",
                "location",
                "timeoutMs",
                "maxResults",
                "labels",
                "jobCreationMode",
                "kind",
                "jobTimeoutMs",
            ),
            "jobs.query",
        )
        job_id = self.requests.get(body.get("requestId"))
        if job_id is None:
            job = {
                "jobReference": {"location": body["location"]} if body.get("location") else {},
                "configuration": {"query": keep, "labels": body.get("labels")},
            }
            job_id = self.insert_job(project, job)["jobReference"]["jobId"]
            if body.get("requestId"):
                self.requests[body["requestId"]] = job_id
        timestamp_format = {
            "formatOptions.useInt64Timestamp": (body.get("formatOptions") or {}).get("useInt64Timestamp", False)
        }
        wanted = {"maxResults": body.get("maxResults"), "timeoutMs": body.get("timeoutMs", 10000), **timestamp_format}
        return self.results(self.find_job(project, job_id, {}), wanted) | {"kind": "bigquery#queryResponse"}

    def job_call(self, method, project, job_id, query, body):
        if method == "POST" and job_id is None:
            return self.insert_job(project, body)
        if method != "GET" or job_id is None:
            raise unsupported(f"{method} of jobs")
        job = self.find_job(project, job_id, query)
        job["_done"].wait(0.2)
        return self.job_resource(job)

    def results_table(self, project, table):
        """The hidden table with a query's results; waits for the query if it is still running."""
        job = self.find_job(project, table.removeprefix("anon"), {})
        job["_done"].wait(60)
        fields, rows = job["_result"]
        return {
            "kind": "bigquery#table",
            "id": f"{project}:{HIDDEN}.{table}",
            "tableReference": {"projectId": project, "datasetId": HIDDEN, "tableId": table},
            "type": "TABLE",
            "schema": {"fields": fields},
            "numRows": str(len(rows)),
            "numBytes": "0",
            "location": job["jobReference"]["location"],
        }

    def datasets_call(self, method, project, body):
        if method == "POST":
            return self.new_dataset(project, body)
        shown = ("kind", "id", "datasetReference", "labels", "location")
        return {
            "kind": "bigquery#datasetList",
            "datasets": [
                {key: resource[key] for key in shown if key in resource}
                for (owner, _), resource in self.datasets.items()
                if owner == project
            ],
        }

    def dataset_call(self, method, project, dataset, query, body):
        dataset_resource = self.dataset(project, dataset)
        if method == "GET":
            return dataset_resource
        if method == "DELETE":
            return self.drop_dataset(project, dataset, query.get("deleteContents") == "true")
        return self.patch(
            dataset_resource,
            body,
            ("description", "friendlyName", "labels", "defaultTableExpirationMs", "defaultPartitionExpirationMs"),
        )

    def tables_call(self, method, project, dataset, body):
        if method == "POST":
            return self.new_table(project, dataset, body)
        self.dataset(project, dataset)
        resources = [
            self.table_resource(resource, False)
            for key, resource in sorted(self.tables.items())
            if key[:2] == (project, dataset)
        ]
        return {"kind": "bigquery#tableList", "tables": resources, "totalItems": len(resources)}

    def table_call(self, method, project, dataset, table, query, body):
        resource = self.table(project, dataset, table)
        if method == "DELETE":
            return self.drop(project, dataset, table)
        if method == "GET":
            return self.table_resource(resource)
        if query.get("If-Match", resource["etag"]) != resource["etag"]:
            raise ApiError(412, "conditionNotMet", "Precondition check failed.")
        return self.table_resource(
            self.patch(resource, body, ("description", "friendlyName", "labels", "expirationTime", "clustering"))
        )


class Handler(BaseHTTPRequestHandler):
    """Serves the API, unless a test has injected a fault."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=None, headers=()):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def upload(self, emulator, parts, query, body):
        """Handles an upload of a load job's file; returns the job once the file is complete."""
        match = re.fullmatch(r"/upload/bigquery/v2/projects/([^/]+)/jobs", parts.path)
        if query.get("uploadType") == "multipart":
            boundary = re.search(r"boundary=\"?([^\";]+)", self.headers["Content-Type"]).group(1).encode()
            pieces = [part.split(b"\r\n\r\n", 1)[1] for part in body.split(b"--" + boundary)[1:3]]
            return emulator.insert_job(match.group(1), json.loads(pieces[0]), pieces[1].removesuffix(b"\r\n"))
        if "upload_id" not in query:
            upload_id = uuid.uuid4().hex
            emulator.uploads[upload_id] = (json.loads(body), bytearray())
            self.answer(200, None, [("Location", f"http://{self.headers['Host']}{self.path}&upload_id={upload_id}")])
            return None
        job, received = emulator.uploads[query["upload_id"]]
        content_range = re.match(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", "bytes */*"))
        received += body
        if content_range.group(3) == "*" or len(received) < int(content_range.group(3)):
            self.answer(308, None, [("Range", f"bytes=0-{len(received) - 1}")])
            return None
        return emulator.insert_job(match.group(1), job, bytes(received))

    def serve(self):
        emulator, parts = self.server.emulator, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        if "If-Match" in self.headers:
            query["If-Match"] = self.headers["If-Match"]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        incident = emulator.wire.receive(f"{self.command} {self.path} {body.decode('latin-1')}")
        try:
            if incident and incident.status:
                return self.answer(incident.status, incident.error_body())
            if incident and incident.request_dropped:
                return self.hang_up()
            if parts.path.startswith("/upload/"):
                response = self.upload(emulator, parts, query, body)
                if response is None:
                    return None
            else:
                response = emulator.route(
                    self.command,
                    urllib.parse.unquote(parts.path.removeprefix("/bigquery/v2")),
                    query,
                    json.loads(body) if body else {},
                )
            if incident and incident.response_lost:
                return self.hang_up()
            self.answer(200 if response is not None else 204, response)
        except ApiError as error:
            self.answer(error.status, error.body())
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as error:
            traceback.print_exc()
            self.answer(500, ApiError(500, "internalError", f"{type(error).__name__}: {error}").body())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve


def start(storage_url, wire):
    """Starts the emulator in this process on a free port; returns (server, url, emulator)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.emulator = Emulator(storage_url, wire)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}", server.emulator
