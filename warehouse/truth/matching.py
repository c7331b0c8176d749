"""MatchesTruth, where no files bring it: the match of every tract, from TruthSummary and Object, in one commit.

Belongs here: which tracts are matched (again), and how their rows become part of the table. The rules of the match are
those of `warehouse.truth.match`.

A tract's matches are a unit of their own in the ledger, ``match_truth tract=4431``, so that matching it again replaces
exactly its rows. A table is fed by files or by the match, never by both: they would claim the same truth rows twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT
from warehouse.contracts.derived import BANDS
from warehouse.contracts.release import Release
from warehouse.errors import ConflictError, ContractError, InputError, NotFoundError, QualityError
from warehouse.lake import delta, layout, ledger, staged, units
from warehouse.lake.delta import Snapshot
from warehouse.lake.events import Event, OnEvent, ignore
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root, ensure_table
from warehouse.truth import tables
from warehouse.truth.changes import Note, changed_tracts, last_note
from warehouse.truth.match import DEFAULTS, MatchSettings, match_tract
from warehouse.truth.tables import Slice
from warehouse.truth.units import (
    MATCHES,
    OBJECTS,
    TRUTH,
    MatchUnit,
    Runner,
    Staged,
    clear,
    find_staged,
    gathered,
    record_uri,
    side_by_side,
    write_staged,
)
from warehouse.wording import counted

FEEDER = "match_truth"
NOTE = "match"
NEVER = "never matched"


@dataclass(frozen=True)
class MatchReport:
    """What a match did. `tracts` are those matched, each with why; `failed` those left as they were, with the error.

    `counts` are rows, candidates and matched among the rows written.
    """

    version: int
    how: MatchSettings
    tracts: Mapping[int, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def nothing_new(self) -> bool:
        """Whether there was nothing to do."""
        return not self.tracts and not self.failed


@dataclass(frozen=True)
class _Plan:
    base: Snapshot
    versions: Mapping[str, int]
    how: MatchSettings
    why: Mapping[int, Sequence[str]]
    units: tuple[MatchUnit, ...]
    replaced: tuple[Entry, ...]


def match_truth(
    root: Root,
    settings: Settings,
    *,
    how: MatchSettings | None = None,
    replace: bool = False,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
) -> MatchReport:
    """Match the tracts whose truth or objects have changed since they were matched, and commit them as one version.

    Parameters
    ----------
    how
        Radius, limits and columns; by default those of the last match, else `MatchSettings` in the bands that the
        release has. With other settings than the last match's, all tracts are matched again.
    replace
        Whether a table that files feed may be replaced by the match, as a whole.
    runner
        Where units run; by default in threads of this process.

    Raises
    ------
    ContractError
        Files feed the table, and it was not told to replace them.
    NotFoundError
        There is no truth, there are no objects, or a column of `how` is none of theirs.
    ConflictError, StorageError
        Other writers were always first, or the store failed; run it again.
    """
    started = time.monotonic()
    for _ in range(settings.commit_attempts):
        plan = _plan(root, settings, how, replace=replace)
        on_event(Event("planned", MATCHES, inputs=len(plan.units), bytes=sum(unit.size for unit in plan.units)))
        if not plan.why:
            return MatchReport(plan.base.version, plan.how)
        uris = (runner or _Threads()).match(plan.units, settings, on_event)
        try:
            records = gathered(uris, plan.base, settings)
            report = _commit(root, plan, records, settings)
        except ConflictError:
            on_event(Event("conflict", MATCHES))
            continue
        clear(uris, settings)
        ledger.catch_up(root.uri, MATCHES, settings)
        on_event(Event("committed", MATCHES, f"version {report.version}", rows=report.counts.get("rows", 0)))
        return MatchReport(**{**vars(report), "seconds": time.monotonic() - started})
    raise ConflictError(f"{settings.commit_attempts} attempts to commit were overtaken", table=MATCHES, uri=root.uri)


def outdated(
    root: Root, settings: Settings, *, how: MatchSettings | None = None, replace: bool = False
) -> Mapping[int, Sequence[str]]:
    """Return the tracts that `match_truth` would match with these arguments, each with why; errors are the same."""
    return _plan(root, settings, how, replace=replace).why


def default_settings(release: Release) -> MatchSettings:
    """Return the published settings, in those of the six bands that a release's truth and objects have."""
    have = {*release.contract(TRUTH).by_name, *release.contract(OBJECTS).by_name}
    names = (DEFAULTS.truth_flux, DEFAULTS.object_flux, DEFAULTS.object_flux_error)
    return MatchSettings(bands=tuple(b for b in BANDS if have.issuperset(name.format(band=b) for name in names)))


def present_settings(root: Root, settings: Settings) -> MatchSettings:
    """Return the settings of the last match, those of `default_settings` where there has been none."""
    try:
        table = delta.snapshot(root.table_uri(MATCHES), settings)
    except NotFoundError:
        return default_settings(root.contracts)
    return _noted(last_note(table, NOTE, settings)) or default_settings(root.contracts)


def _plan(root: Root, settings: Settings, how: MatchSettings | None, *, replace: bool) -> _Plan:
    inputs = {name: tables.filled(root, name, settings) for name in (TRUTH, OBJECTS)}
    base = ensure_table(root, MATCHES, settings)
    fed = _fed_by_files(root, settings)
    if fed and not replace:
        message = (
            f"this table is fed by {counted(len(fed), 'file')}, such as {fed[0].uri}; a match of our own would "
            "replace them all: say so (--replace), or keep them"
        )
        raise ContractError(message, kind="overlap", table=MATCHES, uri=root.uri)
    note = last_note(base, NOTE, settings)
    noted = _noted(note)
    how = how or noted or default_settings(root.contracts)
    for table, names in ((TRUTH, how.truth_columns()), (OBJECTS, how.object_columns())):
        for name in names:
            root.contract(table).column(name)
    truth, objects = (tables.by_tract(snapshot) for snapshot in inputs.values())
    held = {int(tract) for tract in base.files.get_column(TRACT).unique()}
    why: dict[int, list[str]] | None = None
    if note is not None and how == noted and not fed:
        why = changed_tracts(note.said["versions"], inputs, settings)
        for tract, error in note.said["failed"].items():
            if why is not None:
                why.setdefault(int(tract), []).append(f"failed before: {error}")
    if why is None:
        reason = NEVER if note is None or fed else "matched with other settings"
        why = {tract: [reason] for tract in {*truth, *held}}
    why = {tract: why[tract] for tract in sorted(why) if tract in truth or tract in held}
    units = tuple(
        MatchUnit(root, tract, truth[tract], objects.get(tract, Slice(inputs[OBJECTS].uri, ())), how)
        for tract in why
        if tract in truth
    )
    versions = {name: snapshot.version for name, snapshot in inputs.items()}
    return _Plan(base, versions, how, why, units, tuple(fed))


def _fed_by_files(root: Root, settings: Settings) -> list[Entry]:
    """Return the inputs that have rows in the table and are no match of ours."""
    ledger.catch_up(root.uri, MATCHES, settings)
    entries = ledger.frame_entries(ledger.latest(root.uri, MATCHES, settings))
    return [entry for entry in entries if entry.status == "committed" and entry.dataset_type != FEEDER]


def _noted(note: Note | None) -> MatchSettings | None:
    if note is None:
        return None
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in note.said["how"].items()}
    return MatchSettings(**values)


class _Threads:
    """Runs units in threads of this process."""

    def match(self, units: Sequence[MatchUnit], settings: Settings, on_event: OnEvent) -> list[str]:
        """Match every unit, as many at once as the settings allow."""
        return side_by_side(match_unit, units, settings, on_event)


def match_unit(unit: MatchUnit, settings: Settings, on_event: OnEvent = ignore) -> str:
    """Match a tract and stage its rows; return the URI of the record.

    What is wrong with the tract's rows becomes part of the record: the other tracts go on.
    """
    uri = record_uri(unit.table_uri, unit.key)
    done = find_staged(uri, unit.table_uri, settings)
    step = "resumed"
    if done is None:
        step = "staging"
        try:
            done = _matched(unit, settings)
        except (ContractError, QualityError, InputError) as error:
            done = Staged(unit.tract, error=str(error))
        write_staged(uri, done, settings)
    on_event(Event(step, MATCHES, f"tract {unit.tract}", inputs=1, rows=done.rows, bytes=unit.size))
    return uri


def _matched(unit: MatchUnit, settings: Settings) -> Staged:
    contract = unit.root.contract(MATCHES)
    truth = tables.read(unit.truth, unit.root.contract(TRUTH), (*unit.how.truth_columns(), PATCH), settings)
    objects = tables.read(unit.objects, unit.root.contract(OBJECTS), unit.how.object_columns(), settings)
    rows = match_tract(truth, objects, unit.root.sky, unit.tract, unit.how).with_columns(
        truth[PATCH],
        pl.lit(unit.tract, pl.Int64).alias(TRACT),
        pl.lit(input_id(unit.tract), pl.Int64).alias(INPUT_ID),
    )
    files = [
        staged.write_rows(frame, contract, unit.table_uri, settings, partition)
        for partition, frame in layout.by_partition(layout.clustered(rows, contract), contract)
    ]
    counts = {
        "rows": rows.height,
        "candidates": int(rows["match_candidate"].sum()),
        "matched": rows.height - rows["match_objectId"].null_count(),
    }
    return Staged(unit.tract, tuple(files), counts)


def unit_name(tract: int) -> str:
    """Return what a tract's match is called in the ledger."""
    return f"{FEEDER} tract={tract}"


def input_id(tract: int) -> int:
    """Return the 63-bit id that the rows of a tract's match carry, the same on every machine."""
    return units.input_id(MATCHES, unit_name(tract))


def _entry(tract: int, record: Staged | None) -> Entry:
    rows = 0 if record is None else record.rows
    name = unit_name(tract)
    return Entry(
        input_id(tract),
        name,
        uri=name,
        size=0,
        stamp=uuid.uuid4().hex,
        status="removed" if record is None else "committed",
        dataset_type=FEEDER,
        data_id={TRACT: tract},
        rows_read=rows,
        rows_committed=rows,
        tracts=(tract,),
    )


def _commit(root: Root, plan: _Plan, records: Sequence[Staged], settings: Settings) -> MatchReport:
    failed = {record.tract: record.error for record in records if record.error is not None}
    good = {record.tract: record for record in records if record.error is None}
    if failed and plan.replaced:
        tract, error = next(iter(failed.items()))
        message = f"no match in {counted(len(failed), 'tract')}, so the files' matches stay; tract {tract}: {error}"
        raise QualityError(message, kind="match", table=MATCHES, uri=root.uri)
    gone = [tract for tract in plan.why if tract not in good and tract not in failed]
    obsolete = plan.base.files
    if not plan.replaced:
        obsolete = obsolete.filter(pl.col(TRACT).is_in([*good, *gone]))
    entries = [*(_entry(tract, record) for tract, record in good.items()), *(_entry(tract, None) for tract in gone)]
    entries += [entry.removed() for entry in plan.replaced]
    commit_id = uuid.uuid4().hex
    metadata = ledger.write_record(plan.base.uri, commit_id, entries, (), settings)
    note = {"versions": plan.versions, "how": asdict(plan.how), "failed": failed}
    version = delta.commit(
        plan.base,
        commit_id,
        settings,
        add=[file for record in good.values() for file in record.files],
        remove=obsolete.get_column("path").to_list(),
        metadata={**metadata, NOTE: note},
    )
    counts = {name: sum(r.counts[name] for r in good.values()) for name in ("rows", "candidates", "matched")}
    return MatchReport(version, plan.how, {t: plan.why[t] for t in (*good, *gone)}, counts, failed)
