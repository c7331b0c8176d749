"""From an image's headers to rows of ``Image`` and ``ObsCore``.

Frames out of small records; nothing is read or written here. The columns of Image are ours, those of ObsCore the
release's; what a header cannot tell is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract
from warehouse.contracts.image import image_types
from warehouse.errors import InputError
from warehouse.images.headers import ImageHeader
from warehouse.lake.root import Root
from warehouse.readers.paths import detector_number
from warehouse.readers.reader import Input
from warehouse.sky.regions import Polygon
from warehouse.sky.skymap import SkyMap

OBSCORE = "ObsCore"

# Metres: the ends of the LSST bands by which observation catalogues of the release describe them.
SPECTRAL_RANGES_M: Mapping[str, tuple[float, float]] = {
    "u": (330e-9, 400e-9),
    "g": (402e-9, 552e-9),
    "r": (552e-9, 691e-9),
    "i": (691e-9, 818e-9),
    "z": (818e-9, 922e-9),
    "y": (970e-9, 1060e-9),
}
# IVOA's calibration levels: 2 is calibrated, 3 is derived from several observations.
_CALIBRATED, _DERIVED = 2, 3
_SINGLE = {"calexp", "visit_image"}


@dataclass(frozen=True, slots=True)
class Found:
    """An image whose headers were read: the file, the unit that it is, its full data id, and what the headers say."""

    input: Input
    unit: str
    data_id: Mapping[str, int | str]
    header: ImageHeader

    @property
    def dataset_type(self) -> str:
        """Its dataset type."""
        return self.unit.partition(" ")[0]

    @property
    def run(self) -> str | None:
        """The RUN collection that wrote it, as its path tells, else its header."""
        return self.input.run or self.header.run


def identified(root: Root, item: Input, header: ImageHeader) -> Found:
    """Return what an image is: its path's word counts for most, then the Butler's cards, then the visit's.

    Raises
    ------
    InputError
        Nothing tells the dataset type (kind ``dataset_type``) or a dimension (``data_id``).
    """
    known = image_types(root.release)
    name = item.dataset_type or header.dataset_type
    if name not in known or name is None:
        message = f"neither its path nor its header names an image dataset type ({', '.join(known)}), found {name!r}"
        raise InputError(message, kind="dataset_type", uri=item.uri)
    data_id = _completed({**header.data_id, **item.data_id}, root.contracts.instrument)
    dimensions = known[name].dimensions
    missing = [d for d in dimensions if d not in data_id]
    if missing:
        raise InputError(f"neither path nor header tells its {', '.join(missing)}", kind="data_id", uri=item.uri)
    odd = [d for d in dimensions if d != "band" and not isinstance(data_id[d], int)]
    if odd:
        raise InputError(f"its {odd[0]} is {data_id[odd[0]]!r}, expected a number", kind="data_id", uri=item.uri)
    unit = " ".join([name, *(f"{d}={data_id[d]}" for d in dimensions)])
    return Found(item, unit, data_id, header)


def _completed(data_id: dict[str, int | str], instrument: str) -> dict[str, int | str]:
    """Return a data id with the detector as a number and the band, which a filter's name begins with."""
    name = data_id.get("physical_filter")
    if isinstance(name, str) and name.partition("_")[0] in SPECTRAL_RANGES_M:
        data_id.setdefault("band", name.partition("_")[0])
        if name == data_id["band"]:
            del data_id["physical_filter"]
    if isinstance(data_id.get("detector"), str):
        data_id["detector"] = detector_number(str(data_id["detector"]), instrument)
    return data_id


def touched(sky: SkyMap, header: ImageHeader) -> list[int]:
    """Return the patches whose outer box shares sky with an image, as tract * patches a tract + patch."""
    tract, patch = sky.outer_candidates(Polygon(header.corners))
    packed: list[int] = (tract * sky.patches_per_tract + patch).tolist()
    return packed


def image_rows(root: Root, contract: Contract, found: Iterable[Found], ids: Iterable[int]) -> pl.DataFrame:
    """Return rows of Image, one an image, with these values of ``input_id``."""
    rows = [_image_row(root.sky, item) | {INPUT_ID: identity} for item, identity in zip(found, ids, strict=True)]
    return framed(contract, _at_home(root.sky, rows))


def _image_row(sky: SkyMap, found: Found) -> dict[str, Any]:
    header, item, data_id = found.header, found.input, found.data_id
    return {
        "dataset": found.unit,
        "dataset_type": found.dataset_type,
        "instrument": data_id.get("instrument"),
        "band": data_id.get("band"),
        "physical_filter": data_id.get("physical_filter"),
        "run": found.run,
        "uri": item.uri,
        "etag": item.stamp,
        "compression": header.compression,
        "bunit": header.bunit,
        "visit": data_id.get("visit"),
        "detector": data_id.get("detector"),
        TRACT: data_id.get(TRACT) if PATCH in data_id else None,
        PATCH: data_id.get(PATCH),
        "size_bytes": item.size,
        "width_px": header.width,
        "height_px": header.height,
        "x0_px": header.x0,
        "y0_px": header.y0,
        "ra_deg": header.ra_deg,
        "dec_deg": header.dec_deg,
        "radius_deg": header.radius_deg,
        "pixel_arcsec": header.pixel_arcsec,
        "exposure_time_seconds": header.pointing.exposure_seconds,
        "mid_time_mjd": header.pointing.mid_mjd,
        "corners_ra_deg": [ra for ra, _ in header.corners],
        "corners_dec_deg": [dec for _, dec in header.corners],
        "touches": touched(sky, header),
        "mask_planes": list(header.planes),
    }


def obscore_rows(root: Root, contract: Contract, found: Iterable[Found], ids: Iterable[int]) -> pl.DataFrame:
    """Return rows of ObsCore, one an image, with these values of ``input_id``."""
    rows = [_obscore_row(root, item) | {INPUT_ID: identity} for item, identity in zip(found, ids, strict=True)]
    return framed(contract, _at_home(root.sky, rows, "s_ra", "s_dec"))


def _obscore_row(root: Root, found: Found) -> dict[str, Any]:
    header, data_id = found.header, found.data_id
    pointing = header.pointing
    visit, detector, band = data_id.get("visit"), data_id.get("detector"), data_id.get("band")
    single = isinstance(visit, int) and isinstance(detector, int)
    low, high = SPECTRAL_RANGES_M.get(str(band), (None, None))
    exposure = pointing.exposure_seconds if single else None
    begin = pointing.begin_mjd if single else None
    corners = " ".join(f"{ra:.10f} {dec:.10f}" for ra, dec in header.corners)
    values = found.unit.split(" ")
    return {
        "dataproduct_type": "image",
        "dataproduct_subtype": f"lsst.{found.dataset_type}",
        "obs_title": ", ".join(value.replace("=", " ") for value in values),
        "facility_name": "Rubin-LSST",
        "calib_level": _CALIBRATED if found.dataset_type in _SINGLE else _DERIVED,
        "obs_id": f"{visit}-{detector}" if single else f"{root.skymap}-{data_id[TRACT]}-{data_id[PATCH]}",
        "obs_collection": f"LSST.{root.release.upper()}",
        "obs_publisher_did": f"ivo://tractlake/{root.release}?{'/'.join(v.partition('=')[2] or v for v in values)}",
        "access_url": found.input.uri,
        "access_format": "image/fits",
        "s_ra": header.ra_deg,
        "s_dec": header.dec_deg,
        "s_fov": 2.0 * header.radius_deg,
        "s_region": f"POLYGON ICRS {corners}",
        "s_xel1": header.width,
        "s_xel2": header.height,
        "t_xel": 1 if single else None,
        "t_min": begin,
        "t_max": begin + exposure / 86_400 if begin is not None and exposure is not None else None,
        "t_exptime": exposure,
        "t_resolution": exposure,
        "em_xel": 1,
        "em_min": low,
        "em_max": high,
        "em_res_power": (low + high) / 2 / (high - low) if low is not None and high is not None else None,
        "o_ucd": "phot.flux.density" if header.bunit == "nJy" else "phot.count",
        "instrument_name": data_id.get("instrument"),
        "lsst_visit": visit,
        "lsst_detector": detector,
        "lsst_ccdvisitid": int(visit or 0) * 1000 + int(detector or 0) if single else None,
        "lsst_tract": data_id.get(TRACT) if not single else None,
        "lsst_patch": data_id.get(PATCH) if not single else None,
        "lsst_band": band,
        "lsst_filter": data_id.get("physical_filter"),
    }


def _at_home(sky: SkyMap, rows: list[dict[str, Any]], ra: str = "ra_deg", dec: str = "dec_deg") -> list[dict[str, Any]]:
    """Return rows with tract and patch: their own where they have them, else those where their middle lies."""
    tract, patch = sky.find(np.array([row[ra] for row in rows], float), np.array([row[dec] for row in rows], float))
    for row, home_tract, home_patch in zip(rows, tract.tolist(), patch.tolist(), strict=True):
        if row.get(TRACT) is None:
            row[TRACT], row[PATCH] = home_tract, home_patch
    return rows


def framed(contract: Contract, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return rows as a frame of the table's columns; what a row does not name is null."""
    schema = pl.Schema(contract.arrow_schema)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
