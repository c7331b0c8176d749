"""How a rings sky map divides the sky into tracts: declination rings, each cut evenly in right ascension.

Numbers, centres and inner boxes of tracts belong here; pixels and patches do not (`warehouse.sky.grid`).
Angles are radians. A *row* is a ring or a cap, counted from the south cap (0) to the north cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from warehouse.sky.blocks import Floats, Ints

TWO_PI = 2 * math.pi


@dataclass(frozen=True)
class Rings:
    """The division of the sky into tracts.

    Promises that every position has exactly one tract. Tract numbers follow the published RingsSkyMap; `version`
    0 is its older numbering, in which a ring's first tract (k = 0) carries the number behind the ring's last
    one - and that of the northernmost ring therefore the number of the north cap, geometry and all.

    Attributes
    ----------
    num_rings
        Rings between the caps.
    ra_start
        Right ascension of the centre of each ring's first tract.
    version
        1, or 0 for maps older than the correction.
    """

    num_rings: int
    ra_start: float = 0.0
    version: int = 1

    @cached_property
    def height(self) -> float:
        """Height of a ring; a cap reaches half of it from its pole."""
        return math.pi / (self.num_rings + 1)

    @cached_property
    def counts(self) -> Ints:
        """Tracts a row."""
        south = self.height * (np.arange(self.num_rings) + 0.5) - 0.5 * math.pi
        widest = np.minimum(np.abs(south), np.abs(south + self.height))
        inner = np.floor(TWO_PI * np.cos(widest) / self.height).astype(np.int64) + 1
        return np.concatenate([[1], inner, [1]])

    @cached_property
    def starts(self) -> Ints:
        """The number (as of version 1) of each row's first tract."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def total(self) -> int:
        """Tracts of the map."""
        return int(self.counts.sum())

    @cached_property
    def widths(self) -> Floats:
        """Extent in right ascension of a row's tracts."""
        return TWO_PI / self.counts

    @cached_property
    def row_decs(self) -> Floats:
        """Declination of the centres of each row."""
        decs: Floats = np.arange(self.num_rings + 2, dtype=np.float64) * self.height - 0.5 * math.pi
        decs[-1] = 0.5 * math.pi
        return decs

    @cached_property
    def row_sines(self) -> tuple[Floats, Floats]:
        """Sine and cosine of `row_decs`, exact at the poles."""
        cosines = np.cos(self.row_decs)
        cosines[[0, -1]] = 0.0
        return np.sin(self.row_decs), cosines

    @cached_property
    def row_bases(self) -> Floats:
        """Right ascension of each row's first tract: caps are centred at 0 wherever the rings start."""
        bases = np.full(self.num_rings + 2, self.ra_start)
        bases[[0, -1]] = 0.0
        return bases

    @cached_property
    def slots(self) -> Ints:
        """For each tract number, the version-1 number of the tract with its geometry."""
        slots = np.arange(self.total)
        if self.version == 0:
            for start, count in zip(self.starts[1:-1], self.counts[1:-1], strict=True):
                slots[start + count] = start  # the k = 0 tract stands behind its ring, not before it
            slots[-1] = self.total - 1
        return slots

    @cached_property
    def numbers(self) -> Ints:
        """For each version-1 number, the tract number of this map: the inverse of `slots` where there is one."""
        numbers = np.arange(self.total)
        if self.version == 0:
            numbers[self.starts[2:-1]] = self.starts[2:-1] + self.counts[2:-1]
        return numbers

    @cached_property
    def rows(self) -> Ints:
        """For each tract number, its row."""
        return np.repeat(np.arange(self.num_rings + 2), self.counts)[self.slots]

    @cached_property
    def centres(self) -> tuple[Floats, Floats]:
        """For each tract number, right ascension in [0, 2 pi) and declination of its centre."""
        k = self.slots - self.starts[self.rows]
        ra = np.fmod(self.row_bases[self.rows] + k * self.widths[self.rows], TWO_PI)
        return np.where(ra < 0, ra + TWO_PI, ra), self.row_decs[self.rows]

    @cached_property
    def sines(self) -> tuple[Floats, Floats]:
        """For each tract number, sine and cosine of its centre's declination."""
        sines, cosines = self.row_sines
        return sines[self.rows], cosines[self.rows]

    def row_of(self, dec: Floats) -> Ints:
        """Return the row of each declination; a ring owns its southern edge, and the northernmost both."""
        first = 0.5 * self.height - 0.5 * math.pi
        ring = dec - first
        ring /= self.height
        np.floor(ring, out=ring)
        np.clip(ring, -1.0, self.num_rings - 1.0, out=ring)
        ring += dec > -first
        ring += 1.0
        return ring.astype(np.int64)

    def find(self, ra: Floats, dec: Floats) -> tuple[Ints, Ints, Floats]:
        """Return row, version-1 number, and right ascension less the tract centre's, of finite positions."""
        row = self.row_of(dec)
        width = self.widths.take(row)
        turn = ra - self.ra_start
        if turn.min(initial=0.0) < 0 or turn.max(initial=0.0) >= TWO_PI:
            turn -= TWO_PI * np.floor(turn / TWO_PI)
        k = turn / width
        k += 0.5
        np.floor(k, out=k)
        turn -= k * width
        k[k == self.counts.take(row)] = 0.0
        if self.ra_start:
            turn += self.ra_start - self.row_bases.take(row)
            turn -= TWO_PI * np.rint(turn / TWO_PI)
        slot = k.astype(np.int64)
        slot += self.starts.take(row)
        return row, slot, turn

    def dec_range(self, row: int) -> tuple[float, float]:
        """Return southern and northern edge of a row's inner boxes."""
        south = -0.5 * math.pi if row == 0 else self.height * (row - 0.5) - 0.5 * math.pi
        north = 0.5 * math.pi if row > self.num_rings else self.height * (row + 0.5) - 0.5 * math.pi
        return south, north
