"""Which files a question can need, told from the table's log and the sky map alone: no file is opened.

Each function returns one boolean a file of `Opened.files`; true wherever the log does not tell. Works on whole
columns, because tables have tens of thousands of files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import PATCH, TRACT
from warehouse.lake.bounds import Mask
from warehouse.query.areas import Patch, Place, Tract
from warehouse.query.tables import Opened
from warehouse.sky import sphere
from warehouse.sky.regions import Region

Degrees = npt.NDArray[np.float64]

_MARGIN_DEG = 1e-9  # the log's JSON numbers may lose their last digit
_FEW = 4  # files that are sooner opened than held against the region's very edge
_WIDE_DEG, _STEEP_DEG = 60.0, 89.0  # beyond, as where RA 0 cuts a file's extent in two, a box is no small polygon
_PAD_DEG = 1e-5  # so that a file of one row, too, has an area that can be computed with


def touching(opened: Opened, wanted: Sequence[Place]) -> Mask:
    """Return which files may hold a row of one of the places."""
    mask = np.zeros(opened.files.height, dtype=bool)
    for place in wanted:
        mask |= _in_partition(opened, place) if isinstance(place, Tract | Patch) else _in_region(opened, place)
    return mask


def equal(opened: Opened, column: str, value: int) -> Mask:
    """Return which files have `value` in a partition column."""
    return (opened.files.get_column(column) == value).to_numpy()


def among(opened: Opened, column: str, values: Sequence[int]) -> Mask:
    """Return which files have one of `values` in a partition column."""
    return np.isin(opened.files.get_column(column).to_numpy(), np.asarray(values, np.int64))


def _in_partition(opened: Opened, place: Tract | Patch) -> Mask:
    mask = equal(opened, TRACT, place.tract)
    return mask & equal(opened, PATCH, place.patch) if isinstance(place, Patch) else mask


def _in_region(opened: Opened, region: Region) -> Mask:
    """Return which files may hold a position in `region`: by their extents, or where none is told by the sky map."""
    west, east, south, north = extents = _extents(opened)
    known = np.isfinite(west + east + south + north)
    mask = ~known
    for ra_min, ra_max, dec_min, dec_max in region.bounds():
        beside = (east < ra_min - _MARGIN_DEG) | (west > ra_max + _MARGIN_DEG)
        mask |= known & ~(beside | (north < dec_min - _MARGIN_DEG) | (south > dec_max + _MARGIN_DEG))
    narrow = mask & known & (east - west < _WIDE_DEG) & (np.maximum(np.abs(south), np.abs(north)) < _STEEP_DEG)
    if np.count_nonzero(narrow) > _FEW:
        mask[narrow] = region.touches(_corners(*(edge[narrow] for edge in extents)))
    if not known.all():
        mask[~known] = _in_patches(opened, region)[~known]
    return mask


def _extents(opened: Opened) -> tuple[Degrees, Degrees, Degrees, Degrees]:
    """Return the least and largest RA and Dec of each file as its log tells, NaN where it does not."""
    files = opened.files
    names = [f"{end}.{column}" for column in opened.position() for end in ("min", "max")]
    unknown = np.full(files.height, np.nan)
    west, east, south, north = (
        files.get_column(n).cast(pl.Float64).to_numpy() if n in files.columns else unknown for n in names
    )
    return west, east, south, north


def _corners(west: Degrees, east: Degrees, south: Degrees, north: Degrees) -> Degrees:
    """Return great-circle polygons (file, 4, 3) that hold boxes of RA and Dec.

    A great circle bows from a parallel towards the pole, by tan(dec at its middle) = tan(dec at its ends) / cos(half
    its width): where that is into the box, its ends are set back so that its middle is on the parallel.
    """
    pad_ra = _PAD_DEG / np.cos(np.radians(np.maximum(np.abs(south), np.abs(north)) + _PAD_DEG))
    west, east, south, north = west - pad_ra, east + pad_ra, south - _PAD_DEG, north + _PAD_DEG
    bow = np.cos(np.radians(0.5 * (east - west)))
    south = np.where(south > 0, np.degrees(np.arctan(np.tan(np.radians(south)) * bow)), south)
    north = np.where(north < 0, np.degrees(np.arctan(np.tan(np.radians(north)) * bow)), north)
    ra, dec = np.stack([west, east, east, west], axis=-1), np.stack([south, south, north, north], axis=-1)
    return sphere.unit(ra, dec)


def _in_patches(opened: Opened, region: Region) -> Mask:
    """Return which files lie in patches whose rows the region may touch."""
    contract, sky = opened.contract, opened.sky
    # What tracts and patches a generated table's rows have is not a matter of their position alone.
    if contract.generated or contract.assignment not in {"declared", "derived"}:
        return np.ones(opened.files.height, dtype=bool)
    tract, patch = sky.outer_candidates(region) if contract.assignment == "declared" else sky.candidates(region)
    in_file = opened.files.select(TRACT, PATCH).to_numpy() @ [sky.patches_per_tract, 1]
    return np.isin(in_file, tract * sky.patches_per_tract + patch)
