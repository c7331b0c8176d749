"""Small files become few, and nobody can tell from the rows."""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import content, images
from warehouse import Cone, Warehouse
from warehouse.config import Settings
from warehouse.lake import compact, delta, ledger, maintain
from warehouse.lake.root import ensure_table

SETTINGS = Settings(memory=512 << 20, workers=2)
RUNS = 6
NAMES = (ledger.LEDGER, ledger.QUARANTINE)


def record(wh, table, run):
    """Commit one input of which two rows are set aside, as an ingest does, and record it."""
    base = ensure_table(wh.root, table, SETTINGS)
    rows = [(run % 3, "u", number, ["key_null"], "", f"{run} {number}") for number in (0, 1)]
    rows = pl.DataFrame(rows, schema=pl.Schema(ledger.QUARANTINED_ROWS), orient="row")
    entry = ledger.Entry(run % 3, "u", "u", 0, "s", "committed", rows_read=2, rows_quarantined=2)
    commit_id = f"{table}-{run}"
    metadata = ledger.write_record(base.uri, commit_id, [entry], [rows], SETTINGS)
    delta.commit(base, commit_id, SETTINGS, metadata=metadata)
    ledger.catch_up(wh.uri, table, SETTINGS)


@pytest.fixture
def wh(tmp_path):
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    for run in range(RUNS):
        record(made, "Visit", run)
    for run in range(2):
        record(made, "Object", run)
    return made


def snapshot(wh, name):
    return delta.snapshot(wh.root.table_uri(name), SETTINGS)


def seen(wh):
    return [wh.history(), wh.quarantine(), *(ledger.read(wh.uri, name, None, SETTINGS) for name in NAMES)]


def same(some, others):
    return all(one.equals(other) for one, other in zip(some, others, strict=True))


def test_ledger_and_quarantine_become_few_files_of_the_same_rows(wh):
    before, marks = seen(wh), [snapshot(wh, name).mark("record:Visit") for name in NAMES]
    assert wh.quarantine("Visit").height == 6
    merged = {done.table: done.compacted for done in wh.maintain()}
    assert {name: merged[name] for name in NAMES} == dict.fromkeys(NAMES, RUNS)
    for name in NAMES:
        # The two of Object are not worth it.
        assert snapshot(wh, name).files["table"].sort().to_list() == ["Object", "Object", "Visit"]
    assert same(seen(wh), before)
    assert [snapshot(wh, name).mark("record:Visit") for name in NAMES] == marks
    versions = [snapshot(wh, name).version for name in NAMES]
    assert {done.compacted for done in wh.maintain()} == {0}
    ledger.catch_up(wh.uri, "Visit", SETTINGS)
    assert [snapshot(wh, name).version for name in NAMES] == versions
    record(wh, "Visit", RUNS)
    assert wh.history("Visit").height == RUNS + 1
    assert all(finding.holds for finding in wh.audit() if finding.check != "rows an input")


def merged_file(wh, name):
    """The row of a table's files that tells of the merged one."""
    [done] = wh.maintain(name)
    assert done.compacted >= RUNS
    return snapshot(wh, name).files.filter(table="Visit").row(0, named=True)


@pytest.mark.parametrize("name", NAMES)
def test_merged_rows_are_in_order_and_the_log_tells_what_a_file_holds(wh, name):
    file = merged_file(wh, name)
    rows = pl.read_parquet(f"{wh.root.table_uri(name)}/{file['path']}", hive_partitioning=False)
    order = compact.of_ledger(name).order
    assert rows.select(order).rows() == sorted(rows.select(order).rows())
    for column in ledger.STATISTICS:
        assert (file[f"min.{column}"], file[f"max.{column}"]) == (rows[column].min(), rows[column].max())
        assert file[f"null_count.{column}"] == 0
    assert (file["min.version"], file["max.version"]) == (1, RUNS)


def test_a_column_that_older_files_lack_is_null_in_their_rows(wh):
    before = wh.history("Visit")
    older = wh.root.table_uri(ledger.LEDGER) + "/" + snapshot(wh, ledger.LEDGER).files.filter(table="Visit")["path"][0]
    pl.read_parquet(older, hive_partitioning=False).drop("hdu").write_parquet(older)
    merged_file(wh, ledger.LEDGER)
    assert wh.history("Visit").equals(before)


def test_a_file_of_half_the_target_is_left_as_it_is(wh, monkeypatch):
    large = merged_file(wh, ledger.LEDGER)
    for run in range(RUNS, RUNS + 3):
        record(wh, "Visit", run)
    monkeypatch.setattr(compact, "LEAST_FILES", 2)
    monkeypatch.setattr(compact, "TARGET_BYTES", 2 * large["size_bytes"])
    assert [done.compacted > 0 for done in wh.maintain(ledger.LEDGER)] == [True]
    assert large["path"] in snapshot(wh, ledger.LEDGER).files["path"].to_list()


def test_who_reads_meanwhile_reads_to_the_end(wh):
    before = wh.history()
    reading = ledger.scan(wh.uri, ledger.LEDGER, None, SETTINGS)
    wh.maintain()
    assert reading.sort("table", "version", "input_id").collect().equals(before)
    assert snapshot(wh, ledger.LEDGER).files.height < before.height


def test_with_no_hours_left_only_the_merged_files_stay(wh):
    before = seen(wh)
    wh.maintain(hours=0)
    assert same(seen(wh), before)
    for name in NAMES:
        folder = wh.root.table_uri(name)
        files = {path for path in content.files_below(content.Path(folder)) if not path.startswith("_")}
        assert files == set(snapshot(wh, name).files["path"])


def test_a_dry_run_counts_and_merges_nothing(wh):
    versions = [snapshot(wh, name).version for name in NAMES]
    would = {done.table: done.compacted for done in wh.maintain(dry_run=True)}
    assert [would[name] for name in NAMES] == [RUNS, RUNS]
    assert [snapshot(wh, name).version for name in NAMES] == versions


def test_what_another_writes_meanwhile_is_neither_lost_nor_doubled(wh, monkeypatch):
    write = compact.staged.write

    def overtaken(*arguments, **words):
        file = write(*arguments, **words)
        monkeypatch.setattr(compact.staged, "write", write)
        record(wh, "Visit", RUNS)
        return file

    monkeypatch.setattr(compact.staged, "write", overtaken)
    merged = {done.table: done.compacted for done in wh.maintain()}
    assert [merged[name] for name in NAMES] == [0, RUNS + 1]  # the ledger came first, the quarantine had grown by then
    assert wh.history("Visit")["version"].to_list() == list(range(1, RUNS + 2))
    assert wh.quarantine("Visit").height == 6
    assert {done.table: done.compacted for done in wh.maintain()}[ledger.LEDGER] == RUNS + 1
    assert wh.history("Visit")["version"].to_list() == list(range(1, RUNS + 2))


def test_images_registered_one_by_one_lie_together_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "LEAST_FILES", 2)
    wh = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    for path in images.make(tmp_path / "tree", bands="g", patches=1):
        wh.register_images(str(path))
    before = {table: content.rows(wh, table) for table in maintain.GROWING}
    files = {table: len(content.live_files(wh, table)) for table in maintain.GROWING}
    cone = Cone(61.218, -37.0, 0.05)
    found = wh.images(cone).sort("dataset").collect()
    assert found.height
    for done in wh.maintain():
        places = set(content.live_files(wh, done.table).values()) if done.table in files else ()
        if places:
            assert (done.compacted > 0, len(content.live_files(wh, done.table))) == (True, len(places))
    assert {table: content.rows(wh, table).equals(rows) for table, rows in before.items()} == dict.fromkeys(
        before, True
    )
    assert wh.images(cone).sort("dataset").collect().equals(found)
    assert all(finding.holds for finding in wh.audit())


@given(st.lists(st.integers(1, 12), max_size=30))
def test_a_group_is_as_long_as_the_target_allows(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "TARGET_BYTES", 12)
        groups = [[sizes[i] for i in run if i < len(sizes)] for run in compact._filled(sizes)]
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= 12 for group in groups)
    assert all(sum(group) + after[0] > 12 for group, after in pairwise(groups))
