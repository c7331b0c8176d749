"""One request to ingest, and the ways to answer it: only plan it, run it here, run it as a flow.

The flow (`flows.ingest`) and the command share `perform`; they differ in the runner that they hand it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from flows import display, reporting
from flows.serving import Ready, api
from flows.watching import watched, watched_by
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.ingest import run as running
from warehouse.ingest.plan import Plan
from warehouse.ingest.run import IngestReport, Runner
from warehouse.lake import root as roots
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.readers import Input, Listing, refuse_absent
from warehouse.wording import counted


@dataclass(frozen=True)
class Request:
    """What was asked for: plain values only, as Prefect keeps them."""

    warehouse: str
    inputs: Sequence[str] = ()
    table: str | None = None
    dataset_types: Sequence[str] = ()
    release: str = "dp02"
    butler: str | None = None
    collections: Sequence[str] = ()
    where: str | None = None
    hdu: str | None = None
    remove_vanished: bool = False
    max_quarantined: float | None = None
    memory: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.butler is None and not self.inputs:
            raise QueryError("say what to ingest: files, folders or trees, or --butler with dataset types")
        if self.butler is None and (self.collections or self.where):
            raise QueryError("--collections and --where are questions to a Butler: give --butler as well")
        if self.butler is not None and not self.collections:
            raise QueryError("a Butler needs the collections to look in: --collections")
        if self.table is not None and len(self.dataset_types) > 1:
            raise QueryError(f"one dataset type feeds {self.table}, not {', '.join(self.dataset_types)}")


def settings(**told: Any) -> Settings:  # noqa: ANN401 - settings by name
    """Return the environment's settings with what was told; None means not told.

    Raises
    ------
    QueryError
        A value that is none, told or in the environment.
    """
    try:
        return Settings(**{name: value for name, value in told.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e.get('ctx', {}).get('error', e['msg'])}, found {e['input']!r}"
            for e in error.errors()
        )
        raise QueryError(f"a setting cannot be understood: {wrong}", kind="settings") from error


def listing(opened: Warehouse, request: Request) -> Listing:
    """Return what the request's inputs are."""
    if request.butler is not None:
        wanted = (*request.inputs, *request.dataset_types)
        found = opened.list_butler(request.butler, request.collections, wanted, where=request.where)
        return found.of_hdu(request.hdu)
    told = request.dataset_types[0] if request.table and request.dataset_types else None
    return opened.list_inputs(request.table, request.inputs, dataset_type=told, hdu=request.hdu)


def _work(opened: Warehouse, request: Request, found: Listing) -> list[tuple[str, list[Input], str | None]]:
    """Return (table, inputs, dataset type told), in dependency order."""
    if request.table is not None:
        return [(request.table, list(found.inputs), next(iter(request.dataset_types), None))]
    work = running.by_table(
        opened.root, found.inputs, opened.settings, listed=found.roots, dataset_types=request.dataset_types
    )
    if not work:
        present = ", ".join(sorted({str(i.dataset_type) for i in found.inputs}))
        asked = ", ".join(request.dataset_types) or "any dataset type of the release"
        message = f"nothing to ingest: there are inputs of {present}, none of {asked}"
        raise NotFoundError(message, kind="inputs", uri=", ".join(request.inputs))
    return work


def _opened(request: Request) -> Warehouse:
    """Return the warehouse as it stands, or the empty one that it would be."""
    told = settings(memory=request.memory, workers=request.workers, max_quarantined_share=request.max_quarantined)
    try:
        return Warehouse.open(request.warehouse, settings=told)
    except NotFoundError:
        return Warehouse(roots.planned(request.warehouse, request.release), told)


def look(request: Request) -> None:
    """Raise at once what is wrong with a request as far as it can be told without a listing."""
    opened = _opened(request)
    if request.table is not None:
        opened.root.contract(request.table)
    if request.butler is None:
        refuse_absent(request.inputs, opened.settings)


def plans(request: Request) -> tuple[list[Plan], Sequence[tuple[str, str]]]:
    """Return what an ingest would do, table by table, and the files that are no inputs; nothing is written.

    A warehouse that does not stand yet is planned for as the empty one that it would be.
    """
    opened = _opened(request)
    found = listing(opened, request)
    listed = [
        running.plan_table(
            opened.root,
            table,
            inputs,
            opened.settings,
            roots=found.roots,
            dataset_type=told,
            remove_vanished=request.remove_vanished,
            ordered=request.butler is not None,
        )
        for table, inputs, told in _work(opened, request, found)
    ]
    return listed, found.unrecognised


def perform(
    request: Request, *, runner: Runner | None = None, on_event: OnEvent = ignore, run_id: str | None = None
) -> list[IngestReport]:
    """Ingest table by table; return a report a table. A warehouse that does not stand yet is created."""
    opened = _opened(request)
    found = listing(opened, request)
    work = _work(opened, request, found)
    # Only now: a mistyped input leaves no empty warehouse behind.
    opened = Warehouse.create(request.warehouse, release=request.release, settings=opened.settings)
    if found.unrecognised:
        uri, why = found.unrecognised[0]
        on_event(Event("left aside", "", f"{counted(len(found.unrecognised), 'file')}, such as {uri}: {why}"))
    run_id = run_id or uuid.uuid4().hex
    reports = []
    for table, inputs, dataset_type in work:
        ingest = partial(
            running.ingest_table,
            opened.root,
            table,
            inputs,
            opened.settings,
            roots=found.roots,
            dataset_type=dataset_type,
            remove_vanished=request.remove_vanished,
            ordered=request.butler is not None,
            run_id=run_id,
            runner=runner,
            on_event=on_event,
        )
        reports.append(ingest() if len(work) == 1 else running.attempted(table, ingest))
    return reports


def run(request: Request, *, direct: bool = False, quiet: bool = False) -> list[dict[str, Any]]:
    """Run the request, as a flow or in this process, with progress on the terminal; return a summary a table."""
    if direct:
        with watched(quiet=quiet) as on_event:
            return [reporting.summary(report) for report in perform(request, on_event=on_event)]
    look(request)  # before a server is started for it
    with api((lambda _: None) if quiet else display.hint) as ready:
        return as_flow(request, ready, quiet=quiet)


def as_flow(request: Request, ready: Ready, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Run the request as a flow, once the server is ready; return a summary a table, refused inputs among them."""
    from flows.ingest import ingest

    ready()
    with watched(quiet=quiet) as on_event, watched_by(on_event):
        try:
            summaries: list[dict[str, Any]] = ingest(**asdict(request))
        except reporting.RefusedError as error:
            return list(error.summaries)
    return summaries


def retry(opened: Warehouse, table: str | None, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Take up again what is set aside of a table, or of all; return a summary a table."""
    held = set(opened.quarantine_counts().get_column("table"))
    tables = [table] if table else [t for t in opened.root.contracts.order if t in held]
    with watched(quiet=quiet) as on_event:
        return [reporting.summary(opened.retry(name, on_event=on_event)) for name in tables]
