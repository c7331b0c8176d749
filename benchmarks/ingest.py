"""Ingest against the floor and the peers, on the same simulated inputs, from local disk.

    make bench ARGS="ingest --scale 0.1 --jobs Source --only ours,floor"

The floor reads each file with Polars and writes it back (zstd), one process a core: no sort, no checks. Every other
contender must end with all rows, or it has not done the job.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import measure
from measure import Said

CONTENDERS = Path(__file__).with_name("contenders.py")
OURS, BOUNDED, FLOOR = "tractlake", "tractlake, memory 2GiB", "floor"
NAIVE, GROUPED, DUCKDB = "write_deltalake", "write_deltalake, 12 files at once", "DuckDB COPY"
HATS, SNAPPY, ACID = "hats-import", "hats-import, Snappy", "ACID"
QUICK = {OURS, BOUNDED, FLOOR}
LIMIT = 2 << 30


@dataclass(frozen=True)
class Job:
    """A table to ingest: how its inputs are simulated at full scale, and who competes."""

    name: str
    table: str
    simulated: Mapping[str, Any]
    scales: str
    contenders: Sequence[str]
    threshold: int
    targets: Mapping[str, float] = field(default_factory=dict)
    make: str = "simulate"

    def arguments(self, scale: float) -> Said:
        """Return the arguments of `simulate` at a scale."""
        full = self.simulated[self.scales]
        return {**self.simulated, self.scales: max(2, round(full * scale)), "tables": [self.table]}


# How much of the simulated sky is asked for follows from real files: 37,500 Objects a patch, 50,000 Sources a visit.
# `threshold` gives hats-import partitions of about our files' sizes, so that its workers all have something to do.
JOBS = {
    job.name: job
    for job in (
        Job(
            "Object",
            "Object",
            {"objects": 533_000, "visits": 1, "radius": 0.5, "only": {"tract": [3831], "patch": [10, 17]}},
            "objects",
            (FLOOR, OURS, BOUNDED, NAIVE, DUCKDB, HATS, SNAPPY),
            20_000,
            {FLOOR: 2.0, NAIVE: 6.0, HATS: 12.0},
        ),
        Job(
            "Object, 4 files",
            "Object",
            {"objects": 266_500, "visits": 1, "radius": 0.5, "only": {"tract": [3831], "patch": [9, 10, 16, 17]}},
            "objects",
            (FLOOR, OURS, BOUNDED, NAIVE, DUCKDB),
            20_000,
            {FLOOR: 2.0, NAIVE: 6.0},
        ),
        Job(
            "Source",
            "Source",
            {"objects": 650_000, "visits": 108, "radius": 0.9, "detectors": 21},
            "visits",
            (FLOOR, OURS, BOUNDED, NAIVE, GROUPED, DUCKDB, HATS, SNAPPY, ACID),
            100_000,
            {FLOOR: 3.0, NAIVE: 4.0, HATS: 5.0, SNAPPY: 5.0, ACID: 2.5},
        ),
        Job(
            "ForcedSource",
            "ForcedSource",
            {"objects": 200_000, "visits": 115, "radius": 0.5, "detectors": 21},
            "visits",
            (FLOOR, OURS, BOUNDED, NAIVE, DUCKDB),
            1_000_000,
            {FLOOR: 2.0, NAIVE: 5.0, DUCKDB: 1.0},
        ),
        # Without a floor: nobody else reads FITS so fast that it would be one.
        Job(
            "FITS Source",
            "Source",
            {"objects": 650_000, "visits": 20, "radius": 0.9, "detectors": 21},
            "visits",
            (OURS, BOUNDED, HATS, ACID),
            100_000,
            {HATS: 5.0, ACID: 3.0},
            make="simulate_fits",
        ),
    )
}


def call(name: str, arguments: Said, **limits: Any) -> Said:  # noqa: ANN401 - those of measure.run
    """Run a contender in a process of its own."""
    return measure.run([sys.executable, str(CONTENDERS), name, json.dumps(arguments)], **limits)


def inputs(name: str, make: str, arguments: Said) -> tuple[Path, Said]:
    """Return a folder of inputs, made if no earlier run has left it, and what was said of it."""
    digest = hashlib.blake2b(json.dumps([make, arguments], sort_keys=True).encode(), digest_size=6).hexdigest()
    folder = measure.WORK / "inputs" / f"{name.replace(', ', '-').replace(' ', '-')}-{digest}"
    mark = folder.with_suffix(".json")
    if mark.exists():
        return folder, json.loads(mark.read_text("utf-8"))
    measure.say(f"making inputs: {folder.name}")
    measure.remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    said = call(make, arguments | {"out": str(folder)}, patience=3600)
    mark.write_text(json.dumps(said), "utf-8")
    return folder, said


def simulated(job: Job, scale: float) -> tuple[Path, Said]:
    """Return the job's inputs."""
    return inputs(job.table, job.make, job.arguments(scale))


def contender(job: Job, name: str, tree: Path, placed: Path, patience: float) -> Said:
    """Run one contender once, from nothing to a table, and clear its table away."""
    out = measure.fresh(name.replace(", ", "-").replace(" ", "-"))
    given = {"tree": str(tree), "out": str(out)}
    calls: dict[str, Callable[[], Said]] = {
        OURS: partial(call, "ours", given | {"table": job.table}),
        BOUNDED: partial(call, "ours", given | {"table": job.table, "memory": "2GiB"}, limit=LIMIT),
        FLOOR: partial(call, "floor", given),
        NAIVE: partial(call, "naive", given, patience=patience),
        GROUPED: partial(call, "naive", given | {"group": 12}, patience=patience),
        DUCKDB: partial(call, "duckdb", given | {"tree": str(placed)}, patience=patience),
        HATS: partial(call, "hats", given | {"threshold": job.threshold}, patience=patience),
        SNAPPY: partial(call, "hats", given | {"threshold": job.threshold, "compression": "SNAPPY"}, patience=patience),
        ACID: partial(call, "acid", given, patience=patience),
    }
    try:
        return calls[name]()
    finally:
        measure.remove(out)


def compare(job: Job, scale: float, rounds: int, patience: float, only: Sequence[str] = ()) -> Said:
    """Return the figures of one job: what was read, and every contender's."""
    tree, made = simulated(job, scale)
    placed = tree
    chosen = [name for name in job.contenders if not only or name in only]
    if DUCKDB in chosen and job.table == "Source":
        placed, _ = inputs(f"{job.table} placed", "placed", {"tree": str(tree)})
    measure.say(f"{job.name}: {made['rows']:,} rows in {made['files']} files, {made['gigabytes']} GB")
    timings = measure.side_by_side(
        {name: partial(contender, job, name, tree, placed, patience) for name in chosen},
        {name: rounds if name in QUICK else 1 for name in chosen},
        expected_rows=made["rows"],
    )
    return {
        "job": job.name,
        "scale": scale,
        "rows": made["rows"],
        "files": made["files"],
        "gigabytes": made["gigabytes"],
        "targets": dict(job.targets),
        "contenders": [timing.record() for timing in timings],
    }


def main(arguments: Sequence[str] = ()) -> list[Said]:
    """Return the figures of the jobs asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the inputs; 1 is what RESULTS.md shows")
    parser.add_argument("--rounds", type=int, default=3, help="of ours and the floor; the others run once")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds that a slow peer is waited for")
    parser.add_argument("--jobs", type=_listed, default=list(JOBS), help=", ".join(f"'{name}'" for name in JOBS))
    parser.add_argument("--only", type=_listed, default=[], help="contenders")
    chosen = parser.parse_args(list(arguments))
    return [compare(JOBS[name], chosen.scale, chosen.rounds, chosen.patience, chosen.only) for name in chosen.jobs]


def _listed(text: str) -> list[str]:
    return text.split(";")


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
