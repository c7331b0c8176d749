"""What the steps of an ingest hand to each other: small frozen records, kept as JSON beside the table.

A record's URI is what a task returns. Its place follows from the plan alone, so work that was staged before a
crash is found by the run after it, and not done twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import InputError
from warehouse.ingest.plan import Planned
from warehouse.lake.delta import StagedFile
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root

STAGING = "_staging"


@dataclass(frozen=True)
class Job:
    """One table's ingest, as every step of it needs to know it."""

    root: Root
    table: str
    plan_id: str
    run_id: str
    max_quarantined_share: float
    places: str = ""

    @property
    def contract(self) -> Contract:
        """The table's contract."""
        return self.root.contract(self.table)

    @property
    def table_uri(self) -> str:
        """Where the table lies."""
        return self.root.table_uri(self.table)

    @property
    def staging_uri(self) -> str:
        """Where the plan's records and pieces lie, unseen by readers."""
        return storage.join(self.table_uri, STAGING, self.plan_id)


@dataclass(frozen=True)
class StageUnit:
    """Inputs that one worker stages together, within `memory` bytes.

    `scatter` says that the rows of a patch may come from several units, so that they are staged as pieces, to be
    gathered into files afterwards.
    """

    label: str
    inputs: tuple[Planned, ...]
    memory: int
    scatter: bool

    @cached_property
    def key(self) -> str:
        """A name for the unit's record, the same whenever the same work is planned."""
        text = "\n".join(f"{p.input_id} {p.input.stamp}" for p in self.inputs) + f"\n{self.scatter}"
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of Arrow record batches, one a partition: `parts` are (tract, patch, rows, first byte, end byte).

    The bytes before the first part are the schema.
    """

    uri: str
    parts: tuple[tuple[int, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class GatherUnit:
    """Partitions that one worker gathers together, each from record batches (piece, first byte, end byte).

    `schema` is (piece, end byte) of the schema that all of them share. `discard` are inputs that were refused
    after some of their rows had gone into pieces.
    """

    label: str
    partitions: tuple[tuple[int, int], ...]
    batches: tuple[tuple[tuple[str, int, int], ...], ...]
    schema: tuple[str, int]
    discard: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """A name for the unit's record, the same whenever the same pieces are gathered."""
        return hashlib.blake2b(repr((self.batches, self.discard)).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Staged:
    """What a unit of work left: files ready to commit, pieces to gather, what became of the inputs, rows refused.

    `at` is when, in seconds since 1970.
    """

    files: tuple[StagedFile, ...] = ()
    pieces: tuple[Piece, ...] = ()
    entries: tuple[Entry, ...] = ()
    quarantine: tuple[str, ...] = ()
    discard: tuple[int, ...] = field(default=())
    at: float = field(default_factory=time.time)


def write_staged(uri: str, staged: Staged, settings: Settings) -> str:
    """Write a record and return its URI."""
    storage.write_bytes(uri, json.dumps(asdict(staged)).encode(), settings)
    return uri


def read_staged(uri: str, settings: Settings) -> Staged:
    """Return the record at `uri` (InputError of kind ``vanished`` where there is none)."""
    found = json.loads(storage.read_bytes(uri, settings))
    return Staged(
        files=tuple(StagedFile(**f) for f in found["files"]),
        pieces=tuple(Piece(p["uri"], _tuples(p["parts"])) for p in found["pieces"]),
        entries=tuple(Entry(**e) for e in found["entries"]),
        quarantine=tuple(found["quarantine"]),
        discard=tuple(found["discard"]),
        at=found["at"],
    )


def find_staged(uri: str, job: Job, settings: Settings) -> Staged | None:
    """Return the record at `uri` if an earlier run left it and all that it names is still there.

    Work that a clean-up may take away before it is committed is not taken over.
    """
    try:
        found = read_staged(uri, settings)
        if time.time() - found.at > 3600 * settings.retention_hours / 2:
            return None
        for file in found.files:
            size, _ = storage.stamp(storage.join(job.table_uri, file.path), settings)
            if size != file.size:
                return None
        for needed in (*(piece.uri for piece in found.pieces), *found.quarantine):
            storage.stamp(needed, settings)
    except InputError as error:
        if error.kind != "vanished":
            raise
        return None
    return found


def write_gather_unit(uri: str, unit: GatherUnit, settings: Settings) -> str:
    """Write a gather unit, which may name thousands of batches, and return its URI."""
    storage.write_bytes(uri, json.dumps(asdict(unit)).encode(), settings)
    return uri


def read_gather_unit(uri: str, settings: Settings) -> GatherUnit:
    """Return the gather unit at `uri`."""
    found = json.loads(storage.read_bytes(uri, settings))
    batches = tuple(_tuples(b) for b in found["batches"])
    schema = (found["schema"][0], found["schema"][1])
    return GatherUnit(found["label"], _tuples(found["partitions"]), batches, schema, tuple(found["discard"]))


def _tuples(rows: Sequence[Sequence[object]]) -> tuple:  # type: ignore[type-arg]
    return tuple(tuple(row) for row in rows)
