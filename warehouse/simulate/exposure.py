"""The form of an LSST image file: HDUs, headers, tile compression, and the archives that follow the pixels.

What is in the pixels is `warehouse.simulate.images`' business. Loads astropy when the first file is written.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from warehouse.simulate.observing import EXPOSURE_S, INSTRUMENT, Visit

Compression = Literal["GZIP_2", "RICE_1"] | None
Cards = Mapping[str, float | int | str]

_MJD_EPOCH = datetime(1858, 11, 17)  # noqa: DTZ001 - TAI, which Python does not know
_QUANTISED_NOISE = 16.0  # levels a standard deviation
_LONGEST_KEYWORD = 8  # longer ones are written as HIERARCH cards
_DITHER_SEED = 1  # the same file from the same pixels


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """An image, its mask and its variance, (rows, columns), and what the headers say.

    Attributes
    ----------
    planes
        Bit by name of the mask's planes.
    wcs
        Cards of the world coordinates.
    corner
        Parent pixel of the first one.
    cards
        Of HDU 0.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.int32]
    variance: NDArray[np.float32]
    planes: Mapping[str, int]
    wcs: Cards
    corner: tuple[int, int]
    cards: Cards = field(default_factory=dict)


def tangent(
    ra_deg: float, dec_deg: float, pixel: tuple[float, float], matrix: NDArray[np.float64], *, sip: bool = False
) -> dict[str, float | int | str]:
    """Return the cards of a gnomonic projection about a position, which lies at the 0-based `pixel`.

    Parameters
    ----------
    matrix
        Degrees a pixel: (xi, eta) = matrix @ (x, y).
    sip
        Whether to write distortion terms, all zero, as pipelines do where they fitted none.
    """
    kind = "-SIP" if sip else ""
    cards: dict[str, float | int | str] = {
        "WCSAXES": 2,
        "CTYPE1": f"RA---TAN{kind}",
        "CTYPE2": f"DEC--TAN{kind}",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": ra_deg,
        "CRVAL2": dec_deg,
        "CRPIX1": pixel[0] + 1.0,
        "CRPIX2": pixel[1] + 1.0,
        "CD1_1": float(matrix[0, 0]),
        "CD1_2": float(matrix[0, 1]),
        "CD2_1": float(matrix[1, 0]),
        "CD2_2": float(matrix[1, 1]),
        "RADESYS": "ICRS",
    }
    if sip:
        for axis in "AB":
            cards[f"{axis}_ORDER"] = 2
            cards |= {f"{axis}_{i}_{j}": 0.0 for i, j in ((0, 2), (1, 1), (2, 0))}
    return cards


def visit_cards(visit: Visit, detector: int) -> dict[str, float | int | str]:
    """Return what HDU 0 tells of a visit: when, where the telescope looked, through which filter."""
    middle = _MJD_EPOCH + timedelta(days=visit.mid_mjd)
    return {
        "EXPID": visit.visit,
        "EXPTIME": EXPOSURE_S,
        "DARKTIME": EXPOSURE_S,
        "DATE-AVG": middle.isoformat(timespec="microseconds"),
        "TIMESYS": "TAI",
        "BORE-RA": visit.ra_deg,
        "BORE-DEC": visit.dec_deg,
        "BORE-AZ": visit.azimuth_deg,
        "BORE-ALT": 90.0 - visit.zenith_distance_deg,
        "BORE-AIRMASS": float(1.0 / np.cos(np.radians(visit.zenith_distance_deg))),
        "BORE-ROTANG": visit.rotation_deg,
        "ROTTYPE": "SKY",
        "INSTRUMENT": INSTRUMENT,
        "FILTER": visit.physical_filter,
        "DETECTOR": detector,
    }


def written(exposure: Exposure, compression: Compression) -> bytes:
    """Return the bytes of the file."""
    from astropy.io import fits

    planes = {f"MP_{name}": bit for name, bit in exposure.planes.items()}
    parts = [
        _pixels(exposure, "IMAGE", exposure.image, compression, {"BUNIT": "nJy"}),
        _pixels(exposure, "MASK", exposure.mask, compression, planes),
        _pixels(exposure, "VARIANCE", exposure.variance, compression, {"BUNIT": "nJy2"}),
    ]
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(header=_header(exposure.cards)), *parts, *_archives()]).writeto(stream)
    return stream.getvalue()


def _header(cards: Cards) -> Any:  # noqa: ANN401 - astropy publishes no types
    from astropy.io import fits

    header = fits.Header()
    for name, value in cards.items():
        header[name if len(name) <= _LONGEST_KEYWORD else f"HIERARCH {name}"] = value
    return header


def _pixels(exposure: Exposure, kind: str, data: NDArray[Any], compression: Compression, more: Cards) -> Any:  # noqa: ANN401 - astropy publishes no types
    from astropy.io import fits

    x0, y0 = exposure.corner
    cards = {**exposure.wcs, "LTV1": float(-x0), "LTV2": float(-y0), "EXTTYPE": kind, "INHERIT": True, "AR_HDU": 5}
    header = _header({**cards, **more})
    if compression is None:
        return fits.ImageHDU(data, header, name=kind)
    quantised = compression == "RICE_1" and data.dtype.kind == "f"
    how = {"quantize_level": -_noise(data) / _QUANTISED_NOISE, "quantize_method": 1, "dither_seed": _DITHER_SEED}
    return fits.CompImageHDU(
        data, header, name=kind, compression_type=compression, **(how if quantised else {"quantize_level": 0.0})
    )


def _noise(data: NDArray[Any]) -> float:
    """Return the scatter of an image, from the differences of neighbours, so that sources count little."""
    steps = np.abs(np.diff(data, axis=1)) if data.shape[1] > 1 else np.zeros(1)
    return float(np.median(steps)) / 0.954 or 1.0


def _archives() -> list[Any]:
    """Return the tables that follow the pixels: what afw keeps of point-spread function and calibration."""
    from astropy.io import fits

    index = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=np.arange(3)), fits.Column("name", "16A")])
    index.header["EXTTYPE"] = "ARCHIVE_INDEX"
    data = fits.BinTableHDU.from_columns([fits.Column("coefficient", "D", array=np.zeros(64))])
    data.header["EXTTYPE"] = "ARCHIVE_DATA"
    return [index, data]
