"""Rows of ObjectTruth counted into histograms: what the report's figures and numbers are drawn from.

A frame becomes a set of arrays of counts; those of two frames are added. So the report holds at any number of rows, and
rows need never be in memory together. How the counts are drawn is `warehouse.truth.report_figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.contracts.contract import Contract
from warehouse.contracts.derived import BANDS, MATCHED, MISSED, UNMATCHED_OBJECT
from warehouse.photometry import abmag

Floats = npt.NDArray[np.float64]
Counts = dict[str, npt.NDArray[np.int64]]

GALAXY = 1

OFFSET_ARCSEC = np.linspace(-0.6, 0.6, 121)
MAGNITUDE = np.linspace(15.0, 29.0, 141)
LOG_FLUX = np.linspace(-0.5, 6.5, 141)  # of nJy
COLOUR = np.linspace(-1.0, 3.5, 136)
REDSHIFT = np.linspace(0.0, 3.5, 51)
RESIDUAL = np.linspace(-2.0, 2.0, 2001)  # measured less true magnitude
COARSE_MAGNITUDE = np.linspace(15.0, 29.0, 57)
SKY_CELLS = 160


@dataclass(frozen=True, slots=True)
class Layout:
    """What is counted: the bands, the pairs of bands that make a colour, and the extent of the footprint.

    `east` and `north` are the edges of the footprint's cells in degrees; right ascensions count as within half a turn
    of `middle`, so that a footprint across RA 0 is one piece.
    """

    bands: tuple[str, ...]
    east: tuple[float, ...]
    north: tuple[float, ...]
    middle: float

    @property
    def colours(self) -> tuple[tuple[str, str], ...]:
        """Pairs of bands that make a colour, the blue one first: g - r and i - z, or else the first two bands."""
        usual = tuple(pair for pair in (("g", "r"), ("i", "z")) if set(pair) <= set(self.bands))
        return usual or tuple(pairwise(self.bands))[:1]

    def against(self, red: str) -> str:
        """Return the band of the magnitudes that a colour is drawn against: r, or else the red one of its two."""
        return "r" if "r" in self.bands else red

    def columns(self) -> tuple[str, ...]:
        """Return the columns of ObjectTruth that are counted."""
        fluxes = [name for band in self.bands for name in (f"ts_flux_{band}", f"obj_{band}_cModelFlux")]
        places = ("ra_deg", "dec_deg", "ts_ra", "ts_dec", "obj_coord_ra", "obj_coord_dec")
        return ("match_status", *places, "ts_truth_type", "ts_redshift", *fluxes)


def bands_of(contract: Contract) -> tuple[str, ...]:
    """Return the bands in which ObjectTruth has both the true and the measured flux."""
    return tuple(b for b in BANDS if {f"ts_flux_{b}", f"obj_{b}_cModelFlux"} <= contract.by_name.keys())


def counted(rows: pl.DataFrame, layout: Layout) -> Counts:
    """Return the histograms of some rows, by name."""
    frame = rows.with_columns(
        *(abmag(f"ts_flux_{b}").alias(f"true_{b}") for b in layout.bands),
        *(abmag(f"obj_{b}_cModelFlux").alias(f"measured_{b}") for b in layout.bands),
    )
    by_status = {
        status: frame.filter(pl.col("match_status") == status) for status in (MATCHED, MISSED, UNMATCHED_OBJECT)
    }
    counts: Counts = {name: np.array([part.height]) for name, part in by_status.items()}
    counts |= _on_the_sky(frame, layout)
    counts |= _offsets(by_status[MATCHED])
    for band in layout.bands:
        counts |= _of_band(by_status, band)
    for blue, red in layout.colours:
        for kind in ("true", "measured"):
            matched = by_status[MATCHED]
            colour = _values(matched, f"{kind}_{blue}") - _values(matched, f"{kind}_{red}")
            magnitude = _values(matched, f"{kind}_{layout.against(red)}")
            counts[f"{kind} {blue}-{red}"] = _two(colour, magnitude, COLOUR, MAGNITUDE)
    galaxies = frame.filter(pl.col("ts_truth_type") == GALAXY)
    counts["redshift"] = _one(_values(galaxies, "ts_redshift"), REDSHIFT)
    found = galaxies.filter(pl.col("match_status") == MATCHED)
    counts["redshift matched"] = _one(_values(found, "ts_redshift"), REDSHIFT)
    return counts


def added(parts: Sequence[Counts]) -> Counts:
    """Return the sum of histograms."""
    total: Counts = {}
    for part in parts:
        for name, values in part.items():
            total[name] = total[name] + values if name in total else values
    return total


def _on_the_sky(frame: pl.DataFrame, layout: Layout) -> Counts:
    east = (_values(frame, "ra_deg") - layout.middle + 180.0) % 360.0 - 180.0
    return {"sky": _two(east, _values(frame, "dec_deg"), np.array(layout.east), np.array(layout.north))}


def _offsets(matched: pl.DataFrame) -> Counts:
    ra, dec = _values(matched, "ts_ra"), _values(matched, "ts_dec")
    east = ((_values(matched, "obj_coord_ra") - ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(dec)) * 3600.0
    north = (_values(matched, "obj_coord_dec") - dec) * 3600.0
    return {"offset": _two(east, north, OFFSET_ARCSEC, OFFSET_ARCSEC)}


def _of_band(by_status: Mapping[str, pl.DataFrame], band: str) -> Counts:
    matched = by_status[MATCHED]
    true, measured = _values(matched, f"true_{band}"), _values(matched, f"measured_{band}")
    with np.errstate(divide="ignore", invalid="ignore"):
        true_flux = np.log10(_values(matched, f"ts_flux_{band}"))
        measured_flux = np.log10(_values(matched, f"obj_{band}_cModelFlux"))
    wanted = _one(true, COARSE_MAGNITUDE) + _one(_values(by_status[MISSED], f"true_{band}"), COARSE_MAGNITUDE)
    explained = _one(measured, COARSE_MAGNITUDE)
    alone = _one(_values(by_status[UNMATCHED_OBJECT], f"measured_{band}"), COARSE_MAGNITUDE)
    return {
        f"magnitude {band}": _two(true, measured, MAGNITUDE, MAGNITUDE),
        f"residual {band}": _one(measured - true, RESIDUAL),
        f"flux {band}": _two(true_flux, measured_flux, LOG_FLUX, LOG_FLUX),
        f"truth {band}": wanted,
        f"found {band}": _one(true, COARSE_MAGNITUDE),
        f"objects {band}": explained + alone,
        f"explained {band}": explained,
    }


def _values(frame: pl.DataFrame, name: str) -> Floats:
    """Return a column as float64, null as NaN."""
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _one(values: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    return np.histogram(values[np.isfinite(values)], edges)[0].astype(np.int64)


def _two(x: Floats, y: Floats, x_edges: Floats, y_edges: Floats) -> npt.NDArray[np.int64]:
    known = np.isfinite(x) & np.isfinite(y)
    return np.histogram2d(x[known], y[known], (x_edges, y_edges))[0].astype(np.int64)


def quantile(counts: npt.NDArray[np.int64], edges: Floats, share: float) -> float:
    """Return the value below which a share of a histogram lies, by linear interpolation within its bin; NaN of none."""
    below = np.concatenate([[0], np.cumsum(counts)])
    if not below[-1]:
        return float("nan")
    return float(np.interp(share * below[-1], below, edges))
