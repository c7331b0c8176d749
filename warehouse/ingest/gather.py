"""Gather: the pieces of a partition, staged by many units of work, become one well-sized sorted file.

Visits cut across tracts and patches. Written as they come they would leave a file a patch and unit; gathered, a
back-fill of thousands of visits leaves one file a patch, or a few of the size that the memory allows. A piece holds a
record batch a partition, one behind the other, and its record says at which bytes: a gather reads each batch that it
needs in one go, from S3 as well.

Arrow's own memory pool hands large buffers back to the system at once, and fetching them again costs more than filling
them: the system's pool keeps them, and a third of the processor's time with it.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID
from warehouse.faults import translated
from warehouse.ingest.job import (
    GatherUnit,
    Job,
    Piece,
    Staged,
    find_staged,
    read_gather_unit,
    write_gather_unit,
    write_staged,
)
from warehouse.lake import layout, staged
from warehouse.lake.events import Event, OnEvent, ignore

UNITS_A_WORKER = 4


def write_piece(frame: pl.DataFrame, job: Job, settings: Settings) -> Piece:
    """Write rows, in any order, as one piece with a record batch for each tract and patch."""
    contract = job.contract
    frame = layout.placed(frame, contract)
    uri = storage.join(job.staging_uri, f"{uuid.uuid4().hex}.arrow")
    rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks().to_batches()[0]
    parts = []
    filesystem, path = storage.filesystem(uri, settings)
    with translated(uri, "writing"):
        if storage.scheme(uri) == "file":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with filesystem.open(path, "wb") as handle:
            end = handle.write(rows.schema.serialize())
            start = 0
            for partition, here in layout.by_partition(frame, contract):
                tract, patch = partition or (-1, -1)
                first = end
                end += handle.write(rows.slice(start, here.height).serialize(memory_pool=pa.system_memory_pool()))
                parts.append((tract, patch, here.height, first, end))
                start += here.height
    return Piece(uri, tuple(parts))


@dataclass(frozen=True, slots=True)
class _Portion:
    """What becomes one file: rows of one partition, from these record batches."""

    partition: tuple[int, int]
    batches: tuple[tuple[str, int, int], ...]
    rows: int


def plan_gather(job: Job, records: Sequence[Staged], memory: int, settings: Settings) -> list[str]:
    """Return the URIs of the gather units for all pieces of `records`, each of at most about `memory` bytes of rows.

    They are smaller where that gives every worker several, so that none is left with the last large one. A partition
    that is larger than the memory becomes several files.
    """
    most = max(1, memory // job.contract.row_bytes)
    pieces = [piece for record in records for piece in record.pieces]
    portions = list(_portions(pieces, most))
    schema = (pieces[0].uri, pieces[0].parts[0][3])
    discard = tuple(sorted({i for record in records for i in record.discard}))
    fair = sum(portion.rows for portion in portions) // (settings.workers * UNITS_A_WORKER)
    uris = []
    for group in _grouped(portions, min(most, fair)):
        tracts = sorted({portion.partition[0] for portion in group})
        label = f"gather {job.table} tract {tracts[0]}" + (f"-{tracts[-1]}" if len(tracts) > 1 else "")
        partitions = tuple(portion.partition for portion in group)
        unit = GatherUnit(label, partitions, tuple(portion.batches for portion in group), schema, discard)
        uris.append(write_gather_unit(storage.join(job.staging_uri, f"gather-{unit.key}.json"), unit, settings))
    return uris


def _portions(pieces: Sequence[Piece], most: int) -> Iterator[_Portion]:
    """Yield the partitions in order, each whole or in portions of at most `most` rows (or one record batch)."""
    where: dict[tuple[int, int], list[_Portion]] = defaultdict(list)
    for piece in pieces:
        for tract, patch, rows, first, end in piece.parts:
            where[tract, patch].append(_Portion((tract, patch), ((piece.uri, first, end),), rows))
    for partition in sorted(where):
        for group in _grouped(where[partition], most):
            batches = tuple(batch for portion in group for batch in portion.batches)
            yield _Portion(partition, batches, sum(portion.rows for portion in group))


def _grouped(portions: Sequence[_Portion], limit: int) -> Iterator[list[_Portion]]:
    group: list[_Portion] = []
    held = 0
    for portion in portions:
        if group and held + portion.rows > limit:
            yield group
            group, held = [], 0
        group.append(portion)
        held += portion.rows
    if group:
        yield group


def gather(job: Job, unit_uri: str, settings: Settings, on_event: OnEvent = ignore) -> str:
    """Gather each portion of a unit into one sorted file; return the URI of the record."""
    uri = unit_uri.removesuffix(".json") + ".staged.json"
    if find_staged(uri, job, settings) is not None:
        return uri
    unit = read_gather_unit(unit_uri, settings)
    contract = job.contract
    schema = pa.ipc.read_schema(pa.py_buffer(_read(unit.schema[0], 0, unit.schema[1], settings)))
    files = []
    for partition, batches in zip(unit.partitions, unit.batches, strict=True):
        frame = layout.clustered(_joined(batches, schema, unit.discard, settings), contract)
        if frame.height:
            files.append(staged.write_rows(frame, contract, job.table_uri, settings, partition))
        del frame  # before the next one is read
    on_event(Event("gathered", job.table, unit.label, rows=sum(f.rows for f in files), files=len(files)))
    return write_staged(uri, Staged(files=tuple(files)), settings)


def _joined(
    batches: Sequence[tuple[str, int, int]], schema: pa.Schema, discard: Sequence[int], settings: Settings
) -> pl.DataFrame:
    """Return the rows of record batches in pieces, without those of the inputs `discard`."""
    rows = [pa.ipc.read_record_batch(pa.py_buffer(_read(*batch, settings)), schema) for batch in batches]
    # Put together here and not by Polars, which would take each column of each batch over by itself.
    frame = pl.DataFrame(pa.Table.from_batches(rows).combine_chunks(memory_pool=pa.system_memory_pool()))
    return frame.filter(~pl.col(INPUT_ID).is_in(discard)) if discard else frame


def _read(uri: str, first: int, end: int, settings: Settings) -> bytes:
    """Return the bytes of a piece from `first` up to `end`."""
    filesystem, path = storage.filesystem(uri, settings)
    with translated(uri, "reading"):
        content: bytes = filesystem.cat_file(path, start=first, end=end)
        return content
