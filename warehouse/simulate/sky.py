"""The simulated sky as a whole: truth, what the coadds found of it, which patch shows which source, and the visits.

What it holds is small - some hundred bytes a source - so that rows can be made file by file from it. Rows are made
in `measure`, `sources`, `forced`, `transients` and `reference`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from warehouse.contracts import Release
from warehouse.simulate.detection import VISIT_DEPTH, Detections, detect
from warehouse.simulate.observing import Visit, plan_visits
from warehouse.simulate.population import SUPERNOVA, Floats, Ints, Truth, populate
from warehouse.sky.regions import Cone
from warehouse.sky.skymap import SkyMap

ID_BITS = 43
SKY_OBJECT_SHARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class PatchView:
    """The sources that one patch of one tract shows, its border included.

    Attributes
    ----------
    rows
        Rows of the detections, ascending.
    x, y
        Their positions in the tract's pixels.
    first
        Objects in the patches before this one: the start of this patch's counters.
    """

    tract: int
    patch: int
    rows: Ints
    x: Floats
    y: Floats
    parents: int
    sky_objects: int
    first: int

    @property
    def objects(self) -> int:
        """Rows of Object: deblended parents, sources, sky objects."""
        return self.parents + len(self.rows) + self.sky_objects


@dataclass(frozen=True, eq=False)
class SimulatedSky:
    """Everything that the rows of all tables are made from.

    Attributes
    ----------
    inner_tract, inner_patch
        The one tract and patch whose inner regions hold a detection, by row of the detections.
    reprocessing
        Changes the noise of measurements, and neither the sky nor what was found: a later run over the same images.
    """

    seed: int
    reprocessing: int
    release: Release
    skymap: SkyMap
    truth: Truth
    detections: Detections
    inner_tract: Ints
    inner_patch: Ints
    patches: tuple[PatchView, ...]
    visits: tuple[Visit, ...]

    @property
    def tracts(self) -> tuple[int, ...]:
        """Tracts that show a source, ascending."""
        return tuple(sorted({view.tract for view in self.patches}))

    def of_tract(self, tract: int) -> tuple[PatchView, ...]:
        """Return the patches of a tract that show a source."""
        return tuple(view for view in self.patches if view.tract == tract)

    def pack(self, tract: int | Ints, patch: int | Ints, counter: Ints) -> Ints:
        """Return object ids: tract and patch in the high bits, a counter from 1 in the low ones."""
        place = np.asarray(tract, np.int64) * self.skymap.patches_per_tract + np.asarray(patch, np.int64)
        return (place << ID_BITS) | counter

    @cached_property
    def truth_tract(self) -> Ints:
        """The one tract whose inner region holds a truth entry, by row of the truth."""
        return self.skymap.find(self.truth.ra, self.truth.dec)[0]

    @cached_property
    def visible(self) -> Ints:
        """Rows of the truth that a single visit may ever show."""
        limit = 10.0 ** (0.4 * (31.4 - VISIT_DEPTH)) / 5.0
        bright = (self.truth.flux_nJy * (1.0 + self.truth.amplitude) > 1.5 * limit[:, None]).any(axis=0)
        return np.flatnonzero(bright | (self.truth.kind == SUPERNOVA))


def make_sky(
    release: Release,
    skymap: SkyMap,
    *,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    objects: int,
    visits: int,
    first_visit: int,
    detectors: int,
    seed: int,
    reprocessing: int,
) -> SimulatedSky:
    """Return the sky of a disc, the same for the same arguments."""
    truth = populate(seed, ra_deg, dec_deg, radius_deg, objects)
    detections = detect(seed, truth, objects)
    # Errors of position and sky objects reach a little beyond the disc.
    tracts = np.unique(skymap.outer_candidates(Cone(ra_deg, dec_deg, radius_deg + 0.01))[0])
    inner_tract, inner_patch = skymap.find(detections.ra, detections.dec)
    return SimulatedSky(
        seed=seed,
        reprocessing=reprocessing,
        release=release,
        skymap=skymap,
        truth=truth,
        detections=detections,
        inner_tract=inner_tract,
        inner_patch=inner_patch,
        patches=tuple(_patch_views(skymap, detections, tracts)),
        visits=plan_visits(seed, ra_deg, dec_deg, radius_deg, visits, first_visit, detectors),
    )


def _patch_views(skymap: SkyMap, detections: Detections, tracts: Ints) -> Iterator[PatchView]:
    """Yield what each patch of each tract shows, in order; a source lies in up to four patches of each tract."""
    first = 0
    boxes = skymap.patch_box(np.arange(skymap.patches_per_tract), outer=True)
    for tract in tracts.tolist():
        x, y = skymap.to_pixels(tract, detections.ra, detections.dec)
        pixel_x, pixel_y = np.floor(x + 0.5), np.floor(y + 0.5)
        # NaN, the other hemisphere, compares false everywhere.
        near = np.flatnonzero((pixel_x >= boxes[:, 0].min()) & (pixel_x <= boxes[:, 2].max()))
        for patch, (low_x, low_y, high_x, high_y) in enumerate(boxes.tolist()):
            across, along = pixel_x[near], pixel_y[near]
            rows = near[(across >= low_x) & (across <= high_x) & (along >= low_y) & (along <= high_y)]
            if not len(rows):
                continue
            blends = detections.blend[rows]
            parents = len(np.unique(blends[blends >= 0]))
            sky_objects = 1 + int(SKY_OBJECT_SHARE * len(rows))
            view = PatchView(tract, patch, rows, x[rows], y[rows], parents, sky_objects, first)
            yield view
            first += view.objects
