"""The same rows through FITS and through Parquet make equal tables; units are converted, or refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.table import MaskedColumn, Table
from polars.testing import assert_frame_equal

from warehouse import Warehouse
from warehouse.simulate import simulate

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


def content(wh):
    frame = wh.scan("Source").collect()
    return frame.select(sorted(frame.columns)).sort("sourceId")


def test_fits_and_parquet_make_equal_tables(tree, tmp_path, settings):
    parquet = Warehouse.create(str(tmp_path / "a"), settings=settings)
    fits = Warehouse.create(str(tmp_path / "b"), settings=settings)
    one = parquet.ingest("Source", str(tree))
    other = fits.ingest("Source", str(in_fits(tree, tmp_path / "in")))
    assert other.rows_committed == one.rows_committed > 0
    assert other.rows_quarantined == one.rows_quarantined == 0
    assert_frame_equal(content(fits), content(parquet))


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
    assert_frame_equal(content(wh), content(reference))
