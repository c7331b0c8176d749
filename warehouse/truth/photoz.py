"""The photo-z set: matched galaxies with measured magnitudes and true redshifts, selected from ObjectTruth.

Belongs here: the selection, frame to frame, and what it says of itself. The files that it is written to are
`warehouse.truth.photoz_files`' business, opening ObjectTruth is the query's.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.derived import BANDS, MATCHED
from warehouse.errors import ContractError, QueryError, near_misses
from warehouse.photometry import abmag, abmag_err
from warehouse.sky.regions import Region

Limits = Mapping[str, tuple[float | None, float | None]]

_LEADING = (
    *("mt_id_truth_type", "mt_match_objectId", "ts_ra", "ts_dec"),
    *("ts_truth_type", "ts_mag_r", "ts_is_pointsource", "ts_redshift"),
)
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


@dataclass(frozen=True, slots=True)
class Selection:
    """Which matched truth rows make the set, and which columns; the defaults are the usual training set.

    Attributes
    ----------
    region
        A region that the truth's position must lie in; None means everywhere.
    magnitude_limits
        Band to (brightest, faintest) cModel AB magnitude, both exclusive; None leaves a side open.
    bands
        Bands whose fluxes and magnitudes are given.
    errors
        Whether the 1-sigma errors of the cModel fluxes and magnitudes are given too.
    truth_types
        Kinds of truth: 1 galaxies, 2 stars; empty means all.
    extra
        More ObjectTruth columns to give, by their names there.
    train_fraction
        Where given, a column ``split`` says ``train`` or ``test``. It depends on the row's id and `seed` only, so
        that it is the same in every set, and a larger fraction's training rows hold a smaller one's.
    seed
        Chooses among the possible splits.

    Raises
    ------
    QueryError
        No such limits, bands or fraction.
    """

    region: Region | None = None
    magnitude_limits: Limits = field(
        default_factory=lambda: MappingProxyType({"g": (17.0, 26.0), "r": (17.0, 26.0), "i": (17.0, 26.0)})
    )
    bands: tuple[str, ...] = BANDS
    errors: bool = False
    truth_types: tuple[int, ...] = (1,)
    extra: tuple[str, ...] = ()
    train_fraction: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise QueryError(f"photo-z bands: expected different bands, at least one, found {self.bands}")
        for band, limits in self.magnitude_limits.items():
            if len(limits) != 2:
                raise QueryError(f"magnitude limits of {band}: expected (brightest, faintest), found {limits}")
            bright, faint = limits
            if bright is not None and faint is not None and not bright < faint:
                raise QueryError(f"magnitude limits of {band}: expected brightest < faintest, found {limits}")
        if self.train_fraction is not None and not 0 <= self.train_fraction <= 1:
            raise QueryError(f"train_fraction: expected 0 to 1, found {self.train_fraction}")

    def columns(self) -> tuple[str, ...]:
        """Return the names of the set's columns, in order: 28 by default."""
        measured = ["cModelFlux", "cModelMag", *(("cModelFluxErr", "cModelMagErr") if self.errors else ())]
        names = (
            *_LEADING,
            *(f"ts_flux_{band}" for band in self.bands),
            *("obj_coord_ra", "obj_coord_dec"),
            *(f"obj_{band}_{name}" for name in measured for band in self.bands),
            *self.extra,
            *(("split",) if self.train_fraction is not None else ()),
        )
        return tuple(dict.fromkeys(names))

    def recipe(self) -> dict[str, object]:
        """Return the selection in words and numbers that JSON can hold, for the metadata of a file."""
        said = {name: getattr(self, name) for name in ("bands", "errors", "truth_types", "extra")}
        limits = {band: list(limits) for band, limits in self.magnitude_limits.items()}
        split = {} if self.train_fraction is None else {"train_fraction": self.train_fraction, "seed": self.seed}
        region = None if self.region is None else repr(self.region)
        return {
            "region": region,
            "magnitude_limits": limits,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in said.items()},
            "match_status": MATCHED,
            "detect_isPrimary": True,
            "refExtendedness": "not null",
            **split,
        }


TRAINING = Selection()


def selection(region: Region | None = None, cuts: Mapping[str, Any] | None = None) -> Selection:
    """Return the selection of a region and cuts by name (QueryError names the near misses of a word that is none)."""
    known = {field.name for field in fields(Selection)}
    for name in cuts or {}:
        if name not in known - {"region"}:
            raise QueryError(f"no cut {name!r}; {near_misses(name, known)}", kind="photoz")
    words: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in (cuts or {}).items() if v is not None
    }
    return Selection(region=region, **words)


def photoz(object_truth: pl.LazyFrame, selection: Selection = TRAINING) -> pl.LazyFrame:
    """Return the photo-z set of an ObjectTruth frame: the rows of `selection`, its columns in its order.

    A row is a truth row of the wanted kind that is matched with a primary object whose extendedness is known
    and whose magnitudes lie within the limits.

    Raises
    ------
    ContractError
        ObjectTruth lacks a column that the selection needs, such as a band; with the near misses.
    """
    known = object_truth.collect_schema().names()
    made = _made(selection, known)
    wanted = [name for name in selection.columns() if name not in made]
    _check_known([*wanted, "match_status", "obj_detect_isPrimary", "obj_refExtendedness"], known)
    for expression in made.values():
        _check_known(expression.meta.root_names(), known)
    return object_truth.filter(_selected(selection, made)).select(
        made[name].alias(name) if name in made else pl.col(name) for name in selection.columns()
    )


def _made(selection: Selection, known: list[str]) -> dict[str, pl.Expr]:
    """Return the columns that are computed because ObjectTruth does not hold them, by name."""
    made = {}
    for band in dict.fromkeys((*selection.bands, *selection.magnitude_limits)):
        flux, magnitude = f"obj_{band}_cModelFlux", f"obj_{band}_cModelMag"
        if magnitude not in known:
            made[magnitude] = abmag(flux)
        if selection.errors and f"{magnitude}Err" not in known:
            made[f"{magnitude}Err"] = abmag_err(flux, f"{flux}Err")
    if selection.train_fraction is not None:
        made["split"] = split(pl.col("mt_id_truth_type"), selection.train_fraction, selection.seed)
    return made


def _check_known(names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            message = f"the photo-z set needs a column {name!r}, which is not there; {near_misses(name, known)}"
            raise ContractError(message, kind="column", table="ObjectTruth")


def _selected(selection: Selection, made: Mapping[str, pl.Expr]) -> pl.Expr:
    conditions = [
        pl.col("match_status") == MATCHED,
        pl.col("obj_detect_isPrimary"),
        pl.col("obj_refExtendedness").is_not_null() & pl.col("obj_refExtendedness").is_not_nan(),
    ]
    if selection.truth_types:
        conditions.append(pl.col("ts_truth_type").is_in(list(selection.truth_types)))
    for band, (bright, faint) in selection.magnitude_limits.items():
        name = f"obj_{band}_cModelMag"
        magnitude = made.get(name, pl.col(name))
        if bright is not None:
            conditions.append(magnitude > bright)
        if faint is not None:
            conditions.append(magnitude < faint)
    if selection.region is not None:
        conditions.append(selection.region.expr("ts_ra", "ts_dec"))
    # Not all_horizontal: of terms joined by `and`, Polars reads off which row groups it need not open.
    return functools.reduce(operator.and_, conditions)


def split(identifier: pl.Expr, train_fraction: float, seed: int = 0) -> pl.Expr:
    """Return ``train`` or ``test`` for string ids: by a hash of the id and the seed alone, so stable everywhere."""

    def side(ids: pl.Series) -> pl.Series:
        # The high 53 bits, as a number in [0, 1).
        place = (stable_hash(ids, f"{seed}:") >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return pl.Series(np.where(place < train_fraction, "train", "test"), dtype=pl.String)

    return identifier.map_batches(side, return_dtype=pl.String, is_elementwise=True)


def stable_hash(texts: pl.Series, salt: str = "") -> npt.NDArray[np.uint64]:
    """Return 64-bit hashes of `salt` + text that no release of any library changes, shape (n,).

    FNV-1a (Fowler, Noll & Vo) over the UTF-8 bytes, then MurmurHash3's finaliser, which spreads the last bytes -
    where ids differ - over all bits. A null hashes as the empty text.
    """
    state = _FNV_OFFSET
    for byte in salt.encode():
        state = (state ^ byte) * _FNV_PRIME % 2**64
    hashes = np.full(texts.len(), state, np.uint64)
    raw = texts.cast(pl.String).fill_null("").cast(pl.Binary)
    length = raw.bin.size().to_numpy()
    content = np.frombuffer(b"".join(raw.to_list()), np.uint8)
    start = np.cumsum(length, dtype=np.int64) - length
    for position in range(int(length.max()) if length.size else 0):
        rows = np.flatnonzero(length > position)
        hashes[rows] = (hashes[rows] ^ content[start[rows] + position]) * np.uint64(_FNV_PRIME)
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(multiplier)
    return hashes ^ (hashes >> np.uint64(33))
