"""Who watches a run: the command puts its progress display here, and flows hand it what happens.

A flow's parameters must be plain values that a server can store, so the watcher cannot be one of them. Without a
watcher - on a worker - events become lines of the flow run's log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flows import display
from flows.progress import Lines, progress
from warehouse.lake.events import OnEvent, ignore

_watching: ContextVar[OnEvent | None] = ContextVar("watching", default=None)


@contextmanager
def watched(*, quiet: bool) -> Iterator[OnEvent]:
    """Have a watcher inside the block: progress on the terminal, or nothing."""
    if quiet:
        yield ignore
        return
    with progress(display.errors) as on_event:
        yield on_event


@contextmanager
def watched_by(watcher: OnEvent) -> Iterator[None]:
    """Send the events of flows that run inside the block to `watcher`."""
    token = _watching.set(watcher)
    try:
        yield
    finally:
        _watching.reset(token)


def watcher(log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> OnEvent:
    """Return the current watcher, or one that writes to `log`."""
    return _watching.get() or Lines(log.info)
