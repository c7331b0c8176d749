"""Multi-order coverage maps as regions: footprints of surveys, error regions of events.

The map itself is mocpy's, an optional companion (``tractlake[moc]``) that is imported only when a region is made.
Cones, boxes and polygons are in `warehouse.sky.regions`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.errors import QueryError
from warehouse.sky import sphere
from warehouse.sky.blocks import Bools, Floats, Ints
from warehouse.sky.regions import Bounds, bounded, boxes, contained
from warehouse.sky.sphere import DEGREE, MARGIN

_CELLS = 4096  # cells at most that stand for the map where it is held against patches
_PAIRS = 200_000  # polygons and cells measured against each other at once: some 50 MB


@dataclass(frozen=True)
class Moc:
    """All positions that a coverage map covers.

    Attributes
    ----------
    coverage
        A ``mocpy.MOC``, in ICRS.

    Raises
    ------
    QueryError
        mocpy is not installed, or `coverage` is something else.
    """

    coverage: Any

    def __post_init__(self) -> None:
        if not isinstance(self.coverage, _mocpy().MOC):
            raise QueryError(f"moc: expected a mocpy.MOC, found {type(self.coverage).__name__}", kind="region")

    @classmethod
    def load(cls, path: str | Path) -> Moc:
        """Return the coverage map of a FITS, JSON (``.json``) or ASCII (``.txt``) file (QueryError for others)."""
        format_ = {".json": "json", ".txt": "ascii"}.get(Path(path).suffix.lower(), "fits")
        try:
            return cls(_mocpy().MOC.load(path, format=format_))
        except (OSError, ValueError) as error:
            raise QueryError(f"moc: {path} is no coverage map in {format_}: {error}", kind="region") from error

    def contains(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
        """Return whether each position is covered."""
        from astropy import units

        def within(ra: Floats, dec: Floats) -> Bools:
            return np.asarray(self.coverage.contains_lonlat(ra * units.deg, dec * units.deg), dtype=bool)

        return contained(ra_deg, dec_deg, self.bounds(), within)

    def expr(self, ra_col: str, dec_col: str) -> pl.Expr:
        """Return `contains` over two columns; past the bounds, rows are looked up in Python."""

        def covered(positions: pl.Series) -> pl.Series:
            frame = positions.struct.unnest()
            return pl.Series(self.contains(frame[ra_col].to_numpy(), frame[dec_col].to_numpy()))

        exact = pl.struct(ra_col, dec_col).map_batches(covered, return_dtype=pl.Boolean, is_elementwise=True)
        return bounded(ra_col, dec_col, self.bounds(), exact)

    def bounds(self) -> Bounds:
        """Return one box, or two across RA 0, around all cells; the gap left out is the widest in right ascension."""
        ra, dec, radius = self._cells()
        if not ra.size:
            return ()
        low, high = float((dec - radius).min()), float((dec + radius).max())
        if low <= -90 or high >= 90:
            return boxes(0.0, 360.0, low, high)
        half = np.degrees(np.arcsin(np.minimum(np.sin(radius * DEGREE) / np.cos(dec * DEGREE), 1.0)))
        # Unrolled from behind the widest gap between cells, so that a map across RA 0 is one stretch.
        ordered = np.sort(ra)
        start = float(ordered[np.argmax(np.diff(ordered, prepend=ordered[-1] - 360.0))])
        unrolled = start + (ra - start) % 360.0
        return boxes(float((unrolled - half).min()), float((unrolled + half).max()), low, high)

    def touches(self, corners: Floats) -> Bools:
        """Return whether each polygon comes near a cell: the cells are taken as circles around them."""
        ra, dec, radius = self._cells()
        touched: Bools = np.zeros(len(corners), dtype=bool)
        if not ra.size:
            return touched
        cells = sphere.unit(ra, dec)
        centres = corners.mean(axis=1)
        centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
        reach = np.arccos(np.clip((corners * centres[:, None]).sum(axis=-1).min(axis=-1), -1.0, 1.0))
        limit = np.cos(np.minimum(reach + radius * DEGREE + 1e-6, np.pi))
        for start in range(0, len(corners), max(1, _PAIRS // ra.size)):
            part = slice(start, start + max(1, _PAIRS // ra.size))
            which, cell = np.nonzero(centres[part] @ cells.T >= limit[part, None])
            close = sphere.distance(corners[part][which], cells[cell]) <= radius * DEGREE + MARGIN
            touched[start + which[close]] = True
        return touched

    def _cells(self) -> tuple[Floats, Floats, float]:
        """Return the centres of at most `_CELLS` equal cells that hold the map, and their radius, in degrees."""
        coarse, order = self.coverage, int(self.coverage.max_order)
        while order > 0 and coarse.sky_fraction * 12 * 4**order > _CELLS:
            order -= 1
            coarse = coarse.degrade_to_order(order)
        cells = np.empty(0, np.int64) if coarse.empty() else np.asarray(coarse.flatten(), dtype=np.int64)
        ra, dec = _centres(cells, order)
        return ra, dec, _radius(order)


def _mocpy() -> ModuleType:
    try:
        import mocpy
    except ImportError as error:
        raise QueryError("moc: coverage maps need mocpy: pip install 'tractlake[moc]'", kind="region") from error
    return mocpy  # type: ignore[no-any-return]


def _centres(cells: Ints, order: int) -> tuple[Floats, Floats]:
    """Return RA and Dec in degrees of HEALPix cells in nested numbering (Gorski et al. 2005, ApJ 622, 759, eq. 2-9)."""
    nside = 2**order
    face, inside = np.divmod(cells, nside * nside)
    column, row = np.zeros_like(inside), np.zeros_like(inside)
    for bit in range(order):
        column |= (inside >> (2 * bit) & 1) << bit
        row |= (inside >> (2 * bit + 1) & 1) << bit
    tier = face // 4
    ring = (tier + 2) * nside - column - row - 1  # from the north pole, 1 to 4 nside - 1
    polar = np.minimum(np.minimum(ring, 4 * nside - ring), nside)
    z = np.where(
        polar < nside, np.sign(2 * nside - ring) * (1 - polar**2 / (3 * nside**2)), (2 * nside - ring) / (1.5 * nside)
    )
    face_longitude = np.where(tier == 1, 2 * (face % 4), 2 * (face % 4) + 1)
    longitude = (face_longitude + (column - row) / polar) * (0.25 * math.pi)
    return sphere.wrap(np.degrees(longitude)), np.degrees(np.arcsin(z))


def _radius(order: int) -> float:
    """Return degrees from a cell's centre to its farthest corner, at most, over all cells of an order."""
    nside = 2**order
    corner = sphere.unit(45.0 / nside, math.degrees(math.asin(2 / 3)))
    centre = sphere.unit(0.0, math.degrees(math.asin(1 - (1 - 1 / nside) ** 2 / 3)))
    chord = float(np.linalg.norm(corner - centre))
    return 2 * math.degrees(math.asin(0.5 * chord)) * (1 + 1e-6)
