"""What a FITS binary table's header says of its columns, as records, with afw's conventions applied.

Here belong TFORM, TDIM, TNULL, TSCAL and TZERO, the bits of an afw flag column, afw's angles and aliases. What the
bytes of a row become is `warehouse.readers.fits_columns`. Imports errors only; the header comes from the caller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from warehouse.errors import InputError

_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(\d*)")
_TDIM = re.compile(r"\(\s*\d+\s*(?:,\s*\d+\s*)*\)")
_ITEM_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_INTEGERS = "BIJK"
_SCALABLE = "BIJKEDCM"

Cards = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of the table, or one named bit of an afw flag column.

    Attributes
    ----------
    number
        As FITS counts, from 1.
    code
        The letter of TFORM.
    offset, width
        Bytes from the start of a row, and bytes taken in it.
    shape
        Of one row's value, outermost axis first (TDIM names the innermost first); () for a single value.
    item
        Bytes of one element; for text, of one string.
    null, scale, zero
        TNULL (of the stored value), TSCAL and TZERO.
    bit
        Which bit of the field, counted from its first, where the field is a bit of a flag column.
    angle
        Radians that afw marks as an Angle, to be read as degrees.
    """

    number: int
    name: str
    code: str
    offset: int
    width: int
    shape: tuple[int, ...]
    item: int
    unit: str | None = None
    null: int | None = None
    scale: int | float = 1
    zero: int | float = 0
    bit: int | None = None
    angle: bool = False

    @property
    def elements(self) -> int:
        """Elements in one row."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"column {self.number} {self.name!r}"


def table_fields(cards: Cards, place: str) -> tuple[Field, ...]:
    """Return the columns that `cards` describe, in the order of the file; flag bits stand where their column stood.

    Parameters
    ----------
    cards
        Keyword to value, of the table's header.
    place
        Names the HDU in messages.

    Raises
    ------
    InputError
        A form that is none, widths that do not add up to NAXIS1 (kind ``corrupt``), or a name that repeats
        (kind ``duplicate_column``).
    """
    fields = list(_stored_fields(cards, place))
    taken, row_bytes = (fields[-1].offset + fields[-1].width if fields else 0), _integer(cards, "NAXIS1", place)
    if taken != row_bytes:
        raise InputError(
            f"{place}: its {len(fields)} columns take {taken} bytes of a row, NAXIS1 says {row_bytes}", kind="corrupt"
        )
    expanded = tuple(part for field in fields for part in _with_afw(field, cards, place))
    _refuse_duplicates(expanded, place)
    return expanded


def aliases(values: list[str]) -> dict[str, str]:
    """Return afw's aliases from the values of ALIAS cards: each ``alias:target`` renames a leading part of names."""
    pairs = (value.partition(":") for value in values)
    return {alias.strip(): target.strip() for alias, separator, target in pairs if separator}


def unaliased(name: str, known: Mapping[str, str]) -> str:
    """Return the column that `name` means: its longest leading part that is an alias is replaced, again and again."""
    for _ in range(len(known) + 1):
        heads = [alias for alias in known if name.startswith(alias)]
        if not heads:
            break
        longest = max(heads, key=len)
        name = known[longest] + name[len(longest) :]
    return name


def _stored_fields(cards: Cards, place: str) -> Iterator[Field]:
    offset = 0
    for number in range(1, _integer(cards, "TFIELDS", place) + 1):
        field = _stored_field(cards, number, offset, place)
        offset += field.width
        yield field


def _stored_field(cards: Cards, number: int, offset: int, place: str) -> Field:
    name = str(cards.get(f"TTYPE{number}", "")).strip() or f"col{number}"
    form = str(cards.get(f"TFORM{number}", "")).strip().upper()
    match = _TFORM.match(form)
    if match is None:
        raise InputError(f"{place}, column {number} {name!r}: TFORM{number} is {form!r}, no form", kind="corrupt")
    repeat, code = int(match[1] or 1), match[2]
    width = (repeat + 7) // 8 if code == "X" else repeat * _ITEM_BYTES[code]
    shape, item = _shape(cards, number, repeat, code, match[3])
    if math.prod(shape) * (item if code == "A" else 1) > repeat and code not in "PQ":
        dim = cards.get(f"TDIM{number}")
        raise InputError(
            f"{place}, column {number} {name!r}: TDIM{number} {dim!r} needs more than the {repeat} elements of TFORM",
            kind="corrupt",
        )
    field = Field(number, name, code, offset, width, shape, item, str(cards.get(f"TUNIT{number}", "")).strip() or None)
    if code in _INTEGERS and f"TNULL{number}" in cards:
        field = replace(field, null=_null(cards, field, place))
    if code in _SCALABLE:
        scale, zero = (_number(cards, f"{key}{number}", field, place) for key in ("TSCAL", "TZERO"))
        field = replace(field, scale=1 if scale is None else scale, zero=zero or 0)
    return field


def _shape(cards: Cards, number: int, repeat: int, code: str, suffix: str) -> tuple[tuple[int, ...], int]:
    """Return a value's shape, outermost axis first, and the bytes of an element.

    TDIM is in Fortran's order; for text its first axis is the strings' length. ``rAw`` is the older way to say
    that a field holds strings of w characters.
    """
    text = str(cards.get(f"TDIM{number}", ""))
    sizes = [int(size) for size in re.findall(r"\d+", text)] if _TDIM.fullmatch(text.strip()) else []
    if code == "A":
        if not sizes and suffix and 0 < int(suffix) < repeat:
            sizes = [int(suffix), repeat // int(suffix)]
        return tuple(reversed(sizes[1:])), sizes[0] if sizes else repeat
    if sizes:
        return tuple(reversed(sizes)), _ITEM_BYTES.get(code, 1)
    return (() if repeat == 1 else (repeat,)), _ITEM_BYTES.get(code, 1)


def _with_afw(field: Field, cards: Cards, place: str) -> Iterator[Field]:
    """Yield the field, or the named bits where it is afw's flag column; bits without a name are padding."""
    if field.number == cards.get("FLAGCOL"):
        if field.code != "X":
            raise InputError(f"{place}, {field}: FLAGCOL wants bits (X), not {field.code}", kind="corrupt")
        for bit in range(field.elements):
            name = str(cards.get(f"TFLAG{bit + 1}", "")).strip()
            if name:
                yield replace(field, name=name, shape=(), bit=bit)
        return
    angle = cards.get(f"TCCLS{field.number}") == "Angle" and field.code in "ED"
    if angle and (field.unit or "rad") in {"rad", "radian", "radians"}:
        field = replace(field, angle=True, unit="deg")
    yield field


def _refuse_duplicates(fields: tuple[Field, ...], place: str) -> None:
    seen: dict[str, Field] = {}
    for field in fields:
        first = seen.setdefault(field.name, field)
        if first is not field:
            raise InputError(
                f"{place}: the name {field.name!r} stands for column {first.number} and for column {field.number}",
                kind="duplicate_column",
            )


def _integer(cards: Cards, key: str, place: str) -> int:
    value = cards.get(key)
    if not isinstance(value, int) or value < 0:
        raise InputError(f"{place}: {key} is {value!r}, expected a count", kind="corrupt")
    return value


def _null(cards: Cards, field: Field, place: str) -> int | None:
    value = _number(cards, f"TNULL{field.number}", field, place)
    if isinstance(value, float):
        raise InputError(f"{place}, {field}: TNULL{field.number} is {value!r}, expected an integer", kind="corrupt")
    return value


def _number(cards: Cards, key: str, field: Field, place: str) -> int | float | None:
    """Return a number, None where there is none; one without a fraction is an int, so that 64 bits stay exact."""
    value = cards.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{place}, {field}: {key} is {value!r}, expected a number", kind="corrupt")
    return value
