"""What waits aside is written out before it is much, and nothing of it is lost."""

import io
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from support.small_contracts import derived, given, header
from warehouse import storage
from warehouse.errors import InputError
from warehouse.ingest.aside import TEXT, Aside
from warehouse.ingest.assign import assign
from warehouse.ingest.conform import conform, plan_columns
from warehouse.ingest.plan import Planned
from warehouse.ingest.quality import check
from warehouse.sky import skymap

PLANNED = Planned(given(), 1, "unit", "new")
CONTRACT = derived()


@pytest.fixture
def job(tmp_path):
    return SimpleNamespace(table="Source", contract=CONTRACT, staging_uri=str(tmp_path))


def written(aside, settings):
    """Write the rest, and return the files that were written, in order."""
    return [pl.read_parquet(io.BytesIO(storage.read_bytes(uri, settings))) for uri in aside.finish()]


def refused(rows):
    """Return a checked batch of which every row is without a position."""
    batch = pl.DataFrame({"id": np.arange(rows), "ra": [None] * rows, "dec": [0.0] * rows}).cast({"ra": pl.Float64})
    plan = plan_columns(CONTRACT, header(batch))
    conformed = conform(batch, plan)
    sky = skymap.named("DC2")
    return check(assign(conformed.frame, CONTRACT, sky), conformed.original, CONTRACT, sky, given())


def test_what_is_held_is_written_as_soon_as_it_is_more_than_the_memory_and_not_before(job, settings):
    error = InputError("truncated", uri="s3://in/file.parq")
    one = Aside(job, settings, 1 << 30)
    one.put_input(PLANNED, error)
    each = one.held
    aside = Aside(job, settings, 10 * each)
    for put in range(1, 36):
        aside.put_input(PLANNED, error)
        assert (len(aside.uris), aside.held) == (put // 11, put % 11 * each)
    assert [frame.height for frame in written(aside, settings)] == [11, 11, 11, 2]


def test_rows_become_text_a_part_at_a_time(job, settings):
    """A batch that is refused as a whole would take many times its own memory as text."""
    rows = 10_000
    checked = refused(rows)
    memory = 100 * TEXT * CONTRACT.row_bytes
    aside = Aside(job, settings, memory)
    aside.put(PLANNED, checked)
    assert aside.held <= memory
    frames = written(aside, settings)
    assert max(frame.estimated_size() for frame in frames) < 2.5 * memory
    assert pl.concat(frames)["row_number"].to_list() == list(range(rows))


def test_where_nothing_is_set_aside_nothing_is_written(job, settings):
    assert Aside(job, settings, 1).finish() == ()
