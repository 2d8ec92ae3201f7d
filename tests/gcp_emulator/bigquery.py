"""BigQuery's REST API over real HTTP."""

from __future__ import annotations

import gzip
import json
import re
import threading
import traceback
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .errors import ApiError, only, unsupported
from .jobs import HIDDEN, Jobs


class Emulator(Jobs):
    """All of it; what is not implemented answers 501."""

    def route(self, method, path, query, body):
        """One API call; returns the JSON answer."""
        m = re.fullmatch(r"/projects/([^/]+)/(datasets|jobs|queries)(?:/([^/]+))?(?:/tables)?(/[^/]+)?", path)
        if not m:
            raise unsupported(f"{method} {path}")
        project, what, name, table = m.groups()
        if what == "queries":
            return self.query_call(method, project, name, query, body)
        if what == "jobs":
            return self.job_call(method, project, name, query, body)
        if name is None:
            return self.datasets_call(method, project, body)
        if name == HIDDEN and table:
            return self.results_table(project, table[1:])
        with self.lock:
            if table:
                return self.table_call(method, project, name, table[1:], body)
            if path.endswith("/tables"):
                return self.tables_call(method, project, name, body)
            return self.dataset_call(method, project, name, query, body)

    def query_call(self, method, p, x, query, body):
        if method != "POST":
            return self.results(self.find_job(p, x, query), query)
        keep = {
            k: body[k]
            for k in (
                "query",
                "queryParameters",
                "parameterMode",
                "defaultDataset",
                "maximumBytesBilled",
                "useQueryCache",
                "useLegacySql",
            )
            if k in body
        }
        only(
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
        jid = self.requests.get(body.get("requestId"))
        if jid is None:
            job = {
                "jobReference": {"location": body["location"]} if body.get("location") else {},
                "configuration": {"query": keep, "labels": body.get("labels")},
            }
            jid = self.insert_job(p, job)["jobReference"]["jobId"]
            if body.get("requestId"):
                self.requests[body["requestId"]] = jid
        fmt = {"formatOptions.useInt64Timestamp": (body.get("formatOptions") or {}).get("useInt64Timestamp", False)}
        wanted = {"maxResults": body.get("maxResults"), "timeoutMs": body.get("timeoutMs", 10000), **fmt}
        return self.results(self.find_job(p, jid, {}), wanted) | {"kind": "bigquery#queryResponse"}

    def job_call(self, method, p, x, query, body):
        if method == "POST" and x is None:
            return self.insert_job(p, body)
        if method != "GET" or x is None:
            raise unsupported(f"{method} of jobs")
        job = self.find_job(p, x, query)
        job["_done"].wait(0.2)
        return self.job(job)

    def results_table(self, p, t):
        """The hidden table of a query's results, which may still be on its way."""
        job = self.find_job(p, t.removeprefix("anon"), {})
        job["_done"].wait(60)
        fields, rows = job["_result"]
        return {
            "kind": "bigquery#table",
            "id": f"{p}:{HIDDEN}.{t}",
            "tableReference": {"projectId": p, "datasetId": HIDDEN, "tableId": t},
            "type": "TABLE",
            "schema": {"fields": fields},
            "numRows": str(len(rows)),
            "numBytes": "0",
            "location": job["jobReference"]["location"],
        }

    def datasets_call(self, method, p, body):
        if method == "POST":
            return self.new_dataset(p, body)
        shown = ("kind", "id", "datasetReference", "labels", "location")
        return {
            "kind": "bigquery#datasetList",
            "datasets": [{k: r[k] for k in shown if k in r} for (dp, _), r in self.datasets.items() if dp == p],
        }

    def dataset_call(self, method, p, d, query, body):
        ds = self.dataset(p, d)
        if method == "GET":
            return ds
        if method == "DELETE":
            return self.drop_dataset(p, d, query.get("deleteContents") == "true")
        return self.patch(
            ds,
            body,
            ("description", "friendlyName", "labels", "defaultTableExpirationMs", "defaultPartitionExpirationMs"),
        )

    def tables_call(self, method, p, d, body):
        if method == "POST":
            return self.new_table(p, d, body)
        self.dataset(p, d)
        mine = [self.shown(r, False) for k, r in sorted(self.tables.items()) if k[:2] == (p, d)]
        return {"kind": "bigquery#tableList", "tables": mine, "totalItems": len(mine)}

    def table_call(self, method, p, d, t, body):
        r = self.table(p, d, t)
        if method == "DELETE":
            return self.drop(p, d, t)
        if method == "GET":
            return self.shown(r)
        return self.shown(
            self.patch(r, body, ("description", "friendlyName", "labels", "expirationTime", "clustering"))
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=None, headers=()):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def upload(self, emu, parts, query, body):
        m = re.fullmatch(r"/upload/bigquery/v2/projects/([^/]+)/jobs", parts.path)
        if query.get("uploadType") == "multipart":
            bound = re.search(r"boundary=\"?([^\";]+)", self.headers["Content-Type"]).group(1).encode()
            pieces = [x.split(b"\r\n\r\n", 1)[1] for x in body.split(b"--" + bound)[1:3]]
            return emu.insert_job(m.group(1), json.loads(pieces[0]), pieces[1].removesuffix(b"\r\n"))
        if "upload_id" not in query:
            uid = uuid.uuid4().hex
            emu.uploads[uid] = (json.loads(body), bytearray())
            self.answer(200, None, [("Location", f"http://{self.headers['Host']}{self.path}&upload_id={uid}")])
            return None
        meta, got = emu.uploads[query["upload_id"]]
        rng = re.match(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", "bytes */*"))
        got += body
        if rng.group(3) == "*" or len(got) < int(rng.group(3)):
            self.answer(308, None, [("Range", f"bytes=0-{len(got) - 1}")])
            return None
        return emu.insert_job(m.group(1), meta, bytes(got))

    def serve(self):
        emu, parts = self.server.emulator, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        incident = emu.wire.receive(f"{self.command} {self.path} {body.decode('latin-1')}")
        try:
            if incident and incident.status:
                return self.answer(incident.status, incident.answer())
            if incident and incident.dropped:
                return self.hang_up()
            if parts.path.startswith("/upload/"):
                out = self.upload(emu, parts, query, body)
                if out is None:
                    return None
            else:
                out = emu.route(
                    self.command,
                    urllib.parse.unquote(parts.path.removeprefix("/bigquery/v2")),
                    query,
                    json.loads(body) if body else {},
                )
            if incident and incident.lost:
                return self.hang_up()
            self.answer(200 if out is not None else 204, out)
        except ApiError as e:
            self.answer(e.status, e.body())
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as e:
            traceback.print_exc()
            self.answer(500, ApiError(500, "internalError", f"{type(e).__name__}: {e}").body())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve


def start(gcs_host, wire):
    """Start in this process on a free port; returns (server, url, emulator)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.emulator = Emulator(gcs_host, wire)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}", server.emulator
