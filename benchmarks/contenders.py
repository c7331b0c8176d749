"""The contenders, each a function that does its whole work in this process and says how long it took.

    python benchmarks/contenders.py floor '{"tree": "...", "out": "..."}'

Imports are done, processes and clusters are started before the clock runs, for everybody. Rows are counted in what was
written, after it has stopped. A contender that cannot derive tract and patch finds them in its inputs, for free.
"""

from __future__ import annotations

import glob
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from clock import Said, clock

FITS = ".fits"


def files_of(tree: str) -> list[str]:
    """Return the inputs, the largest first, so that nobody is left alone with it at the end."""
    found = [path for path in glob.glob(f"{tree}/**", recursive=True) if path.endswith((".parq", FITS))]  # noqa: PTH207
    return sorted(found, key=os.path.getsize, reverse=True)


def counted(pattern: str) -> Said:
    """Return rows, number and gigabytes of the Parquet files that match, by their footers."""
    import pyarrow.parquet as pq

    files = glob.glob(pattern, recursive=True)  # noqa: PTH207
    return {
        "rows": sum(pq.read_metadata(f).num_rows for f in files),
        "files": len(files),
        "gigabytes": round(sum(map(os.path.getsize, files)) / 1e9, 3),
    }


def ours(tree: str, out: str, table: str, memory: str | None = None, workers: int | None = None) -> Said:
    """Ingest with all checks, digests, ledger and commit; without Prefect."""
    from warehouse import Warehouse
    from warehouse.config import Settings

    told = {name: value for name, value in (("memory", memory), ("workers", workers)) if value is not None}
    warehouse = Warehouse.create(out, settings=Settings(**told))
    with clock() as said:
        report = warehouse.ingest(table, tree)
    assert report.rows_committed == report.rows_read
    assert warehouse.scan(table).select("input_id").collect().height == report.rows_committed
    return said | counted(f"{out}/{table}/tract=*/**/*.parquet")


def _copy(work: tuple[str, str]) -> float:
    import polars as pl

    cpu = time.process_time()
    pl.read_parquet(work[0]).write_parquet(work[1], compression="zstd")
    return time.process_time() - cpu


def _warm(_: int) -> None:
    import polars as pl

    pl.select(pl.lit(1))
    time.sleep(0.2)


def floor(tree: str, out: str) -> Said:
    """Read each file with Polars and write it back (zstd), one process a core: no sort, no checks."""
    # More files than cores: a thread each. Fewer: what is left of the cores is shared, or the floor would be idle.
    files, cores = files_of(tree), len(os.sched_getaffinity(0))
    os.environ["POLARS_MAX_THREADS"] = str(max(1, cores // len(files)))
    Path(out).mkdir(parents=True)
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(_warm, range(2 * cores)))
        with clock() as said:
            cpu = list(pool.map(_copy, [(f, f"{out}/{i}.parquet") for i, f in enumerate(files)]))
    return said | {"cpu_seconds": sum(cpu)} | counted(f"{out}/*.parquet")


def naive(tree: str, out: str, group: int = 1) -> Said:
    """Append each file, or group of files, with ``write_deltalake(partition_by=[tract, patch])``."""
    import polars as pl
    from deltalake import write_deltalake

    from warehouse.sky import skymap

    sky = skymap.named("DC2")
    files = sorted(files_of(tree))
    with clock() as said:
        for start in range(0, len(files), group):
            frames = [pl.read_parquet(f) for f in files[start : start + group]]
            frame = pl.concat([f.select(sorted(f.columns)) for f in frames])
            if "tract" not in frame.columns:
                tract, patch = sky.find(frame["coord_ra"].to_numpy(), frame["coord_dec"].to_numpy())
                frame = frame.with_columns(tract=pl.Series(tract), patch=pl.Series(patch))
            write_deltalake(out, frame.to_arrow(), mode="append", partition_by=["tract", "patch"])
    return said | counted(f"{out}/tract=*/**/*.parquet")  # the log has Parquet files of its own


def duckdb(tree: str, out: str) -> Said:
    """Write all files with one COPY ... PARTITION_BY."""
    import duckdb as engine

    connection = engine.connect()
    options = "union_by_name=true, hive_partitioning=false"
    source = f"SELECT * FROM read_parquet('{tree}/**/*.parq', {options})"  # noqa: S608 - our own path
    with clock() as said:
        connection.execute(
            f"COPY ({source}) TO '{out}' (FORMAT parquet, PARTITION_BY (tract, patch), COMPRESSION zstd)"
        )
    return said | counted(f"{out}/**/*.parquet")


def hats(tree: str, out: str, threshold: int, compression: str | None = None) -> Said:
    """Import into a HATS catalogue with hats-import on Dask, a worker a core."""
    from dask.distributed import Client
    from hats_import.catalog.arguments import ImportArguments
    from hats_import.catalog.file_readers import FitsReader, ParquetPyarrowReader
    from hats_import.pipeline import pipeline_with_client

    files = files_of(tree)

    class InOrder(FitsReader if files[0].endswith(FITS) else ParquetPyarrowReader):  # type: ignore[misc]
        """Columns in one order: files of a release differ in theirs, and hats-import ends with an error on that."""

        def read(self, input_file: str, read_columns: list[str] | None = None) -> Iterator[Any]:
            for rows in super().read(input_file, read_columns):
                yield rows.select(sorted(rows.column_names))

    cores = len(os.sched_getaffinity(0))
    with (
        Client(n_workers=cores, threads_per_worker=1, memory_limit=0, dashboard_address=None) as client,
        clock() as said,
    ):
        arguments = ImportArguments(
            output_path=str(Path(out).parent),
            output_artifact_name=Path(out).name,
            input_file_list=files,
            file_reader=InOrder(),
            ra_column="coord_ra",
            dec_column="coord_dec",
            catalog_type="object",
            pixel_threshold=threshold,
            progress_bar=False,
            write_table_kwargs={"compression": compression} if compression else None,
        )
        pipeline_with_client(arguments, client)
    said.pop("cpu_seconds")
    return said | counted(f"{out}/dataset/**/Npix=*.parquet")


def acid(tree: str, out: str) -> Said:
    """Import into a HATS catalogue with ACID, without the margin cache that it would add."""
    from acid_cli import main

    files, cores = files_of(tree), len(os.sched_getaffinity(0))
    kind = "fits" if files[0].endswith(FITS) else "parquet"
    options = ["--ra", "coord_ra", "--dec", "coord_dec", "--no-margin", "--progress", "off", "--workers", str(cores)]
    with clock() as said:
        ended = main(["import", kind, *files, "--out", out, *options])
    assert not ended, f"exit {ended}"
    said.pop("cpu_seconds")
    return said | counted(f"{out}/dataset/**/Npix=*.parquet")


def set_aside(tree: str, out: str, table: str, memory: str) -> Said:
    """Ingest inputs all of whose rows break a rule, which is allowed: every row goes into the quarantine."""
    from warehouse import Warehouse
    from warehouse.config import Settings

    warehouse = Warehouse.create(out, settings=Settings(memory=memory, max_quarantined_share=1.0))
    with clock() as said:
        report = warehouse.ingest(table, tree)
    assert report.rows_quarantined == report.rows_read
    return said | counted(f"{out}/Quarantine/table={table}/*.parquet")


def simulate(out: str, memory: str | None = None, **arguments: Any) -> Said:  # noqa: ANN401 - those of warehouse.simulate
    """Write the inputs of a benchmark."""
    from warehouse.config import Settings
    from warehouse.simulate.simulation import simulate as write

    with clock() as said:
        write(out, settings=Settings(**({"memory": memory} if memory else {})), **arguments)
    return said | counted(f"{out}/**/*.parq")


def simulate_fits(out: str, tables: list[str], **arguments: Any) -> Said:  # noqa: ANN401 - those of warehouse.simulate
    """Write the inputs of a benchmark as FITS, by visit."""
    from astropy.io import fits

    from warehouse.simulate.fits_tables import simulate_fits_tables

    assert tables == ["Source"]
    with clock() as said:
        paths = simulate_fits_tables(out, dataset_types=("sourceTable_visit",), **arguments)
    files = [Path(out, path) for path in paths]
    return said | {
        "rows": sum(fits.getval(path, "NAXIS2", 1) for path in files),
        "files": len(files),
        "gigabytes": round(sum(path.stat().st_size for path in files) / 1e9, 3),
    }


def placed(tree: str, out: str) -> Said:
    """Write the inputs again, with the tract and patch that some contenders cannot derive."""
    import polars as pl
    import pyarrow.parquet as pq

    from warehouse.sky import skymap

    sky = skymap.named("DC2")
    Path(out).mkdir(parents=True)
    with clock() as said:
        for path in files_of(tree):
            frame = pl.read_parquet(path)
            tract, patch = sky.find(frame["coord_ra"].to_numpy(), frame["coord_dec"].to_numpy())
            frame = frame.with_columns(tract=pl.Series(tract), patch=pl.Series(patch))
            texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
            rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            pq.write_table(rows, Path(out, Path(path).name), compression="none", use_dictionary=texts)
    return said | counted(f"{out}/*.parq")


def one_row_group(tree: str, out: str, gigabytes: float, north_deg: float = 0.0) -> Said:
    """Write a tract's worth of rows of one table as one file with one row group, `north_deg` off their places.

    The rows are the inputs' own, over and over, under keys of their own; memory holds them once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in files_of(tree)]
    names, key = tables[0].column_names, "objectId"
    rows = pa.concat_tables([table.select(names) for table in tables])
    dec = names.index("coord_dec")
    rows = rows.set_column(dec, "coord_dec", pc.add(rows.column(dec), north_deg))
    at = names.index(key)
    times = max(1, round(gigabytes * 1e9 / rows.nbytes))
    copies = [rows.set_column(at, key, pc.add(rows.column(key), copy * 10_000_000)) for copy in range(times)]
    whole = pa.concat_tables(copies)
    tract = Path(files_of(tree)[0]).parents[1].name
    folder = Path(out, "simulated", "objectTable_tract", tract)
    folder.mkdir(parents=True)
    with clock() as said:
        texts = [field.name for field in whole.schema if pa.types.is_string(field.type)]
        path = folder / f"objectTable_tract_{tract}_DC2_simulated.parq"
        pq.write_table(whole, path, row_group_size=whole.num_rows, compression="none", use_dictionary=texts)
    return said | counted(str(path))


CONTENDERS = {
    do.__name__: do
    for do in (ours, floor, naive, duckdb, hats, acid, set_aside, simulate, simulate_fits, placed, one_row_group)
}


def main() -> None:
    name, arguments = sys.argv[1:3]
    said = CONTENDERS[name](**json.loads(arguments))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
