"""What a long run tells whoever watches it: named steps with counts, and how a watcher stops the workers.

Records and one context manager. What a watcher makes of them - bars, lines of log - is the business of `flows`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person watching may want to see: a named step of one table's filling, and how far it is."""

    step: str
    table: str
    detail: str = ""
    inputs: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0


OnEvent = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Watch nothing."""


class StoppedError(Exception):
    """Raised in a worker whose run has ended: by an interrupt, or by the failure of another worker."""


@contextmanager
def stoppable(on_event: OnEvent) -> Iterator[OnEvent]:
    """Yield a watcher for workers; once the block has failed, the next event of each worker ends it.

    What a worker has staged by then is complete or nobody's; either way the next run knows what to do with it.
    """
    stopped = threading.Event()

    def watch(event: Event) -> None:
        if stopped.is_set():
            raise StoppedError(event.table)
        on_event(event)

    try:
        yield watch
    except BaseException:
        stopped.set()
        raise
