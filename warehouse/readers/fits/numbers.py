"""Integers, floats and complex numbers of a FITS table: byte order, TNULL, TSCAL and TZERO, afw's angles.

Here belongs arithmetic on stored numbers. Nothing unsigned comes out: an unsigned number becomes the next wider
signed one, and one beyond 64 bits is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.errors import InputError
from warehouse.readers.fits.buffers import (
    Block,
    Bytes,
    Flags,
    Values,
    bitmap_bytes,
    elements,
    put_bits,
    row_name,
    wrapped,
)
from warehouse.readers.fits.fields import Field

_STORED = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">f4", "M": ">f8"}
# A byte is unsigned; Arrow's table formats know signed integers only.
_PLAIN = {"B": "i2", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8", "C": "f4", "M": "f8"}
_ZERO_POINTS = {("B", -128): "i1", ("I", 2**15): "i4", ("J", 2**31): "i8", ("K", 2**63): "i8"}
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Integers and floats: swapped into the machine's order on their way into the column, then converted."""

    field: Field
    stored: np.dtype[Any]
    read: np.dtype[Any]
    shift: int = 0
    convert: Callable[[Values, Flags | None], Values] | None = None

    @property
    def arrow(self) -> pa.DataType:
        """The number's own type."""
        return pa.from_numpy_dtype(self.read)

    @property
    def plain(self) -> bool:
        """Whether nothing but the byte order changes."""
        return self.convert is None and self.field.null is None

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of the values, and of validity where the column may hold nulls."""
        elements = rows * self.field.elements
        values = elements * self.read.itemsize
        return (values,) if self.field.null is None else (values, bitmap_bytes(elements))

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Decode the block."""
        view = elements(block, self.field, self.stored.str, self.shift)
        begin, end = start * self.field.elements, start * self.field.elements + view.size
        target = buffers[0].view(self.read)[begin:end]
        if self.plain:
            np.copyto(target.reshape(view.shape), view)
            return
        raw = view.astype(self.stored.newbyteorder("=")).ravel()
        valid = None
        if self.field.null is not None:
            valid = raw != self.field.null
            put_bits(valid, buffers[1], begin)
        try:
            target[:] = raw if self.convert is None else self.convert(raw, valid)
        except _OverflowAtError as overflow:
            place = row_name(overflow.index, self.field, block)
            raise InputError(
                f"{place}: {overflow.value} does not fit a signed 64-bit integer", kind="overflow"
            ) from None

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        """Return the column."""
        validity = None if self.field.null is None else buffers[1]
        return wrapped(self.arrow, rows * self.field.elements, validity, buffers[0])


class _OverflowAtError(Exception):
    def __init__(self, index: int, value: int) -> None:
        super().__init__(index, value)
        self.index = index
        self.value = value


def numbers(field: Field) -> Numbers:
    """Return what reads a column of integers or floats."""
    stored = np.dtype(_STORED[field.code])
    plain = np.dtype(_PLAIN[field.code])
    if field.scale == 1 and field.zero == 0:
        return Numbers(field, stored, plain, convert=_degrees if field.angle else None)
    if field.angle:
        return Numbers(field, stored, np.dtype("f8"), convert=_linear(np.degrees(field.scale), np.degrees(field.zero)))
    special = _ZERO_POINTS.get((field.code, int(field.zero))) if field.scale == 1 else None
    if special is not None:
        convert = _unsigned64 if field.code == "K" else _shifted(int(field.zero), special)
        return Numbers(field, stored, np.dtype(special), convert=convert)
    if field.code in "BIJK" and isinstance(field.scale, int) and isinstance(field.zero, int):
        return Numbers(field, stored, np.dtype("i8"), convert=_whole(field.scale, field.zero))
    return Numbers(field, stored, np.dtype("f8"), convert=_linear(field.scale, field.zero))


def _degrees(raw: Values, _: Flags | None) -> Values:
    return np.degrees(raw)


def _shifted(zero: int, read: str) -> Callable[[Values, Flags | None], Values]:
    return lambda raw, _: (raw.astype(np.int64) + zero).astype(read)


def _linear(scale: float, zero: float) -> Callable[[Values, Flags | None], Values]:
    return lambda raw, _: raw.astype(np.float64) * float(scale) + float(zero)


def _unsigned64(raw: Values, valid: Flags | None) -> Values:
    """Return value = stored + 2**63; what is stored as 0 or more is beyond a signed integer."""
    beyond = raw >= 0 if valid is None else (raw >= 0) & valid
    if beyond.any():
        index = int(beyond.argmax())
        raise _OverflowAtError(index, int(raw[index]) + 2**63)
    return raw ^ _INT64.min


def _whole(scale: int, zero: int) -> Callable[[Values, Flags | None], Values]:
    """Return a conversion that stays among integers, and refuses what does not fit 64 bits."""

    def convert(raw: Values, valid: Flags | None) -> Values:
        known = raw if valid is None else np.where(valid, raw, raw.dtype.type(0))
        extremes = {int(raw[i]) * scale + zero: int(i) for i in (known.argmin(), known.argmax())} if raw.size else {}
        for value, index in extremes.items():
            if not _INT64.min <= value <= _INT64.max and (valid is None or valid[index]):
                raise _OverflowAtError(index, value)
        # Scale and zero may each be beyond 64 bits although the sum is not: their remainders give the same result.
        return known.astype(np.int64) * _wrapped(scale) + _wrapped(zero)

    return convert


def _wrapped(value: int) -> np.int64:
    return np.int64((value + 2**63) % 2**64 - 2**63)


@dataclass(frozen=True, slots=True)
class ComplexNumbers:
    """Complex numbers as a struct of ``re`` and ``im``; TSCAL holds for both, TZERO for the real part."""

    field: Field

    @property
    def _parts(self) -> tuple[Numbers, Numbers]:
        field, stored = self.field, np.dtype(_STORED[self.field.code])
        half = stored.itemsize
        if field.scale == 1 and field.zero == 0:
            read = np.dtype(_PLAIN[field.code])
            return Numbers(field, stored, read), Numbers(field, stored, read, half)
        read = np.dtype("f8")
        real, imaginary = _linear(field.scale, field.zero), _linear(field.scale, 0)
        return Numbers(field, stored, read, 0, real), Numbers(field, stored, read, half, imaginary)

    @property
    def arrow(self) -> pa.DataType:
        """A struct."""
        return pa.struct([(name, part.arrow) for name, part in zip(("re", "im"), self._parts, strict=True)])

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of both parts."""
        return tuple(size for part in self._parts for size in part.sizes(rows))

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Decode the block."""
        for part, buffer in zip(self._parts, buffers, strict=True):
            part.fill(block, [buffer], start)

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        """Return the column."""
        parts = [part.array([buffer], rows) for part, buffer in zip(self._parts, buffers, strict=True)]
        return pa.StructArray.from_arrays(parts, names=["re", "im"])
