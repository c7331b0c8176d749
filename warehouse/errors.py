"""The error tree, ordered by what the person or program that catches an error does about it.

    WarehouseError                .kind  .table  .uri
      InputError                  set the file aside        unreadable, truncated, changed since listed
      ContractError(ValueError)   fix file or contract      column missing, wrong type, unit, key null
      QualityError                a person looks            too many rows quarantined, totals do not balance
      ConflictError               read again, try again     lost a commit race
      StorageError                wait, try again           store unreachable, throttling, fails the probe
      NotFoundError(LookupError)  tell the caller           table, version, data id - with the near misses
      QueryError(ValueError)      tell the caller           bad region, SQL outside the subset

Only `ConflictError` and `StorageError` are worth a retry. Errors of other libraries are translated where
they enter, with ``raise ... from``. Nothing else belongs in this module, and it imports nothing of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class WarehouseError(Exception):
    """Base of every error that tractlake raises on purpose.

    Parameters
    ----------
    message
        Names what was expected and what was found.
    kind
        A short, stable word for programs and for the quarantine's ``rule`` column, such as ``truncated``.
    table, uri
        The table and the input concerned, where there is one.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    default_kind: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        table: str | None = None,
        uri: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.default_kind
        self.table = table
        self.uri = uri

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.table, self.uri) if part)
        return f"{place}: {self.message}" if place else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (task runners); keyword-only arguments need telling how.
        return _rebuild, (type(self), self.message, self.kind, self.table, self.uri)


class InputError(WarehouseError):
    """An input cannot be read as what it claims to be: set it aside and go on."""

    exit_code = 3
    default_kind = "unreadable"


class ContractError(WarehouseError, ValueError):
    """An input and its contract contradict each other: one of them must be fixed."""

    exit_code = 4
    default_kind = "contract"


class QualityError(WarehouseError):
    """The rows are not good enough to commit unseen: a person looks."""

    exit_code = 5
    default_kind = "quality"


class ConflictError(WarehouseError):
    """Another writer was first: read the table again and try again."""

    exit_code = 6
    retryable = True
    default_kind = "conflict"


class StorageError(WarehouseError):
    """The store does not answer, or not as a store must: wait and try again."""

    exit_code = 7
    retryable = True
    default_kind = "storage"


class NotFoundError(WarehouseError, LookupError):
    """What was asked for does not exist; the message names the near misses."""

    exit_code = 8
    default_kind = "not_found"


class QueryError(WarehouseError, ValueError):
    """The question itself is wrong."""

    exit_code = 9
    default_kind = "query"


def near_misses(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Return a clause that names what is known and looks like `name`, ready to follow a message."""
    candidates = sorted(set(known))
    close = difflib.get_close_matches(name, candidates, limit, 0.5)
    lowered = {c.lower(): c for c in candidates}
    if name.lower() in lowered:
        close = [lowered[name.lower()], *(c for c in close if c != lowered[name.lower()])]
    if close:
        return "did you mean " + " or ".join(close) + "?"
    if not candidates:
        return "there are none"
    rest = len(candidates) - 12
    return "there are " + ", ".join(candidates[:12]) + (f" and {rest} more" if rest > 0 else "")


def _rebuild(cls: type[WarehouseError], message: str, kind: str, table: str | None, uri: str | None) -> WarehouseError:
    return cls(message, kind=kind, table=table, uri=uri)
