"""Rows as text, for the quarantine: JSON objects that keep what a value was, and keys to search for.

Here belongs how values are spelled. JSON has no word for NaN and infinities: they are the strings "NaN", "Infinity"
and "-Infinity". Finite floats have as many digits as reading them back takes. Bytes that are no UTF-8 are escaped.
"""

from __future__ import annotations

import json

import polars as pl


def as_json(rows: pl.DataFrame) -> pl.Series:
    """Return a JSON object a row, the columns in their order."""
    if not rows.width:
        return pl.Series(["{}"] * rows.height, dtype=pl.String)
    parts: list[pl.Expr] = []
    for number, (name, dtype) in enumerate(rows.schema.items()):
        parts += [pl.lit(f"{'{' if number == 0 else ','}{json.dumps(name)}:"), _json(pl.col(name), dtype)]
    # Bytes first become text: what follows are expressions, and decoding is not one.
    text = [_text(column) if column.dtype == pl.Binary else column for column in rows]
    return pl.DataFrame(text).select(pl.concat_str([*parts, pl.lit("}")])).to_series()


def as_key(keys: pl.DataFrame) -> pl.Series:
    """Return the key of each row as text, parts of a key of several columns with commas between; a null is empty."""
    parts = [pl.col(name).cast(pl.String).fill_null("") for name in keys.columns]
    return keys.select(pl.concat_str(parts, separator=",")).to_series()


def _json(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return the JSON text of a value; never null."""
    if isinstance(dtype, pl.Array):
        return _json(value.arr.to_list(), pl.List(dtype.inner))
    if isinstance(dtype, pl.List):
        elements = value.list.eval(_json(pl.element(), pl.Series([], dtype=dtype).explode().dtype))
        return pl.format("[{}]", elements.list.join(",")).fill_null("null")
    if dtype.is_float():
        infinite = pl.when(value > 0).then(pl.lit('"Infinity"')).otherwise(pl.lit('"-Infinity"'))
        odd = pl.when(value.is_nan()).then(pl.lit('"NaN"')).otherwise(infinite)
        return (
            pl.when(value.is_finite())
            .then(value.cast(pl.String))
            .when(value.is_not_null())
            .then(odd)
            .otherwise(pl.lit("null"))
        )
    if dtype.is_numeric() or dtype == pl.Boolean:
        return value.cast(pl.String).fill_null("null")
    wrapped = pl.struct(value.cast(pl.String).alias("v")).struct.json_encode()
    return wrapped.str.strip_prefix('{"v":').str.strip_suffix("}")


def _text(column: pl.Series) -> pl.Series:
    """Return bytes as text."""
    words = [None if value is None else value.decode("utf-8", "backslashreplace") for value in column]
    return pl.Series(column.name, words, dtype=pl.String)
