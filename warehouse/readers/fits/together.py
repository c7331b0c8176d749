"""Columns of a FITS table that are decoded many at once.

A catalogue has hundreds of columns, most of them plain numbers, logicals or flag bits. Taken one by one they are many
short calls, between which threads queue for the interpreter; taken together they are a few long ones. Here belongs
only that; what bytes become is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.readers.fits.booleans import Bits, Logicals, damage, decoded
from warehouse.readers.fits.buffers import Block, Bytes, Decoder, Flags, Step, Values, aligned, bitmap_bytes, wrapped
from warehouse.readers.fits.fields import Field
from warehouse.readers.fits.numbers import Numbers

# How many groups ahead the second of an evenly spaced pattern is looked for.
_LOOK_AHEAD = 32


def steps(decoders: Sequence[Decoder]) -> list[Step]:
    """Return the work that fills the columns of `decoders`, in as few steps as there may be."""
    plain: dict[int, Numbers] = {i: d for i, d in enumerate(decoders) if isinstance(d, Numbers) and d.plain}
    logicals = {i: d.field for i, d in enumerate(decoders) if isinstance(d, Logicals)}
    bits = {i: d.field for i, d in enumerate(decoders) if isinstance(d, Bits)}
    made: list[Step] = [_Alone((i,), d) for i, d in enumerate(decoders) if not {i} & {*plain, *logicals, *bits}]
    made += _number_runs(plain)
    if logicals:
        patterns = list(_patterns({i: field.offset for i, field in logicals.items()}, 1))
        made.append(_Logicals(patterns, [logicals[i] for pattern in patterns for i in pattern.members]))
    if bits:
        made.append(_Bits(list(bits), list(bits.values())))
    return made


@dataclass(frozen=True, slots=True)
class _Alone:
    members: tuple[int]
    decoder: Decoder

    def sizes(self, rows: int) -> tuple[int, ...]:
        return self.decoder.sizes(rows)

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        self.decoder.fill(block, buffers, start)

    def arrays(self, buffers: Sequence[Bytes], rows: int) -> list[pa.Array]:
        return [self.decoder.array(buffers, rows)]


# ------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Columns of one width that lie regularly: flux, error, flag, flux, error, flag ... holds two such patterns.

    `groups` are columns side by side, as many in each, `spacing` bytes from one group to the next.
    """

    groups: Sequence[Sequence[int]]
    offset: int
    spacing: int

    @property
    def members(self) -> list[int]:
        return [member for group in self.groups for member in group]

    def copy(self, block: Block, stored: np.dtype[Any], columns: Values) -> None:
        """Write the block's rows into `columns`, of shape (members, rows), in one call."""
        rows, row_bytes = block.data.shape
        shape = len(self.groups), len(self.groups[0]), rows
        strides = self.spacing, stored.itemsize, row_bytes
        view: Values = np.ndarray(shape, stored, block.data, self.offset, strides=strides)
        np.copyto(columns.reshape(*shape[:2], -1)[:, :, :rows], view)


@dataclass(frozen=True, slots=True)
class _NumberRun:
    """Numbers of one type, read without a conversion other than of byte order."""

    pattern: _Pattern
    stored: np.dtype[Any]
    read: np.dtype[Any]

    @property
    def members(self) -> Sequence[int]:
        return self.pattern.members

    def sizes(self, rows: int) -> tuple[int, ...]:
        return (len(self.members) * aligned(rows * self.read.itemsize),)

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        columns = buffers[0].view(self.read).reshape(len(self.members), -1)
        self.pattern.copy(block, self.stored, columns[:, start:])

    def arrays(self, buffers: Sequence[Bytes], rows: int) -> list[pa.Array]:
        kind = pa.from_numpy_dtype(self.read)
        return [wrapped(kind, rows, None, own) for own in buffers[0].reshape(len(self.members), -1)]


def _number_runs(decoders: dict[int, Numbers]) -> list[Step]:
    def kind(i: int) -> tuple[str, str]:
        return decoders[i].stored.str, decoders[i].read.str

    runs: list[Step] = []
    for _, alike in groupby(sorted(decoders, key=kind), kind):
        offsets = {i: decoders[i].field.offset for i in alike}
        some = decoders[min(offsets)]
        patterns = _patterns(offsets, some.stored.itemsize)
        runs += [_NumberRun(pattern, some.stored, some.read) for pattern in patterns]
    return runs


def _patterns(offsets: Mapping[int, int], width: int) -> Iterator[_Pattern]:
    """Yield few patterns that cover the columns at these offsets; one that is asked for twice is two columns."""
    groups: list[tuple[int, list[int]]] = []
    for member, offset in sorted(offsets.items(), key=lambda item: item[1]):
        if groups and offset == groups[-1][0] + len(groups[-1][1]) * width:
            groups[-1][1].append(member)
        else:
            groups.append((offset, [member]))
    while groups:
        first = groups[0]
        alike = [group for group in groups if len(group[1]) == len(first[1])]
        run = max((_progression(alike, second[0] - first[0]) for second in alike[: 1 + _LOOK_AHEAD]), key=len)
        spacing = run[1][0] - first[0] if len(run) > 1 else 0
        yield _Pattern([group[1] for group in run], first[0], spacing)
        groups = [group for group in groups if not any(group is used for used in run)]


def _progression(groups: Sequence[tuple[int, list[int]]], spacing: int) -> list[tuple[int, list[int]]]:
    """Return the groups from the first on that are `spacing` bytes apart."""
    run = [groups[0]]
    starts = {group[0]: group for group in groups}
    while spacing > 0 and (following := starts.get(run[-1][0] + spacing)) is not None:
        run.append(following)
    return run


# ------------------------------------------------------------------------------------------ logicals and bits


@dataclass(frozen=True, slots=True)
class _Logicals:
    """Single logicals; `fields` in the order of `members`."""

    patterns: Sequence[_Pattern]
    fields: Sequence[Field]

    @property
    def members(self) -> Sequence[int]:
        return [member for pattern in self.patterns for member in pattern.members]

    def sizes(self, rows: int) -> tuple[int, ...]:
        return (len(self.fields) * aligned(bitmap_bytes(rows)),) * 2

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        raw = np.empty((len(self.fields), len(block.data)), np.uint8)
        done = 0
        for pattern in self.patterns:
            count = len(pattern.members)
            pattern.copy(block, raw.dtype, raw[done : done + count])
            done += count
        true, known = decoded(raw)
        if known is None:
            by_field = zip(raw, self.fields, strict=True)
            raise next(damage(own, field, block) for own, field in by_field if decoded(own)[1] is None)
        _put_rows(true, buffers[0], start)
        _put_rows(known, buffers[1], start)

    def arrays(self, buffers: Sequence[Bytes], rows: int) -> list[pa.Array]:
        values, validity = (buffer.reshape(len(self.fields), -1) for buffer in buffers)
        return [wrapped(pa.bool_(), rows, valid, own) for own, valid in zip(values, validity, strict=True)]


@dataclass(frozen=True, slots=True)
class _Bits:
    """Single bits: named ones of a flag column, or columns of one."""

    members: Sequence[int]
    fields: Sequence[Field]

    def sizes(self, rows: int) -> tuple[int, ...]:
        return (len(self.fields) * aligned(bitmap_bytes(rows)),)

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        found = np.empty((len(self.fields), len(block.data)), np.uint8)
        for own, field in zip(found, self.fields, strict=True):
            byte, place = divmod(field.bit or 0, 8)
            np.bitwise_and(block.data[:, field.offset + byte], 0x80 >> place, out=own)
        _put_rows(found, buffers[0], start)

    def arrays(self, buffers: Sequence[Bytes], rows: int) -> list[pa.Array]:
        return [wrapped(pa.bool_(), rows, None, own) for own in buffers[0].reshape(len(self.fields), -1)]


def _put_rows(bits: Flags | Bytes, bitmaps: Bytes, start: int) -> None:
    """Write row i of `bits` into the i-th of as many bitmaps."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    bitmaps.reshape(len(packed), -1)[:, start // 8 : start // 8 + packed.shape[1]] = packed
