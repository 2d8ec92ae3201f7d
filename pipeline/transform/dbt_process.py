"""Runs dbt once: its process, its log lines while it runs, and its results."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, TransientError
from pipeline.files import SHIPPED
from pipeline.warehouses import DbtProfile

PROJECT = SHIPPED / "dbt"
_CHILD = Path(__file__).with_name("dbt_child.py")
_PARSED = "partial_parse.msgpack"
_FAILED = {"error", "fail", "runtime error"}
_RUNS_KEPT = 20
_CONFLICT = "aborted due to concurrent update"  # BigQuery's error for a transaction
_TRACEBACK = "Traceback (most recent call last)"  # of an unexpected error, after its message; it is in dbt.log


@dataclass(frozen=True)
class LogLine:
    """A line of dbt's log. If it reports progress, `done` of `total` nodes are finished."""

    level: str
    message: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class NodeResult:
    """The result of one model, seed or test."""

    name: str
    status: str
    seconds: float
    message: str

    @property
    def has_failed(self) -> bool:
        return self.status in _FAILED


def invoke(
    command: Sequence[str],
    profile: DbtProfile,
    variables: Mapping[str, object],
    folder: Path,
    on_line: Callable[[LogLine], None],
) -> list[NodeResult]:
    """Returns the result of every node after dbt has succeeded.

    The artifacts and the log of the last 20 calls are kept in `folder`/runs.

    :raises PipelineError: with the node and the line, if one fails or dbt cannot start; a TransientError if another
        build is changing the same models.
    """
    run = _new_run_folder(folder, profile.target, command[0])
    known = folder / f"{profile.target}.{_PARSED}"
    with contextlib.suppress(FileNotFoundError):
        shutil.copy(known, run / _PARSED)  # so that dbt does not parse unchanged files again
    output: list[LogLine] = []
    options = ["--target", profile.target, "--vars", json.dumps(variables, sort_keys=True)]
    warehouse = profile.target.split("_")[0]  # the name of dbt's adapter
    with _started(warehouse, [*command, *options], {**profile.process_environment(), **dbt_folders(run)}) as process:
        for line in _log_lines(process):
            on_line(line)
            output.append(line)
    with contextlib.suppress(FileNotFoundError):
        (run / _PARSED).replace(known)
    results = _results(run / "run_results.json")
    if process.returncode:
        message = _failure(command[0], results, output, run)
        if _CONFLICT in message:
            raise TransientError(f"{message}; another build is changing the same models; run again")
        raise PipelineError(message)
    return results


def _new_run_folder(folder: Path, target: str, command: str) -> Path:
    started = datetime.datetime.now(datetime.UTC)
    run = folder / "runs" / f"{started:%Y%m%dT%H%M%S.%fZ}-{target}-{command}"
    run.mkdir(parents=True)
    for earlier in sorted(run.parent.iterdir(), reverse=True)[_RUNS_KEPT:]:  # the names start with the time
        shutil.rmtree(earlier, ignore_errors=True)
    return run


def dbt_folders(run: Path) -> dict[str, str]:
    """Returns the environment variables for dbt's folders. It reads the project there, and writes to `run` only."""
    return {
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(run),
        "DBT_LOG_PATH": str(run),
    }


# Processes that have imported dbt, or soon will, and wait for a command; by parent process and warehouse.
_waiting: dict[tuple[int, str], subprocess.Popen[str]] = {}


def start_early(warehouse: str) -> None:
    """Starts a process that imports dbt now, for the next `invoke` of this process. It ends with this process."""
    if (os.getpid(), warehouse) not in _waiting:
        _waiting[os.getpid(), warehouse] = _new_process(warehouse)


def _new_process(warehouse: str) -> subprocess.Popen[str]:
    # -P: dbt must not import modules of this folder. Standard input stays open as long as this process lives.
    return subprocess.Popen(
        [sys.executable, "-P", str(_CHILD), warehouse],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def _started(warehouse: str, arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    # By process id: this process may be a fork of the one that started it.
    process = _waiting.pop((os.getpid(), warehouse), None) or _new_process(warehouse)
    request = {"arguments": ["--log-format", "json", "--no-use-colors", *arguments], "environment": environment}
    with process:
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError):  # it has exited, and printed why
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            yield process
        except BaseException:
            process.terminate()
            raise


def _log_lines(process: subprocess.Popen[str]) -> Iterator[LogLine]:
    assert process.stdout
    for text in process.stdout:
        try:
            event = json.loads(text)
            info, data = event["info"], event["data"]
            level, printed = info["level"], info["msg"]
        except (ValueError, KeyError, TypeError):
            if text.strip():  # not a log line: a Python warning, a crash, or keys that dbt takes for the password
                yield LogLine("warn", text.rstrip())
            continue
        if message := " ".join(printed.partition(_TRACEBACK)[0].split()):
            finished = "index" in data and "status" in data
            yield LogLine(level, message, data["index"] if finished else None, data.get("total"))


def _results(file: Path) -> list[NodeResult]:
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text())["results"]
    except FileNotFoundError:
        return []
    return [
        NodeResult(
            name=result["unique_id"].split(".")[2],
            status=result["status"],
            seconds=result["execution_time"],
            message=" ".join((result["message"] or "").split()),
        )
        for result in found
    ]


def _failure(command: str, results: list[NodeResult], output: list[LogLine], run: Path) -> str:
    failed = [result for result in results if result.has_failed]
    if failed:
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return f"dbt {command}: {failed[0].message}{others}; its SQL and the log are in {run}"
    lines = [line for line in output if line.level == "error"] or output[-1:]
    errors = " ".join(line.message for line in lines)
    return f"dbt {command}: {errors or 'exited without a message'}; the log is in {run}"
