"""Set-up: what everything on Google Cloud needs."""

from __future__ import annotations

from pipeline.settings import gcp
from pipeline.tasks.task import PipelineTask


class SetupGcp(PipelineTask):
    """The bucket and the datasets; creates what is missing and leaves what is there."""

    def complete(self) -> bool:
        from pipeline.warehouses.gcp.resources import missing_resources

        return not missing_resources(gcp().place())

    def run(self) -> None:
        from pipeline.warehouses.gcp.resources import create_resources

        place = gcp().place()
        for made in create_resources(place):
            self.announce(f"created {made} in {place.location}")
