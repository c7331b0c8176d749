"""The truth as it is delivered: TruthSummary by tract, and which Object each of its entries was matched to.

The match is the sky's own knowledge - the primary object that was made from a truth entry - written down as the
published match writes it. Matching by position and flux belongs in `warehouse.truth`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.simulate.columns import fill
from warehouse.simulate.measure import members, object_core
from warehouse.simulate.population import BANDS, FIRST_NUMBER, GALAXY, STAR, SUPERNOVA, Floats, Ints
from warehouse.simulate.sky import SimulatedSky
from warehouse.simulate.streams import stream

CANDIDATE_MAGNITUDE = 27.0
RADIUS_ARCSEC = 0.5
LEAST_FINITE = 3
# How published files spell "no match".
NO_MATCH = (-1, 0, np.iinfo(np.int64).min)
_HEALPIX = 10_066


def truth_rows(sky: SimulatedSky, tract: int) -> Ints:
    """Return the rows of the truth within a tract's box, those that belong to its neighbours included."""
    x, y = sky.skymap.to_pixels(tract, sky.truth.ra, sky.truth.dec)
    edge = sky.skymap.grid.pixels - 0.5
    return np.flatnonzero((x >= -0.5) & (x < edge) & (y >= -0.5) & (y < edge))


def truth_pieces(sky: SimulatedSky, tract: int) -> Iterator[pa.Table]:
    """Yield the rows of TruthSummary of a tract, as its file has them."""
    truth, rows = sky.truth, truth_rows(sky, tract)
    kind = truth.kind[rows]
    galaxy = kind == GALAXY
    bare = truth.unreddened(rows)
    red = truth.flux_nJy[BANDS.index("r"), rows].astype(np.float64)
    host = truth.host[rows]
    core: dict[str, Any] = {
        **_names(sky, rows),
        "host_galaxy": np.where(host >= 0, truth.number[np.maximum(host, 0)], -1),
        "ra": truth.ra[rows],
        "dec": truth.dec[rows],
        "redshift": truth.redshift[rows],
        "is_variable": (truth.amplitude[rows] > 0) | (kind == SUPERNOVA),
        "is_pointsource": ~galaxy,
        "mag_r": np.where(red > 0, 31.4 - 2.5 * np.log10(np.maximum(red, 1e-30)), np.inf),
        "cosmodc2_hp": np.where(galaxy, _HEALPIX, -1),
        "cosmodc2_id": np.where(galaxy, truth.number[rows], -1),
    }
    for band, name in enumerate(BANDS):
        core |= {f"flux_{name}": truth.flux_nJy[band, rows], f"flux_{name}_noMW": bare[band]}
    generator = stream(sky.seed, "truth files", tract)
    without = _left_out(generator, ["id_truth_type"])
    columns = fill(sky.release.contract("TruthSummary"), core, len(rows), generator, without=without)
    columns["is_unique_truth_entry"] = pa.array(sky.truth_tract[rows] == tract)
    yield pa.table(columns)


def match_pieces(sky: SimulatedSky, tract: int) -> Iterator[pa.Table]:
    """Yield the rows of MatchesTruth of a tract, one for each row of its truth, as its file has them."""
    rows = truth_rows(sky, tract)
    light = sky.truth.flux_nJy[:, rows].astype(np.float64).sum(axis=0)
    magnitude = 31.4 - 2.5 * np.log10(np.maximum(light, 1e-30))
    candidate = (sky.truth_tract[rows] == tract) & (magnitude <= CANDIDATE_MAGNITUDE)
    object_id, chisq, finite = (values[rows] for values in _primaries(sky, tract))
    matched = candidate & (finite >= LEAST_FINITE)
    generator = stream(sky.seed, "match files", tract)
    spelling = NO_MATCH[int(generator.integers(0, len(NO_MATCH)))]
    core: dict[str, Any] = {
        **_names(sky, rows),
        "match_candidate": candidate,
        "match_count": matched,
        "match_chisq": np.where(matched, chisq, np.nan),
        "match_n_chisq_finite": np.where(matched, finite, 0),
        "match_objectId": np.where(matched, object_id, spelling),
    }
    without = _left_out(generator, ["id_truth_type"])
    columns = fill(sky.release.contract("MatchesTruth"), core, len(rows), generator, without=without)
    extra = {"match_row": pa.array(np.arange(len(rows))), "index": pa.array(rows)}
    columns |= {name: extra[name] for name in extra if name not in _left_out(generator, list(extra))}
    yield pa.table(columns)


def _left_out(generator: np.random.Generator, columns: list[str]) -> tuple[str, ...]:
    """Return those of `columns` that this file happens to lack."""
    return tuple(name for name in columns if generator.random() < 0.5)


def _names(sky: SimulatedSky, rows: Ints) -> dict[str, Any]:
    """Return id, truth_type and the two joined."""
    kind = sky.truth.kind[rows].astype(np.int64)
    plain = pa.array(sky.truth.number[rows]).cast(pa.string())
    turn = pa.array(sky.truth.number[rows] - FIRST_NUMBER).cast(pa.string())
    supernova = pc.binary_join_element_wise(pa.scalar(f"MS_{_HEALPIX}"), turn, "_")
    name = pc.if_else(pa.array(kind == SUPERNOVA), supernova, plain)
    joined = pc.binary_join_element_wise(name, pa.array(kind).cast(pa.string()), "_")
    return {"id": name, "truth_type": kind, "id_truth_type": joined}


def _primaries(sky: SimulatedSky, tract: int) -> tuple[Ints, Floats, Ints]:
    """Return, by row of the truth: its primary object in a tract (0: none), the match's chi square and finite terms."""
    object_id = np.zeros(sky.truth.rows, np.int64)
    chisq = np.zeros(sky.truth.rows)
    finite = np.zeros(sky.truth.rows, np.int64)
    for view in sky.of_tract(tract):
        who = members(sky, view)
        chosen = np.flatnonzero(who.primary)
        if not len(chosen):
            continue
        core = object_core(sky, who)
        detection = who.detection[chosen]
        truth = sky.detections.truth[detection]
        true_x, true_y = sky.skymap.to_pixels(tract, sky.truth.ra[truth], sky.truth.dec[truth])
        terms = [
            (core["x"][chosen] - true_x) / core["xErr"][chosen],
            (core["y"][chosen] - true_y) / core["yErr"][chosen],
        ]
        for band, name in enumerate(BANDS):
            difference = core[f"{name}_cModelFlux"][chosen] - sky.truth.flux_nJy[band, truth]
            chi = difference / core[f"{name}_cModelFluxErr"][chosen]
            terms.append(np.where(sky.detections.absent[band, detection], np.nan, chi))
        squares = np.square(np.stack(terms))
        away = np.hypot(core["x"][chosen] - true_x, core["y"][chosen] - true_y) * sky.skymap.scale_arcsec
        object_id[truth] = who.object_id[chosen]
        chisq[truth] = np.nansum(squares, axis=0)
        finite[truth] = np.where(away <= RADIUS_ARCSEC, np.isfinite(squares).sum(axis=0), 0)
    return object_id, chisq, finite


KINDS = {"galaxies": GALAXY, "stars": STAR, "supernovae": SUPERNOVA}


def truth_counts(sky: SimulatedSky) -> dict[str, int]:
    """Return how many entries of each kind there are, and how many were found on the coadds."""
    counts = {name: int((sky.truth.kind == kind).sum()) for name, kind in KINDS.items()}
    return counts | {"detected": sky.detections.rows}
