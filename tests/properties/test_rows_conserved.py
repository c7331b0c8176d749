"""Rows read are rows committed plus rows quarantined, whatever is wrong with them and however they are batched."""

import json
import math
import struct
from collections import Counter
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from support.small_contracts import declared, derived, header
from support.small_contracts import given as listed
from warehouse.contracts import SetAside
from warehouse.ingest.assign import assign
from warehouse.ingest.conform import conform, keys_only, plan_columns
from warehouse.ingest.quality import InputCounts, check, counts_of, find_doubles, quarantine_rows
from warehouse.sky import skymap

NAN, INF = math.nan, math.inf
SKY = skymap.named("DC2")
ASIDE = {"set_aside": (SetAside("not_unique", where="is_unique = false"),), "ignore": ("is_unique",)}
TABLE = declared({"x": "double", "y": "float"}, **ASIDE)
PLACED = derived({"x": "double", "y": "float"}, dataset_types=(), **ASIDE)
CLAIM = 3831

# Which of the tracts and patches below have the position in their outer boxes: published for the first, and the
# second lies half an arcminute from the published centre of its patch.
OUTER = {(62.0, -37.0): {(3831, 10), (3831, 3)}, (56.65625, -36.4375): {(3828, 24)}}
INNER = {(62.0, -37.0): (3831, 10), (56.65625, -36.4375): (3828, 24)}

good_positions = st.sampled_from(sorted(OUTER))
bad_numbers = st.sampled_from([None, NAN, INF, -INF, 91.0, -1e300, 5000.0])
positions = st.one_of(
    good_positions,
    good_positions,
    good_positions.map(lambda p: (p[0] - 360, p[1])),
    good_positions.map(lambda p: (p[0] + 360, p[1])),
    st.tuples(bad_numbers, bad_numbers),
)
rows = st.fixed_dictionaries(
    {
        "id": st.one_of(st.none(), st.integers(-3, 12), st.integers(-(2**63), 2**63 - 1)),
        "position": positions,
        "tract": st.sampled_from([3831, 3831, 3831, 3828, 99999, -1, None]),
        "patch": st.sampled_from([10, 10, 3, 24, 49, None]),
        "x": st.one_of(st.none(), st.floats()),
        "y": st.one_of(st.none(), st.floats(width=32)),
        "is_unique": st.sampled_from([True, True, False, None]),
    }
)
SCHEMA = {
    "id": pl.Int64, "ra": pl.Float64, "dec": pl.Float64, "tract": pl.Int32, "patch": pl.Int16,
    "x": pl.Float64, "y": pl.Float32, "is_unique": pl.Boolean,
}  # fmt: skip


def frame_of(drawn):
    columns = [
        {**{k: v for k, v in row.items() if k != "position"}, "ra": row["position"][0], "dec": row["position"][1]}
        for row in drawn
    ]
    return pl.DataFrame(columns, schema=SCHEMA)


def expected_rules(drawn, *, own_place):
    """Row -> rules that refuse it, told a row at a time in plain Python."""
    seen, told = set(), {}
    for number, row in enumerate(drawn):
        ra, dec = row["position"]
        rules = set()
        if row["is_unique"] is False:
            rules.add("not_unique")
        if row["id"] is None:
            rules.add("key_null")
        elif row["is_unique"] is not False:
            if row["id"] in seen:
                rules.add("duplicate_key")
            seen.add(row["id"])
        there = ra is not None and dec is not None and math.isfinite(ra) and math.isfinite(dec)
        on_sky = there and -360 <= ra < 720 and -90 <= dec <= 90
        if not there:
            rules.add("position_null")
        elif not on_sky:
            rules.add("position_range")
        if own_place:
            rules |= place_rules(row, OUTER.get((ra % 360, dec)) if on_sky else None)
        told[number] = rules
    return told


def place_rules(row, boxes):
    tract, patch = row["tract"], row["patch"]
    rules = {"data_id_contradicts"} if tract not in {None, CLAIM} else set()
    if tract is None or patch is None:
        rules.add("tract_patch_null")
    elif not (0 <= tract < 18938 and 0 <= patch < 49):
        rules.add("tract_patch_unknown")
    elif boxes is not None and (tract, patch) not in boxes:
        rules.add("outside_outer_box")
    return rules


def ingest(batch, table, cuts, order=None):
    """Run the steps over the batch cut in pieces, in the order given; return good rows, refused rows and counts."""
    plan = plan_columns(table, header(batch))
    keys = keys_only(plan)
    bounds = [0, *sorted(cuts), batch.height]
    pieces = [(number, start, batch[start:end]) for number, (start, end) in enumerate(pairwise(bounds))]
    doubles = find_doubles((piece.select(keys.read) for _, _, piece in pieces), keys)
    good, refused, counts = {}, [], InputCounts()
    for number, start, piece in order(pieces) if order else pieces:
        conformed = conform(piece.select(plan.read), plan, first_row=start)
        assigned = assign(conformed.frame, table, SKY)
        origin = listed(dataset_type="objectTable" if table is TABLE else None, data_id={"tract": CLAIM})
        part = check(assigned, conformed.original, table, SKY, origin, first_row=start, doubles=doubles)
        counts += counts_of(plan, conformed, part)
        good[number] = part.good
        refused.append(quarantine_rows(part.refused, table=table.table, input_id=1, uri="u"))
    return pl.concat([good[number] for number, _, _ in pieces]), pl.concat(refused).sort("row_number"), counts


drawn_rows = st.lists(rows, max_size=20)
cuts_of = st.sets(st.integers(0, 20), max_size=4)


@settings(max_examples=100, deadline=None)
@given(drawn=drawn_rows, cuts=cuts_of, own_place=st.booleans())
def test_every_row_is_good_or_refused_by_just_the_rules_that_plain_python_finds(drawn, cuts, own_place):
    batch = frame_of(drawn)
    table = TABLE if own_place else PLACED
    good, refused, counts = ingest(batch, table, {c for c in cuts if c < batch.height})
    expected = expected_rules(drawn, own_place=own_place)
    told = {number: set(rules) for number, rules in refused.select("row_number", "rules").iter_rows()}
    assert told == {number: rules for number, rules in expected.items() if rules}
    assert good["id"].to_list() == [row["id"] for n, row in enumerate(drawn) if not expected[n]]
    assert counts.rows_read == len(drawn) == good.height + refused.height
    assert counts.rules == Counter(rule for rules in expected.values() for rule in rules)
    assert counts.rows_set_aside == sum("not_unique" in rules for rules in expected.values())


@settings(max_examples=100, deadline=None)
@given(drawn=drawn_rows)
def test_good_rows_keep_their_values_bit_by_bit_but_for_what_is_not_finite(drawn):
    good, _, counts = ingest(frame_of(drawn), TABLE, set())
    kept = [row for n, row in enumerate(drawn) if not expected_rules(drawn, own_place=True)[n]]
    for name, form in (("x", "<d"), ("y", "<f")):
        bits = [None if v is None else struct.pack(form, v) for v in good[name].to_list()]
        finite = [row[name] is not None and math.isfinite(row[name]) for row in kept]
        assert bits == [struct.pack(form, row[name]) if ok else None for row, ok in zip(kept, finite, strict=True)]
        lost = sum(row[name] is not None and not math.isfinite(row[name]) for row in drawn)
        assert counts.nulled.get(name, 0) == lost
    assert good["ra"].to_list() == [row["position"][0] % 360 for row in kept]


@settings(max_examples=100, deadline=None)
@given(drawn=drawn_rows)
def test_refused_rows_keep_their_values_as_they_came(drawn):
    _, refused, _ = ingest(frame_of(drawn), TABLE, set())
    words = {"NaN": NAN, "Infinity": INF, "-Infinity": -INF}
    for number, text in refused.select("row_number", "values").iter_rows():
        row = drawn[number]
        was = {**row, "ra": row["position"][0], "dec": row["position"][1]}
        kept = {
            name: words.get(value, value) if isinstance(value, str) else value
            for name, value in json.loads(text).items()
        }
        assert {name: spelled(kept[name], name) for name in kept} == {name: spelled(was[name], name) for name in kept}


def spelled(value, name):
    """Return a value in a form that is equal for the same bits, NaN included; y is a float32."""
    if value is None or name not in {"ra", "dec", "x", "y"}:
        return value
    return "NaN" if math.isnan(value) else struct.pack("<f" if name == "y" else "<d", value)


@settings(max_examples=30, deadline=None)
@given(drawn=drawn_rows, cuts=cuts_of, random=st.randoms(use_true_random=False))
def test_neither_the_cuts_nor_the_order_of_batches_matter(drawn, cuts, random):
    batch = frame_of(drawn)
    whole = ingest(batch, TABLE, set())
    parts = ingest(
        batch, TABLE, {c for c in cuts if c < batch.height}, lambda pieces: random.sample(pieces, len(pieces))
    )
    assert parts[0].equals(whole[0])
    assert parts[1].equals(whole[1])
    assert parts[2] == whole[2]


@settings(max_examples=30, deadline=None)
@given(drawn=drawn_rows)
def test_derived_rows_have_the_published_place_or_none(drawn):
    batch = frame_of(drawn).select("id", "ra", "dec")
    conformed = conform(batch, plan_columns(PLACED, header(batch)))
    assigned = assign(conformed.frame, PLACED, SKY)
    assert assigned.drop("tract", "patch").equals(conformed.frame)
    for row, place in zip(drawn, assigned.select("tract", "patch").iter_rows(), strict=True):
        ra, dec = row["position"]
        known = ra is not None and dec is not None and math.isfinite(ra) and (ra % 360, dec) in INNER
        if known:
            assert place == INNER[ra % 360, dec]
        elif ra is None or dec is None or not math.isfinite(ra) or not abs(dec) <= 90:
            assert place == (None, None)
