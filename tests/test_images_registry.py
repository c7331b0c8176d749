"""Registering images: each once, again when it changed, never in silence; and Visit and CcdVisit from headers."""

from __future__ import annotations

import gzip
import os
import shutil

import numpy as np
import polars as pl
import pytest

from support import content, images
from warehouse import Warehouse
from warehouse.errors import ConflictError, NotFoundError, QueryError
from warehouse.images import recording
from warehouse.images.headers import read_header
from warehouse.lake import delta
from warehouse.sky.regions import Polygon

TABLES = ("Image", "ObsCore")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    images.make(folder)
    return folder


@pytest.fixture
def tree(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tree")


@pytest.fixture
def wh(tmp_path, settings):
    return Warehouse.create(str(tmp_path / "warehouse"), settings=settings)


def fits_files(tree, name=""):
    return sorted(path for path in tree.rglob("*.fits") if name in str(path))


def test_each_image_is_one_row_of_image_and_of_obscore(wh, tree):
    report = wh.register_images(str(tree))
    assert (report.listed, report.read, report.new, report.changed, report.refused) == (12, 12, 12, 0, ())
    for table in TABLES:
        rows = content.rows(wh, table)
        assert rows.height == 12
        assert rows.get_column("input_id").n_unique() == 12
    found = {row["uri"]: row for row in content.rows(wh, "Image").iter_rows(named=True)}
    assert set(found) == {str(path) for path in fits_files(tree)}
    for path in fits_files(tree):
        header, row = read_header(str(path), wh.settings), found[str(path)]
        assert row["size_bytes"] == path.stat().st_size
        assert list(zip(row["corners_ra_deg"], row["corners_dec_deg"], strict=True)) == list(header.corners)
        assert (row["width_px"], row["height_px"], row["x0_px"], row["y0_px"]) == (128, 96, header.x0, header.y0)
        assert row["mask_planes"] == list(header.planes)


def test_data_ids_come_from_paths(wh, tree):
    wh.register_images(str(tree))
    rows = content.rows(wh, "Image")
    visits = rows.filter(dataset_type="calexp")
    assert set(visits.get_column("physical_filter")) == {"i_sim_1.4", "r_sim_1.4"}
    assert visits.get_column("band").to_list() == [name[0] for name in visits.get_column("physical_filter")]
    coadds = rows.filter(dataset_type="deepCoadd")
    for uri, tract, patch, band in coadds.select("uri", "tract", "patch", "band").iter_rows():
        assert f"/deepCoadd/{tract}/{patch}/{band}/" in uri
    assert coadds.get_column("mid_time_mjd").null_count() == coadds.height


def test_obscore_says_what_headers_know(wh, tree):
    wh.register_images(str(tree))
    rows = content.rows(wh, "ObsCore")
    published = [column.name for column in wh.root.contract("ObsCore").columns]
    assert len(published) == 37
    image = content.rows(wh, "Image").filter(dataset_type="calexp").row(0, named=True)
    row = rows.filter(access_url=image["uri"]).row(0, named=True)
    assert row["dataproduct_subtype"] == "lsst.calexp"
    assert row["calib_level"] == 2
    assert row["lsst_ccdvisitid"] == image["visit"] * 1000 + image["detector"]
    assert (row["t_max"] - row["t_min"]) * 86_400 == pytest.approx(30, abs=1e-4)
    assert (row["t_max"] + row["t_min"]) / 2 == pytest.approx(image["mid_time_mjd"], abs=1e-9)
    words = row["s_region"].split()
    assert words[:2] == ["POLYGON", "ICRS"]
    np.testing.assert_allclose(np.array(words[2::2], float), image["corners_ra_deg"], atol=1e-9)
    coadd = rows.filter(dataproduct_subtype="lsst.deepCoadd").row(0, named=True)
    assert coadd["calib_level"] == 3
    assert coadd["lsst_visit"] is None
    assert coadd["t_min"] is None
    assert coadd["obs_id"] == f"DC2-{coadd['lsst_tract']}-{coadd['lsst_patch']}"


def test_a_row_names_every_patch_whose_outer_box_the_image_reaches(wh, tree):
    wh.register_images(str(tree))
    sky = wh.skymap
    for row in content.rows(wh, "Image").iter_rows(named=True):
        corners = Polygon(tuple(zip(row["corners_ra_deg"], row["corners_dec_deg"], strict=True)))
        tract, patch = sky.outer_candidates(corners)
        ra, dec = (np.linspace(min(v), max(v), 40) for v in (row["corners_ra_deg"], row["corners_dec_deg"]))
        ra, dec = (grid.ravel() for grid in np.meshgrid(ra, dec))
        inside = corners.contains(ra, dec)
        reached = [
            t * sky.patches_per_tract + p
            for t, p in zip(tract.tolist(), patch.tolist(), strict=True)
            if sky.in_outer(t, p, ra[inside], dec[inside]).any()
        ]
        assert set(reached) <= set(row["touches"])
        assert row["tract"] * sky.patches_per_tract + row["patch"] in row["touches"]


def test_rows_lie_in_the_partition_of_their_middle(wh, tree):
    wh.register_images(str(tree))
    rows = content.rows(wh, "ObsCore")
    tract, patch = wh.skymap.find(rows.get_column("s_ra"), rows.get_column("s_dec"))
    assert rows.get_column("tract").to_list() == tract.tolist()
    assert rows.get_column("patch").to_list() == patch.tolist()
    for table in TABLES:
        assert len(set(content.live_files(wh, table).values())) > 1
    assert all(finding.holds for finding in wh.audit())


def test_registering_again_writes_nothing_and_reads_nothing(wh, tree):
    wh.register_images(str(tree))
    before = content.files_below(tree.parent / "warehouse")
    report = wh.register_images(str(tree))
    assert (report.nothing_new, report.read, report.unchanged, report.bytes_read) == (True, 0, 12, 0)
    assert content.files_below(tree.parent / "warehouse") == before


def test_a_changed_image_replaces_its_row_in_one_version(wh, tree, tmp_path):
    wh.register_images(str(tree))
    [changed] = images.make(
        tmp_path / "other", dataset_types=["calexp"], visits=1, detectors=1, size=(64, 64), compression="RICE_1"
    )
    target = tree / changed.relative_to(tmp_path / "other")
    before = {table: content.rows(wh, table) for table in TABLES}
    shutil.copy(changed, target)
    report = wh.register_images(str(tree))
    assert (report.read, report.new, report.changed, report.unchanged) == (1, 0, 1, 11)
    for table, column in zip(TABLES, ("uri", "access_url"), strict=True):
        assert report.versions[table] == 2
        rows = content.rows(wh, table)
        assert rows.height == 12
        own = pl.col(column) == str(target)
        assert rows.filter(~own).equals(before[table].filter(~own))
    row = content.rows(wh, "Image").filter(uri=str(target)).row(0, named=True)
    assert (row["width_px"], row["compression"]) == (64, "RICE_1")
    assert content.rows(wh, "Image", version=1).equals(before["Image"])
    assert all(finding.holds for finding in wh.audit())


def test_an_image_that_cannot_be_read_is_refused_by_name_and_stops_nobody(wh, tree):
    bad = fits_files(tree, "/calexp/")[0]
    good = bad.read_bytes()
    bad.write_bytes(good[:9000])
    report = wh.register_images(str(tree))
    assert (report.new, len(report.refused)) == (11, 1)
    assert report.refused[0][0] == str(bad)
    refused = wh.history("Image").filter(status="refused")
    assert refused.get_column("uri").to_list() == [str(bad)]
    assert wh.register_images(str(tree)).read == 0  # as long as it has not changed
    bad.write_bytes(good)
    assert wh.register_images(str(tree)).new == 1
    assert content.rows(wh, "Image").height == 12


def test_a_broken_redelivery_leaves_the_row_that_it_should_replace(wh, tree):
    wh.register_images(str(tree))
    before = content.rows(wh, "Image")
    fits_files(tree, "/calexp/")[0].write_bytes(b"SIMPLE  =")
    assert len(wh.register_images(str(tree)).refused) == 1
    assert content.rows(wh, "Image").equals(before)
    assert wh.register_images(str(tree)).nothing_new


def test_the_later_run_counts_whichever_comes_first(wh, tmp_path):
    def delivery(run):
        folder = tmp_path / run
        images.make(folder, dataset_types=["calexp"], visits=1, detectors=1, run=run)
        return str(folder)

    early, late = "runs/20240101T000000Z", "runs/20250101T000000Z"
    wh.register_images(delivery(late))
    report = wh.register_images(delivery(early))
    assert (report.new, report.changed) == (0, 0)
    assert any("later run" in why for _, why in report.left_aside)
    assert content.rows(wh, "Image").get_column("run").to_list() == [late]
    latest = "runs/20260101T000000Z"
    assert wh.register_images([delivery(latest), str(tmp_path / early)]).changed == 1
    assert content.rows(wh, "Image").get_column("run").to_list() == [latest]


def test_vanished_images_stay_until_told_otherwise(wh, tree):
    wh.register_images(str(tree))
    gone = fits_files(tree, "/deepCoadd/")[0]
    gone.unlink()
    assert wh.register_images(str(tree)).nothing_new
    report = wh.register_images(str(tree), remove_vanished=True)
    assert report.removed == 1
    for table, column in zip(TABLES, ("uri", "access_url"), strict=True):
        rows = content.rows(wh, table)
        assert rows.height == 11
        assert str(gone) not in set(rows.get_column(column))


def test_a_crash_between_the_two_tables_is_healed_by_the_next_run(wh, tree, monkeypatch):
    commit = delta.commit

    def dying(base, *arguments, **words):
        if base.uri.endswith("ObsCore"):
            raise KeyboardInterrupt
        return commit(base, *arguments, **words)

    monkeypatch.setattr(recording.delta, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        wh.register_images(str(tree))
    monkeypatch.undo()
    assert content.rows(wh, "Image").height == 12
    report = wh.register_images(str(tree))
    assert (report.read, report.new) == (12, 0)
    assert content.rows(wh, "Image").height == content.rows(wh, "ObsCore").height == 12
    assert delta.snapshot(wh.root.table_uri("Image"), wh.settings).version == 1


def test_of_two_that_register_at_once_none_writes_a_row_twice(wh, tree, monkeypatch):
    commit, raced = delta.commit, []

    def overtaken(base, *arguments, **words):
        if not raced and base.uri.endswith("/Image"):
            raced.append(True)
            wh.register_images(str(tree))
        return commit(base, *arguments, **words)

    monkeypatch.setattr(recording.delta, "commit", overtaken)
    report = wh.register_images(str(tree))
    assert report.new == 0
    assert content.rows(wh, "Image").height == content.rows(wh, "ObsCore").height == 12


def test_one_that_always_loses_gives_up_with_a_conflict(wh, tree, monkeypatch):
    def lose(*_, **__):
        raise ConflictError("lost")

    monkeypatch.setattr(recording.delta, "commit", lose)
    with pytest.raises(ConflictError, match="overtaken"):
        wh.register_images(str(tree))


# --------------------------------------------------------------------------------------------- what is an image


def test_catalogues_and_other_files_are_left_aside(wh, tree):
    for name in ("objectTable/4431/17/objectTable_4431_17.fits", "deepCoadd_meas_4431_17_i.fits"):
        path = tree / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    report = wh.register_images(str(tree))
    assert report.listed == 12
    assert {os.path.basename(uri) for uri, _ in report.left_aside} == {  # noqa: PTH119 - a URI
        "objectTable_4431_17.fits",
        "deepCoadd_meas_4431_17_i.fits",
    }


def test_an_image_gzipped_as_a_whole_is_left_aside_with_the_reason(wh, tree):
    plain, twice = fits_files(tree, "/calexp/")[:2]
    zipped = {}
    for path in (plain, twice):
        zipped[path] = path.with_name(f"{path.name}.gz")
        zipped[path].write_bytes(gzip.compress(path.read_bytes(), 1))
    plain.unlink()
    report = wh.register_images(str(tree))
    assert (report.listed, report.new, report.refused) == (11, 11, ())
    aside = dict(report.left_aside)
    assert set(aside) == {str(path) for path in zipped.values()}
    assert all("gunzip it" in why for why in aside.values())
    assert str(twice) in set(content.rows(wh, "Image").get_column("uri"))
    with pytest.raises(NotFoundError, match=r"fits\.gz: it is compressed as a whole.*gunzip it"):
        wh.register_images(str(zipped[plain]))


def test_a_plain_file_is_what_it_is_told_to_be(wh, tree, tmp_path):
    plain = tmp_path / "plain" / "mine.fits"
    plain.parent.mkdir()
    shutil.copy(fits_files(tree, "/calexp/")[0], plain)
    assert "dataset type" in wh.register_images(str(plain)).refused[0][1]
    plain.touch()
    report = wh.register_images(str(plain), dataset_type="calexp")
    assert report.new == 1
    [row] = content.rows(wh, "Image").iter_rows(named=True)
    assert row["dataset"] == f"calexp visit={row['visit']} detector={row['detector']}"
    coadd = tmp_path / "coadd.fits"
    shutil.copy(fits_files(tree, "/deepCoadd/")[0], coadd)
    assert "tract, patch" in wh.register_images(str(coadd), dataset_type="deepCoadd").refused[0][1]
    coadd.touch()
    assert wh.register_images(str(coadd), dataset_type="deepCoadd", tract=4431, patch=17, band="i").new == 1


def test_what_is_not_there_is_said(wh, tree):
    with pytest.raises(NotFoundError, match="no file"):
        wh.register_images(str(tree / "nowhere"))
    with pytest.raises(NotFoundError, match="calexp"):
        wh.register_images(str(tree), dataset_type="calexpp")
    with pytest.raises(QueryError, match="integer"):
        wh.register_images(str(tree), dataset_type="calexp", visit="many")
    (tree.parent / "empty").mkdir()
    (tree.parent / "empty" / "a.txt").write_text("")
    with pytest.raises(NotFoundError, match="no FITS file"):
        wh.register_images(str(tree.parent / "empty"))


def test_globs_and_single_files_are_listed(wh, tree):
    assert wh.register_images(str(tree / "**" / "calexp" / "**" / "*.fits")).new == 4
    assert wh.register_images([str(path) for path in fits_files(tree, "/deepCoadd/")[:2]]).new == 2


# --------------------------------------------------------------------------------------------- Visit and CcdVisit


def test_visits_are_filled_from_headers(wh, tree):
    wh.register_images(str(tree))
    visits, detectors = content.rows(wh, "Visit"), content.rows(wh, "CcdVisit")
    assert (visits.height, detectors.height) == (2, 4)
    header = read_header(str(fits_files(tree, "/calexp/")[0]), wh.settings)
    row = visits.filter(visit=header.data_id["visit"]).row(0, named=True)
    assert row["decl"] == header.pointing.dec_deg
    assert row["altitude"] + row["zenithDistance"] == pytest.approx(90)
    assert row["expMidpt"].timestamp() / 86_400 + 40587 == pytest.approx(header.pointing.mid_mjd, abs=1)
    one = detectors.filter(ccdVisitId=header.data_id["visit"] * 1000 + header.data_id["detector"]).row(0, named=True)
    assert (one["xSize"], one["ySize"]) == (128, 96)
    corners = dict(zip(("ll", "lr", "ur", "ul"), header.corners, strict=True))
    assert {name: (one[f"{name}cra"], one[f"{name}cdec"]) for name in corners} == corners
    assert one["zeroPoint"] is None


def test_more_images_add_visits_and_leave_the_others(wh, original, tmp_path):
    wh.register_images(str(original))
    before = content.rows(wh, "CcdVisit")
    images.make(tmp_path / "more", dataset_types=["calexp"], visits=1, first_visit=5)
    wh.register_images(str(tmp_path / "more"))
    after = content.rows(wh, "CcdVisit")
    assert (before.height, after.height) == (4, 6)
    assert after.join(before, on=after.columns, how="semi", nulls_equal=True).height == 4
    assert all(finding.holds for finding in wh.audit("Visit", "CcdVisit"))


def test_a_detectors_row_follows_its_image(wh, tree, tmp_path):
    wh.register_images(str(tree))
    [changed] = images.make(tmp_path / "other", dataset_types=["calexp"], visits=1, detectors=1, size=(64, 64))
    shutil.copy(changed, tree / changed.relative_to(tmp_path / "other"))
    wh.register_images(str(tree))
    assert sorted(content.rows(wh, "CcdVisit").get_column("xSize")) == [64, 128, 128, 128]
    assert content.rows(wh, "Visit").height == 2
    assert all(finding.holds for finding in wh.audit("CcdVisit"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConflictError])
@pytest.mark.parametrize("table", ["Image", "ObsCore", "Visit", "CcdVisit"])
def test_a_run_that_ends_before_a_table_is_committed_is_healed_by_the_next_one(wh, tree, monkeypatch, table, error):
    commit = delta.commit

    def dying(base, *arguments, **words):
        if base.uri.endswith(f"/{table}"):
            raise error("here")
        return commit(base, *arguments, **words)

    monkeypatch.setattr(delta, "commit", dying)
    with pytest.raises(error):
        wh.register_images(str(tree))
    monkeypatch.undo()
    assert content.rows(wh, table).height == 0
    wh.register_images(str(tree))
    heights = {name: content.rows(wh, name).height for name in (*TABLES, "Visit", "CcdVisit")}
    assert heights == {"Image": 12, "ObsCore": 12, "Visit": 2, "CcdVisit": 4}
    assert wh.register_images(str(tree)).nothing_new
    assert all(finding.holds for finding in wh.audit())


def test_the_tables_own_file_takes_the_place_of_what_headers_told(wh, tree, tmp_path):
    from support import skies

    wh.register_images(str(tree))
    tables = skies.make(tmp_path / "tables", ["visitTable", "ccdVisitTable"], visits=3)
    for table in ("Visit", "CcdVisit"):
        report = wh.ingest(table, str(tables))
        assert report.rows_committed == content.rows(wh, table).height
    assert content.rows(wh, "CcdVisit").get_column("zeroPoint").null_count() == 0
    images.make(tmp_path / "more", dataset_types=["calexp"], visits=1, first_visit=7)
    report = wh.register_images(str(tmp_path / "more"))
    assert set(report.versions) == set(TABLES)
    assert content.rows(wh, "Visit").height == 3
    assert all(finding.holds for finding in wh.audit("Visit", "CcdVisit"))
