"""The HDU that is asked for is the one that is read - at once, after a crash, again, and when the file has changed."""

from __future__ import annotations

import json
import sys

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table

from flows import cli, ingesting
from support import skies
from warehouse import Warehouse
from warehouse.errors import QueryError
from warehouse.lake import ledger

ROWS = {"FIRST": 30, "SECOND": 20}
FIRST_ID = {"FIRST": 1, "SECOND": 1001}


def rows(name):
    """Return rows that Source's contract takes; the two tables share no key."""
    made = Table()
    made["sourceId"] = (192350175 << 29) + FIRST_ID[name] + np.arange(ROWS[name], dtype=np.int64)
    made["coord_ra"] = np.linspace(61.9, 62.0, ROWS[name])
    made["coord_dec"] = np.linspace(-37.1, -37.0, ROWS[name])
    return made


def write(path, *, seen=False):
    """Write two catalogues and a log beside them, which holds no rows to ingest."""
    tables = [fits.table_to_hdu(rows(name)) for name in ROWS]
    for table, name in zip(tables, ROWS, strict=True):
        table.name = name
    tables[0].header["SEEN"] = seen  # another content, the same rows
    fits.HDUList([fits.PrimaryHDU(), *tables, fits.ImageHDU(np.zeros((3, 3)), name="WEIGHT")]).writeto(
        path, overwrite=True
    )
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "catalogue.fits")


@pytest.fixture
def wh(tmp_path, settings):
    return Warehouse.create(str(tmp_path / "warehouse"), settings=settings)


def held(wh):
    """Return which of the two tables the warehouse holds rows of."""
    ids = set(wh.scan("Source").select("sourceId").collect().to_series())
    return {name for name in ROWS if ids & set(rows(name)["sourceId"].tolist())}


@pytest.mark.parametrize(("hdu", "expected"), [(None, "FIRST"), (2, "SECOND"), ("2", "SECOND"), ("second", "SECOND")])
def test_the_table_is_the_one_named_by_number_or_name_else_the_first_that_fits(wh, file, hdu, expected):
    report = wh.ingest("Source", str(file), hdu=hdu)
    assert (report.rows_committed, held(wh)) == (ROWS[expected], {expected})
    assert wh.history("Source")["hdu"].to_list() == [None if hdu is None else str(hdu)]


def test_what_was_named_holds_until_another_is(wh, file):
    wh.ingest("Source", str(file), hdu="SECOND")
    assert wh.ingest("Source", str(file)).nothing_new
    write(file, seen=True)
    again = wh.ingest("Source", str(file))
    assert (again.plan.work[0].why, held(wh)) == ("changed", {"SECOND"})
    assert wh.plan("Source", str(file), hdu="FIRST").work
    other = wh.ingest("Source", str(file), hdu="FIRST")
    assert (other.rows_committed, held(wh)) == (ROWS["FIRST"], {"FIRST"})
    assert wh.scan("Source").collect().height == ROWS["FIRST"]


def test_an_hdu_that_is_not_there_refuses_the_input_and_names_those_that_are(wh, file):
    wh.ingest("Source", str(file), hdu="SECOND")
    (refused,) = wh.ingest("Source", str(file), hdu="SECONDS").refused
    assert "no HDU SECONDS; did you mean SECOND?" in refused.error
    assert "? There are 0, 1 FIRST (table), 2 SECOND (table), 3 WEIGHT" in refused.error
    (image,) = wh.ingest("Source", str(file), hdu=3).refused
    assert "HDU 3 'WEIGHT' is asked for and holds no table of rows. There are 0, 1 FIRST (table)" in image.error
    assert held(wh) == {"SECOND"}
    (retried,) = wh.retry("Source").refused
    assert (retried.hdu, retried.error) == ("3", image.error)
    assert wh.ingest("Source", str(file)).entries[0].hdu == "SECOND"


def test_a_retry_reads_the_hdu_that_was_named(wh, file):
    """A null position sets one row aside."""
    with fits.open(file, mode="update") as opened:
        opened["SECOND"].data["coord_ra"][0] = np.nan
    settings = wh.settings.model_copy(update={"max_quarantined_share": 0.5})
    told = Warehouse.open(wh.uri, settings=settings)
    assert told.ingest("Source", str(file), hdu="SECOND").rows_quarantined == 1
    write(file)
    assert (told.retry("Source").rows_committed, held(wh)) == (ROWS["SECOND"], {"SECOND"})


@pytest.mark.parametrize(("before", "resumed"), [("FIRST", False), ("SECOND", True)])
def test_only_work_staged_of_the_same_hdu_is_taken_over(wh, file, before, resumed):
    with skies.crashing("staged") as watch:
        wh.ingest("Source", str(file), hdu=before, on_event=watch)
    seen = []
    wh.ingest("Source", str(file), hdu="SECOND", on_event=lambda event: seen.append(event.step))
    assert ("resumed" in seen, held(wh)) == (resumed, {"SECOND"})


def test_an_hdu_is_asked_of_fits_files_alone(wh, file, tmp_path):
    parquet = tmp_path / "catalogue.parquet"
    pl.DataFrame({name: np.asarray(rows("FIRST")[name]) for name in rows("FIRST").colnames}).write_parquet(parquet)
    with pytest.raises(QueryError, match=r"HDU SECOND is asked for, and none of the inputs is a FITS file, such as .*"):
        wh.ingest("Source", str(parquet), hdu="SECOND")
    both = wh.ingest("Source", [str(file), str(parquet)], hdu="SECOND")
    assert {entry.uri: entry.hdu for entry in both.entries} == {str(file): "SECOND", str(parquet): None}
    assert held(wh) == {"FIRST", "SECOND"}
    with pytest.raises(QueryError, match="empty"):
        wh.ingest("Source", str(file), hdu=" ")


def test_the_command_names_it_and_the_plan_is_the_same(wh, file, monkeypatch, capsys):
    command = ["tractlake", "ingest", "--direct", "-w", wh.uri, "--table", "Source", "--hdu", "SECOND", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, str(file)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)[0]["rows_committed"] == ROWS["SECOND"]
    assert held(wh) == {"SECOND"}
    request = ingesting.Request(warehouse=wh.uri, inputs=(str(file),), table="Source", hdu="FIRST")
    assert [planned.input.hdu for planned in ingesting.plans(request)[0][0].work] == ["FIRST"]


def test_a_record_of_an_earlier_version_is_read_without_it(wh, file, monkeypatch):
    """As a crash of that version left it: committed, and not yet in the ledger."""
    frame = ledger.entries_frame
    with monkeypatch.context() as earlier, skies.crashing("committed") as watch:
        earlier.setattr(ledger, "entries_frame", lambda entries: frame(entries).drop("hdu"))
        wh.ingest("Source", str(file), on_event=watch)
    ledger.catch_up(wh.uri, "Source", wh.settings)
    assert wh.history("Source").select("rows_committed", "hdu").rows() == [(ROWS["FIRST"], None)]
