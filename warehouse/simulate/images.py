"""Images of the simulated sky, as LSST's pipelines write them: image, mask and variance, then archives.

Which images there are, and what a pixel holds. The files' own form - headers, compression - is
`warehouse.simulate.exposure`'s business. The same truth that the tables show is drawn, so that what an image shows
and what a table lists agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from warehouse import contracts, storage
from warehouse.config import Settings
from warehouse.contracts import Release
from warehouse.errors import QueryError, near_misses
from warehouse.simulate.detection import COADD_DEPTH, COADD_PHOTON_nJy, VISIT_PHOTON_nJy
from warehouse.simulate.exposure import Compression, Exposure, tangent, visit_cards, written
from warehouse.simulate.observing import (
    INSTRUMENT,
    X_SIZE,
    Y_SIZE,
    Visit,
    detector_centre,
    detector_name,
    land,
)
from warehouse.simulate.population import BANDS, Floats
from warehouse.simulate.simulation import RUN
from warehouse.simulate.sky import SimulatedSky, make_sky
from warehouse.simulate.streams import stream
from warehouse.simulate.tree import DataId, butler_path
from warehouse.sky import skymap
from warehouse.sky.skymap import SkyMap

CALEXP, DIFFERENCE, COADD = "calexp", "goodSeeingDiff_differenceExp", "deepCoadd"
IMAGE_TYPES = (CALEXP, DIFFERENCE, COADD)
SMALL_SIZE = (256, 256)

# Bits differ between visits and coadds, as they do in published images: only the header tells them.
VISIT_PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT", "NO_DATA")
COADD_PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "SENSOR_EDGE")
COADD_SEEING_ARCSEC = 0.75
SATURATED_nJy = 2.0e6
_PIXEL_DEG = 0.2 / 3600.0
_EDGE_PX = 5
_BETA = 3.0  # of the Moffat profile
_HALF = float(2.0 * np.sqrt(2.0 ** (1.0 / _BETA) - 1.0))

Image = NDArray[np.float32]
Size = tuple[int, int] | None
OnImage = Callable[[str, str, int], None]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image to write: its dataset type and data id, and the function that makes it."""

    dataset_type: str
    data_id: DataId
    make: Callable[[], Exposure]


def simulate_images(
    out: str,
    *,
    ra: float = 62.0,
    dec: float = -37.0,
    radius: float = 0.5,
    objects: int = 20_000,
    visits: int = 12,
    seed: int = 1,
    settings: Settings | None = None,
    release: str = "dp02",
    dataset_types: Collection[str] = IMAGE_TYPES,
    detectors: int = 9,
    first_visit: int = 0,
    patches: int = 4,
    bands: str = "gri",
    size: Size = SMALL_SIZE,
    compression: Compression = "GZIP_2",
    run: str = RUN,
    only: Mapping[str, Collection[int | str]] | None = None,
    on_image: OnImage | None = None,
) -> tuple[str, ...]:
    """Write images of a simulated sky into the Butler-like tree `out`, and return their paths below it.

    Arguments that `warehouse.simulate.simulate` has too mean the same, and then the images are of the sky that its
    tables describe.

    Parameters
    ----------
    patches, bands
        Coadds are made of the patches that show most, in each of these bands.
    size
        Width and height in pixels: images are cut out of the middle of detectors and patches. None is all of them,
        4072 x 4000 and 4200 x 4200 pixels.
    compression
        ``GZIP_2`` (lossless, as the release has it), ``RICE_1`` (quantised), or None.
    only
        Data-id values to which images are confined, such as ``{"visit": [192350]}``.
    on_image
        Called in this thread with dataset type, path and bytes of each image, in order.

    Raises
    ------
    QueryError
        An argument is out of its range.
    StorageError
        The store does not take the files.
    """
    settings = settings or Settings()
    sky = make_sky(
        *_able(release, dataset_types),
        ra_deg=ra,
        dec_deg=dec,
        radius_deg=radius,
        objects=objects,
        visits=visits,
        first_visit=first_visit,
        detectors=detectors,
        seed=seed,
        reprocessing=0,
    )
    work = [f for f in image_files(sky, size, patches, bands) if f.dataset_type in dataset_types and _within(f, only)]
    write = partial(_write, out, run, compression, settings)
    paths = []
    with ThreadPoolExecutor(settings.workers) as pool:
        for file, (path, count) in zip(work, pool.map(write, work), strict=True):
            paths.append(path)
            if on_image is not None:
                on_image(file.dataset_type, path, count)
    return tuple(paths)


def _able(release: str, dataset_types: Collection[str]) -> tuple[Release, SkyMap]:
    """Return a release whose images can be simulated, and its sky map (QueryError where they cannot)."""
    for name in dataset_types:
        if name not in IMAGE_TYPES:
            raise QueryError(f"no images of {name!r} to simulate; {near_misses(name, IMAGE_TYPES)}")
    known = contracts.load(release)
    if known.skymap is None or "ObsCore" not in known.tables:
        raise QueryError(f"images of release {release} cannot be simulated; those of dp02 can", kind="release")
    return known, skymap.named(known.skymap)


def _within(file: ImageFile, only: Mapping[str, Collection[int | str]] | None) -> bool:
    return all(name not in file.data_id or file.data_id[name] in values for name, values in (only or {}).items())


def _write(out: str, run: str, compression: Compression, settings: Settings, file: ImageFile) -> tuple[str, int]:
    path = butler_path(run, file.dataset_type, file.data_id).removesuffix(".parq") + ".fits"
    content = written(file.make(), compression)
    storage.write_bytes(storage.join(out, path), content, settings)
    return path, len(content)


def image_files(sky: SimulatedSky, size: Size, patches: int, bands: str) -> Iterator[ImageFile]:
    """Yield every image of a sky; none is drawn before it is asked for."""
    for visit in sky.visits:
        for detector in visit.detectors:
            data_id: DataId = {
                "instrument": INSTRUMENT,
                "day_obs": visit.day_obs,
                "band": visit.band,
                "physical_filter": visit.physical_filter,
                "visit": visit.visit,
                "detector": detector_name(detector),
            }
            yield ImageFile(CALEXP, data_id, partial(visit_exposure, sky, visit, detector, size))
            make = partial(visit_exposure, sky, visit, detector, size, difference=True)
            yield ImageFile(DIFFERENCE, data_id, make)
    for view in sorted(sky.patches, key=lambda v: -v.objects)[:patches]:
        for band in bands:
            place: DataId = {"tract": view.tract, "patch": view.patch, "band": band, "skymap": sky.skymap.name}
            yield ImageFile(COADD, place, partial(coadd_exposure, sky, view.tract, view.patch, band, size))


def visit_exposure(sky: SimulatedSky, visit: Visit, detector: int, size: Size, *, difference: bool = False) -> Exposure:
    """Return what one detector shows in a visit, or of it what differs from the static sky."""
    x0, y0, width, height = _window(0, 0, X_SIZE, Y_SIZE, size)
    rows = np.arange(sky.truth.rows)
    landed = land(visit, sky.truth.ra, sky.truth.dec)
    here = np.flatnonzero(landed.detector == detector)
    rows, x, y = rows[here], landed.x[here] - x0, landed.y[here] - y0
    band = visit.band_index
    light = sky.truth.variation(rows, band, visit.mid_mjd)
    if not difference:
        light = light + sky.truth.flux_nJy[band, rows]
    fwhm = np.hypot(visit.seeing_arcsec, 2.0 * sky.truth.size_arcsec[rows]) / 0.2
    noise = pixel_noise(visit.depth, visit.seeing_arcsec)
    model = drawn((height, width), x, y, light, fwhm, noise)
    generator = stream(sky.seed, "difference" if difference else "calexp", visit.visit, detector)
    image, variance = observed(model, noise, VISIT_PHOTON_nJy, generator)
    mask = masked(model, noise, VISIT_PLANES, generator)
    centre_x, centre_y = detector_centre(detector)
    turn = np.radians(visit.rotation_deg)
    spin = _PIXEL_DEG * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pixel = ((X_SIZE - 1) / 2 - centre_x - x0, (Y_SIZE - 1) / 2 - centre_y - y0)
    wcs = tangent(visit.ra_deg, visit.dec_deg, pixel, spin, sip=True)
    planes = {name: bit for bit, name in enumerate(VISIT_PLANES)}
    return Exposure(image, mask, variance, planes, wcs, (x0, y0), visit_cards(visit, detector))


def coadd_exposure(sky: SimulatedSky, tract: int, patch: int, band: str, size: Size) -> Exposure:
    """Return what the coadd of a patch shows in a band, its border included."""
    low_x, low_y, high_x, high_y = sky.skymap.patch_box(patch, outer=True).tolist()
    x0, y0, width, height = _window(low_x, low_y, high_x - low_x + 1, high_y - low_y + 1, size)
    x, y = sky.skymap.to_pixels(tract, sky.truth.ra, sky.truth.dec)
    reach = 60.0
    near = (x > x0 - reach) & (x < x0 + width + reach) & (y > y0 - reach) & (y < y0 + height + reach)
    rows, number = np.flatnonzero(near), BANDS.index(band)
    light = sky.truth.flux_nJy[number, rows].astype(np.float64)
    fwhm = np.hypot(COADD_SEEING_ARCSEC, 2.0 * sky.truth.size_arcsec[rows]) / 0.2
    noise = pixel_noise(COADD_DEPTH[number], COADD_SEEING_ARCSEC)
    model = drawn((height, width), x[rows] - x0, y[rows] - y0, light, fwhm, noise)
    generator = stream(sky.seed, "coadd", tract, patch, number)
    image, variance = observed(model, noise, COADD_PHOTON_nJy, generator)
    mask = masked(model, noise, COADD_PLANES, generator)
    ra, dec = (float(value) for value in sky.skymap.tract_centre(tract))
    centre = float(sky.skymap.grid.centre)
    north_up = _PIXEL_DEG * np.array([[-1.0, 0.0], [0.0, 1.0]])
    wcs = tangent(ra, dec, (centre - x0, centre - y0), north_up)
    planes = {name: bit for bit, name in enumerate(COADD_PLANES)}
    return Exposure(image, mask, variance, planes, wcs, (x0, y0), {"FILTER": band})


def _window(x0: int, y0: int, width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """Return first pixel and size of the middle of a box."""
    if size is None:
        return x0, y0, width, height
    if not (1 <= size[0] <= width and 1 <= size[1] <= height):
        raise QueryError(f"size: expected 1 x 1 to {width} x {height} pixels, found {size[0]} x {size[1]}")
    return x0 + (width - size[0]) // 2, y0 + (height - size[1]) // 2, size[0], size[1]


def pixel_noise(depth: float, seeing_arcsec: float) -> float:
    """Return the sky's standard deviation in one pixel, nJy, from a five-sigma depth (AB) of point sources.

    Point sources are measured over 4 pi sigma^2 pixels, the equivalent area of a Gaussian.
    """
    sigma_px = seeing_arcsec / 0.2 / 2.355
    return float(10.0 ** (0.4 * (31.4 - depth)) / 5.0 / np.sqrt(4.0 * np.pi) / sigma_px)


def drawn(shape: tuple[int, int], x: Floats, y: Floats, flux: Floats, fwhm: Floats, noise: float) -> Image:
    """Return an image (nJy a pixel) of sources as Moffat profiles, each as far out as it stands above the noise."""
    image = np.zeros(shape, np.float32)
    alpha = fwhm / _HALF
    peak = flux * (_BETA - 1.0) / (np.pi * alpha**2)
    reach = alpha * np.sqrt(np.maximum((np.abs(peak) / (0.1 * noise)) ** (1.0 / _BETA), 1.0) - 1.0)
    reach = np.minimum(np.ceil(reach), 400.0)
    seen = np.flatnonzero((reach > 0) & (x > -reach) & (x < shape[1] + reach) & (y > -reach) & (y < shape[0] + reach))
    for i in seen.tolist():
        left, right = max(0, int(x[i] - reach[i])), min(shape[1], int(x[i] + reach[i]) + 2)
        low, high = max(0, int(y[i] - reach[i])), min(shape[0], int(y[i] + reach[i]) + 2)
        if left >= right or low >= high:
            continue
        across = np.square((np.arange(left, right) - x[i]) / alpha[i])
        along = np.square((np.arange(low, high) - y[i]) / alpha[i])
        image[low:high, left:right] += peak[i] * (1.0 + along[:, None] + across[None, :]) ** -_BETA
    return image


def observed(model: Image, noise: float, photon_nJy: float, generator: np.random.Generator) -> tuple[Image, Image]:
    """Return the image with its noise, and the variance that a pipeline would state."""
    variance = (noise * noise + photon_nJy * np.maximum(model, 0.0)).astype(np.float32)
    image = model + np.sqrt(variance) * generator.standard_normal(model.shape, dtype=np.float32)
    return image.astype(np.float32), variance


def masked(model: Image, noise: float, planes: tuple[str, ...], generator: np.random.Generator) -> NDArray[np.int32]:
    """Return the mask: what was detected, saturated, hit by cosmic rays, near the edge or on a bad column."""
    bit = {name: 1 << number for number, name in enumerate(planes)}
    mask = np.zeros(model.shape, np.int32)
    mask[model > 2.0 * noise] |= bit["DETECTED"]
    mask[model < -2.0 * noise] |= bit["DETECTED_NEGATIVE"]
    mask[model > SATURATED_nJy] |= bit["SAT"] | bit["INTRP"]
    height, width = model.shape
    hits = max(1, model.size // 200_000)
    for x, y in zip(generator.integers(0, width, hits), generator.integers(0, height, hits), strict=True):
        mask[y : y + 2, x : x + 6] |= bit["CR"] | bit["INTRP"]
    mask[:, int(generator.integers(0, width))] |= bit["BAD"]
    for edge in (np.s_[:_EDGE_PX], np.s_[-_EDGE_PX:]):
        mask[edge] |= bit["EDGE"]
        mask[:, edge] |= bit["EDGE"]
    return mask
