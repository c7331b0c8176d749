"""The match: each rule by a case with numbers worked out by hand. Whole skies are in properties."""

import math

import numpy as np
import polars as pl
import pytest

from support.match_skies import DC2, PLACES, at, frames, object_row, tract_of, truth_row
from warehouse.contracts import load
from warehouse.errors import ContractError, QueryError
from warehouse.truth.match import PUBLISHED, MatchSettings, match_tract

PLACE = PLACES[0]
RA, DEC = PLACE


def matched(truth, objects, *, tract=None, **chosen):
    """Return match_objectId by the truth's id, and the whole frame."""
    frame = match_tract(*frames(truth, objects), DC2, tract or tract_of(PLACE), MatchSettings(**chosen))
    return dict(frame.select("id", "match_objectId").iter_rows()), frame


def one(truth, objects, **chosen):
    """Return the only written row."""
    _, frame = matched(truth, objects, **chosen)
    return frame.row(0, named=True)


def test_what_is_written_is_the_published_table():
    _, frame = matched([truth_row(7, RA, DEC, 1e3)], [object_row(11, PLACE, 1e3)])
    contract = load("dp02").contract("MatchesTruth")
    assert tuple(frame.columns) == PUBLISHED == tuple(column.name for column in contract.columns)
    published = pl.DataFrame(schema=frame.schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    for column in contract.columns:
        assert published.field(column.name).type in (column.arrow, "large_string"), column.name
    empty = match_tract(*frames([], []), DC2, tract_of(PLACE))
    assert empty.schema == frame.schema


def test_chi_square_counts_pixels_and_fluxes_by_the_objects_errors():
    ra, dec, x, y = at(PLACE, 0.1, 0.0)
    ours = object_row(11, (ra, dec, x, y), 1010.0, error=5.0, pixel_error=0.25)
    truth = truth_row(7, *at(PLACE, 0.0, 0.0)[:2], 1000.0)
    row = one([truth], [ours | {"u_cModelFlux": None, "y_cModelFluxErr": 0.0}])
    # Half a pixel east at 0.25 is 2 sigma; 10 nJy at 5 are 2 sigma in four bands, two bands being lost.
    assert row["match_chisq"] == pytest.approx(4.0 + 0.0 + 4 * 4.0, rel=1e-4)
    assert (row["match_n_chisq_finite"], row["match_count"], row["match_objectId"]) == (6, 1, 11)
    assert (row["id_truth_type"], row["id"], row["truth_type"]) == ("7_1", "7", 1)


@pytest.mark.parametrize(("nas_beyond", "expected"), [(0, 11), (5, None)])
def test_the_radius_is_inclusive(nas_beyond, expected):
    far = object_row(11, (RA, DEC + (0.5 + nas_beyond * 1e-9) / 3600), 1e3)
    assert one([truth_row(7, RA, DEC, 1e3)], [far])["match_objectId"] == expected


@pytest.mark.parametrize("turn", [-360.0, 0.0, 360.0])
def test_right_ascension_may_be_in_another_turn_and_across_zero(turn):
    near_zero = (359.99995, 0.2)
    truth = truth_row(7, near_zero[0] + turn, near_zero[1], 1e3)
    across = object_row(11, (0.00002, 0.2), 1e3)
    # 0.252 arcsec lie between them, over RA 0.
    assert one([truth], [across], tract=tract_of((0.00002, 0.2)))["match_objectId"] == 11


@pytest.mark.parametrize(
    ("fluxes", "candidate"),
    [
        # Magnitude 27 is 10 ** 1.76 = 57.544 nJy, summed over the bands.
        ((57.55, 0, 0, 0, 0, 0), True),
        ((57.53, 0, 0, 0, 0, 0), False),
        ((9.6, 9.6, 9.6, 9.6, 9.6, 9.6), True),
        ((9.5, 9.5, 9.5, 9.5, 9.5, 9.5), False),
        ((None, 58.0, None, None, None, math.nan), True),
        ((100.0, -60.0, 0, 0, 0, 0), False),
        ((0, 0, 0, 0, 0, 0), False),
        ((-1e3, 0, 0, 0, 0, 0), False),
        (None, False),
    ],
)
def test_candidates_by_summed_flux(fluxes, candidate):
    row = one([truth_row(7, RA, DEC, fluxes)], [object_row(11, PLACE, 100.0, error=1e6)])
    assert row["match_candidate"] is candidate
    assert (row["match_objectId"] == 11) is candidate


def test_entries_that_are_not_unique_are_no_candidates():
    truth = [truth_row(7, RA, DEC, 1e3, unique=False), truth_row(8, RA, DEC, 1e3, unique=None)]
    ids, frame = matched(truth, [object_row(11, PLACE, 1e3)])
    assert ids == {"7": None, "8": None}
    assert frame["match_candidate"].to_list() == [False, False]
    without_column = frames(truth, [object_row(11, PLACE, 1e3)])
    frame = match_tract(without_column[0].drop("is_unique_truth_entry"), without_column[1], DC2, tract_of(PLACE))
    assert frame["match_candidate"].to_list() == [True, True]


@pytest.mark.parametrize(
    ("primary", "on_sky", "expected"),
    [(True, False, 11), (True, None, 11), (False, False, None), (None, False, None), (True, True, None)],
)
def test_only_primary_objects_off_the_sky_sources_are_targets(primary, on_sky, expected):
    row = one([truth_row(7, RA, DEC, 1e3)], [object_row(11, PLACE, 1e3, primary=primary, on_sky=on_sky)])
    assert row["match_objectId"] == expected
    assert row["match_candidate"] is True


def test_the_brighter_truth_chooses_first_and_of_equal_ones_the_lower_id():
    contested, spare = object_row(11, PLACE, 1e3), object_row(12, at(PLACE, 0.3, 0.0), 1e3)
    truth = [truth_row(9, RA, DEC, 1e3), truth_row(10, RA, DEC, 1e3), truth_row(5, RA, DEC, 999.0)]
    # Ids are text: "10_1" comes before "9_1".
    assert matched(truth, [contested, spare])[0] == {"10": 11, "9": 12, "5": None}
    assert matched([truth_row(5, RA, DEC, 1001.0), *truth[:2]], [contested, spare])[0] == {"5": 11, "10": 12, "9": None}


def test_the_least_reduced_chi_square_wins_not_the_nearest():
    near_but_wrong, right = object_row(11, PLACE, 500.0), object_row(12, at(PLACE, 0.0, 0.2), 1e3)
    row = one([truth_row(7, RA, DEC, 1e3)], [near_but_wrong, right])
    assert (row["match_objectId"], row["match_count"]) == (12, 2)
    # One pixel of 0.2 arcsec at 0.2 pixels is 5 sigma.
    assert row["match_chisq"] == pytest.approx(25.0, rel=1e-3)


def test_it_is_the_reduced_chi_square_not_the_sum():
    six_sigma_in_all = [object_row(11, PLACE, 1060.0), 6 * 36.0, 8]
    seven_sigma_in_one = [object_row(12, PLACE, [1e3 + 70, None, None, None, None, None]), 49.0, 3]
    assert six_sigma_in_all[1] / 8 > seven_sigma_in_one[1] / 3
    row = one([truth_row(7, RA, DEC, 1e3)], [six_sigma_in_all[0], seven_sigma_in_one[0]])
    assert row["match_objectId"] == 12
    four_sigma_in_one = object_row(13, PLACE, [1040.0, 1e3, 1e3, 1e3, 1e3, 1e3], pixel_error=None)
    row = one([truth_row(7, RA, DEC, 1e3)], [four_sigma_in_one, seven_sigma_in_one[0]])
    assert (row["match_objectId"], row["match_n_chisq_finite"]) == (13, 6)


def test_of_equal_winners_the_nearer_then_the_lower_object_id():
    blind = {"pixel_error": None}
    near, far = at(PLACE, 0.0, 0.1), at(PLACE, 0.0, 0.2)
    truth = [truth_row(7, RA, DEC, 1e3)]
    assert one(truth, [object_row(11, far, 1e3, **blind), object_row(12, near, 1e3, **blind)])["match_objectId"] == 12
    assert one(truth, [object_row(12, near, 1e3, **blind), object_row(11, near, 1e3, **blind)])["match_objectId"] == 11


def test_the_nearest_are_chosen_before_the_taken_are_left_out():
    """Ten objects stand nearer than the eleventh: who comes last finds all ten taken, and may not look further."""
    spots = [at(PLACE, 0.0, 0.01 * n) for n in range(11)]
    objects = [object_row(n + 11, spot, 1e3) for n, spot in enumerate(spots)]
    truth = [truth_row(n, RA, DEC, 2e3 - n) for n in range(11)]
    ids, frame = matched(truth, objects)
    assert frame["match_count"].to_list() == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert (ids["10"], frame["match_candidate"][10]) == (None, True)
    assert 21 not in ids.values()
    assert matched(truth, objects, max_neighbours=11)[0]["10"] == 21


def test_the_published_quirk_lets_a_target_of_few_columns_win():
    good = object_row(12, PLACE, 1010.0)
    poor = object_row(11, at(PLACE, 0.1, 0), None)
    none = object_row(10, PLACE, None, pixel_error=None)
    truth = [truth_row(7, RA, DEC, 1e3)]
    assert one(truth, [good, poor, none])["match_objectId"] == 12
    quirky = one(truth, [good, poor, none], published_quirk=True)
    assert [quirky[name] for name in PUBLISHED[1:4]] == [3, 0.0, 2]
    assert quirky["match_objectId"] == 11
    for quirk in (False, True):
        alone = one(truth, [poor, none], published_quirk=quirk)
        assert (alone["match_objectId"], alone["match_count"], alone["match_chisq"]) == (None, 0, None)


def test_fewer_bands_by_configuration():
    truth, objects = frames([truth_row(7, RA, DEC, [0, 30, 30, 30, 0, 0])], [object_row(11, PLACE, 30.0)])
    absent = [f"{name}" for b in "uzy" for name in (f"{b}_cModelFlux", f"{b}_cModelFluxErr")]
    objects = objects.drop(absent)
    with pytest.raises(ContractError, match=r"Object: .*u_cModelFlux"):
        match_tract(truth, objects, DC2, tract_of(PLACE))
    row = match_tract(truth, objects, DC2, tract_of(PLACE), MatchSettings(bands=("g", "r", "i"))).row(0, named=True)
    assert (row["match_objectId"], row["match_n_chisq_finite"]) == (11, 5)


def test_the_columns_read_are_those_of_the_release():
    release, chosen = load("dp02"), MatchSettings()
    assert set(chosen.truth_columns()) <= set(release.contract("TruthSummary").by_name)
    assert set(chosen.object_columns()) <= set(release.contract("Object").by_name)


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        (0, pl.col("id_truth_type").str.head(0), "TruthSummary: key id_truth_type: expected every value once"),
        (0, pl.lit(None, pl.String).alias("id_truth_type"), "TruthSummary: key id_truth_type: expected no null"),
        (0, pl.lit("bright").alias("flux_r"), "TruthSummary: column flux_r: expected a number, found String"),
        (1, pl.lit(5).alias("objectId"), "Object: key objectId: expected every value once, found 2"),
        (1, pl.lit("5").alias("objectId"), "Object: column objectId: expected Int64, found String"),
        (1, pl.lit("5").alias("xErr"), "Object: column xErr: expected a number, found String"),
    ],
)
def test_bad_frames_are_refused_by_name(side, change, message):
    sides = list(frames([truth_row(n, RA, DEC, 1e3) for n in (1, 2)], [object_row(n, PLACE, 1e3) for n in (3, 4)]))
    sides[side] = sides[side].with_columns(change)
    with pytest.raises(ContractError, match=message):
        match_tract(*sides, DC2, tract_of(PLACE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"radius_arcsec": 0.0},
        {"radius_arcsec": math.nan},
        {"max_neighbours": 0},
        {"min_finite": 9},
        {"bands": ()},
        {"bands": ("r", "r")},
    ],
)
def test_settings_that_cannot_match_are_refused(wrong):
    with pytest.raises(QueryError, match=f"match setting {next(iter(wrong))}"):
        MatchSettings(**wrong)


def test_narrow_ids_and_a_place_that_is_no_number():
    truth, objects = frames(
        [truth_row(7, RA, DEC, 1e3), truth_row(8, None, math.nan, 1e3)],
        [object_row(11, PLACE, 1e3), object_row(12, (None, None, None, None), 1e3)],
    )
    frame = match_tract(truth, objects.with_columns(pl.col("objectId").cast(pl.Int32)), DC2, tract_of(PLACE))
    assert frame["match_objectId"].to_list() == [11, None]
    assert frame["match_candidate"].to_list() == [True, True]
    assert np.isfinite(frame["match_chisq"][0])
