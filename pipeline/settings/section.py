"""What all sections of the configuration have in common: mistakes that are explained."""

from __future__ import annotations

import configparser
import re
from typing import Any

import luigi
import luigi.configuration

from pipeline.errors import PipelineError

_VALUE_OF = re.compile(r"value of '(\w+)'")  # as Luigi names the parameter
_INTERPOLATION = "write %% for %, and name only variables that are set in ${...}"


class Section(luigi.Config):
    """A section whose mistakes are explained without showing a value, as that could hold a password."""

    @classmethod
    def get_param_values(
        cls, params: list[tuple[str, luigi.Parameter[Any]]], args: Any, kwargs: Any
    ) -> list[tuple[str, Any]]:
        section, known = cls.get_task_family(), [name for name, _ in params]
        config = luigi.configuration.get_config()
        given = set(config.options(section)) - config.defaults().keys() if config.has_section(section) else set()
        if unknown := sorted(key for key in given if key.replace("-", "_") not in known):
            raise PipelineError(f"[{section}] has no setting '{unknown[0]}'; it has: {', '.join(known)}")
        try:
            return list(super().get_param_values(params, args, kwargs))
        except configparser.InterpolationError as error:
            raise PipelineError(f"[{section}] {error.option}: {_INTERPOLATION}") from None
        except ValueError as error:
            if isinstance(error.__cause__, configparser.InterpolationError):
                raise PipelineError(f"[{section}] {error.__cause__.option}: {_INTERPOLATION}") from None
            named = _VALUE_OF.search(str(error))
            raise PipelineError(f"[{section}] {named[1] if named else error}: {error.__cause__}") from error
