"""Which tracts of a derived table are behind its inputs: what its log recorded, held against the inputs' logs.

A derived table (MatchesTruth where it is computed, ObjectTruth) notes in the metadata of each of its commits the
versions of the tables that it was made from. What came and went between those versions and the newest is found from
the lists of live files alone; no data file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import TRACT
from warehouse.errors import NotFoundError
from warehouse.lake import delta
from warehouse.lake.delta import Snapshot
from warehouse.wording import counted


@dataclass(frozen=True, slots=True)
class Note:
    """What a derived table's newest commit of a kind noted, and the version that it made."""

    version: int
    said: Mapping[str, Any]


def last_note(table: Snapshot, kind: str, settings: Settings) -> Note | None:
    """Return the newest note of a kind in a table's log, None where there is none."""
    for version in range(table.version, -1, -1):
        for entry in delta.commits(table.uri, settings, since=version - 1, until=version):
            if kind in entry.metadata:
                return Note(version, entry.metadata[kind])
    return None


def changed_tracts(
    versions: Mapping[str, int], inputs: Mapping[str, Snapshot], settings: Settings
) -> dict[int, list[str]] | None:
    """Return the tracts whose files of `inputs` are not those of the noted `versions`, each with what changed there.

    None where a noted version cannot be read any more: then nothing is known.
    """
    why: dict[int, list[str]] = {}
    for table, now in inputs.items():
        if versions.get(table) == now.version:
            continue
        try:
            then = delta.snapshot(now.uri, settings, versions[table])
        except (KeyError, NotFoundError):
            return None
        came, gone = _apart(now, then), _apart(then, now)
        for tract in sorted({*came, *gone}):
            counts = [
                f"{counted(n, 'file')} {word}" for word, n in (("new", came.get(tract)), ("gone", gone.get(tract))) if n
            ]
            why.setdefault(tract, []).append(f"{table}: {', '.join(counts)}")
    return why


def _apart(one: Snapshot, other: Snapshot) -> dict[int, int]:
    """Return how many files of each tract are live in `one` and not in `other`."""
    files = one.files.select("path", TRACT).join(other.files.select("path"), on="path", how="anti")
    return {int(tract): int(n) for tract, n in files.group_by(TRACT).agg(pl.len()).iter_rows()}
