"""One request to register images, and what came of it, as values: shared by the flow and the commands.

The flow (`flows.images`) and the command differ in who reads the headers: tasks of Prefect, or threads of this process.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows import display
from flows.ingesting import settings
from flows.serving import Ready, api
from flows.watching import watched, watched_by
from warehouse import Warehouse
from warehouse.errors import InputError, QueryError
from warehouse.images.registry import ReadHeaders, RegisterReport, read_headers, register
from warehouse.lake.events import OnEvent, ignore
from warehouse.readers import refuse_absent
from warehouse.wording import counted

# What could not be used is told file by file, but not a thousand times.
_SHOWN = 5


@dataclass(frozen=True)
class Request:
    """What was asked for: plain values only, as Prefect keeps them."""

    warehouse: str
    uris: Sequence[str]
    dataset_type: str | None = None
    remove_vanished: bool = False
    release: str = "dp02"
    memory: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if not self.uris:
            raise QueryError("say which images to register: files, folders or trees")


class RefusedImagesError(InputError):
    """Images that could not be registered; all others were. Holds the run's summary."""

    def __init__(self, summary: dict[str, Any]) -> None:
        refused = summary["refused"]
        uri, why = refused[0]
        super().__init__(
            f"{counted(len(refused), 'image')} refused, such as {uri}: {why}", kind="refused", table="Image"
        )
        self.summary = summary

    def __reduce__(self) -> tuple[type[RefusedImagesError], tuple[dict[str, Any]]]:
        return type(self), (self.summary,)


def perform(
    request: Request, *, read: ReadHeaders = read_headers, on_event: OnEvent = ignore, run_id: str | None = None
) -> dict[str, Any]:
    """Register images; return a summary. A warehouse that does not stand yet is created."""
    told = settings(memory=request.memory, workers=request.workers)
    opened = Warehouse.create(request.warehouse, release=request.release, settings=told)
    done = register(
        opened.root,
        request.uris,
        told,
        dataset_type=request.dataset_type,
        remove_vanished=request.remove_vanished,
        run_id=run_id or uuid.uuid4().hex,
        read=read,
        on_event=on_event,
    )
    return summary(done)


def run(request: Request, *, direct: bool, quiet: bool) -> dict[str, Any]:
    """Answer the request for a command: as a flow, or in this process, with progress on the terminal."""
    if direct:
        with watched(quiet=quiet) as on_event:
            return perform(request, on_event=on_event)
    # Before a server is started for it.
    refuse_absent(request.uris, settings(memory=request.memory, workers=request.workers))
    with api((lambda _: None) if quiet else display.hint) as ready:
        return as_flow(request, ready, quiet=quiet)


def as_flow(request: Request, ready: Ready, *, quiet: bool = False) -> dict[str, Any]:
    """Register as a flow, once the server is ready; return a summary, refused images among it."""
    from flows.images import register_images

    ready()
    with watched(quiet=quiet) as on_event, watched_by(on_event):
        try:
            found: dict[str, Any] = register_images(
                request.warehouse,
                list(request.uris),
                dataset_type=request.dataset_type,
                remove_vanished=request.remove_vanished,
                release=request.release,
                memory=request.memory,
                workers=request.workers,
            )
        except RefusedImagesError as error:
            return error.summary
    return found


def summary(done: RegisterReport) -> dict[str, Any]:
    """Return a report as values that JSON can hold."""
    return {
        "images": done.listed,
        "read": done.read,
        "unchanged": done.unchanged,
        "new": done.new,
        "changed": done.changed,
        "removed": done.removed,
        "refused": [list(pair) for pair in done.refused],
        "left_aside": [list(pair) for pair in done.left_aside],
        "versions": dict(done.versions),
        "header_bytes": done.bytes_read,
        "nothing_new": done.nothing_new,
        "seconds": round(done.seconds, 3),
        "run_id": done.run_id,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return a summary as lines of text."""
    if found["nothing_new"]:
        return [f"nothing new: {counted(found['unchanged'], 'image')} unchanged"]
    counts = ", ".join(f"{found[name]:,} {name}" for name in ("new", "changed", "removed", "unchanged") if found[name])
    each = found["header_bytes"] / max(1, found["read"]) / 1e3
    done = f"{counts or 'none'} of {counted(found['images'], 'image')}"
    said = [f"{done}; {each:,.0f} kB of headers each, {found['seconds']:.1f} s"]
    said += [f"  {table}: version {version}" for table, version in found["versions"].items()]
    for word, key in (("refused", "refused"), ("left aside", "left_aside")):
        said += [f"  {word} {uri}: {why}" for uri, why in found[key][:_SHOWN]]
        if len(found[key]) > _SHOWN:
            said.append(f"  ... and {len(found[key]) - _SHOWN:,} more {word}")
    return said
