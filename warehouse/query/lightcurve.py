"""Light curves: the forced photometry of given objects, or the detections, with visit times and bands.

Files are chosen by the ids that the log says they hold, row groups by their own statistics, because the tables are
sorted by these ids; nothing here relies on how an id is packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import Contract, Packed
from warehouse.errors import NotFoundError, QueryError
from warehouse.lake import bounds
from warehouse.lake.root import Root
from warehouse.query.answers import answered
from warehouse.query.scan import read
from warehouse.query.tables import Opened, Tables, Version

Ids = int | Iterable[int]

VISIT, BAND = "visit", "band"
_FEW_IDS = 3  # a file: measured on 77 files of 250,000 rows, the two ways are equally fast at four
_FILES_AT_ONCE = 8  # 100 ids in 73 files: 24 ms by eights, 35 one by one, 57 all at once
_OBJECTS, _DIA_OBJECTS = "Object", "DiaObject"


def lightcurve(
    tables: Tables,
    object_id: Ids | None = None,
    *,
    dia_object_id: Ids | None = None,
    detections: bool = False,
    columns: Sequence[str] | None = None,
    version: Version | None = None,
) -> pl.DataFrame:
    """Return the photometry of objects, sorted by id and time; ids without any have no rows.

    Parameters
    ----------
    object_id, dia_object_id
        One id or many, of one of the two kinds: ForcedSource, or ForcedSourceOnDiaObject.
    detections
        The DiaSource rows of DiaObjects, rather than their forced photometry.
    columns
        Columns of that table; None for all of the release's. The id, ``visit``, the visit's time (named as in the
        release's Visit table, MJD) and ``band`` always stand before them.
    version
        A version's number of that table, a moment, or a pinned release's name; None for now.

    Returns
    -------
    pl.DataFrame
        Times are null for rows whose visit is not in Visit, and bands where the rows do not tell their own either.

    Raises
    ------
    QueryError
        Not one kind of id, ids that are no integers, or detections of objects that are not DiaObjects.
    NotFoundError
        A table is not loaded, or a column is not in it.
    """
    owner, given = _asked(object_id, dia_object_id, detections=detections)
    ids = _numbers(given)
    contract, column = _table_of(tables.root, owner, detections=detections)
    opened = tables.open(contract.table, version)
    wanted = opened.named(contract.by_name if columns is None else columns)
    own = [BAND] if BAND in contract.by_name else []
    visit = _visit_of(tables, contract)
    with answered(opened.snapshot.uri):
        read_too = dict.fromkeys([column, *own, *wanted])
        rows = _rows(opened, column, ids, [*map(pl.col, read_too), visit.alias("__visit")])
    times = _times(tables, version)
    time = times.columns[1]
    found = rows.join(times, left_on="__visit", right_on=VISIT, how="left", suffix="__of_visit")
    band = pl.coalesce(BAND, f"{BAND}__of_visit") if own else pl.col(BAND)
    return _ordered(found, column, time).select(
        pl.col(column), pl.col("__visit").alias(VISIT), time, band, pl.col(_rest(wanted, (column, VISIT, time, BAND)))
    )


def contracts(
    root: Root, object_id: Ids | None = None, *, dia_object_id: Ids | None = None, detections: bool = False
) -> tuple[Contract, Contract]:
    """Return the contracts of the tables that a light curve's columns are of: the photometry's, and Visit's."""
    owner, _ = _asked(object_id, dia_object_id, detections=detections)
    return _table_of(root, owner, detections=detections)[0], root.contract("Visit")


def _asked(object_id: Ids | None, dia_object_id: Ids | None, *, detections: bool) -> tuple[str, Ids]:
    if object_id is not None and dia_object_id is None:
        if detections:
            raise QueryError("detections are of DiaObjects: give dia_object_id", kind="lightcurve")
        return _OBJECTS, object_id
    if dia_object_id is not None and object_id is None:
        return _DIA_OBJECTS, dia_object_id
    raise QueryError("expected either object_id or dia_object_id", kind="lightcurve")


def _numbers(ids: Ids) -> npt.NDArray[np.int64]:
    """Return the ids sorted, each once (QueryError where they are no integers)."""
    if isinstance(ids, str | bytes):
        raise QueryError(f"expected integer ids, found {ids!r}", kind="lightcurve")
    listed = [ids] if not isinstance(ids, Iterable) else ids if hasattr(ids, "__array__") else list(ids)
    try:
        given = np.atleast_1d(np.asarray(listed))
    except ValueError as error:
        raise QueryError("expected one list of integer ids, found lists within it", kind="lightcurve") from error
    if not given.size:
        return np.empty(0, np.int64)
    if given.dtype.kind not in "iu" or given.ndim != 1 or given.max() > np.iinfo(np.int64).max:
        raise QueryError(f"expected integer ids, found {given.dtype} {given[:3].tolist()}", kind="lightcurve")
    return np.unique(given.astype(np.int64))


def _table_of(root: Root, owner: str, *, detections: bool) -> tuple[Contract, str]:
    """Return the table that holds the photometry of `owner`'s objects, and the column of their ids in it.

    Forced photometry takes the tract and patch of its object; detections have their own place.
    """
    kind = "derived" if detections else "declared"
    for contract in root.contracts.tables.values():
        for link in contract.foreign_keys:
            if link.table == owner and contract.assignment == kind and _visited(contract):
                return contract, link.column
    raise NotFoundError(f"{root.release} has no such photometry of {owner}", kind="table")


def _visited(contract: Contract) -> bool:
    return VISIT in contract.by_name or any(link.table in {"CcdVisit", "Visit"} for link in contract.foreign_keys)


def _visit_of(tables: Tables, contract: Contract) -> pl.Expr:
    """Return a row's visit: its own column, or as the release packs it into another."""
    if VISIT in contract.by_name:
        return pl.col(VISIT)
    for _, dataset_type in tables.root.contracts.dataset_types.values():
        packed: Packed | None = dataset_type.where.get(VISIT)
        if packed is not None and packed.column in contract.by_name:
            return packed.expr()
    raise NotFoundError("the rows do not tell their visit", kind="column", table=contract.table)


def _rows(opened: Opened, column: str, ids: npt.NDArray[np.int64], wanted: list[pl.Expr]) -> pl.DataFrame:
    """Return the rows of the ids out of the files that can hold them.

    A few ids a file are asked of a few files at a time, side by side: held against few ids, more row groups are left
    out, and faster, than held against all. Many ids are asked of all files at once.
    """
    chosen = opened.files.filter(bounds.holding(opened.files, column, ids))
    needed = [column, *(name for expr in wanted for name in expr.meta.root_names())]
    if not ids.size or not chosen.height:
        return read(opened, chosen.clear(), needed).select(wanted).collect()
    every = ids.tolist()
    if len(every) > _FEW_IDS * chosen.height:
        within = pl.col(column).is_between(every[0], every[-1])
        return read(opened, chosen, needed).filter(within & pl.col(column).is_in(every)).select(wanted).collect()
    first, last, _ = bounds.shares(chosen, column, ids)
    in_order = np.argsort(first, kind="stable")
    asked = []
    for start in range(0, chosen.height, _FILES_AT_ONCE):
        together = in_order[start : start + _FILES_AT_ONCE]
        mine = every[first[together].min() : last[together].max()]
        asked.append(read(opened, chosen[together], needed).filter(_one_of(column, mine)).select(wanted))
    return pl.concat(pl.collect_all(asked))


def _one_of(column: str, ids: list[int]) -> pl.Expr:
    if len(ids) > 2 * _FEW_IDS:
        return pl.col(column).is_in(ids)
    return reduce(or_, [pl.col(column) == number for number in ids])


def _times(tables: Tables, version: Version | None) -> pl.DataFrame:
    """Return visit, time and band of every visit: some ten thousand rows."""
    visits = tables.contract("Visit")
    # A number counts one table's versions; a moment or a pin holds for all of them.
    known = tables.loaded("Visit", None if isinstance(version, int) else version)
    if known is None or visits.time is None:
        message = "light curves take their times and bands from this table, and nothing has been loaded into it"
        raise NotFoundError(message, kind="table", table="Visit", uri=tables.root.uri)
    names = [VISIT, visits.time, BAND]
    with answered(known.snapshot.uri):
        return known.once("times", read(known, known.files, names).unique(VISIT, keep="any").collect)


def _ordered(found: pl.DataFrame, column: str, time: str) -> pl.DataFrame:
    return found.sort(column, time, "__visit", nulls_last=True, maintain_order=True)


def _rest(wanted: Sequence[str], before: Sequence[str]) -> list[str]:
    return [name for name in wanted if name not in before]
