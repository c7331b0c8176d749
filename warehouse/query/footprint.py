"""The footprint: a map of the patches that hold rows, coloured by how many, with the numbers of their tracts.

Takes what `warehouse.query.skyinfo` gives and draws it; nothing is read here. matplotlib is imported when it is needed,
and its global state is left alone.
"""

from __future__ import annotations

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
_ROUND_DEG = 180.0
_LOGARITHMIC = 30.0  # ratio of the fullest to the emptiest patch above which a linear scale shows only the fullest


def footprint(sky_info: pl.DataFrame, sky: SkyMap, out: str | PathLike[str], title: str = "") -> Path:
    """Draw the tract and patch map of a table into the PNG file `out`, and return its path.

    Right ascension grows to the left, as on the sky, and a degree is as long in both directions at the middle
    declination. The footprint may cross RA 0.

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
    middle = _middle(polygons[..., 0])
    polygons = np.stack([_unrolled(polygons[..., 0], middle), polygons[..., 1]], axis=-1)
    low, high = polygons.min(axis=(0, 1)), polygons.max(axis=(0, 1))
    # A map that goes round the sky cannot keep angles and a readable height.
    round_the_sky = high[0] - low[0] > _ROUND_DEG
    stretch = 1.0 if round_the_sky else 1 / max(0.05, float(np.cos(np.radians(0.5 * (low[1] + high[1])))))
    margin = 0.04 * (high - low) if round_the_sky else 0.04 * (high - low).max() * np.array([stretch, 1.0])
    shape = float((high[1] - low[1] + 2 * margin[1]) / (high[0] - low[0] + 2 * margin[0]) * stretch)
    height = float(np.clip(_WIDTH_INCH * 0.82 * shape + 1.1, _LEAST_INCH, _MOST_INCH))
    figure = Figure(figsize=(_WIDTH_INCH, height), layout="constrained")
    axes = figure.add_subplot()
    _coloured(figure, axes, polygons, patches.get_column("rows").to_numpy())
    _outlined(axes, sky, tracts, middle)
    _numbered(axes, polygons, patches.get_column("tract").to_numpy(), tracts, float(high[0] - low[0]))
    axes.set_xlim(high[0] + margin[0], low[0] - margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axes.set_aspect("auto" if round_the_sky else stretch)
    _labelled(axes, title, patches, len(tracts))
    return figure


def _coloured(figure: Figure, axes: Axes, polygons: Floats, rows: npt.NDArray[Any]) -> None:
    """Draw each patch in the colour of its rows, and the bar that says which colour is how many."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import FuncFormatter

    spread = rows.max() / rows.min()
    scale = LogNorm(rows.min(), rows.max()) if spread > _LOGARITHMIC else Normalize(0, rows.max())
    drawn = PolyCollection(list(polygons), array=rows, cmap=_COLOURS, norm=scale, edgecolors="white", linewidths=0.25)
    axes.add_collection(drawn)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85, pad=0.015, aspect=28)
    bar.set_label("rows in a patch", color=_INK)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    bar.outline.set_visible(False)


def _outlined(axes: Axes, sky: SkyMap, tracts: npt.NDArray[np.int64], middle: float) -> None:
    """Draw the box that is each tract's own."""
    from matplotlib.collections import LineCollection

    lines = []
    for tract in tracts.tolist():
        box = sky.inner_box(tract)
        width = 360.0 if box.ra_max - box.ra_min >= 360 else (box.ra_max - box.ra_min) % 360
        centre = _unrolled(np.array([box.ra_min + 0.5 * width]), middle)[0]
        west, east = centre - 0.5 * width, centre + 0.5 * width
        lines.append(
            [(west, box.dec_min), (east, box.dec_min), (east, box.dec_max), (west, box.dec_max), (west, box.dec_min)]
        )
    axes.add_collection(LineCollection(lines, colors=_INK, linewidths=0.9, alpha=0.8))


def _numbered(
    axes: Axes, polygons: Floats, of_patch: npt.NDArray[np.int64], tracts: npt.NDArray[np.int64], width: float
) -> None:
    """Write each tract's number where its patches are, so that a tract of a few patches is named beside none else."""
    from matplotlib.patheffects import withStroke

    size = float(np.clip(95.0 / max(width, 1e-9), 4.0, 11.0))
    for tract in tracts.tolist():
        corners = polygons[of_patch == tract].reshape(-1, 2)
        x, y = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
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


def _middle(ra_deg: Floats) -> float:
    """Return the mean right ascension along the circle; 180 for positions all around it, which have none."""
    angles = np.radians(ra_deg)
    x, y = np.cos(angles).mean(), np.sin(angles).mean()
    return float(np.degrees(np.arctan2(y, x)) % 360) if np.hypot(x, y) > 0.2 else 180.0


def _unrolled(ra_deg: Floats, middle: float) -> Floats:
    """Return right ascensions within half a turn of `middle`; a polygon's corners stay together."""
    turned = (ra_deg - middle + 180.0) % 360.0 - 180.0
    first = turned[..., :1]
    return np.asarray(middle + first + (turned - first + 180.0) % 360.0 - 180.0)
