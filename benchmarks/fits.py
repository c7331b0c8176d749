"""FITS tables to Polars frames: tractlake beside astropy and fitsio, in one run on one machine.

    python benchmarks/fits.py [--rows 500000] [--rounds 5] [--threads 1,2,4]

Everybody reads in turn, in this process, from files that the page cache holds. A peer is timed twice: until it holds
the rows in its own structure (big-endian columns with astropy, one record array with fitsio), and until they are a
Polars frame as ours are, with nulls where TNULL says so and strings without padding. Asked is that `Table.read` and
fitsio take at least 5 times as long as tractlake on one thread and 8 times as long as on four.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import measure
import numpy as np
import polars as pl
import pyarrow as pa
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from measure import Said

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
NULLED = "parentSourceId"
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
    columns[NULLED] = MaskedColumn(columns[NULLED], mask=np.roll(flags, -1), fill_value=-999)  # written as TNULL
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


def stored_nulls(path: Path) -> dict[str, int]:
    """Return the TNULL of each column that has one, for a peer that leaves nulls to its users."""
    columns = fits.getheader(path, 1)
    numbers = range(1, columns["TFIELDS"] + 1)
    return {columns[f"TTYPE{n}"]: columns[f"TNULL{n}"] for n in numbers if f"TNULL{n}" in columns}


def frame(columns: Table | np.ndarray, names: Sequence[str], nulls: Mapping[str, int]) -> pl.DataFrame:
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
        if mask is None and name in nulls:
            mask = array == nulls[name]
        if mask is not None and np.any(mask) and array.dtype.kind != "f":
            made[name] = made[name].set(pl.Series(np.asarray(mask)), None)
    return pl.DataFrame(made)


def peers(path: Path, names: list[str] | None, columns: Sequence[str]) -> dict[str, Callable[[], object]]:
    """Return what each peer does with a file, by its name."""
    reads = {"astropy": partial(by_astropy, path, names), "fitsio": partial(by_fitsio, path, names)}
    nulls = stored_nulls(path)
    frames = {f"{peer}, to a frame": lambda read=read: frame(read(), columns, nulls) for peer, read in reads.items()}
    return {f"{peer}'s read": read for peer, read in reads.items()} | frames


def medians(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contender; all of them work in turn, round by round."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def compare(file: str, path: Path, threads: Sequence[int], rounds: int, names: list[str] | None = None) -> list[Said]:
    """Return a row a contender and number of threads, after making sure that all read the same."""
    expected = ours(path, threads[0], names)
    others = peers(path, names, expected.columns)
    for name, read in others.items():
        if name.endswith("frame"):
            theirs = read()
            assert all(same(expected[column], theirs[column]) for column in expected.columns), name
    measure.say(f"{file}: {expected.height:,} rows, {expected.width} columns")
    mine = {str(n): partial(ours, path, n, names) for n in threads}
    with measure.settled():
        seconds = medians(mine | others, rounds)
    told = {"file": file, "rows": expected.height, "columns": expected.width}
    told["megabytes"] = round(path.stat().st_size / 1e6)
    return [
        told
        | {"contender": "tractlake" if name in mine else name, "threads": int(name) if name in mine else 1}
        | {"median_s": measure.rounded(took)}
        | {f"times_slower_than_ours_on_{n}": measure.rounded(took / seconds[str(n)]) for n in (threads[0], threads[-1])}
        for name, took in seconds.items()
    ]


def same(one: pl.Series, other: pl.Series) -> bool:
    """Return whether two columns hold the same values, whatever their width."""
    return (
        one.fill_nan(None).equals(other.cast(one.dtype).fill_nan(None))
        if one.dtype.is_float()
        else one.equals(other.cast(one.dtype))
    )


def main(arguments: Sequence[str] = ()) -> list[Said]:
    """Return the rows of three comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4])
    chosen = parser.parse_args(list(arguments))
    with measure.scratch() as folder:
        half, source = Path(folder, "half.fits"), Path(folder, "source.fits")
        write_half(half, chosen.rows)
        write_source(source, chosen.rows)
        asked = (
            ("half doubles, half logicals", half, None),
            ("Source", source, None),
            ("Source, six columns", source, SIX),
        )
        return [row for file, path, names in asked for row in compare(file, path, chosen.threads, chosen.rounds, names)]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
