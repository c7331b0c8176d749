"""What there is to ask for: dataset types, and the data ids of each.

From log and ledger where these tell; where they do not, from the rows' own columns, and from no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import polars as pl

from warehouse.contracts.contract import Contract, DatasetType
from warehouse.errors import NotFoundError, near_misses
from warehouse.query.dataid import NUMBERS, partial
from warehouse.query.dataset import ids_of_rows, known_ids
from warehouse.query.deliveries import deliveries
from warehouse.query.tables import Tables, Version


def dataset_types(
    tables: Tables, pattern: str = "*", *, more: Mapping[str, tuple[Contract, DatasetType]] | None = None
) -> pl.DataFrame:
    """Return one row a dataset type: dataset_type, dimensions, table, description of the table.

    Parameters
    ----------
    pattern
        A name, or a glob such as ``*_tract``.
    more
        Dataset types that deliver no rows of a release's table, with what tells of them: those of images.

    Raises
    ------
    NotFoundError
        No dataset type of that name; with the near misses.
    """
    known = {**tables.root.contracts.dataset_types, **(more or {})}
    found = [
        (name, ", ".join(dataset_type.dimensions), contract.table, contract.description)
        for name, (contract, dataset_type) in known.items()
        if fnmatchcase(name, pattern)
    ]
    if not found:
        hint = near_misses(pattern.replace("*", ""), known)
        raise NotFoundError(f"no dataset type matches {pattern!r}; {hint}", kind="dataset_type")
    schema = dict.fromkeys(("dataset_type", "dimensions", "table", "description"), pl.String)
    return pl.DataFrame(found, schema=schema, orient="row")


def data_ids(
    tables: Tables, dataset_type: str, data_id: Mapping[str, object], *, version: Version | None = None
) -> pl.DataFrame:
    """Return the data ids of a dataset type that the warehouse holds, sorted: its dimensions, and their rows.

    Parameters
    ----------
    data_id
        Values that the data ids shall have; none of them for all.
    version
        A version's number, a moment, or a pinned release's name; None for now.

    Raises
    ------
    NotFoundError
        No such dataset type, or nothing loaded into its table.
    QueryError
        A key that the dataset type does not have and its rows do not tell.
    """
    root = tables.root
    asked = partial(root.contracts, root.skymap, dataset_type, data_id)
    opened = tables.open(asked.contract.table, version)
    delivered = deliveries(tables, opened)
    dimensions = asked.dataset_type.dimensions
    types = pl.Schema({key: pl.Int64 if key in NUMBERS else pl.String for key in dimensions} | {"rows": pl.Int64})
    if not dimensions:
        return pl.DataFrame({"rows": [opened.rows]}, schema=types)
    found = None
    if {c.key for c in asked.conditions} <= set(dimensions) and not asked.implied:
        found = known_ids(opened, delivered, asked)
    if found is None:
        return ids_of_rows(opened, delivered, asked).cast(types).sort(dimensions)
    return found.filter(*(pl.col(c.key) == c.value for c in asked.conditions)).cast(types).sort(dimensions)
