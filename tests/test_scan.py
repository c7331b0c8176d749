"""A scan gives the right columns and rows, of the right version, and opens no other files."""

from __future__ import annotations

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from support.small_warehouse import POINTS, SETTINGS, append, points, points_contract, simulated
from warehouse import Box, Cone, Warehouse
from warehouse.errors import NotFoundError, QueryError
from warehouse.query import Patch, Tract
from warehouse.query.scan import files, scan
from warehouse.query.tables import Tables

CONE = Cone(62.0, -37.0, 0.05)


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


@pytest.fixture(scope="module")
def every(wh):
    return pl.read_parquet(
        [str(path) for path in Path(wh.uri, "Object").rglob("tract=*/*/*.parquet")], hive_partitioning=True
    )


def test_columns_are_those_of_the_contract_unless_named(wh):
    schema = wh.scan("Object").collect_schema()
    assert schema.names() == [*wh.columns("Object")["column"], "input_id"]
    assert (schema["tract"], schema["patch"], schema["objectId"]) == (pl.Int64, pl.Int64, pl.Int64)
    derived = wh.scan("Source").collect_schema().names()
    assert derived == [*wh.columns("Source")["column"], "tract", "patch", "input_id"]
    chosen = wh.scan("Object", CONE, columns=["patch", "objectId"]).collect()
    assert chosen.columns == ["patch", "objectId"]
    assert chosen.height > 0


def test_an_unpartitioned_table_is_scanned_by_its_position_too(wh):
    visits = wh.scan("CcdVisit").collect()
    some = Cone(visits["ra"][0], visits["decl"][0], 1e-6)
    assert wh.scan("CcdVisit", some).collect().rows() == visits.filter(some.expr("ra", "decl")).rows()


def test_primary_rows_are_one_for_each_source(wh, every):
    primary = wh.scan("Object", primary=True).collect()
    assert primary.height == every["detect_isPrimary"].sum() < every.height
    assert wh.scan("Object", CONE, columns=["objectId"], primary=True).collect().columns == ["objectId"]
    with pytest.raises(QueryError, match="detect_isPrimary"):
        wh.scan("TruthSummary", primary=True)


def test_no_file_is_opened_that_the_region_cannot_touch(every, tmp_path):
    copy = simulated().copy(tmp_path)
    broken = Warehouse.open(str(copy), settings=SETTINGS)
    keep = set(broken.files("Object", CONE))
    for path in (copy / "Object").rglob("*.parquet"):
        if "_" not in path.parent.name and str(path) not in keep:
            path.write_bytes(b"not a Parquet file")
    found = broken.scan("Object", CONE).collect()
    assert 0 < len(keep) < len(broken.files("Object"))
    assert sorted(found["objectId"]) == sorted(every.filter(CONE.expr("coord_ra", "coord_dec"))["objectId"])


def test_building_a_scan_reads_no_data_file(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    for path in (copy / "Object").rglob("tract=*/*/*.parquet"):
        path.unlink()
    bare = Warehouse.open(str(copy), settings=SETTINGS).scan("Object", CONE)
    assert bare.collect_schema() == wh.scan("Object", CONE).collect_schema()


def test_rows_are_the_same_however_the_table_s_folder_is_called(every, tmp_path):
    expected = sorted(every.filter(CONE.expr("coord_ra", "coord_dec"))["objectId"])
    for name in ("run=5", "tract=9", "a space", "br[ack]*et?", "ünï#x"):
        moved = tmp_path / name
        moved.mkdir()
        there = Warehouse.open(str(simulated().copy(moved)), settings=SETTINGS)
        found = there.scan("Object", CONE, columns=["objectId", "tract", "patch"]).collect()
        assert sorted(found["objectId"]) == expected, name
        assert set(found["tract"]) <= set(every["tract"]), name
        assert found.height == there.scan("Object", CONE).select(pl.len()).collect().item(), name


@pytest.mark.parametrize("region", [None, CONE, [CONE, Tract(3831)], Patch(3831, 10)])
@pytest.mark.parametrize("primary", [False, True])
@pytest.mark.parametrize("columns", [["objectId"], ["patch"], ["i_cModelFlux", "tract", "coord_ra"], ["input_id"]])
def test_columns_that_are_named_are_those_of_the_whole_table(wh, region, primary, columns):
    """What a region and `primary` need beside them is read and not given."""
    some = wh.scan("Object", region, columns=columns, primary=primary)
    rows = wh.scan("Object", region, primary=primary)
    assert some.collect_schema() == rows.select(columns).collect_schema()
    assert some.collect().equals(rows.collect().select(columns))


def asked(frame: pl.LazyFrame) -> list[object]:
    """Rows, however they are counted."""
    ra, flux = pl.col("coord_ra"), pl.col("i_cModelFlux")
    counts = [
        frame.select(pl.len()),
        frame.select(pl.len(), flux.count().alias("not null"), flux.null_count().alias("null")),
        frame.filter(ra > 62.0).select(pl.len()),
        frame.filter(pl.col("patch") == 10).select(pl.len()),
        frame.head(7).select(pl.len()),
        frame.slice(5).select(pl.len()),
        frame.select(flux.drop_nulls().len()),
        frame.group_by("tract").agg(pl.len()).sort("tract"),
        pl.concat([frame, frame]).select(pl.len()),
        pl.SQLContext(o=frame).execute("SELECT COUNT(*) AS n, COUNT(i_cModelFlux) AS known FROM o"),
    ]
    return [count.collect().rows() for count in counts]


@pytest.mark.parametrize("region", [None, CONE, Tract(3831)])
def test_counts_are_those_of_the_rows_however_they_are_asked_for(wh, every, region, monkeypatch):
    """What the log tells of files is told to Polars by a parameter that it has not published; all is as without."""
    wanted = {None: pl.lit(value=True), CONE: CONE.expr("coord_ra", "coord_dec")}.get(region, pl.col("tract") == 3831)
    rows = every.filter(wanted)
    expected = asked(rows.lazy())
    assert asked(wh.scan("Object", region)) == expected
    monkeypatch.setattr("warehouse.lake.rows._TAKEN", frozenset())
    assert asked(wh.scan("Object", region)) == expected


def test_rows_that_the_log_counts_are_counted_without_a_file(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    for path in (copy / "Object").rglob("tract=*/*/*.parquet"):
        path.unlink()
    bare = Warehouse.open(str(copy), settings=SETTINGS)
    for region in (None, Tract(3831), Patch(3831, 10)):
        count = bare.scan("Object", region).select(pl.len()).collect().item()
        assert count == wh.scan("Object", region, columns=["objectId"]).collect().height > 0
    assert bare.sql("SELECT COUNT(*) FROM Object").collect().item() == wh.scan("Object").collect().height


def test_nowhere_is_an_empty_frame_of_the_right_columns(wh):
    for nowhere in ([], Cone(10.0, 10.0, 0.1), Box(200.0, 201.0, 0.0, 1.0), Tract(1), Patch(3831, 48)):
        frame = wh.scan("Object", nowhere).collect()
        assert frame.height == 0
        assert frame.schema == wh.scan("Object").collect_schema()
        assert wh.files("Object", nowhere) == []


def by_place(path):
    tract, patch = (int(part.split("=")[1]) for part in Path(path).parts[-3:-1])
    return tract, patch, path


def test_files_are_uris_of_the_live_files_in_order(wh):
    found = wh.files("Object")
    assert len(found) == len(set(found)) == wh.tables().filter(table="Object")["files"].item()
    assert all(Path(path).is_file() for path in found)
    assert found == sorted(found, key=by_place)


def test_a_table_that_has_no_position_says_where_to_look(wh):
    with pytest.raises(QueryError, match="join on id_truth_type"):
        wh.scan("MatchesTruth", CONE)
    whole = wh.scan("MatchesTruth", columns=["tract"]).collect()
    assert wh.scan("MatchesTruth", Tract(3831)).collect().height == whole.filter(tract=3831).height > 0


@pytest.mark.parametrize(
    ("table", "options", "error", "says"),
    [
        ("Objct", {}, NotFoundError, "did you mean Object"),
        ("object", {}, NotFoundError, "did you mean Object"),
        ("Object", {"columns": ["objectId", "cord_ra"]}, NotFoundError, "did you mean coord_ra"),
        ("ObsCore", {}, NotFoundError, "nothing has been loaded"),
        ("Object", {"region": 18938}, NotFoundError, "0 to 18937"),
        ("Object", {"region": Patch(3831, 49)}, NotFoundError, "0 to 48"),
        ("Object", {"region": -1}, NotFoundError, "found -1"),
        ("Visit", {"region": Tract(3831)}, QueryError, "not partitioned"),
        ("Object", {"version": 99}, NotFoundError, "no version 99"),
        ("Object", {"version": -1}, NotFoundError, "no version -1"),
        ("Object", {"version": "2026-11"}, NotFoundError, "no pinned release '2026-11'"),
        ("Object", {"version": True}, QueryError, "a pinned release, found True"),
        ("Object", {"version": 1.0}, QueryError, r"a pinned release, found 1\.0"),
        ("Object", {"version": datetime(1999, 1, 1, tzinfo=UTC)}, NotFoundError, "no table yet at 1999-01-01 00:00"),
        ("Object", {"columns": "objectId"}, QueryError, "expected a list of columns' names, found 'objectId'"),
        ("Object", {"columns": ["objectId", 3]}, QueryError, "expected a list of columns' names"),
        ("Object", {"columns": []}, QueryError, "expected a list of columns' names, found \\[\\]"),
        ("Object", {"columns": ["patch", "objectId", "patch"]}, QueryError, "the column patch is named twice"),
        ("Object", {"region": Patch(3831, 10.7)}, QueryError, "expected whole numbers, found Patch"),
        ("Object", {"region": Tract("3831")}, QueryError, "expected whole numbers"),
        ("Object", {"region": Tract(None)}, QueryError, "expected whole numbers"),
        ("Object", {"region": 10**30}, NotFoundError, "found 10{30}"),
        ("Object", {"region": Cone}, QueryError, "expected a region"),
    ],
)
def test_bad_questions_are_answered_with_what_was_meant(wh, table, options, error, says):
    with pytest.raises(error, match=says):
        wh.scan(table, **options)


@pytest.fixture
def growing(tmp_path):
    tables = points(tmp_path, np.array([10.0, 10.1, 200.0]), np.array([0.0, 0.0, 45.0]))
    contract = points_contract()
    return tables, lambda frame: append(tables.root.table_uri(POINTS), contract, frame)


def more(ids, ra=10.05, tract=9000, patch=3):
    return pl.DataFrame({"id": ids, "ra": [ra] * len(ids), "dec": [0.0] * len(ids)}).with_columns(
        tract=pl.lit(tract, pl.Int64), patch=pl.lit(patch, pl.Int64)
    )


def ids(tables, *args, **options):
    return sorted(scan(tables, POINTS, *args, **options).collect()["id"])


def test_each_scan_sees_the_newest_version_and_old_ones_stay(growing):
    tables, grow = growing
    assert ids(tables) == [0, 1, 2]
    first = tables.open(POINTS).snapshot.version
    assert tables.open(POINTS) is tables.open(POINTS)
    second = grow(more([3, 4]))
    assert ids(tables) == [0, 1, 2, 3, 4]
    assert ids(tables, Cone(10.05, 0.0, 0.01)) == [3, 4]
    assert ids(tables, version=first) == [0, 1, 2]
    assert ids(tables, version=second) == [0, 1, 2, 3, 4]


def test_a_version_that_was_opened_and_not_yet_read_stays_what_it_was(growing):
    tables, grow = growing
    first = tables.open(POINTS).snapshot.version
    grow(more([3, 4]))
    assert ids(tables) == [0, 1, 2, 3, 4]
    assert ids(tables, version=first) == [0, 1, 2]


def test_no_more_than_the_last_versions_are_kept(growing, monkeypatch):
    monkeypatch.setattr("warehouse.query.tables._KEPT_VERSIONS", 2)
    tables, grow = growing
    opened = [weakref.ref(tables.open(POINTS))]
    for number in (3, 4):
        grow(more([number]))
        opened.append(weakref.ref(tables.open(POINTS)))
    gc.collect()
    assert [kept() is not None for kept in opened] == [False, True, True]


def test_files_come_in_the_order_of_their_places_whenever_they_were_committed(growing):
    tables, grow = growing
    for tract, patch in ((9000, 40), (9000, 3), (900, 3), (9000, 3), (900, 20), (90, 4)):
        grow(more([0], tract=tract, patch=patch))
    found = files(tables, POINTS)
    assert len(found) == 3 + 6
    assert found == sorted(found, key=by_place)


def test_a_moment_is_answered_by_the_version_of_that_moment(growing):
    tables, grow = growing
    grow(more([3, 4]))
    start = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    log = Path(tables.root.table_uri(POINTS), "_delta_log")
    for version in range(3):
        moment = (start + timedelta(hours=version)).timestamp()
        os.utime(log / f"{version:020d}.json", (moment, moment))
    assert ids(tables, version=start + timedelta(minutes=90)) == [0, 1, 2]
    # Without a zone it is UTC, and another zone is counted.
    assert ids(tables, version=datetime(2026, 3, 1, 13, 30)) == [0, 1, 2]  # noqa: DTZ001 - what is tested
    zone = timezone(timedelta(hours=5))
    assert ids(tables, version=datetime(2026, 3, 1, 18, 30, tzinfo=zone)) == [0, 1, 2]
    assert ids(tables, version=start + timedelta(days=1)) == [0, 1, 2, 3, 4]


def test_a_log_that_was_cleaned_is_read_anew(growing):
    tables, grow = growing
    assert ids(tables) == [0, 1, 2]
    for number in range(3, 6):
        grow(more([number]))
    opened = Tables(tables.root, SETTINGS, more=tables.more).open(POINTS)
    opened.snapshot.table.create_checkpoint()
    log = Path(opened.snapshot.uri, "_delta_log")
    for version in range(opened.snapshot.version):
        (log / f"{version:020d}.json").unlink()
    assert ids(tables) == [0, 1, 2, 3, 4, 5]


def test_older_files_lack_columns_that_the_table_has_got_since(growing):
    tables, _ = growing
    one = Path(files(tables, POINTS)[0])
    pl.read_parquet(one, hive_partitioning=False).drop("dec").with_columns(odd=1).write_parquet(one)
    frame = scan(tables, POINTS).collect()
    assert frame.columns == ["id", "ra", "dec", "tract", "patch", "input_id"]
    assert frame["dec"].null_count() == 1


def test_a_table_whose_log_does_not_count_rows_is_counted_by_its_files(growing):
    tables, _ = growing
    opened = tables.open(POINTS)
    opened.__dict__["files"] = opened.files.with_columns(num_records=pl.lit(None, pl.Int64))
    assert scan(tables, POINTS).select(pl.len()).collect().item() == 3


def test_threads_that_scan_while_rows_arrive_each_see_one_whole_version(growing):
    tables, grow = growing
    batches = [[10 * number + k for k in range(5)] for number in range(1, 9)]
    whole = [{0, 1, 2} | {i for batch in batches[:n] for i in batch} for n in range(len(batches) + 1)]

    def look(_):
        return [set(ids(tables)) for _ in range(6)]

    with ThreadPoolExecutor(5) as pool:
        looks = pool.map(look, range(4))
        writing = pool.submit(lambda: [grow(more(batch)) for batch in batches])
        seen = list(looks)
        writing.result()
    for one in seen:
        places = [whole.index(found) for found in one]
        assert places == sorted(places)
    assert set(ids(tables)) == whole[-1]
