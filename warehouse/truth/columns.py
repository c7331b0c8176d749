"""The columns of truth and of what was measured: bands, magnitudes, and what ObjectTruth holds.

Belongs here: names, and the expressions that follow from a name. The rules of the match and of the join do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Column, Contract
from warehouse.contracts.release import Release
from warehouse.errors import QueryError

BANDS = ("u", "g", "r", "i", "z", "y")
AB_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy, as Rubin rounds it."""

OBJECT_TRUTH = "ObjectTruth"
MATCHED, MISSED, UNMATCHED_OBJECT = "matched", "missed", "unmatched_object"
# What every table has beside its published columns, and what a join has to say anew.
BOOKKEEPING = (TRACT, PATCH, INPUT_ID)


def ab_magnitude(flux_nJy: pl.Expr) -> pl.Expr:
    """Return the AB magnitude of a flux in nJy; null where the flux is null, not finite or not positive."""
    return pl.when(flux_nJy.is_finite() & (flux_nJy > 0)).then(AB_ZERO_POINT - 2.5 * flux_nJy.log10())


def ab_magnitude_error(flux_nJy: pl.Expr, error_nJy: pl.Expr) -> pl.Expr:
    """Return the 1-sigma error of `ab_magnitude`, to first order; null where the magnitude or the error is."""
    known = flux_nJy.is_finite() & (flux_nJy > 0) & error_nJy.is_finite()
    return pl.when(known).then(2.5 / math.log(10) * error_nJy / flux_nJy)


def target_candidate(true: tuple[str, ...], false: tuple[str, ...]) -> pl.Expr:
    """Return whether every flag of `true` is set and none of `false`; a null flag is not set."""
    return pl.all_horizontal(
        pl.lit(value=True),
        *(pl.col(name).cast(pl.Boolean).fill_null(value=False) for name in true),
        *(pl.col(name).cast(pl.Boolean).fill_null(value=False).not_() for name in false),
    )


@dataclass(frozen=True, slots=True)
class ObjectChoice:
    """Which columns of Object ObjectTruth takes over, and which objects count as ones that truth could explain.

    Attributes
    ----------
    bands
        Stand for ``{band}`` in `per_band` and `magnitudes`. A release with fewer names fewer here.
    columns, per_band
        Columns of Object. The id and the position are always taken.
    magnitudes
        Magnitude column to the flux column that it is made from, where Object has no such column itself.
    object_true, object_false
        Flags of an object that is kept although no truth is matched with it: the first set, the second not.
    """

    bands: tuple[str, ...] = BANDS
    columns: tuple[str, ...] = (
        "refBand",
        "refExtendedness",
        "detect_isPrimary",
        "detect_isPatchInner",
        "detect_isTractInner",
        "detect_isIsolated",
        "detect_fromBlend",
        "merge_peak_sky",
    )
    per_band: tuple[str, ...] = (
        "{band}_extendedness",
        "{band}_cModelFlux",
        "{band}_cModelFluxErr",
        "{band}_cModel_flag",
        "{band}_psfFlux",
        "{band}_psfFluxErr",
        "{band}_psfFlux_flag",
    )
    magnitudes: tuple[tuple[str, str], ...] = (
        ("{band}_cModelMag", "{band}_cModelFlux"),
        ("{band}_psfMag", "{band}_psfFlux"),
    )
    object_true: tuple[str, ...] = ("detect_isPrimary",)
    object_false: tuple[str, ...] = ("merge_peak_sky",)

    def __post_init__(self) -> None:
        if len(set(self.bands)) != len(self.bands):
            raise QueryError(f"ObjectChoice bands: expected different bands, found {self.bands}")

    def taken(self) -> tuple[str, ...]:
        """Return the Object columns that are taken over, without the derived magnitudes."""
        banded = (name.format(band=band) for band in self.bands for name in self.per_band)
        return tuple(dict.fromkeys(("objectId", "coord_ra", "coord_dec", *self.columns, *banded)))

    def derived(self) -> dict[str, str]:
        """Return each magnitude column with the flux column that it is made from."""
        return {
            magnitude.format(band=band): flux.format(band=band)
            for band in self.bands
            for magnitude, flux in self.magnitudes
        }

    def read(self) -> tuple[str, ...]:
        """Return the Object columns that the join reads, tract and patch included."""
        needed = (*self.taken(), *self.derived().values(), *self.object_true, *self.object_false, TRACT, PATCH)
        return tuple(dict.fromkeys(needed))


DEFAULT_CHOICE = ObjectChoice()


def object_truth_contract(release: Release, choice: ObjectChoice = DEFAULT_CHOICE) -> Contract:
    """Return the contract of ObjectTruth: the columns of `warehouse.truth.join.object_truth`, in its order.

    Types, units, UCDs and descriptions are those of the tables that the columns come from. The position of a
    row is ``ra_deg``, ``dec_deg``; tract and patch are declared, as Object's are.

    Raises
    ------
    NotFoundError
        The release lacks one of the tables, or its Object lacks a column of `choice`; with the near misses.
    """
    matches, truth, objects = (release.contract(name) for name in ("MatchesTruth", "TruthSummary", "Object"))
    columns = (
        Column("match_status", "char", pa.string(), None, "meta.code", f"{MATCHED}, {MISSED} or {UNMATCHED_OBJECT}"),
        Column(
            "separation_arcsec", "double", pa.float64(), "arcsec", "pos.angDistance", "From the truth to the object"
        ),
        Column("ra_deg", "double", pa.float64(), "deg", "pos.eq.ra", "Of the truth, or of an object without one"),
        Column("dec_deg", "double", pa.float64(), "deg", "pos.eq.dec", "Of the truth, or of an object without one"),
        *_prefixed("mt_", matches),
        *_prefixed("ts_", truth),
        Column("ts_tract", "long", pa.int64(), None, None, "Tract of the truth row"),
        Column("ts_patch", "long", pa.int64(), None, None, "Patch of the truth row"),
        *_chosen(objects, choice),
    )
    return Contract(
        release=release.name,
        table=OBJECT_TRUTH,
        description="Truth rows that were match candidates and primary objects, joined by the match",
        columns=columns,
        key=(),
        position=("ra_deg", "dec_deg"),
        assignment="declared",
        generated=True,
        cluster_by=("dec_deg", "ra_deg"),
        statistics=("dec_deg", "ra_deg", "ts_truth_type", "obj_objectId"),
    )


def _prefixed(prefix: str, contract: Contract) -> Iterator[Column]:
    for column in contract.columns:
        if column.name not in BOOKKEEPING:
            yield replace(column, name=prefix + column.name, nullable=True)


def _chosen(objects: Contract, choice: ObjectChoice) -> Iterator[Column]:
    for name in choice.taken():
        yield replace(objects.column(name), name=f"obj_{name}", nullable=True)
    for magnitude, flux in choice.derived().items():
        objects.column(flux)
        if magnitude not in choice.taken():
            note = f"AB magnitude of {flux}; null where that is not positive"
            yield Column(f"obj_{magnitude}", "double", pa.float64(), "mag", "phot.mag", note)
