"""What is printed: tables that fit, progress in bars and in lines."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from rich.console import Console

from flows import display, progress, reporting
from warehouse.errors import InputError
from warehouse.ingest.plan import LeftAside, Plan
from warehouse.ingest.run import IngestReport
from warehouse.lake.audit import Finding
from warehouse.lake.events import Event
from warehouse.lake.ledger import Entry
from warehouse.lake.pins import Pin
from warehouse.wording import counted

READ = [Event("staging", "Object", f"patch {n}", inputs=1, rows=1000, bytes=2_500_000) for n in range(4)]
PLANNED = Event("planned", "Object", "4 new", inputs=4, bytes=10_000_000)


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(display.console, "width", 80)


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=30, color_system=None)


def entry(number, **changes):
    unit = f"objectTable tract=4431 patch={number}"
    known = {"unit": unit, "uri": f"s3://in/{number}", "size": 100, "stamp": "x", "status": "committed"}
    return Entry(number, **(known | changes))


def report(**changes):
    entries = (entry(1, rows_read=1_234_567, rows_committed=1_234_560, rows_quarantined=7, rules={"key_null": 7}),)
    plan = Plan("ForcedSourceOnDiaObject", "digest", "objectTable", work=(object(),))
    known = {
        "version": 3,
        "plan": plan,
        "entries": entries,
        "files": 12,
        "bytes_written": 5_000_000_000,
        "seconds": 2.0,
    }
    return IngestReport("ForcedSourceOnDiaObject", **(known | changes))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_numbers_are_never_cut_whatever_the_width(monkeypatch, capsys, width):
    monkeypatch.setattr(display.console, "width", width)
    display.summaries([reporting.summary(report())])
    out = capsys.readouterr().out
    table = out.splitlines()[:-1]
    assert max(map(len, table)) <= width
    for number in ("1,234,560", "5,000.0", "617,280", "12"):
        assert number in out
    assert "…" not in out


@pytest.mark.usefixtures("narrow")
def test_of_the_tables_only_the_description_is_cut(capsys):
    words = {"version": 4, "description": "Properties of the objects " * 20}
    counted = {"table": "ForcedSourceOnDiaObject", "rows": 44_727_948_693, "files": 26_000, "bytes": 5e12} | words
    empty = dict.fromkeys(counted) | {"table": "Object", "description": "none yet"}
    display.tables(pl.DataFrame([counted, empty]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for shown in ("ForcedSourceOnDiaObject", "44,727,948,693", "26,000", "5,000,000.0", "4", "Prop"):
        assert shown in lines[1]
    assert "none yet" in lines[2]


@pytest.mark.usefixtures("narrow")
def test_the_name_of_a_pin_is_folded_and_its_tables_are_told(capsys):
    name = "a" * 90
    display.pins([Pin(name, "2026-11-01T00:00:00+00:00", {"Object": 3, "Source": 4})])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-1] == "2"
    assert "".join(line.split()[0] for line in lines[1:]) == name


@pytest.mark.usefixtures("narrow")
def test_what_was_refused_and_set_aside_stands_below_the_table(capsys):
    broken = entry(2, status="refused", rows_read=5, rows_quarantined=5, error="s3://in/2: truncated")
    aside = (LeftAside("s3://in/3", "an earlier run"),)
    plan = Plan("Object", "digest", "objectTable", work=(object(),), left_aside=aside)
    summary = reporting.summary(report(plan=plan, entries=(*report().entries, broken)))
    display.summaries([summary])
    out = capsys.readouterr().out
    assert "key_null 7" in out
    assert "refused s3://in/2: truncated" in out
    assert "s3://in/3: an earlier run" in out
    error = reporting.refused([summary])
    assert isinstance(error, InputError)
    assert error.summaries == [summary]
    assert "s3://in/2" in str(error)


@pytest.mark.usefixtures("narrow")
def test_nothing_new_is_said_once(capsys):
    plan = Plan("Object", "digest", None, unchanged=(entry(1), entry(2)))
    display.summaries([reporting.summary(IngestReport("Object", 1, plan))] * 2)
    assert capsys.readouterr().out == "nothing new: 4 inputs of 2 tables unchanged\n"


def test_the_markdown_of_a_run_has_a_row_a_table_and_its_notes():
    text = reporting.markdown([report(), report()])
    lines = text.splitlines()
    assert lines[1] == "|" + "---|" * len(lines[0].strip("|").split("|"))
    assert sum(line.startswith("| ForcedSourceOnDiaObject | 1 | 1,234,567 | 1,234,560 | 7 |") for line in lines) == 2
    assert "key_null 7" in text


def test_columns_that_do_not_fit_the_contract_are_named():
    entries = (entry(1, extra=["mine"], missing=["g_psfFlux"]), entry(2, extra=["mine", "yours"]))
    notes = reporting.notes([report(entries=entries)])
    assert [note.partition(": ")[2].rpartition(": ")[2] for note in notes] == ["mine, yours", "g_psfFlux"]
    many = report(entries=(entry(1, missing=[f"c{n:03}" for n in range(100)]),))
    assert reporting.notes([many])[0].endswith("c010, c011 and 88 more")


@pytest.mark.usefixtures("narrow")
def test_inputs_that_stand_refused_are_not_forgotten_by_the_next_run(capsys):
    plan = Plan("Object", "digest", None, unchanged=(entry(1), entry(2, status="refused", error="truncated")))
    display.summaries([reporting.summary(IngestReport("Object", 1, plan))])
    out = capsys.readouterr().out
    assert "Object: 1 input unchanged since refused" in out
    assert "nothing new" in out


@pytest.mark.usefixtures("narrow")
def test_a_plan_fits_the_terminal_and_tells_table_and_dataset_type_whole(capsys):
    plan = Plan("ForcedSourceOnDiaObject", "digest", "forcedSourceOnDiaObjectTable_tract", counts={"new": 26_000})
    display.plans([plan], (), json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[0] == "ForcedSourceOnDiaObject"
    assert lines[1].split()[2] == "26,000"
    # The dataset type is folded, to lines of its own column.
    left = lines[0].index("fed by")
    assert "".join(line[left:].split()[0] for line in lines[1:-1]) == "forcedSourceOnDiaObjectTable_tract"


def test_floats_of_a_column_have_one_number_of_decimals(capsys):
    display.rows(pl.DataFrame({"mjd": [59945.107, 59960.11, None], "n": [1, 22, 3], "tiny": [1e-9, 0.5, 2.0]}))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "      mjd   n   tiny",
        "59945.107   1  1e-09",
        "59960.110  22    0.5",
        "            3      2",
    ]


def test_an_answer_without_rows_says_so(capsys):
    display.rows(pl.DataFrame({"a": []}))
    assert capsys.readouterr().out == "no rows\n"


@pytest.mark.usefixtures("narrow")
def test_only_options_that_the_command_has_are_named(capsys):
    wide = pl.DataFrame({f"column_{n}": ["x" * 30] for n in range(5)})
    display.rows(wide)
    assert "... and 3 more columns; --json gives all" in capsys.readouterr().out
    display.rows(wide, whole="--out or --json", choosing="--columns")
    assert "... and 3 more columns; --columns chooses, --out or --json gives all" in capsys.readouterr().out


@pytest.mark.usefixtures("narrow")
def test_an_audit_shows_what_does_not_hold(capsys):
    found = [Finding("Object", "unique key", 10, 0), Finding("Source", "unique key", 10, 2, "sourceId = 4")]
    display.findings(found, every=False)
    out = capsys.readouterr().out
    assert "sourceId = 4" in out
    assert "Object" not in out
    assert "1 check of 2 failed" in out


@pytest.mark.usefixtures("narrow")
def test_of_what_is_set_aside_all_is_counted_and_a_part_shown(capsys):
    counts = {"table": ["Object"] * 2, "rules": [["key_null"], ["key_null", "position_null"]], "rows": [7, 1_000_000]}
    row = {
        "table": "Object",
        "rules": ["key_null"],
        "row_number": 1_000_006,
        "uri": "s3://in/1",
        "key": "",
        "values": "{}",
    }
    display.quarantined(pl.DataFrame(counts), pl.DataFrame([row]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["Object", "key_null", "1,000,007"],
        ["Object", "position_null", "1,000,000"],
    ]
    assert "Object key_null: row 1,000,006 of s3://in/1" in lines
    assert lines[-1].startswith("... the last 1 of 1,000,007 rows")


def test_rows_are_json_as_they_come(capsys):
    for rows in ([], [{"a": 1}], [{"a": 1, "b": ["x\ny"]}, {"a": None, "b": []}]):
        display.as_json_rows(iter(rows))
        streamed = capsys.readouterr().out
        display.as_json(rows)
        assert json.loads(streamed) == json.loads(capsys.readouterr().out) == rows


def test_json_has_null_for_what_is_no_number(capsys):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    inner = {"b": (float("inf"), [1.5, float("nan")]), "c": {"d": float("-inf")}}
    known = {"a": None, "b": [None, [1.5, None]], "c": {"d": None}}
    display.as_json([{"a": float("nan"), **inner}])
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == [known]
    display.as_json_rows([{"a": float("nan"), **inner}])
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == [known]


def test_lines_say_each_step_and_sum_what_was_read():
    said = []
    watch = progress.Lines(said.append, seconds=0)
    for event in (
        PLANNED,
        *READ,
        Event("scattered", "Object"),
        Event("gathered", "Object", rows=4000, files=2),
        Event("staged", "Object", files=2),
        Event("committed", "Object", "version 1"),
        Event("recorded", "Object"),
    ):
        watch(event)
    assert said[0] == "Object: 4 inputs to read, 10.0 MB (4 new)"
    assert said[4].startswith("Object: 4 of 4 inputs, 4,000 rows, 10.0 of 10.0 MB")
    assert said[5:] == ["Object: 4,000 rows of 4 inputs staged in 2 files", "Object: committed version 1"]


def test_a_run_that_only_removes_says_so():
    said = []
    watch = progress.Lines(said.append, seconds=0)
    for event in (Event("planned", "Object", "3 vanished"), Event("staged", "Object"), Event("committed", "Object")):
        watch(event)
    assert said == ["Object: nothing to read, only rows of inputs that are gone to remove", "Object: committed"]


def test_one_thing_is_not_told_as_several():
    said = []
    watch = progress.Lines(said.append, seconds=0)
    watch(Event("planned", "Visit", "1 new", inputs=1))
    watch(Event("staging", "Visit", "v", inputs=1, rows=1))
    watch(Event("staged", "Visit", files=1))
    assert [text.partition(" (")[0] for text in said] == [
        "Visit: 1 input to read",
        "Visit: 1 of 1 input, 1 row, 0.0 of 0.0 MB",
        "Visit: 1 row of 1 input staged in 1 file",
    ]
    assert (counted(0, "input"), counted(1, "input"), counted(1200, "input")) == ("0 inputs", "1 input", "1,200 inputs")


def test_lines_are_few_and_a_table_with_nothing_to_do_says_nothing():
    said = []
    watch = progress.Lines(said.append, seconds=1e9)
    watch(Event("planned", "Visit"))
    watch(PLANNED)
    for event in READ * 100:
        watch(event)
    assert said == ["Object: 4 inputs to read, 10.0 MB (4 new)"]


def test_bars_show_rows_bytes_and_inputs_and_go_away():
    console = terminal()
    with progress.progress(console) as watch:
        watch(PLANNED)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(watch, READ))
        watch(Event("failed", "Object", "stage it: the store does not answer"))
        watch(Event("scattered", "Object"))
        watch(Event("gathered", "Object", rows=4000))
        watch(Event("committed", "Object", "version 1"))
        watch(Event("planned", "Object", "again", inputs=1, bytes=100))
        watch(Event("committed", "Object", "version 2"))
    shown = console.file.getvalue()
    assert "Object: failed stage it: the store does not answer" in shown
    last = shown.rpartition("version 2")[0].rpartition("Object")[2]
    assert "0/1" in last


def test_without_a_terminal_progress_is_lines():
    console = Console(file=io.StringIO(), width=80)
    with progress.progress(console) as watch:
        watch(PLANNED)
    assert console.file.getvalue() == "Object: 4 inputs to read, 10.0 MB (4 new)\n"


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.9, "1:00:00"), (7384, "2:03:04")]
)
def test_the_time_left_reads_as_a_clock(seconds, clock):
    assert progress._clock(seconds) == clock
