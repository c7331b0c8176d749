"""Pixels: whole images and pieces of them, against what astropy reads of the same files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, VarianceUncertainty
from astropy.wcs import WCS

from support import images
from warehouse.errors import InputError, NotFoundError, QueryError, StorageError
from warehouse.images.cutout import cut, write
from warehouse.images.pixels import plane, read_image
from warehouse.images.ranged import Ranged
from warehouse.images.show import draw

KINDS = ("GZIP_2", "RICE_1", None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One calexp in each compression: the same pixels, but for what quantisation takes."""
    folder = tmp_path_factory.mktemp("pixels")
    one = {"dataset_types": ["calexp"], "visits": 1, "detectors": 1, "size": (300, 200)}
    return {kind: images.make(folder / str(kind), compression=kind, **one)[0] for kind in KINDS}


@pytest.fixture(scope="module")
def coadd(tmp_path_factory):
    return images.make(tmp_path_factory.mktemp("coadd"), dataset_types=["deepCoadd"], patches=1, bands="r")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_what_astropy_reads(files, settings, kind):
    image = read_image(str(files[kind]), settings)
    assert isinstance(image, CCDData)
    with fits.open(files[kind]) as opened:
        np.testing.assert_array_equal(image.data, opened["IMAGE"].data)
        np.testing.assert_array_equal(image.flags, opened["MASK"].data)
        assert isinstance(image.uncertainty, VarianceUncertainty)
        np.testing.assert_array_equal(image.uncertainty.array, opened["VARIANCE"].data)
        planes = {card.keyword[3:]: card.value for card in opened["MASK"].header.cards if card.keyword[:3] == "MP_"}
        for name, bit in planes.items():
            np.testing.assert_array_equal(plane(image, name), opened["MASK"].data >> bit & 1 == 1)
        x, y = [0.0, 299.0, 17.25], [0.0, 199.0, 30.5]
        np.testing.assert_allclose(
            image.wcs.all_pix2world(x, y, 0), WCS(opened["IMAGE"].header).all_pix2world(x, y, 0), rtol=0, atol=1e-12
        )
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    assert image.unit == "nJy"
    assert image.meta["EXPTIME"] == 30.0
    assert "CRPIX1" not in image.meta


def test_only_planes_of_no_measurement_mask(files, settings):
    image = read_image(str(files["GZIP_2"]), settings)
    expected = plane(image, "BAD") | plane(image, "SAT") | plane(image, "CR") | plane(image, "NO_DATA")
    np.testing.assert_array_equal(image.mask, expected)
    assert plane(image, "EDGE").sum() > image.mask.sum() > 0
    with pytest.raises(NotFoundError, match="did you mean DETECTED"):
        plane(image, "DETECTD")


def test_planes_are_numbered_by_the_header(coadd, files, settings):
    for path in (coadd, files[None]):
        image = read_image(str(path), settings)
        assert plane(image, "EDGE")[0].all()
        assert not plane(image, "EDGE")[20, 20:-20].any()
        assert not plane(image, "NO_DATA").any()


def test_a_plain_image_without_mask_and_unit_can_be_read(tmp_path, settings):
    data = np.arange(12, dtype=np.int16).reshape(3, 4)
    image = read_image(str(images.write_single(tmp_path / "a.fits", data, images.wcs_cards())), settings)
    assert (image.mask, image.uncertainty, image.unit) == (None, None, "adu")
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize("how", ["primary", "GZIP_2", "gzip"])
def test_pixels_without_a_place_on_the_sky_can_be_read_all_the_same(tmp_path, settings, how):
    data = np.random.default_rng(1).normal(size=(64, 80)).astype(np.float32)
    path = tmp_path / "a.fits.fz"
    if how in {"primary", "gzip"}:
        fits.PrimaryHDU(data).writeto(path)
        path.write_bytes(gzip.compress(path.read_bytes()) if how == "gzip" else path.read_bytes())
    else:
        fits.CompImageHDU(data, compression_type=how, quantize_level=0).writeto(path)
    image = read_image(str(path), settings)
    np.testing.assert_array_equal(image.data, data)
    assert image.wcs is None


def test_damage_is_an_input_error_that_names_the_file(files, tmp_path, settings):
    content = files["GZIP_2"].read_bytes()
    for name, damaged in {
        "short.fits": content[: len(content) // 2],
        "flipped.fits": content[:100_000] + bytes(2000) + content[102_000:],
        "empty.fits": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            read_image(str(path), settings)
        assert caught.value.uri == str(path)
    with pytest.raises(InputError) as caught:
        read_image(str(tmp_path / "none.fits"), settings)
    assert caught.value.kind == "vanished"


def test_a_mask_of_another_shape_is_refused(tmp_path, settings):
    parts = [fits.ImageHDU(np.zeros((4, 5), np.float32), fits.Header(images.wcs_cards()), name="IMAGE")]
    parts.append(fits.ImageHDU(np.zeros((4, 4), np.int32), name="MASK"))
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"its MASK has \(4, 4\) pixels, its IMAGE \(5, 4\)"):
        read_image(str(tmp_path / "a.fits"), settings)


# ------------------------------------------------------------------------------------------------- cutouts


def place(path, settings, x, y):
    ra, dec = read_image(str(path), settings).wcs.all_pix2world(x, y, 0)
    return float(ra), float(dec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "y", "size"), [(150.2, 99.7, 5), (150.2, 99.7, 0.1), (3.3, 1.2, 6), (299.2, 199.3, 4)])
def test_a_cutout_is_the_piece_that_astropy_would_cut(files, settings, kind, x, y, size):
    path = files[kind]
    ra, dec = place(path, settings, x, y)
    found = cut(str(path), ra, dec, size, settings)
    side = max(1, round(size / 0.2))
    assert found.shape == (side, side)
    with fits.open(path) as opened:
        expected = {
            name: Cutout2D(opened[name].data, (x, y), side, mode="partial", fill_value=fill).data
            for name, fill in (("IMAGE", np.nan), ("MASK", 1 << 8), ("VARIANCE", np.nan))
        }
    np.testing.assert_array_equal(found.data, expected["IMAGE"])
    np.testing.assert_array_equal(found.flags, expected["MASK"])
    np.testing.assert_array_equal(found.uncertainty.array, expected["VARIANCE"])
    assert found.mask[np.isnan(found.data)].all()


@pytest.mark.parametrize("which", ["calexp", "deepCoadd"])
def test_a_cutouts_coordinates_are_the_images(files, coadd, settings, which):
    path = files["GZIP_2"] if which == "calexp" else coadd
    whole = read_image(str(path), settings)
    ra, dec = place(path, settings, 20.3, 30.8)
    found = cut(str(path), ra, dec, 8, settings)
    x, y = found.wcs.all_world2pix(ra, dec, 0)
    first_x, first_y = 20.3 - x, 30.8 - y
    assert (first_x, first_y) == pytest.approx((round(first_x), round(first_y)), abs=1e-6)
    assert found.data[25, 30] == whole.data[25 + round(first_y), 30 + round(first_x)]
    assert found.meta["LTV1"] == whole.meta["LTV1"] - round(first_x)
    assert found.wcs.pixel_shape == (40, 40)


def test_a_cutouts_distortion_stays_where_it_was(tmp_path, settings):
    bent = {
        "CTYPE1": "RA---TAN-SIP",
        "CTYPE2": "DEC--TAN-SIP",
        "A_ORDER": 2,
        "B_ORDER": 2,
        "A_2_0": 3e-5,
        "B_1_1": 5e-5,
    }
    cards = images.wcs_cards(centre=(20.0, 30.0)) | bent
    path = images.write_single(tmp_path / "a.fits", np.zeros((300, 400), np.float32), cards)
    original = WCS(fits.getheader(path, 1))
    ra, dec = (float(value) for value in original.all_pix2world(333, 222, 0))
    found = cut(str(path), ra, dec, 6, settings)
    x, y = found.wcs.all_world2pix(ra, dec, 0)
    assert (x, y) == pytest.approx((14.5, 14.5), abs=0.51)
    np.testing.assert_allclose(
        found.wcs.all_pix2world([0, 29], [0, 29], 0),
        original.all_pix2world(333 - x + np.array([0, 29]), 222 - y + np.array([0, 29]), 0),
        atol=1e-9,
    )
    assert abs(original.wcs_pix2world(333, 222, 0)[0] - ra) > 1e-4  # it is distorted


def test_only_the_tiles_that_are_needed_are_read(tmp_path, settings):
    one = {"dataset_types": ["calexp"], "visits": 1, "detectors": 1, "size": (1000, 1200)}
    [path] = images.make(tmp_path, **one)
    file = Ranged(str(path), settings)
    ra, dec = place(path, settings, 500, 600)
    cut(str(path), ra, dec, 4, settings, file=file)
    assert file.bytes_read < path.stat().st_size / 6
    assert file.reads < 20


def test_a_position_outside_is_said_to_be(files, settings):
    path = str(files["GZIP_2"])
    ra, dec = place(path, settings, 310, 100)
    with pytest.raises(NotFoundError, match=r"outside the image: at pixel \(310.0, 100.0\), of 300 x 200") as caught:
        cut(path, ra, dec, 5, settings)
    assert caught.value.kind == "outside"
    with pytest.raises(NotFoundError, match="nowhere near it"):
        cut(path, ra + 180, -dec, 5, settings)


@pytest.mark.parametrize("size", [0, -1, float("nan"), 1e6])
def test_a_size_that_is_none_is_refused(files, settings, size):
    ra, dec = place(files["GZIP_2"], settings, 100, 100)
    with pytest.raises(QueryError, match="size_arcsec"):
        cut(str(files["GZIP_2"]), ra, dec, size, settings)
    with pytest.raises(QueryError, match="Dec"):
        cut(str(files["GZIP_2"]), ra, 95.0, 1, settings)


def test_an_image_without_a_mask_gets_no_data_where_it_ends(tmp_path, settings):
    path = images.write_single(tmp_path / "a.fits", np.ones((20, 20), np.int16), images.wcs_cards())
    found = cut(str(path), 62.0, -37.0, 4, settings)
    assert np.isnan(found.data).sum() == found.mask.sum() == 400 - 10 * 10
    np.testing.assert_array_equal(plane(found, "NO_DATA"), found.mask)


# ------------------------------------------------------------------------------------------------- pictures


def picture(path):
    from matplotlib.image import imread

    return imread(path)


def test_a_picture_shows_sources_white_and_no_data_blue(coadd, settings, tmp_path):
    image = read_image(str(coadd), settings)
    y, _ = np.unravel_index(image.data.argmax(), image.shape)
    ra, dec = place(coadd, settings, 2, y)
    path = draw(cut(str(coadd), ra, dec, 20, settings), str(tmp_path / "new" / "edge.png"), title="edge")
    pixels = picture(path)
    assert min(pixels.shape[:2]) > 800
    blue = (np.abs(pixels[..., :3] * 255 - [0x27, 0x40, 0x5E]).max(axis=2) < 2).mean()
    assert blue > 0.2
    whole = picture(draw(image, str(tmp_path / "whole.png")))
    assert not (np.abs(whole[..., :3] * 255 - [0x27, 0x40, 0x5E]).max(axis=2) < 2).mean() > 0.001
    assert whole[..., :3].std() > 0.1


def test_flat_and_empty_images_can_be_drawn(tmp_path, settings):
    for name, data in {"flat": np.ones((30, 2000), np.float32), "empty": np.full((40, 40), np.nan, np.float32)}.items():
        path = images.write_single(tmp_path / f"{name}.fits", data, images.wcs_cards())
        assert draw(read_image(str(path), settings), str(tmp_path / f"{name}.png")).stat().st_size > 1000


def test_a_picture_is_a_png_in_a_folder_that_can_be_written(coadd, settings, tmp_path):
    image = read_image(str(coadd), settings)
    with pytest.raises(QueryError, match="png"):
        draw(image, str(tmp_path / "a.jpg"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        draw(image, str(tmp_path / "file" / "a.png"))


@pytest.mark.parametrize("ending", ["png", "fits"])
def test_what_cannot_be_written_leaves_the_file_in_its_place(coadd, settings, tmp_path, monkeypatch, ending):
    image = read_image(str(coadd), settings)
    path = tmp_path / "out" / f"a.{ending}"
    path.parent.mkdir()
    path.write_text("an earlier one")

    def full(_self, out, **_):
        out.write_text("half of th")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    monkeypatch.setattr(CCDData, "write", full)
    with pytest.raises(StorageError, match=r"[Nn]o space left"):
        draw(image, str(path)) if ending == "png" else write(image, path)
    assert path.read_text() == "an earlier one"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
