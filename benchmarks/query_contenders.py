"""The contenders of the queries: each opens what it reads once, warms up, and answers all that it is asked.

    python benchmarks/query_contenders.py tractlake '{"lake": "...", "hats": "...", "asked": "...", "seconds": 3}'

An answer is a frame in memory. Its rows and the sum of their ids are told with it, after the clock has stopped, so that
all can be held against each other. Bytes are those that the S3 server has sent meanwhile, or those that the process has
read of files on the disk (as Linux counts them: what is mapped into memory is not among them).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import polars as pl
from query_s3 import SENT
from query_sky import FORCED, OBJECT

Said = dict[str, Any]
Answers = Mapping[str, Callable[..., Any]]
KEY_ID, SECRET, REGION = "tractlake", "tractlake-secret", "us-east-1"


@dataclass(frozen=True)
class Place:
    """Where warehouse and catalogues lie; `endpoint` is that of S3, None on a local disk."""

    lake: str
    hats: str
    endpoint: str | None


def tractlake(at: Place) -> Answers:
    """Answer through the public face alone."""
    from warehouse import Cone, Warehouse
    from warehouse.config import Settings

    keys = {"s3_region": REGION, "s3_access_key_id": KEY_ID, "s3_secret_access_key": SECRET}
    wh = Warehouse.open(at.lake, settings=Settings(s3_endpoint_url=at.endpoint, **keys) if at.endpoint else None)
    photometry = [name for name in FORCED if name not in {"objectId", "band"}]
    return {
        "cone": lambda ra, dec, radius: wh.scan("Object", Cone(ra, dec, radius), columns=OBJECT).collect(),
        "patch": lambda tract, patch: wh.get("objectTable", tract=tract, patch=patch, columns=OBJECT),
        "light curves": lambda *ids: wh.lightcurve(ids, columns=photometry),
        "count": lambda: wh.scan("Object").select(pl.len()).collect().item(),
        "by tract": lambda: wh.sky_info("Object", means=False).group_by("tract").agg(n=pl.col("rows").sum()),
    }


def scan_delta(at: Place) -> Answers:
    """Answer with Polars alone: the table is scanned, and filtered by the haversine formula."""
    options = delta_options(at.endpoint)
    objects = pl.scan_delta(f"{at.lake}/Object", storage_options=options)
    forced = pl.scan_delta(f"{at.lake}/ForcedSource", storage_options=options)

    def cone(ra: float, dec: float, radius: float) -> pl.DataFrame:
        return objects.filter(haversine(ra, dec) <= math.sin(math.radians(radius) / 2) ** 2).select(OBJECT).collect()

    return {
        "cone": cone,
        "patch": lambda tract, patch: (
            objects.filter(pl.col("tract") == tract, pl.col("patch") == patch).select(OBJECT).collect()
        ),
        "light curves": lambda *ids: forced.filter(pl.col("objectId").is_in(ids)).select(FORCED).collect(),
        "count": lambda: objects.select(pl.len()).collect().item(),
        "by tract": lambda: objects.group_by("tract").agg(n=pl.len()).collect(),
    }


def delta_options(endpoint: str | None) -> dict[str, str] | None:
    """Return how a store is told to those who use object_store."""
    if endpoint is None:
        return None
    return {
        "aws_endpoint_url": endpoint,
        "aws_region": REGION,
        "aws_access_key_id": KEY_ID,
        "aws_secret_access_key": SECRET,
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }


def haversine(ra: float, dec: float) -> pl.Expr:
    """Return the haversine of a row's distance to a position."""
    across = ((pl.col("coord_ra") - ra).radians() / 2).sin() ** 2
    along = ((pl.col("coord_dec") - dec).radians() / 2).sin() ** 2
    return along + math.cos(math.radians(dec)) * pl.col("coord_dec").radians().cos() * across


def duckdb(at: Place) -> Answers:
    """Answer with SQL over the same Parquet files: a box, by which it leaves out row groups, then the haversine."""
    import duckdb as engine

    connection = engine.connect()
    connection.execute("SET parquet_metadata_cache = true")
    if at.endpoint:
        reach_s3(connection, at.endpoint, at.lake)
    from deltalake import DeltaTable

    for table in ("Object", "ForcedSource"):
        paths = DeltaTable(f"{at.lake}/{table}", storage_options=delta_options(at.endpoint)).file_uris()
        listed = ", ".join(f"'{path}'" for path in paths)
        connection.execute(f"CREATE VIEW {table} AS FROM read_parquet([{listed}], hive_partitioning = true)")
    columns = ", ".join(OBJECT)

    def cone(ra: float, dec: float, radius: float) -> Any:  # noqa: ANN401 - a frame
        width = math.degrees(math.asin(math.sin(math.radians(radius)) / math.cos(math.radians(dec)))) + 1e-9
        height = radius + 1e-9
        return connection.sql(
            f"""SELECT {columns} FROM Object
            WHERE coord_ra BETWEEN {ra - width} AND {ra + width} AND coord_dec BETWEEN {dec - height} AND {dec + height}
            AND pow(sin(radians(coord_dec - {dec}) / 2), 2)
              + cos(radians({dec})) * cos(radians(coord_dec)) * pow(sin(radians(coord_ra - {ra}) / 2), 2)
              <= pow(sin(radians({radius}) / 2), 2)"""  # noqa: S608 - our own numbers
        ).to_arrow_table()

    def asked(query: str) -> Any:  # noqa: ANN401 - a frame
        return connection.sql(query).to_arrow_table()

    return {
        "cone": cone,
        "patch": lambda tract, patch: asked(f"SELECT {columns} FROM Object WHERE tract = {tract} AND patch = {patch}"),  # noqa: S608
        "light curves": lambda *ids: asked(
            f"SELECT {', '.join(FORCED)} FROM ForcedSource WHERE objectId IN ({', '.join(map(str, ids))})"  # noqa: S608
        ),
        "count": lambda: connection.sql("SELECT count(*) FROM Object").fetchall()[0][0],
        "by tract": lambda: asked("SELECT tract, count(*) AS n FROM Object GROUP BY tract"),
    }


def reach_s3(connection: Any, endpoint: str, lake: str) -> None:  # noqa: ANN401 - DuckDB's
    """Let DuckDB read from S3: with its own extension, or by way of s3fs where that cannot be had."""
    import duckdb as engine

    host = endpoint.removeprefix("http://")
    try:
        connection.execute("LOAD httpfs")
    except engine.Error:
        import s3fs

        # Listed once, no file is asked for its size at each query; reading ahead would only send what is not wanted.
        files = s3fs.S3FileSystem(key=KEY_ID, secret=SECRET, endpoint_url=endpoint, default_cache_type="none")
        files.find(lake.removeprefix("s3://"))
        connection.register_filesystem(files)
        return
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION '{REGION}', ENDPOINT '{host}', "
        "URL_STYLE 'path', USE_SSL false)"
    )


def lsdb(at: Place, catalogue: str = "object") -> Answers:
    """Answer with LSDB, its catalogues already open."""
    import lsdb as library
    from upath import UPath

    options = {"endpoint_url": at.endpoint, "key": KEY_ID, "secret": SECRET} if at.endpoint else {}
    objects_at, forced_at = (UPath(f"{at.hats}/{name}", **options) for name in (catalogue, "forced"))
    objects = library.open_catalog(objects_at, columns=OBJECT)
    tracts = library.open_catalog(objects_at, columns=["tract"])

    def by_tract() -> Any:  # noqa: ANN401 - a frame
        return tracts.compute()["tract"].value_counts().rename("n").reset_index()

    return {
        "cone": lambda ra, dec, radius: objects.cone_search(ra, dec, radius * 3600).compute(),
        "patch": lambda tract, patch: library.open_catalog(
            objects_at, columns=OBJECT, filters=[("tract", "==", tract), ("patch", "==", patch)]
        ).compute(),
        "light curves": lambda *ids: library.open_catalog(
            forced_at, columns=FORCED, filters=[("objectId", "in", list(ids))]
        ).compute(),
        "count": lambda: len(objects),
        "by tract": by_tract,
    }


def lsdb_narrow(at: Place) -> Answers:
    """Answer with LSDB from a catalogue that holds no other columns of Object than those asked for."""
    return {name: answer for name, answer in lsdb(at, "object_narrow").items() if name != "light curves"}


def acid(at: Place) -> Answers:
    """Answer with ACID, its catalogues already open and its workers started."""
    import acid as library
    import astropy.units as u

    if at.endpoint:
        raise SystemExit("reads only what is on a local disk")
    # One worker does a query in this process: starting others costs more than they save on answers of this size.
    connection = library.Connection(at.hats, workers=1, progress=False)
    objects, forced = (connection.open(f"{at.hats}/{name}") for name in ("object", "forced"))
    columns = ", ".join(OBJECT)

    def cone(ra: float, dec: float, radius: float) -> Any:  # noqa: ANN401 - a frame
        with connection.in_cone((ra, dec), radius=radius * u.deg):
            return objects.select(columns).to_polars()

    return {
        "cone": cone,
        "patch": lambda tract, patch: objects.where(f"tract = {tract} AND patch = {patch}").select(columns).to_polars(),
        "light curves": lambda *ids: (
            forced.where(f"objectId IN ({', '.join(map(str, ids))})").select(", ".join(FORCED)).to_polars()
        ),
        "count": objects.count,
        "by tract": lambda: objects.group_by("tract").aggregate(n=library.agg.count()).to_polars(),
    }


CONTENDERS: dict[str, Callable[[Place], Answers]] = {
    "tractlake": tractlake,
    "LSDB": lsdb,
    "LSDB, six columns": lsdb_narrow,
    "ACID": acid,
    "DuckDB": duckdb,
    "scan_delta": scan_delta,
}


def told(answer: Any) -> tuple[int, int]:  # noqa: ANN401 - a number, or a frame of any make
    """Return the rows of an answer and the sum of what they are known by, which wraps."""
    if isinstance(answer, int | np.integer):
        return int(answer), 0
    names = answer.column_names if hasattr(answer, "column_names") else answer.columns
    if "n" in names:
        return len(answer), int((numbers(answer["tract"]) * numbers(answer["n"])).sum())
    return len(answer), int(numbers(answer["objectId"]).sum())


def numbers(column: Any) -> Any:  # noqa: ANN401 - a column of any make
    """Return a column as an array."""
    return np.asarray(column).astype(np.int64)


def read_so_far(endpoint: str | None) -> int:
    """Return the bytes of objects that the server has sent, or those that this process has read of files."""
    if endpoint is None:
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text("utf-8").splitlines())
        return int(counts["rchar"])
    with urlopen(endpoint + SENT) as answer:  # noqa: S310 - our own server
        return int(answer.read())


def measured(answer: Callable[..., Any], asked: list[list[Any]], seconds: float, endpoint: str | None) -> Said:
    """Ask all of them until the time is over, twice, and return each one's seconds and answer of the second time.

    The first time whoever reads a file first would read it from the disk, for those, too, who come after.
    """
    _asked(answer, asked, seconds)
    before = read_so_far(endpoint)
    taken, rows = _asked(answer, asked, seconds)
    return {"seconds": taken, "rows": rows, "bytes": (read_so_far(endpoint) - before) / len(taken)}


def _asked(
    answer: Callable[..., Any], asked: list[list[Any]], seconds: float
) -> tuple[list[float], list[tuple[int, int]]]:
    taken, rows, started = [], [], time.perf_counter()
    for arguments in asked:
        clock = time.perf_counter()
        frame = answer(*arguments)
        taken.append(time.perf_counter() - clock)
        rows.append(told(frame))
        if time.perf_counter() - started > seconds:
            break
    return taken, rows


def main() -> None:
    name, given = sys.argv[1], json.loads(sys.argv[2])
    asked: Mapping[str, list[list[Any]]] = json.loads(Path(given["asked"]).read_text("utf-8"))
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    answers = CONTENDERS[name](Place(given["lake"], given["hats"], given.get("endpoint")))
    said = {}
    for query, arguments in asked.items():
        answer = answers.get("cone" if query.startswith("cone") else query)
        if answer is None:
            continue
        said[query] = measured(answer, arguments, given["seconds"], given.get("endpoint"))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
