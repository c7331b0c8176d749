"""ObjectTruth against a join row by row, whole and tract by tract."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.joined import by_hand, said
from warehouse.contracts import load
from warehouse.contracts.derived import ObjectChoice, object_truth_contract
from warehouse.errors import ContractError, NotFoundError, QualityError
from warehouse.truth.join import Tally, object_truth, tally

CHOICE = ObjectChoice(bands=("r",), columns=("refExtendedness",), per_band=("{band}_cModelFlux",))
ABSENT = 999
PLACE = st.tuples(st.integers(1, 3), st.integers(0, 1))
OBJECTS = st.lists(st.tuples(PLACE, st.sampled_from([True, True, False, None]), st.booleans()), max_size=10)
# Truth rows with the match row of each, if any: (candidate, the object's number).
TRUTH = st.lists(st.tuples(PLACE, st.none() | st.tuples(st.booleans(), st.none() | st.integers(0, 9))), max_size=12)


def tables(objects, truth):
    """Return MatchesTruth, TruthSummary and Object frames; object n has the id n + 2."""
    object_rows = [
        {
            "objectId": n + 2,
            "coord_ra": 62.0 + n / 3600,
            "coord_dec": 60.0,
            "tract": tract,
            "patch": patch,
            "detect_isPrimary": primary,
            "merge_peak_sky": on_sky,
            "refExtendedness": 1.0,
            "r_cModelFlux": 10.0**n if n else -1.0,
            "r_psfFlux": None,
            "input_id": 5,
        }
        for n, ((tract, patch), primary, on_sky) in enumerate(objects)
    ]
    known = {row["objectId"] for row in object_rows}
    truth_rows, match_rows = [], []
    for n, ((tract, patch), match) in enumerate(truth):
        key, place = f"{n}_1", {"tract": tract, "patch": patch, "input_id": 7}
        truth_rows.append({"id_truth_type": key, "ra": 62.0, "dec": 60.0, "flux_r": float(n)} | place)
        if match is not None:
            candidate, number = match
            wanted = None if number is None else number + 2 if number + 2 in known else ABSENT
            match_rows.append({"id_truth_type": key, "match_candidate": candidate, "match_objectId": wanted} | place)
    match_rows.append(
        {
            "id_truth_type": "stray_1",
            "match_candidate": True,
            "match_objectId": 2,
            "tract": 1,
            "patch": 0,
            "input_id": 7,
        }
    )
    places = {"tract": pl.Int64, "patch": pl.Int64, "input_id": pl.Int64}
    match_schema = {"id_truth_type": pl.String, "match_candidate": pl.Boolean, "match_objectId": pl.Int64, **places}
    truth_schema = {"id_truth_type": pl.String, "ra": pl.Float64, "dec": pl.Float64, "flux_r": pl.Float32, **places}
    object_schema = {
        "objectId": pl.Int64,
        **dict.fromkeys(("coord_ra", "coord_dec", "refExtendedness", "r_cModelFlux", "r_psfFlux"), pl.Float64),
        **dict.fromkeys(("detect_isPrimary", "merge_peak_sky"), pl.Boolean),
        **places,
    }
    return (
        pl.DataFrame(match_rows, match_schema),
        pl.DataFrame(truth_rows, truth_schema),
        pl.DataFrame(object_rows, object_schema),
    )


def only_needed(tract, matches, truth, objects):
    """Return what `object_truth` asks for, and no more, to make a tract's rows."""
    here = objects.filter(pl.col("tract") == tract)["objectId"]
    claims = matches.filter((pl.col("tract") == tract) | pl.col("match_objectId").is_in(here.implode()))
    own = matches.filter(pl.col("tract") == tract)["match_objectId"].drop_nulls()
    return (
        claims,
        truth.filter((pl.col("tract") == tract) | pl.col("id_truth_type").is_in(claims["id_truth_type"].implode())),
        objects.filter((pl.col("tract") == tract) | pl.col("objectId").is_in(own.implode())),
    )


@settings(max_examples=50, deadline=None)
@given(objects=OBJECTS, truth=TRUTH)
def test_object_truth_is_the_join_by_hand_whole_and_by_tract(objects, truth):
    three = tables(objects, truth)
    expected = by_hand(*three)
    whole = object_truth(*three, CHOICE)
    assert said(whole) == expected
    whatever_is_given = pl.concat([object_truth(*three, CHOICE, tract=tract) for tract in (1, 2, 3)])
    assert said(whatever_is_given) == expected
    patch_by_patch = [object_truth(*three, CHOICE, tract=t, patch=p) for t in (1, 2, 3) for p in (0, 1)]
    assert said(pl.concat(patch_by_patch)) == expected
    what_is_needed = [object_truth(*only_needed(tract, *three), CHOICE, tract=tract) for tract in (1, 2, 3)]
    assert said(pl.concat(what_is_needed)) == expected
    assert tally(whole).rows == len(expected)


def test_a_match_across_a_border_lies_with_its_object_and_is_counted():
    objects = [((1, 0), True, False), ((2, 0), True, False), ((1, 1), True, False)]
    truth = [
        ((1, 0), (True, 0)),
        ((1, 0), (True, 1)),
        ((1, 0), (True, 2)),
        ((2, 0), (True, 2)),
        ((3, 0), (True, None)),
        ((3, 1), (True, 5)),
        ((3, 1), (False, None)),
    ]
    frame = object_truth(*tables(objects, truth), CHOICE)
    by_truth = {row["mt_id_truth_type"]: row for row in frame.to_dicts()}
    assert [by_truth[f"{n}_1"]["tract"] for n in range(4)] == [1, 2, 1, 1]
    assert [by_truth[f"{n}_1"]["ts_tract"] for n in range(4)] == [1, 1, 1, 2]
    assert by_truth["5_1"]["mt_match_objectId"] == ABSENT
    assert tally(frame) == Tally(
        matched=4,
        missed=2,
        unmatched_object=0,
        across_patches=3,
        across_tracts=2,
        shared_objects=1,
        absent_objects=1,
    )


def test_positions_separations_and_magnitudes():
    objects = [((1, 0), True, False), ((1, 0), True, False), ((1, 0), True, False)]
    frame = object_truth(*tables(objects, [((1, 0), (True, 1)), ((1, 0), (True, None))]), CHOICE)
    rows = {row["match_status"]: row for row in frame.sort("obj_objectId").to_dicts()}
    # An arcsec of right ascension at declination 60 is half an arcsec on the sky.
    assert rows["matched"]["separation_arcsec"] == pytest.approx(0.5, abs=1e-6)
    assert rows["missed"]["separation_arcsec"] is None
    assert rows["unmatched_object"]["separation_arcsec"] is None
    assert rows["matched"]["ra_deg"] == 62.0
    assert rows["unmatched_object"]["ra_deg"] == rows["unmatched_object"]["obj_coord_ra"] > 62.0
    # 10 nJy are magnitude 28.9; the object with flux -1 has none.
    assert rows["matched"]["obj_r_cModelMag"] == pytest.approx(28.9)
    assert frame.filter(pl.col("obj_objectId") == 2)["obj_r_cModelMag"].to_list() == [None]
    assert frame["obj_r_psfMag"].null_count() == frame.height


@pytest.mark.parametrize("bands", [("u", "g", "r", "i", "z", "y"), ("g", "i")])
def test_the_columns_are_those_of_its_contract(bands):
    release, choice = load("dp02"), ObjectChoice(bands=bands)
    three = [
        pl.DataFrame(release.contract(table).arrow_schema.empty_table())
        for table in ("MatchesTruth", "TruthSummary", "Object")
    ]
    frame = object_truth(*three, choice, tract=1)
    contract = object_truth_contract(release, choice)
    expected = pl.DataFrame(contract.arrow_schema.empty_table()).drop("input_id")
    assert frame.schema == expected.schema
    published = [f"mt_{c.name}" for c in release.contract("MatchesTruth").columns]
    published += [f"ts_{c.name}" for c in release.contract("TruthSummary").columns]
    assert set(published) <= set(frame.columns)
    per_band = ("cModelFlux", "cModelFluxErr", "cModelMag", "psfFlux", "psfFluxErr", "psfMag", "extendedness")
    assert {f"obj_{b}_{name}" for b in bands for name in per_band} <= set(frame.columns)
    assert contract.column("obj_g_cModelFlux").unit == "nJy"
    assert contract.column("obj_g_cModelMag").unit == "mag"


def test_a_choice_that_the_release_lacks_is_named():
    with pytest.raises(NotFoundError, match=r"refExtendednes.*refExtendedness"):
        object_truth_contract(load("dp02"), ObjectChoice(columns=("refExtendednes",)))
    with pytest.raises(NotFoundError, match="w_extendedness"):
        object_truth_contract(load("dp02"), ObjectChoice(bands=("w",)))


@pytest.mark.parametrize(
    ("side", "change", "error", "message"),
    [
        (0, pl.col("match_objectId").cast(pl.String), ContractError, "match_objectId: expected Int64, the type of Obj"),
        (0, pl.lit("0_1").alias("id_truth_type"), QualityError, "MatchesTruth: key id_truth_type stands twice, '0_1'"),
        (1, pl.lit("0_1").alias("id_truth_type"), QualityError, "TruthSummary: key id_truth_type stands twice"),
        (2, pl.lit(3).alias("objectId"), QualityError, "Object: key objectId stands twice, 3"),
    ],
)
def test_bad_frames_are_refused_by_name(side, change, error, message):
    truth = [((1, 0), (True, 0)), ((1, 0), (True, None))]
    three = list(tables([((1, 0), True, False), ((1, 0), True, False)], truth))
    three[side] = three[side].with_columns(change)
    with pytest.raises(error, match=message):
        object_truth(*three, CHOICE)


@pytest.mark.parametrize(("side", "column"), [(0, "match_candidate"), (1, "ra"), (2, "r_psfFlux")])
def test_a_missing_column_is_named(side, column):
    three = list(tables([], []))
    three[side] = three[side].drop(column)
    with pytest.raises(ContractError, match=f"{column} not found"):
        object_truth(*three, CHOICE)
