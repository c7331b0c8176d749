"""Small simulated trees and warehouses for them, at a place where four patches of two tracts meet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.lake.events import Event
from warehouse.simulate import simulate

CORNER = {"ra": 61.218, "dec": -37.0, "radius": 0.05}
SIZE = {"objects": 500, "visits": 8, "detectors": 4}


class CrashError(Exception):
    """What a test raises where a process would die."""


def make(folder: Path, dataset_types: Collection[str], **changes) -> Path:
    """Write a tree of these dataset types into `folder` and return it."""
    settings = Settings(memory=512 << 20, workers=2)
    simulate(str(folder), dataset_types=dataset_types, settings=settings, **(CORNER | SIZE | changes))
    return folder


@dataclass(frozen=True)
class World:
    """A tree that may be broken, and a warehouse to load it into."""

    tree: Path
    warehouse: Warehouse

    def files(self, dataset_type: str, tree: Path | None = None) -> list[Path]:
        """Return the dataset type's files, by path."""
        return sorted(path for path in (tree or self.tree).rglob("*.parq") if f"/{dataset_type}/" in str(path))

    def largest(self, dataset_type: str) -> Path:
        """Return the dataset type's largest file."""
        return max(self.files(dataset_type), key=lambda path: path.stat().st_size)


def world(original: Path, folder: Path, settings: Settings, dataset_types: Collection[str]) -> World:
    """Return a world in `folder` with a copy of some dataset types of a tree, and an empty warehouse."""
    for path in original.rglob("*.parq"):
        if any(f"/{name}/" in str(path) for name in dataset_types):
            copy = folder / "tree" / path.relative_to(original)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    return World(folder / "tree", Warehouse.create(str(folder / "warehouse"), settings=settings))


def crash_at(step: str, times: int = 1) -> Callable[[Event], None]:
    """Return a watcher that raises when `step` is reached for the `times`-th time."""
    seen = []

    def watch(event: Event) -> None:
        if event.step == step:
            seen.append(event)
            if len(seen) >= times:
                raise CrashError(step)

    return watch


@contextmanager
def crashing(step: str, times: int = 1) -> Iterator[Callable[[Event], None]]:
    """Hand over a watcher that raises at `step`, and make sure that it has."""
    try:
        yield crash_at(step, times)
    except CrashError:
        return
    raise AssertionError(f"{step} has not been reached {times} times")
