"""Small steps on the sphere: gnomonic planes about any point, for pointings, detectors and position errors.

Tracts and patches are the business of `warehouse.sky.skymap`; this module knows neither, and imports nothing of ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def project(ra0_deg: ArrayLike, dec0_deg: ArrayLike, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Floats, Floats]:
    """Return gnomonic plane coordinates (xi to the east, eta to the north), in degrees.

    Points on the other hemisphere have no place on the plane and come back as NaN. Arguments broadcast.
    Formula: Calabretta and Greisen 2002 (A&A 395, 1077), section 5.1.3.
    """
    delta = np.radians(np.asarray(ra_deg, float) - np.asarray(ra0_deg, float))
    dec, dec0 = np.radians(np.asarray(dec_deg, float)), np.radians(np.asarray(dec0_deg, float))
    sin_dec, cos_dec, sin0, cos0 = np.sin(dec), np.cos(dec), np.sin(dec0), np.cos(dec0)
    cos_delta = np.cos(delta)
    cosine = sin0 * sin_dec + cos0 * cos_dec * cos_delta
    cosine = np.where(cosine > 1e-9, cosine, np.nan)
    xi = cos_dec * np.sin(delta) / cosine
    eta = (cos0 * sin_dec - sin0 * cos_dec * cos_delta) / cosine
    return np.degrees(xi), np.degrees(eta)


def deproject(ra0_deg: ArrayLike, dec0_deg: ArrayLike, xi_deg: ArrayLike, eta_deg: ArrayLike) -> tuple[Floats, Floats]:
    """Return RA in [0, 360) and Dec, in degrees, of gnomonic plane coordinates: the inverse of `project`."""
    xi, eta = np.radians(np.asarray(xi_deg, float)), np.radians(np.asarray(eta_deg, float))
    dec0 = np.radians(np.asarray(dec0_deg, float))
    sin0, cos0 = np.sin(dec0), np.cos(dec0)
    along = cos0 - eta * sin0
    delta = np.degrees(np.arctan2(xi, along))
    dec = np.degrees(np.arctan2(sin0 + eta * cos0, np.hypot(xi, along)))
    return wrap(np.asarray(ra0_deg, float) + delta), dec


def scatter_on_disc(
    generator: np.random.Generator, ra0_deg: float, dec0_deg: float, radius_deg: float, count: int
) -> tuple[Floats, Floats]:
    """Return `count` positions spread evenly over the cap of `radius_deg` about a point, poles included."""
    # Even in the cosine of the distance is even on the sphere. The tangent plane is left to far less than 90 degrees.
    depth = generator.random(count) * (1.0 - np.cos(np.radians(radius_deg)))
    distance = np.arccos(1.0 - depth)
    angle = generator.random(count) * (2.0 * np.pi)
    reach = np.degrees(np.tan(distance))
    return deproject(ra0_deg, dec0_deg, reach * np.sin(angle), reach * np.cos(angle))


def wrap(ra_deg: ArrayLike) -> Floats:
    """Return right ascensions brought into [0, 360)."""
    wrapped = np.mod(np.asarray(ra_deg, float), 360.0)
    # A tiny negative angle rounds to 360.0 itself.
    return np.where(wrapped >= 360.0, 0.0, wrapped)
