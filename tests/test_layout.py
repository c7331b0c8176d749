"""How rows lie within a partition, and how pieces of partitions are shared out to files."""

import numpy as np
import polars as pl
import pytest

from warehouse import contracts
from warehouse.ingest.gather import _portions
from warehouse.ingest.job import Piece
from warehouse.lake import layout

DP02 = contracts.load("dp02")


def source(rows, seed=1):
    random = np.random.default_rng(seed)
    tract = random.integers(3000, 5000, rows)
    patch = random.integers(0, 49, rows)
    return pl.DataFrame({"tract": tract, "patch": patch, "sourceId": random.permutation(rows), "came": np.arange(rows)})


@pytest.mark.parametrize("apart", [0, 10**9])
def test_placed_rows_are_in_runs_and_within_them_as_they_came(apart):
    frame = source(5000)
    # Tracts so far apart that their places do not fit in 16 bits any more.
    frame = frame.with_columns(pl.when(pl.col("tract") > 4000).then(pl.col("tract") + apart).otherwise("tract"))
    placed = layout.placed(pl.concat([frame[:1000], frame[1000:]], rechunk=False), DP02.contract("Source"))
    assert placed.rows() == sorted(frame.rows(), key=lambda row: (row[0], row[1], row[3]))
    assert placed.n_chunks() == 1


def test_no_rows_can_be_placed():
    assert layout.placed(source(0), DP02.contract("Source")).height == 0


@pytest.mark.parametrize("order", ["sorted", "reversed", "mixed"])
@pytest.mark.parametrize("partitions", ["one", "many"])
def test_clustered_rows_are_sorted_by_partition_and_key(order, partitions):
    frame = source(2000)
    if partitions == "one":
        frame = frame.with_columns(tract=pl.lit(4431), patch=pl.lit(17))
    if order != "mixed":
        frame = frame.sort("tract", "patch", "sourceId", descending=order == "reversed")
    clustered = layout.clustered(frame, DP02.contract("Source"))
    assert clustered.rows() == sorted(frame.rows(), key=lambda row: row[:3])


def test_a_key_with_nulls_is_not_taken_for_a_constant_one():
    contract = DP02.contract("Object")
    frame = pl.DataFrame({"tract": [1, 1], "patch": [2, 2], "coord_dec": [None, 5.0], "coord_ra": [9.0, 1.0]})
    assert layout.clustered(frame[::-1], contract).rows() == frame.rows()


def piece(name, *parts):
    return Piece(name, tuple((tract, patch, rows, at, at + 1) for at, (tract, patch, rows) in enumerate(parts)))


def test_a_partition_is_gathered_whole_where_the_memory_allows_it():
    pieces = [piece("a", (1, 0, 40), (1, 1, 10)), piece("b", (1, 0, 60))]
    portions = list(_portions(pieces, 100))
    assert [(p.partition, p.rows) for p in portions] == [((1, 0), 100), ((1, 1), 10)]
    assert portions[0].batches == (("a", 0, 1), ("b", 0, 1))


def test_a_partition_larger_than_the_memory_is_shared_out_and_nothing_is_lost():
    pieces = [piece(str(n), (1, 0, 40)) for n in range(7)] + [piece("large", (1, 0, 500))]
    portions = list(_portions(pieces, 100))
    assert [p.rows for p in portions] == [80, 80, 80, 40, 500]
    assert [batch[0] for p in portions for batch in p.batches] == [*"0123456", "large"]
