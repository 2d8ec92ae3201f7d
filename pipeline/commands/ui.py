"""`pipeline ui`: serves the web page and Luigi's central scheduler."""

from __future__ import annotations

from pipeline.errors import PipelineError
from pipeline.settings import UiSettings

_MESSAGE = """\
The pipeline's page is at {url} (Luigi's: {url}static/visualiser/, history: {url}history, metrics: {url}metrics).
To run a task with this scheduler, in another terminal:
  LUIGI_CONFIG_PATH=central.cfg luigi --scheduler-url {url} --module pipeline LoadTripdata --taxi green --month 2019-01
Ctrl-C stops it; its state is kept in {folder}.{warning}"""


def run(address: str | None, port: int | None, expose: bool) -> int:
    """Serves until SIGTERM or ctrl-C, and prints the address once it listens.

    :raises PipelineError: if the address can be reached from other machines without `expose`, or cannot be used.
    """
    from pipeline.ui.server import is_loopback, serve  # the web server takes a while to import

    settings = UiSettings()
    address, port = address or settings.address, settings.port if port is None else port
    if not 0 < port < 65536:
        raise PipelineError(f"--port {port}: a port is a number from 1 to 65535")
    local = is_loopback(address)
    if not local and not (expose or settings.expose):
        raise PipelineError(
            f"{address} can be reached from other machines, and there is no password;"
            f" if the network is closed to strangers, add --expose"
        )

    def print_address() -> None:
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
        warning = (
            "" if local else " Anyone who can open this address can start and stop work: keep it behind a firewall."
        )
        print(_MESSAGE.format(url=url, folder=settings.folder(), warning=warning), flush=True)

    serve(address, port, settings.folder(), settings.history, settings.host_names(), print_address)
    return 0
