"""Good rows and refused rows of an assigned batch: every row is one or the other, and the counts say so.

Here belong the split, what remains of a refused row, and the counts. The rules themselves are in
`warehouse.ingest.rules`; what follows when too many rows are refused is up to those who call `share_exceeded`.

A row keeps all rules that refuse it. Besides those that hold for every table, a contract may set rows aside by design
(entries of the truth that are not unique, say): they are kept the same way, but are nobody's fault.

Doubled keys are an input's matter, not a batch's: a row is refused for another row that may have come batches before.
`find_doubles` therefore reads the key columns alone, ahead of the batches. The alternative, to carry the keys seen so
far from batch to batch, holds as many keys, joins against them again and again, makes the order of batches matter, and
cannot tell which of two rows is the better one. An input that comes as one batch needs no such pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import Contract
from warehouse.errors import QualityError
from warehouse.ingest.conform import ColumnPlan, Conformed, conform, order_of, roots
from warehouse.ingest.rowtext import as_json, as_key
from warehouse.ingest.rules import DUPLICATE_KEY, RULES, Doubles, Mask, Rows, repeated, seen_by_sql, set_aside
from warehouse.readers.reader import Input
from warehouse.sky.skymap import SkyMap

# Of an input that is refused as a whole so many rows have to do.
EXAMPLES = 1_000
REFUSED_SCHEMA = pl.Schema(
    [("row_number", pl.Int64()), ("rules", pl.List(pl.String())), ("key", pl.String()), ("values", pl.String())]
)


@dataclass(frozen=True, slots=True)
class Checked:
    """The two halves of a batch.

    Attributes
    ----------
    good
        Rows to commit, untouched and in order.
    counts
        Rule -> rows that it refuses; a row counts under each of its rules.
    rows_refused
        How many rows are not good.
    set_aside
        How many of these the contract sets aside by design.
    rows, masks
        What was judged, and which rows of it each rule refuses.
    kept
        Which refused rows are kept, by their place in the batch; only examples once the input is beyond saving.
    """

    good: pl.DataFrame
    counts: Mapping[str, int]
    rows_refused: int
    set_aside: int
    rows: Rows
    masks: Mapping[str, Mask]
    kept: npt.NDArray[np.int64]

    @property
    def refused(self) -> pl.DataFrame:
        """One row for each that is kept: row_number (in the input), rules, key, values (JSON, as they came)."""
        return pl.concat([pl.DataFrame(schema=REFUSED_SCHEMA), *self.refused_parts(max(1, len(self.kept)))])

    def refused_parts(self, each: int) -> Iterator[pl.DataFrame]:
        """Yield `refused` in frames of `each` rows, because a row as text takes several times its place in memory."""
        for start in range(0, len(self.kept), each):
            yield _refused(self.rows, self.masks, self.kept[start : start + each])


def check(
    frame: pl.DataFrame,
    original: pl.DataFrame,
    contract: Contract,
    sky: SkyMap,
    given: Input,
    *,
    first_row: int = 0,
    doubles: Doubles | None = None,
    spare: float = math.inf,
) -> Checked:
    """Return the good rows of an assigned batch, and the refused ones with the rules that refuse them.

    Parameters
    ----------
    frame, original
        The batch after `assign`, and as it came.
    given
        The input; its dataset type and data id are held against the rows.
    first_row
        The batch's place in the input.
    doubles
        What `find_doubles` told of the whole input; None if this batch is the whole input.
    spare
        How many more rows may be refused, those by design aside, before the whole input is. With more, only the first
        `EXAMPLES` are kept, and none once it is below zero; all are counted.

    Raises
    ------
    QualityError
        ``unbalanced``: the two frames do not have the same rows.
    """
    if frame.height != original.height:
        message = f"expected the {original.height} rows read, found {frame.height} after assignment"
        raise QualityError(message, kind="unbalanced", table=contract.table, uri=given.uri)
    if doubles is None:
        found = doubled(frame, original, contract)
        doubles = {rule: numbers + first_row for rule, numbers in found.items()}
    rows = Rows(frame, original, contract, sky, given, first_row, doubles)
    masks = _judged(rows)
    if not masks:
        return Checked(frame, {}, 0, 0, rows, masks, np.zeros(0, np.int64))
    refused = reduce(or_, masks.values())
    by_design = [masks[s.rule] for s in contract.set_aside if s.rule in masks]
    count = int(np.count_nonzero(refused))
    set_aside_count = int(np.count_nonzero(reduce(or_, by_design))) if by_design else 0
    kept = refused
    if count - set_aside_count > spare:
        kept = refused & (np.cumsum(refused) <= (EXAMPLES if spare >= 0 else 0))
    return Checked(
        good=frame.filter(pl.Series(~refused)),
        counts={name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
        rows_refused=count,
        set_aside=set_aside_count,
        rows=rows,
        masks=masks,
        kept=np.flatnonzero(kept),
    )


def find_doubles(batches: Iterable[pl.DataFrame], plan: ColumnPlan) -> Doubles:
    """Return what `doubled` tells of an input that comes in several batches.

    Parameters
    ----------
    batches
        All rows of the input with the columns `plan.read`.
    plan
        Made by `warehouse.ingest.conform.keys_only`.
    """
    parts: list[Conformed] = []
    row = 0
    for batch in batches:
        parts.append(conform(batch, plan, first_row=row))
        row += batch.height
    if not parts:
        return {}
    return doubled(pl.concat([p.frame for p in parts]), pl.concat([p.original for p in parts]), plan.contract)


def doubled(frame: pl.DataFrame, original: pl.DataFrame, contract: Contract) -> Doubles:
    """Return rule -> ascending row numbers of the rows that repeat the key of a row that stays.

    The first row of a key stays, or the best one where the contract says which is best. Rows without a key, and rows
    that the contract sets aside for what they are, neither stay nor repeat.
    """
    rows = seen_by_sql(frame, original, contract)
    live = rows.select(pl.all_horizontal(pl.col(*contract.key).is_not_null())).to_series().to_numpy().copy()
    for mask in set_aside(rows, contract).values():
        live &= ~mask
    rule, order = _best(rows, contract)
    keys = rows.select(contract.key).filter(live)
    if _distinct(keys):
        return {}
    ordered = rows.with_row_index("\0row").filter(live)
    if order:
        terms, descending = zip(*order, strict=True)
        by = [pl.sql_expr(term) for term in terms]
        ordered = ordered.sort(by, descending=list(descending), nulls_last=True, maintain_order=True)
    later = ordered.filter(~pl.struct(contract.key).is_first_distinct()).get_column("\0row")
    numbers = np.sort(later.to_numpy().astype(np.int64))
    return {rule: numbers}


def _best(rows: pl.DataFrame, contract: Contract) -> tuple[str, list[tuple[str, bool]]]:
    """Return which rule refuses rows that repeat a key, and the terms by which the best of a key's rows comes first.

    Terms over columns that the file does not have are passed over, and those that are left decide.
    """
    for s in contract.set_aside:
        terms = [order_of(term) for term in s.best]
        if order := [(sql, descends) for sql, descends in terms if roots(sql) <= set(rows.columns)]:
            return s.rule, order
    return DUPLICATE_KEY, []


def quarantine_rows(refused: pl.DataFrame, *, table: str, input_id: int, uri: str) -> pl.DataFrame:
    """Return refused rows as the quarantine keeps them: table, input_id, uri, row_number, rules, key, values."""
    origin = [
        pl.lit(table).alias("table"),
        pl.lit(input_id, dtype=pl.Int64).alias("input_id"),
        pl.lit(uri).alias("uri"),
    ]
    return refused.select(*origin, *REFUSED_SCHEMA)


def share_exceeded(rows: int, refused: int, limit: float) -> bool:
    """Return whether more than this share of an input's rows is refused; rows set aside by design do not count."""
    return refused > limit * rows


@dataclass(frozen=True, slots=True)
class InputCounts:
    """What became of an input's rows and columns; batches add up.

    Promises: `rows_read` is `rows_committed` plus `rows_quarantined`.

    Attributes
    ----------
    rows_set_aside
        How many of the quarantined rows the contract sets aside by design.
    rules
        Rule -> rows that it refused; a row counts under each of its rules.
    nulled, cast, cut
        Column -> values, as `warehouse.ingest.conform.Conformed` counts them.
    missing, extra
        Columns, as `warehouse.ingest.conform.ColumnPlan` names them.

    Raises
    ------
    QualityError
        ``unbalanced``: a row was lost or doubled.
    """

    rows_read: int = 0
    rows_committed: int = 0
    rows_quarantined: int = 0
    rows_set_aside: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    nulled: Mapping[str, int] = field(default_factory=dict)
    cast: Mapping[str, int] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rows_read != self.rows_committed + self.rows_quarantined:
            raise QualityError(
                f"expected the {self.rows_read} rows read to be committed or quarantined, "
                f"found {self.rows_committed} committed and {self.rows_quarantined} quarantined",
                kind="unbalanced",
            )

    @property
    def rows_refused(self) -> int:
        """The quarantined rows that count towards the share that fails an input."""
        return self.rows_quarantined - self.rows_set_aside

    def __add__(self, other: InputCounts) -> InputCounts:
        return InputCounts(
            rows_read=self.rows_read + other.rows_read,
            rows_committed=self.rows_committed + other.rows_committed,
            rows_quarantined=self.rows_quarantined + other.rows_quarantined,
            rows_set_aside=self.rows_set_aside + other.rows_set_aside,
            rules=_sum(self.rules, other.rules),
            nulled=_sum(self.nulled, other.nulled),
            cast=_sum(self.cast, other.cast),
            cut=_sum(self.cut, other.cut),
            missing=tuple(dict.fromkeys(self.missing + other.missing)),
            extra=tuple(dict.fromkeys(self.extra + other.extra)),
        )


def counts_of(plan: ColumnPlan, conformed: Conformed, checked: Checked) -> InputCounts:
    """Return what became of one batch."""
    return InputCounts(
        rows_read=conformed.original.height,
        rows_committed=checked.good.height,
        rows_quarantined=checked.rows_refused,
        rows_set_aside=checked.set_aside,
        rules=checked.counts,
        nulled=conformed.nulled,
        cast=conformed.cast,
        cut=conformed.cut,
        missing=plan.missing,
        extra=plan.extra,
    )


def _judged(rows: Rows) -> Mapping[str, Mask]:
    """Return rule -> the rows that it refuses, for all rules that have something to say."""
    masks = {name: mask for name, rule in RULES.items() if (mask := rule(rows)) is not None}
    masks |= set_aside(seen_by_sql(rows.frame, rows.original, rows.contract, rows.given), rows.contract)
    masks |= {rule: repeated(rows, rule) for rule in rows.doubles if rule != DUPLICATE_KEY}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _refused(rows: Rows, masks: Mapping[str, Mask], at: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Return what is kept of the refused rows at these places of the batch, as `REFUSED_SCHEMA` says."""
    names = [pl.when(pl.Series(mask[at])).then(pl.lit(name)) for name, mask in masks.items()]
    return pl.select(
        row_number=pl.Series(at + rows.first_row, dtype=pl.Int64),
        rules=pl.concat_list(names).list.drop_nulls(),
        key=as_key(rows.frame.select(rows.contract.key)[at]),
        values=as_json(rows.original[at]),
    )


def _distinct(keys: pl.DataFrame) -> bool:
    """Return whether no key occurs twice; an ascending key, as most files have it, needs no hash table."""
    if keys.width == 1 and (key := keys.to_series()).dtype.is_integer() and key.is_sorted():
        return not (key.diff() == 0).any()
    return keys.n_unique() == keys.height


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
