"""The footprint is a PNG of the patches, their colours, and their tracts' numbers."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from warehouse.errors import QueryError, StorageError
from warehouse.query import footprint as drawing
from warehouse.query.footprint import footprint
from warehouse.sky import skymap
from warehouse.sky.regions import Cone

SKY = skymap.named("DC2")


def info(region, rows=None):
    tract, patch = SKY.candidates(region)
    return pl.DataFrame({"tract": tract, "patch": patch, "rows": rows or list(range(1, len(tract) + 1))})


def texts(figure):
    return {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("centre", [(359.9, -40.0), (10.0, -90.0)])
def test_a_png_is_drawn_wherever_the_footprint_lies(tmp_path, centre):
    path = footprint(info(Cone(*centre, 0.8)), SKY, tmp_path / "deep" / "map.png", title="Object")
    image = imread(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert min(image.shape[:2]) > 500
    assert len(np.unique((image[..., :3] * 16).astype(int).reshape(-1, 3), axis=0)) > 50


def test_patches_lie_where_the_sky_map_puts_them_and_east_is_left():
    patches = info(Cone(62.0, -37.0, 0.5))
    figure = drawing._drawn(patches, SKY, "")
    axes = figure.axes[0]
    left, right = axes.get_xlim()
    assert left > right
    assert axes.get_aspect() == pytest.approx(1 / np.cos(np.radians(-37.0)), rel=0.01)
    drawn = [path.vertices[:4] for path in axes.collections[0].get_paths()]
    np.testing.assert_allclose(drawn, SKY.patch_polygon(patches["tract"].to_numpy(), patches["patch"].to_numpy()))
    assert axes.collections[0].get_array().tolist() == patches["rows"].to_list()
    assert texts(figure) == {str(tract) for tract in patches["tract"].unique()}


def test_across_ra_0_the_map_is_one_piece():
    figure = drawing._drawn(info(Cone(0.1, -10.0, 0.6)), SKY, "")
    left, right = figure.axes[0].get_xlim()
    assert 1.0 < left - right < 3.0
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert all(0 <= float(label) < 360 for label in labels if label)


def test_the_title_counts_what_is_drawn():
    patches = pl.DataFrame({"tract": [3831, 3831, 4030], "patch": [0, 1, 0], "rows": [1500, 20, 1]})
    counted = "1,521 rows in 3 patches of 2 tracts"
    assert drawing._drawn(patches, SKY, "").axes[0].get_title(loc="left") == counted
    named = drawing._drawn(patches, SKY, "Object").axes[0]
    assert (named.get_title(loc="left"), named.get_title(loc="right")) == ("Object", counted)
    one = drawing._drawn(patches.tail(1), SKY, "").axes[0].get_title(loc="left")
    assert one == "1 row in 1 patch of 1 tract"


def test_drawing_leaves_matplotlib_s_global_state_alone(tmp_path):
    before = sys.modules.get("matplotlib.pyplot")
    footprint(info(Cone(62.0, -37.0, 0.1)), SKY, tmp_path / "map.png")
    assert sys.modules.get("matplotlib.pyplot") is before


def test_a_map_that_cannot_be_written_leaves_the_one_in_its_place(tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_text("an earlier map")

    def full(_self, out, **_):
        out.write_text("half of th")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(StorageError, match="no space left"):
        footprint(info(Cone(62.0, -37.0, 0.1)), SKY, path)
    assert path.read_text() == "an earlier map"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_nothing_to_draw_and_nowhere_to_write_are_refused(tmp_path):
    nothing = info(Cone(62.0, -37.0, 0.1)).with_columns(rows=0)
    with pytest.raises(QueryError, match="no rows"):
        footprint(nothing, SKY, tmp_path / "map.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/map\.png"):
        footprint(info(Cone(62.0, -37.0, 0.1)), SKY, tmp_path / "file" / "map.png")
