"""Dataset types and data ids: what there is to ask for."""

from __future__ import annotations

import polars as pl
import pytest

from support.small_warehouse import simulated
from warehouse.errors import NotFoundError, QueryError


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


def test_dataset_types_are_those_of_the_release_with_their_dimensions(wh):
    found = {row["dataset_type"]: (row["dimensions"], row["table"]) for row in wh.dataset_types().to_dicts()}
    assert found["objectTable"] == ("tract, patch", "Object")
    assert found["sourceTable"] == ("visit, detector", "Source")
    assert found["visitTable"] == ("", "Visit")
    assert len(found) == 15
    assert wh.dataset_types()["description"].str.len_chars().min() > 10


def test_dataset_types_are_found_by_a_pattern(wh):
    names = wh.dataset_types("*_tract")["dataset_type"].to_list()
    assert "objectTable_tract" in names
    assert all(name.endswith("_tract") for name in names)
    assert wh.dataset_types("objectTable")["dataset_type"].to_list() == ["objectTable"]
    with pytest.raises(NotFoundError, match="did you mean objectTable"):
        wh.dataset_types("objectTabl")


def test_data_ids_are_counted_in_the_rows(wh):
    sources = wh.scan("Source", columns=["ccdVisitId"]).collect()["ccdVisitId"]
    counts = sources.value_counts().select(
        visit=pl.col("ccdVisitId") // 1000, detector=pl.col("ccdVisitId") % 1000, rows=pl.col("count").cast(pl.Int64)
    )
    found = wh.data_ids("sourceTable")
    assert found.rows() == counts.sort("visit", "detector").rows()
    assert found.schema == {"visit": pl.Int64, "detector": pl.Int64, "rows": pl.Int64}
    visit = found["visit"][0]
    assert wh.data_ids("sourceTable", visit=visit).rows() == found.filter(visit=visit).rows()
    one = wh.data_ids("sourceTable", visit=visit, detector=found["detector"][0])
    assert one.rows() == found.head(1).rows()


def test_data_ids_may_be_narrowed_by_what_only_the_rows_tell(wh):
    forced = wh.scan("ForcedSource", columns=["tract", "patch", "band"]).collect()
    band = forced["band"][0]
    expected = forced.filter(band=band).group_by("tract", "patch").len().sort("tract", "patch")
    assert wh.data_ids("forcedSourceTable", band=band).rows() == expected.rows()


def test_data_ids_of_one_tract(wh):
    every = wh.data_ids("objectTable")
    tract = every["tract"][-1]
    assert wh.data_ids("objectTable", tract=tract).rows() == every.filter(tract=tract).rows()
    assert wh.data_ids("objectTable", tract=4431).height == 0
    assert wh.data_ids("truth_summary")["tract"].to_list() == every["tract"].unique().sort().to_list()


def test_a_dataset_type_without_dimensions_is_one_dataset(wh):
    assert wh.data_ids("visitTable").rows() == [(3,)]


def test_keys_that_there_are_not_are_refused(wh):
    with pytest.raises(QueryError, match="has no 'visit'"):
        wh.data_ids("objectTable", visit=3)
    with pytest.raises(NotFoundError, match="did you mean objectTable"):
        wh.data_ids("objektTable")
