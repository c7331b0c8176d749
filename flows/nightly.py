"""The flow `nightly`: ingest what the night has brought, audit the tables, and pin them where the audit holds.

A pin is what readers can rest on: one version of every table, audited together. A night that brought nothing makes no
pin, unless the tables as they stand have none: a run before it ended too early, or its audit did not hold and does now.
A night whose audit does not hold fails without a pin, and the pins before it stay what they are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from flows import reporting
from flows.ingest import UNITS
from flows.ingesting import Request, perform, settings
from flows.watching import watcher
from tasks.runner import PrefectTasks
from warehouse import Warehouse
from warehouse.errors import ConflictError, QualityError
from warehouse.lake import pins
from warehouse.lake.audit import Finding
from warehouse.wording import counted

_AUDITS = 3


@flow(name="nightly", task_runner=UNITS, persist_result=False)
def nightly(
    warehouse: str,
    inputs: list[str],
    release: str = "dp02",
    hdu: str | None = None,
    pin: bool = True,
    memory: str | None = None,
    workers: Annotated[int, Field(ge=1)] | None = None,
) -> dict[str, Any]:
    """Ingest what is new, audit the tables, and pin them under the moment's name where the audit holds.

    Gives the pin's name (null where nothing was pinned) and a summary a table.
    Fails where the audit does not hold, and, after pinning, where inputs were refused.

    Args:
        warehouse: The warehouse, s3://bucket/prefix or a folder; created where it does not stand yet.
        inputs: Files, folders, globs or Butler-like trees to look through.
        release: Release that a new warehouse follows: dp02, dp1 or dp2.
        hdu: Number or name of the table in FITS files. Default: as before, else the first that fits.
        pin: Pin the tables after an audit that holds.
        memory: Memory budget of the run, such as 8GiB. Default: half of the worker's memory.
        workers: Units of work side by side. Default: the worker's processors.
    """  # Google's style, because Prefect shows what it finds in it beside the fields of its form
    log = get_run_logger()
    request = Request(warehouse=warehouse, inputs=inputs, release=release, hdu=hdu, memory=memory, workers=workers)
    reports = perform(request, runner=PrefectTasks(), on_event=watcher(log), run_id=str(flow_run.id))
    opened = Warehouse.open(warehouse, settings=settings(memory=memory, workers=workers))
    pinned = None
    brought = not all(report.nothing_new for report in reports)
    if brought or (pin and not pins.holds_present(opened.root, opened.settings)):
        versions = audited(opened)
        if pin:
            name = f"nightly-{datetime.now(tz=UTC):%Y-%m-%dT%H%M%S}"
            pinned = pins.pin(opened.root, name, opened.settings, versions=versions).name
            log.info("pinned as %s", pinned)
    create_markdown_artifact(reporting.markdown(reports), key="nightly", description=f"Nightly into {warehouse}")
    summaries = [reporting.summary(report) for report in reports]
    if refused := reporting.refused(summaries):
        raise refused
    return {"pin": pinned, "tables": summaries}


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
