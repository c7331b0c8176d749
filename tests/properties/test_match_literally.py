"""The match in arrays against the literal rules, on skies made to be hard."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.literal_match import literal_match
from support.match_skies import BANDS, DC2, PLACES, at, frames, object_row, random_sky, tract_of, truth_row
from warehouse.truth import match
from warehouse.truth.match import MatchSettings, match_tract

# Offsets on a coarse grid and few different fluxes make ties of every kind.
OFFSETS = st.tuples(st.integers(-6, 6), st.integers(-6, 6))
FLUX = st.sampled_from([None, 0.0, 4.0, 300.0, 300.0, 1e4])
FLUXES = FLUX | st.tuples(*[FLUX] * 6)
TRUTH = st.lists(st.tuples(OFFSETS, FLUXES, st.booleans() | st.just(value=True)), max_size=12)
OBJECTS = st.lists(
    st.tuples(
        OFFSETS,
        FLUXES,
        st.sampled_from([10.0, 10.0, 0.0, None]),
        st.sampled_from([0.2, 0.2, 0.0, None]),
        st.sampled_from([(True, False), (True, False), (True, None), (False, False), (None, False), (True, True)]),
    ),
    max_size=16,
)
QUIRKS = pytest.mark.parametrize("quirk", [False, True], ids=["ours", "published quirk"])
# As it is; every source walked one by one; every source in rounds.
PATHS = pytest.mark.parametrize("worthwhile", [match._WORTHWHILE_SHARE, 2.0, 0.0], ids=["both", "walk", "rounds"])


def agree(truth, objects, place, *, quirk, max_neighbours=10, bands=BANDS):
    tract = tract_of(place)
    chosen = MatchSettings(published_quirk=quirk, max_neighbours=max_neighbours, bands=bands)
    found = match_tract(truth, objects, DC2, tract, chosen)
    expected = literal_match(
        truth.to_dicts(), objects.to_dicts(), DC2, tract, quirk=quirk, max_neighbours=max_neighbours, bands=bands
    )
    assert found.to_dicts() == expected
    taken = found["match_objectId"].drop_nulls()
    assert taken.is_unique().all()
    return found


@QUIRKS
@settings(max_examples=60, deadline=None)
@given(
    truth=TRUTH,
    objects=OBJECTS,
    place=st.sampled_from(PLACES),
    max_neighbours=st.sampled_from([1, 2, 10]),
    bands=st.sampled_from([BANDS, ("g", "r", "i")]),
)
def test_the_match_is_the_literal_one(quirk, truth, objects, place, max_neighbours, bands):
    truth = [
        truth_row(7919 * n % 101, *at(place, 0.1 * e, 0.1 * n_)[:2], fluxes, unique=unique)
        for n, ((e, n_), fluxes, unique) in enumerate(truth)
    ]
    objects = [
        object_row(7919 * n % 101 + 2, at(place, 0.1 * e, 0.1 * n_), fluxes, error=error, pixel_error=pixel_error)
        | {"detect_isPrimary": primary, "merge_peak_sky": on_sky}
        for n, ((e, n_), fluxes, error, pixel_error, (primary, on_sky)) in enumerate(objects)
    ]
    agree(*frames(truth, objects), place, quirk=quirk, max_neighbours=max_neighbours, bands=bands)


@QUIRKS
@PATHS
@pytest.mark.parametrize("place", PLACES)
def test_a_crowd_is_matched_literally(place, worthwhile, quirk, monkeypatch):
    monkeypatch.setattr(match, "_WORTHWHILE_SHARE", worthwhile)
    truth, objects = random_sky(place, 150, 120, 3.0, seed=5)
    found = agree(truth, objects, place, quirk=quirk)
    assert found["match_count"].max() == 10
    assert 30 < found["match_objectId"].count() < found["match_candidate"].sum()


@QUIRKS
@PATHS
def test_a_chain_of_rivals_is_matched_literally(worthwhile, quirk, monkeypatch):
    # Each source is the brighter rival of the next: what the second takes depends on the first, and so on.
    monkeypatch.setattr(match, "_WORTHWHILE_SHARE", worthwhile)
    place, links = PLACES[0], 120
    truth = [truth_row(n, *at(place, 0.35 * n, 0)[:2], 1e5 - n) for n in range(links)]
    objects = [object_row(n + 2, at(place, 0.35 * n + 0.2, 0), 1e5 - n) for n in range(links)]
    found = agree(*frames(truth, objects), place, quirk=quirk)
    assert found["match_objectId"].count() > 0.9 * links


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), shuffle=st.integers(0, 2**32))
def test_the_order_of_rows_is_irrelevant(seed, shuffle):
    truth, objects = random_sky(PLACES[0], 40, 40, 1.5, seed)
    tract = tract_of(PLACES[0])
    straight = match_tract(truth, objects, DC2, tract)
    mixed = match_tract(
        truth.sample(fraction=1, shuffle=True, seed=shuffle),
        objects.sample(fraction=1, shuffle=True, seed=shuffle),
        DC2,
        tract,
    )
    assert mixed.sort("id_truth_type").equals(straight.sort("id_truth_type"))
