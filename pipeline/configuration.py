"""Where settings come from besides the command line: the shipped `luigi.cfg` below all else, the environment above."""

from __future__ import annotations

import configparser
import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import luigi
import luigi.configuration
from luigi.configuration.cfg_parser import LuigiConfigParser
from luigi.parameter import UnconsumedParameterWarning
from luigi.task_register import Register

from pipeline.errors import PipelineError, nearest
from pipeline.files import SHIPPED, data_home
from pipeline.monitoring.events import register_events
from pipeline.worker import register_worker

SHIPPED_CONFIGURATION = SHIPPED / "luigi.cfg"
ENVIRONMENT_PREFIX = "PIPELINE__"
# Of Luigi's own sections those that are no class of settings: https://luigi.readthedocs.io/en/stable/configuration.html
_LUIGI_SECTIONS = {
    *("DEFAULT", "resources", "logging", "email", "task_history", "worker_task_callback"),
    *("prometheus", "datadog", "external_daily_snapshot", "hadoop", "hdfs", "webhdfs", "spark", "mysql", "redshift"),
    *("s3", "execution_summary", "batch_notifier", "gcs", "bigquery", "kubernetes", "ftp", "salesforce", "scalding"),
}

# Settings that may name a folder; a relative one is not below the folder that a command happens to run in.
_FOLDERS = (("storage", "root"), ("source", "base_url"), ("source", "tlc_base_url"))


def configure() -> None:
    """Sets Luigi up as the project needs it: settings, one-line errors, monitoring. Called once, by the entry points.

    :raises PipelineError: when a setting that is given cannot hold.
    """
    # Luigi reads these, and then warns that nobody does.
    warnings.filterwarnings("ignore", r".*'rpc_\w+' with value", UnconsumedParameterWarning)
    fix_relative_folders()
    apply_shipped_configuration()
    apply_environment()
    check_sections()
    register_events()
    register_worker()
    # What is imported by now stays to the end of the process: the collector need not look at it again, least of all
    # when the process ends (which takes it 50 ms), and forked workers go on sharing its memory.
    gc.freeze()


def fix_relative_folders() -> None:
    """Makes a relative folder in a configuration file one below the folder of that file."""
    config = luigi.configuration.get_config()
    for file, given in _given_files():
        for section, key in _FOLDERS:
            if _is_relative(value := given.get(section, key, fallback="")):
                config.set(section, key, _below(file.absolute().parent, value))


def _is_relative(value: str) -> bool:
    return bool(value) and not value.startswith(("/", "~", "$")) and "://" not in value


def _below(folder: Path, value: str) -> str:
    return f"{folder}/".replace("%", "%%") + value


def _given_files() -> Iterator[tuple[Path, configparser.RawConfigParser]]:
    """The configuration files that Luigi has read, the lowest first; not the shipped one, unless it is among them."""
    for name in LuigiConfigParser._config_paths:
        given = configparser.RawConfigParser()
        if given.read(name, encoding="utf-8"):
            yield Path(name), given


def apply_shipped_configuration() -> None:
    """Lets the project's own `luigi.cfg` hold wherever commands are run, below any other configuration.

    Without it Luigi exits with 0 when a task fails, and cuts a backfill of old months to nothing.
    """
    if (named := os.environ.get("LUIGI_CONFIG_PATH")) and not Path(named).is_file():
        raise PipelineError(f"LUIGI_CONFIG_PATH: there is no {Path(named).absolute()}; name a file that is there")
    config, shipped = luigi.configuration.get_config(), configparser.RawConfigParser()
    if not shipped.read(SHIPPED_CONFIGURATION, encoding="utf-8"):
        raise PipelineError(f"{SHIPPED_CONFIGURATION} is missing: install the package again")
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
    families = {name.lower(): name for name in Register.task_names()} | {"resources": "resources"}
    for name, value in os.environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            _check_misspelt(name, families)
            continue
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not separator:
            _check_misspelt(name, families)
            raise PipelineError(f"{name}: a setting is named {ENVIRONMENT_PREFIX}<SECTION>__<KEY>")
        if not value:
            continue
        if section.lower() not in families:
            hint = nearest(section.lower(), families, "did you mean {}?", start="; ")
            raise PipelineError(f"{name}: there is no section and no task '{section.lower()}'{hint}")
        # By reference: the parser would expand a % or ${ in the value, and show it where it cannot.
        reference = f"${{{name}}}"
        if (section.lower(), key.lower()) in _FOLDERS and _is_relative(value):
            reference = _below(data_home(), reference)
        config.set(families[section.lower()], key.lower(), reference)


def _check_misspelt(name: str, families: Mapping[str, str]) -> None:
    """Refuses a variable that is a setting's but for its underscores, as it would change nothing.

    Others may begin with PIPELINE too: those of the services that run builds do.
    """
    if not name.upper().startswith("PIPELINE_"):
        return
    words = name.upper().removeprefix("PIPELINE").strip("_").lower()
    for section, family in families.items():
        key = words.removeprefix(section).strip("_")
        if words.startswith(f"{section}_") and key in _keys_of(family):
            meant = f"{ENVIRONMENT_PREFIX}{section.upper()}__{key.upper()}"
            raise PipelineError(f"{name} is not read; did you mean {meant}?")


def check_sections() -> None:
    """Refuses a section that is not there but looks like one that is, and a parameter that a task does not have.

    What was meant would not hold. A file may serve other projects too, whose sections are not looked at.

    :raises PipelineError: naming what was meant.
    """
    config, families = luigi.configuration.get_config(), set(Register.task_names())
    for section in config.sections():
        if section not in families:
            hint = nearest(section, filter(_is_ours, families), "did you mean [{}]?")
            if hint and section not in _LUIGI_SECTIONS:
                raise PipelineError(f"there is no section [{section}]; {hint}")
        elif _is_ours(section) and not issubclass(Register.get_task_cls(section), luigi.Config):
            known = _keys_of(section)
            for key in config.options(section):
                if key.replace("-", "_") not in known and key not in config.defaults():
                    raise PipelineError(f"[{section}]: the task has no parameter '{key}'; it has: {', '.join(known)}")


def _is_ours(family: str) -> bool:
    module: str = Register.get_task_cls(family).__module__
    return module.partition(".")[0] == __name__.partition(".")[0]


def _keys_of(family: str) -> list[str]:
    return [name for name, _ in Register.get_task_cls(family).get_params()] if family != "resources" else []
