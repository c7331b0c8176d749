"""What headers say of an image, and how little of the file is read for it."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time

from support import images
from warehouse.errors import InputError
from warehouse.images.headers import read_all, read_header
from warehouse.simulate.observing import detector_to_sky, plan_visits
from warehouse.sky import skymap


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return images.make(tmp_path_factory.mktemp("tree"))


def visit():
    return plan_visits(1, images.SKY["ra"], images.SKY["dec"], images.SKY["radius"], 1, 0, 2)[0]


def test_a_visit_image_lies_where_the_focal_plane_puts_its_pixels(files, settings):
    header = read_header(str(images.of(files, "calexp")[0]), settings)
    x, y = header.x0 + np.array([-0.5, 127.5, 127.5, -0.5]), header.y0 + np.array([-0.5, -0.5, 95.5, 95.5])
    ra, dec = detector_to_sky(visit(), visit().detectors[0], x, y)
    np.testing.assert_allclose(np.array(header.corners), np.stack([ra, dec], axis=1), rtol=0, atol=1e-9)
    ra, dec = detector_to_sky(visit(), visit().detectors[0], header.x0 + 63.5, header.y0 + 47.5)
    assert (header.ra_deg, header.dec_deg) == pytest.approx((float(ra), float(dec)), abs=1e-9)
    off_axis = float(
        SkyCoord(ra, dec, unit="deg").separation(SkyCoord(visit().ra_deg, visit().dec_deg, unit="deg")).deg
    )
    assert header.pixel_arcsec == pytest.approx(
        0.2 * np.cos(np.radians(off_axis)) ** 1.5, rel=1e-7
    )  # as a gnomonic plane has it
    assert header.radius_deg == pytest.approx(np.hypot(64, 48) * 0.2 / 3600, rel=1e-4)


def test_a_coadd_lies_in_its_tracts_pixels(files, settings):
    path = images.of(files, "deepCoadd")[0]
    header = read_header(str(path), settings)
    tract = int(path.parts[path.parts.index("deepCoadd") + 1])
    ra, dec = skymap.named("DC2").to_sky(
        tract, header.x0 + np.array([-0.5, 127.5, 127.5, -0.5]), header.y0 + np.array([-0.5, -0.5, 95.5, 95.5])
    )
    np.testing.assert_allclose(np.array(header.corners), np.stack([ra, dec], axis=1), rtol=0, atol=1e-9)


def test_the_exposure_is_told(files, settings):
    header = read_header(str(images.of(files, "goodSeeingDiff_differenceExp")[0]), settings)
    pointing = header.pointing
    assert pointing.mid_mjd == pytest.approx(visit().mid_mjd, abs=1e-10)  # microseconds are 1e-11 d
    assert pointing.begin_mjd == pytest.approx(visit().mid_mjd - 15 / 86_400, abs=1e-10)
    assert (pointing.exposure_seconds, pointing.sky_rotation_deg) == (30.0, visit().rotation_deg)
    assert (pointing.ra_deg, pointing.dec_deg) == (visit().ra_deg, visit().dec_deg)
    assert header.data_id["visit"] == visit().visit
    assert header.data_id["detector"] == visit().detectors[0]


def test_planes_are_read_and_not_known(files, settings):
    by_type = {name: read_header(str(images.of(files, name)[0]), settings).planes for name in ("calexp", "deepCoadd")}
    assert by_type["calexp"]["NO_DATA"] == 8
    assert by_type["deepCoadd"]["NO_DATA"] == 7
    assert by_type["deepCoadd"]["SENSOR_EDGE"] == 8


@pytest.mark.parametrize(("compression", "told"), [(None, None), ("GZIP_2", "GZIP_2"), ("RICE_1", "RICE_1")])
def test_compression_is_told_and_changes_nothing_else(tmp_path, settings, compression, told):
    [path] = images.make(tmp_path, visits=1, detectors=1, compression=compression, dataset_types=["calexp"])
    header = read_header(str(path), settings)
    assert header.compression == told
    assert (header.width, header.height, header.bunit) == (128, 96, "nJy")


def test_pixels_are_not_read(tmp_path, settings):
    [path] = images.make(tmp_path, visits=1, detectors=1, size=(1500, 1000), compression=None, dataset_types=["calexp"])
    header = read_header(str(path), settings)
    assert path.stat().st_size > 17_000_000
    assert header.bytes_read <= 70_000
    assert header.reads <= 3
    assert header.planes


def test_a_header_longer_than_a_read_is_read_on(tmp_path, settings):
    history = {f"KEY{number:05}": number for number in range(2000)}
    path = images.write_single(
        tmp_path / "long.fits", np.zeros((9, 7), np.float32), images.wcs_cards(), primary=history
    )
    header = read_header(str(path), settings)
    assert (header.width, header.height) == (7, 9)
    assert header.bytes_read > 2000 * 80


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE-AVG": "2022-10-17T03:12:45.5", "TIMESYS": "TAI"}, Time("2022-10-17T03:12:45.5", scale="tai").mjd),
        ({"DATE-AVG": "2022-10-17T03:12:45.5", "TIMESYS": "UTC"}, Time("2022-10-17T03:12:45.5", scale="utc").tai.mjd),
        ({"DATE-AVG": "2022-10-17T03:12:45.5"}, Time("2022-10-17T03:12:45.5", scale="utc").tai.mjd),
        ({"DATE-OBS": "2022-10-17T03:12:45", "TIMESYS": "TAI", "EXPTIME": 30.0}, 59869.0 + (11565 + 15) / 86400),
        ({"DATE-AVG": "soon", "TIMESYS": "TAI"}, None),
        ({}, None),
    ],
)
def test_times_are_tai_whatever_the_header_keeps(tmp_path, settings, cards, expected):
    path = images.write_single(tmp_path / "a.fits", np.zeros((4, 4), np.float32), images.wcs_cards(), primary=cards)
    found = read_header(str(path), settings).pointing.mid_mjd
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_other_frames_become_icrs(tmp_path, settings):
    cards = images.wcs_cards(ra=10.0, dec=20.0) | {"RADESYS": "FK4", "EQUINOX": 1950.0}
    path = images.write_single(tmp_path / "a.fits", np.zeros((1, 1), np.float32), cards)
    header = read_header(str(path), settings)
    # B1950 (10, 20) precessed to J2000 moves by two thirds of a degree.
    assert header.ra_deg == pytest.approx(10.658, abs=0.002)
    assert header.dec_deg == pytest.approx(20.274, abs=0.002)


def test_an_image_across_ra_zero_has_corners_on_both_sides(tmp_path, settings):
    cards = images.wcs_cards(ra=0.0, dec=0.0, centre=(49.5, 49.5))
    header = read_header(str(images.write_single(tmp_path / "a.fits", np.zeros((100, 100)), cards)), settings)
    ra = [corner[0] for corner in header.corners]
    assert min(ra) < 0.01
    assert 359.9 < max(ra) < 360
    assert header.radius_deg == pytest.approx(np.hypot(50, 50) * 0.2 / 3600, rel=1e-6)


def test_the_butlers_provenance_tells_the_data_id(tmp_path, settings):
    primary = {
        "LSST BUTLER DATASETTYPE": "deepCoadd",
        "LSST BUTLER RUN": "u/someone/run",
        "LSST BUTLER DATAID TRACT": 4431,
        "LSST BUTLER DATAID PATCH": 17,
        "LSST BUTLER DATAID BAND": "i",
    }
    cards = {f"HIERARCH {name}": value for name, value in primary.items()}
    path = images.write_single(tmp_path / "a.fits", np.zeros((4, 4)), images.wcs_cards(), primary=cards)
    header = read_header(str(path), settings)
    assert (header.dataset_type, header.run) == ("deepCoadd", "u/someone/run")
    assert header.data_id == {"tract": 4431, "patch": 17, "band": "i"}


# ------------------------------------------------------------------------------------------------- refusals


def refusal(path, settings) -> InputError:
    with pytest.raises(InputError) as caught:
        read_header(str(path), settings)
    assert caught.value.uri == str(path)
    return caught.value


def test_files_that_are_no_images_are_refused_with_the_reason(tmp_path, settings, files):
    text = tmp_path / "text.fits"
    text.write_text("hello")
    assert refusal(text, settings).kind == "not_fits"
    table = tmp_path / "table.fits"
    fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))]).writeto(table)
    assert refusal(table, settings).kind == "no_image"
    cube = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(cube)
    assert refusal(cube, settings).kind == "no_image"
    short = tmp_path / "short.fits"
    short.write_bytes(files[0].read_bytes()[:20_000])
    assert refusal(short, settings).kind == "truncated"
    packed = tmp_path / "packed.fits"
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    assert "gunzip" in refusal(packed, settings).message
    assert refusal(tmp_path / "none.fits", settings).kind == "vanished"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CTYPE1": None}, "CTYPE1 is absent"),
        ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "expected RA and Dec"),
        ({"CD1_1": 0.0, "CD2_2": 0.0}, "world coordinates"),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CD1_1": 3.0, "CD2_2": 3.0}, "a corner nowhere"),
    ],
)
def test_an_image_that_lies_nowhere_is_refused(tmp_path, settings, change, words):
    cards = {k: v for k, v in (images.wcs_cards() | change).items() if v is not None}
    error = refusal(images.write_single(tmp_path / "a.fits", np.zeros((100, 100)), cards), settings)
    assert error.kind == "wcs"
    assert words in error.message


def test_many_are_read_in_their_order_and_one_bad_one_stops_itself_alone(files, tmp_path, settings):
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no")
    items = [(str(p), p.stat().st_size) for p in (files[0], bad, files[1])]
    first, refused, last = read_all(items, settings)
    assert isinstance(refused, InputError)
    assert first == read_header(items[0][0], settings)
    assert last == read_header(items[2][0], settings)
    assert list(read_all([], settings)) == []
