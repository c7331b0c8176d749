"""The flows of truth and measurement: `match_truth`, `materialise_matches`, `photoz`, `report`.

They say when; what is done stands in `warehouse.truth`, how often to try in `tasks`. Stores' credentials come from the
worker's environment, never from parameters, which Prefect keeps.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import truthing
from flows.ingesting import settings
from flows.watching import watcher
from tasks import truth as tasks
from warehouse.wording import counted

# More threads than any machine's memory has room for tracts; the runner keeps to the real number. Untyped, because
# Prefect's own types of a flow and of its runners do not agree.
_TRACTS: Any = ThreadPoolTaskRunner(max_workers=256)
_ONE: Any = ThreadPoolTaskRunner(max_workers=1)

Uri = Annotated[str, Field(description="URI of the warehouse: s3://bucket/prefix or a local path")]
Memory = Annotated[str | None, Field(description="Memory budget of this run, such as 8GiB")]
Workers = Annotated[int | None, Field(description="Tracts side by side; default: the processors")]


@flow(name="match_truth", task_runner=_TRACTS, persist_result=False)
def match_truth(
    warehouse: Uri,
    how: Annotated[
        dict[str, Any] | None, Field(description="Settings of the match to change; those not named stay as before")
    ] = None,
    replace_files: Annotated[bool, Field(description="Replace matches that files brought, all of them")] = False,
    memory: Memory = None,
    workers: Workers = None,
) -> dict[str, Any]:
    """Compute MatchesTruth, tract by tract, where truth or objects have changed; return a summary.

    Fails at its end where a tract could not be matched; all others are committed.
    """
    summary = truthing.match(
        warehouse,
        how=how,
        replace_files=replace_files,
        memory=memory,
        workers=workers,
        runner=tasks.PrefectTracts(),
        on_event=watcher(get_run_logger()),
    )
    return _told(summary, "match-truth", warehouse)


@flow(name="materialise_matches", task_runner=_TRACTS, persist_result=False)
def materialise_matches(
    warehouse: Uri,
    bands: Annotated[list[str] | None, Field(description="Bands to keep; default: as before")] = None,
    columns: Annotated[list[str] | None, Field(description="More columns of Object to keep")] = None,
    memory: Memory = None,
    workers: Workers = None,
) -> dict[str, Any]:
    """Bring ObjectTruth up to date where its inputs have changed, in one commit; return a summary.

    Fails at its end where a tract could not be made; all others are committed.
    """
    summary = truthing.materialise(
        warehouse,
        bands=bands,
        columns=columns,
        memory=memory,
        workers=workers,
        runner=tasks.PrefectTracts(),
        on_event=watcher(get_run_logger()),
    )
    return _told(summary, "materialise-matches", warehouse)


def _told(summary: dict[str, Any], key: str, warehouse: str) -> dict[str, Any]:
    """Return a summary that has been made an artifact of the run; raise where tracts stayed behind."""
    create_markdown_artifact("\n".join(truthing.lines(summary)), key=key, description=f"In {warehouse}")
    if behind := truthing.behind(summary):
        raise behind  # a run that somebody should look at must not look well in Prefect's list
    return summary


@flow(name="photoz", task_runner=_ONE, persist_result=False)
def photoz(  # noqa: PLR0917 - Prefect shows each as a field of its form
    warehouse: Uri,
    out: Annotated[str, Field(description="File to write: .parquet, .fits, .hdf5, .csv or .pkl")],
    cone: Annotated[list[float] | None, Field(description="RA, Dec, radius in degrees; default: everywhere")] = None,
    magnitude_limits: Annotated[
        dict[str, list[float | None]] | None, Field(description="Brightest and faintest magnitude by band")
    ] = None,
    bands: Annotated[list[str] | None, Field(description="Bands to give")] = None,
    errors: Annotated[bool, Field(description="Also the errors of fluxes and magnitudes")] = False,
    truth_types: Annotated[list[int] | None, Field(description="1 galaxies, 2 stars; default: galaxies")] = None,
    train_fraction: Annotated[float | None, Field(description="Share of training rows in a column `split`")] = None,
    version: Annotated[str | None, Field(description="A pinned release to take it from")] = None,
) -> dict[str, Any]:
    """Write a photo-z set to a file; return its path and number of rows."""
    words = truthing.selection(
        cone,
        magnitude_limits,
        bands=bands,
        errors=errors,
        truth_types=truth_types,
        train_fraction=train_fraction,
        version=version,
    )
    rows = tasks.photoz.submit(warehouse, out, words, settings()).result()
    create_markdown_artifact(f"{counted(rows, 'row')} in {out}", key="photoz", description=f"From {warehouse}")
    return {"out": out, "rows": rows}


@flow(name="report", task_runner=_ONE, persist_result=False)
def report(
    warehouse: Uri, out: Annotated[str, Field(description="Folder to write the page and its images into")]
) -> dict[str, Any]:
    """Draw what is measured against what is true; return the page's path and the rows of each match status."""
    done = tasks.report.submit(warehouse, out, settings()).result()
    create_markdown_artifact(truthing.report_markdown(done), key="truth-report", description=f"From {warehouse}")
    create_link_artifact(done.page.absolute().as_uri(), "The page", key="truth-report-page")
    return {"page": str(done.page), **done.counts}
