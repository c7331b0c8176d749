"""Which failures are worth another try: lost races and stores that do not answer. Nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.schemas.objects import State
from prefect.runtime import task_run

from warehouse.errors import WarehouseError
from warehouse.lake.events import Event, OnEvent

RETRIES = 3
DELAYS_SECONDS = [2.0, 10.0, 30.0]


async def transient(_task: Any, _run: Any, state: State[Any]) -> bool:  # noqa: ANN401 - Prefect's hook protocol
    """Return whether a failed task should be tried again."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, WarehouseError) and error.retryable


@contextmanager
def told(on_event: OnEvent, table: str, label: str) -> Iterator[None]:
    """Tell the watcher of a failure in the block after which the task will be tried again."""
    try:
        yield
    except WarehouseError as error:
        tries = task_run.run_count or 1
        if error.retryable and tries <= RETRIES:
            wait = DELAYS_SECONDS[tries - 1]
            on_event(Event("failed", table, f"{label}: {error}; will be tried again in {wait:g} s"))
        raise
