"""How rows lie within a partition: sorted as the contract says, so that a reader can skip most row groups.

Why these orders, and how large a row group is: docs/design/004-file-layout.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from warehouse.contracts.contract import PATCH, TRACT, Contract

Partition = tuple[int, int] | tuple[()]


def clustered(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Return the rows sorted by tract, patch and the contract's clustering, in one chunk a column."""
    columns = [frame.get_column(name) for name in (*contract.partition_by, *contract.cluster_by)]
    # A key that is the same in all rows decides nothing, and costs as much as one that is not.
    by = [column for column in columns if not _constant(column)]
    if not by or (len(by) == 1 and by[0].is_sorted()):
        return frame.rechunk()
    return frame.sort(*(column.name for column in by), maintain_order=True).rechunk()


def placed(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Return the rows sorted by tract and patch, within a patch as they came, in one chunk a column."""
    frame = frame.rechunk()
    if not contract.partitioned or not frame.height:
        return frame
    tract, patch = (frame.get_column(name).to_numpy() for name in (TRACT, PATCH))
    place = (tract - tract.min()) * (patch.max() + 1) + patch
    # Of 16-bit numbers numpy has a radix sort: a tenth of the time of one by two columns.
    small = place.max() <= np.iinfo(np.uint16).max
    return frame[np.argsort(place.astype(np.uint16) if small else place, kind="stable")].rechunk()


def _constant(column: pl.Series) -> bool:
    return not column.has_nulls() and bool(column.min() == column.max())


def by_partition(frame: pl.DataFrame, contract: Contract) -> Iterator[tuple[Partition, pl.DataFrame]]:
    """Yield the runs of equal tract and patch of a sorted frame, without copying; one run where there are none."""
    if not contract.partitioned:
        yield (), frame
        return
    runs = frame.group_by(TRACT, PATCH, maintain_order=True).len()
    start = 0
    for tract, patch, rows in runs.iter_rows():
        yield (tract, patch), frame.slice(start, rows)
        start += rows


def partition_values(partition: Partition) -> dict[str, int | str]:
    """Return a partition as the values of its columns."""
    return dict(zip((TRACT, PATCH), partition, strict=False))
