"""Upkeep: remove what crashes and replacements leave behind, and keep the logs quick to open.

Removes, where older than the retention: staged files that no log names, files that newer versions no longer need,
staging records and pieces. Keeps whatever a pinned release reads (`warehouse.lake.pins`). Removes no live row, ever.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import NotFoundError
from warehouse.lake import delta, ledger, pins
from warehouse.lake.root import Root

STAGING = "_staging"


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was removed from one table (or would be, in a dry run)."""

    table: str
    data_files: int
    staging_files: int
    version: int


def maintain(
    root: Root, settings: Settings, *, tables: tuple[str, ...] = (), hours: float | None = None, dry_run: bool = False
) -> list[Upkeep]:
    """Clean up tables (all, where none is named); return what was removed.

    Parameters
    ----------
    hours
        Age above which something may go; the settings' ``retention_hours`` where not given. It must exceed the
        longest run: a younger file that no log names may be another writer's work.
    """
    hours = settings.retention_hours if hours is None else hours
    done = []
    for table in tables or (*root.contracts.order, ledger.LEDGER, ledger.QUARANTINE):
        uri = root.table_uri(table)
        try:
            base = delta.snapshot(uri, settings)
        except NotFoundError:
            continue
        if table in root.contracts.tables:
            ledger.catch_up(root.uri, table, settings)
        keep = pins.versions(root, table, settings)
        removed = delta.vacuum(base, hours, keep_versions=keep, dry_run=dry_run)
        stale = _stale(uri, hours, settings)
        if not dry_run:
            storage.delete(stale, settings)
            delta.checkpoint(delta.snapshot(uri, settings))
        done.append(Upkeep(table, len(removed), len(stale), delta.snapshot(uri, settings).version))
    return done


def _stale(table_uri: str, hours: float, settings: Settings) -> list[str]:
    """Return the staging files that are older than `hours`."""
    limit = time.time() - 3600 * hours
    folder = storage.join(table_uri, STAGING)
    return [entry.uri for entry in storage.listing(folder, settings) if entry.modified < limit]
