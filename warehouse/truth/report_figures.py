"""The report's figures, drawn from counts; each with the numbers that stand under it.

Density is drawn as counts in cells, on a logarithmic scale, so that a figure says the same of a thousand rows and of
a thousand million. Bands have the colours and symbols that Rubin gives them. matplotlib is imported when it is needed,
and its global state is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from warehouse.contracts.derived import MATCHED, MISSED, UNMATCHED_OBJECT
from warehouse.truth import report_counts as counting
from warehouse.truth.report_counts import Counts, Floats, Layout, quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"u": "#56b4e9", "g": "#008060", "r": "#ff4000", "i": "#850000", "z": "#6600cc", "y": "#000000"}
SYMBOLS = {"u": "o", "g": "^", "r": "v", "i": "s", "z": "*", "y": "p"}
DENSITY = "viridis"
_PANEL_INCH = 3.1
# A share of fewer rows than these says more of chance than of the survey.
_LEAST_ROWS = 10

Row = tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """A figure: its file name without ending, its title, what it shows, the figure, and the table of its numbers."""

    name: str
    title: str
    caption: str
    figure: Figure
    headings: Row
    rows: tuple[Row, ...]


def figures(counts: Counts, layout: Layout) -> Iterator[Drawn]:
    """Yield the report's figures, one after the other."""
    yield _footprint(counts, layout)
    yield _completeness(counts, layout)
    yield _offsets(counts)
    yield _magnitudes(counts, layout)
    yield _fluxes(counts, layout)
    if layout.colours:
        yield _colours(counts, layout)
    yield _redshifts(counts)


def _panels(
    number: int, columns: int, *, width: float = _PANEL_INCH, height: float = _PANEL_INCH
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    rows = -(-number // columns)
    figure = Figure(figsize=(width * min(columns, number) + 0.9, height * rows), layout="constrained", dpi=110)
    grid = figure.subplots(rows, min(columns, number), squeeze=False)
    for spare in grid.flat[number:]:
        spare.set_visible(False)
    return figure, list(grid.flat[:number])


def _density(
    axes: Axes, counts: npt.NDArray[np.int64], x: Floats, y: Floats, *, band: str | None = None, most: int | None = None
) -> Any:  # noqa: ANN401 - matplotlib's mesh
    """Draw counts in cells; empty cells stay white, the scale is the same for all who give the same `most`."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_hex, to_rgb

    colours: Any = DENSITY
    if band is not None:
        # From a tint that can still be seen to the band's own colour.
        red, green, blue = (1 - 0.22 * (1 - part) for part in to_rgb(COLOURS[band]))
        tint = to_hex((red, green, blue))
        colours = LinearSegmentedColormap.from_list(band, [tint, COLOURS[band]])
    shown = np.ma.masked_equal(counts.T, 0)
    top = max(2, int(counts.max(initial=0)) if most is None else most)
    return axes.pcolormesh(x, y, shown, norm=LogNorm(1, top), cmap=colours, rasterized=True)


def _bar(figure: Figure, mesh: Any, axes: Any, label: str) -> None:  # noqa: ANN401 - matplotlib's mesh and axes
    bar = figure.colorbar(mesh, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label(label)


def _footprint(counts: Counts, layout: Layout) -> Drawn:
    from matplotlib.ticker import FuncFormatter

    figure, (axes,) = _panels(1, 1, width=6.4, height=5.2)
    east, north = np.array(layout.east), np.array(layout.north)
    mesh = _density(axes, counts["sky"], east, north)
    _bar(figure, mesh, axes, "rows in a cell")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{(x + layout.middle) % 360:g}"))
    axes.set(xlabel="right ascension (deg)", ylabel="declination (deg)", xlim=(east[-1], east[0]))
    axes.set_aspect(1 / max(0.05, float(np.cos(np.radians(0.5 * (north[0] + north[-1]))))))
    rows = [(word, f"{int(counts[name][0]):,}") for name, word in _STATUSES.items()]
    cell = float(np.diff(north).mean() * np.diff(east).mean() * np.cos(np.radians(0.5 * (north[0] + north[-1]))))
    rows.append(("area of the cells with rows (square degrees)", f"{np.count_nonzero(counts['sky']) * cell:,.3f}"))
    caption = (
        "Where the rows of ObjectTruth lie: a truth row at its own position, an object without one at the object's."
    )
    return Drawn("footprint", "Footprint", caption, figure, ("", "number"), tuple(rows))


_STATUSES = {
    MATCHED: "truth rows with an object (matched)",
    MISSED: "truth candidates without an object (missed)",
    UNMATCHED_OBJECT: "primary objects without a truth row (unmatched)",
}


def _completeness(counts: Counts, layout: Layout) -> Drawn:
    figure, axes = _panels(2, 2, width=4.6, height=3.8)
    centres = 0.5 * (counting.COARSE_MAGNITUDE[1:] + counting.COARSE_MAGNITUDE[:-1])
    rows = []
    for band in layout.bands:
        halves = []
        for panel, part, whole in ((axes[0], "found", "truth"), (axes[1], "explained", "objects")):
            share = _share(counts[f"{part} {band}"], counts[f"{whole} {band}"])
            drawn = panel.plot(centres, share, color=COLOURS[band], marker=SYMBOLS[band], label=band)
            drawn[0].set(markersize=4, linewidth=1)
            halves.append(_half(centres, share))
        numbers = [int(counts[f"{name} {band}"].sum()) for name in ("truth", "found", "objects", "explained")]
        rows.append((band, *(f"{n:,}" for n in numbers), _number(halves[0], 1)))
    axes[0].set(xlabel="true magnitude (AB)", ylabel="completeness: share of truth that is matched")
    axes[1].set(xlabel="measured cModel magnitude (AB)", ylabel="purity: share of objects with a truth")
    for panel in axes:
        panel.set(ylim=(-0.03, 1.05))
        panel.grid(alpha=0.25)
    axes[0].legend(ncols=2, frameon=False)
    caption = (
        "Completeness: of the truth rows that were match candidates, the share with an object. Purity: of the primary "
        f"objects, the share with a truth row. In bins of a quarter magnitude; those of fewer than {_LEAST_ROWS} rows "
        "are left out."
    )
    headings = (
        "band",
        "truth candidates",
        "of them matched",
        "objects",
        "of them with truth",
        "half complete at (mag)",
    )
    return Drawn("completeness", "Completeness and purity", caption, figure, headings, tuple(rows))


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole >= _LEAST_ROWS, part / whole, np.nan)


def _half(magnitude: Floats, share: Floats) -> float:
    """Return the magnitude at which a falling share last crosses one half, NaN where it does not."""
    known = np.isfinite(share)
    magnitude, share = magnitude[known], share[known]
    crossings = np.flatnonzero((share[:-1] >= 0.5) & (share[1:] < 0.5))
    if not crossings.size:
        return float("nan")
    k = crossings[-1]
    return float(np.interp(0.5, [share[k + 1], share[k]], [magnitude[k + 1], magnitude[k]]))


def _offsets(counts: Counts) -> Drawn:
    figure, (axes,) = _panels(1, 1, width=4.8, height=4.4)
    edges, cells = counting.OFFSET_ARCSEC, counts["offset"]
    _bar(figure, _density(axes, cells, edges, edges), axes, "matches in a cell")
    axes.axhline(0, color="0.5", linewidth=0.6)
    axes.axvline(0, color="0.5", linewidth=0.6)
    axes.set(xlabel="offset in RA x cos(Dec) (arcsec)", ylabel="offset in Dec (arcsec)", aspect="equal")
    rows = []
    for name, along in (("RA x cos(Dec)", cells.sum(axis=1)), ("Dec", cells.sum(axis=0))):
        rows.append((name, f"{int(along.sum()):,}", *_spread(along, edges, 1000.0, 1)))
    headings = ("direction", "matches", "median (mas)", "half of 16-84 % (mas)")
    caption = "Measured position less true position, of every match."
    return Drawn("offsets", "Offsets on the sky", caption, figure, headings, tuple(rows))


def _spread(counts: npt.NDArray[np.int64], edges: Floats, factor: float, digits: int) -> tuple[str, str]:
    low, middle, high = (factor * quantile(counts, edges, share) for share in (0.1587, 0.5, 0.8413))
    return _number(middle, digits, sign=True), _number(0.5 * (high - low), digits)


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    rounded = round(value, digits) + 0.0 if np.isfinite(value) else value  # + 0.0: no minus before a zero
    return f"{rounded:{'+' if sign else ''},.{digits}f}" if np.isfinite(rounded) else "-"


def _of_bands(counts: Counts, layout: Layout, name: str, edges: Floats) -> tuple[Figure, list[Axes]]:
    """Draw a panel a band, all on one scale, with the line on which both agree."""
    figure, axes = _panels(len(layout.bands), 3)
    most = max(int(counts[f"{name} {band}"].max(initial=0)) for band in layout.bands)
    for panel, band in zip(axes, layout.bands, strict=True):
        _density(panel, counts[f"{name} {band}"], edges, edges, band=band, most=most)
        panel.plot(edges[[0, -1]], edges[[0, -1]], color="0.35", linewidth=0.7, linestyle=":")
        panel.text(0.06, 0.93, band, transform=panel.transAxes, color=COLOURS[band], fontweight="bold", va="top")
        panel.set_aspect("equal")
    return figure, axes


def _magnitudes(counts: Counts, layout: Layout) -> Drawn:
    figure, axes = _of_bands(counts, layout, "magnitude", counting.MAGNITUDE)
    for panel in axes:
        panel.set(xlabel="true magnitude", ylabel="cModel magnitude", xlim=(15, 29), ylim=(15, 29))
        panel.set(xticks=range(16, 29, 4), yticks=range(16, 29, 4))
    rows = []
    for band in layout.bands:
        along = counts[f"residual {band}"]
        rows.append((band, f"{int(along.sum()):,}", *_spread(along, counting.RESIDUAL, 1000.0, 0)))
    headings = ("band", "matches with both", "median (mmag)", "half of 16-84 % (mmag)")
    caption = "Measured cModel against true AB magnitude of every match; the numbers are of measured less true."
    return Drawn("magnitudes", "True against measured magnitude", caption, figure, headings, tuple(rows))


def _fluxes(counts: Counts, layout: Layout) -> Drawn:
    figure, axes = _of_bands(counts, layout, "flux", counting.LOG_FLUX)
    for panel in axes:
        panel.set(xlabel="log10 of the true flux (nJy)", ylabel="log10 of the cModel flux (nJy)")
    rows = []
    for band in layout.bands:
        cells = counts[f"flux {band}"]
        true, measured = (quantile(cells.sum(axis=axis), counting.LOG_FLUX, 0.5) for axis in (1, 0))
        rows.append((band, f"{int(cells.sum()):,}", _number(10**true, 1), _number(10**measured, 1)))
    headings = ("band", "matches with both positive", "median true flux (nJy)", "median cModel flux (nJy)")
    caption = "Measured cModel flux against true flux of every match in which both are positive."
    return Drawn("fluxes", "Flux against flux", caption, figure, headings, tuple(rows))


def _colours(counts: Counts, layout: Layout) -> Drawn:
    figure, axes = _panels(2 * len(layout.colours), 2, width=3.9, height=3.6)
    rows = []
    for number, (blue, red) in enumerate(layout.colours):
        pair = [counts[f"{kind} {blue}-{red}"] for kind in ("true", "measured")]
        most = max(int(cells.max(initial=0)) for cells in pair)
        for panel, kind, cells in zip(axes[2 * number : 2 * number + 2], ("true", "measured"), pair, strict=True):
            mesh = _density(panel, cells, counting.COLOUR, counting.MAGNITUDE, most=most)
            panel.set(xlabel=f"{kind} {blue} - {red}", ylabel=f"{kind} {layout.against(red)} (AB mag)", ylim=(29, 15))
            along = cells.sum(axis=1)
            rows.append((f"{kind} {blue} - {red}", f"{int(along.sum()):,}", *_spread(along, counting.COLOUR, 1.0, 3)))
        _bar(figure, mesh, axes[2 * number + 1], "matches in a cell")
    headings = ("colour", "matches", "median (mag)", "half of 16-84 % (mag)")
    caption = "The same matches with their true and with their measured (cModel) magnitudes."
    return Drawn("colours", "Colour-magnitude diagrams", caption, figure, headings, tuple(rows))


def _redshifts(counts: Counts) -> Drawn:
    figure, (axes,) = _panels(1, 1, width=5.6, height=3.8)
    rows = []
    for name, label, colour in (
        ("redshift", "match candidates", "0.65"),
        ("redshift matched", "matched", COLOURS["g"]),
    ):
        axes.stairs(counts[name], counting.REDSHIFT, label=label, color=colour, fill=name == "redshift", alpha=0.8)
        middle = quantile(counts[name], counting.REDSHIFT, 0.5)
        rows.append((label, f"{int(counts[name].sum()):,}", _number(middle, 3)))
    axes.set(xlabel="true redshift", ylabel="galaxies in a bin", xlim=(0, counting.REDSHIFT[-1]))
    axes.legend(frameon=False)
    caption = "True galaxies that were match candidates, and those of them that have an object."
    return Drawn(
        "redshifts", "Redshift distribution", caption, figure, ("galaxies", "number", "median redshift"), tuple(rows)
    )
