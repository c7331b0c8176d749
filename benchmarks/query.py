"""Queries against the peers, on one simulated sky, from local disk and from S3.

    make bench ARGS="query --scale 0.03 --only tractlake;LSDB"

Scale 1 is 2 million rows of Object over a dozen tracts and more than 20 million of ForcedSource. Medians of 20 random
places, or of as many as are answered in `--seconds`, each asked once before. All must give the same rows. The server of
S3 is a read-only one of our own over the very same files (`query_s3.py` says why), which counts what it sends. LSDB is
asked twice: of a catalogue with all columns of Object, like everybody else, and of one with those that are asked for.

Rows by tract are asked for in each one's documented way: of tractlake by `sky_info`, which answers from the log, as a
plain group-by does not. The count of LSDB is a number that its open catalogue holds; tractlake looks for a newer
version first.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import measure
import numpy as np
from measure import Said
from query_contenders import CONTENDERS
from query_sky import CATALOGUES, DEC, RA, RADIUS, make_many

OURS = "tractlake"
OBJECTS = 1_700_000  # that the coadds show; Object repeats those of borders and overlaps
CENTRES, CURVES, SETS = 20, 100, 10
CONES = {"cone 10 arcsec": 10 / 3600, "cone 0.05 deg": 0.05, "cone 0.5 deg": 0.5}
KEPT = measure.WORK / "query-{scale:g}"


def call(script: str, *arguments: str, patience: float = 600.0) -> Said:
    """Run a script beside this one in a process of its own."""
    return measure.run([sys.executable, str(measure.HERE / script), *arguments], patience=patience)


def sky(scale: float) -> tuple[Path, Said]:
    """Return a folder with the warehouse and the catalogues, made if no earlier run has left it, and what it holds."""
    folder = Path(str(KEPT).format(scale=scale))
    mark = folder / "made.json"
    if mark.exists():
        return folder, json.loads(mark.read_text("utf-8"))
    measure.say(f"making {folder.name}: sky and warehouse")
    measure.remove(folder)
    given = {"out": str(folder), "objects": max(1000, round(OBJECTS * scale))}
    said = call("query_sky.py", "make", json.dumps(given), patience=3600)
    said.pop("megabytes")
    measure.say(f"  {said}")
    (folder / "hats").mkdir()
    for name, (table, _, threshold) in CATALOGUES.items():
        measure.say(f"making {folder.name}: HATS catalogue {name}")
        tree, out = str(folder / "inputs"), str(folder / "hats" / name)
        call("query_sky.py", "export", json.dumps({"out": str(folder), "catalogue": name, "tree": tree}), patience=3600)
        given = {"tree": tree, "out": out, "threshold": threshold}
        imported = call("contenders.py", "hats", json.dumps(given), patience=3600)
        assert imported["rows"] == said["rows"][table], f"{imported['rows']} rows of {table} in {out}"
        measure.say(f"  {imported}")
        measure.remove(folder / "inputs")
    make_many(str(folder / "lake" / "many"))
    mark.write_text(json.dumps(said), "utf-8")
    return folder, said


def questions(folder: Path) -> dict[str, list[list[Any]]]:
    """Return the arguments of each query: random, and the same for all."""
    from warehouse import Warehouse

    random = np.random.default_rng(4)
    wh = Warehouse.open(str(folder / "lake" / "sky"))
    distance, angle = 0.7 * RADIUS * np.sqrt(random.random(CENTRES)), random.uniform(0, 2 * np.pi, CENTRES)
    dec = DEC + distance * np.sin(angle)
    centres = np.column_stack([RA + distance * np.cos(angle) / np.cos(np.radians(dec)), dec]).tolist()
    ids = np.sort(wh.scan("Object").select("objectId").collect().to_series().to_numpy())
    patches = wh.scan("Object").select("tract", "patch").unique().sort("tract", "patch").collect().rows()
    chosen = random.permutation(len(patches))[:CENTRES]
    return {
        **{name: [[*centre, radius] for centre in centres] for name, radius in CONES.items()},
        "patch": [list(patches[number]) for number in chosen],
        "light curves": [random.choice(ids, CURVES, replace=False).tolist() for _ in range(SETS)],
        "count": [[]] * 5,
        "by tract": [[]] * 5,
    }


@contextmanager
def s3_over(folder: Path) -> Iterator[str]:
    """Serve the folders in `folder` as buckets; yield the endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(measure.HERE / "query_s3.py"), str(folder), str(port)])
    try:
        for _ in range(200):
            time.sleep(0.05)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def compare(given: Said, only: Sequence[str]) -> dict[str, Said]:
    """Return what each contender says of each query, or why it says nothing."""
    said = {}
    for name in only:
        try:
            said[name] = call("query_contenders.py", name, json.dumps(given))
            said[name].pop("megabytes")
            measure.say(f"  {name}: " + ", ".join(f"{q} {milli(s)} ms" for q, s in said[name].items()))
        except (measure.FailedError, measure.SlowError) as error:
            measure.say(f"  {name}: {error}")
            said[name] = {"error": str(error)}
    return said


def milli(said: Said) -> float | None:
    """Return the median in milliseconds."""
    return measure.rounded(1000 * statistics.median(said["seconds"]))


def rows(where: str, queries: Sequence[str], said: Mapping[str, Said]) -> list[Said]:
    """Return a row a query: everybody's time and bytes, after a look whether all gave the same."""
    answered = {name: contender for name, contender in said.items() if "error" not in contender}
    table = []
    for query in queries:
        of = {name: contender[query] for name, contender in answered.items() if query in contender}
        most = max((s["rows"] for s in of.values()), key=len)
        for name, s in of.items():
            assert s["rows"] == most[: len(s["rows"])], f"{where}, {query}: {name} gives {s['rows']}, not {most}"
        row: Said = {"where": where, "query": query, "rows": round(statistics.median(count for count, _ in most))}
        row["ms"] = {name: milli(of[name]) if name in of else None for name in said}
        ours = row["ms"].get(OURS)
        peers = [time for name, time in row["ms"].items() if name != OURS and time]
        if ours and peers:
            row["next_x_tractlake"] = measure.rounded(min(peers) / ours)
        row["MB"] = {name: measure.rounded(of[name]["bytes"] / measure.MB) if name in of else None for name in said}
        table.append(row)
    return table


def many_files(folder: Path) -> Said:
    """Return the time from nothing to one patch of a warehouse of 10,000 files; modules are loaded before."""
    from query_sky import MANY_FILES, OBJECT, ROWS_A_FILE

    from warehouse import Warehouse
    from warehouse.query.areas import Patch

    seconds = []
    for _ in range(6):
        clock = time.perf_counter()
        wh = Warehouse.open(str(folder / "lake" / "many"))
        found = wh.scan("Object", Patch(2100, 17), columns=OBJECT).collect()
        seconds.append(time.perf_counter() - clock)
        assert found.height == ROWS_A_FILE
    query = f"open a table of {MANY_FILES:,} files, scan a patch"
    return {"where": "local", "query": query, "rows": ROWS_A_FILE, "ms": {OURS: milli({"seconds": seconds[1:]})}}


def main(arguments: Sequence[str] = ()) -> list[Said]:
    """Return a row a place and query."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the sky; 1 is what RESULTS.md shows")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one query of one contender")
    parser.add_argument("--only", type=lambda text: text.split(";"), default=list(CONTENDERS), help="contenders")
    chosen = parser.parse_args(list(arguments))
    folder, made = sky(chosen.scale)
    asked = questions(folder)
    with measure.scratch() as scratch, s3_over(folder) as endpoint:
        path = Path(scratch, "asked.json")
        path.write_text(json.dumps(asked), "utf-8")
        given = {"asked": str(path), "seconds": chosen.seconds}
        measure.say("local")
        local = {"lake": str(folder / "lake" / "sky"), "hats": str(folder / "hats")}
        results = rows("local", list(asked), compare(given | local, chosen.only))
        measure.say("S3")
        remote = {"lake": "s3://lake/sky", "hats": "s3://hats", "endpoint": endpoint}
        results += rows("S3", list(asked), compare(given | remote, chosen.only))
    of = "; ".join(f"{table} {count:,} rows in {made['files'][table]} files" for table, count in made["rows"].items())
    scale = {"where": f"scale {chosen.scale:g}", "query": f"{of}; {made['tracts']} tracts, {made['gigabytes']} GB"}
    return [scale, *results, many_files(folder)]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
