"""Run benchmarks, keep their figures as JSON, and write RESULTS.md from all that are kept.

    make bench                                     everything
    make bench ARGS="ingest --scale 0.1"           one of them, smaller
    make bench ARGS="render"                       only write RESULTS.md again

Runs at another scale than 1 are shown and not kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import render

ROOT = str(measure.HERE.parent)
# What a name runs; those that are not there yet are left out.
SCRIPTS = {
    "positions": "positions",
    "ingest": "ingest",
    "prefect": "prefect_overhead",
    "memory": "memory",
    "fits": "fits",
    "match": "match",
    "truth": "truth",
    "images": "images",
    "query": "query",
}


def available() -> list[str]:
    """Return the benchmarks that there are."""
    return [name for name, script in SCRIPTS.items() if (measure.HERE / f"{script}.py").exists()]


def figures(name: str, arguments: Sequence[str]) -> Any:  # noqa: ANN401 - each benchmark's own
    """Return the JSON that a benchmark prints; it runs in a process of its own, which others' settings do not reach."""
    command = [sys.executable, str(measure.HERE / f"{SCRIPTS[name]}.py"), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": ROOT})
    return parsed(done.stdout)


def parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    """Return printed JSON: one value, or one a line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip().startswith(("{", "["))]


def full(arguments: Sequence[str]) -> bool:
    """Return whether these arguments are those of figures to keep."""
    return not arguments


def main(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["all"]
    names = available() if name == "all" else [name]
    if name not in {"all", "render", *available()}:
        measure.say(f"no benchmark {name!r}; there are: all, render, {', '.join(available())}")
        return 2
    failed, written = [], name == "render"
    for each in names if name != "render" else ():
        measure.say(f"== {each}")
        before = measure.machine()
        try:
            results = figures(each, rest)
        except (subprocess.CalledProcessError, ValueError) as error:  # the others still run
            measure.say(f"{each}: {error}")
            failed.append(each)
            continue
        print(render.section(each, results))
        if full(rest):
            measure.save(each, f"make bench ARGS={each}", results, on=before)
            written = True
    if written:
        write_results()
    return 1 if failed else 0


def write_results() -> None:
    """Write RESULTS.md anew from the figures that are kept; a person's remarks stay."""
    kept = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(measure.RESULTS.glob("*.json"))}
    target = Path(measure.HERE, "RESULTS.md")
    old = target.read_text("utf-8") if target.exists() else ""
    target.write_text(render.document(kept, list(SCRIPTS), render.remarks(old)), "utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
