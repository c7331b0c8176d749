"""Which files each dataset type consists of, and which function makes the rows of each.

What the rows are is told by the modules that are imported here; writing them is `warehouse.simulate.simulation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.simulate.forced import dia_targets, forced_pieces, object_targets
from warehouse.simulate.measure import object_pieces
from warehouse.simulate.observing import INSTRUMENT, Visit, detector_name
from warehouse.simulate.reference import match_pieces, truth_pieces
from warehouse.simulate.sky import PatchView, SimulatedSky
from warehouse.simulate.sources import ccd_visit_rows, source_pieces, visit_rows
from warehouse.simulate.transients import DiaObjects, dia_object_pieces, dia_source_pieces
from warehouse.simulate.tree import DataId

Pieces = Callable[[], Iterable[pa.Table]]


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: its data id, the function that makes its rows, and the key that becomes the pandas index."""

    data_id: DataId
    pieces: Pieces
    index: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the files are made of; DiaObjects are made once, where a dataset type asks for them."""

    sky: SimulatedSky
    forced_visits: tuple[Visit, ...]
    dia_objects: Callable[[], DiaObjects]

    @property
    def views(self) -> tuple[PatchView, ...]:
        """All patches that show a source."""
        return self.sky.patches

    def patch_id(self, tract: int, patch: int) -> DataId:
        """Return the data id of a patch."""
        return {"tract": tract, "patch": patch, "skymap": self.sky.skymap.name}

    def tract_id(self, tract: int) -> DataId:
        """Return the data id of a tract."""
        return {"tract": tract, "skymap": self.sky.skymap.name}


def _object_patches(scope: Scope) -> Iterator[File]:
    for view in scope.views:
        data_id = scope.patch_id(view.tract, view.patch)
        yield File(data_id, partial(object_pieces, scope.sky, view), "objectId")


def _object_tracts(scope: Scope) -> Iterator[File]:
    for tract in scope.sky.tracts:
        pieces = partial(_joined, partial(object_pieces, scope.sky), scope.sky.of_tract(tract))
        yield File(scope.tract_id(tract), pieces, "objectId")


def _joined(make: Callable[[Any], Iterable[pa.Table]], parts: Iterable[Any]) -> Iterator[pa.Table]:
    """Yield the tables that `make` makes of each part, one after the other."""
    for part in parts:
        yield from make(part)


def _source_visits(scope: Scope) -> Iterator[File]:
    for visit in scope.sky.visits:
        yield File(_visit_id(visit), partial(source_pieces, scope.sky, visit, visit.detectors), "sourceId")


def _source_detectors(scope: Scope) -> Iterator[File]:
    for visit in scope.sky.visits:
        for detector in visit.detectors:
            data_id = {**_visit_id(visit), "detector": detector_name(detector)}
            yield File(data_id, partial(source_pieces, scope.sky, visit, (detector,)), "sourceId")


def _visit_id(visit: Visit) -> DataId:
    return {
        "instrument": INSTRUMENT,
        "day_obs": visit.day_obs,
        "band": visit.band,
        "physical_filter": visit.physical_filter,
        "visit": visit.visit,
    }


def _forced_of(scope: Scope, view: PatchView) -> Iterator[pa.Table]:
    return forced_pieces(scope.sky, "ForcedSource", object_targets(scope.sky, view), scope.forced_visits)


def _forced_patches(scope: Scope) -> Iterator[File]:
    for view in scope.views:
        yield File(scope.patch_id(view.tract, view.patch), partial(_forced_of, scope, view), "forcedSourceId")


def _forced_tracts(scope: Scope) -> Iterator[File]:
    for tract in scope.sky.tracts:
        pieces = partial(_joined, partial(_forced_of, scope), scope.sky.of_tract(tract))
        yield File(scope.tract_id(tract), pieces, "forcedSourceId")


def _dia_forced_of(scope: Scope, place: tuple[int, int]) -> Iterator[pa.Table]:
    targets = dia_targets(scope.dia_objects(), *place)
    return forced_pieces(scope.sky, "ForcedSourceOnDiaObject", targets, scope.forced_visits)


def _dia_forced_patches(scope: Scope) -> Iterator[File]:
    for tract, patch in scope.dia_objects().patches:
        pieces = partial(_dia_forced_of, scope, (tract, patch))
        yield File(scope.patch_id(tract, patch), pieces, "forcedSourceOnDiaObjectId")


def _dia_forced_tracts(scope: Scope) -> Iterator[File]:
    places = scope.dia_objects().patches
    for tract in sorted({tract for tract, _ in places}):
        within = [place for place in places if place[0] == tract]
        pieces = partial(_joined, partial(_dia_forced_of, scope), within)
        yield File(scope.tract_id(tract), pieces, "forcedSourceOnDiaObjectId")


def _dia_objects(scope: Scope) -> Iterator[File]:
    objects = scope.dia_objects()
    for tract in np.unique(objects.tract).tolist():
        yield File(scope.tract_id(tract), partial(dia_object_pieces, scope.sky, objects, tract), "diaObjectId")


def _dia_source_tracts(scope: Scope) -> Iterator[File]:
    objects = scope.dia_objects()
    for tract in np.unique(objects.tract).tolist():
        make = partial(dia_source_pieces, scope.sky, objects=objects, tract=tract)
        yield File(scope.tract_id(tract), partial(_joined, make, scope.sky.visits))


def _dia_source_visits(scope: Scope) -> Iterator[File]:
    for visit in scope.sky.visits:
        yield File(_visit_id(visit), partial(dia_source_pieces, scope.sky, visit))


def _truth(scope: Scope) -> Iterator[File]:
    for tract in scope.sky.tracts:
        yield File(scope.tract_id(tract), partial(truth_pieces, scope.sky, tract))


def _match(scope: Scope) -> Iterator[File]:
    for tract in scope.sky.tracts:
        yield File(scope.tract_id(tract), partial(match_pieces, scope.sky, tract))


def _visits(scope: Scope) -> Iterator[File]:
    if scope.sky.visits:
        yield File({"instrument": INSTRUMENT}, partial(_once, visit_rows, scope.sky), "visit")


def _ccd_visits(scope: Scope) -> Iterator[File]:
    if scope.sky.visits:
        yield File({"instrument": INSTRUMENT}, partial(_once, ccd_visit_rows, scope.sky), "ccdVisitId")


def _once(make: Callable[[SimulatedSky], pa.Table], sky: SimulatedSky) -> Iterator[pa.Table]:
    yield make(sky)


FILES: Mapping[str, Callable[[Scope], Iterator[File]]] = {
    "objectTable": _object_patches,
    "objectTable_tract": _object_tracts,
    "sourceTable_visit": _source_visits,
    "sourceTable": _source_detectors,
    "forcedSourceTable": _forced_patches,
    "forcedSourceTable_tract": _forced_tracts,
    "diaObjectTable_tract": _dia_objects,
    "diaSourceTable_tract": _dia_source_tracts,
    "diaSourceTable": _dia_source_visits,
    "forcedSourceOnDiaObjectTable": _dia_forced_patches,
    "forcedSourceOnDiaObjectTable_tract": _dia_forced_tracts,
    "truth_summary": _truth,
    "match_ref_truth_summary_objectTable_tract": _match,
    "visitTable": _visits,
    "ccdVisitTable": _ccd_visits,
}
DATASET_TYPES = tuple(FILES)
