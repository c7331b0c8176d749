"""A tract of ObjectTruth: from the files that its rows come from to staged files, within a budget of memory.

The rows are paired on ids alone, for the tract as a whole; the wide columns are then gathered a group of patches at a
time. Belongs here: that, for one tract. Which tracts are made, and the commit, are `warehouse.truth.materialise`; the
rules of the join are `warehouse.truth.join`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract
from warehouse.contracts.derived import OBJECT_TRUTH
from warehouse.errors import ContractError, InputError, QualityError
from warehouse.lake import layout, staged
from warehouse.lake.delta import StagedFile
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.lake.units import input_id
from warehouse.truth import tables
from warehouse.truth.join import STATUS, Tally, assembled, paired, tally
from warehouse.truth.tables import Ints, Slice
from warehouse.truth.units import (
    MATCHES,
    OBJECTS,
    TRUTH,
    JoinUnit,
    Staged,
    find_staged,
    record_uri,
    write_staged,
)

# Rows of this many bytes are gathered at a time: enough to forget the calls' own cost, and memory stays small.
GROUP_BYTES = 32 << 20
# What a group needs beside its own rows: the frames they are gathered from, the sorted copy, the file being written.
COPIES = 4

_MATCH_IDS = ("id_truth_type", "match_candidate", "match_objectId")
_TRUTH_IDS = ("id_truth_type", TRACT, PATCH, "ra", "dec")
_OBJECT_IDS = ("objectId", TRACT, PATCH, "coord_ra", "coord_dec")
_ROWS = {MATCHES: "mt_row", TRUTH: "ts_row", OBJECTS: "obj_row"}
_NUMBER = "number"


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the three tables: all files that the tract's rows may come from, and the wide columns to take."""

    part: Slice
    contract: Contract
    columns: tuple[str, ...]


def join_unit(unit: JoinUnit, settings: Settings, on_event: OnEvent = ignore) -> str:
    """Make a tract's rows and stage them; return the URI of the record.

    What is wrong with the tract's rows becomes part of the record: the other tracts go on.
    """
    uri = record_uri(unit.table_uri, unit.key)
    done = find_staged(uri, unit.table_uri, settings)
    step = "resumed"
    if done is None:
        step = "staging"
        try:
            files, found = _joined(unit, settings)
            done = Staged(unit.tract, tuple(files), asdict(found))
        except (ContractError, QualityError, InputError) as error:
            done = Staged(unit.tract, error=str(error))
        write_staged(uri, done, settings)
    on_event(Event(step, OBJECT_TRUTH, f"tract {unit.tract}", inputs=1, rows=done.rows, bytes=unit.size))
    return uri


def _joined(unit: JoinUnit, settings: Settings) -> tuple[list[StagedFile], Tally]:
    sides = _sides(unit)
    pairs = _numbered_pairs(unit, sides, settings)
    budget = min(GROUP_BYTES, settings.memory // (2 * COPIES * settings.workers))
    groups = _patch_groups(pairs, max(1, budget // unit.contract.row_bytes))
    across = {table: _across(unit, groups, table, sides[table], settings) for table in (MATCHES, TRUTH)}

    def made(group: pl.DataFrame) -> tuple[list[StagedFile], Tally]:
        rows = _rows(unit, group, sides, across, settings)
        return list(_written(unit, rows, settings)), tally(rows)

    with ThreadPoolExecutor(max_workers=unit.threads) as pool:
        done = list(pool.map(made, groups))
    return [file for files, _ in done for file in files], sum((found for _, found in done), Tally.none())


def _sides(unit: JoinUnit) -> dict[str, _Side]:
    release = unit.root.contracts
    sides = {}
    for table, own in ((MATCHES, unit.matches), (TRUTH, unit.truth), (OBJECTS, unit.objects)):
        more = unit.elsewhere.get(table, Slice(own.uri, ()))
        contract = release.contract(table)
        wide = unit.choice.read() if table == OBJECTS else tuple(contract.by_name)
        columns = (*wide, TRACT, PATCH) if table == TRUTH else wide
        sides[table] = _Side(Slice(own.uri or more.uri, own.files + more.files), contract, columns)
    return sides


def _numbered_pairs(unit: JoinUnit, sides: Mapping[str, _Side], settings: Settings) -> pl.DataFrame:
    """Return `warehouse.truth.join.paired` of the tract, with row numbers that count over each side's files.

    They come in the order in which the rows will be written: so that it is these few columns that are sorted, and the
    wide ones are gathered once.
    """

    def ids(table: str, columns: Sequence[str]) -> pl.DataFrame:
        side = sides[table]
        return tables.read(side.part, side.contract, columns, settings).with_row_index(_NUMBER)

    matches = ids(MATCHES, _MATCH_IDS)
    truth = ids(TRUTH, _TRUTH_IDS)
    flags = (*unit.choice.object_true, *unit.choice.object_false)
    objects = ids(OBJECTS, (*_OBJECT_IDS, *flags))
    if unit.elsewhere:
        matches, truth, objects = _only_linked(unit, matches, truth, objects)
    pairs = paired(matches, truth, objects, unit.choice).filter(pl.col(TRACT) == unit.tract)
    at_truth, at_object = pairs[_ROWS[TRUTH]], pairs[_ROWS[OBJECTS]]
    places = pl.select(
        ra_deg=pl.coalesce(truth["ra"].gather(at_truth), objects["coord_ra"].gather(at_object)),
        dec_deg=pl.coalesce(truth["dec"].gather(at_truth), objects["coord_dec"].gather(at_object)),
    )
    numbers = [
        frame[_NUMBER].gather(pairs[_ROWS[table]]).cast(pl.Int64).alias(_ROWS[table])
        for table, frame in ((MATCHES, matches), (TRUTH, truth), (OBJECTS, objects))
    ]
    return pairs.with_columns(numbers)[_order(pl.concat([pairs, places], how="horizontal"), unit.contract.cluster_by)]


def _order(pairs: pl.DataFrame, cluster_by: Sequence[str]) -> Ints:
    """Return the rows' places by patch, status and the contract's other keys, as a stable sort by all of them has it.

    Of small integers numpy has a radix sort: a third of the time of one sort by four keys.
    """
    status, *keys = cluster_by
    by_place = pairs.select(pl.arg_sort_by(*keys, maintain_order=True)).to_series().to_numpy()
    kind = pairs.select(pl.col(PATCH).cast(pl.UInt16) * len(STATUS.categories) + pl.col(status).to_physical())
    return by_place[np.argsort(kind.to_series().to_numpy()[by_place], kind="stable")]


def _only_linked(
    unit: JoinUnit, matches: pl.DataFrame, truth: pl.DataFrame, objects: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the ids without the rows of other tracts that have nothing to do with this one."""
    mine = [pl.col(_NUMBER) < own.rows for own in (unit.matches, unit.truth, unit.objects)]
    own_truth = truth.filter(mine[1])["id_truth_type"].implode()
    own_objects = objects.filter(mine[2])["objectId"].implode()
    matches = matches.filter(
        mine[0] | pl.col("id_truth_type").is_in(own_truth) | pl.col("match_objectId").is_in(own_objects)
    )
    truth = truth.filter(mine[1] | pl.col("id_truth_type").is_in(matches["id_truth_type"].implode()))
    named = matches["match_objectId"].drop_nulls().implode()
    return matches, truth, objects.filter(mine[2] | pl.col("objectId").is_in(named))


def _rows(
    unit: JoinUnit,
    group: pl.DataFrame,
    sides: Mapping[str, _Side],
    across: Mapping[str, tuple[pl.DataFrame, Ints]],
    settings: Settings,
) -> pl.DataFrame:
    """Return the rows of ObjectTruth of a group of patches."""
    frames, rows = {}, []
    for table, side in sides.items():
        numbers = group[_ROWS[table]]
        far, numbers_far = across.get(table, (None, np.empty(0, np.int64)))
        known = numbers.drop_nulls().to_numpy()
        near = ~np.isin(known, numbers_far)
        frame, where = tables.at(side.part, side.contract, side.columns, known[near], settings)
        local = np.empty(len(known), np.int64)
        local[near] = where
        if far is not None and not near.all():
            local[~near] = frame.height + np.searchsorted(numbers_far, known[~near])
            frame = pl.concat([frame, far])
        frames[table] = frame
        rows.append(_aligned(numbers, local))
    return assembled(group.with_columns(rows), frames[MATCHES], frames[TRUTH], frames[OBJECTS], unit.choice)


def _aligned(numbers: pl.Series, local: Ints) -> pl.Series:
    """Return `local` in the places where `numbers` is not null."""
    values = np.zeros(numbers.len(), np.int64)
    known = numbers.is_not_null()
    values[known.to_numpy()] = local
    return pl.DataFrame({numbers.name: values, "known": known}).select(pl.when("known").then(numbers.name)).to_series()


def _patch_groups(pairs: pl.DataFrame, most_rows: int) -> list[pl.DataFrame]:
    """Return the rows of neighbouring patches together, at most about `most_rows` at a time, in order."""
    groups: list[pl.DataFrame] = []
    start, held = 0, 0
    for rows in pairs.group_by(PATCH, maintain_order=True).len()["len"]:
        if held and held + rows > most_rows:
            groups.append(pairs.slice(start, held))
            start, held = start + held, 0
        held += rows
    return [*groups, pairs.slice(start, held)] if held else groups


def _across(
    unit: JoinUnit, groups: Sequence[pl.DataFrame], table: str, side: _Side, settings: Settings
) -> tuple[pl.DataFrame, Ints]:
    """Return the rows of a table that lie in another group of patches than the row that they are needed for.

    They are few - a match across a patch's edge - and fetched once, so that no group reads its neighbours' files.
    """
    starts = side.part.starts
    numbers = [np.empty(0, np.int64)]
    for group in groups if len(groups) > 1 or unit.elsewhere else ():
        patches = set(group[PATCH].unique())
        own = np.array([file.tract == unit.tract and file.patch in patches for file in side.part.files], np.bool_)
        known = group[_ROWS[table]].drop_nulls().to_numpy()
        numbers.append(known[~own[np.searchsorted(starts, known, side="right") - 1]])
    wanted = np.unique(np.concatenate(numbers))
    frame, where = tables.at(side.part, side.contract, side.columns, wanted, settings)
    return frame.select(pl.all().gather(where)), wanted


def _written(unit: JoinUnit, rows: pl.DataFrame, settings: Settings) -> Iterator[StagedFile]:
    contract = unit.contract
    rows = rows.with_columns(pl.lit(input_id(OBJECT_TRUTH, f"tract={unit.tract}"), pl.Int64).alias(INPUT_ID))
    for partition, frame in layout.by_partition(rows, contract):
        yield staged.write_rows(frame, contract, unit.table_uri, settings, partition)
