"""Verbs about images: register, find, cut out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from warehouse.contracts.image import IMAGE
from warehouse.images import cutout as cutting
from warehouse.images import finding, registry
from warehouse.images.finding import Place, Registered, Time
from warehouse.images.registry import RegisterReport
from warehouse.lake.events import OnEvent, ignore
from warehouse.query import scan
from warehouse.query.areas import Area, Patch, Tract, places
from warehouse.query.dataid import DataId, merged
from warehouse.query.scan import Choose
from warehouse.query.tables import Opened, Version
from warehouse.verbs.door import Door


class ImageVerbs(Door):
    """What a warehouse does with images."""

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
        found = self._registered(version)
        where = None if region is None else _where(region, self._tables.open(IMAGE, version))
        return finding.images(found, where, band=band, time=time, dataset_type=dataset_type)

    def cutout(
        self,
        ra: float,
        dec: float,
        size_arcsec: float,
        data_id: DataId | None = None,
        *,
        band: str | None = None,
        dataset_type: str = "deepCoadd",
        version: Version | None = None,
        **keys: int | str,
    ) -> Any:  # noqa: ANN401 - a CCDData; astropy publishes no types
        """Return a square piece of the image that shows a position, as ``CCDData``; only its tiles are read.

        Where several show it, a data id says which, as `Warehouse.get` takes it.

        Raises
        ------
        NotFoundError
            No image shows the position; the message names the nearest.
        QueryError
            Several visits or bands show it, and the data id does not say which.
        """
        row = finding.showing(self._registered(version), ra, dec, dataset_type, band, merged(data_id, keys))
        return cutting.cut(row["uri"], ra, dec, size_arcsec, self.settings)

    def _registered(self, version: Version | None) -> Registered:
        """Return the images as of a version (NotFoundError says what registers them)."""
        opened = self._opened(IMAGE, version, "tractlake images register URI")
        return Registered(self.root, opened.files, partial(scan.read, opened))

    def _choose(self, table: str) -> Choose:
        """Return what "in a region" means to a table's rows: an image is wherever it shares sky with the region."""
        return self._touching if table in finding.EXTENTS else scan.chosen_rows

    def _touching(self, opened: Opened, region: Area | None) -> tuple[pl.DataFrame, pl.Expr | None]:
        if region is None:
            return opened.files, None
        return finding.touching(self.root, opened.table, opened.files, _where(region, opened))


def _where(region: Area, opened: Opened) -> list[Place]:
    return [_tract_and_patch(p) if isinstance(p, Tract | Patch) else p for p in places(region, opened)]


def _tract_and_patch(place: Tract | Patch) -> tuple[int, int | None]:
    return place.tract, place.patch if isinstance(place, Patch) else None
