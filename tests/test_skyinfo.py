"""Sky info is the group-by over the whole table, from the log alone where that suffices."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.small_warehouse import POINTS, SETTINGS, append, points, points_contract, simulated
from warehouse import Cone, Warehouse
from warehouse.errors import NotFoundError, QueryError
from warehouse.query.skyinfo import COLUMNS, sky_info


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


def grouped(wh, table, where=None):
    """The notebook's query: SELECT tract, patch, min, max, avg ... GROUP BY tract, patch."""
    ra, dec = wh.root.contract(table).position
    frame = wh.scan(table).collect()
    frame = frame if where is None else frame.filter(where.expr(ra, dec))
    return (
        frame.group_by("tract", "patch")
        .agg(
            rows=pl.len().cast(pl.Int64),
            ra_min_deg=pl.col(ra).min(),
            ra_max_deg=pl.col(ra).max(),
            ra_mean_deg=pl.col(ra).mean(),
            dec_min_deg=pl.col(dec).min(),
            dec_max_deg=pl.col(dec).max(),
            dec_mean_deg=pl.col(dec).mean(),
        )
        .sort("tract", "patch")
    )


@pytest.mark.parametrize("table", ["Object", "Source", "TruthSummary", "DiaObject"])
def test_sky_info_is_the_group_by(wh, table):
    expected = grouped(wh, table)
    found = wh.sky_info(table)
    assert found.columns == list(COLUMNS)
    assert_frame_equal(found, expected, rel_tol=1e-13)
    extents = [name for name in COLUMNS if "mean" not in name]
    assert_frame_equal(found.select(extents), expected.select(extents), check_exact=True)


def test_a_region_counts_only_its_rows(wh):
    cone = Cone(62.0, -37.0, 0.07)
    assert_frame_equal(wh.sky_info("Object", cone), grouped(wh, "Object", cone), rel_tol=1e-13)
    extents = [name for name in COLUMNS if "mean" not in name]
    found = wh.sky_info("Object", cone, means=False)
    assert_frame_equal(found.select(extents), grouped(wh, "Object", cone).select(extents), check_exact=True)
    assert found.select("ra_mean_deg", "dec_mean_deg").null_count().row(0) == (found.height, found.height)
    tract = grouped(wh, "Object")["tract"][0]
    assert_frame_equal(wh.sky_info("Object", tract), grouped(wh, "Object").filter(tract=tract), rel_tol=1e-13)


def test_without_means_no_data_file_is_opened(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    for path in (copy / "Object").rglob("tract=*/*/*.parquet"):
        path.unlink()
    found = Warehouse.open(str(copy), settings=SETTINGS).sky_info("Object", means=False)
    extents = [name for name in COLUMNS if "mean" not in name]
    assert_frame_equal(found.select(extents), grouped(wh, "Object").select(extents), check_exact=True)
    assert found["ra_mean_deg"].null_count() == found.height


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("means", [True, False])
def test_a_patch_that_ra_0_cuts_has_its_own_extent_and_mean(tmp_path, statistics, means):
    ra, dec = np.array([359.99, 0.02, 359.995, 40.0, 40.02]), np.array([0.001, 0.002, 0.003, 0.001, 0.001])
    found = sky_info(points(tmp_path, ra, dec, statistics=statistics), POINTS, means=means)
    cut, whole = found.sort("ra_min_deg", descending=True).rows(named=True)
    assert (cut["rows"], cut["ra_min_deg"], cut["ra_max_deg"]) == (3, 359.99, 0.02)
    assert (whole["rows"], whole["ra_min_deg"], whole["ra_max_deg"]) == (2, 40.0, 40.02)
    if means:
        assert cut["ra_mean_deg"] == pytest.approx(0.005 / 3, abs=1e-12)
        assert whole["ra_mean_deg"] == pytest.approx(40.01)
        assert cut["dec_mean_deg"] == pytest.approx(0.002)


@pytest.mark.parametrize("told", [True, False])
def test_files_of_a_patch_are_counted_and_spanned_together(tmp_path, told):
    """Also where the log tells nothing of one of them."""
    tables = points(tmp_path, np.array([40.0]), np.array([0.001]))
    tract, patch = tables.open(POINTS).files.select("tract", "patch").row(0)
    more = pl.DataFrame({"id": [1, 2], "ra": [40.01, 40.02], "dec": [0.003, 0.002], "tract": tract, "patch": patch})
    append(tables.root.table_uri(POINTS), points_contract(), more, statistics=told)
    found = sky_info(tables, POINTS, means=False).select(name for name in COLUMNS if "mean" not in name)
    assert found.rows() == [(tract, patch, 3, 40.0, 40.02, 0.001, 0.003)]


@pytest.mark.parametrize(
    ("ra", "dec", "mean"),
    [((359.97, 0.01), 0.001, 359.99), ((359.99, 0.05), 0.001, 0.02), ((350.0, 100.0), -89.999, 45.0)],
)
def test_the_mean_of_a_patch_that_ra_0_cuts_is_taken_through_it(tmp_path, ra, dec, mean):
    """At a pole, too, where a patch spans all right ascensions."""
    found = sky_info(points(tmp_path, np.array(ra), np.array([dec, dec])), POINTS)
    assert found.select("ra_min_deg", "ra_max_deg").rows() == [ra]
    assert found["ra_mean_deg"].item() == pytest.approx(mean)


def test_a_mean_at_ra_0_is_0_and_not_360(tmp_path):
    found = sky_info(points(tmp_path, np.array([359.9, 0.1]), np.array([0.001, 0.002])), POINTS)
    assert 0 <= found["ra_mean_deg"].item() < 1e-9


def test_a_table_without_position_is_counted(wh):
    found = wh.sky_info("MatchesTruth")
    expected = wh.scan("MatchesTruth").group_by("tract", "patch").len().collect().sort("tract", "patch")
    assert found.select("tract", "patch", "rows").rows() == expected.rows()
    assert found["ra_min_deg"].null_count() == found.height


def test_tables_without_tracts_are_refused(wh):
    with pytest.raises(QueryError, match="not partitioned"):
        wh.sky_info("Visit")
    with pytest.raises(NotFoundError, match="did you mean Object"):
        wh.sky_info("Objects")
