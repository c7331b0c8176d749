"""The ledger and the quarantine: which input gave which rows to which version, and which rows were set aside, and why.

Both are Delta tables of the warehouse, and both are *views*: what happened stands in each table's own log. A commit
names a record file beside the table (``_commits/<commit_id>.parquet``: one row an input) and, where rows were refused,
a file with those rows; `catch_up` copies them, with the version that the log gave them, into ``Ledger`` and
``Quarantine``, marking how far it has read in the same commit. A crash in between is healed by the next call, two calls
at once cannot record a version twice, and both tables can be thrown away and made again from the logs.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import ConflictError, NotFoundError
from warehouse.faults import translated
from warehouse.lake import delta, staged
from warehouse.lake.rows import of_files

LEDGER = "Ledger"
QUARANTINE = "Quarantine"
COMMITS = "_commits"
# So many commits with nothing to record are read again rather than marked as read: a mark costs a commit of its own.
UNMARKED = 8
# What of a commit's rows that were set aside goes into one file.
PART_BYTES = 32 << 20

Status = Literal["committed", "refused", "removed"]

_JSON = ("data_id", "rules", "nulled", "cast", "cut", "missing", "extra", "tracts")

QUARANTINED_ROWS = pa.schema(
    [
        ("input_id", pa.int64()),
        ("uri", pa.string()),
        ("row_number", pa.int64()),
        ("rules", pa.list_(pa.string())),
        ("key", pa.string()),
        ("values", pa.string()),
    ]
)
_WHEN = [("table", pa.string()), ("version", pa.int64())]
QUARANTINE_SCHEMA = pa.schema([*_WHEN, *QUARANTINED_ROWS])


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one input in one commit.

    Attributes
    ----------
    unit
        What a re-delivery replaces, in words: dataset type and data id, else the path.
    stamp, digest
        The listing's ETag or size and time; the digest of the content, where it was computed.
    rows_read, rows_committed, rows_quarantined
        ``rows_read == rows_committed + rows_quarantined``, always.
    rules
        Refused rows by rule (a row that breaks two counts in both).
    nulled, cast, cut
        Values by column: non-finite ones that became null, ones whose type was changed without loss, times that were
        cut to whole microseconds.
    missing, extra
        Columns that the contract has and the file lacks, and the other way round.
    places
        The state of the table through which its rows got their places.
    tracts
        Tracts that its rows went to: where to look when the input is replaced.
    hdu
        The HDU that was asked for; later deliveries of the input are read from it unless another is.
    """

    input_id: int
    unit: str
    uri: str
    size: int
    stamp: str
    status: Status
    dataset_type: str | None = None
    data_id: Mapping[str, int | str] = field(default_factory=dict)
    run: str | None = None
    digest: str | None = None
    rows_read: int = 0
    rows_committed: int = 0
    rows_quarantined: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    nulled: Mapping[str, int] = field(default_factory=dict)
    cast: Mapping[str, int] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    extra: Sequence[str] = ()
    tracts: Sequence[int] = ()
    error: str | None = None
    contract: str | None = None
    places: str = ""
    seconds: float = 0.0
    hdu: str | None = None

    def removed(self) -> Entry:
        """Return the entry of the commit that takes this input's rows out of the table."""
        kept = ("input_id", "unit", "uri", "size", "stamp", "dataset_type", "data_id", "run")
        return Entry(**{name: getattr(self, name) for name in kept}, status="removed")


_TYPES: dict[str, Any] = {
    "input_id": pa.int64(),
    "size": pa.int64(),
    "rows_read": pa.int64(),
    "rows_committed": pa.int64(),
    "rows_quarantined": pa.int64(),
    "seconds": pa.float64(),
}
ENTRIES = pa.schema([(name, _TYPES.get(name, pa.string())) for name in Entry.__dataclass_fields__])
NO_ENTRIES = pl.DataFrame(schema=pl.Schema(ENTRIES))
LEDGER_SCHEMA = pa.schema(
    [*_WHEN, *ENTRIES, ("commit_id", pa.string()), ("run_id", pa.string()), ("committed_at", pa.timestamp("us", "UTC"))]
)
STATISTICS = ("version", "input_id")


def entries_frame(entries: Sequence[Entry]) -> pl.DataFrame:
    """Return entries as a frame of the schema `ENTRIES`; what is not a scalar becomes JSON text."""
    rows = [asdict(entry) for entry in entries]
    for row in rows:
        for name in _JSON:
            row[name] = json.dumps(row[name], sort_keys=True)
    return pl.DataFrame(rows, schema=pl.Schema(ENTRIES))


def frame_entries(frame: pl.DataFrame) -> list[Entry]:
    """Return the rows of a ledger frame as entries."""
    names = list(Entry.__dataclass_fields__)
    return [
        Entry(**{name: json.loads(row[name]) if name in _JSON else row[name] for name in names})
        for row in frame.select(names).iter_rows(named=True)
    ]


def write_record(
    table_uri: str, commit_id: str, entries: Sequence[Entry], refused: Iterable[pl.DataFrame], settings: Settings
) -> dict[str, Any]:
    """Write a commit's record files beside the table, before the commit, and return the metadata that names them.

    The metadata also says, for each input, what anybody needs who has the log alone.
    """
    folder = storage.join(table_uri, COMMITS)
    storage.write_bytes(storage.join(folder, f"{commit_id}.parquet"), _parquet(entries_frame(entries)), settings)
    metadata: dict[str, Any] = {
        "record": f"{COMMITS}/{commit_id}.parquet",
        "rows_read": sum(e.rows_read for e in entries),
        "rows_committed": sum(e.rows_committed for e in entries),
        "rows_quarantined": sum(e.rows_quarantined for e in entries),
        "inputs": [
            [e.input_id, e.status, e.digest or e.stamp, e.rows_read, e.rows_committed, e.rows_quarantined]
            for e in entries
        ],
    }
    for number, part in enumerate(_parts(refused)):
        name = f"{COMMITS}/{commit_id}.quarantine-{number}.parquet"
        storage.write_bytes(storage.join(table_uri, name), _parquet(part), settings)
        metadata.setdefault("quarantine", []).append(name)
    return metadata


def _parts(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same rows in frames of about `PART_BYTES`: one a file, and only one in memory."""
    held: list[pl.DataFrame] = []
    size = 0
    for frame in frames:
        held.append(frame)
        size += int(frame.estimated_size())
        if size > PART_BYTES:
            yield pl.concat(held)
            held, size = [], 0
    if held:
        yield pl.concat(held)


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


def create(root: str, settings: Settings) -> None:
    """Create the two tables unless they are there."""
    for name, schema, about in (
        (LEDGER, LEDGER_SCHEMA, "One row an input and version: what was read, committed, quarantined, and when."),
        (QUARANTINE, QUARANTINE_SCHEMA, "Rows set aside, with the rules that refused them, their input and values."),
    ):
        delta.create(
            storage.join(root, name),
            schema,
            settings,
            name=name,
            description=about,
            partition_by=("table",),
            statistics=STATISTICS,
        )


def catch_up(root: str, table: str, settings: Settings, *, newest: int | None = None) -> int:
    """Bring ledger and quarantine up to the newest version of `table`, where `newest` does not say which; return it.

    Safe to call at any time, by several at once, and after any crash.
    """
    if newest is None:
        newest = delta.snapshot(storage.join(root, table), settings).version
    for name in (QUARANTINE, LEDGER):  # the ledger last: where it tells of rows set aside, they can be seen
        for _ in range(settings.commit_attempts):
            try:
                _record(root, table, name, newest, settings)
            except ConflictError:
                continue  # another process recorded meanwhile; look again what is left to do
            break
        else:
            raise ConflictError(f"{settings.commit_attempts} attempts to record were overtaken", table=name)
    return newest


def _record(root: str, table: str, name: str, newest: int, settings: Settings) -> None:
    uri = storage.join(root, name)
    try:
        base = delta.snapshot(uri, settings)
    except NotFoundError:  # somebody has removed it: all of it is made again from the logs
        create(root, settings)
        base = delta.snapshot(uri, settings)
    mark = f"record:{table}"
    since = base.mark(mark)
    if since >= newest:
        return
    schema = LEDGER_SCHEMA if name == LEDGER else QUARANTINE_SCHEMA
    in_file = schema.remove(schema.get_field_index("table"))
    add = [
        staged.write(
            part.select(in_file.names),
            uri,
            settings,
            schema=in_file,
            statistics=STATISTICS,
            partition={"table": table},
        )
        for part in _parts(_frames(root, table, name, since, newest, settings))
    ]
    if add or newest - since > UNMARKED:
        delta.commit(base, uuid.uuid4().hex, settings, add=add, marks={mark: newest})


def _frames(root: str, table: str, name: str, since: int, newest: int, settings: Settings) -> Iterator[pl.DataFrame]:
    table_uri = storage.join(root, table)
    for entry in delta.commits(table_uri, settings, since=since, until=newest):
        records = [entry.metadata["record"]] if "record" in entry.metadata else []
        for record in records if name == LEDGER else entry.metadata.get("quarantine", ()):
            frame = pl.read_parquet(storage.read_bytes(storage.join(table_uri, record), settings))
            frame = frame.with_columns(version=pl.lit(entry.version, dtype=pl.Int64))
            if name == LEDGER:
                frame = pl.concat([frame, NO_ENTRIES], how="diagonal")  # an earlier version's record may lack a column
                frame = frame.with_columns(
                    commit_id=pl.lit(entry.metadata["commit_id"]),
                    run_id=pl.lit(entry.metadata.get("run_id"), dtype=pl.String),
                    committed_at=pl.lit(entry.timestamp).dt.cast_time_unit("us"),
                )
            yield frame


def read(root: str, name: str, table: str | None, settings: Settings) -> pl.DataFrame:
    """Return the rows of ``Ledger`` or ``Quarantine``, of one table or of all, oldest first."""
    found = scan(root, name, table, settings).sort("table", "version", "input_id", maintain_order=True)
    with translated(storage.join(root, name), "reading"):
        return found.collect()


def scan(root: str, name: str, table: str | None, settings: Settings) -> pl.LazyFrame:
    """Return the rows of ``Ledger`` or ``Quarantine``, of one table or of all, as they lie in the files."""
    uri = storage.join(root, name)
    schema = LEDGER_SCHEMA if name == LEDGER else QUARANTINE_SCHEMA
    empty = pl.DataFrame(schema=pl.Schema(schema))
    try:
        files = delta.snapshot(uri, settings).files
    except NotFoundError:
        return empty.lazy()
    if table is not None:
        files = files.filter(pl.col("table") == table)
    return of_files(uri, files, empty.schema, ["table"], settings)


def latest(root: str, table: str, settings: Settings) -> pl.DataFrame:
    """Return the newest ledger row of each input of `table`, oldest first.

    Where that is a refusal, the newest row before it that is none comes too: its rows still stand in the table.
    """
    rows = read(root, LEDGER, table, settings)
    newest = pl.col("version").max().over("input_id")
    standing = pl.col("version").filter(pl.col("status") != "refused").max().over("input_id")
    return rows.filter((pl.col("version") == newest) | (pl.col("version") == standing))


def fed_from(root: str, folders: Sequence[str], settings: Settings) -> set[str]:
    """Return the tables that hold rows of inputs, or refused inputs, from below any of `folders`."""
    if not folders:
        return set()
    newest = read(root, LEDGER, None, settings).group_by("table", "input_id", maintain_order=True).last()
    there = newest.filter(pl.col("status") != "removed").select("table", "uri").unique().iter_rows()
    return {table for table, uri in there if storage.is_below(uri, folders)}
