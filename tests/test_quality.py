import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from support.small_contracts import contract, declared, derived, given, header, through
from warehouse.contracts import DatasetType, Packed, SetAside
from warehouse.errors import QualityError
from warehouse.ingest import quality
from warehouse.ingest.assign import assign
from warehouse.ingest.conform import conform, keys_only, plan_columns
from warehouse.ingest.quality import (
    InputCounts,
    check,
    counts_of,
    find_doubles,
    quarantine_rows,
    share_exceeded,
)
from warehouse.sky import skymap

NAN, INF = math.nan, math.inf
SKY = skymap.named("DC2")
# (62, -37) lies in the inner box of patch 10 of tract 3831, and in the outer boxes of its patches 10 and 3 only.
RA, DEC = 62.0, -37.0


def checked(table, batch, origin=None, **words):
    """Conform, assign and check a batch that is a whole input."""
    places = words.pop("truth_places", None)
    plan = plan_columns(table, header(batch))
    conformed = conform(batch.select(plan.read), plan)
    frame = assign(conformed.frame, table, SKY, truth_places=places)
    return check(frame, conformed.original, table, SKY, origin or given(), **words)


def rules(result):
    """Row number -> its rules."""
    return {n: set(r) for n, r in result.refused.select("row_number", "rules").iter_rows()}


def here(rows=1, **columns):
    """Rows at one good position with ascending ids, some columns replaced."""
    return pl.DataFrame({"id": list(range(1, rows + 1)), "ra": [RA] * rows, "dec": [DEC] * rows} | columns)


def test_good_rows_pass_untouched_and_nothing_is_counted():
    result = checked(derived(), here(3))
    assert result.good["id"].to_list() == [1, 2, 3]
    assert result.good["tract"].to_list() == [3831] * 3
    assert (result.refused.height, result.counts, result.set_aside) == (0, {}, 0)


def test_a_row_without_a_key_is_refused():
    result = checked(derived(), here(3, id=[1, None, 3]))
    assert rules(result) == {1: {"key_null"}}
    assert result.good["id"].to_list() == [1, 3]


def test_the_first_row_of_a_key_stays():
    result = checked(derived(), here(5, id=[7, 8, 7, 7, 8]))
    assert rules(result) == {2: {"duplicate_key"}, 3: {"duplicate_key"}, 4: {"duplicate_key"}}
    assert result.good["id"].to_list() == [7, 8]


def test_ascending_keys_with_a_repeat_are_found():
    assert rules(checked(derived(), here(4, id=[1, 2, 2, 3]))) == {2: {"duplicate_key"}}


def test_rows_without_a_key_do_not_repeat_each_other():
    assert rules(checked(derived(), here(3, id=[None, None, 1]))) == {0: {"key_null"}, 1: {"key_null"}}


def test_a_key_of_several_columns_repeats_only_as_a_whole():
    table = derived({"visit": "int"}, key=("id", "visit"))
    result = checked(table, here(4, id=[1, 1, 1, 2], visit=[5, 6, 5, 5]))
    assert rules(result) == {2: {"duplicate_key"}}
    assert result.refused["key"].to_list() == ["1,5"]


@pytest.mark.parametrize("bad", [{"ra": None}, {"ra": NAN}, {"ra": INF}, {"dec": None}, {"dec": -INF}])
@pytest.mark.parametrize("table", ["derived", "declared"])
def test_a_row_without_a_position_breaks_that_rule_alone(bad, table):
    batch = here(2).with_columns(tract=pl.lit(3831), patch=pl.lit(10))
    (name, value) = next(iter(bad.items()))
    batch = batch.with_columns(pl.Series(name, [value, batch[name][1]], dtype=pl.Float64))
    result = checked(declared() if table == "declared" else derived(), batch)
    assert rules(result) == {0: {"position_null"}}


@pytest.mark.parametrize(("ra", "dec"), [(RA, 90.0001), (RA, -91.0), (720.0, DEC), (-361.0, DEC), (1e300, DEC)])
@pytest.mark.parametrize("table", ["derived", "declared"])
def test_a_position_off_the_sky_breaks_that_rule_alone(ra, dec, table):
    batch = here(2, ra=[ra, RA], dec=[dec, DEC]).with_columns(tract=pl.lit(3831), patch=pl.lit(10))
    assert rules(checked(declared() if table == "declared" else derived(), batch)) == {0: {"position_range"}}


@pytest.mark.parametrize("ra", [-298.0, 422.0, 62.0])
def test_a_position_in_another_turn_is_the_same_place(ra):
    result = checked(declared(), here(1, ra=[ra], tract=[3831], patch=[10]))
    assert result.good["ra"].to_list() == [62.0]


@pytest.mark.parametrize("dec", [90.0, -90.0])
def test_the_poles_are_on_the_sky(dec):
    assert checked(derived(), here(1, dec=[dec])).good.height == 1


def test_declared_rows_need_tract_and_patch():
    result = checked(declared(), here(3, tract=[None, 3831, 3831], patch=[10, None, 10]))
    assert rules(result) == {0: {"tract_patch_null"}, 1: {"tract_patch_null"}}


def test_declared_tracts_and_patches_must_be_on_the_map():
    # The map has 18938 tracts of 49 patches, numbered from 0.
    result = checked(declared(), here(5, tract=[-1, 18938, 3831, 3831, 3831], patch=[10, 10, 49, -1, 10]))
    assert rules(result) == {n: {"tract_patch_unknown"} for n in range(4)}


def test_declared_rows_must_lie_in_their_patchs_outer_box():
    result = checked(declared(), here(4, tract=[3831, 3831, 3831, 4431], patch=[10, 3, 24, 10]))
    assert rules(result) == {2: {"outside_outer_box"}, 3: {"outside_outer_box"}}


def test_rows_that_contradict_the_path_are_refused():
    origin = given(dataset_type="sourceTable", data_id={"visit": 192350, "detector": 175})
    batch = here(4, id=[192350175, 192350174, 192351175, None])
    assert rules(checked(derived(), batch, origin)) == {
        1: {"data_id_contradicts"},
        2: {"data_id_contradicts"},
        3: {"key_null"},
    }


def test_a_path_whose_tract_contradicts_its_rows():
    origin = given(dataset_type="objectTable", data_id={"tract": 3831, "patch": 3})
    result = checked(declared(), here(3, tract=[3831] * 3, patch=[3, 10, None]), origin)
    assert rules(result) == {1: {"data_id_contradicts"}, 2: {"tract_patch_null"}}


def test_values_that_tell_nothing_contradict_nothing():
    where = {"tract": Packed("diaObjectId", divide=49 << 43, none=(0,))}
    table = derived({"diaObjectId": "long"}, dataset_types=(DatasetType("diaSourceTable_tract", ("tract",), where),))
    object_of_3831 = (3831 * 49 + 10 << 43) + 1
    object_of_3832 = (3832 * 49 + 10 << 43) + 1
    batch = here(4, diaObjectId=[0, object_of_3831, object_of_3832, None])
    assert rules(checked(table, batch, given(data_id={"tract": 3831}))) == {2: {"data_id_contradicts"}}


def test_a_data_id_of_words_or_of_columns_that_only_the_file_has_is_compared_too():
    where = {"band": Packed("band"), "visit": Packed("visit")}
    table = derived(dataset_types=(DatasetType("sourceTable_visit", ("visit",), where),))
    origin = given(dataset_type="sourceTable_visit", data_id={"band": "i", "visit": "12"})
    batch = here(3, band=["i", "r", "i"], visit=[12, 12, 13])
    assert rules(checked(table, batch, origin)) == {1: {"data_id_contradicts"}, 2: {"data_id_contradicts"}}


def test_a_derived_tract_is_not_what_the_path_means():
    # Rows near a tract's border lie in the neighbour's inner region; the file's tract is another thing.
    table = derived({"tract": "long"}, dataset_types=(DatasetType("t", ("tract",), {"tract": Packed("tract")}),))
    result = checked(table, here(2, tract=[3830, 3829]), given(data_id={"tract": 3830}))
    assert rules(result) == {1: {"data_id_contradicts"}}
    assert result.good["tract"].to_list() == [3831]


PLACES = pl.DataFrame({"id_truth_type": ["1_1", "2_1"], "tract": [3831, 3831], "patch": [10, 3]})


def test_rows_without_a_truth_row_are_refused():
    batch = pl.DataFrame({"id_truth_type": ["1_1", "9_1", None], "id": [1, 9, 8], "truth_type": [1, 1, 1]})
    result = checked(through(), batch, truth_places=PLACES)
    assert rules(result) == {1: {"no_truth_row"}, 2: {"no_truth_row", "key_null"}}


def test_a_row_keeps_every_rule_that_refuses_it():
    origin = given(dataset_type="objectTable", data_id={"tract": 3831})
    result = checked(declared(), here(2, id=[None, 1], dec=[NAN, DEC], tract=[99999, 3831], patch=[1, 10]), origin)
    assert rules(result) == {0: {"key_null", "position_null", "tract_patch_unknown", "data_id_contradicts"}}
    assert result.counts == {
        "key_null": 1, "position_null": 1, "tract_patch_unknown": 1, "data_id_contradicts": 1,
    }  # fmt: skip


NOT_UNIQUE = SetAside("not_unique", where="is_unique = false")


def test_what_the_contract_sets_aside_is_kept_apart_from_faults():
    table = derived(set_aside=(NOT_UNIQUE,), ignore=("is_unique",))
    result = checked(table, here(4, dec=[DEC, DEC, None, DEC], is_unique=[True, False, False, None]))
    assert rules(result) == {1: {"not_unique"}, 2: {"not_unique", "position_null"}}
    assert result.set_aside == 2


@pytest.mark.parametrize(
    ("spare", "kept"),
    [(math.inf, 8), (6, 8), (5.9, 3), (0, 3), (-0.1, 0)],
)
def test_of_an_input_that_is_beyond_saving_only_examples_are_kept_and_all_are_counted(monkeypatch, spare, kept):
    monkeypatch.setattr(quality, "EXAMPLES", 3)
    table = derived(set_aside=(NOT_UNIQUE,), ignore=("is_unique",))
    batch = here(9, dec=[DEC] + [None] * 6 + [DEC] * 2, is_unique=[True] * 7 + [False] * 2)
    result = checked(table, batch, spare=spare)
    assert result.refused["row_number"].to_list() == list(range(1, 1 + kept))
    assert result.counts == {"position_null": 6, "not_unique": 2}
    assert (result.good.height, result.rows_refused, result.set_aside) == (1, 8, 2)


def test_a_row_set_aside_does_not_take_the_place_of_the_one_that_stays():
    table = derived(set_aside=(NOT_UNIQUE,), ignore=("is_unique",))
    result = checked(table, here(3, id=[5, 5, 5], is_unique=[False, True, True]))
    assert rules(result) == {0: {"not_unique"}, 2: {"duplicate_key"}}


def test_a_file_without_the_rules_column_sets_nothing_aside():
    assert checked(derived(set_aside=(NOT_UNIQUE,)), here(2)).good.height == 2


BEST = through(
    {"match": "long", "chi": "double"},
    null_values={"match": (0, -1)},
    set_aside=(SetAside("repeated", best=("match IS NULL", "chi", "match DESC")),),
)
MATCHES = pl.DataFrame(
    {
        "id_truth_type": ["1_1", "1_1", "1_1", "1_1", "1_1", "2_1"],
        "id": [1, 1, 1, 1, 1, 2],
        "truth_type": [1] * 6,
        "match": [-1, 70, 80, 90, 0, 5],
        "chi": [0.0, NAN, 2.0, 2.0, 1.0, 1.0],
    }
)


def test_of_a_keys_rows_the_best_stays():
    # A null match comes last although its chi is least, then one without chi; of equal chi the greater match is first.
    result = checked(BEST, MATCHES, truth_places=PLACES)
    assert result.good["match"].to_list() == [90, 5]
    assert rules(result) == {n: {"repeated"} for n in (0, 1, 2, 4)}
    assert result.set_aside == 4


def test_the_best_row_is_found_by_the_columns_that_the_file_has():
    (rule,) = BEST.set_aside
    table = replace(BEST, set_aside=(SetAside("repeated", best=("NOT absent", *rule.best)),))
    result = checked(table, MATCHES, truth_places=PLACES)
    assert result.good["match"].to_list() == [90, 5]
    assert result.counts == {"repeated": 4}
    none = replace(BEST, set_aside=(SetAside("repeated", best=("NOT absent",)),))
    assert checked(none, MATCHES, truth_places=PLACES).counts == {"duplicate_key": 4}


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_the_best_row_is_found_across_batches(size):
    plan = plan_columns(BEST, header(MATCHES))
    keys = keys_only(plan)
    doubles = find_doubles((part.select(keys.read) for part in MATCHES.iter_slices(size)), keys)
    kept, refused = [], []
    for first in range(0, MATCHES.height, size):
        conformed = conform(MATCHES[first : first + size].select(plan.read), plan, first_row=first)
        frame = assign(conformed.frame, BEST, SKY, truth_places=PLACES)
        part = check(frame, conformed.original, BEST, SKY, given(), first_row=first, doubles=doubles)
        kept += part.good["match"].to_list()
        refused += part.refused["row_number"].to_list()
    assert kept == [90, 5]
    assert refused == [0, 1, 2, 4]


def test_no_batches_have_no_doubles():
    assert find_doubles(iter([]), keys_only(plan_columns(derived(), header(here())))) == {}


def test_the_row_numbers_of_a_later_batch_count_from_the_files_start():
    result = checked(derived(), here(3, id=[1, 1, None]), first_row=1000)
    assert rules(result) == {1001: {"duplicate_key"}, 1002: {"key_null"}}


def test_a_refused_row_keeps_what_it_was():
    batch = pl.DataFrame(
        {
            "id": [None, None],
            "ra": [-298.0, RA],
            "dec": [NAN, INF],
            "x": pl.Series([0.1, -INF], dtype=pl.Float32),
            "name": ['a "quoted" \n é', None],
            "flag": [True, None],
            "raw": [b"i\xff", None],
            "vector": pl.Series([[1.5, NAN], None], dtype=pl.Array(pl.Float64, 2)),
            "match": [0, -(2**63)],
        }
    )
    words = {"x": "float", "name": "string", "flag": "boolean", "vector": "vector", "match": "long"}
    where = "raw IS NULL"
    table = derived(words, null_values={"match": (0,)}, set_aside=(SetAside("no_raw", where=where),))
    result = checked(table, batch)
    rows = [json.loads(text) for text in result.refused["values"]]
    assert rows[0] == {
        "id": None,
        "ra": -298.0,
        "dec": "NaN",
        "x": 0.1,
        "name": 'a "quoted" \n é',
        "flag": True,
        "raw": "i\\xff",
        "vector": [1.5, "NaN"],
        "match": 0,
    }
    assert rows[1] == {
        "id": None,
        "ra": RA,
        "dec": "Infinity",
        "x": "-Infinity",
        "name": None,
        "flag": None,
        "raw": None,
        "vector": None,
        "match": -(2**63),
    }
    assert list(rows[0]) == batch.columns


def test_quarantined_rows_say_where_they_came_from():
    result = checked(derived(), here(2, id=[3, 3]))
    rows = quarantine_rows(result.refused, table="Source", input_id=-5, uri="s3://in/a b.parq")
    assert rows.schema == {
        "table": pl.String,
        "input_id": pl.Int64,
        "uri": pl.String,
        "row_number": pl.Int64,
        "rules": pl.List(pl.String),
        "key": pl.String,
        "values": pl.String,
    }
    assert rows.row(0)[:6] == ("Source", -5, "s3://in/a b.parq", 1, ["duplicate_key"], "3")


def test_no_refused_rows_have_the_same_columns_as_some():
    none = quarantine_rows(checked(derived(), here()).refused, table="Source", input_id=1, uri="u")
    some = quarantine_rows(
        checked(derived(), here(id=[None]).cast({"id": pl.Int64})).refused, table="Source", input_id=1, uri="u"
    )
    assert none.schema == some.schema
    assert pl.concat([none, some]).height == 1


def test_a_table_without_a_position_or_partitions_is_judged_by_its_key():
    table = contract({"id": "long", "x": "double"}, position=None, assignment="none")
    result = checked(table, pl.DataFrame({"id": [1, 1, None], "x": [NAN, 1.0, 2.0]}))
    assert rules(result) == {1: {"duplicate_key"}, 2: {"key_null"}}


@pytest.mark.parametrize("table", [derived(), declared()])
def test_an_empty_input_has_no_good_and_no_refused_rows(table):
    empty = here(tract=[1], patch=[1])[:0]
    result = checked(table, empty, given(data_id={"tract": 1, "patch": 1, "visit": 3, "detector": 4}))
    assert (result.good.height, result.refused.height) == (0, 0)


def test_rows_that_vanish_between_the_steps_are_an_error():
    frame = assign(here(2), derived(), SKY)
    with pytest.raises(QualityError, match="expected the 3 rows read, found 2") as refused:
        check(frame, here(3), derived(), SKY, given())
    assert refused.value.kind == "unbalanced"


@pytest.mark.parametrize(
    ("rows", "refused", "limit", "exceeded"),
    [(100, 1, 0.01, False), (100, 2, 0.01, True), (0, 0, 0.0, False), (5, 1, 0.0, True), (5, 5, 1.0, False)],
)
def test_more_than_the_stated_share_fails_an_input(rows, refused, limit, exceeded):
    assert share_exceeded(rows, refused, limit) is exceeded


def test_counts_of_batches_add_up():
    table = derived({"x": "double", "gone": "float"}, set_aside=(NOT_UNIQUE,), ignore=("is_unique",))
    batch = here(4, id=[1, None, 3, 4], x=[NAN, 1.0, INF, 2.0], extra=[0] * 4, is_unique=[True, True, True, False])
    plan = plan_columns(table, header(batch))
    conformed = conform(batch.select(plan.read), plan)
    part = check(assign(conformed.frame, table, SKY), conformed.original, table, SKY, given())
    one = counts_of(plan, conformed, part)
    both = sum([one, one], start=InputCounts())
    assert (both.rows_read, both.rows_committed, both.rows_quarantined) == (8, 4, 4)
    assert (both.rows_set_aside, both.rows_refused) == (2, 2)
    assert both.rules == {"key_null": 2, "not_unique": 2}
    assert both.nulled == {"x": 4}
    assert (both.missing, both.extra) == (("gone",), ("extra",))


def test_counts_that_lose_a_row_are_an_error():
    with pytest.raises(QualityError, match=r"expected the 10 rows read.*found 8 committed and 1 quarantined"):
        InputCounts(rows_read=10, rows_committed=8, rows_quarantined=1)


def test_many_keys_out_of_order_are_told_apart():
    ids = np.random.default_rng(3).permutation(50_000)
    ids[40_000] = ids[123]
    batch = pl.DataFrame({"id": ids, "ra": np.full(50_000, RA), "dec": np.full(50_000, DEC)})
    assert rules(checked(derived(), batch)) == {40_000: {"duplicate_key"}}
