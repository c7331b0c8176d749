"""Rows as files: whole or not at all, and as text where a format has no type for them."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest

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
        save(pl.LazyFrame({"visit": [1]}), str(out), SETTINGS, VISIT)
    assert out.read_text() == "an earlier answer"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
