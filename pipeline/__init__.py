"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`.

Importing it is how `luigi` and the `pipeline` command begin: it registers the tasks and calls `configure`.
"""

import sys

from luigi.tools.range import RangeMonthly

from pipeline.errors import PipelineError

try:
    from pipeline import tasks
    from pipeline.configuration import configure
    from pipeline.tasks import *  # noqa: F403

    configure()
except PipelineError as error:
    # A mistake in a dataset's file, say: whatever command comes to it first, there is nothing to run.
    sys.exit(f"pipeline: {error}")

__all__ = ["RangeMonthly", *tasks.__all__]
