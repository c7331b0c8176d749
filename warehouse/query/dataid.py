"""Data ids: what a reader names a dataset by, and where the rows tell it.

A dataset type's own dimensions must be given. Further keys narrow the answer, where the rows can tell them: a detector
of a visit's sources, a band of a patch's forced photometry. Nothing is read here.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import SupportsIndex

import polars as pl
import pyarrow as pa

from warehouse.contracts.contract import IMPLIED, Contract, DatasetType, Packed
from warehouse.contracts.image import image_types
from warehouse.contracts.release import Release
from warehouse.errors import NotFoundError, QueryError, near_misses

NUMBERS = frozenset({"tract", "patch", "visit", "detector", "exposure", "day_obs", "visit_system"})
"""Dimensions whose values are integers; the others' are words."""

Value = int | str
DataId = Mapping[str, Value]
"""A data id as it is given: a value for each dimension; what a visit implies may be in it, too."""


def merged(data_id: DataId | None, keys: DataId) -> dict[str, Value]:
    """Return a data id that is given as a mapping, as keywords, or as both, of which keywords count.

    Raises
    ------
    QueryError
        What is given as a mapping is none.
    """
    if data_id is not None and not isinstance(data_id, Mapping):
        raise QueryError(f"expected a data id as a mapping or as keywords, found {data_id!r}", kind="data_id")
    return {**(data_id or {}), **keys}


@dataclass(frozen=True, slots=True)
class Condition:
    """A data-id value and where the rows hold it; `packed` is None where they do not tell."""

    key: str
    value: Value
    packed: Packed | None

    def bounds(self) -> tuple[int, int] | None:
        """Return the range of the packed column that holds the value, None where that is no one range."""
        if self.packed is None or self.packed.modulo is not None or not isinstance(self.value, int):
            return None
        low = self.value * self.packed.divide
        return low, low + self.packed.divide - 1

    def expr(self) -> pl.Expr:
        """Return whether a row has the value; as plain bounds where that is possible, because they skip row groups."""
        if self.packed is None:
            raise ValueError(f"the rows do not tell {self.key}")
        if not isinstance(self.value, int):
            return pl.col(self.packed.column) == self.value
        bounds = self.bounds()
        if bounds is None:
            return self.packed.expr() == self.value
        inside = pl.col(self.packed.column).is_between(*bounds)
        return inside & ~pl.col(self.packed.column).is_in(self.packed.none) if self.packed.none else inside


@dataclass(frozen=True, slots=True)
class Asked:
    """A data id that has been understood: the conditions that its rows fulfil, those of the dimensions first.

    `implied` are values that the rows do not tell, because the visit that is asked for implies them.
    """

    contract: Contract
    dataset_type: DatasetType
    conditions: tuple[Condition, ...]
    implied: tuple[Condition, ...] = ()

    @property
    def values(self) -> dict[str, Value]:
        """The data id as given."""
        return {condition.key: condition.value for condition in (*self.conditions, *self.implied)}

    def __str__(self) -> str:
        return " ".join([self.dataset_type.name, *(f"{key}={value}" for key, value in self.values.items())])


def dataset_type(release: Release, name: str) -> tuple[Contract, DatasetType]:
    """Return a dataset type with its table's contract (NotFoundError names the near misses)."""
    try:
        return release.dataset_types[name]
    except KeyError:
        hint = near_misses(name, {*release.dataset_types, *image_types(release.name)})
        raise NotFoundError(f"no dataset type {name!r} delivers a table; {hint}", kind="dataset_type") from None


def understood(release: Release, skymap: str, name: str, data_id: Mapping[str, object]) -> Asked:
    """Return the conditions of a complete data id of the dataset type `name`.

    Raises
    ------
    NotFoundError
        No such dataset type, or another sky map or instrument than the warehouse's.
    QueryError
        A dimension is missing, a key is superfluous, or a value is of the wrong type.
    """
    asked = partial(release, skymap, name, data_id)
    dimensions = asked.dataset_type.dimensions
    missing = [key for key in dimensions if key not in asked.values]
    if missing:
        message = f"{name} needs {', '.join(dimensions)}; missing {', '.join(missing)}"
        raise QueryError(message, kind="data_id", table=asked.contract.table)
    return asked


def partial(release: Release, skymap: str, name: str, data_id: Mapping[str, object]) -> Asked:
    """Return the conditions of a data id that need not be complete (raises as `understood` does otherwise)."""
    contract, found = dataset_type(release, name)
    conditions = _conditions(release, skymap, contract, found, data_id)
    implied = [c for c in conditions if c.packed is None and c.key not in found.dimensions]
    return Asked(contract, found, tuple(c for c in conditions if c not in implied), tuple(implied))


def _conditions(
    release: Release, skymap: str, contract: Contract, found: DatasetType, data_id: Mapping[str, object]
) -> list[Condition]:
    ours = {"skymap": skymap, "instrument": release.instrument}
    known = {*ours, *found.dimensions, *(IMPLIED if "visit" in found.dimensions else ())}
    for key in data_id:
        if key not in known and _where(release, contract, found, key) is None:
            hint = ", ".join(found.dimensions) or "none"
            message = f"{found.name} has no {key!r}, and its rows do not tell one; its dimensions: {hint}"
            raise QueryError(message, kind="data_id", table=contract.table)
    given = {key: _value(contract, key, value) for key, value in data_id.items()}
    for key in ours.keys() & given.keys():
        if given.pop(key) != ours[key]:
            message = f"{key} {data_id[key]!r} is not this warehouse's, which is {ours[key]!r}"
            raise NotFoundError(message, kind="data_id", table=contract.table)
    order = sorted(given, key=lambda k: found.dimensions.index(k) if k in found.dimensions else len(given))
    return [Condition(key, given[key], _where(release, contract, found, key)) for key in order]


def _where(release: Release, contract: Contract, found: DatasetType, key: str) -> Packed | None:
    """Return where the rows tell `key`: as the dataset type says, else by a column of that name, else as others say.

    What another dataset type reads from a column of the same name holds here, too: a ccdVisitId is packed in one way.
    """
    if key in found.where:
        return found.where[key]
    if key in found.dimensions:
        return None
    column = contract.by_name.get(key)
    if column is not None and not pa.types.is_floating(column.arrow):
        return Packed(key)
    own = [d.where[key] for d in contract.dataset_types if key in d.where]
    others = [d.where[key] for _, d in release.dataset_types.values() if key in d.where]
    return next((packed for packed in (*own, *others) if packed.column in contract.by_name), None)


def _value(contract: Contract, key: str, value: object) -> Value:
    """Return a value as the data id means it (QueryError for one of another type)."""
    if key not in NUMBERS:
        if isinstance(value, str):
            return value
        raise QueryError(f"{key}: expected a word, found {value!r}", kind="data_id", table=contract.table)
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise QueryError(f"{key}: expected an integer, found {value!r}", kind="data_id", table=contract.table)
    number = operator.index(value)
    if not -(2**63) <= number < 2**63:
        raise QueryError(f"{key}: expected an integer of 64 bits, found {number}", kind="data_id", table=contract.table)
    return number
