"""Positions to tract and patch: blocks on one core and on all, against whole-array numpy and DuckDB's SQL.

The peers are given the rings' numbers and compute the published formulas; all must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import measure
import numpy as np
import numpy.typing as npt

from warehouse.sky import skymap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Places = tuple[Ints, Ints]

RINGS, SCALE_ARCSEC, ORIGIN, INNER, SIDE = 120, 0.2, 13999, 4000, 7
HEIGHT = np.pi / (RINGS + 1)
SCALE = np.radians(SCALE_ARCSEC / 3600)
EDGES = HEIGHT * (np.arange(RINGS + 1) + 0.5) - np.pi / 2
TRACTS = (2 * np.pi * np.cos(np.minimum(abs(EDGES[:-1]), abs(EDGES[1:]))) / HEIGHT).astype(np.int64) + 1
FIRST = np.cumsum(np.concatenate([[1], TRACTS[:-1]]))

SQL = f"""
WITH given AS (SELECT radians(ra) AS ra, radians(dec) AS dec FROM positions),
ringed AS (SELECT *, CAST(floor((dec - {EDGES[0]}) / {HEIGHT}) AS INT) AS ring FROM given),
counted AS (SELECT *, {TRACTS.tolist()}[ring + 1] AS n FROM ringed),
numbered AS (SELECT *, CAST(floor(ra / (2 * pi() / n) + 0.5) AS BIGINT) % n AS k FROM counted),
centred AS (SELECT *, ra - 2 * pi() * k / n AS da, {HEIGHT} * (ring + 1) - pi() / 2 AS dec0 FROM numbered),
cosines AS (SELECT *, sin(dec0) * sin(dec) + cos(dec0) * cos(dec) * cos(da) AS c FROM centred),
planes AS (SELECT *, cos(dec) * sin(da) / c AS xi,
           (cos(dec0) * sin(dec) - sin(dec0) * cos(dec) * cos(da)) / c AS eta FROM cosines),
pixels AS (SELECT {FIRST.tolist()}[ring + 1] + k AS tract,
           CAST(floor({ORIGIN} - xi / {SCALE} + 0.5) AS INT) AS x,
           CAST(floor({ORIGIN} + eta / {SCALE} + 0.5) AS INT) AS y FROM planes)
SELECT tract, (y // {INNER}) * {SIDE} + x // {INNER} AS patch FROM pixels
"""  # noqa: S608 - numbers of ours


def whole_array(ra_deg: Floats, dec_deg: Floats) -> Places:
    """Return tract and patch by the formulas as they stand, each step over all rows."""
    ra, dec = np.radians(ra_deg) % (2 * np.pi), np.radians(dec_deg)
    ring = np.floor((dec - EDGES[0]) / HEIGHT).astype(np.int64)
    n = TRACTS[ring]
    k = np.floor(ra / (2 * np.pi / n) + 0.5).astype(np.int64) % n
    da, dec0 = ra - 2 * np.pi * k / n, HEIGHT * (ring + 1) - np.pi / 2
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(da)
    xi = np.cos(dec) * np.sin(da) / cosine
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(da)) / cosine
    x, y = (np.floor(ORIGIN + pixels + 0.5).astype(np.int64) for pixels in (-xi / SCALE, eta / SCALE))
    return FIRST[ring] + k, (y // INNER) * SIDE + x // INNER


def by_sql(ra_deg: Floats, dec_deg: Floats, threads: int) -> Callable[[], Places]:
    """Return DuckDB's way, over a table of its own."""
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    given = {"ra": ra_deg, "dec": dec_deg}
    connection.register("given", given)
    connection.execute("CREATE TABLE positions AS SELECT * FROM given")

    def find() -> Places:
        found = connection.execute(SQL).fetchnumpy()
        return found["tract"], found["patch"]

    return find


def timed(find: Callable[[], Places], expected: Places, rounds: int) -> float:
    """Return the median seconds; what was found must be right."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = find()
        seconds.append(time.perf_counter() - start)
    for one, other in zip(found, expected, strict=True):
        # A position on an edge may round to either side.
        assert np.count_nonzero(one != other) <= len(other) * 1e-6
    return statistics.median(seconds)


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return million positions a second, by contender and threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of 10 million positions")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(list(arguments))
    rows = max(1000, int(10_000_000 * chosen.scale))
    random = np.random.default_rng(1)
    # The footprint of DP0.2.
    ra, dec = random.uniform(49, 75, rows), random.uniform(-44, -27, rows)
    sky, cores = skymap.named("DC2"), len(os.sched_getaffinity(0))
    expected = sky.find(ra, dec)
    work = {
        ("tractlake, blocks of 65,536", 1): lambda: sky.find(ra, dec, threads=1),
        ("tractlake, blocks of 65,536", cores): lambda: sky.find(ra, dec, threads=cores),
        ("numpy, whole array", 1): lambda: whole_array(ra, dec),
        ("DuckDB SQL", 1): by_sql(ra, dec, 1),
        ("DuckDB SQL", cores): by_sql(ra, dec, cores),
    }
    results = []
    for (name, threads), find in work.items():
        seconds = timed(find, expected, chosen.rounds)
        results.append({"contender": name, "threads": threads, "rows": rows, "median_s": measure.rounded(seconds)})
        results[-1]["million_a_second"] = measure.rounded(rows / seconds / 1e6)
        measure.say(f"  {name:<32s} {threads} threads {rows / seconds / 1e6:8.1f} million/s")
    return results


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
