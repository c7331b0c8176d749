"""Pinned releases: one small object that names the version of every table.

Delta has no commit over several tables. A pin is that: written once, atomically, never changed; a reader that opens a
warehouse by a pin's name reads every table as of it, and upkeep keeps what a pin needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import ConflictError, InputError, NotFoundError, QueryError, near_misses
from warehouse.lake import delta
from warehouse.lake.root import Root

FOLDER = "_pins"
_SUFFIX = ".json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned release: its name, when it was made (UTC, ISO 8601), and table -> version."""

    name: str
    created_at: str
    versions: Mapping[str, int]


def pin(root: Root, name: str, settings: Settings, *, versions: Mapping[str, int] | None = None) -> Pin:
    """Pin a version of every table under `name`: the present ones, or `versions` as `present` gave them before.

    Raises
    ------
    QueryError
        The name is not one of letters, digits, dots, dashes and underscores.
    ConflictError
        The name is taken, and a pin never changes; or others never stopped committing.
    """
    if not _can_name(name):
        raise QueryError(f"{name!r} cannot name a pin: letters, digits, '.', '-' and '_' can", kind="pin", uri=root.uri)
    pinned = _at_one_moment(root, settings) if versions is None else versions
    made = Pin(name, datetime.now(tz=UTC).isoformat(timespec="seconds"), pinned)
    if not storage.put_if_absent(_uri(root, name), json.dumps(asdict(made), indent=2).encode(), settings):
        raise ConflictError(
            f"the pin {name!r} exists; unpin it first, or choose another name", kind="pin", uri=root.uri
        )
    return made


def holds_present(root: Root, settings: Settings) -> bool:
    """Return whether some pin names the present version of every table."""
    now = present(root, settings)
    return any(p.versions == now for p in pins(root, settings))


def present(root: Root, settings: Settings) -> dict[str, int]:
    """Return the present version of every table that has been loaded, looked up one after the other."""
    found = {}
    for table in root.contracts.every:
        try:
            found[table] = delta.snapshot(root.table_uri(table), settings).version
        except NotFoundError:
            continue
    return found


def _at_one_moment(root: Root, settings: Settings) -> dict[str, int]:
    """Return the versions of all tables at some moment: those that two readings, one after the other, agree on."""
    found = present(root, settings)
    for _ in range(settings.commit_attempts):
        before, found = found, present(root, settings)
        if found == before:
            return found
    message = f"others committed during each of {settings.commit_attempts} looks at the tables; pin when they are done"
    raise ConflictError(message, kind="pin", uri=root.uri)


def unpin(root: Root, name: str, settings: Settings) -> None:
    """Remove a pin (NotFoundError where there is none)."""
    read(root, name, settings)
    storage.delete(_uri(root, name), settings)


def read(root: Root, name: str, settings: Settings) -> Pin:
    """Return the pin called `name` (NotFoundError names the near misses)."""
    if _can_name(name) and (found := _read(_uri(root, name), settings)) is not None:
        return found
    hint = near_misses(name, [p.name for p in pins(root, settings)])
    if name == root.release:
        hint = f"the warehouse is of {name} whichever pin is read, and its pins: {hint}"
    raise NotFoundError(f"no pinned release {name!r}; {hint}", kind="pin", uri=root.uri)


def holds(root: Root, name: str, settings: Settings) -> bool:
    """Return whether there is a pin called `name`."""
    return _can_name(name) and storage.exists(_uri(root, name), settings)


def pins(root: Root, settings: Settings) -> list[Pin]:
    """Return all pins, oldest first; whatever else lies in their folder is nobody's pin."""
    there = storage.listing(storage.join(root.uri, FOLDER), settings, f"*{_SUFFIX}")
    named = [entry.uri for entry in there if _can_name(entry.uri.rpartition("/")[2].removesuffix(_SUFFIX))]
    found = [made for uri in named if (made := _read(uri, settings)) is not None]
    return sorted(found, key=lambda p: (p.created_at, p.name))


def versions(root: Root, table: str, settings: Settings) -> list[int]:
    """Return the versions of `table` that pins need."""
    return sorted({p.versions[table] for p in pins(root, settings) if table in p.versions})


def _uri(root: Root, name: str) -> str:
    return storage.join(root.uri, FOLDER, f"{name}{_SUFFIX}")


def _can_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _read(uri: str, settings: Settings) -> Pin | None:
    """Return the pin in a file, None where it is gone (InputError where there is something else in it)."""
    try:
        told = json.loads(storage.read_bytes(uri, settings))
        return Pin(told["name"], told["created_at"], dict(told["versions"]))
    except InputError as error:
        if error.kind != "vanished":
            raise
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected a pin, found something else: {error!r}; remove the file", uri=uri) from error
