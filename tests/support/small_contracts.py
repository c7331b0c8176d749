"""Contracts of a few columns, one for each way of assignment, and headers and batches that fit them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from warehouse.contracts import Column, Contract, DatasetType, ForeignKey, Packed
from warehouse.readers.reader import Input

WORDS = {
    "long": pa.int64(),
    "int": pa.int32(),
    "short": pa.int16(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us"),
    "instant": pa.timestamp("us", "UTC"),
    "vector": pa.list_(pa.float64()),
}


def contract(columns: dict[str, str], **changes: Any) -> Contract:
    """Return a contract with these columns; a derived table named Source unless told otherwise."""
    words: dict[str, Any] = {
        "release": "dp02",
        "table": "Source",
        "description": "",
        "columns": tuple(Column(name, word, WORDS[word]) for name, word in columns.items()),
        "key": ("id",),
        "position": ("ra", "dec"),
        "assignment": "derived",
    }
    return Contract(**(words | changes))


def derived(columns: dict[str, str] | None = None, **changes: Any) -> Contract:
    """Return a contract of a table whose rows are placed by their position; ids hold the visit above 1000."""
    where = {"visit": Packed("id", divide=1000), "detector": Packed("id", modulo=1000)}
    types = (DatasetType("sourceTable", ("visit", "detector"), where),)
    base = {"id": "long", "ra": "double", "dec": "double"}
    return contract(base | (columns or {}), **({"dataset_types": types} | changes))


def declared(columns: dict[str, str] | None = None, **changes: Any) -> Contract:
    """Return a contract of a table whose rows bring their own tract and patch."""
    where = {"tract": Packed("tract"), "patch": Packed("patch")}
    types = (DatasetType("objectTable", ("tract", "patch"), where),)
    base = {"id": "long", "ra": "double", "dec": "double", "tract": "long", "patch": "long"}
    words = {"table": "Object", "assignment": "declared", "dataset_types": types}
    return contract(base | (columns or {}), **(words | changes))


def through(columns: dict[str, str] | None = None, **changes: Any) -> Contract:
    """Return a contract of a table whose rows lie where the truth row that they refer to lies."""
    words = {
        "table": "MatchesTruth",
        "position": None,
        "assignment": "through",
        "key": ("id_truth_type",),
        "through": ForeignKey("id_truth_type", "TruthSummary", "id_truth_type"),
    }
    base = {"id_truth_type": "string", "id": "long", "truth_type": "int"}
    return contract(base | (columns or {}), **(words | changes))


def header(batch: pl.DataFrame) -> pa.Schema:
    """Return the header of a file that holds this batch."""
    return batch.to_arrow().schema


def given(**words: Any) -> Input:
    """Return an input as a listing would have named it."""
    return Input(**({"uri": "s3://in/file.parq", "size": 1, "stamp": "etag"} | words))
