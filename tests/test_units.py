"""Units of files against units of contracts: a factor, nothing, or a refusal."""

from __future__ import annotations

import math

import pytest

from warehouse.errors import ContractError
from warehouse.readers.units import unit_factor


@pytest.mark.parametrize(
    ("mine", "contracts", "factor"),
    [
        ("rad", "deg", 180 / math.pi),
        ("Jy", "nJy", 1e9),
        ("uJy", "nJy", 1e3),
        ("nJy", "Jy", 1e-9),
        ("arcsec", "deg", 1 / 3600),
        ("d", "s", 86400.0),
        ("km/s", "m s**-1", 1000.0),
    ],
)
def test_a_convertible_unit_has_its_factor(mine, contracts, factor):
    assert unit_factor(mine, contracts) == pytest.approx(factor, rel=1e-15)


def test_factors_that_are_whole_are_exactly_so():
    assert unit_factor("Jy", "nJy") == 1e9


@pytest.mark.parametrize(
    ("mine", "contracts"),
    [
        ("deg", "deg"),
        ("pixel^2", "pixel**2"),
        ("pix", "pixel"),
        ("degrees", "deg"),
        ("DEGREES", "deg"),
        ("10**-9 Jy", "nJy"),
        ("mag(AB)", "mag"),
        ("1/d", "d**-1"),
        (None, "nJy"),
        ("  ", "nJy"),
        ("unitless", "nJy"),
        ("count", None),
        ("no unit at all", None),
    ],
)
def test_values_stay_where_the_unit_is_the_same_or_untold(mine, contracts):
    assert unit_factor(mine, contracts) is None


@pytest.mark.parametrize(("mine", "contracts"), [("mag", "nJy"), ("adu", "count"), ("K", "deg"), ("furlongs", "deg")])
def test_another_kind_of_unit_is_refused_with_both(mine, contracts):
    with pytest.raises(ContractError) as caught:
        unit_factor(mine, contracts)
    assert caught.value.kind == "unit"
    assert repr(mine) in str(caught.value)
    assert repr(contracts) in str(caught.value)
