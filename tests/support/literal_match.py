"""The rules of the match, word by word, row by row, in plain Python: slow, and what the real one must agree with."""

from __future__ import annotations

import math

BANDS = ("u", "g", "r", "i", "z", "y")


def literal_match(truth, objects, sky, tract, *, bands=BANDS, quirk=False, radius_arcsec=0.5, max_neighbours=10):
    """Return the MatchesTruth rows of two lists of row dictionaries, in the order of `truth`."""
    x, y = sky.to_pixels(tract, [row["ra"] for row in truth], [row["dec"] for row in truth])
    measured = [
        [row_x, row_y, *(row[f"flux_{b}"] for b in bands)] for row, row_x, row_y in zip(truth, x, y, strict=True)
    ]
    candidates = [n for n, row in enumerate(truth) if is_reference(row, bands)]
    candidates.sort(key=lambda n: (-summed(truth[n], bands), truth[n]["id_truth_type"]))
    targets = [row for row in objects if row["detect_isPrimary"] and not row["merge_peak_sky"]]
    chosen = set(candidates)
    written = [unmatched(row, candidate=n in chosen) for n, row in enumerate(truth)]
    taken = set()
    for n in candidates:
        near = sorted((separation_nas(truth[n], row), row["objectId"], i) for i, row in enumerate(targets))
        near = [entry for entry in near if entry[0] <= round(radius_arcsec * 1e9)][:max_neighbours]
        free = [(nas, object_id, targets[i]) for nas, object_id, i in near if object_id not in taken]
        scored = [(*score(measured[n], row, bands, quirk=quirk), nas, object_id) for nas, object_id, row in free]
        if not any(n_finite >= 3 for _, _, n_finite, *_ in scored):
            continue
        competing = [entry for entry in scored if entry[0] is not None]
        _, chisq, n_finite, _, object_id = min(competing, key=lambda entry: (entry[0], entry[3], entry[4]))
        taken.add(object_id)
        written[n] |= {
            "match_count": len(free),
            "match_chisq": chisq,
            "match_n_chisq_finite": n_finite,
            "match_objectId": object_id,
        }
    return written


def is_reference(row, bands):
    """Return whether a truth row is a match candidate."""
    flux = summed(row, bands)
    return bool(row.get("is_unique_truth_entry", True)) and flux > 0 and -2.5 * math.log10(flux) + 31.4 <= 27.0


def summed(row, bands):
    """Return the summed flux in nJy, absent ones ignored."""
    return sum(row[f"flux_{b}"] for b in bands if row[f"flux_{b}"] is not None and math.isfinite(row[f"flux_{b}"]))


def score(truth, row, bands, *, quirk):
    """Return (what the least of wins, or None for a target that cannot; the chi-square; the finite columns)."""
    names = ["x", "y", *(f"{b}_cModelFlux" for b in bands)]
    errors = ["xErr", "yErr", *(f"{b}_cModelFluxErr" for b in bands)]
    finite = [
        chi
        for chi in (
            one_chi(row[name], value, row[error]) for name, value, error in zip(names, truth, errors, strict=True)
        )
        if math.isfinite(chi)
    ]
    chisq = 0.0
    for chi in finite:  # not sum(), which rounds better from Python 3.12 on
        chisq += chi * chi
    if len(finite) >= 3:
        return chisq / len(finite), chisq, len(finite)
    return (0.0 if quirk and finite else None), 0.0, len(finite)


def one_chi(measured, truth, error):
    """Return measured minus true over the error, not a number where any is absent or the error is 0."""
    if measured is None or truth is None or error is None or error == 0:
        return math.nan
    return (measured - float(truth)) / error


def separation_nas(truth, row):
    """Return the separation on the sphere in whole nano-arcseconds."""
    dec_a, dec_b = math.radians(truth["dec"]), math.radians(row["coord_dec"])
    half_ra = math.radians(row["coord_ra"] - truth["ra"]) / 2
    half_dec = math.radians(row["coord_dec"] - truth["dec"]) / 2
    haversine = math.sin(half_dec) ** 2 + math.cos(dec_a) * math.cos(dec_b) * math.sin(half_ra) ** 2
    return round(2 * math.degrees(math.asin(math.sqrt(haversine))) * 3600 * 1e9)


def unmatched(row, *, candidate):
    """Return what is written for a truth row without a match."""
    return {
        "match_candidate": candidate,
        "match_count": 0,
        "match_chisq": None,
        "match_n_chisq_finite": 0,
        "id": row["id"],
        "truth_type": row["truth_type"],
        "match_objectId": None,
        "id_truth_type": f"{row['id']}_{row['truth_type']}",
    }
