"""Tables of any mix of TFORM letters, and what astropy reads of them.

Two things astropy does not do are held against what was written: the null of a logical, which it reads as false,
and a number that is no number, which it masks and which is a value here.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
from astropy.io import fits
from astropy.table import Table
from hypothesis import strategies as st

from support.fits import null_logicals, write_table

LETTERS = "LXBIJKAEDCM"
SHAPES = [(), (), (), (3,), (2, 3), (0,)]
INTEGERS = {"B": np.uint8, "I": np.int16, "J": np.int32, "K": np.int64}
# Letter, zero point and the type that astropy stores with it.
UNSIGNED = {"B": (-128, np.int8), "I": (2**15, np.uint16), "J": (2**31, np.uint32), "K": (2**63, np.uint64)}


@st.composite
def kinds(draw):
    """Draw a kind of column: letter, shape, variant and, for texts, their length."""
    letter = draw(st.sampled_from(LETTERS))
    # astropy fails to write a column of no bits.
    shape = draw(st.sampled_from([s for s in SHAPES if letter != "X" or s != (0,)]))
    variant = draw(st.sampled_from(["plain", "null", "unsigned", "scaled"]))
    chars = draw(st.sampled_from([1, 3, 12, 13, 30]))
    return letter, shape, variant, chars


def _build(name, kind, rows, rng):
    letter, shape, variant, chars = kind
    size = (rows, *shape)
    count = math.prod(shape)
    how = {}
    if len(shape) > 1:
        how["dim"] = str(tuple(reversed(shape))).replace(" ", "")
    null = None
    if letter == "L":
        array = rng.random(size) < 0.5
        null = rng.random(size) < (0.3 if variant == "null" else 0)
    elif letter == "X":
        array = rng.random(size) < 0.5
        how.pop("dim", None)
        array = array.reshape(rows, count)
    elif letter == "A":
        lengths = rng.integers(0, chars + 1, size)
        letters = rng.integers(32, 127, (*size, chars)).astype(np.uint8)
        letters[np.arange(chars) >= lengths[..., np.newaxis]] = 0
        array = letters.reshape(*size, chars).view(f"S{chars}").reshape(size)
        count *= chars
        if shape:
            how["dim"] = str((chars, *reversed(shape))).replace(" ", "")
    elif letter in "ED":
        array = rng.normal(size=size).astype(f"f{4 if letter == 'E' else 8}")
        array[rng.random(size) < 0.1] = np.nan
    elif letter in "CM":
        array = (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(f"c{8 if letter == 'C' else 16}")
    else:
        array = _integers(letter, variant, size, rng, how)
    return fits.Column(name, f"{count}{letter}", array=array, **how), null


def _integers(letter, variant, size, rng, how):
    if variant == "unsigned":
        how["bzero"], stored = UNSIGNED[letter]
        low, high = np.iinfo(stored).min, min(np.iinfo(stored).max, 2**63 - 1)
        return rng.integers(low, high, size, stored, endpoint=True)
    bounds = np.iinfo(INTEGERS[letter])
    array = rng.integers(bounds.min, bounds.max, size, INTEGERS[letter], endpoint=True)
    if variant == "null":
        how["null"] = 7
        array[rng.random(size) < 0.3] = 7
    return array


def _scaling(drawn):
    """Return cards that scale the numbers of these columns; astropy reads them well and writes them badly."""
    cards = {}
    for number, (letter, _, variant, _) in enumerate(drawn, 1):
        if letter in "BIJED" and variant == "scaled":  # astropy cannot read a scaled K at all
            cards |= {f"TSCAL{number}": 0.25, f"TZERO{number}": -1.5}
    return cards


def _as_lists(value):
    """Return what astropy read as plain lists: None where it is masked or no number."""
    if isinstance(value, np.ma.MaskedArray) and value.shape:
        return [_as_lists(v) for v in value]
    if isinstance(value, np.ndarray) and value.shape:
        return [_as_lists(v) for v in value]
    if value is np.ma.masked:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bytes):
        value = value.decode()
    return None if isinstance(value, float) and math.isnan(value) else value


def _ours(value):
    """Return a value of ours in the same terms: a struct of two is a complex number."""
    if isinstance(value, list):
        return [_ours(v) for v in value]
    if isinstance(value, dict):
        return complex(value["re"], value["im"])
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_nulls(values, null):
    return [(None if n else v) if np.ndim(n) == 0 else _with_nulls(v, n) for v, n in zip(values, null, strict=True)]


def write_any(path: Path, drawn: list, rows: int, seed: int) -> dict[str, list]:
    """Write a table of columns of these kinds and one more, ``id``; return the values of each as astropy reads them."""
    rng = np.random.default_rng(seed)
    made = [_build(f"c{i}", kind, rows, rng) for i, kind in enumerate(drawn)]
    # The last column keeps rows from having no bytes at all, which astropy cannot write.
    written = [*(column for column, _ in made), fits.Column("id", "K", array=np.arange(rows))]
    patched = any(null is not None and null.any() for _, null in made)
    write_table(path, written, header=_scaling(drawn), checksum=not patched)
    read = Table.read(path, hdu=1)
    expected = {}
    for column, null in made:
        wanted = _as_lists(read[column.name])
        if column.format == "1X":  # one bit is a boolean, not a list of one
            wanted = [bits[0] for bits in wanted]
        if null is not None:
            null_logicals(path, column.name, null)
            wanted = _with_nulls(wanted, null)
        expected[column.name] = wanted
    return expected | {"id": list(range(rows))}


def values(frame: pl.DataFrame) -> dict[str, list]:
    """Return a frame of ours in the same terms."""
    return {column.name: _ours(column.to_list()) for column in frame}
