"""The tables of truth and measurement as HATS catalogues, for LSDB: narrow, and with margins.

    python benchmarks/truth_hats.py '{"warehouse": "...", "out": "..."}'

A catalogue needs a position: that of a match row is its truth's, so that both lie in one partition. The partner of a
truth at a partition's edge lies beyond it: margins of an arcsecond, twice the match's radius, hold it. The catalogues
have no columns but those that are asked for; that they are made is not measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from measure import remove

from warehouse import Warehouse

BANDS = "ugrizy"
TRUTH = ("ra", "dec", "truth_type", "mag_r", "is_pointsource", "redshift", *(f"flux_{b}" for b in BANDS))
OBJECTS = ("objectId", "coord_ra", "coord_dec", "detect_isPrimary", "refExtendedness")
FLUXES = tuple(f"{b}_cModelFlux" for b in BANDS)
MARGIN_ARCSEC = 1.0
# Partitions of about a tract's rows: a cone then opens few, and all cores have something to do.
ROWS_A_PARTITION = 50_000


def narrow(warehouse: str) -> Iterator[tuple[str, int, pl.DataFrame]]:
    """Yield name, tract and rows of each catalogue's inputs."""
    wh = Warehouse.open(warehouse)
    for tract in wh.scan("TruthSummary").select("tract").unique().collect().to_series():
        truth = wh.scan("TruthSummary", int(tract), columns=["id_truth_type", *TRUTH]).collect()
        matches = wh.scan("MatchesTruth", int(tract), columns=["id_truth_type", "match_objectId"]).collect()
        places = truth.select("id_truth_type", "ra", "dec")
        yield "matches", tract, matches.drop_nulls().join(places, on="id_truth_type")
        yield "truth", tract, truth
        yield "objects", tract, wh.scan("Object", int(tract), columns=[*OBJECTS, *FLUXES]).collect()


def make(warehouse: str, out: str) -> dict[str, Any]:
    """Import the three catalogues below `out`; return their rows."""
    from dask.distributed import Client
    from hats_import import CollectionArguments, pipeline_with_client

    inputs = Path(out, "inputs")
    rows: dict[str, int] = {}
    for name, tract, frame in narrow(warehouse):
        path = inputs / name / f"{tract}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
        rows[name] = rows.get(name, 0) + frame.height
    cores = len(os.sched_getaffinity(0))
    with Client(n_workers=cores, threads_per_worker=1, memory_limit=0, dashboard_address=None) as client:
        for name in rows:
            arguments = CollectionArguments(output_path=out, output_artifact_name=name, progress_bar=False)
            arguments.catalog(
                input_path=str(inputs / name),
                file_reader="parquet",
                ra_column="coord_ra" if name == "objects" else "ra",
                dec_column="coord_dec" if name == "objects" else "dec",
                pixel_threshold=ROWS_A_PARTITION,
            )
            arguments.add_margin(margin_threshold=MARGIN_ARCSEC, is_default=True)
            pipeline_with_client(arguments, client)
    remove(inputs)
    return rows


if __name__ == "__main__":
    print(json.dumps(make(**json.loads(sys.argv[1]))))
