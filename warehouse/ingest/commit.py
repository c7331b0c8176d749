"""Commit: what was staged becomes visible, what it replaces becomes invisible, in one version of the table.

One attempt on one snapshot. Whoever lost a race plans again (`warehouse.ingest.run`): then the other's inputs are in
the ledger, and only what is still new is committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import QualityError
from warehouse.ingest.job import Job, Staged
from warehouse.ingest.plan import Plan
from warehouse.lake import delta, ledger
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.ledger import Entry
from warehouse.lake.units import without


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: the version it made, and what became of each input."""

    version: int
    entries: tuple[Entry, ...]
    files: int
    bytes: int


def commit(job: Job, plan: Plan, base: Snapshot, records: Sequence[Staged], settings: Settings) -> Committed:
    """Commit all that was staged for `plan` on the snapshot it was planned on.

    Raises
    ------
    QualityError
        The rows staged are not the rows read less the rows quarantined: nothing is committed.
    ConflictError
        Another writer was first.
    """
    removed = [entry.removed() for entry in plan.removes]
    entries = [entry for record in records for entry in record.entries]
    files = [file for record in records for file in record.files]
    _check_totals(job, entries, files)
    # A broken re-delivery leaves the rows that it should have replaced where they are.
    landed = {entry.input_id for entry in entries if entry.status == "committed"}
    gone = {p.input_id: p.tracts for p in plan.work if p.why != "new" and p.input_id in landed}
    gone |= {e.input_id: tuple(e.tracts) for e in plan.removes}
    if job.contract.partitioned:  # what lies in no tract has no rows: no file need be looked into for it
        gone = {identity: tracts for identity, tracts in gone.items() if tracts}
    rewritten, obsolete = without(job.contract, base, gone, settings)
    commit_id = uuid.uuid4().hex
    refused = (pl.read_parquet(storage.read_bytes(uri, settings)) for r in records for uri in r.quarantine)
    metadata = ledger.write_record(job.table_uri, commit_id, [*entries, *removed], refused, settings)
    version = delta.commit(
        base,
        commit_id,
        settings,
        add=[*files, *rewritten],
        remove=obsolete,
        metadata={"run_id": job.run_id, **metadata},
    )
    return Committed(version, (*entries, *removed), len(files), sum(f.size for f in files))


def _check_totals(job: Job, entries: Sequence[Entry], files: Sequence[StagedFile]) -> None:
    read = sum(e.rows_read for e in entries)
    good = sum(e.rows_committed for e in entries)
    refused = sum(e.rows_quarantined for e in entries)
    written = sum(f.rows for f in files)
    if read != good + refused or good != written:
        message = f"totals do not balance: {read} rows read, {good} good, {refused} quarantined, {written} staged"
        raise QualityError(message, kind="totals", table=job.table, uri=job.table_uri)
