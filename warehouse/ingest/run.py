"""Run: from a listing to a committed version and a report, for one table or for a whole tree.

What is here says in which order the steps go and what happens after a lost race. Where the steps run - in threads of
this process, or as tasks of Prefect - is the runner's choice; the functions are the same.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import TRACT, Contract
from warehouse.errors import ConflictError, ContractError, InputError, NotFoundError, StorageError, near_misses
from warehouse.ingest import commit as committing
from warehouse.ingest import gather as gathering
from warehouse.ingest import generated
from warehouse.ingest import plan as planning
from warehouse.ingest import stage as staging
from warehouse.ingest.job import Job, StageUnit, read_staged
from warehouse.ingest.plan import Plan
from warehouse.lake import delta, ledger
from warehouse.lake.events import Event, OnEvent, ignore, stoppable
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root, ensure_table
from warehouse.readers.reader import Input

T = TypeVar("T")

# Refusals that say nothing of an input's content, so that the next run looks again without being told.
UNREAD = {"vanished", "changed", "permission"}


class Runner(Protocol):
    """Runs units of work side by side and returns the URIs of their records, in the order given."""

    def stage(self, job: Job, units: Sequence[StageUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Run `warehouse.ingest.stage.stage` for each unit."""
        ...

    def gather(self, job: Job, unit_uris: Sequence[str], settings: Settings, on_event: OnEvent) -> list[str]:
        """Run `warehouse.ingest.gather.gather` for each unit."""
        ...


class Threads:
    """Runs units in threads of this process: Polars, pyarrow and numpy let go of the interpreter while they work."""

    def stage(self, job: Job, units: Sequence[StageUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Stage every unit, as many at once as the settings allow."""
        return self._each(lambda unit, watch: staging.stage(job, unit, settings, watch), units, settings, on_event)

    def gather(self, job: Job, unit_uris: Sequence[str], settings: Settings, on_event: OnEvent) -> list[str]:
        """Gather every unit, as many at once as the settings allow."""
        return self._each(lambda uri, watch: gathering.gather(job, uri, settings, watch), unit_uris, settings, on_event)

    @staticmethod
    def _each(
        work: Callable[[T, OnEvent], str], items: Sequence[T], settings: Settings, on_event: OnEvent
    ) -> list[str]:
        threads = ThreadPoolExecutor(max_workers=max(1, min(settings.workers, len(items))))
        with threads as pool, stoppable(on_event) as watch:
            futures = [pool.submit(work, item, watch) for item in items]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()  # the first failure ends it, whichever unit it is of
                return [future.result() for future in futures]
            except BaseException:  # an interrupt, too, must not wait for work that has not begun
                for future in futures:
                    future.cancel()
                raise


@dataclass(frozen=True)
class IngestReport:
    """What an ingest of one table did. `rows_read == rows_committed + rows_quarantined`.

    `inputs` counts the inputs read, `version` is the table's newest version afterwards. `error` is why nothing was
    ingested into it, where inputs and table contradict each other as a whole.
    """

    table: str
    version: int
    plan: Plan
    entries: tuple[Entry, ...] = ()
    files: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    run_id: str = ""
    error: ContractError | None = None

    @property
    def inputs(self) -> int:
        """Inputs that were read."""
        return sum(e.status != "removed" for e in self.entries)

    @property
    def rows_read(self) -> int:
        """Rows that the inputs held."""
        return sum(e.rows_read for e in self.entries)

    @property
    def rows_committed(self) -> int:
        """Rows that are in the table now."""
        return sum(e.rows_committed for e in self.entries)

    @property
    def rows_quarantined(self) -> int:
        """Rows set aside, single ones and those of refused inputs."""
        return sum(e.rows_quarantined for e in self.entries)

    @property
    def rules(self) -> dict[str, int]:
        """Refused rows by rule."""
        total: Counter[str] = Counter()
        for entry in self.entries:
            total.update(entry.rules)
        return dict(total)

    @property
    def refused(self) -> tuple[Entry, ...]:
        """Inputs that were refused as a whole."""
        return tuple(e for e in self.entries if e.status == "refused")

    @property
    def nothing_new(self) -> bool:
        """Whether there was nothing to do."""
        return self.error is None and self.plan.nothing_new

    @property
    def bytes_read(self) -> int:
        """Bytes of the inputs that were read."""
        return sum(e.size for e in self.entries if e.status != "removed")


def plan_table(
    root: Root,
    table: str,
    inputs: Sequence[Input],
    settings: Settings,
    *,
    roots: Sequence[str] = (),
    dataset_type: str | None = None,
    retry: Collection[int] = (),
    remove_vanished: bool = False,
    ordered: bool = False,
    base: delta.Snapshot | None = None,
) -> Plan:
    """Return what an ingest of `inputs` would do; the ledger is brought up to date first, nothing else is written.

    `base`: the table as it has just been opened.
    """
    contract = root.contract(table)
    places = _places(root, contract, settings)
    entries: list[Entry] = []
    version = -1
    if base is not None or delta.exists(root.table_uri(table), settings):
        version = ledger.catch_up(root.uri, table, settings, newest=None if base is None else base.version)
        entries = ledger.frame_entries(ledger.latest(root.uri, table, settings))
    again = {*retry, *(i for i, e in {e.input_id: e for e in entries}.items() if e.rules.keys() & UNREAD)}
    found = planning.plan(
        contract,
        inputs,
        entries,
        settings,
        roots=roots,
        dataset_type=dataset_type,
        retry=again,
        remove_vanished=remove_vanished,
        basis=f"share {settings.max_quarantined_share}, {places}",
        places=places,
        ordered=ordered,
    )
    if any(planned.why != "new" for planned in found.work):
        # What an earlier run staged for the same inputs and did not clear away may be in the table by now.
        found = replace(found, basis=f"{found.basis}, version {version}")
    return found


def _places(root: Root, contract: Contract, settings: Settings) -> str:
    """Return the state of the table through which rows get their places: how many commits our writers have made."""
    if contract.through is None:
        return ""
    uri = root.table_uri(contract.through.table)
    commits = delta.snapshot(uri, settings).committed if delta.exists(uri, settings) else -1
    return f"{contract.through.table} {commits}"


def ingest_table(
    root: Root,
    table: str,
    inputs: Sequence[Input],
    settings: Settings,
    *,
    roots: Sequence[str] = (),
    dataset_type: str | None = None,
    retry: Collection[int] = (),
    remove_vanished: bool = False,
    ordered: bool = False,
    run_id: str | None = None,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
) -> IngestReport:
    """Ingest inputs into one table: plan, stage, gather, commit, record; plan again after a lost race.

    `ordered`: the caller has chosen among runs, as a Butler's collections do.

    Raises
    ------
    ConflictError
        Other writers were first too many times.
    StorageError
        The store failed; what was staged is found again by the next run.
    QualityError
        Totals do not balance: a defect, nothing was committed.
    """
    started = time.monotonic()
    run_id = run_id or uuid.uuid4().hex
    runner = runner or Threads()
    storage.probe(root.uri, settings)
    for _ in range(settings.commit_attempts):
        base = ensure_table(root, table, settings)
        plan = plan_table(
            root,
            table,
            inputs,
            settings,
            roots=roots,
            dataset_type=dataset_type,
            retry=retry,
            remove_vanished=remove_vanished,
            ordered=ordered,
            base=base,
        )
        on_event(Event("planned", table, plan.told(), inputs=len(plan.work), bytes=plan.total_bytes))
        if plan.nothing_new:
            _cover(root, base, (), settings, run_id)
            return IngestReport(table, base.version, plan, run_id=run_id)
        places = _places(root, root.contract(table), settings)
        job = Job(root, table, plan.plan_id, run_id, settings.max_quarantined_share, places)
        try:
            done = _stage_and_commit(job, plan, base, settings, runner, on_event)
        except ConflictError:
            on_event(Event("conflict", table))
            continue
        except (StorageError, InputError):
            if delta.snapshot(base.uri, settings).version == base.version:
                raise
            continue  # a racing run that finished first has cleared away what both had staged
        ledger.catch_up(root.uri, table, settings, newest=done.version)
        _cover(root, base, done.entries, settings, run_id)
        on_event(Event("recorded", table))
        seconds = time.monotonic() - started
        return IngestReport(table, done.version, plan, done.entries, done.files, done.bytes, seconds, run_id)
    raise ConflictError(f"{settings.commit_attempts} attempts to commit were overtaken", table=table, uri=root.uri)


def _stage_and_commit(
    job: Job, plan: Plan, base: delta.Snapshot, settings: Settings, runner: Runner, on_event: OnEvent
) -> committing.Committed:
    units, limits = staging.units(job, plan, settings)
    uris = runner.stage(job, units, limits, on_event)
    records = [read_staged(uri, settings) for uri in uris]
    if any(record.pieces for record in records):
        on_event(Event("scattered", job.table))
        memory = staging.unit_memory(limits)
        gathers = gathering.plan_gather(job, records, memory, limits)
        records += [read_staged(uri, settings) for uri in runner.gather(job, gathers, limits, on_event)]
    on_event(Event("staged", job.table, files=sum(len(r.files) for r in records)))
    done = committing.commit(job, plan, base, records, settings)
    on_event(Event("committed", job.table, f"version {done.version}", files=done.files, bytes=done.bytes))
    _clear(job, settings)
    return done


def _cover(root: Root, base: delta.Snapshot, entries: Iterable[Entry], settings: Settings, run_id: str) -> None:
    """See to it that the generated tables know every tract that the table holds, also after a crash in between."""
    if TRACT in base.files.columns:
        tracts = set(base.files.get_column(TRACT).drop_nulls()).union(*(entry.tracts for entry in entries))
        generated.write_coadd_patches(root, tracts, settings, run_id=run_id)


def _clear(job: Job, settings: Settings) -> None:
    """Remove the plan's records and pieces; what cannot be removed now is removed by `maintain`."""
    try:
        storage.delete([entry.uri for entry in storage.listing(job.staging_uri, settings)], settings)
    except (StorageError, InputError):
        return


def ingest_inputs(
    root: Root,
    inputs: Sequence[Input],
    settings: Settings,
    *,
    roots: Sequence[str] = (),
    tables: Collection[str] | None = None,
    dataset_types: Collection[str] = (),
    run_id: str | None = None,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
    remove_vanished: bool = False,
) -> list[IngestReport]:
    """Ingest a tree's inputs, table by table in dependency order; return a report a table."""
    run_id = run_id or uuid.uuid4().hex
    return [
        attempted(
            table,
            partial(
                ingest_table,
                root,
                table,
                mine,
                settings,
                roots=roots,
                dataset_type=told,
                run_id=run_id,
                runner=runner,
                on_event=on_event,
                remove_vanished=remove_vanished,
            ),
        )
        for table, mine, told in by_table(
            root, inputs, settings, listed=roots, tables=tables, dataset_types=dataset_types
        )
    ]


def attempted(table: str, ingest: Callable[[], IngestReport]) -> IngestReport:
    """Return the report of one table of several; a contradiction between its inputs and it stops itself alone."""
    try:
        return ingest()
    except ContractError as error:
        return IngestReport(table, -1, Plan(table, "", None), error=error)


def by_table(
    root: Root,
    inputs: Collection[Input],
    settings: Settings,
    *,
    listed: Sequence[str] = (),
    tables: Collection[str] | None = None,
    dataset_types: Collection[str] = (),
) -> list[tuple[str, list[Input], str | None]]:
    """Return (table, its inputs, the dataset type that was told) in dependency order.

    A table that was fed from below the roots `listed` and of which nothing is left there is among them, without inputs:
    all of its inputs have vanished. Where nothing at all was found, that says nothing of any table.
    """
    known = root.contracts.dataset_types
    told: dict[str, str] = {}
    for name in dataset_types:
        if name not in known:
            hint = near_misses(name, known)
            raise NotFoundError(f"no dataset type {name!r}; {hint}", kind="dataset_type", uri=root.uri)
        told[known[name][0].table] = name
    groups: dict[str, list[Input]] = defaultdict(list)
    for item in inputs:
        if item.dataset_type is not None and item.dataset_type in known:
            groups[known[item.dataset_type][0].table].append(item)
    if inputs:
        groups |= {table: [] for table in ledger.fed_from(root.uri, listed, settings) - groups.keys()}
    wanted = set(groups) if tables is None else set(groups) & set(tables)
    if told:
        wanted &= set(told)
    return [(table, groups[table], told.get(table)) for table in root.contracts.order if table in wanted]


def retry_table(
    root: Root, table: str, settings: Settings, *, runner: Runner | None = None, on_event: OnEvent = ignore
) -> IngestReport:
    """Take up again every input of `table` that was refused, or of which rows were quarantined.

    An input that is no longer there keeps what it has: its rows, and its quarantined rows.
    """
    ledger.catch_up(root.uri, table, settings)
    entries = ledger.frame_entries(ledger.latest(root.uri, table, settings))
    by_design = {s.rule for s in root.contract(table).set_aside}
    again = [e for e in entries if e.status == "refused" or set(e.rules) - by_design]
    inputs = []
    for entry in again:
        try:
            size, stamp = storage.stamp(entry.uri, settings)
        except InputError:
            on_event(Event("vanished", table, entry.uri))
            continue
        inputs.append(Input(entry.uri, size, stamp, entry.dataset_type, entry.data_id, entry.run, entry.hdu))
    retry = {e.input_id for e in again}
    return ingest_table(root, table, inputs, settings, retry=retry, runner=runner, on_event=on_event)
