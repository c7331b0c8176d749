"""The sky map against published positions, hashes and counts, and at its edges."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from warehouse.errors import NotFoundError, QueryError
from warehouse.sky import skymap
from warehouse.sky.blocks import BLOCK
from warehouse.sky.grid import Cells, Legacy
from warehouse.sky.regions import Box, Cone, Polygon
from warehouse.sky.skymap import SkyMap

DC2 = skymap.named("DC2")
CELLS = skymap.named("lsst_cells_v1")
SMALL = SkyMap("three rings", Legacy(inner=4000, border=100), num_rings=3, scale_arcsec=6.0)
TIGHT = SkyMap("no overlap", Legacy(inner=405, border=5), num_rings=8, scale_arcsec=60.0, overlap_deg=0.0)
OLD = SkyMap("older", Legacy(inner=4000, border=100), scale_arcsec=0.168, version=0)

PUBLISHED = [
    (DC2, 56.64971166122064, -36.44625321395279, 3828, 24),
    (DC2, 55.745834, -32.269167, 4431, 17),
    (DC2, 50.5265, -39.7589, 3442, 13),
    (DC2, 53.01240743567535, -34.1195835309739, 4225, 3),
    (DC2, 50.1089143, -44.4812763, 2897, 5),
    (DC2, 55.1771286, -29.610409, 4850, 4),
    (DC2, 54.8683502, -29.7655793, 4638, 44),
    (DC2, 62.0, -37.0, 3831, 10),
    (DC2, 55.790364, -32.270040, 4431, 16),
    (CELLS, 53.076, -28.110, 5063, 15),
]

# The tracts that DP0.2 filled, first and last of each run of numbers.
DP02 = [(2897, 2908), (3074, 3086), (3256, 3268), (3441, 3454), (3631, 3643), (3825, 3837)]
DP02 += [(4022, 4035), (4224, 4236), (4429, 4441), (4636, 4648), (4848, 4860), (5062, 5074)]


@pytest.mark.parametrize(("sky", "ra", "dec", "tract", "patch"), PUBLISHED)
def test_find_gives_the_published_tract_and_patch(sky, ra, dec, tract, patch):
    found = sky.find(ra, dec)
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.int64)
    assert (int(found[0]), int(found[1])) == (tract, patch)
    assert int(sky.find_tract(ra, dec)) == tract
    assert int(sky.find_patch(tract, ra, dec)) == patch
    assert bool(sky.in_outer(tract, patch, ra, dec))


@pytest.mark.parametrize(
    ("tract", "ra", "dec", "x", "y", "digits"),
    [
        (3828, 56.64971166122064, -36.44625321395279, 13999.5, 13999.5, 1e-6),
        (4225, 53.01240743567535, -34.1195835309739, 12937.473803968331, 2324.9666227765465, 1e-6),
        (2897, 50.1089143, -44.4812763, 23484, 3210, 0.5),
        (4850, 55.1771286, -29.610409, 19271.4225752, 3152.3404409, 1e-3),
        (4638, 54.8683502, -29.7655793, 9761.191937, 27139.9245212, 1e-3),
    ],
)
def test_to_pixels_gives_the_published_pixels_to_the_printed_digits(tract, ra, dec, x, y, digits):
    assert_allclose(DC2.to_pixels(tract, ra, dec), (x, y), rtol=0, atol=digits)


def test_hashes_are_the_published_ones():
    assert DC2.sha1 == "1e5fa85fe242606426528f5f7b8dbf01cbaaff9e"
    assert CELLS.sha1 == "e2736e41244df00bbdb93aecac0ae4b2d19dda91"


def test_sizes_are_the_published_ones():
    assert (DC2.n_tracts, DC2.patches_per_side, DC2.patches_per_tract) == (18938, 7, 49)
    assert (DC2.grid.pixels, DC2.grid.centre) == (28000, 13999)
    assert (CELLS.n_tracts, CELLS.patches_per_side, CELLS.patches_per_tract) == (18938, 10, 100)
    assert (CELLS.grid.pixels, CELLS.grid.centre) == (30000, 14999)
    assert SMALL.n_tracts == 26


def test_the_tracts_of_dp02_lie_in_its_twelve_rings():
    tracts = np.concatenate([np.arange(first, last + 1) for first, last in DP02])
    assert len(tracts) == 157
    ra, dec = DC2.tract_centre(tracts)
    assert_array_equal(DC2.find(ra, dec)[0], tracts)
    assert_array_equal(DC2.find(ra, dec)[1], np.full(157, 24))
    for first, last in DP02:
        run = (tracts >= first) & (tracts <= last)
        assert np.ptp(dec[run]) == 0
        assert (np.diff(ra[run]) > 0).all()
    ring = 180 / 121
    assert_allclose(np.diff(np.unique(dec)), ring)
    # DC2's field: 300 square degrees between Dec -45 and -27, about RA 62.
    assert 48 < ra.min() < 51
    assert 73 < ra.max() < 76
    assert -45 < dec.min() < dec.max() < -27


def test_centres_of_the_older_numbering():
    assert_allclose(
        np.transpose(OLD.tract_centre([9712, 9813])), [(0, 0.7438016528925696), (150.2479338842975, 2.2314049586776834)]
    )


def test_the_older_numbering_differs_only_for_the_first_tract_of_a_ring():
    new = SkyMap("newer", OLD.patches, scale_arcsec=0.168)
    ra, dec = new.tract_centre(np.arange(new.n_tracts))
    here, there = OLD.find_tract(ra, dec), np.arange(new.n_tracts)
    moved = here != there
    assert set(ra[moved]) == {0.0}
    assert moved.sum() == 119  # every ring but the first
    assert_array_equal(OLD.find_tract([0, 150.2479338842975], [0.7438016528925696, 2.2314049586776834]), [9712, 9813])
    assert_array_equal(new.find_tract([150.2479338842975], [2.2314049586776834]), [9813])
    # Where the numbers agree so do the pixels; a moved tract has the pixels of its new number.
    inland = here != OLD.n_tracts - 1
    assert_allclose(
        OLD.to_pixels(here[inland], ra[inland], dec[inland]), np.full((2, inland.sum()), OLD.grid.centre), atol=1e-6
    )


def test_an_older_map_gives_the_northernmost_ring_s_first_tract_to_the_north_cap():
    ra, dec = 0.3, 90 - 180 / 121
    tract, patch = OLD.find(ra, dec)
    assert int(tract) == OLD.n_tracts - 1
    assert (int(tract), int(patch)) in zip(*(a.tolist() for a in OLD.candidates(Cone(ra, dec, 0.01))), strict=True)


def test_every_turn_of_right_ascension_is_the_same():
    ra, dec = np.array([62.0, 359.9, 0.0, 0.4]), np.array([-37.0, 1.0, -1.0, 89.9])
    for turn in (-720, -360, 360):
        for one, other in zip(DC2.find(ra, dec), DC2.find(ra + turn, dec), strict=True):
            assert_array_equal(one, other)


@pytest.mark.parametrize("sky", [DC2, CELLS, SMALL], ids=lambda s: s.name)
def test_poles_and_ring_edges_have_a_tract_and_patch(sky):
    first = 90 / (sky.num_rings + 1) - 90
    dec = np.array([-90, first, np.nextafter(first, -90), 0, -first, np.nextafter(-first, 90), 90])
    tract, patch = sky.find(17.0, dec)
    assert (tract[0], tract[-1]) == (0, sky.n_tracts - 1)
    assert tract[2] == 0
    assert tract[5] == sky.n_tracts - 1
    assert ((tract[[1, 3, 4]] > 0) & (tract[[1, 3, 4]] < sky.n_tracts - 1)).all()
    assert ((patch >= 0) & (patch < sky.patches_per_tract)).all()


@pytest.mark.parametrize(
    ("ra", "dec"), [(np.nan, 0), (0, np.nan), (np.inf, 0), (0, -np.inf), (10, 90.0001), (10, -91), (np.nan, np.nan)]
)
def test_a_position_that_is_none_has_no_tract_and_spoils_no_other(ra, dec):
    tract, patch = DC2.find([62.0, ra, 62.0], [-37.0, dec, -37.0])
    assert_array_equal(tract, [3831, -1, 3831])
    assert_array_equal(patch, [10, -1, 10])
    assert_array_equal(DC2.find_tract([62.0, ra], [-37.0, dec]), [3831, -1])
    assert_array_equal(np.isnan(DC2.to_pixels(3831, [62.0, ra], [-37.0, dec])), [[False, True]] * 2)
    assert_array_equal(DC2.in_outer(3831, 10, [62.0, ra], [-37.0, dec]), [True, False])


def test_blocks_and_threads_change_nothing():
    rng = np.random.default_rng(5)
    size = 2 * BLOCK + 17
    ra, dec = rng.uniform(-10, 370, size), rng.uniform(-90, 90, size)
    tract, patch = DC2.find(ra, dec)
    threaded = DC2.find(ra, dec, threads=3)
    assert_array_equal(threaded, (tract, patch))
    one_by_one = rng.integers(0, size, 200)
    assert_array_equal(
        [DC2.find(ra[i], dec[i]) for i in one_by_one], np.transpose([tract[one_by_one], patch[one_by_one]])
    )
    shaped = DC2.find(ra[:12].reshape(3, 4), dec[:12].reshape(3, 4))
    assert_array_equal(shaped[0], tract[:12].reshape(3, 4))
    assert_array_equal(DC2.find(ra[:5, None], dec[None, :3])[1].shape, (5, 3))
    assert DC2.find([], [])[0].shape == (0,)


def test_no_projection_on_the_other_half_of_the_sky():
    x, y = DC2.to_pixels(0, [0, 0, 0], [-90, 1, 90])
    assert_array_equal(np.isnan(x), [False, True, True])
    assert_array_equal(np.isnan(y), [False, True, True])
    assert_array_equal(DC2.find_patch(0, [0, 0], [-90, 90]), [24, -1])


def test_unknown_tracts_and_patches_in_rows_are_lost_not_guessed():
    assert_array_equal(DC2.find_patch([3831, -1, 18938], 62.0, -37.0), [10, -1, -1])
    assert_array_equal(DC2.in_outer([3831, -1, 3831, 3831], [10, 10, -1, 49], 62.0, -37.0), [True, False, False, False])
    assert_array_equal(np.isnan(DC2.to_sky([3831, -1], 0.0, 0.0)[0]), [False, True])


def test_outer_boxes_overlap_where_published():
    every = np.arange(49)
    assert_array_equal(np.flatnonzero(DC2.in_outer(3831, every, 62.0, -37.0)), [3, 10])
    assert_array_equal(np.flatnonzero(CELLS.in_outer(5063, np.arange(100), 53.076, -28.110)), [14, 15])
    tract, patch = DC2.outer_candidates(Cone(62.0, -37.0, 0))
    assert_array_equal(tract, [3831, 3831])
    assert_array_equal(patch, [3, 10])


def test_one_source_lies_in_the_outer_boxes_of_two_tracts():
    # objectId >> 43 is tract * 49 + patch; these two ids are published for one and the same source.
    places = [divmod(object_id >> 43, 49) for object_id in (2090444283285865258, 1999404720506020289)]
    assert places == [(4850, 6), (4638, 44)]
    assert 4850 in DC2.neighbours(4638)
    assert 4638 in DC2.neighbours(4850)


def test_outer_boxes_end_with_the_tract_in_legacy_maps_only():
    assert DC2.patch_box(0).tolist() == [0, 0, 3999, 3999]
    assert DC2.patch_box([0, 24, 48], outer=True).tolist() == [
        [0, 0, 4099, 4099],
        [11900, 11900, 16099, 16099],
        [23900, 23900, 27999, 27999],
    ]
    assert CELLS.patch_box([0, 55, 99], outer=True).tolist() == [
        [-200, -200, 3199, 3199],
        [14800, 14800, 18199, 18199],
        [26800, 26800, 30199, 30199],
    ]


@pytest.mark.parametrize("sky", [DC2, CELLS], ids=lambda s: s.name)
def test_in_outer_turns_at_the_pixel_edge(sky):
    x0, y0, x1, y1 = sky.patch_box(9, outer=True)
    step = 1e-4
    x = np.array([x0 - 0.5 + step, x0 - 0.5 - step, x1 + 0.5 - step, x1 + 0.5 + step, x1, x1, x1])
    y = np.array([y1, y1, y1, y1, y0 - 0.5 - step, y1 + 0.5 - step, y1 + 0.5 + step])
    ra, dec = sky.to_sky(4431, x, y)
    assert_array_equal(sky.in_outer(4431, 9, ra, dec), [True, False, True, False, False, True, False])
    assert sky.in_outer(4431, 9, ra, dec, margin_arcsec=0.001).all()


def test_polygons_are_pixel_edges_counter_clockwise_on_the_sky():
    polygon = DC2.patch_polygon(4431, 17, outer=True)
    assert polygon.shape == (4, 2)
    x, y = DC2.to_pixels(4431, *polygon.T)
    west, south, east, north = DC2.patch_box(17, outer=True) + np.array([-0.5, -0.5, 0.5, 0.5])
    assert_allclose(x, [west, east, east, west], atol=1e-6)
    assert_allclose(y, [south, south, north, north], atol=1e-6)
    ra, dec = polygon.T
    assert ra[0] > ra[1]  # x runs against right ascension
    assert dec[2] > dec[1]
    assert DC2.patch_polygon([4431, 4432], [0, 1]).shape == (2, 4, 2)
    corner = DC2.patch_polygon(4431, 0)[0]
    assert_allclose(DC2.tract_polygon(4431)[0], corner)


def test_inner_boxes_are_the_ring_s_share():
    ring = 180 / 121
    box = DC2.inner_box(4431)
    assert_allclose([box.dec_min, box.dec_max], [38.5 * ring - 90, 39.5 * ring - 90])
    assert DC2.inner_box(0) == Box(0, 360, -90, 0.5 * ring - 90)
    ra_across_zero = DC2.inner_box(int(DC2.find_tract(0, 0.5)))
    assert ra_across_zero.ra_min > ra_across_zero.ra_max


def test_an_inner_corner_that_sticks_out_of_the_pixels_goes_to_the_nearest_patch():
    # Beside the north cap a tract is 36 degrees wide: on its northern edge the corner lies beyond the last row.
    box = DC2.inner_box(DC2.n_tracts - 2)
    ra, dec = box.ra_min + 1e-6, box.dec_max - 1e-6
    tract, patch = DC2.find(ra, dec)
    assert int(tract) == DC2.n_tracts - 2
    assert int(DC2.find_patch(tract, ra, dec)) == -1
    _, y = DC2.to_pixels(tract, ra, dec)
    assert 0 < y - 27999.5 < 50
    assert patch // 7 == 6
    # Maps of larger patches leave no such corner.
    assert int(CELLS.find_patch(tract, ra, dec)) == int(CELLS.find(ra, dec)[1])


@pytest.mark.parametrize("sky", [DC2, CELLS], ids=lambda s: s.name)
def test_candidates_are_tight(sky):
    middle = sky.grid.box(24, outer=False)[:2] + sky.grid.inner / 2
    ra, dec = sky.to_sky(4431, *middle)
    tract, patch = sky.candidates(Cone(float(ra), float(dec), 10 / 3600))
    assert (tract.tolist(), patch.tolist()) == ([4431], [24])
    corner = sky.grid.box(24, outer=False)[:2] - 0.5
    ra, dec = sky.to_sky(4431, *corner)
    tract, patch = sky.candidates(Cone(float(ra), float(dec), 10 / 3600))
    side = sky.patches_per_side
    assert (tract.tolist(), patch.tolist()) == ([4431] * 4, [24 - side - 1, 24 - side, 24 - 1, 24])


@pytest.mark.parametrize("sky", [DC2, CELLS], ids=lambda s: s.name)
def test_candidates_across_one_edge_are_two(sky):
    left, bottom, *_ = sky.patch_box(24).tolist()
    ra, dec = sky.to_sky(4431, left - 1.5, bottom + sky.grid.inner / 2)
    tract, patch = sky.candidates(Cone(float(ra), float(dec), 1 / 3600))
    assert (tract.tolist(), patch.tolist()) == ([4431] * 2, [23, 24])


@pytest.mark.parametrize("sky", [SMALL, TIGHT], ids=lambda s: s.name)
@pytest.mark.parametrize(
    "region",
    [
        Cone(359.5, 0.5, 0.4),
        Cone(0, 90, 30),
        Cone(0, -90, 89),
        Cone(100, 20, 130),
        Box(200, 100, -5, 5),
        Box(100, 200, -38, -22),
        Box(350, 10, 60, 90),
        Box(300, 290, -90, -80),
        Polygon(((340, -20), (20, -20), (0, 30))),
        Polygon(((0, 75), (90, 60), (180, 75), (270, 80))),
    ],
    ids=str,
)
def test_candidates_hold_every_found_patch_and_few_others(sky, region):
    rng = np.random.default_rng(11)
    ra, dec = rng.uniform(0, 360, 200_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 200_000)))
    inside = region.contains(ra, dec)
    found = set(zip(*(a.tolist() for a in sky.find(ra[inside], dec[inside])), strict=True))
    candidates = set(zip(*(a.tolist() for a in sky.candidates(region)), strict=True))
    assert found <= candidates
    # Patches that the region's edge just grazes are rarely hit by a random position.
    assert len(candidates) <= 1.5 * len(found) + 6


@pytest.mark.parametrize("sky", [TIGHT, DC2], ids=lambda s: s.name)
def test_candidates_hold_the_patch_at_every_inner_corner(sky):
    tracts = [t for t in range(sky.n_tracts) if t < 40 or t >= sky.n_tracts - 40]
    outside = 0
    for box in map(sky.inner_box, tracts[1:-1]):
        for ra, dec in ((box.ra_min + 1e-6, box.dec_max - 1e-6), (box.ra_max - 1e-6, box.dec_min + 1e-6)):
            tract, patch = (int(number) for number in sky.find(ra, dec))
            outside += int(sky.find_patch(tract, ra, dec)) == -1
            assert (tract, patch) in zip(*sky.candidates(Cone(ra, dec, 1e-7)), strict=True)
    assert outside > 0  # or this test has lost its point


def test_candidates_of_the_whole_sky_are_every_patch_with_an_inner_region():
    tract, patch = SMALL.candidates(Box(0, 360, -90, 90))
    rng = np.random.default_rng(7)
    found = SMALL.find(rng.uniform(0, 360, 400_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 400_000))))
    known = set(zip(*(a.tolist() for a in found), strict=True))
    assert known <= set(zip(tract.tolist(), patch.tolist(), strict=True))
    assert len(known) <= len(tract) <= 1.02 * len(known)
    everything = SMALL.outer_candidates(Cone(0, 0, 180))
    assert len(everything[0]) == 26 * SMALL.patches_per_tract


def test_coadd_patches_are_the_outer_boxes():
    columns = DC2.coadd_patches([4431, 0])
    assert list(columns) == ["lsst_tract", "lsst_patch", "s_ra", "s_dec", "s_region"]
    assert columns["lsst_tract"].tolist() == [4431] * 49 + [0] * 49
    assert columns["lsst_patch"].tolist() == list(range(49)) * 2
    assert_allclose((columns["s_ra"][24], columns["s_dec"][24]), DC2.to_sky(4431, 13999.5, 13999.5))
    frame, *corners = columns["s_region"][17].split(" ", 2)
    assert frame == "POLYGON"
    assert corners[0] == "ICRS"
    numbers = np.array(corners[1].split(), dtype=float).reshape(4, 2)
    assert_allclose(numbers, DC2.patch_polygon(4431, 17, outer=True), rtol=0, atol=1e-9)
    assert max(map(len, columns["s_region"])) <= 512


def test_every_filled_patch_of_dp02_is_among_its_coadd_patches():
    # 7693 = 157 * 49: DP0.2 filled its tracts whole.
    columns = DC2.coadd_patches(tract for first, last in DP02 for tract in range(first, last + 1))
    assert {len(column) for column in columns.values()} == {7693}


def test_an_unknown_name_tells_the_near_ones():
    with pytest.raises(NotFoundError, match="DC2"):
        skymap.named("dc2")


def test_a_registered_map_is_known_and_its_name_taken():
    mine = SkyMap("mine for a test", Legacy(400, 10), num_rings=3, scale_arcsec=60.0)
    assert skymap.register(mine) is mine
    assert skymap.named("mine for a test") == skymap.register(SkyMap(mine.name, mine.patches, 3, 60.0))
    with pytest.raises(QueryError, match="already known"):
        skymap.register(SkyMap(mine.name, Legacy(400, 20), 3, 60.0))


@pytest.mark.parametrize("tract", [-1, 18938])
def test_an_unknown_tract_or_patch_is_named(tract):
    with pytest.raises(NotFoundError, match=str(tract)):
        DC2.tract_polygon(tract)
    with pytest.raises(NotFoundError, match="49"):
        DC2.patch_polygon(4431, 49)


@pytest.mark.parametrize("wrong", [{"num_rings": 1}, {"version": 2}])
def test_a_map_that_cannot_be_is_refused(wrong):
    with pytest.raises(QueryError, match="expected two rings"):
        SkyMap("wrong", Legacy(4000, 100), **wrong)


def test_a_map_is_a_value():
    again = pickle.loads(pickle.dumps(DC2))  # noqa: S301 - our own bytes
    assert again == DC2
    assert hash(again) == hash(DC2)
    assert again.sha1 == DC2.sha1
    assert SkyMap("DC2", Cells(150, 50, 20, 1)) != DC2
