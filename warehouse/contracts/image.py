"""The contract of ``Image``, our own table of images, and the dataset types of each release that are images.

A release publishes its catalogues' tables; of its images it publishes ObsCore at most, which says nothing of mask
planes, parent boxes or corners. Here stand the columns; how they are filled is the business of `warehouse.images`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Column, Contract, DatasetType

IMAGE = "Image"

_OF_A_VISIT = ("visit", "detector")
_OF_A_PATCH = ("tract", "patch", "band")
_DIMENSIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "dp02": {
        "calexp": _OF_A_VISIT,
        "goodSeeingDiff_differenceExp": _OF_A_VISIT,
        "deepCoadd": _OF_A_PATCH,
        "deepCoadd_calexp": _OF_A_PATCH,
        "goodSeeingCoadd": _OF_A_PATCH,
    },
    "dp1": {
        "visit_image": _OF_A_VISIT,
        "difference_image": _OF_A_VISIT,
        "deep_coadd": _OF_A_PATCH,
        "template_coadd": _OF_A_PATCH,
    },
}

_TEXTS = {
    "dataset": ("meta.id;meta.main", "Dataset type and data id: what a re-delivery replaces"),
    "dataset_type": ("meta.code.class", "Butler dataset type"),
    "instrument": ("meta.id;instr", "Instrument that took the image, where it is one exposure"),
    "band": ("instr.bandpass", "Band"),
    "physical_filter": ("instr.bandpass", "Filter as the instrument calls it"),
    "run": ("meta.id", "RUN collection that wrote the file, where its path tells"),
    "uri": ("meta.ref.url", "Where the file lies"),
    "etag": ("meta.version", "ETag of the file on S3; its size and time on a local disk"),
    "compression": ("meta.code", "Algorithm of the tile compression (ZCMPTYPE), null where there is none"),
    "bunit": ("meta.unit", "Unit of the pixels (BUNIT), where the file tells"),
}
_NUMBERS = {
    "visit": (None, "obs.field", "Visit, null for a coadd"),
    "detector": (None, "meta.id;instr.det", "Detector, null for a coadd"),
    TRACT: (None, "pos", "A coadd's own tract; of a visit image, the one in which its centre lies"),
    PATCH: (None, "pos", "A coadd's own patch; of a visit image, the one in which its centre lies"),
    "size_bytes": ("byte", "meta.file", "Bytes of the file"),
    "width_px": ("pixel", "pos.cartesian.x", "Columns of the image"),
    "height_px": ("pixel", "pos.cartesian.y", "Rows of the image"),
    "x0_px": ("pixel", "pos.cartesian.x", "Parent column of the image's first one (-LTV1): its box in parent pixels"),
    "y0_px": ("pixel", "pos.cartesian.y", "Parent row of the image's first one (-LTV2)"),
}
_MEASURES = {
    "ra_deg": ("deg", "pos.eq.ra;meta.main", "Of the middle of the image"),
    "dec_deg": ("deg", "pos.eq.dec;meta.main", "Of the middle of the image"),
    "radius_deg": ("deg", "phys.angSize", "From the middle to the corner that is farthest away"),
    "pixel_arcsec": ("arcsec", "pos.wcs.scale", "Scale of a pixel in the middle, the square root of its area"),
    "exposure_time_seconds": ("s", "time.duration;obs.exposure", "Exposure time"),
    "mid_time_mjd": ("d", "time.epoch;obs.exposure", "Middle of the exposure, MJD, TAI"),
}
_LISTS = {
    "corners_ra_deg": (pa.float64(), "deg", "Corners of the outer pixels' outer edges, from the first pixel on, RA"),
    "corners_dec_deg": (pa.float64(), "deg", "The same corners, Dec"),
    "touches": (pa.int64(), None, "Patches whose outer box shares sky with the image: tract * patches a tract + patch"),
    "mask_planes": (pa.string(), None, "Names of the mask planes (MP_*), in the order of their bits"),
}


def image_types(release: str) -> Mapping[str, DatasetType]:
    """Return a release's dataset types that are images, by name; none where we know none."""
    known = _DIMENSIONS.get(release, {})
    return {name: DatasetType(name, dimensions, {}) for name, dimensions in known.items()}


def image_contract(release: str) -> Contract:
    """Return the contract of ``Image``: one row an image, in the tract and patch where its middle lies.

    An image that touches several patches is one row all the same, so that counts are counts of images: `touches`
    names the patches, and the log knows of each file how far its images reach, which is how the row is found from
    any of them.
    """
    texts = [Column(name, "char", pa.string(), None, ucd, text) for name, (ucd, text) in _TEXTS.items()]
    numbers = [Column(name, "long", pa.int64(), unit, ucd, text) for name, (unit, ucd, text) in _NUMBERS.items()]
    measures = [Column(name, "double", pa.float64(), unit, ucd, text) for name, (unit, ucd, text) in _MEASURES.items()]
    lists = [Column(name, "list", pa.list_(of), unit, None, text) for name, (of, unit, text) in _LISTS.items()]
    return Contract(
        release=release,
        table=IMAGE,
        description="Images, one row each: what their headers say, and where they lie",
        columns=(*texts, *numbers, *measures, *lists),
        key=("dataset",),
        position=("ra_deg", "dec_deg"),
        assignment="declared",
        time="mid_time_mjd",
        dataset_types=tuple(image_types(release).values()),
        cluster_by=("dataset_type", "band", "visit", "dataset"),
        statistics=("dataset", "ra_deg", "dec_deg", "radius_deg", "mid_time_mjd", "visit", "detector", INPUT_ID),
    )
