"""What the steps of a match or a materialisation hand to each other: units of work, and records of what was staged.

A unit is a tract with the files that its rows come from, so it says all that a worker needs, and work that was staged
before a crash is found by the run after it wherever nothing has changed since. A record's URI is what a task returns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.contracts.derived import ObjectChoice, object_truth_contract
from warehouse.errors import ConflictError, InputError, StorageError
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.events import OnEvent, stoppable
from warehouse.lake.root import Root
from warehouse.truth.match import MatchSettings
from warehouse.truth.tables import Slice

STAGING = "_staging"
MATCHES, TRUTH, OBJECTS = "MatchesTruth", "TruthSummary", "Object"

U = TypeVar("U")


@dataclass(frozen=True)
class MatchUnit:
    """A tract to match: its truth, its objects, and how."""

    root: Root
    tract: int
    truth: Slice
    objects: Slice
    how: MatchSettings

    @property
    def table_uri(self) -> str:
        """Where the table lies that the rows are for."""
        return self.root.table_uri(MATCHES)

    @property
    def size(self) -> int:
        """Bytes of the files to read."""
        return self.truth.size + self.objects.size

    @cached_property
    def key(self) -> str:
        """A name for the unit's record, the same whenever the same work is planned."""
        return _key(self.tract, (self.truth, self.objects), asdict(self.how), self.root.contract(MATCHES))


@dataclass(frozen=True)
class JoinUnit:
    """A tract of ObjectTruth to make: its own files of the three tables, and how.

    `elsewhere` are files of other tracts, by table, some rows of which are linked with this tract's; `threads` is how
    many groups of its patches are made side by side.
    """

    root: Root
    tract: int
    matches: Slice
    truth: Slice
    objects: Slice
    elsewhere: Mapping[str, Slice]
    choice: ObjectChoice
    threads: int = 1

    @property
    def table_uri(self) -> str:
        """Where the table lies that the rows are for."""
        return self.root.table_uri(self.contract.table)

    @property
    def size(self) -> int:
        """Bytes of the files to read."""
        return self.matches.size + self.truth.size + self.objects.size

    @cached_property
    def contract(self) -> Contract:
        """The contract of the rows to make."""
        return object_truth_contract(self.root.contracts, self.choice)

    @cached_property
    def key(self) -> str:
        """A name for the unit's record, the same whenever the same work is planned."""
        parts = (self.matches, self.truth, self.objects, *(part for _, part in sorted(self.elsewhere.items())))
        return _key(self.tract, parts, asdict(self.choice), self.contract)


def _key(tract: int, parts: Sequence[Slice], how: Mapping[str, Any], contract: Contract) -> str:
    text = [str(tract), json.dumps(how, sort_keys=True), contract.digest, *map(str, contract.file_schema.names)]
    text += [f"{part.uri} {file.path}" for part in parts for file in part.files]
    return hashlib.blake2b("\n".join(text).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Staged:
    """What became of a unit: the files that are ready to commit and what they hold, counted; or why there are none."""

    tract: int
    files: tuple[StagedFile, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)


def record_uri(table_uri: str, unit_key: str) -> str:
    """Return where the record of a unit lies."""
    return storage.join(table_uri, STAGING, f"{unit_key}.json")


def write_staged(uri: str, staged: Staged, settings: Settings) -> str:
    """Write a record and return its URI."""
    storage.write_bytes(uri, json.dumps(asdict(staged)).encode(), settings)
    return uri


def read_staged(uri: str, settings: Settings) -> Staged:
    """Return the record at `uri` (InputError of kind ``vanished`` where there is none)."""
    found = json.loads(storage.read_bytes(uri, settings))
    return Staged(found["tract"], tuple(StagedFile(**f) for f in found["files"]), found["counts"], found["error"])


def find_staged(uri: str, table_uri: str, settings: Settings) -> Staged | None:
    """Return the record at `uri` if an earlier run left it whole, and all that it names is still there."""
    try:
        found = read_staged(uri, settings)
        sizes = [storage.stamp(storage.join(table_uri, file.path), settings)[0] for file in found.files]
    except InputError as error:
        if error.kind != "vanished":
            raise
        return None
    whole = sizes == [file.size for file in found.files]
    return found if whole and found.error is None else None


class Runner(Protocol):
    """Runs units of work side by side and returns the URIs of their records, in the order given."""

    def match(self, units: Sequence[MatchUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Run `warehouse.truth.matching.match_unit` for each unit."""
        ...

    def join(self, units: Sequence[JoinUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Run `warehouse.truth.joining.join_unit` for each unit."""
        ...


def side_by_side(
    work: Callable[[U, Settings, OnEvent], str], units: Sequence[U], settings: Settings, on_event: OnEvent
) -> list[str]:
    """Run units in threads of this process, as many at once as the settings allow; return their records' URIs."""
    threads = ThreadPoolExecutor(max_workers=max(1, min(settings.workers, len(units))))
    with threads as pool, stoppable(on_event) as watch:
        futures = [pool.submit(work, unit, settings, watch) for unit in units]
        try:
            return [future.result() for future in futures]
        except BaseException:  # an interrupt, too, must not wait for work that has not begun
            for future in futures:
                future.cancel()
            raise


def gathered(uris: Sequence[str], base: Snapshot, settings: Settings) -> list[Staged]:
    """Return the records at `uris`, in order.

    Raises
    ------
    ConflictError
        They are gone, or files that they name are in the table already: another run with the same work was first.
    """
    try:
        records = [read_staged(uri, settings) for uri in uris]
    except InputError as error:
        if error.kind != "vanished":
            raise
        raise ConflictError("another run has cleared away what both had staged", uri=base.uri) from error
    names = {file.path for record in records for file in record.files}
    if not names.isdisjoint(base.files.get_column("path")):
        clear(uris, settings)
        raise ConflictError("another run has committed what was staged for this one", uri=base.uri)
    return records


def clear(uris: Sequence[str], settings: Settings) -> None:
    """Remove records that are done with; what cannot be removed now is removed by `maintain`."""
    with suppress(StorageError):
        storage.delete(uris, settings)
