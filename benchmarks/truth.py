"""Truth against measurement: the photo-z cone, the whole join and its refresh, against peers on the same files.

    python benchmarks/truth.py [--tracts 40] [--rounds 3]

Forty tracts of four patches as full as those of DP0.2: four million truth rows, two million objects. The cone is a
tract's: the peers join three tables for it, ours reads the join. DuckDB's whole join is unsorted and has no commit. The
refresh is measured on twenty tracts, one of which has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import measure
from measure import Said

CONTENDERS, SKY = (str(Path(__file__).with_name(name)) for name in ("truth_contenders.py", "truth_sky.py"))
FIRST_TRACT = 3820
CONE_RADIUS_DEG = 0.2
TWENTY = 20


def contender(name: str, **arguments: object) -> Said:
    return measure.run([sys.executable, CONTENDERS, name, json.dumps(arguments)], env={"PYTHONPATH": _paths()})


def _paths() -> str:
    here = Path(__file__).resolve().parent
    return f"{here.parent}:{here}"


def prepared(tracts: int) -> str:
    """Return the path of a warehouse of this size, made anew unless it stands."""
    place = measure.WORK / f"truth-{tracts}"
    if not (place / "MatchesTruth").exists():
        measure.remove(place)
        measure.WORK.mkdir(parents=True, exist_ok=True)
        measure.run(
            [sys.executable, SKY, json.dumps({"out": str(place), "tracts": tracts})], env={"PYTHONPATH": _paths()}
        )
    return str(place)


def compare(tracts: int, rounds: int) -> dict[str, list[Said]]:
    """Return the timings of each comparison, ours first."""
    found = {"whole": whole(prepared(tracts), rounds)}
    measure.say("the photo-z cone")
    question = {"warehouse": prepared(tracts), "cone": [*centre(FIRST_TRACT + tracts // 2), CONE_RADIUS_DEG]}
    cones = {
        "tractlake": partial(contender, "cone_ours", **question),
        "Polars, in memory": partial(contender, "cone_polars", **question),
        "DuckDB": partial(contender, "cone_duckdb", **question),
    }
    expected = cones["tractlake"]()["rows"]
    found["cone"] = measure.side_by_side(cones, dict.fromkeys(cones, rounds), expected_rows=expected)
    found["refresh"] = refresh(prepared(TWENTY), rounds)
    return {name: [timing.record() for timing in timings] for name, timings in found.items()}


def whole(warehouse: str, rounds: int) -> list[measure.Timing]:
    measure.say("the whole join, written")
    out = measure.fresh("truth-duckdb")
    joins = {
        "tractlake": partial(contender, "whole_ours", warehouse=warehouse),
        "DuckDB": partial(contender, "whole_duckdb", warehouse=warehouse, out=str(out)),
    }
    timings = measure.side_by_side(joins, dict.fromkeys(joins, rounds))
    measure.remove(out)
    return timings


def refresh(warehouse: str, rounds: int) -> list[measure.Timing]:
    measure.say("twenty tracts: the whole, a refresh after one has changed, nothing to do")
    tract = FIRST_TRACT + TWENTY // 2
    seeds = iter(range(2, 2 + rounds))
    runs = {
        "the whole": partial(contender, "whole_ours", warehouse=warehouse),
        "refresh of one tract": lambda: contender("refresh_ours", warehouse=warehouse, tract=tract, seed=next(seeds)),
        "nothing to do": partial(contender, "nothing_ours", warehouse=warehouse),
    }
    return measure.side_by_side(runs, dict.fromkeys(runs, rounds))


def centre(tract: int) -> tuple[float, float]:
    from warehouse.sky import skymap

    ra, dec = skymap.named("DC2").to_sky(tract, [14000.0], [14000.0])
    return float(ra[0]), float(dec[0])


def ratios(found: dict[str, list[Said]]) -> Said:
    """Return what the figures come to: our cone and whole join against the best peer, the refresh against the whole."""

    def best(timings: Sequence[Said]) -> float:
        return min(t["median_s"] for t in timings[1:] if t["median_s"] is not None)

    cone, join, upkeep = found["cone"], found["whole"], found["refresh"]
    return {
        "cone_times_faster": measure.rounded(best(cone) / cone[0]["median_s"]),
        "whole_times_duckdb": measure.rounded(join[0]["median_s"] / join[1]["median_s"]),
        "whole_memory_of_duckdb": measure.rounded(join[0]["peak_mb"] / join[1]["peak_mb"]),
        "refresh_of_whole": measure.rounded(upkeep[1]["median_s"] / upkeep[0]["median_s"]),
        "nothing_to_do_s": upkeep[2]["median_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="keep the results under benchmarks/results")
    arguments = parser.parse_args()
    on = measure.machine()
    found = compare(arguments.tracts, arguments.rounds)
    for name, timings in found.items():
        rows = [
            (t["name"], t["median_s"], t.get("cpu_s"), t.get("peak_mb"), t.get("rows"), t.get("error", ""))
            for t in timings
        ]
        print(f"\n{name}\n\n" + measure.table(("", "median s", "CPU s", "peak MB", "rows", ""), rows))
    print("\n" + json.dumps(ratios(found)))
    if arguments.save:
        command = f"python benchmarks/truth.py --tracts {arguments.tracts} --rounds {arguments.rounds}"
        measure.save("truth", command, {"timings": found, "ratios": ratios(found)}, on=on)


if __name__ == "__main__":
    main()
