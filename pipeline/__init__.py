"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`."""

import gc
import sys

from luigi.tools.range import RangeMonthly

from pipeline.errors import PipelineError

try:
    from pipeline import tasks
    from pipeline.monitoring import events  # noqa: F401  (for what it hangs on Luigi)
    from pipeline.settings import apply_environment, apply_shipped_configuration
    from pipeline.tasks import *  # noqa: F403

    apply_shipped_configuration()
    apply_environment()
except PipelineError as error:
    # A mistake in a dataset's file, say: whatever command comes to it first, there is nothing to run.
    sys.exit(f"pipeline: {error}")

__all__ = ["RangeMonthly", *tasks.__all__]

# What is imported by now stays to the end of the process: the collector need not look at it again, least of all when
# the process ends (which takes it 50 ms), and forked workers go on sharing its memory.
gc.freeze()
