"""The steps of an ingest as Prefect tasks: a unit of inputs to stage, a unit of pieces to gather.

Coarse on purpose: a task costs milliseconds of its own, so each holds tens to hundreds of megabytes of work.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import DELAYS_SECONDS, RETRIES, told, transient
from warehouse.config import Settings
from warehouse.ingest import gather as gathering
from warehouse.ingest import stage as staging
from warehouse.ingest.job import Job, StageUnit
from warehouse.lake.events import OnEvent


@task(
    name="stage",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def stage(job: Job, unit: StageUnit, settings: Settings, on_event: OnEvent) -> str:
    """Stage a unit's inputs; return the URI of the record."""
    with told(on_event, job.table, unit.label):
        return staging.stage(job, unit, settings, on_event)


@task(
    name="gather",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def gather(job: Job, unit_uri: str, settings: Settings, on_event: OnEvent) -> str:
    """Gather a unit's partitions; return the URI of the record."""
    with told(on_event, job.table, "gather"):
        return gathering.gather(job, unit_uri, settings, on_event)
