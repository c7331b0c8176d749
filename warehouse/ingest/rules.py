"""What makes a row unfit for its table: a table of rules, each a function from a batch to the rows that it refuses.

Here belongs what each rule means. Splitting batches and counting is the business of `warehouse.ingest.quality`. A new
rule is one function and one line in `RULES`; its name is what the quarantine and the reports show.

A rule judges what a row says, not what follows from another rule: a row without a position is refused by
``position_null`` alone, although it has no patch either and lies in no box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import PATCH, TRACT, Contract, Packed
from warehouse.ingest.assign import position_of
from warehouse.ingest.conform import roots, set_aside_roots
from warehouse.readers.reader import Input
from warehouse.sky.skymap import SkyMap

DUPLICATE_KEY = "duplicate_key"

Mask = npt.NDArray[np.bool_]
Doubles = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a rule may look at.

    Attributes
    ----------
    frame
        The conformed batch with its tract and patch.
    original
        The same rows as they came.
    given
        The input that they came from; its data id is what the path claims.
    first_row
        The batch's place in the input.
    doubles
        Rule -> row numbers in the input, ascending, of the rows that repeat a key.
    """

    frame: pl.DataFrame
    original: pl.DataFrame
    contract: Contract
    sky: SkyMap
    given: Input
    first_row: int
    doubles: Doubles


def key_null(rows: Rows) -> Mask | None:
    """Refuse rows that lack a part of their key."""
    return _any_null(rows.frame, rows.contract.key)


def duplicate_key(rows: Rows) -> Mask | None:
    """Refuse rows that repeat the key of an earlier row of the input."""
    return repeated(rows, DUPLICATE_KEY)


def position_null(rows: Rows) -> Mask | None:
    """Refuse rows whose position is null or was not finite."""
    return _any_null(rows.frame, rows.contract.position or ())


def position_range(rows: Rows) -> Mask | None:
    """Refuse rows whose position is no point of the sky, RA beyond one wrap included."""
    missing = position_null(rows)
    return None if missing is None else ~missing & ~_placed(rows)


def tract_patch_null(rows: Rows) -> Mask | None:
    """Refuse rows without the tract and patch that their file or their position should have told."""
    if rows.contract.assignment == "declared":
        return _any_null(rows.frame, (TRACT, PATCH))
    if rows.contract.assignment == "derived":
        missing = _any_null(rows.frame, (TRACT, PATCH))
        return None if missing is None else missing & _placed(rows)
    return None


def tract_patch_unknown(rows: Rows) -> Mask | None:
    """Refuse rows whose tract and patch are not on the sky map."""
    missing = _any_null(rows.frame, (TRACT, PATCH)) if rows.contract.partitioned else None
    return None if missing is None else ~missing & ~_known(rows)


def outside_outer_box(rows: Rows) -> Mask | None:
    """Refuse rows that do not lie in the outer box of the patch that they declare."""
    if rows.contract.assignment != "declared" or rows.contract.position is None:
        return None
    tract, patch = (rows.frame.get_column(name).fill_null(-1).to_numpy() for name in (TRACT, PATCH))
    inside = rows.sky.in_outer(tract, patch, *position_of(rows.frame, rows.contract))
    return ~inside & _known(rows) & _placed(rows)


def data_id_contradicts(rows: Rows) -> Mask | None:
    """Refuse rows that tell another data id than the path of their input."""
    contradicts = None
    for dimension, packed in _where(rows).items():
        told = _told(rows, packed)
        if dimension not in rows.given.data_id or told is None:
            continue
        claimed = rows.given.data_id[dimension]
        if isinstance(claimed, str) and told.dtype != pl.String:
            told = told.cast(pl.String)
        mask = (told != claimed).fill_null(value=False).to_numpy()
        contradicts = mask if contradicts is None else contradicts | mask
    return contradicts


def no_truth_row(rows: Rows) -> Mask | None:
    """Refuse rows that refer to no row of the table that would tell their place."""
    return _any_null(rows.frame, (TRACT, PATCH)) if rows.contract.assignment == "through" else None


RULES: Mapping[str, Callable[[Rows], Mask | None]] = {
    rule.__name__: rule
    for rule in (
        key_null,
        duplicate_key,
        position_null,
        position_range,
        tract_patch_null,
        tract_patch_unknown,
        outside_outer_box,
        data_id_contradicts,
        no_truth_row,
    )
}


def repeated(rows: Rows, rule: str) -> Mask:
    """Return the rows of this batch among the input's rows that repeat a key under this rule."""
    mask = np.zeros(rows.frame.height, dtype=np.bool_)
    numbers = rows.doubles.get(rule)
    if numbers is not None:
        first, end = np.searchsorted(numbers, [rows.first_row, rows.first_row + len(mask)])
        mask[numbers[first:end] - rows.first_row] = True
    return mask


def set_aside(rows: pl.DataFrame, contract: Contract) -> dict[str, Mask]:
    """Return rule -> the rows that the contract sets aside for what they are.

    A rule over columns that the file does not have sets nothing aside.

    Parameters
    ----------
    rows
        Made by `seen_by_sql`.
    """
    judged = [s for s in contract.set_aside if s.where and roots(s.where) <= set(rows.columns)]
    masks = rows.select(pl.sql_expr(str(s.where)).fill_null(value=False).alias(s.rule) for s in judged)
    return {mask.name: mask.to_numpy() for mask in masks}


def seen_by_sql(
    frame: pl.DataFrame, original: pl.DataFrame, contract: Contract, given: Input | None = None
) -> pl.DataFrame:
    """Return the key and the columns that the contract's rules name: the contract's, then those of the file alone.

    The data id of the input, where it is given, stands beside them as ``input_tract``, ``input_visit`` and so on.
    """
    known = dict.fromkeys(original.columns, original) | dict.fromkeys(frame.columns, frame)
    named = set_aside_roots(contract)
    names = dict.fromkeys((*contract.key, *sorted(named)))
    rows = pl.DataFrame([known[name].get_column(name) for name in names if name in known])
    told = {f"input_{name}": value for name, value in (given.data_id if given else {}).items()}
    return rows.with_columns(pl.lit(value).alias(name) for name, value in told.items() if name in named)


def _any_null(frame: pl.DataFrame, names: Sequence[str]) -> Mask | None:
    """Return the rows that lack a value in any of the columns; None where there are no columns."""
    columns = [frame.get_column(name) for name in names]
    if not columns:
        return None
    missing = np.zeros(frame.height, dtype=np.bool_)
    for column in columns:
        if column.null_count():
            missing |= column.is_null().to_numpy()
    return missing


def _placed(rows: Rows) -> Mask:
    """Return the rows whose position is a point of the sky, right ascension within one turn."""
    ra_deg, dec_deg = position_of(rows.frame, rows.contract)
    return (ra_deg >= 0) & (ra_deg < 360) & (np.abs(dec_deg) <= 90)


def _known(rows: Rows) -> Mask:
    """Return the rows whose tract and patch are on the sky map."""
    tracts, patches = rows.sky.n_tracts, rows.sky.patches_per_tract
    known = pl.col(TRACT).is_between(0, tracts, closed="left") & pl.col(PATCH).is_between(0, patches, closed="left")
    return rows.frame.select(known.fill_null(value=False)).to_series().to_numpy()


def _where(rows: Rows) -> Mapping[str, Packed]:
    """Return where the rows tell the data id of their input.

    Of an input whose dataset type nobody named, it is whatever its data id would fill completely.
    """
    given = rows.given
    if given.dataset_type is not None:
        return rows.contract.dataset_type(given.dataset_type).where
    told: dict[str, Packed] = {}
    for dataset_type in rows.contract.dataset_types:
        if set(dataset_type.dimensions) <= set(given.data_id):
            told = {**dataset_type.where, **told}
    return told


def _told(rows: Rows, packed: Packed) -> pl.Series | None:
    """Return the data-id value that each row tells, null where it tells none; None where the column is nowhere.

    A derived tract is the row's place, not what its file says, so it is never asked.
    """
    placed = packed.column in {TRACT, PATCH} and rows.contract.assignment != "declared"
    if packed.column in rows.frame.columns and not placed:
        column = rows.frame.get_column(packed.column)
    elif packed.column in rows.original.columns:
        column = rows.original.get_column(packed.column)
    else:
        return None
    if not column.dtype.is_integer():
        return column
    value = pl.col(column.name)
    quotient = value // packed.divide if packed.divide != 1 else value
    told = quotient % packed.modulo if packed.modulo is not None else quotient
    if packed.none:
        told = pl.when(~value.is_in(list(packed.none))).then(told)
    return column.to_frame().select(told).to_series()
