"""Simulated images: the sky that the tables describe, in the form that LSST's files have."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from support import images
from warehouse import contracts
from warehouse.errors import NotFoundError, QueryError
from warehouse.readers import reader_for
from warehouse.readers.afw import AfwSourceReader
from warehouse.simulate.detection import VISIT_DEPTH
from warehouse.simulate.fits_tables import binary_table, write_fits_tables
from warehouse.simulate.images import pixel_noise, simulate_images
from warehouse.simulate.population import BANDS
from warehouse.simulate.sky import make_sky
from warehouse.simulate.sources import source_pieces
from warehouse.sky import skymap

WHERE = {"ra_deg": 61.218, "dec_deg": -37.0, "radius_deg": 0.05}


def simulated(**changes):
    numbers = {"objects": 500, "visits": 1, "first_visit": 0, "detectors": 1, "seed": 1, "reprocessing": 0} | changes
    return make_sky(contracts.load("dp02"), skymap.named("DC2"), **WHERE, **numbers)


def test_a_visit_image_shows_each_bright_truth_where_it_is(tmp_path):
    one = {"visits": 1, "detectors": 1, "size": (1600, 1600)}
    [path] = images.make(tmp_path, dataset_types=["calexp"], **one)
    sky = simulated()
    with fits.open(path) as opened:
        data, variance, wcs = opened["IMAGE"].data, opened["VARIANCE"].data, WCS(opened["IMAGE"].header)
    band = BANDS.index(path.parts[-4])
    flux = sky.truth.flux_nJy[band]
    x, y = wcs.all_world2pix(sky.truth.ra, sky.truth.dec, 0)
    inside = (x > 30) & (x < 1570) & (y > 30) & (y < 1570)
    bright = np.flatnonzero(inside & (flux > 60_000))
    assert len(bright) > 3
    for i in bright:
        left, low = round(float(x[i])), round(float(y[i]))
        piece = data[low - 10 : low + 11, left - 10 : left + 11]
        peak = np.unravel_index(piece.argmax(), piece.shape)
        assert np.hypot(peak[0] - 10, peak[1] - 10) < 3
        noise = np.sqrt(variance[low - 10 : low + 11, left - 10 : left + 11].sum())
        assert 0.4 * flux[i] - 5 * noise < piece.sum() < 1.6 * flux[i] + 5 * noise


def test_the_sky_is_as_noisy_as_the_visit_is_deep(tmp_path):
    one = {"visits": 1, "detectors": 1, "size": (400, 400), "compression": None}
    [path] = images.make(tmp_path, dataset_types=["goodSeeingDiff_differenceExp"], **one)
    [visit] = simulated().visits
    with fits.open(path) as opened:
        scatter = 1.4826 * np.median(np.abs(opened["IMAGE"].data))
    # Five sigma of a point source, measured over its equivalent area, are the depth.
    sigma_px = visit.seeing_arcsec / 0.2 / 2.355
    depth = 31.4 - 2.5 * np.log10(5 * scatter * np.sqrt(4 * np.pi) * sigma_px)
    assert depth == pytest.approx(visit.depth, abs=0.02)
    assert pixel_noise(VISIT_DEPTH[2], 0.75) > pixel_noise(VISIT_DEPTH[2] + 1, 0.75) > 0


def test_compressions_hold_the_same_pixels_but_for_quantisation(tmp_path):
    one = {"dataset_types": ["calexp"], "visits": 1, "detectors": 1}
    data = {}
    for kind in ("GZIP_2", "RICE_1", None):
        [path] = images.make(tmp_path / str(kind), compression=kind, **one)
        with fits.open(path, disable_image_compression=True) as opened:
            assert opened[1].header.get("ZCMPTYPE") == kind
            assert [hdu.header.get("EXTTYPE") for hdu in opened[1:6]] == [
                "IMAGE", "MASK", "VARIANCE", "ARCHIVE_INDEX", "ARCHIVE_DATA",
            ]  # fmt: skip
        with fits.open(path) as opened:
            data[kind] = [hdu.data for hdu in opened[1:4]]
    for plain, lossless, quantised in zip(data[None], data["GZIP_2"], data["RICE_1"], strict=True):
        np.testing.assert_array_equal(plain, lossless)
        assert np.abs(quantised.astype(float) - plain).max() < max(plain.astype(float).std(), 0.1)
    assert not np.array_equal(data[None][0], data["RICE_1"][0])


def test_the_same_arguments_make_the_same_bytes_whatever_else_is_made(tmp_path):
    # Uncompressed, because gzip writes the time into each tile.
    few = images.make(tmp_path / "few", dataset_types=["calexp"], visits=1, compression=None)
    many = {p.relative_to(tmp_path / "many"): p for p in images.make(tmp_path / "many", compression=None)}
    for path in few:
        assert path.read_bytes() == many[path.relative_to(tmp_path / "few")].read_bytes()


def test_sizes_are_cut_from_the_middle_and_full_is_all(tmp_path, settings):
    place = {**images.SKY, "visits": 1, "detectors": 1, "dataset_types": ["calexp"], "settings": settings}
    [small] = simulate_images(str(tmp_path / "a"), size=(100, 50), **place)
    with fits.open(tmp_path / "a" / small) as opened:
        header = opened["IMAGE"].header
        assert (header["LTV1"], header["LTV2"]) == (-(4072 - 100) // 2, -(4000 - 50) // 2)
    with pytest.raises(QueryError, match="4072 x 4000"):
        simulate_images(str(tmp_path / "b"), size=(5000, 50), **place)
    with pytest.raises(QueryError, match="did you mean calexp"):
        simulate_images(str(tmp_path / "b"), **place | {"dataset_types": ["calexpp"]})
    with pytest.raises(QueryError, match="dp1"):
        simulate_images(str(tmp_path / "b"), release="dp1", **place)


# ------------------------------------------------------------------------------------------------- catalogues


def source_rows(sky):
    [visit] = sky.visits
    [rows] = source_pieces(sky, visit, visit.detectors)
    return rows


def test_a_fits_table_holds_the_rows_that_parquet_holds(tmp_path, settings):
    sky = simulated()
    [path] = write_fits_tables(str(tmp_path), sky, settings, dataset_types=["sourceTable"])
    opened = reader_for(path).open(str(tmp_path / path), settings)
    rows = source_rows(sky)
    assert opened.rows == rows.num_rows
    assert set(opened.schema.names) == set(rows.column_names)
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() or None for field in opened.schema}
    contract = contracts.load("dp02").contract("Source")
    assert {name: units[name] for name in ("psfFlux", "coord_ra", "x")} == {
        name: contract.column(name).unit for name in ("psfFlux", "coord_ra", "x")
    }
    [batch] = opened.batches(["sourceId", "psfFlux", "band", "detect_isPrimary", "ixx"], 1 << 28)
    for name in batch.columns:
        found, expected = batch.get_column(name).to_list(), rows.column(name).to_pylist()
        assert [None if v != v else v for v in found] == [None if v != v else v for v in expected]  # noqa: PLR0124 - NaN


def test_an_object_file_has_all_its_columns(tmp_path, settings):
    sky = simulated()
    view = sky.patches[0]
    only = {"tract": [view.tract], "patch": [view.patch]}
    [path] = write_fits_tables(str(tmp_path), sky, settings, dataset_types=["objectTable"], only=only)
    assert f"/objectTable/{view.tract}/{view.patch}/" in path
    opened = reader_for(path).open(str(tmp_path / path), settings)
    assert (opened.rows, len(opened.schema)) == (view.objects, 991)


def test_an_afw_catalogue_reads_as_the_same_sources(tmp_path, settings):
    sky = simulated()
    [path] = write_fits_tables(str(tmp_path), sky, settings, dataset_types=["src"])
    source = contracts.load("dp02").contract("Source")
    opened = AfwSourceReader(source).open(str(tmp_path / path), settings)
    columns = ["sourceId", "ccdVisitId", "coord_ra", "coord_dec", "x", "psfFlux", "psfFluxErr", "detect_isPrimary"]
    [batch] = opened.batches(columns, 1 << 28)
    rows = source_rows(sky)
    for name in columns:
        found, expected = batch.get_column(name).to_numpy(), rows.column(name).to_numpy()
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-9)


def test_other_catalogues_are_not_written(tmp_path, settings):
    with pytest.raises(NotFoundError, match="objectTable"):
        write_fits_tables(str(tmp_path), simulated(), settings, dataset_types=["objectTabel"])
    assert binary_table(source_rows(simulated()).slice(0, 0), contracts.load("dp02").contract("Source"))
