"""What a run says at its end: one summary a table, as plain values, and all of them as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from warehouse.errors import InputError
from warehouse.ingest.run import IngestReport
from warehouse.wording import counted


class RefusedError(InputError):
    """Some inputs were refused; everything good is in the tables, and `summaries` tells of all."""

    default_kind = "refused"
    summaries: Sequence[dict[str, Any]] = ()


NAMED_AT_MOST = 12
_HEADINGS = ("table", "inputs", "rows read", "committed", "quarantined", "refused", "version", "files", "MB", "rows/s")


def summary(report: IngestReport) -> dict[str, Any]:
    """Return a report as values that JSON can hold."""
    return {
        "table": report.table,
        "version": report.version,
        "nothing_new": report.nothing_new,
        "error": str(report.error) if report.error else None,
        "inputs": report.inputs,
        "inputs_unchanged": len(report.plan.unchanged),
        "inputs_left_aside": len(report.plan.left_aside),
        "inputs_vanished": len(report.plan.vanished),
        "inputs_refused": [{"uri": e.uri, "rules": list(e.rules), "error": e.error} for e in report.refused],
        "rows_read": report.rows_read,
        "rows_committed": report.rows_committed,
        "rows_quarantined": report.rows_quarantined,
        "rules": report.rules,
        "files": report.files,
        "bytes_written": report.bytes_written,
        "bytes_read": report.bytes_read,
        "seconds": round(report.seconds, 3),
        "run_id": report.run_id,
        "notes": notes([report]),
    }


def refused(summaries: Sequence[dict[str, Any]]) -> RefusedError | None:
    """Return the error that ends a run which refused inputs, None where it refused none."""
    errors = [s["error"] for s in summaries if s["error"]]
    errors += [entry["error"] for s in summaries for entry in s["inputs_refused"]]
    if not errors:
        return None
    error = RefusedError(f"{counted(len(errors), 'input')} refused, all else is committed; the first: {errors[0]}")
    error.summaries = summaries
    return error


def rows(reports: Sequence[IngestReport]) -> list[tuple[str, ...]]:
    """Return a row of texts a table."""
    return [
        (
            r.table,
            f"{r.inputs:,}",
            f"{r.rows_read:,}",
            f"{r.rows_committed:,}",
            f"{r.rows_quarantined:,}",
            f"{len(r.refused):,}",
            f"{r.version}",
            f"{r.files:,}",
            f"{r.bytes_written / 1e6:,.1f}",
            f"{r.rows_committed / r.seconds:,.0f}" if r.seconds else "",
        )
        for r in reports
    ]


def markdown(reports: Sequence[IngestReport]) -> str:
    """Return the reports as a Markdown table, and what was refused below it."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---" * len(_HEADINGS) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(reports)]
    lines += ["", *notes(reports)]
    return "\n".join(lines)


def notes(reports: Sequence[IngestReport]) -> list[str]:
    """Return a line for each thing that a person should know: rules broken, inputs refused, left aside or gone."""
    lines = []
    for r in reports:
        if r.error:
            lines.append(f"{r.table}: nothing was ingested: {r.error.message}")
        if r.rules:
            rules = ", ".join(f"{rule} {n:,}" for rule, n in sorted(r.rules.items()))
            lines.append(f"{r.table}: set aside by rule: {rules}")
        lines += [f"{r.table}: refused {e.error}" for e in r.refused]
        if still := sum(e.status == "refused" for e in r.plan.unchanged):
            lines.append(f"{r.table}: {counted(still, 'input')} unchanged since refused; see its quarantine")
        if extra := {name for e in r.entries for name in e.extra}:
            lines.append(f"{r.table}: columns of the files that the contract does not have, left out: {_named(extra)}")
        if missing := {name for e in r.entries for name in e.missing}:
            lines.append(f"{r.table}: columns that files do not have, null in their rows: {_named(missing)}")
        if r.plan.left_aside:
            count, first = counted(len(r.plan.left_aside), "file"), r.plan.left_aside[0]
            lines.append(f"{r.table}: {count} left aside, such as {first.uri}: {first.why}")
        if r.plan.vanished:
            fate = "rows removed" if r.plan.remove_vanished else "the rows stay"
            lines.append(f"{r.table}: {counted(len(r.plan.vanished), 'input')} no longer there; {fate}")
    return lines


def _named(columns: Collection[str]) -> str:
    rest = len(columns) - NAMED_AT_MOST
    return ", ".join(sorted(columns)[:NAMED_AT_MOST]) + (f" and {rest:,} more" if rest > 0 else "")
