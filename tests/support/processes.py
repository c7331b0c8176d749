"""Runs in processes of their own: killed at a named step, or held there until another process has come as far."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.ingest import stage
from warehouse.lake import delta
from warehouse.lake.events import Event, ignore

WAIT_SECONDS = 60


@dataclass(frozen=True)
class Task:
    """What fills a table - an ingest of `tree`, or where there is none a match or a join - and what happens to it.

    Attributes
    ----------
    die_at
        A step's event and its turn (``staging 2``), or ``before Source`` and ``after Source``: the commit to a table.
    meet_at
        A step at which the processes of a race wait for each other, once.
    least
        Bytes of rows that make a unit of work; 1 gives every input its own.
    """

    uri: str
    table: str
    tree: str
    settings: Settings
    die_at: str = ""
    meet_at: str = ""
    least: int = stage.LEAST


def killed(task: Task) -> bool:
    """Do the task in a process of its own, and return whether SIGKILL ended it."""
    return _run([task])[0] == -signal.SIGKILL


def race(tasks: Sequence[Task]) -> None:
    """Do the tasks side by side, in a process each, and make sure that all of them end well."""
    codes = _run(tasks)
    if any(codes):
        raise AssertionError(f"processes ended with {codes}")


def _run(tasks: Sequence[Task]) -> list[int | None]:
    context = multiprocessing.get_context("spawn")  # s3fs and Polars do not survive a fork
    barrier = context.Barrier(len(tasks))
    processes = [context.Process(target=_do, args=(task, barrier)) for task in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _do(task: Task, barrier: Any) -> None:
    stage.LEAST = task.least
    word, _, rest = task.die_at.partition(" ")
    if word in {"before", "after"}:
        _die_around_commit(word, rest)
    watch = _watch(word, int(rest or 1) if word not in {"before", "after"} else 0, task.meet_at, barrier)
    fill(Warehouse.open(task.uri, settings=task.settings), task.table, task.tree, watch)


def fill(wh: Warehouse, table: str, tree: str, watch: Callable[[Event], None] = ignore) -> Any:
    """Fill a table from a tree, or where there is none from the tables that it is made of; return the report."""
    if tree:
        return wh.ingest(table, tree, on_event=watch)
    return {"MatchesTruth": wh.match, "ObjectTruth": wh.materialise}[table](on_event=watch)


def _watch(word: str, turn: int, meet_at: str, barrier: Any) -> Callable[[Event], None]:
    steps: list[str] = []

    def watch(event: Event) -> None:
        steps.append(event.step)
        if event.step == word and steps.count(word) >= turn:
            _die()
        if event.step == meet_at and steps.count(meet_at) == 1:
            barrier.wait(WAIT_SECONDS)

    return watch


def _die_around_commit(word: str, table: str) -> None:
    real = delta.commit

    def commit(base: delta.Snapshot, *args: Any, **kwargs: Any) -> int:
        mine = base.uri.endswith(f"/{table}") and bool(kwargs["add"] or kwargs.get("remove"))
        if mine and word == "before":
            _die()
        version = real(base, *args, **kwargs)
        if mine:
            _die()
        return version

    delta.commit = commit


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
