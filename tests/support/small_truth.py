"""A warehouse of three small tables - truth, objects, matches - whose tracts a test puts, replaces and drops at will.

Rows are committed straight through the lake: what an ingest checks beforehand is not the business of those who read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from warehouse import contracts
from warehouse.config import Settings
from warehouse.contracts import Contract, Release
from warehouse.contracts.contract import PATCH, TRACT
from warehouse.lake import delta, layout, staged
from warehouse.lake import root as roots
from warehouse.lake.root import Root, ensure_table

OBJECT, TRUTH, MATCHES, JOINED = "Object", "TruthSummary", "MatchesTruth", "ObjectTruth"
BANDS = ("g", "r", "i")
_PLACES = ("coord_ra", "coord_dec", "x", "y", "xErr", "yErr", "tract", "patch")
_FLAGS = ("detect_isPrimary", "merge_peak_sky", "refExtendedness")
_MEASURED = ("extendedness", "cModelFlux", "cModelFluxErr", "cModel_flag", "psfFlux", "psfFluxErr", "psfFlux_flag")
KEPT = {
    OBJECT: ("objectId", *_PLACES, *_FLAGS, *(f"{band}_{name}" for band in BANDS for name in _MEASURED)),
    TRUTH: ("id_truth_type", "id", "ra", "dec", "redshift", "truth_type", *(f"flux_{band}" for band in BANDS)),
}


def small_release() -> Release:
    """Return dp02 with the three tables only, and of their columns as many as three bands need."""
    full = contracts.load("dp02")

    def small(table: str) -> Contract:
        contract = full.contract(table)
        kept = KEPT.get(table, tuple(contract.by_name))
        return replace(contract, columns=tuple(column for column in contract.columns if column.name in kept))

    return replace(full, tables={table: small(table) for table in (OBJECT, TRUTH, MATCHES)})


@dataclass
class SmallTruth:
    """The warehouse, and what it should hold by table and tract."""

    root: Root
    settings: Settings
    held: dict[tuple[str, int], pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: object, settings: Settings) -> SmallTruth:
        """Create one in a folder, with its three tables empty."""
        root = roots.create(str(folder), "dp02", settings)
        root.__dict__["contracts"] = small_release()
        for table in (OBJECT, TRUTH, MATCHES):
            ensure_table(root, table, settings)
        return cls(root, settings)

    def put(self, table: str, tract: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Replace a tract of a table by these rows, which name the columns that matter; return the version."""
        contract = self.root.contract(table)
        frame = pl.DataFrame(
            [{"input_id": 1, **row, TRACT: tract} for row in rows], schema=pl.Schema(contract.arrow_schema)
        )
        base = delta.snapshot(self.root.table_uri(table), self.settings)
        files = [
            staged.write_rows(part, contract, base.uri, self.settings, partition)
            for partition, part in layout.by_partition(layout.clustered(frame, contract), contract)
        ]
        old = base.files.filter(pl.col(TRACT) == tract)["path"].to_list()
        self.held[table, tract] = frame
        return delta.commit(base, uuid.uuid4().hex, self.settings, add=files, remove=old)

    def whole(self, table: str) -> pl.DataFrame:
        """Return all rows that a table should hold."""
        empty = pl.DataFrame(schema=pl.Schema(self.root.contract(table).arrow_schema))
        return pl.concat([empty, *(frame for (name, _), frame in sorted(self.held.items()) if name == table)])

    def joined(self) -> pl.DataFrame:
        """Return the rows of ObjectTruth, as they stand in its files."""
        return rows_of(self.root, JOINED, self.settings)


def rows_of(root: Root, table: str, settings: Settings) -> pl.DataFrame:
    """Return all rows of a table's newest version, tract and patch from the paths."""
    snapshot = delta.snapshot(root.table_uri(table), settings)
    frames = [
        pl.read_parquet(f"{snapshot.uri}/{path}", hive_partitioning=False).with_columns(
            pl.lit(tract, pl.Int64).alias(TRACT), pl.lit(patch, pl.Int64).alias(PATCH)
        )
        for path, tract, patch in snapshot.files.select("path", TRACT, PATCH).iter_rows()
    ]
    schema = pl.Schema(snapshot.schema)
    return pl.concat([pl.DataFrame(schema=schema), *(frame.select(schema.names()) for frame in frames)])


def object_row(number: int, patch: int = 0, *, primary: bool = True, sky: bool = False, **more: Any) -> dict[str, Any]:
    """Return an Object row with the id `number` + 2."""
    place = {"coord_ra": 62.0 + number / 3600, "coord_dec": -37.0}
    fluxes = {f"{band}_cModelFlux": 100.0 * (number + 1) for band in BANDS}
    flags = {"detect_isPrimary": primary, "merge_peak_sky": sky, "refExtendedness": 1.0}
    return {"objectId": number + 2, "patch": patch, **place, **flags, **fluxes, **more}


def truth_row(number: int, patch: int = 0, **more: Any) -> dict[str, Any]:
    """Return a TruthSummary row of a galaxy."""
    place = {"ra": 62.0 + number / 3600, "dec": -37.0, "redshift": 0.1 * number}
    fluxes = {f"flux_{band}": 100.0 * (number + 1) for band in BANDS}
    names = {"id_truth_type": f"{number}_1", "id": str(number), "truth_type": 1}
    return {**names, "patch": patch, **place, **fluxes, **more}


def match_row(
    number: int, object_number: int | None, patch: int = 0, *, candidate: bool | None = True
) -> dict[str, Any]:
    """Return a MatchesTruth row of truth `number`, matched with an object or with none."""
    wanted = None if object_number is None else object_number + 2
    names = {"id_truth_type": f"{number}_1", "id": str(number), "truth_type": 1}
    found = {"match_objectId": wanted, "match_candidate": candidate, "match_count": int(wanted is not None)}
    return {**names, **found, "patch": patch}
