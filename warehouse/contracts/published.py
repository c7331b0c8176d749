"""What the releases publish: tables and columns from `lsst-sdm-schemas`, read through `lsst-felis`, kept on disk.

Reading a release's YAML takes half a second to a second, and felis brings pydantic and astropy along; a query
must not pay for that. So the little that contracts need is written to the user's cache folder as JSON, under
the digest of every schema file of the installed package and of this module: another version, or an edited file,
is another entry. A cache that is missing, broken or not writable costs time and nothing else.

What the published schemas lack (position, assignment, dataset types ...) is `warehouse.contracts.release`'s.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse.contracts.contract import Column, ForeignKey
from warehouse.errors import ContractError

SCHEMAS = "lsst.sdm.schemas"

UTC_TIME = pa.timestamp("us", "UTC")
TAI_TIME = pa.timestamp("us")
ARROW = {
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "char": pa.string(),
    "string": pa.string(),
    "unicode": pa.string(),
    "text": pa.string(),
    "binary": pa.binary(),
}


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table as the release publishes it; `key` is empty and `foreign_keys` few where the schema says little."""

    name: str
    description: str
    key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]
    columns: tuple[Column, ...]


def published(schema: str) -> tuple[PublishedTable, ...]:
    """Return the tables of a published schema, in its order.

    Parameters
    ----------
    schema
        The file's name in `lsst-sdm-schemas` without its ending, such as ``dp02_dc2``.

    Raises
    ------
    ContractError
        The installed package has no such schema, or felis refuses it.
    """
    entry = _cache_entry(schema)
    if entry is not None and (text := _read_entry(entry)) is not None:
        return tuple(_table(row) for row in json.loads(text))
    rows = _read_felis(schema)
    if entry is not None:
        _write_entry(entry, json.dumps(rows, ensure_ascii=False, separators=(",", ":")))
    return tuple(_table(row) for row in rows)


def arrow_type(datatype: str, description: str = "") -> pa.DataType:
    """Return the Arrow type of a Felis datatype word.

    A timestamp is UTC, unless its description says TAI: then it carries no zone. A TAI clock is 37 s ahead of
    UTC, Arrow knows no TAI, and a column must not claim to be what it is not.

    Raises
    ------
    ContractError
        A datatype that Felis had not when this was written.
    """
    if datatype == "timestamp":
        return TAI_TIME if re.search(r"\bTAI\b", description) else UTC_TIME
    try:
        return ARROW[datatype]
    except KeyError:
        raise ContractError(f"datatype {datatype!r} has no Arrow type here; known: {', '.join(ARROW)}") from None


def _table(row: Sequence[Any]) -> PublishedTable:
    """Return a table from a row of the cache: name, description, key, foreign keys, columns."""
    name, description, key, links, columns = row
    return PublishedTable(
        name=name,
        description=description,
        key=tuple(key),
        foreign_keys=tuple(ForeignKey(*link) for link in links),
        columns=tuple(
            Column(name, datatype, arrow_type(datatype, text), unit, ucd, text, nullable)
            for name, datatype, unit, ucd, text, nullable in columns
        ),
    )


def _read_felis(schema: str) -> list[list[Any]]:
    """Return the tables as rows of JSON values, read by felis."""
    import felis

    uri = f"resource://{SCHEMAS}/{schema}.yaml"
    try:
        tables = felis.Schema.from_uri(uri, context={"id_generation": True}).tables
    except Exception as error:  # felis raises its own errors, pydantic's, yaml's and those of lsst.resources
        raise ContractError(f"the published schema cannot be read: {error}", uri=uri) from error
    return [
        [
            table.name,
            _words(table.description),
            [_name(key) for key in _listed(table.primary_key)],
            list(_links(table.constraints)),
            [_column(column) for column in table.columns],
        ]
        for table in tables
    ]


def _column(column: Any) -> list[Any]:  # noqa: ANN401 - felis publishes no types
    unit = column.fits_tunit or column.ivoa_unit
    unit = str(unit) if unit else None
    words = _words(column.description)
    return [column.name, column.datatype.value, unit, column.ivoa_ucd, words, column.nullable]


def _links(constraints: Iterable[Any]) -> Iterable[list[str]]:
    """Yield column, table and referenced column of each foreign key over one column.

    No release so far has one over several columns; it could not be told by a `ForeignKey`.
    """
    for constraint in constraints:
        referenced = _listed(getattr(constraint, "referenced_columns", None))
        if len(referenced) == 1:
            table, column = referenced[0].removeprefix("#").split(".")
            yield [_name(constraint.columns[0]), table, column]


def _listed(value: str | Sequence[str] | None) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or []


def _name(identifier: str) -> str:
    """Return the column's name from a Felis id such as ``#Object.objectId``."""
    return identifier.rpartition(".")[2]


def _words(description: str | None) -> str:
    return " ".join((description or "").split())


def _cache_entry(schema: str) -> Path | None:
    """Return the path of the cache entry, or None where there is nothing to key it by or no home to put it in."""
    with suppress(ImportError, OSError, RuntimeError):
        spec = importlib.util.find_spec(SCHEMAS)
        if spec is not None and spec.origin is not None:
            digest = _digest([*Path(spec.origin).parent.glob("*.yaml"), Path(__file__)])
            root = os.environ.get("XDG_CACHE_HOME", "")
            folder = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
            return folder / "tractlake" / f"{schema}-{digest}.json"
    return None


def _digest(files: Iterable[Path]) -> str:
    """Return the digest of the files' names and bytes: one schema may draw columns from another."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _read_entry(path: Path) -> str | None:
    """Return the text of a cache entry whose first line is the digest of the rest; None for any other."""
    try:
        digest, _, text = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return text.decode() if digest.decode(errors="replace") == hashlib.sha256(text).hexdigest() else None


def _write_entry(path: Path, text: str) -> None:
    """Write a cache entry so that a reader sees all of it or nothing; a cache that cannot be written is no error."""
    data = text.encode()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
