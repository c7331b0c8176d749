"""What a path tells: dataset type, data id and run, as Butler file stores and their copies spell them.

A store's path is ``{run}/{datasetType}/{tract}/{patch}/{day_obs}/{band}/{physical_filter}/{visit}/{name}``, where
the name repeats the values with underscores: ``{datasetType}_{instrument}_{tract}_..._{detector}_{skymap}_{run}``. A
dataset type's dimensions decide which of them there are. Files that were copied out of their folders are
recognised by their names alone. Nothing is listed or opened here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from warehouse.contracts import DatasetType, Release
from warehouse.readers.formats import known_suffix

INTEGERS = ("tract", "patch", "visit", "detector", "day_obs")
_BESIDE_VISIT = ("day_obs", "band", "physical_filter")
_DAY = re.compile(r"(?:19|20)\d{6}")
_RAFT_AND_SENSOR = re.compile(r"R(\d)(\d)_S([0-2])([0-2])")
# The 21 science rafts of LSSTCam in order of their detectors' numbers; LSSTComCam has the one in the middle.
_RAFTS = [f"{row}{column}" for row in range(5) for column in range(5) if {row, column} - {0, 4}]


@dataclass(frozen=True, slots=True)
class Told:
    """What a path tells of a file; `dataset_type` is None where it tells nothing that the release knows."""

    dataset_type: str | None = None
    data_id: Mapping[str, int | str] = field(default_factory=dict)
    run: str | None = None


class ContradictionError(Exception):
    """The folders of a path say one thing and its file name another."""


def told_by(parts: Sequence[str], root: int, release: Release, dataset_type: DatasetType | None = None) -> Told:
    """Return what a path tells.

    Parameters
    ----------
    parts
        The path's folders, then the file's name.
    root
        How many of the folders lead to what was listed; where the name does not tell the run, they are not of it.
    release
        Whose dataset types are recognised.
    dataset_type
        What the file is, where that is known already.

    Raises
    ------
    ContradictionError
        Folders and name disagree.
    """
    stem = _plain(parts[-1].removesuffix(known_suffix(parts[-1])))
    known = {name: kind for name, (_, kind) in release.dataset_types.items()}
    place = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] in known), None)
    named = max((name for name in known if _begins(stem, name)), key=len, default=None)
    if place is not None and named not in {None, parts[place]}:
        raise ContradictionError(f"it lies in a folder of {parts[place]} and is called {named}")
    name = named if place is None else parts[place]
    kind = known[name] if name is not None else dataset_type
    if kind is None:
        return Told()
    data_id, run = _from_name(stem, kind, release), None
    if place is not None:
        by_folders = _from_folders(parts[place + 1 : -1], kind)
        for dimension in data_id.keys() & by_folders.keys() & set(INTEGERS):
            if data_id[dimension] != by_folders[dimension]:
                raise ContradictionError(
                    f"its folders say {dimension} {by_folders[dimension]}, its name says {data_id[dimension]}"
                )
        data_id |= by_folders
        run = _run(parts[:place], root, stem, release)
    return Told(kind.name, data_id, run)


def _plain(text: str) -> str:
    """Return `text` as file names spell it: what could trouble a file system is an underscore."""
    return re.sub(r"[^\w-]", "_", text)


def _begins(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}_")


def _from_folders(folders: Sequence[str], kind: DatasetType) -> dict[str, int | str]:
    """Return the values that the folders below a dataset type's hold; too few or too odd folders tell nothing."""
    sky = [name for name in ("tract", "patch") if name in kind.dimensions]
    found: dict[str, int | str] = dict(zip(sky, folders, strict=False))
    rest = list(folders[len(sky) :])
    if "visit" in kind.dimensions and rest:
        found["visit"] = rest.pop()
        if rest and _DAY.fullmatch(rest[0]):
            found["day_obs"] = rest.pop(0)
        found |= dict(zip(("physical_filter", "band"), reversed(rest), strict=False))
    return _integers(found)


def _from_name(stem: str, kind: DatasetType, release: Release) -> dict[str, int | str]:
    """Return the values that a file's name holds for sure: integers, and the instrument where it is the release's."""
    rest = stem.removeprefix(kind.name)
    instrument = _plain(release.instrument)
    found: dict[str, int | str] = {}
    if rest.startswith(f"_{instrument}_"):
        rest = rest.removeprefix(f"_{instrument}")
        found["instrument"] = release.instrument
    if "tract" in kind.dimensions:
        pattern = r"_(?P<tract>\d+)" + (r"_(?P<patch>\d+)" if "patch" in kind.dimensions else "")
        match = re.match(pattern + r"(?:_|$)", rest)
    elif "visit" in kind.dimensions:
        # A filter's name may hold numbers of its own (i_sim_1_4); a visit's number has at least three digits.
        detector = r"_(?P<detector>R\d\d_S\w\d|\d{1,3})" if "detector" in kind.dimensions else ""
        match = re.match(r"(?:_[a-zA-Z][\w-]*?)??_(?P<visit>\d{3,})" + detector + r"(?:_|$)", rest)
    else:
        match = None
    if match is not None:
        found |= {name: value for name, value in match.groupdict().items() if value is not None}
    if "detector" in found:
        found["detector"] = detector_number(str(found["detector"]), release.instrument)
    return _integers(found)


def _integers(found: Mapping[str, int | str]) -> dict[str, int | str]:
    """Return the values with integer dimensions as integers; what should be one and is not tells nothing."""
    values: dict[str, int | str] = {}
    for name, value in found.items():
        if name not in INTEGERS:
            values[name] = value
        elif str(value).isascii() and str(value).isdecimal():
            values[name] = int(value)
    return values


def detector_number(name: str, instrument: str) -> int | str:
    """Return the number of a detector that file names call by raft and sensor (94 for R22_S11 of LSSTCam).

    Follows Rubin's camera packages: rafts row by row, nine sensors each. A wavefront sensor's name comes back as it is.
    """
    match = _RAFT_AND_SENSOR.fullmatch(name)
    if match is None:
        return name
    raft, sensor = match[1] + match[2], 3 * int(match[3]) + int(match[4])
    if instrument == "LSSTComCam":
        return sensor if raft == "22" else name
    return 9 * _RAFTS.index(raft) + sensor if raft in _RAFTS else name


def _run(folders: Sequence[str], root: int, stem: str, release: Release) -> str | None:
    """Return the RUN collection: the folders above the dataset type's that the file's name repeats at its end.

    So the same file belongs to the same run, whether its repository or a folder in it is listed. Where the name
    repeats none, it is the folders below the root.
    """
    for first in range(len(folders)):
        # A name holds its sky map just before its run, and a repository may lie in a folder of that name.
        if folders[first] != release.skymap and stem.endswith("_" + _plain("_".join(folders[first:]))):
            return "/".join(folders[first:])
    return "/".join(folders[root:]) or None
