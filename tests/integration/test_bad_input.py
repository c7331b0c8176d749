"""What bad input gets: it stops itself alone, its rows are set aside by name, everything good is committed."""

import json
import os
import threading
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from support.limits import ingest_unprivileged, ingest_with_little_room
from support.s3 import free_port
from warehouse import Warehouse
from warehouse.errors import InputError, QueryError, StorageError
from warehouse.simulate.damage import KINDS

pytestmark = pytest.mark.integration

VISITS = "sourceTable_visit"
PATCHES = "forcedSourceTable"
TABLES = {"Source": VISITS, "ForcedSource": PATCHES}

# What the quarantine must call it: of a whole input, and of single rows.
INPUT_RULES = {
    "truncated": "truncated",
    "zero_byte": "empty_file",
    "not_parquet": "not_parquet",
    "garbled": "corrupt",
    "missing_required_column": "missing_column",
    "float_as_text": "wrong_type",
    "contradicting_path": "share",
}
ROW_RULES = {
    "null_positions": "position_null",
    "non_finite_positions": "position_null",
    "out_of_range_positions": "position_range",
    "duplicate_keys": "duplicate_key",
    "outside_patch": "outside_outer_box",
}
HARMLESS = ("extra_columns", "permuted_columns", "int32_columns", "int32_ids", "shifted_ra", "no_rows", "odd_path")
ONLY_DECLARED = {"outside_patch", "contradicting_path"}


def both_tables(kinds):
    return [(table, kind) for kind in kinds for table in TABLES if table == "ForcedSource" or kind not in ONLY_DECLARED]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), TABLES.values())


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, TABLES.values())


def others(world, table, *without):
    return [path for path in world.files(TABLES[table]) if str(path) not in {str(w) for w in without}]


def ledger_row(world, table, uri):
    (row,) = world.warehouse.history(table).filter(pl.col("uri") == str(uri)).to_dicts()
    return row


def holds(world):
    return [finding for finding in world.warehouse.audit() if not finding.holds] == []


def test_every_kind_of_damage_is_looked_at_here():
    assert {*INPUT_RULES, *ROW_RULES, *HARMLESS, "changed_rows", "later_run"} == set(KINDS)


@pytest.mark.parametrize(("table", "kind"), both_tables(INPUT_RULES))
def test_an_unreadable_input_stops_itself_alone(world, table, kind):
    done = KINDS[kind](str(world.largest(TABLES[table])))
    report = world.warehouse.ingest(table, str(world.tree))
    wh, good = world.warehouse, others(world, table, done.uri)
    assert [entry.uri for entry in report.refused] == [done.uri]
    assert content.same(wh, table, content.delivered(wh, table, good))
    assert report.inputs == len(good) + 1
    assert report.rows_read == report.rows_committed + report.rows_quarantined
    row = ledger_row(world, table, done.uri)
    assert (row["status"], row["rows_committed"]) == ("refused", 0)
    assert INPUT_RULES[kind] in json.loads(row["rules"])
    assert done.uri in row["error"]
    aside = wh.quarantine(table).filter(pl.col("row_number").is_null())
    assert aside.select("uri", "rules").rows() == [(done.uri, [INPUT_RULES[kind]])]
    assert json.loads(aside["values"][0])["error"] == row["error"]
    assert wh.ingest(table, str(world.tree)).nothing_new
    assert holds(world)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing_required_column", r"coord_dec.*found no such column"),
        ("float_as_text", r"as (float|double).*found string"),
        ("contradicting_path", r"% are allowed.*data_id_contradicts"),
        ("truncated", r"bytes"),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_was_found(world, kind, words):
    KINDS[kind](str(world.largest(PATCHES)))
    (entry,) = world.warehouse.ingest("ForcedSource", str(world.tree)).refused
    assert pl.Series([entry.error]).str.contains(words).all(), entry.error
    assert entry.error.startswith("ForcedSource, ") or kind == "truncated"


@pytest.mark.parametrize(("table", "kind"), both_tables(ROW_RULES))
def test_bad_rows_are_set_aside_and_good_ones_are_committed(world, table, kind):
    path = world.largest(TABLES[table])
    clean = pl.read_parquet(path)
    done = KINDS[kind](str(path))
    report = world.warehouse.ingest(table, str(world.tree))
    wh = world.warehouse
    assert (report.refused, report.rows_quarantined) == ((), done.rows)
    assert report.rules == {ROW_RULES[kind]: done.rows}
    aside = wh.quarantine(table)
    assert aside["rules"].to_list() == [[ROW_RULES[kind]]] * done.rows
    assert set(aside["uri"]) == {done.uri}
    key = wh.root.contract(table).key[0]
    broken = pl.read_parquet(path)
    for number, label, values in aside.select("row_number", "key", "values").iter_rows():
        assert str(broken[key][number]) == label == str(json.loads(values)[key])
    expected = content.delivered(wh, table, world.files(TABLES[table]))
    if kind == "duplicate_keys":
        expected = expected.unique(key, maintain_order=True)
        assert expected.height == sum(pl.read_parquet(p).height for p in others(world, table, path)) + clean.height
    else:
        expected = expected.filter(~pl.col(key).cast(pl.String).is_in(aside["key"].implode()))
    assert content.same(wh, table, expected)
    assert holds(world)


@pytest.mark.parametrize(("table", "kind"), [*(("ForcedSource", kind) for kind in HARMLESS), ("Source", "shifted_ra")])
def test_harmless_oddities_cost_no_row(world, table, kind):
    path = world.largest(TABLES[table])
    expected = content.delivered(world.warehouse, table, world.files(TABLES[table]))
    done = KINDS[kind](str(path))
    report = world.warehouse.ingest(table, str(world.tree))
    wh = world.warehouse
    assert (report.refused, report.rows_quarantined) == ((), 0)
    if kind in {"no_rows", "int32_ids"}:
        expected = content.delivered(wh, table, world.files(TABLES[table]))
    key = list(wh.root.contract(table).key)
    found = content.rows(wh, table).select(expected.columns).sort(key)
    ra = pl.col("coord_ra").round(9)  # a turn added and taken away again costs a few of the last bits
    assert found.with_columns(ra).equals(expected.with_columns(ra))
    row = ledger_row(world, table, done.uri)
    assert row["status"] == "committed"
    assert json.loads(row["extra"]) == (["extra_noise", "extra word"] if kind == "extra_columns" else [])
    if kind == "no_rows":
        assert row["rows_read"] == 0
    if kind == "int32_ids":
        assert json.loads(row["cast"])[key[0]] == row["rows_read"]
    assert holds(world)


def spoil(path, share):
    """Take the position from this share of a file's rows; return how many."""
    frame = pl.read_parquet(path)
    count = int(share * frame.height)
    gone = pl.when(pl.int_range(pl.len()) < count).then(None).otherwise(pl.col("coord_dec"))
    frame.with_columns(gone.alias("coord_dec")).write_parquet(path)
    return count, frame.height


@pytest.mark.parametrize(("limit", "share", "refused"), [(0.01, 0.02, True), (0.05, 0.02, False), (0.0, 0.001, True)])
def test_too_many_bad_rows_refuse_the_input_unless_told_otherwise(world, settings, limit, share, refused):
    path = world.largest(PATCHES)
    bad, rows = spoil(path, share)
    assert bad >= 1
    wh = Warehouse(world.warehouse.root, settings.model_copy(update={"max_quarantined_share": limit}))
    report = wh.ingest("ForcedSource", str(world.tree))
    assert report.rows_quarantined == (rows if refused else bad)
    assert [entry.uri for entry in report.refused] == ([str(path)] if refused else [])
    if refused:
        (entry,) = report.refused
        assert f"{bad} of {rows} rows" in entry.error
        assert (entry.rules["share"], entry.rules["position_null"]) == (1, bad)
    # The rows themselves are kept either way, so that somebody can look at them.
    aside = wh.quarantine("ForcedSource")
    assert aside.filter(pl.col("rules").list.contains("position_null")).height == bad


def test_an_input_that_changes_between_listing_and_reading_is_refused_and_taken_up_by_the_next_run(world):
    path = world.files(VISITS)[3]

    def change(event):
        if event.step == "planned" and event.inputs == 8:
            KINDS["changed_rows"](str(path))

    wh = world.warehouse
    (refused,) = wh.ingest("Source", str(world.tree), on_event=change).refused
    assert (refused.uri, list(refused.rules)) == (str(path), ["changed"])
    assert content.same(wh, "Source", content.delivered(wh, "Source", others(world, "Source", path)))
    report = wh.ingest("Source", str(world.tree))
    assert [entry.uri for entry in report.entries] == [str(path)]
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))


def test_an_input_that_changes_while_it_is_read_is_refused(world, monkeypatch):
    path = world.files(VISITS)[3]
    from warehouse.ingest import stage

    real = stage.quality.check

    def check(*args, **kwargs):
        if args[4].uri == str(path):
            path.write_bytes(path.read_bytes())
            os.utime(path, ns=(1, 1))
        return real(*args, **kwargs)

    monkeypatch.setattr(stage.quality, "check", check)
    wh = world.warehouse
    (refused,) = wh.ingest("Source", str(world.tree)).refused
    assert (refused.uri, list(refused.rules)) == (str(path), ["changed"])
    assert content.same(wh, "Source", content.delivered(wh, "Source", others(world, "Source", path)))


def test_an_input_that_vanishes_is_refused_and_taken_up_when_it_is_back(world):
    path = world.files(VISITS)[3]
    aside = path.with_suffix(".aside")

    def vanish(event):
        if event.step == "planned" and path.exists():
            path.rename(aside)

    wh = world.warehouse
    (refused,) = wh.ingest("Source", str(world.tree), on_event=vanish).refused
    assert (refused.uri, list(refused.rules)) == (str(path), ["vanished"])
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert wh.ingest("Source", str(world.tree)).nothing_new
    aside.rename(path)
    assert wh.ingest("Source", str(world.tree)).refused == ()
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))


def test_the_largest_input_may_vanish_too(world):
    """Its header is what the work is measured by."""
    path = world.largest(PATCHES)
    wh = world.warehouse
    report = wh.ingest("ForcedSource", str(world.tree), on_event=lambda _: path.unlink(missing_ok=True))
    assert [entry.uri for entry in report.refused] == [str(path)]
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))


@pytest.mark.parametrize("name", ["two words", "ünïcode ß", "a+b=c&d#1", "100%41", "[x]*?"])
def test_any_name_may_stand_in_the_path_of_an_input(original, tmp_path, settings, name):
    plain = skies.world(original, tmp_path / "plain", settings, [VISITS])
    odd = plain.tree.rename(tmp_path / name)
    # A warehouse has such a name, too, as far as the libraries below can read it.
    home = tmp_path / ("plain" if set(name) & set("%[") else name) / "warehouse"
    world = skies.World(odd, Warehouse.create(str(home), settings=settings))
    wh = world.warehouse
    assert wh.ingest("Source", str(world.tree)).refused == ()
    KINDS["changed_rows"](str(world.files(VISITS)[0]))
    KINDS["null_positions"](str(world.largest(VISITS)))
    report = wh.ingest("Source", str(world.tree))
    assert (report.inputs, report.rows_quarantined) == (2, 1)
    gone = wh.quarantine("Source")["key"].item()
    expected = content.delivered(wh, "Source", world.files(VISITS)).filter(pl.col("sourceId") != int(gone))
    assert content.same(wh, "Source", expected)
    assert holds(world)
    wh.maintain(hours=0)
    assert content.same(wh, "Source", expected)
    assert Warehouse.open(wh.uri, settings=settings).ingest("Source", str(world.tree)).nothing_new


@pytest.mark.parametrize("name", ["100%41", "[x]", "a*b", "a?b", "a|b"])
def test_a_warehouse_under_a_name_that_would_be_misread_is_refused(tmp_path, settings, name):
    with pytest.raises(QueryError, match="cannot hold") as caught:
        Warehouse.create(str(tmp_path / name), settings=settings)
    assert caught.value.uri == str(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_file_that_may_not_be_read_stops_itself_alone_and_is_taken_up_once_it_may(world):
    path = world.largest(PATCHES)
    path.chmod(0)
    wh = world.warehouse
    told = ingest_unprivileged(wh.uri, "ForcedSource", world.tree)
    (refused,) = told["refused"]
    assert refused[0] == str(path)
    assert "permission denied" in refused[1]
    good = content.delivered(wh, "ForcedSource", [p for p in world.files(PATCHES) if p != path])
    assert content.same(wh, "ForcedSource", good)
    path.chmod(0o644)
    report = wh.ingest("ForcedSource", str(world.tree))
    assert (report.inputs, report.refused) == (1, ())
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))


def test_a_folder_that_may_not_be_listed_removes_nothing_and_loads_no_half_of_a_tree(world):
    folder = world.files(PATCHES)[0].parent
    folder.chmod(0)
    told = ingest_unprivileged(world.warehouse.uri, "ForcedSource", world.tree)
    folder.chmod(0o755)
    assert (told["error"], told["kind"]) == ("StorageError", "permission")
    assert str(world.tree) in told["message"]
    assert content.rows(world.warehouse, "ForcedSource").is_empty()


def test_a_warehouse_that_may_not_be_written_is_named_and_stays_as_it_is(world):
    wh = world.warehouse
    wh.ingest("ForcedSource", str(world.files(PATCHES)[0]))
    before = content.fingerprint(wh, "ForcedSource")
    folders = [path for path in (Path(wh.uri) / "ForcedSource").rglob("*") if path.is_dir()]
    folders.append(Path(wh.uri) / "ForcedSource")
    for folder in folders:
        folder.chmod(0o555)
    told = ingest_unprivileged(wh.uri, "ForcedSource", world.tree)
    for folder in folders:
        folder.chmod(0o755)
    assert (told["error"], told["kind"]) == ("StorageError", "permission")
    assert f"{wh.uri}/ForcedSource" in told["message"]
    assert content.fingerprint(wh, "ForcedSource") == before


def test_a_log_that_may_not_be_written_is_no_lost_race(world):
    wh = world.warehouse
    wh.ingest("ForcedSource", str(world.files(PATCHES)[0]))
    before = content.fingerprint(wh, "ForcedSource")
    log = Path(wh.uri) / "ForcedSource" / "_delta_log"
    log.chmod(0o555)
    told = ingest_unprivileged(wh.uri, "ForcedSource", world.tree)
    log.chmod(0o755)
    assert told["error"] == "StorageError"
    assert content.fingerprint(wh, "ForcedSource") == before
    wh.ingest("ForcedSource", str(world.tree))
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))


@pytest.mark.parametrize("most", [4_000, 100_000])
def test_a_disk_without_room_commits_nothing_and_the_next_run_does_all(world, most):
    wh = world.warehouse
    told = ingest_with_little_room(wh.uri, "ForcedSource", world.tree, most)
    assert told["error"] == "StorageError"
    assert wh.uri in told["message"]
    assert content.rows(wh, "ForcedSource").is_empty()
    report = wh.ingest("ForcedSource", str(world.tree))
    assert report.version == 1
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", world.files(PATCHES)))
    wh.maintain(hours=0)
    left = {path for path in content.files_below(Path(wh.uri) / "ForcedSource") if not path.startswith("_")}
    assert left == set(content.live_files(wh, "ForcedSource"))


def test_an_endpoint_that_does_not_answer_is_named_at_once(world, settings):
    nowhere = f"http://127.0.0.1:{free_port()}"
    update = {"s3_endpoint_url": nowhere, "s3_connect_timeout": 1.0, "s3_attempts": 1, "s3_region": "us-east-1"}
    keys = {"s3_access_key_id": "a", "s3_secret_access_key": "b"}
    lost = type(settings)(**{**settings.model_dump(), **update, **keys})
    wh = Warehouse(world.warehouse.root, lost)
    with pytest.raises(StorageError) as caught:
        wh.ingest("Source", "s3://bucket/tree")
    assert (caught.value.kind, caught.value.uri) == ("unreachable", "s3://bucket/tree")
    assert caught.value.exit_code not in {0, InputError.exit_code}
    with pytest.raises(StorageError) as caught:
        Warehouse.create("s3://bucket/warehouse", settings=lost)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("step", ["planned", "staged"])
def test_two_runs_over_the_same_inputs_at_once_load_them_once(world, step):
    barrier = threading.Barrier(2)
    waited = set()

    def wait(event):
        if event.step == step and threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            barrier.wait(timeout=60)

    reports = {}

    def load(name):
        wh = Warehouse.open(world.warehouse.uri, settings=world.warehouse.settings)
        reports[name] = wh.ingest("Source", str(world.tree), on_event=wait)

    runs = [threading.Thread(target=load, args=(name,)) for name in "ab"]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    wh = world.warehouse
    assert sorted(reports[name].nothing_new for name in "ab") == [False, True]
    assert wh.version("Source") == 1
    assert content.same(wh, "Source", content.delivered(wh, "Source", world.files(VISITS)))
    assert wh.history("Source").height == 8
    assert holds(world)
