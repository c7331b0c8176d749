"""FITS tables to Polars frames: tractlake beside astropy and fitsio, in one run on one machine.

    python benchmarks/fits.py [--rows 500000] [--repeat 3] [--threads 1,2,4]

Prints JSON: seconds (the best of the repeats), and how many times faster than each peer. A peer is timed twice: `read`
is until it holds the rows in its own structure (big-endian columns with astropy, one record array with fitsio),
`frame` until they are a Polars frame as ours are, with nulls where TNULL says so and strings without padding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from astropy.table import Table

from warehouse import contracts
from warehouse.config import Settings
from warehouse.readers.fits import FitsReader

MEMORY = 2 << 30
WIDTHS = {"band": 1, "instrument": 13, "physical_filter": 9}
TEXTS = {
    "band": list("ugrizy"),
    "instrument": ["LSSTCam-imSim"],
    "physical_filter": ["i_sim_1.4", "r_sim_1.4", "y_sim"],
}
SIX = ["sourceId", "coord_ra", "coord_dec", "psfFlux", "psfFluxErr", "band"]


def write_half(path: Path, rows: int) -> None:
    """Write 142 columns, half doubles, half logicals."""
    rng = np.random.default_rng(1)
    numbers, flags = rng.normal(size=rows), rng.random(rows) < 0.3
    columns = {f"d{i}": numbers + i for i in range(71)} | {f"f{i}": np.roll(flags, i) for i in range(71)}
    Table(columns).write(path)


def write_source(path: Path, rows: int) -> None:
    """Write the 144 columns of DP0.2's Source, with an integer null in one of them."""
    rng = np.random.default_rng(2)
    numbers, flags = rng.normal(size=rows), rng.random(rows) < 0.3
    columns = {}
    for column in contracts.load("dp02").contract("Source").columns:
        if pa.types.is_string(column.arrow):
            columns[column.name] = rng.choice(np.array(TEXTS[column.name], f"S{WIDTHS[column.name]}"), rows)
        elif pa.types.is_boolean(column.arrow):
            columns[column.name] = np.roll(flags, len(columns))
        else:
            scale = 1e6 if pa.types.is_integer(column.arrow) else 1.0
            columns[column.name] = (numbers * scale + len(columns)).astype(column.arrow.to_pandas_dtype())
    Table(columns).write(path)


def ours(path: Path, threads: int, names: list[str] | None) -> pl.DataFrame:
    """Read by tractlake."""
    opened = FitsReader().open(str(path), Settings(workers=threads))
    return pl.concat(opened.batches(names or opened.schema.names, MEMORY), rechunk=False)


def by_astropy(path: Path, names: list[str] | None) -> Table:
    """Read by astropy, as its users do."""
    table = Table.read(path)
    return table[names] if names else table


def by_fitsio(path: Path, names: list[str] | None) -> np.ndarray:
    """Read by fitsio, as its users do."""
    import fitsio

    return fitsio.read(path, columns=names)


def frame(columns: Table | np.ndarray, names: list[str]) -> pl.DataFrame:
    """Return a Polars frame of what a peer read, by the fastest way that numpy and Polars offer."""
    made = {}
    for name in names:
        array = columns[name]
        mask = getattr(array, "mask", None)
        array = np.ascontiguousarray(np.asarray(array))
        if array.dtype.kind in "SU":
            made[name] = pl.Series(np.char.rstrip(array.astype("U")))
            continue
        made[name] = pl.Series(array.astype(array.dtype.newbyteorder("="), copy=False))
        if mask is not None and np.any(mask) and array.dtype.kind != "f":
            made[name] = made[name].set(pl.Series(np.asarray(mask)), None)
    return pl.DataFrame(made)


def best(work: Callable[[], object], repeat: int) -> float:
    """Return the least of the seconds that `work` takes."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def compare(path: Path, threads: list[int], repeat: int, names: list[str] | None = None) -> dict[str, object]:
    """Time one file with everybody, after making sure that all read the same."""
    expected = ours(path, threads[0], names)
    mine = {n: best(lambda n=n: ours(path, n, names), repeat) for n in threads}
    result: dict[str, object] = {
        "rows": expected.height,
        "columns": expected.width,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "tractlake_s": {n: round(s, 4) for n, s in mine.items()},
    }
    for peer, read in (("astropy", by_astropy), ("fitsio", by_fitsio)):
        try:
            theirs = frame(read(path, names), expected.columns)
        except ImportError:
            result[peer] = "not installed"
            continue
        assert all(same(expected[name], theirs[name]) for name in expected.columns), peer
        times = {
            "read": best(lambda read=read: read(path, names), repeat),
            "frame": best(lambda read=read: frame(read(path, names), expected.columns), repeat),
        }
        result[peer] = {f"{what}_s": round(seconds, 3) for what, seconds in times.items()} | {
            f"times_faster_than_{what}": {n: round(seconds / s, 1) for n, s in mine.items()}
            for what, seconds in times.items()
        }
    return result


def same(one: pl.Series, other: pl.Series) -> bool:
    """Return whether two columns hold the same values, whatever their width."""
    return (
        one.fill_nan(None).equals(other.cast(one.dtype).fill_nan(None))
        if one.dtype.is_float()
        else one.equals(other.cast(one.dtype))
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        half, source = Path(folder, "half.fits"), Path(folder, "source.fits")
        write_half(half, chosen.rows)
        write_source(source, chosen.rows)
        report = {
            "python": sys.version.split()[0],
            "processors": os.cpu_count(),
            "half_doubles_half_logicals": compare(half, chosen.threads, chosen.repeat),
            "source": compare(source, chosen.threads, chosen.repeat),
            "six_columns_of_source": compare(source, chosen.threads, chosen.repeat, SIX),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
