"""A batch as the contract wants it: names, order and types, no value lost in silence.

Here belong the plan of an input's columns, made once from the file's header, and the step that applies it to each
batch. Which rows are good is the business of `warehouse.ingest.quality`; how one column changes its type, of
`warehouse.ingest.cast`.

What a file may do freely: order its columns as it likes, keep a single-column key as its unnamed pandas index, lack
columns that may be null, bring columns that the contract does not know. Missing keys, positions, tracts and patches,
and types that can never become the contract's, are refused with every offending column named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa

from warehouse.contracts.contract import INPUT_ID, Column, Contract
from warehouse.errors import ContractError, near_misses
from warehouse.ingest.cast import Change, Loss, change, conformable
from warehouse.readers.units import unit_factor

UNNAMED_INDEX = "__index_level_0__"
NAMED_AT_MOST = 12

Header = Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where one column of the contract comes from.

    Attributes
    ----------
    name, wanted
        The contract's column and its Polars type.
    source
        The file's column; None where `sql` derives it or where it is null throughout.
    sql
        The contract's expression over the file's columns, where the file lacks the column itself.
    factor
        What the file's values are multiplied by, to be in the contract's unit.
    """

    name: str
    wanted: pl.DataType
    source: str | None = None
    sql: str | None = None
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How the columns of one input become those of its contract; made once, from the file's header.

    Attributes
    ----------
    read
        The file's columns to ask the reader for, in this order: those of the contract, then those that only the
        contract's expressions and checks look at.
    columns
        The columns that `conform` gives, in its order.
    missing
        Columns of the contract that the file lacks and that nothing derives: null throughout.
    extra
        Columns of the file that the contract neither has nor expects: left out.
    ignored
        Columns of the file that are left out as the contract says.
    casts
        Column -> (type in the file, type in the contract) wherever the two differ.
    """

    contract: Contract
    read: tuple[str, ...]
    columns: tuple[Mapped, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    casts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Conformed:
    """A batch that fits its contract, and what had to be done to it.

    Attributes
    ----------
    frame
        The columns of the plan, in its order, with exactly the contract's types.
    original
        The batch as it came. It shares the memory of every column whose values did not change.
    nulled
        Column -> NaN and infinities that became null.
    cast
        Column -> values (nulls aside) whose type changed without loss.
    cut
        Column -> times that were cut to whole microseconds.
    """

    frame: pl.DataFrame
    original: pl.DataFrame
    nulled: Mapping[str, int]
    cast: Mapping[str, int]
    cut: Mapping[str, int]


def plan_columns(
    contract: Contract,
    schema: pa.Schema,
    index: tuple[str, ...] = (),
    *,
    units: tuple[str | None, ...] | None = None,
    uri: str | None = None,
) -> ColumnPlan:
    """Return how the columns of a file with this header become those of the contract.

    Parameters
    ----------
    schema
        The file's columns, pandas index columns included.
    index
        Which of them are the pandas index.
    units
        The file's unit of each column; by default what the schema's fields say.
    uri
        The file, for messages.

    Raises
    ------
    ContractError
        ``missing_column``, ``wrong_type`` or ``duplicate_column``; names every offending column up to a dozen.
        ``unit``: a unit that is not known, or cannot become the contract's.
    """
    _refuse_doubled_names(contract, schema.names, uri)
    header: Header = {f.name: f.type for f in schema}
    told = dict(zip(schema.names, units_of(schema) if units is None else units, strict=True))
    mapped = tuple(
        _in_unit(contract, _source(contract, name, dtype, header), told, uri)
        for name, dtype in _wanted(contract).items()
    )
    found = _check(contract, mapped, header, uri)
    sources = {m.source for m in mapped if m.source is not None}
    aside = _aside(contract, mapped, header)
    rest = [n for n in header if n not in sources and n not in contract.by_name]
    ignored = [n for n in rest if n in contract.ignore or n in index or n in aside]
    return ColumnPlan(
        contract=contract,
        read=tuple(n for n in header if n in sources or n in aside),
        columns=mapped,
        missing=tuple(m.name for m in mapped if m.source is None and m.sql is None),
        extra=tuple(n for n in rest if n not in ignored),
        ignored=tuple(ignored),
        casts={
            m.name: (str(found[m.source]), str(m.wanted)) for m in mapped if m.source and found[m.source] != m.wanted
        },
        uri=uri,
    )


def keys_only(plan: ColumnPlan) -> ColumnPlan:
    """Return the plan for the key alone, and what the contract's own rules need to tell doubled rows apart."""
    asked = set(plan.contract.key) | set_aside_roots(plan.contract)
    asked |= roots(*(m.sql for m in plan.columns if m.name in asked))
    columns = tuple(m for m in plan.columns if m.name in asked)
    read = {m.source for m in columns} | asked
    return replace(plan, read=tuple(n for n in plan.read if n in read), columns=columns)


def conform(batch: pl.DataFrame, plan: ColumnPlan, *, first_row: int = 0) -> Conformed:
    """Return the batch with the contract's columns and types; rows and their order stay.

    A column that already fits costs a look at its values if they are floats, nothing otherwise.

    Parameters
    ----------
    batch
        Rows of the file with the columns `plan.read`.
    first_row
        The batch's place in the file, for messages.

    Raises
    ------
    ContractError
        ``lossy_cast``: values that the contract's types cannot hold; names every such column up to a dozen, with
        its first such value and the row.
    """
    changes: dict[str, Change] = {}
    losses: dict[str, Loss] = {}
    for m in plan.columns:
        if m.source is not None:
            values = batch.get_column(m.source)
            _apply(plan.contract, m, values if m.factor is None else values * m.factor, changes, losses)
        elif m.sql is None:
            changes[m.name] = Change(pl.Series(m.name, [None], dtype=m.wanted).new_from_index(0, batch.height))
    for m in plan.columns:
        if m.sql is not None:
            _apply(plan.contract, m, _derived(m, batch, changes), changes, losses)
    if losses:
        raise _lossy(plan, losses, first_row)
    return Conformed(
        frame=pl.DataFrame([changes[m.name].values for m in plan.columns]),
        original=batch,
        nulled={n: c.nulled for n, c in changes.items() if c.nulled},
        cast={n: c.cast for n, c in changes.items() if c.cast},
        cut={n: c.cut for n, c in changes.items() if c.cut},
    )


def roots(*expressions: str | None) -> set[str]:
    """Return the column names that the given SQL expressions look at."""
    return {name for sql in expressions if sql for name in pl.sql_expr(sql).meta.root_names()}


def set_aside_roots(contract: Contract) -> set[str]:
    """Return the column names that the contract's own rules look at."""
    terms = [s.where for s in contract.set_aside]
    terms += [order_of(term)[0] for s in contract.set_aside for term in s.best]
    return roots(*terms)


def order_of(term: str) -> tuple[str, bool]:
    """Return the expression and whether it descends, of one term of an ORDER BY list."""
    words = term.rsplit(maxsplit=1)
    if len(words) == 2 and words[1].upper() in {"ASC", "DESC"}:
        return words[0], words[1].upper() == "DESC"
    return term, False


def _wanted(contract: Contract) -> pl.Schema:
    """Return names and Polars types of what `conform` gives: what files hold, and declared tracts and patches."""
    fields = [f for f in contract.file_schema if f.name != INPUT_ID]
    if contract.assignment == "declared":
        fields += [contract.arrow_schema.field(name) for name in contract.partition_by]
    return pl.Schema(pa.schema(fields))


def _source(contract: Contract, name: str, dtype: pl.DataType, header: Header) -> Mapped:
    if name in header:
        return Mapped(name, dtype, source=name)
    sql = contract.derive.get(name)
    if sql is not None and roots(sql) <= header.keys():
        return Mapped(name, dtype, sql=sql)
    if contract.key == (name,) and UNNAMED_INDEX in header:
        return Mapped(name, dtype, source=UNNAMED_INDEX)
    return Mapped(name, dtype)


def units_of(schema: pa.Schema) -> tuple[str | None, ...]:
    """Return the unit that a file tells of each column, None where it tells none."""
    told = ((field.metadata or {}).get(b"unit") for field in schema)
    return tuple(unit.decode() if unit is not None else None for unit in told)


def _in_unit(contract: Contract, m: Mapped, told: Mapping[str, str | None], uri: str | None) -> Mapped:
    """Return the mapping with the factor from the file's unit to the contract's, where there is one."""
    column = contract.by_name.get(m.name)
    if column is None or m.source is None or not told.get(m.source):
        return m
    try:
        factor = unit_factor(told[m.source], column.unit)
    except ContractError as error:
        message = f"column {m.source!r}: {error.message}"
        raise ContractError(message, kind=error.kind, table=contract.table, uri=uri) from error
    return m if factor is None else replace(m, factor=factor)


def _aside(contract: Contract, mapped: tuple[Mapped, ...], header: Header) -> set[str]:
    """Return the file's columns that expressions and checks look at, whether or not the contract has them."""
    wanted = roots(*(m.sql for m in mapped)) | set_aside_roots(contract)
    wanted |= {packed.column for d in contract.dataset_types for packed in d.where.values()}
    return wanted & header.keys()


def _refuse_doubled_names(contract: Contract, names: list[str], uri: str | None) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        message = f"expected every column once, found more than one each of {_listed(doubled)}"
        raise ContractError(message, kind="duplicate_column", table=contract.table, uri=uri)


def _check(
    contract: Contract, mapped: tuple[Mapped, ...], header: Header, uri: str | None
) -> Mapping[str, pl.DataType]:
    """Return the Polars types of the columns to read; refuse what is missing or can never conform."""
    absent = [m for m in mapped if m.source is None and m.sql is None and m.name in contract.required]
    taken = [m.source for m in mapped if m.source is not None]
    found = pl.Schema(pa.schema([(name, header[name]) for name in taken if _plain(header[name])]))
    wrong = [m for m in mapped if m.source and (m.source not in found or not conformable(found[m.source], m.wanted))]
    if absent or wrong:
        says = [_says_absent(contract.column(m.name), header) for m in absent]
        says += [_says_wrong(contract.column(m.name), m, header) for m in wrong]
        count = f"{len(says)} columns do not fit: " if len(says) > 1 else ""
        kind = "missing_column" if absent else "wrong_type"
        raise ContractError(count + _listed(says, "; "), kind=kind, table=contract.table, uri=uri)
    return found


def _plain(arrow: pa.DataType) -> bool:
    """Return whether the type is a scalar, or a list of scalars: all that Polars and contracts have in common."""
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return _plain(arrow.value_type)
    return not (pa.types.is_nested(arrow) or pa.types.is_interval(arrow) or pa.types.is_run_end_encoded(arrow))


def _says_absent(column: Column, header: Header) -> str:
    hint = near_misses(column.name, header)
    return f"expected column {column.name!r} ({column.datatype}), found no such column; {hint}"


def _says_wrong(column: Column, mapped: Mapped, header: Header) -> str:
    where = "" if mapped.source == column.name else f" in the file's {mapped.source!r}"
    found = header[str(mapped.source)]
    return f"expected column {column.name!r} as {column.datatype} ({column.arrow}), found {found}{where}"


def _listed(says: list[str], separator: str = ", ") -> str:
    rest = len(says) - NAMED_AT_MOST
    return separator.join(says[:NAMED_AT_MOST]) + (f"{separator}and {rest} more" if rest > 0 else "")


def _apply(
    contract: Contract, m: Mapped, values: pl.Series, changes: dict[str, Change], losses: dict[str, Loss]
) -> None:
    """Put the column's outcome where it belongs, so that one message can name all columns that lose values."""
    outcome = change(values.alias(m.name), m.wanted)
    if isinstance(outcome, Loss):
        losses[m.name] = outcome
        # Later, derived columns still need something to stand on; the batch is refused all the same.
        outcome = Change(pl.Series(m.name, [None], dtype=m.wanted).new_from_index(0, len(values)))
    changes[m.name] = replace(outcome, values=_finish(contract, m.name, outcome.values))


def _derived(m: Mapped, batch: pl.DataFrame, changes: Mapping[str, Change]) -> pl.Series:
    """Return the column that the contract derives, from the contract's own columns before the file's other ones.

    The contract's types come first because text made of numbers depends on them: 7 and 7.0 make different keys.
    """
    assert m.sql is not None  # noqa: S101 - the caller asked for the derived ones; this tells mypy
    conformed = [changes[name].values for name in sorted(roots(m.sql)) if name in changes]
    return batch.with_columns(conformed).with_columns(pl.sql_expr(m.sql).alias(m.name)).get_column(m.name)


def _finish(contract: Contract, name: str, values: pl.Series) -> pl.Series:
    """Return the values with the contract's null values null, and right ascension in [0, 360)."""
    nulls = contract.null_values.get(name)
    if nulls:
        stands_for_null = values.is_in(list(nulls))
        if stands_for_null.any():
            values = values.set(stands_for_null, None)
    if contract.position is not None and name == contract.position[0]:
        values = wrapped(values)
    return values


def wrapped(ra_deg: pl.Series) -> pl.Series:
    """Return right ascensions of [-360, 720) degrees wrapped into [0, 360); others as they are."""
    low, high = ra_deg.min(), ra_deg.max()
    if low is None or (low >= 0 and high < 360):  # type: ignore[operator]
        return ra_deg
    ra = pl.col(ra_deg.name)
    # -1e-20 + 360 rounds to 360 itself, which is 0.
    up = pl.when(ra + 360 < 360).then(ra + 360).otherwise(0)
    down = pl.when(ra.is_between(360, 720, closed="left")).then(ra - 360).otherwise(ra)
    turned = pl.when(ra.is_between(-360, 0, closed="left")).then(up).otherwise(down)
    return ra_deg.to_frame().select(turned.cast(ra_deg.dtype).alias(ra_deg.name)).to_series()


def _lossy(plan: ColumnPlan, losses: Mapping[str, Loss], first_row: int) -> ContractError:
    says = [
        f"expected column {name!r} to hold values that {plan.contract.column(name).datatype} can hold exactly, "
        f"found {loss.value} ({loss.found}) in row {first_row + loss.row}"
        for name, loss in losses.items()
    ]
    return ContractError(_listed(says, "; "), kind="lossy_cast", table=plan.contract.table, uri=plan.uri)
