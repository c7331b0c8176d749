"""The door: `Warehouse`, whose verbs are those of the `tractlake` command.

Thin on purpose: each method names one function of the rooms below and hands it the root and the settings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.derived import OBJECT_TRUTH
from warehouse.contracts.image import IMAGE
from warehouse.errors import QueryError
from warehouse.images import finding, pixels
from warehouse.ingest import run
from warehouse.ingest.plan import Plan
from warehouse.ingest.run import IngestReport
from warehouse.lake import audit as auditing
from warehouse.lake import ledger, pins, quarantine, root
from warehouse.lake import maintain as upkeep
from warehouse.lake.audit import Finding
from warehouse.lake.events import OnEvent, ignore
from warehouse.lake.maintain import Upkeep
from warehouse.lake.pins import Pin
from warehouse.query import catalogue, dataset, lightcurve, scan, skyinfo, sql
from warehouse.query.areas import Area
from warehouse.query.dataid import DataId, merged
from warehouse.query.dataset import Format
from warehouse.query.lightcurve import Ids
from warehouse.query.tables import Version
from warehouse.readers import Listing, list_inputs
from warehouse.sky.skymap import SkyMap
from warehouse.truth import materialise
from warehouse.verbs.images import ImageVerbs
from warehouse.verbs.truth import TruthVerbs


class Warehouse(ImageVerbs, TruthVerbs):
    """A warehouse at a URI, opened or created; cheap to make, safe to use from several threads.

    Examples
    --------
    >>> wh = Warehouse.open("s3://bucket/dp02")  # doctest: +SKIP
    >>> wh.ingest("Object", "s3://in/objectTable_tract/")  # doctest: +SKIP
    """

    @classmethod
    def open(cls, uri: str, *, release: str | None = None, settings: Settings | None = None) -> Warehouse:
        """Return the warehouse at `uri`.

        Parameters
        ----------
        release
            The name of a pinned release: all tables are read as of it, and nothing can be written.

        Raises
        ------
        NotFoundError
            There is no warehouse, or no such pin.
        """
        settings = settings or Settings()
        return cls(root.open_root(uri, settings), settings, release=release)

    @classmethod
    def create(
        cls, uri: str, *, release: str = "dp02", skymap: str | None = None, settings: Settings | None = None
    ) -> Warehouse:
        """Create a warehouse of a release, or return the one of that release that stands at `uri`.

        Raises
        ------
        ContractError
            A warehouse of another release or sky map stands there.
        StorageError
            The store would lose commits, or does not answer.
        """
        settings = settings or Settings()
        return cls(root.create(uri, release, settings, sky=skymap), settings)

    def __repr__(self) -> str:
        pinned = "" if self._tables.pin is None else f", pinned={self._tables.pin.name!r}"
        return f"Warehouse({self.root.uri!r}, release={self.root.release!r}{pinned})"

    @property
    def uri(self) -> str:
        """Where the warehouse lies."""
        return self.root.uri

    @property
    def skymap(self) -> SkyMap:
        """The warehouse's sky map."""
        return self.root.sky

    def tables(self) -> pl.DataFrame:
        """Return one row a table: table, description, rows, files, bytes, version (nulls where nothing is loaded)."""
        rows = []
        known = {**self.root.contracts.tables, **self.root.contracts.derived}
        for name, contract in known.items():
            row: dict[str, Any] = {"table": name, "description": contract.description}
            opened = self._tables.loaded(name)
            if opened is not None:
                files = opened.files
                row |= {
                    "rows": opened.rows,
                    "files": files.height,
                    "bytes": int(files.get_column("size_bytes").sum()),
                    "version": opened.snapshot.version,
                }
            rows.append(row)
        schema = {"table": pl.String, "description": pl.String} | dict.fromkeys(
            ("rows", "files", "bytes", "version"), pl.Int64
        )
        return pl.DataFrame(rows, schema=schema)

    def columns(self, table: str) -> pl.DataFrame:
        """Return one row a column: column, datatype, unit, ucd, description."""
        contract = self.root.contract(table)
        if table == OBJECT_TRUTH and (opened := self._tables.loaded(table)) is not None:
            contract = materialise.origin(self.root, opened.snapshot, self.settings).contract
        rows = [(c.name, c.datatype, c.unit, c.ucd, c.description) for c in contract.columns]
        schema = ("column", "datatype", "unit", "ucd", "description")
        return pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")

    def list_inputs(
        self,
        table: str | None,
        uris: str | Sequence[str],
        *,
        dataset_type: str | None = None,
        hdu: int | str | None = None,
        **data_id: int | str,
    ) -> Listing:
        """Return the inputs at `uris`: of every table, or those that `table` or `dataset_type` says they are."""
        found = [uris] if isinstance(uris, str) else list(uris)
        listing = list_inputs(
            found, self.settings, release=self.root.release, table=table, dataset_type=dataset_type, data_id=data_id
        )
        return listing.of_hdu(hdu)

    def list_butler(
        self, repository: str, collections: Sequence[str], dataset_types: Sequence[str], *, where: str | None = None
    ) -> Listing:
        """Return the inputs that a Butler repository names: dataset types in collections, the first one wins."""
        from warehouse.readers.butler import list_butler

        return list_butler(repository, collections, dataset_types, where, self.settings)

    def plan(
        self,
        table: str,
        uris: str | Sequence[str],
        *,
        dataset_type: str | None = None,
        hdu: int | str | None = None,
        remove_vanished: bool = False,
        **data_id: int | str,
    ) -> Plan:
        """Return what `ingest` would do, and write nothing."""
        listing = self.list_inputs(table, uris, dataset_type=dataset_type, hdu=hdu, **data_id)
        return run.plan_table(
            self.root,
            table,
            listing.inputs,
            self.settings,
            roots=listing.roots,
            dataset_type=dataset_type,
            remove_vanished=remove_vanished,
        )

    def ingest(
        self,
        table: str,
        uris: str | Sequence[str],
        *,
        dataset_type: str | None = None,
        hdu: int | str | None = None,
        remove_vanished: bool = False,
        on_event: OnEvent = ignore,
        **data_id: int | str,
    ) -> IngestReport:
        """Ingest files into one table; every row is committed or quarantined, once.

        Parameters
        ----------
        uris
            Files, folders, globs or Butler-like trees, local or ``s3://``.
        dataset_type
            The Butler dataset type that the files are, where the path does not tell or several feed the table.
        hdu
            Number (0 is the primary HDU) or name of the table in FITS files. Without it, the one that the input's rows
            came from before, else the first that fits the contract. Another one replaces an input's rows.
        remove_vanished
            Also remove the rows of inputs that stood below `uris` once and do not any more.
        data_id
            Values that the path does not tell, such as ``tract=4431``.

        Raises
        ------
        NotFoundError
            Nothing to ingest there.
        QueryError
            `hdu` is given, and there is no FITS file.
        ContractError
            Another dataset type feeds the table already.
        StorageError, ConflictError
            The store failed, or other writers were always first; run it again.
        """
        self._writable()
        listing = self.list_inputs(table, uris, dataset_type=dataset_type, hdu=hdu, **data_id)
        return run.ingest_table(
            self.root,
            table,
            listing.inputs,
            self.settings,
            roots=listing.roots,
            dataset_type=dataset_type,
            remove_vanished=remove_vanished,
            on_event=on_event,
        )

    def ingest_tree(
        self,
        uris: str | Sequence[str],
        *,
        tables: Collection[str] | None = None,
        dataset_types: Collection[str] = (),
        hdu: int | str | None = None,
        remove_vanished: bool = False,
        on_event: OnEvent = ignore,
    ) -> list[IngestReport]:
        """Ingest all tables of a Butler-like tree in dependency order; return a report a table."""
        self._writable()
        listing = self.list_inputs(None, uris, hdu=hdu)
        return run.ingest_inputs(
            self.root,
            listing.inputs,
            self.settings,
            roots=listing.roots,
            tables=tables,
            dataset_types=dataset_types,
            remove_vanished=remove_vanished,
            on_event=on_event,
        )

    def retry(self, table: str, *, on_event: OnEvent = ignore) -> IngestReport:
        """Take up again the inputs of `table` of which rows are set aside, after the cause has been mended."""
        self._writable()
        return run.retry_table(self.root, table, self.settings, on_event=on_event)

    def history(self, table: str | None = None) -> pl.DataFrame:
        """Return the ledger as it is now, also where a pinned release is open: one row an input and version."""
        if table is not None:
            self.root.contract(table)
        return ledger.read(self.root.uri, ledger.LEDGER, table, self.settings)

    def quarantine(self, table: str | None = None, *, rows: int | None = None) -> pl.DataFrame:
        """Return the rows that are set aside now: table, version, input_id, uri, row_number, rules, key, values.

        Now is now also where a pinned release is open.

        Parameters
        ----------
        rows
            At most so many, the last ones; by default all, which may be more than the memory holds.
        """
        if table is not None:
            self.root.contract(table)
        return quarantine.rows(self.root.uri, table, self.settings, rows)

    def quarantine_counts(self, table: str | None = None) -> pl.DataFrame:
        """Return how many rows are set aside now: table, rules (that rows break together), rows."""
        if table is not None:
            self.root.contract(table)
        return quarantine.counts(self.root.uri, table, self.settings)

    def audit(self, *tables: str) -> list[Finding]:
        """Recompute from the tables themselves what the ledger and the contracts say; return what was found.

        Of the tables as they are now, also where a pinned release is open.
        """
        return auditing.audit(self.root, self.settings, tables=tables)

    def maintain(self, *tables: str, hours: float | None = None, dry_run: bool = False) -> list[Upkeep]:
        """Remove staged orphans and files that no kept version needs, merge small ones; return what was done."""
        self._writable()
        return upkeep.maintain(self.root, self.settings, tables=tables, hours=hours, dry_run=dry_run)

    def version(self, table: str, at: int | datetime | None = None) -> int:
        """Return a table's version now, or as of a moment."""
        return self._tables.open(table, at).snapshot.version

    # ------------------------------------------------------------------------------------------- for readers

    def dataset_types(self, pattern: str = "*") -> pl.DataFrame:
        """Return one row a Butler dataset type: dataset_type, dimensions, table, description.

        Those of the release's catalogues, and those of which images are registered, whose table is ``Image``.
        """
        images = finding.registered_types(self._registered(None)) if self._tables.loaded(IMAGE) else {}
        return catalogue.dataset_types(self._tables, pattern, more=images)

    def data_ids(
        self, dataset_type: str, data_id: DataId | None = None, *, version: Version | None = None, **keys: int | str
    ) -> pl.DataFrame:
        """Return the data ids of a dataset type that have the given values, sorted: dimensions, and how many rows each.

        Of images, whose data ids have no rows, the files' URIs.
        """
        wanted = merged(data_id, keys)
        if finding.is_image_type(self.root, dataset_type):
            return finding.data_ids(self._registered(version), dataset_type, wanted)
        return catalogue.data_ids(self._tables, dataset_type, wanted, version=version)

    def scan(
        self,
        table: str,
        region: Area | None = None,
        *,
        columns: Sequence[str] | None = None,
        version: Version | None = None,
        primary: bool = False,
    ) -> pl.LazyFrame:
        """Return a table's rows, or those in a region, as a LazyFrame; see `warehouse.query.scan.scan`.

        Of Image and ObsCore, the images that share sky with the region, as `images` finds them.
        """
        how = self._choose(table)
        return scan.scan(self._tables, table, region, columns=columns, version=version, primary=primary, choose=how)

    def files(self, table: str, region: Area | None = None, *, version: Version | None = None) -> list[str]:
        """Return the URIs of the Parquet files that a scan would open, for other engines."""
        return scan.files(self._tables, table, region, version=version, choose=self._choose(table))

    def get(
        self,
        dataset_type: str,
        data_id: DataId | None = None,
        *,
        columns: Sequence[str] | None = None,
        format: Format = "polars",  # noqa: A002 - the word that astropy and pandas users write
        version: Version | None = None,
        **keys: int | str,
    ) -> Any:  # noqa: ANN401 - what it is, `format` says
        """Return a dataset by Butler dataset type and data id: a mapping, keywords, or both, of which these count.

        Of a catalogue its rows, see `warehouse.query.dataset.get`; of an image astropy's ``CCDData``, see
        `warehouse.images.pixels.read_image`, and then neither columns nor a format can be chosen.
        """
        wanted = merged(data_id, keys)
        if finding.is_image_type(self.root, dataset_type):
            if columns is not None or format != "polars":
                raise QueryError(f"{dataset_type} is an image: it has no columns and one form", kind="format")
            row = finding.find(self._registered(version), dataset_type, wanted)
            return pixels.read_image(row["uri"], self.settings)
        return dataset.get(self._tables, dataset_type, wanted, columns=columns, format=format, version=version)

    def lightcurve(
        self,
        object_id: Ids | None = None,
        *,
        dia_object_id: Ids | None = None,
        detections: bool = False,
        columns: Sequence[str] | None = None,
        version: Version | None = None,
    ) -> pl.DataFrame:
        """Return the photometry of objects, sorted by id and time; see `warehouse.query.lightcurve.lightcurve`."""
        return lightcurve.lightcurve(
            self._tables,
            object_id,
            dia_object_id=dia_object_id,
            detections=detections,
            columns=columns,
            version=version,
        )

    def sky_info(
        self, table: str, region: Area | None = None, *, means: bool = True, version: Version | None = None
    ) -> pl.DataFrame:
        """Return rows, extent and mean position of a table in each tract and patch."""
        return skyinfo.sky_info(self._tables, table, region, means=means, version=version)

    def sql(self, query: str, *, version: Version | None = None) -> pl.LazyFrame:
        """Return the answer to a query in Polars' SQL over the warehouse's tables."""
        return sql.query(self._tables, query, version=version)

    def pin(self, name: str) -> Pin:
        """Pin the present version of every table under a name, atomically (ConflictError where it is taken)."""
        self._writable()
        return pins.pin(self.root, name, self.settings)

    def pins(self) -> list[Pin]:
        """Return all pinned releases, oldest first."""
        return pins.pins(self.root, self.settings)

    def unpin(self, name: str) -> None:
        """Remove a pinned release's name; `maintain` may then remove what only it needed."""
        self._writable()
        pins.unpin(self.root, name, self.settings)
