"""What a listing means: which files count, and which are left aside, so that no row is ever doubled."""

from dataclasses import replace

import pytest

from warehouse import contracts
from warehouse.config import Settings
from warehouse.errors import ContractError, NotFoundError
from warehouse.ingest.plan import plan, unit_of
from warehouse.lake.ledger import Entry
from warehouse.lake.units import input_id, run_order
from warehouse.readers.reader import Input

OBJECT = contracts.load("dp02").contract("Object")
SOURCE = contracts.load("dp02").contract("Source")
SETTINGS = Settings()
EARLIER = "2.2i/runs/DP0.2/step3_1/20220317T233937Z"
LATER = "2.2i/runs/DP0.2/step3_2/20220401T000000Z"


def patch_file(tract=4431, patch=17, run=EARLIER, **changes):
    uri = f"s3://in/{run}/objectTable/{tract}/{patch}/objectTable_{tract}_{patch}.parq"
    given = Input(uri, 100, "etag-1", "objectTable", {"tract": tract, "patch": patch}, run)
    return replace(given, **changes)


def tract_file(tract=4431):
    uri = f"s3://in/{EARLIER}/objectTable_tract/{tract}/objectTable_tract_{tract}.parq"
    return Input(uri, 4900, "etag-t", "objectTable_tract", {"tract": tract}, EARLIER)


def loaded(item, contract=OBJECT, status="committed"):
    unit = unit_of(contract, item)
    return Entry(
        input_id(contract.table, unit), unit, item.uri, item.size, item.stamp, status,
        dataset_type=item.dataset_type, data_id=item.data_id, run=item.run, digest="d", tracts=(4431,),
    )  # fmt: skip


def uris(planned):
    return [p.input.uri for p in planned.work]


def test_new_inputs_are_sorted_as_they_lie_on_the_sky():
    inputs = [patch_file(patch=p, tract=t) for t, p in ((4432, 1), (4431, 10), (4431, 9))]
    found = plan(OBJECT, inputs, [], SETTINGS)
    assert [(p.input.data_id["tract"], p.input.data_id["patch"], p.why) for p in found.work] == [
        (4431, 9, "new"), (4431, 10, "new"), (4432, 1, "new"),
    ]  # fmt: skip
    assert found.dataset_type == "objectTable"


def test_only_the_preferred_dataset_type_of_a_tree_is_read():
    found = plan(OBJECT, [tract_file(), patch_file()], [], SETTINGS)
    assert uris(found) == [patch_file().uri]
    (aside,) = found.left_aside
    assert aside.uri == tract_file().uri
    assert "fed by objectTable" in aside.why


def test_a_dataset_type_that_was_told_is_read_instead():
    found = plan(OBJECT, [tract_file(), patch_file()], [], SETTINGS, dataset_type="objectTable_tract")
    assert uris(found) == [tract_file().uri]


def test_a_second_dataset_type_is_refused_once_another_has_fed_the_table():
    for told in (None, "objectTable_tract"):
        with pytest.raises(ContractError, match="fed by objectTable, these inputs are objectTable_tract"):
            plan(OBJECT, [tract_file()], [loaded(patch_file())], SETTINGS, dataset_type=told)


def test_the_type_that_feeds_the_table_stays_although_another_is_preferred():
    found = plan(OBJECT, [patch_file(), tract_file()], [loaded(tract_file())], SETTINGS)
    assert found.nothing_new
    assert [a.uri for a in found.left_aside] == [patch_file().uri]


def test_plain_files_do_not_mix_with_a_dataset_type():
    plain = Input("s3://in/objects.parq", 5, "e")
    with pytest.raises(ContractError, match="plain files"):
        plan(OBJECT, [plain], [loaded(patch_file())], SETTINGS)


def test_an_unknown_dataset_type_is_named_with_its_near_misses():
    with pytest.raises(NotFoundError, match="objectTable"):
        plan(OBJECT, [patch_file()], [], SETTINGS, dataset_type="objectTabel")


def test_the_later_run_of_a_data_id_wins_in_one_listing():
    found = plan(OBJECT, [patch_file(run=LATER), patch_file(run=EARLIER)], [], SETTINGS)
    assert uris(found) == [patch_file(run=LATER).uri]
    assert [a.uri for a in found.left_aside] == [patch_file().uri]


def test_a_later_run_replaces_what_an_earlier_one_loaded():
    found = plan(OBJECT, [patch_file(run=LATER, stamp="etag-2")], [loaded(patch_file())], SETTINGS)
    (work,) = found.work
    assert (work.why, work.tracts) == ("changed", (4431,))


def test_an_earlier_run_never_replaces_a_later_one():
    found = plan(OBJECT, [patch_file(stamp="etag-2")], [loaded(patch_file(run=LATER))], SETTINGS)
    assert found.nothing_new
    assert "later run" in found.left_aside[0].why


def test_run_order_goes_by_time_stamp_before_name():
    assert run_order("a/20220401T000000Z") > run_order("z/20220317T233937Z") > run_order("z") > run_order(None)


def test_unchanged_changed_refused_and_removed():
    same, changed = patch_file(patch=1), patch_file(patch=2)
    broken, gone = patch_file(patch=3), patch_file(patch=4)
    entries = [loaded(same), loaded(changed), loaded(broken, status="refused"), loaded(gone, status="removed")]
    found = plan(OBJECT, [same, replace(changed, stamp="etag-2"), broken, gone], entries, SETTINGS)
    assert {(p.input.data_id["patch"], p.why) for p in found.work} == {(2, "changed"), (4, "new")}
    assert {e.data_id["patch"] for e in found.unchanged} == {1, 3}


def test_a_copy_of_a_loaded_plain_file_is_left_aside(tmp_path):
    from warehouse import storage

    items = []
    for name in ("a.parq", "b.parq"):
        (tmp_path / name).write_bytes(b"content")
        items.append(Input(str(tmp_path / name), *storage.stamp(str(tmp_path / name), SETTINGS)))
    entry = replace(loaded(items[0]), digest=storage.digest(items[0].uri, SETTINGS))
    found = plan(OBJECT, items, [entry], SETTINGS)
    assert found.nothing_new
    assert [a.uri for a in found.left_aside] == [items[1].uri]
    (tmp_path / "b.parq").write_bytes(b"CONTENT")
    other = Input(items[1].uri, *storage.stamp(items[1].uri, SETTINGS))
    assert uris(plan(OBJECT, [items[0], other], [entry], SETTINGS)) == [items[1].uri]


def test_inputs_that_were_placed_by_another_state_of_the_truth_are_taken_up_again():
    entry = replace(loaded(patch_file()), places="TruthSummary 0")
    assert plan(OBJECT, [patch_file()], [entry], SETTINGS, places="TruthSummary 0").nothing_new
    found = plan(OBJECT, [patch_file()], [entry], SETTINGS, places="TruthSummary 1")
    assert [p.why for p in found.work] == ["retry"]


def test_the_callers_order_of_runs_may_put_an_earlier_one_first():
    found = plan(OBJECT, [patch_file(stamp="etag-2")], [loaded(patch_file(run=LATER))], SETTINGS, ordered=True)
    assert [p.why for p in found.work] == ["changed"]


def test_retry_takes_up_an_unchanged_input():
    entry = loaded(patch_file(), status="refused")
    found = plan(OBJECT, [patch_file()], [entry], SETTINGS, retry=[entry.input_id])
    assert [p.why for p in found.work] == ["retry"]


def test_the_same_content_at_another_place_is_unchanged_on_s3():
    moved = patch_file(uri="s3://copy/objectTable_4431_17.parq")
    assert plan(OBJECT, [moved], [loaded(patch_file())], SETTINGS).nothing_new


def test_a_local_file_that_was_only_touched_is_unchanged(tmp_path):
    path = tmp_path / "a.parq"
    path.write_bytes(b"content")
    from warehouse import storage

    size, stamp = storage.stamp(str(path), SETTINGS)
    item = Input(str(path), size, stamp)
    entry = replace(loaded(item), digest=storage.digest(str(path), SETTINGS), stamp="another time")
    assert plan(OBJECT, [item], [entry], SETTINGS).nothing_new
    path.write_bytes(b"CONTENT")
    size, stamp = storage.stamp(str(path), SETTINGS)
    assert not plan(OBJECT, [replace(item, stamp=stamp)], [entry], SETTINGS).nothing_new


def test_vanished_inputs_are_told_and_stay_unless_asked():
    entries = [loaded(patch_file(patch=p)) for p in (1, 2)]
    for remove in (False, True):
        found = plan(OBJECT, [patch_file(patch=1)], entries, SETTINGS, roots=["s3://in"], remove_vanished=remove)
        assert [e.data_id["patch"] for e in found.vanished] == [2]
        assert [e.data_id["patch"] for e in found.removes] == ([2] if remove else [])
        assert found.nothing_new is not remove


def test_inputs_outside_the_listed_folder_have_not_vanished():
    entries = [loaded(patch_file(patch=p)) for p in (1, 2)]
    found = plan(OBJECT, [patch_file(patch=1)], entries, SETTINGS, roots=["s3://in/another"])
    assert found.vanished == ()


def test_the_plan_id_follows_the_work_alone():
    one = plan(OBJECT, [patch_file(), patch_file(patch=3)], [], SETTINGS)
    same = plan(OBJECT, [patch_file(patch=3), patch_file()], [loaded(patch_file(patch=9))], SETTINGS)
    other = plan(OBJECT, [patch_file(stamp="etag-2"), patch_file(patch=3)], [], SETTINGS)
    assert one.plan_id == same.plan_id != other.plan_id


def test_ids_are_positive_and_depend_on_the_table():
    ids = {input_id(table, unit) for table in ("Object", "Source") for unit in ("a", "b")}
    assert len(ids) == 4
    assert all(0 <= i < 1 << 63 for i in ids)


def test_a_visit_is_one_unit_whatever_its_file_is_called():
    first = Input("s3://in/a.parq", 1, "e", "sourceTable_visit", {"visit": 192350, "band": "i"})
    again = Input("s3://in/b.fits", 1, "f", "sourceTable_visit", {"visit": 192350, "instrument": "LSSTCam-imSim"})
    assert unit_of(SOURCE, first) == unit_of(SOURCE, again) == "sourceTable_visit visit=192350"
