"""Ways to break a file of a simulated tree on purpose, one for each kind of bad input that an ingest must survive.

Each function of `KINDS` changes one file and says what it did and what must follow. What an ingest makes of it is
not known here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse import contracts
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.simulate.streams import stream
from warehouse.simulate.tree import write_parquet
from warehouse.storage import delete, read_bytes, write_bytes

Effect = Literal["input refused", "rows refused", "rows replaced", "harmless"]

# Below the share of rows that makes an input fail as a whole, where a file is large enough.
BAD_ROWS_SHARE = 0.005
_STAMP = re.compile(r"\d{8}T\d{6}Z")


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to a file.

    Attributes
    ----------
    kind
        The name in `KINDS`.
    uri
        Where the file lies now.
    was
        Where it lay; the same, unless it was moved.
    effect
        What an ingest must make of it.
    rows
        How many rows are concerned.
    told
        The same in words.
    """

    kind: str
    uri: str
    was: str
    effect: Effect
    rows: int
    told: str


@dataclass(frozen=True, slots=True, eq=False)
class _Victim:
    """A file before it is broken."""

    uri: str
    settings: Settings
    generator: np.random.Generator
    dataset_type: str
    contract: Contract

    def read(self) -> pa.Table:
        """Return the file's table, the index as a column."""
        return pq.read_table(io.BytesIO(read_bytes(self.uri, self.settings)))

    def write(self, table: pa.Table, uri: str | None = None) -> None:
        """Write the table in the file's place, or elsewhere, with the index that it has."""
        pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b'{"index_columns": []}'))
        index = next((name for name in pandas["index_columns"] if isinstance(name, str)), None)
        index = index if index in table.column_names else None
        write_parquet(uri or self.uri, [table], self.settings, index=index, row_group_bytes=1 << 40)

    def some_rows(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return a few row numbers: at least one, at most a small share."""
        count = max(1, int(BAD_ROWS_SHARE * table.num_rows))
        return np.sort(self.generator.choice(table.num_rows, count, replace=False))

    @property
    def position(self) -> tuple[str, str]:
        """The names of the position columns."""
        if self.contract.position is None:
            raise QueryError(f"{self.dataset_type} has no position to break", table=self.contract.table, uri=self.uri)
        return self.contract.position

    def done(self, effect: Effect, rows: int, told: str, uri: str | None = None) -> Damage:
        """Return the record; the kind is filled in by `damage`."""
        return Damage("", uri or self.uri, self.uri, effect, rows, told)


def damage(kind: str, uri: str, settings: Settings | None = None, *, seed: int = 1, release: str = "dp02") -> Damage:
    """Break the file `uri` in the way `kind` of `KINDS`, and return what was done.

    The same arguments break the same file in the same way.

    Raises
    ------
    NotFoundError
        No such kind, or the path names no dataset type of `release`.
    QueryError
        This file cannot be broken in this way.
    """
    if kind not in _BREAKS:
        raise NotFoundError(f"no kind of damage {kind!r}; {near_misses(kind, _BREAKS)}", kind="damage")
    known = contracts.load(release).dataset_types
    dataset_type = next((part for part in reversed(uri.split("/")[:-1]) if part in known), None)
    if dataset_type is None:
        raise NotFoundError(f"no folder of the path names a dataset type of {release}", kind="dataset_type", uri=uri)
    contract, _ = known[dataset_type]
    victim = _Victim(uri, settings or Settings(), stream(seed, f"damage {kind}"), dataset_type, contract)
    return replace(_BREAKS[kind](victim), kind=kind)


# ------------------------------------------------------------------------------------------------- broken bytes


def _truncated(victim: _Victim) -> Damage:
    content = read_bytes(victim.uri, victim.settings)
    write_bytes(victim.uri, content[: len(content) * 6 // 10], victim.settings)
    return victim.done("input refused", 0, "cut off after six tenths of its bytes")


def _zero_byte(victim: _Victim) -> Damage:
    write_bytes(victim.uri, b"", victim.settings)
    return victim.done("input refused", 0, "no byte left")


def _not_parquet(victim: _Victim) -> Damage:
    write_bytes(victim.uri, b"<html>503 Service Unavailable</html>\n" * 40, victim.settings)
    return victim.done("input refused", 0, "a web server's error page under a Parquet file's name")


def _garbled(victim: _Victim) -> Damage:
    content = bytearray(read_bytes(victim.uri, victim.settings))
    # The header of the first column's first page: footer and magic bytes stay whole.
    content[4:24] = b"\xff" * 20
    write_bytes(victim.uri, bytes(content), victim.settings)
    return victim.done("input refused", 0, "the first page's header overwritten; the footer is whole")


# ----------------------------------------------------------------------------------------------- broken columns


def _missing_required_column(victim: _Victim) -> Damage:
    name = victim.position[1]
    table = victim.read()
    victim.write(table.drop_columns([name]))
    return victim.done("input refused", table.num_rows, f"column {name} left out")


def _extra_columns(victim: _Victim) -> Damage:
    table = victim.read()
    noise = victim.generator.standard_normal(table.num_rows)
    wide = table.append_column("extra_noise", pa.array(noise)).append_column("extra word", pa.array(["x"] * len(noise)))
    victim.write(wide)
    return victim.done("harmless", table.num_rows, "columns extra_noise and 'extra word' added")


def _permuted_columns(victim: _Victim) -> Damage:
    table = victim.read()
    names = table.column_names
    victim.write(table.select([names[place] for place in victim.generator.permutation(len(names))]))
    return victim.done("harmless", table.num_rows, "columns in another order")


def _int32_columns(victim: _Victim) -> Damage:
    table = victim.read()
    narrowed = []
    for place, field in enumerate(table.schema):
        bounds = pc.min_max(table.column(place)) if pa.types.is_int64(field.type) else None
        if bounds is not None and bounds["min"].is_valid and _fits(bounds["min"].as_py(), bounds["max"].as_py()):
            table = table.set_column(place, field.with_type(pa.int32()), table.column(place).cast(pa.int32()))
            narrowed.append(field.name)
    victim.write(table)
    return victim.done("harmless", table.num_rows, f"as int32: {', '.join(narrowed) or 'nothing fits'}")


def _fits(low: int, high: int) -> bool:
    return low >= -(2**31) and high < 2**31


def _int32_ids(victim: _Victim) -> Damage:
    name, table = victim.contract.key[0], victim.read()
    _require(victim, table, name)
    small = pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32))
    victim.write(_replaced(table, name, small))
    return victim.done("harmless", table.num_rows, f"{name} counts from 1, as int32")


def _float_as_text(victim: _Victim) -> Damage:
    table = victim.read()
    untouched = set(victim.position)
    name = next(f.name for f in table.schema if pa.types.is_floating(f.type) and f.name not in untouched)
    victim.write(_replaced(table, name, table.column(name).cast(pa.string())))
    return victim.done("input refused", table.num_rows, f"column {name} as text")


# -------------------------------------------------------------------------------------------------- broken rows


def _null_positions(victim: _Victim) -> Damage:
    return _spoil_position(victim, 0, None, "null")


def _non_finite_positions(victim: _Victim) -> Damage:
    return _spoil_position(victim, 1, float(victim.generator.choice([np.nan, np.inf, -np.inf])), "not finite")


def _out_of_range_positions(victim: _Victim) -> Damage:
    return _spoil_position(victim, 1, float(victim.generator.choice([-97.0, 95.0])), "beyond a pole")


def _spoil_position(victim: _Victim, axis: int, value: float | None, word: str) -> Damage:
    table, name = victim.read(), victim.position[axis]
    rows = victim.some_rows(table)
    bad = np.zeros(table.num_rows, bool)
    bad[rows] = True
    column = pc.if_else(pa.array(bad), pa.scalar(value, pa.float64()), table.column(name))
    victim.write(_replaced(table, name, column))
    return victim.done("rows refused", len(rows), f"{name} {word}")


def _shifted_ra(victim: _Victim) -> Damage:
    table, name = victim.read(), victim.position[0]
    shift = victim.generator.choice([-360.0, 360.0], table.num_rows)
    victim.write(_replaced(table, name, pc.add(table.column(name), pa.array(shift))))
    return victim.done("harmless", table.num_rows, f"{name} a full turn too low or too high")


def _duplicate_keys(victim: _Victim) -> Damage:
    table = victim.read()
    rows = victim.some_rows(table)
    victim.write(pa.concat_tables([table, table.take(pa.array(rows))]))
    return victim.done("rows refused", len(rows), "a few rows stand twice")


def _outside_patch(victim: _Victim) -> Damage:
    if victim.contract.assignment != "declared":
        raise QueryError("only rows with a tract and patch of their own can lie outside", uri=victim.uri)
    table, name = victim.read(), victim.position[1]
    rows = victim.some_rows(table)
    move = np.zeros(table.num_rows)
    # Less than a tract away from the middle, more than a patch: never a pole.
    move[rows] = 1.0 if pc.mean(table.column(name)).as_py() < 0 else -1.0
    victim.write(_replaced(table, name, pc.add(table.column(name), pa.array(move))))
    return victim.done("rows refused", len(rows), f"{name} a degree off, outside the declared patch")


def _no_rows(victim: _Victim) -> Damage:
    table = victim.read()
    victim.write(table.slice(0, 0))
    return victim.done("harmless", table.num_rows, "all columns, no rows")


# --------------------------------------------------------------------------------------------------- other paths


def _contradicting_path(victim: _Victim) -> Damage:
    table = victim.read()
    found = re.search(rf"/{victim.dataset_type}/(\d+)/", victim.uri)
    if found is None or "tract" not in table.column_names:
        raise QueryError("neither path nor rows tell a tract", uri=victim.uri)
    tract = int(found[1])
    moved = victim.uri.replace(f"/{tract}/", f"/{tract + 1}/").replace(f"_{tract}_", f"_{tract + 1}_")
    return _move(victim, moved, "input refused", f"moved to tract {tract + 1}, which its rows contradict")


def _odd_path(victim: _Victim) -> Damage:
    head, folder, tail = victim.uri.rpartition(f"/{victim.dataset_type}/")
    return _move(victim, f"{head}/neu gelesen ß 100%{folder}{tail}", "harmless", "under a path with spaces and more")


def _move(victim: _Victim, moved: str, effect: Effect, told: str) -> Damage:
    rows = victim.read().num_rows
    victim.write(victim.read(), moved)
    delete(victim.uri, victim.settings)
    return victim.done(effect, rows, told, moved)


def _changed_rows(victim: _Victim) -> Damage:
    table, count = _changed(victim)
    victim.write(table)
    return victim.done("rows replaced", count, "delivered again with other values and without its last row")


def _later_run(victim: _Victim) -> Damage:
    stamps = _STAMP.findall(victim.uri)
    if not stamps:
        raise QueryError("the path holds no run with a time in its name", uri=victim.uri)
    later = f"{int(stamps[0][:4]) + 1}{stamps[0][4:]}"
    table, count = _changed(victim)
    moved = victim.uri.replace(stamps[0], later)
    victim.write(table, moved)
    told = "delivered by a later run, beside the earlier file, with other values and without its last row"
    return victim.done("rows replaced", count, told, moved)


def _changed(victim: _Victim) -> tuple[pa.Table, int]:
    """Return the table with another value in one float column and without its last row, and its former length."""
    table = victim.read()
    untouched = set(victim.contract.position or ())
    name = next(f.name for f in table.schema if pa.types.is_floating(f.type) and f.name not in untouched)
    noise = pa.array(1.0 + 0.01 * victim.generator.standard_normal(table.num_rows))
    column = pc.multiply(table.column(name).cast(pa.float64()), noise).cast(table.schema.field(name).type)
    return _replaced(table, name, column).slice(0, table.num_rows - 1), table.num_rows


def _replaced(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the table with other values, of whatever type, in one column."""
    place = table.column_names.index(name)
    return table.set_column(place, pa.field(name, column.type), column)


def _require(victim: _Victim, table: pa.Table, name: str) -> None:
    if name not in table.column_names:
        raise QueryError(f"the file has no column {name}", table=victim.contract.table, uri=victim.uri)


_BREAKS: Mapping[str, Callable[[_Victim], Damage]] = {
    "truncated": _truncated,
    "zero_byte": _zero_byte,
    "not_parquet": _not_parquet,
    "garbled": _garbled,
    "missing_required_column": _missing_required_column,
    "extra_columns": _extra_columns,
    "permuted_columns": _permuted_columns,
    "int32_columns": _int32_columns,
    "int32_ids": _int32_ids,
    "float_as_text": _float_as_text,
    "null_positions": _null_positions,
    "non_finite_positions": _non_finite_positions,
    "out_of_range_positions": _out_of_range_positions,
    "shifted_ra": _shifted_ra,
    "duplicate_keys": _duplicate_keys,
    "outside_patch": _outside_patch,
    "no_rows": _no_rows,
    "contradicting_path": _contradicting_path,
    "odd_path": _odd_path,
    "changed_rows": _changed_rows,
    "later_run": _later_run,
}

# By name, the function from a file's URI and settings to what was done to it; keywords as `damage` has them.
KINDS: Mapping[str, Callable[..., Damage]] = {kind: partial(damage, kind) for kind in _BREAKS}
