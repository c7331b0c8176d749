"""FITS files as tests need them: written by astropy, then damaged or completed where astropy cannot.

Nothing here knows the reader under test; offsets come from astropy's own view of the file that it wrote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

RECORD = 2880


def write_table(path: Path, columns: Sequence[fits.Column], *, header: Mapping | None = None, **how) -> Path:
    """Write one binary table of these columns; `how` goes to astropy's ``writeto``, such as ``checksum``."""
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update(header or {})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, **how)
    return path


def data_start(path: Path, hdu: int = 1) -> int:
    """Return the byte at which the data of an HDU begin."""
    with fits.open(path) as opened:
        return opened.fileinfo(hdu)["datLoc"]


def column_offset(path: Path, name: str) -> tuple[int, int]:
    """Return where a column stands in a row of HDU 1, and the bytes of a row."""
    with fits.open(path) as opened:
        dtype = opened[1].columns.dtype
        return dtype.fields[name][1], dtype.itemsize


def put(path: Path, position: int, content: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


def put_cell(path: Path, name: str, row: int, content: bytes, shift: int = 0) -> None:
    """Overwrite what a column of HDU 1 holds in a row (from 0), `shift` bytes into it."""
    offset, width = column_offset(path, name)
    put(path, data_start(path) + row * width + offset + shift, content)


def null_logicals(path: Path, name: str, null: np.ndarray) -> None:
    """Store byte 0, the standard's null, where `null` (rows, or rows and elements) is set; astropy cannot write it."""
    for row, element in np.argwhere(null.reshape(len(null), math.prod(null.shape[1:]))):
        put_cell(path, name, int(row), b"\0", int(element))


def replace_card(path: Path, keyword: str, value: str, *, start: int = RECORD) -> None:
    """Replace the value of a card, as text, in the header that begins at `start`."""
    content = path.read_bytes()
    at = content.index(keyword.ljust(8).encode() + b"=", start)
    card = f"{keyword:8}= {value:>20}".ljust(80).encode()
    put(path, at, card)


# ----------------------------------------------------------------------------------------------------- afw


def write_afw(
    path: Path,
    columns: Sequence[fits.Column],
    flags: Mapping[str, np.ndarray],
    *,
    angles: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    version: int = 3,
) -> Path:
    """Write a catalogue with the conventions of afw: a bit column first, angles marked, aliases, archives after it."""
    bits = np.stack(list(flags.values()), axis=1) if flags else np.zeros((len(columns[0].array), 0), bool)
    stored = [fits.Column("flags", f"{len(flags)}X", array=bits)] if flags else []
    table = fits.BinTableHDU.from_columns([*stored, *columns])
    header = table.header
    if flags:
        header["FLAGCOL"] = (1, "Column number for the bitflags.")
    for number, name in enumerate(flags, 1):
        header[f"TFLAG{number}"] = name
        header[f"TFDOC{number}"] = f"what {name} tells"
    for number, name in enumerate(table.columns.names, 1):
        if name != "flags":
            header[f"TCCLS{number}"] = "Angle" if name in angles else "Scalar"
    for alias, target in (aliases or {}).items():
        header.append(("ALIAS", f"{alias}:{target}"), end=True)
    header["AR_HDU"] = 3
    header["HIERARCH AFW_TABLE_VERSION"] = version
    header["AFW_TYPE"] = "SOURCE"
    fits.HDUList([fits.PrimaryHDU(), table, *_archives()]).writeto(path)
    return path


def _archives() -> list[fits.BinTableHDU]:
    index = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=np.arange(2)), fits.Column("name", "8A")])
    index.header["EXTTYPE"] = "ARCHIVE_INDEX"
    data = fits.BinTableHDU.from_columns([fits.Column("y", "J", array=np.arange(7))])
    data.header["EXTTYPE"] = "ARCHIVE_DATA"
    return [index, data]
