"""A warehouse of truth and objects to join: as many tracts as wanted, patches as full as those of DP0.2.

    python benchmarks/truth_sky.py '{"out": "...", "tracts": 20}'

Rows are made in arrays and committed straight through the lake: what an ingest does is measured elsewhere. Every column
of the contracts is there; those that nobody asks for are null.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse import Warehouse
from warehouse.lake import delta, layout, staged
from warehouse.lake.root import ensure_table

PATCHES = (23, 24, 30, 31)  # about the middle of a tract
TRUTH_A_PATCH = 25_000
FIRST_TRACT, ROW = 3820, 20
BANDS = "ugrizy"


def make(out: str, tracts: int = 20, truth: int = TRUTH_A_PATCH, seed: int = 1) -> dict[str, Any]:
    """Make the warehouse, with its matches computed; return its rows by table."""
    wh = Warehouse.create(out)
    for table in ("TruthSummary", "Object"):
        base = ensure_table(wh.root, table, wh.settings)
        files = []
        for tract in range(FIRST_TRACT, FIRST_TRACT + tracts):
            for patch in PATCHES:
                rows = patch_of(wh, tract, patch, truth, seed)[table]
                files.append(write(wh, table, tract, patch, rows))
        delta.commit(base, uuid.uuid4().hex, wh.settings, add=files)
    wh.match()
    return dict(wh.tables().drop_nulls("rows").select("table", "rows").iter_rows())


def replace_tract(wh: Warehouse, tract: int, seed: int, truth: int = TRUTH_A_PATCH) -> None:
    """Replace the objects of a tract by others, as a delivery of it would."""
    base = ensure_table(wh.root, "Object", wh.settings)
    old = base.files.filter(pl.col("tract") == tract)["path"].to_list()
    files = [write(wh, "Object", tract, p, patch_of(wh, tract, p, truth, seed, noise=seed)["Object"]) for p in PATCHES]
    delta.commit(base, uuid.uuid4().hex, wh.settings, add=files, remove=old)


def write(wh: Warehouse, table: str, tract: int, patch: int, rows: Mapping[str, Any]) -> delta.StagedFile:
    contract = wh.root.contract(table)
    schema = pl.Schema(contract.file_schema)
    height = len(next(iter(rows.values())))
    frame = pl.DataFrame({"input_id": np.full(height, tract, np.int64), **rows})
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    frame = layout.clustered(
        frame.with_columns(missing).with_columns(tract=pl.lit(tract, pl.Int64), patch=pl.lit(patch, pl.Int64)), contract
    )
    return staged.write(
        frame.select(schema.names()).cast(dict(schema)),
        wh.root.table_uri(table),
        wh.settings,
        schema=contract.file_schema,
        statistics=contract.statistics,
        partition={"tract": tract, "patch": patch},
    )


def patch_of(
    wh: Warehouse, tract: int, patch: int, truth: int, seed: int, noise: int = 0
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return truth and objects of a patch; half of the truth has an object, one object in fifty has no truth."""
    r = np.random.default_rng([seed if noise == 0 else 1, tract, patch])
    size = 4000
    x, y = (
        np.asarray(patch % 7 * size + r.uniform(1, size - 1, truth)),
        patch // 7 * size + r.uniform(1, size - 1, truth),
    )
    ra, dec = wh.skymap.to_sky(tract, x, y)
    magnitude = 27.5 - r.exponential(3.0, truth)  # of the summed flux: some are too faint to be candidates
    flux = 10 ** ((31.4 - magnitude) / 2.5)[:, None] / 6 * 10 ** r.normal(0, 0.2, (truth, 6))
    number = np.arange(truth) + (tract * 49 + patch) * 1_000_000
    names = number.astype(str).astype(object)
    is_star = r.random(truth) < 0.1
    truths = {
        "id": names,
        "id_truth_type": names + np.where(is_star, "_2", "_1").astype(object),
        "truth_type": np.where(is_star, 2, 1),
        "ra": ra,
        "dec": dec,
        "redshift": r.gamma(2.0, 0.4, truth),
        "is_pointsource": is_star.astype(np.int32),
        "mag_r": magnitude + 2.0,
        **{f"flux_{band}": flux[:, k] for k, band in enumerate(BANDS)},
    }
    n = np.random.default_rng([noise, tract, patch, 1])
    host = np.sort(r.permutation(truth)[: truth // 2])
    alone = len(host) // 50
    object_x = np.concatenate([x[host] + n.normal(0, 0.2, len(host)), patch % 7 * size + r.uniform(1, size - 1, alone)])
    object_y = np.concatenate(
        [y[host] + n.normal(0, 0.2, len(host)), patch // 7 * size + r.uniform(1, size - 1, alone)]
    )
    object_ra, object_dec = wh.skymap.to_sky(tract, object_x, object_y)
    height = len(object_x)
    fluxes = np.concatenate([flux[host], np.full((alone, 6), 60.0)]) + n.normal(0, 12, (height, 6))
    yes, no = np.ones(height, bool), np.zeros(height, bool)
    objects = {
        "objectId": ((tract * 49 + patch) << 43) + np.arange(height) + 1,
        "coord_ra": object_ra,
        "coord_dec": object_dec,
        "x": object_x,
        "y": object_y,
        "xErr": np.full(height, 0.2, np.float32),
        "yErr": np.full(height, 0.2, np.float32),
        "detect_isPrimary": yes,
        "detect_isPatchInner": yes,
        "detect_isTractInner": yes,
        "detect_isIsolated": n.random(height) < 0.5,
        "merge_peak_sky": no,
        "refExtendedness": np.where(n.random(height) < 0.9, 1.0, 0.0),
        **{f"{band}_cModelFlux": fluxes[:, k] for k, band in enumerate(BANDS)},
        **{f"{band}_cModelFluxErr": n.uniform(8, 16, height) for band in BANDS},
        **{f"{band}_psfFlux": fluxes[:, k] * 0.9 + n.normal(0, 3, height) for k, band in enumerate(BANDS)},
        **{f"{band}_psfFluxErr": n.uniform(5, 9, height) for band in BANDS},
        **{f"{band}_extendedness": np.where(n.random(height) < 0.9, 1.0, 0.0) for band in BANDS},
        **{f"{band}_cModel_flag": n.random(height) < 0.02 for band in BANDS},
        **{f"{band}_psfFlux_flag": n.random(height) < 0.02 for band in BANDS},
    }
    return {"TruthSummary": truths, "Object": objects}


if __name__ == "__main__":
    print(json.dumps(make(**json.loads(sys.argv[1]))))
