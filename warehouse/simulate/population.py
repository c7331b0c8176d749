"""What is really there: galaxies, stars and supernovae, with fluxes that a photometric redshift can be learned from.

The colours of a galaxy are those of a smooth spectrum with a Balmer and a Lyman break, shifted by its redshift.
Nothing is measured here; `warehouse.simulate.detection` does that. Imports the naming of streams and the plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from warehouse.simulate.plane import deproject, scatter_on_disc
from warehouse.simulate.streams import stream

BANDS = ("u", "g", "r", "i", "z", "y")
GALAXY, STAR, SUPERNOVA = 1, 2, 3
FIRST_NIGHT_MJD = 59945.0

# Truth entries for each source that the coadds show, and how many of them are stars.
TRUTH_SHARE = 2.8
STAR_SHARE = 0.12
SUPERNOVA_SHARE = 0.015
COMPANION_SHARE = 0.04
FIRST_NUMBER = 8_000_000_000

_WAVELENGTH_UM = np.array([0.368, 0.480, 0.622, 0.754, 0.869, 0.971])
# A_b / E(B-V) of a standard dust law at the LSST bands.
_DUST = np.array([4.81, 3.64, 2.70, 2.06, 1.58, 1.31], np.float32)
_I = BANDS.index("i")
# Magnitudes of a star relative to i, for each magnitude of its g - i colour.
_STELLAR_LOCUS = np.array([2.1, 1.0, 0.31, 0.0, -0.16, -0.23])

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Truth:
    """The true sky: galaxies, then stars, then supernovae.

    Attributes
    ----------
    ra, dec
        Degrees, shape (n,).
    kind
        1 galaxy, 2 star, 3 supernova, shape (n,).
    number
        The integer part of the published id; galaxies and stars count from the same start, as published ids overlap.
    redshift, size_arcsec, reddening
        Half-light radius and E(B-V), shape (n,).
    flux_nJy
        Static flux in ugrizy behind the Milky Way's dust, shape (6, n); zero for supernovae.
    amplitude, period_days, phase
        Of the light curve: relative amplitude (0: constant); a supernova's phase is its day of maximum.
    host
        Row of the host galaxy, -1 without one.
    peak_nJy
        Flux at maximum of the supernovae only, shape (6, supernovae).
    """

    ra: Floats
    dec: Floats
    kind: NDArray[np.int8]
    number: Ints
    redshift: Floats32
    size_arcsec: Floats32
    reddening: Floats32
    flux_nJy: Floats32
    amplitude: Floats32
    period_days: Floats32
    phase: Floats32
    host: Ints
    peak_nJy: Floats32

    @property
    def rows(self) -> int:
        """All entries."""
        return len(self.ra)

    @property
    def static_rows(self) -> int:
        """Galaxies and stars: the entries before the supernovae."""
        return self.rows - int(self.peak_nJy.shape[1])

    @cached_property
    def variables(self) -> Ints:
        """Rows whose flux may change, ascending."""
        return np.flatnonzero((self.amplitude > 0) | (self.kind == SUPERNOVA))

    def unreddened(self, rows: Ints | slice) -> Floats32:
        """Return the fluxes of `rows` without the Milky Way's dust, shape (6, n), nJy."""
        dimming: Floats32 = np.power(np.float32(10), np.float32(0.4) * _DUST[:, None] * self.reddening[rows])
        return self.flux_nJy[:, rows] * dimming

    def variation(self, rows: Ints, band: int | Ints, mjd: float | Floats) -> Floats:
        """Return flux minus static flux of `rows` at a time, nJy, shape (n,); band and time broadcast."""
        band, day = np.broadcast_to(band, rows.shape), np.broadcast_to(mjd, rows.shape) - FIRST_NIGHT_MJD
        change = np.zeros(len(rows))
        swings = np.flatnonzero(self.amplitude[rows] > 0)
        swinging = rows[swings]
        turn = 2.0 * np.pi * (day[swings] / self.period_days[swinging] + self.phase[swinging])
        change[swings] = self.flux_nJy[band[swings], swinging] * self.amplitude[swinging] * np.sin(turn)
        late = np.flatnonzero(self.kind[rows] == SUPERNOVA)
        since = day[late] - self.phase[rows[late]]
        # A month to fade, ten days to rise.
        shape = np.exp(-0.5 * np.square(since / np.where(since < 0, 6.0, 22.0)))
        change[late] = self.peak_nJy[band[late], rows[late] - self.static_rows] * shape
        return change


def populate(seed: int, ra_deg: float, dec_deg: float, radius_deg: float, objects: int) -> Truth:
    """Return the truth in a disc, deep enough that about `objects` of its entries are found on the coadds."""
    static = max(4, round(objects * TRUTH_SHARE))
    stars = max(1, round(static * STAR_SHARE))
    galaxies = static - stars
    supernovae = max(1, round(objects * SUPERNOVA_SHARE))
    generator = stream(seed, "truth")
    ra, dec = scatter_on_disc(generator, ra_deg, dec_deg, radius_deg, static)
    _add_companions(generator, ra, dec, galaxies)
    bare, redshift, size = _galaxies(generator, galaxies)
    magnitudes = np.concatenate([bare, _stars(generator, stars)], axis=1)
    reddening = 0.025 + 0.012 * np.sin(3.0 * ra) * np.cos(5.0 * dec)
    host = generator.integers(0, galaxies, supernovae)
    offset = generator.normal(0.0, 0.5, (2, supernovae)) * size[host] / 3600.0
    sn_ra, sn_dec = deproject(ra[host], dec[host], offset[0], offset[1])
    peak = 21.5 + 5.0 * np.log10(np.maximum(redshift[host], 0.05) / 0.3) + generator.normal(0.0, 0.4, supernovae)
    colour = np.array([1.8, 0.3, 0.0, 0.0, 0.2, 0.4])[:, None] + generator.normal(0.0, 0.1, (6, supernovae))
    dusted = magnitudes + _DUST[:, None] * reddening
    amplitude, period, phase = _variability(generator, galaxies, stars, supernovae)
    return Truth(
        ra=np.concatenate([ra, sn_ra]),
        dec=np.concatenate([dec, sn_dec]),
        kind=np.repeat(np.array([GALAXY, STAR, SUPERNOVA], np.int8), [galaxies, stars, supernovae]),
        number=FIRST_NUMBER + np.concatenate([np.arange(galaxies), np.arange(stars), np.arange(supernovae)]),
        redshift=np.concatenate([redshift, np.zeros(stars), redshift[host]]).astype(np.float32),
        size_arcsec=np.concatenate([size, np.zeros(stars + supernovae)]).astype(np.float32),
        reddening=np.concatenate([reddening, reddening[host]]).astype(np.float32),
        flux_nJy=np.concatenate([_to_nanojansky(dusted), np.zeros((6, supernovae))], axis=1).astype(np.float32),
        amplitude=amplitude,
        period_days=period,
        phase=phase,
        host=np.concatenate([np.full(static, -1), host]),
        peak_nJy=_to_nanojansky(peak + colour).astype(np.float32),
    )


def _to_nanojansky(magnitude: Floats) -> Floats:
    return np.asarray(np.power(10.0, 0.4 * (31.4 - magnitude)))


def _magnitudes(generator: np.random.Generator, count: int, bright: float, faint: float, slope: float) -> Floats:
    """Return magnitudes whose counts grow as 10^(slope m) between two limits."""
    low, high = 10.0 ** (slope * bright), 10.0 ** (slope * faint)
    return np.asarray(np.log10(low + generator.random(count) * (high - low)) / slope)


def _galaxies(generator: np.random.Generator, count: int) -> tuple[Floats, Floats, Floats]:
    """Return magnitudes (6, n), redshifts and half-light radii in arcsec."""
    magnitude = _magnitudes(generator, count, 16.5, 28.0, 0.3)
    depth = np.clip(0.12 * (magnitude - 17.5), 0.08, 1.2)
    redshift = np.clip(depth * generator.gamma(3.0, 1.0 / 3.0, count), 0.005, 3.1)
    blue = np.clip(generator.normal(0.4 + 0.03 * (magnitude - 20.0), 0.25), 0.0, 1.0)
    rest_um = _WAVELENGTH_UM[:, None] / (1.0 + redshift)
    curve = _spectrum(rest_um, blue)
    bands = magnitude + curve - curve[_I] + generator.normal(0.0, 0.03, curve.shape)
    size = np.clip(10.0 ** (0.1 * (22.0 - magnitude)) * 0.5 * generator.lognormal(0.0, 0.3, count), 0.08, 5.0)
    return bands, redshift, size


def _spectrum(rest_um: Floats, blue: Floats) -> Floats:
    """Return AB magnitudes, up to a constant, of a galaxy at a rest wavelength: a slope and two breaks."""
    red = 1.0 - blue
    slope = -(0.3 + 2.2 * red) * np.log10(rest_um / 0.5)
    balmer = (0.25 + 1.35 * red) / (1.0 + np.exp((rest_um - 0.395) / 0.012))
    lyman = 4.0 / (1.0 + np.exp(np.clip((rest_um - 0.116) / 0.004, -50.0, 50.0)))
    return np.asarray(slope + balmer + lyman)


def _stars(generator: np.random.Generator, count: int) -> Floats:
    """Return magnitudes (6, n) along the stellar locus."""
    magnitude = _magnitudes(generator, count, 15.0, 28.0, 0.12)
    colour = 0.3 + 2.4 * generator.beta(1.6, 1.4, count)
    return magnitude + _STELLAR_LOCUS[:, None] * colour + generator.normal(0.0, 0.02, (6, count))


def _add_companions(generator: np.random.Generator, ra: Floats, dec: Floats, galaxies: int) -> None:
    """Move some galaxies beside their left neighbour in the list, in place: the pairs that get deblended."""
    pairs = galaxies // 2
    chosen = 2 * np.flatnonzero(generator.random(pairs) < COMPANION_SHARE)
    reach = generator.uniform(0.9, 1.8, len(chosen)) / 3600.0
    angle = generator.uniform(0.0, 2.0 * np.pi, len(chosen))
    ra[chosen + 1], dec[chosen + 1] = deproject(ra[chosen], dec[chosen], reach * np.cos(angle), reach * np.sin(angle))


def _variability(
    generator: np.random.Generator, galaxies: int, stars: int, supernovae: int
) -> tuple[Floats32, Floats32, Floats32]:
    """Return relative amplitudes, periods in days and phases: active nuclei, pulsating stars, supernovae."""
    count = galaxies + stars + supernovae
    varies = generator.random(count) < np.repeat([0.01, 0.06, 0.0], [galaxies, stars, supernovae])
    amplitude = np.where(varies, generator.uniform(0.15, 0.8, count), 0.0)
    long, short = generator.uniform(40.0, 400.0, galaxies), generator.lognormal(0.5, 1.0, stars)
    period = np.concatenate([long, short, np.ones(supernovae)])
    phase = generator.random(count)
    phase[galaxies + stars :] = generator.uniform(-40.0, 150.0, supernovae)
    return amplitude.astype(np.float32), period.astype(np.float32), phase.astype(np.float32)
