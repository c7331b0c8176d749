"""CoaddPatches: the sky map's patches of every tract that some table has rows in."""

from __future__ import annotations

import polars as pl
import pytest

from support import content, skies
from warehouse.errors import ConflictError
from warehouse.ingest.generated import write_coadd_patches
from warehouse.lake import delta

TABLE = "CoaddPatches"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), ["objectTable", "visitTable"])


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, ["objectTable", "visitTable"])


def tracts(wh):
    return (
        sorted(content.rows(wh, TABLE)["lsst_tract"].unique()) if delta.exists(f"{wh.uri}/{TABLE}", wh.settings) else []
    )


def test_an_ingest_brings_the_patches_of_its_tracts(world):
    wh = world.warehouse
    wh.ingest("Visit", str(world.tree))
    assert tracts(wh) == []
    wh.ingest("Object", str(world.tree))
    held = sorted(content.rows(wh, "Object")["tract"].unique())
    rows = content.rows(wh, TABLE)
    assert len(held) > 1
    assert tracts(wh) == held
    assert rows.height == len(held) * wh.skymap.patches_per_tract
    assert rows.select("lsst_tract", "lsst_patch").is_unique().all()
    for ra, dec, tract, patch in rows.select("s_ra", "s_dec", "lsst_tract", "lsst_patch").iter_rows():
        corners = wh.skymap.patch_polygon(tract, patch, outer=True)
        assert corners[:, 1].min() < dec < corners[:, 1].max()
        assert (corners[:, 0].min() < ra < corners[:, 0].max()) or corners[:, 0].max() > 359
    assert wh.history(TABLE)["rows_committed"].sum() == rows.height
    assert all(finding.holds for finding in wh.audit())


def test_what_is_there_is_not_written_again_and_new_tracts_are_added(world):
    wh = world.warehouse
    assert write_coadd_patches(wh.root, {3830}, wh.settings) == 1
    assert write_coadd_patches(wh.root, {3830}, wh.settings) is None
    assert write_coadd_patches(wh.root, set(), wh.settings) is None
    assert write_coadd_patches(wh.root, {3830, 3831, 0}, wh.settings) == 2
    assert tracts(wh) == [0, 3830, 3831]
    assert content.rows(wh, TABLE).group_by("input_id").len()["len"].unique().to_list() == [49]


def test_a_crash_before_they_are_written_is_healed_by_the_next_run(world, monkeypatch):
    wh = world.warehouse
    with monkeypatch.context() as patch:
        patch.setattr("warehouse.ingest.generated.write_coadd_patches", _crash)
        with pytest.raises(skies.CrashError):
            wh.ingest("Object", str(world.tree))
    assert tracts(wh) == []
    assert wh.ingest("Object", str(world.tree)).nothing_new
    assert tracts(wh) == sorted(content.rows(wh, "Object")["tract"].unique())


def _crash(*_arguments, **_words):
    raise skies.CrashError


def test_writers_that_meet_add_each_tract_once(world, monkeypatch):
    wh = world.warehouse
    commit, met = delta.commit, []

    def overtaken(*arguments, **words):
        if not met:
            met.append(True)
            write_coadd_patches(wh.root, {3830}, wh.settings)
        return commit(*arguments, **words)

    monkeypatch.setattr(delta, "commit", overtaken)
    write_coadd_patches(wh.root, {3830, 3831}, wh.settings)
    rows = content.rows(wh, TABLE)
    assert rows.group_by("lsst_tract").len().sort("lsst_tract").rows() == [(3830, 49), (3831, 49)]


def test_one_that_is_always_overtaken_gives_up(world, monkeypatch):
    def lost(*_arguments, **_words):
        raise ConflictError("another was first")

    monkeypatch.setattr(delta, "commit", lost)
    with pytest.raises(ConflictError, match="overtaken"):
        write_coadd_patches(world.warehouse.root, {3830}, world.warehouse.settings)


def test_the_region_is_the_outer_box(world):
    wh = world.warehouse
    write_coadd_patches(wh.root, {3831}, wh.settings)
    [region] = content.rows(wh, TABLE).filter(pl.col("lsst_patch") == 17)["s_region"]
    words = region.split()
    assert words[:2] == ["POLYGON", "ICRS"]
    assert [float(word) for word in words[2:]] == pytest.approx(
        wh.skymap.patch_polygon(3831, 17, outer=True).ravel().tolist(), abs=1e-9
    )
