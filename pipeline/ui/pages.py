"""The handlers of the page, its files and its HTTP API (docs/ui.md)."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import tornado.web
from luigi.scheduler import Scheduler
from luigi.server import RPCHandler
from tornado.escape import xhtml_escape

from pipeline.datasets import monthly_names
from pipeline.errors import PipelineError
from pipeline.settings import StorageSettings
from pipeline.ui.guard import Guard
from pipeline.ui.runs import ACTIVE
from pipeline.ui.state import State, lineage_file
from pipeline.warehouses import WAREHOUSES, configured_warehouses

HERE = Path(__file__).parent
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)
_MAX_BODY_LENGTH = 10_000
# Luigi's page inserts these fields of these methods' responses as HTML.
_INSERTED_AS_HTML = {"get_task_status_message": "statusMessage", "get_scheduler_message_response": "response"}


class Handler(tornado.web.RequestHandler):
    """Base class of the handlers of the page. They query in threads, as a query must not block the scheduler."""

    def initialize(self, state: State, guard: Guard, scheduler: Scheduler) -> None:
        self.state, self.guard, self.scheduler = state, guard, scheduler

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", _CONTENT_SECURITY_POLICY)

    def write_error(self, status_code: int, **context: Any) -> None:
        self.finish_json({"error": self._reason}, status_code)

    def finish_json(self, content: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(content, default=str, separators=(",", ":")))

    def require_token(self) -> None:
        """:raises tornado.web.HTTPError: if the request may not change anything."""
        if not self.guard.allows_change(self.request):
            raise tornado.web.HTTPError(401, reason="the token is missing or wrong: Authorization: Bearer TOKEN")

    async def find_run(self, run_id: str) -> dict[str, Any]:
        """:raises tornado.web.HTTPError: if there is no such run."""
        run = await asyncio.to_thread(self.state.runs.find, run_id)
        if run is None:
            raise tornado.web.HTTPError(404, reason="no such run")
        return run


class Page(Handler):
    """The page itself."""

    def get(self) -> None:
        token = self.guard.token if self.guard.may_show_token(self.request) else ""
        page = (HERE / "templates" / "index.html").read_text()
        self.finish(page.replace("{{ token }}", xhtml_escape(token)))

    def head(self) -> None:
        self.set_status(204)
        self.finish()


class TabApi(Handler):
    """The content of a tab: the grid of months, or schedules and alerts."""

    async def get(self, name: str) -> None:
        self.finish_json(await asyncio.to_thread(getattr(self.state, name)))


class MonthApi(Handler):
    """The details of one month."""

    async def get(self, warehouse: str, dataset: str, month: str) -> None:
        if warehouse not in configured_warehouses() or dataset not in monthly_names():
            raise tornado.web.HTTPError(404, reason="no such warehouse or dataset")
        self.finish_json(await asyncio.to_thread(self.state.month, warehouse, f"{dataset}/{month}"))


class RunsApi(Handler):
    """GET lists the runs; POST starts one."""

    async def get(self) -> None:
        self.finish_json(await asyncio.to_thread(self.state.runs.all))

    async def post(self) -> None:
        self.require_token()
        try:
            request = json.loads(self.request.body[:_MAX_BODY_LENGTH])
            if not isinstance(request, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise tornado.web.HTTPError(400, reason="the body is not a JSON object") from None
        try:
            run, is_new = self.state.runs.start(request)
        except PipelineError as error:
            self.finish_json({"error": str(error)}, 400)
            return
        self.set_header("Location", f"/api/pipeline/runs/{run['id']}")
        found = {name: run[name] for name in ("id", "title", "status")} | {"new": is_new}
        self.finish_json(found, 201 if is_new else 200)


class RunApi(Handler):
    """GET returns a run's status, tasks and log; DELETE cancels the run."""

    async def get(self, run_id: str) -> None:
        run = await self.find_run(run_id)
        live = _live_tasks(self.scheduler, run["pid"]) if run["status"] in ACTIVE else None
        self.finish_json({**run, "live": live})

    async def delete(self, run_id: str) -> None:
        self.require_token()
        cancelled = await asyncio.to_thread(self.state.runs.cancel, run_id)
        if cancelled is None:
            raise tornado.web.HTTPError(404, reason="no such run")
        if cancelled["stopped"]:
            _release_tasks(self.scheduler, cancelled["pid"])
        self.finish_json(cancelled)


class LogApi(Handler):
    """A run's log as text, one JSON object per line; or the output of its process if there is no log."""

    async def get(self, run_id: str) -> None:
        run = await self.find_run(run_id)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("".join(json.dumps(line) + "\n" for line in run["lines"]) or run["output"])


class Document(Handler):
    """Pages that the pipeline has written: the report on a warehouse, and dbt's lineage."""

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "sandbox allow-scripts; frame-ancestors 'none'")

    def get(self, warehouse: str = "") -> None:
        file = StorageSettings().report_page(warehouse) if warehouse else lineage_file()
        if (warehouse and warehouse not in WAREHOUSES) or not file.exists():
            raise tornado.web.HTTPError(404, reason="it has not been written yet")
        self.finish(file.read_bytes())


class SchedulerApi(RPCHandler):
    """Luigi's own API, for workers and Luigi's pages; escapes the fields that those pages insert as HTML."""

    def write(self, chunk: Any) -> None:
        method = self.path_args[0] if self.path_args else ""
        name = _INSERTED_AS_HTML.get(method)
        response = chunk.get("response") if isinstance(chunk, dict) else None
        if name and isinstance(response, dict) and isinstance(response.get(name), str):
            chunk = {"response": {**response, name: xhtml_escape(response[name])}}
        super().write(chunk)


def _live_tasks(scheduler: Scheduler, pid: int) -> dict[str, Any]:
    """Returns a process's running tasks and the number of its waiting tasks, according to the scheduler."""
    worker_suffix = f"pid={pid})"
    running = [
        {"name": task["display_name"], "message": task["status_message"] or "", "percent": task["progress_percentage"]}
        for task in scheduler.task_list("RUNNING", "").values()
        if worker_suffix in (task["worker_running"] or "")
    ]
    pending = scheduler.task_list("PENDING", "").values()
    waiting = sum(any(worker_suffix in worker for worker in task["workers"]) for task in pending)
    return {"running": running, "waiting": waiting}


def _release_tasks(scheduler: Scheduler, pid: int) -> None:
    """Lets other runs have the tasks of a process of this machine that was ended, instead of waiting for its pings."""
    suffix = f"pid={pid})"
    host = f"host={socket.gethostname()}, "
    gone = [worker["name"] for worker in scheduler.worker_list(include_running=False)]
    gone = [name for name in gone if name.endswith(suffix) and host in name]
    scheduler._state.inactivate_workers(gone)
    scheduler.prune()


def page_handlers(state: State, guard: Guard, scheduler: Scheduler) -> list[tuple[Any, ...]]:
    """Returns the routes of the page and its API."""
    common = {"state": state, "guard": guard, "scheduler": scheduler}
    run = r"([\w-]+)"
    return [
        (r"/", Page, common),
        (r"/ui/(.*)", tornado.web.StaticFileHandler, {"path": str(HERE / "static")}),
        (r"/report/(\w+)/?", Document, common),
        (r"/lineage/?", Document, common),
        (r"/api/pipeline/(grid|overview)", TabApi, common),
        (r"/api/pipeline/months/(\w+)/(\w+)/(\d{4}-\d\d)", MonthApi, common),
        (r"/api/pipeline/runs", RunsApi, common),
        (rf"/api/pipeline/runs/{run}", RunApi, common),
        (rf"/api/pipeline/runs/{run}/log", LogApi, common),
    ]
