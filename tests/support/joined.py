"""ObjectTruth by hand: the three tables joined row by row, and what a frame says of each of its rows."""

from __future__ import annotations


def by_hand(matches, truth, objects):
    """Return (tract, patch, status, truth id, object id) of every row, joined row by row."""
    matches = {row["id_truth_type"]: row for row in matches.to_dicts()}
    objects = {row["objectId"]: row for row in objects.to_dicts()}
    rows, claimed = [], set()
    for row in truth.to_dicts():
        match = matches.get(row["id_truth_type"])
        if match is None or not (match["match_candidate"] or match["match_objectId"]):
            continue
        partner = objects.get(match["match_objectId"])
        where = partner or row
        status = "matched" if partner else "missed"
        number = partner and partner["objectId"]
        claimed.add(number)
        rows.append((where["tract"], where["patch"], status, row["id_truth_type"], number))
    for number, row in objects.items():
        if row["detect_isPrimary"] and not row["merge_peak_sky"] and number not in claimed:
            rows.append((row["tract"], row["patch"], "unmatched_object", None, number))
    return sorted(rows, key=repr)


def said(frame):
    columns = ["tract", "patch", "match_status", "mt_id_truth_type", "obj_objectId"]
    return sorted(frame.select(columns).iter_rows(), key=repr)
