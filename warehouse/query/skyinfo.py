"""Sky info: how many rows a table has in each tract and patch, and where on the sky they lie.

Counts and extents come from the log's statistics where these suffice; means need the two position columns.
"""

from __future__ import annotations

import polars as pl

from warehouse.contracts.contract import PATCH, TRACT
from warehouse.errors import QueryError
from warehouse.query.answers import answered
from warehouse.query.areas import Area
from warehouse.query.scan import chosen_rows, read
from warehouse.query.tables import Opened, Tables, Version

COLUMNS = (
    *("tract", "patch", "rows"),
    *("ra_min_deg", "ra_max_deg", "ra_mean_deg", "dec_min_deg", "dec_max_deg", "dec_mean_deg"),
)
MEANS = ("ra_mean_deg", "dec_mean_deg")


def sky_info(
    tables: Tables, table: str, region: Area | None = None, *, means: bool = True, version: Version | None = None
) -> pl.DataFrame:
    """Return one row a tract and patch: rows, extent and mean of RA and Dec in degrees.

    Parameters
    ----------
    region
        Count only rows in this area.
    means
        Whether the means are wanted. Without them, and without a region of the sky, no data file need be opened
        but those of patches that RA 0 cuts.
    version
        A version's number, a moment, or a pinned release's name; None for now.

    Returns
    -------
    pl.DataFrame
        ``tract, patch, rows, ra_min_deg, ra_max_deg, ra_mean_deg, dec_min_deg, dec_max_deg, dec_mean_deg``, sorted. In
        a patch that RA 0 cuts, the extent goes east from ``ra_min_deg`` through 0 to ``ra_max_deg``, the smaller of
        the two, and the mean is taken along it. Null where they were not asked for, or the table has no position.

    Raises
    ------
    QueryError
        The table is not partitioned by tract and patch.
    NotFoundError
        No such table, or no such version.
    """
    opened = tables.open(table, version)
    if not opened.contract.partitioned:
        raise QueryError("the table is not partitioned by tract and patch", kind="sky_info", table=table)
    files, rows = chosen_rows(opened, region)
    told = _told(opened, files)
    if opened.contract.position is None:
        return _finished(told)
    if means:
        return _finished(_measured(opened, files, rows))
    if rows is not None:
        return _finished(_measured(opened, files, rows).drop(MEANS))
    known = told.filter(~_unclear()).filter(pl.col("ra_min_deg").is_not_null() | (pl.col("rows") == 0))
    rest = files.join(known, on=[TRACT, PATCH], how="anti")
    measured = _measured(opened, rest, None).drop(MEANS)
    return _finished(pl.concat([known, measured], how="diagonal_relaxed"))


def _told(opened: Opened, files: pl.DataFrame) -> pl.DataFrame:
    """Return what the log tells of each patch; null extents where a file's statistics are missing."""
    extents = []
    for name, column in zip(("ra", "dec"), opened.contract.position or (), strict=False):
        for end in ("min", "max"):
            statistic = f"{end}.{column}"
            value = getattr(pl.col(statistic), end)() if statistic in files.columns else pl.lit(None, pl.Float64)
            complete = pl.col(statistic).null_count() == 0 if statistic in files.columns else pl.lit(value=False)
            extents.append(pl.when(complete).then(value).alias(f"{name}_{end}_deg"))
    return files.group_by(TRACT, PATCH).agg(pl.col("num_records").sum().cast(pl.Int64).alias("rows"), *extents)


def _unclear() -> pl.Expr:
    """Return whether a patch's plain extent in RA may be one through RA 0."""
    return (pl.col("ra_max_deg") - pl.col("ra_min_deg") > 180).fill_null(value=False)


def _measured(opened: Opened, files: pl.DataFrame, rows: pl.Expr | None) -> pl.DataFrame:
    """Return rows, extents and means of each patch, from the position columns."""
    ra, dec = (pl.col(name) for name in opened.position())
    frame = read(opened, files, [TRACT, PATCH, *opened.position()])
    if rows is not None:
        frame = frame.filter(rows)
    turned = pl.when(ra > 180).then(ra - 360).otherwise(ra)  # loses no digit, and RA 0 is in its middle
    found = frame.group_by(TRACT, PATCH).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        *(getattr(ra, name)().alias(f"ra_{name}_deg") for name in ("min", "max", "mean")),
        *(getattr(turned, name)().alias(f"turned_{name}") for name in ("min", "max", "mean")),
        *(getattr(dec, name)().alias(f"dec_{name}_deg") for name in ("min", "max", "mean")),
    )
    with answered(opened.snapshot.uri):
        patches = found.collect(engine="streaming")
    return patches.select(
        *(TRACT, PATCH, "rows"),
        *(_either(name) for name in ("min", "max", "mean")),
        *(f"dec_{name}_deg" for name in ("min", "max", "mean")),
    )


def _either(name: str) -> pl.Expr:
    """Return the plain figure, or for a patch through RA 0 the one that was taken with RA 0 in its middle."""
    turned = pl.col(f"turned_{name}")
    east = turned + 360.0  # which rounds to 360 for the least below 0
    return (
        pl.when(_unclear())
        .then(pl.when((turned < 0) & (east < 360)).then(east).otherwise(turned.clip(lower_bound=0.0)))
        .otherwise(pl.col(f"ra_{name}_deg"))
        .alias(f"ra_{name}_deg")
    )


def _finished(found: pl.DataFrame) -> pl.DataFrame:
    schema = {name: pl.Int64 if name in COLUMNS[:3] else pl.Float64 for name in COLUMNS}
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in found.columns]
    return found.with_columns(missing).select(pl.col(n).cast(t) for n, t in schema.items()).sort(TRACT, PATCH)
