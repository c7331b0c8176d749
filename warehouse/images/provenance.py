"""What HDU 0 of an image says of its exposure: when, where the telescope looked, and which data id it is.

Keywords are those of LSST's visit information and of the Butler's provenance; pixels and their place on the sky are the
business of `warehouse.images.headers`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from warehouse.readers.fits.headers import Cards
from warehouse.readers.paths import detector_number

_BUTLER = "LSST BUTLER DATAID "
_MJD_EPOCH = datetime(1858, 11, 17)  # noqa: DTZ001 - the scale is the header's


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where a telescope looked and what the filter was called, as HDU 0 tells; None for what it does not tell.

    Attributes
    ----------
    ra_deg, dec_deg, azimuth_deg, altitude_deg, airmass
        Of the boresight.
    sky_rotation_deg
        Position angle of the focal plane's y axis, north through east.
    exposure_seconds, dark_seconds
        Exposure time, and time from clearing the detector to its readout.
    begin_mjd, mid_mjd
        TAI.
    """

    ra_deg: float | None = None
    dec_deg: float | None = None
    azimuth_deg: float | None = None
    altitude_deg: float | None = None
    airmass: float | None = None
    sky_rotation_deg: float | None = None
    exposure_seconds: float | None = None
    dark_seconds: float | None = None
    begin_mjd: float | None = None
    mid_mjd: float | None = None


def pointing(cards: Cards) -> Pointing:
    """Return when and where the telescope looked."""
    exposure, begin, middle = number(cards, "EXPTIME"), _time(cards, "DATE-BEG", "DATE-OBS"), _time(cards, "DATE-AVG")
    if exposure is not None and begin is None and middle is not None:
        begin = middle - exposure / 2 / 86_400
    if exposure is not None and middle is None and begin is not None:
        middle = begin + exposure / 2 / 86_400
    rotation = number(cards, "BORE-ROTANG") if word(cards, "ROTTYPE") in {"SKY", None} else None
    return Pointing(
        ra_deg=number(cards, "BORE-RA"),
        dec_deg=number(cards, "BORE-DEC"),
        azimuth_deg=number(cards, "BORE-AZ"),
        altitude_deg=number(cards, "BORE-ALT"),
        airmass=number(cards, "BORE-AIRMASS"),
        sky_rotation_deg=rotation,
        exposure_seconds=exposure,
        dark_seconds=number(cards, "DARKTIME"),
        begin_mjd=begin,
        mid_mjd=middle,
    )


def told_data_id(cards: Cards) -> dict[str, int | str]:
    """Return the data id as far as the cards tell: the Butler's own, else the visit's."""
    return {**_visit_cards(cards), **_provenance(cards)}


def _provenance(cards: Cards) -> dict[str, int | str]:
    """Return the data id that the Butler wrote into the file."""
    found = {key[len(_BUTLER) :].lower(): cards.get(key) for key in cards if key.startswith(_BUTLER)}
    return {key: value for key, value in found.items() if isinstance(value, int | str)}


def _visit_cards(cards: Cards) -> dict[str, int | str]:
    """Return the data id that the visit's own cards tell."""
    instrument = word(cards, "INSTRUME", "INSTRUMENT")
    found: dict[str, int | str | None] = {
        "instrument": instrument,
        "visit": _integer(cards, "VISIT", "EXPID"),
        "detector": _integer(cards, "DETECTOR", "DETNUM", "CCDNUM"),
        "physical_filter": word(cards, "FILTER"),
        "band": word(cards, "FILTBAND", "BAND"),
    }
    name = word(cards, "DETECTOR")
    if found["detector"] is None and name is not None and instrument is not None:
        found["detector"] = detector_number(name, instrument)
    return {key: value for key, value in found.items() if value is not None}


def _time(cards: Cards, *keys: str) -> float | None:
    """Return the first of some dates as MJD, TAI; the scale is TIMESYS, by the standard UTC where there is none."""
    scale = (word(cards, "TIMESYS") or "UTC").lower()
    for key in keys:
        text = word(cards, key)
        if text is None:
            continue
        try:
            moment = datetime.fromisoformat(text.removesuffix("Z"))
        except ValueError:
            continue
        mjd = (moment - _MJD_EPOCH).total_seconds() / 86_400
        return mjd if scale == "tai" else _as_tai(mjd, scale)
    return None


def _as_tai(mjd: float, scale: str) -> float | None:
    from astropy.time import Time

    try:
        return float(Time(mjd, format="mjd", scale=scale).tai.mjd)
    except ValueError:  # a scale of local making, such as GPS written in words
        return None


def word(cards: Cards, *keys: str) -> str | None:
    """Return the first of some cards that is a text, None where there is none or it says nothing."""
    for key in keys:
        value = cards.get(key)
        if isinstance(value, str) and value.strip() and value.strip().upper() != "UNKNOWN":
            return value.strip()
    return None


def number(cards: Cards, key: str) -> float | None:
    """Return the value of a card that is a finite number, else None."""
    value = cards.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _integer(cards: Cards, *keys: str) -> int | None:
    return next((v for v in map(cards.get, keys) if isinstance(v, int) and not isinstance(v, bool)), None)
