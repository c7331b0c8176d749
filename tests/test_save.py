"""Rows as files: whole or not at all, and as text where a format has no type for them."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest
from astropy.table import Table

from warehouse import contracts
from warehouse.config import Settings
from warehouse.errors import QueryError, StorageError
from warehouse.query import frames
from warehouse.query.save import save

SETTINGS = Settings()
VISIT = contracts.load("dp02").contract("Visit")
FAILING = pl.LazyFrame({"band": ["u", "g"]}).select(pl.col("band").cast(pl.Int32))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "jsonl"])
def test_rows_that_cannot_be_made_leave_the_file_in_their_place_as_it_was(tmp_path, suffix):
    out = tmp_path / f"g.{suffix}"
    out.write_text("an earlier answer")
    with pytest.raises(QueryError, match="the rows cannot be made"):
        save(FAILING, str(out), SETTINGS)
    assert out.read_text() == "an earlier answer"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_a_disk_that_is_full_leaves_the_file_in_its_place_as_it_was(tmp_path, monkeypatch, suffix):
    class Full:
        def write(self, out, **_):
            Path(out).write_text("half of th")
            raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / f"g.{suffix}"
    out.write_text("an earlier answer")
    monkeypatch.setattr(frames, "to_astropy", lambda *_: Full())
    with pytest.raises(StorageError, match="no space left"):
        save(pl.LazyFrame({"visit": [1]}), str(out), SETTINGS, [VISIT])
    assert out.read_text() == "an earlier answer"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_lists_are_text_separated_by_commas_where_a_format_holds_none(tmp_path):
    rows = pl.DataFrame(
        {
            "planes": [["BAD", "SAT"], [], None, ["EDGE", None, ""]],
            "touches": [[4431, 17], [-1], [], [1, None, 2]],
            "depth": [[24.5], [0.1, 1e-9], None, [2.0]],
        },
        schema_overrides={"touches": pl.List(pl.Int64)},
    )
    out = tmp_path / "lists.csv"
    assert save(rows.lazy(), str(out), SETTINGS) == 4
    assert out.read_text().splitlines() == [
        "planes,touches,depth",
        '"BAD,SAT","4431,17",24.5',
        '"",-1,"0.1,1e-9"',
        ',"",',
        '"EDGE,,","1,,2",2.0',
    ]
    for suffix, read in {"parquet": pl.read_parquet, "arrow": pl.read_ipc, "jsonl": pl.read_ndjson}.items():
        out = tmp_path / f"lists.{suffix}"
        save(rows.lazy(), str(out), SETTINGS)
        assert read(out).equals(rows)


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_columns_of_several_tables_have_the_units_and_descriptions_of_each(tmp_path, suffix):
    release = contracts.load("dp02")
    forced, visit = release.contract("ForcedSource"), release.contract("Visit")
    rows = pl.LazyFrame({"objectId": [1], "visit": [2], "expMidptMJD": [59945.1], "band": ["i"], "psfFlux": [3.0]})
    out = tmp_path / f"lc.{suffix}"
    save(rows, str(out), SETTINGS, [forced, visit])
    read = Table.read(out)
    assert (str(read["expMidptMJD"].unit), str(read["psfFlux"].unit)) == ("d", "nJy")
    if suffix != "fits":  # whose reader of descriptions astropy lacks
        for name, contract in {"visit": visit, "expMidptMJD": visit, "band": forced, "psfFlux": forced}.items():
            assert read[name].description.split() == contract.by_name[name].description.split()  # VOTable folds them
