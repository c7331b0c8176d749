"""The footprint: a map of the patches that hold rows, coloured by how many, with the numbers of their tracts.

Takes what `warehouse.query.skyinfo` gives and draws it; nothing is read here. matplotlib is imported when it is needed,
and its global state is left alone.
"""

from __future__ import annotations

import math
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse import outputs
from warehouse.errors import QueryError
from warehouse.faults import translated
from warehouse.sky.skymap import SkyMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

_COLOURS = "viridis"
_INK = "#1b2a3a"
_WIDTH_INCH, _LEAST_INCH, _MOST_INCH = 9.0, 4.0, 12.0
_DPI = 160
_TURN, _ROUND_DEG = 360.0, 180.0
_STEP_DEG = 2.0  # of right ascension, along an edge: a shorter piece of a great circle is a straight line to the eye
_LOGARITHMIC = 30.0  # ratio of the fullest to the emptiest patch above which a linear scale shows only the fullest


def footprint(sky_info: pl.DataFrame, sky: SkyMap, out: str | PathLike[str], title: str = "") -> Path:
    """Draw the tract and patch map of a table into the PNG file `out`, and return its path.

    Right ascension grows to the left, as on the sky, and a degree is as long in both directions at the middle
    declination. The footprint may cross RA 0, and may hold a pole, which is the whole upper or lower edge of the map.

    Parameters
    ----------
    sky_info
        ``tract``, ``patch`` and ``rows``; patches without rows are left out.

    Raises
    ------
    QueryError
        There is no patch with rows, or `out` is no local ``.png``.
    StorageError
        The file cannot be written.
    """
    path = outputs.local(fspath(out), ".png")
    patches = sky_info.filter(pl.col("rows") > 0)
    if patches.is_empty():
        raise QueryError("there are no rows, so there is no footprint to draw", kind="footprint")
    figure = _drawn(patches, sky, title)
    with translated(str(path), "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with outputs.replacing(path) as part:
            figure.savefig(part, dpi=_DPI, format="png", bbox_inches="tight", metadata={"Title": title or "footprint"})
    return path


def _drawn(patches: pl.DataFrame, sky: SkyMap, title: str) -> Figure:
    from matplotlib.figure import Figure

    tracts = patches.get_column("tract").unique().sort().to_numpy()
    polygons = sky.patch_polygon(patches.get_column("tract").to_numpy(), patches.get_column("patch").to_numpy())
    middle = _middle(polygons)
    pieces, of_patch = _pieces(polygons, middle)
    corners = np.concatenate(pieces)
    low, high = corners.min(axis=0), corners.max(axis=0)
    # A map that goes round the sky cannot keep angles and a readable height.
    round_the_sky = high[0] - low[0] > _ROUND_DEG
    stretch = 1.0 if round_the_sky else 1 / max(0.05, float(np.cos(np.radians(0.5 * (low[1] + high[1])))))
    margin = 0.04 * (high - low) if round_the_sky else 0.04 * (high - low).max() * np.array([stretch, 1.0])
    margin[0] *= high[0] - low[0] < _TURN
    shape = float((high[1] - low[1] + 2 * margin[1]) / (high[0] - low[0] + 2 * margin[0]) * stretch)
    height = float(np.clip(_WIDTH_INCH * 0.82 * shape + 1.1, _LEAST_INCH, _MOST_INCH))
    figure = Figure(figsize=(_WIDTH_INCH, height), layout="constrained")
    axes = figure.add_subplot()
    _coloured(figure, axes, pieces, patches.get_column("rows").to_numpy()[of_patch])
    _outlined(axes, sky, tracts, middle)
    _numbered(axes, sky, pieces, patches.get_column("tract").to_numpy()[of_patch], middle)
    axes.set_xlim(high[0] + margin[0], low[0] - margin[0])
    axes.set_ylim(max(-90.0, low[1] - margin[1]), min(90.0, high[1] + margin[1]))
    axes.set_aspect("auto" if round_the_sky else stretch)
    _labelled(axes, title, patches, len(tracts))
    return figure


def _coloured(figure: Figure, axes: Axes, pieces: list[Floats], rows: npt.NDArray[Any]) -> None:
    """Draw each piece in the colour of its patch's rows, and the bar that says which colour is how many."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import FuncFormatter

    spread = rows.max() / rows.min()
    scale = LogNorm(rows.min(), rows.max()) if spread > _LOGARITHMIC else Normalize(0, rows.max())
    drawn = PolyCollection(pieces, array=rows, cmap=_COLOURS, norm=scale, edgecolors="white", linewidths=0.25)
    axes.add_collection(drawn)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85, pad=0.015, aspect=28)
    bar.set_label("rows in a patch", color=_INK)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    bar.outline.set_visible(False)


def _outlined(axes: Axes, sky: SkyMap, tracts: npt.NDArray[np.int64], middle: float) -> None:
    """Draw the box that is each tract's own."""
    from matplotlib.collections import LineCollection

    lines: list[Floats] = []
    for tract in tracts.tolist():
        box = sky.inner_box(tract)
        whole = box.ra_max - box.ra_min >= _TURN
        width = _TURN if whole else (box.ra_max - box.ra_min) % _TURN
        centre = middle if whole else _turned(box.ra_min + 0.5 * width, middle)
        west, east, south, north = centre - 0.5 * width, centre + 0.5 * width, box.dec_min, box.dec_max
        lines += _split(np.array([(west, south), (east, south), (east, north), (west, north)]), middle)
    closed = [np.concatenate([line, line[:1]]) for line in lines]
    axes.add_collection(LineCollection(closed, colors=_INK, linewidths=0.9, alpha=0.8))


def _numbered(axes: Axes, sky: SkyMap, pieces: list[Floats], of_tract: npt.NDArray[np.int64], middle: float) -> None:
    """Write each tract's number at its centre, or, where the map does not reach so far, where its patches are."""
    from matplotlib.patheffects import withStroke

    corners = np.concatenate(pieces)
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = float(np.clip(95.0 / max(float(high[0] - low[0]), 1e-9), 4.0, 11.0))
    for tract in np.unique(of_tract).tolist():
        ra, dec = (float(angle) for angle in sky.tract_centre(tract))
        x, y = _turned(ra, middle), dec
        if not (low[0] < x < high[0] and low[1] < y < high[1]):
            x, y = _between([pieces[i] for i in np.flatnonzero(of_tract == tract)])
        axes.text(
            x,
            y,
            str(tract),
            ha="center",
            va="center",
            fontsize=size,
            color="white",
            fontweight="bold",
            clip_on=True,
            path_effects=[withStroke(linewidth=1.6, foreground=_INK)],
        )


def _labelled(axes: Axes, title: str, patches: pl.DataFrame, tracts: int) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda ra, _: f"{ra % 360:g}"))
    axes.set_xlabel("right ascension (deg)", color=_INK)
    axes.set_ylabel("declination (deg)", color=_INK)
    axes.tick_params(colors=_INK, direction="in", top=True, right=True)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    rows = int(patches.get_column("rows").sum())
    counted = f"{_count(rows, 'row')} in {_count(patches.height, 'patch')} of {_count(tracts, 'tract')}"
    axes.set_title(title or counted, loc="left", color=_INK, fontsize=13, fontweight="bold")
    if title:
        axes.set_title(counted, loc="right", color=_INK, fontsize=9)


def _count(number: int, word: str) -> str:
    plural = word if number == 1 else f"{word}es" if word.endswith("ch") else f"{word}s"
    return f"{number:,} {plural}"


def _middle(polygons: Floats) -> float:
    """Return the mean right ascension along the circle; 180 for positions all around it, which have none."""
    angles = np.radians(polygons[..., 0])
    x, y = np.cos(angles).mean(), np.sin(angles).mean()
    around = np.hypot(x, y) <= 0.2 or bool((np.abs(_steps(polygons).sum(axis=-1)) > _ROUND_DEG).any())
    return 180.0 if around else float(np.degrees(np.arctan2(y, x)) % _TURN)


def _turned(ra_deg: float, middle: float) -> float:
    """Return a right ascension within half a turn of `middle`."""
    return middle + (ra_deg - middle + 180.0) % _TURN - 180.0


def _steps(polygons: Floats) -> Floats:
    """Return how far right ascension goes along each edge: less than half a turn, as of any great circle's arc.

    Their sum is a whole turn for a polygon that holds a pole, none for any other.
    """
    ra = polygons[..., 0]
    return np.asarray((np.roll(ra, -1, axis=-1) - ra + 180.0) % _TURN - 180.0)


def _pieces(polygons: Floats, middle: float) -> tuple[list[Floats], npt.NDArray[np.int64]]:
    """Return the polygons as pieces of the map from half a turn before `middle` to half a turn after it, and whose.

    A polygon whose edges are straight lines to the eye, and which the map's edge does not cut, is the one piece.
    """
    steps = _steps(polygons)
    first = middle + (polygons[:, :1, 0] - middle + 180.0) % _TURN - 180.0
    ra = first + np.cumsum(steps, axis=1) - steps
    plain = (np.abs(steps).max(axis=1) <= _STEP_DEG) & (np.abs(ra - middle).max(axis=1) <= 0.5 * _TURN)
    pieces: list[Floats] = []
    whose: list[int] = []
    for number, corners in enumerate(np.stack([ra, polygons[..., 1]], axis=-1)):
        parts = [corners] if plain[number] else _split(_outline(corners, steps[number]), middle)
        pieces += parts
        whose += [number] * len(parts)
    return pieces, np.array(whose, np.int64)


def _outline(corners: Floats, steps: Floats) -> Floats:
    """Return a polygon with more points on edges that turn far; one that holds a pole is the band from its edge to it.

    Along a great circle between declinations d1 and d2, l of L further in right ascension,
    tan d = (tan d1 sin(L - l) + tan d2 sin l) / sin L.
    """
    following = np.roll(corners[:, 1], -1)
    path = []
    for (ra, dec), step, end in zip(corners.tolist(), steps.tolist(), following.tolist(), strict=True):
        number = max(1, math.ceil(abs(step) / _STEP_DEG))
        along = np.arange(number) * (step / number)
        decs = np.array([dec])
        if number > 1:
            d1, d2 = np.tan(np.radians([dec, end]))
            there, rest = np.sin(np.radians(along)), np.sin(np.radians(step - along))
            decs = np.degrees(np.arctan((d1 * rest + d2 * there) / math.sin(math.radians(step))))
        path.append(np.stack([ra + along, decs], axis=-1))
    turn = float(steps.sum())
    if abs(turn) > _ROUND_DEG:
        (ra, dec), pole = corners[0], math.copysign(90.0, corners[:, 1].mean())
        path.append(np.array([(ra + turn, dec), (ra + turn, pole), (ra, pole)]))
    return np.concatenate(path)


def _split(path: Floats, middle: float) -> list[Floats]:
    """Return what of an outline, in any turn, lies on the map, cut at its edges."""
    parts = []
    for turn in (-_TURN, 0.0, _TURN):
        moved = path + np.array([turn, 0.0])
        part = _cut(_cut(moved, middle - 0.5 * _TURN, 1.0), middle + 0.5 * _TURN, -1.0)
        if len(part) and np.ptp(part[:, 0]) > 0:
            parts.append(part)
    return parts


def _cut(path: Floats, edge: float, side: float) -> Floats:
    """Return the part of an outline that lies east (`side` 1) or west (-1) of a meridian (Sutherland and Hodgman)."""
    kept = []
    within = side * (path[:, 0] - edge)
    for here, there, a, b in zip(path, np.roll(path, -1, axis=0), within, np.roll(within, -1), strict=True):
        if a >= 0:
            kept.append(here)
        if a * b < 0:
            kept.append(here + (there - here) * (a / (a - b)))
    return np.array(kept).reshape(-1, 2)


def _between(pieces: list[Floats]) -> tuple[float, float]:
    """Return the middle of pieces, of those on the side of the first one where the map's edge cuts them apart."""
    near = [piece for piece in pieces if abs(piece[:, 0].mean() - pieces[0][:, 0].mean()) < _ROUND_DEG]
    corners = np.concatenate(near)
    x, y = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    return float(x), float(y)
