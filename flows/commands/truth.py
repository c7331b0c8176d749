"""Commands that hold what is measured against what is true: match, materialise, photoz, report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows import display
from flows.commands.arguments import At, Json, Memory, Rows, WarehouseUri, Workers, names, opened, version
from warehouse.errors import QualityError, QueryError
from warehouse.wording import counted

Direct = Annotated[bool, typer.Option("--direct", help="Work in this process, without Prefect.")]
Bands = Annotated[str | None, typer.Option(help="Bands, separated by commas. [default: those of the release]")]
Cone = Annotated[
    tuple[float, float, float] | None, typer.Option(help="Truth within RADIUS of a position.", metavar="RA DEC RADIUS")
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="Brightest and faintest cModel magnitude in a band, such as i=17:25.3; may be repeated. "
        "[default: g, r and i from 17 to 26]",
        metavar="BAND=[BRIGHT]:[FAINT]",
    ),
]


def match(
    *,
    warehouse: WarehouseUri,
    radius_arcsec: Annotated[
        float | None, typer.Option(help="Farthest neighbour. [default: as before, at first 0.5]")
    ] = None,
    magnitude_limit: Annotated[
        float | None, typer.Option(help="Faintest candidate. [default: as before, at first 27]")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands, separated by commas. [default: as before, at first those of the release]"),
    ] = None,
    published_quirk: Annotated[
        bool | None,
        typer.Option(
            "--published-quirk/--no-published-quirk",
            help="Let poorly measured objects win, as the published code does. [default: as before, at first not]",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the matches that files brought, all of them.")
    ] = False,
    direct: Direct = False,
    memory: Memory = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Compute MatchesTruth from TruthSummary and Object, where there are no match files.

    Only tracts whose truth or objects have changed are matched again; with other settings than the last match's, all.
    Settings that are not given stay as they were. Exits with 5 where a tract could not be.
    """
    from flows import truthing

    how = {
        "radius_arcsec": radius_arcsec,
        "magnitude_limit": magnitude_limit,
        "bands": names(bands),
        "published_quirk": published_quirk,
    }
    told = {name: value for name, value in how.items() if value is not None}
    words = {
        "warehouse": warehouse,
        "how": told or None,
        "replace_files": replace,
        "memory": memory,
        "workers": workers,
    }
    _show(truthing.run("match", words, direct=direct, quiet=json), json=json)


def materialise(
    warehouse: WarehouseUri,
    status: Annotated[bool, typer.Option("--status", help="Only say how stale it is, and why.")] = False,
    bands: Bands = None,
    columns: Annotated[str | None, typer.Option(help="More columns of Object to keep, separated by commas.")] = None,
    direct: Direct = False,
    memory: Memory = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Bring ObjectTruth - matches, truth and objects joined - up to date.

    Only tracts that have changed are made again, all in one commit. Exits with 5 where one could not be.
    """
    from flows import truthing

    if status:
        found = opened(warehouse).staleness()
        if json:
            display.as_json({**asdict(found), "up_to_date": found.up_to_date})
        else:
            for line in truthing.staleness_lines(found):
                display.say(line)
        return
    words = {
        "warehouse": warehouse,
        "bands": names(bands),
        "columns": names(columns),
        "memory": memory,
        "workers": workers,
    }
    _show(truthing.run("materialise", words, direct=direct, quiet=json), json=json)


def photoz(
    *,
    warehouse: WarehouseUri,
    cone: Cone = None,
    limit: Limits = None,
    bands: Bands = None,
    errors: Annotated[bool, typer.Option("--errors", help="Also give the errors of fluxes and magnitudes.")] = False,
    truth_type: Annotated[
        list[int] | None, typer.Option(help="1 galaxies, 2 stars; may be repeated. [default: 1]")
    ] = None,
    extra: Annotated[str | None, typer.Option(help="More columns of ObjectTruth, separated by commas.")] = None,
    train_fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Add a column `split`: this share of the rows says train.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses among the possible splits.")] = 0,
    at: At = None,
    out: Annotated[
        str | None, typer.Option(help="Write the set to this file: .parquet, .fits, .hdf5, .csv or .pkl.")
    ] = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Show or save a photo-z set: matched galaxies, measured magnitudes, true redshifts.

    For example: tractlake photoz --cone 62 -37 0.5 --limit i=17:25 --errors --out set.hdf5
    """
    from flows import truthing

    wh = opened(warehouse)
    words = truthing.selection(
        cone,
        None if limit is None else dict(_limit(text) for text in limit),
        bands=names(bands),
        errors=errors,
        truth_types=truth_type,
        extra=names(extra),
        train_fraction=train_fraction,
        seed=seed,
        version=version(wh, at),
    )
    if out is None:
        from warehouse.query.answers import collected

        found = collected(wh.photoz(**words), wh.uri)
        display.rows(found, json=json, most=rows, whole="--out or --json", choosing="--bands")
        return
    written = wh.write_photoz(out, **words)
    if json:
        display.as_json({"out": out, "rows": written})
    else:
        display.say(f"{counted(written, 'row')} in {out}")


def report(
    warehouse: WarehouseUri,
    out: Annotated[str, typer.Option(help="Folder for the page and its images.")] = "report",
    json: Json = False,
) -> None:
    """Draw what is measured against what is true: a page of figures, with numbers under each."""
    done = opened(warehouse).report(out)
    if json:
        display.as_json({"page": str(done.page), "images": [str(image) for image in done.images], **done.counts})
    else:
        display.say(
            f"{done.page}: {counted(len(done.images), 'figure')} of {counted(sum(done.counts.values()), 'row')}"
        )


def _limit(text: str) -> tuple[str, tuple[float | None, float | None]]:
    """Return band and magnitudes of a text such as ``i=17:25.3``; either magnitude may be left out."""
    band, equals, limits = text.partition("=")
    bright, colon, faint = limits.partition(":")
    try:
        if band and equals and colon:
            return band, (float(bright) if bright else None, float(faint) if faint else None)
    except ValueError:
        pass
    raise QueryError(f"a magnitude limit is written i=17:25.3, found {text!r}", kind="limit")


def _show(summary: dict[str, Any], *, json: bool) -> None:
    from flows import truthing

    if json:
        display.as_json(summary)
    else:
        for line in truthing.lines(summary):
            display.say(line)
    if summary["failed"]:
        raise typer.Exit(QualityError.exit_code)
