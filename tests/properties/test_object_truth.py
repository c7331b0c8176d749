"""ObjectTruth equals the three-table join row by row, whatever came, came again and went, and in whichever order."""

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from support.joined import by_hand, by_ids, said, whole_by_hand
from support.small_truth import BANDS, KEPT, MATCHES, OBJECT, TRUTH, SmallTruth, match_row, object_row, truth_row
from warehouse.config import Settings
from warehouse.truth.materialise import materialise, staleness

SETTINGS = Settings(memory=512 << 20, workers=2)
TRACTS = (1, 2, 3)
PATCH = st.integers(0, 2)
NUMBERS = st.integers(0, 7)

OBJECTS = st.tuples(
    st.just(OBJECT),
    st.sampled_from(TRACTS),
    st.lists(st.tuples(NUMBERS, PATCH, st.sampled_from([True, True, True, False]), st.booleans()), max_size=6),
)
TRUTHS = st.tuples(st.just(TRUTH), st.sampled_from(TRACTS), st.lists(st.tuples(NUMBERS, PATCH), max_size=6))
# Half of the matches name the object of the same number, others any object, an absent one, or none.
PARTNER = st.none() | st.just("same") | st.just("same") | NUMBERS | st.just(99)
MATCHED = st.tuples(
    st.just(MATCHES),
    st.sampled_from(TRACTS),
    st.lists(st.tuples(NUMBERS, PARTNER, PATCH, st.sampled_from([True, True, False, None])), max_size=6),
)
STEPS = st.lists(OBJECTS | TRUTHS | MATCHED | st.just("materialise"), min_size=4, max_size=10)


NOT_TAKEN = ("x", "y", "xErr", "yErr", "tract", "patch")
TAKEN = tuple(name for name in KEPT[OBJECT] if name not in NOT_TAKEN)


def rows(table, drawn):
    if table == OBJECT:
        return [object_row(n, patch, primary=primary, sky=sky) for n, patch, primary, sky in drawn]
    if table == TRUTH:
        return [truth_row(n, patch, ra=62.0 + n / 3600 + 4e-5, dec=-37.0 + n * 3e-5) for n, patch in drawn]
    return [match_row(n, n if to == "same" else to, patch, candidate=flag) for n, to, patch, flag in drawn]


def told_apart(row, number, contract):
    """Fill the fluxes, and what the row leaves open, with values that no other row and column of numbers has."""
    filled = {}
    for place, (name, kind) in enumerate(pl.Schema(contract.arrow_schema).items()):
        value = 100 * place + number + 1
        if kind == pl.Boolean:
            filled[name] = bool((value + place) % 3)
        elif kind == pl.String:
            filled[name] = f"{name} {number}"
        else:
            # Of some fluxes no magnitude can be made.
            filled[name] = -value if name.endswith("Flux") and number % 4 == 3 else value
    return filled | {name: value for name, value in row.items() if "flux" not in name.lower()}


def put(world, table, tract, drawn):
    """Replace a tract by what was drawn, without what another tract of the table holds already: keys are unique."""
    contract = world.root.contract(table)
    key = contract.key[0]
    elsewhere = {k for (name, t), frame in world.held.items() if name == table and t != tract for k in frame[key]}
    numbered = zip(rows(table, drawn), drawn, strict=True)
    unique = {row[key]: told_apart(row, n, contract) for row, (n, *_) in numbered if row[key] not in elsewhere}
    world.put(table, tract, list(unique.values()))


def check(world):
    whole = (world.whole(MATCHES), world.whole(TRUTH), world.whole(OBJECT))
    found = world.joined()
    assert said(found) == by_hand(*whole)
    expected = whole_by_hand(*whole, TAKEN, BANDS)
    rows = sorted(found.drop("input_id").to_dicts(), key=by_ids)
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            computed = value is not None and (name == "separation_arcsec" or name.endswith("Mag"))
            assert row[name] == (pytest.approx(value, rel=1e-12, abs=1e-8) if computed else value), name
    assert found["input_id"].null_count() == 0


# Every status, with matches within a patch, across patches and across tracts, and fluxes without a magnitude.
FULL = [
    (OBJECT, 1, [(0, 0, True, False), (1, 2, True, False), (4, 1, True, False), (3, 1, True, False)]),
    (TRUTH, 1, [(0, 0), (1, 1), (3, 1), (5, 0)]),
    (OBJECT, 3, [(2, 2, True, False), (6, 0, False, False)]),
    (TRUTH, 2, [(2, 0)]),
    (MATCHES, 1, [(0, "same", 0, True), (1, "same", 1, None), (3, 4, 1, True), (5, None, 0, True)]),
    (MATCHES, 2, [(2, "same", 0, True)]),
]


@settings(max_examples=12, deadline=None)
@example(steps=FULL)
@given(steps=STEPS)
def test_object_truth_is_the_direct_join_after_any_history(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = SmallTruth.at(Path(folder) / "warehouse", SETTINGS)
        for step in [*steps, "materialise"]:
            if step != "materialise":
                put(world, *step)
                continue
            before = None if staleness(world.root, SETTINGS).version is None else world.joined()
            done = materialise(world.root, SETTINGS)
            assert not done.failed
            check(world)
            if done.nothing_new and before is not None:
                assert_frame_equal(world.joined(), before, check_row_order=False)
            assert staleness(world.root, SETTINGS).up_to_date
