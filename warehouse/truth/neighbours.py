"""The nearest positions within a radius on the sphere, for many positions at once.

Belongs here: separations and the neighbour search, on plain arrays of degrees. What a neighbour means - truth,
object, match - does not, and neither does anything about tracts: the search knows no pole and no RA 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from warehouse.errors import QueryError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ARCSEC_PER_DEG = 3600.0
NAS_PER_ARCSEC = 1e9
# Three cell numbers of 20 bits must fit one int64 key, and unit vectors span 2 in each axis.
_SMALLEST_CELL = 2.0**-18
_CELL_BITS = 20
# Pairs tested at a time: enough to forget numpy's call overhead, small enough for a crowd to fit in memory.
_BLOCK_PAIRS = 1 << 20


def separation_arcsec(ra_a_deg: Floats, dec_a_deg: Floats, ra_b_deg: Floats, dec_b_deg: Floats) -> Floats:
    """Return the great-circle separations of positions a and b in arcsec, element by element.

    The haversine formula (Sinnott 1984, Sky & Telescope 68, 158): it keeps its digits at small separations,
    where the cosine formula loses them.

    Parameters
    ----------
    ra_a_deg, dec_a_deg, ra_b_deg, dec_b_deg
        Degrees, any equal shapes; a right ascension may have any number of turns.
    """
    dec_a, dec_b = np.radians(dec_a_deg), np.radians(dec_b_deg)
    half_ra = np.radians(ra_b_deg - ra_a_deg) / 2
    half_dec = np.radians(dec_b_deg - dec_a_deg) / 2
    haversine = np.sin(half_dec) ** 2 + np.cos(dec_a) * np.cos(dec_b) * np.sin(half_ra) ** 2
    separation: Floats = 2 * np.degrees(np.arcsin(np.sqrt(np.minimum(haversine, 1.0)))) * ARCSEC_PER_DEG
    return separation


def nearest(
    from_deg: tuple[Floats, Floats], to_deg: tuple[Floats, Floats], radius_arcsec: float, limit: int
) -> tuple[Ints, Ints, Ints]:
    """Return, for each position of `from_deg`, its at most `limit` nearest of `to_deg` within the radius.

    Separations count in whole nano-arcseconds: a double cannot hold a right ascension near 360 deg more finely
    (its step there is 0.2 nas), so a position at the very radius is within it on every machine, and
    equal separations are equal.

    Parameters
    ----------
    from_deg, to_deg
        RA and Dec arrays in degrees. A position that is not finite has no neighbours.
    radius_arcsec
        Inclusive; at most a degree.
    limit
        Neighbours kept a position, nearest first, of equally near ones the lower index.

    Returns
    -------
    from_index, to_index, separation_nas
        One entry a pair, int64, by `from_index`, then separation, then `to_index`.

    Raises
    ------
    QueryError
        The radius is not within (0, 3600] arcsec.
    """
    if not 0 < radius_arcsec <= ARCSEC_PER_DEG:
        raise QueryError(f"radius_arcsec: expected more than 0 and at most 3600, found {radius_arcsec}")
    farthest_nas = round(radius_arcsec * NAS_PER_ARCSEC)
    found = [_empty()]
    for a, b in _pairs_nearby(from_deg, to_deg, radius_arcsec):
        separation = separation_arcsec(from_deg[0][a], from_deg[1][a], to_deg[0][b], to_deg[1][b])
        nas = np.rint(separation * NAS_PER_ARCSEC).astype(np.int64)
        near = nas <= farthest_nas
        found.append(_keep_nearest(a[near], b[near], nas[near], limit))
    a, b, nas = (np.concatenate(column) for column in zip(*found, strict=True))
    return a, b, nas


def _empty() -> tuple[Ints, Ints, Ints]:
    nothing = np.empty(0, np.int64)
    return nothing, nothing, nothing


def _keep_nearest(a: Ints, b: Ints, nas: Ints, limit: int) -> tuple[Ints, Ints, Ints]:
    order = np.lexsort((b, nas, a))
    a, b, nas = a[order], b[order], nas[order]
    place = np.arange(a.size) - np.searchsorted(a, a, side="left")
    keep = place < limit
    return a[keep], b[keep], nas[keep]


def _pairs_nearby(
    from_deg: tuple[Floats, Floats], to_deg: tuple[Floats, Floats], radius_arcsec: float
) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of indices that hold every pair within the radius, and some beyond; a `from` never spans two blocks.

    The unit vectors are hashed into cubes wider than the search ball, so that the ball touches at most two
    cubes an axis; the cubes of an axis that are adjacent in the key are one range.
    """
    from_rows, to_rows = _finite(from_deg), _finite(to_deg)
    if not from_rows.size or not to_rows.size:
        return
    # The chord, with room for the rounding of the vectors and of the radius to nano-arcseconds.
    chord = 2 * np.sin(np.radians(radius_arcsec / ARCSEC_PER_DEG) / 2) * (1 + 1e-6) + 1e-14
    cell = max(2 * chord, _SMALLEST_CELL)
    cubes = [np.floor(axis / cell).astype(np.int64) for axis in _unit_vectors(to_deg, to_rows)]
    keys = _key(*cubes)
    order = np.argsort(keys, kind="stable")
    keys, to_rows = keys[order], to_rows[order]

    vectors = _unit_vectors(from_deg, from_rows)
    low = [np.floor((axis - chord) / cell).astype(np.int64) for axis in vectors]
    high = [np.floor((axis + chord) / cell).astype(np.int64) for axis in vectors]
    entry, start, stop = _ranges(keys, low, high)
    for block in _blocks(entry, stop - start):
        length = stop[block] - start[block]
        first = np.repeat(start[block] - np.cumsum(length) + length, length)
        yield np.repeat(from_rows[entry[block]], length), to_rows[first + np.arange(first.size)]


def _finite(position_deg: tuple[Floats, Floats]) -> Ints:
    return np.flatnonzero(np.isfinite(position_deg[0]) & np.isfinite(position_deg[1]))


def _unit_vectors(position_deg: tuple[Floats, Floats], rows: Ints) -> tuple[Floats, Floats, Floats]:
    """Return x, y and z of the unit vectors, shifted by one so that every coordinate is positive."""
    ra, dec = np.radians(position_deg[0][rows]), np.radians(position_deg[1][rows])
    cos_dec = np.cos(dec)
    return cos_dec * np.cos(ra) + 1.0, cos_dec * np.sin(ra) + 1.0, np.sin(dec) + 1.0


def _key(x: Ints, y: Ints, z: Ints) -> Ints:
    # A ball at the border of the sphere may reach cube -1, so cubes are counted from one.
    key: Ints = ((x + 1) << (2 * _CELL_BITS)) + ((y + 1) << _CELL_BITS) + z + 1
    return key


def _ranges(keys: Ints, low: list[Ints], high: list[Ints]) -> tuple[Ints, Ints, Ints]:
    """Return (from entry, start, stop) of the ranges of `keys` that each ball touches, ordered by entry."""
    everyone = np.arange(low[0].size)
    two_x, two_y = high[0] > low[0], high[1] > low[1]
    pieces = []
    for x, y, who in (
        (low[0], low[1], everyone),
        (high[0], low[1], everyone[two_x]),
        (low[0], high[1], everyone[two_y]),
        (high[0], high[1], everyone[two_x & two_y]),
    ):
        start = np.searchsorted(keys, _key(x[who], y[who], low[2][who]), side="left")
        stop = np.searchsorted(keys, _key(x[who], y[who], high[2][who]), side="right")
        some = stop > start
        pieces.append((who[some], start[some], stop[some]))
    entry, start, stop = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.argsort(entry, kind="stable")
    return entry[order], start[order], stop[order]


def _blocks(entry: Ints, length: Ints) -> Iterator[slice]:
    """Yield slices of the ranges that hold about `_BLOCK_PAIRS` pairs and end where an entry ends."""
    total = np.cumsum(length)
    begin = 0
    while begin < entry.size:
        done = total[begin - 1] if begin else 0
        last = min(int(np.searchsorted(total, done + _BLOCK_PAIRS)), entry.size - 1)
        end = int(np.searchsorted(entry, entry[last], side="right"))
        yield slice(begin, end)
        begin = end
