"""Images found: by place, time and band, by data id, and the one that shows a position."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from support import images
from warehouse import Box, Cone, Polygon, Warehouse
from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.query import Patch, Tract


@pytest.fixture(scope="module")
def wh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    images.make(folder / "tree")
    # One across RA 0, and two visits of one detector at one place, where tracts and patches meet.
    for visit, ra, dec in ((900001, 0.0, 0.0), (900002, 61.218, -37.0), (900003, 61.218, -37.0)):
        cards = images.wcs_cards(ra, dec, centre=(249.5, 199.5))
        path = folder / "tree" / "run" / "calexp" / f"calexp_{visit}_5.fits"
        images.write_single(path, np.zeros((400, 500), np.float32), cards)
    opened = Warehouse.create(str(folder / "warehouse"), settings=Settings(memory=512 << 20, workers=2))
    opened.register_images(str(folder / "tree"))
    return opened


@pytest.fixture(scope="module")
def rows(wh):
    return wh.images().collect()


def names(frame):
    return sorted(frame.collect().get_column("dataset"))


def pixel_distance(row, ra, dec):
    """Return how far from the image's pixels a position is, in pixels, 0 inside: astropy's WCS, and plane geometry."""
    with fits.open(row["uri"]) as opened:
        wcs = WCS(opened[1].header)
        height, width = opened[1].shape
    x, y = wcs.all_world2pix(ra, dec, 0)
    return np.hypot(
        np.maximum(np.maximum(-0.5 - x, x - width + 0.5), 0), np.maximum(np.maximum(-0.5 - y, y - height + 0.5), 0)
    )


def test_a_cone_finds_the_images_that_it_reaches_and_no_others(wh, rows):
    generator = np.random.default_rng(5)
    checked = 0
    for _ in range(25):
        row = rows.row(int(generator.integers(rows.height)), named=True)
        ra = row["ra_deg"] + generator.normal(0, 0.006) / math.cos(math.radians(row["dec_deg"]))
        dec, radius = row["dec_deg"] + generator.normal(0, 0.006), abs(generator.normal(0, 0.003))
        found = set(names(wh.images(Cone(ra, dec, radius))))
        for other in rows.filter((pl.col("dec_deg") - dec).abs() < 1, (pl.col("ra_deg") - ra).abs() < 1).to_dicts():
            away = pixel_distance(other, ra, dec) * 0.2 / 3600
            if abs(away - radius) > 1e-6:  # off the axis, pixels are not quite 0.2 arcsec
                assert (other["dataset"] in found) == (away < radius), (other["dataset"], away, radius)
                checked += 1
    assert checked > 100


def test_every_patch_that_an_image_touches_finds_it(wh, rows):
    patches = wh.skymap.patches_per_tract
    several = rows.filter(pl.col("touches").list.len() > 1)
    assert several.height
    for row in rows.iter_rows(named=True):
        for packed in row["touches"]:
            tract, patch = divmod(packed, patches)
            assert row["dataset"] in names(wh.images(Patch(tract, patch)))
            assert row["dataset"] in names(wh.images(Tract(tract)))
            assert row["dataset"] in names(wh.images([Tract(0), Patch(tract, patch)]))
    assert names(wh.images(Tract(0))) == []
    assert names(wh.images([])) == []


def test_image_and_obscore_are_scanned_by_the_sky_that_they_cover(wh, rows):
    def scanned(place):
        of_image = wh.scan("Image", place, columns=["uri"]).collect().to_series().sort().to_list()
        of_obscore = wh.scan("ObsCore", place).collect().get_column("access_url").sort().to_list()
        assert of_image == of_obscore == wh.images(place).collect().get_column("uri").sort().to_list(), place
        return of_image

    elsewhere = 0
    for row in rows.iter_rows(named=True):
        for packed in row["touches"]:
            tract, patch = divmod(packed, wh.skymap.patches_per_tract)
            for place in (Patch(tract, patch), Tract(tract), [Tract(0), Patch(tract, patch)]):
                assert row["uri"] in scanned(place)
            elsewhere += (tract, patch) != (row["tract"], row["patch"])
        for share in (0.0, 0.95, 1.05):  # from the middle through the first corner and beyond
            ra, dec = row["corners_ra_deg"][0], row["corners_dec_deg"][0]
            d_ra = (ra - row["ra_deg"] + 180) % 360 - 180
            cone = Cone(row["ra_deg"] + share * d_ra, row["dec_deg"] + share * (dec - row["dec_deg"]), 0.0)
            assert (row["uri"] in scanned(cone)) == (share < 1)
            for table in ("Image", "ObsCore"):
                own = f"/{table}/tract={row['tract']}/patch={row['patch']}/"
                assert share > 1 or any(own in path for path in wh.files(table, cone))
    assert elsewhere > 5
    assert scanned([]) == scanned(Tract(0)) == []
    assert len(scanned(None)) == 15


@pytest.mark.parametrize("table", ["Image", "ObsCore"])
def test_a_scan_by_place_opens_few_files_of_images(wh, table):
    assert len(wh.files(table, Cone(0.0, 0.0, 0.001))) == 1
    assert len(wh.files(table)) > 1
    with pytest.raises(QueryError, match="primary"):
        wh.scan(table, Cone(0.0, 0.0, 0.001), primary=True)
    assert wh.scan(table, Cone(0.0, 0.0, 0.001), version=0).collect().height == 0


def test_counts_are_of_images(wh, rows):
    assert rows.height == rows.get_column("dataset").n_unique() == 15
    tables = wh.tables().filter(pl.col("table").is_in(["Image", "ObsCore"]))
    assert tables.get_column("rows").to_list() == [15, 15]
    assert wh.images(Tract(int(rows.get_column("touches")[0][0]) // wh.skymap.patches_per_tract)).collect().height <= 15


@pytest.mark.parametrize("ra", [0.0, 359.999, 0.001])
def test_an_image_across_ra_zero_is_found_from_both_sides(wh, ra):
    assert names(wh.images(Cone(ra, 0.0, 0.0))) == ["calexp visit=900001 detector=5"]
    assert names(wh.images(Box(ra - 0.001, ra + 0.001, -0.001, 0.001))) == ["calexp visit=900001 detector=5"]
    square = [(ra - 0.001, -0.001), (ra + 0.001, -0.001), (ra + 0.001, 0.001), (ra - 0.001, 0.001)]
    assert names(wh.images(Polygon(tuple(square)))) == ["calexp visit=900001 detector=5"]


def test_a_small_region_leaves_out_files(wh):
    read = []
    opened = wh._registered(None)
    from dataclasses import replace

    from warehouse.images import finding

    spying = replace(opened, read=lambda files: read.append(files.height) or opened.read(files))
    finding.images(spying, [Cone(0.0, 0.0, 0.001)])
    assert read == [1]
    assert opened.files.height > 1


def test_bands_times_and_types_narrow(wh, rows):
    visit = rows.filter(dataset_type="calexp", band="r").row(0, named=True)
    same = rows.filter(mid_time_mjd=visit["mid_time_mjd"]).get_column("dataset").sort().to_list()
    moment = visit["mid_time_mjd"]
    assert names(wh.images(time=(moment - 1e-6, moment + 1e-6))) == same
    # TAI is 37 seconds ahead of UTC since 2017.
    utc = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=moment) - timedelta(seconds=37)
    assert names(wh.images(time=(utc - timedelta(seconds=1), utc + timedelta(seconds=1)))) == same
    naive = utc.replace(tzinfo=None)
    assert names(wh.images(time=(naive - timedelta(seconds=1), naive + timedelta(seconds=1)))) == same
    assert set(wh.images(band="g").collect().get_column("band")) == {"g"}
    assert set(wh.images(dataset_type="deepCoadd", band="i").collect().get_column("dataset_type")) == {"deepCoadd"}
    with pytest.raises(QueryError, match="MJD"):
        wh.images(time=("yesterday", "today"))
    with pytest.raises(NotFoundError, match="calexp"):
        wh.images(dataset_type="calexpp")


def test_dataset_types_are_those_of_which_images_are_registered_beside_the_catalogues(wh):
    found = {row["dataset_type"]: (row["dimensions"], row["table"]) for row in wh.dataset_types().to_dicts()}
    of_images = {name for name, (_, table) in found.items() if table == "Image"}
    assert of_images == {"calexp", "goodSeeingDiff_differenceExp", "deepCoadd"}
    assert found["calexp"] == ("visit, detector", "Image")
    assert found["deepCoadd"] == ("tract, patch, band", "Image")
    assert found["objectTable"] == ("tract, patch", "Object")
    assert set(wh.dataset_types("*oadd")["dataset_type"]) == {"deepCoadd"}
    with pytest.raises(NotFoundError, match="did you mean calexp"):
        wh.dataset_types("calexpp")


def test_data_ids_of_images_are_their_dimensions_and_files(wh, rows):
    calexps = rows.filter(dataset_type="calexp")
    assert wh.data_ids("calexp").rows() == sorted(calexps.select("visit", "detector", "uri").rows())
    visit = calexps["visit"][0]
    one = wh.data_ids("calexp", visit=visit)
    assert one.columns == ["visit", "detector", "uri"]
    assert one.rows() == sorted(calexps.filter(visit=visit).select("visit", "detector", "uri").rows())
    coadds = rows.filter(dataset_type="deepCoadd", band="i").select("tract", "patch", "band", "uri")
    assert wh.data_ids("deepCoadd", band="i").rows() == sorted(coadds.rows())
    assert wh.data_ids("calexp", version=0).height == wh.data_ids("calexp", visit=1).height == 0
    with pytest.raises(QueryError, match="did you mean visit"):
        wh.data_ids("calexp", vist=1)


def test_where_none_are_registered_the_message_says_how(tmp_path):
    empty = Warehouse.create(str(tmp_path / "warehouse"))
    assert "calexp" not in set(empty.dataset_types()["dataset_type"])
    for ask in (lambda: empty.data_ids("calexp"), lambda: empty.get("calexp", visit=1, detector=1), empty.images):
        with pytest.raises(NotFoundError, match="`tractlake images register URI` makes it"):
            ask()
    with pytest.raises(NotFoundError, match="did you mean calexp"):
        empty.get("calexpp", visit=1)


def test_images_can_be_asked_for_as_of_a_version(wh):
    assert wh.images(version=0).collect().height == 0
    assert wh.images(version=1).collect().height == 15


# --------------------------------------------------------------------------------------------- one image


def first(rows, dataset_type):
    return rows.filter(dataset_type=dataset_type).sort("dataset").row(0, named=True)


def test_a_data_id_gives_its_image(wh, rows):
    for dataset_type, keys in (
        ("calexp", ("visit", "detector")),
        ("goodSeeingDiff_differenceExp", ("visit", "detector")),
        ("deepCoadd", ("tract", "patch", "band")),
    ):
        row = first(rows, dataset_type)
        image = wh.get(dataset_type, **{key: row[key] for key in keys})
        with fits.open(row["uri"]) as opened:
            np.testing.assert_array_equal(image.data, opened[1].data)
    row = first(rows, "calexp")
    named = wh.get("calexp", visit=np.int64(row["visit"]), detector="R22_S01", skymap="DC2", instrument="LSSTCam-imSim")
    assert named.meta["DETECTOR"] == 91


@pytest.mark.parametrize(
    ("dataset_type", "data_id", "error", "words"),
    [
        ("calexp", {"visit": 192350}, QueryError, r"fits several images: .*detector=.*; its dimensions are visit"),
        ("deepCoadd", {}, QueryError, "several"),
        ("calexp", {"visit": 192351, "detector": 91}, NotFoundError, "nearest are calexp visit=192350 detector=91"),
        ("calexp", {"visit": 192350, "detector": 92}, NotFoundError, "calexp visit=192350 detector=91"),
        ("calexp", {"vist": 1}, QueryError, "did you mean visit"),
        ("calexp", {"visit": "late", "detector": 1}, QueryError, "expected an integer, found 'late'"),
        ("calexp", {"visit": True, "detector": 1}, QueryError, "expected an integer"),
        ("deepCoadd", {"band": 3}, QueryError, "expected a word, found 3"),
        ("calexp", {"skymap": "other", "visit": 1}, NotFoundError, "this warehouse's, which is 'DC2'"),
        ("deepCoadd_calexp", {"tract": 1, "patch": 1, "band": "i"}, NotFoundError, "none of this type"),
    ],
)
def test_a_data_id_that_fits_none_or_several_says_which_there_are(wh, dataset_type, data_id, error, words):
    with pytest.raises(error, match=words):
        wh.get(dataset_type, **data_id)


def test_an_image_has_no_columns_and_one_form(wh):
    with pytest.raises(QueryError, match="image"):
        wh.get("calexp", columns=["visit"], visit=1, detector=1)
    with pytest.raises(QueryError, match="image"):
        wh.get("calexp", format="pandas", visit=1, detector=1)


def test_a_cutout_comes_from_the_coadd_in_whose_own_patch_the_position_lies(wh, rows):
    row = first(rows, "deepCoadd")
    image = wh.cutout(row["ra_deg"], row["dec_deg"], 4, band=row["band"])
    x, y = image.wcs.all_world2pix(row["ra_deg"], row["dec_deg"], 0)
    assert image.shape == (20, 20)
    assert (x, y) == pytest.approx((9.5, 9.5), abs=0.51)
    with pytest.raises(QueryError, match="say which band"):
        wh.cutout(row["ra_deg"], row["dec_deg"], 4)
    with pytest.raises(NotFoundError, match="degrees away"):
        wh.cutout(row["ra_deg"] + 5, row["dec_deg"], 4, band=row["band"])
    with pytest.raises(NotFoundError, match="nearest are deepCoadd"):
        wh.cutout(row["ra_deg"], row["dec_deg"], 4, band="y")


def test_of_several_visits_the_caller_chooses(wh, rows):
    row = first(rows, "calexp")
    place = row["ra_deg"], row["dec_deg"], 2
    data_id = {"visit": row["visit"], "detector": row["detector"]}
    assert wh.cutout(*place, dataset_type="calexp", **data_id).shape == (10, 10)
    with pytest.raises(
        QueryError, match="calexp visit=900002 detector=5; calexp visit=900003 detector=5; say which visit"
    ):
        wh.cutout(61.218, -37.0, 2, dataset_type="calexp", detector=5)
    assert wh.cutout(61.218, -37.0, 2, dataset_type="calexp", visit=900003).shape == (10, 10)
