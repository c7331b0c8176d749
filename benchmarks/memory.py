"""One Parquet input of 4 GB, a single row group of 991 columns, ingested under a limit that kills.

The high-water mark of the process is looked at fifty times a second, mapped files counted, and a process above the
limit is killed: one that ends has never been above it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import measure
from ingest import call, inputs

from warehouse.config import Settings

# All patches of one tract, thinly: their rows are repeated until they are 4 GB.
TRACT = {"objects": 130_000, "visits": 1, "radius": 0.9, "only": {"tract": [3831]}, "tables": ["Object"]}


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return seconds and peak megabytes for each limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of 4 GB")
    parser.add_argument("--memory", type=lambda text: text.split(","), default=["2GiB"])
    parser.add_argument("--patience", type=float, default=600.0)
    chosen = parser.parse_args(list(arguments))
    patches, _ = inputs("Tract", "simulate", TRACT)
    tree, made = inputs("One row group", "one_row_group", {"tree": str(patches), "gigabytes": 4 * chosen.scale})
    results = []
    for memory in chosen.memory:
        out = measure.fresh("one-row-group")
        given = {"tree": str(tree), "out": str(out), "table": "Object", "memory": memory}
        result: dict[str, Any] = {"memory": memory, "rows": made["rows"], "input_gigabytes": made["gigabytes"]}
        try:
            said = call("ours", given, limit=int(Settings(memory=memory).memory), patience=chosen.patience)
            assert said["rows"] == made["rows"]
            result |= {"median_s": measure.rounded(said["seconds"]), "peak_mb": round(said["megabytes"])}
        except (measure.FailedError, measure.SlowError) as error:
            result["error"] = str(error)
        finally:
            measure.remove(out)
        measure.say(f"  {result}")
        results.append(result)
    return results


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
