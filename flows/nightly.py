"""The flow `nightly`: ingest what the night has brought, join it with the truth, audit the tables, and pin them.

A pin is what readers can rest on: one version of every table, audited together. A night that brought nothing makes no
pin, unless the tables as they stand have none: a run before it ended too early, or its audit did not hold and does now.
A night whose audit does not hold fails without a pin, and the pins before it stay what they are. So does one that
leaves a tract of ObjectTruth behind: no pin of a night holds an ObjectTruth that is not the join of its other tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from flows import reporting, truthing
from flows.ingest import UNITS
from flows.ingesting import Request, perform, settings
from flows.watching import watcher
from tasks.runner import PrefectTasks
from tasks.truth import PrefectTracts
from warehouse import Warehouse
from warehouse.errors import ConflictError, QualityError
from warehouse.lake import pins
from warehouse.lake.audit import Finding
from warehouse.lake.events import OnEvent
from warehouse.truth import materialise as materialising
from warehouse.wording import counted

_AUDITS = 3


@flow(name="nightly", task_runner=UNITS, persist_result=False)
def nightly(
    warehouse: str,
    inputs: list[str],
    release: str = "dp02",
    hdu: str | None = None,
    materialise: bool = True,
    pin: bool = True,
    memory: str | None = None,
    workers: Annotated[int, Field(ge=1)] | None = None,
) -> dict[str, Any]:
    """Ingest what is new, bring ObjectTruth up to date, audit the tables, and pin them where the audit holds.

    Gives the pin's name, which is the moment (null where nothing was pinned), a summary a table, and ObjectTruth's.
    Fails where the audit does not hold or ObjectTruth stays behind, and, after pinning, where inputs were refused.

    Args:
        warehouse: The warehouse, s3://bucket/prefix or a folder; created where it does not stand yet.
        inputs: Files, folders, globs or Butler-like trees to look through.
        release: Release that a new warehouse follows: dp02, dp1 or dp2.
        hdu: Number or name of the table in FITS files. Default: as before, else the first that fits.
        materialise: Bring ObjectTruth up to date where TruthSummary, MatchesTruth and Object are loaded.
        pin: Pin the tables after an audit that holds.
        memory: Memory budget of the run, such as 8GiB. Default: half of the worker's memory.
        workers: Units of work side by side. Default: the worker's processors.
    """  # Google's style, because Prefect shows what it finds in it beside the fields of its form
    log = get_run_logger()
    request = Request(warehouse=warehouse, inputs=inputs, release=release, hdu=hdu, memory=memory, workers=workers)
    on_event = watcher(log)
    reports = perform(request, runner=PrefectTasks(), on_event=on_event, run_id=str(flow_run.id))
    opened = Warehouse.open(warehouse, settings=settings(memory=memory, workers=workers))
    joined = _joined(opened, request, on_event) if materialise else None
    told = [reporting.markdown(reports), *([] if joined is None else ["", *truthing.lines(joined)])]
    # Before the audit: on the night that it does not hold this is what somebody wants to read.
    create_markdown_artifact("\n".join(told), key="nightly", description=f"Nightly into {warehouse}")
    pinned = None
    brought = not all(report.nothing_new for report in reports) or (joined is not None and not joined["nothing_new"])
    if brought or (pin and not pins.holds_present(opened.root, opened.settings)):
        versions = audited(opened)
        refuse_behind(joined)
        if pin:
            name = f"nightly-{datetime.now(tz=UTC):%Y-%m-%dT%H%M%S}"
            pinned = pins.pin(opened.root, name, opened.settings, versions=versions).name
            log.info("pinned as %s", pinned)
    summaries = [reporting.summary(report) for report in reports]
    if refused := reporting.refused(summaries):
        raise refused
    return {"pin": pinned, "tables": summaries, "object_truth": joined}


def _joined(opened: Warehouse, request: Request, on_event: OnEvent) -> dict[str, Any] | None:
    """Bring ObjectTruth up to date and return a summary, None where not all tables are there that it is made of."""
    if not materialising.inputs_are_there(opened.root, opened.settings):
        return None
    return truthing.materialise(
        request.warehouse,
        memory=request.memory,
        workers=request.workers,
        runner=PrefectTracts(),
        on_event=on_event,
    )


def audited(opened: Warehouse) -> dict[str, int]:
    """Audit the tables, and return the versions that it looked at: where others wrote meanwhile, it looks again.

    Raises
    ------
    QualityError
        The audit does not hold.
    ConflictError
        Others wrote during every audit.
    """
    for _ in range(_AUDITS):
        versions = pins.present(opened.root, opened.settings)
        wrong: list[Finding] = [finding for finding in opened.audit() if not finding.holds]
        # Of tables in motion neither what holds nor what is wrong would be about one version of each.
        if pins.present(opened.root, opened.settings) != versions:
            continue
        if wrong:
            first = wrong[0]
            message = (
                f"{counted(len(wrong), 'check')} of the audit failed, nothing was pinned; the first: {first.check}"
            )
            raise QualityError(f"{message}: {first.wrong:,} of {first.looked_at:,}, {first.example}", table=first.table)
        return versions
    message = f"others wrote during each of {_AUDITS} audits, nothing was pinned; run it again when they are done"
    raise ConflictError(message, kind="pin", uri=opened.uri)


def refuse_behind(joined: Mapping[str, Any] | None) -> None:
    """Refuse to pin an ObjectTruth of which a tract could not be made again (QualityError)."""
    if joined is not None and (error := truthing.behind(joined, "nothing was pinned")):
        raise error
