"""`pipeline schedule` and `ui`: run until they are stopped. What they serve is imported when it is used: it is slow."""

from __future__ import annotations

import argparse
import datetime
import itertools
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pipeline.commands import Commands, add_command, one_of
from pipeline.datasets import monthly_names
from pipeline.errors import PipelineError
from pipeline.files import CENTRAL_SETTINGS
from pipeline.settings import ScheduleSettings, UiSettings

if TYPE_CHECKING:
    from pipeline.schedule import CatchUp

_YEAR = datetime.timedelta(days=365)
_UI_MESSAGE = """\
The pipeline's page is at {url} (Luigi's: {url}static/visualiser/, history: {url}history, metrics: {url}metrics).
To run a task with this scheduler, in another terminal:
  LUIGI_CONFIG_PATH={central} luigi --scheduler-url {url} --module pipeline LoadTripdata --taxi green --month 2019-01
Ctrl-C stops it; its state is kept in {folder}.{warning}"""
_EXPOSED = " Anyone who can open this address can start and stop work: keep it behind a firewall."


def add_commands(commands: Commands) -> None:
    """Declares the commands."""
    command = add_command(
        commands, "schedule", "load missing months as they are published, at scheduled times", _schedule
    )
    names = one_of(monthly_names())
    command.add_argument("datasets", nargs="*", type=_monthly, metavar="DATASET", help=f"{names} (default: all)")
    command.add_argument(
        "--taxi", choices=monthly_names(), action="append", default=[], metavar="DATASET", help="the same as DATASET"
    )
    command.add_argument(
        "--once", action="store_true", help="load what is missing now, and exit with Luigi's exit code"
    )
    command.add_argument("--dry-run", action="store_true", help="print the scheduled times, and do nothing")
    command.add_argument(
        "--from", dest="since", metavar="DATE", help="with --dry-run: print times from this date on (default: now)"
    )
    command.add_argument(
        "--to", dest="until", metavar="DATE", help="with --dry-run: print times before this date (default: in a year)"
    )

    command = add_command(commands, "ui", "serve the web page, and Luigi's central scheduler", _ui)
    command.add_argument("--address", help="listen on this address instead of [ui] address")
    command.add_argument("--port", type=int, help="listen on this port instead of [ui] port")
    command.add_argument("--expose", action="store_true", help="allow an address that other machines can reach")


def _monthly(text: str) -> str:
    """Checks the name of a monthly dataset. Replaces `choices`, which does not accept an empty list of arguments."""
    if text not in monthly_names():
        known = ", ".join(map(repr, monthly_names()))
        raise argparse.ArgumentTypeError(f"invalid choice: '{text}' (choose from {known})")
    return text


def _schedule(arguments: argparse.Namespace) -> int:
    """Returns 0 when the schedule has been stopped; with `--once`, the highest exit code of the catch-ups.

    :raises PipelineError: if a dataset has no schedule, or if a schedule or date is invalid.
    """
    from pipeline.schedule import catch_ups
    from pipeline.schedule.daemon import Runner, run_forever

    a = arguments
    if (a.since or a.until) and not a.dry_run:
        raise PipelineError("--from and --to need --dry-run")
    planned = catch_ups([*a.datasets, *a.taxi])
    if a.dry_run:
        return _show_firings(planned, a.since, a.until)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    runner = Runner()
    if a.once:
        return max(runner.run(catch_up) for catch_up in planned)
    run_forever(planned, runner, ScheduleSettings().retry_minutes)
    return 0


def _show_firings(planned: list[CatchUp], since: str | None, until: str | None) -> int:
    """Prints the scheduled times from `since` until before `until`, which are in the time zone of each dataset."""
    from pipeline.schedule import format_time

    found = []
    for catch_up in planned:
        zone = ZoneInfo(catch_up.schedule.timezone)
        start = _parse_time(since, zone) if since else datetime.datetime.now(datetime.UTC)
        end = _parse_time(until, zone) if until else start + _YEAR
        if end <= start:
            raise PipelineError("--to must be after --from")
        last = end.astimezone(datetime.UTC)
        found += [(at, catch_up) for at in itertools.takewhile(last.__gt__, catch_up.firings(start))]
    for at, catch_up in sorted(found, key=lambda pair: pair[0].astimezone(datetime.UTC)):
        print(f"{format_time(at)}  {catch_up.name:<8} {catch_up.task}")
    return 0


def _parse_time(text: str, zone: ZoneInfo) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise PipelineError(f"'{text}' is not a date such as 2026-01-01, or a time such as 2026-01-01T09:00") from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _ui(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or ctrl-C, and prints the address once it listens.

    :raises PipelineError: if the address can be reached from other machines without `--expose`, or cannot be used.
    """
    from pipeline.ui import is_loopback, serve

    settings = UiSettings()
    address = arguments.address or settings.address
    option, port = ("[ui] port", settings.port) if arguments.port is None else ("--port", arguments.port)
    if not 0 < port < 65536:
        raise PipelineError(f"{option} {port}: a port is a number from 1 to 65535")
    exposed = not is_loopback(address)
    if exposed and not (arguments.expose or settings.expose):
        raise PipelineError(
            f"{address} can be reached from other machines, and there is no password;"
            f" if the network is closed to strangers, add --expose"
        )

    def print_address() -> None:
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
        central = CENTRAL_SETTINGS.name if Path(CENTRAL_SETTINGS.name).is_file() else shlex.quote(str(CENTRAL_SETTINGS))
        warning = _EXPOSED if exposed else ""
        message = _UI_MESSAGE.format(url=url, central=central, folder=settings.folder(), warning=warning)
        print(message, flush=True)

    serve(address, port, exposed, settings, print_address)
    return 0
