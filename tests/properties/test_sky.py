"""The sky map and its regions over the whole sphere, against independent computations."""

import numpy as np
import polars as pl
import pytest
from astropy import units
from astropy.coordinates import Latitude, Longitude, angular_separation
from astropy.wcs import WCS
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mocpy import MOC
from numpy.testing import assert_allclose, assert_array_equal

from support import by_hand
from warehouse.errors import QueryError
from warehouse.sky import skymap
from warehouse.sky.grid import Cells, Legacy
from warehouse.sky.moc import Moc
from warehouse.sky.regions import Box, Cone, Polygon
from warehouse.sky.skymap import SkyMap

MAPS = [
    skymap.named("DC2"),
    skymap.named("lsst_cells_v1"),
    SkyMap("three", Legacy(inner=4000, border=100), num_rings=3, scale_arcsec=20.0, overlap_deg=0.5),
    SkyMap("cells", Cells(20, 5, 5, 1), num_rings=6, scale_arcsec=120.0, ra_start_deg=17.0),
    SkyMap("older", Legacy(inner=300, border=20), num_rings=5, scale_arcsec=60.0, version=0),
]
NEW = [sky for sky in MAPS if sky.version == 1]

maps = st.sampled_from(MAPS)
ras = st.floats(0, 360, exclude_max=True) | st.sampled_from([0.0, 1e-9, 359.999999999, 90.0, 180.0])
decs = st.floats(-90, 90) | st.sampled_from([-90.0, -89.9999999, 0.0, 67.5, -67.5, 22.5, 90.0])
radii = st.sampled_from([0.0, 1e-6, 0.003, 0.2, 3.0, 25.0, 80.0, 120.0, 180.0]) | st.floats(0, 10)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)


def around(ra, dec, radius, seed, size=400):
    """Return positions spread over a cap, its centre and edge among them (plain spherical trigonometry)."""
    rng = np.random.default_rng(seed)
    away = np.radians(radius) * np.concatenate([[0.0], rng.random(size) ** 0.5, np.ones(size // 10)])
    turn = rng.uniform(0, 2 * np.pi, away.size)
    south, east = np.radians(dec), np.radians(ra)
    sine = np.sin(south) * np.cos(away) + np.cos(south) * np.sin(away) * np.cos(turn)
    step = np.arctan2(np.sin(turn) * np.sin(away) * np.cos(south), np.cos(away) - np.sin(south) * sine)
    return np.degrees(east + step) % 360, np.degrees(np.arcsin(np.clip(sine, -1, 1)))


def sphere_of(seed, size=2000):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, size), np.degrees(np.arcsin(rng.uniform(-1, 1, size)))


@st.composite
def regions(draw, kinds=("cone", "box", "polygon")):
    ra, dec, radius = draw(ras), draw(decs), draw(radii)
    kind = draw(st.sampled_from(kinds))
    if kind == "cone":
        return Cone(ra, dec, radius), (ra, dec, radius)
    if kind == "box":
        half = draw(st.sampled_from([0.0, 0.001, 1.0, 60.0, 100.0, 179.0, 180.0]))
        box = Box(ra - half, ra + half, max(dec - radius, -90), min(dec + radius, 90))
        return box, (ra, dec, max(radius, min(half, 180)))
    radius = min(max(radius, 1e-6), 85)
    turns = np.sort(np.random.default_rng(draw(seeds)).uniform(0, 2 * np.pi, draw(st.integers(3, 7))))
    assume(np.diff(turns).min() > 0.05)
    south, away = np.radians(dec), np.radians(radius)
    sine = np.sin(south) * np.cos(away) + np.cos(south) * np.sin(away) * np.cos(turns)
    step = np.arctan2(np.sin(turns) * np.sin(away) * np.cos(south), np.cos(away) - np.sin(south) * sine)
    vertices = np.degrees([np.radians(ra) + step, np.arcsin(np.clip(sine, -1, 1))]).T
    try:
        return Polygon(tuple(map(tuple, vertices.tolist()))), (ra, dec, radius)
    except QueryError:
        assume(False)  # three corners on one side of the cap, or rounded onto one another at a pole


@few
@given(sky=st.sampled_from(NEW[2:]), ra=ras, dec=decs, seed=seeds)
def test_every_position_has_exactly_one_inner_tract_and_patch(sky, ra, dec, seed):
    ra, dec = np.append(sphere_of(seed)[0], ra), np.append(sphere_of(seed)[1], dec)
    tract, patch = sky.find(ra, dec)
    # Boxes are in degrees and include their edges: widened and narrowed by more than the rounding of either.
    wide, narrow = (
        np.stack([resized(sky.inner_box(number), by).contains(ra, dec) for number in range(sky.n_tracts)])
        for by in (1e-10, -1e-10)
    )
    assert wide[tract, np.arange(ra.size)].all()
    assert (narrow.sum(axis=0) <= 1).all()
    assert_array_equal(narrow[:, :-1].sum(axis=0), 1)  # all but the last, drawn one, are random
    assert ((patch >= 0) & (patch < sky.patches_per_tract)).all()


@few
@given(sky=st.sampled_from(NEW), ra=ras, dec=decs, radius=radii, seed=seeds)
@example(sky=MAPS[0], ra=0.0, dec=90.0, radius=3.0, seed=0)
@example(sky=MAPS[0], ra=0.0, dec=-89.0, radius=0.2, seed=0)
def test_the_found_patch_holds_the_position(sky, ra, dec, radius, seed):
    ra, dec = around(ra, dec, radius, seed, 60)
    tract, patch = sky.find(ra, dec)
    assert_array_equal(tract, sky.find_tract(ra, dec))
    held = sky.find_patch(tract, ra, dec)
    x, y = sky.to_pixels(tract, ra, dec)
    outside = (np.minimum(x, y) < -0.5) | (np.maximum(x, y) >= sky.grid.pixels - 0.5)
    assert_array_equal(held, np.where(outside, -1, patch))
    assert sky.in_outer(tract, patch, ra, dec)[~outside].all()
    for k in np.flatnonzero(~outside)[:10]:
        # The rim of a polygon is its neighbour's, too; a thousandth of a pixel is far more than its rounding.
        near_rim = np.abs((np.array([x[k], y[k]]) + 0.5) % sky.grid.inner - 0.5 * sky.grid.inner)
        if near_rim.max() < 0.5 * sky.grid.inner - 1e-3:
            corners = sky.patch_polygon(tract[k], patch[k])
            assert Polygon(tuple(map(tuple, corners.tolist()))).contains(ra[k], dec[k])


@few
@given(sky=maps, seed=seeds)
def test_pixels_to_the_sky_and_back(sky, seed):
    rng = np.random.default_rng(seed)
    tract = np.append(rng.integers(0, sky.n_tracts, 200), [0, sky.n_tracts - 1])
    x, y = rng.uniform(-0.5, sky.grid.pixels - 0.5, (2, tract.size))
    ra, dec = sky.to_sky(tract, x, y)
    assert ((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90)).all()
    assert_allclose(sky.to_pixels(tract, ra, dec), (x, y), rtol=0, atol=1e-6)


@few
@given(sky=maps, seed=seeds)
def test_pixels_are_those_of_a_fits_tan_header(sky, seed):
    rng = np.random.default_rng(seed)
    tract = int(rng.choice([0, 1, sky.n_tracts // 2, sky.n_tracts - 1, rng.integers(sky.n_tracts)]))
    header = WCS(naxis=2)
    header.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    header.wcs.crval = [float(value) for value in sky.tract_centre(tract)]
    header.wcs.crpix = [sky.grid.centre + 1] * 2  # FITS counts from 1
    header.wcs.lonpole = 180.0  # as everywhere else: the default turns a tangent point at the very pole round
    header.wcs.cdelt = [-sky.scale_arcsec / 3600, sky.scale_arcsec / 3600]
    x, y = rng.uniform(-0.5, sky.grid.pixels - 0.5, (2, 100))
    ra, dec = header.all_pix2world(x, y, 0)
    assert_allclose(sky.to_pixels(tract, ra, dec), (x, y), rtol=0, atol=1e-6)
    found_ra, found_dec = sky.to_sky(tract, x, y)
    away = angular_separation(*np.radians([found_ra, found_dec, ra, dec]))
    assert np.degrees(away).max() * 3600 < 1e-6 * max(1, sky.scale_arcsec)


@few
@given(ra=ras, dec=decs, radius=radii, seed=seeds)
def test_a_cone_is_what_brute_force_says(ra, dec, radius, seed):
    cone = Cone(ra, dec, radius)
    many_ra, many_dec = (
        np.concatenate(pair) for pair in zip(sphere_of(seed), around(ra, dec, min(2 * radius, 180), seed), strict=True)
    )
    away = np.degrees(angular_separation(*np.radians([many_ra, many_dec]), *np.radians([ra, dec])))
    clear = np.abs(away - radius) * 3_600_000 > 0.001  # milliarcseconds
    assert_array_equal(cone.contains(many_ra, many_dec)[clear], (away <= radius)[clear])


def said(region, ra, dec):
    return pl.DataFrame({"ra": ra, "dec": dec}).select(region.expr("ra", "dec")).to_series().to_numpy()


@settings(max_examples=100, deadline=None)
@given(region_at=regions(("polygon",)), seed=seeds, away=st.floats(-11, -3).map(lambda e: 10.0**e))
def test_a_polygon_is_what_the_sides_of_its_edges_say(region_at, seed, away):
    region, (ra, dec, radius) = region_at
    away = min(away, 0.1 * np.radians(radius))
    # The middle, because a sliver may lie between all the others.
    middle = by_hand.positions(by_hand.vectors(*np.transpose(region.vertices)).mean(axis=0, keepdims=True))
    edges = by_hand.along_edges(region.vertices, away)
    many = (middle, edges, sphere_of(seed), around(ra, dec, min(2 * radius, 180), seed))
    many_ra, many_dec = (np.concatenate(parts) for parts in zip(*many, strict=True))
    depth = by_hand.depth(region.vertices, many_ra, many_dec)
    # A ten-thousandth of a milliarcsecond: nearer to an edge, two orders of the same arithmetic may differ.
    clear = np.abs(depth) > 5e-13
    assert clear.mean() > 0.7
    assert depth[0] > 0
    assert_array_equal(region.contains(many_ra, many_dec)[clear], depth[clear] > 0)
    assert_array_equal(said(region, many_ra, many_dec)[clear], depth[clear] > 0)


@st.composite
def coverages(draw):
    """Some cones, which may overlap, or all but them; from cells of a second of arc to nearly all of the sky."""
    order = draw(st.integers(0, 17))
    cell = 60 / 2**order
    cones = [(draw(ras), draw(decs), cell * draw(st.sampled_from([0.01, 1.0, 20.0]))) for _ in range(draw(COUNTS))]
    coverage = MOC.new_empty(order)
    for ra, dec, radius in cones:
        at = Longitude(ra, "deg"), Latitude(dec, "deg")
        coverage |= MOC.from_cone(*at, radius=min(radius, 170) * units.deg, max_depth=order)
    return (coverage.complement() if draw(st.booleans()) else coverage), cones


COUNTS = st.integers(0, 3)


@settings(max_examples=100, deadline=None)
@given(drawn=coverages(), seed=seeds)
def test_a_coverage_map_is_what_mocpy_says(drawn, seed):
    coverage, cones = drawn
    parts = [sphere_of(seed), *(around(ra, dec, min(2 * radius, 180), seed) for ra, dec, radius in cones)]
    ra, dec = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    expected = by_hand.covered(coverage, ra, dec)
    assert_array_equal(Moc(coverage).contains(ra, dec), expected)
    assert_array_equal(said(Moc(coverage), ra, dec), expected)


@few
@given(region_at=regions(), seed=seeds)
def test_an_expression_says_what_contains_says(region_at, seed):
    region, (ra, dec, radius) = region_at
    many_ra, many_dec = (
        np.concatenate(pair)
        for pair in zip(sphere_of(seed), around(ra, dec, min(1.5 * radius, 180), seed), strict=True)
    )
    inside = region.contains(many_ra, many_dec)
    # Two libraries' sines differ in the last bit: positions on the very edge (the strategy's rim) may differ.
    sure = np.ones(inside.size, dtype=bool)
    if isinstance(region, Cone):
        away = angular_separation(*np.radians([many_ra, many_dec]), *np.radians([region.ra, region.dec]))
        sure = np.abs(np.degrees(away) - region.radius) > 1e-9
    assert_array_equal(said(region, many_ra, many_dec)[sure], inside[sure])
    within = np.zeros(inside.size, dtype=bool)
    for west, east, low, high in region.bounds():
        within |= (many_ra >= west) & (many_ra <= east) & (many_dec >= low) & (many_dec <= high)
    assert within[inside].all()


@few
@given(sky=maps, region_at=regions(), seed=seeds)
def test_candidates_miss_nothing(sky, region_at, seed):
    region, (ra, dec, radius) = region_at
    # Where millions of patches are touched, brute force has nothing to find that a smaller map would not show.
    assume(radius < 30 or sky.n_tracts < 1000)
    many = [
        np.concatenate(pair)
        for pair in zip(around(ra, dec, radius, seed), around(ra, dec, 0.05 * radius, seed), strict=True)
    ]
    inside = region.contains(*many)
    many_ra, many_dec = many[0][inside], many[1][inside]
    assert pairs(sky.find(many_ra, many_dec)) <= pairs(sky.candidates(region))

    outer = pairs(sky.outer_candidates(region))
    tracts = np.unique([tract for tract, _ in outer] or [0])[:40]
    tract, patch, row = np.meshgrid(
        tracts, np.arange(sky.patches_per_tract), np.arange(many_ra.size)[:20], indexing="ij"
    )
    held = sky.in_outer(tract, patch, many_ra[row], many_dec[row])
    assert pairs((tract[held], patch[held])) <= outer
    # A position's own outer boxes are among those of the tracts next to it.
    if many_ra.size:
        home, _ = sky.find(many_ra[0], many_dec[0])
        holding = [n for n in sky.neighbours(int(home)) if (sky.find_patch(n, many_ra[0], many_dec[0]) >= 0)]
        assert {tract for tract, _ in outer} >= set(holding)


@pytest.mark.parametrize("sky", MAPS[2:], ids=lambda sky: sky.name)
def test_neighbours_are_all_tracts_whose_patches_reach_in(sky):
    ra, dec = sphere_of(3, 20_000)
    home = sky.find_tract(ra, dec)
    for tract in range(sky.n_tracts):
        mine = home == tract
        reaching = [n for n in range(sky.n_tracts) if (sky.find_patch(n, ra[mine], dec[mine]) >= 0).any()]
        if sky.version == 1:
            assert set(reaching) <= set(sky.neighbours(tract).tolist())


def resized(box, by):
    low, high = max(box.dec_min - by, -90), min(box.dec_max + by, 90)
    full = box.ra_max - box.ra_min == 360
    return Box(box.ra_min - by * (not full), box.ra_max + by * (not full), low, high)


def pairs(columns):
    return set(zip(*(np.asarray(column).tolist() for column in columns), strict=True))
