"""A tract's pixels and how they are cut into patches; the same for every tract of a map.

Pixel boxes only: where they lie on the sky is `warehouse.sky.skymap`'s business. The two ways in which published
maps were built, and the numbers that go into their hash, are here too.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from warehouse.sky.blocks import Floats, Ints


@dataclass(frozen=True, slots=True)
class Legacy:
    """Patches given as pixels; outer boxes end where the tract ends.

    Attributes
    ----------
    inner, border
        Pixels along an inner box, and pixels that the outer box adds on each side.
    """

    inner: int
    border: int
    clipped: ClassVar[bool] = True

    def packed(self, overlap_deg: float, scale_arcsec: float) -> bytes:
        """Return these numbers as the published hash takes them."""
        return struct.pack("<iiidd3sd", self.inner, self.inner, self.border, overlap_deg, scale_arcsec, b"TAN", 0.0)


@dataclass(frozen=True, slots=True)
class Cells:
    """Patches given as square cells; outer boxes reach beyond the tract at its rim.

    Attributes
    ----------
    cell, cell_border
        Pixels along a cell, and pixels added around the patch's outermost cells.
    inner_cells, border_cells
        Cells along an inner box, and cells that the outer box adds on each side.
    """

    cell: int
    cell_border: int
    inner_cells: int
    border_cells: int
    clipped: ClassVar[bool] = False

    @property
    def inner(self) -> int:
        """Pixels along an inner box."""
        return self.cell * self.inner_cells

    @property
    def border(self) -> int:
        """Pixels that the outer box adds on each side."""
        return self.cell * self.border_cells + self.cell_border

    def packed(self, overlap_deg: float, scale_arcsec: float) -> bytes:
        """Return these numbers as the published hash takes them."""
        cells = (self.cell, self.cell, self.cell_border, self.inner_cells, self.border_cells)
        return struct.pack("<iiiiidd3sd", *cells, overlap_deg, scale_arcsec, b"TAN", 0.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """A tract's pixel box, 0-based from its corner, and its patches.

    Attributes
    ----------
    side
        Patches along the tract; their sequential numbers run along x first.
    centre
        Pixel coordinate, in x and in y, of the tract's centre.
    inner, border, clipped
        As the builder has them.
    scale
        Radians a pixel at the centre.
    """

    side: int
    centre: int
    inner: int
    border: int
    clipped: bool
    scale: float

    @classmethod
    def cover(cls, half_side: float, scale: float, patches: Legacy | Cells) -> Grid:
        """Return the grid of whole patches over a square of `half_side` radians to each side of the centre."""
        reach = math.tan(half_side) / scale
        low, high = math.ceil(-reach - 0.5), math.floor(reach + 0.5)
        pixels = high - low + 1
        side = -(-pixels // patches.inner)
        low -= (side * patches.inner - pixels) // 2
        return cls(side, -low, patches.inner, patches.border, patches.clipped, scale)

    @property
    def pixels(self) -> int:
        """Pixels along the tract."""
        return self.side * self.inner

    def patch_of(self, x: Floats, y: Floats) -> Ints:
        """Return the sequential number of the patch whose inner box holds each pixel position, -1 for none."""
        column, row = self._line(x), self._line(y)
        patch = row * self.side + column
        with np.errstate(invalid="ignore"):
            held = (column >= 0) & (column < self.side) & (row >= 0) & (row < self.side)
        return np.where(held, patch, -1.0).astype(np.int64)

    def nearest_patch_of(self, x: Floats, y: Floats) -> Ints:
        """Return the sequential number of the patch that holds, or else lies nearest to, each pixel position."""
        column, row = self._line(x), self._line(y)
        np.clip(column, 0.0, self.side - 1.0, out=column)
        np.clip(row, 0.0, self.side - 1.0, out=row)
        row *= self.side
        row += column
        return row.astype(np.int64)

    def _line(self, pixel: Floats) -> Floats:
        # Two floors, because a position just below an edge must not be rounded over it by the division.
        line = pixel + 0.5
        np.floor(line, out=line)
        line /= self.inner
        np.floor(line, out=line)
        return line

    def box(self, patch: npt.ArrayLike, *, outer: bool) -> Ints:
        """Return first x, first y, last x, last y of patches' pixel boxes, along a new last axis."""
        number = np.asarray(patch, dtype=np.int64)
        low = np.stack([number % self.side, number // self.side], axis=-1) * self.inner
        high = low + self.inner - 1
        if outer:
            low, high = low - self.border, high + self.border
            if self.clipped:
                low, high = np.maximum(low, 0), np.minimum(high, self.pixels - 1)
        return np.concatenate([low, high], axis=-1)
