"""Where settings come from besides the command line: the shipped `luigi.cfg` below all else, the environment above."""

from __future__ import annotations

import configparser
import logging
import os
import warnings

import luigi
import luigi.configuration
from luigi.parameter import UnconsumedParameterWarning

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT

logger = logging.getLogger("luigi-interface")

SHIPPED_CONFIGURATION = CHECKOUT / "luigi.cfg"
ENVIRONMENT_PREFIX = "PIPELINE__"
# Luigi reads these, and then warns that nobody does.
warnings.filterwarnings("ignore", r".*'rpc_\w+' with value", UnconsumedParameterWarning)


def apply_shipped_configuration() -> None:
    """Lets the project's own `luigi.cfg` hold wherever commands are run, below any other configuration.

    Without it Luigi exits with 0 when a task fails, and cuts a backfill of old months to nothing.
    """
    config, shipped = luigi.configuration.get_config(), configparser.RawConfigParser()
    if not shipped.read(SHIPPED_CONFIGURATION, encoding="utf-8"):
        raise PipelineError(f"{SHIPPED_CONFIGURATION} is missing: run from a checkout, installed with pip install -e .")
    for section in shipped.sections():
        for key, value in shipped.items(section):
            if not config.has_option(section, key):
                config.set(section, key, value)


def apply_environment() -> None:
    """Lets `PIPELINE__<SECTION>__<KEY>` win over every configuration file, and lose to the command line."""
    config = luigi.configuration.get_config()
    families = {name.lower(): name for name in luigi.task_register.Register.task_names()} | {"resources": "resources"}
    for name in os.environ:
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or not separator:
            continue
        if section.lower() in families:
            # By reference: the parser would expand a % or ${ in the value, and show it where it cannot.
            config.set(families[section.lower()], key.lower(), f"${{{name}}}")
        else:
            logger.warning("%s is ignored: there is no section and no task '%s'", name, section.lower())
