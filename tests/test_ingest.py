"""What is delivered lands once; what is delivered again replaces its own rows and nothing else."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from warehouse import Warehouse
from warehouse.errors import ContractError, NotFoundError, StorageError
from warehouse.ingest import commit, run, stage
from warehouse.lake.events import Event, StoppedError, ignore
from warehouse.simulate.damage import KINDS

VISITS = "sourceTable_visit"
PATCHES = "forcedSourceTable"
TABLES = {"Source": VISITS, "ForcedSource": PATCHES}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [VISITS, PATCHES, "forcedSourceTable_tract"])


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, TABLES.values())


def ingest(world, table="Source", **more):
    return world.warehouse.ingest(table, str(world.tree), **more)


def break_file(kind, path, seed=1):
    return KINDS[kind](str(path), seed=seed)


def untouched(world, table, path):
    """Return the live files that hold no row of the input `path`."""
    wh = world.warehouse
    ids = pl.read_parquet(path, columns=[wh.root.contract(table).key[0]]).to_series()
    held = content.rows(wh, table).filter(pl.col(ids.name).is_in(ids.implode()))
    places = set(held.select("tract", "patch").iter_rows())
    return {file for file, place in content.live_files(wh, table).items() if place not in places}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_lands_once_with_its_values_and_in_its_place(world, table):
    report = ingest(world, table)
    files = world.files(TABLES[table])
    expected = content.delivered(world.warehouse, table, files)
    assert content.same(world.warehouse, table, expected)
    assert report.rows_read == report.rows_committed == expected.height
    assert (report.inputs, report.version, report.refused) == (len(files), 1, ())
    found = content.rows(world.warehouse, table)
    if table == "Source":
        tract, patch = world.warehouse.skymap.find(found["coord_ra"], found["coord_dec"])
        assert (found["tract"] == pl.Series(tract)).all()
        assert (found["patch"] == pl.Series(patch)).all()
    assert found.group_by("tract", "patch").len().height == 4
    assert len(content.live_files(world.warehouse, table)) == 4


def test_the_ledger_tells_what_became_of_each_input(world):
    report = ingest(world)
    history = world.warehouse.history("Source")
    assert set(history["uri"]) == {str(path) for path in world.files(VISITS)}
    counted = content.rows(world.warehouse, "Source").group_by("input_id").len()
    assert dict(history.select("input_id", "rows_committed").iter_rows()) == dict(counted.iter_rows())
    assert set(history["status"]) == {"committed"}
    assert set(history["version"]) == {1}
    assert set(history["run_id"]) == {report.run_id}
    assert (history["seconds"] >= 0).all()


def test_a_second_run_says_nothing_new_and_writes_nothing(world):
    for table in TABLES:
        ingest(world, table)
    before = content.files_below(Path(world.warehouse.uri))
    for table, dataset_type in TABLES.items():
        report = ingest(world, table)
        assert report.nothing_new
        assert report.version == 1
        assert len(report.plan.unchanged) == len(world.files(dataset_type))
    assert content.files_below(Path(world.warehouse.uri)) == before


def test_a_plan_writes_no_version_and_stages_nothing(world):
    plan = world.warehouse.plan("Source", str(world.tree))
    assert len(plan.work) == 8
    assert not (Path(world.warehouse.uri) / "Source").exists()
    ingest(world)
    before = content.files_below(Path(world.warehouse.uri))
    break_file("changed_rows", world.files(VISITS)[2])
    plan = world.warehouse.plan("Source", str(world.tree))
    assert [(p.input.uri, p.why) for p in plan.work] == [(str(world.files(VISITS)[2]), "changed")]
    assert content.files_below(Path(world.warehouse.uri)) == before


@pytest.mark.parametrize("table", TABLES)
def test_a_changed_input_replaces_exactly_its_own_rows_in_one_version(world, table):
    ingest(world, table)
    wh, path = world.warehouse, world.files(TABLES[table])[1]
    before, apart = content.rows(wh, table), untouched(world, table, path)
    done = break_file("changed_rows", path)
    report = ingest(world, table)
    assert (report.inputs, report.version, report.rows_read) == (1, 2, done.rows - 1)
    assert content.same(wh, table, content.delivered(wh, table, world.files(TABLES[table])))
    own = report.entries[0].input_id
    after = content.rows(wh, table)
    assert after.filter(pl.col("input_id") != own).equals(before.filter(pl.col("input_id") != own))
    assert apart <= set(content.live_files(wh, table))
    assert content.rows(wh, table, 1).equals(before)
    assert all(finding.holds for finding in wh.audit())


def test_files_without_a_row_of_the_changed_input_stay_byte_for_byte(world):
    ingest(world, "ForcedSource")
    folder = Path(world.warehouse.uri) / "ForcedSource"
    path = world.files(PATCHES)[0]
    apart = untouched(world, "ForcedSource", path)
    assert len(apart) == 3
    before = content.files_below(folder)
    break_file("changed_rows", path)
    ingest(world, "ForcedSource")
    after = content.files_below(folder)
    assert {file: after[file] for file in apart} == {file: before[file] for file in apart}
    assert len(content.live_files(world.warehouse, "ForcedSource")) == 4


def test_an_input_that_shrinks_to_nothing_takes_its_rows_with_it(world):
    ingest(world)
    break_file("no_rows", world.files(VISITS)[0])
    report = ingest(world)
    assert (report.inputs, report.rows_read, report.refused) == (1, 0, ())
    assert content.same(
        world.warehouse, "Source", content.delivered(world.warehouse, "Source", world.files(VISITS)[1:])
    )


def test_a_broken_redelivery_leaves_the_rows_that_it_should_have_replaced(world):
    ingest(world)
    wh, path = world.warehouse, world.files(VISITS)[3]
    before, good = content.fingerprint(wh, "Source"), path.read_bytes()
    break_file("truncated", path)
    report = ingest(world)
    assert [entry.uri for entry in report.refused] == [str(path)]
    assert content.fingerprint(wh, "Source") == before
    assert all(finding.holds for finding in wh.audit())
    assert ingest(world).nothing_new
    path.write_bytes(good)
    break_file("changed_rows", path)
    ingest(world)
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert wh.quarantine("Source").is_empty()


def test_what_never_had_rows_is_looked_for_in_no_file_when_it_is_mended(world, monkeypatch):
    victim = world.files(VISITS)[0]
    good = victim.read_bytes()
    break_file("truncated", victim)
    ingest(world)
    victim.write_bytes(good)
    looked_for = []
    without = commit.without
    monkeypatch.setattr(
        commit,
        "without",
        lambda contract, base, gone, how: looked_for.append(gone) or without(contract, base, gone, how),
    )
    assert ingest(world).rows_committed > 0
    assert looked_for == [{}]
    assert content.same(world.warehouse, "Source", content.delivered(world.warehouse, "Source", world.files(VISITS)))


def test_a_dataset_type_that_there_is_not_is_named_with_what_was_meant(world):
    with pytest.raises(NotFoundError, match="did you mean sourceTable"):
        world.warehouse.ingest_tree(str(world.tree), dataset_types=["sourceTabel"])


def test_after_a_broken_redelivery_the_old_rows_are_found_beside_other_changes(world):
    """The refusal moves no rows: where they are must not be forgotten when inputs of other tracts change with it."""
    wh = world.warehouse
    ingest(world, "ForcedSource")
    near, far = world.files(PATCHES)[0], world.files(PATCHES)[-1]
    assert near.parts[-3] != far.parts[-3]
    good = near.read_bytes()
    break_file("zero_byte", near)
    ingest(world, "ForcedSource")
    near.write_bytes(good)
    break_file("changed_rows", near)
    break_file("changed_rows", far)
    report = ingest(world, "ForcedSource")
    assert report.inputs == 2
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))


def test_after_a_broken_redelivery_a_vanished_input_still_takes_its_rows_with_it(world):
    ingest(world, "ForcedSource")
    first, second, *rest = world.files(PATCHES)
    break_file("zero_byte", first)
    ingest(world, "ForcedSource")
    first.unlink()
    second.unlink()
    report = ingest(world, "ForcedSource", remove_vanished=True)
    assert {entry.uri for entry in report.entries} == {str(first), str(second)}
    wh = world.warehouse
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", rest))


def test_a_table_is_fed_by_one_dataset_type_even_after_its_redelivery_was_broken(world, original):
    for path in world.files("forcedSourceTable"):
        path.unlink()
    shutil.copytree(original, world.tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("forcedSourceTable_3*"))
    ingest(world, "ForcedSource", dataset_type="forcedSourceTable_tract")
    wh, by_tract = world.warehouse, world.files("forcedSourceTable_tract")
    before = content.fingerprint(wh, "ForcedSource")
    for path in by_tract:
        break_file("zero_byte", path)
    assert len(ingest(world, "ForcedSource", dataset_type="forcedSourceTable_tract").refused) == len(by_tract)
    shutil.copytree(original, world.tree, dirs_exist_ok=True)
    with pytest.raises(ContractError, match="fed by forcedSourceTable_tract") as caught:
        ingest(world, "ForcedSource", dataset_type="forcedSourceTable")
    assert caught.value.kind == "overlap"
    assert content.fingerprint(wh, "ForcedSource") == before


def test_the_same_rows_by_tract_and_by_patch_are_loaded_once(original, tmp_path, settings):
    world = skies.world(original, tmp_path, settings, [PATCHES, "forcedSourceTable_tract"])
    report = ingest(world, "ForcedSource")
    wh = world.warehouse
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))
    assert {aside.uri for aside in report.plan.left_aside} == {
        str(path) for path in world.files("forcedSourceTable_tract")
    }


@pytest.mark.parametrize("order", ["together", "later last", "later first"])
def test_the_later_run_of_a_data_id_is_what_the_table_holds(world, order):
    wh, path = world.warehouse, world.files(VISITS)[4]
    early = path.read_bytes()
    if order == "later last":
        ingest(world)
    later = Path(break_file("later_run", path).uri)
    if order == "later first":
        path.unlink()
        ingest(world)
        path.write_bytes(early)
    report = ingest(world)
    files = [later, *(file for file in world.files(VISITS) if file not in {path, later})]
    assert content.same(wh, "Source", content.delivered(wh, "Source", files))
    assert [aside.uri for aside in report.plan.left_aside] == [str(path)]
    assert ingest(world).nothing_new
    later.unlink()
    assert ingest(world).nothing_new


def test_an_earlier_run_counts_as_long_as_the_later_one_is_broken(world):
    """What stands in the table decides, not what was last tried."""
    path = world.files(VISITS)[4]
    later = Path(break_file("later_run", path).uri)
    break_file("truncated", later)
    ingest(world)
    later.unlink()
    ingest(world)
    wh = world.warehouse
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))


def test_rows_of_vanished_inputs_stay_unless_they_shall_go(world):
    ingest(world)
    wh, path = world.warehouse, world.files(VISITS)[0]
    before = content.fingerprint(wh, "Source")
    path.unlink()
    kept = ingest(world)
    assert kept.nothing_new
    assert [entry.uri for entry in kept.plan.vanished] == [str(path)]
    assert content.fingerprint(wh, "Source") == before
    gone = ingest(world, remove_vanished=True)
    assert (gone.inputs, gone.version) == (0, 2)
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert ingest(world, remove_vanished=True).nothing_new
    assert all(finding.holds for finding in wh.audit())


def test_a_table_of_which_no_input_is_left_is_told_and_loses_its_rows_only_when_asked(world):
    world.warehouse.ingest_tree(str(world.tree))
    held = content.rows(world.warehouse, "ForcedSource")
    for path in world.files(PATCHES):
        path.unlink()
    there, gone = world.warehouse.ingest_tree(str(world.tree))
    assert (there.table, there.nothing_new, there.plan.vanished) == ("Source", True, ())
    assert (gone.table, gone.nothing_new, len(gone.plan.vanished)) == ("ForcedSource", True, 4)
    assert content.rows(world.warehouse, "ForcedSource").equals(held)
    only = world.warehouse.ingest_tree(str(world.tree), tables=["Source"], remove_vanished=True)
    assert [report.table for report in only] == ["Source"]
    assert content.rows(world.warehouse, "ForcedSource").equals(held)
    world.warehouse.ingest_tree(str(world.tree), remove_vanished=True)
    assert content.rows(world.warehouse, "ForcedSource").is_empty()
    assert all(finding.holds for finding in world.warehouse.audit())
    (only_source,) = world.warehouse.ingest_tree(str(world.tree))
    assert only_source.table == "Source"


def test_an_empty_tree_says_nothing_of_any_table(world):
    world.warehouse.ingest_tree(str(world.tree))
    for path in (*world.files(PATCHES), *world.files(VISITS)):
        path.unlink()
    with pytest.raises(NotFoundError):
        world.warehouse.ingest_tree(str(world.tree), remove_vanished=True)
    assert content.rows(world.warehouse, "Source").height


def test_a_listing_without_an_input_removes_no_tables_rows(world):
    """Whoever lists by other means than a tree's, too: nothing found is a failed listing's other face."""
    wh, settings = world.warehouse, world.warehouse.settings
    wh.ingest_tree(str(world.tree))
    held = {table: content.fingerprint(wh, table) for table in ("Source", "ForcedSource")}
    roots = [str(world.tree)]
    assert run.by_table(wh.root, [], settings, listed=roots) == []
    assert run.ingest_inputs(wh.root, [], settings, roots=roots, remove_vanished=True) == []
    assert {table: content.fingerprint(wh, table) for table in held} == held


def test_an_input_that_comes_back_is_loaded_again(world):
    ingest(world)
    wh, path = world.warehouse, world.files(VISITS)[0]
    before, aside = content.fingerprint(wh, "Source"), path.with_suffix(".aside")
    path.rename(aside)
    ingest(world, remove_vanished=True)
    aside.rename(path)
    ingest(world)
    assert content.fingerprint(wh, "Source") == before


def test_an_empty_listing_removes_nothing(world):
    ingest(world)
    before = content.fingerprint(world.warehouse, "Source")
    shutil.rmtree(world.tree)
    with pytest.raises(NotFoundError):
        ingest(world, remove_vanished=True)
    world.tree.mkdir()
    with pytest.raises(NotFoundError):
        ingest(world, remove_vanished=True)
    assert content.fingerprint(world.warehouse, "Source") == before


def test_a_part_of_the_tree_says_nothing_of_the_rest(world):
    ingest(world, "ForcedSource")
    before = content.fingerprint(world.warehouse, "ForcedSource")
    one = world.files(PATCHES)[0]
    report = world.warehouse.ingest("ForcedSource", str(one.parent), remove_vanished=True)
    assert report.nothing_new
    assert report.plan.vanished == ()
    by_data_id = ingest(world, "ForcedSource", remove_vanished=True, tract=int(one.parts[-3]))
    assert by_data_id.nothing_new
    assert content.fingerprint(world.warehouse, "ForcedSource") == before


def test_retry_takes_up_what_was_refused_and_what_was_set_aside(world, settings):
    path = world.files(VISITS)[2]
    good = path.read_bytes()
    done = break_file("null_positions", path)
    other = world.files(VISITS)[5]
    whole = other.read_bytes()
    break_file("not_parquet", other)
    wh = Warehouse(world.warehouse.root, settings.model_copy(update={"max_quarantined_share": 0.5}))
    report = wh.ingest("Source", str(world.tree))
    assert report.rules["position_null"] == done.rows
    path.write_bytes(good)
    other.write_bytes(whole)
    again = wh.retry("Source")
    assert {entry.uri for entry in again.entries} == {str(path), str(other)}
    assert (again.refused, again.rows_quarantined) == ((), 0)
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert wh.quarantine("Source").is_empty()
    assert wh.retry("Source").nothing_new


def test_retry_leaves_alone_what_is_not_there(world):
    path = world.files(VISITS)[5]
    break_file("not_parquet", path)
    ingest(world)
    before = content.fingerprint(world.warehouse, "Source")
    path.unlink()
    events = []
    assert world.warehouse.retry("Source", on_event=events.append).nothing_new
    assert [event.detail for event in events if event.step == "vanished"] == [str(path)]
    assert content.fingerprint(world.warehouse, "Source") == before
    assert world.warehouse.quarantine("Source")["uri"].to_list() == [str(path)]


def test_retry_after_a_crash_behind_the_commit_reads_anew(world):
    """What a dead run staged and committed must not be taken for work that waits: it is in the table."""
    done = break_file("null_positions", world.files(VISITS)[2])
    with skies.crashing("committed") as watch:
        ingest(world, on_event=watch)
    wh = world.warehouse
    before = content.fingerprint(wh, "Source")
    assert wh.retry("Source").rows_quarantined == done.rows
    assert content.fingerprint(wh, "Source") == before
    with skies.crashing("committed") as watch:
        wh.retry("Source", on_event=watch)
    assert wh.retry("Source").rows_quarantined == done.rows
    assert content.fingerprint(wh, "Source") == before
    assert all(finding.holds for finding in wh.audit())


def test_a_dead_runs_verdict_does_not_outlive_the_share_it_rests_on(world, settings):
    path = world.files(VISITS)[2]
    frame = pl.read_parquet(path)
    spoilt = pl.when(pl.int_range(pl.len()) < frame.height // 5).then(None).otherwise(pl.col("coord_ra"))
    frame.with_columns(spoilt.alias("coord_ra")).write_parquet(path)
    with skies.crashing("staged") as watch:
        ingest(world, on_event=watch)
    lenient = Warehouse(world.warehouse.root, settings.model_copy(update={"max_quarantined_share": 0.5}))
    report = lenient.ingest("Source", str(world.tree))
    assert report.refused == ()
    assert report.rules == {"position_null": frame.height // 5}


def test_staged_work_of_a_dead_run_is_taken_over(world, monkeypatch):
    monkeypatch.setattr(stage, "LEAST", 1)
    with skies.crashing("staged") as watch:
        ingest(world, "ForcedSource", on_event=watch)
    wh = world.warehouse
    assert content.rows(wh, "ForcedSource").is_empty()
    staged_before = content.files_below(Path(wh.uri) / "ForcedSource")
    events = []
    ingest(world, "ForcedSource", on_event=events.append)
    steps = [event.step for event in events]
    assert steps.count("resumed") == 4
    assert "staging" not in steps
    assert set(content.live_files(wh, "ForcedSource")) <= set(staged_before)
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))


def test_many_visits_are_gathered_into_one_file_a_patch(world, monkeypatch):
    monkeypatch.setattr(stage, "LEAST", 1)
    events = []
    ingest(world, on_event=events.append)
    steps = [event.step for event in events]
    assert steps.count("staging") == 8
    assert "gathered" in steps
    assert len(content.live_files(world.warehouse, "Source")) == 4
    wh = world.warehouse
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert not list((Path(wh.uri) / "Source" / "_staging").rglob("*.*"))


def test_the_order_of_deliveries_changes_no_row(world, tmp_path, settings):
    at_once = skies.World(world.tree, Warehouse.create(str(tmp_path / "other"), settings=settings))
    ingest(at_once)
    for path in reversed(world.files(VISITS)):
        world.warehouse.ingest("Source", str(path))
    assert content.fingerprint(world.warehouse, "Source") == content.fingerprint(at_once.warehouse, "Source")
    assert world.warehouse.version("Source") == 8


def test_a_plain_folder_needs_a_table_and_is_a_unit_by_its_path(world, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for number, path in enumerate(world.files(VISITS)[:2]):
        shutil.copy(path, plain / f"night{number}.parquet")
    wh = world.warehouse
    report = wh.ingest("Source", str(plain))
    assert {entry.unit for entry in report.entries} == {str(path) for path in plain.iterdir()}
    with pytest.raises(ContractError, match="fed by plain files"):
        ingest(world)
    assert content.same(wh, "Source", content.delivered(wh, "Source", sorted(plain.iterdir())))


def test_reports_add_up(world):
    break_file("truncated", world.files(VISITS)[0])
    report = ingest(world)
    assert report.rows_read == report.rows_committed + report.rows_quarantined
    assert report.inputs == 8
    assert replace(report, entries=()).rows_read == 0


def test_the_first_failure_ends_the_units_that_were_begun_before_it(settings, monkeypatch):
    ended = []

    def work(_job, unit, _settings, watch):
        if unit == "fails":
            raise StorageError("the store is gone")
        deadline = time.monotonic() + 60
        try:
            while time.monotonic() < deadline:
                watch(Event("staging", "Source"))
        except StoppedError:
            ended.append(unit)
            raise
        return unit

    monkeypatch.setattr(run.staging, "stage", work)
    two = settings.model_copy(update={"workers": 2})
    with pytest.raises(StorageError, match="the store is gone"):
        run.Threads().stage(None, ["goes on", "fails"], two, ignore)
    assert ended == ["goes on"]
