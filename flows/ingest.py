"""The flow `ingest`: files in, tables out - one table or a whole tree, tables in dependency order.

The same from the shell, from Python, from a schedule and from Prefect's UI. It says when; what is done stands in
`warehouse.ingest`, how often to try in `tasks`. Stores' credentials come from the worker's environment, never from
parameters, which Prefect keeps.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from flows import reporting
from flows.ingesting import Request, perform
from flows.watching import watcher
from tasks.runner import PrefectTasks

# More threads than any machine's memory has room for units; the runner keeps to the real number. Cast, because the
# decorator asks for a runner of any futures and this is one of its own kind.
UNITS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=256))


@flow(name="ingest", task_runner=UNITS, persist_result=False)
def ingest(  # noqa: PLR0917 - Prefect shows each as a field of its form
    warehouse: str,
    inputs: list[str],
    table: str | None = None,
    dataset_types: list[str] | None = None,
    release: str = "dp02",
    butler: str | None = None,
    collections: list[str] | None = None,
    where: str | None = None,
    hdu: str | None = None,
    remove_vanished: bool = False,
    max_quarantined: Annotated[float, Field(ge=0, le=1)] | None = None,
    memory: str | None = None,
    workers: Annotated[int, Field(ge=1)] | None = None,
) -> list[dict[str, Any]]:
    """Ingest FITS and Parquet files into a warehouse; every row is committed or quarantined, once.

    Gives a summary a table: inputs, rows read, committed and quarantined, version, files, bytes, seconds, notes.
    Fails at its end where inputs were refused; everything good is committed all the same.

    Args:
        warehouse: The warehouse, s3://bucket/prefix or a folder; created where it does not stand yet.
        inputs: Files, folders, globs or Butler-like trees; with a Butler, dataset types.
        table: Load everything into this table. Default: as the paths tell.
        dataset_types: Dataset types to load. Default: of each table the preferred one that is there.
        release: Release that a new warehouse follows: dp02, dp1 or dp2.
        butler: Take the inputs from this Butler repository.
        collections: The Butler's collections; of a data id that several hold, the first one's is taken.
        where: Butler query, such as skymap = 'DC2' AND tract = 4431.
        hdu: Number or name of the table in FITS files. Default: as before, else the first that fits.
        remove_vanished: Also remove the rows of inputs that are gone.
        max_quarantined: Share of an input's rows above which it is refused as a whole. Default: 0.01.
        memory: Memory budget of the run, such as 8GiB. Default: half of the worker's memory.
        workers: Units of work side by side. Default: the worker's processors.
    """  # Google's style, because Prefect shows what it finds in it beside the fields of its form
    request = Request(
        warehouse=warehouse,
        inputs=inputs,
        table=table,
        dataset_types=dataset_types or (),
        release=release,
        butler=butler,
        collections=collections or (),
        where=where,
        hdu=hdu,
        remove_vanished=remove_vanished,
        max_quarantined=max_quarantined,
        memory=memory,
        workers=workers,
    )
    on_event = watcher(get_run_logger())
    reports = perform(request, runner=PrefectTasks(), on_event=on_event, run_id=str(flow_run.id))
    create_markdown_artifact(reporting.markdown(reports), key="ingest", description=f"Ingest into {warehouse}")
    summaries = [reporting.summary(report) for report in reports]
    if refused := reporting.refused(summaries):
        raise refused  # a run that somebody should look at must not look well in Prefect's list
    return summaries
