"""The gnomonic (TAN) projection about a tract's centre, both ways.

Plain formulas on arrays in radians; no sky map, no pixels. Positions near the centre pay no library sine:
numpy's costs more than all other arithmetic of a position together.

The forward formulas are the textbook ones (Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3), rearranged
around the differences to the centre, so that nothing cancels near it.
"""

from __future__ import annotations

import math

import numpy as np

from warehouse.sky.blocks import Floats

_SERIES = [(-1.0) ** k / (math.factorial(2 * k + 1) * 2.0 ** (2 * k + 1)) for k in range(6)]
_SERIES_LIMIT = 0.5  # radians: six terms are good to the last bit below it


def half_sine(angle: Floats) -> Floats:
    """Return sin(angle / 2), to the last bit or two, for angles in radians.

    The choice between series and library sine is made an angle at a time: a value does not depend on its neighbours.
    """
    square = angle * angle
    result = square * _SERIES[5]
    for coefficient in _SERIES[4:0:-1]:
        result += coefficient
        result *= square
    result += _SERIES[0]
    result *= angle
    if np.max(square, initial=0.0) > _SERIES_LIMIT**2:
        far = np.flatnonzero(square > _SERIES_LIMIT**2)
        result[far] = np.sin(0.5 * angle[far])
    return result


def _sine_and_versine(angle: Floats) -> tuple[Floats, Floats]:
    """Return sin(angle) and 1 - cos(angle), for angles in [-pi, pi]."""
    half = half_sine(angle)
    versine = half * half
    cosine = np.sqrt(1.0 - versine)
    half *= 2.0
    half *= cosine
    versine *= 2.0
    return half, versine


def forward(
    d_ra: Floats, d_dec: Floats, sin_centre: Floats | float, cos_centre: Floats | float
) -> tuple[Floats, Floats, Floats]:
    """Return the standard coordinates of positions, and the cosine of their distance from the tangent point.

    Parameters
    ----------
    d_ra, d_dec
        Right ascension less the centre's, in [-pi, pi], and declination less the centre's; radians.
    sin_centre, cos_centre
        Of the centre's declination.

    Returns
    -------
    xi, eta : ndarray
        Radians on the tangent plane, xi growing with right ascension. Meaningless where `depth` is not positive.
    depth : ndarray
        Positive on the centre's hemisphere, elsewhere there is no projection.
    """
    sin_dd, versine_dd = _sine_and_versine(d_dec)
    sin_da, versine_da = _sine_and_versine(d_ra)
    cos_dd = 1.0 - versine_dd
    cos_dec = cos_centre * cos_dd
    cos_dec -= sin_centre * sin_dd
    sin_da *= cos_dec
    versine_da *= cos_dec
    cos_dd -= cos_centre * versine_da
    versine_da *= sin_centre
    versine_da += sin_dd
    with np.errstate(divide="ignore", invalid="ignore"):
        sin_da /= cos_dd
        versine_da /= cos_dd
    return sin_da, versine_da, cos_dd


def backward(xi: Floats, eta: Floats, sin_centre: Floats | float, cos_centre: Floats | float) -> tuple[Floats, Floats]:
    """Return right ascension less the centre's, and declination, of standard coordinates; all in radians."""
    across = cos_centre - eta * sin_centre
    return np.arctan2(xi, across), np.arctan2(sin_centre + eta * cos_centre, np.hypot(xi, across))
