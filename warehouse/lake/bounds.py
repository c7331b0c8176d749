"""Which files of a table may hold a value, as the statistics in its log tell; no file is opened.

Works on rows of `Snapshot.files`, and gives one boolean a file: true wherever the log does not tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]


def told(files: pl.DataFrame, column: str) -> bool:
    """Return whether the log keeps statistics of `column`."""
    return {f"min.{column}", f"max.{column}"} <= set(files.columns)


def between(files: pl.DataFrame, column: str, low: float, high: float) -> Mask:
    """Return which files may hold a row whose `column` lies in [low, high]."""
    if not told(files, column):
        return np.ones(files.height, dtype=bool)
    # A null is a statistic that is not there.
    apart = (pl.col(f"max.{column}") < low) | (pl.col(f"min.{column}") > high)
    return files.select(~apart.fill_null(value=False)).to_series().to_numpy()


def holding(files: pl.DataFrame, column: str, ids: Ids) -> Mask:
    """Return which files may hold a row whose `column` is one of `ids`, which are sorted."""
    first, last, known = shares(files, column, ids)
    return np.asarray((last > first) | ~known)


def shares(files: pl.DataFrame, column: str, ids: Ids) -> tuple[Ids, Ids, Mask]:
    """Return where among the sorted `ids` those begin and end that each file may hold, and whether the log tells it.

    Where it does not, the file may hold them all.
    """
    if not told(files, column):
        return np.zeros(files.height, np.int64), np.full(files.height, len(ids)), np.zeros(files.height, dtype=bool)
    low, high = (files.get_column(f"{end}.{column}") for end in ("min", "max"))
    known = (low.is_not_null() & high.is_not_null()).to_numpy()
    first = np.searchsorted(ids, low.fill_null(0).to_numpy(), "left")
    last = np.searchsorted(ids, high.fill_null(0).to_numpy(), "right")
    return np.where(known, first, 0), np.where(known, last, len(ids)), known
