"""Sources, and the tables of visits and detectors: what single exposures show.

Differences between exposures belong in `warehouse.simulate.transients`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.simulate.columns import Main, fill
from warehouse.simulate.detection import VISIT_PHOTON_nJy, flux_error
from warehouse.simulate.measure import OWN_NOISE
from warehouse.simulate.observing import (
    EXPOSURE_S,
    INSTRUMENT,
    X_SIZE,
    Y_SIZE,
    Visit,
    detector_to_sky,
    land,
)
from warehouse.simulate.population import Ints
from warehouse.simulate.sky import SimulatedSky
from warehouse.simulate.streams import stream

CCD_BITS = 29
MAIN = Main("psfFlux", "psfFluxErr")
# A source is kept where its measured flux is this many times its error.
THRESHOLD = 5.0
_MJD_UNIX = 40587.0
_VISIT_SYSTEM = 1


def ccd_visit_id(visit: Visit, detector: int) -> int:
    """Return the id of one detector's part of a visit."""
    return visit.visit * 1000 + detector


def pack(ccd_visit: int | Ints, counter: Ints) -> Ints:
    """Return source ids: the detector and visit in the high bits, a counter from 1 in the low ones."""
    return (np.asarray(ccd_visit, np.int64) << CCD_BITS) | counter


def source_pieces(sky: SimulatedSky, visit: Visit, detectors: Iterable[int]) -> Iterator[pa.Table]:
    """Yield the rows of Source of a visit, a table a detector; a detector without sources yields none."""
    contract = sky.release.contract("Source")
    rows = sky.visible
    landed = land(visit, sky.truth.ra[rows], sky.truth.dec[rows])
    for detector in detectors:
        here = np.flatnonzero(landed.detector == detector)
        core = _measure(sky, visit, detector, rows[here], landed.x[here], landed.y[here])
        count = len(core["sourceId"])
        if count:
            generator = stream(sky.seed, "source columns", visit.visit, detector, sky.reprocessing)
            yield pa.table(fill(contract, core, count, generator, main=MAIN))


def _measure(
    sky: SimulatedSky, visit: Visit, detector: int, rows: Ints, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Return the columns of Source that mean something, for the truth rows that are found on one detector."""
    band = visit.band_index
    light = sky.truth.flux_nJy[band, rows] + sky.truth.variation(rows, band, visit.mid_mjd)
    error = flux_error(light, visit.depth, VISIT_PHOTON_nJy)
    # What is found stays found when the visit is processed again: only the smaller part of its noise changes.
    first = stream(sky.seed, "finding", visit.visit, detector).standard_normal(len(rows))
    found = np.flatnonzero(light + error * first > THRESHOLD * error)
    generator = stream(sky.seed, "sources", visit.visit, detector, sky.reprocessing)
    own, off_x, off_y, jitter, shape = generator.standard_normal((5, len(found)))
    noise = np.sqrt(1.0 - OWN_NOISE**2) * first[found] + OWN_NOISE * own
    rows, light, error = rows[found], light[found], error[found]
    sigma_px = 0.02 + 1.6 * error / np.maximum(light, error)
    x, y = x[found] + sigma_px * off_x, y[found] + sigma_px * off_y
    ra, dec = detector_to_sky(visit, detector, x, y)
    resolved = sky.truth.size_arcsec[rows] / 0.35 + np.abs(shape) * error / np.maximum(light, error)
    ccd_visit = ccd_visit_id(visit, detector)
    return {
        "sourceId": pack(ccd_visit, np.arange(1, len(found) + 1)),
        "parentSourceId": np.zeros(len(found), np.int64),
        "ccdVisitId": np.full(len(found), ccd_visit),
        "coord_ra": ra,
        "coord_dec": dec,
        "ra": ra,
        "decl": dec,
        "x": x,
        "y": y,
        "xErr": sigma_px,
        "yErr": sigma_px,
        "psfFlux": light + error * noise,
        "psfFluxErr": error * np.exp(0.02 * jitter),
        "extendedness": (resolved > 0.3).astype(np.float64),
        "detect_isPrimary": np.full(len(found), True),
        "sky_source": np.full(len(found), False),
        "deblend_nChild": np.zeros(len(found), np.int64),
        "band": visit.band,
        "instrument": INSTRUMENT,
        "physical_filter": visit.physical_filter,
        "detector": np.full(len(found), detector),
        "visit": np.full(len(found), visit.visit),
        "visit_system": np.full(len(found), _VISIT_SYSTEM),
    }


def visit_rows(sky: SimulatedSky) -> pa.Table:
    """Return all rows of Visit."""
    visits = sky.visits
    core = _per_visit(visits)
    core |= {
        "visit": np.array([v.visit for v in visits]),
        "ra": np.array([v.ra_deg for v in visits]),
        "decl": np.array([v.dec_deg for v in visits]),
        "azimuth": np.array([v.azimuth_deg for v in visits]),
        "altitude": np.array([90.0 - v.zenith_distance_deg for v in visits]),
        "airmass": np.array([1.0 / np.cos(np.radians(v.zenith_distance_deg)) for v in visits]),
    }
    return pa.table(fill(sky.release.contract("Visit"), core, len(visits), stream(sky.seed, "visit columns")))


def ccd_visit_rows(sky: SimulatedSky) -> pa.Table:
    """Return all rows of CcdVisit."""
    pairs = [(visit, detector) for visit in sky.visits for detector in visit.detectors]
    visits = [visit for visit, _ in pairs]
    # Of the middle, and of the corners in the order of the published columns.
    at_x = np.array([(X_SIZE - 1) / 2.0, -0.5, -0.5, X_SIZE - 0.5, X_SIZE - 0.5])
    at_y = np.array([(Y_SIZE - 1) / 2.0, -0.5, Y_SIZE - 0.5, Y_SIZE - 0.5, -0.5])
    places = np.array([detector_to_sky(visit, detector, at_x, at_y) for visit, detector in pairs])
    core = _per_visit(visits)
    core |= {
        "ccdVisitId": np.array([ccd_visit_id(visit, detector) for visit, detector in pairs]),
        "visitId": np.array([v.visit for v in visits]),
        "detector": np.array([detector for _, detector in pairs]),
        "seeing": np.array([v.seeing_arcsec for v in visits]),
        "psfSigma": np.array([v.seeing_arcsec / 0.2 / 2.355 for v in visits]),
        "zeroPoint": np.array([v.depth + 7.5 for v in visits]),
        "darkTime": np.full(len(pairs), EXPOSURE_S),
        "xSize": np.full(len(pairs), X_SIZE),
        "ySize": np.full(len(pairs), Y_SIZE),
    }
    names = [("ra", "decl"), ("llcra", "llcdec"), ("ulcra", "ulcdec"), ("urcra", "urcdec"), ("lrcra", "lrcdec")]
    for corner, (ra, dec) in enumerate(names):
        core |= {ra: places[:, 0, corner], dec: places[:, 1, corner]}
    generator = stream(sky.seed, "ccd visit columns")
    return pa.table(fill(sky.release.contract("CcdVisit"), core, len(pairs), generator))


def _per_visit(visits: Iterable[Visit]) -> dict[str, Any]:
    """Return the columns that Visit and CcdVisit share, a row a visit."""
    visits = list(visits)
    middle = np.array([v.mid_mjd for v in visits])
    start = middle - EXPOSURE_S / 2.0 / 86_400.0
    return {
        "band": pa.array([v.band for v in visits]),
        "physical_filter": pa.array([v.physical_filter for v in visits]),
        "skyRotation": np.array([v.rotation_deg for v in visits]),
        "zenithDistance": np.array([v.zenith_distance_deg for v in visits]),
        "expTime": np.full(len(visits), EXPOSURE_S),
        "expMidpt": _timestamps(middle),
        "expMidptMJD": middle,
        "obsStart": _timestamps(start),
        "obsStartMJD": start,
    }


def _timestamps(mjd: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return times to the microsecond as numpy's nanoseconds."""
    microseconds = np.rint((mjd - _MJD_UNIX) * 86_400e6).astype(np.int64)
    return (microseconds * 1000).view("datetime64[ns]")
