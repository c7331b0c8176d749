"""Register images: from a listing to rows of ``Image`` and ``ObsCore``, committed once, and a report.

Only headers are read. What is unchanged since it was registered is not even opened; what changed replaces its rows;
what cannot be read stands in the ledger as refused, and the run goes on. How rows get into a table is
`warehouse.images.recording`'s business.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from warehouse.config import Settings
from warehouse.contracts.image import IMAGE, image_types
from warehouse.errors import InputError
from warehouse.images import visits
from warehouse.images.headers import ImageHeader, read_all
from warehouse.images.inputs import list_images
from warehouse.images.ranged import FIRST_READ, NEXT_READ
from warehouse.images.recording import Recorded, Refused, Standing, record, standing
from warehouse.images.rows import OBSCORE, Found, identified, image_rows, obscore_rows
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.lake.root import Root
from warehouse.lake.units import input_id, run_order
from warehouse.readers.reader import Input
from warehouse.readers.tree import Listing

ReadHeaders = Callable[[Sequence[Input], Settings], Iterable[ImageHeader | InputError]]

_ROWS = {IMAGE: image_rows, OBSCORE: obscore_rows}


@dataclass(frozen=True)
class RegisterReport:
    """What a registration did.

    Attributes
    ----------
    listed, read, unchanged
        Images found, those whose headers were read, and those that were registered already as they are.
    new, changed, removed
        Images whose rows were added, replaced, and taken out because they are gone.
    refused, left_aside
        (URI, why) of images that cannot be read, and of files that are no image or an earlier run's.
    versions
        The newest version of each table that was written or looked at.
    bytes_read
        Of headers.
    """

    listed: int
    read: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    removed: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    left_aside: tuple[tuple[str, str], ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    seconds: float = 0.0
    run_id: str = ""

    @property
    def nothing_new(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.read or self.removed)


def read_headers(inputs: Sequence[Input], settings: Settings) -> Iterable[ImageHeader | InputError]:
    """Yield what the headers of images say, in threads of this process."""
    return read_all([(item.uri, item.size) for item in inputs], settings)


def register(
    root: Root,
    uris: Sequence[str],
    settings: Settings,
    *,
    dataset_type: str | None = None,
    data_id: Mapping[str, int | str] | None = None,
    remove_vanished: bool = False,
    run_id: str | None = None,
    read: ReadHeaders = read_headers,
    on_event: OnEvent = ignore,
) -> RegisterReport:
    """Register the images at `uris`: each is a row of Image and of ObsCore, and of Visit and CcdVisit where needed.

    Parameters
    ----------
    dataset_type, data_id
        What the files are, where neither paths nor headers tell.
    remove_vanished
        Also remove the rows of images that stood below `uris` once and do not any more.
    read
        Reads the headers of several images, in their order.
    on_event
        Told what was planned, each image that was read, and each commit.

    Raises
    ------
    NotFoundError
        Nothing there, or no such dataset type.
    StorageError, ConflictError
        The store failed, or other writers were always first; run it again.
    """
    started = time.monotonic()
    run_id = run_id or uuid.uuid4().hex
    listing = list_images(uris, settings, root.contracts, dataset_type=dataset_type, data_id=data_id)
    tables = [name for name in _ROWS if name == IMAGE or name in root.contracts.tables]
    known = {table: standing(root, table, settings) for table in tables}
    aside = list(listing.unrecognised)
    work = _plan(root, listing.inputs, known, aside)
    on_event(Event("planned", IMAGE, inputs=len(work), bytes=len(work) * (FIRST_READ + NEXT_READ)))
    found, refused, bytes_read = _read(root, work, settings, read, on_event)
    gone = _vanished(listing, known[IMAGE]) if remove_vanished else frozenset[str]()
    # Before the images: what stands in Image is not read again, so a crash in between could not be made up for.
    filled = visits.fill(root, found, settings, run_id=run_id)
    done = _record(root, tables, found, refused, gone, settings, run_id)
    versions = {table: recorded.version for table, recorded in done.items()} | filled
    for table, version in versions.items():
        on_event(Event("committed", table, f"version {version}"))
    images = done.get(IMAGE, Recorded(-1))
    return RegisterReport(
        listed=len(listing.inputs),
        read=len(work),
        unchanged=len(listing.inputs) - len(work) - (len(aside) - len(listing.unrecognised)),
        new=images.new,
        changed=images.changed,
        removed=images.removed,
        refused=tuple((entry.input.uri, entry.why) for entry in refused),
        left_aside=tuple(dict.fromkeys([*aside, *images.left_aside])),
        versions=versions,
        bytes_read=bytes_read,
        seconds=time.monotonic() - started,
        run_id=run_id,
    )


def _record(
    root: Root,
    tables: Sequence[str],
    found: Sequence[Found],
    refused: Sequence[Refused],
    gone: Collection[str],
    settings: Settings,
    run_id: str,
) -> dict[str, Recorded]:
    """Return what each table's commit did; tables for which there is nothing to do are not asked."""
    done = {}
    for table in tables:
        mine = refused if table == IMAGE else ()
        if found or gone or mine:
            make = _ROWS[table]
            done[table] = record(root, table, found, make, settings, run_id=run_id, refused=mine, gone=gone)
    return done


def _plan(
    root: Root, inputs: Iterable[Input], known: Mapping[str, Standing], aside: list[tuple[str, str]]
) -> list[Input]:
    """Return the images whose headers must be read, and add those that an earlier run made to `aside`."""
    work: list[Input] = []
    newest: dict[str, Input] = {}
    for item in sorted(inputs, key=lambda i: (run_order(i.run), i.uri)):
        unit = _told_unit(root, item)
        if unit is None:
            work.append(item)
            continue
        if unit in newest:
            aside.append((newest[unit].uri, f"{unit} is delivered again by {item.uri}"))
        newest[unit] = item
    for unit, item in newest.items():
        loaded = known[IMAGE].rows.get(input_id(IMAGE, unit))
        if loaded is not None and run_order(item.run) < run_order(loaded.run):
            aside.append((item.uri, f"{unit} is registered from a later run, {loaded.run}"))
        else:
            work.append(item)
    return sorted((item for item in work if not _is_known(item, known)), key=lambda item: item.uri)


def _told_unit(root: Root, item: Input) -> str | None:
    """Return the unit that a file is, where its path tells dataset type and data id in full."""
    dimensions = image_types(root.release)[item.dataset_type].dimensions if item.dataset_type else ()
    if not dimensions or not all(name in item.data_id for name in dimensions):
        return None
    return " ".join([str(item.dataset_type), *(f"{name}={item.data_id[name]}" for name in dimensions)])


def _is_known(item: Input, known: Mapping[str, Standing]) -> bool:
    """Return whether every table knows a file as it is now; refusals stand in Image's ledger alone."""
    entries = {table: now.by_uri.get(item.uri) for table, now in known.items()}
    last = entries[IMAGE]
    if last is not None and last.status == "refused":
        return (last.size, last.stamp) == (item.size, item.stamp)
    return all(entry is not None and (entry.size, entry.stamp) == (item.size, item.stamp) for entry in entries.values())


def _read(
    root: Root, work: Sequence[Input], settings: Settings, read: ReadHeaders, on_event: OnEvent
) -> tuple[list[Found], list[Refused], int]:
    """Return what the headers say, which images cannot be used, and the bytes that were read."""
    found, refused, total = [], [], 0
    for item, header in zip(work, read(work, settings), strict=True):
        try:
            if isinstance(header, InputError):
                raise header
            total += header.bytes_read
            found.append(identified(root, item, header))
        except InputError as error:
            refused.append(Refused(item, _told_unit(root, item) or item.uri, error.message, error.kind))
        size = 0 if isinstance(header, InputError) else header.bytes_read
        on_event(Event("staging", IMAGE, item.uri, inputs=1, rows=1, bytes=size))
    return found, refused, total


def _vanished(listing: Listing, now: Standing) -> frozenset[str]:
    """Return the units of images that stood below what was listed and are not there any more."""
    there = {item.uri for item in listing.inputs} | {uri for uri, _ in listing.unrecognised}
    below = tuple(root.rstrip("/") + "/" for root in listing.roots)
    return frozenset(
        entry.unit
        for entry in now.rows.values()
        if entry.uri not in there and (entry.uri in listing.roots or entry.uri.startswith(below))
    )
