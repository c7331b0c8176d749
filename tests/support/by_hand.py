"""What lies in a region of the sky, by formulas and programs that share nothing with ours."""

from __future__ import annotations

from typing import Any

import mocpy
import numpy as np
import numpy.typing as npt
from astropy import units

Floats = npt.NDArray[np.float64]


def vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> Floats:
    """Return unit vectors (n, 3) of positions in degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def positions(points: Floats) -> tuple[Floats, Floats]:
    """Return RA in [0, 360) and Dec, degrees, of vectors."""
    ra = np.degrees(np.arctan2(points[..., 1], points[..., 0])) % 360
    return np.where(ra == 360, 0.0, ra), np.degrees(
        np.arctan2(points[..., 2], np.hypot(points[..., 0], points[..., 1]))
    )


def depth(vertices: npt.ArrayLike, ra: npt.ArrayLike, dec: npt.ArrayLike) -> Floats:
    """Return how far inside of the nearest edge of a convex polygon positions lie, as sines; negative outside.

    The side of an edge is the sign of the triple product of its ends and the position: det(a, b, p), which is
    det(a, b - a, p - a), and that loses no digits where the three are near each other. The inner side is that of the
    vertices' mean.
    """
    corners = vectors(*np.asarray(vertices, dtype=float).T)
    points = np.concatenate([vectors(ra, dec), [corners.mean(axis=0)]])
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        across = np.cross(a, b - a)
        side = (points - a) @ across / np.linalg.norm(across)
        sides.append(side[:-1] * np.sign(side[-1]))
    return np.min(sides, axis=0)


def along_edges(vertices: npt.ArrayLike, away: float) -> tuple[Floats, Floats]:
    """Return positions on both sides of a polygon's edges, `away` from them in radians."""
    corners = vectors(*np.asarray(vertices, dtype=float).T)
    after = np.roll(corners, -1, axis=0)
    normals = np.cross(corners, after - corners)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    on = np.concatenate([corners + part * (after - corners) for part in (0.01, 0.3, 0.5, 0.99)])
    on /= np.linalg.norm(on, axis=-1, keepdims=True)
    step = away * np.tile(normals, (4, 1))
    return positions(np.concatenate([on + step, on - step]))


def covered(coverage: mocpy.MOC, ra: npt.ArrayLike, dec: npt.ArrayLike) -> Any:
    """Return which positions mocpy itself says that a coverage map holds."""
    return np.asarray(coverage.contains_lonlat(np.asarray(ra) * units.deg, np.asarray(dec) * units.deg), dtype=bool)
