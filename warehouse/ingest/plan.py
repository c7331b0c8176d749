"""Plan: what a listing means for a table - new, changed, unchanged, vanished, left aside - and the units of work.

The same rows lie in a tree several times: by patch and by tract, by detector and by visit, in an earlier and in a later
run. Here is decided which of them count; doubled rows are the worst that can happen, so where it cannot be
decided, it is refused. Nothing is read here but the ledger and, where a local file's time has changed, its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import ContractError
from warehouse.lake.ledger import Entry
from warehouse.lake.units import input_id, run_order
from warehouse.readers.reader import Input

Why = Literal["new", "changed", "retry"]

_NUMBERS = ("tract", "patch", "visit", "detector")


@dataclass(frozen=True, slots=True)
class Planned:
    """An input that will be read: its unit (what it replaces), the unit's id, why, and which tracts hold it now."""

    input: Input
    input_id: int
    unit: str
    why: Why
    tracts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftAside:
    """A file that will not be read, and why not."""

    uri: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What will be done to one table. `work` is sorted so that neighbours on the sky are neighbours in it."""

    table: str
    contract_digest: str
    dataset_type: str | None
    work: tuple[Planned, ...] = ()
    unchanged: tuple[Entry, ...] = ()
    vanished: tuple[Entry, ...] = ()
    left_aside: tuple[LeftAside, ...] = ()
    remove_vanished: bool = False
    basis: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def plan_id(self) -> str:
        """A digest of what is to be staged: the same work, planned again after a crash, finds what was staged."""
        text = [self.table, self.contract_digest, self.basis]
        text += [f"{p.input_id} {p.why} {p.input.uri} {p.input.stamp} {p.input.hdu or ''}" for p in self.work]
        return hashlib.blake2b("\n".join(text).encode(), digest_size=12).hexdigest()

    @property
    def removes(self) -> tuple[Entry, ...]:
        """Inputs whose rows go although nothing replaces them."""
        return self.vanished if self.remove_vanished else ()

    @property
    def nothing_new(self) -> bool:
        """Whether there is nothing to do."""
        return not self.work and not self.removes

    def told(self) -> str:
        """Return the plan in one line."""
        aside = {"unchanged": len(self.unchanged), "vanished": len(self.vanished), "left aside": len(self.left_aside)}
        return ", ".join(f"{n:,} {name}" for name, n in {**self.counts, **aside}.items() if n) or "nothing"

    @property
    def total_bytes(self) -> int:
        """Bytes of the inputs to read."""
        return sum(p.input.size for p in self.work)


def unit_of(contract: Contract, item: Input) -> str:
    """Return what a re-delivery of `item` replaces: dataset type and data id where both are known, else the path."""
    if item.dataset_type is not None:
        dimensions = contract.dataset_type(item.dataset_type).dimensions
        if all(name in item.data_id for name in dimensions):
            return " ".join([item.dataset_type, *(f"{name}={item.data_id[name]}" for name in dimensions)])
    return item.uri


def plan(
    contract: Contract,
    inputs: Sequence[Input],
    ledger: Iterable[Entry],
    settings: Settings,
    *,
    roots: Sequence[str] = (),
    dataset_type: str | None = None,
    retry: Collection[int] = (),
    remove_vanished: bool = False,
    basis: str = "",
    places: str = "",
    ordered: bool = False,
) -> Plan:
    """Return what `inputs` mean for a table whose entries are `ledger`, as `warehouse.lake.ledger.latest` gives them.

    Parameters
    ----------
    roots
        What was listed: only inputs below it can have vanished.
    dataset_type
        The one that shall feed the table; without it the table's present one, else the contract's first.
    retry
        Ids of inputs to take up again although they have not changed.
    basis
        What else the staged rows depend on; work that was staged on another basis is not taken over.
    places
        The state of the table through which rows get their places: inputs that were placed by another are taken up.
    ordered
        The caller has chosen among runs, as a Butler's collections do: an earlier run may replace a later one.

    Raises
    ------
    ContractError
        Another dataset type feeds the table already, or two units share an id.
    """
    known, standing = _newest(ledger)
    chosen = _choose_dataset_type(contract, inputs, standing.values(), dataset_type)
    aside = _of_others(contract, inputs, chosen)
    units = _latest_runs(contract, [i for i in inputs if i.dataset_type == chosen], aside)
    work: list[Planned] = []
    unchanged: list[Entry] = []
    plain = [e for e in standing.values() if e.unit == e.uri]
    for unit, item in units.items():
        identity = input_id(contract.table, unit)
        last, loaded = known.get(identity), standing.get(identity)
        item = _as_before(item, loaded)  # noqa: PLW2901 - the same input, better known
        if last is not None and last.unit != unit:
            raise ContractError(f"{unit!r} and {last.unit!r} share the id {identity}", table=contract.table)
        if last is None and unit == item.uri and (twin := _twin(item, plain, settings)):
            aside.append(LeftAside(item.uri, f"its content is loaded from {twin}"))
        elif loaded is not None and not ordered and run_order(item.run) < run_order(loaded.run):
            aside.append(LeftAside(item.uri, f"{unit} is loaded from a later run, {loaded.run}"))
        elif last is not None and identity not in retry and _unchanged(item, last, places, settings):
            unchanged.append(last)
        else:
            why: Why = "new" if last is None else _why(item, last, settings)
            work.append(Planned(item, identity, unit, why, tuple(loaded.tracts) if loaded else ()))
    seen = {input_id(contract.table, unit) for unit in units}
    there = {item.uri for item in inputs}
    gone = (e for e in known.values() if not (e.input_id in seen or e.uri in there) and storage.is_below(e.uri, roots))
    return Plan(
        table=contract.table,
        contract_digest=contract.digest,
        dataset_type=chosen,
        work=tuple(sorted(work, key=_sky_order)),
        unchanged=tuple(unchanged),
        vanished=tuple(standing.get(e.input_id, e) for e in gone),
        left_aside=tuple(aside),
        remove_vanished=remove_vanished,
        basis=basis,
        counts={why: sum(p.why == why for p in work) for why in ("new", "changed", "retry")},
    )


def _of_others(contract: Contract, inputs: Iterable[Input], chosen: str | None) -> list[LeftAside]:
    """Return the inputs that are of another dataset type than the one that feeds the table."""
    fed = f"{contract.table} is fed by {chosen or 'plain files'}"
    return [LeftAside(i.uri, f"{fed}, this is {i.dataset_type or 'plain'}") for i in inputs if i.dataset_type != chosen]


def _newest(ledger: Iterable[Entry]) -> tuple[dict[int, Entry], dict[int, Entry]]:
    """Return by id the newest entries, and those whose rows stand: a refused re-delivery leaves those before it."""
    known: dict[int, Entry] = {}
    standing: dict[int, Entry] = {}
    for entry in ledger:
        known[entry.input_id] = entry
        if entry.status != "refused":
            standing[entry.input_id] = entry
    return _present(known), _present(standing)


def _present(entries: Mapping[int, Entry]) -> dict[int, Entry]:
    return {identity: entry for identity, entry in entries.items() if entry.status != "removed"}


def _choose_dataset_type(
    contract: Contract, inputs: Sequence[Input], standing: Iterable[Entry], told: str | None
) -> str | None:
    """Return the one dataset type that feeds the table, or None for plain files."""
    if told is not None:
        contract.dataset_type(told)  # an unknown one is named with its near misses
    feeding = {entry.dataset_type for entry in standing}
    present = {item.dataset_type for item in inputs}
    preferred = [d.name for d in contract.dataset_types if d.name in present]
    wanted = told or (preferred[0] if preferred else None)
    if not feeding or wanted in feeding or not inputs:
        return wanted if inputs or told else next(iter(feeding), None)
    if told is None and feeding & present:
        return next(iter(feeding & present))
    message = (
        f"the table is fed by {_spelled(feeding)}, these inputs are {_spelled({wanted})}: the same rows would stand "
        "in it twice; give the dataset type that feeds it, or load into another warehouse"
    )
    raise ContractError(message, kind="overlap", table=contract.table)


def _spelled(dataset_types: Iterable[str | None]) -> str:
    return ", ".join(sorted(name or "plain files" for name in dataset_types))


def _latest_runs(contract: Contract, inputs: Sequence[Input], aside: list[LeftAside]) -> dict[str, Input]:
    """Return one input a unit, the latest run's, and add the others to `aside`."""
    units: dict[str, Input] = {}
    for item in sorted(inputs, key=lambda i: (run_order(i.run), i.uri)):
        unit = unit_of(contract, item)
        earlier = units.get(unit)
        if earlier is not None:
            same_run = run_order(earlier.run) == run_order(item.run)
            why = "stands twice in one run" if same_run else f"is delivered again by a later run, {item.run}"
            aside.append(LeftAside(earlier.uri, f"{unit} {why}"))
        units[unit] = item
    return units


def _unchanged(item: Input, last: Entry, places: str, settings: Settings) -> bool:
    same = (last.places or "") == places and last.hdu == item.hdu
    return same and _same_content(item, last, settings)


def _as_before(item: Input, loaded: Entry | None) -> Input:
    """Return an input of which no HDU is asked for as one of the HDU that its rows in the table came from."""
    return replace(item, hdu=loaded.hdu) if loaded is not None and item.hdu is None else item


def _why(item: Input, last: Entry, settings: Settings) -> Why:
    return "retry" if _same_content(item, last, settings) else "changed"


def _twin(item: Input, plain: Iterable[Entry], settings: Settings) -> str | None:
    """Return the plain file that is loaded with the content of `item`, which has no data id to tell them by."""
    return next((e.uri for e in plain if e.uri != item.uri and _same_content(item, e, settings)), None)


def _same_content(item: Input, entry: Entry, settings: Settings) -> bool:
    """Compare by what identifies content: the ETag on S3; on a local disk time and size, then the digest."""
    if item.size != entry.size:
        return False
    if storage.scheme(item.uri) == "s3":
        return item.stamp == entry.stamp
    if item.stamp == entry.stamp and item.uri == entry.uri:
        return True
    return entry.digest is not None and storage.digest(item.uri, settings) == entry.digest


def _sky_order(planned: Planned) -> tuple[object, ...]:
    data_id = planned.input.data_id
    return (*(int(data_id.get(name, -1)) for name in _NUMBERS), planned.input.uri)
