"""Visits and detectors: dithered pointings, the focal plane, and on which pixel of which detector a position falls.

The focal plane is LSSTCam's: 21 rafts of nine detectors on a 5 x 5 grid without its corners. What is measured on the
detectors belongs in `warehouse.simulate.sources` and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from warehouse.simulate.detection import VISIT_DEPTH
from warehouse.simulate.plane import deproject, project
from warehouse.simulate.population import BANDS, FIRST_NIGHT_MJD, Floats
from warehouse.simulate.streams import stream

INSTRUMENT = "LSSTCam-imSim"
X_SIZE, Y_SIZE = 4072, 4000
DETECTORS = 189
EXPOSURE_S = 30.0

_PIXEL_DEG = 0.2 / 3600.0
# Centre to centre, in pixels of 10 micrometres.
_RAFT_PITCH_PX, _DETECTOR_PITCH_PX = 12_700.0, 4_225.0
_BAND_CYCLE = "irgzyu"
_FIRST_VISIT, _VISIT_STEP = 192_350, 7
_VISITS_A_NIGHT, _NIGHTS_BETWEEN = 4, 3
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Visit:
    """One exposure of the whole focal plane."""

    visit: int
    band: str
    ra_deg: float
    dec_deg: float
    rotation_deg: float
    azimuth_deg: float
    zenith_distance_deg: float
    mid_mjd: float
    seeing_arcsec: float
    depth: float
    detectors: tuple[int, ...]

    @property
    def physical_filter(self) -> str:
        """The filter as the instrument calls it."""
        return f"{self.band}_sim_1.4"

    @property
    def band_index(self) -> int:
        """The band's place in ugrizy."""
        return BANDS.index(self.band)

    @property
    def day_obs(self) -> int:
        """The night's date as the integer yyyymmdd; a night changes its date at noon UTC."""
        return int((_MJD_EPOCH + timedelta(days=self.mid_mjd - 0.5)).strftime("%Y%m%d"))


@dataclass(frozen=True, slots=True, eq=False)
class Landing:
    """Where positions fall on the focal plane: detector (-1: on none that was read) and its pixels."""

    detector: NDArray[np.int64]
    x: Floats
    y: Floats


def plan_visits(
    seed: int, ra_deg: float, dec_deg: float, radius_deg: float, visits: int, first: int, detectors: int
) -> tuple[Visit, ...]:
    """Return visits number `first` to ``first + visits - 1`` of an endless sequence of dithered pointings."""
    read = nearest_detectors(detectors)
    return tuple(_visit(seed, ra_deg, dec_deg, radius_deg, n, read) for n in range(first, first + visits))


def _visit(
    seed: int, ra_deg: float, dec_deg: float, radius_deg: float, number: int, detectors: tuple[int, ...]
) -> Visit:
    generator = stream(seed, "visit", number)
    reach, angle = 0.6 * radius_deg * np.sqrt(generator.random()), 2.0 * np.pi * generator.random()
    ra, dec = deproject(ra_deg, dec_deg, reach * np.sin(angle), reach * np.cos(angle))
    night, turn = divmod(number, _VISITS_A_NIGHT)
    band = _BAND_CYCLE[number % len(_BAND_CYCLE)]
    seeing = float(0.75 * generator.lognormal(0.0, 0.12))
    return Visit(
        visit=_FIRST_VISIT + _VISIT_STEP * number,
        band=band,
        ra_deg=float(ra),
        dec_deg=float(dec),
        rotation_deg=float(generator.uniform(0.0, 360.0)),
        azimuth_deg=float(generator.uniform(0.0, 360.0)),
        zenith_distance_deg=float(generator.uniform(5.0, 55.0)),
        mid_mjd=FIRST_NIGHT_MJD + _NIGHTS_BETWEEN * night + 0.1 + 0.05 * turn + 0.01 * float(generator.random()),
        seeing_arcsec=seeing,
        depth=float(VISIT_DEPTH[BANDS.index(band)] - 2.5 * np.log10(seeing / 0.75)),
        detectors=detectors,
    )


def detector_name(detector: int) -> str:
    """Return the name that file names carry, such as R22_S11 for detector 94."""
    raft, slot = divmod(detector, 9)
    row, column = _rafts()[raft]
    return f"R{row}{column}_S{slot // 3}{slot % 3}"


def detector_centre(detector: int) -> tuple[float, float]:
    """Return a detector's centre on the unrotated focal plane, in pixels from the boresight."""
    raft, slot = divmod(detector, 9)
    row, column = _rafts()[raft]
    x = (column - 2) * _RAFT_PITCH_PX + (slot % 3 - 1) * _DETECTOR_PITCH_PX
    y = (row - 2) * _RAFT_PITCH_PX + (slot // 3 - 1) * _DETECTOR_PITCH_PX
    return x, y


@lru_cache(maxsize=1)
def _rafts() -> tuple[tuple[int, int], ...]:
    corners = {(0, 0), (0, 4), (4, 0), (4, 4)}
    return tuple((row, column) for row in range(5) for column in range(5) if (row, column) not in corners)


@lru_cache(maxsize=8)
def nearest_detectors(count: int) -> tuple[int, ...]:
    """Return the `count` detectors nearest to the boresight, ascending: 9 are the central raft, 189 are all."""
    centres = np.array([detector_centre(d) for d in range(DETECTORS)])
    order = np.argsort(np.hypot(centres[:, 0], centres[:, 1]), kind="stable")
    return tuple(sorted(int(d) for d in order[:count]))


@lru_cache(maxsize=8)
def _detector_grid(detectors: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the detector at each of the 15 x 15 places (row, column), -1 where none is read."""
    grid = np.full((15, 15), -1, np.int64)
    for detector in detectors:
        raft, slot = divmod(detector, 9)
        row, column = _rafts()[raft]
        grid[3 * row + slot // 3, 3 * column + slot % 3] = detector
    return grid


def land(visit: Visit, ra_deg: Floats, dec_deg: Floats) -> Landing:
    """Return where positions fall in a visit."""
    xi, eta = project(visit.ra_deg, visit.dec_deg, ra_deg, dec_deg)
    turn = np.radians(visit.rotation_deg)
    across = (xi * np.cos(turn) + eta * np.sin(turn)) / _PIXEL_DEG
    along = (eta * np.cos(turn) - xi * np.sin(turn)) / _PIXEL_DEG
    column, x = _place(across, X_SIZE)
    row, y = _place(along, Y_SIZE)
    on_focal_plane = (column >= 0) & (row >= 0)
    detector = np.where(on_focal_plane, _detector_grid(visit.detectors)[row, column], -1)
    return Landing(detector, x, y)


def _place(offset_px: Floats, size: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the detector's place along one axis, 0 to 14 (-1 in a gap or outside), and the pixel on it."""
    # NaN is the other hemisphere: as far away as anything outside.
    offset = np.nan_to_num(offset_px, nan=1e9)
    raft = np.rint(offset / _RAFT_PITCH_PX)
    within = offset - raft * _RAFT_PITCH_PX
    slot = np.rint(within / _DETECTOR_PITCH_PX)
    pixel = within - slot * _DETECTOR_PITCH_PX + (size - 1) / 2.0
    inside = (np.abs(raft) <= 2) & (np.abs(slot) <= 1) & (pixel >= -0.5) & (pixel < size - 0.5)
    place = np.where(inside, 3 * (raft + 2) + slot + 1, -1)
    return place.astype(np.int64), pixel


def detector_to_sky(visit: Visit, detector: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return RA and Dec, degrees, of pixels of a detector: the inverse of `land`."""
    centre_x, centre_y = detector_centre(detector)
    across = (np.asarray(x) - (X_SIZE - 1) / 2.0 + centre_x) * _PIXEL_DEG
    along = (np.asarray(y) - (Y_SIZE - 1) / 2.0 + centre_y) * _PIXEL_DEG
    turn = np.radians(visit.rotation_deg)
    xi = across * np.cos(turn) - along * np.sin(turn)
    eta = across * np.sin(turn) + along * np.cos(turn)
    return deproject(visit.ra_deg, visit.dec_deg, xi, eta)
