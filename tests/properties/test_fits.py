"""Any table that astropy can write reads back as astropy reads it, nulls included, in one block or in many."""

from __future__ import annotations

import gzip

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.any_table import kinds, values, write_any
from warehouse.config import Settings
from warehouse.readers.fits import FitsReader


@given(
    drawn=st.lists(kinds(), min_size=1, max_size=6),
    rows=st.integers(0, 70),
    seed=st.integers(0, 2**32 - 1),
    memory=st.sampled_from([1, 50_000, 1 << 30]),
    workers=st.sampled_from([1, 3]),
    zipped=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_reads_back_as_astropy_reads_it(tmp_path_factory, drawn, rows, seed, memory, workers, zipped):
    path = tmp_path_factory.mktemp("t") / "t.fits"
    expected = write_any(path, drawn, rows, seed)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    opened = FitsReader().open(str(path), Settings(workers=workers))
    assert opened.schema.names == list(expected)
    assert opened.rows == rows
    assert values(pl.concat(opened.batches(list(expected), memory))) == expected
