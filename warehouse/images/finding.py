"""Which images there are: by where they lie, when, in which band; by data id; and the one that shows a position.

Asks ``Image``, or by place ``ObsCore``, and opens no image. Files of the table are left out by what its log says of
them: where the middles of a file's images lie and how far they reach, so that an image is found from every patch that
it touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, SupportsIndex

import numpy as np
import polars as pl

from warehouse.contracts.contract import IMPLIED, PATCH, TRACT, Contract, DatasetType
from warehouse.contracts.image import IMAGE, image_contract, image_types
from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.images.inputs import known_type
from warehouse.images.rows import OBSCORE
from warehouse.lake import bounds
from warehouse.lake.root import Root
from warehouse.readers.paths import detector_number
from warehouse.sky import sphere
from warehouse.sky.regions import Cone, Polygon, Region

Place = Region | tuple[int, int | None]
"""A region of the sky, or a tract with its patch or without."""

Time = float | datetime

_KEYS = ("visit", "detector", TRACT, PATCH, "band", "physical_filter")
_NUMBERS = ("visit", "detector", TRACT, PATCH)
_UNTOLD = IMPLIED.difference(_KEYS)  # a visit implies them, the Butler's data ids have them, and headers do not tell
_CORNERS_OF_AN_IMAGE = 4
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Extent:
    """How a table of images tells where each lies.

    Attributes
    ----------
    ra, dec, reach
        Columns of the middle, and of what `share` of is the distance to the farthest corner.
    corners
        RA and Dec of the corners, lists of a row.
    touches
        Whether a column ``touches`` names the patches.
    """

    ra: str
    dec: str
    reach: str
    share: float
    corners: tuple[pl.Expr, pl.Expr]
    touches: bool


_S_REGION = pl.col("s_region").str.split(" ").list.slice(2).cast(pl.List(pl.Float64))  # after POLYGON ICRS
EXTENTS: Mapping[str, Extent] = {
    IMAGE: Extent(
        "ra_deg", "dec_deg", "radius_deg", 1.0, (pl.col("corners_ra_deg"), pl.col("corners_dec_deg")), touches=True
    ),
    OBSCORE: Extent(
        "s_ra",
        "s_dec",
        "s_fov",
        0.5,
        (_S_REGION.list.gather_every(2), _S_REGION.list.gather_every(2, 1)),
        touches=False,
    ),
}
"""The tables whose rows are images, which a place finds by all the sky that they cover."""


@dataclass(frozen=True)
class Registered:
    """``Image`` as of one version.

    Attributes
    ----------
    files
        One row a live file: ``min.*`` and ``max.*`` of its columns, as the log has them.
    read
        Returns the rows of some of those files as a lazy frame.
    """

    root: Root
    files: pl.DataFrame
    read: Callable[[pl.DataFrame], pl.LazyFrame]


def images(
    registered: Registered,
    places: Sequence[Place] | None = None,
    *,
    band: str | None = None,
    time: tuple[Time, Time] | None = None,
    dataset_type: str | None = None,
) -> pl.LazyFrame:
    """Return the images that share sky with one of `places`, one row an image; nothing is read before it is collected.

    Parameters
    ----------
    places
        None for everywhere. A region is compared with the image's corners, joined by great circles; a tract or patch
        with what the image is known to touch, outer boxes counted.
    band
        Its name.
    time
        First and last moment of the middle of the exposure: MJD (TAI), or a datetime (UTC where it names no zone).
    dataset_type
        An image dataset type.

    Raises
    ------
    NotFoundError
        No such dataset type, tract or patch.
    QueryError
        A time that is none.
    """
    files, filters = registered.files, []
    if dataset_type is not None:
        filters.append(pl.col("dataset_type") == known_type(registered.root.release, dataset_type).name)
    if band is not None:
        filters.append(pl.col("band") == band)
    if time is not None:
        begin, end = (_mjd(moment) for moment in time)
        files = files.filter(bounds.between(files, "mid_time_mjd", begin, end))
        filters.append(pl.col("mid_time_mjd").is_between(begin, end))
    if places is not None:
        files, reached = touching(registered.root, IMAGE, files, places)
        filters.append(reached)
    return registered.read(files).filter(*filters)


def touching(root: Root, table: str, files: pl.DataFrame, places: Sequence[Place]) -> tuple[pl.DataFrame, pl.Expr]:
    """Return which of a table's files can hold images that share sky with one of `places`, and which rows do."""
    if not places:
        return files.clear(), pl.lit(value=False)
    extent = EXTENTS[table]
    near = [_near(files, extent, _region(root, place)) for place in places]
    reached = [_touches(root, extent, place) for place in places]
    return files.filter(np.logical_or.reduce(near)), pl.any_horizontal(reached)


def _region(root: Root, place: Place) -> Region:
    """Return the part of the sky that a place is; a tract or patch is its outer box."""
    if not isinstance(place, tuple):
        return place
    tract, patch = place
    corners = root.sky.tract_polygon(tract) if patch is None else root.sky.patch_polygon(tract, patch, outer=True)
    return Polygon(tuple((ra, dec) for ra, dec in corners.tolist()))


def _touches(root: Root, extent: Extent, place: Place) -> pl.Expr:
    """Return whether an image shares sky with a place."""
    patches = root.sky.patches_per_tract
    if isinstance(place, tuple) and extent.touches:
        tract, patch = place
        if patch is not None:
            return pl.col("touches").list.contains(tract * patches + patch)
        return pl.col("touches").list.eval(pl.element() // patches == tract).list.any()
    region = _region(root, place)

    def within(rows: pl.Series) -> pl.Series:
        ra, dec = (rows.struct.field(n).list.to_array(_CORNERS_OF_AN_IMAGE).to_numpy() for n in ("ra", "dec"))
        return pl.Series(region.touches(sphere.unit(ra, dec)) if len(rows) else [], dtype=pl.Boolean)

    ra, dec = extent.corners
    return pl.struct(ra.alias("ra"), dec.alias("dec")).map_batches(within, return_dtype=pl.Boolean)


def _near(files: pl.DataFrame, extent: Extent, region: Region) -> Any:  # noqa: ANN401 - a mask
    """Return which files may hold an image that reaches into a region: by their middles, and how far they reach."""
    names = [f"{end}.{name}" for name in (extent.ra, extent.dec) for end in ("min", "max")]
    names.append(f"max.{extent.reach}")
    if not set(names) <= set(files.columns):
        return np.ones(files.height, dtype=bool)
    west, east, south, north, reach = (files.get_column(name).to_numpy() for name in names)
    reach = extent.share * reach + 1e-9  # the log's JSON numbers may lose their last digit
    pole = np.minimum(np.maximum(np.abs(south), np.abs(north)) + reach, 90.0)
    # A circle of this radius about a middle spans no more right ascension than that; near a pole, all of it.
    sine = np.sin(np.radians(reach)) / np.maximum(np.cos(np.radians(pole)), 1e-12)
    across = np.where(sine < 1, np.degrees(np.arcsin(np.minimum(sine, 1.0))), 360.0)
    mask = np.zeros(files.height, dtype=bool)
    for ra_min, ra_max, dec_min, dec_max in region.bounds():
        level = ~((north + reach < dec_min) | (south - reach > dec_max))
        for turn in (-360.0, 0.0, 360.0):
            mask |= level & ~((east + across < ra_min + turn) | (west - across > ra_max + turn))
    return mask


def _mjd(moment: Time) -> float:
    if isinstance(moment, datetime):
        from astropy.time import Time as Moment

        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return float(Moment(aware).tai.mjd)
    try:
        return float(moment)
    except (TypeError, ValueError) as error:
        message = f"time: expected two MJDs (TAI) or two datetimes, found {moment!r}"
        raise QueryError(message, kind="time", table=IMAGE) from error


# ------------------------------------------------------------------------------------------------ one image


def is_image_type(root: Root, dataset_type: str) -> bool:
    """Return whether a dataset type is one of images."""
    return dataset_type in image_types(root.release)


def find(registered: Registered, dataset_type: str, data_id: Mapping[str, object]) -> dict[str, Any]:
    """Return the row of the one image that a dataset type and a data id mean.

    Raises
    ------
    NotFoundError
        No such dataset type or image; the message names the nearest.
    QueryError
        The data id fits several images, has a key that images do not have, or a value of the wrong type.
    """
    kind = known_type(registered.root.release, dataset_type)
    wanted = _understood(registered.root, data_id)
    files = registered.files
    for name in ("visit", "detector"):
        if name in wanted:
            files = files.filter(bounds.between(files, name, wanted[name], wanted[name]))
    own = pl.col("dataset_type") == dataset_type
    rows = registered.read(files).filter(own, *_equal(wanted)).head(_MOST_NAMED + 1).collect()
    if rows.height == 1:
        return rows.row(0, named=True)
    asked = _named(dataset_type, wanted)
    if rows.height:
        more = " and more" if rows.height > _MOST_NAMED else ""
        fits = "; ".join(rows.get_column("dataset").head(_MOST_NAMED))
        message = f"{asked} fits several images: {fits}{more}; its dimensions are {', '.join(kind.dimensions)}"
        raise QueryError(message, kind="data_id", table=IMAGE)
    known = registered.read(registered.files).filter(own).select("dataset", *_KEYS).collect()
    raise NotFoundError(f"no {asked}; {_nearest(known, wanted)}", kind="data_id", table=IMAGE)


def data_ids(registered: Registered, dataset_type: str, data_id: Mapping[str, object]) -> pl.DataFrame:
    """Return the data ids of the images of a dataset type that have the given values, sorted: dimensions, and the URI.

    Raises
    ------
    NotFoundError
        No such dataset type.
    QueryError
        A key that images do not have, or a value of the wrong type.
    """
    kind = known_type(registered.root.release, dataset_type)
    found = images(registered, dataset_type=dataset_type).filter(*_equal(_understood(registered.root, data_id)))
    return found.select(*kind.dimensions, "uri").sort(kind.dimensions).collect()


def registered_types(registered: Registered) -> dict[str, tuple[Contract, DatasetType]]:
    """Return the dataset types of which images are registered, by name, with the contract of their table."""
    there = registered.read(registered.files).select(pl.col("dataset_type").unique()).collect().to_series().to_list()
    contract = image_contract(registered.root.release)
    return {kind.name: (contract, kind) for kind in contract.dataset_types if kind.name in there}


def _understood(root: Root, data_id: Mapping[str, object]) -> dict[str, Any]:
    """Return a data id's values as the table has them."""
    ours = {"skymap": root.skymap, "instrument": root.contracts.instrument}
    wanted: dict[str, Any] = {}
    for key, value in data_id.items():
        if key in ours:
            if value != ours[key]:
                message = f"{key} {value!r} is not this warehouse's, which is {ours[key]!r}"
                raise NotFoundError(message, kind="data_id", table=IMAGE)
            continue
        if key in _UNTOLD:
            continue
        if key not in _KEYS:
            message = f"images have no {key!r} in their data ids; {near_misses(key, (*_KEYS, *ours))}"
            raise QueryError(message, kind="data_id", table=IMAGE)
        if key == "detector" and isinstance(value, str):
            value = detector_number(value, root.contracts.instrument)  # noqa: PLW2901 - as file names call it
        wanted[key] = _typed(key, value)
    return wanted


def _typed(key: str, value: object) -> int | str:
    if key not in _NUMBERS:
        if isinstance(value, str):
            return value
        raise QueryError(f"{key}: expected a word, found {value!r}", kind="data_id", table=IMAGE)
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise QueryError(f"{key}: expected an integer, found {value!r}", kind="data_id", table=IMAGE)
    return operator.index(value)


def _equal(wanted: Mapping[str, Any]) -> list[pl.Expr]:
    return [pl.col(key) == value for key, value in wanted.items()]


def _named(dataset_type: str, wanted: Mapping[str, Any]) -> str:
    return " ".join([dataset_type, *(f"{key}={value}" for key, value in wanted.items())])


def _nearest(known: pl.DataFrame, wanted: Mapping[str, Any]) -> str:
    if not known.height:
        return "there are none of this type"
    other = [(pl.col(key) != value).fill_null(value=True).cast(pl.Int32) for key, value in wanted.items()]
    away = [(pl.col(key) - value).abs() for key, value in wanted.items() if key in _NUMBERS]
    order = [pl.sum_horizontal(other), *away] if other else [pl.col("dataset")]
    return "nearest are " + "; ".join(known.sort(*order, "dataset").get_column("dataset").head(3))


def showing(
    registered: Registered, ra: float, dec: float, dataset_type: str, band: str | None, data_id: Mapping[str, object]
) -> dict[str, Any]:
    """Return the row of the image that shows a position.

    Of coadds that overlap there, the one in whose own (inner) tract and patch it lies, else the one whose middle is
    nearest.

    Raises
    ------
    NotFoundError
        None shows it (kind ``outside``); the message names the nearest.
    QueryError
        Several visits or bands show it: the data id must say which.
    """
    kind = known_type(registered.root.release, dataset_type)
    wanted = _understood(registered.root, {**data_id, **({"band": band} if band is not None else {})})
    found = images(registered, [Cone(ra, dec, 0.0)], dataset_type=dataset_type).filter(*_equal(wanted)).collect()
    asked = f"{_named(dataset_type, wanted)} at ({ra}, {dec})"
    if not found.height:
        raise NotFoundError(f"no {asked}; {_close_by(registered, ra, dec, dataset_type, wanted)}", kind="outside")
    differing = [d for d in kind.dimensions if d not in {TRACT, PATCH} and found.get_column(d).n_unique() > 1]
    if differing:
        fits = "; ".join(found.sort("dataset").get_column("dataset").head(_MOST_NAMED))
        message = f"{found.height} images show {asked}, such as {fits}; say which {', '.join(differing)}"
        raise QueryError(message, kind="data_id", table=IMAGE)
    tract, patch = (int(value) for value in registered.root.sky.find(ra, dec))
    own = found.filter((pl.col(TRACT) == tract) & (pl.col(PATCH) == patch))
    best = own if own.height else found
    return best.sort(_separation(ra, dec)).row(0, named=True)


def _separation(ra: float, dec: float) -> pl.Expr:
    """Return a measure that grows with the distance of an image's middle from a position."""
    d_ra, d_dec = (pl.col("ra_deg") - ra).radians(), (pl.col("dec_deg") - dec).radians()
    across = (d_ra / 2).sin().pow(2) * pl.col("dec_deg").radians().cos() * float(np.cos(np.radians(dec)))
    return (d_dec / 2).sin().pow(2) + across


def _close_by(registered: Registered, ra: float, dec: float, dataset_type: str, wanted: Mapping[str, Any]) -> str:
    own = [pl.col("dataset_type") == dataset_type, *_equal(wanted)]
    away = (_separation(ra, dec).sqrt().arcsin() * 2).degrees().alias("away")
    rows = registered.read(registered.files).filter(*own).select("dataset", away).collect()
    if not rows.height:
        return "there are none of this type" if not wanted else _nearest_of(registered, dataset_type, wanted)
    name, degrees = rows.sort("away").row(0)
    return f"the nearest, {name}, has its middle {degrees:.3f} degrees away"


def _nearest_of(registered: Registered, dataset_type: str, wanted: Mapping[str, Any]) -> str:
    rows = registered.read(registered.files).filter(pl.col("dataset_type") == dataset_type)
    return _nearest(rows.select("dataset", *_KEYS).collect(), wanted)
