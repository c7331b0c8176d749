"""The `tractlake` command: the API's verbs, typed at a shell.

Here the commands of `flows.commands` are given their names, errors become one line and an exit code, and signals an
orderly end. A command parses its arguments, calls the warehouse or a flow, and shows what came back: a table, or JSON
with ``--json``. Prefect is loaded only by the commands that run flows. Exit codes follow the error tree
(`warehouse.errors`): 0 all is well, 3 inputs were refused, and so on; 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from flows import display
from flows.commands import filling, images, keeping, looking, truth
from warehouse.errors import WarehouseError

app = typer.Typer(
    name="tractlake",
    help="The open warehouse for survey catalogues: files in, Delta tables by tract and patch out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS = {
    "Fill a warehouse": (filling.demo, filling.simulate, filling.create, filling.ingest),
    "Look into it": (
        looking.tables,
        looking.columns,
        looking.scan,
        looking.get,
        looking.sql,
        looking.lightcurve,
        looking.dataset_types,
        looking.data_ids,
        looking.sky_info,
        looking.footprint,
    ),
    "Hold it against the truth": (truth.match, truth.materialise, truth.photoz, truth.report),
    "Keep it in order": (
        keeping.history,
        keeping.quarantine,
        keeping.audit,
        keeping.maintain,
        keeping.pin,
        keeping.pins,
        keeping.unpin,
    ),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(images.app, name="images", rich_help_panel="Look into it")


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        display.say(f"tractlake {version('tractlake')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Take what may stand before a command."""


INTERRUPTED = 128
_signals: list[int] = []


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End in order at the first signal: files are closed, workers stop at their next input; at the second, at once.

    Either way nothing is half committed, and the same command goes on where this one stopped.
    """
    _signals.append(number)
    if len(_signals) > 1:
        os._exit(INTERRUPTED + number)
    raise SystemExit(INTERRUPTED + number)


def main() -> None:
    """Run the command; translate errors into one line and an exit code."""
    _signals.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(prog_name="tractlake")
    except WarehouseError as error:
        display.complain(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    except SystemExit:
        if _signals:
            display.complain("interrupted; nothing is half done, and the same command goes on where this one stopped")
        raise


if __name__ == "__main__":
    main()
