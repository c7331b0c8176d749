"""Upkeep: remove what crashes and replacements leave behind, and keep the logs quick to open.

Removes, where older than the retention: staged files that no log names, files that newer versions no longer need,
staging records and pieces, records of commits that never landed. Keeps whatever a pinned release reads
(`warehouse.lake.pins`). Merges the small files of tables that grow by a few rows a run (`warehouse.lake.compact`).
Removes no live row, ever.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.image import IMAGE
from warehouse.errors import NotFoundError, QueryError
from warehouse.lake import compact, delta, ledger, pins
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root

STAGING = "_staging"
# Images are registered night by night.
GROWING = (IMAGE, "ObsCore")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was removed from one table (or would be, in a dry run), and how many small files have become fewer."""

    table: str
    data_files: int
    staging_files: int
    version: int
    compacted: int = 0


def maintain(
    root: Root, settings: Settings, *, tables: tuple[str, ...] = (), hours: float | None = None, dry_run: bool = False
) -> list[Upkeep]:
    """Clean up tables (all, where none is named); return what was removed.

    Parameters
    ----------
    hours
        Age above which something may go; the settings' ``retention_hours`` where not given. It must exceed the
        longest run: a younger file that no log names may be another writer's work.

    Raises
    ------
    NotFoundError
        No such table, with the near misses; or a pin names a version that is not there.
    QueryError
        `hours` is negative, or no finite number.
    """
    hours = settings.retention_hours if hours is None else hours
    if not 0 <= hours < math.inf:
        raise QueryError(f"expected hours of 0 or more, found {hours:g}", kind="hours", uri=root.uri)
    for table in set(tables) - {ledger.LEDGER, ledger.QUARANTINE}:
        root.contract(table)
    done = []
    for table in tables or (*root.contracts.every, ledger.LEDGER, ledger.QUARANTINE):
        uri = root.table_uri(table)
        if not delta.exists(uri, settings):
            continue
        stale = _old(uri, STAGING, hours, settings)
        if table in root.contracts.every:
            ledger.catch_up(root.uri, table, settings)
            stale += _unnamed(root, table, hours, settings)
        form = _growing(root, table)
        compacted = 0 if form is None else compact.compact(uri, form, settings, dry_run=dry_run)
        base = delta.snapshot(uri, settings)
        removed = delta.vacuum(base, hours, keep_versions=_pinned(root, base, table, settings), dry_run=dry_run)
        if not dry_run:
            storage.delete(stale, settings)
            delta.checkpoint(delta.snapshot(uri, settings))
        done.append(Upkeep(table, len(removed), len(stale), delta.snapshot(uri, settings).version, compacted))
    return done


def _pinned(root: Root, base: Snapshot, table: str, settings: Settings) -> list[int]:
    """Return the versions that pins need (NotFoundError for one that is not there)."""
    found = pins.versions(root, table, settings)
    if found and found[-1] > base.version:
        names = [pin.name for pin in pins.pins(root, settings) if pin.versions.get(table) == found[-1]]
        message = f"version {found[-1]}, which {', '.join(names)} pins, is not there; the newest is {base.version}"
        raise NotFoundError(message, kind="version", table=table, uri=root.uri)
    return found


def _growing(root: Root, table: str) -> compact.Form | None:
    """Return the form of the files of a table that grows by a few rows a run, None for others."""
    if table in {ledger.LEDGER, ledger.QUARANTINE}:
        return compact.of_ledger(table)
    return compact.of_contract(root.contract(table)) if table in GROWING else None


def _old(table_uri: str, folder: str, hours: float, settings: Settings) -> list[str]:
    """Return the files of one of the table's own folders that are older than `hours`."""
    limit = time.time() - 3600 * hours
    return [entry.uri for entry in storage.listing(storage.join(table_uri, folder), settings) if entry.modified < limit]


def _unnamed(root: Root, table: str, hours: float, settings: Settings) -> list[str]:
    """Return old records of commits that never landed: a run died between writing them and its commit."""
    uri = root.table_uri(table)
    old = _old(uri, ledger.COMMITS, hours, settings)
    recorded = set(ledger.read(root.uri, ledger.LEDGER, table, settings).get_column("commit_id"))
    suspect = [uri for uri in old if _commit_id(uri) not in recorded]
    if not suspect:
        return []
    # The ledger is a view; what the log names, it must be possible to record again.
    named = {entry.metadata.get("commit_id") for entry in delta.commits(uri, settings)}
    return [uri for uri in suspect if _commit_id(uri) not in named]


def _commit_id(record_uri: str) -> str:
    return record_uri.rpartition("/")[2].partition(".")[0]
