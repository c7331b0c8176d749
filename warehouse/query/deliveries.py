"""Deliveries: which inputs a table's rows came from, as the ledger tells, and which of them a data id can concern.

The ledger is a view of the log and may lag behind it, so what is concluded from it is either exact whatever else there
may be (the rows of a known input), or drawn only where its totals balance with the log's.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from warehouse.contracts.contract import INPUT_ID
from warehouse.query.dataid import NUMBERS, Asked, Condition
from warehouse.query.tables import Opened, Tables

_UNKNOWN = "detector"
"""A dimension that files may name in words (``R22_S11``) and rows in numbers."""


@dataclass(frozen=True)
class Deliveries:
    """The live inputs of a table as of one version.

    Attributes
    ----------
    inputs
        One row an input: the ledger's columns.
    complete
        Whether their rows are all that the table holds.
    """

    inputs: pl.DataFrame
    complete: bool

    def concerned(self, asked: Asked) -> pl.DataFrame:
        """Return the inputs that may hold rows of a data id: those whose own data id does not contradict it."""
        agree = [_agrees(condition) for condition in asked.conditions]
        return self.inputs.filter(*agree)

    def contradicting(self, asked: Asked) -> pl.DataFrame:
        """Return the inputs whose own data id has another value than one that the visit implies."""
        return self.inputs.filter(~pl.all_horizontal([_agrees(condition) for condition in asked.implied]))

    def exact(self, asked: Asked) -> pl.DataFrame:
        """Return the inputs that are this dataset: of its dataset type, with its dimensions' values."""
        dimensions = asked.dataset_type.dimensions
        conditions = [c for c in asked.conditions if c.key in dimensions]
        of_type = self.inputs.filter(dataset_type=asked.dataset_type.name)
        implied = (_agrees(condition) for condition in asked.implied)
        return of_type.filter(*(_told(c.key) == str(c.value) for c in conditions), *implied)

    def data_ids(self, asked: Asked) -> pl.DataFrame | None:
        """Return the data ids that were delivered as `asked`'s dataset type, with their rows.

        None where that is not all of the table: rows came otherwise, or a data id is not told in full.
        """
        dimensions = asked.dataset_type.dimensions
        own = pl.col("dataset_type") == asked.dataset_type.name
        if not self.complete or not dimensions or not self.inputs.select(own.fill_null(value=False).all()).item():
            return None
        ids = self.inputs.select(*map(_typed, dimensions), pl.col("rows_committed").alias("rows"))
        if ids.select(pl.any_horizontal(pl.col(dimensions).is_null()).any()).item():
            return None
        return ids.group_by(dimensions).agg(pl.col("rows").sum())

    def told(self, asked: Asked) -> pl.DataFrame:
        """Return the values of those dimensions that inputs of whatever dataset type were delivered with."""
        values = self.inputs.select(*map(_typed, asked.dataset_type.dimensions))
        return values.select(s for s in values.iter_columns() if not s.null_count()).unique()


def deliveries(tables: Tables, opened: Opened) -> Deliveries:
    """Return the live inputs of a table as of the version that is open."""
    known = tables.ledger(opened.table, opened.snapshot.version)
    return opened.once("deliveries", lambda: _live(opened, known), of=known)


def _live(opened: Opened, known: pl.DataFrame) -> Deliveries:
    rows = known.filter(pl.col("version") <= opened.snapshot.version, pl.col("status") != "refused")
    newest = rows.sort("version", maintain_order=True).group_by(INPUT_ID, maintain_order=True).last()
    live = newest.filter(pl.col("status") == "committed").select(rows.columns)
    return Deliveries(live, bool(live.height) and int(live.get_column("rows_committed").sum()) == opened.rows)


def _told(key: str) -> pl.Expr:
    """Return the value of a data-id key that an input was delivered with, as text; null where it had none."""
    return pl.col("data_id").str.json_path_match(f"$.{key}")


def _typed(key: str) -> pl.Expr:
    """Return `_told` in its dimension's own type."""
    return _told(key).cast(pl.Int64 if key in NUMBERS else pl.String, strict=False).alias(key)


def _agrees(condition: Condition) -> pl.Expr:
    told = _told(condition.key)
    same = (told == str(condition.value)) | told.is_null()
    if condition.key == _UNKNOWN:
        same |= told.cast(pl.Int64, strict=False).is_null()
    return same
