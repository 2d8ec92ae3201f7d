"""Parameter types of tasks and settings that reject invalid values with clear messages.

`parse` raises ValueError for an invalid text.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import luigi
from luigi.parameter import ParameterException
from luigi.task_register import TaskClassException

from pipeline.datasets import monthly_names, parse_month
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError
from pipeline.extract.locations import HTTP_URL

# What the values of Luigi's types are, which its error messages do not say.
_KINDS = {
    luigi.IntParameter: "a whole number",
    luigi.FloatParameter: "a number",
    luigi.MonthParameter: "a month such as 2019-01",
    luigi.TaskParameter: "a task",
}


def parsed(parameter: luigi.Parameter[Any], text: str) -> Any:
    """Returns the value of a text from the command line or a configuration file.

    :raises ValueError: for an invalid text, with what is expected; PipelineError from parameters that raise it.
    """
    try:
        return parameter.normalize(parameter.parse(text))
    except (ValueError, ParameterException, TaskClassException) as error:
        kind = _KINDS.get(type(parameter))
        raise ValueError(f"'{text}' is not {kind}" if kind else str(error)) from None


def option_name(name: str) -> str:
    """Returns the option for a parameter on the command line, such as `--max-bad-rows` for `max_bad_rows`."""
    return f"--{name.replace('_', '-')}"


class CheckedParameter(luigi.Parameter[Any]):
    """Checks values that Luigi does not parse, too, such as those of `--of-params`."""

    def normalize(self, x: Any) -> Any:
        """:raises PipelineError: if `parse` does not accept the value as a text."""
        try:
            return self.parse(str(x))  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise PipelineError(f"{self._attribute_name}: {error}") from None


class CountParameter(CheckedParameter, luigi.IntParameter):
    """A whole number that is at least `least`."""

    def __init__(self, *, least: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.least = least

    def parse(self, x: str) -> int:
        if not (x.isascii() and x.strip().isdecimal()) or int(x) < self.least:
            raise ValueError(f"'{x}' is not a whole number from {self.least} on")
        return int(x)


class NonNegativeFloatParameter(luigi.FloatParameter):
    """A number from 0 on: of seconds, minutes or hours, of bytes per second or of megabytes."""

    def parse(self, x: str) -> float:
        try:
            number = float(x)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f"'{x}' is not a number from 0 on")
        return number


class FlagParameter(luigi.BoolParameter):
    """True or false. Its option needs a value, as in `--storage-keep-raw false`."""

    parsing = luigi.BoolParameter.EXPLICIT_PARSING


class ObjectParameter(luigi.DictParameter[Any]):
    """A JSON object; the error message for another text shows the example."""

    def __init__(self, *, example: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._example = json.dumps(example)

    def parse(self, x: str) -> Any:
        try:
            value = super().parse(x)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ValueError(f"'{x}' is not JSON such as '{self._example}': {error}") from None
        if not isinstance(value, Mapping):
            raise ValueError(f"'{x}' is not a JSON object such as '{self._example}'")
        return value


class HttpUrlParameter(luigi.Parameter[str]):
    """An http(s) URL, or empty. Error messages do not contain it, because it may contain a secret."""

    def parse(self, x: str) -> str:
        if x and not HTTP_URL.match(x):
            raise ValueError("not an http(s) URL")
        return x


class OneOfParameter(CheckedParameter, luigi.ChoiceParameter[str]):
    """One of some texts. Descriptions and error messages list them in order, without an empty one."""

    def __init__(self, *, choices: Sequence[str], description: str, **options: Any) -> None:
        super().__init__(choices=choices, **options)
        self._shown = ", ".join(filter(None, choices))
        self.description = f"{description}: {self._shown}"

    def parse(self, x: str) -> str:
        if x not in self._choices:
            raise ValueError(f"'{x}' is not one of {self._shown}")
        return x


class TaxiParameter(OneOfParameter):
    """The name of a dataset with one file per month."""

    def __init__(self) -> None:
        super().__init__(choices=monthly_names(), description="which dataset")

    def parse(self, x: str) -> str:
        names = monthly_names()
        if x not in names:
            raise PipelineError(f"--taxi {x}: there is no such monthly dataset; there are: {', '.join(names)}")
        return x


class MonthParameter(luigi.MonthParameter):
    """A month, such as 2019-01."""

    def __init__(self, **options: Any) -> None:
        super().__init__(description="which month, such as 2019-01", **options)

    def parse(self, x: str) -> datetime.date:
        return parse_month(x)


class OptionalMonthParameter(luigi.MonthParameter):
    """A month, such as 2019-01; None, the default, if it is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default=None, **options)  # type: ignore[arg-type]  # Luigi accepts it

    def parse(self, x: str) -> datetime.date | None:
        return parse_month(x) if x else None


class SourceParameter(OneOfParameter):
    """The source of a file."""

    def __init__(self) -> None:
        super().__init__(
            choices=["", MIRROR, TLC],
            default="",
            significant=False,
            description="the source to use (default: [source] prefer, or else depends on the month)",
        )
