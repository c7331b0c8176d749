"""Expressions over the columns of what was measured: who may be matched.

The columns' names stand in the contracts; the rules of the match and of the join do not belong here.
"""

from __future__ import annotations

import polars as pl


def target_candidate(true: tuple[str, ...], false: tuple[str, ...]) -> pl.Expr:
    """Return whether every flag of `true` is set and none of `false`; a null flag is not set."""
    return pl.all_horizontal(
        pl.lit(value=True),
        *(pl.col(name).cast(pl.Boolean).fill_null(value=False) for name in true),
        *(pl.col(name).cast(pl.Boolean).fill_null(value=False).not_() for name in false),
    )
