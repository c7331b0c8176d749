"""Generated tables: rows that no input brings, because the warehouse itself knows them.

``CoaddPatches`` is one: the sky map says where each patch lies, and the table holds those of every tract that some
table has rows in. It is brought up to date by the ingests that bring the tracts.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import numpy as np
import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import ConflictError
from warehouse.lake import delta, layout, ledger, staged
from warehouse.lake.delta import Snapshot
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root, ensure_table
from warehouse.lake.units import input_id

COADD_PATCHES = "CoaddPatches"


def write_coadd_patches(
    root: Root, tracts: Collection[int], settings: Settings, *, run_id: str | None = None
) -> int | None:
    """Add the patches of `tracts` to ``CoaddPatches``, where it lacks them; return the version that this made.

    Raises
    ------
    ConflictError
        Other writers were first too many times.
    """
    if COADD_PATCHES not in root.contracts.tables or not tracts:
        return None
    for _ in range(settings.commit_attempts):
        base = ensure_table(root, COADD_PATCHES, settings)
        missing = sorted(set(tracts) - _held(base, settings))
        if not missing:
            return None
        try:
            version = _commit(root, base, missing, settings, run_id or uuid.uuid4().hex)
        except ConflictError:
            continue
        ledger.catch_up(root.uri, COADD_PATCHES, settings, newest=version)
        return version
    raise ConflictError(f"{settings.commit_attempts} attempts to commit were overtaken", table=COADD_PATCHES)


def _held(base: Snapshot, settings: Settings) -> set[int]:
    """Return the tracts whose patches are in the table."""
    options = storage.polars_options(base.uri, settings) or None
    uris = [storage.join(base.uri, path) for path in base.files.get_column("path")]
    columns = [
        pl.read_parquet(uri, columns=["lsst_tract"], storage_options=options, hive_partitioning=False) for uri in uris
    ]
    return {int(tract) for frame in columns for tract in frame.to_series().unique()}


def _commit(root: Root, base: Snapshot, tracts: list[int], settings: Settings, run_id: str) -> int:
    contract = root.contract(COADD_PATCHES)
    patches = root.sky.patches_per_tract
    units = [f"skymap={root.skymap} tract={tract}" for tract in tracts]
    ids = [input_id(COADD_PATCHES, unit) for unit in units]
    entries = [
        Entry(
            identity,
            unit,
            f"skymap:{root.skymap}",
            0,
            root.sha1,
            "committed",
            rows_read=patches,
            rows_committed=patches,
            contract=contract.digest,
        )
        for identity, unit in zip(ids, units, strict=True)
    ]
    columns = dict(root.sky.coadd_patches(tracts)) | {"input_id": np.repeat(np.array(ids, np.int64), patches)}
    schema = pl.Schema(contract.file_schema)
    frame = layout.clustered(pl.DataFrame(columns).select(schema.names()).cast(schema), contract)
    file = staged.write(frame, base.uri, settings, schema=contract.file_schema, statistics=contract.statistics)
    commit_id = uuid.uuid4().hex
    metadata = ledger.write_record(base.uri, commit_id, entries, (), settings)
    return delta.commit(base, commit_id, settings, add=[file], metadata={"run_id": run_id, **metadata})
