"""FITS tables in: what bytes become, what is refused and how it is named, and that memory stays bounded."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.io.fits import Column

from support.fits import RECORD, data_start, null_logicals, put, put_cell, replace_card, write_table
from warehouse.config import Settings
from warehouse.errors import ContractError, InputError
from warehouse.readers.fits import FitsReader

ONE = Settings(workers=1)
THREE = Settings(workers=3)


def read(path, *names, memory=1 << 30, settings=ONE, **reader):
    opened = FitsReader(**reader).open(str(path), settings)
    return pl.concat(opened.batches(names or opened.schema.names, memory))


def refused(path, *names, memory=1 << 30, settings=ONE, **reader):
    with pytest.raises(InputError) as caught:
        read(path, *names, memory=memory, settings=settings, **reader)
    assert caught.value.uri == str(path)
    return caught.value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.fits"


@pytest.fixture
def plain(path):
    """A table of 100 rows: a double, a 64-bit integer and a string, 21 bytes a row."""
    return write_table(
        path,
        [
            Column("ra", "D", array=np.arange(100) * 3.6, unit="deg"),
            Column("id", "K", array=np.arange(100)),
            Column("band", "5A", array=["g"] * 50 + ["i"] * 50),
        ],
    )


# ------------------------------------------------------------------------------------------------- numbers


def test_unsigned_numbers_become_the_next_wider_signed_ones(path):
    write_table(
        path,
        [
            Column("b", "B", array=np.array([0, 255], np.uint8)),
            Column("sb", "B", bzero=-128, array=np.array([-128, 127], np.int8)),
            Column("u2", "I", bzero=2**15, array=np.array([0, 2**16 - 1], np.uint16)),
            Column("u4", "J", bzero=2**31, array=np.array([0, 2**32 - 1], np.uint32)),
            Column("u8", "K", bzero=2**63, array=np.array([0, 2**63 - 1], np.uint64)),
        ],
    )
    assert read(path).schema == {"b": pl.Int16, "sb": pl.Int8, "u2": pl.Int32, "u4": pl.Int64, "u8": pl.Int64}
    assert read(path).rows() == [(0, -128, 0, 0, 0), (255, 127, 2**16 - 1, 2**32 - 1, 2**63 - 1)]


def test_an_unsigned_number_beyond_64_signed_bits_is_refused_by_name(path):
    values = np.arange(40, dtype=np.uint64)
    values[33] = 2**63 + 5
    write_table(path, [Column("okay", "D", array=np.zeros(40)), Column("large", "K", bzero=2**63, array=values)])
    error = refused(path, memory=1)
    assert error.kind == "overflow"
    assert str(2**63 + 5) in str(error)
    assert "HDU 1, column 2 'large', row 34" in str(error)


def test_a_null_is_compared_with_what_is_stored_not_with_what_it_means(path):
    # Stored values -5, -4, -3 mean 32763, 32764, 32765; TNULL names a stored value (FITS standard 4.0, 7.3.2).
    write_table(
        path, [Column("n", "I", array=np.array([-5, -4, -3], np.int16))], header={"TZERO1": 32768, "TNULL1": -4}
    )
    assert read(path)["n"].to_list() == [32763, None, 32765]


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("TNULL", "'-999'", "'-999'"),
        ("TNULL", "-999.5", "-999.5"),
        ("TNULL", "T", "True"),
        ("TSCAL", "'2'", "'2'"),
        ("TSCAL", "F", "False"),
        ("TZERO", "'2147483648'", "'2147483648'"),
    ],
)
def test_a_null_or_a_scale_that_is_no_number_is_refused_by_name(path, keyword, value, found):
    columns = [Column("id", "K", array=[1, 2]), Column("n", "J", array=[-999, 5])]
    write_table(path, columns, header={f"{keyword}2": 7})
    replace_card(path, f"{keyword}2", value)
    error = refused(path)
    assert error.kind == "corrupt"
    assert f"HDU 1, column 2 'n': {keyword}2 is {found}, expected a" in str(error)


def test_a_null_that_is_written_with_a_point_is_the_integer(path):
    write_table(path, [Column("n", "J", array=[-999, 5])], header={"TNULL1": -1})
    replace_card(path, "TNULL1", "-999.")
    assert read(path)["n"].to_list() == [None, 5]


def test_a_null_of_a_column_that_has_none_means_nothing(path):
    # FITS standard 4.0, 7.3.2: TNULL is of integers.
    write_table(path, [Column("d", "D", array=[-999.0, 5.0])], header={"TNULL1": "-999"})
    assert read(path)["d"].to_list() == [-999.0, 5.0]


def test_a_null_beyond_64_bits_is_a_null_and_no_overflow(path):
    write_table(path, [Column("n", "K", array=np.array([5, -1], np.int64))], header={"TZERO1": 2**63, "TNULL1": 5})
    assert read(path)["n"].to_list() == [None, 2**63 - 1]


def test_nulls_of_a_vector_are_nulls_within_its_list(path):
    write_table(path, [Column("n", "3J", null=-1, array=np.array([[1, -1, 3], [-1, -1, 6]]))])
    assert read(path)["n"].to_list() == [[1, None, 3], [None, None, 6]]


def test_whole_scaling_stays_among_integers(path):
    # 2**53 + 1 is the first whole number that a double cannot hold.
    write_table(
        path,
        [Column("k", "K", array=np.array([2**53 + 1, 0])), Column("i", "I", array=np.array([7, -7], np.int16))],
        header={"TSCAL1": 1.0, "TZERO1": 4, "TSCAL2": 2, "TZERO2": 1.5},
    )
    frame = read(path)
    assert frame.schema == {"k": pl.Int64, "i": pl.Float64}
    assert frame.rows() == [(2**53 + 5, 15.5), (4, -12.5)]


def test_scaling_beyond_64_bits_is_refused_and_huge_constants_that_cancel_are_not(path, tmp_path):
    write_table(path, [Column("k", "K", array=np.array([1, 2**62]))], header={"TSCAL1": 4})
    assert refused(path).kind == "overflow"
    other = tmp_path / "o.fits"
    write_table(other, [Column("k", "K", array=np.array([-(2**63), -(2**63) + 9]))], header={"TZERO1": 2**63 + 2**62})
    assert read(other)["k"].to_list() == [2**62, 2**62 + 9]


def test_complex_numbers_become_structs_of_two(path):
    write_table(path, [Column("c", "C", array=np.array([1 + 2j], np.complex64)), Column("m", "2M", array=[[3j, 4]])])
    assert read(path).schema == {
        "c": pl.Struct({"re": pl.Float32, "im": pl.Float32}),
        "m": pl.List(pl.Struct({"re": pl.Float64, "im": pl.Float64})),
    }
    assert read(path).row(0) == ({"re": 1.0, "im": 2.0}, [{"re": 0.0, "im": 3.0}, {"re": 4.0, "im": 0.0}])


def test_not_a_number_is_a_value_and_no_null(path):
    write_table(path, [Column("d", "D", array=[np.nan, np.inf, -0.0])])
    column = read(path)["d"]
    assert column.null_count() == 0
    assert column.is_nan().to_list() == [True, False, False]


def test_vectors_nest_with_the_outermost_axis_first(path):
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    write_table(path, [Column("v", "6E", dim="(2,3)", array=values), Column("one", "1D", dim="(1)", array=[1.0, 2.0])])
    opened = FitsReader().open(str(path), ONE)
    assert opened.schema.field("v").type == pa.list_(pa.list_(pa.float32()))
    assert read(path, "v")["v"].to_list() == values.tolist()
    assert read(path, "one")["one"].to_list() == [[1.0], [2.0]]


def test_dimensions_may_name_fewer_elements_than_the_form_and_not_more(path):
    write_table(path, [Column("v", "4J", array=np.arange(8).reshape(2, 4))], header={"TDIM1": "(3)"})
    assert read(path)["v"].to_list() == [[0, 1, 2], [4, 5, 6]]
    replace_card(path, "TDIM1", "'(5)'")
    error = refused(path)
    assert error.kind == "corrupt"
    assert "TDIM1 '(5)'" in str(error)


# ----------------------------------------------------------------------------------------- logicals and bits


def test_the_null_of_a_logical_is_null_and_any_other_byte_is_damage(path):
    rows = 20
    truth = np.arange(rows) % 3 == 0
    write_table(
        path, [Column(f"l{i}", "L", array=truth) for i in range(3)] + [Column("v", "2L", array=[[1, 0]] * rows)]
    )
    null = np.arange(rows) == 17
    null_logicals(path, "l1", null)
    frame = read(path, "v", "l1", "l2")
    assert frame["l1"].to_list() == [None if n else bool(t) for t, n in zip(truth, null, strict=True)]
    assert frame["l2"].to_list() == truth.tolist()
    assert frame["v"].to_list() == [[True, False]] * rows
    put_cell(path, "l2", 18, b"1")
    error = refused(path, memory=1)
    assert error.kind == "corrupt"
    assert "column 3 'l2', row 19" in str(error)
    assert "0x31" in str(error)
    assert read(path, "l0")["l0"].to_list() == truth.tolist()


def test_bits_beyond_a_byte_keep_their_order(path):
    bits = np.arange(30).reshape(3, 10) % 4 == 0
    write_table(path, [Column("x", "10X", array=bits), Column("flag", "1X", array=bits[:, :1])])
    assert read(path)["x"].to_list() == bits.tolist()
    assert read(path)["flag"].to_list() == bits[:, 0].tolist()


# ---------------------------------------------------------------------------------------------------- text


def texts(path, cells):
    width = len(cells[0])
    write_table(path, [Column("s", f"{width}A", array=["x" * width] * len(cells))])
    for row, cell in enumerate(cells):
        put_cell(path, "s", row, cell)
    return read(path)["s"].to_list()


@pytest.mark.parametrize("width", [6, 12, 13, 40])
def test_text_ends_at_its_padding_or_first_nul(path, width):
    cells = [b"ab", b"ab  ", b" ab", b"ab\0cd", b"a b", b"ab \0 x", b"", b"\0xy", b"   "]
    found = texts(path, [cell.ljust(width, b" " if b"\0" not in cell else b"\0") for cell in cells] + [b"z" * width])
    assert found == ["ab", "ab", " ab", "ab", "a b", "ab", None, None, None, "z" * width]


def test_texts_on_both_sides_of_what_arrow_keeps_inline(path):
    words = ["a" * n for n in range(1, 31)]
    found = texts(path, [word.encode().ljust(30) for word in words])
    assert found == words
    assert pl.Series(found).sort(descending=True).to_list() == words[::-1]
    assert read(path).filter(pl.col("s") == "a" * 12).height == 1


def test_text_that_is_no_ascii_is_reported_with_its_place(path):
    write_table(path, [Column("name", "6A", array=["abc"] * 30)])
    put_cell(path, "name", 25, "gé".encode("latin-1"))
    error = refused(path, memory=1)
    assert error.kind == "not_ascii"
    assert "column 1 'name', row 26" in str(error)


def test_strings_of_a_vector_become_lists(path):
    write_table(path, [Column("s", "6A", dim="(3,2)", array=np.array([["ab", "c"], ["", "def"]], "S3"))])
    assert read(path)["s"].to_list() == [["ab", "c"], [None, "def"]]


def test_a_column_of_no_width_is_null_or_an_empty_list(path):
    nothing = np.zeros((2, 0))
    write_table(
        path, [Column("s", "0D", array=nothing), Column("v", "0D", array=nothing), Column("id", "J", array=[1, 2])]
    )
    replace_card(path, "TFORM1", "'0A'")
    assert read(path).rows() == [(None, [], 1), (None, [], 2)]
    assert read(path, "s", "v").rows() == [(None, []), (None, [])]


# ------------------------------------------------------------------------------------------------- the table


def test_rows_come_the_same_in_one_batch_or_many_and_by_one_thread_or_three(plain):
    whole = read(plain)
    assert whole.height == 100
    for memory, settings in [(1, ONE), (1, THREE), (3000, THREE), (1 << 30, THREE)]:
        opened = FitsReader().open(str(plain), settings)
        batches = list(opened.batches(["band", "ra"], memory))
        assert pl.concat(batches).equals(whole.select("band", "ra"))
        assert (len(batches) > 1) == (memory < 1 << 30)


@pytest.mark.parametrize("settings", [ONE, THREE])
def test_columns_in_patterns_over_several_blocks_a_batch_are_each_their_own(path, settings):
    # Flux, error and flag in turn, other widths between, as in catalogues; every value tells its column and row.
    rows = 9000
    index = np.arange(rows)
    values = {}
    for i in range(12):
        values |= {f"flux{i}": index + i / 100, f"error{i}": -index - i / 100, f"flag{i}": (index + i) % 7 < 3}
        if i % 5 == 2:
            values[f"name{i}"] = np.array([f"row-{row}-column-{i}"[: 8 + i] for row in index])
            values |= {f"n{i}": index * i % 1000, f"area{i}": (index * (i + 1)).astype(np.float32)}
    forms = {"flux": "D", "error": "D", "flag": "L", "name": "20A", "n": "J", "area": "E"}
    write_table(
        path,
        [
            Column(name, forms[name.rstrip("0123456789")], array=array.copy(), null=4 if name[1].isdigit() else None)
            for name, array in values.items()
        ],
    )
    opened = FitsReader().open(str(path), settings)
    names = sorted(values)
    batches = list(opened.batches(names, 2 << 20))
    assert len(batches) > 2
    frame = pl.concat(batches)
    for name, array in values.items():
        wanted = [None if name[1].isdigit() and value == 4 else value for value in array.tolist()]
        assert frame[name].to_list() == wanted, name


def test_units_stand_in_the_schema_and_a_table_without_rows_has_one(path):
    write_table(path, [Column("ra", "D", unit="deg"), Column("n", "J"), Column("s", "4A")])
    opened = FitsReader().open(str(path), ONE)
    assert opened.rows == 0
    assert opened.schema.field("ra").metadata == {b"unit": b"deg"}
    assert opened.schema.field("n").metadata is None
    assert read(path).schema == {"ra": pl.Float64, "n": pl.Int32, "s": pl.String}


def test_variable_length_arrays_prevent_nothing_until_they_are_asked_for(path):
    write_table(
        path,
        [
            Column("id", "K", array=np.arange(3)),
            Column("footprint", "PD()", array=np.array([[1.0], [2.0, 3.0], []], dtype=object)),
        ],
        checksum=True,
    )
    opened = FitsReader().open(str(path), ONE)
    assert opened.schema.names == ["id", "footprint"]
    assert read(path, "id")["id"].to_list() == [0, 1, 2]
    error = refused(path, "id", "footprint")
    assert error.kind == "variable_length"
    assert "column 2 'footprint'" in str(error)


def test_a_column_that_is_not_there_is_named_with_its_near_misses(plain):
    with pytest.raises(ContractError, match=r"no column 'Ra'; did you mean ra"):
        read(plain, "Ra")


def test_a_header_of_as_many_columns_as_there_may_be_is_read(path):
    names = [f"a_column_with_a_rather_long_name_{i}" for i in range(999)]
    write_table(
        path, [Column(name, "E", array=np.full(3, i), unit="nJy", disp="E12.5") for i, name in enumerate(names)]
    )
    assert data_start(path) > 256 << 10
    assert read(path, names[998], names[3]).row(2) == (998.0, 3.0)


def test_the_same_column_may_be_asked_for_by_several_names_or_twice(path):
    write_table(path, [Column("a", "D", array=[1.0, 2.0])], header={"ALIAS": "slot_A:a"})
    opened = FitsReader().open(str(path), ONE)
    assert next(opened.batches(["a", "slot_A"], 1 << 20)).rows() == [(1.0, 1.0), (2.0, 2.0)]


def test_gzip_is_known_by_its_bytes(plain):
    whole = read(plain)
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    for memory, settings in [(1, ONE), (1, THREE), (1 << 30, THREE)]:
        assert read(plain, memory=memory, settings=settings).equals(whole)


def hdus(path, *parts, **how):
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path, **how)
    return path


def table(name, column, value):
    made = fits.BinTableHDU.from_columns([Column(column, "J", array=[value])])
    made.name = name
    return made


def test_the_table_is_the_one_named_or_the_first_that_has_the_columns(path):
    image = fits.ImageHDU(np.zeros((9, 9)), name="IMAGE")
    squeezed = fits.CompImageHDU(np.zeros((20, 20), np.float32), name="SQUEEZED")
    hdus(path, image, squeezed, table("ONE", "a", 1), table("TWO", "b", 2), table("THREE", "b", 3))
    assert read(path).row(0) == (1,)
    assert read(path, hdu="two").row(0) == (2,)
    assert read(path, hdu=5).row(0) == (3,)
    assert read(path, wanted={"b"}).row(0) == (2,)
    assert read(path, wanted={"c"}).row(0) == (1,)
    assert "did you mean THREE" in str(refused(path, hdu="TREE"))
    for other in ("IMAGE", 2, 0):
        assert refused(path, hdu=other).kind == "no_table"


def test_a_table_whose_header_is_wrong_is_passed_over_where_another_fits(path):
    hdus(path, table("BAD", "b", 1), table("OTHER", "a", 2), table("WORSE", "b", 3), table("GOOD", "b", 4))
    for number, form in ((1, "'7Z'"), (3, "'9Z'")):
        with fits.open(path) as opened:
            start = opened.fileinfo(number)["hdrLoc"]
        replace_card(path, "TFORM1", form, start=start)
    assert read(path, wanted={"b"}).row(0) == (4,)
    assert read(path, hdu="good").row(0) == (4,)
    for how in ({"wanted": {"c"}}, {"hdu": 1}):
        error = refused(path, **how)
        assert error.kind == "corrupt"
        assert "HDU 1 'BAD', column 1 'b': TFORM1 is '7Z'" in str(error)


def test_a_file_without_a_table_says_so(path):
    hdus(path, fits.ImageHDU(np.zeros((3, 3))))
    assert refused(path).kind == "no_table"


# --------------------------------------------------------------------------------------------------- damage


def test_what_is_no_fits_file_is_not_fits(path):
    path.write_bytes(b"PAR1" * 2000)
    assert refused(path).kind == "not_fits"
    path.write_bytes(b"")
    assert "it is empty" in str(refused(path))


def test_no_file_is_vanished(path):
    assert refused(path).kind == "vanished"


def test_a_file_cut_within_its_rows_is_truncated_and_says_where(plain):
    whole = plain.read_bytes()
    cut = data_start(plain) + 21 * 70 + 3
    plain.write_bytes(whole[:cut])
    error = refused(plain)
    assert error.kind == "truncated"
    assert f"the file at byte {cut}, after 70 of 100 rows" in str(error)
    plain.write_bytes(gzip.compress(whole[:cut]))
    error = refused(plain, memory=1, settings=THREE)
    assert error.kind == "truncated"
    assert f"byte {cut}, in row 71 of 100" in str(error)


def test_a_file_without_its_last_padding_is_whole(plain):
    plain.write_bytes(plain.read_bytes()[: data_start(plain) + 2100])
    assert read(plain).height == 100


def test_a_file_cut_within_a_header_is_truncated(plain):
    plain.write_bytes(plain.read_bytes()[: RECORD + 800])
    error = refused(plain)
    assert error.kind == "truncated"
    assert f"HDU 1: the file ends at byte {RECORD + 800}, before END" in str(error)


def test_a_header_without_end_stops_where_data_begin(plain):
    at = plain.read_bytes().index(b"END     ", RECORD)
    put(plain, at, b"DNE     ")
    error = refused(plain)
    assert error.kind == "corrupt"
    assert f"no END before byte {data_start_without_end(at)}" in str(error)


def data_start_without_end(end):
    return -(-end // RECORD) * RECORD


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("rows", "what"), [(99, "too small"), (60, "too small"), (0, "no HDU"), (200, "NAXIS"), (300, "too large")]
)
def test_a_number_of_rows_that_lies_is_noticed(path, rows, what, zipped):
    # Another table follows, so that too large a number does not run into the file's end; 300 rows are three records,
    # which swallow the other table whole.
    columns = [Column("a", "D", array=np.arange(100) + 1.0), Column("b", "13A", array=["x" * 13] * 100)]
    hdus(path, fits.BinTableHDU.from_columns(columns), table("NEXT", "c", 1))
    replace_card(path, "NAXIS2", str(rows))
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    error = refused(path)
    assert error.kind == "corrupt"
    assert "HDU 1" in str(error)
    assert what in str(error)


def test_widths_that_do_not_add_up_and_forms_that_are_none_are_corrupt(plain):
    replace_card(plain, "NAXIS1", "24")
    assert "take 21 bytes of a row, NAXIS1 says 24" in str(refused(plain))
    replace_card(plain, "TFORM2", "'Z'")
    error = refused(plain)
    assert error.kind == "corrupt"
    assert "column 2 'id': TFORM2 is 'Z'" in str(error)


def test_a_name_that_repeats_is_refused_with_both_columns(plain):
    replace_card(plain, "TTYPE3", "'ra'")
    error = refused(plain)
    assert error.kind == "duplicate_column"
    assert "'ra' stands for column 1 and for column 3" in str(error)


@pytest.fixture
def summed(path):
    """A table with DATASUM and CHECKSUM whose rows are no multiple of four bytes."""
    rng = np.random.default_rng(5)
    columns = [Column("a", "D", array=rng.normal(size=999)), Column("b", "L", array=rng.random(999) < 0.5)]
    return write_table(
        path, [*columns, Column("c", "PJ()", array=[np.arange(i % 5) for i in range(999)])], checksum=True
    )


@pytest.mark.parametrize("memory", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("zipped", [False, True])
def test_checksums_that_hold_let_pass(summed, memory, zipped):
    if zipped:
        summed.write_bytes(gzip.compress(summed.read_bytes(), 1))
    assert read(summed, "a", memory=memory, settings=THREE).height == 999


@pytest.mark.parametrize("row", [0, 998])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bit_that_flips_in_any_column_fails_the_data_sum(summed, row, zipped):
    start = data_start(summed)
    before = summed.read_bytes()[start + row * 17]
    put(summed, start + row * 17, bytes([before ^ 0x10]))
    if zipped:
        summed.write_bytes(gzip.compress(summed.read_bytes(), 1))
    error = refused(summed, "b")
    assert error.kind == "checksum"
    assert "HDU 1: DATASUM says" in str(error)


def test_a_bit_that_flips_after_the_rows_fails_the_data_sum(summed):
    put(summed, data_start(summed) + 999 * 17 + 11, b"\x77")
    assert refused(summed, "a").kind == "checksum"


def test_a_changed_header_fails_the_checksum_before_any_row(summed):
    replace_card(summed, "TTYPE1", "'x'")
    with pytest.raises(InputError, match="CHECKSUM fails: the header") as caught:
        FitsReader().open(str(summed), ONE)
    assert caught.value.kind == "checksum"


def test_a_checksum_alone_covers_header_and_data(summed):
    with fits.open(summed) as opened:
        hdu = opened[1]
        del hdu.header["DATASUM"]
        hdu.header["CHECKSUM"] = hdu._calculate_checksum(hdu._calculate_datasum())
        put(summed, RECORD, hdu.header.tostring().encode())
    assert "DATASUM" not in fits.getheader(summed, 1)
    assert read(summed, "a").height == 999
    put(summed, data_start(summed) + 3, b"\x01")
    assert refused(summed, "a").kind == "checksum"


@pytest.mark.parametrize("text", ["'12x'", "-5", "1.5", "'0x1F'"])
def test_a_data_sum_that_is_no_number_is_refused(summed, text):
    replace_card(summed, "DATASUM", text)
    with pytest.raises(InputError) as caught:
        FitsReader().open(str(summed), ONE)
    assert caught.value.kind == "checksum"
    assert f"HDU 1: DATASUM is '{text.strip(chr(39))}', expected a decimal number" in str(caught.value)


def test_a_blank_data_sum_declares_nothing(plain):
    with fits.open(plain, mode="update") as opened:
        opened[1].header["DATASUM"] = ""
        opened[1].header["CHECKSUM"] = ""
    assert read(plain).height == 100


def test_a_damaged_gzip_stream_is_corrupt_or_truncated(plain):
    squeezed = gzip.compress(plain.read_bytes() + bytes(RECORD * 400))
    plain.write_bytes(squeezed[:-6])
    assert refused(plain).kind in {"truncated", "corrupt"}
    plain.write_bytes(squeezed[:60] + bytes([squeezed[60] ^ 0xFF]) + squeezed[61:])
    assert refused(plain).kind in {"truncated", "corrupt"}


def test_a_file_that_changes_while_it_is_read_is_refused(plain):
    opened = FitsReader().open(str(plain), ONE)
    rows = opened.batches(["ra"], 1)
    next(rows)
    put(plain, data_start(plain), b"\x41")
    with pytest.raises(InputError, match="changed while it was read") as caught:
        list(rows)
    assert caught.value.kind == "changed"


# --------------------------------------------------------------------------------------------- how it is read


def test_memory_stays_within_the_bound_whatever_the_size_of_the_file(path):
    rows = 120_000
    values = np.arange(rows, dtype=np.float64)
    write_table(
        path,
        [*(Column(f"d{i}", "D", array=values) for i in range(20)), Column("s", "20A", array=["word"] * rows)],
        checksum=True,
    )
    bound = 6 << 20
    assert path.stat().st_size > 3 * bound
    opened = FitsReader().open(str(path), THREE)
    opened.schema  # noqa: B018 - made once, and astropy loaded, before memory is counted
    tracemalloc.start()
    seen = 0
    for batch in opened.batches(opened.schema.names, bound):
        seen += batch.height
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == rows
    assert peak < bound


def test_rows_that_nobody_takes_leave_no_thread_behind(plain):
    rows = FitsReader().open(str(plain), THREE).batches(["ra"], 1)
    next(rows)
    rows.close()
    assert list(rows) == []


def test_astropy_is_loaded_by_opening_a_file_and_not_by_importing_the_reader():
    code = (
        "import sys, warehouse.readers.fits, warehouse.readers.units, warehouse.readers.afw;"
        "sys.exit(any(m.split('.')[0] in ('astropy', 's3fs') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=".")
