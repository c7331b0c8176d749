"""The steps of a match, of a materialisation and of what comes of them as Prefect tasks, and the runner that uses them.

A task is a tract: seconds of work, found again by the next run where it was done before a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import DELAYS_SECONDS, RETRIES, told, transient
from tasks.runner import submitted, windowed
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.contracts.derived import OBJECT_TRUTH
from warehouse.lake.events import OnEvent, stoppable
from warehouse.truth import joining, matching
from warehouse.truth.report import TruthReport
from warehouse.truth.units import MATCHES, JoinUnit, MatchUnit


class PrefectTracts:
    """Runs tracts as Prefect tasks (the `warehouse.truth.units.Runner` protocol)."""

    def match(self, units: Sequence[MatchUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Submit a ``match`` task for each tract."""
        with stoppable(on_event) as watch:
            calls = [partial(submitted, match, f"match tract {u.tract}", u, settings, watch) for u in units]
            return windowed(calls, settings.workers)

    def join(self, units: Sequence[JoinUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Submit a ``join`` task for each tract."""
        with stoppable(on_event) as watch:
            calls = [partial(submitted, join, f"join tract {u.tract}", u, settings, watch) for u in units]
            return windowed(calls, settings.workers)


@task(
    name="match",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def match(unit: MatchUnit, settings: Settings, on_event: OnEvent) -> str:
    """Match a tract; return the URI of the record."""
    with told(on_event, MATCHES, f"tract {unit.tract}"):
        return matching.match_unit(unit, settings, on_event)


@task(
    name="join",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def join(unit: JoinUnit, settings: Settings, on_event: OnEvent) -> str:
    """Make a tract of ObjectTruth; return the URI of the record."""
    with told(on_event, OBJECT_TRUTH, f"tract {unit.tract}"):
        return joining.join_unit(unit, settings, on_event)


@task(
    name="photoz",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def photoz(warehouse: str, out: str, words: Mapping[str, Any], settings: Settings) -> int:
    """Write a photo-z set; return its number of rows."""
    return Warehouse.open(warehouse, settings=settings).write_photoz(out, **words)


@task(
    name="report",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def report(warehouse: str, out: str, settings: Settings) -> TruthReport:
    """Write the report's page and images; return what they say."""
    return Warehouse.open(warehouse, settings=settings).report(out)
