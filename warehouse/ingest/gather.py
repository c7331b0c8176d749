"""Gather: the pieces of a partition, staged by many units of work, become one well-sized sorted file.

Visits cut across tracts and patches. Written as they come they would leave a file a patch and unit; gathered, a
back-fill of thousands of visits leaves one file a patch. A piece holds a record batch a partition, one behind the
other, and its record says at which bytes: a gather reads each batch that it needs in one go, from S3 as well.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, Contract
from warehouse.faults import translated
from warehouse.ingest.job import (
    Event,
    GatherUnit,
    Job,
    OnEvent,
    Piece,
    Staged,
    find_staged,
    ignore,
    read_gather_unit,
    write_gather_unit,
    write_staged,
)
from warehouse.lake import layout, staged

UNITS_A_WORKER = 4


def write_piece(frame: pl.DataFrame, job: Job, settings: Settings) -> Piece:
    """Write rows, in any order, as one piece with a record batch for each tract and patch."""
    contract = job.contract
    frame = frame.sort(*contract.partition_by, maintain_order=True).rechunk()
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
                end += handle.write(rows.slice(start, here.height).serialize())
                parts.append((tract, patch, here.height, first, end))
                start += here.height
    return Piece(uri, tuple(parts))


def plan_gather(job: Job, records: Sequence[Staged], memory: int, settings: Settings) -> list[str]:
    """Return the URIs of the gather units for all pieces of `records`, each of at most about `memory` bytes of rows.

    They are smaller where that gives every worker several, so that none is left with the last large one.
    """
    where: dict[tuple[int, int], list[tuple[str, int, int]]] = defaultdict(list)
    rows: dict[tuple[int, int], int] = defaultdict(int)
    pieces = [piece for record in records for piece in record.pieces]
    for piece in pieces:
        for tract, patch, count, first, end in piece.parts:
            where[tract, patch].append((piece.uri, first, end))
            rows[tract, patch] += count
    schema = (pieces[0].uri, pieces[0].parts[0][3])
    discard = tuple(sorted({i for record in records for i in record.discard}))
    fair = sum(rows.values()) // (settings.workers * UNITS_A_WORKER)
    limit = max(1, min(memory // row_bytes(job.contract), fair))
    uris = []
    for group in _grouped(sorted(rows), rows, limit):
        tracts = sorted({tract for tract, _ in group})
        label = f"gather {job.table} tract {tracts[0]}" + (f"-{tracts[-1]}" if len(tracts) > 1 else "")
        unit = GatherUnit(label, tuple(group), tuple(tuple(where[p]) for p in group), schema, discard)
        uris.append(write_gather_unit(storage.join(job.staging_uri, f"gather-{unit.key}.json"), unit, settings))
    return uris


def _grouped(
    partitions: Sequence[tuple[int, int]], rows: Mapping[tuple[int, int], int], limit: int
) -> Iterator[list[tuple[int, int]]]:
    group: list[tuple[int, int]] = []
    held = 0
    for partition in partitions:
        if group and held + rows[partition] > limit:
            yield group
            group, held = [], 0
        group.append(partition)
        held += rows[partition]
    if group:
        yield group


def row_bytes(contract: Contract) -> int:
    """Return about how many bytes a row holds in memory (text counted as 16)."""
    bits = 0
    for field in contract.arrow_schema:
        try:
            bits += field.type.bit_width
        except ValueError:
            bits += 8 * 16
    return max(1, bits // 8)


def gather(job: Job, unit_uri: str, settings: Settings, on_event: OnEvent = ignore) -> str:
    """Gather the partitions of a unit into one sorted file each; return the URI of the record."""
    uri = unit_uri.removesuffix(".json") + ".staged.json"
    if find_staged(uri, job, settings) is not None:
        return uri
    unit = read_gather_unit(unit_uri, settings)
    contract = job.contract
    schema = pa.ipc.read_schema(pa.py_buffer(_read(unit.schema[0], 0, unit.schema[1], settings)))
    files = []
    for partition, batches in zip(unit.partitions, unit.batches, strict=True):
        buffers = [pa.py_buffer(_read(*batch, settings)) for batch in batches]
        frame = pl.DataFrame(pa.Table.from_batches([pa.ipc.read_record_batch(b, schema) for b in buffers]))
        if unit.discard:
            frame = frame.filter(~pl.col(INPUT_ID).is_in(unit.discard))
        if not frame.height:
            continue
        files.append(
            staged.write(
                layout.clustered(frame, contract).select(contract.file_schema.names),
                job.table_uri,
                settings,
                schema=contract.file_schema,
                statistics=contract.statistics,
                partition=layout.partition_values(partition),
            )
        )
    on_event(Event("gathered", job.table, unit.label, rows=sum(f.rows for f in files), files=len(files)))
    return write_staged(uri, Staged(files=tuple(files)), settings)


def _read(uri: str, first: int, end: int, settings: Settings) -> bytes:
    """Return the bytes of a piece from `first` up to `end`."""
    filesystem, path = storage.filesystem(uri, settings)
    with translated(uri, "reading"):
        content: bytes = filesystem.cat_file(path, start=first, end=end)
        return content
