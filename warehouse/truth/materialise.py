"""ObjectTruth, kept up to date: which of its tracts are behind, making them again, and one commit for all of them.

Each commit notes the versions of MatchesTruth, TruthSummary and Object that the table then stood for, the links between
tracts (`warehouse.truth.links`), and the choice of columns. The next run makes only those tracts again whose files have
changed since, or that share a match with one of those. Belongs here: that. How a tract's rows are made does not
(`warehouse.truth.joining`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import TRACT, Contract
from warehouse.contracts.derived import MADE_OF, OBJECT_TRUTH, ObjectChoice, fitting, object_truth_contract
from warehouse.errors import ConflictError, NotFoundError
from warehouse.lake import delta
from warehouse.lake.delta import Snapshot
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.lake.root import Root
from warehouse.truth import tables
from warehouse.truth.changes import Note, changed_tracts, last_note
from warehouse.truth.join import Tally
from warehouse.truth.joining import join_unit
from warehouse.truth.links import Link, Slices, find_links
from warehouse.truth.tables import Slice
from warehouse.truth.units import (
    MATCHES,
    OBJECTS,
    TRUTH,
    JoinUnit,
    Runner,
    Staged,
    clear,
    gathered,
    side_by_side,
)

NOTE = "materialise"
NEVER = "never made"


@dataclass(frozen=True)
class Staleness:
    """How far ObjectTruth is behind: its version (None where it was never made), and each tract that is, with why.

    `made_of` are the versions of the tables that it was made from, `now` their newest.
    """

    version: int | None
    made_of: Mapping[str, int]
    now: Mapping[str, int]
    tracts: Mapping[int, Sequence[str]]

    @property
    def up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return not self.tracts


@dataclass(frozen=True)
class MaterialiseReport:
    """What a materialisation did.

    `tracts` are those made again, each with why; `tally` counts their rows; `failed` are those left as they were, with
    the error. `made_of` are the versions of the three tables that ObjectTruth now stands for.
    """

    version: int
    made_of: Mapping[str, int]
    tracts: Mapping[int, Sequence[str]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally.none)
    failed: Mapping[int, str] = field(default_factory=dict)
    files: int = 0
    bytes_written: int = 0
    seconds: float = 0.0

    @property
    def nothing_new(self) -> bool:
        """Whether there was nothing to do."""
        return not self.tracts and not self.failed


@dataclass(frozen=True)
class _Looked:
    """The tables as they are now, and what is behind."""

    base: Snapshot | None
    inputs: Mapping[str, Snapshot]
    note: Note | None
    choice: ObjectChoice
    contract: Contract
    why: Mapping[int, Sequence[str]]
    anew: bool

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the inputs."""
        return {name: snapshot.version for name, snapshot in self.inputs.items()}


@dataclass(frozen=True)
class _Plan:
    looked: _Looked
    base: Snapshot
    why: Mapping[int, Sequence[str]]
    units: tuple[JoinUnit, ...]
    links: frozenset[Link]
    loose: frozenset[int]


def inputs_are_there(root: Root, settings: Settings) -> bool:
    """Return whether all three tables that ObjectTruth is made of are known to the release, and loaded."""
    try:
        for name in MADE_OF:
            tables.filled(root, name, settings)
    except NotFoundError:
        return False
    return True


def staleness(root: Root, settings: Settings, *, choice: ObjectChoice | None = None) -> Staleness:
    """Return how far ObjectTruth is behind its inputs, from the logs alone.

    Tracts that share a match with one that has changed are found by `materialise` itself, and are not among these.

    Raises
    ------
    NotFoundError
        One of the three tables holds nothing; the message says how to fill it.
    """
    looked = _look(root, settings, choice)
    made_of = {} if looked.note is None else looked.note.said["versions"]
    version = None if looked.base is None else looked.base.version
    return Staleness(version, made_of, looked.versions, looked.why)


def materialise(
    root: Root,
    settings: Settings,
    *,
    choice: ObjectChoice | None = None,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
) -> MaterialiseReport:
    """Bring ObjectTruth up to date, in one commit; make again only the tracts that are behind.

    A run that was interrupted is gone on with by the next one. A tract whose rows contradict each other is left as it
    is, reported, and tried again by the next run.

    Parameters
    ----------
    choice
        Which columns of Object it holds; by default as before, at first `warehouse.contracts.derived.DEFAULT_CHOICE`
        in the bands that the release has. Another choice than before makes the whole table again.
    runner
        Where units run; by default in threads of this process.

    Raises
    ------
    NotFoundError
        One of the three tables holds nothing, or Object lacks a column of `choice`.
    ConflictError, StorageError
        Other writers were always first, or the store failed; run it again.
    """
    started = time.monotonic()
    for _ in range(settings.commit_attempts):
        looked = _look(root, settings, choice)
        if looked.base is not None and not looked.why and not looked.anew:
            on_event(Event("planned", OBJECT_TRUTH))
            return MaterialiseReport(looked.base.version, looked.versions, seconds=time.monotonic() - started)
        plan = _plan(root, looked, settings)
        on_event(Event("planned", OBJECT_TRUTH, inputs=len(plan.units), bytes=sum(unit.size for unit in plan.units)))
        uris = (runner or _Threads()).join(plan.units, settings, on_event)
        try:
            records = gathered(uris, plan.base, settings)
            report = _commit(plan, records, settings)
        except ConflictError:
            on_event(Event("conflict", OBJECT_TRUTH))
            continue
        clear(uris, settings)
        on_event(Event("committed", OBJECT_TRUTH, f"version {report.version}", rows=report.tally.rows))
        return replace(report, seconds=time.monotonic() - started)
    message = f"{settings.commit_attempts} attempts to commit were overtaken"
    raise ConflictError(message, table=OBJECT_TRUTH, uri=root.uri)


@dataclass(frozen=True)
class Origin:
    """What a version of ObjectTruth stands for: its contract, and the versions of itself and of what it is made of."""

    contract: Contract
    versions: Mapping[str, int]


def origin(root: Root, snapshot: Snapshot, settings: Settings) -> Origin:
    """Return what a version of ObjectTruth stands for."""
    note = last_note(snapshot, NOTE, settings)
    if note is None:
        return Origin(root.contract(OBJECT_TRUTH), {OBJECT_TRUTH: snapshot.version})
    contract = object_truth_contract(root.contracts, _choice(note.said["choice"]))
    return Origin(contract, {OBJECT_TRUTH: snapshot.version, **note.said["versions"]})


def _choice(said: Mapping[str, Any]) -> ObjectChoice:
    values: dict[str, Any] = {
        name: tuple(tuple(v) if isinstance(v, list) else v for v in value) for name, value in said.items()
    }
    return ObjectChoice(**values)


def _look(root: Root, settings: Settings, choice: ObjectChoice | None) -> _Looked:
    inputs = {name: tables.filled(root, name, settings) for name in MADE_OF}
    try:
        base = delta.snapshot(root.table_uri(OBJECT_TRUTH), settings)
    except NotFoundError:
        base = None
    note = last_note(base, NOTE, settings) if base is not None else None
    noted = None if note is None else _choice(note.said["choice"])
    choice = choice or noted or fitting(root.contract(OBJECTS))
    contract = object_truth_contract(root.contracts, choice)
    anew = note is None or note.said["contract"] != contract.digest or choice != noted
    why = None if anew or note is None else changed_tracts(note.said["versions"], inputs, settings)
    if why is None:
        reason = NEVER if note is None else "other columns" if anew else "the log of an input was cut off"
        every = [*inputs.values(), *([] if base is None else [base])]
        why = {int(tract): [reason] for snapshot in every for tract in snapshot.files[TRACT].unique()}
    elif note is not None:
        for tract, error in note.said["failed"].items():
            why.setdefault(int(tract), []).append(f"failed before: {error}")
    return _Looked(base, inputs, note, choice, contract, dict(sorted(why.items())), anew)


def _plan(root: Root, looked: _Looked, settings: Settings) -> _Plan:
    slices = {name: tables.by_tract(snapshot) for name, snapshot in looked.inputs.items()}
    said: Mapping[str, Any] = {} if looked.note is None or looked.anew else looked.note.said
    old = {Link(*three) for three in said.get("links", ())}
    to_look_at = {*looked.why, *said.get("loose", ())}
    links, loose = find_links(root, to_look_at, slices, looked.inputs[OBJECTS], settings)
    why = {tract: list(reasons) for tract, reasons in looked.why.items()}
    for link in sorted(old | links):
        for changed in sorted(link.tracts & looked.why.keys()):
            for tract in link.tracts - looked.why.keys():
                reason = f"shares a match with tract {changed}"
                if reason not in why.setdefault(tract, []):
                    why[tract].append(reason)
    tracts = [tract for tract in sorted(why) if tract in slices[TRUTH] or tract in slices[OBJECTS]]
    # Where there are fewer tracts than workers, a tract's patches are made side by side.
    threads = max(1, settings.workers // max(1, len(tracts)))
    units = tuple(replace(_unit(root, tract, slices, links, looked), threads=threads) for tract in tracts)
    base = looked.base or _create(root, looked.contract, settings)
    return _Plan(looked, base, dict(sorted(why.items())), units, frozenset(links), frozenset(loose))


def _unit(root: Root, tract: int, slices: Slices, links: Iterable[Link], looked: _Looked) -> JoinUnit:
    own = {name: slices[name].get(tract, Slice(looked.inputs[name].uri, ())) for name in MADE_OF}
    mine = [link for link in links if tract in link.tracts]
    elsewhere = {}
    for table, others in (
        (MATCHES, {link.match for link in mine}),
        (TRUTH, {link.truth for link in mine}),
        (OBJECTS, {link.object for link in mine}),
    ):
        parts = [slices[table][other] for other in sorted(others - {tract, -1})]
        if parts:
            elsewhere[table] = Slice(parts[0].uri, tuple(file for part in parts for file in part.files))
    return JoinUnit(root, tract, own[MATCHES], own[TRUTH], own[OBJECTS], elsewhere, looked.choice)


def _create(root: Root, contract: Contract, settings: Settings) -> Snapshot:
    uri = root.table_uri(OBJECT_TRUTH)
    delta.create(
        uri,
        contract.arrow_schema,
        settings,
        name=OBJECT_TRUTH,
        description=contract.description,
        partition_by=contract.partition_by,
        statistics=contract.statistics,
    )
    return delta.snapshot(uri, settings)


class _Threads:
    """Runs units in threads of this process."""

    def join(self, units: Sequence[JoinUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Make every unit, as many at once as the settings allow."""
        return side_by_side(join_unit, units, settings, on_event)


def _commit(plan: _Plan, records: Sequence[Staged], settings: Settings) -> MaterialiseReport:
    looked = plan.looked
    failed = {record.tract: record.error for record in records if record.error is not None}
    good = [record for record in records if record.error is None]
    done = {tract: reasons for tract, reasons in plan.why.items() if tract not in failed}
    # Another choice of columns is another schema: then everything goes, also what could not be made again.
    other_schema = looked.anew and not plan.base.schema.equals(looked.contract.arrow_schema)
    obsolete = plan.base.files.filter(pl.col(TRACT).is_in(list(done)))
    found = sum((Tally(**record.counts) for record in good), Tally.none())
    note = {
        "versions": looked.versions,
        "choice": asdict(looked.choice),
        "contract": looked.contract.digest,
        "links": [list(asdict(link).values()) for link in sorted(plan.links)],
        "loose": sorted(plan.loose),
        "failed": failed,
        "tracts": list(done),
        "tally": asdict(found),
    }
    files = [file for record in good for file in record.files]
    version = delta.commit(
        plan.base,
        uuid.uuid4().hex,
        settings,
        add=files,
        remove=() if other_schema else obsolete.get_column("path").to_list(),
        metadata={NOTE: note},
        replace_with=looked.contract.arrow_schema if other_schema else None,
    )
    size = sum(file.size for file in files)
    return MaterialiseReport(version, looked.versions, done, found, failed, len(files), size)
