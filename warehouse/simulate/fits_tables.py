"""Catalogues of the simulated sky as FITS: the tables' own rows as binary tables, and afw's ``src`` catalogues.

The same rows as the Parquet files of `warehouse.simulate.simulation`, so that what is read of one can be held against
the other. Loads astropy when the first file is written.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse import contracts, storage
from warehouse.config import Settings
from warehouse.contracts import Contract
from warehouse.errors import NotFoundError, near_misses
from warehouse.simulate.files import FILES, File, Scope
from warehouse.simulate.simulation import RUN, SimulationReport
from warehouse.simulate.sky import SimulatedSky, make_sky
from warehouse.simulate.tree import DataId, butler_path
from warehouse.sky import skymap

SRC = "src"
TABLE_TYPES = ("objectTable", "objectTable_tract", "sourceTable", "sourceTable_visit")
FITS_TYPES = (*TABLE_TYPES, SRC)

# nJy an instrumental count: what afw calls the local photometric calibration.
CALIBRATION_nJy = 2.5
CALIBRATION_ERROR_nJy = 0.0025
_AFW_VERSION = 3
_CODES = {"double": "D", "float": "E", "int64": "K", "int32": "J", "int16": "I", "bool": "L"}
_FLAGS = ("detect_isPrimary", "sky_source", "centroid_flag", "psfFlux_flag", "pixelFlags_edge", "pixelFlags_saturated")
_FLAG_NAMES = (
    "detect_isPrimary",
    "sky_source",
    "base_SdssCentroid_flag",
    "base_PsfFlux_flag",
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_saturated",
)
_ALIASES = ("slot_Centroid:base_SdssCentroid", "slot_PsfFlux:base_PsfFlux", "slot_CalibFlux:base_PsfFlux")


@dataclass(frozen=True, slots=True)
class FitsFile:
    """A file to write: its dataset type and data id, and the rows that it holds."""

    dataset_type: str
    data_id: DataId
    file: File


def write_fits_tables(
    out: str,
    sky: SimulatedSky,
    settings: Settings,
    *,
    dataset_types: Collection[str] = FITS_TYPES,
    run: str = RUN,
    only: Mapping[str, Collection[int | str]] | None = None,
) -> tuple[str, ...]:
    """Write catalogues of a sky into the Butler-like tree `out` as FITS; return the paths below it.

    Parameters
    ----------
    dataset_types
        Of `FITS_TYPES`: Object and Source by patch, tract, detector or visit, and afw's catalogues by detector.
    only
        Data-id values to which files are confined, such as ``{"visit": [192350]}``.

    Raises
    ------
    NotFoundError
        No such dataset type to write.
    StorageError
        The store does not take the files.
    """
    for name in dataset_types:
        if name not in FITS_TYPES:
            raise NotFoundError(f"no FITS catalogue {name!r}; {near_misses(name, FITS_TYPES)}", kind="dataset_type")
    files = [file for name in dataset_types for file in _files(sky, name)]
    work = [f for f in files if all(f.data_id.get(key) in {None, *values} for key, values in (only or {}).items())]
    with ThreadPoolExecutor(settings.workers) as pool:
        paths = pool.map(partial(_write, out, run, sky, settings), work)
        return tuple(path for path in paths if path is not None)


def simulate_fits_tables(
    out: str,
    *,
    dataset_types: Collection[str] = FITS_TYPES,
    ra: float = 62.0,
    dec: float = -37.0,
    radius: float = 0.5,
    objects: int = 20_000,
    visits: int = 12,
    detectors: int = 9,
    seed: int = 1,
    release: str = "dp02",
    settings: Settings | None = None,
) -> tuple[str, ...]:
    """Write the catalogues of a simulated sky as FITS; return the paths below `out`.

    The arguments mean what they mean to `simulate`, whose sky it is, and to `write_fits_tables`.
    """
    sky = _sky(release, ra, dec, radius, objects, visits, detectors, seed)
    return write_fits_tables(out, sky, settings or Settings(), dataset_types=dataset_types)


def simulate_fits(
    report: SimulationReport,
    *,
    ra: float,
    dec: float,
    radius: float,
    objects: int,
    visits: int,
    seed: int,
    settings: Settings,
    last: int | None = None,
    detectors: int = 9,
    release: str = "dp02",
) -> SimulationReport:
    """Put FITS in the place of Parquet for the sources in a tree of `simulate`; return the report with these files.

    Parameters
    ----------
    report
        Of the tree; the other arguments are those that it was made with.
    last
        Of how many of the last visits; None for all.
    """
    sky = _sky(release, ra, dec, radius, objects, visits, detectors, seed)
    kind = "sourceTable_visit"
    wanted = [visit.visit for visit in (sky.visits if last is None else sky.visits[-last:])]
    paths = write_fits_tables(report.out, sky, settings, dataset_types=(kind,), only={"visit": wanted})
    placed = {path.removesuffix(".fits") + ".parq": path for path in paths}
    gone, come = ([storage.join(report.out, path) for path in some] for some in (placed, placed.values()))
    more = sum(storage.stamp(uri, settings)[0] for uri in come) - sum(storage.stamp(uri, settings)[0] for uri in gone)
    storage.delete(gone, settings)
    sizes = {**report.bytes, kind: report.bytes[kind] + more}
    return replace(report, bytes=sizes, paths=tuple(placed.get(path, path) for path in report.paths))


def _sky(
    release: str, ra: float, dec: float, radius: float, objects: int, visits: int, detectors: int, seed: int
) -> SimulatedSky:
    known = contracts.load(release)
    return make_sky(
        known,
        skymap.named(str(known.skymap)),
        ra_deg=ra,
        dec_deg=dec,
        radius_deg=radius,
        objects=objects,
        visits=visits,
        first_visit=0,
        detectors=detectors,
        seed=seed,
        reprocessing=0,
    )


def _files(sky: SimulatedSky, name: str) -> Iterator[FitsFile]:
    scope = Scope(sky, sky.visits, _no_dia_objects)
    for file in FILES["sourceTable" if name == SRC else name](scope):
        yield FitsFile(name, file.data_id, file)


def _no_dia_objects() -> Any:  # noqa: ANN401 - never called
    raise NotFoundError("DiaObjects are not written as FITS", kind="dataset_type")


def _write(out: str, run: str, sky: SimulatedSky, settings: Settings, item: FitsFile) -> str | None:
    """Write one file and return its path, None where there are no rows."""
    pieces = list(item.file.pieces())
    if not pieces:
        return None
    rows = pa.concat_tables(pieces)
    path = butler_path(run, item.dataset_type, item.data_id).removesuffix(".parq") + ".fits"
    contract = sky.release.contract("Object" if item.dataset_type.startswith("object") else "Source")
    content = src_catalogue(rows) if item.dataset_type == SRC else binary_table(rows, contract)
    storage.write_bytes(storage.join(out, path), content, settings)
    return path


def binary_table(rows: pa.Table, contract: Contract) -> bytes:
    """Return a file whose HDU 1 holds rows as a binary table: NaN for null floats, TUNIT as the contract says."""
    from astropy.io import fits

    columns = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        values, code = _values(column.combine_chunks())
        known = contract.by_name.get(field.name)
        columns.append(fits.Column(field.name, code, unit=known.unit if known else None, array=values))
    return _file(fits.BinTableHDU.from_columns(columns), [])


def _values(column: pa.Array) -> tuple[np.ndarray[Any, Any], str]:
    """Return a column's values and its TFORM."""
    word = str(column.type)
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        texts = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False).astype("S")
        return texts, f"{max(1, texts.dtype.itemsize)}A"
    if pa.types.is_floating(column.type):
        return column.fill_null(np.nan).to_numpy(zero_copy_only=False), _CODES[word]
    if column.null_count:  # of integers and flags the simulation leaves none out
        column = pc.fill_null(column, pa.scalar(0).cast(column.type))
    return column.to_numpy(zero_copy_only=False), _CODES[word]


def src_catalogue(rows: pa.Table) -> bytes:
    """Return rows of Source as afw's catalogue: flags in a bit column, angles in radians, fluxes in counts."""
    from astropy.io import fits

    def values(name: str) -> np.ndarray[Any, Any]:
        return np.asarray(rows.column(name).combine_chunks().to_numpy(zero_copy_only=False))

    flux, error = (values(name).astype(float) for name in ("psfFlux", "psfFluxErr"))
    counts = flux / CALIBRATION_nJy
    # Errors add in quadrature when counts become nJy: what is left for the counts.
    count_error = np.sqrt(np.maximum(error**2 - (counts * CALIBRATION_ERROR_nJy) ** 2, 0.0)) / CALIBRATION_nJy
    plain = {
        "id": ("K", values("sourceId")),
        "coord_ra": ("D", np.radians(values("coord_ra"))),
        "coord_dec": ("D", np.radians(values("coord_dec"))),
        "parent": ("K", values("parentSourceId")),
        "base_SdssCentroid_x": ("D", values("x")),
        "base_SdssCentroid_y": ("D", values("y")),
        "base_SdssCentroid_xErr": ("E", values("xErr").astype(np.float32)),
        "base_SdssCentroid_yErr": ("E", values("yErr").astype(np.float32)),
        "base_PsfFlux_instFlux": ("D", counts),
        "base_PsfFlux_instFluxErr": ("D", count_error),
        "base_LocalPhotoCalib": ("D", np.full(rows.num_rows, CALIBRATION_nJy)),
        "base_LocalPhotoCalibErr": ("D", np.full(rows.num_rows, CALIBRATION_ERROR_nJy)),
    }
    bits = np.stack([values(name).astype(bool) for name in _FLAGS], axis=1)
    columns = [fits.Column("flags", f"{len(_FLAGS)}X", array=bits)]
    columns += [fits.Column(name, code, array=array) for name, (code, array) in plain.items()]
    table = fits.BinTableHDU.from_columns(columns)
    header = table.header
    header["FLAGCOL"] = 1
    for number, name in enumerate(_FLAG_NAMES, 1):
        header[f"TFLAG{number}"] = name
    for number, name in enumerate(plain, 2):
        header[f"TCCLS{number}"] = "Angle" if name.startswith("coord_") else "Scalar"
    for alias in _ALIASES:
        header.append(("ALIAS", alias), end=True)
    header["AR_HDU"] = 3
    header["HIERARCH AFW_TABLE_VERSION"] = _AFW_VERSION
    header["AFW_TYPE"] = "SOURCE"
    archive = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=np.arange(2))])
    archive.header["EXTTYPE"] = "ARCHIVE_INDEX"
    return _file(table, [archive])


def _file(table: Any, more: list[Any]) -> bytes:  # noqa: ANN401 - astropy publishes no types
    from astropy.io import fits

    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table, *more]).writeto(stream, checksum=True)
    return stream.getvalue()
