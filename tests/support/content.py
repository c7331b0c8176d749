"""What is in a warehouse, read past the code under test: by deltalake and Polars alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from warehouse import Warehouse, storage

PASSING = ("commit_id", "run_id", "committed_at", "seconds")


def live_files(wh: Warehouse, table: str, version: int | None = None) -> dict[str, tuple[int, int]]:
    """Return path -> (tract, patch) of a table's live files, none where there is no table.

    Tract and patch are -1 where a table has no partitions.
    """
    try:
        actions = pl.DataFrame(_open(wh, table, version).get_add_actions(flatten=True))
    except TableNotFoundError:
        return {}
    if not actions.height:
        return {}
    names = ("partition.tract", "partition.patch")
    places = [actions[name] if name in actions.columns else pl.repeat(-1, actions.height, eager=True) for name in names]
    return dict(zip(actions["path"], zip(*places, strict=True), strict=True))


def _open(wh: Warehouse, table: str, version: int | None) -> DeltaTable:
    uri = f"{wh.uri}/{table}"
    return DeltaTable(uri, version, storage_options=storage.object_store_options(uri, wh.settings))


def rows(wh: Warehouse, table: str, version: int | None = None) -> pl.DataFrame:
    """Return all rows of a table sorted by key, its columns by name."""
    schema = pl.DataFrame(pl.Schema(wh.root.contract(table).arrow_schema).to_frame()).schema
    options = storage.polars_options(f"{wh.uri}/{table}", wh.settings) or None
    frames = [pl.DataFrame(schema=schema)]
    for path, (tract, patch) in live_files(wh, table, version).items():
        frame = pl.read_parquet(
            f"{wh.uri}/{table}/{path}", storage_options=options, hive_partitioning=False, glob=False
        )
        if tract >= 0:
            frame = frame.with_columns(pl.lit(tract, pl.Int64).alias("tract"), pl.lit(patch, pl.Int64).alias("patch"))
        frames.append(frame.select(schema.names()).cast(dict(schema)))
    names = sorted(schema.names())
    return pl.concat(frames).select(names).sort([*wh.root.contract(table).key, "input_id"])


def fingerprint(wh: Warehouse, table: str, version: int | None = None) -> str:
    """Return a digest of a table's rows, whatever order and files they lie in."""
    found = rows(wh, table, version)
    lines = hashlib.sha256(repr(found.schema).encode())
    lines.update(found.hash_rows(seed=3).to_numpy().tobytes())
    return lines.hexdigest()


def delivered(wh: Warehouse, table: str, files: Iterable[Path]) -> pl.DataFrame:
    """Return what a table must hold of good files, by key: the columns that they have, as the table spells them."""
    contract = wh.root.contract(table)
    types = pl.DataFrame(schema=pl.Schema(contract.arrow_schema)).schema
    frames = []
    for path in files:
        frame = pl.read_parquet(path, glob=False)
        wanted = {name: types[name] for name in sorted(set(frame.columns) & set(types.names()))}
        frames.append(frame.select(wanted.keys()).fill_nan(None).cast(wanted))
    return pl.concat(frames).sort(contract.key)


def same(wh: Warehouse, table: str, expected: pl.DataFrame) -> bool:
    """Return whether a table holds exactly these rows, compared in the columns that `expected` has."""
    found = rows(wh, table).select(expected.columns).sort(wh.root.contract(table).key)
    return found.equals(expected, null_equal=True)


def ledger(wh: Warehouse, table: str) -> pl.DataFrame:
    """Return a table's ledger without what differs from run to run."""
    return wh.history(table).drop(PASSING)


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Return path -> (size, time in ns) of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def _named_in_the_log(table: Path) -> set[str]:
    """Return the record files that a table's log names."""
    named: set[str] = set()
    for file in (table / "_delta_log").glob("*.json"):
        for line in file.read_text().splitlines():
            ours = json.loads(line).get("commitInfo", {}).get("tractlake", {})
            named |= {ours["record"]} if "record" in ours else set()
            named |= set(ours.get("quarantine", ()))
    return named


def nothing_is_left_behind(wh: Warehouse, table: str) -> bool:
    """Return whether a clean-up leaves live files, the log and the records that it names, and no other file."""
    wh.maintain(hours=0)
    folder = Path(wh.uri) / table
    there = {path for path in files_below(folder) if not path.startswith("_delta_log/")}
    return there == set(live_files(wh, table)) | _named_in_the_log(folder)
