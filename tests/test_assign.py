import math

import numpy as np
import polars as pl
import pytest

from support.small_contracts import contract, declared, derived, through
from warehouse.errors import QualityError
from warehouse.ingest.assign import assign
from warehouse.sky import skymap

SKY = skymap.named("DC2")
# Positions with the tract and patch that the published sky map gives them.
PUBLISHED = [
    (55.745834, -32.269167, 4431, 17),
    (50.5265, -39.7589, 3442, 13),
    (53.01240743567535, -34.1195835309739, 4225, 3),
    (55.1771286, -29.610409, 4850, 4),
    (54.8683502, -29.7655793, 4638, 44),
    (62.0, -37.0, 3831, 10),
]


def published():
    ra, dec, tract, patch = (list(column) for column in zip(*PUBLISHED, strict=True))
    return pl.DataFrame({"id": range(len(ra)), "ra": ra, "dec": dec}), tract, patch


def test_derived_rows_get_the_published_tract_and_patch_of_their_position():
    frame, tract, patch = published()
    result = assign(frame, derived(), SKY)
    assert result.drop("tract", "patch").equals(frame)
    assert result["tract"].to_list() == tract
    assert result["patch"].to_list() == patch
    assert result.schema["tract"] == result.schema["patch"] == pl.Int64


def test_a_row_without_a_position_has_no_place_and_its_neighbours_keep_theirs():
    frame, tract, _ = published()
    broken = frame.with_columns(
        pl.when(pl.col("id") == 1).then(None).otherwise(pl.col("ra")).alias("ra"),
        pl.when(pl.col("id") == 3).then(91.0).otherwise(pl.col("dec")).alias("dec"),
    )
    result = assign(broken, derived(), SKY)
    assert result["tract"].to_list() == [t if i not in {1, 3} else None for i, t in enumerate(tract)]
    assert result["patch"].is_null().to_list() == [i in {1, 3} for i in range(len(tract))]


def test_float32_positions_are_placed():
    frame, tract, patch = published()
    result = assign(frame.with_columns(pl.col("ra", "dec").cast(pl.Float32)), derived(), SKY)
    assert result["tract"].to_list() == tract
    assert result["patch"].to_list() == patch


def test_threads_change_nothing():
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {"id": np.arange(300_000), "ra": rng.uniform(0, 360, 300_000), "dec": rng.uniform(-90, 90, 300_000)}
    )
    assert assign(frame, derived(), SKY, threads=3).equals(assign(frame, derived(), SKY))


def test_declared_rows_keep_their_own_tract_and_patch_as_int64():
    frame = pl.DataFrame(
        {"tract": [3831, None, -5], "patch": [3, 10, 99], "ra": [62.0] * 3, "dec": [-37.0] * 3, "id": 1}
    )
    narrow = frame.with_columns(pl.col("tract").cast(pl.Int16), pl.col("patch").cast(pl.Int32))
    result = assign(narrow, declared(), SKY)
    assert result.columns[-2:] == ["tract", "patch"]
    assert result.equals(frame.select(result.columns))


def test_rows_of_a_table_without_partitions_stay_as_they_are():
    frame = pl.DataFrame({"id": [1], "ra": [1.0], "dec": [2.0]})
    assert assign(frame, contract({"id": "long", "ra": "double", "dec": "double"}, assignment="none"), SKY) is frame


PLACES = pl.DataFrame({"id_truth_type": ["a_1", "b_1", "c_2", None], "tract": [1, 2, 3, 9], "patch": [10, 20, 30, 9]})


def matches(keys):
    return pl.DataFrame({"id_truth_type": keys, "row": range(len(keys))}, schema_overrides={"id_truth_type": pl.String})


def test_rows_that_refer_get_the_place_of_the_row_referred_to_in_their_own_order():
    frame = matches(["c_2", "a_1", None, "nowhere", "a_1", "b_1"])
    result = assign(frame, through(), SKY, truth_places=PLACES)
    assert result.drop("tract", "patch").equals(frame)
    assert result["tract"].to_list() == [3, 1, None, None, 1, 2]
    assert result["patch"].to_list() == [30, 10, None, None, 10, 20]


def test_a_value_that_refers_to_nothing_finds_no_place():
    from warehouse.contracts import ForeignKey

    table = through({"match": "long"}, through=ForeignKey("match", "Object", "objectId", none=(0,)))
    places = pl.DataFrame({"objectId": [0, 7], "tract": [5, 6], "patch": [1, 2]})
    result = assign(pl.DataFrame({"match": [0, 7]}), table, SKY, truth_places=places)
    assert result["tract"].to_list() == [None, 6]


def test_a_truth_row_with_two_places_is_an_error_not_two_rows():
    doubled = pl.concat([PLACES, PLACES[:1]])
    with pytest.raises(QualityError, match=r"one TruthSummary row for each id_truth_type.*'a_1'") as refused:
        assign(matches(["b_1"]), through(), SKY, truth_places=doubled)
    assert refused.value.table == "MatchesTruth"


def test_a_table_placed_through_another_needs_that_tables_places():
    with pytest.raises(ValueError, match="MatchesTruth is assigned through another table"):
        assign(matches(["b_1"]), through(), SKY)


@pytest.mark.parametrize("table", [derived(), declared()])
def test_an_empty_batch_is_assigned(table):
    empty = pl.DataFrame(
        schema={"id": pl.Int64, "ra": pl.Float64, "dec": pl.Float64, "tract": pl.Int32, "patch": pl.Int32}
    )
    result = assign(empty, table, SKY)
    assert result.height == 0
    assert result.schema["tract"] == pl.Int64


def test_infinite_positions_have_no_place():
    frame = pl.DataFrame({"id": [1, 2], "ra": [math.inf, 62.0], "dec": [0.0, -37.0]})
    assert assign(frame, derived(), SKY)["tract"].to_list() == [None, 3831]
