"""The audit: what the tables themselves say, held against what the ledger, the contracts and the sky map say.

Nothing is taken from the ledger on trust: rows are counted, keys compared, positions placed again, links followed,
folders listed. Reads a part of a tract at a time, and what has to be compared over a whole table in as many passes as
its memory asks for, so that neither grows with the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract, ForeignKey
from warehouse.errors import NotFoundError
from warehouse.faults import translated
from warehouse.lake import delta, ledger, pins
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root
from warehouse.lake.rows import of_files

# Of the memory, one half is for the part of the rows that is read, one for what is compared over the whole table. A
# value takes its place twice while it is hashed or filtered; a key its hash, a sorted one, and itself where it repeats.
VALUE_BYTES = 32
KEY_BYTES = 64
SEED = 17

# Looked at, wrong, and an example where something is.
Part = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at in one table: how many of what, how many do not hold, and an example."""

    table: str
    check: str
    looked_at: int
    wrong: int
    example: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong."""
        return self.wrong == 0


def audit(root: Root, settings: Settings, *, tables: tuple[str, ...] = ()) -> list[Finding]:
    """Look at tables (all that exist, where none is named); return every finding, also those that hold."""
    findings: list[Finding] = []
    for table in tables or root.contracts.every:
        contract = root.contract(table)
        try:
            snapshot = delta.snapshot(root.table_uri(table), settings)
        except NotFoundError:
            continue
        findings += _audit_table(root, contract, snapshot, settings)
    return findings


def _audit_table(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> Iterator[Finding]:
    there, orphans = _files(root, contract, snapshot, settings)
    yield from (there, orphans)
    if not there.holds:
        return  # the rows cannot be read as the log has them
    yield from _rows_an_input(root, contract, snapshot, settings)
    if contract.key:
        yield _finding(contract, "unique key", _keys(contract, snapshot, settings))
    if contract.position is not None and contract.assignment in {"declared", "derived"}:
        yield _finding(contract, "position in its patch", _places(root, contract, snapshot, settings))
    # A table that has not been loaded is nobody's broken link.
    if (link := contract.through) is not None and (target := _loaded(root, link, settings)) is not None:
        yield _finding(contract, f"patch of its {link.table} row", _places_through(link, snapshot, target, settings))
    for link in contract.foreign_keys:
        target = _loaded(root, link, settings)
        if target is not None and target.files.height:
            yield _finding(contract, f"{link.column} in {link.table}", _links(link, snapshot, target, settings))


def _finding(contract: Contract, check: str, parts: Iterable[Part]) -> Finding:
    """Return what was found in all parts together, with the first example."""
    looked_at, wrong, example = 0, 0, ""
    for seen, odd, such_as in parts:
        looked_at += seen
        wrong += odd
        example = example or such_as
    return Finding(contract.table, check, looked_at, wrong, example)


def _loaded(root: Root, link: ForeignKey, settings: Settings) -> Snapshot | None:
    """Return the table that a link leads to, None where there is none."""
    try:
        return delta.snapshot(root.table_uri(link.table), settings)
    except NotFoundError:
        return None


def _rows(
    snapshot: Snapshot, columns: list[str], settings: Settings, only: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the columns of all rows, or of one tract's: at a time whole files of one tract, within half the memory."""
    files = snapshot.files if only is None else delta.partition_filter(snapshot.files, only)
    most = max(1, settings.memory // (2 * VALUE_BYTES * len(columns)))
    tract = [TRACT] if TRACT in files.columns else []
    rows = pl.col("num_records").cum_sum()
    files = files.with_columns(part=(rows.over(tract) if tract else rows) // most)
    types = pl.Schema(snapshot.schema)
    schema = pl.Schema({name: types[name] for name in columns})
    partition_by = [name for name in (TRACT, PATCH) if name in files.columns]
    for group in files.partition_by(*tract, "part", maintain_order=True):
        with translated(snapshot.uri, "reading"):
            found = of_files(snapshot.uri, group, schema, partition_by, settings).collect()
        if found.height:
            yield found


def _passes(snapshot: Snapshot, settings: Settings) -> int:
    """Return in how many shares a table's keys are compared, each within half the memory."""
    rows = int(snapshot.files.get_column("num_records").sum())
    return max(1, math.ceil(2 * KEY_BYTES * rows / settings.memory))


def _rows_an_input(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> Iterator[Finding]:
    table = contract.table
    rows = ledger.read(root.uri, ledger.LEDGER, table, settings).filter(pl.col("status") != "refused")
    newest = rows.group_by(INPUT_ID, maintain_order=True).last().select(INPUT_ID, "uri", "rows_committed")
    counted = [frame.group_by(INPUT_ID).len() for frame in _rows(snapshot, [INPUT_ID], settings)]
    empty = pl.DataFrame(schema={INPUT_ID: pl.Int64, "len": pl.UInt32})
    found = pl.concat([empty, *counted], how="vertical_relaxed").group_by(INPUT_ID).agg(pl.col("len").sum())
    both = newest.join(found, on=INPUT_ID, how="full", coalesce=True).with_columns(
        pl.col("rows_committed").fill_null(0), pl.col("len").fill_null(0).cast(pl.Int64)
    )
    odd = both.filter(pl.col("rows_committed") != pl.col("len"))
    if contract.generated:
        return
    example = ""
    if odd.height:
        row = odd.row(0, named=True)
        example = f"{row['uri'] or row[INPUT_ID]}: ledger {row['rows_committed']}, table {row['len']}"
    yield Finding(table, "rows an input", both.height, odd.height, example)
    logged = int(snapshot.files.get_column("num_records").sum())
    held = int(found.get_column("len").sum())
    yield Finding(table, "rows in the log", held, abs(logged - held), f"log {logged}, files {held}")


def _keys(contract: Contract, snapshot: Snapshot, settings: Settings) -> Iterator[Part]:
    """Count the rows that repeat a key, over the whole table, since a row may be doubled in another tract.

    By the keys' hashes first, of each pass those with its remainder; then by the keys of which the hash repeats.
    """
    key = list(contract.key)
    passes = _passes(snapshot, settings)
    for number in range(passes):
        every = np.concatenate([np.zeros(0, np.uint64), *_hashes(snapshot, key, number, passes, settings)])
        every.sort()
        repeated = np.unique(every[1:][every[1:] == every[:-1]])
        if not len(repeated):
            yield len(every), 0, ""
            continue
        suspects = (
            frame.filter(np.isin(frame.hash_rows(seed=SEED).to_numpy(), repeated))
            for frame in _rows(snapshot, key, settings)
        )
        rows = pl.concat(suspects)
        doubled = rows.filter(rows.is_duplicated())
        wrong = doubled.height - doubled.n_unique()
        yield len(every), wrong, f"{', '.join(key)} = {doubled.row(0)}" if wrong else ""


def _hashes(
    snapshot: Snapshot, key: list[str], number: int, passes: int, settings: Settings
) -> Iterator[npt.NDArray[np.uint64]]:
    for frame in _rows(snapshot, key, settings):
        hashes = frame.hash_rows(seed=SEED).to_numpy()
        yield hashes if passes == 1 else hashes[hashes % passes == number]


def _places(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> Iterator[Part]:
    assert contract.position is not None  # noqa: S101 - the caller asked only for tables with one; this tells mypy
    for frame in _rows(snapshot, [*contract.position, TRACT, PATCH], settings):
        ra, dec, tract, patch = (frame.get_column(name).to_numpy() for name in frame.columns)
        if contract.assignment == "derived":
            found_tract, found_patch = root.sky.find(ra, dec)
            bad = (found_tract != tract) | (found_patch != patch)
        else:
            bad = ~root.sky.in_outer(tract, patch, ra, dec)
        i = int(bad.argmax())
        example = f"({ra[i]:.6f}, {dec[i]:.6f}) in {tract[i]}/{patch[i]}" if bad[i] else ""
        yield len(bad), int(bad.sum()), example


def _places_through(through: ForeignKey, snapshot: Snapshot, target: Snapshot, settings: Settings) -> Iterator[Part]:
    """Look for each row in the tract and patch of the row that gave it its place."""
    on = [through.references, TRACT, PATCH]
    for frame in _rows(snapshot, [through.column, TRACT, PATCH], settings):
        stray = frame
        for there in _rows(target, on, settings, only=frame.item(0, TRACT)):
            stray = stray.join(there, left_on=frame.columns, right_on=on, how="anti")
        value, tract, patch = stray.row(0) if stray.height else frame.row(0)
        example = f"{through.column} = {value} in {tract}/{patch}" if stray.height else ""
        yield frame.height, stray.height, example


def _links(link: ForeignKey, snapshot: Snapshot, target: Snapshot, settings: Settings) -> Iterator[Part]:
    """Follow a foreign key, of each pass those with its remainder."""
    passes = _passes(target, settings)
    none = pl.Series(link.references, [], pl.Schema(target.schema)[link.references])
    for number in range(passes):
        parts = (frame.to_series().unique() for frame in _rows(target, [link.references], settings))
        known = pl.concat([none, *(_share(part, number, passes) for part in parts)]).unique()
        for frame in _rows(snapshot, [link.column], settings):
            refers = _share(frame.to_series().drop_nulls().cast(none.dtype), number, passes)
            refers = refers.filter(~refers.is_in(list(link.none))) if link.none else refers
            bad = refers.filter(~refers.is_in(known.implode()))
            yield len(refers), len(bad), f"{link.column} = {bad[0]}" if len(bad) else ""


def _share(values: pl.Series, number: int, passes: int) -> pl.Series:
    return values if passes == 1 else values.filter(values.hash(seed=SEED) % passes == number)


def _files(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> tuple[Finding, Finding]:
    """Hold the log against the folder: live files that are gone, and old files that nothing needs."""
    live = set(snapshot.files.get_column("path"))
    found = {
        entry.uri[len(snapshot.uri) + 1 :]
        for entry in storage.listing(snapshot.uri, settings)
        if entry.uri.endswith(".parquet") and "/_" not in entry.uri[len(snapshot.uri) :]
    }
    missing = sorted(live - found)
    there = Finding(contract.table, "files are there", len(live), len(missing), missing[0] if missing else "")
    # What upkeep would leave is another writer's work, or what an earlier version or a pin reads.
    keep = pins.versions(root, contract.table, settings)
    spare = sorted(delta.vacuum(snapshot, settings.retention_hours, keep_versions=keep, dry_run=True))
    example = f"{spare[0]}; `tractlake maintain` removes what no version needs" if spare else ""
    return there, Finding(contract.table, "no orphan files", len(found), len(spare), example)
