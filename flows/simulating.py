"""A simulated sky, with progress. Prefect has no part in it: it is how one comes by inputs to try things with."""

from __future__ import annotations

import sys

from rich.progress import Progress, SpinnerColumn, TextColumn

from flows import display
from flows.ingesting import settings
from warehouse.simulate import SimulationReport, simulate


def run(
    out: str,
    ra: float,
    dec: float,
    radius: float,
    objects: int,
    visits: int,
    seed: int,
    *,
    memory: str | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> SimulationReport:
    """Write a simulated sky into the tree `out` and return what was written; degrees.

    Raises
    ------
    QueryError
        An argument is out of its range.
    StorageError
        The files cannot be written.
    """
    told = settings(memory=memory, workers=workers)
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description} {task.fields[rows]:>12,} rows {task.completed:>9,.1f} MB"),
        console=display.errors,
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    )
    with bars:
        task = bars.add_task("simulating", total=None, rows=0)
        rows = 0

        def advance(_dataset_type: str, more: int, size: int) -> None:
            nonlocal rows
            rows += more
            bars.update(task, advance=size / 1e6, rows=rows)

        return simulate(
            out,
            ra=ra,
            dec=dec,
            radius=radius,
            objects=objects,
            visits=visits,
            seed=seed,
            settings=told,
            on_file=advance,
        )
