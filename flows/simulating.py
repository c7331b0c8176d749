"""A simulated sky, with progress. Prefect has no part in it: it is how one comes by inputs to try things with."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace

from rich.progress import Progress, SpinnerColumn, TextColumn

from flows import display
from flows.ingesting import settings
from warehouse.simulate import SimulationReport, simulate


@dataclass(frozen=True, slots=True)
class Sky:
    """Which sky is simulated: centre and radius in degrees, how many sources and visits; one seed makes one sky."""

    ra: float
    dec: float
    radius: float
    objects: int
    visits: int
    seed: int


def run(
    out: str,
    sky: Sky,
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
            **asdict(sky),
            settings=told,
            on_file=advance,
        )


def as_fits(
    report: SimulationReport,
    sky: Sky,
    *,
    last: int | None = None,
    memory: str | None = None,
    workers: int | None = None,
) -> SimulationReport:
    """Put FITS catalogues in the place of the sources of the last visits, or of all; return the tree's new report."""
    from warehouse.simulate.fits_tables import simulate_fits

    told = settings(memory=memory, workers=workers)
    return simulate_fits(report, **asdict(sky), last=last, settings=told)


def images(
    out: str,
    sky: Sky,
    *,
    memory: str | None = None,
    workers: int | None = None,
) -> tuple[str, ...]:
    """Write a coadd and two visits' images of a simulated sky into the tree `out`; return their paths below it."""
    from warehouse.simulate.images import simulate_images

    told = settings(memory=memory, workers=workers)
    few = replace(sky, visits=min(2, sky.visits))
    coadds = simulate_images(
        out, **asdict(sky), dataset_types=("deepCoadd",), patches=1, bands="i", size=(1200, 1200), settings=told
    )
    types = ("calexp", "goodSeeingDiff_differenceExp")
    return coadds + simulate_images(out, **asdict(few), dataset_types=types, settings=told)
