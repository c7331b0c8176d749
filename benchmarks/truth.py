"""Truth against measurement: the photo-z cone, the whole join and its refresh, against peers on the same files.

    make bench ARGS="truth --tracts 8 --rounds 1"

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

CONTENDERS, SKY, HATS = (
    str(Path(__file__).with_name(name)) for name in ("truth_contenders.py", "truth_sky.py", "truth_hats.py")
)
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


def catalogues(tracts: int) -> str:
    """Return the path of the HATS catalogues of this warehouse, made unless they stand."""
    place = measure.WORK / f"truth-{tracts}-hats"
    if not (place / "objects" / "collection.properties").exists():
        measure.remove(place)
        arguments = json.dumps({"warehouse": prepared(tracts), "out": str(place)})
        measure.run([sys.executable, HATS, arguments], env={"PYTHONPATH": _paths()}, patience=3600)
    return str(place)


def compare(tracts: int, rounds: int) -> dict[str, list[measure.Timing]]:
    """Return the timings of each comparison; the first of each is what the others are held against."""
    found = {"the whole join, written": whole(prepared(tracts), rounds)}
    measure.say("the photo-z cone")
    question = {"warehouse": prepared(tracts), "cone": [*centre(FIRST_TRACT + tracts // 2), CONE_RADIUS_DEG]}
    cones = {
        "tractlake": partial(contender, "cone_ours", **question),
        "Polars, in memory": partial(contender, "cone_polars", **question),
        "DuckDB": partial(contender, "cone_duckdb", **question),
        "LSDB": partial(contender, "cone_lsdb", hats=catalogues(tracts), cone=question["cone"]),
    }
    expected = cones["tractlake"]()["rows"]
    found["the photo-z cone"] = measure.side_by_side(cones, dict.fromkeys(cones, rounds), expected_rows=expected)
    found["twenty tracts"] = refresh(prepared(TWENTY), rounds)
    return found


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


def main(arguments: Sequence[str] = ()) -> list[Said]:
    """Return a row a comparison and contender, each with its time as a multiple of the comparison's first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(list(arguments))
    rows = []
    for comparison, timings in compare(chosen.tracts, chosen.rounds).items():
        first = timings[0].median
        for timing in timings:
            ratio = measure.rounded(timing.median / first) if timing.median and first else None
            rows.append({"comparison": comparison, **timing.record(), "x_first": ratio})
    return rows


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
