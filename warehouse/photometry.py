"""AB magnitudes of fluxes in nJy, as expressions: for whoever asks a table, and for what is made of truth and objects.

They are null where their input is null or has no answer, as every float of a warehouse is (never NaN).
"""

from __future__ import annotations

import math

import polars as pl

AB_ZERO_POINT = 31.4
"""AB magnitude of 1 nJy, as Rubin rounds it (8.9 + 22.5)."""

Columnlike = str | float | pl.Expr


def abmag(flux_nJy: Columnlike) -> pl.Expr:
    """Return the AB magnitude of a flux in nJy; null for a flux that is not positive."""
    flux = floats(flux_nJy)
    return pl.when(_positive(flux)).then(AB_ZERO_POINT - 2.5 * flux.log10())


def abmag_err(flux_nJy: Columnlike, flux_err_nJy: Columnlike) -> pl.Expr:
    """Return the 1-sigma error of `abmag`, to first order: 2.5 / ln 10 times the relative error of the flux."""
    flux, error = floats(flux_nJy), floats(flux_err_nJy)
    return pl.when(_positive(flux) & error.is_finite()).then(2.5 / math.log(10) * error / flux)


def floats(value: Columnlike) -> pl.Expr:
    """Return an expression in doubles: a float32 column would pull the arithmetic down to its digits."""
    expression = value if isinstance(value, pl.Expr) else pl.col(value) if isinstance(value, str) else pl.lit(value)
    return expression.cast(pl.Float64)


def _positive(flux: pl.Expr) -> pl.Expr:
    return flux.is_finite() & (flux > 0)
