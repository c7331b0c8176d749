"""An assigned batch: with the tract and patch of each row, in one of the ways that a contract may name.

Here belongs where a row goes, not whether it is good: a row that has no place, or an impossible one, keeps a null or
its own claim, and `warehouse.ingest.quality` says so. No row is lost or doubled, and their order stays.

    declared   the row's own tract and patch, as the release wrote them; the row lies in that patch's outer box
    derived    the one inner tract and patch of the row's position
    through    the tract and patch of the row of another table that it refers to
    none       the table is not partitioned: no columns are added
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import PATCH, TRACT, Contract
from warehouse.errors import QualityError
from warehouse.sky.skymap import SkyMap


def assign(
    frame: pl.DataFrame,
    contract: Contract,
    sky: SkyMap,
    *,
    truth_places: pl.DataFrame | None = None,
    threads: int = 1,
) -> pl.DataFrame:
    """Return the frame with int64 columns ``tract`` and ``patch`` at its end; null where a row has no place.

    Parameters
    ----------
    frame
        A conformed batch.
    truth_places
        For tables assigned *through* another: that table's referenced column, ``tract`` and ``patch``, one row a key.
    threads
        Threads to share the derivation out to.

    Raises
    ------
    QualityError
        ``duplicate_key``: a key of `truth_places` has more than one row, so that a row would have two places.
    """
    if contract.assignment == "none":
        return frame
    if contract.assignment == "declared":
        places = frame.select(pl.col(TRACT, PATCH).cast(pl.Int64))
    elif contract.assignment == "derived":
        places = _derived(frame, contract, sky, threads)
    else:
        places = _through(frame, contract, truth_places)
    return frame.drop(TRACT, PATCH, strict=False).hstack(places)


def position_of(frame: pl.DataFrame, contract: Contract) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return right ascension and declination of the rows in degrees, NaN where they are null."""
    if contract.position is None:
        raise ValueError(f"{contract.table} has no position")
    ra_deg, dec_deg = (frame.get_column(name).cast(pl.Float64).to_numpy() for name in contract.position)
    return ra_deg, dec_deg


def _derived(frame: pl.DataFrame, contract: Contract, sky: SkyMap, threads: int) -> pl.DataFrame:
    """Return the inner tract and patch of every position that is one."""
    tract, patch = sky.find(*position_of(frame, contract), threads=threads)
    places = pl.DataFrame({TRACT: tract, PATCH: patch})
    # The sky map says -1 where a position is null or beyond a pole.
    return places if (tract >= 0).all() else places.select(pl.when(pl.col(TRACT) >= 0).then(pl.all()))


def _through(frame: pl.DataFrame, contract: Contract, truth_places: pl.DataFrame | None) -> pl.DataFrame:
    """Return the places of the rows that these rows refer to."""
    through = contract.through
    if through is None or truth_places is None:
        raise ValueError(f"{contract.table} is assigned through another table, whose places are needed")
    places = truth_places.select(pl.col(through.references).alias(through.column), pl.col(TRACT, PATCH).cast(pl.Int64))
    doubled = places.get_column(through.column).drop_nulls().is_duplicated()
    if doubled.any():
        example = places.get_column(through.column).drop_nulls().filter(doubled)[0]
        raise QualityError(
            f"expected one {through.table} row for each {through.references}, found several for {example!r}",
            kind="duplicate_key",
            table=contract.table,
        )
    refers = frame.select(pl.col(through.column))
    if through.none:
        refers = refers.select(pl.when(~pl.col(through.column).is_in(list(through.none))).then(pl.col(through.column)))
    return refers.join(places, on=through.column, how="left", maintain_order="left").select(TRACT, PATCH)
