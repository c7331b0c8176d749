"""Commands that fill a warehouse: create, ingest, simulate, demo."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from flows import display
from flows.commands.arguments import Json, Memory, WarehouseUri, Workers
from warehouse.errors import ContractError, InputError


def create(
    warehouse: WarehouseUri,
    release: Annotated[str, typer.Option(help="Release whose contracts the tables follow: dp02, dp1 or dp2.")] = "dp02",
    skymap: Annotated[str | None, typer.Option(help="Sky map. [default: the release's]")] = None,
    json: Json = False,
) -> None:
    """Create a warehouse."""
    from flows.ingesting import settings
    from warehouse import Warehouse

    made = Warehouse.create(warehouse, release=release, skymap=skymap, settings=settings()).root
    if json:
        display.as_json({"uri": made.uri, "release": made.release, "skymap": made.skymap, "skymap_sha1": made.sha1})
    else:
        display.say(f"{made.uri} holds a warehouse of {made.release} on the sky map {made.skymap}")


def ingest(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, globs or Butler-like trees; with --butler, dataset types."),
    ] = None,
    *,
    warehouse: WarehouseUri,
    table: Annotated[
        str | None, typer.Option(help="Load everything into this table. [default: as the paths tell]")
    ] = None,
    dataset_type: Annotated[
        list[str] | None, typer.Option(help="Load this dataset type only; may be repeated. [default: all]")
    ] = None,
    release: Annotated[str, typer.Option(help="Release that a new warehouse follows.")] = "dp02",
    butler: Annotated[str | None, typer.Option(help="Take the inputs from this Butler repository.")] = None,
    collections: Annotated[
        list[str] | None, typer.Option(help="The Butler's collections, by commas or repeated; the first wins.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Butler query, such as: skymap = 'DC2' AND tract = 4431.")] = None,
    hdu: Annotated[
        str | None,
        typer.Option(
            help="Table in FITS files, by number or name. [default: as before, else the first that fits]",
            metavar="NUMBER|NAME",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    remove_vanished: Annotated[
        bool, typer.Option("--remove-vanished", help="Also remove the rows of inputs that are gone.")
    ] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Work in this process, without Prefect.")] = False,
    max_quarantined: Annotated[
        float | None,
        typer.Option(help="Share of an input's rows above which it is refused as a whole. [default: 0.01]"),
    ] = None,
    memory: Memory = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Ingest FITS and Parquet files; every row is committed or quarantined, once.

    A warehouse that does not stand yet is created. What has been ingested before is not read again. Exits with 3
    where inputs were refused; everything good is in the tables all the same.
    """
    from flows import ingesting

    request = ingesting.Request(
        warehouse=warehouse,
        inputs=tuple(inputs or ()),
        table=table,
        dataset_types=tuple(dataset_type or ()),
        release=release,
        butler=butler,
        collections=tuple(name for text in collections or () for name in text.split(",") if name),
        where=where,
        hdu=hdu,
        remove_vanished=remove_vanished,
        max_quarantined=max_quarantined,
        memory=memory,
        workers=workers,
    )
    if dry_run:
        display.plans(*ingesting.plans(request), json=json)
        return
    summaries = ingesting.run(request, direct=direct, quiet=json)
    display.summaries(summaries, json=json)
    if any(summary["error"] for summary in summaries):
        raise typer.Exit(ContractError.exit_code)
    if any(summary["inputs_refused"] for summary in summaries):
        raise typer.Exit(InputError.exit_code)


def simulate(  # noqa: PLR0917 - Typer reads each from the signature
    out: Annotated[str, typer.Option(help="Where to write the tree: a folder or s3://.")],
    ra: Annotated[float, typer.Option(help="Centre, degrees.")] = 62.0,
    dec: Annotated[float, typer.Option(help="Centre, degrees.")] = -37.0,
    radius: Annotated[float, typer.Option(help="Radius, degrees.")] = 0.5,
    objects: Annotated[int, typer.Option(help="Sources that the coadds show.")] = 20_000,
    visits: Annotated[int, typer.Option(help="Visits, dithered about the centre.")] = 12,
    seed: Annotated[int, typer.Option(help="The same seed makes the same sky.")] = 1,
    fits: Annotated[bool, typer.Option("--fits", help="Write the sources as FITS catalogues, not as Parquet.")] = False,
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="Also write images: an i-band coadd, and calexps and difference images of two visits."
        ),
    ] = False,
    memory: Memory = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Write a simulated sky as a Butler-like tree: truth, objects, sources, forced photometry, visits."""
    from flows import simulating

    sky = simulating.Sky(ra, dec, radius, objects, visits, seed)
    report = simulating.run(out, sky, memory=memory, workers=workers, quiet=json)
    if fits:
        report = simulating.as_fits(report, sky, memory=memory, workers=workers)
    shown = simulating.images(out, sky, memory=memory, workers=workers) if images else ()
    display.simulated(report, shown, json=json)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's files, warehouse and map.")] = Path("demo"),
    objects: Annotated[int, typer.Option(help="Sources that the coadds show.")] = 30_000,
    visits: Annotated[int, typer.Option(help="Visits.")] = 24,
    json: Json = False,
) -> None:
    """From files to a warehouse: simulate a piece of the DP0.2 sky, ingest it with Prefect, query it, draw it.

    With --json, what it shows on its way goes to standard error.
    """
    from flows.demo import run

    if not json:
        run(out, objects, visits)
        return
    with redirect_stdout(sys.stderr):
        done = run(out, objects, visits)
    display.as_json(done)
