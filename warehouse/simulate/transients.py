"""Difference imaging: DiaSources of what changes - and of artefacts that did not - and the DiaObjects they make up.

DiaObjects keep their ids when visits are added: the counter of a variable is its rank among all that may ever vary,
that of an artefact comes from the visit and detector that show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.simulate.columns import Main, fill
from warehouse.simulate.detection import VISIT_PHOTON_nJy, flux_error
from warehouse.simulate.lightcurves import band_statistics
from warehouse.simulate.observing import DETECTORS, X_SIZE, Y_SIZE, Visit, detector_to_sky, land
from warehouse.simulate.population import BANDS, Floats, Ints
from warehouse.simulate.sky import SimulatedSky
from warehouse.simulate.sources import ccd_visit_id, pack
from warehouse.simulate.streams import stream

MAIN = Main("psFlux", "psFluxErr")
THRESHOLD = 5.0
# The template is deep: subtracting it adds little noise.
DIFFERENCE_NOISE = 1.05
ARTEFACTS_A_DETECTOR = 0.7
_MOST_ARTEFACTS = 16
_FIRST_ARTEFACT = 1 << 30


Seen = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Epochs:
    """What differs in one visit, in order of detector and counter.

    Attributes
    ----------
    entity
        What is seen: a row of the truth, or beyond those the number of an artefact that is seen once.
    flux, error, total
        Of the difference, its error, and the flux of the exposure itself; nJy.
    """

    visit: Visit
    entity: Ints
    detector: Ints
    counter: Ints
    x: Floats
    y: Floats
    ra: Floats
    dec: Floats
    flux: Floats
    error: Floats
    total: Floats


def epochs(sky: SimulatedSky, visit: Visit) -> Epochs:
    """Return the differences that a visit shows."""
    generator = stream(sky.seed, "differences", visit.visit)
    seen = np.concatenate([_variables(generator, sky, visit), _artefacts(generator, sky, visit)])
    seen = seen[np.argsort(seen["detector"], kind="stable")]
    sigma_px = 0.02 + 1.6 * seen["error"] / np.abs(seen["flux"])
    off_x, off_y, noise = generator.standard_normal((3, len(seen)))
    x, y = seen["x"] + sigma_px * off_x, seen["y"] + sigma_px * off_y
    ra, dec = np.empty(len(seen)), np.empty(len(seen))
    counter = np.empty(len(seen), np.int64)
    for detector in np.unique(seen["detector"]).tolist():
        here = np.flatnonzero(seen["detector"] == detector)
        ra[here], dec[here] = detector_to_sky(visit, detector, x[here], y[here])
        counter[here] = np.arange(1, len(here) + 1)
    return Epochs(
        visit=visit,
        entity=seen["entity"],
        detector=seen["detector"],
        counter=counter,
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        flux=seen["flux"],
        error=seen["error"],
        total=seen["total"] + seen["error"] * noise,
    )


_SEEN = np.dtype(
    [
        ("entity", np.int64),
        ("detector", np.int64),
        ("x", np.float64),
        ("y", np.float64),
        ("flux", np.float64),
        ("error", np.float64),
        ("total", np.float64),
    ]
)


def _variables(generator: np.random.Generator, sky: SimulatedSky, visit: Visit) -> Seen:
    """Return what changed by more than the threshold."""
    band, truth, rows = visit.band_index, sky.truth, sky.truth.variables
    landed = land(visit, truth.ra[rows], truth.dec[rows])
    total = truth.flux_nJy[band, rows] + (change := truth.variation(rows, band, visit.mid_mjd))
    error = DIFFERENCE_NOISE * flux_error(total, visit.depth, VISIT_PHOTON_nJy)
    flux = change + error * generator.standard_normal(len(rows))
    kept = np.flatnonzero((landed.detector >= 0) & (np.abs(flux) > THRESHOLD * error))
    columns = (rows, landed.detector, landed.x, landed.y, flux, error, total)
    return _seen(*(column[kept] for column in columns))


def _artefacts(generator: np.random.Generator, sky: SimulatedSky, visit: Visit) -> Seen:
    """Return false detections, each an entity of its own."""
    read = np.array(visit.detectors)
    counts = np.minimum(generator.poisson(ARTEFACTS_A_DETECTOR, len(read)), _MOST_ARTEFACTS)
    detector = np.repeat(read, counts)
    count = len(detector)
    turn = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)
    entity = sky.truth.rows + (visit.visit * DETECTORS + detector) * _MOST_ARTEFACTS + turn
    error = np.repeat(flux_error(np.zeros(1), visit.depth, VISIT_PHOTON_nJy), count)
    flux = error * generator.uniform(5.1, 20.0, count) * generator.choice([-1.0, 1.0], count)
    x, y = generator.uniform(0, X_SIZE - 1, count), generator.uniform(0, Y_SIZE - 1, count)
    return _seen(entity, detector, x, y, flux, error, flux)


def _seen(*columns: np.ndarray[Any, Any]) -> Seen:
    seen = np.empty(len(columns[0]), _SEEN)
    for name, values in zip(_SEEN.names or (), columns, strict=True):
        seen[name] = values
    return seen


@dataclass(frozen=True, slots=True, eq=False)
class DiaObjects:
    """The places where something differed at least once, in order of tract, patch and id.

    Attributes
    ----------
    truth
        Row of the truth, -1 for an artefact.
    statistics
        The columns of DiaObject that summarise its DiaSources.
    """

    entity: Ints
    truth: Ints
    object_id: Ints
    ra: Floats
    dec: Floats
    tract: Ints
    patch: Ints
    by_entity: Ints
    statistics: dict[str, Any]

    @property
    def patches(self) -> tuple[tuple[int, int], ...]:
        """Tract and patch of all of them, in order."""
        places = np.unique(np.stack([self.tract, self.patch], axis=1), axis=0)
        return tuple((tract, patch) for tract, patch in places.tolist())

    def of_patch(self, tract: int, patch: int) -> Ints:
        """Return the rows of a patch."""
        return np.flatnonzero((self.tract == tract) & (self.patch == patch))

    def rows_of(self, entity: Ints) -> Ints:
        """Return the rows of entities that are among them."""
        return self.by_entity[np.searchsorted(self.entity, entity, sorter=self.by_entity)]


def dia_objects(sky: SimulatedSky) -> DiaObjects:
    """Return the DiaObjects of all visits."""
    seen = [epochs(sky, visit) for visit in sky.visits]
    entity, first = np.unique(np.concatenate([e.entity for e in seen]), return_index=True)
    ra, dec = np.concatenate([e.ra for e in seen])[first], np.concatenate([e.dec for e in seen])[first]
    real = entity < sky.truth.rows
    truth = np.where(real, entity, -1)
    ra[real], dec[real] = sky.truth.ra[entity[real]], sky.truth.dec[entity[real]]
    tract, patch = sky.skymap.find(ra, dec)
    counter = _FIRST_ARTEFACT + entity - sky.truth.rows
    counter[real] = _ranks(sky)[np.searchsorted(sky.truth.variables, entity[real])]
    object_id = sky.pack(tract, patch, counter)
    order = np.argsort(object_id, kind="stable")
    places = {"entity": entity, "truth": truth, "object_id": object_id, "ra": ra, "dec": dec}
    places |= {"tract": tract, "patch": patch}
    places = {name: values[order] for name, values in places.items()}
    by_entity = np.argsort(places["entity"], kind="stable")
    rows = np.concatenate([by_entity[np.searchsorted(entity, e.entity)] for e in seen])
    return DiaObjects(**places, by_entity=by_entity, statistics=_statistics(seen, rows, len(entity)))


def _ranks(sky: SimulatedSky) -> Ints:
    """Return the rank from 1 of each variable within its patch, also of those that no visit shows."""
    rows = sky.truth.variables
    tract, patch = sky.skymap.find(sky.truth.ra[rows], sky.truth.dec[rows])
    place = sky.pack(tract, patch, np.zeros(len(rows), np.int64))
    order = np.argsort(place, kind="stable")
    _, start, sizes = np.unique(place[order], return_index=True, return_counts=True)
    ranks = np.empty(len(rows), np.int64)
    ranks[order] = np.arange(len(rows)) - np.repeat(start, sizes) + 1
    return ranks


def _statistics(seen: list[Epochs], rows: Ints, count: int) -> dict[str, Any]:
    sizes = [len(e.entity) for e in seen]
    times = np.repeat([e.visit.mid_mjd for e in seen], sizes)
    columns: dict[str, Any] = {
        "nDiaSources": np.bincount(rows, minlength=count),
        "radecTai": np.full(count, -np.inf),
    }
    np.maximum.at(columns["radecTai"], rows, times)
    bands = np.repeat(np.array([e.visit.band_index for e in seen], np.int64), sizes)
    flux, error, total = (np.concatenate([getattr(e, name) for e in seen]) for name in ("flux", "error", "total"))
    for band, name in enumerate(BANDS):
        here = np.flatnonzero(bands == band)
        columns |= band_statistics(name, rows[here], times[here], flux[here], error[here], total[here], count)
    return columns


def dia_object_pieces(sky: SimulatedSky, objects: DiaObjects, tract: int) -> Iterator[pa.Table]:
    """Yield the rows of DiaObject of a tract."""
    rows = np.flatnonzero(objects.tract == tract)
    core: dict[str, Any] = {name: values[rows] for name, values in objects.statistics.items()}
    core |= {"diaObjectId": objects.object_id[rows], "ra": objects.ra[rows], "decl": objects.dec[rows]}
    generator = stream(sky.seed, "dia object columns", tract, sky.reprocessing)
    core["pixelId"] = generator.integers(8 << 40, 16 << 40, len(rows)).astype(np.float64)
    yield pa.table(fill(sky.release.contract("DiaObject"), core, len(rows), generator))


def dia_source_pieces(
    sky: SimulatedSky, visit: Visit, objects: DiaObjects | None = None, tract: int = -1
) -> Iterator[pa.Table]:
    """Yield the rows of DiaSource of a visit; with `objects`, those associated with DiaObjects of `tract` only."""
    seen = epochs(sky, visit)
    count = len(seen.entity)
    generator = stream(sky.seed, "dia source columns", visit.visit, sky.reprocessing)
    ccd_visit = ccd_visit_id(visit, 0) + seen.detector
    owners = objects.rows_of(seen.entity) if objects is not None else None
    core: dict[str, Any] = {
        "diaSourceId": pack(ccd_visit, seen.counter),
        "ccdVisitId": ccd_visit,
        "diaObjectId": np.zeros(count, np.int64) if objects is None else objects.object_id[owners],
        "parentDiaSourceId": np.zeros(count, np.int64),
        "ssObjectId": np.zeros(count, np.int64),
        "ra": seen.ra,
        "decl": seen.dec,
        "x": seen.x,
        "y": seen.y,
        "psFlux": seen.flux + 0.1 * seen.error * generator.standard_normal(count),
        "psFluxErr": seen.error,
        "totFlux": seen.total,
        "totFluxErr": seen.error,
        "snr": np.abs(seen.flux) / seen.error,
        "midPointTai": np.full(count, visit.mid_mjd),
        "filterName": visit.band,
        "isDipole": generator.random(count) < 0.1,
        "bboxSize": generator.integers(8, 60, count),
        "pixelId": generator.integers(8 << 40, 16 << 40, count),
    }
    columns = fill(
        sky.release.contract("DiaSource"), core, count, generator, main=MAIN, without=("coord_ra", "coord_dec")
    )
    table = pa.table(columns)
    if objects is not None:
        table = table.filter(pa.array(objects.tract[owners] == tract))
    if table.num_rows:
        yield table
