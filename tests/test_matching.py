"""MatchesTruth computed where no files bring it: committed once, by tract, and never beside the matches of files."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.small_truth import BANDS, MATCHES, OBJECT, TRUTH, SmallTruth, object_row, rows_of, truth_row
from warehouse import Warehouse
from warehouse.errors import ContractError, NotFoundError, QualityError, QueryError
from warehouse.lake import delta
from warehouse.lake import root as roots
from warehouse.simulate import simulate
from warehouse.truth import matching
from warehouse.truth.match import PUBLISHED, MatchSettings, match_tract
from warehouse.truth.matching import default_settings, match_truth, outdated
from warehouse.truth.materialise import materialise

MEASURED = {"xErr": 0.1, "yErr": 0.1, **{f"{band}_cModelFluxErr": 10.0 for band in BANDS}}


def placed(world, tract, n, **row):
    """Return an Object row of a place, with the pixels that the tract gives it."""
    found = object_row(n, **row) | MEASURED
    x, y = world.root.sky.to_pixels(tract, [found["coord_ra"]], [found["coord_dec"]])
    return found | {"x": float(x[0]), "y": float(y[0])}


@pytest.fixture
def world(tmp_path, settings):
    """Two tracts with truth 0-4 and 10-14; objects stand where the truths are, three in the first, two in the other."""
    world = SmallTruth.at(tmp_path / "warehouse", settings)
    for tract, first, found in ((3831, 0, 3), (3832, 10, 2)):
        world.put(TRUTH, tract, [truth_row(first + n, n % 2) for n in range(5)])
        world.put(OBJECT, tract, [placed(world, tract, first + n, patch=n % 2) for n in range(found)])
    return world


def matches(world):
    return rows_of(world.root, MATCHES, world.settings).sort("id_truth_type")


def by_hand(world, tract, how):
    """Return the published columns of a tract's match, with the places of its truth."""
    truth, objects = world.held[TRUTH, tract], world.held[OBJECT, tract]
    found = match_tract(truth, objects, world.root.sky, tract, how)
    return found.with_columns(truth["tract"], truth["patch"])


def test_every_truth_row_gets_its_match_row_in_its_own_place_in_one_commit(world):
    done = match_truth(world.root, world.settings)
    assert done.tracts == {tract: ["never matched"] for tract in (3831, 3832)}
    assert done.counts == {"rows": 10, "candidates": 10, "matched": 5}
    assert done.version == 1
    expected = pl.concat(by_hand(world, tract, default_settings(world.root.contracts)) for tract in (3831, 3832))
    found = matches(world)
    assert_frame_equal(found.select(expected.columns), expected.sort("id_truth_type"))
    assert set(found["input_id"]) == {matching.input_id(3831), matching.input_id(3832)}
    assert sorted(found["match_objectId"].drop_nulls()) == [2, 3, 4, 12, 13]


def test_the_settings_are_recorded_and_kept_for_the_next_run(world):
    how = MatchSettings(bands=BANDS, radius_arcsec=0.2, magnitude_limit=25.9)
    match_truth(world.root, world.settings, how=how)
    world.put(OBJECT, 3831, [])
    again = match_truth(world.root, world.settings)
    assert again.how == how
    assert list(again.tracts) == [3831]
    assert again.tracts[3831] == ["Object: 2 files gone"]


def test_a_tract_matched_again_replaces_exactly_its_rows(world):
    match_truth(world.root, world.settings)
    before = matches(world)
    world.put(OBJECT, 3832, [placed(world, 3832, n) for n in range(10, 15)])
    done = match_truth(world.root, world.settings)
    assert list(done.tracts) == [3832]
    after = matches(world)
    other = pl.col("tract") == 3831
    assert_frame_equal(after.filter(other), before.filter(other))
    assert after.filter(~other)["match_objectId"].to_list() == [12, 13, 14, 15, 16]
    assert match_truth(world.root, world.settings).nothing_new


def test_other_settings_match_all_tracts_again(world):
    match_truth(world.root, world.settings)
    strict = MatchSettings(bands=BANDS, magnitude_limit=10.0)
    assert set(outdated(world.root, world.settings, how=strict)) == {3831, 3832}
    done = match_truth(world.root, world.settings, how=strict)
    assert done.counts == {"rows": 10, "candidates": 0, "matched": 0}
    assert matches(world)["match_objectId"].null_count() == 10


def test_a_tract_whose_truth_has_gone_loses_its_matches(world):
    match_truth(world.root, world.settings)
    world.put(TRUTH, 3832, [])
    assert list(match_truth(world.root, world.settings).tracts) == [3832]
    assert set(matches(world)["tract"]) == {3831}


def test_truth_without_any_object_has_rows_without_a_match(world):
    world.put(OBJECT, 3832, [])
    match_truth(world.root, world.settings)
    rows = matches(world).filter(pl.col("tract") == 3832)
    assert rows["match_candidate"].to_list() == [True] * 5
    assert rows["match_objectId"].null_count() == 5


def test_a_tract_with_a_doubled_truth_is_left_and_the_others_go_on(world):
    match_truth(world.root, world.settings)
    before = matches(world)
    world.put(TRUTH, 3831, [truth_row(0), truth_row(0)])
    world.put(OBJECT, 3832, [])
    done = match_truth(world.root, world.settings)
    assert list(done.tracts) == [3832]
    assert "id_truth_type" in done.failed[3831]
    again = match_truth(world.root, world.settings)
    assert (list(again.tracts), list(again.failed), again.nothing_new) == ([], [3831], False)
    kept = pl.col("tract") == 3831
    assert_frame_equal(matches(world).filter(kept), before.filter(kept))
    assert outdated(world.root, world.settings) == {3831: [f"failed before: {done.failed[3831]}"]}


def test_what_was_matched_before_an_interruption_is_not_matched_again(world, monkeypatch):
    work = matching.match_unit

    def interrupted(unit, settings, on_event):
        if unit.tract == 3832:
            raise KeyboardInterrupt
        return work(unit, settings, on_event)

    monkeypatch.setattr(matching, "match_unit", interrupted)
    one = world.settings.model_copy(update={"workers": 1})
    with pytest.raises(KeyboardInterrupt):
        match_truth(world.root, one)
    monkeypatch.setattr(matching, "match_unit", work)
    steps = []
    match_truth(world.root, one, on_event=lambda event: steps.append((event.step, event.detail)))
    assert ("resumed", "tract 3831") in steps
    assert ("staging", "tract 3832") in steps
    assert matches(world).height == 10


def test_bands_are_those_of_the_release_and_a_column_that_it_lacks_is_named(world):
    assert default_settings(world.root.contracts).bands == BANDS
    with pytest.raises(NotFoundError, match="flux_u"):
        match_truth(world.root, world.settings, how=MatchSettings())


def test_missing_truth_is_named_with_what_brings_it(tmp_path, settings):
    root = roots.create(str(tmp_path / "empty"), "dp02", settings)
    with pytest.raises(NotFoundError, match=r"TruthSummary.*ingest truth_summary"):
        match_truth(root, settings)


@pytest.fixture
def fed(tmp_path, settings):
    """A warehouse whose matches came as files."""
    tree = str(tmp_path / "tree")
    simulate(tree, objects=300, radius=0.05, tables=[OBJECT, TRUTH, MATCHES], settings=settings)
    wh = Warehouse.create(str(tmp_path / "fed"), settings=settings)
    wh.ingest_tree(tree)
    return wh, tree


def test_matches_that_files_brought_are_replaced_only_when_told_and_then_all_of_them(fed):
    wh, tree = fed
    with pytest.raises(ContractError, match="this table is fed by"):
        wh.match()
    from_files = wh.scan(MATCHES).collect()
    done = wh.match(replace=True)
    assert done.counts["rows"] == from_files.height == wh.scan(MATCHES).collect().height
    assert all(finding.holds for finding in wh.audit(MATCHES))
    newest = wh.history(MATCHES).group_by("unit").agg(pl.col("status").last())
    assert {unit.partition(" ")[0]: status for unit, status in newest.iter_rows()} == {
        "match_ref_truth_summary_objectTable_tract": "removed",
        "match_truth": "committed",
    }
    assert wh.match().nothing_new
    with pytest.raises(ContractError, match="fed by match_truth"):
        wh.ingest(MATCHES, tree)
    (report,) = wh.ingest_tree(tree, tables=[MATCHES])
    assert "fed by match_truth" in str(report.error)
    assert wh.version(MATCHES) == done.version


def test_the_match_finds_what_the_simulation_says_was_measured(fed):
    wh, _ = fed
    key = ["id_truth_type", "match_objectId"]
    expected = wh.scan(MATCHES).filter(pl.col("match_objectId").is_not_null()).select(key).collect().sort(key)
    wh.match(replace=True)
    found = wh.scan(MATCHES).filter(pl.col("match_objectId").is_not_null()).select(key).collect().sort(key)
    assert_frame_equal(found, expected)


def test_matches_of_files_stay_where_a_tract_cannot_be_matched(fed, monkeypatch):
    wh, _ = fed
    before = wh.scan(MATCHES).collect()

    def refuses(*_):
        raise ContractError("key id_truth_type: expected every value once")

    monkeypatch.setattr(matching, "match_tract", refuses)
    with pytest.raises(QualityError, match="the files' matches stay"):
        wh.match(replace=True)
    assert_frame_equal(wh.scan(MATCHES).collect(), before)


def test_a_pinned_release_is_not_matched(fed):
    wh, _ = fed
    wh.pin("dr")
    with pytest.raises(QueryError, match="never changes"):
        Warehouse.open(wh.uri, release="dr", settings=wh.settings).match(replace=True)


def test_the_columns_are_the_published_ones(world):
    match_truth(world.root, world.settings)
    schema = delta.snapshot(world.root.table_uri(MATCHES), world.settings).schema
    assert schema.names == [*PUBLISHED, "tract", "patch", "input_id"]


def test_at_the_edge_of_two_tracts_nothing_falls_between_and_nothing_counts_twice(world):
    [(edge, _, south, north)] = world.root.sky.inner_box(3831).bounds()
    arcsec = 1 / 3600 / 0.8  # of right ascension, there
    beyond, inside = (int(world.root.sky.find_tract(edge + d * arcsec, 0.5 * (south + north))) for d in (-0.1, 0.1))
    assert beyond != inside == 3831

    def at(number, offset_arcsec):
        return {"ra": edge + offset_arcsec * arcsec, "dec": 0.5 * (south + north) + number * 5 / 3600}

    def measured(tract, number, offset_arcsec, **more):
        place = at(number, offset_arcsec)
        return placed(world, tract, number, coord_ra=place["ra"], coord_dec=place["dec"], **more)

    for tract, truth, objects in (
        # Object 100 was detected beyond the edge by the tract of its truth; object 101 is the neighbour's.
        (
            inside,
            [truth_row(n, **at(n, 0.1)) for n in (100, 101)],
            [measured(inside, 100, -0.1), measured(inside, 101, -0.1, primary=False)],
        ),
        (
            beyond,
            [truth_row(102, **at(102, -0.1))],
            [measured(beyond, 100, -0.1, primary=False) | {"objectId": 999}]
            + [measured(beyond, n, -0.1) | {"objectId": 1000 + n} for n in (101, 102)],
        ),
    ):
        world.put(TRUTH, tract, truth)
        world.put(OBJECT, tract, objects)
    match_truth(world.root, world.settings)
    materialise(world.root, world.settings)
    rows = world.joined().filter(pl.col("tract").is_in([inside, beyond])).sort("ts_id", "obj_objectId")
    assert rows.select("match_status", "tract", "ts_id", "obj_objectId").rows() == [
        ("unmatched_object", beyond, None, 1101),
        ("matched", inside, "100", 102),
        ("missed", inside, "101", None),
        ("matched", beyond, "102", 1102),
    ]
    # Matches that name the neighbour's object, as files may have them, find it: once, and counted.
    world.held[MATCHES, inside] = matches(world).filter(pl.col("tract") == inside)
    named = pl.when(pl.col("id") == "101").then(1101).otherwise("match_objectId").alias("match_objectId")
    world.put(MATCHES, inside, world.held[MATCHES, inside].with_columns(named).to_dicts())
    done = materialise(world.root, world.settings)
    assert done.tally.across_tracts == 1
    rows = world.joined().filter(pl.col("tract").is_in([inside, beyond])).sort("ts_id")
    assert rows.select("match_status", "tract", "ts_id", "obj_objectId").rows() == [
        ("matched", inside, "100", 102),
        ("matched", beyond, "101", 1101),
        ("matched", beyond, "102", 1102),
    ]
