"""Which tracts and patches a region can touch: never too few, rarely more than need be.

Row by row of the sky map, because all tracts of a row look alike: tracts by their boxes, then patches by their
corners. What a region is, only the region knows; it answers `bounds` and `touches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from warehouse.sky.blocks import Bools, Floats, Ints
from warehouse.sky.grid import Grid
from warehouse.sky.regions import Bounds, Box, Region
from warehouse.sky.rings import TWO_PI, Rings
from warehouse.sky.sphere import DEGREE, MARGIN

_TRACTS_AT_ONCE = 512


def inner_box(rings: Rings, tract: int) -> Box:
    """Return the RA/Dec box that is `tract`'s alone; for a cap, all right ascensions."""
    row = int(rings.rows[tract])
    south, north = (edge / DEGREE for edge in rings.dec_range(row))
    if rings.counts[row] == 1:
        return Box(0.0, 360.0, south, north)
    centre, half = rings.centres[0][tract] / DEGREE, 0.5 * rings.widths[row] / DEGREE
    return Box(centre - half, centre + half, south, north)


def inner_candidates(rings: Rings, grid: Grid, region: Region) -> tuple[Ints, Ints]:
    """Return tracts and patches, sorted, whose inner regions `region` may touch."""
    found = []
    bounds = region.bounds()
    for row in _rows_within(rings, bounds):
        slots = _slots_within(rings, row, bounds)
        if not slots.size:
            continue
        lines_x, lines_y = _inner_lines(rings, grid, row)
        shapes = _quads(grid, lines_x[:-1], lines_x[1:], lines_y[:-1], lines_y[1:])
        south, north = rings.dec_range(row)
        half = 0.5 * rings.widths[row] / DEGREE
        own = Box(-half, half, south / DEGREE, north / DEGREE)
        used = np.flatnonzero(own.touches(_on_sky(shapes, _basis(0.0, float(rings.row_decs[row]))[None])[0]))
        bases = rings.row_bases[row] + (slots - rings.starts[row]) * rings.widths[row]
        for part in _parts(slots.size):
            touched = _touched(rings, row, bases[part], shapes[used], region)
            which, patch = np.nonzero(touched)
            found.append((rings.numbers[slots[part][which]], used[patch]))
        if rings.version == 0 and rings.slots[rings.numbers[slots]].tolist() != slots.tolist():
            # The tract that version 0 takes for the north cap: any patch of the cap may be the nearest one.
            found.append((np.full(grid.side**2, rings.total - 1), np.arange(grid.side**2)))
    return _sorted(found)


def outer_candidates(rings: Rings, grid: Grid, region: Region) -> tuple[Ints, Ints]:
    """Return tracts and patches, sorted, whose outer boxes `region` may touch."""
    boxes = grid.box(np.arange(grid.side), outer=True).astype(np.float64)
    first, last = boxes[:, 0] - 0.5, boxes[:, 2] + 0.5
    shapes = _quads(grid, first, last, first, last)
    whole = _quads(grid, first[:1], last[-1:], first[:1], last[-1:])
    radius = float(np.arccos(whole[..., 0].min())) + 1e-6  # an arc cosine's own error, amply
    bounds = region.bounds()
    found = []
    for row, dec in enumerate(rings.row_decs):
        if not any(low * DEGREE - radius <= dec <= high * DEGREE + radius for _, _, low, high in bounds):
            continue
        slots = rings.starts[row] + np.arange(rings.counts[row])
        bases = rings.row_bases[row] + (slots - rings.starts[row]) * rings.widths[row]
        near = _touched(rings, row, bases, whole, region)[:, 0]
        slots, bases = slots[near], bases[near]
        for part in _parts(slots.size):
            which, patch = np.nonzero(_touched(rings, row, bases[part], shapes, region))
            found.append((slots[part][which], patch))
    tracts, patches = _sorted(found)
    if rings.version == 1:
        return tracts, patches
    return _sorted([(numbers, patches[at]) for numbers, at in _renumbered(rings, tracts)])


def _renumbered(rings: Rings, slots: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield version-0 numbers and the places they come from: one geometry may have two numbers there."""
    order = np.argsort(rings.slots, kind="stable")
    ordered = rings.slots[order]
    begin, end = np.searchsorted(ordered, slots, "left"), np.searchsorted(ordered, slots, "right")
    for nth in range(int((end - begin).max(initial=0))):
        at = np.flatnonzero(begin + nth < end)
        yield order[begin[at] + nth], at


def _rows_within(rings: Rings, bounds: Bounds) -> Iterable[int]:
    """Return the rows from the southernmost to the northernmost declination of the bounds."""
    if not bounds:
        return ()
    decs = np.array([min(box[2] for box in bounds), max(box[3] for box in bounds)]) * DEGREE
    first, last = rings.row_of(decs + np.array([-MARGIN, MARGIN]))
    return range(int(first), int(last) + 1)


def _slots_within(rings: Rings, row: int, bounds: Bounds) -> Ints:
    """Return the row's tracts, by version-1 number, whose inner boxes meet the region's bounds."""
    south, north = rings.dec_range(row)
    width = rings.widths[row]
    k = np.arange(rings.counts[row])
    centres = rings.row_bases[row] + k * width
    near: Bools = np.zeros(k.size, dtype=bool)
    for ra_min, ra_max, dec_min, dec_max in bounds:
        if dec_min * DEGREE > north + MARGIN or dec_max * DEGREE < south - MARGIN:
            continue
        away = centres - 0.5 * (ra_min + ra_max) * DEGREE
        away -= TWO_PI * np.rint(away / TWO_PI)
        near |= np.abs(away) <= 0.5 * (width + (ra_max - ra_min) * DEGREE) + MARGIN
    return np.asarray(rings.starts[row] + k[near])


def _inner_lines(rings: Rings, grid: Grid, row: int) -> tuple[Floats, Floats]:
    """Return the pixel lines between inner boxes, the outermost moved out to the corners of the row's inner box.

    `SkyMap.find` gives what sticks out of the pixels to the nearest patch, which so reaches further than its box.
    """
    lines_x: Floats = np.arange(grid.side + 1, dtype=np.float64) * grid.inner - 0.5
    lines_y: Floats = lines_x.copy()
    if rings.counts[row] == 1:
        return lines_x, lines_y
    dec0, half = rings.row_decs[row], 0.5 * rings.widths[row]
    for dec in (*rings.dec_range(row), 0.0):
        if not rings.dec_range(row)[0] <= dec <= rings.dec_range(row)[1]:
            continue
        depth = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(half)
        reach = np.cos(dec) * np.sin(half) / depth / grid.scale + 1.0
        up = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(half)) / depth / grid.scale
        lines_x[0] = min(lines_x[0], grid.centre - reach)
        lines_x[-1] = max(lines_x[-1], grid.centre + reach)
        lines_y[0] = min(lines_y[0], grid.centre + up - 1.0)
        lines_y[-1] = max(lines_y[-1], grid.centre + up + 1.0)
    return lines_x, lines_y


def _quads(grid: Grid, x_low: Floats, x_high: Floats, y_low: Floats, y_high: Floats) -> Floats:
    """Return the corners of all boxes of the columns and rows given, x first: (box, 4, 3) in the tract's own basis.

    The basis is tangent point, east, north; the corners are unit vectors.
    """
    size = (len(y_low), len(x_low))
    x = np.stack([np.broadcast_to(line, size).ravel() for line in (x_low, x_high, x_high, x_low)], axis=-1)
    y = np.stack([np.broadcast_to(line[:, None], size).ravel() for line in (y_low, y_low, y_high, y_high)], axis=-1)
    xi, eta = (grid.centre - x) * grid.scale, (y - grid.centre) * grid.scale
    vectors = np.stack([np.ones_like(xi), xi, eta], axis=-1)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _basis(ra: float, dec: float) -> Floats:
    """Return tangent point, east and north at a position in radians, as rows."""
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
    return np.array(
        [
            [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec],
            [-sin_ra, cos_ra, 0.0],
            [-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec],
        ]
    )


def _on_sky(shapes: Floats, bases: Floats) -> Floats:
    """Return shapes (box, 4, 3) as seen from each tract's basis (tract, 3, 3): (tract, box, 4, 3)."""
    return np.asarray(shapes.reshape(1, -1, 3) @ bases).reshape(len(bases), *shapes.shape)


def _touched(rings: Rings, row: int, centres: Floats, shapes: Floats, region: Region) -> Bools:
    """Return whether the region may touch each shape of each tract: (tract, box)."""
    if not len(centres) or not len(shapes):
        return np.zeros((len(centres), len(shapes)), dtype=bool)
    dec = float(rings.row_decs[row])
    bases = np.stack([_basis(float(ra), dec) for ra in centres])
    corners = _on_sky(shapes, bases)
    return region.touches(corners.reshape(-1, 4, 3)).reshape(corners.shape[:2])


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, _TRACTS_AT_ONCE):
        yield slice(start, start + _TRACTS_AT_ONCE)


def _sorted(found: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    pairs = [np.stack(pair).astype(np.int64) for pair in found]
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    unique = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return unique[0], unique[1]
