"""Objects: what the coadds of one patch measure, deblended parents and sky objects included.

A source that lies in several patches or tracts has one position and one set of noise (`warehouse.simulate.detection`),
to which each patch adds a little of its own; which of its rows is the primary one follows from the sky map alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warehouse.simulate.columns import Main, fill
from warehouse.simulate.detection import COADD_DEPTH, COADD_PHOTON_nJy, coadd_error, flux_error
from warehouse.simulate.population import BANDS, Floats, Ints
from warehouse.simulate.sky import PatchView, SimulatedSky
from warehouse.simulate.streams import stream

# Other fluxes follow the one that no measurement lacks.
MAIN = Main("{band}_free_cModelFlux", "{band}_free_cModelFluxErr")
# Of the flux error, the part that differs from patch to patch.
OWN_NOISE = 0.1
NO_MEASUREMENT_SHARE = 0.004
BLOCK_ROWS = 50_000

_I = BANDS.index("i")


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The rows of Object of one patch: deblended parents first, then sources, then sky objects.

    Attributes
    ----------
    detection
        Row of the detections; a parent has its first child's, a sky object has -1.
    object_id, parent_id
        As published; 0 is no parent.
    children
        Of a deblended parent, else 0.
    """

    view: PatchView
    detection: Ints
    object_id: Ints
    parent_id: Ints
    children: Ints
    ra: Floats
    dec: Floats
    x: Floats
    y: Floats
    tract_inner: NDArray[np.bool_]
    patch_inner: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Rows of Object."""
        return len(self.detection)

    @property
    def is_sky(self) -> NDArray[np.bool_]:
        """Whether a row is a sky object: flux measured where nothing was found."""
        return self.detection < 0

    @property
    def primary(self) -> NDArray[np.bool_]:
        """Whether a row is the one that stands for its source."""
        return np.asarray(self.tract_inner & self.patch_inner & (self.children == 0) & ~self.is_sky)


def members(sky: SimulatedSky, view: PatchView) -> Members:
    """Return who is in a patch; where, under which id, and whether as the primary row."""
    found = sky.detections
    blends = found.blend[view.rows]
    blended = np.flatnonzero(blends >= 0)
    # Pairs are neighbours in the list of detections: the first of each that this patch shows leads it.
    _, lead, pair, sizes = np.unique(blends[blended], return_index=True, return_inverse=True, return_counts=True)
    leaders = blended[lead]
    empty_x, empty_y = _sky_positions(sky, view)
    counter = np.arange(1, view.objects + 1)
    object_id = sky.pack(view.tract, view.patch, counter)
    parent_id = np.zeros(view.objects, np.int64)
    parent_id[view.parents + blended] = object_id[: view.parents][pair]
    x = np.concatenate([view.x[leaders], view.x, empty_x])
    y = np.concatenate([view.y[leaders], view.y, empty_y])
    empty_ra, empty_dec = sky.skymap.to_sky(view.tract, empty_x, empty_y)
    detection = np.concatenate([view.rows[leaders], view.rows, np.full(view.sky_objects, -1)])
    empty_tract, empty_patch = sky.skymap.find(empty_ra, empty_dec)
    tract = np.concatenate([sky.inner_tract[detection[detection >= 0]], empty_tract])
    patch = np.concatenate([sky.inner_patch[detection[detection >= 0]], empty_patch])
    tract_inner = tract == view.tract
    return Members(
        view=view,
        detection=detection,
        object_id=object_id,
        parent_id=parent_id,
        children=np.concatenate([sizes, np.zeros(view.objects - view.parents, np.int64)]),
        ra=np.concatenate([found.ra[view.rows[leaders]], found.ra[view.rows], empty_ra]),
        dec=np.concatenate([found.dec[view.rows[leaders]], found.dec[view.rows], empty_dec]),
        x=x,
        y=y,
        tract_inner=tract_inner,
        patch_inner=np.where(tract_inner, patch, sky.skymap.grid.patch_of(x, y)) == view.patch,
    )


def _sky_positions(sky: SimulatedSky, view: PatchView) -> tuple[Floats, Floats]:
    """Return tract pixels of a patch's sky objects: some way off its sources, within its outer box."""
    generator = stream(sky.seed, "sky objects", view.tract, view.patch)
    near = generator.integers(0, len(view.rows), view.sky_objects)
    reach = generator.uniform(15.0, 100.0, view.sky_objects)
    angle = generator.uniform(0.0, 2.0 * np.pi, view.sky_objects)
    low_x, low_y, high_x, high_y = sky.skymap.patch_box(view.patch, outer=True).tolist()
    x = np.clip(view.x[near] + reach * np.cos(angle), low_x, high_x)
    y = np.clip(view.y[near] + reach * np.sin(angle), low_y, high_y)
    return x, y


def object_core(sky: SimulatedSky, who: Members) -> dict[str, Any]:
    """Return the columns of Object that mean something, by their published names."""
    view = who.view
    generator = stream(sky.seed, "objects", view.tract, view.patch, sky.reprocessing)
    place = np.maximum(who.detection, 0)
    truth_rows = sky.detections.truth[place]
    size = np.where(who.is_sky, 0.0, sky.truth.size_arcsec[truth_rows])
    sigma = np.where(who.is_sky, 0.3, sky.detections.sigma_arcsec[place])
    core: dict[str, Any] = {
        "objectId": who.object_id,
        "parentObjectId": who.parent_id,
        "deblend_nChild": who.children,
        "coord_ra": who.ra,
        "coord_dec": who.dec,
        "x": who.x,
        "y": who.y,
        "xErr": sigma / sky.skymap.scale_arcsec,
        "yErr": sigma / sky.skymap.scale_arcsec,
        "tract": np.full(who.rows, view.tract),
        "patch": np.full(who.rows, view.patch),
        "skymap": sky.skymap.name,
        **_flags(who),
    }
    for band, name in enumerate(BANDS):
        core |= _photometry(sky, who, band, name, size, generator)
    core["refBand"] = _reference_band(sky, who)
    core["refExtendedness"] = core["i_extendedness"]
    return core


def _flags(who: Members) -> dict[str, NDArray[np.bool_]]:
    blended = who.parent_id > 0
    return {
        "detect_isPrimary": who.primary,
        "detect_isPatchInner": who.patch_inner,
        "detect_isTractInner": who.tract_inner,
        "detect_isIsolated": ~blended & (who.children == 0),
        "detect_fromBlend": blended,
        "detect_isDeblendedSource": who.children == 0,
        "detect_isDeblendedModelSource": blended,
        "merge_peak_sky": who.is_sky,
        "sky_object": who.is_sky,
    }


def _photometry(
    sky: SimulatedSky, who: Members, band: int, name: str, size: Floats, generator: np.random.Generator
) -> dict[str, Any]:
    """Return the main fluxes of one band and what tells a galaxy from a star."""
    place = np.maximum(who.detection, 0)
    truth_rows = sky.detections.truth[place]
    own, jitter, point = generator.standard_normal((3, who.rows))
    # Most of the noise goes with the source, so that its rows in other patches agree; the sum has unit variance.
    noise = np.sqrt(1.0 - OWN_NOISE**2) * sky.detections.noise[band, place] + OWN_NOISE * own
    noise = np.where(who.is_sky, own, noise)
    light = np.where(who.is_sky, 0.0, sky.truth.flux_nJy[band, truth_rows].astype(np.float64))
    # A parent holds the light of its children, of which the lead is the only one at hand.
    light = np.where(who.children > 1, 1.4 * light, light)
    point_error = flux_error(light, COADD_DEPTH[band], COADD_PHOTON_nJy)
    error = np.where(who.is_sky, point_error, coadd_error(sky.truth, truth_rows, band))
    flux = light + error * noise
    failed = generator.random(who.rows) < NO_MEASUREMENT_SHARE
    reported = error * np.exp(0.02 * jitter)
    resolved = size / 0.35 + 2.0 * np.abs(point) * point_error / np.maximum(light, point_error)
    return {
        f"{name}_cModelFlux": np.where(failed, np.nan, flux),
        f"{name}_cModelFluxErr": np.where(failed, np.nan, reported),
        f"{name}_cModel_flag": failed,
        f"{name}_free_cModelFlux": flux + 0.05 * error * point,
        f"{name}_free_cModelFluxErr": 1.02 * reported,
        f"{name}_psfFlux": light / (1.0 + (size / 0.5) ** 1.5) + point_error * point,
        f"{name}_psfFluxErr": point_error * np.exp(0.02 * own),
        f"{name}_extendedness": np.where(failed, np.nan, (resolved > 0.3).astype(np.float64)),
    }


def _reference_band(sky: SimulatedSky, who: Members) -> pa.Array:
    """Return the band that shapes come from: i, or r where there is no i."""
    lost = sky.detections.absent[_I, np.maximum(who.detection, 0)]
    return pa.DictionaryArray.from_arrays(pa.array(lost.astype(np.int32)), ["i", "r"]).cast(pa.string())


def _sliced(core: dict[str, Any], low: int, high: int) -> dict[str, Any]:
    """Return rows `low` to `high` of each column; one word for all rows stays as it is."""
    return {name: values if isinstance(values, str) else values[low:high] for name, values in core.items()}


def object_pieces(sky: SimulatedSky, view: PatchView) -> Iterator[pa.Table]:
    """Yield the rows of Object of a patch, all columns, in blocks of bounded size."""
    contract = sky.release.contract("Object")
    who = members(sky, view)
    core = object_core(sky, who)
    lost = sky.detections.absent[:, np.maximum(who.detection, 0)] & ~who.is_sky
    for low in range(0, who.rows, BLOCK_ROWS):
        high = min(low + BLOCK_ROWS, who.rows)
        generator = stream(sky.seed, "object columns", view.tract, view.patch, low, sky.reprocessing)
        absent = {name: lost[band, low:high] for band, name in enumerate(BANDS)}
        part = _sliced(core, low, high)
        yield pa.table(fill(contract, part, high - low, generator, main=MAIN, absent=absent))
