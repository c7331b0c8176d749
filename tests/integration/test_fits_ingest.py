"""The same rows through FITS and through Parquet make equal tables; units are converted, or refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from polars.testing import assert_frame_equal

from support.fits import data_start, put
from warehouse import Warehouse
from warehouse.simulate import simulate
from warehouse.simulate.fits_tables import simulate_fits_tables

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("sky")
    simulate(str(out), objects=600, radius=0.12, visits=2, detectors=2, tables=["Source"], seed=3)
    return out


def as_fits(path: Path, target: Path, *, radians=(), units=None) -> None:
    """Write a Parquet file's rows as FITS: masked where null, named columns in radians."""
    frame = pl.read_parquet(path)
    table = Table()
    for name in frame.columns:
        column = frame.get_column(name)
        filled = column.fill_null(column.drop_nulls().first() if column.dtype == pl.String else 0)
        values = np.asarray(filled.to_numpy(), dtype=str if column.dtype == pl.String else None)
        mask = column.is_null().to_numpy() if column.dtype == pl.String or column.dtype.is_integer() else False
        table[name] = MaskedColumn(np.radians(values) if name in radians else values, mask=mask)
        if name in radians:
            table[name].unit = "rad"
        if units and name in units:
            table[name].unit = units[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    table.write(target, format="fits")


def in_fits(tree: Path, out: Path, **options) -> Path:
    for path in sorted(tree.rglob("*.parq")):
        as_fits(path, (out / path.relative_to(tree)).with_suffix(".fits"), **options)
    return out


def with_arrays(folder: Path, name: str, letter: str) -> Path:
    """Let a column of each file hold arrays of varying lengths, as the last column."""
    for path in folder.rglob("*.fits"):
        with fits.open(path) as opened:
            kept = [column for column in opened[1].columns if column.name != name]
            rows = np.empty(len(opened[1].data), dtype=object)
            rows[:] = [np.arange(row % 4, dtype=float) for row in range(len(rows))]
            table = fits.BinTableHDU.from_columns([*kept, fits.Column(name, f"{letter}D()", array=rows)])
        table.writeto(path, overwrite=True)
    return folder


def content(wh, table="Source", key="sourceId"):
    frame = wh.scan(table).collect()
    return frame.select(sorted(frame.columns)).sort(key)


def test_fits_and_parquet_make_equal_tables(tree, tmp_path, settings):
    parquet = Warehouse.create(str(tmp_path / "a"), settings=settings)
    fits = Warehouse.create(str(tmp_path / "b"), settings=settings)
    one = parquet.ingest("Source", str(tree))
    other = fits.ingest("Source", str(in_fits(tree, tmp_path / "in")))
    assert other.rows_committed == one.rows_committed > 0
    assert other.rows_quarantined == one.rows_quarantined == 0
    assert_frame_equal(content(fits), content(parquet), check_exact=True)


def test_fits_and_parquet_make_equal_tables_of_object(tmp_path, settings):
    tree = tmp_path / "sky"
    simulate(str(tree), objects=60, radius=0.1, visits=1, detectors=1, tables=["Object"], seed=4)
    parquet = Warehouse.create(str(tmp_path / "a"), settings=settings)
    fits = Warehouse.create(str(tmp_path / "b"), settings=settings)
    one = parquet.ingest("Object", str(tree))
    other = fits.ingest("Object", str(in_fits(tree, tmp_path / "in")))
    assert (other.rows_committed, other.rows_quarantined) == (one.rows_committed, 0)
    frame = content(parquet, "Object", "objectId")
    assert frame.height == one.rows_committed > 0
    assert_frame_equal(content(fits, "Object", "objectId"), frame, check_exact=True)


def test_radians_become_degrees_on_the_way_in(tree, tmp_path, settings):
    parquet = Warehouse.create(str(tmp_path / "a"), settings=settings)
    fits = Warehouse.create(str(tmp_path / "b"), settings=settings)
    parquet.ingest("Source", str(tree))
    report = fits.ingest("Source", str(in_fits(tree, tmp_path / "in", radians=("coord_ra", "coord_dec"))))
    assert not report.refused
    one, other = content(parquet), content(fits)
    for name in ("coord_ra", "coord_dec"):
        assert np.abs((one[name] - other[name]).to_numpy()).max() < 1e-12


def test_a_unit_of_another_kind_refuses_the_input_by_column(tree, tmp_path, settings):
    wh = Warehouse.create(str(tmp_path / "a"), settings=settings)
    report = wh.ingest("Source", str(in_fits(tree, tmp_path / "in", units={"coord_ra": "s"})))
    assert len(report.refused) == 2
    assert "coord_ra" in report.refused[0].error
    assert "deg" in report.refused[0].error
    assert report.rows_committed == 0


@pytest.mark.parametrize("letter", ["P", "Q"])
def test_variable_length_arrays_are_refused_by_name_where_the_contract_wants_the_column(
    tree, tmp_path, settings, letter
):
    wh = Warehouse.create(str(tmp_path / "wh"), settings=settings)
    report = wh.ingest("Source", str(with_arrays(in_fits(tree, tmp_path / "in"), "psfFlux", letter)))
    assert (report.rows_committed, len(report.refused)) == (0, 2)
    for refused in report.refused:
        assert "column 'psfFlux' as double" in refused.error
        assert f"variable-length arrays ({letter})" in refused.error


@pytest.mark.parametrize("letter", ["P", "Q"])
def test_variable_length_arrays_that_the_contract_does_not_have_are_an_extra_column(tree, tmp_path, settings, letter):
    wh = Warehouse.create(str(tmp_path / "wh"), settings=settings)
    reference = Warehouse.create(str(tmp_path / "reference"), settings=settings)
    reference.ingest("Source", str(tree))
    report = wh.ingest("Source", str(with_arrays(in_fits(tree, tmp_path / "in"), "footprint", letter)))
    assert not report.refused
    assert [tuple(entry.extra) for entry in report.entries] == [("footprint",)] * 2
    assert_frame_equal(content(wh), content(reference), check_exact=True)


def test_a_table_may_be_fed_by_both_formats(tree, tmp_path, settings):
    both = tmp_path / "in"
    files = sorted(tree.rglob("*.parq"))
    as_fits(files[0], (both / files[0].relative_to(tree)).with_suffix(".fits"))
    target = both / files[1].relative_to(tree)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(files[1].read_bytes())
    wh = Warehouse.create(str(tmp_path / "wh"), settings=settings)
    report = wh.ingest("Source", str(both))
    assert (report.inputs, len(report.refused)) == (2, 0)
    reference = Warehouse.create(str(tmp_path / "reference"), settings=settings)
    reference.ingest("Source", str(tree))
    assert_frame_equal(content(wh), content(reference), check_exact=True)


# ------------------------------------------------------------------------------- catalogues of afw, and damage


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    """The same sources as afw's catalogues, with checksums."""
    out = tmp_path_factory.mktemp("src")
    simulate_fits_tables(str(out), objects=600, radius=0.12, visits=2, detectors=2, dataset_types=["src"], seed=3)
    return out


def test_an_afw_catalogue_is_ingested_as_rows_of_source(tree, src, tmp_path, settings):
    """Beside the Parquet rows: what a catalogue tells is the same, and the ledger lists what it does not tell."""
    parquet = Warehouse.create(str(tmp_path / "a"), settings=settings)
    afw = Warehouse.create(str(tmp_path / "b"), settings=settings)
    parquet.ingest("Source", str(tree))
    report = afw.ingest("Source", str(src))
    one, other = content(parquet), content(afw)
    assert not report.refused
    assert other["sourceId"].to_list() == one["sourceId"].to_list()
    for name in ("coord_ra", "coord_dec", "x", "y", "psfFlux", "psfFluxErr"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-6, err_msg=name)
    for name in ("tract", "patch", "ccdVisitId", "detect_isPrimary", "psfFlux_flag", "pixelFlags_edge"):
        assert other[name].to_list() == one[name].to_list(), name
    for entry in report.entries:
        assert {"band", "physical_filter", "gaussianFlux", "ixx"} <= set(entry.missing)
        assert not {"coord_ra", "psfFlux", "visit", "psfFlux_flag"} & set(entry.missing)
    assert other.select(pl.col("band", "gaussianFlux", "ixx").null_count()).row(0) == (other.height,) * 3


def test_a_catalogue_whose_data_sum_fails_leaves_no_row_and_comes_in_once_mended(src, tmp_path, settings):
    """The sum is known after the last row, so that good rows have been staged by then."""
    path = tmp_path / "night.fits"
    good = max(src.rglob("*.fits"), key=lambda file: file.stat().st_size).read_bytes()
    path.write_bytes(good)
    rows = fits.getval(path, "NAXIS2", 1)
    at = data_start(path) + fits.getval(path, "NAXIS1", 1) * rows - 1
    put(path, at, bytes([path.read_bytes()[at] ^ 1]))
    wh = Warehouse.create(str(tmp_path / "wh"), settings=settings)
    (refused,) = wh.ingest("Source", str(path)).refused
    assert (list(refused.rules), refused.rows_quarantined) == (["checksum"], rows)
    assert "HDU 1: DATASUM says" in refused.error
    assert wh.scan("Source").collect().height == 0
    assert wh.quarantine("Source")["rules"].to_list() == [["checksum"]]
    path.write_bytes(good)
    assert wh.retry("Source").rows_committed == rows
    assert wh.quarantine("Source").is_empty()
