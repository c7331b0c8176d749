"""Rows saved to a bucket, and to a bucket that is not there."""

from __future__ import annotations

import polars as pl
import pytest

from warehouse import storage
from warehouse.errors import QueryError, StorageError
from warehouse.query.save import save

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("s3")]

FRAME = pl.LazyFrame({"objectId": [1, 2, 3], "coord_ra": [62.0, 62.1, None]})


@pytest.mark.parametrize(("suffix", "read"), [("parquet", pl.scan_parquet), ("csv", pl.scan_csv)])
def test_rows_go_to_a_bucket(s3, suffix, read):
    out = s3.uri(f"a folder/rows.{suffix}")
    assert save(FRAME, out, s3.settings) == 3
    options = storage.polars_options(out, s3.settings)
    assert read(out, storage_options=options, credential_provider=None).collect().equals(FRAME.collect())


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(StorageError, match="s3://no-such-bucket-here"):
        save(FRAME, "s3://no-such-bucket-here/rows.parquet", s3.settings)


def test_fits_is_written_to_local_files_only(s3):
    with pytest.raises(QueryError, match="local"):
        save(FRAME, s3.uri("rows.fits"), s3.settings)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "jsonl"])
def test_rows_that_cannot_be_made_leave_the_object_in_their_place_as_it_was(s3, suffix):
    client, key = s3.server.client(), f"g.{suffix}"
    number = pl.col("n").cast(pl.String)
    for rows in (3, 10, 100, 3_000_000):  # a stub took its place now and then only
        client.put_object(Bucket=s3.name, Key=key, Body=b"an earlier answer")
        failing = pl.LazyFrame({"n": range(rows)}).select(
            number, cast=pl.when(pl.col("n") < rows - 1).then(number).otherwise(pl.lit("x")).cast(pl.Int64)
        )
        with pytest.raises(QueryError, match="the rows cannot be made"):
            save(failing, s3.uri(key), s3.settings)
        assert client.get_object(Bucket=s3.name, Key=key)["Body"].read() == b"an earlier answer"
    assert not client.list_multipart_uploads(Bucket=s3.name).get("Uploads")


def test_nothing_is_left_beside_what_was_saved(s3):
    for _ in range(2):
        save(FRAME, s3.uri("rows.parquet"), s3.settings)
    assert [found.uri for found in storage.listing(s3.uri(), s3.settings)] == [s3.uri("rows.parquet")]
