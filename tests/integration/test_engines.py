"""Other engines read a warehouse's files, and give the same rows and the same answers to the same questions."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, QueryBuilder

from support.small_warehouse import SETTINGS, simulated
from warehouse import Cone, Warehouse

CONE = Cone(62.0, -37.0, 0.08)
COLUMNS = ("i_cModelFlux", "u_cModelFlux", "i_extendedness")


@pytest.fixture(scope="module")
def wh(tmp_path_factory):
    """Objects of which some have NaN and infinity where they were not measured, as files of old have them."""
    folder = tmp_path_factory.mktemp("engines")
    for number, path in enumerate(simulated().files("objectTable")):
        raw = pd.read_parquet(path)
        raw.iloc[number::5, raw.columns.get_loc("u_cModelFlux")] = float("nan")
        raw.iloc[number::7, raw.columns.get_loc("i_cModelFlux")] = float("inf")
        to = folder / path.relative_to(simulated().tree)
        to.parent.mkdir(parents=True, exist_ok=True)
        raw.to_parquet(to)
    made = Warehouse.create(str(folder / "warehouse"), settings=SETTINGS)
    made.ingest("Object", str(folder))
    return made


def by_polars(wh, region):
    frame = wh.scan("Object", region).collect()
    answers = {
        "rows": frame.height,
        "ids": sorted(frame["objectId"]),
        "places": sorted(frame.select("tract", "patch").rows()),
    }
    for name in COLUMNS:
        values = frame[name]
        answers[name] = (values.null_count(), (values > 100).sum(), (values <= 100).sum(), values.sum())
    return answers


def by_duckdb(wh, region):
    files = wh.files("Object", region)
    where = "" if region is None else within(region)
    # The one-liner of the documentation, in the middle.
    rows = duckdb.sql(f"SELECT * FROM read_parquet({files}, hive_partitioning=true) {where}")  # noqa: S608
    answers = {
        "rows": rows.count("*").fetchall()[0][0],
        "ids": sorted(r[0] for r in rows.select("objectId").fetchall()),
        "places": sorted(rows.select("tract", "patch").fetchall()),
    }
    for name in COLUMNS:
        question = (
            f"count(*) - count({name}), count(*) FILTER ({name} > 100), count(*) FILTER ({name} <= 100), sum({name})"
        )
        answers[name] = rows.aggregate(question).fetchall()[0]
    return answers


def within(region):
    """The cone in SQL that knows nothing of ours; the spherical law of cosines will do at this size."""
    ra, dec = f"radians({region.ra})", f"radians({region.dec})"
    cosine = (
        f"sin(radians(coord_dec)) * sin({dec}) + cos(radians(coord_dec)) * cos({dec}) * cos(radians(coord_ra) - {ra})"
    )
    return f"WHERE degrees(acos(least(1, {cosine}))) <= {region.radius}"


def by_pyarrow(wh, region):
    table = ds.dataset(wh.files("Object", region), partitioning="hive").to_table()
    if region is not None:
        table = table.filter(pa.array(region.contains(table["coord_ra"].to_numpy(), table["coord_dec"].to_numpy())))
    answers = {
        "rows": table.num_rows,
        "ids": sorted(table["objectId"].to_pylist()),
        "places": sorted(zip(table["tract"].to_pylist(), table["patch"].to_pylist(), strict=True)),
    }
    for name in COLUMNS:
        values = table[name]
        above, below = (pc.sum(compare(values, 100)).as_py() for compare in (pc.greater, pc.less_equal))
        answers[name] = (values.null_count, above, below, pc.sum(values).as_py())
    return answers


def by_pandas(wh, region):
    frame = pd.read_parquet(wh.files("Object", region), partitioning="hive")
    if region is not None:
        frame = frame[region.contains(frame["coord_ra"].to_numpy(), frame["coord_dec"].to_numpy())]
    places = zip(frame["tract"].astype(int), frame["patch"].astype(int), strict=True)
    answers = {"rows": len(frame), "ids": sorted(frame["objectId"]), "places": sorted(places)}
    for name in COLUMNS:
        values = frame[name]
        answers[name] = (values.isna().sum(), (values > 100).sum(), (values <= 100).sum(), values.sum())
    return answers


def by_delta(wh, region):
    """Polars' own reader of Delta tables, which finds the files by itself."""
    frame = pl.scan_delta(f"{wh.uri}/Object").collect()
    if region is not None:
        frame = frame.filter(region.contains(frame["coord_ra"].to_numpy(), frame["coord_dec"].to_numpy()))
    answers = {
        "rows": frame.height,
        "ids": sorted(frame["objectId"]),
        "places": sorted(frame.select("tract", "patch").rows()),
    }
    for name in COLUMNS:
        counted = frame.select(
            pl.col(name).null_count().alias("n"),
            (pl.col(name) > 100).sum().alias("a"),
            (pl.col(name) <= 100).sum().alias("b"),
            pl.col(name).sum().alias("s"),
        )
        answers[name] = counted.row(0)
    return answers


def by_datafusion(wh, region):
    """DataFusion, which finds the files by itself, too."""
    tables = QueryBuilder().register("objects", DeltaTable(f"{wh.uri}/Object"))
    where = "" if region is None else within(region)

    def ask(columns):
        rows = tables.execute(f"SELECT {columns} FROM objects {where}").read_all()  # noqa: S608
        return [tuple(row.values()) for row in pa.table(rows).to_pylist()]

    answers = {
        "rows": ask("count(*) AS n")[0][0],
        "ids": sorted(number for (number,) in ask('"objectId"')),
        "places": sorted(ask("tract, patch")),
    }
    for name in COLUMNS:
        nulls, above, below = (f"sum(CASE WHEN {term} THEN 1 ELSE 0 END)" for term in terms(name))
        answers[name] = ask(f"{nulls} AS n, {above} AS a, {below} AS b, sum({name}) AS s")[0]
    return answers


def terms(name):
    return f"{name} IS NULL", f"{name} > 100", f"{name} <= 100"


@pytest.mark.parametrize("region", [None, CONE], ids=["all", "cone"])
@pytest.mark.parametrize("engine", [by_duckdb, by_pyarrow, by_pandas, by_delta, by_datafusion])
def test_every_engine_gives_the_same_rows_and_answers(wh, engine, region):
    expected, found = by_polars(wh, region), engine(wh, region)
    assert expected["rows"] > 50
    assert found["ids"] == expected["ids"]
    assert found["places"] == expected["places"]
    for name in COLUMNS:
        assert tuple(found[name][:3]) == expected[name][:3], name
        assert found[name][3] == pytest.approx(expected[name][3], rel=1e-9), name


def test_the_values_that_were_none_are_null_and_neither_above_nor_below(wh):
    nulls, above, below, _ = by_polars(wh, None)["u_cModelFlux"]
    rows = wh.scan("Object").select(pl.len()).collect().item()
    assert nulls >= rows // 5
    assert nulls + above + below == rows
    assert all(Path(path).exists() for path in wh.files("Object"))
