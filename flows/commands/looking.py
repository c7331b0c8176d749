"""Commands that look into a warehouse: what there is, its rows by place, data id, question or object, and its map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import display
from flows.commands.arguments import (
    At,
    Columns,
    Json,
    Out,
    Rows,
    Table,
    WarehouseUri,
    data_id,
    names,
    opened,
    version,
)
from warehouse.errors import QueryError
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.contracts import Contract

Cone = Annotated[
    tuple[float, float, float] | None, typer.Option(help="Rows within RADIUS of a position.", metavar="RA DEC RADIUS")
]
Box = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option(
        help="Rows between two meridians, eastward, and two parallels.", metavar="RA_MIN RA_MAX DEC_MIN DEC_MAX"
    ),
]
Polygon = Annotated[
    str | None, typer.Option(help="Rows in a convex polygon of great circles.", metavar="'RA,DEC RA,DEC RA,DEC ...'")
]
Tract = Annotated[int | None, typer.Option(help="Rows of this tract.")]
Patch = Annotated[int | None, typer.Option(help="Rows of this patch of --tract.")]
DatasetType = Annotated[str, typer.Argument(help="Butler dataset type, such as objectTable.")]
DataId = Annotated[list[str] | None, typer.Argument(help="Data id, such as: tract=4431 patch=17.", metavar="KEY=VALUE")]


def tables(warehouse: WarehouseUri, json: Json = False) -> None:
    """List the tables: rows, files, bytes, version."""
    found = opened(warehouse).tables()
    if json:
        display.frame(found, json=True)
    else:
        display.tables(found)


def columns(table: Table, warehouse: WarehouseUri, json: Json = False) -> None:
    """List a table's columns: datatype, unit, UCD, description."""
    display.frame(opened(warehouse).columns(table), json=json, wrap=("column", "ucd", "description"))


def scan(  # noqa: PLR0917 - Typer reads each from the signature
    table: Table,
    warehouse: WarehouseUri,
    cone: Cone = None,
    box: Box = None,
    polygon: Polygon = None,
    tract: Tract = None,
    patch: Patch = None,
    columns: Columns = None,
    at: At = None,
    primary: Annotated[bool, typer.Option("--primary", help="Only rows with detect_isPrimary.")] = False,
    out: Out = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Show or save the rows of a table, or of a piece of sky; degrees.

    For example: tractlake scan Object --cone 62 -37 0.05 --columns objectId,coord_ra,coord_dec --out cone.parquet
    """
    where = _region(cone, box, polygon, tract, patch)
    wh = opened(warehouse)
    found = wh.scan(table, where, columns=names(columns), version=version(wh, at), primary=primary)
    _give(wh, found, out, rows, json=json, contracts=(wh.root.contract(table),))


def get(
    dataset_type: DatasetType,
    warehouse: WarehouseUri,
    values: DataId = None,
    columns: Columns = None,
    at: At = None,
    out: Out = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Show or save one dataset of a catalogue, by Butler dataset type and data id; images: tractlake images show.

    For example: tractlake get objectTable tract=4431 patch=17 --out objects.fits
    """
    wh = opened(warehouse)
    _refuse_images(wh, dataset_type, values or ())
    named, chosen, as_of = data_id(values or ()), names(columns), version(wh, at)
    found = wh.get(dataset_type, named, format="lazy", columns=chosen, version=as_of)
    contract, _ = wh.root.contracts.dataset_types[dataset_type]
    if not _give(wh, found, out, rows, json=json, contracts=(contract,)):
        # Says so where there is no such dataset, rather than one without rows.
        wh.get(dataset_type, named, columns=chosen, version=as_of)


def sql(
    query: Annotated[str, typer.Argument(help="SELECT ... or WITH ... SELECT, tables by their names.")],
    warehouse: WarehouseUri,
    at: At = None,
    out: Out = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Answer a query in Polars' SQL; a version's number is for a query that names one table."""
    wh = opened(warehouse)
    _give(wh, wh.sql(query, version=version(wh, at)), out, rows, json=json, contracts=())


def lightcurve(  # noqa: PLR0917 - Typer reads each from the signature
    warehouse: WarehouseUri,
    object_id: Annotated[int | None, typer.Option(help="An Object's id: its ForcedSource rows.")] = None,
    dia_object_id: Annotated[
        int | None, typer.Option(help="A DiaObject's id: its ForcedSourceOnDiaObject rows.")
    ] = None,
    detections: Annotated[bool, typer.Option("--detections", help="A DiaObject's DiaSource rows instead.")] = False,
    columns: Columns = None,
    at: At = None,
    out: Out = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Show or save an object's photometry in order of time."""
    if (object_id is None) == (dia_object_id is None):
        raise QueryError("expected one of --object-id and --dia-object-id", kind="lightcurve")
    from warehouse.query.lightcurve import contracts

    wh = opened(warehouse)
    words: dict[str, Any] = {"dia_object_id": dia_object_id, "detections": detections}
    found = wh.lightcurve(object_id, columns=names(columns), version=version(wh, at), **words)
    _give(wh, found.lazy(), out, rows, json=json, contracts=contracts(wh.root, object_id, **words))


def dataset_types(
    warehouse: WarehouseUri,
    pattern: Annotated[str, typer.Argument(help="A name, or a glob such as '*_tract'.")] = "*",
    json: Json = False,
) -> None:
    """List the Butler dataset types of the release's catalogues and of registered images: dimensions, table."""
    found = opened(warehouse).dataset_types(pattern)
    display.frame(found if json else found.drop("description"), json=json, wrap=("dimensions",))


def data_ids(
    dataset_type: DatasetType, warehouse: WarehouseUri, values: DataId = None, at: At = None, json: Json = False
) -> None:
    """List the data ids of a dataset type that the warehouse holds, with their rows; of images, with their files."""
    wh = opened(warehouse)
    found = wh.data_ids(dataset_type, data_id(values or ()), version=version(wh, at))
    display.rows(found, json=json)


def sky_info(  # noqa: PLR0917 - Typer reads each from the signature
    table: Table,
    warehouse: WarehouseUri,
    cone: Cone = None,
    box: Box = None,
    polygon: Polygon = None,
    tract: Tract = None,
    patch: Patch = None,
    means: Annotated[
        bool, typer.Option("--means/--no-means", help="Also mean positions, for which rows are read.")
    ] = True,
    at: At = None,
    rows: Rows = 20,
    json: Json = False,
) -> None:
    """Count the rows of a table in each tract and patch, with their extent and mean position; degrees.

    For example: tractlake sky-info Object --tract 4431 --no-means
    """
    where = _region(cone, box, polygon, tract, patch)
    wh = opened(warehouse)
    found = wh.sky_info(table, where, means=means, version=version(wh, at))
    display.rows(found if means else found.drop("ra_mean_deg", "dec_mean_deg"), json=json, most=rows)


def footprint(
    warehouse: WarehouseUri,
    out: Annotated[str, typer.Option(help="PNG to write.")] = "footprint.png",
    table: Annotated[str, typer.Option(help="Table whose rows are counted.")] = "Object",
    at: At = None,
    json: Json = False,
) -> None:
    """Draw the map of a table's tracts and patches, coloured by their rows."""
    from warehouse import outputs
    from warehouse.query.footprint import footprint as draw

    outputs.local(out, ".png")
    wh = opened(warehouse)
    path = draw(wh.sky_info(table, means=False, version=version(wh, at)), wh.skymap, out, f"{table}, {wh.root.release}")
    if json:
        display.as_json({"out": str(path)})
    else:
        display.say(f"{path}: the footprint of {table}")


def _region(cone: Any, box: Any, polygon: str | None, tract: int | None, patch: int | None) -> Any:  # noqa: ANN401 - regions, loaded late
    """Return the one region that was given, or None.

    Raises
    ------
    QueryError
        More than one was given, or a patch without its tract, or a polygon that cannot be understood.
    """
    options = {"--cone": cone, "--box": box, "--polygon": polygon, "--tract": tract}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise QueryError(f"one region at a time, found {' and '.join(given)}", kind="region")
    if patch is not None and tract is None:
        raise QueryError("a patch is a number within a tract: give --tract as well", kind="region")
    import warehouse
    from warehouse import query

    if cone is not None:
        return warehouse.Cone(*cone)
    if box is not None:
        return warehouse.Box(*box)
    if polygon is not None:
        return warehouse.Polygon(_vertices(polygon))
    if tract is not None:
        return query.Tract(tract) if patch is None else query.Patch(tract, patch)
    return None


def _refuse_images(wh: Any, dataset_type: str, values: Sequence[str]) -> None:  # noqa: ANN401 - a Warehouse
    """Say what draws an image, and what gives it to Python: a command that shows rows has none of it (QueryError)."""
    from warehouse.images.finding import is_image_type

    if is_image_type(wh.root, dataset_type):
        words = " ".join(["tractlake images show", dataset_type, *values, f"--out {dataset_type}.png"])
        message = f"{dataset_type} is an image, which has no rows; `{words}` draws it, and wh.get gives it to Python"
        raise QueryError(message, kind="format", table="Image", uri=wh.uri)


def _vertices(text: str) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((float(ra), float(dec)) for ra, dec in (pair.split(",") for pair in text.split()))
    except ValueError as error:
        message = f"a polygon is written 'RA,DEC RA,DEC RA,DEC', degrees, found {text!r}"
        raise QueryError(message, kind="region") from error


def _give(wh: Any, found: Any, out: str | None, rows: int, *, json: bool, contracts: Sequence[Contract]) -> int:  # noqa: ANN401 - a Warehouse and a LazyFrame, loaded late
    """Save a lazy frame where `out` says so, else show its first rows; return how many rows were given.

    `contracts` are of the tables that the columns are of, none for those of a query.
    """
    if out is not None:
        from warehouse.query.save import save

        written = save(found, out, wh.settings, contracts)
        if json:
            display.as_json({"out": out, "rows": written})
        else:
            display.say(f"{out}: {counted(written, 'row')}")
        return written
    from warehouse.query.answers import collected

    wanted = collected(found if json else found.head(rows + 1), wh.uri)
    display.rows(wanted, json=json, most=rows, whole="--out or --json", choosing="--columns" if contracts else "")
    return int(wanted.height)
