"""Rows of a FITS binary table, block by block, into contiguous column buffers that Arrow and Polars take as they are.

Here belongs what the bytes of each TFORM letter become. A decoder is asked how many bytes its buffers take for a
number of rows, fills them from blocks of rows in any order and from any thread, and at last hands them over as an
Arrow array without a copy. Headers, files and threads are other modules' business.

| TFORM | becomes |
|---|---|
| L | boolean; byte 0 is null |
| X | boolean (one bit) or list of booleans |
| B I J K | int16, int16, int32, int64; B with TZERO -128: int8; with the unsigned zero points: int32, int64, int64 |
| E D | float32, float64; NaN stays NaN |
| C M | struct of ``re`` and ``im`` |
| A | string, cut at the first NUL and then of trailing blanks; nothing left is null, as astropy masks it |
| TSCAL, TZERO | int64 where both are whole and the column is one of integers, else float64 |
| a repeat count, TDIM | lists, nested with the outermost axis first |
| P Q | refused once the column is asked for |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from warehouse.errors import InputError
from warehouse.readers.fits.booleans import Bits, Logicals
from warehouse.readers.fits.buffers import Block, Bytes, Decoder, bitmap_bytes, put_bits, row_name, wrapped
from warehouse.readers.fits.fields import Field
from warehouse.readers.fits.numbers import ComplexNumbers, numbers

_INLINE = 12  # bytes of a string that Arrow keeps within its view


def decoder(field: Field) -> Decoder:
    """Return what reads `field`.

    Raises
    ------
    InputError
        The column is one of variable-length arrays (kind ``variable_length``).
    """
    made: Decoder
    if field.code in "PQ":
        raise InputError(
            f"{field} holds variable-length arrays ({field.code}), which cannot be read", kind="variable_length"
        )
    if field.code == "L":
        made = Logicals(field)
    elif field.code == "X":
        made = Bits(field)
    elif field.code == "A":
        made = _Text(field)
    elif field.code in "CM":
        made = ComplexNumbers(field)
    else:
        made = numbers(field)
    return _Lists(made, field.shape) if field.shape else made


def arrow_type(field: Field) -> pa.DataType:
    """Return what `field` is read as; for variable-length arrays a list of nothing that says so in messages."""
    if field.code in "PQ":
        return pa.list_(pa.field(f"variable-length arrays ({field.code})", pa.null()))
    return decoder(field).arrow


# ---------------------------------------------------------------------------------------------------- text


@dataclass(frozen=True, slots=True)
class _Text:
    """Strings as Arrow views: short ones lie within their view, longer ones stay where they were copied to.

    A view is four 32-bit words: the length, then up to 12 bytes of text; or the length, the first four bytes,
    the number of the data buffer and the offset in it.
    """

    field: Field

    @property
    def arrow(self) -> pa.DataType:
        return pa.string()

    def sizes(self, rows: int) -> tuple[int, ...]:
        elements = rows * self.field.elements
        return 16 * elements, bitmap_bytes(elements), elements * self.field.item if self.field.item > _INLINE else 0

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        (rows, row_bytes), elements, item = block.data.shape, self.field.elements, self.field.item
        begin, count = start * elements, rows * elements
        views = buffers[0].view(np.uint32).reshape(-1, 4)[begin : begin + count]
        views.fill(0)
        if not item or not count:
            put_bits(np.zeros(count, np.uint8), buffers[1], begin)
            return
        long = item > _INLINE
        text = buffers[2].reshape(-1, item)[begin : begin + count] if long else np.empty((count, item), np.uint8)
        # numpy copies a void of n bytes in one piece, and n bytes one by one.
        whole, strides = f"V{item}", (row_bytes, item)
        stored: np.ndarray[Any, Any] = np.ndarray(
            (rows, elements), whole, block.data, self.field.offset, strides=strides
        )
        np.copyto(text.view(whole).reshape(rows, elements), stored)
        length = _trimmed(text)
        self._refuse_other_than_ascii(text, block)
        views[:, 0] = length
        short = f"V{min(item, _INLINE)}"
        inline: np.ndarray[Any, Any] = np.ndarray((count,), short, views, 4, strides=(16,))
        np.copyto(inline, np.ndarray((count,), short, text, strides=(item,)))
        if long:
            outside = np.flatnonzero(length > _INLINE)
            views[outside, 2] = 0
            views[outside, 3] = (begin + outside) * item
        put_bits(length > 0, buffers[1], begin)

    def _refuse_other_than_ascii(self, text: Bytes, block: Block) -> None:
        if text.size and text.max() > 0x7F:
            index = int((text > 0x7F).any(axis=1).argmax())
            found = text[index].tobytes().rstrip(b"\0 ")
            raise InputError(f"{row_name(index, self.field, block)}: {found!r} is no ASCII text", kind="not_ascii")

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        return wrapped(pa.string_view(), rows * self.field.elements, buffers[1], buffers[0], buffers[2])


def _trimmed(text: Bytes) -> npt.NDArray[np.int64]:
    """Return each string's length, having overwritten with NUL what does not belong to it.

    That is what follows its first NUL, which the standard leaves undefined, and then its trailing blanks.
    """
    strings = text.view(f"S{text.shape[1]}")[:, 0]
    length = np.strings.str_len(strings)  # numpy's strings end before trailing NULs
    if np.count_nonzero(text) != length.sum():
        text[np.logical_or.accumulate(text == 0, axis=1)] = 0
        length = np.strings.str_len(strings)
    if (text == ord(" ")).any():
        strings[:] = np.strings.rstrip(strings, b" ")
        length = np.strings.str_len(strings)
    return length


# --------------------------------------------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True)
class _Lists:
    """Elements gathered into lists of `shape`, nested with the outermost axis first."""

    element: Decoder
    shape: tuple[int, ...]

    @property
    def arrow(self) -> pa.DataType:
        kind = self.element.arrow
        for _ in self.shape:
            kind = pa.list_(kind)
        return kind

    def sizes(self, rows: int) -> tuple[int, ...]:
        return self.element.sizes(rows)

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        self.element.fill(block, buffers, start)

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        made = self.element.array(buffers, rows)
        for axis in range(len(self.shape) - 1, -1, -1):
            lists = rows * math.prod(self.shape[:axis])
            made = pa.LargeListArray.from_arrays(np.arange(lists + 1, dtype=np.int64) * self.shape[axis], made)
        return made
