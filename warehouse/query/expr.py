"""Expressions that astronomers write again and again: magnitudes, separations, HEALPix cells.

They take column names or Polars expressions, stay lazy, and are null where their input is null or has no answer, as
every float of a warehouse is (never NaN): comparisons then mean the same in every engine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.errors import QueryError
from warehouse.photometry import Columnlike, abmag, abmag_err, floats

__all__ = ["abmag", "abmag_err", "healpix", "separation_arcsec"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DEGREE = math.pi / 180
_ORDERS = 29  # the deepest order whose cell numbers fit 62 bits


def separation_arcsec(ra_a: Columnlike, dec_a: Columnlike, ra_b: Columnlike, dec_b: Columnlike) -> pl.Expr:
    """Return the great-circle separation of two positions in degrees, in arcsec.

    The haversine formula (Sinnott 1984, Sky & Telescope 68, 158), which keeps its digits at small separations.
    """
    lon_a, lat_a, lon_b, lat_b = (floats(angle) * _DEGREE for angle in (ra_a, dec_a, ra_b, dec_b))
    chord = ((lat_b - lat_a) * 0.5).sin().pow(2) + lat_a.cos() * lat_b.cos() * ((lon_b - lon_a) * 0.5).sin().pow(2)
    arcsec = 2 * chord.sqrt().clip(upper_bound=1.0).arcsin() * (3600 / _DEGREE)
    return pl.when(arcsec.is_finite()).then(arcsec)


def healpix(ra: Columnlike, dec: Columnlike, order: int) -> pl.Expr:
    """Return the HEALPix cell of a position in degrees: nested numbering, int64, null where the position is none.

    Parameters
    ----------
    order
        0 to 29; there are 12 * 4**order cells. Gorski et al. 2005, ApJ 622, 759.

    Raises
    ------
    QueryError
        No such order.
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= _ORDERS:
        raise QueryError(f"healpix: expected an order of 0 to {_ORDERS}, found {order!r}", kind="healpix")

    def cells(positions: pl.Series) -> pl.Series:
        ra_deg, dec_deg = (positions.struct.field(name).to_numpy() for name in ("ra", "dec"))
        known = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90)
        found = _cells(np.where(known, ra_deg, 0.0), np.where(known, dec_deg, 0.0), order)
        series = pl.Series(found)
        return (
            series
            if known.all()
            else series.to_frame("cell").select(pl.when(pl.Series(known)).then(pl.col("cell"))).to_series()
        )

    both = pl.struct(floats(ra).alias("ra"), floats(dec).alias("dec"))
    return both.map_batches(cells, return_dtype=pl.Int64, is_elementwise=True)


def _cells(ra_deg: Floats, dec_deg: Floats, order: int) -> Ints:
    """Return nested cells of positions: the face first, then x and y within it, their bits interleaved."""
    nside = 1 << order
    z = np.sin(dec_deg * _DEGREE)
    quarter = np.mod(ra_deg, 360.0) / 90.0  # [0, 4]
    quarter = np.where(quarter >= 4.0, 0.0, quarter)
    face, x, y = np.where(np.abs(z) <= 2 / 3, _equatorial(z, quarter, nside), _polar(dec_deg, quarter, nside))
    return np.asarray(face * nside * nside + _spread(x) + 2 * _spread(y))


def _equatorial(z: Floats, quarter: Floats, nside: int) -> Ints:
    """Return face, x and y of positions between the caps, where cells' edges are straight in (quarter, z)."""
    rising = np.floor(nside * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    falling = np.floor(nside * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    above, below = rising // nside, falling // nside
    face = np.where(above == below, above % 4 + 4, np.where(above < below, above % 4, below % 4 + 8))
    return np.stack([face, falling % nside, nside - 1 - rising % nside])


def _polar(dec_deg: Floats, quarter: Floats, nside: int) -> Ints:
    """Return face, x and y of positions in the caps, where a face narrows to the pole."""
    part = np.minimum(np.floor(quarter), 3)
    along = quarter - part
    # sqrt(3 (1 - |z|)), written so that it keeps its digits near the pole.
    reach = nside * math.sqrt(6.0) * np.sin(0.5 * (90.0 - np.abs(dec_deg)) * _DEGREE)
    near = np.minimum(np.floor(along * reach), nside - 1).astype(np.int64)
    far = np.minimum(np.floor((1 - along) * reach), nside - 1).astype(np.int64)
    north = dec_deg > 0
    face = np.where(north, part, part + 8).astype(np.int64)
    return np.stack([face, np.where(north, nside - 1 - far, near), np.where(north, nside - 1 - near, far)])


def _spread(values: Ints) -> Ints:
    """Return numbers of 29 bits with a zero bit put before each bit."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        values = (values | (values << shift)) & mask
    return values
