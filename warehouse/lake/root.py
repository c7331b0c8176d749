"""A warehouse's root: the one small object that says which release and which sky map its tables follow.

Everything below the root is named from here; nothing else builds a table's URI by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property

from warehouse import contracts, storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.contracts.release import Release
from warehouse.errors import ContractError, InputError, NotFoundError, QueryError, StorageError
from warehouse.lake import delta, ledger
from warehouse.sky import skymap
from warehouse.sky.skymap import SkyMap

FILE = "warehouse.json"
FORMAT = 1
# delta-rs decodes these in a path, or refuses them, and Polars takes some for a glob.
_MISREAD = "%[]*?\\^|"


@dataclass(frozen=True)
class Root:
    """Where a warehouse lies and what it holds: small, frozen, and fit to be a task's argument."""

    uri: str
    release: str
    skymap: str
    sha1: str
    format: int = FORMAT

    @cached_property
    def contracts(self) -> Release:
        """The release's contracts."""
        return contracts.load(self.release)

    @cached_property
    def sky(self) -> SkyMap:
        """The sky map that tracts and patches are numbered by."""
        return skymap.named(self.skymap)

    def contract(self, table: str) -> Contract:
        """Return a table's contract (NotFoundError names the near misses)."""
        return self.contracts.contract(table)

    def table_uri(self, table: str) -> str:
        """Return where a table lies."""
        return storage.join(self.uri, table)


def create(uri: str, release: str, settings: Settings, *, sky: str | None = None) -> Root:
    """Create a warehouse, or return the one that stands at `uri` if it is of the same release and sky map.

    Raises
    ------
    StorageError
        The store does not honour conditional writes, so that commits could be lost.
    ContractError
        A warehouse of another release or sky map stands here.
    QueryError
        The URI holds a character that the libraries below misread.
    """
    wanted = planned(uri, release, sky=sky)
    if odd := sorted(set(wanted.uri) & set(_MISREAD)):
        message = f"a warehouse's URI cannot hold {' '.join(odd)} (nor any other of {_MISREAD})"
        raise QueryError(message, kind="uri", uri=wanted.uri)
    storage.probe(wanted.uri, settings)
    text = json.dumps({k: v for k, v in asdict(wanted).items() if k != "uri"}, indent=2).encode()
    if not storage.put_if_absent(storage.join(wanted.uri, FILE), text, settings):
        found = open_root(wanted.uri, settings)
        if found != wanted:
            message = (
                f"a warehouse of {found.release} on {found.skymap} stands here, not of {release} on {wanted.skymap}"
            )
            raise ContractError(message, kind="release", uri=wanted.uri)
    ledger.create(wanted.uri, settings)
    return wanted


def planned(uri: str, release: str, *, sky: str | None = None) -> Root:
    """Return the root that `create` would make, and write nothing (ContractError where no sky map is known)."""
    name = sky or contracts.load(release).skymap
    if name is None:
        raise ContractError(f"release {release} names no sky map; say which one", kind="skymap", uri=uri)
    return Root(storage.absolute(uri), release, name, skymap.named(name).sha1)


def open_root(uri: str, settings: Settings) -> Root:
    """Return the warehouse at `uri`.

    Raises
    ------
    NotFoundError
        There is none.
    ContractError
        It was made by a newer tractlake, or its sky map is not the one of that name.
    """
    uri = storage.absolute(uri)
    try:
        text = storage.read_bytes(storage.join(uri, FILE), settings)
    except InputError as error:
        message = "there is no warehouse here; `tractlake create` makes one"
        raise NotFoundError(message, kind="warehouse", uri=uri) from error
    try:
        root = Root(uri=uri, **json.loads(text))
    except (ValueError, TypeError) as error:
        raise StorageError(f"{FILE} cannot be understood: {error}", kind="warehouse", uri=uri) from error
    if root.format > FORMAT:
        message = f"format {root.format} is newer than this tractlake's {FORMAT}; install a newer one"
        raise ContractError(message, kind="format", uri=uri)
    if skymap.named(root.skymap).sha1 != root.sha1:
        message = (
            f"sky map {root.skymap} has the hash {skymap.named(root.skymap).sha1}, the warehouse's has {root.sha1}"
        )
        raise ContractError(message, kind="skymap", uri=uri)
    return root


def ensure_table(root: Root, table: str, settings: Settings) -> delta.Snapshot:
    """Return the table's newest snapshot, having created the table where it did not stand yet."""
    contract = root.contract(table)
    uri = root.table_uri(table)
    try:
        return delta.snapshot(uri, settings)
    except NotFoundError:
        delta.create(
            uri,
            contract.arrow_schema,
            settings,
            name=table,
            description=contract.description,
            partition_by=contract.partition_by,
            statistics=contract.statistics,
        )
    return delta.snapshot(uri, settings)
