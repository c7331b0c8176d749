"""The footprint is a PNG of the patches, their colours, and their tracts' numbers."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from matplotlib.path import Path

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


def area(piece):
    (x, y), (x2, y2) = piece.T, np.roll(piece, -1, axis=0).T
    return abs(float((x * y2 - x2 * y).sum())) / 2


@pytest.mark.parametrize("name", ["DC2", "lsst_cells_v1"])
@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_at_a_pole_the_patches_cover_the_map_once(name, pole):
    sky = skymap.named(name)
    tract, patch = sky.find(10.0, pole)
    around = np.arange(sky.patches_per_tract)
    pieces, whose = drawing._pieces(sky.patch_polygon(tract, around), 180.0)
    corners = np.concatenate(pieces)
    np.testing.assert_allclose([corners[:, 0].min(), corners[:, 0].max()], [0.0, 360.0])
    # The patch that holds the pole is the band from its edge to the pole, all around.
    bands = [piece for piece, owner in zip(pieces, whose, strict=True) if owner == patch]
    assert {dec for piece in bands for dec in piece[:, 1] if abs(dec) == 90.0} == {pole}
    assert sum(np.ptp(piece[piece[:, 1] == pole][:, 0]) for piece in bands) == pytest.approx(360.0)
    # Where a position lies on the map is where the sky map says: in one piece, of its own patch.
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0.01, 359.99, 400), pole - np.sign(pole) * rng.uniform(0.01, 0.5, 400)
    found = sky.find_patch(tract, ra, dec)
    x, y = sky.to_pixels(tract, ra, dec)
    for here, owner, *pixel in zip(np.stack([ra, dec], axis=-1), found, x, y, strict=True):
        beyond = (np.array(pixel) + 0.5) % sky.grid.inner
        if min(*beyond, *(sky.grid.inner - beyond)) < 20:
            continue  # nearer to an edge than straight pieces of a great circle are
        held = [whose[i] for i, piece in enumerate(pieces) if Path(piece).contains_point(here)]
        assert held == [owner]


def test_what_the_edge_of_the_map_cuts_goes_on_at_its_other_side():
    corners = np.array([[[359.0, 10.0], [1.0, 10.0], [1.0, 11.0], [359.0, 11.0]]])
    pieces, whose = drawing._pieces(corners, 180.0)
    assert sorted(np.ptp(piece[:, 0]) for piece in pieces) == pytest.approx([1.0, 1.0])
    assert sorted(piece[:, 0].mean() for piece in pieces) == pytest.approx([0.5, 359.5])
    assert whose.tolist() == [0, 0]
    assert sum(map(area, pieces)) == pytest.approx(2.0)
    [whole], _ = drawing._pieces(corners, 0.0)
    assert area(whole) == pytest.approx(2.0)


def test_an_edge_that_turns_far_is_the_great_circle():
    corners = np.array([[[100.0, 85.0], [160.0, 85.0], [160.0, 80.0], [100.0, 80.0]]])
    [piece], _ = drawing._pieces(corners, 130.0)
    # Of the arc between two positions the middle is their vectors' sum.
    ends = np.radians([[100.0, 85.0], [160.0, 85.0]])
    xyz = [[np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)] for a, d in ends]
    x, y, z = np.sum(xyz, axis=0)
    top = piece[np.isclose(piece[:, 0], 130.0)][:, 1].max()
    assert top == pytest.approx(np.degrees(np.arctan2(z, np.hypot(x, y))), abs=1e-9)


def places(figure):
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def test_a_tracts_number_stands_at_its_centre_where_the_map_reaches_it():
    full = drawing._drawn(info(Cone(62.0, -37.0, 1.5)), SKY, "")
    tract = int(SKY.find_tract(62.0, -37.0))
    assert places(full)[str(tract)] == pytest.approx([float(v) for v in SKY.tract_centre(tract)])
    few = pl.DataFrame({"tract": [tract], "patch": [0], "rows": [1]})
    assert places(drawing._drawn(few, SKY, ""))[str(tract)] == pytest.approx(
        SKY.patch_polygon(tract, 0).min(axis=0) / 2 + SKY.patch_polygon(tract, 0).max(axis=0) / 2
    )


@pytest.mark.parametrize("dec", [89.9, -89.9])
def test_no_number_stands_off_a_map_of_a_pole(dec):
    figure = drawing._drawn(info(Cone(10.0, dec, 1.2)), SKY, "")
    (left, right), (low, high) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert (left, right) == (360.0, 0.0)
    assert all(right < x < left and low < y < high for x, y in places(figure).values())


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
