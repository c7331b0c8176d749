"""The flow `register_images`: headers in, rows of Image, ObsCore, Visit and CcdVisit out.

It says when; what is done stands in `warehouse.images`, how often to try in `tasks`. Stores' credentials come from the
worker's environment, never from parameters, which Prefect keeps.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import imaging
from flows.watching import watcher
from tasks import images as tasks

# Untyped, because Prefect's own types of a flow and of its runners do not agree.
_ONE: Any = ThreadPoolTaskRunner(max_workers=1)


@flow(name="register_images", task_runner=_ONE, persist_result=False)
def register_images(
    warehouse: Annotated[str, Field(description="URI of the warehouse: s3://bucket/prefix or a local path")],
    uris: Annotated[list[str], Field(description="Images, folders, globs or trees")],
    dataset_type: Annotated[str | None, Field(description="What they are, where paths do not tell")] = None,
    remove_vanished: Annotated[bool, Field(description="Also remove the rows of images that are gone")] = False,
    release: Annotated[str, Field(description="Release that a new warehouse follows")] = "dp02",
    memory: Annotated[str | None, Field(description="Memory budget of this run, such as 8GiB")] = None,
    workers: Annotated[int | None, Field(description="Units of work side by side; default: the processors")] = None,
) -> dict[str, Any]:
    """Register images by their headers; return a summary. Fails at its end where images were refused."""
    request = imaging.Request(
        warehouse=warehouse,
        uris=uris,
        dataset_type=dataset_type,
        remove_vanished=remove_vanished,
        release=release,
        memory=memory,
        workers=workers,
    )
    on_event = watcher(get_run_logger())
    found = imaging.perform(request, read=tasks.read_headers, on_event=on_event, run_id=str(flow_run.id))
    text = "\n".join(imaging.lines(found))
    create_markdown_artifact(text, key="register-images", description=f"Into {warehouse}")
    if found["refused"]:
        raise imaging.RefusedImagesError(found)
    return found
