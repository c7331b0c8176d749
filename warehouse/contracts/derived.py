"""The contracts of tables that no release publishes: ours, made of a release's own.

ObjectTruth is MatchesTruth, TruthSummary and Object joined, and kept up to date (`warehouse.truth`); the contract of
Image stands in `warehouse.contracts.image`.
Here stand its columns, so that listing, scanning, pinning and auditing know it as they know the published tables; how
its rows come about does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Column, Contract
from warehouse.contracts.image import IMAGE, image_contract, image_types
from warehouse.contracts.release import Release
from warehouse.errors import QueryError

OBJECT_TRUTH = "ObjectTruth"
MADE_OF = ("TruthSummary", "Object", "MatchesTruth")
"""The tables that ObjectTruth is made of."""

BANDS = ("u", "g", "r", "i", "z", "y")
MATCHED, MISSED, UNMATCHED_OBJECT = "matched", "missed", "unmatched_object"
# What every table has beside its published columns, and what a join has to say anew.
BOOKKEEPING = (TRACT, PATCH, INPUT_ID)


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


def derived(release: Release) -> Mapping[str, Contract]:
    """Return the contracts of our own tables that a release has what it takes for, by name."""
    images = {IMAGE: image_contract(release.name)} if image_types(release.name) else {}
    if not all(name in release.tables and release.tables[name].key for name in MADE_OF):
        return images
    choice = fitting(release.tables["Object"])
    return {OBJECT_TRUTH: object_truth_contract(release, choice), **images} if choice.bands else images


def fitting(objects: Contract, choice: ObjectChoice = DEFAULT_CHOICE) -> ObjectChoice:
    """Return `choice` without the bands and columns that a release's Object lacks."""
    banded = (*choice.per_band, *(flux for _, flux in choice.magnitudes))
    bands = tuple(band for band in choice.bands if all(name.format(band=band) in objects.by_name for name in banded))
    return replace(choice, bands=bands, columns=tuple(name for name in choice.columns if name in objects.by_name))


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
        # Most questions are about matched rows: their row groups hold nothing else, and the others are skipped.
        cluster_by=("match_status", "dec_deg", "ra_deg"),
        statistics=("dec_deg", "ra_deg", "ts_truth_type", "obj_objectId"),
        compression="snappy",
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
