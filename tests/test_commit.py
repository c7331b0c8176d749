"""A commit shows all that was staged and hides all that it replaces, or does neither."""

import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from support import content, skies
from warehouse.config import Settings
from warehouse.errors import ConflictError, QualityError, WarehouseError
from warehouse.ingest import commit as committing
from warehouse.ingest import stage
from warehouse.ingest.job import Job, read_staged
from warehouse.lake import delta, units
from warehouse.lake.root import ensure_table
from warehouse.simulate.damage import KINDS

VISITS = "sourceTable_visit"
SETTINGS = Settings(memory=512 << 20, workers=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [VISITS])


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, [VISITS])


def prepared(world):
    root = world.warehouse.root
    base = ensure_table(root, "Source", SETTINGS)
    plan = world.warehouse.plan("Source", str(world.tree))
    job = Job(root, "Source", plan.plan_id, "run", 0.01)
    work, _ = stage.units(job, plan, SETTINGS)
    return job, plan, base, [read_staged(stage.stage(job, unit, SETTINGS), SETTINGS) for unit in work]


def spoilt(records, **changes):
    (record,) = records
    first, *rest = record.entries
    return [replace(record, entries=(replace(first, **changes), *rest))]


@pytest.mark.parametrize(
    "changes", [{"rows_committed": 1, "rows_read": 1}, {"rows_read": 1 << 30}, {"rows_quarantined": 1}]
)
def test_totals_that_do_not_balance_are_not_committed(world, changes):
    job, plan, base, records = prepared(world)
    with pytest.raises(QualityError, match="totals do not balance") as caught:
        committing.commit(job, plan, base, spoilt(records, **changes), SETTINGS)
    assert (caught.value.kind, caught.value.table) == ("totals", "Source")
    assert world.warehouse.version("Source") == 0


def test_a_file_that_no_entry_accounts_for_is_not_committed(world):
    job, plan, base, (record,) = prepared(world)
    with pytest.raises(QualityError, match="totals do not balance"):
        committing.commit(job, plan, base, [replace(record, files=record.files[1:])], SETTINGS)
    assert content.rows(world.warehouse, "Source").is_empty()


def test_a_commit_that_lost_the_race_leaves_the_table_as_the_winner_made_it(world):
    job, plan, base, records = prepared(world)
    committing.commit(job, plan, base, records, SETTINGS)
    before = content.fingerprint(world.warehouse, "Source")
    with pytest.raises(ConflictError):
        committing.commit(job, plan, base, records, SETTINGS)
    assert content.fingerprint(world.warehouse, "Source") == before
    assert world.warehouse.version("Source") == 1


def test_of_many_commits_on_one_snapshot_one_lands(world):
    job, plan, _, records = prepared(world)
    bases = [delta.snapshot(job.table_uri, SETTINGS) for _ in range(4)]
    barrier, outcomes = threading.Barrier(4), []

    def attempt(base):
        barrier.wait(60)
        try:
            outcomes.append(committing.commit(job, plan, base, records, SETTINGS).version)
        except ConflictError as error:
            outcomes.append(error.kind)

    threads = [threading.Thread(target=attempt, args=(base,)) for base in bases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["1", "conflict", "conflict", "conflict"]
    assert world.warehouse.version("Source") == 1


def without(world, *numbers):
    """Stage the table without the rows of some inputs; return new files, obsolete paths and those inputs' ids."""
    history = world.warehouse.history("Source")
    uris = [str(world.files(VISITS)[number]) for number in numbers]
    gone = dict(history.filter(pl.col("uri").is_in(uris)).select("input_id", "tracts").iter_rows())
    gone = {identity: pl.Series([tracts]).str.json_decode(pl.List(pl.Int64))[0] for identity, tracts in gone.items()}
    base = delta.snapshot(f"{world.warehouse.uri}/Source", SETTINGS)
    contract = world.warehouse.root.contract("Source")
    return (*units.without(contract, base, gone, SETTINGS), set(gone))


def test_taking_an_input_out_rewrites_the_files_that_hold_it_and_no_others(world):
    for path in world.files(VISITS)[:4]:
        world.warehouse.ingest("Source", str(path))
    wh = world.warehouse
    before = content.files_below(Path(wh.uri) / "Source")
    files, obsolete, gone = without(world, 1)
    holding = {
        path
        for path in content.live_files(wh, "Source")
        if gone & set(pl.read_parquet(Path(wh.uri) / "Source" / path, columns=["input_id"]).to_series())
    }
    # Each visit was committed alone: its files hold nothing else, and are only removed.
    assert (set(obsolete), files) == (holding, [])
    assert content.files_below(Path(wh.uri) / "Source") == before


def test_taking_some_inputs_out_keeps_the_rows_of_the_others(world):
    world.warehouse.ingest("Source", str(world.tree))
    wh = world.warehouse
    rows = content.rows(wh, "Source")
    files, obsolete, gone = without(world, 0, 5)
    assert len(gone) == 2
    assert set(obsolete) == set(content.live_files(wh, "Source"))
    kept = pl.concat(
        [pl.read_parquet(Path(wh.uri) / "Source" / file.path, hive_partitioning=False) for file in files]
    ).sort("sourceId")
    expected = rows.filter(~pl.col("input_id").is_in(list(gone)))
    assert kept.equals(expected.select(kept.columns))


def test_taking_out_what_is_not_there_changes_nothing(world):
    world.warehouse.ingest("Source", str(world.tree))
    base = delta.snapshot(f"{world.warehouse.uri}/Source", SETTINGS)
    contract = world.warehouse.root.contract("Source")
    for gone in ({}, {17: ()}, {17: (3830,)}, {17: (1,)}):
        assert units.without(contract, base, gone, SETTINGS) == ([], [])


def test_an_input_is_found_in_its_files_after_they_were_put_together(world):
    """As compaction will do: the column tells, whatever file a row lies in."""
    for path in world.files(VISITS)[:3]:
        world.warehouse.ingest("Source", str(path))
    KINDS["changed_rows"](str(world.files(VISITS)[1]))
    world.warehouse.ingest("Source", str(world.tree))
    wh = world.warehouse
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))


def test_of_several_that_create_a_table_at_once_one_does(tmp_path):
    """Two first runs of a night must not stop each other, nor leave two creations in the log."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    failures = []
    for turn in range(5):
        uri, barrier = str(tmp_path / f"table{turn}"), threading.Barrier(4)

        def create(uri=uri, barrier=barrier):
            barrier.wait(60)
            try:
                delta.create(uri, schema, SETTINGS, name="table")
            except WarehouseError as error:
                failures.append(error)

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert delta.snapshot(uri, SETTINGS).version == 0
    assert failures == []
