"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`.

`luigi` and the `pipeline` command start by importing this package, which registers the tasks and calls `configure`.
"""

import configparser
import sys
import warnings

from luigi_program import unreadable_configuration
from pipeline.errors import PipelineError

# `configure` reports it in one line.
warnings.filterwarnings("ignore", "Config file does not exist", UserWarning)
try:
    from luigi.tools.range import RangeMonthly

    from pipeline import tasks
    from pipeline.command_line import WrongCommandLine, check_command_line, is_luigi, set_up_parser
    from pipeline.configuration import configure
    from pipeline.tasks import *  # noqa: F403
except (configparser.Error, UnicodeDecodeError) as error:
    # Importing Luigi reads the configuration files.
    sys.exit(f"pipeline: {unreadable_configuration(error)}")
except PipelineError as error:
    # A dataset's spec, which determines the parameters of tasks, is invalid.
    sys.exit(f"pipeline: {error}")

try:
    configure()
    set_up_parser()
    if is_luigi():
        check_command_line(sys.argv[1:])
except PipelineError as error:
    # A setting is invalid.
    sys.exit(f"pipeline: {error}")
except WrongCommandLine as error:
    print(f"luigi: {error}", file=sys.stderr)
    sys.exit(error.code)

__all__ = ["RangeMonthly", *tasks.__all__]
