"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`.

Importing it is how `luigi` and the `pipeline` command begin: it registers the tasks and calls `configure`.
"""

import configparser
import sys

from pipeline.errors import PipelineError

try:
    from luigi.tools.range import RangeMonthly

    from pipeline import tasks
    from pipeline.command_line import WrongCommandLine, check_command_line, is_luigi, take_options_as_they_are
    from pipeline.configuration import configure
    from pipeline.tasks import *  # noqa: F403
except configparser.Error as error:
    # Luigi reads the configuration files when it is imported.
    sys.exit(f"pipeline: a configuration file cannot be read: {' '.join(str(error).split())}")
except PipelineError as error:
    # A mistake in a dataset's file, which the parameters of tasks are made from.
    sys.exit(f"pipeline: {error}")

try:
    configure()
    take_options_as_they_are()
    if is_luigi():
        check_command_line(sys.argv[1:])
except PipelineError as error:
    # A setting that cannot hold: there is nothing to run.
    sys.exit(f"pipeline: {error}")
except WrongCommandLine as error:
    print(f"luigi: {error}", file=sys.stderr)
    sys.exit(error.code)

__all__ = ["RangeMonthly", *tasks.__all__]
