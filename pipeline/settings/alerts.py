"""Settings of alerts."""

from __future__ import annotations

import luigi

from pipeline.settings.section import Section


class alerts(Section):
    """Who is told what; `[email] receiver` and Luigi's other settings for e-mail come on top."""

    webhook_url: str = luigi.Parameter(
        default="", significant=False, description="where to POST alerts, in Slack's JSON; empty: nowhere"
    )
    tell_success: bool = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="tell of tasks that succeed, too"
    )
    link: str = luigi.Parameter(
        default="", description="a page that alerts point to; empty: the task's page in the central scheduler"
    )
    gather_minutes: float = luigi.FloatParameter(
        default=5, description="minutes after which a run tells its news before it ends, and tries again to deliver"
    )
    burst_hours: float = luigi.FloatParameter(
        default=48, description="hours without a failure after which the next one is told as a new one"
    )
