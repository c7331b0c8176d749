"""Rows in a patch that is not theirs, by commits past the ingest: what an audit finds, and nothing else does."""

from __future__ import annotations

import uuid
from pathlib import Path

import polars as pl

from support import content
from warehouse import Warehouse
from warehouse.lake import delta, staged


def move(wh: Warehouse, table: str, path: str, place: tuple[int, int]) -> str:
    """Move the rows of one live file of a local warehouse to another tract and patch; return their file's path."""
    contract = wh.root.contract(table)
    base = delta.snapshot(wh.root.table_uri(table), wh.settings)
    rows = pl.read_parquet(Path(wh.uri, table, path), hive_partitioning=False)
    file = staged.write_rows(rows, contract, base.uri, wh.settings, place)
    delta.commit(base, uuid.uuid4().hex, wh.settings, add=[file], remove=[path])
    return file.path


def first(wh: Warehouse, table: str) -> tuple[str, tuple[int, int]]:
    """Return the path of one live file of a table, and its tract and patch."""
    return min(content.live_files(wh, table).items())
