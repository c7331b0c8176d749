"""What the coadds show of the truth: which entries, where, and with what noise - once for each source.

A source that lies in several patches and tracts is measured in each of them from what is drawn here, so that its
measurements agree. Patches are the business of `warehouse.simulate.measure`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from warehouse.simulate.plane import deproject
from warehouse.simulate.population import BANDS, SUPERNOVA, Floats, Floats32, Ints, Truth
from warehouse.simulate.streams import stream

# Point-source depths at five sigma, AB magnitudes in ugrizy: of the full coadds, and of one visit.
COADD_DEPTH = np.array([25.7, 27.0, 27.0, 26.4, 25.7, 24.9])
VISIT_DEPTH = np.array([23.7, 24.8, 24.4, 23.9, 23.3, 22.5])
# Variance of the photon noise over flux, nJy: of thirty seconds, and of a hundred such exposures.
VISIT_PHOTON_nJy = 0.5
COADD_PHOTON_nJy = 0.005
# Calibration leaves this relative error at the bright end.
CALIBRATION_FLOOR = 0.002
ABSENT_SHARE = 0.02

_I = BANDS.index("i")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The sources that the coadds show, by row of the truth.

    Attributes
    ----------
    truth
        Row of the truth, ascending, shape (n,).
    ra, dec
        Measured position in degrees.
    sigma_arcsec
        Its error along either axis.
    noise
        Flux error in units of its standard deviation, shape (6, n).
    absent
        Whether a band has no measurement, shape (6, n).
    blend
        Truth row of the pair's first member where both are found so close that they were deblended, else -1.
    """

    truth: Ints
    ra: Floats
    dec: Floats
    sigma_arcsec: Floats32
    noise: Floats32
    absent: NDArray[np.bool_]
    blend: Ints

    @property
    def rows(self) -> int:
        """Sources found."""
        return len(self.truth)


def flux_error(flux_nJy: Floats, depth: float, photon_nJy: float) -> Floats:
    """Return the standard deviation in nJy of a flux, from a five-sigma depth (AB), photon noise and calibration."""
    sky = 10.0 ** (0.4 * (31.4 - depth)) / 5.0
    flux = np.maximum(flux_nJy, 0.0)
    return np.asarray(np.sqrt(sky * sky + photon_nJy * flux + np.square(CALIBRATION_FLOOR * flux)))


def coadd_error(truth: Truth, rows: Ints, band: int) -> Floats:
    """Return the standard deviation in nJy of the cModel flux of truth `rows`; large galaxies take in more sky."""
    error = flux_error(truth.flux_nJy[band, rows].astype(np.float64), COADD_DEPTH[band], COADD_PHOTON_nJy)
    return np.asarray(error * np.sqrt(1.0 + np.square(truth.size_arcsec[rows] / 0.6)))


def detect(seed: int, truth: Truth, objects: int) -> Detections:
    """Return the `objects` sources that are found: nearly all bright ones, fewer and fewer of the faint."""
    generator = stream(seed, "detection")
    static = np.flatnonzero(truth.kind != SUPERNOVA)
    magnitude = 31.4 - 2.5 * np.log10(np.maximum(truth.flux_nJy[_I, static], 1e-6))
    # A logistic scatter about the limit is a logistic completeness curve, with an exact number of sources.
    order = np.argsort(magnitude + generator.logistic(0.0, 0.2, len(static)), kind="stable")
    rows = np.sort(static[order[: min(objects, len(static))]])
    count = len(rows)
    noise = generator.standard_normal((len(BANDS), count), dtype=np.float32)
    brightness = truth.flux_nJy[_I, rows].astype(np.float64)
    signal_to_noise = np.maximum(brightness / coadd_error(truth, rows, _I), 2.0)
    sigma = 0.004 + 0.3 / signal_to_noise
    offset = generator.standard_normal((2, count)) * (sigma / 3600.0)
    ra, dec = deproject(truth.ra[rows], truth.dec[rows], offset[0], offset[1])
    absent = np.zeros((len(BANDS), count), bool)
    lost = np.flatnonzero(generator.random(count) < ABSENT_SHARE)
    # Seldom in the bands that sources are found in.
    absent[generator.choice(len(BANDS), len(lost), p=[0.4, 0.05, 0.05, 0.05, 0.15, 0.3]), lost] = True
    return Detections(rows, ra, dec, sigma.astype(np.float32), noise, absent, _blends(truth, rows))


def _blends(truth: Truth, rows: Ints) -> Ints:
    """Return for each source the truth row of its pair's first member, -1 where it has no found companion."""
    blend = np.full(len(rows), -1, np.int64)
    first = np.flatnonzero((rows[:-1] % 2 == 0) & (rows[1:] == rows[:-1] + 1))
    left, right = rows[first], rows[first + 1]
    north = truth.dec[right] - truth.dec[left]
    turn = np.mod(truth.ra[right] - truth.ra[left] + 180.0, 360.0) - 180.0
    close = np.hypot(turn * np.cos(np.radians(truth.dec[left])), north) < 2.0 / 3600.0
    pairs = first[close]
    blend[pairs] = blend[pairs + 1] = rows[pairs]
    return blend
