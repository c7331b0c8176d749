"""ObjectTruth: MatchesTruth, TruthSummary and Object of a tract joined, and nothing of them lost.

Belongs here: the join of three frames, and its tally. Which tracts are stale, reading them and committing the result
is the materialisation's business.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import polars as pl

from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT
from warehouse.contracts.derived import (
    BOOKKEEPING,
    DEFAULT_CHOICE,
    MATCHED,
    MISSED,
    UNMATCHED_OBJECT,
    ObjectChoice,
)
from warehouse.errors import ContractError, QualityError
from warehouse.photometry import abmag
from warehouse.truth.columns import target_candidate
from warehouse.truth.neighbours import separation_arcsec

Frame = pl.DataFrame

STATUS = pl.Enum([MATCHED, MISSED, UNMATCHED_OBJECT])
"""In the order in which a patch's rows lie."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What an ObjectTruth frame holds, counted.

    Attributes
    ----------
    matched, missed, unmatched_object
        Rows of each status.
    across_patches, across_tracts
        Matched rows whose truth lies in another patch (of whichever tract), in another tract, than the object.
    shared_objects
        Objects that more than one truth row claims.
    absent_objects
        Missed rows whose match names an object that is not there.
    """

    matched: int
    missed: int
    unmatched_object: int
    across_patches: int
    across_tracts: int
    shared_objects: int
    absent_objects: int

    @property
    def rows(self) -> int:
        """All rows."""
        return self.matched + self.missed + self.unmatched_object

    @classmethod
    def none(cls) -> Tally:
        """Return the counts of no rows."""
        return cls(0, 0, 0, 0, 0, 0, 0)

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of two frames that share no object."""
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def object_truth(
    matches: Frame,
    truth: Frame,
    objects: Frame,
    choice: ObjectChoice = DEFAULT_CHOICE,
    *,
    tract: int | None = None,
    patch: int | None = None,
) -> Frame:
    """Return ObjectTruth: truth rows with their objects, and what of either is left alone.

    There is a row for each truth row that was a match candidate or is matched, and one for each object without a
    truth that could have had one. A row lies in the tract and patch of its object where there is one, else in
    those of its truth. For the rows of one `tract`, each of which appears for exactly one tract, the frames must
    hold, and may hold more than,

    - every Object row of the tract, and the objects elsewhere that the tract's MatchesTruth rows name;
    - every MatchesTruth and TruthSummary row of the tract, and those elsewhere that name an object of the tract.

    The same holds for one `patch` of a tract. Which rows lie where is found from ids alone (`paired`); wide
    columns are gathered once, for the rows that are wanted, so that memory is the frames and the result.

    A truth row whose match names an object that is not there is missed, and keeps the name (`Tally` counts it).
    A match row without its truth row gives no row, nor a claim on its object.

    Parameters
    ----------
    matches, truth, objects
        MatchesTruth, TruthSummary and Object rows, each with its tract and patch.
    choice
        Which columns of Object are taken over.
    tract, patch
        The tract, and the patch of it, whose rows are wanted; None means all.

    Returns
    -------
    pl.DataFrame
        ``match_status``, ``separation_arcsec``, ``ra_deg``, ``dec_deg``, every column of `matches` as ``mt_*`` and of
        `truth` as ``ts_*``, the chosen ones of `objects` as ``obj_*``, ``tract``, ``patch``; in no promised order.

    Raises
    ------
    ContractError
        A column is missing, or an id is of another type than what it refers to.
    QualityError
        A key stands twice: the join would double rows.
    """
    pairs = paired(matches, truth, objects, choice)
    for name, wanted in ((TRACT, tract), (PATCH, patch)):
        if wanted is not None:
            pairs = pairs.filter(pl.col(name) == wanted)
    return assembled(pairs, matches, truth, objects, choice)


def assembled(pairs: Frame, matches: Frame, truth: Frame, objects: Frame, choice: ObjectChoice) -> Frame:
    """Return the rows of ObjectTruth that `pairs` names, as `object_truth` does; the frames' ids are not looked at.

    Parameters
    ----------
    pairs
        ``match_status``, ``tract``, ``patch`` and the row numbers ``mt_row``, ``ts_row``, ``obj_row`` in the frames.

    Raises
    ------
    ContractError
        A column is missing.
    """
    _check_columns(truth, ("ra", "dec"), "TruthSummary")
    _check_columns(objects, choice.read(), "Object")
    explained = matches.drop(BOOKKEEPING, strict=False).with_columns(pl.col("match_objectId").cast(pl.Int64))
    return _with_status(
        pairs,
        pl.concat(
            [
                explained.select(pl.all().gather(pairs["mt_row"]).name.prefix("mt_")),
                truth.drop(INPUT_ID, strict=False).select(pl.all().gather(pairs["ts_row"]).name.prefix("ts_")),
                _chosen(objects, pairs["obj_row"], choice),
            ],
            how="horizontal",
        ),
    )


def paired(matches: Frame, truth: Frame, objects: Frame, choice: ObjectChoice = DEFAULT_CHOICE) -> Frame:
    """Return which rows of the three frames make a row of ObjectTruth, and where it lies; a few narrow columns.

    Needs no more than ``id_truth_type``, ``match_candidate`` and ``match_objectId`` of `matches`,
    ``id_truth_type``, tract and patch of `truth`, and ``objectId``, tract, patch and the choice's flags of `objects`.

    Returns
    -------
    pl.DataFrame
        ``match_status`` (an Enum), ``tract``, ``patch`` and the row numbers ``mt_row``, ``ts_row``, ``obj_row`` in the
        three frames, null for what a row has not.

    Raises
    ------
    ContractError
        A column is missing, or an id is of another type than what it refers to.
    QualityError
        A key stands twice.
    """
    _check(matches, truth, objects, choice)
    flags = target_candidate(choice.object_true, choice.object_false)
    at_object = objects.select(
        pl.col("objectId").cast(pl.Int64), flags.alias("_candidate"), TRACT, PATCH, pl.row_index("obj_row")
    )
    at_truth = truth.select("id_truth_type", pl.col(TRACT, PATCH).name.prefix("ts_"), pl.row_index("ts_row"))
    known = (
        matches.select("id_truth_type", "match_candidate", "match_objectId", pl.row_index("mt_row"))
        .filter(pl.col("match_candidate").fill_null(value=False) | pl.col("match_objectId").is_not_null())
        .with_columns(pl.col("match_objectId").cast(pl.Int64).alias("objectId"))
        .join(at_truth, on="id_truth_type", how="inner", maintain_order="left")
    )
    alone = at_object.filter("_candidate").join(known, on="objectId", how="anti", maintain_order="left")
    explained = known.join(at_object, on="objectId", how="left", maintain_order="left")
    matched, missed, unmatched = (pl.lit(status, STATUS) for status in (MATCHED, MISSED, UNMATCHED_OBJECT))
    return pl.concat(
        [
            explained.with_columns(
                pl.when(pl.col("obj_row").is_null()).then(missed).otherwise(matched).alias("match_status"),
                pl.coalesce(TRACT, f"ts_{TRACT}").alias(TRACT),
                pl.coalesce(PATCH, f"ts_{PATCH}").alias(PATCH),
            ),
            alone.with_columns(unmatched.alias("match_status")),
        ],
        how="diagonal",
    ).select("match_status", TRACT, PATCH, "mt_row", "ts_row", "obj_row")


def tally(rows: Frame) -> Tally:
    """Return the counts of an ObjectTruth frame."""
    status = dict(rows["match_status"].value_counts().iter_rows())
    matched = rows.lazy().filter(pl.col("match_status") == MATCHED)
    other_tract = pl.col("ts_tract") != pl.col(TRACT)
    counts = matched.select(
        patches=(other_tract | (pl.col("ts_patch") != pl.col(PATCH))).sum(),
        tracts=other_tract.sum(),
        shared=pl.col("obj_objectId").filter(pl.col("obj_objectId").is_duplicated()).n_unique(),
    ).collect()
    absent = (rows["match_status"] == MISSED) & rows["mt_match_objectId"].is_not_null()
    return Tally(
        matched=status.get(MATCHED, 0),
        missed=status.get(MISSED, 0),
        unmatched_object=status.get(UNMATCHED_OBJECT, 0),
        across_patches=counts["patches"].item(),
        across_tracts=counts["tracts"].item(),
        shared_objects=counts["shared"].item(),
        absent_objects=int(absent.sum()),
    )


def _chosen(objects: Frame, rows: pl.Series, choice: ObjectChoice) -> Frame:
    """Return the chosen Object columns of `rows` under their new names, and the magnitudes made from them."""
    taken = choice.taken()
    magnitudes = {name: flux for name, flux in choice.derived().items() if name not in taken}
    # Before rows are gathered: most rows have no object, and a logarithm of nothing takes as long as any.
    found = objects.select(
        *(pl.col(name).alias(f"obj_{name}") for name in taken),
        *(abmag(flux).alias(f"obj_{name}") for name, flux in magnitudes.items()),
    ).with_columns(pl.col("obj_objectId").cast(pl.Int64))
    return found.select(pl.all().gather(rows))


def _with_status(pairs: Frame, wide: Frame) -> Frame:
    """Return the rows with status, position and separation, in the order of ObjectTruth's columns."""
    places = wide.select("ts_ra", "ts_dec", "obj_coord_ra", "obj_coord_dec")
    matched = (pairs["match_status"] == MATCHED).to_numpy()
    separation = np.full(wide.height, np.nan)
    separation[matched] = separation_arcsec(*(place.to_numpy()[matched] for place in places))
    added = wide.select(
        match_status=pairs["match_status"].cast(pl.String),
        separation_arcsec=pl.Series(separation).fill_nan(None),
        ra_deg=pl.coalesce("ts_ra", "obj_coord_ra"),
        dec_deg=pl.coalesce("ts_dec", "obj_coord_dec"),
    )
    return pl.concat([added, wide, pairs.select(pl.col(TRACT, PATCH).cast(pl.Int64))], how="horizontal")


def _check(matches: Frame, truth: Frame, objects: Frame, choice: ObjectChoice) -> None:
    _check_columns(matches, ("id_truth_type", "match_candidate", "match_objectId"), "MatchesTruth")
    _check_columns(truth, ("id_truth_type", TRACT, PATCH), "TruthSummary")
    _check_columns(objects, ("objectId", TRACT, PATCH, *choice.object_true, *choice.object_false), "Object")
    for frame, table, name, other, to in (
        (matches, "MatchesTruth", "id_truth_type", truth, "TruthSummary.id_truth_type"),
        (matches, "MatchesTruth", "match_objectId", objects, "Object.objectId"),
    ):
        found, expected = frame.schema[name], other.schema[to.partition(".")[2]]
        if found != expected and not (found.is_integer() and expected.is_integer()):
            message = f"column {name}: expected {expected}, the type of {to}, found {found}"
            raise ContractError(message, kind="type", table=table)
    for frame, table, key in (
        (matches, "MatchesTruth", "id_truth_type"),
        (truth, "TruthSummary", "id_truth_type"),
        (objects, "Object", "objectId"),
    ):
        if frame[key].n_unique() != frame.height:
            example = frame.filter(pl.col(key).is_duplicated())[key].min()
            message = (
                f"key {key} stands twice, {example!r} for one; its rows' input_id tells which inputs hold it: ingest "
                "one of them again without it"
            )
            raise QualityError(message, kind="duplicate_key", table=table)


def _check_columns(frame: Frame, needed: tuple[str, ...], table: str) -> None:
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        message = f"expected the columns {', '.join(needed)}; {', '.join(missing)} not found"
        raise ContractError(message, kind="column", table=table)
