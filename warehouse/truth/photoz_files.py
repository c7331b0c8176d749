"""The photo-z set as a file that photo-z people open: Parquet, FITS, HDF5, CSV, pickle.

Belongs here: one function a format, registered once in `FORMATS`; each keeps the columns under their
names, their units, and the recipe of the set. What is in the set is `warehouse.truth.photoz`' business.
"""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import outputs
from warehouse.contracts.contract import Contract
from warehouse.contracts.derived import BANDS
from warehouse.errors import QueryError, StorageError
from warehouse.truth.photoz import Selection

RAIL_GROUP, SET_GROUP = "photometry", "photoz"
_HDF5 = (".hdf5", ".h5")
_NULL_INTEGER = -(2**63)
_NULL_FLAG = -1


@dataclass(frozen=True, slots=True)
class Described:
    """A set in memory with what a file says of it: unit and description of each column, and the recipe as JSON.

    `wide` is the set with the columns that it may have beside those asked for.
    """

    frame: pl.DataFrame
    wide: pl.DataFrame
    units: Mapping[str, str]
    descriptions: Mapping[str, str]
    recipe: str


def needed(selection: Selection, path: str | Path, known: Collection[str]) -> Selection:
    """Return the selection of a file's set with what its format holds beside it, as far as ObjectTruth has it."""
    errors = all(f"obj_{band}_cModelFluxErr" in known for band in selection.bands)
    return replace(selection, errors=True) if errors and Path(path).suffix.lower() in _HDF5 else selection


def write(
    photoz: pl.DataFrame | pl.LazyFrame,
    path: str | Path,
    recipe: Mapping[str, object],
    contract: Contract,
    columns: Sequence[str] | None = None,
) -> int:
    """Write a photo-z set to a file of the format that the path's ending names; return its number of rows.

    ====================  =========================================================================================
    ending                what it is
    ====================  =========================================================================================
    .parquet, .parq       Parquet; unit and description in each field's metadata, ``recipe`` in the schema's
    .fits                 a binary table; TUNIT, TNULL; ``RECIPE`` in its header
    .hdf5, .h5            group ``photoz``: a dataset a column with attribute ``unit``; group ``photometry`` for RAIL:
                          ``id``, ``redshift``, ``mag_u_lsst``, ``mag_err_u_lsst`` ..., with units, too; ``recipe`` as
                          the file's attribute
    .csv                  enhanced CSV: units and recipe in a header of lines that begin with ``#``
    .pkl, .pickle         a pandas DataFrame; ``units`` and ``recipe`` in its ``attrs``
    ====================  =========================================================================================

    A null is a NaN where the column is a float, and otherwise what the format has for it. The file appears under
    its name when it is complete.

    Parameters
    ----------
    photoz
        The set, as `warehouse.truth.photoz.photoz` returns it.
    path
        A local path.
    recipe
        What JSON can hold: the selection's `recipe`, and the release, pin and table versions it was applied to.
    contract
        Of ObjectTruth; knows the columns' units and descriptions.
    columns
        Those of the set; None for all. What `photoz` has beyond them (`needed`) is for RAIL's group alone.

    Raises
    ------
    QueryError
        The ending names no format, or one whose library is not installed; the path is not local.
    StorageError
        The file cannot be written.
    """
    path = outputs.local(os.fspath(path), *FORMATS)
    frame = photoz.collect() if isinstance(photoz, pl.LazyFrame) else photoz
    described = _described(frame, columns or frame.columns, recipe, contract)
    try:
        with outputs.replacing(path) as part:
            FORMATS[path.suffix.lower()](described, part)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror or error}", uri=os.fspath(path)) from error
    return frame.height


def rail(frame: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """Return a set under the names of the RAIL photo-z library, each an array of shape (n,), magnitudes missing NaN.

    ``id`` (the objectId), ``redshift``, and for every band ``mag_{band}_lsst`` and, where the set has errors,
    ``mag_err_{band}_lsst``.
    """
    return {to: _array(frame[name])[0] for name, to in _rail_names(frame).items()}


def _rail_names(frame: pl.DataFrame) -> dict[str, str]:
    names = {"mt_match_objectId": "id", "ts_redshift": "redshift"}
    for band in BANDS:
        names[f"obj_{band}_cModelMag"] = f"mag_{band}_lsst"
        names[f"obj_{band}_cModelMagErr"] = f"mag_err_{band}_lsst"
    return {name: to for name, to in names.items() if name in frame.columns}


def _described(
    wide: pl.DataFrame, wanted: Sequence[str], recipe: Mapping[str, object], contract: Contract
) -> Described:
    frame = wide.select(wanted)
    columns = {name: contract.by_name[name] for name in wide.columns if name in contract.by_name}
    units = {name: column.unit for name, column in columns.items() if column.unit}
    units |= {name: "mag" for name in wide.columns if name.endswith("MagErr")}
    descriptions = {name: column.description for name, column in columns.items() if column.description}
    return Described(frame, wide, units, descriptions, json.dumps(recipe))


def _array(series: pl.Series) -> tuple[npt.NDArray[Any], int | None]:
    """Return a column as an array without masks, and the value that stands for null, where one is needed."""
    if series.dtype in {pl.Int8, pl.UInt8, pl.UInt16}:
        # FITS reads a column of bytes as truth values, and has no unsigned integers.
        series = series.cast(pl.Int32)
    if series.dtype.is_float():
        return series.fill_null(float("nan")).to_numpy(), None
    if series.dtype == pl.String:
        return np.array([text.encode() for text in series.fill_null("").to_list()], dtype=np.bytes_), None
    if not series.null_count():
        return series.to_numpy(), None
    if series.dtype == pl.Boolean:
        return series.cast(pl.Int16).fill_null(_NULL_FLAG).to_numpy(), _NULL_FLAG
    return series.cast(pl.Int64).fill_null(_NULL_INTEGER).to_numpy(), _NULL_INTEGER


def _parquet(described: Described, path: Path) -> None:
    table = described.frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = []
    for field in table.schema:
        said = {"unit": described.units.get(field.name), "description": described.descriptions.get(field.name)}
        fields.append(field.with_metadata({key: value for key, value in said.items() if value}))
    schema = pa.schema(fields, metadata={"recipe": described.recipe})
    pq.write_table(table.cast(schema), path, compression="zstd")


def _fits(described: Described, path: Path) -> None:
    from astropy.io import fits

    columns = []
    for series in described.frame:
        values, null = _array(series)
        code = f"{values.dtype.itemsize}A" if values.dtype.kind == "S" else _FITS_CODES[values.dtype.str[1:]]
        unit = described.units.get(series.name)
        columns.append(fits.Column(series.name, code, unit=unit, null=null, array=values))
    table = fits.BinTableHDU.from_columns(columns, name=SET_GROUP.upper())
    table.header["RECIPE"] = described.recipe
    table.writeto(path, overwrite=True, checksum=True)


def _hdf5(described: Described, path: Path) -> None:
    h5py = _optional("h5py", "HDF5")
    with h5py.File(path, "w") as file:
        file.attrs["recipe"] = described.recipe
        whole = file.create_group(SET_GROUP)
        for series in described.frame:
            values, null = _array(series)
            dataset = whole.create_dataset(series.name, data=values)
            dataset.attrs.update(_said(described, series.name, null))
        arrays = rail(described.wide)
        for name, to in _rail_names(described.wide).items():
            dataset = file.create_dataset(f"{RAIL_GROUP}/{to}", data=arrays[to])
            dataset.attrs.update(_said(described, name))


def _said(described: Described, name: str, null: int | None = None) -> dict[str, Any]:
    """Return what a dataset says of itself."""
    said = {"unit": described.units.get(name), "description": described.descriptions.get(name), "null": null}
    return {key: value for key, value in said.items() if value is not None}


def _csv(described: Described, path: Path) -> None:
    """Write enhanced CSV (astropy APE 6): astropy makes the header, Polars the rows, which are many."""
    from astropy.table import Column, Table

    header = Table(
        [Column(np.empty(0, _ecsv_type(s)), s.name, unit=described.units.get(s.name)) for s in described.frame],
        meta={"recipe": json.loads(described.recipe)},
    )
    text = io.StringIO()
    header.write(text, format="ascii.ecsv", delimiter=",")
    rows = described.frame.with_columns(
        # Enhanced CSV spells truth values as Python does.
        pl.col(pl.Boolean).replace_strict({True: "True", False: "False"}, return_dtype=pl.String),
        # An empty field is a null; a NaN is a number of the format's.
        pl.col(pl.Float32, pl.Float64).fill_nan(None),
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
        rows.write_csv(file, include_header=False)


def _ecsv_type(series: pl.Series) -> npt.DTypeLike:
    return np.str_ if series.dtype == pl.String else series.clear().to_numpy().dtype


def _pickle(described: Described, path: Path) -> None:
    pandas = _optional("pandas", "pickled data frames")
    table = described.frame.to_pandas()
    for series in described.frame.select(pl.selectors.integer()):
        if series.null_count():
            # pandas would make floats of them, and an id lose its last digits.
            table[series.name] = pandas.array(series.to_list(), dtype="Int64")
    table.attrs["recipe"] = json.loads(described.recipe)
    table.attrs["units"] = dict(described.units)
    # Of the protocols, the newest that every supported Python reads.
    table.to_pickle(path, compression=None, protocol=4)


def _optional(module: str, what: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{what} need the package {module}: pip install 'tractlake[photoz]'"
        raise QueryError(message, kind="extra") from error


_FITS_CODES = {"b1": "L", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
FORMATS: Mapping[str, Callable[[Described, Path], None]] = {
    ".parquet": _parquet,
    ".parq": _parquet,
    ".fits": _fits,
    **dict.fromkeys(_HDF5, _hdf5),
    ".csv": _csv,
    ".pkl": _pickle,
    ".pickle": _pickle,
}
