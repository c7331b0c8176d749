"""Light curves are the forced rows of their objects joined with the visits, read from their own patches only."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.small_warehouse import SETTINGS, simulated
from warehouse import Warehouse
from warehouse.errors import NotFoundError, QueryError

TABLES = {"ForcedSource": "objectId", "ForcedSourceOnDiaObject": "diaObjectId", "DiaSource": "diaObjectId"}


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


def by_hand(wh, table, ids):
    """The same rows by a plain join over the whole tables."""
    column = TABLES[table]
    rows = wh.scan(table).collect().filter(pl.col(column).is_in(ids)).with_columns(visit=pl.col("ccdVisitId") // 1000)
    visits = wh.scan("Visit", columns=["visit", "expMidptMJD", "band"]).collect()
    return rows.join(visits, on="visit", how="left", suffix="_of_visit").sort(column, "expMidptMJD")


def ask(wh, table, ids, **options):
    kind = "object_id" if table == "ForcedSource" else "dia_object_id"
    return wh.lightcurve(**{kind: ids}, detections=table == "DiaSource", **options)


def redeliver_visits(wh, folder, change):
    """Ingest the visits' file anew, with a change made to it."""
    [path] = simulated().files("visitTable")
    again = folder / path.relative_to(simulated().tree)
    again.parent.mkdir(parents=True)
    change(pd.read_parquet(path)).to_parquet(again)
    Warehouse.open(wh.uri, settings=SETTINGS).ingest("Visit", str(folder))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("count", [1, 7, None])
def test_light_curves_are_the_join_with_the_visits(wh, table, count):
    every = wh.scan(table, columns=[TABLES[table]]).collect().to_series().unique().sort()
    ids = every.sample(min(count or len(every), len(every)), seed=4).to_list()
    found, expected = ask(wh, table, ids), by_hand(wh, table, ids)
    key = wh.root.contract(table).key[0]
    assert found.columns[:4] == [TABLES[table], "visit", "expMidptMJD", "band"]
    assert set(found.columns) >= set(wh.root.contract(table).by_name)
    assert "input_id" not in found.columns
    assert sorted(found[key]) == sorted(expected[key])
    for name in (TABLES[table], "visit", "expMidptMJD"):
        assert found[name].to_list() == expected[name].to_list(), name
    bands = expected["band_of_visit"] if "band_of_visit" in expected.columns else expected["band"]
    assert sorted(zip(found[key], found["band"], strict=True)) == sorted(zip(expected[key], bands, strict=True))


def test_one_id_is_an_id_and_ids_are_counted_once(wh):
    one = wh.scan("ForcedSource", columns=["objectId"]).collect()["objectId"][0]
    expected = wh.lightcurve([one])
    assert expected.height > 0
    for same in (one, np.int64(one), [one, one], np.array([one]), pl.Series([one]), {one}, iter([one])):
        assert wh.lightcurve(same).rows() == expected.rows()


def test_columns_are_chosen_after_the_four_that_always_stand(wh):
    one = wh.scan("ForcedSource", columns=["objectId"]).collect()["objectId"][0]
    found = wh.lightcurve(one, columns=["psfFlux", "band", "objectId", "psfFluxErr"])
    assert found.columns == ["objectId", "visit", "expMidptMJD", "band", "psfFlux", "psfFluxErr"]


@pytest.mark.parametrize("columns", [None, ["psfFlux"]])
def test_a_row_whose_visit_is_not_known_keeps_its_band_and_has_no_time(wh, tmp_path, columns):
    tree = shutil.copytree(simulated().tree, tmp_path / "tree")
    few = Warehouse.create(str(tmp_path / "few"), settings=SETTINGS)
    path = next(tree.rglob("visitTable_*.parq"))
    raw = pd.read_parquet(path)
    raw.iloc[1:].to_parquet(path)
    for table in ("ForcedSource", "Visit"):
        few.ingest(table, str(tree))
    ids = wh.scan("ForcedSource", columns=["objectId"]).collect()["objectId"].unique().to_list()
    found = few.lightcurve(ids, columns=columns)
    whole = wh.lightcurve(ids, columns=columns)
    lost = raw.index[0] if raw.index.name == "visit" else raw["visit"].iloc[0]
    assert set(found.filter(pl.col("expMidptMJD").is_null())["visit"]) == {lost}
    assert sorted(found.select("objectId", "visit", "band").rows()) == sorted(
        whole.select("objectId", "visit", "band").rows()
    )


def test_times_are_those_of_the_newest_visits_or_of_the_pin(wh, tmp_path):
    """They are kept with the version of Visit that they came from, and no longer."""
    grows = Warehouse.open(str(simulated().copy(tmp_path)), settings=SETTINGS)
    one = wh.scan("ForcedSource", columns=["objectId"]).collect()["objectId"][0]
    before = grows.lightcurve(one)
    grows.pin("before")
    pinned = Warehouse.open(grows.uri, release="before", settings=SETTINGS)
    assert pinned.lightcurve(one).equals(before)
    redeliver_visits(grows, tmp_path / "later", lambda raw: raw.assign(expMidptMJD=raw["expMidptMJD"] + 1000.0))
    later = grows.lightcurve(one)
    assert (later["expMidptMJD"] - before["expMidptMJD"]).to_list() == [1000.0] * before.height
    for same in (pinned.lightcurve(one), grows.lightcurve(one, version="before")):
        assert same.equals(before)
    # A number counts the versions of the photometry, and says nothing of those of Visit.
    assert grows.version("ForcedSource") < grows.version("Visit")
    assert grows.lightcurve(one, version=grows.version("ForcedSource")).equals(later)


def test_rows_whose_visit_is_not_in_visit_stay_and_come_last(tmp_path):
    grows = Warehouse.open(str(simulated().copy(tmp_path)), settings=SETTINGS)
    counts = grows.scan("ForcedSource", columns=["objectId"]).collect().to_series().value_counts()
    one = counts.filter(count=3)["objectId"].min()
    before = grows.lightcurve(one, columns=["ccdVisitId", "psfFlux"])
    _, middle, _ = before["visit"]
    redeliver_visits(grows, tmp_path / "later", lambda raw: raw.loc[[middle]])
    found = grows.lightcurve(one, columns=["ccdVisitId", "psfFlux"])
    assert found["expMidptMJD"].to_list() == [before["expMidptMJD"][1], None, None]
    assert_frame_equal(found.drop("expMidptMJD", "band"), before[[1, 0, 2]].drop("expMidptMJD", "band"))


def test_a_visit_that_stands_twice_in_visit_doubles_no_row(wh, tmp_path):
    """As where each night delivers all visits so far."""
    [path] = simulated().files("visitTable")
    nights = [str(tmp_path / f"night{number}.parquet") for number in (1, 2)]
    for night in nights:
        pd.read_parquet(path).to_parquet(night)
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("Visit", nights)
    assert made.scan("Visit").collect()["visit"].value_counts()["count"].to_list() == [2, 2, 2]
    made.ingest("ForcedSource", str(simulated().files("forcedSourceTable")[0]))
    for one in made.scan("ForcedSource").collect()["objectId"].unique().head(3):
        assert made.lightcurve(one)["forcedSourceId"].to_list() == wh.lightcurve(one)["forcedSourceId"].to_list()


def test_a_file_of_which_the_log_tells_no_ids_is_asked_for_all_of_them(wh):
    one = wh.scan("ForcedSource", columns=["objectId"]).collect().to_series().max()
    untold = simulated().open()
    opened = untold._tables.open("ForcedSource")
    unknown = [pl.lit(None, pl.Int64).alias(f"{end}.objectId") for end in ("min", "max")]
    opened.__dict__["files"] = opened.files.with_columns(unknown)
    assert untold.lightcurve(one).rows() == wh.lightcurve(one).rows() != []


def test_ids_that_have_no_rows_give_none(wh):
    assert wh.lightcurve([]).height == 0
    assert wh.lightcurve([1, 2**62]).height == 0
    assert wh.lightcurve([]).schema == wh.lightcurve(1).schema


def test_only_the_patches_that_hold_the_ids_are_opened(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    places = wh.scan("ForcedSource", columns=["objectId", "tract", "patch"]).collect()
    one, tract, patch = places.row(0)
    for path in (copy / "ForcedSource").rglob("tract=*/*/*.parquet"):
        if path.parts[-3:-1] != (f"tract={tract}", f"patch={patch}"):
            path.write_bytes(b"")
    found = Warehouse.open(str(copy), settings=SETTINGS).lightcurve(one)
    assert found.rows() == wh.lightcurve(one).rows()


def test_bad_questions_are_refused(wh, tmp_path):
    with pytest.raises(QueryError, match="either object_id or dia_object_id"):
        wh.lightcurve()
    with pytest.raises(QueryError, match="either object_id or dia_object_id"):
        wh.lightcurve(1, dia_object_id=2)
    with pytest.raises(QueryError, match="give dia_object_id"):
        wh.lightcurve(1, detections=True)
    for ids in (1.5, [1.5], "12", b"12", [[1, 2]], [[1], [1, 2]], ["a"], 2**63, np.array([2**63], np.uint64)):
        with pytest.raises(QueryError, match=r"expected (integer ids|one list)"):
            wh.lightcurve(ids)
    with pytest.raises(NotFoundError, match="did you mean psfFlux"):
        wh.lightcurve(1, columns=["psfFlu"])
    with pytest.raises(QueryError, match="expected a list of columns' names"):
        wh.lightcurve(1, columns="psfFlux")
    empty = Warehouse.create(str(tmp_path / "empty"), settings=SETTINGS)
    with pytest.raises(NotFoundError, match=r"ForcedSource.*nothing has been loaded"):
        empty.lightcurve(1)
