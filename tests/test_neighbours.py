"""The neighbour search against a k-d tree of unit vectors, and separations against astropy."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import angular_separation
from scipy.spatial import cKDTree

from warehouse.errors import QueryError
from warehouse.truth import neighbours
from warehouse.truth.neighbours import nearest, separation_arcsec


def positions(rng, count, spread_deg, ra=0.0, dec=90.0):
    """Return positions about a place, in vectors so that poles are no special case."""
    centre = vectors(np.array([ra]), np.array([dec]))
    x, y, z = (centre + rng.normal(0, np.radians(spread_deg), (count, 3))).T
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def vectors(ra, dec):
    a, d = np.radians(ra), np.radians(dec)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


@pytest.mark.parametrize("block", [1 << 20, 1, 37])
@pytest.mark.parametrize("limit", [1, 10, 1000])
@pytest.mark.parametrize(
    ("ra", "dec", "spread_deg", "radius_arcsec"),
    [(0, 0, 1e-3, 2.0), (62, -37, 2e-4, 0.5), (0, -90, 1e-3, 3.0), (10, 90, 1e-4, 0.5), (180, 5, 2.0, 3600.0)],
)
def test_neighbours_are_those_of_a_tree(ra, dec, spread_deg, radius_arcsec, limit, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK_PAIRS", block)
    rng = np.random.default_rng(8)
    a, b = positions(rng, 120, spread_deg, ra, dec), positions(rng, 200, spread_deg, ra, dec)
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    distance, index = cKDTree(vectors(*b)).query(vectors(*a), k=min(limit, 200), distance_upper_bound=chord)
    distance, index = distance.reshape(120, -1), index.reshape(120, -1)
    expected = [(n, int(i)) for n in range(120) for i in index[n] if i < 200]
    assert len(expected) > 100
    first, second, separation_nas = nearest(a, b, radius_arcsec, limit)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
    angle = 2 * np.degrees(np.arcsin(distance[index < 200] / 2)) * 3600e9
    # Half by rounding; and near RA 360 a position itself is good to some 0.1 nas.
    np.testing.assert_allclose(separation_nas, angle, rtol=1e-12, atol=1.0)


def test_equally_near_ones_by_index_and_nothing_without_a_place():
    spot = (np.array([10.0, np.nan, 10.0]), np.array([5.0, 5.0, np.inf]))
    same = (np.array([10.0, np.nan, 10.0, 370.0]), np.array([5.0, 5.0, 5.0, 5.0]))
    first, second, separation_nas = nearest(spot, same, 0.5, 2)
    assert (first.tolist(), second.tolist(), separation_nas.tolist()) == ([0, 0], [0, 2], [0, 0])
    nobody = (np.empty(0), np.empty(0))
    for pair in ((nobody, same), (spot, nobody), (nobody, nobody)):
        assert [column.size for column in nearest(*pair, 0.5, 2)] == [0, 0, 0]


def test_separations_are_astropys():
    rng = np.random.default_rng(3)
    ra_a, dec_a = rng.uniform(0, 360, 500), rng.uniform(-90, 90, 500)
    step = 10 ** rng.uniform(-8, 0, 500)
    ra_b, dec_b = ra_a + step, np.clip(dec_a - step, -90, 90)
    expected = angular_separation(*(angle * u.deg for angle in (ra_a, dec_a, ra_b, dec_b))).to_value(u.arcsec)
    np.testing.assert_allclose(separation_arcsec(ra_a, dec_a, ra_b, dec_b), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radius_arcsec", [0.0, -1.0, 3601.0, np.nan])
def test_a_radius_that_means_nothing_is_refused(radius_arcsec):
    with pytest.raises(QueryError, match="radius_arcsec"):
        nearest((np.zeros(1), np.zeros(1)), (np.zeros(1), np.zeros(1)), radius_arcsec, 1)
