"""Great circles and convex polygons on the unit sphere, as arrays of vectors.

What regions and patches need to know of each other's geometry; degrees appear only in the conversions. Polygons are
arrays of corners (..., corner, 3) within a hemisphere, in either winding; edges are the great circles between
neighbours. Nothing here knows a sky map or a region.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from warehouse.sky.blocks import Bools, Floats

DEGREE = math.pi / 180

MARGIN = 1e-11
"""Radians (2 microarcseconds) by which a test that must never wrongly say no is widened: far above rounding."""


def unit(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Floats:
    """Return unit vectors, (..., 3), of positions in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, np.float64)), np.radians(np.asarray(dec_deg, np.float64))
    cos_dec = np.cos(dec)
    return np.stack(np.broadcast_arrays(cos_dec * np.cos(ra), cos_dec * np.sin(ra), np.sin(dec)), axis=-1)


def wrap(ra_deg: npt.ArrayLike) -> Floats:
    """Return right ascensions in [0, 360), values in that range unchanged; NaN where they are not finite."""
    ra = np.asarray(ra_deg, np.float64)
    finite = np.isfinite(ra)
    ra = np.where(finite, ra, 0.0)
    ra = ra - 360.0 * np.floor(ra / 360.0)
    ra = np.where(ra >= 360.0, 0.0, ra)  # a tiny negative angle, rounded
    return np.where(finite, ra, np.nan)


def edge_normals(corners: Floats) -> Floats:
    """Return inward unit normals of each edge, from every corner to the next: (..., corner, 3)."""
    after = np.roll(corners, -1, axis=-2)
    # (a + b) x (b - a) = 2 a x b, and loses nothing where a and b are close.
    normals = np.cross(after + corners, after - corners)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    inward = np.einsum("...i,...i->...", normals[..., 0, :], corners.sum(axis=-2))
    return np.asarray(np.where(inward < 0, -1.0, 1.0)[..., None, None] * normals)


def holds(corners: Floats, point: Floats, margin: float = 0.0) -> Bools:
    """Return whether each polygon holds `point` (3,), or lies within about `margin` radians of it."""
    return np.asarray((edge_normals(corners) @ point >= -margin).all(axis=-1))


def distance(corners: Floats, point: Floats) -> Floats:
    """Return the angle in radians from `point` (3,), or each polygon's own point (..., 3), 0 where it is inside."""
    after = np.roll(corners, -1, axis=-2)
    normals = edge_normals(corners)
    from_corner = np.broadcast_to(point, corners[..., 0, :].shape)[..., None, :]
    height = (normals * from_corner).sum(axis=-1)
    foot = from_corner - height[..., None] * normals
    # Arc tangents, because arc sines and cosines lose half of their digits near their ends.
    to_arc = np.arctan2(np.abs(height), np.linalg.norm(foot, axis=-1))
    to_corner = 2.0 * np.arctan2(
        np.linalg.norm(corners - from_corner, axis=-1), np.linalg.norm(corners + from_corner, axis=-1)
    )
    nearest = np.where(_between(corners, foot, after), to_arc, to_corner)
    return np.where((height >= 0).all(axis=-1), 0.0, np.minimum(nearest, to_corner).min(axis=-1))


def _between(start: Floats, middle: Floats, end: Floats) -> Bools:
    """Return whether vectors on great circles through `start` and `end` lie on the arc between them."""
    turning = (np.cross(start, middle) * np.cross(middle, end)).sum(axis=-1)
    facing = (middle * (start + end)).sum(axis=-1)
    return np.asarray((turning > 0) & (facing > 0))


def dec_range(corners: Floats) -> tuple[Floats, Floats]:
    """Return the lowest and highest declination, in radians, of each polygon, poles inside included."""
    decs = np.arctan2(corners[..., 2], np.hypot(corners[..., 0], corners[..., 1]))
    low, high = decs.min(axis=-1), decs.max(axis=-1)
    after = np.roll(corners, -1, axis=-2)
    normals = edge_normals(corners)
    pole = np.array([0.0, 0.0, 1.0])
    # A great circle culminates where its plane comes nearest to the pole.
    top = pole - normals[..., 2:] * normals
    reach = np.arctan2(np.hypot(normals[..., 0], normals[..., 1]), np.abs(normals[..., 2]))
    high = np.maximum(high, np.where(_between(corners, top, after), reach, -np.pi).max(axis=-1))
    low = np.minimum(low, np.where(_between(corners, -top, after), -reach, np.pi).min(axis=-1))
    return (
        np.where(holds(corners, -pole, MARGIN), -0.5 * np.pi, low),
        np.where(holds(corners, pole, MARGIN), 0.5 * np.pi, high),
    )


def overlap(corners: Floats, normals: Floats, others: Floats) -> Bools:
    """Return whether each polygon of `corners` may meet the one polygon of corners `others` (k, 3).

    `normals` are those of `others`. Two convex polygons of one hemisphere are apart exactly if an edge of one of
    them parts them (in the gnomonic plane: the separating axis theorem); across hemispheres this says yes too often.
    """
    parted = (corners @ normals.T < -MARGIN).all(axis=-2).any(axis=-1)
    parted |= (edge_normals(corners) @ others.T < -MARGIN).all(axis=-1).any(axis=-1)
    return np.asarray(~parted)
