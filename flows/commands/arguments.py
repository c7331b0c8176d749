"""What several commands take: the options that they share, and what is made of them. Nothing heavy is loaded here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from warehouse.errors import QueryError

if TYPE_CHECKING:
    from warehouse import Warehouse

WarehouseUri = Annotated[
    str,
    typer.Option(
        "--warehouse", "-w", envvar="TRACTLAKE_WAREHOUSE", help="The warehouse: s3://bucket/prefix or a folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, all of it, instead of a table.")]
Memory = Annotated[str | None, typer.Option(help="Memory budget, such as 8GiB. [default: half of the machine's]")]
Workers = Annotated[int | None, typer.Option(help="Units of work side by side. [default: the processors]")]
Table = Annotated[str, typer.Argument(help="Table, spelled as the release spells it.")]
OptionalTable = Annotated[str | None, typer.Argument(help="Table. [default: all]", show_default=False)]
Tables = Annotated[list[str] | None, typer.Argument(help="Tables. [default: all]", show_default=False)]
Rows = Annotated[int, typer.Option("--rows", "-n", min=1, help="Rows to show.")]
At = Annotated[
    str | None,
    typer.Option("--version", help="As it was: a pin's name; else a version's number, or a moment (2026-03-01T12:00)."),
]
Columns = Annotated[str | None, typer.Option(help="Columns, separated by commas. [default: all]")]
Out = Annotated[
    str | None,
    typer.Option(help="Write all rows to this file: .parquet, .csv, .arrow, .jsonl, .fits, .ecsv or .vot."),
]


def opened(uri: str) -> Warehouse:
    """Return the warehouse at `uri`."""
    from flows.ingesting import settings
    from warehouse import Warehouse

    return Warehouse.open(uri, settings=settings())


def names(text: str | None) -> list[str] | None:
    """Return the names in a list that is separated by commas (QueryError where there are none)."""
    if text is None:
        return None
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise QueryError(f"expected names, separated by commas, found {text!r}", kind="names")
    return found


def version(wh: Warehouse, text: str | None) -> int | datetime | str | None:
    """Return what a version's text means: a pin's name, else a number, a moment (UTC where it does not say), a name."""
    if text is None:
        return None
    meant = _number_or_moment(text)
    if isinstance(meant, str):
        return meant
    from warehouse.lake import pins

    # 2026W01 and 20261101 are names, too, and whoever made such a pin means it.
    return text if pins.holds(wh.root, text, wh.settings) else meant


def _number_or_moment(text: str) -> int | datetime | str:
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def data_id(pairs: Sequence[str]) -> dict[str, int | str]:
    """Return a data id from texts such as ``tract=4431``.

    Raises
    ------
    QueryError
        A text without ``=``, or a key given twice.
    """
    values: dict[str, int | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise QueryError(f"a data id is written tract=4431 patch=17, found {pair!r}", kind="data_id")
        if name in values:
            raise QueryError(f"one value a key, found {name}={values[name]} and {pair}", kind="data_id")
        values[name] = int(value) if value.isdecimal() else value
    return values
