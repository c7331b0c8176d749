"""Frames as other tools like them: pandas with the key as its index, astropy with units. Imported when asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import Contract
from warehouse.errors import QueryError, near_misses

FORMATS = ("polars", "lazy", "pandas", "astropy")


def check(wanted: str) -> None:
    """Refuse a format that there is not (QueryError)."""
    if wanted not in FORMATS:
        raise QueryError(f"no format {wanted!r}; {near_misses(wanted, FORMATS)}", kind="format")


def given(frame: pl.DataFrame, contract: Contract, wanted: str) -> Any:  # noqa: ANN401 - what it is, `wanted` says
    """Return a frame in the wanted format (QueryError where the package that makes it is not installed)."""
    if wanted == "pandas":
        return to_pandas(frame, contract)
    return to_astropy(frame, contract) if wanted == "astropy" else frame


def to_pandas(frame: pl.DataFrame, contract: Contract) -> Any:  # noqa: ANN401 - pandas publishes no types here
    """Return a pandas frame; a key of one column is its index, as in the Butler's frames."""
    try:
        converted = frame.to_pandas()
    except ImportError as error:
        raise QueryError("format 'pandas' needs pandas: pip install pandas", kind="format") from error
    if len(contract.key) == 1 and contract.key[0] in frame.columns:
        converted = converted.set_index(contract.key[0])
    return converted


def to_astropy(frame: pl.DataFrame, contract: Contract) -> Any:  # noqa: ANN401 - astropy publishes no types
    """Return an astropy Table: units, descriptions and UCDs from the contract, nulls masked."""
    from astropy.table import Column, MaskedColumn, Table
    from astropy.units import Unit

    columns = []
    for series in frame.iter_columns():
        told = contract.by_name.get(series.name)
        words: dict[str, Any] = {"name": series.name}
        if told is not None:
            words["description"] = told.description or None
            words["unit"] = Unit(told.unit, parse_strict="silent") if told.unit else None
            words["meta"] = {"ucd": told.ucd} if told.ucd else None
        nulls = series.is_null()
        if nulls.any():
            columns.append(MaskedColumn(_values(series), mask=nulls.to_numpy(), **words))
        else:
            columns.append(Column(_values(series), **words))
    return Table(columns, meta={"table": contract.table, "release": contract.release}, copy=False)


def _values(series: pl.Series) -> npt.NDArray[Any]:
    """Return the values as numpy has them, with something harmless where they are null."""
    if series.dtype == pl.String:
        return np.asarray(series.fill_null("").to_list(), dtype=np.str_)
    if series.dtype == pl.Boolean:
        return series.fill_null(value=False).to_numpy()
    if series.dtype.is_integer():
        return series.fill_null(0).to_numpy()
    return series.to_numpy()
