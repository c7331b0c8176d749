"""Upkeep removes what nobody needs and is old enough, and nothing else."""

import math
import os
import shutil
import time
from pathlib import Path

import pytest

from support import content, images, skies
from warehouse import Warehouse
from warehouse.errors import NotFoundError, QueryError, WarehouseError
from warehouse.lake import ledger, maintain, pins
from warehouse.simulate.damage import KINDS

PATCHES = "forcedSourceTable"
TABLE = "ForcedSource"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [PATCHES], objects=100, visits=2)


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, [PATCHES])


def replaced(world):
    """Load the tree and replace one input: one tombstone."""
    world.warehouse.ingest(TABLE, str(world.tree))
    KINDS["changed_rows"](str(world.files(PATCHES)[0]))
    world.warehouse.ingest(TABLE, str(world.tree))


def data_files(world):
    folder = Path(world.warehouse.uri) / TABLE
    return {path for path in content.files_below(folder) if not path.startswith("_")}


def of(done, table=TABLE):
    (found,) = [upkeep for upkeep in done if upkeep.table == table]
    return found


def age(folder, hours):
    """Make every file below a folder older by so many hours."""
    then = time.time() - 3600 * hours
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_tombstones_go_once_they_are_older_than_the_longest_run(world):
    replaced(world)
    wh = world.warehouse
    live = set(content.live_files(wh, TABLE))
    old = data_files(world) - live
    assert len(old) == 1
    assert of(wh.maintain()).data_files == 0
    assert data_files(world) == live | old
    before = content.fingerprint(wh, TABLE)
    assert of(wh.maintain(hours=0)).data_files == 1
    assert data_files(world) == live
    assert content.fingerprint(wh, TABLE) == before
    assert all(finding.holds for finding in wh.audit())


def test_what_a_pin_reads_is_kept_until_it_is_unpinned(world):
    world.warehouse.ingest(TABLE, str(world.tree))
    wh = world.warehouse
    first = content.fingerprint(wh, TABLE)
    wh.pin("first")
    KINDS["changed_rows"](str(world.files(PATCHES)[0]))
    wh.ingest(TABLE, str(world.tree))
    wh.maintain(hours=0)
    assert content.fingerprint(wh, TABLE, 1) == first
    wh.unpin("first")
    assert of(wh.maintain(hours=0)).data_files == 1
    assert data_files(world) == set(content.live_files(wh, TABLE))


def test_a_dry_run_counts_and_removes_nothing(world):
    replaced(world)
    with skies.crashing("staged") as watch:
        KINDS["changed_rows"](str(world.files(PATCHES)[1]), seed=4)
        world.warehouse.ingest(TABLE, str(world.tree), on_event=watch)
    wh, before = world.warehouse, content.files_below(Path(world.warehouse.uri) / TABLE)
    would = of(wh.maintain(hours=0, dry_run=True))
    assert would.data_files == 2
    assert would.staging_files >= 1
    after = content.files_below(Path(wh.uri) / TABLE)
    assert {path: after[path] for path in before if not path.startswith("_delta_log")} == {
        path: seen for path, seen in before.items() if not path.startswith("_delta_log")
    }
    did = of(wh.maintain(hours=0))
    assert (did.data_files, did.staging_files) == (would.data_files, would.staging_files)


@pytest.mark.parametrize(
    ("hours", "settings_hours", "old", "gone"),
    [
        (0.5, 168, 1.2, True),
        (1.0, 168, 1.2, True),
        (1.5, 168, 1.2, False),
        (3, 168, 1.2, False),
        (0.5, 168, 1 / 6, False),
        (1.5, 0.5, 1.2, False),
        (None, 0.5, 1.2, True),
        (None, 1.5, 1.2, False),
    ],
)
def test_no_orphan_goes_that_is_younger_than_told(world, hours, settings_hours, old, gone):
    """Hours are not cut to whole ones: half an hour would be none at all. Where none are told, the settings' count."""
    wh = world.warehouse
    with skies.crashing("staged") as watch:
        wh.ingest(TABLE, str(world.tree), on_event=watch)
    folder = Path(wh.uri) / TABLE
    staged = {path for path in content.files_below(folder) if not path.startswith("_delta_log")}
    for part in folder.iterdir():
        if part.name != "_delta_log":
            age(part, old)
    told = wh.settings.model_copy(update={"retention_hours": settings_hours})
    Warehouse.open(wh.uri, settings=told).maintain(hours=hours)
    left = content.files_below(folder).keys() & staged
    assert left == (set() if gone else staged)


def fail(*_, **__):
    raise WarehouseError("died")


def test_records_of_commits_that_never_landed_go_and_the_others_stay(world, monkeypatch):
    replaced(world)
    wh = world.warehouse
    folder = Path(wh.uri) / TABLE / "_commits"
    named = set(content.files_below(folder))
    KINDS["changed_rows"](str(world.files(PATCHES)[1]))
    with monkeypatch.context() as patch:
        patch.setattr("warehouse.ingest.commit.delta.commit", fail)
        with pytest.raises(WarehouseError, match="died"):
            wh.ingest(TABLE, str(world.tree))
    (orphan,) = set(content.files_below(folder)) - named
    wh.maintain()
    assert (folder / orphan).exists()
    wh.maintain(hours=0)
    assert set(content.files_below(folder)) == named


def test_records_stay_that_only_the_log_names(world, monkeypatch):
    """The ledger is a view, and may be behind or broken; what it was made from is kept."""
    replaced(world)
    wh = world.warehouse
    before = content.files_below(Path(wh.uri) / TABLE / "_commits")
    history = wh.history(TABLE)
    monkeypatch.setattr(maintain.ledger, "read", lambda *_: history.clear())
    wh.maintain(TABLE, hours=0)
    assert content.files_below(Path(wh.uri) / TABLE / "_commits") == before


def test_upkeep_brings_the_ledger_up_to_date(world):
    wh = world.warehouse
    with skies.crashing("committed") as watch:
        wh.ingest(TABLE, str(world.tree), on_event=watch)
    assert wh.history(TABLE).is_empty()
    wh.maintain(hours=0)
    assert wh.history(TABLE).height == 4
    assert not list((Path(wh.uri) / TABLE / "_staging").rglob("*.*"))


def test_ledger_and_quarantine_lose_nothing(world):
    KINDS["truncated"](str(world.files(PATCHES)[3]))
    replaced(world)
    wh = world.warehouse
    seen = (wh.history(), wh.quarantine(), ledger.read(wh.uri, ledger.QUARANTINE, None, wh.settings))
    for _ in range(2):
        wh.maintain(hours=0)
    again = (wh.history(), wh.quarantine(), ledger.read(wh.uri, ledger.QUARANTINE, None, wh.settings))
    assert all(one.equals(other) for one, other in zip(seen, again, strict=True))


def test_only_tables_that_are_named_are_cleaned(world):
    replaced(world)
    wh = world.warehouse
    assert [upkeep.table for upkeep in wh.maintain("Ledger", hours=0)] == ["Ledger"]
    assert len(data_files(world)) == 5
    assert {upkeep.table for upkeep in wh.maintain(hours=0)} >= {TABLE, "Ledger", "Quarantine"}
    assert len(data_files(world)) == 4


def test_a_table_is_opened_from_its_checkpoint_afterwards(world):
    replaced(world)
    wh = world.warehouse
    before = content.fingerprint(wh, TABLE)
    wh.maintain(TABLE)
    log = Path(wh.uri) / TABLE / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    assert content.fingerprint(wh, TABLE) == before
    assert content.fingerprint(wh, TABLE, 1) != before


def test_there_is_nothing_to_clean_where_there_is_no_table(world):
    assert {upkeep.table for upkeep in world.warehouse.maintain(hours=0)} == {"Ledger", "Quarantine"}
    assert world.warehouse.maintain("Source", hours=0) == []
    with pytest.raises(NotFoundError, match="did you mean Source"):
        world.warehouse.maintain("Sorce", hours=0)
    with pytest.raises(QueryError, match="0 or more, found -1"):
        world.warehouse.maintain(hours=-1)


def test_ledger_and_quarantine_that_were_lost_are_made_again(world):
    world.warehouse.ingest(TABLE, str(world.tree))
    before = content.ledger(world.warehouse, TABLE)
    for name in (ledger.LEDGER, ledger.QUARANTINE):
        shutil.rmtree(Path(world.warehouse.uri) / name)
    again = Warehouse.open(world.warehouse.uri, settings=world.warehouse.settings)
    again.maintain()
    assert content.ledger(again, TABLE).equals(before)
    assert all(finding.holds for finding in again.audit())


def test_what_was_recorded_of_images_is_made_again_with_the_ledger(tmp_path, settings):
    wh = Warehouse.create(str(tmp_path / "warehouse"), settings=settings)
    for path in images.make(tmp_path / "tree", bands="g", patches=1):
        wh.register_images(str(path))
    before = content.ledger(wh, "Image")
    assert before.height
    for name in (ledger.LEDGER, ledger.QUARANTINE):
        shutil.rmtree(Path(wh.uri) / name)
    wh.maintain(hours=0)
    assert content.ledger(wh, "Image").equals(before)
    assert all(finding.holds for finding in wh.audit())


def test_a_pin_of_a_version_that_is_not_there_is_named(world):
    world.warehouse.ingest(TABLE, str(world.tree))
    pins.pin(world.warehouse.root, "odd", world.warehouse.settings, versions={TABLE: 99})
    with pytest.raises(NotFoundError, match="version 99, which odd pins, is not there; the newest is 1"):
        world.warehouse.maintain(TABLE)


@pytest.mark.parametrize("hours", [-1.0, math.nan, math.inf])
def test_hours_are_a_finite_number(world, hours):
    with pytest.raises(QueryError, match="hours"):
        world.warehouse.maintain(hours=hours)
