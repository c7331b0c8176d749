"""FITS tables on a real S3 server: the same rows as from a local disk, in ranges, within the bound of memory."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import polars as pl
import pytest
from astropy.io.fits import Column
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.any_table import LETTERS, kinds, values, write_any
from support.fits import data_start, put, write_table
from warehouse import storage
from warehouse.errors import InputError
from warehouse.readers.fits import FitsReader

pytestmark = pytest.mark.integration

ROWS = 60_000
CLIENT = 1 << 20
"""What the store's client holds by itself, whatever is asked of it: 0.9 MB with bounds from 1 to 6 MiB."""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    rng = np.random.default_rng(8)
    return write_table(
        tmp_path_factory.mktemp("fits") / "t.fits",
        [
            Column("id", "K", array=np.arange(ROWS)),
            Column("band", "1A", array=rng.choice(np.array(["g", "r", ""]), ROWS)),
            Column("n", "J", null=-999, array=np.where(rng.random(ROWS) < 0.1, -999, 5)),
            *(Column(f"flux{i}", "D", unit="nJy", array=rng.normal(size=ROWS)) for i in range(30)),
        ],
        checksum=True,
    )


@pytest.fixture
def remote(local, s3):
    uri = s3.uri("in", "t.fits")
    storage.write_bytes(uri, local.read_bytes(), s3.settings)
    return uri


def frame(uri, settings, memory=1 << 30):
    opened = FitsReader().open(str(uri), settings)
    return pl.concat(opened.batches(opened.schema.names, memory))


@pytest.mark.parametrize("memory", [2 << 20, 1 << 30])
def test_an_object_holds_the_same_rows_as_the_file(local, remote, s3, memory):
    assert frame(remote, s3.settings, memory).equals(frame(local, s3.settings))


def test_memory_stays_within_the_bound_whatever_the_size_of_the_object(local, remote, s3):
    bound = 4 << 20
    assert local.stat().st_size > 3 * bound
    opened = FitsReader().open(remote, s3.settings)
    next(opened.batches(["id"], bound))  # what is loaded once is loaded before memory is counted
    tracemalloc.start()
    seen = sum(batch.height for batch in opened.batches(opened.schema.names, bound))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == ROWS
    assert peak < bound + CLIENT


def test_a_gzip_object_holds_the_same_rows(local, s3):
    uri = s3.uri("t.fits.gz")
    storage.write_bytes(uri, gzip.compress(local.read_bytes(), 1), s3.settings)
    assert frame(uri, s3.settings, 4 << 20).equals(frame(local, s3.settings))


@given(
    drawn=st.lists(kinds(), min_size=1, max_size=11),
    rows=st.integers(0, 70),
    seed=st.integers(0, 2**32 - 1),
    memory=st.sampled_from([1, 50_000, 1 << 30]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_in_a_store_reads_back_as_astropy_reads_it(tmp_path_factory, s3, drawn, rows, seed, memory):
    path = tmp_path_factory.mktemp("t") / "t.fits"
    expected = write_any(path, drawn, rows, seed)
    uri = s3.uri("any.fits")
    storage.write_bytes(uri, path.read_bytes(), s3.settings)
    assert values(frame(uri, s3.settings, memory)) == expected


@pytest.mark.parametrize("letter", LETTERS)
def test_each_letter_in_a_store_reads_back_as_astropy_reads_it(tmp_path, s3, letter):
    drawn = [
        (letter, shape, variant, 13) for shape in ((), (3,)) for variant in ("plain", "null", "unsigned", "scaled")
    ]
    expected = write_any(tmp_path / "t.fits", drawn, 70, 6)
    uri = s3.uri("letter.fits")
    storage.write_bytes(uri, (tmp_path / "t.fits").read_bytes(), s3.settings)
    assert values(frame(uri, s3.settings, 50_000)) == expected


def test_opening_reads_the_header_and_not_the_rows(remote, s3, monkeypatch):
    fs, _ = storage.filesystem(remote, s3.settings)
    asked = []
    cat_file = type(fs).cat_file

    def counted(self, path, start=None, end=None, **how):
        asked.append(end - start)
        return cat_file(self, path, start=start, end=end, **how)

    monkeypatch.setattr(type(fs), "cat_file", counted)
    assert FitsReader().open(remote, s3.settings).rows == ROWS
    assert sum(asked) < 300_000


def test_an_object_cut_short_is_truncated(local, s3):
    uri = s3.uri("cut.fits")
    cut = data_start(local) + 1000
    storage.write_bytes(uri, local.read_bytes()[:cut], s3.settings)
    with pytest.raises(InputError, match=f"the file at byte {cut}") as caught:
        FitsReader().open(uri, s3.settings)
    assert (caught.value.kind, caught.value.uri) == ("truncated", uri)


def test_no_object_is_vanished(s3):
    with pytest.raises(InputError) as caught:
        FitsReader().open(s3.uri("nothing.fits"), s3.settings)
    assert caught.value.kind == "vanished"


def test_a_flipped_bit_fails_the_data_sum(local, s3, tmp_path):
    damaged = tmp_path / "d.fits"
    damaged.write_bytes(local.read_bytes())
    put(damaged, data_start(local) + 5_000_000, b"\x55\xaa")
    uri = s3.uri("d.fits")
    storage.write_bytes(uri, damaged.read_bytes(), s3.settings)
    with pytest.raises(InputError, match="DATASUM says") as caught:
        frame(uri, s3.settings)
    assert caught.value.kind == "checksum"


def test_an_object_that_is_replaced_while_it_is_read_is_refused(local, remote, s3):
    rows = FitsReader().open(remote, s3.settings).batches(["id"], 1 << 20)
    next(rows)
    storage.write_bytes(remote, local.read_bytes() + bytes(2880), s3.settings)
    with pytest.raises(InputError) as caught:
        list(rows)
    assert caught.value.kind == "changed"
