"""A picture of an image: asinh-zscale grey, sky axes, a scale bar.

Draws what `warehouse.images.pixels` and `warehouse.images.cutout` give. matplotlib and astropy are loaded when the
first picture is drawn.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warehouse import outputs
from warehouse.errors import QueryError, StorageError
from warehouse.images.pixels import NO_DATA, plane, planes_of

_INCHES, _DPI = 8.0, 150
_MOST_SIDE = 1600  # pixels of the picture; more are averaged
# Lupton's stretch as LSST's displays have it: softening Q, and the share of white at a tenth of the range.
_Q, _LINEAR_SHARE = 8.0, 0.1
_BARS_ARCSEC = (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
_CONTRAST = 0.25
_TICKS = 7


def draw(image: Any, out: str, *, title: str = "") -> Path:  # noqa: ANN401 - a CCDData
    """Write a PNG of an image and return its path.

    Grey is the asinh of the flux above the lower limit that IRAF's zscale algorithm finds, in units of zscale's range
    (Lupton et al. 2004, PASP 116, 133, with Q = 8), as LSST's displays show it; pixels without data are blue.

    Raises
    ------
    QueryError
        `out` is no local ``.png``, or the image lies nowhere on the sky.
    StorageError
        It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = outputs.local(out, ".png")
    if image.wcs is None:
        raise QueryError("the image has no world coordinates, so no sky axes can be drawn", kind="wcs", uri=out)
    height, width = image.data.shape
    tall = min(max(height / width, 0.4), 2.0)
    figure = Figure(figsize=(_INCHES, 1.2 + (_INCHES - 1.8) * tall), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection=image.wcs)
    shown = _pixels(axes, image)
    ticks = shown.norm.inverse(np.linspace(0.0, 1.0, _TICKS))
    bar = figure.colorbar(shown, ax=axes, label=f"flux a pixel ({image.unit})", shrink=0.8, pad=0.02, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks], fontsize=8)
    bar.ax.minorticks_off()
    _sky_axes(axes)
    _scale_bar(axes, image)
    if title:
        axes.set_title(title, fontsize=10)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with outputs.replacing(path) as part:
            figure.savefig(part, format="png")
    except OSError as error:
        raise StorageError(f"the picture cannot be written: {error}", uri=out) from error
    return path


def _pixels(axes: Any, image: Any) -> Any:  # noqa: ANN401 - matplotlib's, astropy's
    from astropy.visualization import AsinhStretch, ImageNormalize, ZScaleInterval
    from matplotlib import colormaps

    height, width = image.data.shape
    data, empty = _reduced(image)
    good = data[~empty]
    low, high = ZScaleInterval(contrast=_CONTRAST).get_limits(good) if good.size else (0.0, 1.0)
    # zscale closes on an empty sky; a flat image gets a range all the same.
    high = high if high > low else low + 1.0
    white = math.sinh(math.asinh(_LINEAR_SHARE * _Q) / _LINEAR_SHARE) / _Q  # in units of the range
    norm = ImageNormalize(vmin=low, vmax=low + white * (high - low), stretch=AsinhStretch(1.0 / (_Q * white)))
    grey = colormaps["gray"].with_extremes(bad="#27405e")
    return axes.imshow(
        np.ma.array(data, mask=empty),
        origin="lower",
        cmap=grey,
        norm=norm,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, -0.5, height - 0.5),
    )


def _reduced(image: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:  # noqa: ANN401 - a CCDData
    """Return pixels and where they are empty, means of blocks where there are more pixels than a picture shows."""
    data = np.asarray(image.data, np.float32)
    empty = ~np.isfinite(data)
    if NO_DATA in planes_of(image) and image.flags is not None:
        empty |= plane(image, NO_DATA)
    block = math.ceil(max(data.shape) / _MOST_SIDE)
    if block == 1:
        return data, empty
    beyond = [(0, -length % block) for length in data.shape]
    shape = (-1, block, (data.shape[1] + beyond[1][1]) // block, block)
    total = np.pad(np.where(empty, 0, data), beyond).reshape(shape).sum(axis=(1, 3))
    count = np.pad(~empty, beyond).reshape(shape).sum(axis=(1, 3))
    return np.asarray(total / np.maximum(count, 1), np.float32), np.asarray(count == 0)


def _sky_axes(axes: Any) -> None:  # noqa: ANN401 - astropy's WCSAxes
    ra, dec = axes.coords
    for coordinate, label in ((ra, "RA (deg, ICRS)"), (dec, "Dec (deg, ICRS)")):
        coordinate.set_axislabel(label)
        coordinate.set_format_unit("deg", decimal=True)
        coordinate.set_ticklabel(exclude_overlapping=True, size=8)
    axes.coords.grid(color="white", alpha=0.18, linewidth=0.6)


def _scale_bar(axes: Any, image: Any) -> None:  # noqa: ANN401 - matplotlib's, a CCDData
    """Draw a bar of a round length, about a fifth of the image's width, into the lower left corner."""
    from matplotlib.patheffects import withStroke

    height, width = image.data.shape
    scale = 3600.0 * math.sqrt(abs(np.linalg.det(image.wcs.pixel_scale_matrix)))
    fitting = [length for length in _BARS_ARCSEC if length <= 0.25 * width * scale]
    if not fitting:
        return
    length = fitting[-1]
    left, low = 0.05 * width, 0.05 * height
    outline = [withStroke(linewidth=2.5, foreground="black")]
    right = left + length / scale
    axes.plot([left, right], [low, low], color="white", linewidth=2, path_effects=outline, scalex=False, scaley=False)
    text = f"{length / 60:g}'" if length >= 60 else f'{length:g}"'
    axes.text(
        (left + right) / 2, low + 0.015 * height, text, color="white", ha="center", va="bottom", path_effects=outline
    )
