"""Regions: what they hold, what they refuse, and that their expression says the same."""

import math
import sys

import mocpy
import numpy as np
import polars as pl
import pytest
from astropy import units
from numpy.testing import assert_allclose, assert_array_equal

from warehouse.errors import QueryError
from warehouse.sky import skymap, sphere
from warehouse.sky.moc import Moc
from warehouse.sky.regions import Box, Cone, Polygon

MAS = 1 / 3_600_000  # degrees
ARCSEC = 1 / 3600
SQUARE = Polygon(((61.0, -38.0), (63.0, -38.0), (63.0, -36.0), (61.0, -36.0)))


def expressed(region, ra, dec):
    frame = pl.DataFrame({"r": ra, "d": dec})
    return frame.select(inside=region.expr("r", "d"))["inside"].to_list()


@pytest.mark.parametrize("dec", [-89.9, -37.0, 0.0, 45.0, 89.999])
@pytest.mark.parametrize("radius", [0.01 * ARCSEC, ARCSEC, 0.5])
def test_a_cone_turns_at_its_radius_to_a_tenth_of_a_milliarcsecond(dec, radius):
    cone = Cone(359.99999, dec, radius)
    # Due north and south of the centre an angle is a difference of declinations.
    steps = np.array([-radius - 0.1 * MAS, -radius + 0.1 * MAS, radius - 0.1 * MAS, radius + 0.1 * MAS])
    steps = steps[np.abs(dec + steps) <= 90]
    expected = np.abs(steps) < radius
    assert_array_equal(cone.contains(359.99999, dec + steps), expected)
    assert expressed(cone, np.full(len(steps), 359.99999), dec + steps) == expected.tolist()


@pytest.mark.parametrize("radius", [179.0, 180 - ARCSEC, 180 - 0.01 * ARCSEC])
def test_a_wide_cone_is_as_exact(radius):
    cone = Cone(10.0, -37.0, radius)
    # Beyond the point opposite to the centre, angles shrink again.
    dec = 37.0 + (180 - radius) + np.array([0.1 * MAS, -0.1 * MAS])
    assert cone.contains(190.0, dec).tolist() == [True, False]
    assert expressed(cone, [190.0, 190.0], dec) == [True, False]


def test_a_cone_without_radius_holds_its_centre_only():
    cone = Cone(62.3, -37.1, 0)
    assert cone.contains([62.3, 62.3], [-37.1, -37.1 + 0.1 * MAS]).tolist() == [True, False]
    assert expressed(cone, [62.3, 62.3], [-37.1, -37.1 + 0.1 * MAS]) == [True, False]


def test_a_cone_of_180_degrees_is_the_sky():
    assert Cone(10, 20, 180).contains([10, 190, 0], [20, -20, 90]).all()


@pytest.mark.parametrize(
    ("region", "boxes"),
    [
        (Cone(0, 0, 1), ((359, 360, -1, 1), (0, 1, -1, 1))),
        (Cone(180, 89.5, 1), ((0, 360, 88.5, 90),)),
        (Cone(180, 0, 90), ((0, 360, -90, 90),)),
        (Cone(180, 60, 30 - 1e-6), ((90.01, 269.99, 30, 90),)),
        (Box(350, 10, -5, 5), ((350, 360, -5, 5), (0, 10, -5, 5))),
        (Box(-180, 180, -5, 5), ((0, 360, -5, 5),)),
        (Polygon(((359, -1), (1, -1), (1, 1), (359, 1))), ((359, 360, -1.0, 1.00015), (0, 1, -1.0, 1.00015))),
        (Polygon(((0, 80), (120, 80), (240, 80))), ((0, 360, 80, 90),)),
    ],
)
def test_bounds(region, boxes):
    found = region.bounds()
    assert len(found) == len(boxes)
    assert_allclose(found, boxes, atol=0.02)
    assert all(0 <= west <= east <= 360 and -90 <= low <= high <= 90 for west, east, low, high in found)


def test_the_bounds_of_a_polygon_reach_where_its_edge_culminates():
    # The great circle through (0, 45) and (90, 45) culminates half-way, at tan(dec) = tan(45) / cos(45).
    polygon = Polygon(((0, 45), (90, 45), (45, 0)))
    (_, _, low, high) = polygon.bounds()[0]
    assert_allclose((low, high), (0, math.degrees(math.atan(math.sqrt(2)))), atol=1e-6)
    assert polygon.contains(45, [54.7, 54.8]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("box", "ra", "dec", "inside"),
    [
        (Box(350, 10, -1, 1), [350, 349.999, 0, 360, 10, 10.001], 0, [1, 0, 1, 1, 1, 0]),
        (Box(10, 350, -1, 1), [350, 349.999, 0, 10, 10.001], 0, [1, 1, 0, 1, 1]),
        (Box(-10, 10, -1, 1), [-5, 355, 5, 15], 0, [1, 1, 1, 0]),
        (Box(0, 360, 89, 90), [0, 123, 359.9], [90, 89, 88.999], [1, 1, 0]),
        (Box(5, 365, -1, 1), [0, 4, 180], 0, [1, 1, 1]),
        (Box(7, 7, -1, 1), [7, 7.0001], 0, [1, 0]),
        (Box(350, 360, -1, 1), [355, 0, 1], 0, [1, 1, 0]),
    ],
)
def test_boxes(box, ra, dec, inside):
    assert box.contains(ra, dec).tolist() == [bool(i) for i in inside]


def test_a_polygon_has_great_circles_for_edges():
    # North of the straight parallel, south of the arc, at Dec -36: the arc bulges towards the south pole.
    half_way = math.degrees(math.atan(math.tan(math.radians(-36)) / math.cos(math.radians(1))))
    assert SQUARE.contains(62, [half_way - MAS, half_way + MAS]).tolist() == [True, False]
    assert expressed(SQUARE, [62, 62], [half_way - MAS, half_way + MAS]) == [True, False]


def test_the_winding_of_a_polygon_is_free():
    ra, dec = np.random.default_rng(1).uniform((60, -39), (64, -35), (500, 2)).T
    other = Polygon(SQUARE.vertices[::-1])
    assert_array_equal(other.contains(ra, dec), SQUARE.contains(ra, dec))
    assert 0 < SQUARE.contains(ra, dec).sum() < 500


def test_a_polygon_of_a_few_milliarcseconds_is_still_one():
    side = 2 * MAS
    tiny = Polygon(((10, 0), (10 + side, 0), (10 + side, side), (10, side)))
    assert tiny.contains([10 + 0.5 * side, 10 + 1.5 * side], 0.5 * side).tolist() == [True, False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cone(0, 0, -0.1),
        lambda: Cone(0, 0, 180.1),
        lambda: Cone(0, 0, math.nan),
        lambda: Cone(math.inf, 0, 1),
        lambda: Cone(0, 90.1, 1),
        lambda: Cone("north", 0, 1),
        lambda: Box(0, 1, 1, 0),
        lambda: Box(0, 1, -91, 0),
        lambda: Box(math.nan, 1, 0, 1),
        lambda: Polygon(((0, 0), (1, 0))),
        lambda: Polygon((0, 0, 1)),
        lambda: Polygon(((0, 0), (1, 0), (0, math.nan))),
        lambda: Polygon(((0, 0), (1, 0), (0, 95))),
        lambda: Polygon(((0, 0), (1, 0), (2, 0))),
        lambda: Polygon(((0, 0), (0, 0), (1, 1))),
        lambda: Polygon(((0, 0), (180, 0), (90, 45))),
        lambda: Polygon(((0, 0), (2, 2), (2, 0), (0, 2))),
        lambda: Polygon(((0, 0), (4, 0), (1, 1), (0, 4))),
        lambda: Polygon(((0, 0), (2, 0), (1, 2), (0, 0), (2, 0), (1, 2))),
        lambda: Polygon(((0, 0), (120, 0), (240, 0))),
    ],
)
def test_a_region_that_cannot_be_is_refused(make):
    with pytest.raises(QueryError, match=r"^(cone|box|polygon): "):
        make()


@pytest.mark.parametrize("region", [Cone(62, -37, 180), Cone(62, -37, 2), Box(0, 360, -90, 90), SQUARE])
def test_what_is_no_position_is_inside_nothing(region):
    ra, dec = [62, None, 62, math.nan, 62, math.inf, 62], [-37, -37, None, -37, math.nan, -37, -math.inf]
    expected = [True] + [False] * 6
    assert expressed(region, pl.Series(ra, dtype=pl.Float64), pl.Series(dec, dtype=pl.Float64)) == expected
    numbers = [[math.nan if value is None else value for value in column] for column in (ra, dec)]
    assert region.contains(*numbers).tolist() == expected


@pytest.mark.parametrize("region", [Cone(0.2, -37, 0.5), Box(359, 1, -38, -36), SQUARE])
def test_an_expression_lets_a_scan_skip_what_its_statistics_exclude(region, tmp_path):
    # Two row groups, the first far away; a scan that could not use the bounds would have to read the first's values.
    far, near = np.linspace(100, 110, 1000), np.linspace(0, 70, 1000)
    frame = pl.DataFrame({"r": np.concatenate([far, near]), "d": np.concatenate([far - 60, np.full(1000, -37.0)])})
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=1000)
    plan = pl.scan_parquet(tmp_path / "rows.parquet").filter(region.expr("r", "d"))
    assert "is_between" in plan.explain()
    assert "FILTER" not in plan.explain()  # all of it goes into the scan
    inside = region.contains(frame["r"].to_numpy(), frame["d"].to_numpy())
    assert plan.collect().equals(frame.filter(inside))
    assert inside.any()


def test_regions_are_values():
    assert Cone(-298, -37, 1) == Cone(62, -37, 1)
    assert hash(SQUARE) == hash(Polygon(SQUARE.vertices))
    assert len({Cone(1, 2, 3), Cone(361, 2, 3)}) == 1


def test_single_precision_columns_do_not_pull_the_arithmetic_down():
    frame = pl.DataFrame({"r": [62.0], "d": [-37.0]}, schema={"r": pl.Float32, "d": pl.Float32})
    assert frame.filter(Cone(62.0, -37.0, MAS).expr("r", "d")).height == 1
    assert frame.filter(Cone(62.0, -37.0 + 2 * MAS, MAS).expr("r", "d")).height == 0


def test_a_moc_holds_what_its_cells_hold():
    cells = mocpy.MOC.from_healpix_cells(np.array([0, 77, 500], dtype=np.uint64), np.array([4] * 3, dtype=np.uint8), 4)
    moc = Moc(cells)
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    inside = moc.contains(ra, dec)
    assert_allclose(inside.mean(), 3 / 3072, rtol=0.9)
    assert expressed(moc, ra, dec) == inside.tolist()
    assert not moc.contains([math.nan, 10], [0, math.inf]).any()
    sky = skymap.SkyMap("for a moc", skymap.Legacy(400, 10), num_rings=11, scale_arcsec=30.0)
    found = set(zip(*(a.tolist() for a in sky.find(ra[inside], dec[inside])), strict=True))
    candidates = set(zip(*(a.tolist() for a in sky.candidates(moc)), strict=True))
    assert found <= candidates
    assert len(candidates) < 0.01 * sky.n_tracts * sky.patches_per_tract


def test_a_moc_across_ra_0_has_bounds_and_candidates_of_its_size():
    coverage = mocpy.MOC.from_cone(lon=0.1 * units.deg, lat=-1 * units.deg, radius=1 * units.deg, max_depth=10)
    moc, cone = Moc(coverage), Cone(0.1, -1, 1)
    assert_allclose(moc.bounds(), ((359.1, 360, -2, 0), (0, 1.1, -2, 0)), atol=0.15)
    ra, dec = np.random.default_rng(4).uniform((-2, -3), (2, 1), (5000, 2)).T
    assert moc.contains(ra, dec)[cone.contains(ra, dec)].all()
    sky = skymap.named("DC2")
    mine, cones = (set(zip(*(a.tolist() for a in sky.candidates(region)), strict=True)) for region in (moc, cone))
    assert cones <= mine
    assert len(mine) < 1.3 * len(cones)


@pytest.mark.parametrize("order", [0, 1, 3, 9])
def test_the_cells_that_stand_for_a_moc_are_mocpy_s(order):
    rng = np.random.default_rng(order)
    for cell in rng.integers(0, 12 * 4**order, 20):
        one = mocpy.MOC.from_healpix_cells(np.array([cell], np.uint64), np.array([order], np.uint8), order)
        ra, dec, radius = Moc(one)._cells()
        assert one.contains_lonlat(ra * units.deg, dec * units.deg).all()
        # Positions of the cell, found by throwing them at its surroundings, are no farther off than the radius.
        reach = 3 * math.sin(math.radians(radius))
        thrown = sphere.unit(ra[0], dec[0]) + rng.uniform(-reach, reach, (2000, 3))
        thrown /= np.linalg.norm(thrown, axis=1, keepdims=True)
        there = np.degrees([np.arctan2(thrown[:, 1], thrown[:, 0]) % (2 * np.pi), np.arcsin(thrown[:, 2])])
        inside = one.contains_lonlat(*(there * units.deg))
        away = np.linalg.norm(thrown[inside] - sphere.unit(ra[0], dec[0]), axis=1)
        assert 0 < away.max() <= 2 * math.sin(math.radians(radius) / 2)


def test_an_empty_moc_touches_nothing():
    moc = Moc(mocpy.MOC.new_empty(10))
    assert moc.bounds() == ()
    assert not moc.contains([10.0], [10.0]).any()
    assert expressed(moc, [10.0], [10.0]) == [False]
    assert skymap.named("DC2").candidates(moc)[0].size == 0


def test_a_moc_without_mocpy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mocpy", None)
    with pytest.raises(QueryError, match=r"tractlake\[moc\]"):
        Moc(None)


def test_what_is_no_moc_is_refused(tmp_path):
    with pytest.raises(QueryError, match=r"expected a mocpy\.MOC, found int"):
        Moc(3)
    (tmp_path / "broken.fits").write_bytes(b"no FITS")
    with pytest.raises(QueryError, match=r"broken\.fits"):
        Moc.load(tmp_path / "broken.fits")


def test_a_moc_is_read_from_its_file(tmp_path):
    cells = mocpy.MOC.from_healpix_cells(np.array([77], dtype=np.uint64), np.array([4], dtype=np.uint8), 4)
    for name, kind in (("map.fits", "fits"), ("map.json", "json"), ("map.txt", "ascii")):
        cells.save(tmp_path / name, format=kind)
        assert Moc.load(tmp_path / name).coverage == cells
