"""Where settings come from besides the command line: the shipped `luigi.cfg` below all else, the environment above."""

from __future__ import annotations

import configparser
import gc
import logging
import os
import warnings
from pathlib import Path

import luigi
import luigi.configuration
from luigi.parameter import UnconsumedParameterWarning

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT
from pipeline.monitoring.events import register_events
from pipeline.tasks.base import OneLineErrors
from pipeline.worker import register_worker

SHIPPED_CONFIGURATION = CHECKOUT / "luigi.cfg"
ENVIRONMENT_PREFIX = "PIPELINE__"


def configure() -> None:
    """Sets Luigi up as the project needs it: settings, one-line errors, monitoring. Called once, by the entry points.

    :raises PipelineError: when a setting that is given cannot hold.
    """
    # Luigi reads these, and then warns that nobody does.
    warnings.filterwarnings("ignore", r".*'rpc_\w+' with value", UnconsumedParameterWarning)
    apply_shipped_configuration()
    apply_environment()
    logging.getLogger("luigi-interface").addFilter(OneLineErrors())
    register_events()
    register_worker()
    # What is imported by now stays to the end of the process: the collector need not look at it again, least of all
    # when the process ends (which takes it 50 ms), and forked workers go on sharing its memory.
    gc.freeze()


def apply_shipped_configuration() -> None:
    """Lets the project's own `luigi.cfg` hold wherever commands are run, below any other configuration.

    Without it Luigi exits with 0 when a task fails, and cuts a backfill of old months to nothing.
    """
    if (named := os.environ.get("LUIGI_CONFIG_PATH")) and not Path(named).is_file():
        raise PipelineError(f"LUIGI_CONFIG_PATH: there is no {Path(named).absolute()}; name a file that is there")
    config, shipped = luigi.configuration.get_config(), configparser.RawConfigParser()
    if not shipped.read(SHIPPED_CONFIGURATION, encoding="utf-8"):
        raise PipelineError(f"{SHIPPED_CONFIGURATION} is missing: run from a checkout, installed with pip install -e .")
    for section in shipped.sections():
        for key, value in shipped.items(section):
            if not config.has_option(section, key):
                config.set(section, key, value)


def apply_environment() -> None:
    """Lets `PIPELINE__<SECTION>__<KEY>` win over every configuration file, and lose to the command line.

    An empty variable is as good as none, as in a file of variables of which some are not filled in.

    :raises PipelineError: when there is no such section: the setting that was meant would not hold.
    """
    config = luigi.configuration.get_config()
    families = {name.lower(): name for name in luigi.task_register.Register.task_names()} | {"resources": "resources"}
    for name, value in os.environ.items():
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or not separator or not value:
            continue
        if section.lower() in families:
            # By reference: the parser would expand a % or ${ in the value, and show it where it cannot.
            config.set(families[section.lower()], key.lower(), f"${{{name}}}")
        else:
            raise PipelineError(f"{name}: there is no section and no task '{section.lower()}'")
