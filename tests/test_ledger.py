"""Ledger and quarantine are views of the tables' logs: complete, recorded once, and made again at will."""

import json
import shutil
import threading
from collections import Counter
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import ConflictError, NotFoundError
from warehouse.lake import delta, ledger, quarantine
from warehouse.lake.ledger import Entry
from warehouse.lake.root import ensure_table
from warehouse.simulate.damage import KINDS

VISITS = "sourceTable_visit"
SETTINGS = Settings(memory=512 << 20, workers=2)
ENTRY = Entry(
    input_id=(1 << 63) - 1,
    unit="objectTable tract=4431 patch=17",
    uri="s3://in/ünï code.parq",
    size=1 << 40,
    stamp="etag",
    status="committed",
    dataset_type="objectTable",
    data_id={"tract": 4431, "patch": 17, "skymap": "DC2"},
    run="2.2i/runs",
    digest="d",
    rows_read=12,
    rows_committed=9,
    rows_quarantined=3,
    rules={"position_null": 2, "duplicate_key": 3},
    nulled={"i_cModelFlux": 7},
    cast={"tract": 12},
    cut={"expMidpt": 1},
    missing=["a", "b"],
    extra=["extra word"],
    tracts=[4431, 4432],
    error=None,
    contract="c",
    seconds=0.5,
)


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A warehouse of three versions: loaded, partly replaced and partly refused, and one input removed."""
    folder = tmp_path_factory.mktemp("history")
    world = skies.world(skies.make(folder / "sky", [VISITS]), folder, SETTINGS, [VISITS])
    files = world.files(VISITS)
    KINDS["null_positions"](str(files[0]))
    sound = files[4].read_bytes()
    KINDS["null_positions"](str(files[4]))
    world.warehouse.ingest("Source", str(world.tree))
    KINDS["changed_rows"](str(files[1]))
    KINDS["truncated"](str(files[2]))
    files[4].write_bytes(sound)
    KINDS["duplicate_keys"](str(files[4]))
    world.warehouse.ingest("Source", str(world.tree))
    files[3].unlink()
    world.warehouse.ingest("Source", str(world.tree), remove_vanished=True)
    return world


@pytest.fixture
def copy(history, tmp_path):
    shutil.copytree(history.warehouse.uri, tmp_path / "warehouse")
    return Warehouse.open(str(tmp_path / "warehouse"), settings=SETTINGS)


def forget(wh, name):
    shutil.rmtree(Path(wh.uri) / name)
    ledger.create(wh.uri, SETTINGS)


def test_an_entry_comes_back_from_a_frame_as_it_was():
    frame = ledger.entries_frame([ENTRY])
    assert frame.columns == [field.name for field in fields(Entry)]
    assert ledger.frame_entries(frame) == [ENTRY]


def test_the_ledger_has_a_row_for_each_input_and_version(history):
    rows = history.warehouse.history("Source")
    assert rows.group_by("version", "status").len().sort("version", "status").rows() == [
        (1, "committed", 8),
        (2, "committed", 2),
        (2, "refused", 1),
        (3, "removed", 1),
    ]
    assert (rows["rows_read"] == rows["rows_committed"] + rows["rows_quarantined"]).all()
    assert rows["committed_at"].is_sorted()
    assert rows.select("table", "version", "input_id").is_unique().all()
    assert rows.filter(pl.col("status") == "refused")["error"].is_not_null().all()


def test_latest_tells_of_a_refused_input_also_what_stands(history):
    latest = ledger.latest(history.warehouse.uri, "Source", SETTINGS)
    files = history.files(VISITS)
    told = latest.filter(pl.col("uri") == str(files[2])).select("version", "status").rows()
    assert told == [(1, "committed"), (2, "refused")]
    assert latest.height == 8 + 1


def test_the_quarantine_shows_what_is_set_aside_now(history):
    """Not what earlier versions of an input set aside."""
    wh, files = history.warehouse, history.files(VISITS)
    shown = wh.quarantine("Source")
    assert set(shown["uri"]) == {str(files[i]) for i in (0, 2, 3)}  # the removed file's place has moved up
    assert shown.filter(pl.col("uri") == str(files[0]))["rules"].to_list() == [["position_null"]]
    again = shown.filter(pl.col("version") == 2)
    assert "duplicate_key" in again["rules"].explode().to_list()
    assert wh.quarantine("Object").is_empty()
    everything = ledger.read(wh.uri, ledger.QUARANTINE, "Source", SETTINGS)
    assert everything.height > shown.height


@pytest.mark.parametrize("table", ["Source", None])
def test_what_is_set_aside_may_be_counted_or_seen_in_part(history, table):
    wh = history.warehouse
    every = wh.quarantine(table)
    assert every.height > 2
    assert every.equals(every.sort("table", "version", "input_id", maintain_order=True))
    for last in (1, 2, every.height, every.height + 9):
        assert wh.quarantine(table, rows=last).equals(every.tail(last))
    expected = Counter((row["table"], *row["rules"]) for row in every.iter_rows(named=True))
    assert {(name, *rules): rows for name, rules, rows in wh.quarantine_counts(table).iter_rows()} == expected
    batches = pl.concat(quarantine.batches(wh.uri, table, SETTINGS))
    by = ["input_id", "row_number", "values"]
    assert batches.sort(by).equals(every.sort(by))


def test_of_nothing_set_aside_there_are_no_numbers(history):
    wh = history.warehouse
    assert wh.quarantine_counts("Object").columns == ["table", "rules", "rows"]
    assert wh.quarantine_counts("Object").is_empty()
    assert wh.quarantine("Object", rows=5).is_empty()
    for ask in (wh.quarantine, wh.quarantine_counts):
        with pytest.raises(NotFoundError, match="did you mean Object"):
            ask("Objekt")


@pytest.mark.parametrize("names", [["Ledger"], ["Quarantine"], ["Ledger", "Quarantine"]])
def test_what_is_deleted_is_made_again_from_the_log(history, copy, names):
    for name in names:
        forget(copy, name)
    assert ledger.catch_up(copy.uri, "Source", SETTINGS) == 3
    assert copy.history("Source").equals(history.warehouse.history("Source"))
    assert copy.quarantine().equals(history.warehouse.quarantine())


def test_what_a_crash_kept_from_the_ledger_is_made_up_for(history, copy):
    """As of an older version, the views are those of that time."""
    uri = f"{copy.uri}/Ledger"
    newest = delta.snapshot(uri, SETTINGS)
    (Path(uri) / "_delta_log" / f"{newest.version:020d}.json").unlink()
    assert copy.history("Source")["version"].max() == 2
    ledger.catch_up(copy.uri, "Source", SETTINGS)
    assert copy.history("Source").equals(history.warehouse.history("Source"))


def test_catching_up_again_writes_nothing(copy):
    before = content.files_below(Path(copy.uri))
    for _ in range(2):
        assert ledger.catch_up(copy.uri, "Source", SETTINGS) == 3
    assert content.files_below(Path(copy.uri)) == before


def test_a_version_with_nothing_to_record_costs_no_commit_of_its_own_until_there_are_many(tmp_path):
    wh = Warehouse.create(str(tmp_path / "wh"), settings=SETTINGS)
    base = ensure_table(wh.root, "Visit", SETTINGS)
    for done in range(ledger.UNMARKED + 1):
        delta.commit(base, f"c{done}", SETTINGS)
        base = delta.snapshot(base.uri, SETTINGS)
        ledger.catch_up(wh.uri, "Visit", SETTINGS)
        versions = [delta.snapshot(f"{wh.uri}/{name}", SETTINGS).version for name in ("Ledger", "Quarantine")]
        assert versions == [int(done + 2 > ledger.UNMARKED)] * 2


def test_rows_set_aside_beyond_one_file_are_recorded_in_several(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "PART_BYTES", 1000)
    wh = Warehouse.create(str(tmp_path / "wh"), settings=SETTINGS)
    base = ensure_table(wh.root, "Visit", SETTINGS)
    rows = [(1, "u", number, ["key_null"], "", "x" * 50) for number in range(100)]
    rows = pl.DataFrame(rows, schema=pl.Schema(ledger.QUARANTINED_ROWS), orient="row")
    entry = ledger.Entry(1, "u", "u", 0, "s", "committed", rows_read=100, rows_quarantined=100)
    metadata = ledger.write_record(base.uri, "c", [entry], (rows.slice(i, 10) for i in range(0, 100, 10)), SETTINGS)
    assert len(metadata["quarantine"]) > 3
    delta.commit(base, "c", SETTINGS, metadata=metadata)
    ledger.catch_up(wh.uri, "Visit", SETTINGS)
    assert delta.snapshot(f"{wh.uri}/Quarantine", SETTINGS).files.height > 3
    assert wh.quarantine("Visit").select(rows.columns).equals(rows)
    assert wh.quarantine("Visit", rows=33).select(rows.columns).equals(rows.tail(33))


def test_several_that_catch_up_at_once_record_once(history, copy):
    for name in ("Ledger", "Quarantine"):
        forget(copy, name)
    barrier = threading.Barrier(4)

    def catch_up():
        barrier.wait(60)
        ledger.catch_up(copy.uri, "Source", SETTINGS)

    threads = [threading.Thread(target=catch_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copy.history("Source").equals(history.warehouse.history("Source"))
    assert copy.quarantine().equals(history.warehouse.quarantine())


def test_one_who_is_always_overtaken_gives_up_by_name(copy, monkeypatch):
    forget(copy, "Ledger")

    def overtaken(*_, **__):
        raise ConflictError("another was first")

    monkeypatch.setattr(ledger.delta, "commit", overtaken)
    with pytest.raises(ConflictError, match="attempts to record were overtaken") as caught:
        ledger.catch_up(copy.uri, "Source", SETTINGS)
    assert caught.value.table == "Ledger"


def test_the_log_alone_says_of_each_input_what_became_of_it(history):
    """Even without the record files, for those who have nothing else."""
    rows = history.warehouse.history("Source")
    for commit in delta.commits(f"{history.warehouse.uri}/Source", SETTINGS, since=0):
        mine = rows.filter(pl.col("version") == commit.version)
        told = {entry[0]: (entry[1], *entry[3:]) for entry in commit.metadata["inputs"]}
        words = ("input_id", "status", "rows_read", "rows_committed", "rows_quarantined")
        assert told == {row[0]: row[1:] for row in mine.select(words).iter_rows()}
        assert commit.metadata["run_id"] == mine["run_id"][0]


def test_a_ledger_is_one_table_for_all_and_empty_at_first(tmp_path):
    wh = Warehouse.create(str(tmp_path), settings=SETTINGS)
    assert wh.history().is_empty()
    assert wh.quarantine().is_empty()
    assert wh.history().columns == ["table", *[n for n in ledger.LEDGER_SCHEMA.names if n != "table"]]
    assert json.loads((tmp_path / "warehouse.json").read_text())["release"] == "dp02"
