"""An image's pixels as astropy's ``CCDData``: data, uncertainty, mask with its named planes, coordinates, headers.

The same form for a whole image (here) and for a piece of one (`warehouse.images.cutout`). Which file an image is, is
found by `warehouse.images.finding`. astropy is loaded when the first image is read.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError, NotFoundError, WarehouseError, near_misses
from warehouse.images.headers import WCS_CARD, celestial, mask_planes, role
from warehouse.images.ranged import Held

UNUSABLE = ("BAD", "SAT", "CR", "NO_DATA", "UNMASKEDNAN")
"""Planes whose pixels are no measurement. The others - DETECTED, EDGE, INTRP and so on - tell about ones that are."""

NO_DATA = "NO_DATA"
_GZIP = b"\x1f\x8b"
_UNIT_WITHOUT_WORD = "adu"
_PARTS = ("IMAGE", "MASK", "VARIANCE")
_STRUCTURE = ("CHECKSUM", "DATASUM", "EXTNAME", "EXTTYPE", "EXTVER", "INHERIT", "AR_HDU")


def read_image(uri: str, settings: Settings) -> Any:  # noqa: ANN401 - a CCDData; astropy publishes no types
    """Return a whole image as ``CCDData``.

    Returns
    -------
    astropy.nddata.CCDData
        ``data`` in the file's type; ``unit`` from BUNIT, adu without; ``uncertainty`` a VarianceUncertainty;
        ``flags`` the mask's bits, as the file has them (`plane` takes one out of them); ``mask`` true where a plane
        of `UNUSABLE` is set; ``wcs``, None where there is none; ``meta`` the cards of HDU 0 and of the image, and
        the planes' bits (MP_*).
        A slice of a CCDData has no flags, which astropy drops: take planes out of the whole first.

    Raises
    ------
    InputError
        No such file, or not an image that can be read; the message says which HDU.
    StorageError
        The store does not answer.
    """
    content = storage.read_bytes(uri, settings)
    if content.startswith(_GZIP):
        with readable(uri):
            content = gzip.decompress(content)
    with readable(uri), Held(uri, content) as file, parts(file) as found:
        number = found["IMAGE"][0]
        header = found["IMAGE"][1].header
        planes = mask_planes(found["MASK"][1].header) if "MASK" in found else {}
        meta = merged(found["PRIMARY"][1].header, header, planes)

    def unpacked(kind: str) -> npt.NDArray[Any] | None:
        with Held(uri, content) as own, parts(own) as mine:
            return native(mine[kind][1].data) if kind in mine else None

    # Tiles are unpacked by code that lets go of the interpreter.
    with readable(uri), ThreadPoolExecutor(len(_PARTS)) as pool:
        data, bits, variance = pool.map(unpacked, _PARTS)
    data = np.asarray(data)
    # Pixels are pixels, even where no header says on which piece of sky.
    wcs = celestial(header, data.shape[1], data.shape[0], f"HDU {number}") if "CTYPE1" in header else None
    return assembled(data, bits, variance, planes, wcs, meta, uri)


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """Translate what astropy raises over a file that is not what it claims to be into an InputError.

    Raises
    ------
    InputError
        Of kind ``corrupt``, or as it was raised, with the file's name.
    """
    try:
        yield
    except InputError as error:
        if error.uri is not None:
            raise
        raise InputError(error.message, kind=error.kind, uri=uri) from error
    except WarehouseError:
        raise  # some are ValueErrors, too
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zlib.error) as error:
        detail = " ".join(str(error).split())[:300]
        message = f"its pixels cannot be read: {type(error).__name__}: {detail}"
        raise InputError(message, kind="corrupt", uri=uri) from error


@contextmanager
def parts(file: io.IOBase) -> Iterator[dict[str, tuple[int, Any]]]:
    """Yield number and HDU by role: PRIMARY, IMAGE, and MASK and VARIANCE where there are any; pixels are not read.

    A file of one image has no roles: then its first image is the IMAGE.
    """
    from astropy.io import fits

    with fits.open(file, memmap=False, lazy_load_hdus=True) as opened:
        found: dict[str, tuple[int, Any]] = {}
        for number, hdu in enumerate(opened):
            if number == 0:
                found["PRIMARY"] = (0, hdu)
            if str(hdu.header.get("EXTTYPE", "")).startswith("ARCHIVE"):
                break
            kind = role(hdu.header)
            if getattr(hdu, "is_image", False) and hdu.header.get("NAXIS") == 2:
                found.setdefault(kind if kind in _PARTS else "IMAGE", (number, hdu))
            if found.keys() >= set(_PARTS):
                break
        if "IMAGE" not in found:
            raise InputError("none of its first HDUs is a two-dimensional image", kind="no_image")
        yield found


def native(pixels: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - what astropy gives, in the file's byte order
    """Return pixels in the machine's byte order."""
    array = np.asarray(pixels)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def merged(primary: Any, image: Any, planes: Mapping[str, int]) -> Any:  # noqa: ANN401 - astropy's headers
    """Return one header: of the exposure, the image and the planes; without what file and ``wcs`` say themselves."""
    meta = primary.copy(strip=True)
    meta.update(image.copy(strip=True))
    places = {name for name in meta if WCS_CARD.fullmatch(name.removesuffix("A"))}
    for name in (*places, *_STRUCTURE):
        meta.remove(name, ignore_missing=True, remove_all=True)
    for name, bit in planes.items():
        _set_plane(meta, name, bit)
    return meta


def _set_plane(meta: Any, name: str, bit: int) -> None:  # noqa: ANN401 - astropy's header
    keyword = f"MP_{name}"
    meta[keyword if len(keyword) <= 8 else f"HIERARCH {keyword}"] = bit


def assembled(
    data: Any,  # noqa: ANN401 - pixels
    bits: Any,  # noqa: ANN401 - pixels
    variance: Any,  # noqa: ANN401 - pixels
    planes: Mapping[str, int],
    wcs: Any,  # noqa: ANN401 - astropy's
    meta: Any,  # noqa: ANN401 - astropy's header
    uri: str,
) -> Any:  # noqa: ANN401 - a CCDData
    """Return pixels and what is known of them as ``CCDData`` (InputError where mask or variance have another shape)."""
    from astropy.nddata import CCDData, VarianceUncertainty
    from astropy.units import Unit

    for kind, part in (("MASK", bits), ("VARIANCE", variance)):
        if part is not None and part.shape != data.shape:
            message = f"its {kind} has {part.shape[::-1]} pixels, its IMAGE {data.shape[::-1]}"
            raise InputError(message, kind="corrupt", uri=uri)
    unit = Unit(meta.get("BUNIT", _UNIT_WITHOUT_WORD), parse_strict="silent")
    uncertainty = None if variance is None else VarianceUncertainty(variance, copy=False)
    mask = None if bits is None else (bits & _together(planes, UNUSABLE)) != 0
    return CCDData(data, unit=unit, uncertainty=uncertainty, mask=mask, flags=bits, wcs=wcs, meta=meta)


def _together(planes: Mapping[str, int], names: tuple[str, ...]) -> int:
    return sum(1 << planes[name] for name in names if name in planes)


def planes_of(image: Any) -> dict[str, int]:  # noqa: ANN401 - a CCDData
    """Return bit by name of the planes in ``image.flags``."""
    return mask_planes(image.meta)


def plane(image: Any, name: str) -> npt.NDArray[np.bool_]:  # noqa: ANN401 - a CCDData
    """Return where a named plane of an image's mask, such as ``DETECTED``, is set.

    Raises
    ------
    NotFoundError
        The image has no such plane; the message names the near misses.
    """
    planes = planes_of(image)
    if name not in planes or image.flags is None:
        raise NotFoundError(f"no mask plane {name!r}; {near_misses(name, planes)}", kind="mask_plane")
    return np.asarray((image.flags & (1 << planes[name])) != 0)
