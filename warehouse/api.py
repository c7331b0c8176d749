"""The door: `Warehouse`, whose verbs are those of the `tractlake` command.

Thin on purpose: each method names one function of the rooms below and hands it the root and the settings.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.derived import OBJECT_TRUTH, ObjectChoice
from warehouse.contracts.image import IMAGE
from warehouse.errors import NotFoundError, QueryError
from warehouse.images import cutout as cutting
from warehouse.images import finding, pixels, registry
from warehouse.images.finding import Registered, Time
from warehouse.images.registry import RegisterReport
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
from warehouse.lake.root import Root
from warehouse.query import catalogue, dataset, lightcurve, scan, skyinfo, sql
from warehouse.query.areas import Area, Patch, Tract, places
from warehouse.query.dataset import Format
from warehouse.query.lightcurve import Ids
from warehouse.query.tables import Opened, Tables, Version
from warehouse.readers import Listing, list_inputs
from warehouse.sky.regions import Region
from warehouse.sky.skymap import SkyMap
from warehouse.truth import matching, materialise, photoz_files
from warehouse.truth import photoz as photoz_set
from warehouse.truth import report as truth_report
from warehouse.truth.match import MatchSettings
from warehouse.truth.matching import MatchReport
from warehouse.truth.materialise import MaterialiseReport, Staleness
from warehouse.truth.report import TruthReport


class Warehouse:
    """A warehouse at a URI, opened or created; cheap to make, safe to use from several threads.

    Examples
    --------
    >>> wh = Warehouse.open("s3://bucket/dp02")  # doctest: +SKIP
    >>> wh.ingest("Object", "s3://in/objectTable_tract/")  # doctest: +SKIP
    """

    def __init__(self, root: Root, settings: Settings, *, release: str | None = None) -> None:
        self.root = root
        self.settings = settings
        self._tables = Tables(root, settings, pin=release)

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
        return f"Warehouse({self.root.uri!r}, release={self.root.release!r})"

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
                    "rows": int(files.get_column("num_records").sum()),
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
        if table == OBJECT_TRUTH:
            contract = materialise.contract_of(self.root, self.settings)
        rows = [(c.name, c.datatype, c.unit, c.ucd, c.description) for c in contract.columns]
        schema = ("column", "datatype", "unit", "ucd", "description")
        return pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")

    def list_inputs(
        self, table: str | None, uris: str | Sequence[str], *, dataset_type: str | None = None, **data_id: int | str
    ) -> Listing:
        """Return the inputs at `uris`: of every table, or those that `table` or `dataset_type` says they are."""
        found = [uris] if isinstance(uris, str) else list(uris)
        return list_inputs(
            found, self.settings, release=self.root.release, table=table, dataset_type=dataset_type, data_id=data_id
        )

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
        remove_vanished: bool = False,
        **data_id: int | str,
    ) -> Plan:
        """Return what `ingest` would do, and write nothing."""
        listing = self.list_inputs(table, uris, dataset_type=dataset_type, **data_id)
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
        remove_vanished
            Also remove the rows of inputs that stood below `uris` once and do not any more.
        data_id
            Values that the path does not tell, such as ``tract=4431``.

        Raises
        ------
        NotFoundError
            Nothing to ingest there.
        ContractError
            Another dataset type feeds the table already.
        StorageError, ConflictError
            The store failed, or other writers were always first; run it again.
        """
        self._writable()
        listing = self.list_inputs(table, uris, dataset_type=dataset_type, **data_id)
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
        remove_vanished: bool = False,
        on_event: OnEvent = ignore,
    ) -> list[IngestReport]:
        """Ingest all tables of a Butler-like tree in dependency order; return a report a table."""
        self._writable()
        listing = self.list_inputs(None, uris)
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
        """Return the ledger: one row an input and version."""
        if table is not None:
            self.root.contract(table)
        return ledger.read(self.root.uri, ledger.LEDGER, table, self.settings)

    def quarantine(self, table: str | None = None, *, rows: int | None = None) -> pl.DataFrame:
        """Return the rows that are set aside now: table, version, input_id, uri, row_number, rules, key, values.

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
        """Recompute from the tables themselves what the ledger and the contracts say; return what was found."""
        return auditing.audit(self.root, self.settings, tables=tables)

    def maintain(self, *tables: str, hours: float | None = None, dry_run: bool = False) -> list[Upkeep]:
        """Remove staged orphans and files that no kept version needs, merge small ones; return what was done."""
        return upkeep.maintain(self.root, self.settings, tables=tables, hours=hours, dry_run=dry_run)

    def version(self, table: str, at: int | datetime | None = None) -> int:
        """Return a table's version now, or as of a moment."""
        return self._tables.open(table, at).snapshot.version

    # ------------------------------------------------------------------------------------------- for readers

    def dataset_types(self, pattern: str = "*") -> pl.DataFrame:
        """Return one row a Butler dataset type: dataset_type, dimensions, table, description."""
        return catalogue.dataset_types(self._tables, pattern)

    def data_ids(self, dataset_type: str, *, version: Version | None = None, **data_id: int | str) -> pl.DataFrame:
        """Return the data ids of a dataset type that have the given values, sorted, with their rows."""
        return catalogue.data_ids(self._tables, dataset_type, version=version, **data_id)

    def scan(
        self,
        table: str,
        region: Area | None = None,
        *,
        columns: Sequence[str] | None = None,
        version: Version | None = None,
        primary: bool = False,
    ) -> pl.LazyFrame:
        """Return a table's rows, or those in a region, as a LazyFrame; see `warehouse.query.scan.scan`."""
        return scan.scan(self._tables, table, region, columns=columns, version=version, primary=primary)

    def files(self, table: str, region: Area | None = None, *, version: Version | None = None) -> list[str]:
        """Return the URIs of the Parquet files that a scan would open, for other engines."""
        return scan.files(self._tables, table, region, version=version)

    def get(
        self,
        dataset_type: str,
        *,
        columns: Sequence[str] | None = None,
        format: Format = "polars",  # noqa: A002 - the word that astropy and pandas users write
        version: Version | None = None,
        **data_id: int | str,
    ) -> Any:  # noqa: ANN401 - what it is, `format` says
        """Return a dataset by Butler dataset type and data id.

        Of a catalogue its rows, see `warehouse.query.dataset.get`; of an image astropy's ``CCDData``, see
        `warehouse.images.pixels.read_image`, and then neither columns nor a format can be chosen.
        """
        if finding.is_image_type(self.root, dataset_type):
            if columns is not None or format != "polars":
                raise QueryError(f"{dataset_type} is an image: it has no columns and one form", kind="format")
            row = finding.find(self._registered(version), dataset_type, data_id)
            return pixels.read_image(row["uri"], self.settings)
        return dataset.get(self._tables, dataset_type, columns=columns, format=format, version=version, **data_id)

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

    # ------------------------------------------------------------------------------------------------------- images

    def register_images(
        self,
        uris: str | Sequence[str],
        *,
        dataset_type: str | None = None,
        remove_vanished: bool = False,
        on_event: OnEvent = ignore,
        **data_id: int | str,
    ) -> RegisterReport:
        """Register images - calexp, difference images, coadds - by their headers; see `warehouse.images.registry`."""
        self._writable()
        return registry.register(
            self.root,
            [uris] if isinstance(uris, str) else list(uris),
            self.settings,
            dataset_type=dataset_type,
            data_id=data_id,
            remove_vanished=remove_vanished,
            on_event=on_event,
        )

    def images(
        self,
        region: Area | None = None,
        *,
        band: str | None = None,
        time: tuple[Time, Time] | None = None,
        dataset_type: str | None = None,
        version: Version | None = None,
    ) -> pl.LazyFrame:
        """Return the images that share sky with a region, a row of Image each; see `warehouse.images.finding.images`.

        Parameters
        ----------
        region
            As `scan` has it: a `Tract` or `Patch` is its outer box here, which is what a coadd covers.
        time
            First and last moment of the middle of the exposure: MJD (TAI), or datetimes.
        """
        opened = self._tables.open(IMAGE, version)
        where = None
        if region is not None:
            where = [_tract_and_patch(p) if isinstance(p, Tract | Patch) else p for p in places(region, opened)]
        found = self._registered(version)
        return finding.images(found, where, band=band, time=time, dataset_type=dataset_type)

    def cutout(
        self,
        ra: float,
        dec: float,
        size_arcsec: float,
        *,
        band: str | None = None,
        dataset_type: str = "deepCoadd",
        version: Version | None = None,
        **data_id: int | str,
    ) -> Any:  # noqa: ANN401 - a CCDData; astropy publishes no types
        """Return a square piece of the image that shows a position, as ``CCDData``; only its tiles are read.

        Raises
        ------
        NotFoundError
            No image shows the position; the message names the nearest.
        QueryError
            Several visits or bands show it, and the data id does not say which.
        """
        row = finding.showing(self._registered(version), ra, dec, dataset_type, band, data_id)
        return cutting.cut(row["uri"], ra, dec, size_arcsec, self.settings)

    def _registered(self, version: Version | None) -> Registered:
        """Return the images as of a version."""
        opened = self._tables.open(IMAGE, version)
        return Registered(self.root, opened.files, partial(scan.read, opened))

    # -------------------------------------------------------------------------------- what is measured and what is true

    def match(
        self, *, how: MatchSettings | None = None, replace: bool = False, on_event: OnEvent = ignore
    ) -> MatchReport:
        """Compute MatchesTruth from TruthSummary and Object, where they have changed since.

        Parameters
        ----------
        how
            Radius, limits and columns; by default as before, at first as published.
        replace
            Whether matches that files brought may be replaced, all of them.

        Raises
        ------
        ContractError
            Files feed the table, and it was not told to replace them.
        NotFoundError
            There is no truth, or there are no objects.
        """
        self._writable()
        return matching.match_truth(self.root, self.settings, how=how, replace=replace, on_event=on_event)

    def materialise(self, *, choice: ObjectChoice | None = None, on_event: OnEvent = ignore) -> MaterialiseReport:
        """Bring ObjectTruth - matches, truth and objects joined - up to date; only tracts that changed are made again.

        Parameters
        ----------
        choice
            Which columns of Object it holds; by default as before, at first id, position, flags, extendedness, and
            PSF and cModel fluxes, errors and magnitudes in the bands that the release has.

        Raises
        ------
        NotFoundError
            One of the three tables holds nothing; the message says how to fill it.
        """
        self._writable()
        return materialise.materialise(self.root, self.settings, choice=choice, on_event=on_event)

    def staleness(self) -> Staleness:
        """Return how far ObjectTruth is behind the tables that it is made of: which tracts, and why."""
        return materialise.staleness(self.root, self.settings)

    def photoz(self, region: Region | None = None, *, version: Version | None = None, **cuts: Any) -> pl.LazyFrame:  # noqa: ANN401 - as `Selection` has them
        """Return a photo-z set: matched galaxies, measured magnitudes and true redshifts, 28 columns by default.

        Parameters
        ----------
        region
            That the truth's position lies in; None means everywhere.
        version
            A version of ObjectTruth, a moment, or the name of a pinned release; None for now.
        cuts
            What `warehouse.truth.photoz.Selection` takes, such as ``magnitude_limits={"i": (17, 25)}``.

        Raises
        ------
        NotFoundError
            ObjectTruth has not been made; `materialise` makes it.
        QueryError
            A cut that is none.
        ContractError
            ObjectTruth lacks a column that the set needs.
        """
        chosen = photoz_set.selection(region, cuts)
        return photoz_set.photoz(self._near(self._object_truth(version), region), chosen)

    def write_photoz(
        self,
        out: str | os.PathLike[str],
        region: Region | None = None,
        *,
        version: Version | None = None,
        **cuts: Any,  # noqa: ANN401 - as `Selection` has them
    ) -> int:
        """Write a photo-z set to a file of the format that its ending names, with its recipe; return its rows.

        The endings and what they hold: `warehouse.truth.photoz_files.write`; the other arguments: `photoz`.
        """
        chosen = photoz_set.selection(region, cuts)
        opened = self._object_truth(version)
        rows = photoz_set.photoz(self._near(opened, region), chosen)
        pinned = version if isinstance(version, str) else None if self._tables.pin is None else self._tables.pin.name
        made = materialise.origin(self.root, opened.snapshot, self.settings)
        recipe = {"release": self.root.release, "pinned": pinned, "versions": dict(made.versions), **chosen.recipe()}
        return photoz_files.write(rows, os.fspath(out), recipe, made.contract)

    def report(self, out: str | os.PathLike[str], *, version: Version | None = None) -> TruthReport:
        """Draw what is measured against what is true, from ObjectTruth, into a folder with a static page."""
        opened = self._object_truth(version)
        return truth_report.write(self.root, opened.snapshot, out, self.settings)

    @staticmethod
    def _near(opened: Opened, region: Region | None) -> pl.LazyFrame:
        """Return the rows of the files that a region can touch; which of them lie in it, the selection says once."""
        return scan.read(opened, scan.chosen_rows(opened, region)[0])

    def _object_truth(self, version: Version | None) -> Opened:
        """Return ObjectTruth as of a version (NotFoundError says what makes it)."""
        try:
            return self._tables.open(OBJECT_TRUTH, version)
        except NotFoundError as error:
            if error.kind != "table":
                raise
            message = f"{error.message}; `tractlake materialise` makes it"
            raise NotFoundError(message, kind="table", table=OBJECT_TRUTH, uri=self.root.uri) from error

    def pin(self, name: str) -> Pin:
        """Pin the present version of every table under a name, atomically (ConflictError where it is taken)."""
        self._writable()
        return pins.pin(self.root, name, self.settings)

    def pins(self) -> list[Pin]:
        """Return all pinned releases, oldest first."""
        return pins.pins(self.root, self.settings)

    def unpin(self, name: str) -> None:
        """Remove a pinned release's name; `maintain` may then remove what only it needed."""
        pins.unpin(self.root, name, self.settings)

    def _writable(self) -> None:
        """Refuse to write where a pinned release is open (QueryError): its reader would not see what was written."""
        if self._tables.pin is not None:
            message = f"the pinned release {self._tables.pin.name!r} is open, which never changes; open it without"
            raise QueryError(message, kind="pin", uri=self.root.uri)


def _tract_and_patch(place: Tract | Patch) -> tuple[int, int | None]:
    return place.tract, place.patch if isinstance(place, Patch) else None
