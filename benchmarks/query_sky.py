"""The data that queries are put to: one sky as a warehouse and as HATS catalogues, and a warehouse of 10,000 files.

    python benchmarks/query_sky.py make '{"out": "...", "objects": 50000}'

Of Object there are two catalogues: one of all 991 columns, as the warehouse has them, and one of those alone that are
asked for, which is to the advantage of who reads it. That of ForcedSource has but the columns that are asked for.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import remove

from warehouse import Warehouse
from warehouse.lake import delta, staged
from warehouse.lake.root import ensure_table
from warehouse.query.areas import Patch
from warehouse.simulate import simulate

RA, DEC, RADIUS = 62.0, -37.0, 2.0
VISITS, DETECTORS = 150, 21
OBJECT = ["objectId", "coord_ra", "coord_dec", "detect_isPrimary", "g_psfFlux", "i_psfFlux"]
FORCED = ["objectId", "ccdVisitId", "band", "psfFlux", "psfFluxErr"]
PLACE = ["tract", "patch"]
CATALOGUES: dict[str, tuple[str, list[str] | None, int]] = {
    "object": ("Object", None, 50_000),
    "object_narrow": ("Object", [*OBJECT, *PLACE], 50_000),
    "forced": ("ForcedSource", [*FORCED, "coord_ra", "coord_dec", *PLACE], 1_000_000),
}
"""Table, columns (None: all) and rows a partition of each HATS catalogue."""
MANY_FILES, FILES_A_COMMIT, ROWS_A_FILE = 10_000, 100, 100


def make(out: str, objects: int) -> dict[str, Any]:
    """Make the warehouse ``lake/sky``; return rows, files and seconds."""
    inputs = Path(out, "inputs")
    started = time.perf_counter()
    tables = ["Visit", "Object", "ForcedSource"]
    simulate(
        str(inputs),
        ra=RA,
        dec=DEC,
        radius=RADIUS,
        objects=objects,
        visits=VISITS,
        detectors=DETECTORS,
        tables=tables,
    )
    simulated = time.perf_counter()
    wh = Warehouse.create(f"{out}/lake/sky")
    for table in tables:
        report = wh.ingest(table, str(inputs))
        assert report.rows_committed == report.rows_read
    remove(inputs)
    ingested = time.perf_counter()
    known = wh.tables().drop_nulls("rows").filter(pl.col("table").is_in(tables))
    return {
        "rows": dict(known.select("table", "rows").iter_rows()),
        "files": dict(known.select("table", "files").iter_rows()),
        "tracts": wh.sky_info("Object", means=False)["tract"].n_unique(),
        "gigabytes": round(known["bytes"].sum() / 1e9, 2),
        "simulate_s": simulated - started,
        "ingest_s": ingested - simulated,
    }


def export(out: str, catalogue: str, tree: str) -> dict[str, Any]:
    """Write what a catalogue is imported from, a file a patch, with tract and patch in it as a delivery has them."""
    wh = Warehouse.open(f"{out}/lake/sky")
    table, columns, _ = CATALOGUES[catalogue]
    Path(tree).mkdir(parents=True)
    for tract, patch in wh.sky_info(table, means=False).select(PLACE).iter_rows():
        wh.scan(table, Patch(tract, patch), columns=columns).sink_parquet(Path(tree, f"{tract}-{patch}.parq"))
    return {}


def make_many(out: str) -> None:
    """Make a warehouse whose Object has 10,000 files, which came in 100 commits.

    One file of 100 rows stands under all their names: what is in a file that is not opened makes no difference. Their
    extents in the log are those of their patches.
    """
    wh = Warehouse.create(out)
    base = ensure_table(wh.root, "Object", wh.settings)
    contract = wh.root.contract("Object")
    empty = pl.DataFrame(schema=pl.Schema(contract.file_schema))
    rows = empty.clear(ROWS_A_FILE).with_columns(
        objectId=pl.int_range(ROWS_A_FILE, dtype=pl.Int64, eager=True), input_id=pl.lit(1, pl.Int64)
    )
    model = staged.write(
        rows.select(empty.columns),
        wh.root.table_uri("Object"),
        wh.settings,
        schema=contract.file_schema,
        statistics=contract.statistics,
        partition={"tract": 2000, "patch": 0},
    )
    table = Path(wh.root.table_uri("Object"))
    places = [(2000 + number // 49, number % 49) for number in range(MANY_FILES)]
    for first in range(0, MANY_FILES, FILES_A_COMMIT):
        files = [_copied(wh, table, model, *place) for place in places[first : first + FILES_A_COMMIT]]
        delta.commit(base, uuid.uuid4().hex, wh.settings, add=files)
        base = delta.snapshot(base.uri, wh.settings)


def _copied(wh: Warehouse, table: Path, model: delta.StagedFile, tract: int, patch: int) -> delta.StagedFile:
    """Return the one file under another name and place."""
    path = f"tract={tract}/patch={patch}/{uuid.uuid4().hex}.parquet"
    target = table / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(table / model.path)
    ra, dec = wh.skymap.patch_polygon(tract, patch, outer=True).T
    least, most = ({"coord_ra": float(end(ra)), "coord_dec": float(end(dec))} for end in (np.min, np.max))
    return replace(
        model,
        path=path,
        partition={"tract": tract, "patch": patch},
        minimum={**model.minimum, **least},
        maximum={**model.maximum, **most},
    )


if __name__ == "__main__":
    print(json.dumps({"make": make, "export": export}[sys.argv[1]](**json.loads(sys.argv[2]))))
