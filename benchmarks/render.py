"""Figures as Markdown: RESULTS.md from the JSON files beside it, and the remarks that a person wrote there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from measure import table

REMARKS = "## Remarks"
EMPTY = "None yet."
PREFACE = """Written by `make bench` from `benchmarks/results/*.json`; the remarks at the end are a person's. All
contenders of a table ran in turn, on the same inputs and the same machine; of several rounds the median is shown. Look
at the ratios: seconds say as much of the machine as of the program."""
TITLES = {
    "positions": "Positions to tract and patch",
    "ingest": "Ingest",
    "prefect": "The same ingest as a Prefect flow",
    "memory": "Memory, under a limit that kills",
    "fits": "FITS tables to frames",
    "match": "The match of a tract",
    "truth": "Truth tables",
    "images": "Images",
    "query": "Queries",
}


def document(kept: Mapping[str, Mapping[str, Any]], order: Sequence[str], remarks: str) -> str:
    """Return RESULTS.md: each benchmark's machine, command and tables, then the remarks."""
    names = [name for name in order if name in kept] + sorted(set(kept) - set(order))
    parts = [
        "# Results",
        PREFACE,
    ]
    for name in names:
        parts += [f"## {TITLES.get(name, name.capitalize())}", told(kept[name]), section(name, kept[name]["results"])]
    return "\n\n".join([*parts, REMARKS, remarks or EMPTY]) + "\n"


def remarks(text: str) -> str:
    """Return what stands below the remarks' heading."""
    found = text.partition(f"{REMARKS}\n")[2].strip()
    return "" if found == EMPTY else found


def told(kept: Mapping[str, Any]) -> str:
    """Return where, when and how figures were made."""
    on = kept["machine"]
    return (
        f"`{kept['command']}`, {on['date']}: {on['cores']} cores of {on['cpu']}, {on['memory_gib']} GiB, Python "
        f"{on['python']}, Polars {on['polars']}, deltalake {on['deltalake']}; load before it {on['load_before']}."
    )


def section(name: str, results: Any) -> str:  # noqa: ANN401 - each benchmark's own
    """Return a benchmark's tables."""
    if name == "ingest":
        return "\n\n".join(job(figures) for figures in results)
    return "\n\n".join(flat(rows) for rows in tables(results))


def job(figures: Mapping[str, Any]) -> str:
    """Return one ingest job's table, every contender as a multiple of tractlake's time.

    A target is a ratio that was to be reached: of tractlake to the floor at most, of a peer to tractlake at least.
    """
    contenders = {c["name"]: c for c in figures["contenders"]}
    ours = contenders.get("tractlake", {}).get("median_s")
    rows = []
    for name, c in contenders.items():
        ratio = f"{c['median_s'] / ours:.2f}" if ours and c.get("median_s") else ""
        target = figures["targets"].get(name)
        wanted = "" if target is None else f">= {1 / target:.2f}" if name == "floor" else f">= {target:g}"
        seconds = c.get("error") or f"{c['median_s']:g}"
        cells = (c.get("cpu_s"), c.get("peak_mb"), c.get("files"), c.get("gigabytes"))
        rows.append([name, seconds, ratio, wanted, *("" if cell is None else f"{cell:,}" for cell in cells)])
    size = f"{figures['rows']:,} rows in {figures['files']} files, {figures['gigabytes']} GB"
    scale = "" if figures["scale"] == 1 else f" (scale {figures['scale']:g})"
    headings = ("contender", "seconds", "x tractlake", "target", "CPU s", "peak MB", "files", "GB")
    return f"**{figures['job']}**{scale}: {size}\n\n" + table(headings, rows)


def tables(results: Any) -> list[list[Mapping[str, Any]]]:  # noqa: ANN401 - JSON
    """Return any benchmark's figures as tables of flat rows; what a mapping nests becomes rows of its own."""
    if isinstance(results, Sequence) and not isinstance(results, str):
        return [[flattened(row) for row in results]]
    nested = {name: value for name, value in results.items() if isinstance(value, Mapping)}
    if not nested:
        return [[flattened(results)]]
    return [[{"what": name.replace("_", " "), **flattened(value)} for name, value in nested.items()]]


def flattened(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a row without nesting; names within names are joined by spaces."""
    flat_row: dict[str, Any] = {}
    for name, value in row.items():
        key = f"{prefix}{name}"
        flat_row |= flattened(value, f"{key} ") if isinstance(value, Mapping) else {key: value}
    return flat_row


def flat(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table with every column that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table([name.replace("_", " ") for name in names], [[shown(row.get(name)) for name in names] for row in rows])


def shown(value: object) -> str:
    """Return a cell."""
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)
