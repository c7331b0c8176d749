"""A file is left out only where the log says that it cannot hold what is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from support.small_warehouse import POINTS, append, points, points_contract
from warehouse.lake import bounds
from warehouse.query import pruning
from warehouse.sky.regions import Box, Cone


@pytest.fixture
def opened(tmp_path):
    """Three files: ids 0 to 9, ids 10 to 19, and one of which the log tells nothing."""
    tables = points(tmp_path, np.repeat([10.0, 200.0], 10), np.repeat([0.0, 45.0], 10))
    more = pl.DataFrame({"id": [500], "ra": [300.0], "dec": [-60.0], "tract": [9000], "patch": [3]})
    append(tables.root.table_uri(POINTS), points_contract(), more, statistics=False)
    return tables.open(POINTS)


def named(opened, mask):
    assert mask.dtype == np.bool_
    assert len(mask) == opened.files.height == 3
    names = {0: "first", 10: "second", None: "unknown"}
    return {names[low] for low in opened.files.filter(mask)["min.id"]}


def test_ranges_of_a_column(opened):
    assert named(opened, bounds.between(opened.files, "id", 0, 9)) == {"first", "unknown"}
    assert named(opened, bounds.between(opened.files, "id", 9, 10)) == {"first", "second", "unknown"}
    assert named(opened, bounds.between(opened.files, "id", 20, 499)) == {"unknown"}
    assert named(opened, bounds.between(opened.files, "dec", 44.0, 46.0)) == {"second", "unknown"}
    assert bounds.between(opened.files, "no statistics", 1, 2).all()


def test_ids_of_a_column(opened):
    assert named(opened, bounds.holding(opened.files, "id", np.array([0]))) == {"first", "unknown"}
    assert named(opened, bounds.holding(opened.files, "id", np.array([-5, 19, 1000]))) == {"second", "unknown"}
    assert named(opened, bounds.holding(opened.files, "id", np.array([-5, 20, 2**62]))) == {"unknown"}
    assert named(opened, bounds.holding(opened.files, "id", np.array([], np.int64))) == {"unknown"}
    assert bounds.holding(opened.files, "no statistics", np.array([1])).all()


def test_extents_on_the_sky_and_where_they_are_not_told_the_patch(opened):
    assert named(opened, pruning.touching(opened, [Cone(10.0, 0.0, 0.1)])) == {"first"}
    assert named(opened, pruning.touching(opened, [Cone(10.0, 0.0, 0.1), Cone(200.0, 45.0, 0.1)])) == {
        "first",
        "second",
    }
    place = opened.sky.patch_polygon(9000, 3).mean(axis=0)
    assert named(opened, pruning.touching(opened, [Cone(*place, 0.01)])) == {"unknown"}
    assert not pruning.touching(opened, []).any()


def test_rows_of_a_generated_table_may_lie_beside_their_patch(opened):
    """A matched truth row has the patch of its object."""
    own = [Cone(300.0, -60.0, 0.01)]
    assert named(opened, pruning.touching(opened, own)) == set()
    generated = replace(opened, contract=replace(opened.contract, generated=True))
    assert named(generated, pruning.touching(generated, own)) == {"unknown"}


@pytest.mark.parametrize("edge", ["min.ra", "max.ra", "min.dec", "max.dec"])
def test_a_digit_that_the_log_has_lost_leaves_out_no_file(opened, edge):
    """Its JSON numbers may differ in the last from those in the files."""
    west, south, east, north = 200.0, 45.0, 200.0, 45.0
    beside = {
        "min.ra": Box(west - 1, west, south - 1, north + 1),
        "max.ra": Box(east, east + 1, south - 1, north + 1),
        "min.dec": Box(west - 1, east + 1, south - 1, south),
        "max.dec": Box(west - 1, east + 1, north, north + 1),
    }[edge]
    inward = np.inf if edge.startswith("min") else -np.inf
    lost = np.nextafter(opened.files[edge].to_numpy(), inward)
    opened.__dict__["files"] = opened.files.with_columns(pl.Series(edge, lost))
    assert "second" in named(opened, pruning.touching(opened, [beside]))
