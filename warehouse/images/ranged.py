"""A file that is read in ranges, counted: headers a few kilobytes at a time, pixels as far ahead as they are read on.

What the bytes mean is not known here. fsspec's own buffered files fetch megabytes at each place they are sent to; an
image is visited in a dozen places, and of each little is wanted.
"""

from __future__ import annotations

import io
from typing import Any

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError
from warehouse.faults import translated

FIRST_READ, NEXT_READ = 48 << 10, 16 << 10
"""Bytes of the first read, which holds HDU 0 and the image's header of LSST's files, and of a read somewhere else."""
_LONGEST_READ = 512 << 10


class Held(io.BytesIO):
    """A file object over a file that was read as a whole, and that knows, too, when it ends too early."""

    def __init__(self, uri: str, content: bytes) -> None:
        super().__init__(content)
        self.uri, self.size = uri, len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place (InputError of kind ``truncated`` for one beyond the end)."""
        if whence == io.SEEK_SET:
            _within(offset, self.size, self.uri)
        return super().seek(offset, whence)


def _within(place: int, size: int, uri: str) -> int:
    """Return a place in a file (InputError where it is beyond its end); astropy only warns of a file that is short."""
    if place > size:
        raise InputError(f"its headers speak of byte {place}, it ends at byte {size}", kind="truncated", uri=uri)
    return max(0, place)


class Ranged(io.RawIOBase):
    """A read-only file object over ranges of a file, local or in a store; not to be shared between threads.

    Attributes
    ----------
    uri, size
        Of the file; `size` in bytes.
    bytes_read, reads
        What was fetched so far, in how many requests.
    """

    def __init__(self, uri: str, settings: Settings, *, size: int | None = None, fs: Any = None) -> None:  # noqa: ANN401 - fsspec publishes no types
        super().__init__()
        self.uri = uri
        self._fs, self._path = (fs, uri.removeprefix("s3://")) if fs is not None else storage.filesystem(uri, settings)
        self.size = storage.stamp(uri, settings)[0] if size is None else size
        self.bytes_read = self.reads = 0
        self._position = 0
        self._start, self._held = 0, b""
        self._ahead = FIRST_READ

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`, fewer at the end of the file.

        Raises
        ------
        InputError
            The file is gone (kind ``vanished``), or shorter than it was listed (``changed``).
        StorageError
            The store does not answer.
        """
        end = min(end, self.size)
        if start >= end:
            return b""
        with translated(self.uri, "reading"):
            content: bytes = self._fs.cat_file(self._path, start=start, end=end)
        if len(content) != end - start:
            message = f"it ends at byte {start + len(content)}, and was {self.size} bytes long when it was listed"
            raise InputError(message, kind="changed", uri=self.uri)
        self.bytes_read += len(content)
        self.reads += 1
        return content

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that any place in it can be read."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is fetched.

        Raises
        ------
        InputError
            The place is beyond the end of the file, where its headers say that there is more (kind ``truncated``).
        """
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = _within(base + offset, self.size, self.uri)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever holds bytes
        """Fill `buffer` as far as the file goes, and return how far."""
        into = memoryview(buffer).cast("B")
        content = self._upto(len(into))
        into[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _upto(self, length: int) -> bytes:
        """Return up to `length` bytes from the present place on."""
        start = self._position
        end = min(start + length, self.size)
        held_end = self._start + len(self._held)
        if not (self._start <= start and end <= held_end):
            self._extend(start, end, held_end)
        return self._held[start - self._start : end - self._start]

    def _extend(self, start: int, end: int, held_end: int) -> None:
        """Fetch what is missing up to `end`, and the more beyond it the longer reading has gone straight on."""
        if self._start <= start <= held_end and self._held:
            self._ahead = min(2 * self._ahead, _LONGEST_READ)
            kept = self._held[start - self._start :]
            self._held = kept + self.fetch(held_end, max(end, held_end + self._ahead))
        else:
            self._ahead = NEXT_READ if self.reads else FIRST_READ
            self._held = self.fetch(start, max(end, start + self._ahead))
        self._start = start
