"""A commit lands exactly once, whole, and says so in the log."""

import json
import uuid
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from warehouse.config import Settings
from warehouse.errors import ConflictError, NotFoundError, StorageError
from warehouse.lake import delta, staged

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("x", pa.float64()),
        pa.field("name", pa.string()),
        pa.field("tract", pa.int64(), nullable=False),
        pa.field("patch", pa.int64(), nullable=False),
    ]
)
IN_FILE = pa.schema(list(SCHEMA)[:3])
SETTINGS = Settings()


@pytest.fixture
def table(tmp_path):
    uri = str(tmp_path / "T")
    delta.create(uri, SCHEMA, SETTINGS, name="T", partition_by=("tract", "patch"), statistics=("id", "x"))
    return uri


def put(uri, ids, tract=1, patch=2, x=None):
    frame = pl.DataFrame({"id": ids, "x": x or [i / 2 for i in ids], "name": ["a"] * len(ids)})
    return staged.write(
        frame, uri, SETTINGS, schema=IN_FILE, statistics=("id", "x"), partition={"tract": tract, "patch": patch}
    )


def commit(base, **kwargs):
    return delta.commit(base, uuid.uuid4().hex, SETTINGS, **kwargs)


def rows(uri, version=None):
    return sorted(pl.scan_delta(uri, version=version).select("id").collect().to_series())


def test_staged_files_are_invisible_until_one_version_shows_them_all(table):
    files = [put(table, [1, 2]), put(table, [3], patch=3)]
    assert rows(table) == []
    version = commit(delta.snapshot(table, SETTINGS), add=files)
    assert version == 1
    assert rows(table) == [1, 2, 3]


def test_add_and_remove_are_one_version(table):
    commit(delta.snapshot(table, SETTINGS), add=[put(table, [1, 2])])
    base = delta.snapshot(table, SETTINGS)
    commit(base, add=[put(table, [9])], remove=[base.files["path"][0]])
    assert rows(table) == [9]
    assert rows(table, version=1) == [1, 2]


def test_of_two_writers_on_one_snapshot_exactly_one_lands(table):
    one, other = delta.snapshot(table, SETTINGS), delta.snapshot(table, SETTINGS)
    commit(one, add=[put(table, [1])])
    with pytest.raises(ConflictError, match="landed after version 0"):
        commit(other, add=[put(table, [2])])
    assert rows(table) == [1]


def test_a_commit_that_landed_and_then_failed_counts_as_landed(table):
    base = delta.snapshot(table, SETTINGS)
    commit_id = uuid.uuid4().hex
    file = put(table, [1])
    delta.commit(delta.snapshot(table, SETTINGS), commit_id, SETTINGS, add=[file])
    # The same attempt again, as after an answer that was lost on its way: refused by the log, found in the log.
    assert delta.commit(base, commit_id, SETTINGS, add=[file]) == 1
    assert rows(table) == [1]


def test_a_refused_commit_is_a_storage_error_when_nobody_else_committed(table):
    file = put(table, [1])
    base = delta.snapshot(table, SETTINGS)
    log = Path(table) / "_delta_log"
    log.rename(log.with_name("gone"))
    log.touch()
    with pytest.raises(StorageError):
        commit(base, add=[file])


def test_metadata_and_marks_come_back_from_the_log(table):
    base = delta.snapshot(table, SETTINGS)
    commit(base, add=[put(table, [1])], metadata={"run_id": "r1", "inputs": [[1, "committed"]]}, marks={"record:A": 7})
    (entry,) = list(delta.commits(table, SETTINGS, since=0))
    assert entry.metadata["run_id"] == "r1"
    assert entry.metadata["inputs"] == [[1, "committed"]]
    now = delta.snapshot(table, SETTINGS)
    assert (now.mark("record:A"), now.mark("record:B"), now.committed) == (7, -1, 0)


def test_commits_skip_log_files_that_have_been_cleaned_away(table):
    for i in range(3):
        commit(delta.snapshot(table, SETTINGS), add=[put(table, [i])])
    delta.checkpoint(delta.snapshot(table, SETTINGS))
    (Path(table) / "_delta_log" / f"{1:020d}.json").unlink()
    assert [c.version for c in delta.commits(table, SETTINGS)] == [0, 2, 3]


@pytest.mark.parametrize("cleaned", [[], [0], [0, 1, 2]])
def test_a_kept_table_moves_on_also_where_old_log_files_have_been_cleaned_away(table, cleaned):
    kept = delta.snapshot(table, SETTINGS)
    assert delta.advanced(kept, SETTINGS) is kept
    for i in range(3):
        commit(delta.snapshot(table, SETTINGS), add=[put(table, [i])])
    delta.checkpoint(delta.snapshot(table, SETTINGS))
    for version in cleaned:
        (Path(table) / "_delta_log" / f"{version:020d}.json").unlink()
    moved = delta.advanced(kept, SETTINGS)
    assert (moved.version, moved.files["num_records"].sum()) == (3, 3)
    assert delta.advanced(moved, SETTINGS) is moved


def test_files_show_partitions_and_the_statistics_that_were_asked_for(table):
    commit(delta.snapshot(table, SETTINGS), add=[put(table, [5, 3], tract=7, patch=8, x=[0.5, None])])
    (row,) = delta.snapshot(table, SETTINGS).files.to_dicts()
    assert (row["tract"], row["patch"], row["num_records"]) == (7, 8, 2)
    assert (row["min.id"], row["max.id"]) == (3, 5)
    assert (row["min.x"], row["max.x"], row["null_count.x"]) == (0.5, 0.5, 1)
    assert "min.name" not in row


def test_unknown_table_and_version_are_named(table, tmp_path):
    with pytest.raises(NotFoundError, match="no Delta table"):
        delta.snapshot(str(tmp_path / "none"), SETTINGS)
    with pytest.raises(NotFoundError, match="no version 9; there are 0 to 0"):
        delta.snapshot(table, SETTINGS, 9)


def test_a_staged_file_that_is_not_what_was_written_is_refused(table):
    file = put(table, [1, 2])
    uri = f"{table}/{file.path}"
    for schema, count in ((IN_FILE, 3), (pa.schema([("id", pa.int32()), *list(IN_FILE)[1:]]), 2)):
        with pytest.raises(StorageError, match="does not read back as written"):
            staged.verify(uri, file.path, SETTINGS, schema=schema, rows=count, statistics=("id",))
    Path(uri).write_bytes(Path(uri).read_bytes()[:-20])
    with pytest.raises(StorageError, match="cannot be read back"):
        staged.verify(uri, file.path, SETTINGS, schema=IN_FILE, rows=2, statistics=("id",))


def test_vacuum_removes_orphans_and_keeps_what_a_version_needs(table):
    commit(delta.snapshot(table, SETTINGS), add=[put(table, [1])])
    base = delta.snapshot(table, SETTINGS)
    old = base.files["path"][0]
    commit(base, add=[put(table, [2])], remove=[old])
    orphan = put(table, [3]).path
    now = delta.snapshot(table, SETTINGS)
    assert orphan in delta.vacuum(now, 0, dry_run=True)
    removed = delta.vacuum(now, 0, keep_versions=[1])
    assert orphan in removed
    assert old not in removed
    assert rows(table, version=1) == [1]
    assert rows(table) == [2]


def test_a_statistic_is_what_json_in_the_log_says(table):
    file = put(table, [1, 2])
    statistics = json.loads(file.action().stats)
    assert statistics == {
        "numRecords": 2,
        "minValues": {"id": 1, "x": 0.5},
        "maxValues": {"id": 2, "x": 1.0},
        "nullCount": {"id": 0, "x": 0},
    }
