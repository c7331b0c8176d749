"""Commands for images: register, list, show, cutout; each is said after `tractlake images`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import display
from flows.commands.arguments import Json, Memory, Rows, WarehouseUri, Workers, data_id, opened
from flows.commands.looking import DataId
from warehouse.errors import InputError, QueryError

app = typer.Typer(help="Images: register, find, show and cut them.", no_args_is_help=True, rich_markup_mode="markdown")

OptionalType = Annotated[str | None, typer.Option(help="Image dataset type, such as calexp. [default: all]")]
Band = Annotated[str | None, typer.Option(help="Band.")]
_SHOWN = ("dataset", "band", "mid_time_mjd", "ra_deg", "dec_deg", "width_px", "height_px", "tract", "patch")


@app.command()
def register(
    uris: Annotated[list[str], typer.Argument(help="Images, folders, globs or Butler-like trees.")],
    *,
    warehouse: WarehouseUri,
    dataset_type: Annotated[str | None, typer.Option(help="What they are, where paths do not tell.")] = None,
    release: Annotated[str, typer.Option(help="Release that a new warehouse follows.")] = "dp02",
    remove_vanished: Annotated[
        bool, typer.Option("--remove-vanished", help="Also remove the rows of images that are gone.")
    ] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Work in this process, without Prefect.")] = False,
    memory: Memory = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Register images by their headers: rows of Image and ObsCore. Exits with 3 where images were refused."""
    from flows import imaging

    request = imaging.Request(
        warehouse=warehouse,
        uris=tuple(uris),
        dataset_type=dataset_type,
        remove_vanished=remove_vanished,
        release=release,
        memory=memory,
        workers=workers,
    )
    found = imaging.run(request, direct=direct, quiet=json)
    if json:
        display.as_json(found)
    else:
        for line in imaging.lines(found):
            display.say(line)
    if found["refused"]:
        raise typer.Exit(InputError.exit_code)


@app.command("list")
def list_images(
    *,
    warehouse: WarehouseUri,
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Images within RADIUS of a position.", metavar="RA DEC RADIUS"),
    ] = None,
    tract: Annotated[int | None, typer.Option(help="Images that touch this tract.")] = None,
    patch: Annotated[int | None, typer.Option(help="Images that touch this patch of --tract.")] = None,
    band: Band = None,
    time: Annotated[
        tuple[float, float] | None, typer.Option(help="Between two moments, MJD (TAI).", metavar="FIRST LAST")
    ] = None,
    dataset_type: OptionalType = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """List the images that share sky with a place, by time and band.

    For example: tractlake images list --cone 62 -37 0.2 --band i
    """
    import warehouse as library
    from warehouse import query

    if cone is not None and tract is not None:
        raise QueryError("one region at a time, found --cone and --tract", kind="region")
    if patch is not None and tract is None:
        raise QueryError("a patch is a number within a tract: give --tract as well", kind="region")
    where: Any = library.Cone(*cone) if cone is not None else None
    if tract is not None:
        where = query.Tract(tract) if patch is None else query.Patch(tract, patch)
    from warehouse.query.answers import collected

    found = opened(warehouse).images(where, band=band, time=time, dataset_type=dataset_type).sort("dataset")
    display.rows(collected(found if json else found.select(_SHOWN).head(rows + 1), warehouse), json=json, most=rows)


@app.command()
def show(
    dataset_type: Annotated[str, typer.Argument(help="Image dataset type, such as calexp.")],
    values: DataId = None,
    *,
    warehouse: WarehouseUri,
    out: Annotated[str, typer.Option(help="PNG to write.")] = "image.png",
    json: Json = False,
) -> None:
    """Draw an image: asinh-zscale, with sky axes and a scale bar.

    For example: tractlake images show calexp visit=192350 detector=90 --out calexp.png
    """
    from warehouse import outputs
    from warehouse.images.show import draw

    outputs.local(out, ".png")
    wh = opened(warehouse)
    named = data_id(values or ())
    image = wh.get(dataset_type, named)
    title = " ".join([dataset_type, *(f"{key}={value}" for key, value in named.items())])
    _written(draw(image, out, title=title), image, json=json)


@app.command()
def cutout(
    values: DataId = None,
    *,
    warehouse: WarehouseUri,
    at: Annotated[tuple[float, float], typer.Option(help="Middle, degrees.", metavar="RA DEC")],
    size: Annotated[float, typer.Option(help="Side, arcseconds.")] = 20.0,
    dataset_type: Annotated[str, typer.Option(help="Image dataset type.")] = "deepCoadd",
    band: Band = None,
    out: Annotated[str, typer.Option(help="File to write: .png or .fits.")] = "cutout.png",
    json: Json = False,
) -> None:
    """Cut a square out of the image that shows a position; only its tiles are read.

    For example: tractlake images cutout --at 61.58 -37.1 --size 20 --band i --out galaxy.fits
    """
    from warehouse import outputs
    from warehouse.images.cutout import write
    from warehouse.images.show import draw

    path = outputs.local(out, ".png", ".fits")
    ra, dec = at
    wh = opened(warehouse)
    image = wh.cutout(ra, dec, size, data_id(values or ()), band=band, dataset_type=dataset_type)
    if path.suffix.lower() == ".png":
        draw(image, out, title=f'{dataset_type} {band or ""} at {ra:.5f} {dec:+.5f}, {size:g}"')
    else:
        write(image, path)
    _written(path, image, json=json)


def _written(path: Path, image: Any, *, json: bool) -> None:  # noqa: ANN401 - a CCDData
    height, width = image.data.shape
    if json:
        display.as_json({"out": str(path), "width": width, "height": height})
    else:
        display.say(f"{path}: an image of {width} x {height} pixels")
