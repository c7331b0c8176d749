"""A runner that submits each unit of work as a Prefect task, no more at once than the memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, as_completed

from tasks import ingest
from warehouse.config import Settings
from warehouse.ingest.job import Job, StageUnit, read_gather_unit
from warehouse.lake.events import OnEvent, stoppable

Call = Callable[[], PrefectFuture[str]]


class PrefectTasks:
    """Runs units as Prefect tasks (the `warehouse.ingest.run.Runner` protocol)."""

    def stage(self, job: Job, units: Sequence[StageUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Submit a ``stage`` task for each unit, named after its inputs."""
        with stoppable(on_event) as watch:
            calls = [partial(submitted, ingest.stage, unit.label, job, unit, settings, watch) for unit in units]
            return windowed(calls, settings.workers)

    def gather(self, job: Job, unit_uris: Sequence[str], settings: Settings, on_event: OnEvent) -> list[str]:
        """Submit a ``gather`` task for each unit, named after its tracts."""
        labels = [read_gather_unit(uri, settings).label for uri in unit_uris]
        with stoppable(on_event) as watch:
            calls = [
                partial(submitted, ingest.gather, label, job, uri, settings, watch)
                for uri, label in zip(unit_uris, labels, strict=True)
            ]
            return windowed(calls, settings.workers)


def submitted(step: Task[..., str], label: str, *arguments: Any) -> PrefectFuture[str]:  # noqa: ANN401 - the step's own
    """Submit a step under a name of its own, and return its future."""
    return step.with_options(task_run_name=label).submit(*arguments)


def windowed(calls: Iterable[Call], width: int) -> list[str]:
    """Start calls in order, at most `width` at once, and return their results in order."""
    running: dict[PrefectFuture[str], int] = {}
    results: dict[int, str] = {}
    for number, call in enumerate(calls):
        if len(running) >= width:
            _collect(next(as_completed(list(running))), running, results)
        running[call()] = number
    for future in list(running):
        _collect(future, running, results)
    return [results[number] for number in sorted(results)]


def _collect(future: PrefectFuture[str], running: dict[PrefectFuture[str], int], results: dict[int, str]) -> None:
    results[running.pop(future)] = future.result()
