"""What a file's unit is in terms of the contract's.

Here belongs the comparison of two unit texts. Readers pass on the text that a file holds (field metadata ``unit``);
who applies the factor decides what is done where none is needed. astropy is loaded only for two texts that differ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from warehouse.errors import ContractError

# Spellings that occur in files and that no format of astropy knows.
_SPELLINGS = {
    "degrees": "deg",
    "radians": "rad",
    "radian": "rad",
    "pixels": "pix",
    "counts": "count",
    "seconds": "s",
    "days": "d",
    "nanojansky": "nJy",
}
_ROUNDING = 1e-15
_NONE = {"", "none", "unitless", "dimensionless", "-"}


@lru_cache(maxsize=4096)
def unit_factor(file_unit: str | None, contract_unit: str | None) -> float | None:
    """Return the factor that turns a file's values into the contract's unit, or None where they stay as they are.

    They stay where the two units are one, where the file names none, and where the contract does.

    Raises
    ------
    ContractError
        Kind ``unit``: the file's unit is none that is known, or is of another kind than the contract's.
    """
    mine, wanted = _tidy(file_unit), _tidy(contract_unit)
    if not mine or not wanted or mine == wanted:
        return None
    found, target = _unit(mine), _unit(wanted)
    if found is None or target is None:
        unknown = file_unit if found is None else contract_unit
        raise ContractError(
            f"unit {unknown!r} is not known; expected {contract_unit!r}, found {file_unit!r}", kind="unit"
        )
    from astropy.units import UnitConversionError, UnitTypeError

    try:
        factor = _exact(float(found.to(target)))
    except (UnitConversionError, UnitTypeError, TypeError) as error:
        raise ContractError(
            f"unit {file_unit!r} cannot be converted; expected {contract_unit!r}", kind="unit"
        ) from error
    return None if factor == 1.0 else factor


def _tidy(text: str | None) -> str:
    stripped = (text or "").strip()
    return "" if stripped.lower() in _NONE else stripped


def _unit(text: str) -> Any | None:  # noqa: ANN401 - astropy publishes no types
    """Return astropy's unit, or None; a magnitude counts as such whatever its zero point, which columns do not name."""
    from astropy import units

    for spelling in (text, _SPELLINGS.get(text.lower(), text)):
        try:
            unit = units.Unit(spelling)
        except (ValueError, TypeError):
            continue
        return unit.function_unit if isinstance(unit, units.function.FunctionUnitBase) else unit
    return None


def _exact(factor: float) -> float:
    """Return the whole number, or the inverse of one, that `factor` misses by rounding only: 1e9, not 999999999.99."""
    whole = float(round(factor)) if factor >= 1 else 1 / round(1 / factor)
    return whole if abs(whole - factor) <= _ROUNDING * factor else factor
