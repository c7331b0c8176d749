"""What a person sees: tables and complaints on the terminal, or JSON for programs. Progress is in `flows.progress`."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from textwrap import indent
from typing import TYPE_CHECKING, Any

from rich.console import Console, OverflowMethod
from rich.measure import Measurement
from rich.table import Table

from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.ingest.plan import Plan
    from warehouse.lake.audit import Finding
    from warehouse.lake.maintain import Upkeep
    from warehouse.lake.pins import Pin
    from warehouse.simulate import SimulationReport

Cells = Sequence[Any]

# Where nobody looks at a terminal's width, lines stay whole, for grep and for files.
UNBOUNDED = 2_000
LEFT_ASIDE_SHOWN = 5


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


console = _console()
errors = _console(stderr=True)


def say(text: str, *, style: str | None = None) -> None:
    """Print a line."""
    console.print(text, style=style, markup=False)


def hint(text: str) -> None:
    """Print a line about the work itself to standard error, where it is in nobody's data."""
    errors.print(text, style="dim", markup=False)


def complain(text: str) -> None:
    """Print a line of trouble to standard error."""
    errors.print(f"tractlake: {text}", style="red", markup=False)


def as_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print a value as JSON."""
    sys.stdout.write(_json(value) + "\n")


def as_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a JSON list, each as it comes."""
    number = 0
    for number, row in enumerate(rows, 1):
        sys.stdout.write("[\n" if number == 1 else ",\n")
        sys.stdout.write(indent(_json(row), "  "))
    sys.stdout.write("\n]\n" if number else "[]\n")


def _json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    return jsonlib.dumps(_without_nan(value), indent=2, default=str, allow_nan=False)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return a value with null where it holds a NaN or an infinity, for which JSON has no words."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list | tuple) else value


def grid(
    headings: Sequence[str],
    rows: Sequence[Cells],
    *,
    wrap: Sequence[str] = (),
    cut: Sequence[str] = (),
    styles: Cells = (),
    texts: Sequence[Sequence[str]] | None = None,
) -> None:
    """Print rows under headings, numbers to the right.

    Parameters
    ----------
    wrap, cut
        Columns to fold, and columns to cut short, where the terminal is too narrow.
    styles
        A style or None for each row.
    texts
        The rows as they are shown; where not given, each value's `text`.
    """
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[number], int | float | None) for row in rows)
        overflow: OverflowMethod = "ellipsis" if heading in cut else "fold"
        shown.add_column(
            heading,
            justify="right" if numeric else "left",
            no_wrap=heading not in wrap,
            overflow=overflow,
            ratio=1 if heading in cut else None,
        )
    for number, row in enumerate(rows):
        shown.add_row(*(map(text, row) if texts is None else texts[number]), style=styles[number] if styles else None)
    if Measurement.get(console, console.options, shown).maximum >= console.width:
        shown.padding = (0, 1, 0, 0)
        shown.expand = bool(cut)  # to the terminal's edge: columns with a ratio have what the others leave
    console.print(shown, soft_wrap=False)


def text(value: Any) -> str:  # noqa: ANN401 - a cell
    """Return a count, a moment or a text as a cell of a table."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return _plain(value)


def _plain(value: Any) -> str:  # noqa: ANN401 - a cell
    """Return a value of a row of data as a cell: ids without separators, floats as far as they tell something."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.8g}"
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%d %H:%M:%S"))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def frame(found: Any, *, json: bool = False, wrap: Sequence[str] = ()) -> None:  # noqa: ANN401 - a Polars frame, which flows do not import
    """Print a data frame of counts and words."""
    if json:
        as_json(found.to_dicts())
    else:
        grid(found.columns, found.rows(), wrap=wrap)


def rows(
    found: Any,  # noqa: ANN401 - a Polars frame
    *,
    json: bool = False,
    most: int | None = None,
    whole: str = "--json",
    choosing: str = "",
) -> None:
    """Print the first `most` rows of a data frame, and of its columns as many as the terminal has room for.

    Parameters
    ----------
    whole, choosing
        The command's options that give all rows and columns, and the one that chooses columns, if it has one.
    """
    if json:
        as_json(found.to_dicts())
        return
    if not found.height:
        say("no rows")
        return
    shown = found.head(found.height if most is None else most).rows()
    texts = [_aligned(cells) for cells in zip(*shown, strict=True)]
    fitting, width = 0, 0
    for name, cells in zip(found.columns, texts, strict=True):
        width += max(map(len, (name, *cells))) + 2
        if fitting and width > console.width:
            break
        fitting += 1
    lines = list(zip(*texts[:fitting], strict=True))
    grid(found.columns[:fitting], [row[:fitting] for row in shown], texts=lines)
    if fitting < found.width:
        chooses = f"{choosing} chooses, " if choosing else ""
        say(f"... and {counted(found.width - fitting, 'more column')}; {chooses}{whole} gives all", style="dim")
    if most is not None and found.height > most:
        say(f"... and more rows; --rows shows more, {whole} gives all", style="dim")


def _aligned(cells: Cells) -> list[str]:
    """Return the values of one column as texts, floats with one number of decimals, so that their points line up."""
    texts = [_plain(value) for value in cells]
    if any("e" in told for told, value in zip(texts, cells, strict=True) if isinstance(value, float)):
        return texts
    decimals = max(
        (len(told.partition(".")[2]) for told, value in zip(texts, cells, strict=True) if isinstance(value, float)),
        default=0,
    )
    return [f"{v:.{decimals}f}" if isinstance(v, float) else told for told, v in zip(texts, cells, strict=True)]


def tables(found: Any) -> None:  # noqa: ANN401 - a Polars frame
    """Print what tables there are and what they hold."""
    listed = [
        (row["table"], row["rows"], row["files"], _mb(row["bytes"]), row["version"], row["description"])
        for row in found.iter_rows(named=True)
    ]
    grid(("table", "rows", "files", "MB", "version", "description"), listed, cut=("description",))


def _mb(size: int | None) -> float | None:
    return None if size is None else size / 1e6


def summaries(found: Sequence[Mapping[str, Any]], *, json: bool = False) -> None:
    """Print what ingests did, and below it what a person should know."""
    if json:
        as_json(found)
        return
    done = [
        (
            s["table"],
            s["inputs"],
            s["rows_committed"],
            s["rows_quarantined"],
            s["version"],
            s["files"],
            _mb(s["bytes_written"]),
            round(s["rows_committed"] / s["seconds"]) if s["seconds"] else None,
        )
        for s in found
        if not s["nothing_new"]
    ]
    if done:
        grid(("table", "inputs", "rows", "quarantined", "version", "files", "MB", "rows/s"), done, wrap=("table",))
    for s in found:
        for line in s["notes"]:
            say(line, style="red" if line.startswith(f"{s['table']}: refused") else None)
    if not done:
        unchanged = sum(s["inputs_unchanged"] for s in found)
        say(f"nothing new: {counted(unchanged, 'input')} of {counted(len(found), 'table')} unchanged")


def plans(found: Sequence[Plan], unrecognised: Sequence[tuple[str, str]], *, json: bool) -> None:
    """Print what an ingest would do."""
    if json:
        listed = [asdict(plan) | {"total_bytes": plan.total_bytes} for plan in found]
        as_json({"plans": listed, "unrecognised": [{"uri": uri, "why": why} for uri, why in unrecognised]})
        return
    grid(
        ("table", "fed by", "new", "changed", "unchanged", "vanished", "aside", "MB"),
        [
            (
                p.table,
                p.dataset_type or "plain files",
                p.counts.get("new", 0),
                p.counts.get("changed", 0),
                len(p.unchanged),
                len(p.vanished),
                len(p.left_aside),
                _mb(p.total_bytes),
            )
            for p in found
        ],
        wrap=("fed by",),
    )
    for p in found:
        _aside(p.table, [(a.uri, a.why) for a in p.left_aside])
    _aside("no input", unrecognised)
    say("nothing was written")


def _aside(what: str, files: Sequence[tuple[str, str]]) -> None:
    for uri, why in files[:LEFT_ASIDE_SHOWN]:
        say(f"{what}: left aside {uri}: {why}")
    if len(files) > LEFT_ASIDE_SHOWN:
        say(f"{what}: ... and {len(files) - LEFT_ASIDE_SHOWN:,} more left aside; --json names all")


def history(found: Any, most: int) -> None:  # noqa: ANN401 - a Polars frame
    """Print the newest rows of the ledger."""
    listed = found.sort("committed_at", maintain_order=True).tail(most)
    grid(
        ("input", "version", "status", "rows", "quarantined", "committed (UTC)"),
        [
            (
                row["unit"],
                row["version"],
                row["status"],
                row["rows_committed"],
                row["rows_quarantined"],
                row["committed_at"].strftime("%Y-%m-%d %H:%M"),
            )
            for row in listed.iter_rows(named=True)
        ],
        wrap=("input",),
    )
    for row in listed.iter_rows(named=True):
        if row["error"]:
            say(f"{row['unit']}: {row['status']}: {row['error']}", style="red")
    if found.height > most:
        say(f"... the last {most:,} of {found.height:,}; --rows shows more, --json all", style="dim")


def quarantined(counts: Any, last: Any) -> None:  # noqa: ANN401 - Polars frames
    """Print how many rows are set aside by which rule, and the last ones with their values."""
    if not counts.height:
        say("nothing is set aside")
        return
    by_rule: Counter[tuple[str, str]] = Counter()
    for table, rules, number in counts.iter_rows():
        by_rule.update({(table, rule): number for rule in rules})
    grid(("table", "rule", "rows"), [(*key, number) for key, number in sorted(by_rule.items())])
    for row in last.iter_rows(named=True):
        where = "whole input" if row["row_number"] is None else f"row {row['row_number']:,}"
        key = f", key {row['key']}" if row["key"] else ""
        say(f"\n{row['table']} {', '.join(row['rules'])}: {where} of {row['uri']}{key}")
        say(f"    {row['values'][:400]}", style="dim")
    total = counts.get_column("rows").sum()
    if total > last.height:
        say(f"\n... the last {last.height:,} of {total:,} rows; --rows shows more, --json all", style="dim")


def findings(found: Sequence[Finding], *, json: bool = False, every: bool = True) -> None:
    """Print what an audit found, what does not hold in red; unless `every`, of the rest only the number."""
    if json:
        as_json([asdict(f) | {"holds": f.holds} for f in found])
        return
    shown = [f for f in found if every or not f.holds]
    if shown:
        grid(
            ("table", "check", "looked at", "wrong", "example"),
            [(f.table, f.check, f.looked_at, f.wrong, "" if f.holds else f.example) for f in shown],
            wrap=("check", "example"),
            styles=[None if f.holds else "red" for f in shown],
        )
    wrong = sum(not f.holds for f in found)
    say(f"{counted(wrong, 'check')} of {len(found):,} failed" if wrong else f"all {counted(len(found), 'check')} hold")


def upkeep(done: Sequence[Upkeep], *, dry_run: bool, json: bool) -> None:
    """Print what upkeep removed and merged."""
    if json:
        as_json([asdict(d) for d in done])
        return
    listed = [(d.table, d.data_files, d.staging_files, d.compacted, d.version) for d in done]
    removed, merged = ("would remove", "would merge") if dry_run else ("removed", "merged")
    grid(("table", removed, "staging files", merged, "version"), listed)


def pins(found: Sequence[Pin]) -> None:
    """Print the pinned releases."""
    if found:
        grid(("pin", "made", "tables"), [(p.name, p.created_at, len(p.versions)) for p in found], wrap=("pin",))
    else:
        say("nothing is pinned")


def simulated(report: SimulationReport, images: Sequence[str] = (), *, json: bool = False) -> None:
    """Print what a simulation wrote: tables, and the paths of images."""
    if json:
        as_json(asdict(report) | {"images": images})
        return
    listed = [(name, report.files[name], report.rows[name], _mb(report.bytes[name])) for name in report.files]
    grid(("dataset type", "files", "rows", "MB"), listed, wrap=("dataset type",))
    truth = ", ".join(f"{count:,} {kind}" for kind, count in report.truth.items())
    say(f"truth: {truth}; tracts {', '.join(map(str, report.tracts))}; {counted(len(report.visits), 'visit')}")
    if images:
        say(f"{counted(len(images), 'image')}: `tractlake images register {report.out}` registers them")
