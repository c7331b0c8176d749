"""The headers of a FITS file, one HDU after another, and the table among them that is asked for.

Here belongs what must hold between header and file before a row is read: END, sizes, what follows the data, the
header's own checksum. Cards are parsed by astropy, which is loaded when the first file is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from warehouse.errors import InputError, near_misses
from warehouse.readers.fits.fields import Field, table_fields
from warehouse.readers.fits.ranges import ALL_ONES, RECORD, Window, same_sum, word_sum

_CARD = 80
_END = b"END".ljust(8)
# Beyond any header that was ever written; a file without END is not read to its end in search of it.
_LONGEST_HEADER = 64 << 20
_HEADER_START = b"XTENSION= '"
_ARCHIVES = {"ARCHIVE_INDEX", "ARCHIVE_DATA"}
_MOST_NAMED = 20


class Cards(Mapping[str, object]):
    """The values of a header by keyword, the first where one repeats; a card without a value counts as absent."""

    def __init__(self, header: Any, place: str) -> None:  # noqa: ANN401 - astropy publishes no types
        self._place = place
        self._cards: dict[str, Any] = {}
        for card in header.cards:
            self._cards.setdefault(card.keyword, card)

    def __getitem__(self, key: str) -> object:
        from astropy.io.fits import VerifyError
        from astropy.io.fits.card import Undefined

        card = self._cards[key]
        try:
            value: object = card.value
        except (VerifyError, ValueError) as error:
            raise InputError(f"{self._place}: the value of {key} cannot be read: {error}", kind="corrupt") from error
        if isinstance(value, Undefined):
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)


@dataclass(frozen=True, slots=True)
class Hdu:
    """A header and where its data lie.

    Attributes
    ----------
    number
        As astropy counts, from 0.
    header
        astropy's `~astropy.io.fits.Header`.
    data_start, data_end, end
        Bytes from the file's start; `end` includes the padding.
    header_sum
        Of the header's 32-bit words, for CHECKSUM.
    """

    number: int
    start: int
    data_start: int
    data_end: int
    header_sum: int
    header: Any = field(repr=False)
    cards: Cards = field(repr=False)

    @property
    def name(self) -> str:
        """EXTNAME, or nothing."""
        return str(self.cards.get("EXTNAME", "")).strip()

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"HDU {self.number}" + (f" {self.name!r}" if self.name else "")

    @property
    def end(self) -> int:
        """Where the next HDU begins."""
        return -(-self.data_end // RECORD) * RECORD

    @property
    def is_table(self) -> bool:
        """Whether it holds rows to ingest: a binary table that is neither an image in disguise nor afw's archive."""
        return (
            self.cards.get("XTENSION") == "BINTABLE"
            and not self.cards.get("ZIMAGE", False)
            and self.cards.get("EXTTYPE") not in _ARCHIVES
        )


def hdus(window: Window) -> Iterator[Hdu]:
    """Yield the HDUs of a file in their order; none is read before it is asked for.

    Raises
    ------
    InputError
        No FITS file (kind ``not_fits``), a header without END or data beyond the file's end (``truncated``),
        bytes that are no HDU where one should begin (``corrupt``).
    """
    start = 0
    number = 0
    while True:
        first = window.read(start, 8)
        if not first and number:
            return
        _check_first(first, number, start)
        hdu = _hdu(window, number, start)
        size = window.ranges.size
        if size is not None and hdu.data_end > size:
            raise InputError(_cut_short(hdu, size), kind="truncated")
        yield hdu
        start, number = hdu.end, number + 1


def find_table(window: Window, wanted_hdu: int | str | None, wanted: Collection[str]) -> tuple[Hdu, tuple[Field, ...]]:
    """Return the table that is meant, with its columns: the HDU that is named, or the first that has `wanted` columns.

    Where no table has them all the first table is returned, so that the caller can say what it lacks. A table whose
    header is wrong is passed over where another one fits.

    Raises
    ------
    InputError
        Also: no table, or no such HDU (kind ``no_table``); the message names the HDUs that there are.
    """
    seen: list[Hdu] = []
    first: tuple[Hdu, tuple[Field, ...]] | None = None
    wrong: InputError | None = None
    for hdu in hdus(window):
        seen.append(hdu)
        if not (hdu.is_table if wanted_hdu is None else _is_called(hdu, wanted_hdu) and hdu.is_table):
            continue
        try:
            found = hdu, _fields(hdu)
        except InputError as error:
            if wanted_hdu is not None:
                raise
            wrong = wrong or error
            continue
        if wanted_hdu is not None or {part.name for part in found[1]}.issuperset(wanted):
            return found
        first = first or found
    if wrong is not None:
        raise wrong
    if first is not None:
        return first
    raise InputError(f"{_no_table(seen, wanted_hdu)} There are {_listed(seen)}", kind="no_table")


def check_header_sum(hdu: Hdu) -> None:
    """Raise an InputError (kind ``checksum``) where CHECKSUM, given DATASUM, contradicts the header's bytes."""
    declared = declared_sums(hdu)
    if declared.checksum and declared.data is not None and not same_sum(hdu.header_sum + declared.data, ALL_ONES):
        raise InputError(f"{hdu.place}: CHECKSUM fails: the header is not as it was written", kind="checksum")


@dataclass(frozen=True, slots=True)
class DeclaredSums:
    """What the header says of checksums: DATASUM where it is given, and whether there is a CHECKSUM."""

    data: int | None
    checksum: bool

    def __bool__(self) -> bool:
        return self.data is not None or self.checksum


def declared_sums(hdu: Hdu) -> DeclaredSums:
    """Return what there is to verify; the standard lets both keywords be blank, which declares nothing.

    Raises
    ------
    InputError
        A DATASUM that is no number (kind ``checksum``).
    """
    text = str(hdu.cards.get("DATASUM", "")).strip()
    checksum = str(hdu.cards.get("CHECKSUM", "")).strip()
    if text and not text.isdecimal():
        raise InputError(f"{hdu.place}: DATASUM is {text!r}, expected a decimal number", kind="checksum")
    return DeclaredSums(int(text) if text else None, bool(checksum.strip("0")))


def check_data_sum(hdu: Hdu, total: int) -> None:
    """Raise an InputError (kind ``checksum``) where `total`, the sum of all data words, is not what was declared."""
    declared = declared_sums(hdu)
    if declared.data is not None and not same_sum(total, declared.data):
        found = total % ALL_ONES
        raise InputError(
            f"{hdu.place}: DATASUM says {declared.data}, the data from byte {hdu.data_start} to {hdu.data_end} "
            f"add up to {found}",
            kind="checksum",
        )
    if declared.data is None and declared.checksum and not same_sum(hdu.header_sum + total, ALL_ONES):
        raise InputError(f"{hdu.place}: CHECKSUM fails: header or data are not as they were written", kind="checksum")


def check_tail(hdu: Hdu, padding: bytes, following: bytes) -> None:
    """Raise an InputError (kind ``corrupt``) where what stands after the data shows that NAXIS2 lies."""
    if padding.strip(b"\0") and padding.strip(b" "):
        raise InputError(
            f"{hdu.place}: after {hdu.cards.get('NAXIS2')} rows, at byte {hdu.data_end}, more data stand where only "
            "padding may; NAXIS2 is too small",
            kind="corrupt",
        )
    if following:
        _check_first(following, hdu.number + 1, hdu.end)


def check_no_header(hdu: Hdu, rows: npt.NDArray[np.uint8], position: int) -> None:
    """Raise an InputError (kind ``corrupt``) where a header begins among `rows`, read from byte `position` on.

    A number of rows that is too large by whole records swallows the HDUs that follow, and nothing else shows it.
    """
    first = -position % RECORD
    for hit in np.flatnonzero(rows[first::RECORD] == _HEADER_START[0]):
        record = first + int(hit) * RECORD
        if rows[record : record + len(_HEADER_START)].tobytes() == _HEADER_START:
            raise InputError(
                f"{hdu.place}: the next HDU begins at byte {position + record}, before the last of "
                f"{hdu.cards.get('NAXIS2')} rows; NAXIS2 is too large",
                kind="corrupt",
            )


def _check_first(first: bytes, number: int, start: int) -> None:
    if number == 0 and first != b"SIMPLE  ":
        found = f"its first bytes are {first!r}" if first else "it is empty"
        raise InputError(f"no FITS file: {found}, expected SIMPLE", kind="not_fits")
    if number and first[:8] != b"XTENSION":
        raise InputError(
            f"HDU {number - 1} ends at byte {start} by its own header, and what follows is no HDU ({first[:8]!r}): "
            "its NAXIS keywords lie",
            kind="corrupt",
        )


def _hdu(window: Window, number: int, start: int) -> Hdu:
    from astropy.io.fits import Header

    place = f"HDU {number}"
    text = _header_bytes(window, start, place)
    # Text beyond ASCII occurs in comments; what astropy would warn of is replaced as it replaces it.
    header = Header.fromstring(text.decode("ascii", errors="replace").replace("�", "?"))
    cards = Cards(header, place)
    data_start = start + len(text)
    return Hdu(
        number,
        start,
        data_start,
        data_start + _data_bytes(cards, number, place),
        word_sum(np.frombuffer(text, np.uint8), 0),
        header,
        cards,
    )


def _header_bytes(window: Window, start: int, place: str) -> bytes:
    """Return the header's records, up to and with the one that holds END."""
    parts: list[bytes] = []
    while len(parts) * RECORD < _LONGEST_HEADER:
        at = start + len(parts) * RECORD
        record = window.read(at, RECORD)
        if any(record[i : i + 8] == _END for i in range(0, len(record), _CARD)) and len(record) == RECORD:
            return b"".join([*parts, record])
        if len(record) < RECORD:
            raise InputError(f"{place}: the file ends at byte {at + len(record)}, before END", kind="truncated")
        if min(record) < ord(" "):
            raise InputError(f"{place}: no END before byte {at}, where data begin", kind="corrupt")
        parts.append(record)
    raise InputError(f"{place}: no END within {_LONGEST_HEADER >> 20} MiB", kind="corrupt")


def _data_bytes(cards: Cards, number: int, place: str) -> int:
    """Return the bytes of data without padding (FITS standard 4.0, equations 1 and 2)."""

    def count(key: str, default: int | None = None) -> int:
        value = cards.get(key, default)
        if not isinstance(value, int) or value < 0:
            raise InputError(f"{place}: {key} is {value!r}, expected a count", kind="corrupt")
        return value

    bits = cards.get("BITPIX")
    if bits not in {8, 16, 32, 64, -32, -64} or not isinstance(bits, int):
        raise InputError(f"{place}: BITPIX is {bits!r}", kind="corrupt")
    axes = [count(f"NAXIS{axis}") for axis in range(1, count("NAXIS") + 1)]
    if not axes:
        return 0
    if number == 0 and axes[0] == 0 and cards.get("GROUPS") is True:
        axes = axes[1:]
    return abs(bits) // 8 * count("GCOUNT", 1) * (count("PCOUNT", 0) + int(np.prod(axes, dtype=object)))


def _fields(hdu: Hdu) -> tuple[Field, ...]:
    if hdu.cards.get("ZTABLE", False):
        raise InputError(f"{hdu.place}: a compressed table (ZTABLE) cannot be read; uncompress it", kind="no_table")
    if (hdu.cards.get("BITPIX"), hdu.cards.get("NAXIS")) != (8, 2):
        raise InputError(f"{hdu.place}: a table has BITPIX 8 and NAXIS 2", kind="corrupt")
    return table_fields(hdu.cards, hdu.place)


def _is_called(hdu: Hdu, wanted: int | str) -> bool:
    """Return whether this is the HDU that is meant: a text of digits is a number, too."""
    if isinstance(wanted, int) or wanted.isdecimal():
        return hdu.number == int(wanted)
    return hdu.name.casefold() == wanted.casefold()


def _no_table(seen: Sequence[Hdu], wanted: int | str | None) -> str:
    if wanted is None:
        return "none of its HDUs is a table of rows."
    called = [hdu for hdu in seen if _is_called(hdu, wanted)]
    if called:
        return f"{called[0].place} is asked for and holds no table of rows."
    names = [hdu.name for hdu in seen if hdu.name]
    hint = near_misses(str(wanted), names)
    return f"no HDU {wanted}" + (f"; {hint}" if hint.startswith("did you mean") else ".")


def _listed(seen: Sequence[Hdu]) -> str:
    """Return the HDUs as a person tells them apart, the first of many."""
    told = [f"{hdu.number} {hdu.name}".strip() + (" (table)" if hdu.is_table else "") for hdu in seen[:_MOST_NAMED]]
    rest = len(seen) - len(told)
    return ", ".join(told) + (f" and {rest} more" if rest else "")


def _cut_short(hdu: Hdu, size: int) -> str:
    row_bytes, rows = hdu.cards.get("NAXIS1"), hdu.cards.get("NAXIS2")
    text = f"{hdu.place}: its data end at byte {hdu.data_end}, the file at byte {size}"
    if hdu.is_table and isinstance(row_bytes, int) and row_bytes:
        text += f", after {max(0, size - hdu.data_start) // row_bytes} of {rows} rows"
    return text
