"""Summaries of light curves: the per-band columns of DiaObject, computed from its DiaSources."""

from __future__ import annotations

import numpy as np

from warehouse.simulate.population import Floats, Ints

_PERCENTILES = (5, 25, 50, 75, 95)


def band_statistics(
    band: str, rows: Ints, times: Floats, flux: Floats, error: Floats, total: Floats, objects: int
) -> dict[str, Floats]:
    """Return the columns of one band, shape (objects,); NaN where an object has no epoch in it.

    Parameters
    ----------
    rows
        The object of each epoch.
    times, flux, error, total
        MJD; difference flux, its error and the flux of the exposure in nJy.
    """
    order = np.lexsort((flux, rows))
    seen, start, sizes = np.unique(rows[order], return_index=True, return_counts=True)
    columns = {f"{band}PSFluxNdata": np.bincount(rows, minlength=objects).astype(np.float64)}
    groups = _groups(times[order], flux[order], error[order], total[order], start, sizes)
    for name, values in groups.items():
        columns[band + name] = np.full(objects, np.nan)
        columns[band + name][seen] = values
    return columns


def _groups(times: Floats, flux: Floats, error: Floats, total: Floats, start: Ints, sizes: Ints) -> dict[str, Floats]:
    """Return a value a group for each statistic; rows are sorted by group, then by flux."""

    def summed(values: Floats) -> Floats:
        # reduceat takes no empty list of groups.
        return np.add.reduceat(values, start) if len(start) else np.zeros(0)

    n = sizes.astype(np.float64)
    weight = 1.0 / np.square(error)
    weights = summed(weight)
    mean = summed(weight * flux) / weights
    residual = flux - np.repeat(mean, sizes)
    plain = flux - np.repeat(summed(flux) / n, sizes)
    variance = summed(plain * plain) / n
    since = times - np.repeat(summed(times) / n, sizes)
    spread = summed(since * since)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(spread > 0, summed(since * plain) / spread, np.nan)
        skew = summed(plain**3) / n / variance**1.5
        sigma = np.where(n > 1, np.sqrt(summed(plain * plain) / (n - 1.0)), np.nan)
    middle = _percentile(flux, start, sizes, 50)
    total_mean = summed(weight * total) / weights
    away = total - np.repeat(total_mean, sizes)
    columns = {
        "PSFluxMean": mean,
        "PSFluxMeanErr": 1.0 / np.sqrt(weights),
        "PSFluxSigma": sigma,
        "PSFluxChi2": summed(np.square(residual / error)),
        "PSFluxErrMean": summed(error) / n,
        # Sorted: the first of each group is its least, the last its greatest.
        "PSFluxMin": flux[start],
        "PSFluxMax": flux[start + sizes - 1],
        "PSFluxSkew": skew,
        "PSFluxMAD": _median_deviation(flux, middle, start, sizes),
        "PSFluxLinearSlope": slope,
        "PSFluxLinearIntercept": summed(flux) / n - slope * summed(times) / n,
        "TOTFluxMean": total_mean,
        "TOTFluxMeanErr": 1.0 / np.sqrt(weights),
        "TOTFluxSigma": np.sqrt(summed(away * away) / n),
    }
    return columns | {f"PSFluxPercentile{q:02d}": _percentile(flux, start, sizes, q) for q in _PERCENTILES}


def _percentile(values: Floats, start: Ints, sizes: Ints, percent: int) -> Floats:
    """Return a percentile of each group of sorted values, interpolated between neighbours."""
    place = (sizes - 1) * (percent / 100.0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, sizes - 1)
    share = place - low
    return np.asarray(values[start + low] * (1.0 - share) + values[start + high] * share)


def _median_deviation(values: Floats, middle: Floats, start: Ints, sizes: Ints) -> Floats:
    """Return the median distance from the median of each group."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    distance = np.abs(values - middle[group])
    return _percentile(distance[np.lexsort((distance, group))], start, sizes, 50)
