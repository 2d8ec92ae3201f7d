"""The page, its files, and its HTTP API (docs/ui.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tornado.web
from luigi.scheduler import Scheduler
from luigi.server import RPCHandler
from tornado.escape import xhtml_escape

from pipeline.datasets import monthly_names
from pipeline.errors import PipelineError
from pipeline.settings import StorageSettings
from pipeline.ui.guard import Guard
from pipeline.ui.state import State, lineage_file
from pipeline.warehouses import WAREHOUSES, configured_warehouses

HERE = Path(__file__).parent
_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
_LONGEST_BODY = 10_000
# Luigi's page inserts what these answer as HTML.
_SHOWN_AS_HTML = {"get_task_status_message": "statusMessage", "get_scheduler_message_response": "response"}


class Handler(tornado.web.RequestHandler):
    """What the handlers of the page have in common."""

    def initialize(self, state: State, guard: Guard, scheduler: Scheduler) -> None:
        self.state = state
        self.guard = guard
        self.scheduler = scheduler

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", _POLICY)

    def write_error(self, status_code: int, **context: Any) -> None:
        self.finish_json({"error": self._reason}, status_code)

    def finish_json(self, content: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(content, default=str, separators=(",", ":")))

    async def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Asks in a thread: a warehouse may take its time, and the scheduler must go on."""
        return await asyncio.get_running_loop().run_in_executor(None, question, *arguments)


class Page(Handler):
    """The page itself."""

    def get(self) -> None:
        token = self.guard.token if self.guard.may_show_token(self.request) else ""
        page = (HERE / "templates" / "index.html").read_text()
        self.finish(page.replace("{{ token }}", xhtml_escape(token)))

    def head(self) -> None:
        self.set_status(204)
        self.finish()


class GridApi(Handler):
    """Months, and what else the first tab shows."""

    async def get(self) -> None:
        self.finish_json(await self.ask(self.state.grid))


class MonthApi(Handler):
    """A month's card."""

    async def get(self, warehouse: str, dataset: str, month: str) -> None:
        if warehouse not in configured_warehouses() or dataset not in monthly_names():
            raise tornado.web.HTTPError(404, reason="no such warehouse or dataset")
        self.finish_json(await self.ask(self.state.month, warehouse, f"{dataset}/{month}"))


class OverviewApi(Handler):
    """Schedules and alerts."""

    async def get(self) -> None:
        shown = {"schedules": self.state.schedules, "alerts": self.state.alerts}
        self.finish_json({name: await self.ask(question) for name, question in shown.items()})


class RunsApi(Handler):
    """The runs, and starting one."""

    async def get(self) -> None:
        self.finish_json(await self.ask(self.state.run_list))

    async def post(self) -> None:
        if not self.guard.allows_change(self.request):
            self.finish_json({"error": "the token is missing or wrong: Authorization: Bearer TOKEN"}, 401)
            return
        try:
            request = json.loads(self.request.body[:_LONGEST_BODY])
            if not isinstance(request, dict):
                raise ValueError
        except ValueError:
            self.finish_json({"error": "the body is not a JSON object"}, 400)
            return
        try:
            run, is_new = self.state.runs.start(request)
        except PipelineError as error:
            self.finish_json({"error": str(error)}, 400)
            return
        self.set_header("Location", f"/api/pipeline/runs/{run.id}")
        self.finish_json(
            {"id": run.id, "title": run.title, "status": run.status, "new": is_new}, 201 if is_new else 200
        )


class RunApi(Handler):
    """One run: its state with tasks and log, and ending it."""

    async def get(self, run_id: str) -> None:
        run = await self.ask(self.state.run, unquote(run_id))
        if run is None:
            raise tornado.web.HTTPError(404, reason="no such run")
        is_live = run["status"] in ("running", "stopping")
        self.finish_json({**run, "live": live_tasks(self.scheduler, run["pid"]) if is_live else None})

    async def delete(self, run_id: str) -> None:
        if not self.guard.allows_change(self.request):
            self.finish_json({"error": "the token is missing or wrong: Authorization: Bearer TOKEN"}, 401)
            return
        cancelled = await self.ask(self.state.cancel, unquote(run_id))
        if cancelled is None:
            self.finish_json({"error": "no such run"}, 404)
        else:
            self.finish_json(cancelled)


class LogApi(Handler):
    """A run's log as text: JSON, a line an event; or, of a run that has none, what its process wrote."""

    async def get(self, run_id: str) -> None:
        run = await self.ask(self.state.run, unquote(run_id))
        if run is None:
            raise tornado.web.HTTPError(404, reason="no such run")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("".join(json.dumps(line) + "\n" for line in run["lines"]) or run["output"])


class Document(Handler):
    """The report on a warehouse with its files, and dbt's lineage: pages that the pipeline wrote itself."""

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "sandbox allow-scripts; frame-ancestors 'none'")

    def get(self, warehouse: str = "") -> None:
        file = lineage_file()
        if warehouse:
            file = StorageSettings().report_folder(warehouse) / "index.html"
        if (warehouse and warehouse not in WAREHOUSES) or not file.exists():
            raise tornado.web.HTTPError(404, reason="it has not been made yet")
        self.finish(file.read_bytes())


class SchedulerApi(RPCHandler):
    """Luigi's own API, which workers and Luigi's pages use; what those insert as HTML is escaped."""

    def write(self, chunk: Any) -> None:
        method = self.path_args[0] if self.path_args else ""
        name = _SHOWN_AS_HTML.get(method)
        answer = chunk.get("response") if isinstance(chunk, dict) else None
        if name and isinstance(answer, dict) and isinstance(answer.get(name), str):
            chunk = {"response": {**answer, name: xhtml_escape(answer[name])}}
        super().write(chunk)


def live_tasks(scheduler: Scheduler, pid: int) -> dict[str, Any]:
    """What the scheduler knows of a process's tasks: those that run, and how many wait."""
    mark = f"pid={pid})"
    running = [
        {
            "name": task["display_name"],
            "message": task["status_message"] or "",
            "percent": task["progress_percentage"],
        }
        for task in scheduler.task_list("RUNNING", "").values()
        if mark in (task["worker_running"] or "")
    ]
    waiting = [
        task for task in scheduler.task_list("PENDING", "").values() if any(mark in one for one in task["workers"])
    ]
    return {"running": running, "waiting": len(waiting)}


def page_handlers(state: State, guard: Guard, scheduler: Scheduler) -> list[tuple[Any, ...]]:
    """The routes of the page and its API."""
    common = {"state": state, "guard": guard, "scheduler": scheduler}
    run = r"([\w-]+)"
    return [
        (r"/", Page, common),
        (r"/ui/(.*)", tornado.web.StaticFileHandler, {"path": str(HERE / "static")}),
        (r"/report/(\w+)/?", Document, common),
        (r"/lineage/?", Document, common),
        (r"/api/pipeline/grid", GridApi, common),
        (r"/api/pipeline/overview", OverviewApi, common),
        (r"/api/pipeline/months/(\w+)/(\w+)/(\d{4}-\d\d)", MonthApi, common),
        (r"/api/pipeline/runs", RunsApi, common),
        (rf"/api/pipeline/runs/{run}", RunApi, common),
        (rf"/api/pipeline/runs/{run}/log", LogApi, common),
    ]
