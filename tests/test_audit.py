"""The audit finds by itself what does not hold, whatever the ledger says."""

import os
import shutil
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from support import content, skies, small_warehouse
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import NotFoundError
from warehouse.lake import delta, staged
from warehouse.lake.audit import _keys, _passes, audit

TYPES = ["objectTable", "forcedSourceTable", "sourceTable_visit", "ccdVisitTable", "visitTable"]
TABLES = ["Object", "ForcedSource", "Source", "CcdVisit", "Visit"]
SETTINGS = Settings(memory=512 << 20, workers=2)
LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    tree = skies.make(folder / "tree", TYPES, objects=100, visits=2, detectors=1)
    wh = Warehouse.create(str(folder / "warehouse"), settings=SETTINGS)
    wh.ingest_tree(str(tree))
    return wh


@pytest.fixture
def wh(sound, tmp_path):
    shutil.copytree(sound.uri, tmp_path / "warehouse")
    return Warehouse.open(str(tmp_path / "warehouse"), settings=SETTINGS)


@pytest.fixture
def simulated_wh():
    return small_warehouse.simulated().open()


def add(wh, table, frame, *, tract=None, patch=None):
    """Commit rows past the ingest: nobody checks them, and no ledger knows of them."""
    base = delta.snapshot(wh.root.table_uri(table), SETTINGS)
    partition = (tract, patch) if tract is not None else ()
    file = staged.write_rows(frame, wh.root.contract(table), base.uri, SETTINGS, partition)
    delta.commit(base, uuid.uuid4().hex, SETTINGS, add=[file])


def some(wh, table, rows=3):
    """Return the first rows of one file of a table as they lie in it, and their tract and patch."""
    path, place = min(content.live_files(wh, table).items())
    return pl.read_parquet(Path(wh.uri) / table / path, hive_partitioning=False).head(rows), place


def broken(wh, *tables):
    return {(finding.table, finding.check): finding for finding in wh.audit(*tables) if not finding.holds}


def test_a_sound_warehouse_holds_and_each_thing_was_looked_at(sound):
    findings = sound.audit()
    assert [finding for finding in findings if not finding.holds] == []
    looked_at = {(finding.table, finding.check): finding.looked_at for finding in findings}
    for table in TABLES:
        rows = content.rows(sound, table).height
        assert looked_at[table, "unique key"] == looked_at[table, "rows in the log"] == rows > 0
        assert looked_at[table, "rows an input"] == sound.history(table).height
        assert looked_at[table, "files are there"] == len(content.live_files(sound, table))
    for table in ("Object", "ForcedSource", "Source"):
        assert looked_at[table, "position in its patch"] == content.rows(sound, table).height
    assert looked_at["ForcedSource", "objectId in Object"] == content.rows(sound, "ForcedSource").height
    assert looked_at["Source", "ccdVisitId in CcdVisit"] == content.rows(sound, "Source").height


def test_a_folder_above_that_is_named_like_a_partition_is_none(sound, tmp_path):
    folder = tmp_path / "tract=9" / "patch=1" / "warehouse"
    shutil.copytree(sound.uri, folder)
    findings = Warehouse.open(str(folder), settings=SETTINGS).audit()
    assert [(f.table, f.check, f.looked_at, f.wrong) for f in findings] == [
        (f.table, f.check, f.looked_at, f.wrong) for f in sound.audit()
    ]


def test_only_the_tables_that_are_named_are_looked_at(sound):
    assert {finding.table for finding in sound.audit("Source", "Visit")} == {"Source", "Visit"}
    with pytest.raises(NotFoundError, match="Source"):
        sound.audit("Sources")


def test_doubled_rows_are_found_by_key_and_by_input(wh):
    frame, (tract, patch) = some(wh, "ForcedSource")
    add(wh, "ForcedSource", frame, tract=tract, patch=patch)
    found = broken(wh, "ForcedSource")
    assert set(found) == {("ForcedSource", "unique key"), ("ForcedSource", "rows an input")}
    assert found["ForcedSource", "unique key"].wrong == 3
    assert "forcedSourceId" in found["ForcedSource", "unique key"].example
    assert found["ForcedSource", "rows an input"].wrong == 1
    assert "ledger" in found["ForcedSource", "rows an input"].example


def test_a_key_that_stands_in_two_tracts_is_found(wh):
    frame, _ = some(wh, "Source", rows=1)
    other = next(place for place in content.live_files(wh, "Source").values() if place[0] == 3831)
    add(wh, "Source", frame, tract=other[0], patch=other[1])
    found = broken(wh, "Source")
    assert found["Source", "unique key"].wrong == 1
    assert found["Source", "position in its patch"].wrong == 1
    assert f"{other[0]}/{other[1]}" in found["Source", "position in its patch"].example


TINY = SETTINGS.model_copy(update={"memory": 5_000})


def test_a_memory_that_holds_a_part_of_the_rows_finds_what_a_large_one_does(wh):
    """Held against a count by Polars alone."""
    frame, (tract, patch) = some(wh, "ForcedSource")
    add(wh, "ForcedSource", frame, tract=tract, patch=patch)
    other = next(place for place in content.live_files(wh, "ForcedSource").values() if place[0] != tract)
    add(wh, "ForcedSource", frame.head(2), tract=other[0], patch=other[1])
    ids = pl.int_range(1, frame.height + 1, dtype=pl.Int64)
    lost = frame.with_columns(forcedSourceId=ids, objectId=ids)
    add(wh, "ForcedSource", lost, tract=tract, patch=patch)
    rows = content.rows(wh, "ForcedSource")
    assert [_passes(delta.snapshot(wh.root.table_uri(t), TINY), TINY) > 2 for t in ("ForcedSource", "Object")] == [
        True
    ] * 2
    found = {f.check: f for f in audit(wh.root, TINY, tables=("ForcedSource",))}
    seen = [(found[check].looked_at, found[check].wrong) for check in ("unique key", "objectId in Object")]
    stray = ~rows["objectId"].is_in(content.rows(wh, "Object")["objectId"].implode())
    repeats = rows.height - rows["forcedSourceId"].n_unique()
    assert (repeats, stray.sum()) == (5, 3)
    assert seen == [(rows.height, 5), (rows.height, 3)]
    whole = {f.check: f for f in wh.audit("ForcedSource")}
    assert {c: (f.looked_at, f.wrong) for c, f in found.items()} == {
        c: (f.looked_at, f.wrong) for c, f in whole.items()
    }


def test_rows_that_lie_through_another_are_looked_for_in_every_part_of_its_tract(simulated_wh):
    (finding,) = [f for f in audit(simulated_wh.root, TINY, tables=("MatchesTruth",)) if "patch of its" in f.check]
    assert (finding.looked_at, finding.wrong) == (content.rows(simulated_wh, "MatchesTruth").height, 0)


def test_keys_are_compared_within_the_memory(tmp_path):
    rows, memory = 200_000, 4_000_000
    rng = np.random.default_rng(5)
    tables = small_warehouse.points(tmp_path, rng.uniform(61, 63, rows), rng.uniform(-38, -36, rows))
    snapshot = tables.open(small_warehouse.POINTS).snapshot
    contract = small_warehouse.points_contract()

    def peak(settings):
        tracemalloc.start()
        assert sum(seen for seen, _, _ in _keys(contract, snapshot, settings)) == rows
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    large = peak(SETTINGS)  # numpy's alone: what Polars holds is not traced
    small = peak(SETTINGS.model_copy(update={"memory": memory}))
    assert small < memory / 4 < large / 1.5


def test_rows_of_nobody_are_found(wh):
    frame, (tract, patch) = some(wh, "Source", rows=2)
    ids = pl.Series("sourceId", [1, 2], dtype=pl.Int64)
    add(wh, "Source", frame.with_columns(ids, pl.lit(77, pl.Int64).alias("input_id")), tract=tract, patch=patch)
    found = broken(wh, "Source")
    assert set(found) == {("Source", "rows an input")}
    assert found["Source", "rows an input"].example == "77: ledger 0, table 2"


def test_a_declared_patch_that_the_row_does_not_lie_in_is_found(wh):
    frame, (tract, patch) = some(wh, "Object", rows=1)
    add(wh, "Object", frame.with_columns(objectId=pl.lit(5, pl.Int64)), tract=tract, patch=patch + 20)
    assert broken(wh, "Object")["Object", "position in its patch"].wrong == 1


def test_a_broken_link_is_found_and_a_null_is_none(wh):
    frame, (tract, patch) = some(wh, "ForcedSource", rows=2)
    keys = pl.Series("forcedSourceId", [1, 2], dtype=pl.Int64)
    links = pl.Series("objectId", [123456789, None], dtype=pl.Int64)
    add(wh, "ForcedSource", frame.with_columns(keys, links), tract=tract, patch=patch)
    link = broken(wh, "ForcedSource")["ForcedSource", "objectId in Object"]
    assert (link.wrong, link.example) == (1, "objectId = 123456789")


def test_a_link_to_a_table_that_is_not_loaded_is_nobodys_fault(wh):
    shutil.rmtree(Path(wh.uri) / "Object")
    assert ("ForcedSource", "objectId in Object") not in {(f.table, f.check) for f in wh.audit()}


def test_a_live_file_that_is_gone_is_found_by_name(wh):
    path = sorted(content.live_files(wh, "Source"))[1]
    (Path(wh.uri) / "Source" / path).unlink()
    found = broken(wh, "Source")
    assert found["Source", "files are there"].wrong == 1
    assert path in found["Source", "files are there"].example


def test_an_old_orphan_is_found_and_a_young_one_may_be_somebodys_work(wh):
    path = min(content.live_files(wh, "Source"))
    orphan = (Path(wh.uri) / "Source" / path).with_name(f"{uuid.uuid4().hex}.parquet")
    orphan.write_bytes(b"staged")
    assert broken(wh, "Source") == {}
    os.utime(orphan, (LONG_AGO, LONG_AGO))
    (finding,) = broken(wh, "Source").values()
    assert finding.wrong == 1
    assert orphan.name in finding.example


def test_a_log_that_counts_other_rows_than_the_files_hold_is_found(wh):
    """A hand-made add action is believed by every reader; the audit reads the files."""
    contract = wh.root.contract("Visit")
    base = delta.snapshot(wh.root.table_uri("Visit"), SETTINGS)
    frame = content.rows(wh, "Visit").with_columns(pl.col("visit") + 1).select(contract.file_schema.names)
    file = staged.write(frame, base.uri, SETTINGS, schema=contract.file_schema, statistics=contract.statistics)
    lying = delta.StagedFile(file.path, file.size, 40, {}, file.minimum, file.maximum, file.nulls)
    delta.commit(base, uuid.uuid4().hex, SETTINGS, add=[lying])
    finding = broken(wh, "Visit")["Visit", "rows in the log"]
    assert finding.wrong == 38
    assert finding.example == "log 42, files 4"
