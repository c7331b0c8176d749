"""The match of a tract against the published algorithm in plain scipy, on one core: same matches, how long each.

    python benchmarks/match.py [--truth 100000] [--objects 50000] [--out match.json]

The peer is a k-d tree of unit vectors and a loop over the truth rows, brightest first, with each row's candidates
compared in one numpy expression: the published code's steps without its pandas.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from warehouse.sky import skymap
from warehouse.truth.match import MatchSettings, match_tract

Floats = npt.NDArray[np.float64]
Result = TypeVar("Result")
BANDS = MatchSettings().bands
SKY = skymap.named("DC2")
RADIUS = 2 * np.sin(np.radians(0.5 / 3600) / 2)


def simulated(n_truth: int, n_objects: int, side_deg: float, seed: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return truth and object frames on a square about (62, -37), inside one tract; magnitudes from 19 to 27."""
    r = np.random.default_rng(seed)
    ra = 62 + r.uniform(-0.5, 0.5, n_truth) * side_deg / np.cos(np.radians(37))
    dec = -37 + r.uniform(-0.5, 0.5, n_truth) * side_deg
    flux = 10 ** r.uniform(1.8, 5, n_truth)[:, None] * r.uniform(0.1, 0.3, (n_truth, 6))
    ids = [str(n) for n in range(n_truth)]
    truth = pl.DataFrame(
        {"id": ids, "truth_type": np.ones(n_truth, np.int64), "id_truth_type": [f"{n}_1" for n in ids], "ra": ra}
        | {"dec": dec}
        | {f"flux_{b}": flux[:, k].astype(np.float32) for k, b in enumerate(BANDS)}
    )
    host = r.permutation(n_truth)[:n_objects]
    object_ra = ra[host] + r.normal(0, 0.05 / 3600, n_objects)
    object_dec = dec[host] + r.normal(0, 0.05 / 3600, n_objects)
    x, y = SKY.to_pixels(tract(), object_ra, object_dec)
    measured = flux[host] + r.normal(0, 10, (n_objects, 6))
    # A band in ten is missing, and one object in fifty has nothing but a place.
    measured[r.random(measured.shape) < 0.1] = np.nan
    measured[::50] = np.nan
    objects = pl.DataFrame(
        {"objectId": np.arange(n_objects) + 2, "coord_ra": object_ra, "coord_dec": object_dec, "x": x, "y": y}
        | dict.fromkeys(("xErr", "yErr"), np.full(n_objects, 0.2, np.float32))
        | {"detect_isPrimary": np.ones(n_objects, bool), "merge_peak_sky": np.zeros(n_objects, bool)}
        | {f"{b}_cModelFlux": measured[:, k] for k, b in enumerate(BANDS)}
        | {f"{b}_cModelFluxErr": np.full(n_objects, 10.0) for b in BANDS}
    )
    return truth, objects


def tract() -> int:
    """Return the tract of the square's centre."""
    return int(SKY.find([62.0], [-37.0])[0][0])


def vectors(ra: Floats, dec: Floats) -> Floats:
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def plain_scipy(truth: pl.DataFrame, objects: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Return the objectId of each truth row, 0 for none, as the published algorithm finds it."""
    flux = truth.select(pl.col([f"flux_{b}" for b in BANDS]).cast(pl.Float64)).to_numpy()
    total = np.nansum(flux, axis=1)
    rows = np.flatnonzero(31.4 - 2.5 * np.log10(total) <= 27)
    rows = rows[np.argsort(-total[rows], kind="stable")]
    x, y = SKY.to_pixels(tract(), truth["ra"].to_numpy(), truth["dec"].to_numpy())
    wanted = np.column_stack([x, y, flux])
    names = ["x", "y", *(f"{b}_cModelFlux" for b in BANDS)]
    found = objects.select(pl.col(names).cast(pl.Float64)).to_numpy()
    errors = ["xErr", "yErr", *(f"{b}_cModelFluxErr" for b in BANDS)]
    error = objects.select(pl.col(errors).cast(pl.Float64)).to_numpy()
    tree = cKDTree(vectors(objects["coord_ra"].to_numpy(), objects["coord_dec"].to_numpy()))
    place = vectors(truth["ra"].to_numpy()[rows], truth["dec"].to_numpy()[rows])
    _, near = tree.query(place, k=10, distance_upper_bound=RADIUS)
    taken = {objects.height}
    matched = np.zeros(truth.height, np.int64)
    ids = objects["objectId"].to_numpy()
    with np.errstate(invalid="ignore"):
        for row, candidates in zip(rows, near, strict=True):
            free = [c for c in candidates if c not in taken]
            if not free:
                continue
            chi = (found[free] - wanted[row]) / error[free]
            n_finite = np.isfinite(chi).sum(axis=1)
            good = n_finite >= 3
            if good.any():
                chisq = np.where(good, np.nansum(chi**2, axis=1), 0.0)
                best = free[int(np.nanargmin(chisq / n_finite))]
                taken.add(best)
                matched[row] = ids[best]
    return matched


def timed(work: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def measure(n_truth: int = 100_000, n_objects: int = 50_000) -> list[dict[str, object]]:
    """Return seconds of both on a tract's area and on a crowd, their matches being the same."""
    results = []
    for name, side_deg in (("a tract", 1.4), ("a crowd", 0.05)):
        truth, objects = simulated(n_truth, n_objects, side_deg)
        settings = MatchSettings(published_quirk=True)
        ours, matches = timed(lambda: match_tract(truth, objects, SKY, tract(), settings), 5)  # noqa: B023 - called here
        scipy, expected = timed(lambda: plain_scipy(truth, objects), 1)  # noqa: B023 - called here
        assert np.array_equal(matches["match_objectId"].fill_null(0).to_numpy(), expected)
        results.append(
            {"sky": name, "truth": n_truth, "objects": n_objects, "matched": int((expected > 0).sum())}
            | {"ours_s": round(ours, 3), "scipy_s": round(scipy, 3), "times_faster": round(scipy / ours, 1)}
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments.truth, arguments.objects)
    for result in results:
        print(json.dumps(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
