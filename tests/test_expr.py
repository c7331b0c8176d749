"""Expressions give what astropy and mocpy give, stay lazy, and answer null rather than NaN."""

from __future__ import annotations

import math

import mocpy
import numpy as np
import polars as pl
import pytest
from astropy import units
from astropy.coordinates import Latitude, Longitude, SkyCoord, angular_separation

from warehouse.errors import QueryError
from warehouse.query.expr import abmag, abmag_err, healpix, separation_arcsec


def values(expression, **columns):
    frame = pl.LazyFrame(columns).select(expression.alias("x"))
    assert isinstance(frame, pl.LazyFrame)
    return frame.collect().get_column("x").to_list()


def test_magnitudes_of_known_fluxes():
    # 1 nJy is 31.4, and each factor of 100 is 5 magnitudes.
    assert values(abmag("f"), f=[1.0, 100.0, 1e4, 10.0**12.56]) == pytest.approx([31.4, 26.4, 21.4, 0.0])


def test_magnitudes_are_null_where_there_is_none():
    odd = [0.0, -3.0, None, math.nan, math.inf, -math.inf]
    assert values(abmag("f"), f=odd) == [None] * 6
    assert values(abmag_err("f", "e"), f=odd, e=[1.0] * 6) == [None] * 6
    assert values(abmag_err("f", "e"), f=[5.0] * 3, e=[None, math.nan, math.inf]) == [None] * 3


def test_magnitude_error_is_what_moves_the_magnitude():
    flux, error = 2500.0, 1e-4
    brighter, fainter = values(abmag("f"), f=[flux + error, flux - error])
    assert values(abmag_err("f", "e"), f=[flux], e=[error]) == pytest.approx([(fainter - brighter) / 2], rel=1e-6)


def test_single_precision_columns_keep_double_precision_magnitudes():
    flux = np.array([123.456, 9876.5], np.float32)
    frame = pl.DataFrame({"f": flux}).select(abmag("f"))
    assert frame.dtypes == [pl.Float64]
    assert frame.to_series().to_list() == pytest.approx(
        (31.4 - 2.5 * np.log10(flux.astype(np.float64))).tolist(), abs=0
    )


def test_expressions_take_columns_expressions_and_numbers():
    assert values(abmag(pl.col("f") * 100), f=[1.0]) == pytest.approx([26.4])
    assert values(separation_arcsec("ra", "dec", 10.0, 0.0), ra=[11.0], dec=[0.0]) == pytest.approx([3600.0])


def test_separations_are_those_of_astropy():
    rng = np.random.default_rng(5)
    ra_a, ra_b = rng.uniform(0, 360, (2, 500))
    dec_a, dec_b = np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 500))))
    ra_b[:200], dec_b[:200] = ra_a[:200] + rng.normal(0, 1e-5, 200), dec_a[:200] + rng.normal(0, 1e-5, 200)
    expected = SkyCoord(ra_a, dec_a, unit="deg").separation(SkyCoord(ra_b, dec_b, unit="deg")).arcsec
    found = values(separation_arcsec("ra_a", "dec_a", "ra_b", "dec_b"), ra_a=ra_a, dec_a=dec_a, ra_b=ra_b, dec_b=dec_b)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_separations_of_the_sky_s_ends():
    ra, dec = [0.0, 359.9999, 12.0, 12.0], [90.0, 0.0, -30.0, -30.0]
    to_ra, to_dec = [0.0, 0.0001, 192.0, 12.0], [-90.0, 0.0, 30.0, -30.0]
    expected = np.degrees(angular_separation(*np.radians([ra, dec, to_ra, to_dec]))) * 3600
    found = values(separation_arcsec("a", "b", "c", "d"), a=ra, b=dec, c=to_ra, d=to_dec)
    assert found == pytest.approx(expected.tolist(), rel=1e-12, abs=1e-9)
    assert values(separation_arcsec("a", "b", 1.0, None), a=[1.0], b=[math.nan]) == [None]


@pytest.mark.parametrize("order", [0, 1, 4, 10, 20, 29])
def test_healpix_cells_are_those_of_mocpy(order):
    rng = np.random.default_rng(order)
    ra = np.concatenate([rng.uniform(0, 360, 400), rng.uniform(0, 360, 60), rng.uniform(359.99, 360, 20)])
    dec = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1, 1, 400))), rng.uniform(89.9, 90, 30)])
    dec = np.concatenate([dec, rng.uniform(-90, -89.9, 30), rng.uniform(-50, 50, 20)])
    found = values(healpix("ra", "dec", order), ra=ra, dec=dec)
    for here, there, cell in zip(ra, dec, found, strict=True):
        lon, lat = Longitude([here] * units.deg), Latitude([there] * units.deg)
        assert mocpy.MOC.from_lonlat(lon, lat, max_norder=order).flatten().tolist() == [cell]


def test_healpix_faces_and_the_odd_places():
    # At order 0 a cell is a face: four about the north pole, four on the equator from RA 0, four about the south.
    ra = [45.0, 135.0, 225.0, 315.0, 0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0]
    dec = [60.0] * 4 + [0.0] * 4 + [-60.0] * 4
    assert values(healpix("ra", "dec", 0), ra=ra, dec=dec) == list(range(12))
    again = values(healpix("ra", "dec", 8), ra=[10.0, 370.0, -350.0, 0.0, 360.0], dec=[5.0] * 5)
    assert len(set(again[:3])) == 1
    assert again[3] == again[4]
    assert values(healpix("ra", "dec", 3), ra=[None, 1.0, math.nan, 1.0], dec=[1.0, None, 1.0, 90.1]) == [None] * 4
    assert (
        values(healpix("ra", "dec", 3), ra=pl.Series([], dtype=pl.Float64), dec=pl.Series([], dtype=pl.Float64)) == []
    )


@pytest.mark.parametrize("order", [-1, 30, 2.0, True, "5"])
def test_healpix_orders_that_are_none_are_refused(order):
    with pytest.raises(QueryError, match="order of 0 to 29"):
        healpix("ra", "dec", order)
