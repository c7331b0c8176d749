"""Small skies to match: truth rows and object rows from offsets in arcsec about a place."""

from __future__ import annotations

import numpy as np
import polars as pl

from warehouse.sky import skymap

BANDS = ("u", "g", "r", "i", "z", "y")
DC2 = skymap.named("DC2")
# In the middle of a tract, on RA 0, and at both poles.
PLACES = ((62.0, -37.0), (0.0, 0.2), (0.0, -90.0), (123.0, 90.0))

TRUTH_SCHEMA = {
    "id": pl.String,
    "truth_type": pl.Int64,
    "id_truth_type": pl.String,
    "ra": pl.Float64,
    "dec": pl.Float64,
    "is_unique_truth_entry": pl.Boolean,
    **{f"flux_{b}": pl.Float32 for b in BANDS},
}
OBJECT_SCHEMA = {
    "objectId": pl.Int64,
    **dict.fromkeys(("coord_ra", "coord_dec", "x", "y"), pl.Float64),
    **dict.fromkeys(("xErr", "yErr"), pl.Float32),
    **dict.fromkeys(("detect_isPrimary", "merge_peak_sky"), pl.Boolean),
    **{f"{b}_cModelFlux{e}": pl.Float64 for b in BANDS for e in ("", "Err")},
}


def tract_of(place):
    """Return the tract of a place."""
    return int(DC2.find([place[0]], [place[1]])[0][0])


def at(place, east_arcsec, north_arcsec):
    """Return RA, Dec, x and y of a place's neighbour, by way of the tract's pixels of 0.2 arcsec."""
    tract = tract_of(place)
    x, y = (float(v[0]) for v in DC2.to_pixels(tract, [place[0]], [place[1]]))
    x, y = x - east_arcsec / 0.2, y + north_arcsec / 0.2
    ra, dec = (float(v[0]) for v in DC2.to_sky(tract, [x], [y]))
    return ra, dec, x, y


def truth_row(number, ra, dec, fluxes, *, truth_type=1, unique=True):
    """Return a TruthSummary row; `fluxes` is one flux, or one a band."""
    fluxes = [fluxes] * 6 if fluxes is None or np.isscalar(fluxes) else fluxes
    return {
        "id": str(number),
        "truth_type": truth_type,
        "id_truth_type": f"{number}_{truth_type}",
        "ra": ra,
        "dec": dec,
        "is_unique_truth_entry": unique,
        **{f"flux_{b}": flux for b, flux in zip(BANDS, fluxes, strict=True)},
    }


def object_row(number, place, fluxes, *, error=10.0, pixel_error=0.2, primary=True, on_sky=False):
    """Return an Object row at (ra, dec, x, y) or, of length two, at (ra, dec) of any tract."""
    if len(place) == 2:
        place = (*place, *(float(v[0]) for v in DC2.to_pixels(tract_of(place), [place[0]], [place[1]])))
    fluxes = [fluxes] * 6 if fluxes is None or np.isscalar(fluxes) else fluxes
    return {
        "objectId": number,
        **dict(zip(("coord_ra", "coord_dec", "x", "y"), place, strict=True)),
        "xErr": pixel_error,
        "yErr": pixel_error,
        "detect_isPrimary": primary,
        "merge_peak_sky": on_sky,
        **{f"{b}_cModelFlux": flux for b, flux in zip(BANDS, fluxes, strict=True)},
        **{f"{b}_cModelFluxErr": error for b in BANDS},
    }


def frames(truth, objects):
    """Return the two frames of lists of rows."""
    return pl.DataFrame(truth, TRUTH_SCHEMA, orient="row"), pl.DataFrame(objects, OBJECT_SCHEMA, orient="row")


def random_sky(place, n_truth, n_objects, side_arcsec, seed, *, absent=0.1):
    """Return frames of a crowded sky: some fluxes equal, some absent, objects scattered about the truth."""
    r = np.random.default_rng(seed)
    east, north = r.uniform(-side_arcsec / 2, side_arcsec / 2, (2, n_truth))
    flux = 10 ** r.integers(4, 9, (n_truth, 1)) / 1e3 * r.choice([0.5, 1.0, 1.0, 2.0], (n_truth, 6))
    truth = [
        truth_row(int(i), *at(place, east[n], north[n])[:2], [None if r.random() < absent else f for f in flux[n]])
        for n, i in enumerate(r.permutation(n_truth))
    ]
    objects = []
    for n, object_id in enumerate(r.permutation(n_objects) + 2):
        host = r.integers(n_truth)
        spot = at(place, east[host] + r.normal(0, 0.1), north[host] + r.normal(0, 0.1))
        # A quarter is nearly blind: too few columns to win by the rules, enough to win by the quirk.
        blind = 0.85 if n % 4 == 0 else 3 * absent
        measured = [None if r.random() < blind else f + r.normal(0, 10) for f in flux[host]]
        row = object_row(int(object_id), spot, measured, primary=bool(n % 9), on_sky=n % 11 == 0)
        objects.append(row | {"xErr": None if n % 7 == 0 else 0.2, "yErr": 0.0 if n % 5 == 0 else 0.3})
    return frames(truth, objects)
