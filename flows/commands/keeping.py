"""Commands that keep a warehouse in order: history, quarantine, audit, maintain, pin, pins, unpin."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows import display
from flows.commands.arguments import Json, OptionalTable, Rows, Tables, WarehouseUri, opened
from warehouse.errors import InputError, QualityError
from warehouse.wording import counted

Name = Annotated[str, typer.Argument(help="Name of the pin: letters, digits, '.', '-' and '_'.")]


def history(warehouse: WarehouseUri, table: OptionalTable = None, rows: Rows = 20, json: Json = False) -> None:
    """Show the ledger: which input gave which rows to which version."""
    found = opened(warehouse).history(table)
    if json:
        display.frame(found, json=True)
    else:
        display.history(found, rows)


def quarantine(
    warehouse: WarehouseUri,
    table: OptionalTable = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Take the inputs up again; the cause has been mended.")
    ] = False,
    rows: Rows = 5,
    json: Json = False,
) -> None:
    """Show what is set aside, by rule, with input and values."""
    wh = opened(warehouse)
    if not retry and json:
        from warehouse.lake.quarantine import batches

        if table is not None:
            wh.root.contract(table)
        display.as_json_rows(
            row for batch in batches(wh.uri, table, wh.settings) for row in batch.iter_rows(named=True)
        )
        return
    if not retry:
        display.quarantined(wh.quarantine_counts(table), wh.quarantine(table, rows=rows))
        return
    from flows import ingesting

    summaries = ingesting.retry(wh, table, quiet=json)
    display.summaries(summaries, json=json)
    if any(summary["inputs_refused"] for summary in summaries):
        raise typer.Exit(InputError.exit_code)


def audit(warehouse: WarehouseUri, table: Tables = None, json: Json = False) -> None:
    """Recompute from the tables themselves what ledger and contracts say; exit 5 where something does not hold."""
    findings = opened(warehouse).audit(*(table or ()))
    display.findings(findings, json=json)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(QualityError.exit_code)


def maintain(
    warehouse: WarehouseUri,
    table: Tables = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="Age above which leftovers go; must exceed the longest run. [default: 168]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove staged orphans and files that no kept version needs; merge small files of ledger and images."""
    done = opened(warehouse).maintain(*(table or ()), hours=hours, dry_run=dry_run)
    display.upkeep(done, dry_run=dry_run, json=json)


def pin(name: Name, warehouse: WarehouseUri, json: Json = False) -> None:
    """Pin the present version of every table under a name; `tractlake maintain` keeps what a pin reads."""
    made = opened(warehouse).pin(name)
    if json:
        display.as_json(asdict(made))
    else:
        display.say(f"{made.name} pins {counted(len(made.versions), 'table')}; read them with --version {made.name}")


def pins(warehouse: WarehouseUri, json: Json = False) -> None:
    """List the pins, oldest first."""
    found = opened(warehouse).pins()
    if json:
        display.as_json([asdict(made) for made in found])
    else:
        display.pins(found)


def unpin(name: Name, warehouse: WarehouseUri, json: Json = False) -> None:
    """Remove a pin; the versions that it kept may go with the next `tractlake maintain`."""
    opened(warehouse).unpin(name)
    if json:
        display.as_json({"unpinned": name})
    else:
        display.say(f"{name} is no longer pinned")
