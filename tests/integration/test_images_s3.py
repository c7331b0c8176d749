"""Images on a real S3 server: headers only, ETags, tiles only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import content, images
from warehouse import Warehouse
from warehouse.images.cutout import cut
from warehouse.images.headers import read_header
from warehouse.images.ranged import Ranged

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    one = {"dataset_types": ["calexp"], "visits": 2, "detectors": 1, "size": (900, 1000)}
    return folder, images.make(folder, **one)


@pytest.fixture
def uploaded(s3, files):
    folder, paths = files
    return {upload(s3, folder, path): path for path in paths}


def upload(s3, folder, path, instead: Path | None = None):
    key = f"tree/{path.relative_to(folder)}"
    s3.server.client().put_object(Bucket=s3.name, Key=key, Body=(instead or path).read_bytes())
    return s3.uri(key)


@pytest.fixture
def wh(s3):
    return Warehouse.create(s3.uri("warehouse"), settings=s3.settings)


def served(monkeypatch):
    """Count the bytes that the store hands out, at the client's last step."""
    from s3fs import S3FileSystem

    counts = []
    call = S3FileSystem._call_s3

    async def counting(self, method, *arguments, **words):
        found = await call(self, method, *arguments, **words)
        if method == "get_object" and words["Key"].endswith(".fits"):
            counts.append(found["ContentLength"])
        return found

    monkeypatch.setattr(S3FileSystem, "_call_s3", counting)
    return counts


def test_registering_reads_headers_and_no_pixels(s3, wh, uploaded, monkeypatch):
    counts = served(monkeypatch)
    report = wh.register_images(s3.uri("tree"))
    total = sum(path.stat().st_size for path in uploaded.values())
    assert (report.new, report.refused) == (2, ())
    assert sum(counts) == report.bytes_read <= 2 * 65_536
    assert total > 5_000_000
    rows = content.rows(wh, "Image")
    assert set(rows.get_column("uri")) == set(uploaded)
    client = s3.server.client()
    for uri, etag in rows.select("uri", "etag").iter_rows():
        assert client.head_object(Bucket=s3.name, Key=uri.removeprefix(f"s3://{s3.name}/"))["ETag"].strip('"') == etag
    counts.clear()
    assert wh.register_images(s3.uri("tree")).nothing_new
    assert counts == []


@pytest.mark.usefixtures("uploaded")
def test_another_etag_is_another_image(s3, wh, files, tmp_path):
    wh.register_images(s3.uri("tree"))
    [other] = images.make(tmp_path, dataset_types=["calexp"], visits=1, detectors=1, size=(60, 60))
    folder, [changed, _] = files
    uri = upload(s3, folder, changed, other)
    report = wh.register_images(s3.uri("tree"))
    assert (report.read, report.changed, report.unchanged) == (1, 1, 1)
    assert content.rows(wh, "Image").filter(uri=uri).get_column("width_px").to_list() == [60]
    assert content.rows(wh, "ObsCore").height == 2


def test_a_cutout_reads_its_tiles_and_equals_the_whole(s3, wh, uploaded, monkeypatch):
    wh.register_images(s3.uri("tree"))
    uri, path = next(iter(uploaded.items()))
    row = content.rows(wh, "Image").filter(uri=uri).row(0, named=True)
    data_id = {"visit": row["visit"], "detector": row["detector"]}
    counts = served(monkeypatch)
    whole = wh.get("calexp", **data_id)
    assert sum(counts) == path.stat().st_size
    counts.clear()
    piece = wh.cutout(row["ra_deg"], row["dec_deg"], 4, dataset_type="calexp", **data_id)
    assert sum(counts) < path.stat().st_size / 5
    x, y = whole.wcs.all_world2pix(*piece.wcs.all_pix2world(0, 0, 0), 0)
    left, low = round(float(x)), round(float(y))
    np.testing.assert_array_equal(piece.data, whole.data[low : low + 20, left : left + 20])
    np.testing.assert_array_equal(piece.flags, whole.flags[low : low + 20, left : left + 20])


def test_what_was_read_of_a_file_is_counted(s3, uploaded):
    uri = next(iter(uploaded))
    file = Ranged(uri, s3.settings)
    place = read_header(uri, s3.settings)
    cut(uri, place.ra_deg, place.dec_deg, 2, s3.settings, file=file)
    assert 0 < file.bytes_read < file.size / 4
    assert file.reads < 20
