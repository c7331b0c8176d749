"""Sky maps: from positions to tracts and patches, and back to pixels and polygons.

The published rings sky maps by their names, and any other made from its numbers. A map is a value: frozen, picklable,
safe to share between threads. Degrees in, arrays out. Regions live in `warehouse.sky.regions`; the arithmetic of
rings, pixels and projection stands in the modules of those names.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.sky import coverage
from warehouse.sky.blocks import Array, Bools, Floats, Ints, in_blocks
from warehouse.sky.grid import Cells, Grid, Legacy
from warehouse.sky.projection import backward, forward
from warehouse.sky.regions import Box, Region
from warehouse.sky.rings import TWO_PI, Rings

_DEGREE = math.pi / 180
_ARCSEC = _DEGREE / 3600


@dataclass(frozen=True)
class SkyMap:
    """A rings sky map: tracts over the whole sky, each a gnomonic pixel plane cut into square patches.

    Promises: every position of the sky has exactly one tract and patch (`find`), poles and RA 0 included; methods
    are vectorised, broadcast their arguments, work in blocks that stay in cache, and share nothing mutable.

    Attributes
    ----------
    name
        What the data ids call it.
    patches
        How tracts are cut: `Legacy` (DP0.2) or `Cells` (DP1 and later).
    num_rings
        Declination rings between the polar caps.
    scale_arcsec
        Of a pixel at the tract's centre.
    overlap_deg
        By which a tract reaches beyond its half ring height, on each side.
    ra_start_deg
        Centre of each ring's first tract.
    version
        Of the tract numbers: 1, or 0 for maps older than the correction of each ring's first tract.
    """

    name: str
    patches: Legacy | Cells
    num_rings: int = 120
    scale_arcsec: float = 0.2
    overlap_deg: float = 1 / 60
    ra_start_deg: float = 0.0
    version: int = 1
    rings: Rings = field(init=False, repr=False, compare=False)
    grid: Grid = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.num_rings < 2 or self.version not in {0, 1}:
            raise QueryError(
                f"sky map {self.name}: expected two rings or more and version 0 or 1,"
                f" found {self.num_rings} and {self.version}"
            )
        rings = Rings(self.num_rings, self.ra_start_deg * _DEGREE, self.version)
        half_side = 0.5 * rings.height + self.overlap_deg * _DEGREE
        object.__setattr__(self, "rings", rings)
        object.__setattr__(self, "grid", Grid.cover(half_side, self.scale_arcsec * _ARCSEC, self.patches))

    @cached_property
    def sha1(self) -> str:
        """The hash by which the published maps are known; it covers every number but not the name."""
        digest = hashlib.sha1(b"RingsSkyMap", usedforsecurity=False)
        digest.update(self.patches.packed(self.overlap_deg, self.scale_arcsec))
        digest.update(struct.pack("<id", self.num_rings, self.ra_start_deg))
        return digest.hexdigest()

    @property
    def n_tracts(self) -> int:
        """Tracts, numbered from 0."""
        return self.rings.total

    @property
    def patches_per_side(self) -> int:
        """Patches along a tract."""
        return self.grid.side

    @property
    def patches_per_tract(self) -> int:
        """Patches in a tract, numbered from 0."""
        return self.grid.side**2

    def find(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, *, threads: int = 1) -> tuple[Ints, Ints]:
        """Return the one inner tract and patch of each position.

        Where the inner corner of a tract sticks out of its patches (in the rings beside the caps, by some 40 pixels
        on DC2; the published software has no answer there) the nearest patch is taken.

        Parameters
        ----------
        ra_deg, dec_deg
            Degrees, ICRS; right ascension in any turn.
        threads
            Threads to share the work out to.

        Returns
        -------
        tract, patch : ndarray of int64
            In the arguments' broadcast shape; both -1 where a position is not finite or lies beyond a pole.
        """
        tract, patch = in_blocks(self._find, _floats(ra_deg, dec_deg), (np.int64, np.int64), threads)
        return tract, patch

    def find_tract(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Ints:
        """Return the one inner tract of each position, -1 where the position is none."""
        (tract,) = in_blocks(self._find_tract, _floats(ra_deg, dec_deg), (np.int64,))
        return tract

    def find_patch(self, tract: npt.ArrayLike, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Ints:
        """Return the patch of each position in the pixels of a given tract, -1 where that tract has none there."""

        def kernel(tracts: Ints, ra: Floats, dec: Floats) -> tuple[Ints]:
            return (self.grid.patch_of(*self._pixels(tracts, ra, dec)),)

        (patch,) = in_blocks(kernel, (_ints(tract), *_floats(ra_deg, dec_deg)), (np.int64,))
        return patch

    def to_pixels(self, tract: npt.ArrayLike, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return x, y of each position in its tract's pixels.

        0-based, pixel centres at integers, x growing against right ascension. NaN where the position or the
        tract is none, or where the position lies on the other half of the sky.
        """
        arrays = (_ints(tract), *_floats(ra_deg, dec_deg))
        x, y = in_blocks(self._pixels, arrays, (np.float64, np.float64))
        return x, y

    def to_sky(self, tract: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return right ascension in [0, 360) and declination, in degrees, of pixel positions of tracts."""
        ra, dec = in_blocks(self._sky, (_ints(tract), *_floats(x, y)), (np.float64, np.float64))
        return ra, dec

    def in_outer(
        self,
        tract: npt.ArrayLike,
        patch: npt.ArrayLike,
        ra_deg: npt.ArrayLike,
        dec_deg: npt.ArrayLike,
        *,
        margin_arcsec: float = 0.0,
    ) -> Bools:
        """Return whether each position lies in the outer box of its row's tract and patch.

        False where tract, patch or position are none. `margin_arcsec` widens the boxes on every side.
        """
        margin = 0.5 + margin_arcsec / self.scale_arcsec
        west, south, east, north = self.grid.box(np.arange(self.patches_per_tract), outer=True).T

        def kernel(tracts: Ints, numbers: Ints, ra: Floats, dec: Floats) -> tuple[Bools]:
            x, y = self._pixels(tracts, ra, dec)
            known = (numbers >= 0) & (numbers < self.patches_per_tract)
            patches = np.where(known, numbers, 0)
            inside = (x >= west.take(patches) - margin) & (x < east.take(patches) + margin)
            inside &= (y >= south.take(patches) - margin) & (y < north.take(patches) + margin)
            return (inside & known,)

        arrays = (_ints(tract), _ints(patch), *_floats(ra_deg, dec_deg))
        (inside,) = in_blocks(kernel, arrays, (np.bool_,))
        return inside

    def tract_centre(self, tract: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return right ascension and declination, in degrees, of tracts' centres (NotFoundError for no tract)."""
        number = self._known(tract)
        ra, dec = self.rings.centres
        return ra[number] / _DEGREE, dec[number] / _DEGREE

    def inner_box(self, tract: int) -> Box:
        """Return the part of the sky that is this tract's and no other's (NotFoundError for no tract)."""
        return coverage.inner_box(self.rings, int(self._known(tract)))

    def tract_polygon(self, tract: npt.ArrayLike) -> Floats:
        """Return the corners of tracts' pixel boxes: (..., 4, 2) RA, Dec in degrees, counter-clockwise on the sky."""
        number = self._known(tract)
        edge = self.grid.pixels - 1
        return self._polygon(number, np.broadcast_to([0, 0, edge, edge], (*number.shape, 4)))

    def patch_box(self, patch: npt.ArrayLike, *, outer: bool = False) -> Ints:
        """Return first x, first y, last x, last y of patches' boxes in tract pixels: (..., 4), ends included."""
        return self.grid.box(self._known_patch(patch), outer=outer)

    def patch_polygon(self, tract: npt.ArrayLike, patch: npt.ArrayLike, outer: bool = False) -> Floats:
        """Return the corners of patches' boxes on the sky.

        Parameters
        ----------
        tract, patch
            Broadcast against each other.
        outer
            The outer box, with its border, rather than the inner one.

        Returns
        -------
        ndarray
            (..., 4, 2): RA in [0, 360) and Dec, in degrees, of the pixel box's outer edges; counter-clockwise as
            seen on the sky, beginning at the corner of lowest x and y. The edges are great circles.

        Raises
        ------
        NotFoundError
            No such tract or patch.
        """
        return self._polygon(self._known(tract), self.grid.box(self._known_patch(patch), outer=outer))

    def candidates(self, region: Region) -> tuple[Ints, Ints]:
        """Return every tract and patch that `find` may give for a position in `region`, sorted.

        A small superset: a patch is left out only where its inner box, or its tract's, is clear of the region.
        """
        return coverage.inner_candidates(self.rings, self.grid, region)

    def outer_candidates(self, region: Region) -> tuple[Ints, Ints]:
        """Return every tract and patch whose outer box may hold a position in `region`, sorted (a small superset)."""
        return coverage.outer_candidates(self.rings, self.grid, region)

    def neighbours(self, tract: int) -> Ints:
        """Return the tracts whose outer boxes may hold positions of `tract`'s inner box, itself included, sorted."""
        tracts, _ = self.outer_candidates(self.inner_box(tract))
        return np.unique(tracts)

    def coadd_patches(self, tracts: Iterable[int] | None = None) -> dict[str, Array]:
        """Return the columns of the CoaddPatches table for every patch of `tracts` (all of the map by default).

        A coadd covers its patch's outer box, so ``s_region`` is the outer box's polygon in STC-S, as observation
        catalogues write it, and ``s_ra``, ``s_dec`` are the centre of that same box.

        Returns
        -------
        dict of str to ndarray
            lsst_tract, lsst_patch (int64), s_ra, s_dec (float64, degrees), s_region (object, str); in the order of
            `tracts`, then by patch.

        Raises
        ------
        NotFoundError
            No such tract.
        """
        numbers = self._known(np.arange(self.n_tracts) if tracts is None else np.fromiter(tracts, np.int64))
        tract = np.repeat(numbers, self.patches_per_tract)
        patch = np.tile(np.arange(self.patches_per_tract), len(numbers))
        box = self.grid.box(patch, outer=True)
        ra, dec = self.to_sky(tract, 0.5 * (box[:, 0] + box[:, 2]), 0.5 * (box[:, 1] + box[:, 3]))
        corners = self._polygon(tract, box).reshape(-1, 8)
        # Ten decimals are a third of a microarcsecond: below what float64 columns of the same table carry.
        template = "POLYGON ICRS" + " %.10f" * 8
        regions = np.array([template % tuple(row) for row in corners.tolist()], dtype=object)
        return {"lsst_tract": tract, "lsst_patch": patch, "s_ra": ra, "s_dec": dec, "s_region": regions}

    def _find(self, ra: Floats, dec: Floats) -> tuple[Ints, Ints]:
        fit, ra, dec = _fit(ra, dec)
        row, slot, d_ra = self.rings.find(ra, dec)
        sines, cosines = self.rings.row_sines
        xi, eta, _ = forward(d_ra, dec - self.rings.row_decs.take(row), sines.take(row), cosines.take(row))
        tract, (x, y) = slot, self._plane_to_pixels(xi, eta)
        if self.version == 0:
            tract = self.rings.numbers.take(slot)
            moved = np.flatnonzero(self.rings.slots.take(tract) != slot)
            x[moved], y[moved] = self._pixels(tract[moved], ra[moved] / _DEGREE, dec[moved] / _DEGREE)
        patch = self.grid.nearest_patch_of(x, y)
        if fit is not None:
            tract, patch = np.where(fit, tract, -1), np.where(fit, patch, -1)
        return tract, patch

    def _find_tract(self, ra: Floats, dec: Floats) -> tuple[Ints]:
        fit, ra, dec = _fit(ra, dec)
        _, slot, _ = self.rings.find(ra, dec)
        tract = slot if self.version else self.rings.numbers.take(slot)
        return (tract if fit is None else np.where(fit, tract, -1),)

    def _pixels(self, tract: Ints, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        fit, ra, dec = _fit(ra, dec)
        known = (tract >= 0) & (tract < self.n_tracts)
        number = tract if known.all() else np.where(known, tract, 0)
        (centre_ra, centre_dec), (sines, cosines) = self.rings.centres, self.rings.sines
        d_ra = ra - centre_ra.take(number)
        d_ra -= TWO_PI * np.rint(d_ra / TWO_PI)
        d_dec = dec - centre_dec.take(number)
        xi, eta, depth = forward(d_ra, d_dec, sines.take(number), cosines.take(number))
        x, y = self._plane_to_pixels(xi, eta)
        lost = ~((depth > 0) & known & (True if fit is None else fit))
        if lost.any():
            x, y = np.where(lost, np.nan, x), np.where(lost, np.nan, y)
        return x, y

    def _sky(self, tract: Ints, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        known = (tract >= 0) & (tract < self.n_tracts)
        number = np.where(known, tract, 0)
        sines, cosines = self.rings.sines
        xi = (self.grid.centre - x) * self.grid.scale
        eta = (y - self.grid.centre) * self.grid.scale
        d_ra, dec = backward(xi, eta, sines.take(number), cosines.take(number))
        ra = (self.rings.centres[0].take(number) + d_ra) / _DEGREE
        ra = np.where(ra < 0, ra + 360.0, ra)
        ra = np.where(ra >= 360.0, ra - 360.0, ra)
        return np.where(known, ra, np.nan), np.where(known, dec / _DEGREE, np.nan)

    def _plane_to_pixels(self, xi: Floats, eta: Floats) -> tuple[Floats, Floats]:
        xi /= -self.grid.scale
        xi += self.grid.centre
        eta /= self.grid.scale
        eta += self.grid.centre
        return xi, eta

    def _polygon(self, tract: Ints, box: Ints) -> Floats:
        edges = box + np.array([-0.5, -0.5, 0.5, 0.5])
        corners = edges[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]
        ra, dec = self.to_sky(np.asarray(tract)[..., None], corners[..., 0], corners[..., 1])
        return np.stack([ra, dec], axis=-1)

    def _known(self, tract: npt.ArrayLike) -> Ints:
        return _within(tract, self.n_tracts, f"sky map {self.name} has tracts")

    def _known_patch(self, patch: npt.ArrayLike) -> Ints:
        return _within(patch, self.patches_per_tract, f"a tract of sky map {self.name} has patches")


def _within(number: npt.ArrayLike, total: int, what: str) -> Ints:
    try:
        numbers = _ints(number)
    except OverflowError:
        raise NotFoundError(f"{what} 0 to {total - 1}, found {number!r}", kind="tract") from None
    wrong = numbers[(numbers < 0) | (numbers >= total)]
    if wrong.size:
        raise NotFoundError(f"{what} 0 to {total - 1}, found {wrong.flat[0]}", kind="tract")
    return numbers


def _floats(*arrays: npt.ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def _ints(array: npt.ArrayLike) -> Ints:
    return np.asarray(array, dtype=np.int64)


def _fit(ra_deg: Floats, dec_deg: Floats) -> tuple[Bools | None, Floats, Floats]:
    """Return where positions are positions (None: everywhere), and both in radians, 0 where they are not."""
    # A NaN fails the comparison, too; most blocks have none, and then no mask is made.
    if np.isfinite(ra_deg).all() and np.abs(dec_deg).max(initial=0.0) <= 90.0:
        return None, ra_deg * _DEGREE, dec_deg * _DEGREE
    fit = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90.0)
    return fit, np.where(fit, ra_deg, 0.0) * _DEGREE, np.where(fit, dec_deg, 0.0) * _DEGREE


_KNOWN: dict[str, SkyMap] = {}


def register(skymap: SkyMap) -> SkyMap:
    """Return `skymap` after making it known by its name to `named`, in this process.

    Raises
    ------
    QueryError
        Another map has that name.
    """
    if _KNOWN.setdefault(skymap.name, skymap) != skymap:
        raise QueryError(f"sky map {skymap.name} is already known, with hash {_KNOWN[skymap.name].sha1}")
    return skymap


def named(name: str) -> SkyMap:
    """Return the sky map called `name`: ``DC2``, ``lsst_cells_v1``, or one that was registered.

    Raises
    ------
    NotFoundError
        No such map; the message names the near misses.
    """
    try:
        return _KNOWN[name]
    except KeyError:
        raise NotFoundError(f"no sky map {name!r}; {near_misses(name, _KNOWN)}", kind="skymap") from None


register(SkyMap("DC2", Legacy(inner=4000, border=100)))
register(SkyMap("lsst_cells_v1", Cells(cell=150, cell_border=50, inner_cells=20, border_cells=1)))
