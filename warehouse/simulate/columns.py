"""Every column of a contract: what a measurement gives as it is, and plausible, incompressible values for the rest.

A release publishes hundreds of columns that the simulated sky has no physics for. Their names and datatypes tell
enough to fill them so that sizes, compression and speed are those of the real files: another flux is the main flux
seen through another aperture with its own noise, flags are seldom true, moments scatter about a PSF's.
What the measurements themselves are belongs in `measure`, `sources`, `forced` and `transients`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warehouse.contracts.contract import Column, Contract

Values = NDArray[Any]
Core = Mapping[str, Any]
"""Columns by name: numpy arrays, Arrow arrays of strings, or one word for all rows."""

# Where a band was not observed, integers are this and flags are true.
ABSENT_INT = -1


@dataclass(frozen=True, slots=True)
class Flux:
    """The main flux through another aperture: `share` of it, with `spread` times its error."""

    share: float
    spread: float


@dataclass(frozen=True, slots=True)
class FluxError:
    """The error that goes with a `Flux`."""

    spread: float


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal variate; with `beside`, the difference from that column."""

    mean: float
    sigma: float
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """True for `share` of the rows."""

    share: float


@dataclass(frozen=True, slots=True)
class Whole:
    """Integers from `low` to `high`, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Text:
    """The same word in every row."""

    word: str


Rule = Flux | FluxError | Normal | Flag | Whole | Text

# The first pattern that the name without its band matches decides.
_FLOATS: tuple[tuple[str, Rule], ...] = (
    (r"ra", Normal(0.0, 3e-6, beside="coord_ra")),
    (r"decl", Normal(0.0, 3e-6, beside="coord_dec")),
    (r"centroid_x", Normal(0.0, 0.05, beside="x")),
    (r"centroid_y", Normal(0.0, 0.05, beside="y")),
    (r"(x|y|centroid_x|centroid_y)Err", Normal(0.08, 0.012)),
    (r"localBackground_instFlux|sky", Normal(0.0, 40.0)),
    (r"localBackground_instFluxErr|skyErr", Normal(25.0, 2.0)),
    (r"ixyPSF|ixyDebiasedPSF", Normal(0.0, 0.03)),
    (r"i(xx|yy)(Debiased)?PSF", Normal(2.9, 0.05)),
    (r"(ixx|iyy|shape_xx|shape_yy|ixxRound|iyyRound|iRound_flag)", Normal(4.1, 0.6)),
    (r"(ixy|shape_xy|ixyRound)", Normal(0.0, 0.5)),
    (r"bd(E1|E2)|hsmShapeRegauss_e[12]", Normal(0.0, 0.25)),
    (r"bdRe[BD]", Normal(2.0, 0.3)),
    (r"hsmShapeRegauss_sigma", Normal(0.3, 0.03)),
    (r"fwhm|refFwhm", Normal(0.75, 0.04)),
    (r"kronRad", Normal(4.0, 0.5)),
    (r"psfFlux_area", Normal(46.0, 1.5)),
    (r"psfFlux_apCorr", Normal(1.0, 0.004)),
    (r"psfFlux_apCorrErr", Normal(0.003, 0.0003)),
    (r"blendedness(_abs)?", Normal(0.05, 0.01)),
    (r"localPhotoCalib", Normal(0.66, 0.004)),
    (r"localPhotoCalibErr", Normal(0.001, 0.0001)),
    (r"localWcs_CDMatrix_(1_1|2_2)", Normal(9.69e-7, 1e-10)),
    (r"localWcs_CDMatrix_(1_2|2_1)", Normal(0.0, 3e-8)),
    (r"jacobian_value", Normal(1.0, 0.002)),
    (r"variance_value", Normal(4500.0, 200.0)),
    (r"bdChi2", Normal(400.0, 30.0)),
    (r"dip(Angle|Length|Chi2)", Normal(1.0, 0.3)),
)
_APERTURE = re.compile(r"ap(?:Flux_)?(\d+)")
_FLUX = re.compile(r"(.*)(?:Flux|instFlux|FluxB|FluxD|FluxDiff|MeanFlux)(Err)?(?:_inner)?")
# Light within a Gaussian aperture of this many PSF widths, for the aperture-matched fluxes.
_GAAP = re.compile(r"gaap(\d)p(\d)")
_BAND = re.compile(r"([ugrizy])_(.*)")
_FLAG_SHARES: tuple[tuple[str, float], ...] = (
    (r".*pixelFlags_interpolated.*", 0.08),
    (r".*pixelFlags_(inexact_psf|sensor_edge).*", 0.15),
    (r".*calib_(astrometry|photometry|psf)_(used|candidate)", 0.03),
    (r".*", 0.006),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a column is filled."""

    column: Column
    band: str | None
    rule: Rule


@lru_cache(maxsize=64)
def recipes(contract: Contract, fluxes: str) -> tuple[Recipe, ...]:
    """Return a recipe for every column; `fluxes` tells whether names start with a band (``by band``) or not."""
    made = []
    for column in contract.columns:
        match = _BAND.fullmatch(column.name) if fluxes == "by band" else None
        band, rest = match.groups() if match else (None, column.name)
        made.append(Recipe(column, band, _rule(column, rest)))
    return tuple(made)


def _rule(column: Column, rest: str) -> Rule:
    """Return how a column is filled, by its type and by its name without the band."""
    if pa.types.is_boolean(column.arrow):
        return Flag(next(share for pattern, share in _FLAG_SHARES if re.fullmatch(pattern, rest)))
    if pa.types.is_integer(column.arrow):
        return Whole(0, 0) if rest.endswith(("Id", "system")) else Whole(1, 120)
    if not pa.types.is_floating(column.arrow):
        return Text("")
    for pattern, rule in _FLOATS:
        if re.fullmatch(pattern, rest):
            return rule
    flux = _FLUX.fullmatch(rest)
    return _aperture(rest, error=bool(flux[2])) if flux else Normal(0.0, 1.0)


def _aperture(name: str, *, error: bool) -> Flux | FluxError:
    """Return the share of light and the growth of noise that a flux's name tells."""
    share, spread = 1.0, 1.1
    if found := _APERTURE.match(name):
        radius = float(found[1])
        share, spread = 1.0 - float(np.exp(-((radius / 5.0) ** 1.3))), 0.5 + radius / 12.0
    elif found := _GAAP.match(name):
        width = float(f"{found[1]}.{found[2]}")
        share, spread = width * width / (0.5 + width * width), 0.6 + width / 2.0
    elif name.startswith(("bd", "dip")):
        share, spread = 0.5, 2.0
    if "instFlux" in name:
        share, spread = share / 0.66, spread / 0.66
    return FluxError(spread) if error else Flux(share, spread)


@dataclass(frozen=True, slots=True)
class Main:
    """The names of the flux that other fluxes are derived from; ``{band}`` stands for the band."""

    flux: str
    error: str

    def of(self, band: str | None, core: Core) -> tuple[Values, Values]:
        """Return the flux and its error in a band."""
        word = band or ""
        return np.asarray(core[self.flux.format(band=word)]), np.asarray(core[self.error.format(band=word)])


def fill(
    contract: Contract,
    core: Core,
    rows: int,
    generator: np.random.Generator,
    *,
    main: Main | None = None,
    absent: Mapping[str, Values] | None = None,
    without: Sequence[str] = (),
) -> dict[str, pa.Array]:
    """Return every column of `contract` but those in `without`, as Arrow arrays of the contract's types.

    Parameters
    ----------
    core
        What was measured: columns by name, or one word for all rows.
    main
        The flux that other fluxes follow; without it they are pure noise.
    absent
        By band, the rows where it was not observed: floats become NaN, flags true, integers a fill value.
    """
    by_band = main is not None and "{band}" in main.flux
    columns = {}
    for recipe in recipes(contract, "by band" if by_band else "plain"):
        name = recipe.column.name
        if name in without:
            continue
        values = core[name] if name in core else _draw(recipe, core, rows, generator, main)
        lost = absent.get(recipe.band) if absent and recipe.band else None
        if lost is not None and not isinstance(values, str):
            values = _without(name, values, lost)
        columns[name] = to_arrow(values, recipe.column.arrow, rows)
    return columns


def _draw(recipe: Recipe, core: Core, rows: int, generator: np.random.Generator, main: Main | None) -> Values | str:
    """Return a column's values by its rule."""
    match recipe.rule:
        case Flag(share):
            drawn: Values = generator.integers(0, 65536, rows, dtype=np.uint16) < np.uint16(share * 65536)
            return drawn
        case Whole(low, high):
            return generator.integers(low, high + 1, rows, dtype=np.int32)
        case Text(word):
            return word
        case Normal(mean, sigma, beside):
            values = generator.standard_normal(rows)
            values *= sigma
            values += np.asarray(core[beside], float) if beside is not None and beside in core else mean
            return values
        case Flux(share, spread):
            values = generator.standard_normal(rows)
            if main is not None:
                flux, error = main.of(recipe.band, core)
                values *= error
                values *= spread
                values += flux * share
            return values
        case FluxError(spread):
            values = generator.standard_normal(rows)
            values *= 0.03
            values += 1.0
            if main is not None:
                values *= main.of(recipe.band, core)[1]
            values *= spread
            return values


def _without(name: str, values: Values, lost: Values) -> Values:
    """Return values as files have them where a band was not observed."""
    fill_value: float | bool
    if values.dtype.kind == "f":
        fill_value = np.nan
    elif values.dtype.kind == "b":
        if "flag" not in name.lower():
            return values
        fill_value = True
    else:
        fill_value = ABSENT_INT
    return np.where(lost, np.asarray(fill_value, values.dtype), values)


def to_arrow(values: Values | pa.Array | str, arrow: pa.DataType, rows: int) -> pa.Array:
    """Return values, or one word for all rows, as an Arrow array of a type."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, str):
        codes = pa.array(np.zeros(rows, np.int32))
        return pa.DictionaryArray.from_arrays(codes, [values]).cast(pa.string())
    if pa.types.is_timestamp(arrow):
        return pa.array(values, pa.timestamp("ns"), from_pandas=False)
    if pa.types.is_floating(arrow) or pa.types.is_integer(arrow):
        # Cast in numpy: it does not refuse a double that a float cannot hold exactly.
        return pa.array(np.asarray(values).astype(arrow.to_pandas_dtype(), copy=False), arrow)
    return pa.array(values, arrow, from_pandas=False)
