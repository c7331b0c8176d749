"""LSST's afw ``src`` catalogues as rows of Source, where the two mean the same.

Here belongs the mapping of names, and the calibration of fluxes that a catalogue can do for itself. What afw's files
look like (flag bits, angles, aliases) is known to `warehouse.readers.fits`, which reads them as they are.

How a column of Source is found, in this order:

| column of Source | from the catalogue |
|---|---|
| `RENAMED` | one column of another name; slots are resolved through the catalogue's aliases |
| `CALIBRATED` | instrumental flux x base_LocalPhotoCalib, in nJy, and its error, where the catalogue carries both |
| ccdVisitId, visit, detector | the high bits of the id, as the release packs them |
| any other | the column whose name becomes it by `PREFIXES` |

The names are those that LSST's pipelines gave when they made Source of ``src`` catalogues (pipe_tasks,
``schemas/Source.yaml``). A catalogue says nothing of band, instrument, filter or visit system: columns that cannot be
derived are absent from the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import ContractError, InputError, near_misses
from warehouse.readers.fits import FitsInput, FitsReader
from warehouse.readers.reader import OpenedInput

RENAMED: Mapping[str, str] = {
    "sourceId": "id",
    "parentSourceId": "parent",
    "coord_ra": "coord_ra",
    "coord_dec": "coord_dec",
    "ra": "coord_ra",
    "decl": "coord_dec",
    "dec": "coord_dec",
    "x": "slot_Centroid_x",
    "y": "slot_Centroid_y",
    "xErr": "slot_Centroid_xErr",
    "yErr": "slot_Centroid_yErr",
    "ixx": "slot_Shape_xx",
    "iyy": "slot_Shape_yy",
    "ixy": "slot_Shape_xy",
    "ixxPSF": "slot_PsfShape_xx",
    "iyyPSF": "slot_PsfShape_yy",
    "ixyPSF": "slot_PsfShape_xy",
    "extendedness": "base_ClassificationExtendedness_value",
    **{f"ap{radius:02d}Flux_flag": f"base_CircularApertureFlux_{radius}_0_flag" for radius in (3, 6, 9, 12, 17)},
    **{f"ap{radius}Flux_flag": f"base_CircularApertureFlux_{radius}_0_flag" for radius in (25, 35, 50, 70)},
}
CALIBRATED: Mapping[str, str] = {
    "calibFlux": "slot_CalibFlux",
    "psfFlux": "slot_PsfFlux",
    "gaussianFlux": "base_GaussianFlux",
    "sky": "base_LocalBackground",
    **{f"ap{radius:02d}Flux": f"base_CircularApertureFlux_{radius}_0" for radius in (3, 6, 9, 12, 17, 25, 35, 50, 70)},
}
# Source's leading part -> the catalogue's, longest first.
PREFIXES: Mapping[str, str] = {
    "localBackground": "base_LocalBackground",
    "localPhotoCalib": "base_LocalPhotoCalib",
    "localWcs": "base_LocalWcs",
    "blendedness": "base_Blendedness",
    "pixelFlags": "base_PixelFlags_flag",
    "extendedness": "base_ClassificationExtendedness",
    "centroid": "base_SdssCentroid",
    "variance": "base_Variance",
    "psfFlux": "base_PsfFlux",
    "gaussianFlux": "base_GaussianFlux",
    "apFlux": "base_CircularApertureFlux",
    "footprintArea": "base_FootprintArea",
    "jacobian": "base_Jacobian",
    "hsm": "ext_shapeHSM_Hsm",
}
CALIBRATION, CALIBRATION_ERROR = "base_LocalPhotoCalib", "base_LocalPhotoCalibErr"
# Low bits of an id that count the sources of a detector, by release; above them stands ccdVisitId, which is
# visit * 1000 + detector. Releases that are not named here pack otherwise, or tell visit and detector by themselves.
COUNTER_BITS: Mapping[str, int] = {"dp02": 29}
_PACKED = {"ccdVisitId": (1, None), "visit": (1000, None), "detector": (1, 1000)}


@dataclass(frozen=True, slots=True)
class Derived:
    """How one column of Source is made: an expression over columns of the catalogue, with its type and unit."""

    needs: tuple[str, ...]
    expr: pl.Expr
    arrow: pa.DataType
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class AfwSourceReader:
    """Reads afw catalogues as rows of Source.

    Attributes
    ----------
    contract
        Source, as the release has it.
    hdu
        As for `FitsReader`.
    """

    contract: Contract
    hdu: int | str | None = None

    def open(self, uri: str, settings: Settings) -> AfwSourceInput:
        """Read the header of `uri`.

        Raises
        ------
        InputError
            As `FitsReader.open`; also, kind ``not_afw``, where the table is no afw source catalogue.
        StorageError
            The store does not answer.
        """
        catalogue = FitsReader(self.hdu, wanted=("id", "coord_ra", "coord_dec")).open(uri, settings)
        if not is_source_catalogue(catalogue):
            found = catalogue.hdu.cards.get("AFW_TYPE")
            raise InputError(f"{catalogue.hdu.place}: AFW_TYPE is {found!r}, expected SOURCE", kind="not_afw", uri=uri)
        return AfwSourceInput(catalogue, self.contract)


def seen_as(contract: Contract, opened: OpenedInput) -> OpenedInput:
    """Return an opened input as rows of the contract's table: a ``src`` catalogue as Source, any other as it is."""
    if contract.table == "Source" and isinstance(opened, FitsInput) and is_source_catalogue(opened):
        return AfwSourceInput(opened, contract)
    return opened


def is_source_catalogue(catalogue: FitsInput) -> bool:
    """Return whether the table is afw's SOURCE."""
    return str(catalogue.hdu.cards.get("AFW_TYPE", "")).strip() == "SOURCE"


@dataclass(frozen=True)
class AfwSourceInput:
    """A catalogue seen as Source: `schema` holds the columns of the contract that it can tell, and no others."""

    catalogue: FitsInput
    contract: Contract

    @cached_property
    def derived(self) -> dict[str, Derived]:
        """How each column of Source is made, in the contract's order."""
        found = ((column.name, self._derive(column.name)) for column in self.contract.columns)
        return {name: derived for name, derived in found if derived is not None}

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of Source that the catalogue can tell."""
        return pa.schema(
            [pa.field(name, d.arrow, metadata={"unit": d.unit} if d.unit else None) for name, d in self.derived.items()]
        )

    @property
    def rows(self) -> int:
        """Rows that the header promises."""
        return self.catalogue.rows

    @property
    def index(self) -> tuple[str, ...]:
        """Nothing: FITS knows no index."""
        return ()

    def batches(self, columns: Sequence[str], memory: int) -> Iterator[pl.DataFrame]:
        """Yield the rows as `FitsInput.batches` does, as columns of Source.

        Raises
        ------
        InputError, StorageError
            As `FitsInput.batches`.
        ContractError
            No such column.
        """
        unknown = [name for name in columns if name not in self.derived]
        if unknown:
            hint = near_misses(unknown[0], self.derived)
            raise ContractError(
                f"the catalogue tells no {unknown[0]!r}; {hint}", kind="column", table="Source", uri=self.catalogue.uri
            )
        chosen = [self.derived[name] for name in columns]
        needed = list(dict.fromkeys(need for derived in chosen for need in derived.needs))
        # Two columns of Source may be made of one of the catalogue, so half is left for what is made.
        for batch in self.catalogue.batches(needed, memory // 2):
            yield batch.select(derived.expr.alias(name) for name, derived in zip(columns, chosen, strict=True))

    def _derive(self, name: str) -> Derived | None:
        if name in _PACKED and (packed := self._packed(name)) is not None:
            return packed
        flux = name.removesuffix("Err")
        if flux in CALIBRATED:
            return self._calibrated(CALIBRATED[flux], error=flux != name)
        return self._renamed(RENAMED.get(name) or _by_prefix(name))

    def _renamed(self, wanted: str) -> Derived | None:
        found = self._column(wanted)
        if found is None:
            return None
        column = self.catalogue.schema.field(found)
        unit = (column.metadata or {}).get(b"unit", b"").decode() or None
        return Derived((found,), pl.col(found), column.type, unit)

    def _packed(self, name: str) -> Derived | None:
        bits = COUNTER_BITS.get(self.contract.release)
        if bits is None or self.catalogue.field("id") is None:
            return None
        divide, modulo = _PACKED[name]
        expr = pl.col("id") // (divide << bits)
        return Derived(("id",), expr if modulo is None else expr % modulo, pa.int64())

    def _calibrated(self, measured: str, *, error: bool) -> Derived | None:
        """Return flux = instFlux * calib in nJy, or its error, the two errors added in quadrature."""
        names = [f"{measured}_instFlux", CALIBRATION]
        if error:
            names += [f"{measured}_instFluxErr", CALIBRATION_ERROR]
        found = [self._column(name) for name in names]
        columns = tuple(name for name in found if name is not None)
        if len(columns) < len(names):
            return None
        flux, calibration, *errors = (pl.col(name).cast(pl.Float64) for name in columns)
        if not error:
            return Derived(columns, flux * calibration, pa.float64(), "nJy")
        flux_error, calibration_error = errors
        variance = (flux_error * calibration).pow(2) + (flux * calibration_error).pow(2)
        return Derived(columns, variance.sqrt(), pa.float64(), "nJy")

    def _column(self, wanted: str) -> str | None:
        """Return the catalogue's own name of a column; before version 3, afw wrote ``flux`` for ``instFlux``."""
        field = self.catalogue.field(wanted)
        if field is None and self._version < 3:
            field = self.catalogue.field(re.sub(r"_instFlux(Err)?$", r"_flux\1", wanted))
        return None if field is None else field.name

    @property
    def _version(self) -> int:
        version = self.catalogue.hdu.cards.get("AFW_TABLE_VERSION", 0)
        return version if isinstance(version, int) else 0


def _by_prefix(name: str) -> str:
    """Return the catalogue's name for a column of Source that is named by its leading part, or the name itself."""
    for ours in sorted(PREFIXES, key=len, reverse=True):
        if name.startswith(ours):
            return PREFIXES[ours] + name[len(ours) :]
    return name
