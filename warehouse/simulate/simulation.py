"""From a sky to a tree of files, written side by side.

Which files there are is told by `warehouse.simulate.files`. A file is made by one thread from streams of its own, so
the number of threads changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain

from warehouse import contracts
from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.simulate.files import FILES, File, Scope
from warehouse.simulate.observing import DETECTORS
from warehouse.simulate.reference import truth_counts
from warehouse.simulate.sky import SimulatedSky, make_sky
from warehouse.simulate.streams import stream
from warehouse.simulate.transients import dia_objects
from warehouse.simulate.tree import DataId, butler_path, write_parquet
from warehouse.sky import skymap
from warehouse.storage import join

RUN = "2.2i/runs/DP0.2/simulated/20240101T000000Z"
TRUTH_RUN = "2.2i/truth_summary"
MAX_RADIUS_DEG = 30.0

# Python and the libraries; what is kept of each object that is asked for; and a row group's worth of the pieces that it
# is made of, what these are made from, its encoding, and what the allocator keeps for the next.
BASELINE = 256 << 20
OBJECT_BYTES = 500
COPIES = 4

OnFile = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What was written.

    Attributes
    ----------
    files, rows, bytes
        By dataset type.
    truth
        Entries by kind (galaxies, stars, supernovae), and how many the coadds show (detected).
    tracts
        That show a source.
    paths
        Below `out`, in the order of `files`.
    """

    out: str
    files: Mapping[str, int]
    rows: Mapping[str, int]
    bytes: Mapping[str, int]
    truth: Mapping[str, int]
    tracts: tuple[int, ...]
    visits: tuple[int, ...]
    paths: tuple[str, ...] = field(repr=False)


def simulate(
    out: str,
    *,
    ra: float = 62.0,
    dec: float = -37.0,
    radius: float = 0.5,
    objects: int = 20_000,
    visits: int = 12,
    seed: int = 1,
    settings: Settings | None = None,
    release: str = "dp02",
    tables: Collection[str] | None = None,
    dataset_types: Collection[str] | None = None,
    detectors: int = 9,
    first_visit: int = 0,
    forced_epochs: int | None = None,
    run: str = RUN,
    reprocessing: int = 0,
    only: Mapping[str, Collection[int | str]] | None = None,
    row_group_bytes: int = 128 << 20,
    on_file: OnFile | None = None,
) -> SimulationReport:
    """Write the files of a simulated sky into the Butler-like tree `out`, and report what they are.

    The same arguments give the same values, whatever the number of workers; what is in a file does not depend on
    which other files are written.

    Parameters
    ----------
    out
        URI of a folder; files of the same path are replaced.
    ra, dec, radius
        Of the disc, in degrees.
    objects
        Sources that the coadds show; Object has more rows, because borders and overlaps repeat sources.
    visits, first_visit
        How many visits, and the first one's place in an endless sequence: a later night begins where one ended.
    tables, dataset_types
        What to write. By default of each table the dataset type that its contract prefers.
    detectors
        That are read in each visit, 1 to 189, nearest to the boresight first.
    forced_epochs
        How many of the visits get forced photometry; by default all.
    run
        The RUN collection, a part of every path but the truth's.
    reprocessing
        Another number gives the same rows with other noise: what a later run makes of the same images.
    only
        Data-id values to which files are confined: ``{"tract": [4030]}``. A dataset type without that dimension
        is written in full.
    row_group_bytes
        Row groups are closed when they hold this much.
    on_file
        Called in this thread with dataset type, rows and bytes of each file, in order.

    Raises
    ------
    QueryError
        An argument is out of its range, or a release is not one that can be simulated.
    NotFoundError
        No such release, table or dataset type.
    StorageError
        The store does not take the files.
    """
    _check(ra=ra, dec=dec, radius=radius, objects=objects, visits=visits, seed=seed, detectors=detectors)
    settings = settings or Settings()
    known = contracts.load(release)
    if known.skymap is None or "Object" not in known.tables or "objectTable" not in known.dataset_types:
        raise QueryError(f"release {release} cannot be simulated; dp02 can", kind="release")
    names = _chosen(known, tables, dataset_types)
    sky = make_sky(
        known,
        skymap.named(known.skymap),
        ra_deg=ra,
        dec_deg=dec,
        radius_deg=radius,
        objects=objects,
        visits=visits,
        first_visit=first_visit,
        detectors=detectors,
        seed=seed,
        reprocessing=reprocessing,
    )
    scope = Scope(sky, sky.visits[:forced_epochs], cache(partial(dia_objects, sky)))
    work = [(name, file) for name in names for file in FILES[name](scope) if _within(file.data_id, only)]
    write = partial(_write, out, run, seed, settings, row_group_bytes)
    with ThreadPoolExecutor(threads(settings, objects, row_group_bytes)) as pool:
        return _report(out, sky, names, pool.map(write, work), on_file)


def threads(settings: Settings, objects: int, row_group_bytes: int) -> int:
    """Return how many files are written at once: one a worker, as far as the memory goes."""
    room = settings.memory - BASELINE - OBJECT_BYTES * objects
    return max(1, min(settings.workers, room // (COPIES * row_group_bytes)))


def _check(**values: float) -> None:
    """Refuse arguments out of their range (QueryError)."""
    ranges = {
        "ra": (-360.0, 720.0),
        "dec": (-90.0, 90.0),
        "radius": (1e-4, MAX_RADIUS_DEG),
        "objects": (10, math.inf),
        "visits": (0, math.inf),
        "seed": (0, math.inf),
        "detectors": (1, DETECTORS),
    }
    for name, value in values.items():
        low, high = ranges[name]
        if not low <= value <= high:
            raise QueryError(f"{name}: expected {low:g} to {high:g}, found {value}")


def _chosen(
    release: contracts.Release, tables: Collection[str] | None, dataset_types: Collection[str] | None
) -> list[str]:
    """Return the dataset types to write, in the release's order of tables."""
    able = {name: contract.table for name, (contract, _) in release.dataset_types.items() if name in FILES}
    for table in tables or ():
        release.contract(table)
    for name in dataset_types or ():
        if name not in able:
            raise NotFoundError(f"no dataset type {name!r} to simulate; {near_misses(name, able)}", kind="dataset_type")
    if dataset_types is None:
        preferred = [next((name for name in able if able[name] == table), None) for table in release.tables]
        wanted = {name for name in preferred if name is not None}
    else:
        wanted = set(dataset_types)
    order = {table: place for place, table in enumerate(release.order)}
    chosen = [name for name in able if name in wanted and (tables is None or able[name] in tables)]
    return sorted(chosen, key=lambda name: order[able[name]])


def _within(data_id: DataId, only: Mapping[str, Collection[int | str]] | None) -> bool:
    return all(name not in data_id or data_id[name] in values for name, values in (only or {}).items())


def _write(
    out: str, run: str, seed: int, settings: Settings, row_group_bytes: int, item: tuple[str, File]
) -> tuple[str, str | None, int, int]:
    """Write one file and return its dataset type, path, rows and bytes; no path where there are no rows."""
    name, file = item
    pieces = iter(file.pieces())
    first = next(pieces, None)
    if first is None:
        return name, None, 0, 0
    path = butler_path(TRUTH_RUN if name == "truth_summary" else run, name, file.data_id)
    rows, size = write_parquet(
        join(out, path),
        chain([first], pieces),
        settings,
        index=file.index,
        row_group_bytes=row_group_bytes,
        order=stream(seed, f"column order of {path}"),
    )
    return name, path, rows, size


def _report(
    out: str,
    sky: SimulatedSky,
    names: Iterable[str],
    written: Iterable[tuple[str, str | None, int, int]],
    on_file: OnFile | None,
) -> SimulationReport:
    """Return what was written, having told of each file as it was; those without rows have no path."""
    files, rows, sizes = (dict.fromkeys(names, 0) for _ in range(3))
    paths = []
    for name, path, count, size in written:
        if path is None:
            continue
        if on_file is not None:
            on_file(name, count, size)
        files[name] += 1
        rows[name] += count
        sizes[name] += size
        paths.append(path)
    return SimulationReport(
        out=out,
        files=files,
        rows=rows,
        bytes=sizes,
        truth=truth_counts(sky),
        tracts=sky.tracts,
        visits=tuple(visit.visit for visit in sky.visits),
        paths=tuple(paths),
    )
