"""Set-up: what everything on Google Cloud needs."""

from __future__ import annotations

import logging

from pipeline.settings import gcp
from pipeline.tasks.task import PipelineTask

logger = logging.getLogger("luigi-interface")


class SetupGcp(PipelineTask):
    """The bucket and the datasets; creates what is missing and leaves what is there."""

    def complete(self) -> bool:
        from pipeline.warehouses.gcp.resources import missing_resources

        return not missing_resources(gcp().place())

    def run(self) -> None:
        from pipeline.warehouses.gcp.resources import create_resources

        place = gcp().place()
        for made in create_resources(place):
            logger.info("created %s in %s", made, place.location)
