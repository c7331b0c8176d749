"""Commit: what was staged becomes visible, what it replaces becomes invisible, in one version of the table.

One attempt on one snapshot. Whoever lost a race plans again (`warehouse.ingest.run`): then the other's inputs are in
the ledger, and only what is still new is committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, TRACT, Contract
from warehouse.errors import QualityError
from warehouse.ingest.job import Job, Staged
from warehouse.ingest.plan import Plan
from warehouse.lake import delta, layout, ledger, staged
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.ledger import Entry


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
    removed = [_removed(entry) for entry in plan.removes]
    entries = [entry for record in records for entry in record.entries]
    files = [file for record in records for file in record.files]
    _check_totals(job, entries, files)
    # A broken re-delivery leaves the rows that it should have replaced where they are.
    landed = {entry.input_id for entry in entries if entry.status == "committed"}
    gone = {p.input_id: p.tracts for p in plan.work if p.why != "new" and p.input_id in landed}
    gone |= {e.input_id: tuple(e.tracts) for e in plan.removes}
    rewritten, obsolete = replace_inputs(job.contract, base, gone, settings)
    commit_id = uuid.uuid4().hex
    refused = [pl.read_parquet(storage.read_bytes(r.quarantine, settings)) for r in records if r.quarantine]
    metadata = ledger.write_record(
        job.table_uri, commit_id, [*entries, *removed], pl.concat(refused) if refused else None, settings
    )
    version = delta.commit(
        base,
        commit_id,
        settings,
        add=[*files, *rewritten],
        remove=obsolete,
        metadata={"run_id": job.run_id, **metadata},
    )
    return Committed(version, (*entries, *removed), len(files), sum(f.size for f in files))


def _removed(entry: Entry) -> Entry:
    return Entry(
        entry.input_id,
        entry.unit,
        entry.uri,
        entry.size,
        entry.stamp,
        "removed",
        dataset_type=entry.dataset_type,
        data_id=entry.data_id,
        run=entry.run,
    )


def _check_totals(job: Job, entries: Sequence[Entry], files: Sequence[StagedFile]) -> None:
    read = sum(e.rows_read for e in entries)
    good = sum(e.rows_committed for e in entries)
    refused = sum(e.rows_quarantined for e in entries)
    written = sum(f.rows for f in files)
    if read != good + refused or good != written:
        message = f"totals do not balance: {read} rows read, {good} good, {refused} quarantined, {written} staged"
        raise QualityError(message, kind="totals", table=job.table, uri=job.table_uri)


def replace_inputs(
    contract: Contract, base: Snapshot, gone: Mapping[int, Sequence[int]], settings: Settings
) -> tuple[list[StagedFile], list[str]]:
    """Stage, for each live file that holds rows of the inputs `gone` (with their tracts), a file without them.

    Returns the new files and the paths of those they replace. A file with nothing else in it is only removed.
    Files are found by their tract, by their statistics of ``input_id``, and then by the column itself.
    """
    if not gone:
        return [], []
    rewritten, obsolete = [], []
    for row in _candidates(base, gone).iter_rows(named=True):
        uri = storage.join(base.uri, row["path"])
        options = storage.polars_options(uri, settings) or None
        ids = pl.read_parquet(uri, columns=[INPUT_ID], storage_options=options, hive_partitioning=False)
        keep = ids.select(~pl.col(INPUT_ID).is_in(list(gone))).to_series()
        if keep.all():
            continue
        obsolete.append(row["path"])
        if keep.any():
            frame = pl.read_parquet(uri, storage_options=options, hive_partitioning=False).filter(keep)
            rewritten.append(
                staged.write(
                    frame.select(contract.file_schema.names),
                    base.uri,
                    settings,
                    schema=contract.file_schema,
                    statistics=contract.statistics,
                    partition=layout.partition_values((row[TRACT], row["patch"]) if contract.partitioned else ()),
                )
            )
    return rewritten, obsolete


def _candidates(base: Snapshot, gone: Mapping[int, Sequence[int]]) -> pl.DataFrame:
    """Return the live files that may hold rows of `gone`."""
    files = base.files
    tracts = {tract for lies in gone.values() for tract in lies}
    if TRACT in files.columns and tracts:
        files = files.filter(pl.col(TRACT).is_in(tracts))
    low, high = f"min.{INPUT_ID}", f"max.{INPUT_ID}"
    if low not in files.columns or not files.height:
        return files
    ids = np.array([*sorted(gone), np.iinfo(np.int64).max])
    # The first id not below a file's smallest must not be above its largest.
    first = ids[np.searchsorted(ids[:-1], files.get_column(low).fill_null(0).to_numpy())]
    return files.filter(first <= files.get_column(high).fill_null(first.max()).to_numpy())
