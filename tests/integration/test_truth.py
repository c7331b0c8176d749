"""Truth, objects and matches from files to ObjectTruth: across the edge of two tracts, and with ids of another type."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support import skies
from support.joined import by_hand, said
from warehouse.contracts.derived import ObjectChoice
from warehouse.errors import ContractError

pytestmark = pytest.mark.integration

FILES = {
    "Object": "objectTable",
    "TruthSummary": "truth_summary",
    "MatchesTruth": "match_ref_truth_summary_objectTable_tract",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), FILES.values(), objects=2000)


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, FILES.values())


def held(wh, table):
    return wh.scan(table).collect()


def is_the_direct_join(wh):
    return said(held(wh, "ObjectTruth")) == by_hand(*(held(wh, t) for t in ("MatchesTruth", "TruthSummary", "Object")))


def rewrite(path, **columns):
    """Write the file again with other columns, which are expressions."""
    pl.read_parquet(path, glob=False).with_columns(**columns).write_parquet(path)


def load(world, *tables):
    return {table: world.warehouse.ingest(table, str(world.tree)) for table in tables}


def test_matches_of_files_cross_a_tracts_edge_and_are_found_once(world):
    near, far = world.files(FILES["MatchesTruth"])
    matched = pl.col("match_candidate") & (pl.col("match_objectId") > 1)
    there = pl.read_parquet(far, glob=False).filter(matched)["match_objectId"]
    # The first five matches of one tract are given to objects of the other, whose own truth has none any more.
    lost = there.head(5).to_list()
    number = pl.when(matched).then(matched.cast(pl.Int64).cum_sum() - 1)
    rewrite(near, match_objectId=number.replace_strict(range(5), lost, default=pl.col("match_objectId")))
    rewrite(far, match_objectId=pl.when(pl.col("match_objectId").is_in(lost)).then(0).otherwise("match_objectId"))
    load(world, *FILES)
    done = world.warehouse.materialise()
    assert done.tally.across_tracts == 5
    rows = held(world.warehouse, "ObjectTruth")
    assert sorted(rows.filter(pl.col("obj_objectId").is_in(lost))["obj_objectId"]) == sorted(lost)
    assert is_the_direct_join(world.warehouse)


@pytest.mark.parametrize("table", ["Object", "TruthSummary", "MatchesTruth"])
def test_a_table_that_lacks_a_tract_loses_no_row_of_the_others(world, table):
    wh = world.warehouse
    away = world.files(FILES[table])[0]
    delivered = away.read_bytes()
    away.unlink()
    load(world, *FILES)
    wh.materialise()
    assert is_the_direct_join(wh)
    away.write_bytes(delivered)
    load(world, *FILES)
    wh.retry("MatchesTruth")  # whose rows wait in quarantine for their truth
    wh.materialise()
    assert is_the_direct_join(wh)
    assert held(wh, "MatchesTruth").height == held(wh, "TruthSummary").height


@pytest.mark.parametrize(
    ("column", "value", "types"),
    [
        ("match_objectId", pl.col("match_objectId").cast(pl.String), ("long", "string")),
        ("id_truth_type", pl.int_range(pl.len(), dtype=pl.Int64), ("char", "int64")),
        ("id", pl.int_range(pl.len(), dtype=pl.Int64), ("char", "int64")),
    ],
)
def test_a_match_file_whose_ids_are_of_another_type_stops_itself_alone(world, column, value, types):
    bad, good = world.files(FILES["MatchesTruth"])
    was = bad.read_bytes()
    rewrite(bad, **{column: value})
    done = load(world, *FILES)["MatchesTruth"]
    refused = world.warehouse.quarantine("MatchesTruth").filter(pl.col("uri") == str(bad)).to_dicts()
    assert [row["rules"] for row in refused] == [["wrong_type"]]
    for word in ("MatchesTruth", bad.name, column, *types):
        assert word in refused[0]["values"]
    assert set(held(world.warehouse, "MatchesTruth")["tract"]) == {int(good.parent.name)}
    assert done.rows_committed
    world.warehouse.materialise()
    assert is_the_direct_join(world.warehouse)
    bad.write_bytes(was)
    load(world, "MatchesTruth")
    world.warehouse.materialise()
    assert is_the_direct_join(world.warehouse)
    assert held(world.warehouse, "MatchesTruth").height == held(world.warehouse, "TruthSummary").height


def test_of_several_match_rows_of_one_truth_the_best_is_kept_and_the_others_are_set_aside(world):
    path = world.files(FILES["MatchesTruth"])[0]
    rows = pl.read_parquet(path, glob=False)
    best = rows.filter(pl.col("match_candidate"), pl.col("match_objectId") > 1).head(20)
    without = best.with_columns(pl.col("match_chisq") - 1, match_objectId=pl.lit(0, pl.Int64))
    worse = best.with_columns(pl.col("match_chisq") + 1, match_objectId=pl.col("match_objectId").reverse())
    # Entries that are not the unique one, and seem to fit better.
    others = best.with_columns(
        pl.col("match_chisq") - 2, match_candidate=pl.lit(value=False), match_objectId=pl.lit(7, pl.Int64)
    )
    pl.concat([without, others, worse, rows, without]).write_parquet(path)
    done = load(world, *FILES)["MatchesTruth"]
    aside = world.warehouse.quarantine("MatchesTruth").explode("rules")
    assert aside.filter(pl.col("rules") == "duplicate_truth_match").height == 4 * 20
    assert done.rows_read == done.rows_committed + done.rows_quarantined
    names = ["id", "truth_type", "match_candidate", "match_objectId"]
    kept = held(world.warehouse, "MatchesTruth").join(best, on=["id", "truth_type"], how="semi")
    assert sorted(kept.select(names).iter_rows()) == sorted(best.select(names).iter_rows())
    world.warehouse.materialise()
    assert is_the_direct_join(world.warehouse)


def test_a_truth_that_two_match_files_claim_stops_its_tract_until_one_of_them_is_mended(world):
    near, far = world.files(FILES["MatchesTruth"])
    tracts = [int(path.parent.name) for path in (near, far)]
    load(world, *FILES)
    wh = world.warehouse
    wh.materialise()
    before = held(wh, "ObjectTruth").sort(pl.all())
    matches = held(wh, "MatchesTruth").height
    was = pl.read_parquet(far, glob=False)
    own = held(wh, "MatchesTruth").filter(pl.col("match_candidate"), pl.col("tract") == tracts[0])
    twice = own.drop_nulls("match_objectId")["id_truth_type"].min()
    number, truth_type = twice.split("_")
    claimed = pl.read_parquet(near, glob=False).filter(id=number, truth_type=int(truth_type))
    claimed = claimed.with_columns(id_truth_type=pl.lit(twice))  # which not every file has
    pl.concat([was, claimed.select(was.columns)]).write_parquet(far)
    done = load(world, "MatchesTruth")["MatchesTruth"]
    assert done.rows_read == done.rows_committed + done.rows_quarantined == was.height + 1
    # Both candidates' rows are there: which of two files is right, no rule knows.
    assert held(wh, "MatchesTruth").height == matches + 1
    doubled = held(wh, "MatchesTruth").filter(id_truth_type=twice)
    assert doubled["input_id"].n_unique() == doubled.height == 2
    [wrong] = [finding for finding in wh.audit() if not finding.holds and finding.table == "MatchesTruth"]
    assert (wrong.check, wrong.wrong) == ("unique key", 1)
    assert twice in wrong.example

    failed = wh.materialise().failed
    assert list(failed) == [tracts[0]]
    for word in ("MatchesTruth", "id_truth_type", "twice", twice, "input_id", "one of them again"):
        assert word in failed[tracts[0]]
    assert_frame_equal(held(wh, "ObjectTruth").sort(pl.all()), before)
    assert list(wh.staleness().tracts) == [tracts[0]]

    was.write_parquet(far)
    load(world, "MatchesTruth")
    assert not wh.materialise().failed
    assert_frame_equal(held(wh, "ObjectTruth").sort(pl.all()), before)
    assert is_the_direct_join(wh)


def test_three_bands_go_all_the_way_to_a_photoz_set_and_a_page(world, tmp_path):
    load(world, *FILES)
    wh = world.warehouse
    wh.materialise()
    six = held_ids(wh.photoz())
    bands = ("g", "r", "i")
    done = wh.materialise(choice=ObjectChoice(bands=bands))
    assert all(why == ["other columns"] for why in done.tracts.values())
    assert is_the_direct_join(wh)
    with pytest.raises(ContractError, match="obj_u_cModel"):
        wh.photoz()
    three = wh.photoz(bands=bands)
    assert held_ids(three) == six
    assert six
    names = {name for name in three.collect_schema().names() if "cModel" in name or "ts_flux" in name}
    measured = {f"obj_{band}_{name}" for band in bands for name in ("cModelFlux", "cModelMag")}
    assert names == measured | {f"ts_flux_{band}" for band in bands}
    assert wh.report(tmp_path / "report").page.exists()


def held_ids(photoz):
    return sorted(photoz.collect()["mt_id_truth_type"])
