"""Combines the sources of settings: the environment, then configuration files, then the shipped `luigi.cfg`."""

from __future__ import annotations

import configparser
import gc
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi
import luigi.configuration
from luigi.configuration.cfg_parser import LuigiConfigParser
from luigi.parameter import UnconsumedParameterWarning
from luigi.task_register import Register

from pipeline.errors import PipelineError, nearest
from pipeline.files import SHIPPED, data_home
from pipeline.monitoring import register_events
from pipeline.parameters import CountParameter, parsed
from pipeline.tasks.ranges import register_range
from pipeline.worker import register_worker

_SHIPPED_CONFIGURATION = SHIPPED / "luigi.cfg"
_ENVIRONMENT_PREFIX = "PIPELINE__"
# Luigi's sections without a class of settings: https://luigi.readthedocs.io/en/stable/configuration.html
_LUIGI_SECTIONS = {
    *("DEFAULT", "resources", "logging", "email", "task_history", "worker_task_callback"),
    *("prometheus", "datadog", "external_daily_snapshot", "hadoop", "hdfs", "webhdfs", "spark", "mysql", "redshift"),
    *("s3", "execution_summary", "batch_notifier", "gcs", "bigquery", "kubernetes", "ftp", "salesforce", "scalding"),
}
# Those that every run reads; others, such as that for mail servers, may be about other projects.
_LUIGI_SECTIONS_READ = {"core", "worker", "scheduler", "retcode", "RangeMonthly"}

# Settings that may be a folder; relative ones do not depend on the current directory.
_FOLDERS = (("storage", "root"), ("source", "base_url"), ("source", "tlc_base_url"))


def configure() -> None:
    """Configures Luigi for the project: settings, one-line errors, monitoring. Called once, by the entry points.

    :raises PipelineError: if a setting is invalid.
    """
    _replace_closed_streams()
    # Luigi uses these settings, but warns that they are unused.
    warnings.filterwarnings("ignore", r".*'rpc_\w+' with value", UnconsumedParameterWarning)
    _resolve_relative_folders()
    _apply_shipped_configuration()
    _apply_environment()
    _check_sections()
    register_events()
    register_worker()
    register_range()
    # Excludes the imported modules from garbage collection, which saves 50 ms at exit and keeps their memory shared
    # with forked workers.
    gc.freeze()


def _replace_closed_streams() -> None:
    """Gives a process that was started without standard output or error (`2>&-`) one that leads nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (needed to the end of the process)


def _resolve_relative_folders() -> None:
    """Makes relative folders in a configuration file relative to the folder of that file."""
    config = luigi.configuration.get_config()
    for file, given in _user_files():
        for section, key in _FOLDERS:
            if _is_relative(value := given.get(section, key, fallback="")):
                config.set(section, key, _join(file.absolute().parent, value))


def _is_relative(value: str) -> bool:
    return bool(value) and not value.startswith(("/", "~", "$")) and "://" not in value


def _join(folder: Path, value: str) -> str:
    return f"{folder}/".replace("%", "%%") + value


def _user_files() -> Iterator[tuple[Path, configparser.RawConfigParser]]:
    """Yields the configuration files that Luigi has read, lowest precedence first."""
    for name in LuigiConfigParser._config_paths:
        given = configparser.RawConfigParser()
        if given.read(name, encoding="utf-8"):
            yield Path(name), given


def _apply_shipped_configuration() -> None:
    """Applies the shipped `luigi.cfg` in every directory, with a lower precedence than other configuration.

    Without it, Luigi exits with 0 when a task fails, and silently skips old months of a backfill.
    """
    if (path := os.environ.get("LUIGI_CONFIG_PATH")) and not Path(path).is_file():
        raise PipelineError(f"LUIGI_CONFIG_PATH: {Path(path).absolute()} does not exist; set it to an existing file")
    config, shipped = luigi.configuration.get_config(), configparser.RawConfigParser()
    if not shipped.read(_SHIPPED_CONFIGURATION, encoding="utf-8"):
        raise PipelineError(f"{_SHIPPED_CONFIGURATION} is missing: install the package again")
    for section in shipped.sections():
        for key, value in shipped.items(section):
            if not config.has_option(section, key):
                config.set(section, key, value)


def _apply_environment() -> None:
    """Applies `PIPELINE__<SECTION>__<KEY>`, which overrides configuration files but not the command line.

    Ignores empty variables, as env files may contain variables without a value.

    :raises PipelineError: if there is no such section.
    """
    config = luigi.configuration.get_config()
    families = {name.lower(): name for name in Register.task_names()} | {"resources": "resources"}
    for name, value in os.environ.items():
        if not name.startswith(_ENVIRONMENT_PREFIX):
            _check_misspelled(name, families)
            continue
        section, separator, key = name.removeprefix(_ENVIRONMENT_PREFIX).partition("__")
        if not separator:
            _check_misspelled(name, families)
            raise PipelineError(f"{name}: a setting is named {_ENVIRONMENT_PREFIX}<SECTION>__<KEY>")
        if not value:
            continue
        if section.lower() not in families:
            hint = nearest(section.lower(), families, "did you mean {}?", start="; ")
            raise PipelineError(f"{name}: there is no section and no task '{section.lower()}'{hint}")
        # By reference, because the parser would expand % or ${ in the value and show it in an error.
        reference = f"${{{name}}}"
        if (section.lower(), key.lower()) in _FOLDERS and _is_relative(value):
            reference = _join(data_home(), reference)
        config.set(families[section.lower()], key.lower(), reference)


def _check_misspelled(name: str, families: Mapping[str, str]) -> None:
    """Rejects a variable that differs from a setting's only in its underscores.

    Other variables may begin with PIPELINE_, for example those of CI services.
    """
    if not name.upper().startswith("PIPELINE_"):
        return
    words = name.upper().removeprefix("PIPELINE").strip("_").lower()
    for section, family in families.items():
        key = words.removeprefix(section).strip("_")
        if words.startswith(f"{section}_") and key in _setting_names(family):
            meant = f"{_ENVIRONMENT_PREFIX}{section.upper()}__{key.upper()}"
            raise PipelineError(f"{name} is not read; did you mean {meant}?")


def _check_sections() -> None:
    """Rejects unknown sections that resemble a known one, and unknown keys and invalid values of settings and of tasks.

    Ignores other unknown sections, because a file may also be used by other projects, and unknown keys in Luigi's.

    :raises PipelineError: with a suggestion, or with the reason why a value is invalid.
    """
    config, families = luigi.configuration.get_config(), set(Register.task_names())
    for section in config.sections():
        if section not in families:
            hint = nearest(section, filter(_is_pipeline_section, families), "did you mean [{}]?")
            if hint and section not in _LUIGI_SECTIONS:
                raise PipelineError(f"there is no section [{section}]; {hint}")
            if section == "resources":
                counts = set(config.options(section)) - config.defaults().keys()
                _check_values(section, {name: CountParameter(least=1) for name in counts})
            continue
        if _is_pipeline_section(section):
            known = _setting_names(section)
            for key in config.options(section):
                if key.replace("-", "_") not in known and key not in config.defaults():
                    kind = "setting" if issubclass(Register.get_task_cls(section), luigi.Config) else "parameter"
                    hint = nearest(key, known, "did you mean {}?") or f"it has: {', '.join(known)}"
                    raise PipelineError(f"[{section}] has no {kind} '{key}'; {hint}")
        if _is_pipeline_section(section) or section in _LUIGI_SECTIONS_READ:
            _check_values(section, dict(Register.get_task_cls(section).get_params()))


def _check_values(section: str, parameters: Mapping[str, luigi.Parameter[Any]]) -> None:
    """Parses the configured values as tasks would later, so that a mistake is found before anything runs."""
    config = luigi.configuration.get_config()
    for name, parameter in parameters.items():
        try:
            if config.has_option(section, name):
                parsed(parameter, config.get(section, name))
        except configparser.InterpolationError as error:
            remedy = "write %% for %, and use only variables that are set in ${...}"
            raise PipelineError(f"[{section}] {error.option}: {remedy}") from None
        except (ValueError, PipelineError) as error:
            raise PipelineError(f"[{section}] {name}: {error}") from None


def _is_pipeline_section(family: str) -> bool:
    module: str = Register.get_task_cls(family).__module__
    return module.partition(".")[0] == __name__.partition(".")[0]


def _setting_names(family: str) -> list[str]:
    return [name for name, _ in Register.get_task_cls(family).get_params()] if family != "resources" else []
