"""A piece of an image, read without the rest of it: of a compressed image only the tiles that it lies on.

Which image shows a position is found by `warehouse.images.finding`; what comes back is what `warehouse.images.pixels`
makes of a whole image, with the world coordinates moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warehouse import outputs
from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.faults import translated
from warehouse.images.headers import celestial, mask_planes, separation
from warehouse.images.pixels import NO_DATA, assembled, merged, native, parts, readable
from warehouse.images.ranged import Ranged
from warehouse.sky.regions import Cone

MOST_PIXELS = 100_000_000
_HORIZON_DEG = 80.0  # no tangent plane reaches as far


@dataclass(frozen=True, slots=True)
class Window:
    """A box of pixels, which may reach beyond the image: first column and row, width and height."""

    x: int
    y: int
    width: int
    height: int

    def within(self, width: int, height: int) -> tuple[slice, slice, slice, slice]:
        """Return rows and columns of an image of this size that the window shows, and where they stand in it."""
        left, right = max(0, self.x), min(width, self.x + self.width)
        low, high = max(0, self.y), min(height, self.y + self.height)
        inner = (slice(low - self.y, high - self.y), slice(left - self.x, right - self.x))
        return slice(low, high), slice(left, right), *inner


def cut(uri: str, ra: float, dec: float, size_arcsec: float, settings: Settings, *, file: Ranged | None = None) -> Any:  # noqa: ANN401 - a CCDData
    """Return a square piece of an image about a position, as ``CCDData``.

    What lies beyond the image's edge is NaN, has NaN variance and is masked NO_DATA.

    Parameters
    ----------
    ra, dec
        Of its middle, in degrees.
    size_arcsec
        Of its side, rounded to pixels of the image's own scale, at least one.
    file
        The file, where the caller wants to know what was read of it.

    Raises
    ------
    QueryError
        A size that is none, or more than `MOST_PIXELS`.
    NotFoundError
        The position lies outside the image (kind ``outside``).
    InputError
        Not an image that can be read.
    StorageError
        The store does not answer.
    """
    if not (math.isfinite(size_arcsec) and size_arcsec > 0):
        raise QueryError(f"size_arcsec: expected a positive number, found {size_arcsec}", kind="cutout")
    Cone(ra, dec, 0.0)  # refuses what is no position
    file = file if file is not None else Ranged(uri, settings)
    with readable(uri), parts(file) as found:
        number, image = found["IMAGE"]
        height, width = image.shape
        wcs = celestial(image.header, width, height, f"HDU {number}")
        window = _window(wcs, ra, dec, size_arcsec, (width, height), uri)
        planes = mask_planes(found["MASK"][1].header) if "MASK" in found else {}
        planes.setdefault(NO_DATA, _free_bit(planes))
        pieces = {kind: _piece(hdu, window) for kind, (_, hdu) in found.items() if kind != "PRIMARY"}
        meta = merged(found["PRIMARY"][1].header, image.header, planes)
    data, variance = (_padded(pieces.get(kind), window, (width, height), np.nan) for kind in ("IMAGE", "VARIANCE"))
    bits = _padded(_bits(pieces), window, (width, height), 1 << planes[NO_DATA])
    _move_parent(meta, window)
    return assembled(data, bits, variance, planes, moved(wcs, window), meta, uri)


def write(image: Any, out: Path) -> None:  # noqa: ANN401 - a CCDData
    """Write an image as a FITS file: data, and extensions MASK, VARIANCE and FLAGS (StorageError where it cannot)."""
    with translated(str(out), "writing"), outputs.replacing(out) as part:
        image.write(part, format="fits", hdu_mask="MASK", hdu_uncertainty="VARIANCE", hdu_flags="FLAGS")


def _window(wcs: Any, ra: float, dec: float, size_arcsec: float, shape: tuple[int, int], uri: str) -> Window:  # noqa: ANN401 - astropy's
    """Return the pixels about a position."""
    x, y = _to_pixel(wcs, ra, dec)
    width, height = shape
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        where = "nowhere near it" if not math.isfinite(x + y) else f"at pixel ({x:.1f}, {y:.1f})"
        message = f"({ra}, {dec}) lies outside the image: {where}, of {width} x {height}"
        raise NotFoundError(message, kind="outside", uri=uri)
    scale_arcsec = 3600.0 * math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
    side = max(1, round(size_arcsec / scale_arcsec))
    if side * side > MOST_PIXELS:
        message = f"size_arcsec: {size_arcsec} are {side:,} pixels a side, more than one cutout gives"
        raise QueryError(message, kind="cutout", uri=uri)
    return Window(round(x - (side - 1) / 2), round(y - (side - 1) / 2), side, side)


def _to_pixel(wcs: Any, ra: float, dec: float) -> tuple[float, float]:  # noqa: ANN401 - astropy's
    """Return the 0-based pixel of a position, NaN where there is none."""
    from astropy.wcs import NoConvergence

    if separation(ra, dec, *wcs.wcs.crval) > _HORIZON_DEG:
        return math.nan, math.nan
    if wcs.wcs.radesys.strip() not in {"", "ICRS"}:
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        place = SkyCoord(ra, dec, unit="deg").transform_to(wcs_to_celestial_frame(wcs))
        ra, dec = place.spherical.lon.deg, place.spherical.lat.deg
    try:
        x, y = wcs.all_world2pix(ra, dec, 0)
    except NoConvergence:  # so far away that the distortion has no inverse
        return math.nan, math.nan
    return float(x), float(y)


def _piece(hdu: Any, window: Window) -> npt.NDArray[Any]:  # noqa: ANN401 - astropy's
    """Return the pixels of the window that an HDU has; of a compressed one only their tiles are read."""
    height, width = hdu.shape
    rows, columns, _, _ = window.within(width, height)
    return native(hdu.section[rows, columns])


def _bits(pieces: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the mask's pixels; an image without a mask has none set."""
    return pieces["MASK"] if "MASK" in pieces else np.zeros(pieces["IMAGE"].shape, np.int32)


def _padded(
    piece: npt.NDArray[Any] | None, window: Window, shape: tuple[int, int], empty: float
) -> npt.NDArray[Any] | None:
    """Return the window's pixels, `empty` where the image has none; integers become floats where that is NaN."""
    if piece is None or piece.shape == (window.height, window.width):
        return piece
    dtype = piece.dtype
    if math.isnan(empty) and dtype.kind != "f":
        dtype = np.dtype(np.float64)
    padded = np.full((window.height, window.width), empty, dtype)
    _, _, rows, columns = window.within(*shape)
    padded[rows, columns] = piece
    return padded


def _free_bit(planes: Mapping[str, int]) -> int:
    return next(bit for bit in range(31) if bit not in planes.values())


def moved(wcs: Any, window: Window) -> Any:  # noqa: ANN401 - astropy's
    """Return world coordinates in the window's pixels."""
    new = wcs.deepcopy()
    corner = np.array([window.x, window.y], float)
    new.wcs.crpix = new.wcs.crpix - corner
    if new.sip is not None:
        from astropy.wcs import Sip

        sip = new.sip
        new.sip = Sip(sip.a, sip.b, sip.ap, sip.bp, sip.crpix - corner)
    new.pixel_shape = (window.width, window.height)
    return new


def _move_parent(meta: Any, window: Window) -> None:  # noqa: ANN401 - astropy's header
    """Let LTV1 and LTV2 say where the window lies in parent pixels."""
    for name, shift in (("LTV1", window.x), ("LTV2", window.y)):
        meta[name] = float(meta.get(name, 0.0)) - shift
