"""Where to look: regions of the sky, tracts and patches, and lists of them, as one thing that a scan understands.

Regions themselves are in `warehouse.sky.regions`. Here belongs what a caller may write for "where", and what it means
to one table: which rows, and which partitions.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, SupportsIndex, cast

import polars as pl

from warehouse.contracts.contract import PATCH, TRACT
from warehouse.errors import QueryError
from warehouse.query.tables import Opened
from warehouse.sky.moc import Moc
from warehouse.sky.regions import Region
from warehouse.sky.skymap import SkyMap


@dataclass(frozen=True, slots=True)
class Tract:
    """The rows of a tract: those that the table keeps under this tract number."""

    tract: int

    def expr(self) -> pl.Expr:
        """Return whether a row is in the tract."""
        return pl.col(TRACT) == self.tract


@dataclass(frozen=True, slots=True)
class Patch:
    """The rows of a patch: those that the table keeps under this tract and sequential patch number."""

    tract: int
    patch: int

    def expr(self) -> pl.Expr:
        """Return whether a row is in the patch."""
        return (pl.col(TRACT) == self.tract) & (pl.col(PATCH) == self.patch)


Place = Tract | Patch | Region
Area = Place | int | Sequence["Area"]
"""What may be given as a region: a region of the sky, a `Tract` or `Patch`, a tract's number, or a list of those.

A list of numbers is one of tracts. A tuple of numbers is refused: it could be meant for a tract and its patch."""


def places(area: Area, opened: Opened) -> tuple[Place, ...]:
    """Return the places that `area` names, checked against the table and its sky map.

    Raises
    ------
    QueryError
        Something that is no place, or a place that this table cannot tell: a tract of an unpartitioned one, a
        position of one without position columns.
    NotFoundError
        The sky map has no such tract or patch.
    """
    return tuple(_checked(place, opened) for place in _flat(area))


def _flat(area: object) -> Iterator[object]:
    if getattr(area, "ndim", 1) == 0:  # a number that numpy has wrapped up
        yield cast("Any", area).item()
    elif isinstance(area, tuple) and any(isinstance(item, SupportsIndex) for item in area):
        message = f"expected Patch(tract, patch), or a list of tracts, found a tuple that could be either: {area}"
        raise QueryError(message, kind="region")
    elif isinstance(area, Iterable) and not isinstance(area, str | bytes) and not _is_region(area):
        for item in area:
            yield from _flat(item)
    else:
        yield area


def _checked(place: object, opened: Opened) -> Place:
    if isinstance(place, Tract | Patch):
        return _known(place, opened)
    if _is_region(place):
        opened.position()
        return cast("Region", place)
    if type(place).__module__.partition(".")[0] == "mocpy":
        opened.position()
        return Moc(place)
    if isinstance(place, bool) or not isinstance(place, SupportsIndex):
        message = f"expected a region, a Tract, a Patch, a tract's number or a list of those, found {place!r}"
        raise QueryError(message, kind="region", table=opened.table)
    return _known(Tract(operator.index(place)), opened)


def _known(place: Tract | Patch, opened: Opened) -> Tract | Patch:
    """Refuse a tract of a table without tracts, and one that the sky map does not have."""
    if not opened.contract.partitioned:
        message = f"the table is not partitioned by tract and patch, so {place} has no meaning in it"
        raise QueryError(message, kind="region", table=opened.table)
    sky: SkyMap = opened.sky
    try:
        numbers = [operator.index(number) for number in astuple(place)]
    except TypeError:
        raise QueryError(f"expected whole numbers, found {place}", kind="region", table=opened.table) from None
    sky.tract_centre(numbers[0])
    if isinstance(place, Tract):
        return Tract(*numbers)
    sky.patch_box(numbers[1])
    return Patch(*numbers)


def _is_region(place: object) -> bool:
    asked = ("expr", "contains", "bounds", "touches")
    return not isinstance(place, type) and all(callable(getattr(place, name, None)) for name in asked)


def rows_of(opened: Opened, wanted: Sequence[Place]) -> pl.Expr:
    """Return whether a row is in one of the places."""
    alternatives = [
        place.expr() if isinstance(place, Tract | Patch) else place.expr(*opened.position()) for place in wanted
    ]
    return alternatives[0] if len(alternatives) == 1 else pl.any_horizontal(alternatives)
