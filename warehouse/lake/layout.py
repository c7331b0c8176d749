"""How rows lie within a partition: the order that lets a reader skip most row groups.

A table that is clustered by its position follows a Z-order curve over the patch, so that a row group is a small piece
of sky on both axes; every other table is sorted by its columns as the contract says.
Why: docs/design/004-file-layout.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import PATCH, TRACT, Contract

_BITS = 16
_ORDER = "__order"

Degrees = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.uint32]
Partition = tuple[int, int] | tuple[()]


def clustered(frame: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Return the rows sorted by tract, patch and the contract's clustering, in one chunk a column."""
    partition = list(contract.partition_by)
    if contract.position is not None and set(contract.cluster_by) == set(contract.position):
        ra, dec = (frame.get_column(name).to_numpy() for name in contract.position)
        order = pl.Series(_ORDER, _z_order(ra, dec))
        return frame.with_columns(order).sort(*partition, _ORDER, maintain_order=True).drop(_ORDER)
    by = [*partition, *contract.cluster_by]
    return frame.sort(*by, maintain_order=True) if by else frame.rechunk()


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


def _z_order(ra_deg: Degrees, dec_deg: Degrees) -> Numbers:
    """Return the Morton number of each position on a grid of 2^16 x 2^16 over the positions' own extent."""
    if not len(ra_deg):
        return np.zeros(0, np.uint32)
    offset = (ra_deg - ra_deg[0] + 540.0) % 360.0  # so that an extent across RA 0 is one piece
    return _spread(_grid(offset)) | (_spread(_grid(dec_deg)) << np.uint32(1))


def _grid(values: Degrees) -> Numbers:
    low, high = values.min(), values.max()
    scale = ((1 << _BITS) - 1) / (high - low) if high > low else 0.0
    return np.asarray((values - low) * scale, np.uint32)


def _spread(values: Numbers) -> Numbers:
    """Return 16-bit numbers with a zero bit put before each bit."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        values = (values | (values << np.uint32(shift))) & np.uint32(mask)
    return values
