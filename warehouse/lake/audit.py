"""The audit: what the tables themselves say, held against what the ledger, the contracts and the sky map say.

Nothing is taken from the ledger on trust: rows are counted, keys compared, positions placed again, links followed,
folders listed. Works a tract at a time, so that its memory does not grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract, ForeignKey
from warehouse.errors import NotFoundError
from warehouse.faults import translated
from warehouse.lake import delta, ledger, pins
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root


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
    for table in tables or (*root.contracts.order, *root.contracts.derived):
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
        yield _keys(contract, snapshot, settings)
    if contract.position is not None and contract.assignment in {"declared", "derived"}:
        yield _places(root, contract, snapshot, settings)
    if contract.through is not None:
        yield from _places_through(root, contract, contract.through, snapshot, settings)
    for link in contract.foreign_keys:
        yield from _links(root, contract, link, snapshot, settings)


def _tracts(
    snapshot: Snapshot, columns: list[str], settings: Settings, only: int | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the columns of each tract's rows, or of one tract's (of all rows, for a table without tracts)."""
    files = snapshot.files if only is None else delta.partition_filter(snapshot.files, only)
    groups = files.partition_by(TRACT) if TRACT in files.columns else [files]
    options = storage.polars_options(snapshot.uri, settings) or None
    for group in groups:
        uris = [storage.join(snapshot.uri, path) for path in group.get_column("path")]
        if uris:
            scan = pl.scan_parquet(uris, storage_options=options, hive_partitioning=True, credential_provider=None)
            with translated(snapshot.uri, "reading"):
                rows = scan.select(columns).collect()
            yield rows


def _rows_an_input(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> Iterator[Finding]:
    table = contract.table
    rows = ledger.read(root.uri, ledger.LEDGER, table, settings).filter(pl.col("status") != "refused")
    newest = rows.group_by(INPUT_ID, maintain_order=True).last().select(INPUT_ID, "uri", "rows_committed")
    counted = [frame.group_by(INPUT_ID).len() for frame in _tracts(snapshot, [INPUT_ID], settings)]
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


def _keys(contract: Contract, snapshot: Snapshot, settings: Settings) -> Finding:
    """Count the rows that repeat a key, over the whole table: hashes first, since keys of all tracts must fit."""
    key = list(contract.key)
    hashes = [frame.hash_rows(seed=17).to_numpy() for frame in _tracts(snapshot, key, settings)]
    every = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    repeated = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(repeated):
        return Finding(contract.table, "unique key", len(every), 0)
    suspects = [
        frame.filter(np.isin(frame.hash_rows(seed=17).to_numpy(), repeated))
        for frame in _tracts(snapshot, key, settings)
    ]
    rows = pl.concat(suspects)
    doubled = rows.filter(rows.is_duplicated())
    wrong = doubled.height - doubled.n_unique()
    example = f"{', '.join(key)} = {doubled.row(0)}" if wrong else ""
    return Finding(contract.table, "unique key", len(every), wrong, example)


def _places(root: Root, contract: Contract, snapshot: Snapshot, settings: Settings) -> Finding:
    assert contract.position is not None  # noqa: S101 - the caller asked only for tables with one; this tells mypy
    looked_at, wrong, example = 0, 0, ""
    for frame in _tracts(snapshot, [*contract.position, TRACT, PATCH], settings):
        ra, dec, tract, patch = (frame.get_column(name).to_numpy() for name in frame.columns)
        if contract.assignment == "derived":
            found_tract, found_patch = root.sky.find(ra, dec)
            bad = (found_tract != tract) | (found_patch != patch)
        else:
            bad = ~root.sky.in_outer(tract, patch, ra, dec)
        looked_at += len(bad)
        wrong += int(bad.sum())
        if bad.any() and not example:
            i = int(bad.argmax())
            example = f"({ra[i]:.6f}, {dec[i]:.6f}) in {tract[i]}/{patch[i]}"
    return Finding(contract.table, "position in its patch", looked_at, wrong, example)


def _places_through(
    root: Root, contract: Contract, through: ForeignKey, snapshot: Snapshot, settings: Settings
) -> Iterator[Finding]:
    """Look for each row in the tract and patch of the row that gave it its place."""
    try:
        target = delta.snapshot(root.table_uri(through.table), settings)
    except NotFoundError:
        return
    looked_at, wrong, example = 0, 0, ""
    for frame in _tracts(snapshot, [through.column, TRACT, PATCH], settings):
        tract = frame.item(0, TRACT)
        there = list(_tracts(target, [through.references, TRACT, PATCH], settings, only=tract))
        on = [through.references, TRACT, PATCH]
        stray = frame.join(there[0], left_on=frame.columns, right_on=on, how="anti") if there else frame
        looked_at += frame.height
        wrong += stray.height
        if stray.height and not example:
            value, tract, patch = stray.row(0)
            example = f"{through.column} = {value} in {tract}/{patch}"
    yield Finding(contract.table, f"patch of its {through.table} row", looked_at, wrong, example)


def _links(
    root: Root, contract: Contract, link: ForeignKey, snapshot: Snapshot, settings: Settings
) -> Iterator[Finding]:
    """Follow a foreign key; a table that has not been loaded is nobody's broken link."""
    try:
        target = delta.snapshot(root.table_uri(link.table), settings)
    except NotFoundError:
        return
    if not target.files.height:
        return
    known = pl.concat(frame.to_series().unique() for frame in _tracts(target, [link.references], settings)).unique()
    looked_at, wrong, example = 0, 0, ""
    for frame in _tracts(snapshot, [link.column], settings):
        refers = frame.to_series().drop_nulls()
        refers = refers.filter(~refers.is_in(list(link.none))) if link.none else refers
        bad = refers.filter(~refers.is_in(known.implode()))
        looked_at += len(refers)
        wrong += len(bad)
        if len(bad) and not example:
            example = f"{link.column} = {bad[0]}"
    yield Finding(contract.table, f"{link.column} in {link.table}", looked_at, wrong, example)


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
