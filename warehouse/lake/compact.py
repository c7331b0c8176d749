"""Compaction: many small files of one partition become a few, in one version that changes no row.

For tables that grow by a few rows a run: ledger, quarantine, images. A table that is bulk-loaded comes in well-sized
files, and one on which others rest is left alone, because each of its versions counts as news there. Readers of
earlier versions go on with the files that they know, which upkeep removes when they are old.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import ConflictError
from warehouse.faults import translated
from warehouse.lake import delta, ledger, staged
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.rows import stored

# A compacted file has up to so many bytes - as text in memory some twenty times that - and one of half of it is left.
TARGET_BYTES = 8 << 20
LEAST_FILES = 4


@dataclass(frozen=True, slots=True)
class Form:
    """How the files of a table are written: their schema, partition columns, statistics, and the order of rows."""

    schema: pa.Schema
    partition_by: tuple[str, ...]
    statistics: tuple[str, ...]
    order: tuple[str, ...]


def of_contract(contract: Contract) -> Form:
    """Return the form of a table of rows."""
    return Form(contract.file_schema, contract.partition_by, contract.statistics, contract.cluster_by)


def of_ledger(name: str) -> Form:
    """Return the form of ``Ledger`` or ``Quarantine``."""
    schema = ledger.LEDGER_SCHEMA if name == ledger.LEDGER else ledger.QUARANTINE_SCHEMA
    in_file = schema.remove(schema.get_field_index("table"))
    order = ("version", "input_id", *(("row_number",) if name == ledger.QUARANTINE else ()))
    return Form(in_file, ("table",), ledger.STATISTICS, order)


def compact(uri: str, form: Form, settings: Settings, *, dry_run: bool = False) -> int:
    """Merge small files of a table, and return how many have become fewer.

    0 where another writer was first: its files, too, are for the next upkeep.
    """
    base = delta.snapshot(uri, settings)
    groups = list(_groups(base.files, form.partition_by))
    paths = [path for group in groups for path in group.get_column("path")]
    if dry_run or not groups:
        return len(paths)
    merged = [_merged(base, group, form, settings) for group in groups]
    try:
        delta.commit(base, uuid.uuid4().hex, settings, add=merged, remove=paths, metadata={"compacted": len(paths)})
    except ConflictError:
        return 0
    return len(paths)


def _groups(files: pl.DataFrame, partition_by: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield small files of one partition that make one: no more than fit into it, and no fewer than are worth it."""
    small = files.filter(pl.col("size_bytes") < TARGET_BYTES // 2)
    for partition in small.partition_by(*partition_by, maintain_order=True) if partition_by else [small]:
        for group in _filled(partition.get_column("size_bytes")):
            if len(group) >= LEAST_FILES:
                yield partition[group]


def _filled(sizes: Iterable[int]) -> Iterator[range]:
    """Yield the runs of files that together stay below the target."""
    first = total = last = 0
    for last, size in enumerate(sizes):
        if total + size > TARGET_BYTES:
            yield range(first, last)
            first, total = last, 0
        total += size
    yield range(first, last + 1)


def _merged(base: Snapshot, group: pl.DataFrame, form: Form, settings: Settings) -> StagedFile:
    rows = stored(base.uri, group.get_column("path"), pl.Schema(form.schema), settings)
    with translated(base.uri, "reading"):
        frame = rows.sort(*form.order, maintain_order=True).collect()
    partition = {name: group.item(0, name) for name in form.partition_by}
    return staged.write(frame, base.uri, settings, schema=form.schema, statistics=form.statistics, partition=partition)
