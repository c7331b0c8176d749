"""What joins truth, matches and objects, each in a process of its own: ours and the peers, from the same Parquet files.

    python benchmarks/truth_contenders.py cone_duckdb '{"warehouse": "..."}'

Imports are done before the clock runs, for everybody. A question is put several times in one session, as people do; the
first answer is told apart from the median of those after it. Files are opened anew for each answer.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clock import Said, clock

LIMITS = {"g": (17.0, 26.0), "r": (17.0, 26.0), "i": (17.0, 26.0)}
BANDS = "ugrizy"
OVERLAP = "overlapping_columns"


def asked(question: Callable[[], int], times: int = 7) -> Said:
    """Put a question several times; return the median of all answers but the first, and that one."""
    taken = []
    for _ in range(times + 1):
        with clock() as said:
            rows = question()
        taken.append(said)
    middle = sorted(taken[1:], key=lambda one: one["seconds"])[times // 2]
    return middle | {"rows": rows, "first_s": taken[0]["seconds"]}


def live(warehouse: str, table: str) -> list[str]:
    """Return a table's live files: the peers know no log, and a folder holds replaced files, too."""
    from warehouse import Warehouse

    return Warehouse.open(warehouse).files(table)


def cone_ours(warehouse: str, cone: list[float]) -> Said:
    from warehouse import Cone, Warehouse

    wh = Warehouse.open(warehouse)
    return asked(lambda: wh.photoz(Cone(*cone)).collect().height)


def cone_polars(warehouse: str, cone: list[float]) -> Said:
    """Join in memory: the columns of all three tables are read, then cut and joined."""
    import polars as pl

    from warehouse import Cone
    from warehouse.photometry import abmag

    files = {table: live(warehouse, table) for table in ("MatchesTruth", "TruthSummary", "Object")}

    def scan(table: str) -> pl.LazyFrame:
        return pl.scan_parquet(files[table], hive_partitioning=False)

    region = Cone(*cone)

    def question() -> int:
        mt = scan("MatchesTruth").select("id_truth_type", "match_objectId").drop_nulls()
        names = ["ra", "dec", "truth_type", "mag_r", "is_pointsource", "redshift", *(f"flux_{b}" for b in BANDS)]
        ts = scan("TruthSummary").select("id_truth_type", *names)
        ts = ts.filter((pl.col("truth_type") == 1) & region.expr("ra", "dec"))
        flux = {b: pl.col(f"{b}_cModelFlux") for b in BANDS}
        obj = (
            scan("Object")
            .filter(pl.col("detect_isPrimary") & pl.col("refExtendedness").is_not_null())
            .select(
                "objectId",
                "coord_ra",
                "coord_dec",
                *flux.values(),
                *(abmag(f).alias(f"{b}_cModelMag") for b, f in flux.items()),
            )
        )
        for band, (bright, faint) in LIMITS.items():
            obj = obj.filter(pl.col(f"{band}_cModelMag").is_between(bright, faint, closed="none"))
        joined = mt.join(ts, on="id_truth_type").join(obj, left_on="match_objectId", right_on="objectId")
        return joined.collect().height

    return asked(question)


def cone_duckdb(warehouse: str, cone: list[float]) -> Said:
    import duckdb

    ra, dec, radius = cone
    magnitude = {b: f"CASE WHEN o.{b}_cModelFlux > 0 THEN 31.4 - 2.5 * log10(o.{b}_cModelFlux) END" for b in BANDS}
    cuts = " AND ".join(f"{magnitude[b]} > {low} AND {magnitude[b]} < {high}" for b, (low, high) in LIMITS.items())
    separation = (
        f"2 * asin(sqrt(pow(sin(radians(ts.dec - ({dec})) / 2), 2) + cos(radians({dec})) * cos(radians(ts.dec)) "
        f"* pow(sin(radians(ts.ra - {ra}) / 2), 2)))"
    )
    query = f"""
        SELECT mt.id_truth_type, mt.match_objectId, ts.ra, ts.dec, ts.truth_type, ts.mag_r, ts.is_pointsource,
            ts.redshift, {", ".join(f"ts.flux_{b}" for b in BANDS)}, o.coord_ra, o.coord_dec,
            {", ".join(f"o.{b}_cModelFlux" for b in BANDS)},
            {", ".join(f"{m} AS {b}_cModelMag" for b, m in magnitude.items())}
        FROM read_parquet({live(warehouse, "MatchesTruth")}) mt
        JOIN read_parquet({live(warehouse, "TruthSummary")}) ts ON mt.id_truth_type = ts.id_truth_type
        JOIN read_parquet({live(warehouse, "Object")}) o ON mt.match_objectId = o.objectId
        WHERE ts.truth_type = 1 AND o.detect_isPrimary AND o.refExtendedness IS NOT NULL AND {cuts}
            AND ts.dec BETWEEN {dec - radius} AND {dec + radius} AND degrees({separation}) <= {radius}
    """  # noqa: S608 - our own words
    connection = duckdb.connect()
    return asked(lambda: connection.sql(query).to_arrow_table().num_rows)


def cone_lsdb(hats: str, cone: list[float]) -> Said:
    """Join the catalogues by their ids, partition by partition, margins included, inside a cone; they are open already.

    LSDB joins what lies in one partition or its margin: enough here, where a match reaches half an arcsecond.
    """
    import lsdb
    import numpy as np

    truth, matches, objects = (lsdb.open_catalog(f"{hats}/{name}") for name in ("truth", "matches", "objects"))
    ra, dec, radius = cone

    def cut(rows: Any) -> Any:  # noqa: ANN401 - a frame of pandas
        with np.errstate(all="ignore"):
            mags = {b: 31.4 - 2.5 * np.log10(rows[f"{b}_cModelFlux"].where(rows[f"{b}_cModelFlux"] > 0)) for b in BANDS}
        rows = rows.assign(**{f"{b}_cModelMag": mags[b] for b in BANDS})
        keep = rows["detect_isPrimary"] & rows["refExtendedness"].notna()
        for band, (bright, faint) in LIMITS.items():
            keep &= (rows[f"{band}_cModelMag"] > bright) & (rows[f"{band}_cModelMag"] < faint)
        return rows[keep.fillna(value=False)]

    def question() -> int:
        galaxies = truth.cone_search(ra, dec, radius * 3600).query("truth_type == 1")
        known = galaxies.join(
            matches, left_on="id_truth_type", right_on="id_truth_type", suffixes=("", "_mt"), suffix_method=OVERLAP
        )
        joined = known.join(
            objects, left_on="match_objectId", right_on="objectId", suffixes=("", "_obj"), suffix_method=OVERLAP
        )
        return len(joined.map_partitions(cut).compute())

    return asked(question)


def whole_ours(warehouse: str, memory: str | None = None) -> Said:
    """Make ObjectTruth anew, with all that belongs to it: sorted files, checked footers, one commit."""
    from warehouse import Warehouse
    from warehouse.config import Settings

    shutil.rmtree(Path(warehouse) / "ObjectTruth", ignore_errors=True)
    with clock() as said:
        done = Warehouse.open(warehouse, settings=Settings(**({"memory": memory} if memory else {}))).materialise()
    assert not done.failed
    return said | {"rows": done.tally.rows, "files": done.files, "gigabytes": round(done.bytes_written / 1e9, 3)}


def refresh_ours(warehouse: str, tract: int, seed: int) -> Said:
    """Replace the objects of a tract, which is off the clock, and bring ObjectTruth up to date."""
    from truth_sky import replace_tract

    from warehouse import Warehouse

    wh = Warehouse.open(warehouse)
    replace_tract(wh, tract, seed)
    with clock() as said:
        done = wh.materialise()
    assert list(done.tracts) == [tract]
    return said | {"files": done.files}


def nothing_ours(warehouse: str) -> Said:
    from warehouse import Warehouse

    with clock() as said:
        done = Warehouse.open(warehouse).materialise()
    assert done.nothing_new
    return said


def whole_duckdb(warehouse: str, out: str) -> Said:
    """Join the same rows and columns, and write them by tract and patch; unsorted, and with no commit."""
    import duckdb

    from warehouse.contracts.derived import DEFAULT_CHOICE

    shutil.rmtree(out, ignore_errors=True)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f'o."{name}" AS "obj_{name}"' for name in DEFAULT_CHOICE.taken())
    magnitudes = ", ".join(
        f'CASE WHEN o."{flux}" > 0 THEN 31.4 - 2.5 * log10(o."{flux}") END AS "obj_{name}"'
        for name, flux in DEFAULT_CHOICE.derived().items()
    )
    separation = (
        "3600 * degrees(2 * asin(sqrt(pow(sin(radians(o.coord_dec - k.dec) / 2), 2) + cos(radians(k.dec)) "
        "* cos(radians(o.coord_dec)) * pow(sin(radians(o.coord_ra - k.ra) / 2), 2))))"
    )
    query = f"""
        COPY (
            WITH known AS (
                SELECT mt.* EXCLUDE (tract, patch, input_id), ts.* EXCLUDE (id_truth_type, id, truth_type, input_id)
                FROM read_parquet({live(warehouse, "MatchesTruth")}, hive_partitioning = true) mt
                JOIN read_parquet({live(warehouse, "TruthSummary")}, hive_partitioning = true) ts
                    ON mt.id_truth_type = ts.id_truth_type
                WHERE mt.match_candidate OR mt.match_objectId IS NOT NULL)
            SELECT CASE WHEN k.id_truth_type IS NULL THEN 'unmatched_object' WHEN o.objectId IS NULL THEN 'missed'
                    ELSE 'matched' END AS match_status,
                {separation} AS separation_arcsec, coalesce(k.ra, o.coord_ra) AS ra_deg,
                coalesce(k.dec, o.coord_dec) AS dec_deg, k.* EXCLUDE (tract, patch), k.tract AS ts_tract,
                k.patch AS ts_patch, {columns}, {magnitudes},
                coalesce(o.tract, k.tract) AS tract, coalesce(o.patch, k.patch) AS patch
            FROM known k
            FULL OUTER JOIN read_parquet({live(warehouse, "Object")}, hive_partitioning = true) o
                ON k.match_objectId = o.objectId
            WHERE k.id_truth_type IS NOT NULL OR (o.detect_isPrimary AND NOT o.merge_peak_sky)
        ) TO '{out}' (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (tract, patch))
    """  # noqa: S608 - our own words
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    with clock() as said:
        written = connection.execute(query).fetchall()[0][0]
    files = list(Path(out).rglob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    return said | {"rows": written, "files": len(files), "gigabytes": round(size / 1e9, 3)}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
