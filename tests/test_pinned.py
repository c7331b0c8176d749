"""A pinned release never changes for its reader, whatever is ingested, replaced and cleaned away beside it."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import polars as pl
import pytest

from support import images
from support.small_warehouse import SETTINGS, emptied, simulated
from warehouse import Cone, Warehouse
from warehouse.contracts.derived import ObjectChoice
from warehouse.errors import ConflictError, NotFoundError, QueryError
from warehouse.lake import compact
from warehouse.lake.maintain import GROWING
from warehouse.simulate import simulate

CONE = Cone(62.0, -37.0, 0.1)


@pytest.fixture
def wh(tmp_path):
    return Warehouse.open(str(simulated().copy(tmp_path)), settings=SETTINGS)


def later_night(folder: Path) -> str:
    """Files of visits that came later, and of two patches that were processed again."""
    settled = {"objects": 1200, "radius": 0.2, "seed": 3, "settings": SETTINGS}
    simulate(str(folder), visits=2, first_visit=3, detectors=3, tables=["Source"], **settled)
    simulate(str(folder), visits=3, reprocessing=1, tables=["Object"], only={"patch": [9, 10]}, **settled)
    return str(folder)


def seen(wh) -> list[object]:
    """What a reader sees through every door."""
    visit = wh.data_ids("sourceTable_visit")["visit"][0]
    some = wh.scan("Object", CONE, columns=["objectId", "i_cModelFlux"]).collect()
    return [
        wh.tables().rows(),
        some.sort("objectId").rows(),
        sorted(wh.files("Object", CONE)),
        wh.data_ids("sourceTable_visit").rows(),
        wh.get("sourceTable_visit", visit=visit, columns=["sourceId"]).sort("sourceId").rows(),
        wh.lightcurve(some["objectId"][0], columns=["psfFlux"]).rows(),
        wh.sky_info("Object").rows(),
        wh.sql("SELECT COUNT(*) AS n, SUM(o.i_cModelFlux) AS flux FROM Object o").collect().rows(),
        wh.version("Source"),
    ]


def pictures(wh) -> list[object]:
    """What a reader sees of images."""
    found = wh.images(Cone(images.SKY["ra"], images.SKY["dec"], 0.05)).select("dataset", "uri", "input_id")
    return [
        found.sort("dataset").collect().rows(),
        *(sorted(wh.files(name)) for name in GROWING),
        *(wh.scan(name).collect().sort("input_id").rows() for name in GROWING),
    ]


def test_a_pinned_reader_sees_its_release_while_others_write_and_clean(wh, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "LEAST_FILES", 2)
    first, *others = images.make(tmp_path / "images", bands="g", patches=1)
    for path in (first, *others[:-1]):
        wh.register_images(str(path))
    wh.pin("2026-11")
    before = [seen(wh), pictures(wh)]
    reader = Warehouse.open(wh.uri, release="2026-11", settings=SETTINGS)
    night = later_night(tmp_path / "night")
    ended = threading.Event()
    failures: list[BaseException] = []
    merged: dict[str, int] = {}

    def write():
        try:
            writer = Warehouse.open(wh.uri, settings=SETTINGS)
            writer.ingest("Source", night)
            writer.ingest("Object", night)
            writer.register_images(str(others[-1]))
            # Without the ledger, which is no part of a release: of that, no hours leave nothing to who reads it now.
            done = writer.maintain("Object", "Source", *GROWING, hours=0)
            merged.update({upkeep.table: upkeep.compacted for upkeep in done})
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    looks = 0
    while not ended.is_set() or looks < 2:
        assert [seen(reader), pictures(reader)] == before
        looks += 1
    thread.join()
    assert not failures
    assert (merged["Image"] >= 2, merged["ObsCore"] >= 2) == (True, True)
    [ledger] = wh.maintain("Ledger", hours=0)
    assert ledger.compacted >= 2
    for pinned in (reader, Warehouse.open(wh.uri, release="2026-11", settings=SETTINGS)):
        assert [seen(pinned), pictures(pinned)] == before
    # The one that is not pinned has moved on, without being opened anew.
    after = seen(wh)
    assert after[1] != before[0][1]
    assert len(after[3]) == 5
    assert wh.scan("Object", CONE, version="2026-11").select(pl.len()).collect().item() == len(before[0][1])
    for name in GROWING:
        assert len(wh.files(name)) < len(wh.files(name, version="2026-11"))
        assert not set(wh.files(name)) & set(wh.files(name, version="2026-11"))


def test_the_logs_of_all_tables_are_kept_because_pins_need_their_old_versions(wh, tmp_path):
    """Delta's own default cleans a log of what is older than 30 days, and with it the versions that pins name."""
    wh.register_images(str(images.make(tmp_path / "images", bands="g", patches=1)[0]))
    wh.materialise()
    wh.materialise(choice=ObjectChoice(bands=("i",)))  # takes another schema
    said = {}
    for path in sorted(Path(wh.uri).glob("*/_delta_log/*.json")):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        settings = [action["metaData"]["configuration"] for action in actions if "metaData" in action]
        said.setdefault(path.parent.parent.name, []).extend(s.get("delta.enableExpiredLogCleanup") for s in settings)
    loaded = wh.tables().drop_nulls("version")["table"].to_list()
    assert said.keys() == {*loaded, "Ledger", "Quarantine"} >= {"Object", "Image", "ObsCore", "ObjectTruth"}
    assert len(said["ObjectTruth"]) == 2
    assert {table: set(words) for table, words in said.items()} == {table: {"false"} for table in said}


def test_pins_are_listed_kept_apart_and_removed(wh):
    first = wh.pin("first")
    assert first.versions["Object"] == wh.version("Object")
    wh.pin("second")
    assert [p.name for p in wh.pins()] == ["first", "second"]
    with pytest.raises(ConflictError, match="exists"):
        wh.pin("first")
    wh.unpin("first")
    assert [p.name for p in wh.pins()] == ["second"]
    with pytest.raises(NotFoundError, match="did you mean second"):
        Warehouse.open(wh.uri, release="secnd", settings=SETTINGS)
    with pytest.raises(NotFoundError, match="no pinned release 'first'"):
        wh.unpin("first")


def test_a_pinned_reader_is_answered_by_the_version_that_it_asks_for(wh):
    wh.pin("full")
    emptied(wh, "Visit")
    wh.pin("emptied")
    reader = Warehouse.open(wh.uri, release="full", settings=SETTINGS)
    rows = {version: reader.scan("Visit", version=version).collect().height for version in (None, 0, 1, 2, "emptied")}
    assert rows == {None: 3, 0: 0, 1: 3, 2: 0, "emptied": 0}


def test_what_was_not_there_when_it_was_pinned_is_not_there(tmp_path):
    made = Warehouse.create(str(tmp_path / "new"), settings=SETTINGS)
    made.pin("empty")
    made.ingest("Visit", str(simulated().files("visitTable")[0]))
    assert made.scan("Visit").collect().height == 3
    reader = Warehouse.open(made.uri, release="empty", settings=SETTINGS)
    with pytest.raises(NotFoundError, match="when 'empty' was pinned"):
        reader.scan("Visit")
    assert reader.tables()["rows"].null_count() == reader.tables().height


def test_a_pinned_dataset_outlives_its_input(tmp_path):
    """The truth's rows do not tell their tract: the ledger does, as it was then."""
    files = [Path(shutil.copy(path, tmp_path)) for path in simulated().files("truth_summary")]
    made = Warehouse.create(str(tmp_path / "new"), settings=SETTINGS)
    made.ingest("TruthSummary", str(tmp_path))
    made.pin("then")
    tract = int(made.data_ids("truth_summary")["tract"][0])
    before = made.get("truth_summary", tract=tract)
    next(path for path in files if f"_{tract}_" in path.name).unlink()
    made.ingest("TruthSummary", str(tmp_path), remove_vanished=True)
    with pytest.raises(NotFoundError, match=f"no truth_summary tract={tract}"):
        made.get("truth_summary", tract=tract)
    reader = Warehouse.open(made.uri, release="then", settings=SETTINGS)
    assert reader.get("truth_summary", tract=tract).equals(before)
    assert reader.data_ids("truth_summary").height == len(files)


def test_nothing_is_written_through_a_pinned_release(wh):
    wh.pin("fixed")
    reader = Warehouse.open(wh.uri, release="fixed", settings=SETTINGS)
    for write in (
        lambda: reader.ingest("Visit", str(simulated().tree)),
        lambda: reader.ingest_tree(str(simulated().tree)),
        lambda: reader.retry("Visit"),
        reader.match,
        reader.materialise,
        lambda: reader.register_images(str(simulated().tree)),
        lambda: reader.pin("another"),
        lambda: reader.unpin("fixed"),
        lambda: reader.maintain(hours=0),
        lambda: reader.maintain(dry_run=True),  # it brings the ledger up to date
    ):
        with pytest.raises(QueryError, match="'fixed' is open, which never changes"):
            write()
    assert [pin.name for pin in wh.pins()] == ["fixed"]


def test_the_columns_of_object_truth_are_those_that_were_pinned(wh):
    wh.pin("before")
    wh.materialise(choice=ObjectChoice(bands=("i",), columns=("detect_isPrimary",)))
    wh.pin("narrow")
    wh.materialise(choice=ObjectChoice(bands=("g", "r"), columns=("refBand", "detect_isPrimary")))
    narrow = Warehouse.open(wh.uri, release="narrow", settings=SETTINGS)
    for door in (narrow, wh):
        told = set(door.columns("ObjectTruth")["column"])
        assert told <= set(door.scan("ObjectTruth").collect_schema().names())
        assert ("obj_i_cModelFlux" in told, "obj_refBand" in told) == (door is narrow, door is wh)
    # What it would be made of, as nothing was made yet.
    before = Warehouse.open(wh.uri, release="before", settings=SETTINGS)
    assert {"obj_i_cModelFlux", "obj_refBand"} <= set(before.columns("ObjectTruth")["column"])
