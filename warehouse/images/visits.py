"""``Visit`` and ``CcdVisit`` as far as image headers go, for a warehouse into which no file of theirs was loaded.

What headers tell stands in the table as the unit that its own file is (``visitTable``), so that an ingest of that file
replaces it like an earlier delivery. The file knows more - zero points, backgrounds, seeing - and is never mixed with
headers: once it is loaded, nothing is filled any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, Contract
from warehouse.contracts.image import IMAGE, image_types
from warehouse.errors import ConflictError
from warehouse.images.recording import standing
from warehouse.images.rows import Found, framed
from warehouse.lake import delta, layout, ledger, staged
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.ledger import Entry
from warehouse.lake.root import Root, ensure_table
from warehouse.lake.units import input_id

VISIT, CCD_VISIT = "Visit", "CcdVisit"
STAMP = "image headers"
_KEYS: Mapping[str, tuple[str, ...]] = {VISIT: ("visit",), CCD_VISIT: ("visitId", "detector")}
_MJD_EPOCH = datetime(1858, 11, 17)  # noqa: DTZ001 - TAI, which Python does not know


def fill(root: Root, found: Sequence[Found], settings: Settings, *, run_id: str) -> dict[str, int]:
    """Add the visits and detectors of images to Visit and CcdVisit; return the versions of the tables written.

    A visit's row stays as the first of its images told it; a detector's follows its own image.

    Raises
    ------
    ConflictError
        Other writers were first too many times.
    """
    single = [item for item in found if {"visit", "detector"} <= item.data_id.keys()]
    versions = {}
    for table in _KEYS:
        if not single or table not in root.contracts.tables:
            continue
        version = _fill(root, table, single, settings, run_id)
        if version is not None:
            versions[table] = version
    return versions


def _fill(root: Root, table: str, found: Sequence[Found], settings: Settings, run_id: str) -> int | None:
    contract = root.contract(table)
    unit = contract.dataset_types[0].name
    source = root.table_uri(IMAGE)
    rows = _rows(table, contract, _preferred(root, table, found), input_id(table, unit))
    for _ in range(settings.commit_attempts):
        base = ensure_table(root, table, settings)
        if any(entry.uri != source for entry in standing(root, table, settings).rows.values()):
            return None
        try:
            version = _commit(root, base, contract, rows, settings, run_id)
        except ConflictError:
            continue
        if version is not None:
            ledger.catch_up(root.uri, table, settings)
        return version
    raise ConflictError(f"{settings.commit_attempts} attempts to commit were overtaken", table=table, uri=root.uri)


def _commit(
    root: Root, base: Snapshot, contract: Contract, rows: pl.DataFrame, settings: Settings, run_id: str
) -> int | None:
    """Commit what is new among `rows`, and for detectors what differs; return the version, None where nothing is."""
    key = list(_KEYS[contract.table])
    held = {row["path"]: _read(base, row["path"], settings) for row in base.files.iter_rows(named=True)}
    known = pl.concat([rows.clear(), *(frame.select(rows.columns) for frame in held.values())])
    new = rows.join(known, on=key, how="anti")
    if contract.table == CCD_VISIT:
        new = rows.join(known, on=rows.columns, how="anti", nulls_equal=True)
    if not new.height:
        return None
    add = [_write(layout.clustered(new, contract), base, contract, settings)]
    remove = []
    for path, frame in held.items():
        kept = frame.join(new, on=key, how="anti")
        if kept.height < frame.height:
            remove.append(path)
            add += [_write(layout.clustered(kept, contract), base, contract, settings)] if kept.height else []
    total = known.join(new, on=key, how="anti").height + new.height
    unit = contract.dataset_types[0].name
    entry = Entry(
        input_id(contract.table, unit),
        unit,
        root.table_uri(IMAGE),
        0,
        STAMP,
        "committed",
        dataset_type=unit,
        rows_read=total,
        rows_committed=total,
        contract=contract.digest,
    )
    commit_id = uuid.uuid4().hex
    metadata = ledger.write_record(base.uri, commit_id, [entry], (), settings)
    return delta.commit(base, commit_id, settings, add=add, remove=remove, metadata={"run_id": run_id, **metadata})


def _read(base: Snapshot, path: str, settings: Settings) -> pl.DataFrame:
    options = storage.polars_options(base.uri, settings) or None
    return pl.read_parquet(storage.join(base.uri, path), storage_options=options, hive_partitioning=False)


def _write(frame: pl.DataFrame, base: Snapshot, contract: Contract, settings: Settings) -> StagedFile:
    schema = contract.file_schema
    return staged.write(frame.select(schema.names), base.uri, settings, schema=schema, statistics=contract.statistics)


def _preferred(root: Root, table: str, found: Iterable[Found]) -> list[Found]:
    """Return one image for each row: of the dataset type that the release names first."""
    preference = {name: place for place, name in enumerate(image_types(root.release))}
    dimensions = ("visit",) if table == VISIT else ("visit", "detector")
    chosen: dict[tuple[int | str, ...], Found] = {}
    for item in sorted(found, key=lambda f: (preference[f.dataset_type], f.input.uri)):
        chosen.setdefault(tuple(item.data_id[name] for name in dimensions), item)
    return list(chosen.values())


def _rows(table: str, contract: Contract, found: Iterable[Found], identity: int) -> pl.DataFrame:
    row = _visit_row if table == VISIT else _ccd_visit_row
    return framed(contract, [row(item) | {INPUT_ID: identity} for item in found]).select(contract.file_schema.names)


def _visit_row(item: Found) -> dict[str, Any]:
    pointing = item.header.pointing
    return _shared(item) | {
        "visit": item.data_id["visit"],
        "ra": pointing.ra_deg,
        "dec": pointing.dec_deg,
        "decl": pointing.dec_deg,
        "azimuth": pointing.azimuth_deg,
        "altitude": pointing.altitude_deg,
        "airmass": pointing.airmass,
    }


def _ccd_visit_row(item: Found) -> dict[str, Any]:
    header = item.header
    visit, detector = int(item.data_id["visit"]), int(item.data_id["detector"])
    # The first pixel is the lower left one; corners go round from there.
    names = (("llcra", "llcdec"), ("lrcra", "lrcdec"), ("urcra", "urcdec"), ("ulcra", "ulcdec"))
    corners = {
        name: value
        for pair, place in zip(names, header.corners, strict=True)
        for name, value in zip(pair, place, strict=True)
    }
    return (
        _shared(item)
        | corners
        | {
            "ccdVisitId": visit * 1000 + detector,
            "visitId": visit,
            "detector": detector,
            "ra": header.ra_deg,
            "dec": header.dec_deg,
            "decl": header.dec_deg,
            "pixelScale": header.pixel_arcsec,
            "xSize": header.width,
            "ySize": header.height,
            "darkTime": header.pointing.dark_seconds,
        }
    )


def _shared(item: Found) -> dict[str, Any]:
    """Return the columns that both tables have."""
    pointing = item.header.pointing
    return {
        "physical_filter": item.data_id.get("physical_filter"),
        "band": item.data_id.get("band"),
        "skyRotation": pointing.sky_rotation_deg,
        "zenithDistance": None if pointing.altitude_deg is None else 90.0 - pointing.altitude_deg,
        "expTime": pointing.exposure_seconds,
        "expMidpt": _moment(pointing.mid_mjd),
        "expMidptMJD": pointing.mid_mjd,
        "obsStart": _moment(pointing.begin_mjd),
        "obsStartMJD": pointing.begin_mjd,
    }


def _moment(mjd: float | None) -> datetime | None:
    return None if mjd is None else _MJD_EPOCH + timedelta(days=mjd)
