"""Regions of the sky: cones, boxes and convex polygons, and what is inside them.

A region is a small frozen value in degrees (ICRS) that answers four questions: which positions it contains (numpy),
the same as a Polars expression, the RA/Dec boxes around it, and which polygons it may touch. Coverage maps are in
`warehouse.sky.moc`; which tracts and patches a region touches is the sky map's answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.errors import QueryError
from warehouse.sky import sphere
from warehouse.sky.blocks import Bools, Floats
from warehouse.sky.sphere import DEGREE, MARGIN

Bounds = tuple[tuple[float, float, float, float], ...]
"""RA/Dec boxes (ra_min, ra_max, dec_min, dec_max) in degrees, 0 <= ra_min <= ra_max <= 360."""

_MARGIN_DEG = MARGIN / DEGREE


class Region(Protocol):
    """A part of the sky."""

    def contains(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
        """Return whether each position, in degrees, is inside; false where a coordinate is not finite."""
        ...

    def expr(self, ra_col: str, dec_col: str) -> pl.Expr:
        """Return `contains` as an expression over columns with RA in [0, 360); false for null and NaN.

        It begins with plain two-sided bounds, by which scans skip files and row groups.
        """
        ...

    def bounds(self) -> Bounds:
        """Return RA/Dec boxes that together hold the region; none for an empty one."""
        ...

    def touches(self, corners: Floats) -> Bools:
        """Return whether the region may meet each convex polygon of `corners` (n, k, 3); never wrongly false."""
        ...


@dataclass(frozen=True, slots=True)
class Cone:
    """All positions within `radius` degrees of a centre, the edge included.

    Raises
    ------
    QueryError
        A value that is not finite, a declination beyond the pole, a radius below 0 or above 180.
    """

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        _set(self, ra=_ra("cone", self.ra), dec=_dec("cone", self.dec))
        _set(self, radius=_finite("cone", "radius", self.radius))
        if not 0 <= self.radius <= 180:
            raise QueryError(f"cone: expected a radius of 0 to 180 degrees, found {self.radius}", kind="region")

    @property
    def _near(self) -> tuple[float, float, float, bool]:
        """Centre (radians) and squared half chord of the cap to test, and whether that cap is what lies outside.

        Half chords tell nothing about angles near 180 degrees, so a wide cone is tested by the cap opposite to it.
        """
        wide = self.radius > 90
        ra = (self.ra + 180 if wide else self.ra) * DEGREE
        reach = (180 - self.radius if wide else self.radius) * DEGREE
        return ra, (-self.dec if wide else self.dec) * DEGREE, math.sin(0.5 * reach) ** 2, wide

    def contains(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
        """Return whether each position is within the radius (haversine formula)."""
        ra0, dec0, limit, wide = self._near

        def within(ra: Floats, dec: Floats) -> Bools:
            ra, dec = ra * DEGREE, dec * DEGREE
            across = np.sin(0.5 * (ra - ra0)) ** 2
            chord = np.sin(0.5 * (dec - dec0)) ** 2 + math.cos(dec0) * np.cos(dec) * across
            return np.asarray(chord >= limit if wide else chord <= limit)

        return contained(ra_deg, dec_deg, self.bounds(), within)

    def expr(self, ra_col: str, dec_col: str) -> pl.Expr:
        """Return `contains` over two columns."""
        ra0, dec0, limit, wide = self._near
        ra, dec = _radians(ra_col), _radians(dec_col)
        across = ((ra - ra0) * 0.5).sin().pow(2)
        chord = ((dec - dec0) * 0.5).sin().pow(2) + dec.cos() * math.cos(dec0) * across
        return bounded(ra_col, dec_col, self.bounds(), chord >= limit if wide else chord <= limit)

    def bounds(self) -> Bounds:
        """Return one box, or two where the cone crosses RA 0."""
        low, high = self.dec - self.radius - _MARGIN_DEG, self.dec + self.radius + _MARGIN_DEG
        if low <= -90 or high >= 90:
            return boxes(0.0, 360.0, low, high)
        sine = math.sin((self.radius + _MARGIN_DEG) * DEGREE) / math.cos(self.dec * DEGREE)
        half = math.asin(min(sine, 1.0)) / DEGREE + _MARGIN_DEG
        return boxes(self.ra - half, self.ra + half, low, high)

    def touches(self, corners: Floats) -> Bools:
        """Return whether each polygon comes within the radius."""
        away = sphere.distance(corners, sphere.unit(self.ra, self.dec))
        return np.asarray(away <= self.radius * DEGREE + MARGIN)


@dataclass(frozen=True, slots=True)
class Box:
    """All positions between two right ascensions and two declinations, in degrees, edges included.

    From `ra_min` eastward to `ra_max`: the box crosses RA 0 where `ra_min` is the larger. A span of 360 degrees or
    more, as in ``Box(0, 360, -10, 10)`` or ``Box(-180, 180, -10, 10)``, is the full circle.

    Raises
    ------
    QueryError
        A value that is not finite, a declination beyond the pole, `dec_min` above `dec_max`.
    """

    ra_min: float
    ra_max: float
    dec_min: float
    dec_max: float

    def __post_init__(self) -> None:
        first, last = (_finite("box", name, getattr(self, name)) for name in ("ra_min", "ra_max"))
        full = last - first >= 360
        _set(self, ra_min=0.0 if full else _ra("box", first), ra_max=360.0 if full else _ra("box", last))
        _set(self, dec_min=_dec("box", self.dec_min), dec_max=_dec("box", self.dec_max))
        if self.dec_min > self.dec_max:
            raise QueryError(
                f"box: expected dec_min <= dec_max, found {self.dec_min} and {self.dec_max}", kind="region"
            )

    def contains(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
        """Return whether each position is inside, by plain comparison."""
        return contained(ra_deg, dec_deg, self.bounds(), lambda ra, _: np.ones(ra.shape, dtype=bool))

    def expr(self, ra_col: str, dec_col: str) -> pl.Expr:
        """Return `contains` over two columns."""
        return bounded(ra_col, dec_col, self.bounds(), None)

    def bounds(self) -> Bounds:
        """Return the box itself, in two where it crosses RA 0."""
        if self.ra_min <= self.ra_max:
            return ((self.ra_min, self.ra_max, self.dec_min, self.dec_max),)
        return ((self.ra_min, 360.0, self.dec_min, self.dec_max), (0.0, self.ra_max, self.dec_min, self.dec_max))

    def touches(self, corners: Floats) -> Bools:
        """Return whether each polygon reaches the box's declinations and its right ascensions."""
        low, high = sphere.dec_range(corners)
        meets = (low <= self.dec_max * DEGREE + MARGIN) & (high >= self.dec_min * DEGREE - MARGIN)
        width = (self.ra_max - self.ra_min) % 360 if self.ra_max - self.ra_min < 360 else 360.0
        if width == 360:
            return np.asarray(meets)
        # Each edge's meridian is a great circle: a polygon is off a half sphere when all its corners are.
        first, last = self.ra_min * DEGREE, self.ra_max * DEGREE
        west = (corners @ np.array([-math.sin(first), math.cos(first), 0.0]) < -MARGIN).all(axis=-1)
        east = (corners @ np.array([math.sin(last), -math.cos(last), 0.0]) < -MARGIN).all(axis=-1)
        return np.asarray(meets & ~((west | east) if width <= 180 else (west & east)))


@dataclass(frozen=True)
class Polygon:
    """The inside of a convex polygon of great-circle edges, smaller than a hemisphere, edges included.

    Attributes
    ----------
    vertices
        (RA, Dec) pairs in degrees, three or more, in either winding, the first not repeated at the end.

    Raises
    ------
    QueryError
        Too few vertices, one that is not on the sky, two that coincide or are opposite, not convex, no area.
    """

    vertices: tuple[tuple[float, float], ...]
    corners: Floats = field(init=False, repr=False, compare=False)
    normals: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            pairs = tuple((_ra("polygon", ra), _dec("polygon", dec)) for ra, dec in self.vertices)
        except (TypeError, ValueError) as error:
            if isinstance(error, QueryError):
                raise
            raise QueryError("polygon: expected vertices as (RA, Dec) pairs in degrees", kind="region") from error
        if len(pairs) < 3:
            raise QueryError(f"polygon: expected three vertices or more, found {len(pairs)}", kind="region")
        corners = sphere.unit(*np.array(pairs).T)
        _set(self, vertices=pairs, corners=corners, normals=_convex_normals(corners))

    def contains(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
        """Return whether each position is on the inner side of every edge."""

        def within(ra: Floats, dec: Floats) -> Bools:
            return np.asarray((sphere.unit(ra, dec) @ self.normals.T >= 0).all(axis=-1))

        return contained(ra_deg, dec_deg, self.bounds(), within)

    def expr(self, ra_col: str, dec_col: str) -> pl.Expr:
        """Return `contains` over two columns."""
        ra, tan_dec = _radians(ra_col), _radians(dec_col).tan()
        # n . p / cos(dec) >= 0: two library calls an edge and row, where the vector would cost four.
        sides = [
            (ra - math.atan2(y, x)).cos() * math.hypot(x, y) + tan_dec * z >= 0 for x, y, z in self.normals.tolist()
        ]
        return bounded(ra_col, dec_col, self.bounds(), pl.all_horizontal(sides))

    def bounds(self) -> Bounds:
        """Return one box, or two where the polygon crosses RA 0; all right ascensions where it holds a pole."""
        low, high = (float(edge) / DEGREE for edge in sphere.dec_range(self.corners))
        if any((sign * self.normals[:, 2] >= -10 * MARGIN).all() for sign in (1.0, -1.0)):
            return boxes(0.0, 360.0, low - _MARGIN_DEG, high + _MARGIN_DEG)
        ra = np.array([vertex[0] for vertex in self.vertices])
        steps = np.diff(ra)
        turned = np.concatenate([[0.0], np.cumsum(steps - 360.0 * np.rint(steps / 360.0))])
        # Near a pole, a margin on the sky is a wider one in right ascension.
        margin = _MARGIN_DEG / max(1e-12, math.cos(max(abs(low), abs(high)) * DEGREE))
        west, east = ra[0] + turned.min() - margin, ra[0] + turned.max() + margin
        return boxes(west, east, low - _MARGIN_DEG, high + _MARGIN_DEG)

    def touches(self, corners: Floats) -> Bools:
        """Return whether each polygon is not parted from this one by an edge of either."""
        return sphere.overlap(corners, self.normals, self.corners)


def _convex_normals(corners: Floats) -> Floats:
    """Return inward edge normals (k, 3) of a convex polygon (QueryError for any other)."""
    after = np.roll(corners, -1, axis=0)
    normals = np.cross(after + corners, after - corners)
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    if (lengths < 1e-13).any():
        raise QueryError("polygon: two neighbouring vertices coincide or are opposite", kind="region")
    normals /= lengths
    sides = normals @ corners.T
    if sides.sum() < 0:
        normals, sides = -normals, -sides
    if (sides < -1e-13).any() or (sides.max(axis=1) < 1e-12).any():
        raise QueryError(
            "polygon: expected convex, with an area, smaller than a hemisphere, and vertices in order", kind="region"
        )
    gaps = np.linalg.norm(corners[:, None] - corners[None], axis=-1) + np.eye(len(corners))
    if (gaps < 1e-13).any():
        raise QueryError("polygon: two vertices coincide", kind="region")
    return np.asarray(normals)


def contained(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, bounds: Bounds, within: Callable[[Floats, Floats], Bools]
) -> Bools:
    """Return whether positions are in the bounds and, asked only of those, `within`."""
    ra, dec = np.broadcast_arrays(sphere.wrap(ra_deg), np.asarray(dec_deg, np.float64))
    inside: Bools = np.zeros(ra.shape, dtype=bool)
    for ra_min, ra_max, dec_min, dec_max in bounds:
        inside |= (dec >= dec_min) & (dec <= dec_max) & (ra >= ra_min) & (ra <= ra_max)
    inside[inside] = within(ra[inside], dec[inside])
    return inside


def bounded(ra_col: str, dec_col: str, bounds: Bounds, exact: pl.Expr | None) -> pl.Expr:
    """Return the expression for being in the bounds and `exact`; false, not null, where a position is null."""
    ra, dec = pl.col(ra_col), pl.col(dec_col)
    if not bounds:
        return pl.lit(value=False) & ra.is_not_null()
    dec_min, dec_max = min(box[2] for box in bounds), max(box[3] for box in bounds)
    meridians = reduce(or_, [ra.is_between(ra_min, ra_max) for ra_min, ra_max, _, _ in bounds])
    inside = dec.is_between(dec_min, dec_max) & meridians
    if exact is not None:
        inside &= exact
    return inside & ra.is_not_null() & dec.is_not_null()


def _radians(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64) * DEGREE  # a float32 column would pull the arithmetic down to its digits


def boxes(west: float, east: float, low: float, high: float) -> Bounds:
    """Return the bounds from `west` to `east`, which may lie in any turn, cut at RA 0 and at the poles."""
    low, high = max(low, -90.0), min(high, 90.0)
    if east - west >= 360:
        return ((0.0, 360.0, low, high),)
    turns = math.floor(west / 360)
    west, east = west - 360 * turns, east - 360 * turns
    if east < 360:
        return ((west, east, low, high),)
    return ((west, 360.0, low, high), (0.0, east - 360, low, high))


def _set(region: object, **values: object) -> None:
    """Set fields of a frozen region that is just being made."""
    for name, value in values.items():
        object.__setattr__(region, name, value)


def _finite(shape: str, name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise QueryError(f"{shape}: expected {name} in degrees, found {value!r}", kind="region") from error
    if not math.isfinite(number):
        raise QueryError(f"{shape}: expected a finite {name}, found {number}", kind="region")
    return number


def _ra(shape: str, value: float) -> float:
    return float(sphere.wrap(_finite(shape, "RA", value)))


def _dec(shape: str, value: float) -> float:
    number = _finite(shape, "Dec", value)
    if not -90 <= number <= 90:
        raise QueryError(f"{shape}: expected Dec in [-90, 90] degrees, found {number}", kind="region")
    return number
