"""Extends Luigi's worker: permanent failures, waiting for other workers, progress messages."""

from __future__ import annotations

import json
import logging
import traceback
from types import TracebackType
from typing import Any, Literal

import luigi
import luigi.interface
import luigi.rpc
import luigi.scheduler
import luigi.worker
from luigi.task_status import DONE, FAILED, PENDING
from luigi.tools.range import RangeBase

from pipeline.errors import INTERRUPTED
from pipeline.monitoring import open_log, scheduling_failed
from pipeline.monitoring.logs import error_summary, set_up_logs

logger = logging.getLogger("luigi-interface")


class Worker(luigi.worker.Worker):
    """Luigi's worker with six differences.

    - Failures that on_failure() declares permanent are not retried in this run, whatever `[scheduler]` says.
    - Tasks that failed in an earlier run are run again.
    - Failures are repeated before Luigi's summary if other tasks were logged after them.
    - With `[worker] keep_alive`, it logs and waits for its tasks that another worker runs.
    - Modules that are slow to import are imported before forking.
    - Ctrl-C ends it with a message of one line and exit code 130.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._requested: set[str] = set()
        self._awaited: set[tuple[str, str]] = set()
        self._finished: set[str] = set()
        self._failed: dict[str, str] = {}
        self._last_finished = ""

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        super().__exit__(error_type, error, trace)  # type: ignore[no-untyped-call]
        if error_type is KeyboardInterrupt:
            logger.error("interrupted; completed tasks stay complete: run the same command again to continue")
            raise SystemExit(INTERRUPTED) from None
        return False

    def run(self) -> bool:
        """Returns whether all tasks succeeded; tasks taken over from another worker count as this worker's."""
        succeeded = bool(super().run())  # type: ignore[no-untyped-call]
        for answer in self._get_work_response_history:
            answer["running_tasks"] = [one for one in answer["running_tasks"] if one["task_id"] not in self._finished]
        if list(self._failed) == [self._last_finished]:
            return succeeded  # just logged
        for task_id, error in self._failed.items():
            logger.error("failed    %s: %s", self._scheduled_tasks[task_id], error)
        return succeeded

    def _create_task_process(self, task: luigi.Task) -> Any:
        """Opens the run's log, and calls the task's `before_fork`, which imports modules: once, not in each process."""
        open_log()
        if prepare := getattr(task, "before_fork", None):
            prepare()
        return super()._create_task_process(task)  # type: ignore[no-untyped-call]

    def _log_complete_error(self, task: luigi.Task, trace: str) -> None:
        scheduling_failed(task, trace)

    def _log_dependency_error(self, task: luigi.Task, trace: str) -> None:
        scheduling_failed(task, trace)

    def _log_unexpected_error(self, task: luigi.Task) -> None:
        scheduling_failed(task, traceback.format_exc())

    def _add_task(self, *args: Any, **kwargs: Any) -> None:
        """Reports a task's status to the scheduler."""
        task_id, status = kwargs["task_id"], kwargs["status"]
        if status == PENDING and kwargs["runnable"] and task_id not in self._requested:
            self._requested.add(task_id)
            open_log()
            self._scheduler.re_enable_task(task_id)
        if status == FAILED:
            failure = json.loads(kwargs["expl"])
            if isinstance(failure, dict):
                kwargs["expl"] = json.dumps(failure["error"])
                if failure["permanent"]:
                    self._disable_after_next_failure(task_id)
            self._failed[task_id] = error_summary(json.loads(kwargs["expl"]))
        if status in (DONE, FAILED) and task_id in self._requested:
            self._last_finished = task_id
        super()._add_task(*args, **kwargs)  # type: ignore[no-untyped-call]
        if status == DONE and task_id in self._requested:
            self._finished.add(task_id)
            self._failed.pop(task_id, None)
            self._log_progress(task_id)

    def _disable_after_next_failure(self, task_id: str) -> None:
        """Makes the scheduler disable a task after its next failure; for a batch, each of its tasks."""
        batch = self._batch_running_tasks[task_id] = list(self._batch_running_tasks.get(task_id, []))
        for task in {self._scheduled_tasks[task_id], *batch}:
            # This changes only the retry policy of a running task, not its status.
            self._scheduler.add_task(
                worker=self._id,
                task_id=task.task_id,
                runnable=False,
                resources=task.process_resources(),
                retry_policy_dict={"retry_count": 1},
            )

    def _log_progress(self, task_id: str) -> None:
        """Logs how many months of a range are done."""
        first = self._scheduled_tasks.get(self._first_task)
        if not isinstance(first, RangeBase):
            return
        months = {task.task_id for task in first.deps()}
        if task_id in months and len(months) > 1:
            logger.info("%d of %d months done", len(months & self._finished), len(months))

    def _log_remote_tasks(self, get_work_response: luigi.worker.GetWorkResponse) -> None:
        """Logs once for each task that it waits for another worker."""
        for running in get_work_response.running_tasks if self._config.keep_alive else []:
            key = running["task_id"], running["worker"]
            if running["worker"] != self._id and key not in self._awaited:  # the scheduler lists this worker's own, too
                self._awaited.add(key)
                logger.info(
                    "waiting for %s, run by process %s on %s; if that has died, this run takes it over within a minute",
                    self._scheduled_tasks.get(running["task_id"], running["task_id"]),
                    running.get("pid", "?"),
                    running.get("host", "?"),
                )

    def _keep_alive(self, get_work_response: luigi.worker.GetWorkResponse) -> bool:
        """Returns whether to wait for work; unlike Luigi's, also while another worker runs its last tasks."""
        others = self._config.keep_alive and not self._stop_requesting_work and get_work_response.running_tasks
        return bool(others) or bool(super()._keep_alive(get_work_response))  # type: ignore[no-untyped-call]


class WorkerFactory(luigi.interface._WorkerSchedulerFactory):
    """Creates the workers of `luigi` commands."""

    def create_worker(
        self, scheduler: luigi.scheduler.Scheduler, worker_processes: int, assistant: bool = False
    ) -> Worker:
        set_up_logs()
        return Worker(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)


def register_worker() -> None:
    """Makes `luigi` commands use `Worker`."""
    luigi.interface._WorkerSchedulerFactory = WorkerFactory  # type: ignore[misc]
