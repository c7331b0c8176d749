import datetime as dt
import math
import pickle

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from support.small_contracts import declared, derived, header, through
from warehouse.contracts import SetAside
from warehouse.errors import ContractError
from warehouse.ingest.conform import conform, keys_only, plan_columns

NAN, INF = math.nan, math.inf
PLACED = {"id": [1, 2], "ra": [10.0, 20.0], "dec": [-30.0, 40.0]}


def conformed(contract, batch, index=()):
    plan = plan_columns(contract, header(batch), index, uri="s3://in/a.parq")
    return conform(batch.select(plan.read), plan)


def one_column(word, values):
    """Conform a column x of the given word that came as `values`."""
    rows = len(values)
    batch = pl.DataFrame({"id": range(rows), "ra": [1.0] * rows, "dec": [1.0] * rows}).with_columns(values.alias("x"))
    return conformed(derived({"x": word}), batch)


def test_a_file_that_fits_passes_as_it_is():
    batch = pl.DataFrame(PLACED | {"x": [1.5, None]})
    result = conformed(derived({"x": "double"}), batch)
    assert result.frame.equals(batch)
    assert (result.nulled, result.cast, result.cut) == ({}, {}, {})


def test_column_order_is_the_contracts_with_tract_and_patch_of_a_declared_table_last():
    contract = declared({"flux": "float"}, statistics=("dec",))
    batch = pl.DataFrame(
        {"patch": [1], "flux": pl.Series([1.0], dtype=pl.Float32), "tract": [2]} | {k: v[:1] for k, v in PLACED.items()}
    )
    result = conformed(contract, batch)
    assert result.frame.columns == ["dec", "id", "ra", "flux", "tract", "patch"]
    assert result.frame.row(0) == (-30.0, 1, 10.0, 1.0, 2, 1)


def test_a_derived_table_gets_its_tract_elsewhere_even_if_its_file_has_one():
    batch = pl.DataFrame(PLACED | {"tract": [1, 1]})
    contract = derived({"tract": "long"})
    plan = plan_columns(contract, header(batch))
    assert "tract" not in conform(batch.select(plan.read), plan).frame.columns
    assert plan.extra == ()


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_nan_and_infinities_become_null_and_are_counted(dtype):
    word = "float" if dtype == pl.Float32 else "double"
    values = pl.Series([1.5, NAN, INF, -INF, None, -0.0, 5e-324 if word == "double" else 1e-45], dtype=dtype)
    result = one_column(word, values)
    assert result.nulled == {"x": 3}
    assert result.frame["x"].is_null().to_list() == [False, True, True, True, True, False, False]
    kept = result.frame["x"].drop_nulls().to_numpy()
    assert kept.tobytes() == values.drop_nulls().to_numpy()[[0, 4, 5]].tobytes()
    assert result.original["x"].equals(values.alias("x"))


def test_a_slice_of_several_pieces_keeps_its_own_rows():
    pieces = pl.concat([pl.Series("x", [NAN, 1.0, 2.0]), pl.Series("x", [3.0, INF, 4.0])], rechunk=False)[1:5]
    assert one_column("double", pieces).frame["x"].to_list() == [1.0, 2.0, 3.0, None]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("long", pl.Series([1, -2, None], dtype=pl.Int8)),
        ("long", pl.Series([1, 2**32 - 1, None], dtype=pl.UInt32)),
        ("long", pl.Series([1, 2**63 - 1, None], dtype=pl.UInt64)),
        ("int", pl.Series([1, -(2**31), None], dtype=pl.Int64)),
        ("long", pl.Series([1.0, -(2.0**53), None])),
        ("int", pl.Series([0.0, -3.0, None], dtype=pl.Float32)),
        ("double", pl.Series([1, 2**53, None], dtype=pl.Int64)),
        ("double", pl.Series([0.1, -2.5, None], dtype=pl.Float32)),
        ("float", pl.Series([0.5, -(2.0**120), None], dtype=pl.Float64)),
        ("float", pl.Series([2**24, -5, None], dtype=pl.Int32)),
        ("boolean", pl.Series([0, 1, None], dtype=pl.UInt8)),
        ("boolean", pl.Series([0.0, 1.0, None])),
        ("int", pl.Series([True, False, None])),
        ("long", pl.Series(["7.00", "-1.00", None]).cast(pl.Decimal(10, 2))),
    ],
)
def test_numbers_that_lose_nothing_are_cast_and_counted(word, found):
    result = one_column(word, found)
    # Decimals compare with Python's numbers, and booleans with 0 and 1.
    assert result.frame["x"].to_list() == found.to_list()
    assert result.cast == {"x": 2}
    assert result.nulled == {}


@pytest.mark.parametrize(
    ("word", "found", "shown"),
    [
        ("int", pl.Series([1, 2**31], dtype=pl.Int64), "2147483648"),
        ("long", pl.Series([1, 2**63], dtype=pl.UInt64), "9223372036854775808"),
        ("long", pl.Series([1.0, 1.5]), "1.5"),
        ("long", pl.Series([1.0, 2.0**63]), "9.223372036854775808e\\+18|9.223372036854776e\\+18"),
        ("double", pl.Series([1, 2**53 + 1], dtype=pl.Int64), "9007199254740993"),
        ("double", pl.Series([1, 2**63 - 1], dtype=pl.Int64), "9223372036854775807"),
        ("float", pl.Series([0.5, 0.1]), "0.1"),
        ("float", pl.Series([0.5, 1e300]), "1e\\+300"),
        ("float", pl.Series([1, 2**24 + 1], dtype=pl.Int32), "16777217"),
        ("boolean", pl.Series([1, 2]), "2"),
        ("long", pl.Series(["7.00", "7.25"]).cast(pl.Decimal(10, 2)), "7.25"),
        ("string", pl.Series([b"a", b"\xff"]), r"b'\\xff'"),
        ("timestamp", pl.Series([0, 2**62]).cast(pl.Datetime("ms")), "4611686018427387904"),
    ],
)
def test_a_value_that_would_be_lost_is_refused_by_name(word, found, shown):
    with pytest.raises(ContractError, match=rf"'x'.*(?:{shown}).*row 1") as refused:
        one_column(word, found)
    assert refused.value.kind == "lossy_cast"
    assert (refused.value.table, refused.value.uri) == ("Source", "s3://in/a.parq")


def test_all_columns_that_lose_are_named_and_the_row_is_the_files():
    contract = derived({"x": "int", "y": "boolean"})
    batch = pl.DataFrame(PLACED | {"x": [1, 2**40], "y": [5, 1]})
    plan = plan_columns(contract, header(batch))
    with pytest.raises(ContractError, match=r"'x'.*row 1001; .*'y'.*row 1000"):
        conform(batch.select(plan.read), plan, first_row=1000)


def test_nan_on_its_way_to_an_integer_is_null_not_an_error():
    result = one_column("long", pl.Series([1.0, NAN, INF]))
    assert result.frame["x"].to_list() == [1, None, None]
    assert (result.nulled, result.cast) == ({"x": 2}, {"x": 1})


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["i", "é"]), pl.Binary, pl.String])
def test_text_in_any_wrapping_is_text(dtype):
    values = pl.Series(["i", None, "é"])
    values = values.cast(dtype) if dtype != pl.Binary else pl.Series([b"i", None, "é".encode()])
    assert one_column("string", values).frame["x"].to_list() == ["i", None, "é"]


def test_times_come_to_microseconds_and_what_is_cut_is_counted():
    values = pl.Series([1_000, 1_999, -1, None]).cast(pl.Datetime("ns"))
    result = one_column("timestamp", values)
    assert result.frame.schema["x"] == pl.Datetime("us")
    assert result.frame["x"].to_physical().to_list() == [1, 1, -1, None]
    assert (result.cast, result.cut) == ({"x": 3}, {"x": 2})


def test_times_of_other_units_and_zones_are_the_same_instant():
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    local = pl.Series([noon]).dt.convert_time_zone("America/Santiago").dt.cast_time_unit("ms")
    assert one_column("instant", local).frame["x"].to_list() == [noon]
    assert one_column("timestamp", local).frame["x"].to_list() == [noon.replace(tzinfo=None)]
    naive = pl.Series([noon.replace(tzinfo=None)])
    assert one_column("instant", naive).frame["x"].to_list() == [noon]
    assert one_column("instant", pl.Series([noon.date()])).frame["x"].to_list() == [noon.replace(hour=0)]


def test_fixed_size_lists_become_lists():
    values = pl.Series([[1.0, 2.0], None, [NAN, 3.5]], dtype=pl.Array(pl.Float32, 2))
    result = one_column("vector", values)
    assert result.frame.schema["x"] == pl.List(pl.Float64)
    assert result.frame["x"].to_list()[:2] == [[1.0, 2.0], None]


def test_a_column_of_nothing_fits_every_type():
    assert one_column("string", pl.Series([None, None])).frame["x"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("ra", "wrapped"),
    [
        (-298.0, 62.0),
        (422.0, 62.0),
        (-1e-20, 0.0),
        (360.0, 0.0),
        (-360.0, 0.0),
        (math.nextafter(720.0, 0), math.nextafter(720.0, 0) - 360),
        (math.nextafter(360.0, 0), math.nextafter(360.0, 0)),
        (720.0, 720.0),
        (-360.5, -360.5),
        (NAN, None),
    ],
)
def test_right_ascension_is_wrapped_by_one_turn_and_no_further(ra, wrapped):
    batch = pl.DataFrame({"id": [1, 2], "ra": [ra, 5.0], "dec": [0.0, 0.0]})
    result = conformed(derived(), batch)
    assert result.frame["ra"].to_list() == [wrapped, 5.0]
    assert result.original["ra"].equals(batch["ra"], null_equal=True)


def test_the_contracts_null_values_are_null():
    contract = derived({"match": "long"}, null_values={"match": (0, -1)})
    result = conformed(
        contract, pl.DataFrame({"id": range(4), "ra": [1.0] * 4, "dec": [1.0] * 4, "match": [0, 7, -1, None]})
    )
    assert result.frame["match"].to_list() == [None, 7, None, None]
    assert result.nulled == {}


def test_missing_columns_are_null_and_recorded_extra_ones_left_out_and_named():
    contract = derived({"flux": "float", "name": "string"}, ignore=("visit_system",))
    batch = pl.DataFrame(PLACED | {"visit_system": [0, 0], "surprise": [1, 2]})
    plan = plan_columns(contract, header(batch))
    assert (plan.missing, plan.extra, plan.ignored) == (("flux", "name"), ("surprise",), ("visit_system",))
    assert plan.read == ("id", "ra", "dec")
    frame = conform(batch.select(plan.read), plan).frame
    assert frame.schema["flux"] == pl.Float32
    assert frame.schema["name"] == pl.String
    assert frame.select("flux", "name").null_count().row(0) == (2, 2)


def test_an_empty_batch_conforms():
    contract = derived({"flux": "float"})
    batch = pl.DataFrame(schema={"id": pl.Int32, "ra": pl.Float64, "dec": pl.Float64})
    assert conformed(contract, batch).frame.schema == {
        "id": pl.Int64,
        "ra": pl.Float64,
        "dec": pl.Float64,
        "flux": pl.Float32,
    }
    assert conformed(contract, batch).frame.height == 0


def test_the_unnamed_pandas_index_is_a_missing_key():
    batch = pl.DataFrame({"ra": [1.0], "dec": [2.0], "__index_level_0__": [42]})
    plan = plan_columns(derived(), header(batch), ("__index_level_0__",))
    assert conform(batch.select(plan.read), plan).frame["id"].to_list() == [42]
    assert (plan.missing, plan.extra) == ((), ())


def test_an_unnamed_index_beside_the_key_is_ignored():
    batch = pl.DataFrame(PLACED | {"__index_level_0__": [0, 1]})
    plan = plan_columns(derived(), header(batch), ("__index_level_0__",))
    assert (plan.ignored, plan.extra, plan.read) == (("__index_level_0__",), (), ("id", "ra", "dec"))


def test_a_derived_key_is_made_of_the_contracts_types():
    # The file's id is a float: the key must not read 7.0_1.
    sql = "CAST(id AS STRING) || '_' || CAST(truth_type AS STRING)"
    contract = through(derive={"id_truth_type": sql})
    batch = pl.DataFrame({"id": [7.0, 8.0], "truth_type": [1, None]})
    result = conformed(contract, batch)
    assert result.frame["id_truth_type"].to_list() == ["7_1", None]
    assert result.frame.columns == ["id_truth_type", "id", "truth_type"]


def test_a_columns_own_values_come_before_derived_ones():
    contract = derived({"coord_ra": "double"}, derive={"coord_ra": "ra"})
    frame = conformed(contract, pl.DataFrame(PLACED)).frame
    assert frame["coord_ra"].to_list() == [10.0, 20.0]
    frame = conformed(contract, pl.DataFrame(PLACED | {"coord_ra": [1.0, 2.0]})).frame
    assert frame["coord_ra"].to_list() == [1.0, 2.0]


def test_a_derived_position_is_the_wrapped_one():
    contract = derived({"coord_ra": "double"}, derive={"coord_ra": "ra"})
    result = conformed(contract, pl.DataFrame({"id": [1, 2], "ra": [-298.0, NAN], "dec": [0.0, 0.0]}))
    assert result.frame["coord_ra"].to_list() == [62.0, None]
    assert result.nulled == {"ra": 1}


def test_what_cannot_be_derived_is_missing():
    contract = derived({"x": "double"}, derive={"x": "y"})
    assert plan_columns(contract, header(pl.DataFrame(PLACED))).missing == ("x",)


def test_every_missing_required_column_is_named_with_what_looks_like_it():
    batch = pl.DataFrame({"id": [1], "RA": [1.0], "tract": [1]})
    with pytest.raises(ContractError, match=r"3 columns.*'ra' \(double\).*did you mean RA.*'dec'.*'patch'") as refused:
        plan_columns(declared(), header(batch), uri="s3://in/b.parq")
    assert refused.value.kind == "missing_column"
    assert str(refused.value).startswith("Object, s3://in/b.parq: ")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("double", pa.string()),
        ("double", pa.timestamp("us")),
        ("double", pa.list_(pa.float64())),
        ("string", pa.int64()),
        ("timestamp", pa.int64()),
        ("boolean", pa.string()),
        ("vector", pa.float64()),
        ("vector", pa.list_(pa.int64())),
        ("long", pa.struct([("a", pa.int64())])),
        ("long", pa.month_day_nano_interval()),
        ("long", pa.dense_union([pa.field("a", pa.int64())])),
        ("long", pa.run_end_encoded(pa.int32(), pa.int64())),
    ],
)
def test_a_type_that_can_never_fit_is_refused_from_the_header(word, found):
    schema = pa.schema([("id", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64()), ("x", found)])
    with pytest.raises(ContractError, match=rf"'x' as {word}") as refused:
        plan_columns(derived({"x": word}), schema)
    assert refused.value.kind == "wrong_type"
    assert str(found) in str(refused.value)


def test_of_very_many_columns_a_dozen_is_named():
    contract = derived({f"x{i:02}": "double" for i in range(20)})
    batch = pl.DataFrame(PLACED | {f"x{i:02}": ["a", "b"] for i in range(20)})
    with pytest.raises(ContractError, match=r"20 columns do not fit.*'x11'.*and 8 more") as refused:
        plan_columns(contract, header(batch))
    assert "'x12'" not in str(refused.value)


def test_a_header_that_names_a_column_twice_is_refused():
    schema = pa.schema([("id", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64()), ("ra", pa.float64())])
    with pytest.raises(ContractError, match="more than one each of ra"):
        plan_columns(derived(), schema)


def test_casts_are_told_before_any_row_is_read():
    batch = pl.DataFrame(PLACED).with_columns(pl.col("id").cast(pl.Int32))
    assert plan_columns(derived(), header(batch)).casts == {"id": ("Int32", "Int64")}


def test_columns_that_only_the_checks_need_are_read_but_not_given():
    contract = derived(set_aside=(SetAside("not_unique", where="is_unique = false"),), ignore=("is_unique",))
    batch = pl.DataFrame(PLACED | {"is_unique": [True, False]})
    plan = plan_columns(contract, header(batch))
    assert plan.read == ("id", "ra", "dec", "is_unique")
    assert plan.extra == ()
    assert conform(batch, plan).frame.columns == ["id", "ra", "dec"]


def test_the_keys_plan_reads_only_what_tells_rows_apart():
    sql = "CAST(id AS STRING) || '_' || CAST(truth_type AS STRING)"
    best = SetAside("repeated", best=("match IS NULL", "chi DESC"))
    contract = through(
        {"match": "long", "chi": "float", "other": "float"}, derive={"id_truth_type": sql}, set_aside=(best,)
    )
    batch = pl.DataFrame({"other": [1.0], "id": [1], "truth_type": [2], "chi": [3.0], "match": [4]})
    keys = keys_only(plan_columns(contract, header(batch)))
    assert keys.read == ("id", "truth_type", "chi", "match")
    assert conform(batch.select(keys.read), keys).frame["id_truth_type"].to_list() == ["1_2"]


def test_a_plan_crosses_processes():
    plan = plan_columns(derived(derive={"x": "ra"}, columns={"x": "double"}), header(pl.DataFrame(PLACED)))
    again = pickle.loads(pickle.dumps(plan))  # noqa: S301 - our own bytes
    assert again == plan


def test_untouched_columns_share_their_memory():
    values = np.arange(1000, dtype=np.float64)
    values[7] = NAN
    batch = pl.DataFrame({"id": range(1000), "ra": np.zeros(1000), "dec": np.zeros(1000), "x": values})
    frame = conformed(derived({"x": "double"}), batch).frame
    for name in ("id", "x"):
        assert frame[name].to_arrow().buffers()[1].address == batch[name].to_arrow().buffers()[1].address
