"""Byte ranges of a FITS file, wherever it lies: on a local disk, in a store, or within a gzip stream.

Here belongs how bytes are fetched, and the FITS checksum over them. What they mean does not. Local files are read
with ``pread`` into memory that is used again, and not mapped: a mapped file that shrinks kills the process.
"""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import closing
from typing import IO, Any, Protocol, cast

import fsspec
import numpy as np

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError
from warehouse.faults import translated
from warehouse.readers.fits.buffers import Bytes

RECORD = 2880  # bytes; headers and data are padded to a multiple
_GZIP = b"\x1f\x8b"
_WINDOW = 256 << 10
_STREAM_BLOCK = 8 << 20


class Ranges(Protocol):
    """An open file."""

    @property
    def stamp(self) -> str:
        """What `warehouse.storage.stamp` told when the file was opened."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes, or None for a stream, of which nobody knows before its end."""
        ...

    @property
    def remote(self) -> bool:
        """Whether each read waits for a store's answer."""
        ...

    def read(self, start: int, length: int, scratch: Bytes | None = None) -> Bytes:
        """Return the bytes from `start` on, fewer at the end of the file; they may lie in `scratch`.

        A stream is read forward only; everything else from any thread.
        """
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


def open_ranges(uri: str, settings: Settings) -> Ranges:
    """Return the open file; gzip is recognised by its first bytes and not by a name.

    Raises
    ------
    InputError
        No such file (kind ``vanished``).
    StorageError
        The store does not answer.
    """
    size, stamp = storage.stamp(uri, settings)
    fs, path = storage.filesystem(uri, settings)
    remote = storage.scheme(uri) != "file"
    plain: Ranges = _Remote(uri, fs, path, size, stamp) if remote else _Local(uri, path, stamp)
    if plain.read(0, len(_GZIP)).tobytes() != _GZIP:
        return plain
    plain.close()
    with translated(uri, "opening"):
        raw = fs.open(path, "rb", **({"block_size": _STREAM_BLOCK, "cache_type": "readahead"} if remote else {}))
    return _Gzip(uri, raw, stamp, remote=remote)


class _Local:
    """A file on a local disk."""

    remote = False

    def __init__(self, uri: str, path: str, stamp: str) -> None:
        with translated(uri, "opening"):
            self._file = os.open(path, os.O_RDONLY)
        self._uri = uri
        self.stamp = stamp
        self.size: int | None = os.fstat(self._file).st_size

    def read(self, start: int, length: int, scratch: Bytes | None = None) -> Bytes:
        length = max(0, min(length, (self.size or 0) - start))
        into = np.empty(length, np.uint8) if scratch is None else scratch[:length]
        filled = 0
        with translated(self._uri, "reading"):
            while filled < length:
                got = os.preadv(self._file, [cast("Any", into[filled:])], start + filled)
                if not got:
                    break
                filled += got
        return into[:filled]

    def close(self) -> None:
        os.close(self._file)


class _Remote:
    """An object in a store. Its head is asked for once: with the header come the rows of a small file."""

    remote = True

    def __init__(self, uri: str, fs: fsspec.AbstractFileSystem, path: str, size: int, stamp: str) -> None:
        self._uri, self._fs, self._path = uri, fs, path
        self.size: int | None = size
        self.stamp = stamp
        self._head = self._get(0, min(size, _WINDOW))

    def read(self, start: int, length: int, scratch: Bytes | None = None) -> Bytes:
        del scratch  # the client allocates what it receives
        end = min(start + length, self.size or 0)
        if end <= len(self._head):
            return self._head[start : max(start, end)]
        return self._get(start, end)

    def _get(self, start: int, end: int) -> Bytes:
        if start >= end:
            return np.empty(0, np.uint8)
        with translated(self._uri, "reading"):
            return np.frombuffer(self._fs.cat_file(self._path, start=start, end=end), np.uint8)

    def close(self) -> None:
        """Nothing is held: each range is a request of its own."""


class _Gzip:
    """The content of a gzip file, forward only."""

    size: int | None = None

    def __init__(self, uri: str, raw: IO[bytes], stamp: str, *, remote: bool) -> None:
        self._uri, self._raw = uri, raw
        self._stream = gzip.GzipFile(fileobj=raw)
        self._position = 0
        self.stamp = stamp
        self.remote = remote

    def read(self, start: int, length: int, scratch: Bytes | None = None) -> Bytes:
        del scratch  # the next block is inflated while the last is still decoded
        while self._position < start:
            if not len(self._next(min(start - self._position, _STREAM_BLOCK))):
                return np.empty(0, np.uint8)
        return self._next(length)

    def _next(self, length: int) -> Bytes:
        into = np.empty(length, np.uint8)
        filled = 0
        with translated(self._uri, "reading"):
            while filled < length:
                got = self._inflate(into[filled:])
                if not got:
                    break
                filled += got
        self._position += filled
        return into[:filled]

    def _inflate(self, into: Bytes) -> int:
        try:
            return self._stream.readinto(cast("Any", into))
        except EOFError as error:
            raise InputError(f"the gzip stream ends early: {error}", kind="truncated", uri=self._uri) from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"the gzip stream is damaged after byte {self._position}: {error}", kind="corrupt", uri=self._uri
            ) from error

    def close(self) -> None:
        with closing(self._raw):
            self._stream.close()


class Window:
    """A view that moves forward over a file in large steps, so that a header costs few reads and no byte two."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self._start = 0
        self._held = np.empty(0, np.uint8)

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes from `start` on, fewer at the end of the file; `start` never goes back."""
        skipped = start - self._start
        self._held = self._held[skipped:] if 0 <= skipped <= len(self._held) else self._held[:0]
        self._start = start
        missing = length - len(self._held)
        if missing > 0:
            more = self.ranges.read(start + len(self._held), max(missing, _WINDOW))
            self._held = np.concatenate([self._held, more])
        return self._held[:length].tobytes()


# ------------------------------------------------------------------------------------------------ checksums

ALL_ONES = 2**32 - 1


def word_sum(data: Bytes, position: int) -> int:
    """Return the plain sum of big-endian 32-bit words, `data` standing `position` bytes after the first word.

    The ones' complement sum of the FITS standard (4.0, appendix J) is this sum modulo 2**32 - 1, so parts can be
    added in any order. It costs about an eighth of a second a gigabyte.
    """
    lead = -position % 4
    lead = min(lead, len(data))
    tail = lead + (len(data) - lead) // 4 * 4
    total = int(data[lead:tail].view(">u4").sum(dtype=np.uint64))
    for index in (*range(lead), *range(tail, len(data))):
        total += int(data[index]) << 8 * (3 - (position + index) % 4)
    return total


def same_sum(one: int, other: int) -> bool:
    """Return whether two sums are one in ones' complement, where all bits set and none set are both zero."""
    return (one - other) % ALL_ONES == 0
