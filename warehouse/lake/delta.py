"""Delta tables: create, open, commit, read the log. The only module that knows that tables are Delta.

What belongs here: the translation between our records and delta-rs, and the promise that a commit lands exactly
once. What does not: what is in the rows (contracts), how files come to be (`warehouse.lake.staged`), when to try
again (the caller). The protocol is explained in docs/design/002-commit-protocol.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, Transaction

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import PATCH, TRACT
from warehouse.errors import ConflictError, InputError, NotFoundError, StorageError

# The name under which every writer of a table counts its commits; of two that count from one snapshot, one lands.
WRITER = "tractlake"
METADATA = "tractlake"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A Parquet file that lies in the table's folder and is not yet part of the table.

    `path` is relative to the table, `partition` the values of its partition columns, and `minimum`, `maximum`
    and `nulls` the statistics that the log will carry.
    """

    path: str
    size: int
    rows: int
    partition: Mapping[str, int | str] = field(default_factory=dict)
    minimum: Mapping[str, Any] = field(default_factory=dict)
    maximum: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)

    def action(self) -> AddAction:
        """Return the add action; statistics leave the partition columns out, as the protocol wants."""
        statistics = {
            "numRecords": self.rows,
            "minValues": dict(self.minimum),
            "maxValues": dict(self.maximum),
            "nullCount": dict(self.nulls),
        }
        return AddAction(
            path=self.path,
            size=self.size,
            partition_values={name: str(value) for name, value in self.partition.items()},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps(statistics),
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a table's log: when, and the metadata that our writers left (empty for others')."""

    version: int
    timestamp: datetime
    operation: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A table as of one version. `files` is a frame: path, uri, size_bytes, num_records, partitions, statistics."""

    uri: str
    version: int
    table: DeltaTable

    @cached_property
    def files(self) -> pl.DataFrame:
        """One row a live file: ``path, size_bytes, num_records``, partition values and ``min.* max.* null_count.*``.

        Partition columns stand under their own names.
        """
        # By way of Polars' own import: pyarrow's would load pandas to see whether this is a pandas frame.
        actions = pl.Series(self.table.get_add_actions(flatten=True))
        frame = actions.struct.unnest()
        renames = {name: name.removeprefix("partition.") for name in frame.columns if name.startswith("partition.")}
        frame = frame.rename(renames).drop("modification_time", strict=False)
        for name in (*self.table.metadata().partition_columns, "num_records", "size_bytes"):
            if name not in frame.columns:  # a table without files lists no partition columns
                frame = frame.with_columns(pl.lit(None, dtype=pl.Int64).alias(name))
        return frame

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's Arrow schema."""
        return pa.schema(self.table.schema().to_arrow())

    @property
    def committed(self) -> int:
        """How many commits our writers have made, as the log's application transaction tells."""
        return self.mark(WRITER)

    def mark(self, application: str) -> int:
        """Return the version that `application` has recorded in this table's log, -1 where it has not."""
        with _translated(self.uri):
            version = self.table.transaction_version(application)
        return -1 if version is None else version


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError as error:
        raise NotFoundError("there is no Delta table here", kind="table", uri=uri) from error
    except (DeltaError, OSError) as error:
        raise StorageError(f"the table cannot be read or written: {error}", uri=uri) from error


def exists(uri: str, settings: Settings) -> bool:
    """Return whether a Delta table stands at `uri`."""
    with _translated(uri):
        return DeltaTable.is_deltatable(uri, storage.object_store_options(uri, settings))


def create(
    uri: str,
    schema: pa.Schema,
    settings: Settings,
    *,
    name: str,
    description: str = "",
    partition_by: Sequence[str] = (),
    statistics: Sequence[str] = (),
) -> None:
    """Create an empty table unless there is one. Log cleaning is left to `maintain`, which knows the pins.

    Of several that create it at once one does, and the others find it.
    """
    configuration: dict[str, str | None] = {"delta.enableExpiredLogCleanup": "false"}
    if statistics:
        configuration["delta.dataSkippingStatsColumns"] = ",".join(statistics)
    with _translated(uri):
        try:
            DeltaTable.create(
                uri,
                Schema.from_arrow(schema),
                mode="ignore",
                partition_by=list(partition_by),
                name=name,
                description=description,
                configuration=configuration,
                storage_options=storage.object_store_options(uri, settings),
                # Tried again, a creation that came second would land as a version of its own.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            if not exists(uri, settings):
                raise


def snapshot(uri: str, settings: Settings, version: int | datetime | None = None) -> Snapshot:
    """Return the table as of `version`: a number, a moment, or None for now.

    Raises
    ------
    NotFoundError
        No table here, or no such version.
    StorageError
        The store does not answer.
    """
    options = storage.object_store_options(uri, settings)
    with _translated(uri):
        table = DeltaTable(uri, storage_options=options)
        newest = table.version()
        if isinstance(version, int) and not 0 <= version <= newest:
            message = f"no version {version}; there are 0 to {newest}"
            raise NotFoundError(message, kind="version", uri=uri)
        if version is not None:
            table = _as_of(table, uri, version)
        if isinstance(version, datetime) and table.version() == 0:
            _refuse_before(uri, version, settings)
    return Snapshot(uri, table.version(), table)


def advanced(kept: Snapshot, settings: Settings) -> Snapshot:
    """Return the newest version of a table, reading only what its log has got since; `kept` itself where nothing.

    The table object moves on with the log, so what is wanted of `kept` must have been asked of it before.
    """
    try:
        if _is_newest(kept):
            return kept
        kept.table.update_incremental()
    except Exception:  # noqa: BLE001 - whatever it was, opening the table anew mends it or says it in our words
        return snapshot(kept.uri, settings)
    version = kept.table.version()
    return kept if version == kept.version else Snapshot(kept.uri, version, kept.table)


def _is_newest(kept: Snapshot) -> bool:
    """Return whether the log has no later version, where two looks at a local disk tell; a listing takes far longer.

    Old log files are cleaned away, but the later one never without the earlier: where the version's own file is, the
    next version's would be, too.
    """
    if storage.scheme(kept.uri) != "file":
        return False
    own, later = (Path(kept.uri, _log_file(version)) for version in (kept.version, kept.version + 1))
    return own.exists() and not later.exists()


def _log_file(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def _as_of(table: DeltaTable, uri: str, version: int | datetime) -> DeltaTable:
    try:
        table.load_as_version(version)
    except (DeltaError, OSError, ValueError) as error:
        raise NotFoundError(f"version {version} cannot be read any more: {error}", kind="version", uri=uri) from error
    return table


def _refuse_before(uri: str, moment: datetime, settings: Settings) -> None:
    """Refuse a moment at which there was no table yet: delta-rs answers it with the first, empty version."""
    first = next(commits(uri, settings, until=0), None)
    if first is not None and moment < first.timestamp:
        message = f"there was no table yet at {moment.isoformat(' ')}; it is of {first.timestamp.isoformat(' ')}"
        raise NotFoundError(message, kind="version", uri=uri)


def commit(
    base: Snapshot,
    commit_id: str,
    settings: Settings,
    *,
    add: Sequence[StagedFile] = (),
    remove: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    marks: Mapping[str, int] | None = None,
    replace_with: pa.Schema | None = None,
) -> int:
    """Make `add` visible and `remove` invisible in one version, exactly once, and return that version.

    The commit advances the writers' transaction by one from `base`, so of several writers that planned on one
    snapshot exactly one lands. An error may come after success: whatever goes wrong, the log is read again for
    `commit_id` before anything is said to have failed.

    With `replace_with`, every file of `base` becomes invisible and the table takes that schema: for derived tables, all
    of whose rows are made again.

    Raises
    ------
    ConflictError
        Another writer landed first: plan again on a new snapshot.
    StorageError
        The store refused, and this commit is not in the log.
    """
    known = {row["path"]: row for row in base.files.iter_rows(named=True)} if remove else {}
    partition_by = list(base.table.metadata().partition_columns)
    actions: list[AddAction | RemoveAction] = [file.action() for file in add]
    actions += [_remove_action(known[path], partition_by) for path in remove]
    transactions = {WRITER: base.committed + 1, **(marks or {})}
    properties = CommitProperties(
        custom_metadata={METADATA: {"commit_id": commit_id, **(metadata or {})}},
        max_commit_retries=0,
        app_transactions=[Transaction(name, version) for name, version in transactions.items()],
    )
    try:
        base.table.create_write_transaction(
            actions,
            mode="append" if replace_with is None else "overwrite",
            schema=base.table.schema() if replace_with is None else Schema.from_arrow(replace_with),
            partition_by=partition_by or None,
            commit_properties=properties,
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False),
        )
    except (DeltaError, OSError) as error:
        return _settle(base, commit_id, settings, error)
    return base.version + 1


def _remove_action(row: Mapping[str, Any], partition_by: Sequence[str]) -> RemoveAction:
    partition: dict[str, str | None] = {name: str(row[name]) for name in partition_by}
    return RemoveAction(row["path"], True, int(time.time() * 1000), row["size_bytes"], partition)


def _settle(base: Snapshot, commit_id: str, settings: Settings, error: Exception) -> int:
    """Find out whether the commit that raised `error` landed all the same, and name the failure where not."""
    others = 0
    for entry in commits(base.uri, settings, since=base.version):
        if entry.metadata.get("commit_id") == commit_id:
            return entry.version
        others += 1
    if others or isinstance(error, CommitFailedError):
        message = f"{others} other commit(s) landed after version {base.version}, on which this was planned"
        raise ConflictError(message, uri=base.uri) from error
    raise StorageError(f"the commit was refused: {error}", uri=base.uri) from error


def commits(uri: str, settings: Settings, *, since: int = -1, until: int | None = None) -> Iterator[Commit]:
    """Yield the log's commits after version `since`, oldest first, straight from the log files.

    Versions whose log file has been cleaned away are passed over: what they said has been recorded long before.
    """
    last = snapshot(uri, settings).version if until is None else until
    for version in range(since + 1, last + 1):
        try:
            text = storage.read_bytes(storage.join(uri, _log_file(version)), settings)
        except InputError as error:
            if error.kind != "vanished":
                raise
            continue
        yield _parse_commit(version, text)


def _parse_commit(version: int, text: bytes) -> Commit:
    # The commit info is the first action that delta-rs writes; the adds behind it may be many.
    for line in text.splitlines():
        if line.startswith(b'{"commitInfo"'):
            info = json.loads(line)["commitInfo"]
            moment = datetime.fromtimestamp(info["timestamp"] / 1000, tz=UTC)
            return Commit(version, moment, info.get("operation", ""), info.get(METADATA) or {})
    return Commit(version, datetime.fromtimestamp(0, tz=UTC), "", {})


def vacuum(base: Snapshot, hours: float, *, keep_versions: Sequence[int] = (), dry_run: bool = False) -> list[str]:
    """Remove files that no kept version needs and that are older than `hours`; return their relative paths.

    A full vacuum: it also finds staged files that were never committed. `hours` must exceed the longest run,
    because a younger orphan may be another writer's work.
    """
    with _translated(base.uri):
        return base.table.vacuum(
            retention_hours=math.ceil(hours),  # whole hours only; never fewer than were asked for
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=list(keep_versions) or None,
        )


def checkpoint(base: Snapshot) -> None:
    """Write a checkpoint, so that opening the table need not read the whole log."""
    with _translated(base.uri):
        base.table.create_checkpoint()


def partition_filter(files: pl.DataFrame, tract: int, patch: int | None = None) -> pl.DataFrame:
    """Return the rows of `Snapshot.files` that lie in a tract, or in one patch of it."""
    chosen = files.filter(pl.col(TRACT) == tract)
    return chosen if patch is None else chosen.filter(pl.col(PATCH) == patch)
