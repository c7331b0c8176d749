"""What an image's headers say, read without its pixels: a few ranges of some ten kilobytes, wherever the file lies.

Here belongs everything that is taken from headers: shape, place on the sky, time, data id, mask planes, compression.
What becomes of it - rows of Image, ObsCore, Visit - is not known here. astropy is loaded when the first file is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError, QueryError
from warehouse.images.provenance import Pointing, number, pointing, told_data_id, word
from warehouse.images.ranged import FIRST_READ, NEXT_READ, Ranged
from warehouse.readers.fits.buffers import Bytes
from warehouse.readers.fits.headers import Cards, Hdu, hdus
from warehouse.readers.fits.ranges import Window
from warehouse.sky import sphere
from warehouse.sky.regions import Polygon

_GZIP = b"\x1f\x8b"
_LAST_HDU = 4  # image, mask and variance come first; archives after them hold no pixels
WCS_CARD = re.compile(
    r"(WCSAXES|CTYPE[12]|CRVAL[12]|CRPIX[12]|CDELT[12]|CUNIT[12]|CD[12]_[12]|PC[12]_[12]|CROTA2|PV[12]_\d+"
    r"|(A|B|AP|BP)_(ORDER|\d+_\d+)|LONPOLE|LATPOLE|RADESYS|EQUINOX)"
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the headers of one image say: plain values, fit to cross a process border.

    Attributes
    ----------
    width, height, x0, y0
        Pixels, and the parent pixel of the first one (0-based).
    ra_deg, dec_deg, radius_deg, pixel_arcsec
        Middle of the image (ICRS), its farthest corner's distance, and the scale there.
    corners
        RA, Dec of the outer edges of the corner pixels: first pixel, then along x, both, along y.
    data_id, dataset_type, run
        As far as HDU 0 tells: the Butler's provenance cards, where they are, else the visit's own.
    planes
        Bit by name of the mask's planes.
    compression
        ZCMPTYPE, None for plain pixels.
    bytes_read, reads
        What it cost.
    """

    width: int
    height: int
    x0: int
    y0: int
    ra_deg: float
    dec_deg: float
    radius_deg: float
    pixel_arcsec: float
    corners: tuple[tuple[float, float], ...]
    pointing: Pointing
    data_id: Mapping[str, int | str] = field(default_factory=dict)
    dataset_type: str | None = None
    run: str | None = None
    planes: Mapping[str, int] = field(default_factory=dict)
    compression: str | None = None
    bunit: str | None = None
    bytes_read: int = 0
    reads: int = 0


class _Records:
    """The file as a window over headers reads it: no further ahead than headers are long."""

    remote = True
    stamp = ""  # the listing's counts

    def __init__(self, file: Ranged) -> None:
        self.file = file

    @property
    def size(self) -> int | None:
        return self.file.size

    def read(self, start: int, length: int, scratch: Bytes | None = None) -> Bytes:
        # A window asks for far more than the record that it needs; here the rest would be pixels.
        del scratch
        content = self.file.fetch(start, start + min(length, NEXT_READ if start else FIRST_READ))
        return np.frombuffer(content, np.uint8)

    def close(self) -> None:
        """Nothing is held."""


def read_header(
    uri: str,
    settings: Settings,
    *,
    size: int | None = None,
    fs: Any = None,  # noqa: ANN401 - fsspec publishes no types
) -> ImageHeader:
    """Return what the headers of the image `uri` say; its pixels are not read.

    Parameters
    ----------
    size
        Bytes of the file, where a listing has told them: saves a request.
    fs
        The file system to read by, where several threads share one.

    Raises
    ------
    InputError
        No FITS file, no image in it (kind ``no_image``), no usable place on the sky (``wcs``), compressed as a
        whole (``gzip``), truncated; the message names the HDU.
    StorageError
        The store does not answer.
    """
    file = Ranged(uri, settings, size=size, fs=fs)
    try:
        window = Window(_Records(file))
        return _understood(window, file)
    except InputError as error:
        if error.uri is not None:
            raise
        raise InputError(error.message, kind=error.kind, uri=uri) from error


def _understood(window: Window, file: Ranged) -> ImageHeader:
    if window.read(0, len(_GZIP)) == _GZIP:
        raise InputError("compressed as a whole, so that no part can be read alone; gunzip it", kind="gzip")
    primary, image, mask = _wanted(hdus(window))
    width, height = (_count(image.cards, axis) for axis in (1, 2))
    wcs = celestial(image.header, width, height, image.place)
    return ImageHeader(
        width=width,
        height=height,
        x0=-round(number(image.cards, "LTV1") or 0.0),
        y0=-round(number(image.cards, "LTV2") or 0.0),
        **_place(wcs, width, height, image.place),
        pointing=pointing(primary.cards),
        data_id=told_data_id(primary.cards),
        dataset_type=word(primary.cards, "LSST BUTLER DATASETTYPE"),
        run=word(primary.cards, "LSST BUTLER RUN"),
        planes=mask_planes(mask.header) if mask is not None else {},
        compression=word(image.cards, "ZCMPTYPE"),
        bunit=word(image.cards, "BUNIT"),
        bytes_read=file.bytes_read,
        reads=file.reads,
    )


def _wanted(found: Iterator[Hdu]) -> tuple[Hdu, Hdu, Hdu | None]:
    """Return HDU 0, the image and the mask; nothing after them is read."""
    primary = image = mask = None
    for hdu in found:
        primary = primary or hdu
        if role(hdu.cards) == "MASK":
            mask = hdu
        elif image is None and is_image(hdu):
            image = hdu
        if (image is not None and mask is not None) or hdu.number >= _LAST_HDU:
            break
        if hdu.number and str(hdu.cards.get("EXTTYPE", "")).startswith("ARCHIVE"):
            break
    if primary is None or image is None:
        raise InputError("none of its first HDUs is a two-dimensional image", kind="no_image")
    return primary, image, mask


def is_image(hdu: Hdu) -> bool:
    """Return whether an HDU holds two-dimensional pixels, compressed or not."""
    if hdu.cards.get("ZIMAGE", False):
        return hdu.cards.get("ZNAXIS") == 2
    plain = hdu.number == 0 or hdu.cards.get("XTENSION") == "IMAGE"
    return plain and hdu.cards.get("NAXIS") == 2


def role(cards: Mapping[str, object]) -> str:
    """Return what an HDU is to the image: IMAGE, MASK, VARIANCE, or nothing; EXTTYPE says so, else EXTNAME."""
    return str(cards.get("EXTTYPE") or cards.get("EXTNAME") or "").strip().upper()


def mask_planes(header: Any) -> dict[str, int]:  # noqa: ANN401 - astropy publishes no types
    """Return bit by name of the planes that a mask's header names (``MP_<NAME>``), in the order of the bits."""
    found = {card.keyword[3:]: int(card.value) for card in header.cards if card.keyword.startswith("MP_")}
    return dict(sorted(found.items(), key=lambda plane: plane[1]))


def celestial(header: Any, width: int, height: int, place: str) -> Any:  # noqa: ANN401 - astropy publishes no types
    """Return astropy's WCS of an image's header (InputError of kind ``wcs`` where there is none that can be used).

    Only the cards of the primary description are looked at: compressed HDUs carry those of a table besides, and afw
    adds a second description in parent pixels.
    """
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    cards = [card for card in header.cards if WCS_CARD.fullmatch(card.keyword)]
    if not any(card.keyword == "CTYPE1" for card in cards):
        raise InputError(f"{place}: no world coordinates (CTYPE1 is absent)", kind="wcs")
    try:
        # Without astropy's repairs, which are for other people's headers and announce themselves by warnings.
        wcs = WCS(Header(cards), fix=False)
        wcs.wcs.set()
    except (ValueError, MemoryError, KeyError) as error:  # astropy.wcs's own errors derive from ValueError
        raise InputError(f"{place}: its world coordinates cannot be used: {error}", kind="wcs") from error
    if not wcs.has_celestial or wcs.naxis != 2:
        raise InputError(f"{place}: its world coordinates are {list(wcs.wcs.ctype)}, expected RA and Dec", kind="wcs")
    wcs.pixel_shape = (width, height)
    return wcs


def _place(wcs: Any, width: int, height: int, place: str) -> dict[str, Any]:  # noqa: ANN401 - astropy publishes no types
    """Return where an image lies: middle, radius, scale and corners."""
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = np.array([middle_x, -0.5, width - 0.5, width - 0.5, -0.5, middle_x + 1, middle_x])
    y = np.array([middle_y, -0.5, -0.5, height - 0.5, height - 0.5, middle_y, middle_y + 1])
    ra, dec = to_sky(wcs, x, y)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise InputError(f"{place}: its world coordinates put a corner nowhere on the sky", kind="wcs")
    corners = tuple(zip(ra[1:5].tolist(), dec[1:5].tolist(), strict=True))
    try:
        Polygon(corners)
    except QueryError as error:
        raise InputError(f"{place}: its corners {corners} are no polygon: {error.message}", kind="wcs") from error
    here, right, up = sphere.unit(ra[[0, 5, 6]], dec[[0, 5, 6]])
    area = abs(np.dot(here, np.cross(right - here, up - here)))
    return {
        "ra_deg": float(ra[0]),
        "dec_deg": float(dec[0]),
        "radius_deg": max(separation(ra[0], dec[0], *corner) for corner in corners),
        "pixel_arcsec": 3600.0 * math.degrees(math.sqrt(area)),
        "corners": corners,
    }


def to_sky(wcs: Any, x: Any, y: Any) -> tuple[Any, Any]:  # noqa: ANN401 - astropy's, and anything like an array
    """Return RA in [0, 360) and Dec, ICRS degrees, of 0-based pixels."""
    ra, dec = wcs.all_pix2world(x, y, 0)
    if wcs.wcs.radesys.strip() not in {"", "ICRS"}:
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        found = SkyCoord(ra, dec, unit="deg", frame=wcs_to_celestial_frame(wcs)).icrs
        ra, dec = found.ra.deg, found.dec.deg
    return np.mod(ra, 360.0), dec


def separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Return the angle between two positions, all in degrees (haversine formula)."""
    first, second = math.radians(dec), math.radians(other_dec)
    across = math.sin(math.radians(other_ra - ra) / 2) ** 2
    chord = math.sin((second - first) / 2) ** 2 + math.cos(first) * math.cos(second) * across
    return math.degrees(2 * math.asin(math.sqrt(min(1.0, chord))))


def _count(cards: Cards, axis: int) -> int:
    """Return the pixels along an axis, of a compressed image those that it unpacks to."""
    key = f"ZNAXIS{axis}" if cards.get("ZIMAGE", False) else f"NAXIS{axis}"
    value = cards.get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{key} is {value!r}, expected pixels", kind="no_image")
    return value


def read_all(
    items: Sequence[tuple[str, int]], settings: Settings, *, threads: int | None = None
) -> Iterator[ImageHeader | InputError]:
    """Yield what the headers of many images say, (URI, bytes) each, in their order; an InputError where one is unfit.

    Parameters
    ----------
    threads
        Files at once. By default as many as there are workers, and on a store, where requests wait, several times
        as many.

    Raises
    ------
    StorageError
        The store does not answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    if not items:
        return
    first = items[0][0]
    fs, _ = storage.filesystem(first, settings)
    remote = storage.scheme(first) == "s3"

    def one(item: tuple[str, int]) -> ImageHeader | InputError:
        uri, size = item
        # One client for all threads: each one's own would cost more than the headers.
        shared = fs if storage.scheme(uri) == storage.scheme(first) else None
        try:
            return read_header(uri, settings, size=size, fs=shared)
        except InputError as error:
            return error

    count = threads or (max(16, 4 * settings.workers) if remote else settings.workers)
    with ThreadPoolExecutor(min(count, len(items))) as pool:
        yield from pool.map(one, items)
