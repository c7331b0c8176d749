"""The registry of file formats: one line each, loaded when a file first asks for it.

Formats themselves are modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError
from warehouse.readers.reader import Reader


@dataclass(frozen=True, slots=True)
class _Format:
    """Where a format's reader stands, how its files are called, what they begin with, and whether they have HDUs."""

    reader: str
    suffixes: tuple[str, ...]
    magic: bytes
    hdus: bool = False


_FORMATS = (
    _Format("warehouse.readers.parquet:ParquetReader", (".parquet", ".parq", ".pq"), b"PAR1"),
    _Format("warehouse.readers.fits:FitsReader", (".fits", ".fit", ".fits.gz", ".fits.fz"), b"SIMPLE  =", hdus=True),
)


def known_suffix(uri: str) -> str:
    """Return the suffix by which some reader reads a file, as the name spells it; empty where none does."""
    name = uri.lower()
    suffixes = (suffix for f in _FORMATS for suffix in f.suffixes if name.endswith(suffix))
    return uri[len(uri) - len(max(suffixes, key=len, default="")) :]


def may_have_hdus(uri: str) -> bool:
    """Return whether a file may be one with HDUs, as far as its name tells."""
    known = _by_suffix(uri)
    return known is None or known.hdus


def reader_for(uri: str, settings: Settings | None = None, *, hdu: str | None = None) -> Reader:
    """Return the reader for a file: by its suffix, else by its first bytes where `settings` allow a look.

    `hdu` is the number or name of the one that holds the rows; a format without HDUs has no use for it.

    Raises
    ------
    InputError
        No reader reads it (kind ``unknown_format``), or it is gone (``vanished``).
    StorageError
        The store does not answer.
    """
    known = _by_suffix(uri)
    begins = b""
    if known is None and settings is not None:
        begins = storage.read_bytes(uri, settings, most=16)
        known = next((f for f in _FORMATS if begins.startswith(f.magic)), None)
    if known is None:
        suffixes = ", ".join(suffix for f in _FORMATS for suffix in f.suffixes)
        found = f", and its first bytes {begins!r} are no format's" if begins else ""
        raise InputError(f"no reader for this file: expected one of {suffixes}{found}", kind="unknown_format", uri=uri)
    return _reader(known.reader, hdu if known.hdus else None)


def _by_suffix(uri: str) -> _Format | None:
    name = uri.lower()
    return next((f for f in _FORMATS if name.endswith(f.suffixes)), None)


@cache
def _reader(place: str, hdu: str | None) -> Reader:
    module, _, name = place.partition(":")
    told = {} if hdu is None else {"hdu": hdu}
    reader: Reader = getattr(import_module(module), name)(**told)
    return reader
