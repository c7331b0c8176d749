"""The clock that a contender stops itself by: what it imports and counts before and after is not its work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Said = dict[str, Any]


@contextmanager
def clock() -> Iterator[Said]:
    """Time the block: wall seconds, and those of this process's processors."""
    said: Said = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield said
    said["seconds"] = time.perf_counter() - wall
    said["cpu_seconds"] = time.process_time() - cpu
