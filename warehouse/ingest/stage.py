"""Stage: a unit of inputs becomes sorted files that nobody sees yet, and a record of what became of every row.

One input after the other: digest, read, conform, assign, split. What fits in the unit's memory is written as final
files; what does not, or what other units share patches with, goes into pieces that are gathered afterwards. An input
that is refused stops itself alone: its rows are let go, its entry says why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import polars as pl
import pyarrow as pa

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, TRACT, Contract
from warehouse.errors import ContractError, InputError, QualityError, StorageError
from warehouse.ingest import quality
from warehouse.ingest.aside import Aside
from warehouse.ingest.assign import assign
from warehouse.ingest.conform import ColumnPlan, conform, keys_only, plan_columns, units_of
from warehouse.ingest.gather import write_piece
from warehouse.ingest.job import Job, Piece, Staged, StageUnit, find_staged, write_staged
from warehouse.ingest.places import places_of
from warehouse.ingest.plan import Plan, Planned
from warehouse.ingest.quality import InputCounts
from warehouse.ingest.rules import Doubles
from warehouse.lake import layout, staged
from warehouse.lake.delta import StagedFile
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.lake.ledger import Entry
from warehouse.readers import reader_for
from warehouse.readers.reader import OpenedInput

# A unit holds its rows once as they came, once conformed, once sorted, and once in the writer's pages; and what it has
# let go of stays with the allocator for a while.
COPIES = 5
# Polars, pyarrow, delta-rs and Python themselves, before the first row.
BASELINE = 256 << 20
# What is set aside is held up to this part of a unit's memory, then written.
ASIDE_SHARE = 8
# Fewer rows a unit than this cost more in small files than they save in memory.
LEAST = 16 << 20


def unit_memory(settings: Settings) -> int:
    """Return how many bytes of rows one unit of work may hold."""
    return max(LEAST, (settings.memory - BASELINE) // (settings.workers * COPIES))


def units(job: Job, plan: Plan, settings: Settings) -> tuple[list[StageUnit], Settings]:
    """Return the plan's units of work, and the settings with as many workers as the memory has room for.

    Inputs too large for an equal share of the memory are given more of it by working on fewer at once.
    """
    contract = job.contract
    if not plan.work:
        return [], settings
    expansion = _expansion(plan.work, contract, settings)
    largest = max(p.input.size for p in plan.work) * expansion
    room = max(1, int((settings.memory - BASELINE) // (COPIES * max(largest, LEAST))))
    limits = settings.model_copy(update={"workers": min(settings.workers, room, max(1, len(plan.work)))})
    # Enough units to keep every worker busy to the end, each within its share of the memory.
    share = sum(p.input.size for p in plan.work) * expansion / limits.workers
    target = min(unit_memory(limits), max(share / 4, LEAST))
    groups = list(_grouped(plan.work, target / expansion))
    scatter = len(groups) > 1 and contract.partitioned and not _aligned(contract, plan.work)
    memory = unit_memory(limits)
    return [StageUnit(_label(job.table, group), tuple(group), memory, scatter) for group in groups], limits


def _expansion(work: Sequence[Planned], contract: Contract, settings: Settings) -> float:
    """Return bytes in memory for a byte of input, by the header of the largest one (1.5 where it cannot be read)."""
    largest = max(work, key=lambda p: p.input.size).input
    try:
        rows = reader_for(largest.uri, settings, hdu=largest.hdu).open(largest.uri, settings, contract).rows
    except (InputError, ContractError, StorageError):  # reading it in its turn says what is to be done about it
        return 1.5
    return max(0.25, rows * contract.row_bytes / max(1, largest.size))


def _grouped(work: Sequence[Planned], limit: float) -> Iterator[list[Planned]]:
    group: list[Planned] = []
    held = 0
    for planned in work:
        if group and held + planned.input.size > limit:
            yield group
            group, held = [], 0
        group.append(planned)
        held += planned.input.size
    if group:
        yield group


def _aligned(contract: Contract, work: Sequence[Planned]) -> bool:
    """Return whether no two inputs can hold rows of one patch: each is a declared tract's, or a declared patch's."""
    places = [(p.input.data_id.get("tract"), p.input.data_id.get("patch")) for p in work]
    known = all(tract is not None for tract, _ in places)
    return contract.assignment == "declared" and known and len(set(places)) == len(places)


def _label(table: str, group: Sequence[Planned]) -> str:
    first, last = group[0].input.data_id, group[-1].input.data_id
    for name in ("visit", "tract"):
        if name in first and name in last:
            both = f"{name} {first[name]}" if first[name] == last[name] else f"{name}s {first[name]}-{last[name]}"
            patches = [p.input.data_id["patch"] for p in group if "patch" in p.input.data_id]
            inside = f" patches {patches[0]}-{patches[-1]}" if patches and first[name] == last[name] else ""
            return f"stage {table} {both}{inside}"
    if len(group) == 1:
        return f"stage {table} {group[0].input.dataset_type or group[0].input.uri.rsplit('/', 1)[-1]}"
    return f"stage {table} {len(group)} inputs from {group[0].input.uri.rsplit('/', 1)[-1]}"


def stage(job: Job, unit: StageUnit, settings: Settings, on_event: OnEvent = ignore) -> str:
    """Stage the unit's inputs; return the URI of the record.

    Raises
    ------
    StorageError
        The store failed; nothing is said of the inputs, and the next run takes them up again.
    """
    uri = storage.join(job.staging_uri, f"{unit.key}.json")
    if find_staged(uri, job, settings) is not None:
        on_event(Event("resumed", job.table, unit.label, inputs=len(unit.inputs), bytes=_size(unit)))
        return uri
    shelf = _Shelf(job, unit, settings)
    aside = Aside(job, settings, unit.memory // ASIDE_SHARE)
    entries = []
    for planned in unit.inputs:
        entry = _stage_input(job, planned, shelf, aside, settings)
        entries.append(entry)
        on_event(
            Event(
                "staging",
                job.table,
                planned.unit,
                inputs=1,
                rows=entry.rows_read,
                bytes=planned.input.size,
            )
        )
    files, pieces = shelf.finish()
    record = Staged(
        files=tuple(files),
        pieces=tuple(pieces),
        entries=tuple(entries),
        quarantine=aside.finish(),
        discard=tuple(shelf.discard),
    )
    return write_staged(uri, record, settings)


def _size(unit: StageUnit) -> int:
    return sum(p.input.size for p in unit.inputs)


@dataclass
class _Shelf:
    """Where a unit's good rows wait: in memory as long as they fit, in pieces beyond that."""

    job: Job
    unit: StageUnit
    settings: Settings
    frames: list[pl.DataFrame] = field(default_factory=list)
    current: list[pl.DataFrame] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    discard: list[int] = field(default_factory=list)
    held: int = 0
    flushed: bool = False

    def put(self, frame: pl.DataFrame) -> None:
        """Take rows of the input that is being read; write all that is held as a piece where it grows too large."""
        size = frame.height * self.job.contract.row_bytes
        if self.held and self.held + size > self.unit.memory:
            self._flush()
        self.current.append(frame)
        self.held += size

    def keep(self) -> None:
        """Keep the rows of the input: it has been read to its end, and is good."""
        self.frames += self.current
        self.current, self.flushed = [], False

    def drop(self, planned: Planned) -> None:
        """Let the rows of a refused input go, also those that are in a piece already."""
        self.held -= sum(f.height for f in self.current) * self.job.contract.row_bytes
        if self.flushed:
            self.discard.append(planned.input_id)
        self.current, self.flushed = [], False

    def finish(self) -> tuple[list[StagedFile], list[Piece]]:
        """Write what is held: as final files if nobody else has rows of their patches, else as a last piece."""
        if (self.unit.scatter and self.job.contract.partitioned) or self.pieces:
            self._flush()
            return [], self.pieces
        return self._write_files(), []

    def _flush(self) -> None:
        rows = [f for f in (*self.frames, *self.current) if f.height]
        if rows and self.job.contract.partitioned:
            self.flushed = self.flushed or bool(self.current)
            whole = pl.concat(rows, rechunk=True)
            # Two copies of the rows are enough: this one, and the one that is sorted.
            self.frames, self.current, self.held = [], [], 0
            rows.clear()
            self.pieces.append(write_piece(whole, self.job, self.settings))

    def _write_files(self) -> list[StagedFile]:
        contract = self.job.contract
        frames = [f for f in self.frames if f.height]
        if not frames:
            return []
        whole = pl.concat(frames)
        self.frames = []
        rows = layout.clustered(whole, contract)
        del whole, frames
        return [
            staged.write_rows(part, contract, self.job.table_uri, self.settings, partition)
            for partition, part in layout.by_partition(rows, contract)
        ]


def _stage_input(job: Job, planned: Planned, shelf: _Shelf, aside: Aside, settings: Settings) -> Entry:
    """Return what became of one input, having put its good rows on the shelf and its refused ones aside."""
    started = time.monotonic()
    reading = _Reading(job, planned, settings, shelf.unit.memory, aside)
    error: InputError | ContractError | QualityError | StorageError | None = None
    try:
        for good in reading.batches():
            shelf.put(good)
        shelf.keep()
    except (InputError, ContractError, QualityError, StorageError) as problem:
        if isinstance(problem, StorageError) and not _forbidden(problem, planned):
            raise
        error = problem
        shelf.drop(planned)
        aside.put_input(planned, error)
    counts = reading.counts
    committed = 0 if error else counts.rows_committed
    return Entry(
        input_id=planned.input_id,
        unit=planned.unit,
        uri=planned.input.uri,
        size=planned.input.size,
        stamp=planned.input.stamp,
        status="refused" if error else "committed",
        dataset_type=planned.input.dataset_type,
        data_id=dict(planned.input.data_id),
        run=planned.input.run,
        digest=reading.digest,
        rows_read=max(reading.rows, counts.rows_read) if error else counts.rows_read,
        rows_committed=committed,
        rows_quarantined=max(reading.rows, counts.rows_read) if error else counts.rows_quarantined,
        rules=dict(counts.rules) | ({error.kind: 1} if error else {}),
        nulled=dict(counts.nulled),
        cast=dict(counts.cast),
        cut=dict(counts.cut),
        missing=counts.missing,
        extra=counts.extra,
        tracts=() if error else tuple(sorted(reading.tracts)),
        error=str(error) if error else None,
        contract=job.contract.digest,
        places=job.places,
        seconds=round(time.monotonic() - started, 3),
        hdu=planned.input.hdu,
    )


def _forbidden(problem: StorageError, planned: Planned) -> bool:
    """Return whether it is this input alone that may not be read: no reason to stop the others, nor to try again."""
    return problem.kind == "permission" and problem.uri == planned.input.uri


@lru_cache(maxsize=8)
def _known_columns(
    contract: Contract, schema: pa.Schema, index: tuple[str, ...], units: tuple[str | None, ...]
) -> ColumnPlan:
    return plan_columns(contract, schema, index, units=units)


def _columns(contract: Contract, schema: pa.Schema, index: tuple[str, ...], uri: str) -> ColumnPlan:
    """Return the plan of an input's columns; thousands of inputs share a header, whose 991 columns take 10 ms."""
    try:
        return replace(_known_columns(contract, schema.remove_metadata(), index, units_of(schema)), uri=uri)
    except ContractError as error:
        raise ContractError(error.message, kind=error.kind, table=error.table, uri=uri) from error


@dataclass
class _Reading:
    """One input on its way through the steps, and what has been learnt of it so far."""

    job: Job
    planned: Planned
    settings: Settings
    memory: int
    aside: Aside
    counts: InputCounts = field(default_factory=InputCounts)
    tracts: set[int] = field(default_factory=set)
    digest: str | None = None
    rows: int = 0

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the good rows of each batch, as the table's files will hold them."""
        item, contract = self.planned.input, self.job.contract
        self._check_unchanged()
        self.digest = storage.digest(item.uri, self.settings)
        opened = reader_for(item.uri, self.settings, hdu=item.hdu).open(item.uri, self.settings, contract)
        self.rows = opened.rows
        columns = _columns(contract, opened.schema, opened.index, item.uri)
        single = opened.rows * contract.row_bytes <= self.memory
        doubles = None if single else self._doubles(opened, columns)
        pending: list[pl.DataFrame] = []
        for batch in opened.batches(columns.read, self.memory):
            pending.append(batch)
            if not single:
                yield self._split(pending.pop(), columns, doubles)
        if single:  # an input that fits is judged as one, so that its doubled keys are seen without a second pass
            yield self._split(pl.concat(pending) if pending else self._none(opened, columns), columns, None)
        self._check_unchanged()
        self._check_share()

    def _none(self, opened: OpenedInput, columns: ColumnPlan) -> pl.DataFrame:
        return pl.DataFrame(opened.schema.empty_table().select(list(columns.read)))

    def _doubles(self, opened: OpenedInput, columns: ColumnPlan) -> Doubles:
        keys = keys_only(columns)
        return quality.find_doubles(opened.batches(keys.read, self.memory), keys)

    def _split(self, batch: pl.DataFrame, columns: ColumnPlan, doubles: Doubles | None) -> pl.DataFrame:
        contract, sky, item = self.job.contract, self.job.root.sky, self.planned.input
        first_row = self.counts.rows_read
        conformed = conform(batch, columns, first_row=first_row)
        frame = conformed.frame
        places = places_of(self.job.root, contract, frame, item, self.settings)
        frame = assign(frame, contract, sky, truth_places=places)
        spare = self.job.max_quarantined_share * self.rows - self.counts.rows_refused
        checked = quality.check(
            frame, conformed.original, contract, sky, item, first_row=first_row, doubles=doubles, spare=spare
        )
        self.counts += quality.counts_of(columns, conformed, checked)
        self.aside.put(self.planned, checked)
        good = checked.good.with_columns(pl.lit(self.planned.input_id, dtype=pl.Int64).alias(INPUT_ID))
        if contract.partitioned:
            self.tracts.update(good.get_column(TRACT).unique())
        return good

    def _check_unchanged(self) -> None:
        item = self.planned.input
        found = storage.stamp(item.uri, self.settings)
        if found != (item.size, item.stamp):
            message = f"the file has changed since it was listed: {item.stamp} expected, {found[1]} found"
            raise InputError(message, kind="changed", table=self.job.table, uri=item.uri)

    def _check_share(self) -> None:
        limit = self.job.max_quarantined_share
        refused, read = self.counts.rows_refused, self.counts.rows_read
        if quality.share_exceeded(read, refused, limit):
            worst = ", ".join(f"{rule} {n}" for rule, n in sorted(self.counts.rules.items(), key=lambda r: -r[1]))
            share = math.ceil(1000 * refused / read) / 10
            message = f"{refused} of {read} rows ({share} %) break rules, {100 * limit:g} % are allowed: {worst}"
            raise QualityError(message, kind="share", table=self.job.table, uri=self.planned.input.uri)
