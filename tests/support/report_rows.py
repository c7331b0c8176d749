"""Rows of ObjectTruth for a report, few enough to count by hand."""

from __future__ import annotations

import polars as pl

BANDS = ("g", "r")


def row(status, *, magnitude=None, measured=None, ra=62.0, dec=-37.0, offset_arcsec=0.0, redshift=None, truth_type=1):
    """Return a row of one magnitude in all bands: true, measured, or both."""
    true = None if magnitude is None else 10 ** ((31.4 - magnitude) / 2.5)
    flux = None if measured is None else 10 ** ((31.4 - measured) / 2.5)
    return {
        "match_status": status,
        "ra_deg": ra,
        "dec_deg": dec,
        "ts_ra": ra if true else None,
        "ts_dec": dec if true else None,
        "obj_coord_ra": ra if flux else None,
        "obj_coord_dec": dec + offset_arcsec / 3600 if flux else None,
        "ts_truth_type": truth_type if true else None,
        "ts_redshift": redshift,
        **{f"ts_flux_{band}": true for band in BANDS},
        **{f"obj_{band}_cModelFlux": flux for band in BANDS},
    }


def frame(rows):
    """Return rows as a frame with the types of the table."""
    floats = ("ra_deg", "dec_deg", "ts_ra", "ts_dec", "obj_coord_ra", "obj_coord_dec", "ts_redshift")
    types = {"match_status": pl.String, "ts_truth_type": pl.Int64} | dict.fromkeys(floats, pl.Float64)
    fluxes = {name: pl.Float64 for b in BANDS for name in (f"ts_flux_{b}", f"obj_{b}_cModelFlux")}
    return pl.DataFrame(rows, schema=types | fluxes)
