"""Forced photometry: the flux at a known position in every visit that covers it, for Objects and DiaObjects.

By far the longest tables; so rows come patch by patch in blocks, and a block's columns are drawn all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.contracts.contract import Contract
from warehouse.simulate.columns import Main, fill
from warehouse.simulate.detection import VISIT_PHOTON_nJy, flux_error
from warehouse.simulate.measure import members
from warehouse.simulate.observing import Visit, land
from warehouse.simulate.population import BANDS, Floats, Ints
from warehouse.simulate.sky import PatchView, SimulatedSky
from warehouse.simulate.sources import pack
from warehouse.simulate.streams import stream
from warehouse.simulate.transients import DIFFERENCE_NOISE, DiaObjects

BLOCK_ROWS = 200_000
MAIN = Main("psfFlux", "psfFluxErr")


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Positions of one patch to measure in every visit.

    Attributes
    ----------
    truth
        Row of the truth, -1 where nothing is there.
    first
        Added to the place in this list for the counter in the id: no two patches share a counter.
    columns
        Columns that a row takes over from its target.
    """

    tract: int
    patch: int
    ra: Floats
    dec: Floats
    truth: Ints
    first: int
    columns: dict[str, Any]


def object_targets(sky: SimulatedSky, view: PatchView) -> Targets:
    """Return the Objects of a patch."""
    who = members(sky, view)
    truth = np.where(who.is_sky, -1, sky.detections.truth[np.maximum(who.detection, 0)])
    columns = {
        "objectId": who.object_id,
        "parentObjectId": who.parent_id,
        "coord_ra": who.ra,
        "coord_dec": who.dec,
        "detect_isPrimary": who.primary,
        "detect_isPatchInner": who.patch_inner,
        "detect_isTractInner": who.tract_inner,
    }
    return Targets(view.tract, view.patch, who.ra, who.dec, truth, view.first, columns)


def dia_targets(objects: DiaObjects, tract: int, patch: int) -> Targets:
    """Return the DiaObjects of a patch."""
    rows = objects.of_patch(tract, patch)
    columns = {
        "diaObjectId": objects.object_id[rows],
        "parentObjectId": np.zeros(len(rows), np.int64),
        "coord_ra": objects.ra[rows],
        "coord_dec": objects.dec[rows],
    }
    first = int(rows[0]) if len(rows) else 0
    return Targets(tract, patch, objects.ra[rows], objects.dec[rows], objects.truth[rows], first, columns)


def forced_pieces(
    sky: SimulatedSky, table: str, targets: Targets, visits: Sequence[Visit], block_rows: int = BLOCK_ROWS
) -> Iterator[pa.Table]:
    """Yield the rows of a forced table of one patch, all columns, visit by visit in blocks of about `block_rows`."""
    contract = sky.release.contract(table)
    make = _maker(sky, contract, targets, visits)
    places: list[Ints] = []
    waiting = 0
    for number, visit in enumerate(visits):
        landed = land(visit, targets.ra, targets.dec)
        here = np.flatnonzero(landed.detector >= 0)
        if not len(here):
            continue
        places.append(np.stack([here, np.full(len(here), number), landed.detector[here]]))
        waiting += len(here)
        if waiting >= block_rows:
            yield make(np.concatenate(places, axis=1))
            places, waiting = [], 0
    if waiting:
        yield make(np.concatenate(places, axis=1))


def _maker(
    sky: SimulatedSky, contract: Contract, targets: Targets, visits: Sequence[Visit]
) -> Callable[[Ints], pa.Table]:
    """Return the function from places (target, visit, detector; shape (3, n)) to rows."""
    bands = np.array([v.band_index for v in visits], np.int64)
    times, depths = np.array([v.mid_mjd for v in visits]), np.array([v.depth for v in visits])
    numbers = np.array([v.visit for v in visits], np.int64)
    key = contract.key[0]

    def make(places: Ints) -> pa.Table:
        target, visit, detector = places
        band, rows = bands[visit], len(target)
        truth = targets.truth[target]
        real, there = truth >= 0, np.maximum(truth, 0)
        still = np.where(real, sky.truth.flux_nJy[band, there].astype(np.float64), 0.0)
        change = np.where(real, sky.truth.variation(there, band, times[visit]), 0.0)
        error = flux_error(still + change, depths[visit], VISIT_PHOTON_nJy)
        purpose = f"{contract.table} columns"
        generator = stream(sky.seed, purpose, targets.tract, targets.patch, int(numbers[visit[0]]), sky.reprocessing)
        direct, difference, jitter = generator.standard_normal((3, rows))
        jitter = np.exp(0.02 * jitter)
        ccd_visit = numbers[visit] * 1000 + detector
        core = {name: values[target] for name, values in targets.columns.items()}
        core |= {
            key: pack(ccd_visit, targets.first + target + 1),
            "ccdVisitId": ccd_visit,
            "tract": np.full(rows, targets.tract),
            "patch": np.full(rows, targets.patch),
            "skymap": sky.skymap.name,
            "band": pa.DictionaryArray.from_arrays(pa.array(band.astype(np.int32)), list(BANDS)).cast(pa.string()),
            "psfFlux": still + change + error * direct,
            "psfFluxErr": error * jitter,
            "psfDiffFlux": change + DIFFERENCE_NOISE * error * difference,
            "psfDiffFluxErr": DIFFERENCE_NOISE * error * jitter,
        }
        return pa.table(fill(contract, core, rows, generator, main=MAIN))

    return make
