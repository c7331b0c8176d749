"""What is set aside now: the quarantined rows of each input's newest version - all, the last ones, or their numbers.

They may be many times more than the memory holds, so nothing here but `rows` without a limit takes all of them in.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.faults import translated
from warehouse.lake import ledger

ORDER = ("table", "version", "input_id")
BATCH_ROWS = 10_000
_PLACE = "\0place"


def rows(root: str, table: str | None, settings: Settings, last: int | None = None) -> pl.DataFrame:
    """Return the rows that are set aside of one table or of all, oldest first; of these the last ones, where told."""
    found = _now(root, table, settings).with_row_index(_PLACE)
    by = [*ORDER, "row_number", _PLACE]
    with translated(storage.join(root, ledger.QUARANTINE), "reading"):
        # Of rows that are sorted lazily all are held, of the greatest only those.
        frame = (found if last is None else found.top_k(last, by=by)).collect(engine="streaming")
    return frame.sort(by).drop(_PLACE)


def counts(root: str, table: str | None, settings: Settings) -> pl.DataFrame:
    """Return how many rows are set aside: table, rules, rows; a row for each list of rules that rows break together."""
    found = _now(root, table, settings).group_by("table", "rules").agg(pl.len().cast(pl.Int64).alias("rows"))
    with translated(storage.join(root, ledger.QUARANTINE), "reading"):
        return found.collect(engine="streaming").sort("table", "rules")


def batches(root: str, table: str | None, settings: Settings) -> Iterator[pl.DataFrame]:
    """Yield the rows that are set aside, some thousand at a time, in no order that means anything."""
    with translated(storage.join(root, ledger.QUARANTINE), "reading"):
        yield from _now(root, table, settings).collect_batches(chunk_size=BATCH_ROWS, engine="streaming")


def _now(root: str, table: str | None, settings: Settings) -> pl.LazyFrame:
    newest = (
        ledger.scan(root, ledger.LEDGER, table, settings).group_by("table", "input_id").agg(pl.col("version").max())
    )
    every = ledger.scan(root, ledger.QUARANTINE, table, settings)
    return every.join(newest, on=["table", "input_id", "version"], how="semi", maintain_order="left")
