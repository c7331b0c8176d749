"""Large jobs under a limit that kills: each in a process of its own, which may hold as much as it was told.

One Parquet input of 4 GB, a single row group of 991 columns; half a gigabyte of the like whose rows are all set aside;
100 million rows of forced photometry, simulated and then ingested. The high-water mark of a process is looked at fifty
times a second, mapped files counted, and one above the limit is killed: one that ends has never been above it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import measure
from ingest import call, inputs
from measure import Said

from warehouse.config import Settings

# All patches of one tract, thinly: their rows are repeated until they are as many as wanted.
TRACT = {"objects": 130_000, "visits": 1, "radius": 0.9, "only": {"tract": [3831]}, "tables": ["Object"]}
FORCED = {"objects": 885_000, "visits": 115, "radius": 0.5, "detectors": 21, "tables": ["ForcedSource"]}
NORTH_DEG = 3.0  # beyond any patch of the tract


def row_group(memory: str, limit: int, scale: float) -> Said:
    """Ingest one row group of 4 GB."""
    patches, _ = inputs("Tract", "simulate", TRACT)
    tree, _ = inputs("One row group", "one_row_group", {"tree": str(patches), "gigabytes": 4 * scale})
    out = measure.fresh("memory")
    return call("ours", {"tree": str(tree), "out": str(out), "table": "Object", "memory": memory}, limit=limit)


def all_refused(memory: str, limit: int, scale: float) -> Said:
    """Ingest a row group that lies beside its tract, and may."""
    patches, _ = inputs("Tract", "simulate", TRACT)
    given = {"tree": str(patches), "gigabytes": 0.5 * scale, "north_deg": NORTH_DEG}
    tree, _ = inputs("Beside its tract", "one_row_group", given)
    out = measure.fresh("memory")
    return call("set_aside", {"tree": str(tree), "out": str(out), "table": "Object", "memory": memory}, limit=limit)


def simulated(memory: str, limit: int, scale: float) -> Said:
    """Simulate 100 million rows of forced photometry."""
    out = measure.fresh("memory-forced")
    wanted = FORCED | {"objects": round(FORCED["objects"] * scale)}
    return call("simulate", {"out": str(out), "memory": memory, **wanted}, limit=limit, patience=3600)


def forced(memory: str, limit: int, _: float) -> Said:
    """Ingest what `simulated` has left."""
    tree, out = measure.WORK / "out" / "memory-forced", measure.fresh("memory")
    if not tree.exists():
        raise measure.FailedError("nothing was simulated")
    return call("ours", {"tree": str(tree), "out": str(out), "table": "ForcedSource", "memory": memory}, limit=limit)


WORKS: dict[str, Callable[[str, int, float], Said]] = {
    "ingest one row group of 991 columns": row_group,
    "ingest rows that are all set aside": all_refused,
    "simulate forced photometry": simulated,
    "ingest forced photometry": forced,
}


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return seconds and peak megabytes of each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the inputs")
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--only", default="", help="works whose name holds this")
    chosen = parser.parse_args(list(arguments))
    limit = int(Settings(memory=chosen.memory).memory)
    results = []
    for name, work in WORKS.items():
        if chosen.only not in name:
            continue
        result: dict[str, Any] = {"work": name, "memory": chosen.memory}
        try:
            said = work(chosen.memory, limit, chosen.scale)
            result |= {"rows": said["rows"], "gigabytes_written": said["gigabytes"]}
            result |= {"seconds": measure.rounded(said["seconds"]), "peak_mb": round(said["megabytes"])}
        except (measure.FailedError, measure.SlowError) as error:
            result["error"] = str(error)
            measure.remove(measure.WORK / "out" / "memory-forced")
        measure.say(f"  {result}")
        results.append(result)
    for name in ("memory", "memory-forced"):
        measure.remove(measure.WORK / "out" / name)
    return results


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
