"""A scan of any region gives the rows that brute force over the whole table gives."""

from __future__ import annotations

import math
from functools import cache

import mocpy
import numpy as np
import polars as pl
import pytest
from astropy import units
from astropy.coordinates import Latitude, Longitude
from hypothesis import given, settings
from hypothesis import strategies as st

from support import by_hand
from support.small_warehouse import POINTS, points
from warehouse.errors import QueryError
from warehouse.query import Patch, Tract, pruning
from warehouse.query.scan import files, read, scan
from warehouse.sky import skymap, sphere
from warehouse.sky.moc import Moc
from warehouse.sky.regions import Box, Cone, Polygon

CENTRES = ((0.0, -90.0), (123.0, 90.0), (0.0, 0.0), (359.9, -1.2), (62.0, -37.2), (186.0, 52.0))


@cache
def positions():
    """Positions about the poles, RA 0 and two fields, a few everywhere, and the places where wraps go wrong."""
    rng = np.random.default_rng(11)
    ra, dec = [], []
    for centre_ra, centre_dec in CENTRES:
        angle, away = rng.uniform(0, 2 * math.pi, 150), 0.45 * np.sqrt(rng.uniform(0, 1, 150))
        if abs(centre_dec) == 90:
            ra.append(np.degrees(angle))
            dec.append(math.copysign(1, centre_dec) * (90 - away))
        else:
            ra.append((centre_ra + away * np.cos(angle) / math.cos(math.radians(centre_dec))) % 360)
            dec.append(centre_dec + away * np.sin(angle))
    ra.append(rng.uniform(0, 360, 40))
    dec.append(np.degrees(np.arcsin(rng.uniform(-1, 1, 40))))
    odd = [(0.0, 0.0), (0.0, 90.0), (0.0, -90.0), (359.99999999999994, 0.0), (180.0, 0.0), (200.0, -90.0)]
    ra.append(np.array([p[0] for p in odd]))
    dec.append(np.array([p[1] for p in odd]))
    return np.concatenate(ra), np.concatenate(dec)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return {kind: points(tmp_path_factory.mktemp(kind), *positions(), assignment=kind) for kind in KINDS}


@pytest.fixture(autouse=True, scope="module")
def edges_are_looked_at():
    """Also where so few files are left that opening them would be as quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "_FEW", 0)
        yield


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """The same tables, by a writer who left no statistics in the log."""
    return {
        kind: points(tmp_path_factory.mktemp(kind), *positions(), assignment=kind, statistics=False) for kind in KINDS
    }


KINDS = ("derived", "declared")


def near_something(draw):
    ra, dec = positions()
    if draw(st.booleans()):
        centre_ra, centre_dec = draw(st.sampled_from(CENTRES))
    else:
        at = draw(st.integers(0, len(ra) - 1))
        centre_ra, centre_dec = float(ra[at]), float(dec[at])
    return centre_ra + draw(st.sampled_from((0.0, 360.0, -360.0))), centre_dec


SIZES = st.one_of(st.sampled_from((0.0, 1e-9, 30.0, 89.9, 90.0, 179.0, 180.0)), st.floats(-5, 1).map(lambda e: 10.0**e))


@st.composite
def cones(draw):
    return Cone(*near_something(draw), draw(SIZES))


@st.composite
def boxes(draw):
    ra, dec = near_something(draw)
    width, height = draw(SIZES), draw(SIZES)
    return Box(ra - width, ra + width, max(-90.0, dec - height), min(90.0, dec + height))


@st.composite
def polygons(draw):
    """A convex polygon: corners on a circle about somewhere."""
    ra, dec = (math.radians(angle) for angle in near_something(draw))
    radius = math.radians(10 ** draw(st.floats(-6, 1.9)))
    corners = draw(st.integers(3, 7))
    turn = draw(st.floats(0, 1))
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    out = np.cross(east, north)
    vertices = []
    for k in range(corners):
        angle = 2 * math.pi * (k + turn) / corners
        x, y, z = math.cos(radius) * out + math.sin(radius) * (math.cos(angle) * east + math.sin(angle) * north)
        vertices.append((math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))))
    return Polygon(tuple(vertices))


@st.composite
def maps(draw):
    ra, dec = near_something(draw)
    radius = 10 ** draw(st.floats(-3, 2.2))
    return Moc(
        mocpy.MOC.from_cone(
            Longitude((ra % 360) * units.deg), Latitude(dec * units.deg), radius=radius * units.deg, max_depth=9
        )
    )


REGIONS = st.one_of(cones(), boxes(), polygons(), maps())


def ids(frame):
    return sorted(frame.collect().get_column("id"))


@pytest.mark.parametrize("kind", KINDS)
@given(region=REGIONS)
@settings(max_examples=120)
def test_every_region_gives_the_rows_of_brute_force(tables, kind, region):
    ra, dec = positions()
    assert ids(scan(tables[kind], POINTS, region)) == np.flatnonzero(region.contains(ra, dec)).tolist()


@pytest.mark.parametrize("kind", KINDS)
@given(at=st.integers(0, len(positions()[0]) - 1), radius=st.floats(-6, -0.4).map(lambda e: 10.0**e))
@settings(max_examples=100)
def test_where_the_log_tells_no_extents_the_sky_map_tells_the_files(unknown, kind, at, radius):
    ra, dec = positions()
    region = Cone(ra[at], dec[at], radius)
    assert ids(scan(unknown[kind], POINTS, region)) == np.flatnonzero(region.contains(ra, dec)).tolist()
    assert len(files(unknown[kind], POINTS, region)) < len(files(unknown[kind], POINTS)) / 2


@pytest.mark.parametrize("kind", KINDS)
@given(region=cones())
@settings(max_examples=60)
def test_a_cone_gives_the_rows_within_its_radius_by_vectors(tables, kind, region):
    ra, dec = (np.radians(v) for v in positions())
    here = np.radians([region.ra, region.dec])
    rows = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    centre = np.array([math.cos(here[1]) * math.cos(here[0]), math.cos(here[1]) * math.sin(here[0]), math.sin(here[1])])
    away = np.degrees(np.arctan2(np.linalg.norm(np.cross(rows, centre), axis=1), rows @ centre))
    found = set(ids(scan(tables[kind], POINTS, region)))
    # This formula and that one may differ in the last digit, so positions on the very edge are left to the other test.
    assert found >= set(np.flatnonzero(away < region.radius - 1e-10).tolist())
    assert found <= set(np.flatnonzero(away <= region.radius + 1e-10).tolist())


@pytest.mark.parametrize("kind", KINDS)
@given(region=polygons())
@settings(max_examples=60)
def test_a_polygon_gives_the_rows_on_the_inner_side_of_each_edge(tables, kind, region):
    depth = by_hand.depth(region.vertices, *positions())
    found = set(ids(scan(tables[kind], POINTS, region)))
    assert found >= set(np.flatnonzero(depth > 5e-13).tolist())
    assert found <= set(np.flatnonzero(depth > -5e-13).tolist())


@pytest.mark.parametrize("kind", KINDS)
@given(region=maps(), rest=st.booleans())
@settings(max_examples=40)
def test_a_coverage_map_gives_the_rows_that_mocpy_gives(tables, kind, region, rest):
    coverage = region.coverage.complement() if rest else region.coverage
    expected = np.flatnonzero(by_hand.covered(coverage, *positions())).tolist()
    assert ids(scan(tables[kind], POINTS, coverage)) == expected


@pytest.mark.parametrize("kind", KINDS)
@given(several=st.lists(REGIONS, max_size=3), tract=st.booleans(), patch=st.booleans())
@settings(max_examples=40)
def test_a_list_of_places_gives_each_row_once(tables, kind, several, tract, patch):
    sky = skymap.named("DC2")
    number, sequential = sky.find([62.0], [-37.2])
    wanted = [*several, *([int(number[0])] if tract else []), *([Patch(number[0], sequential[0])] if patch else [])]
    ra, dec = positions()
    expected = np.zeros(len(ra), dtype=bool)
    for region in several:
        expected |= region.contains(ra, dec)
    for row, (row_tract, row_patch) in enumerate(placed(tables[kind])):
        in_tract = tract and row_tract == number[0]
        expected[row] |= in_tract or (patch and (row_tract, row_patch) == (number[0], sequential[0]))
    assert ids(scan(tables[kind], POINTS, wanted)) == np.flatnonzero(expected).tolist()


def placed(tables):
    """The tract and patch of each row, by its id."""
    opened = tables.open(POINTS)
    return (
        read(opened, opened.files).select("id", "tract", "patch").sort("id").collect().select("tract", "patch").rows()
    )


@settings(max_examples=200)
@given(
    west=st.floats(0, 359),
    width=st.floats(-9, 1.7).map(lambda e: 10.0**e),
    south=st.floats(-88.9, 88.8),
    height=st.floats(-9, 1).map(lambda e: 10.0**e),
)
def test_a_file_s_polygon_holds_its_extent(west, width, south, height):
    north = min(88.9, south + height)
    corners = pruning._corners(*(np.array([v]) for v in (west, west + width, south, north)))
    along, up = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 5))
    rim = sphere.unit(west + along * width, south + up * (north - south)).reshape(-1, 3)
    # Far beyond rounding, because the touch of a region is told from the polygon's corners.
    assert (sphere.edge_normals(corners)[0] @ rim.T > 1e-9).all()
    # And no wider than needs be: the bow of a parallel and the margin.
    bow = 90 * (1 - math.cos(math.radians(0.5 * width + 1e-3)))
    low, high = np.degrees(sphere.dec_range(corners))
    assert low[0] > south - bow - 1e-3
    assert high[0] < north + bow + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_small_regions_open_few_files_and_the_sky_all(tables, kind):
    every = files(tables[kind], POINTS)
    assert len(every) > 100
    assert len(files(tables[kind], POINTS, Cone(62.0, -37.2, 1e-4))) <= 9
    assert sorted(files(tables[kind], POINTS, Cone(0, 0, 180))) == sorted(every)
    # No positions there, and none of the patches that the ring of RA 0 to 360 at the pole would bring.
    assert files(tables[kind], POINTS, Cone(300.0, 20.0, 0.01)) == []


def test_partitions_are_told_from_their_column(tables):
    whole = scan(tables["declared"], POINTS).collect()
    tract, patch = whole.select("tract", "patch").row(17)
    of_tract = whole.filter(pl.col("tract") == tract)
    assert ids(scan(tables["declared"], POINTS, tract)) == sorted(of_tract["id"])
    assert ids(scan(tables["declared"], POINTS, [Tract(tract)])) == sorted(of_tract["id"])
    one = of_tract.filter(pl.col("patch") == patch)
    assert ids(scan(tables["declared"], POINTS, Patch(tract, patch))) == sorted(one["id"])


def test_a_plain_coverage_map_of_mocpy_will_do(tables):
    plain = mocpy.MOC.from_cone(
        Longitude(62.0 * units.deg), Latitude(-37.2 * units.deg), radius=0.2 * units.deg, max_depth=9
    )
    assert ids(scan(tables["derived"], POINTS, plain)) == ids(scan(tables["derived"], POINTS, Moc(plain)))


def test_what_is_no_place_is_refused(tables):
    for nothing in ("62, -37", 4.5, True, [None], object()):
        with pytest.raises(QueryError, match="expected a region"):
            scan(tables["derived"], POINTS, nothing)


def test_a_tuple_of_numbers_is_no_two_tracts(tables):
    tract, patch = (int(number[0]) for number in skymap.named("DC2").find([62.0], [-37.2]))
    for pair in ((tract, patch), [(tract, patch)], (np.int64(tract), np.int64(patch))):
        with pytest.raises(QueryError, match=r"expected Patch\(tract, patch\), or a list of tracts, found a tuple"):
            scan(tables["derived"], POINTS, pair)
    assert ids(scan(tables["derived"], POINTS, (Patch(tract, patch),))) == ids(
        scan(tables["derived"], POINTS, Patch(tract, patch))
    )
    both = {row for row, (number, _) in enumerate(placed(tables["derived"])) if number in {tract, patch}}
    assert ids(scan(tables["derived"], POINTS, [tract, patch])) == sorted(both)
