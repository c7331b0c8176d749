"""MatchesTruth computed: which object, if any, is the measurement of each truth row of a tract.

Belongs here: the rules of the match, from two frames to one. Reading and committing tables does not, nor the
three-table join (`warehouse.truth.join`), nor the search for neighbours (`warehouse.truth.neighbours`).

The order of everything is total, so that a result is one result: truth rows are taken by summed flux, of equal
ones the lower ``id_truth_type``; neighbours by separation in nano-arcseconds, of equal ones the lower
``objectId``; winners by reduced chi-square, of equal ones the nearer, then the lower ``objectId``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.derived import BANDS
from warehouse.errors import ContractError, QueryError
from warehouse.photometry import AB_ZERO_POINT
from warehouse.sky.skymap import SkyMap
from warehouse.truth.columns import target_candidate
from warehouse.truth.neighbours import Floats, Ints, nearest

Bools = npt.NDArray[np.bool_]

PUBLISHED = (
    "match_candidate",
    "match_count",
    "match_chisq",
    "match_n_chisq_finite",
    "id",
    "truth_type",
    "match_objectId",
    "id_truth_type",
)
"""The columns of MatchesTruth, in the published order."""

UNIQUE = "is_unique_truth_entry"
# A round that settles less than this share of the open pairs meets a long chain of rivals: see `_assign`.
_WORTHWHILE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """What the match may be told; the defaults are those of the published DP0.2 matches.

    Attributes
    ----------
    radius_arcsec
        Farthest neighbour, inclusive.
    max_neighbours
        Nearest target candidates that a truth row looks at, those already taken included.
    magnitude_limit
        Faintest AB magnitude of the summed flux of a match candidate, inclusive.
    min_finite
        Finite chi columns that a target needs to win.
    bands
        Bands of the summed flux and of the chi columns.
    truth_flux, object_flux, object_flux_error
        Column names in nJy; ``{band}`` stands for the band.
    object_true, object_false
        Flags that a target candidate must have true, and must not have true; null counts as not true.
    published_quirk
        As the published code does: where some free target has `min_finite` finite columns, one with fewer
        (but at least one) competes too, with the score 0, and so wins.

    Raises
    ------
    QueryError
        A value outside what can be matched with.
    """

    radius_arcsec: float = 0.5
    max_neighbours: int = 10
    magnitude_limit: float = 27.0
    min_finite: int = 3
    bands: tuple[str, ...] = BANDS
    truth_flux: str = "flux_{band}"
    object_flux: str = "{band}_cModelFlux"
    object_flux_error: str = "{band}_cModelFluxErr"
    object_true: tuple[str, ...] = ("detect_isPrimary",)
    object_false: tuple[str, ...] = ("merge_peak_sky",)
    published_quirk: bool = False

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise QueryError(f"match setting bands: expected different bands, at least one, found {self.bands}")
        columns = len(self.bands) + 2
        for name, found, low, high in (
            ("radius_arcsec", self.radius_arcsec, 1e-9, 3600),
            ("max_neighbours", self.max_neighbours, 1, 1000),
            ("min_finite", self.min_finite, 1, columns),
        ):
            if not low <= found <= high:
                raise QueryError(f"match setting {name}: expected {low} to {high}, found {found}")

    def truth_columns(self) -> tuple[str, ...]:
        """Return the TruthSummary columns that the match reads; `is_unique_truth_entry` may be absent."""
        fluxes = (self.truth_flux.format(band=band) for band in self.bands)
        return ("id_truth_type", "id", "truth_type", "ra", "dec", *fluxes)

    def object_columns(self) -> tuple[str, ...]:
        """Return the Object columns that the match reads."""
        fluxes = (t.format(band=band) for band in self.bands for t in (self.object_flux, self.object_flux_error))
        places = ("objectId", "coord_ra", "coord_dec", "x", "y", "xErr", "yErr")
        return (*places, *self.object_true, *self.object_false, *fluxes)


DEFAULTS = MatchSettings()


@dataclass(frozen=True, slots=True)
class _Side:
    """The candidates of one table, in the order that decides ties: rows of the frame, positions, chi columns."""

    rows: Ints
    position_deg: tuple[Floats, Floats]
    values: tuple[Floats, ...]
    errors: tuple[Floats, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Candidate pairs by reference, each reference's own from the most wanted target to the least."""

    reference: Ints
    target: Ints
    chisq: Floats
    n_finite: Ints
    good: Bools

    def only(self, keep: Bools | Ints) -> _Pairs:
        """Return the pairs that `keep` chooses."""
        return _Pairs(self.reference[keep], self.target[keep], self.chisq[keep], self.n_finite[keep], self.good[keep])

    @property
    def starts(self) -> Ints:
        """Where each reference's pairs begin."""
        return np.flatnonzero(np.diff(self.reference, prepend=-1)).astype(np.int64)


def match_tract(
    truth: pl.DataFrame, objects: pl.DataFrame, sky: SkyMap, tract: int, settings: MatchSettings = DEFAULTS
) -> pl.DataFrame:
    """Return MatchesTruth of a tract: the published columns, one row for each row of `truth`, in its order.

    Truth candidates are taken by summed flux, bright first. Each looks at its nearest target candidates, less
    those already taken, and takes the one with the least chi-square a finite column, over both tract pixel
    coordinates and the fluxes; only the object has errors. One to one.

    Parameters
    ----------
    truth
        TruthSummary rows (`MatchSettings.truth_columns`). Rows whose ``is_unique_truth_entry``, where there is
        such a column, is not true are no candidates.
    objects
        Object rows (`MatchSettings.object_columns`), ``x`` and ``y`` in pixels of `tract`.
    sky
        Projects the truth's positions into the tract's pixels.
    tract
        The tract whose pixels ``x`` and ``y`` count.
    settings
        Radius, limits, columns.

    Raises
    ------
    ContractError
        A column is missing or is no number, or a key is null or stands twice.
    """
    _check(truth, settings.truth_columns(), "TruthSummary", "id_truth_type", pl.String)
    _check(objects, settings.object_columns(), "Object", "objectId", pl.Int64)
    references = _references(truth, sky, tract, settings)
    targets = _targets(objects, settings)
    pairs = _pairs(references, targets, settings)
    winners, free = _assign(pairs, references.rows.size, targets.rows.size)
    return _written(truth, objects, (references.rows, targets.rows), pairs.only(winners), free)


def _check(frame: pl.DataFrame, needed: Iterable[str], table: str, key: str, key_type: type[pl.DataType]) -> None:
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        message = f"the match reads columns that are not there: {', '.join(missing)}"
        raise ContractError(message, kind="column", table=table)
    found = frame.schema[key]
    if found != key_type and not (key_type == pl.Int64 and found.is_integer()):
        raise ContractError(f"column {key}: expected {key_type}, found {found}", kind="type", table=table)
    if frame[key].null_count():
        raise ContractError(f"key {key}: expected no null, found {frame[key].null_count()}", kind="key", table=table)
    if frame[key].n_unique() != frame.height:
        twice = frame.filter(pl.col(key).is_duplicated())[key].sort()
        raise ContractError(
            f"key {key}: expected every value once, found {twice.len()} rows that share one, such as {twice[0]!r}",
            kind="duplicate_key",
            table=table,
        )


def _numbers(frame: pl.DataFrame, name: str, table: str) -> Floats:
    """Return a column as float64 with NaN for null."""
    series = frame[name]
    if not (series.dtype.is_numeric() or series.dtype == pl.Null):
        raise ContractError(f"column {name}: expected a number, found {series.dtype}", kind="type", table=table)
    # A copy where the frame's own memory would come out read-only or with nulls.
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _references(truth: pl.DataFrame, sky: SkyMap, tract: int, settings: MatchSettings) -> _Side:
    fluxes = [_numbers(truth, settings.truth_flux.format(band=b), "TruthSummary") for b in settings.bands]
    summed = np.zeros(truth.height)
    for flux in fluxes:
        summed += np.where(np.isfinite(flux), flux, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        candidate = (summed > 0) & (AB_ZERO_POINT - 2.5 * np.log10(summed) <= settings.magnitude_limit)
    if UNIQUE in truth.columns:
        candidate &= truth[UNIQUE].cast(pl.Boolean).fill_null(value=False).to_numpy()
    rows = (
        pl.DataFrame({"row": np.flatnonzero(candidate), "summed": summed[candidate]})
        .with_columns(truth["id_truth_type"].filter(pl.Series(candidate)))
        .sort("summed", "id_truth_type", descending=[True, False])["row"]
        .to_numpy()
    )
    position_deg = (_numbers(truth, "ra", "TruthSummary")[rows], _numbers(truth, "dec", "TruthSummary")[rows])
    x, y = sky.to_pixels(tract, *position_deg)
    return _Side(rows, position_deg, (x, y, *(flux[rows] for flux in fluxes)))


def _targets(objects: pl.DataFrame, settings: MatchSettings) -> _Side:
    candidate = target_candidate(settings.object_true, settings.object_false)
    chosen = objects.with_row_index("_row").filter(candidate).sort("objectId")

    def column(name: str) -> Floats:
        return _numbers(chosen, name, "Object")

    fluxes = [column(settings.object_flux.format(band=band)) for band in settings.bands]
    errors = [column(settings.object_flux_error.format(band=band)) for band in settings.bands]
    return _Side(
        chosen["_row"].cast(pl.Int64).to_numpy(),
        (column("coord_ra"), column("coord_dec")),
        (column("x"), column("y"), *fluxes),
        (column("xErr"), column("yErr"), *errors),
    )


def _pairs(references: _Side, targets: _Side, settings: MatchSettings) -> _Pairs:
    """Return every reference's nearest targets with their chi-square, most wanted first."""
    reference, target, separation_nas = nearest(
        references.position_deg, targets.position_deg, settings.radius_arcsec, settings.max_neighbours
    )
    chisq = np.zeros(reference.size)
    n_finite = np.zeros(reference.size, np.int64)
    with np.errstate(all="ignore"):
        for truth, measured, error in zip(references.values, targets.values, targets.errors, strict=True):
            chi = (measured[target] - truth[reference]) / error[target]
            finite = np.isfinite(chi)
            chisq += np.where(finite, chi * chi, 0.0)
            n_finite += finite
        score = chisq / n_finite
    good = n_finite >= settings.min_finite
    if settings.published_quirk:
        chisq = np.where(good, chisq, 0.0)
        score = np.where(good, score, np.where(n_finite > 0, 0.0, np.inf))
    else:
        score = np.where(good, score, np.inf)
    # Good before bad at equal scores: an overflowing chi-square is as infinite as a missing one.
    wanted = np.lexsort((target, separation_nas, ~good & np.isinf(score), score, reference))
    return _Pairs(reference, target, chisq, n_finite, good).only(wanted)


def _assign(pairs: _Pairs, n_references: int, n_targets: int) -> tuple[Ints, Ints]:
    """Return the winning pairs' indices, and for each reference how many of its targets were free at its turn.

    Equal to taking the references one by one, in arrays: of the open references, all those that no brighter
    open one competes with are settled at once, then the next. Sources scattered at random need few such
    rounds whatever their number (Blelloch, Fineman & Shun 2012, SPAA, on greedy independent sets); a chain of
    neighbours sorted by flux needs one a source, and is walked one by one.
    """
    free = np.zeros(n_references, np.int64)
    taken = np.zeros(n_targets, np.bool_)
    winners = [np.empty(0, np.int64)]
    open_pairs = np.arange(pairs.reference.size)
    while open_pairs.size:
        left = pairs.only(open_pairs)
        settled = _unrivalled(left, n_targets)
        if settled.sum() < _WORTHWHILE_SHARE * settled.size:
            winners.append(_walk(pairs, open_pairs, taken, free))
            break
        won = open_pairs[settled][_choose(left.only(settled), free)]
        taken[pairs.target[won]] = True
        winners.append(won)
        open_pairs = open_pairs[~settled & ~taken[left.target]]
    return np.concatenate(winners), free


def _unrivalled(pairs: _Pairs, n_targets: int) -> Bools:
    """Return the pairs of the references that are the first, in all their targets' eyes."""
    first = np.empty(n_targets, np.int64)
    first[pairs.target[::-1]] = pairs.reference[::-1]
    rivalled = first[pairs.target] != pairs.reference
    starts = pairs.starts
    any_rival = np.logical_or.reduceat(rivalled, starts)
    return np.repeat(~any_rival, np.diff(starts, append=rivalled.size))


def _choose(pairs: _Pairs, free: Ints) -> Ints:
    """Return each reference's winning pair, where it has one, all of its pairs being free; count them in `free`."""
    starts = pairs.starts
    free[pairs.reference[starts]] = np.diff(starts, append=pairs.reference.size)
    return starts[np.logical_or.reduceat(pairs.good, starts)]


def _walk(pairs: _Pairs, open_pairs: Ints, taken: Bools, free: Ints) -> Ints:
    """Return the winning pairs of the open references, one by one."""
    chosen = pairs.only(open_pairs)
    bounds = [*chosen.starts.tolist(), open_pairs.size]
    references, targets, good = chosen.reference.tolist(), chosen.target.tolist(), chosen.good.tolist()
    gone: set[int] = set(np.flatnonzero(taken).tolist())
    won = []
    for start, stop in pairwise(bounds):
        left = [pair for pair in range(start, stop) if targets[pair] not in gone]
        free[references[start]] = len(left)
        if any(good[pair] for pair in left):
            won.append(left[0])
            gone.add(targets[left[0]])
    return open_pairs[won]


def _written(
    truth: pl.DataFrame, objects: pl.DataFrame, rows: tuple[Ints, Ints], won: _Pairs, free: Ints
) -> pl.DataFrame:
    """Return the published columns for every truth row, from the winning pairs."""
    reference_rows, target_rows = rows
    candidate = np.zeros(truth.height, np.bool_)
    candidate[reference_rows] = True
    matched = reference_rows[won.reference]
    count = np.zeros(truth.height, np.int32)
    count[matched] = free[won.reference]
    n_finite = np.zeros(truth.height, np.int32)
    n_finite[matched] = won.n_finite
    winners = pl.DataFrame(
        {
            "_row": matched,
            "match_chisq": won.chisq,
            "match_objectId": objects["objectId"].cast(pl.Int64).gather(target_rows[won.target]),
        },
        schema={"_row": pl.Int64, "match_chisq": pl.Float64, "match_objectId": pl.Int64},
    )
    return (
        pl.DataFrame({"match_candidate": candidate, "match_count": count, "match_n_chisq_finite": n_finite})
        .with_columns(
            truth["id"].cast(pl.String),
            truth["truth_type"].cast(pl.Int32),
            truth["id_truth_type"].alias("id_truth_type"),
        )
        .with_row_index("_row")
        .with_columns(pl.col("_row").cast(pl.Int64))
        .join(winners, on="_row", how="left", maintain_order="left")
        .select(PUBLISHED)
    )
