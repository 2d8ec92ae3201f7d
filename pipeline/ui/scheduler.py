"""Luigi's scheduler, with the one answer changed that lets a run wait for what another one has at hand."""

from __future__ import annotations

import time
from typing import Any

from luigi.scheduler import Scheduler

# Workers ping every second.
_SILENT_SECONDS = 3


class WaitingScheduler(Scheduler):
    """Counts what other workers run as pending, too, so that a worker with `[worker] keep_alive` stays till it is done.

    Luigi itself counts it only once the other worker is known to be dead: a run that was started again within
    `worker_disconnect_delay` of a `kill -9` would find nothing to do, and end. What a silent worker had at hand is not
    told as running, so that the run that takes it over does not end with the exit code of work that others do.
    """

    def count_pending(self, worker: str) -> dict[str, Any]:
        answer: dict[str, Any] = super().count_pending(worker)
        running, since = answer["running_tasks"], time.time() - _SILENT_SECONDS
        answer["n_pending_tasks"] += len(running)
        answer["running_tasks"] = [
            task for task in running if self._state.get_worker(task["worker"]).last_active > since
        ]
        return answer
