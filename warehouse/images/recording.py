"""How images' rows get into a table: staged, committed in one version, recorded, exactly once.

One commit a table and run, with the marks of every commit (docs/design/002-commit-protocol.md): a race is lost and
won as in an ingest, and what the ledger says can be made again from the log. Which images, and what their rows are,
the callers know.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, TRACT, Contract
from warehouse.errors import ConflictError
from warehouse.images.rows import Found
from warehouse.lake import delta, layout, ledger, staged
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root, ensure_table
from warehouse.lake.units import input_id, run_order, without
from warehouse.readers.reader import Input

MakeRows = Callable[[Root, Contract, Iterable[Found], Iterable[int]], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be registered, what it would have been (its path, where that is not known), and why not."""

    input: Input
    unit: str
    why: str
    kind: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a commit did: the table's newest version, images by what became of them, files of earlier runs."""

    version: int
    new: int = 0
    changed: int = 0
    removed: int = 0
    left_aside: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a table's ledger says now: the entries whose rows stand in it, by input id, and the newest by file."""

    rows: Mapping[int, Entry]
    by_uri: Mapping[str, Entry]


def standing(root: Root, table: str, settings: Settings) -> Standing:
    """Return what the ledger says of a table, after it has been brought up to date."""
    if not delta.exists(root.table_uri(table), settings):
        return Standing({}, {})
    ledger.catch_up(root.uri, table, settings)
    rows: dict[int, Entry] = {}
    by_uri: dict[str, Entry] = {}
    for entry in ledger.frame_entries(ledger.latest(root.uri, table, settings)):  # oldest first
        by_uri[entry.uri] = entry
        if entry.status == "committed":
            rows[entry.input_id] = entry
        elif entry.status == "removed":
            rows.pop(entry.input_id, None)
    return Standing(rows, {uri: entry for uri, entry in by_uri.items() if entry.status != "removed"})


def record(
    root: Root,
    table: str,
    found: Sequence[Found],
    make: MakeRows,
    settings: Settings,
    *,
    run_id: str,
    refused: Sequence[Refused] = (),
    gone: Collection[str] = (),
) -> Recorded:
    """Commit the rows of `found` to a table, in the place of those that their units had, and record it.

    Parameters
    ----------
    make
        Makes the rows, one an image.
    gone
        Units whose rows go although nothing replaces them.

    Raises
    ------
    ConflictError
        Other writers were first too many times.
    """
    for _ in range(settings.commit_attempts):
        base = ensure_table(root, table, settings)
        attempt = _attempt(root, table, found, gone, standing(root, table, settings))
        if not (attempt.work or refused or attempt.replaced):
            return Recorded(base.version, left_aside=attempt.aside)
        try:
            version = _commit(root, base, attempt, make, refused, settings, run_id)
        except ConflictError:
            continue
        ledger.catch_up(root.uri, table, settings)
        changed = sum(identity in attempt.replaced for identity in attempt.work)
        removed = len(attempt.replaced) - changed
        return Recorded(version, len(attempt.work) - changed, changed, removed, attempt.aside)
    raise ConflictError(f"{settings.commit_attempts} attempts to commit were overtaken", table=table, uri=root.uri)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt on one snapshot: images by input id, the entries that they replace or that go, files set aside."""

    contract: Contract
    work: Mapping[int, Found]
    replaced: Mapping[int, Entry]
    aside: tuple[tuple[str, str], ...]


def _attempt(
    root: Root,
    table: str,
    found: Iterable[Found],
    gone: Collection[str],
    now: Standing,
) -> _Attempt:
    work: dict[int, Found] = {}
    aside: list[tuple[str, str]] = []
    for item in sorted(found, key=lambda f: (run_order(f.run), f.input.uri)):
        unit = item.unit
        identity = input_id(table, unit)
        loaded = now.rows.get(identity)
        if loaded is not None and run_order(item.run) < run_order(loaded.run):
            aside.append((item.input.uri, f"{unit} is registered from a later run, {loaded.run}"))
        elif loaded is None or (loaded.uri, loaded.size, loaded.stamp) != _content(item.input):
            if identity in work:
                aside.append((work[identity].input.uri, f"{unit} is delivered again by {item.input.uri}"))
            work[identity] = item
    leaving = {input_id(table, unit) for unit in gone} | work.keys()
    replaced = {identity: now.rows[identity] for identity in leaving if identity in now.rows}
    return _Attempt(root.contract(table), work, replaced, tuple(aside))


def _content(item: Input) -> tuple[str, int, str]:
    return item.uri, item.size, item.stamp


def _commit(
    root: Root,
    base: Snapshot,
    attempt: _Attempt,
    make: MakeRows,
    refused: Sequence[Refused],
    settings: Settings,
    run_id: str,
) -> int:
    """Stage and commit one attempt, and return the version that it made."""
    contract = attempt.contract
    rows = layout.clustered(make(root, contract, attempt.work.values(), attempt.work.keys()), contract)
    files = _stage(rows, base, contract, settings)
    gone = {identity: entry.tracts for identity, entry in attempt.replaced.items()}
    rewritten, obsolete = without(contract, base, gone, settings)
    tracts = dict(rows.select(INPUT_ID, TRACT).iter_rows()) if contract.partitioned else {}
    entries = [_entry(identity, item, contract, tracts.get(identity)) for identity, item in attempt.work.items()]
    entries += [e.removed() for identity, e in attempt.replaced.items() if identity not in attempt.work]
    entries += [_refusal(contract, item) for item in refused]
    commit_id = uuid.uuid4().hex
    metadata = ledger.write_record(base.uri, commit_id, entries, (), settings)
    add = [*files, *rewritten]
    return delta.commit(base, commit_id, settings, add=add, remove=obsolete, metadata={"run_id": run_id, **metadata})


def _stage(rows: pl.DataFrame, base: Snapshot, contract: Contract, settings: Settings) -> list[StagedFile]:
    """Stage a file a tract and patch, side by side: they are small, and on a store each waits for its answers."""

    def write(part: tuple[layout.Partition, pl.DataFrame]) -> StagedFile:
        partition, frame = part
        return staged.write_rows(frame, contract, base.uri, settings, partition)

    parts = [part for part in layout.by_partition(rows, contract) if part[1].height]
    remote = storage.scheme(base.uri) == "s3"
    with ThreadPoolExecutor(max(16, 4 * settings.workers) if remote else settings.workers) as pool:
        return list(pool.map(write, parts))


def _entry(identity: int, item: Found, contract: Contract, tract: int | None) -> Entry:
    return Entry(
        identity,
        item.unit,
        item.input.uri,
        item.input.size,
        item.input.stamp,
        "committed",
        dataset_type=item.dataset_type,
        data_id=item.data_id,
        run=item.run,
        rows_read=1,
        rows_committed=1,
        tracts=[] if tract is None else [tract],
        contract=contract.digest,
    )


def _refusal(contract: Contract, refused: Refused) -> Entry:
    item = refused.input
    return Entry(
        input_id(contract.table, refused.unit),
        refused.unit,
        item.uri,
        item.size,
        item.stamp,
        "refused",
        dataset_type=item.dataset_type,
        data_id=item.data_id,
        run=item.run,
        rules={refused.kind: 1},
        error=refused.why,
        contract=contract.digest,
    )
