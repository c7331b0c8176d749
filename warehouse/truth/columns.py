"""Expressions over the columns of truth and of what was measured: magnitudes, and who may be matched.

The columns' names stand in the contracts; the rules of the match and of the join do not belong here.
"""

from __future__ import annotations

import math

import polars as pl

AB_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy, as Rubin rounds it."""


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
