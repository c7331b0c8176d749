"""What every verb has at hand: the root, the settings, and the tables as they were opened."""

from __future__ import annotations

from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.lake.root import Root
from warehouse.query.tables import Opened, Tables, Version


class Door:
    """A warehouse at a root, its tables read as they are now or as of a pinned release."""

    def __init__(self, root: Root, settings: Settings, *, release: str | None = None) -> None:
        self.root = root
        self.settings = settings
        self._tables = Tables(root, settings, pin=release)

    def _writable(self) -> None:
        """Refuse to write where a pinned release is open (QueryError): its reader would not see what was written."""
        if self._tables.pin is not None:
            message = f"the pinned release {self._tables.pin.name!r} is open, which never changes; open it without"
            raise QueryError(message, kind="pin", uri=self.root.uri)

    def _opened(self, table: str, version: Version | None, command: str) -> Opened:
        """Return a table that a command of its own makes, which a NotFoundError names."""
        try:
            return self._tables.open(table, version)
        except NotFoundError as error:
            if error.kind != "table":
                raise
            message = f"{error.message}; `{command}` makes it"
            raise NotFoundError(message, kind="table", table=table, uri=self.root.uri) from error
