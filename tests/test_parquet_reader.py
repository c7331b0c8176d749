from __future__ import annotations

import datetime as dt
import decimal
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warehouse.errors import InputError, StorageError
from warehouse.readers import parquet, reader_for

PLENTY = 1 << 30
BLOCKS, SCRATCH = 900_000, 600_000
ROWS = 3000


def many_types(rows=ROWS):
    rng = np.random.default_rng(7)
    numbers = rng.normal(size=rows)
    odd = np.arange(rows) % 7 == 0
    words = pa.array([None if i % 11 == 0 else f"wörd {i % 50} that is too long to be inlined" for i in range(rows)])
    return pa.table(
        {
            "i8": pa.array(np.arange(rows) % 100, pa.int8()),
            "u16": pa.array(np.arange(rows), pa.uint16()),
            "u64": pa.array(np.full(rows, 2**64 - 1, np.uint64)),
            "i64": pa.array(np.arange(rows) + 2**61, mask=odd),
            "float": pa.array(numbers, pa.float32()),
            "double": pa.array(np.where(odd, np.nan, numbers)),
            "flag": pa.array(numbers > 0, mask=odd),
            "text": words,
            "large": words.cast(pa.large_string()),
            "dictionary": words.dictionary_encode(),
            "bytes": words.cast(pa.binary()),
            "decimal": pa.array([decimal.Decimal(i) / 100 for i in range(rows)], pa.decimal128(12, 2)),
            "day": pa.array([dt.date(2022, 10, 17)] * rows),
            "time_ns": pa.array(np.arange(rows) * 1_000_000_007, pa.timestamp("ns")),
            "time_utc": pa.array(np.arange(rows), pa.timestamp("us", "UTC")),
            "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(3.0 * rows)), 3),
            "list": pa.array([[float(i)] * (i % 4) for i in range(rows)]),
            "nothing": pa.nulls(rows),
            "a.b": pa.array(numbers),
            "^.*$": pa.array(numbers + 1),
            "*": pa.array(numbers + 2),
            "größe in mag": pa.array(numbers + 3),
            "long": pa.array([f"{i:0200d}" for i in range(rows)]),
        }
    )


ALL = many_types(0).column_names


def write(path, table, **options):
    pq.write_table(table, path, **{"compression": "none", **options})
    return str(path)


def read(path, settings, memory=PLENTY, columns=None):
    opened = reader_for(path).open(path, settings)
    return list(opened.batches(columns or opened.schema.names, memory))


@pytest.fixture(scope="module")
def types_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("types") / "types.parq", many_types())


# A single large column is read page by page, more rows than fit go through scratch files, and where only the bytes
# as stored are too many besides, blocks of columns are put together in memory.
@pytest.mark.parametrize(
    ("memory", "columns", "ways"),
    [
        (PLENTY, ALL, {"at once"}),
        (BLOCKS, ALL[:-1], {"by blocks"}),
        (SCRATCH, ALL[:-1], {"by blocks", "scratch"}),
        (SCRATCH, ALL, {"by blocks", "scratch", "page by page"}),
    ],
)
def test_every_way_of_reading_gives_the_same_rows_as_arrow(types_file, settings, monkeypatch, memory, columns, ways):
    taken = []
    for owner, name, way in (
        (parquet.ParquetInput, "_read", "at once"),
        (parquet.ParquetInput, "_streamed", "page by page"),
        (parquet, "_scratch_folder", "scratch"),
    ):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), taken, way))
    batches = read(types_file, settings, memory, columns)
    assert {"by blocks" if taken.count(way) > 1 and way == "at once" else way for way in taken} == ways
    expected = pl.DataFrame(pq.read_table(types_file).select(columns))
    polars.testing.assert_frame_equal(pl.concat(batches), expected, categorical_as_str=True)
    assert {batch.schema == batches[0].schema for batch in batches} == {True}
    assert (len(batches) == 1) == ("scratch" not in ways)
    assert len(batches) == 1 or max(batch.estimated_size() for batch in batches) <= memory
    assert list(settings.scratch.iterdir()) == []


def test_columns_of_every_type_are_read_page_by_page(tmp_path, settings):
    table = many_types(60).drop_columns(["nothing"])
    path = write(tmp_path / "pages.parq", table, use_dictionary=False, data_page_size=1000)
    for name in table.column_names:
        frame = pl.concat(read(path, settings, 70, [name]))
        polars.testing.assert_frame_equal(frame, pl.DataFrame(table.select([name])), categorical_as_str=True)


def noted(function, taken, way):
    def wrapper(*args, **kwargs):
        taken.append(way)
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("row_group_size", [ROWS, 1000, 17])
@pytest.mark.parametrize("memory", [PLENTY, 200_000])
def test_row_groups_are_read_together_as_far_as_they_fit(tmp_path, settings, row_group_size, memory):
    table = pa.table({f"c{i}": pa.array(np.arange(ROWS) * i) for i in range(8)})
    path = write(tmp_path / "groups.parquet", table, row_group_size=row_group_size, compression="zstd")
    batches = read(path, settings, memory)
    assert pl.concat(batches).equals(pl.DataFrame(table))
    assert (len(batches) == 1) == (memory == PLENTY)
    assert len(batches) < 10


@pytest.mark.parametrize("memory", [PLENTY, SCRATCH])
def test_columns_come_in_the_order_asked(types_file, settings, memory):
    asked = ["long", "text", "*", "i64", "^.*$", "a.b"]
    frame = pl.concat(read(types_file, settings, memory, asked))
    polars.testing.assert_frame_equal(frame, pl.DataFrame(pq.read_table(types_file).select(asked)))


def test_the_header_tells_rows_types_and_units(tmp_path, settings):
    field = pa.field("flux", pa.float32(), metadata={"unit": "nJy", "description": "a flux"})
    schema = pa.schema([pa.field("id", pa.uint32()), field], metadata={"lsst::arrow::rowcount": "3"})
    path = write(tmp_path / "units.parq", pa.table([pa.array([1, 2, 3], pa.uint32()), [1.0, 2.0, 3.0]], schema=schema))
    opened = reader_for(path).open(path, settings)
    assert (opened.rows, opened.index) == (3, ())
    assert opened.schema.field("id").type == pa.uint32()
    assert opened.schema.field("flux").metadata[b"unit"] == b"nJy"


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.RangeIndex(3), ()),
        (pd.Index([7, 8, 9], name="objectId"), ("objectId",)),
        (pd.Index([7, 8, 9]), ("__index_level_0__",)),
        (pd.MultiIndex.from_arrays([[1, 1, 2], [4, 5, 6]], names=["visit", "detector"]), ("visit", "detector")),
    ],
)
def test_the_pandas_index_is_columns_but_for_a_range(tmp_path, settings, index, expected):
    frame = pd.DataFrame({"coord_ra": [1.0, 2.0, 3.0]}, index=index)
    path = str(tmp_path / "pandas.parq")
    frame.to_parquet(path, compression=None)
    opened = reader_for(path).open(path, settings)
    assert opened.index == expected
    assert set(opened.schema.names) == {"coord_ra", *expected}
    (batch,) = opened.batches(["coord_ra", *expected], PLENTY)
    for name in expected:
        assert batch[name].to_list() == index.get_level_values(name if index.names != [None] else 0).to_list()


def test_a_file_without_rows_yields_none(tmp_path, settings):
    path = write(tmp_path / "none.parq", many_types(0))
    opened = reader_for(path).open(path, settings)
    assert opened.rows == 0
    assert sum(batch.height for batch in opened.batches(opened.schema.names, PLENTY)) == 0


# ------------------------------------------------------------------------------------------------- bad files


def good_bytes(tmp_path, rows=500):
    table = pa.table({"x": np.arange(rows, dtype="f8"), "y": np.arange(rows)})
    return Path(write(tmp_path / "good.parq", table, use_dictionary=False)).read_bytes()


def footer_length(content):
    return int.from_bytes(content[-8:-4], "little") + 8


def another_footer(tmp_path):
    """Return the data of 500 rows, filled up with zeros, under the footer of 900."""
    few, more = good_bytes(tmp_path), good_bytes(tmp_path, 900)
    data, footer = few[: -footer_length(few)], more[-footer_length(more) :]
    return data + bytes(len(more) - len(footer) - len(data)) + footer


def with_rows(content, rows, *places):
    """Return a file of 500 rows whose footer promises others, of the file or of its row group."""
    told, lie = (b"\x16" + zigzag(number) for number in (500, rows))
    data, footer = content[: -footer_length(content)], content[-footer_length(content) :]
    if "row group" in places:
        footer = lie.join(footer.rsplit(told, 1))
    if "file" in places:
        footer = footer.replace(told, lie, 1)
    return data + footer


def zigzag(number):
    """Return a number below 8192 as Thrift's compact protocol writes it."""
    return bytes([2 * number & 0x7F | 0x80, 2 * number >> 7])


BAD = {
    "empty_file": lambda _, __: b"",
    "not_parquet": lambda _, __: b"SIMPLE  =                    T" + bytes(3000),
    "truncated": lambda good, _: good[: len(good) // 2],
    "truncated at its last byte": lambda good, _: good[:-1],
    "truncated to its magic": lambda _, __: b"PAR1",
    "corrupt: a hole": lambda good, _: good[:100] + good[600:],
    "corrupt: another beginning": lambda good, _: b"XXXX" + good[4:],
    "corrupt: footer": lambda good, _: good[: -footer_length(good)] + bytes(60) + good[60 - footer_length(good) :],
    "corrupt: a footer longer than the file": lambda good, _: good[:-8] + b"\xff\xff\xff\x7fPAR1",
    "corrupt: another file's footer": lambda _, folder: another_footer(folder),
    "corrupt: more rows than its row groups": lambda good, _: with_rows(good, 600, "file"),
    "corrupt: more rows than its pages": lambda good, _: with_rows(good, 600, "file", "row group"),
    "corrupt: page header": lambda good, _: good[:4] + b"\xff" * 40 + good[44:],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("memory", [PLENTY, 2000])
def test_a_bad_file_is_named_with_its_kind(tmp_path, settings, name, memory):
    path = tmp_path / "bad file.parq"
    path.write_bytes(BAD[name](good_bytes(tmp_path), tmp_path))
    with pytest.raises(InputError) as caught:
        read(str(path), settings, memory)
    assert caught.value.kind == name.replace(":", " ").split()[0]
    assert caught.value.uri == str(path)
    assert list(settings.scratch.iterdir()) == []


def test_data_that_end_too_early_are_noticed_before_a_row_is_read(tmp_path, settings):
    few, more = good_bytes(tmp_path), good_bytes(tmp_path, 900)
    path = tmp_path / "short.parq"
    path.write_bytes(few[: -footer_length(few)] + more[-footer_length(more) :])
    with pytest.raises(InputError, match="the footer places column y") as caught:
        reader_for(str(path)).open(str(path), settings)
    assert caught.value.kind == "corrupt"


def test_doubled_column_names_are_refused_by_name(tmp_path, settings):
    path = write(tmp_path / "double.parq", pa.table([[1], [2], [3]], names=["x", "y", "x"]))
    with pytest.raises(InputError, match="twice: x") as caught:
        reader_for(path).open(path, settings)
    assert caught.value.kind == "duplicate_column"


@pytest.mark.parametrize("memory", [PLENTY, SCRATCH, SCRATCH // 10])
def test_a_file_that_vanishes_before_its_rows_are_read(tmp_path, settings, memory):
    path = tmp_path / "gone.parq"
    write(path, many_types())
    opened = reader_for(str(path)).open(str(path), settings)
    path.unlink()
    with pytest.raises(InputError) as caught:
        list(opened.batches(opened.schema.names, memory))
    assert caught.value.kind == "vanished"


@pytest.mark.parametrize("memory", [PLENTY, 2000])
def test_a_file_that_is_replaced_by_a_shorter_one(tmp_path, settings, memory):
    path = tmp_path / "changed.parq"
    path.write_bytes(good_bytes(tmp_path, 900))
    opened = reader_for(str(path)).open(str(path), settings)
    path.write_bytes(good_bytes(tmp_path, 500))
    with pytest.raises(InputError, match="900 rows") as caught:
        list(opened.batches(opened.schema.names, memory))
    assert caught.value.kind == "corrupt"


def test_no_such_file(tmp_path, settings):
    path = str(tmp_path / "none.parq")
    with pytest.raises(InputError) as caught:
        reader_for(path).open(path, settings)
    assert (caught.value.kind, caught.value.uri) == ("vanished", path)


# --------------------------------------------------------------------------------------- scratch and memory


def test_scratch_files_are_gone_when_the_reader_stops_early(types_file, settings):
    opened = reader_for(types_file).open(types_file, settings)
    batches = opened.batches(opened.schema.names, SCRATCH)
    next(batches)
    assert list(settings.scratch.iterdir()) != []
    batches.close()
    assert list(settings.scratch.iterdir()) == []


def test_scratch_space_that_is_used_up_is_a_storage_error(types_file, settings, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pl.DataFrame, "write_ipc", full)
    with pytest.raises(StorageError, match="no space left") as caught:
        read(types_file, settings, SCRATCH)
    assert caught.value.uri.startswith(str(settings.scratch))
    assert list(settings.scratch.iterdir()) == []


PEAK = """
import resource, sys
from pathlib import Path
from warehouse.config import Settings
from warehouse.readers import parquet, reader_for

path, memory, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
settings = Settings(scratch=scratch)
opened = reader_for(path).open(path, settings)
next(opened.batches(opened.schema.names[:1], 1 << 30))  # what the libraries take themselves
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(batch.height for batch in opened.batches(opened.schema.names, memory))
print(rows, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_one_large_row_group_stays_within_the_memory(tmp_path):
    rows, memory = 200_000, 64 << 20
    values = np.random.default_rng(3).normal(size=rows)
    table = pa.table({f"c{i}": pa.array(np.roll(values, i)) for i in range(200)})
    path = write(tmp_path / "large.parq", table, use_dictionary=False, row_group_size=1 << 20)
    del table
    assert Path(path).stat().st_size > 300 << 20
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, str(memory), str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "POLARS_MAX_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    counted, before, peak = map(int, done.stdout.split())
    assert counted == rows
    # Allocators keep some of what they were given back: half as much again, where reading it whole takes ten times.
    assert (peak - before) << 10 < memory * 3 // 2
