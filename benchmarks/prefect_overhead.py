"""The same ingest as a library call and as a Prefect flow, in one process beside a running server, in turn.

The start of Prefect's server is left out. Everything that a run adds is in: the flow run, a task run a unit, their
states, logs and the artifact. `start` is what a flow takes whose one task does nothing; beside work some of that passes
unnoticed, so it is shown and not subtracted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import measure
from ingest import JOBS, simulated
from measure import Said


def alternate(tree: str, table: str, out: str, rounds: int) -> Said:
    """Return the seconds of each way, round by round; runs in the process that `main` starts."""
    from prefect import flow, task

    from flows.ingest import ingest
    from flows.serving import api
    from warehouse import Warehouse

    @task
    def nothing() -> None:
        """Take the time that a task takes."""

    @flow
    def start() -> None:
        nothing.submit().result()

    seconds: dict[str, list[float]] = {"start": [], "call": [], "flow": []}
    rows = 0
    with api(measure.say) as ready:
        ready()
        for turn in range(rounds + 1):
            for way, times in seconds.items():
                target = f"{out}-{way}"
                clock = time.perf_counter()
                if way == "start":
                    start()
                elif way == "call":
                    report = Warehouse.create(target).ingest(table, tree)
                    rows = report.rows_committed
                else:
                    (told,) = ingest(warehouse=target, inputs=[tree], table=table)
                    assert told["rows_committed"] == rows
                if turn:  # the first round loads what is loaded once
                    times.append(time.perf_counter() - clock)
                measure.remove(measure.Path(target))
    return {"seconds": sum(seconds["flow"]), "rows": rows, **{f"{way}_s": times for way, times in seconds.items()}}


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return each job's median seconds as a call and as a flow, and those of a flow in which nothing happens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=lambda text: text.split(";"), default=["Object", "Source", "ForcedSource"])
    parser.add_argument("--patience", type=float, default=900.0)
    chosen = parser.parse_args(list(arguments))
    results = []
    for name in chosen.jobs:
        tree, made = simulated(JOBS[name], chosen.scale)
        out = measure.fresh(f"prefect-{name}")
        told = {"tree": str(tree), "table": JOBS[name].table, "out": str(out), "rounds": chosen.rounds}
        with measure.scratch() as home:
            said = measure.run(
                [sys.executable, __file__, "--alternate", json.dumps(told)],
                patience=chosen.patience,
                env={"PREFECT_HOME": home, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
            )
        assert said["rows"] == made["rows"]
        start, call, flow = (statistics.median(said[f"{way}_s"]) for way in ("start", "call", "flow"))
        beyond = 100 * (flow / call - 1)
        results.append({"job": name, "rows": made["rows"], "call_s": measure.rounded(call)})
        results[-1] |= {"flow_s": measure.rounded(flow), "start_s": measure.rounded(start)}
        results[-1] |= {"beyond_percent": round(beyond, 1)}
        measure.say(
            f"  {name:<16s} call {call:6.2f} s, flow {flow:6.2f} s: {beyond:+.1f} %; an empty flow {start:.2f} s"
        )
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alternate"]:
        print(json.dumps(alternate(**json.loads(sys.argv[2]))))
    else:
        print(json.dumps(main(sys.argv[1:]), indent=1))
