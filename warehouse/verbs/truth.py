"""Verbs about what is measured and what is true: match, join, photo-z sets, the report."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

import polars as pl

from warehouse import storage
from warehouse.contracts.derived import OBJECT_TRUTH, ObjectChoice
from warehouse.errors import QueryError
from warehouse.lake.events import OnEvent, ignore
from warehouse.query import scan
from warehouse.query.tables import Opened, Version
from warehouse.sky.regions import Region
from warehouse.truth import matching, materialise, photoz_files
from warehouse.truth import photoz as photoz_set
from warehouse.truth import report as truth_report
from warehouse.truth.match import MatchSettings
from warehouse.truth.matching import MatchReport
from warehouse.truth.materialise import MaterialiseReport, Staleness
from warehouse.truth.report import TruthReport
from warehouse.verbs.door import Door


class TruthVerbs(Door):
    """What a warehouse does with truth."""

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
        """Return how far ObjectTruth is now behind the tables that it is made of: which tracts, and why."""
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
        near = self._near(opened, region)
        rows = photoz_set.photoz(near, photoz_files.needed(chosen, os.fspath(out), near.collect_schema().names()))
        pinned = version if isinstance(version, str) else None if self._tables.pin is None else self._tables.pin.name
        made = materialise.origin(self.root, opened.snapshot, self.settings)
        recipe = {
            "tractlake": metadata.version("tractlake"),
            "release": self.root.release,
            "pinned": pinned,
            "versions": dict(made.versions),
            **chosen.recipe(),
        }
        return photoz_files.write(rows, os.fspath(out), recipe, made.contract, chosen.columns())

    def report(self, out: str | os.PathLike[str], *, version: Version | None = None) -> TruthReport:
        """Draw what is measured against what is true, from ObjectTruth, into a folder with a static page.

        Raises
        ------
        QueryError
            `out` is no local folder.
        NotFoundError
            ObjectTruth has never been made, or holds no rows.
        """
        if storage.scheme(os.fspath(out)) != "file":
            raise QueryError("expected a local folder for the report", kind="format", uri=os.fspath(out))
        opened = self._object_truth(version)
        return truth_report.write(self.root, opened.snapshot, out, self.settings)

    @staticmethod
    def _near(opened: Opened, region: Region | None) -> pl.LazyFrame:
        """Return the rows of the files that a region can touch; which of them lie in it, the selection says once."""
        return scan.read(opened, scan.chosen_rows(opened, region)[0])

    def _object_truth(self, version: Version | None) -> Opened:
        """Return ObjectTruth as of a version (NotFoundError says what makes it)."""
        return self._opened(OBJECT_TRUTH, version, "tractlake materialise")
