"""ObjectTruth by hand: the three tables joined row by row, and what a frame says of each of its rows."""

from __future__ import annotations

import math

BOOKKEEPING = ("tract", "patch", "input_id")


def triples(matches, truth, objects):
    """Yield (status, match, truth, object) of every row, each a dict, or None where the row has none."""
    matches = {row["id_truth_type"]: row for row in matches.to_dicts()}
    objects = {row["objectId"]: row for row in objects.to_dicts()}
    claimed = set()
    for row in truth.to_dicts():
        match = matches.get(row["id_truth_type"])
        if match is None or not (match["match_candidate"] or match["match_objectId"]):
            continue
        partner = objects.get(match["match_objectId"])
        claimed.add(partner and partner["objectId"])
        yield "matched" if partner else "missed", match, row, partner
    for number, row in objects.items():
        if row["detect_isPrimary"] and not row["merge_peak_sky"] and number not in claimed:
            yield "unmatched_object", None, None, row


def by_hand(matches, truth, objects):
    """Return (tract, patch, status, truth id, object id) of every row, joined row by row."""
    rows = []
    for status, _, row, partner in triples(matches, truth, objects):
        where = partner or row
        names = (row and row["id_truth_type"], partner and partner["objectId"])
        rows.append((where["tract"], where["patch"], status, *names))
    return sorted(rows, key=repr)


def said(frame):
    columns = ["tract", "patch", "match_status", "mt_id_truth_type", "obj_objectId"]
    return sorted(frame.select(columns).iter_rows(), key=repr)


def whole_by_hand(matches, truth, objects, taken, bands):
    """Return every row with all its columns but `input_id`, as dicts; of Object those `taken`, as they are.

    Magnitudes, of the PSF and the cModel flux of every band, and separations are computed from their definitions.
    """
    of_match = [name for name in matches.columns if name not in BOOKKEEPING]
    of_truth = [name for name in truth.columns if name != "input_id"]
    rows = []
    for status, match, row, partner in triples(matches, truth, objects):
        where = partner or row
        place = (row["ra"], row["dec"]) if row else (partner["coord_ra"], partner["coord_dec"])
        apart = arcsec(row["ra"], row["dec"], partner["coord_ra"], partner["coord_dec"]) if row and partner else None
        rows.append(
            {
                "match_status": status,
                "separation_arcsec": apart,
                **dict(zip(("ra_deg", "dec_deg"), place, strict=True)),
                **{f"mt_{name}": match and match[name] for name in of_match},
                **{f"ts_{name}": row and row[name] for name in of_truth},
                **{f"obj_{name}": partner and partner[name] for name in taken},
                **{
                    f"obj_{band}_{kind}Mag": partner and magnitude(partner[f"{band}_{kind}Flux"])
                    for band in bands
                    for kind in ("cModel", "psf")
                },
                "tract": where["tract"],
                "patch": where["patch"],
            }
        )
    return sorted(rows, key=by_ids)


def by_ids(row):
    return repr((row["mt_id_truth_type"], row["obj_objectId"]))


def magnitude(flux):
    return None if flux is None or flux <= 0 else 31.4 - 2.5 * math.log10(flux)


def arcsec(ra_a, dec_a, ra_b, dec_b):
    """Return the angle between two directions, from the cross and the dot product of their unit vectors."""
    a, b = (
        (math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec))
        for ra, dec in ((math.radians(ra_a), math.radians(dec_a)), (math.radians(ra_b), math.radians(dec_b)))
    )
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    return math.degrees(math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(a, b, strict=True)))) * 3600
