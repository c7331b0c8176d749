"""Which images there are: files, folders, globs and Butler-like trees, local or on S3, listed and recognised.

Nothing is opened: a listing and the paths are all that is looked at. What a path does not tell, a header may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts import DatasetType, Release
from warehouse.contracts.image import IMAGE, image_contract, image_types
from warehouse.errors import InputError, NotFoundError, QueryError, near_misses
from warehouse.readers.paths import INTEGERS, ContradictionError, Told, told_by
from warehouse.readers.reader import Input
from warehouse.readers.tree import Listing
from warehouse.storage import Listed

SUFFIXES = (".fits", ".fits.fz", ".fit")
_GZIPPED = (".fits.gz", ".fit.gz")

_GLOB = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class _Known:
    """What paths are held against: a release's images, its tables, and what the caller says the files are."""

    images: Release
    tables: Release
    told: DatasetType | None
    data_id: Mapping[str, int | str]


def known_type(release: str, name: str) -> DatasetType:
    """Return an image dataset type of a release (NotFoundError names the near misses)."""
    known = image_types(release)
    if name not in known:
        message = f"{release} has no images called {name!r}; {near_misses(name, known)}"
        raise NotFoundError(message, kind="dataset_type", table=IMAGE)
    return known[name]


def list_images(
    uris: Sequence[str],
    settings: Settings,
    release: Release,
    *,
    dataset_type: str | None = None,
    data_id: Mapping[str, int | str] | None = None,
) -> Listing:
    """Return the images at `uris`: FITS files whose path names an image dataset type, or names nothing.

    Parameters
    ----------
    dataset_type, data_id
        What the files are, where neither paths nor headers tell.

    Raises
    ------
    NotFoundError
        Nothing there, no such dataset type, or the release has no images.
    QueryError
        A value that is no integer where it must be.
    StorageError
        The store does not answer.
    """
    if not image_types(release.name):
        raise NotFoundError(f"no images of release {release.name} are known", kind="dataset_type", table=IMAGE)
    images = replace(release, tables={IMAGE: image_contract(release.name)})
    told = known_type(release.name, dataset_type) if dataset_type is not None else None
    known = _Known(images, release, told, _values(data_id or {}))
    inputs: dict[str, Input] = {}
    aside: dict[str, str] = {}
    roots = []
    for uri in map(storage.absolute, uris):
        root, files, whole = _files(uri, settings)
        for file in files:
            found = _recognised(file, root, known)
            if isinstance(found, Input):
                inputs[found.uri] = found
            else:
                aside[file.uri] = found
        if whole and told is None and not known.data_id:
            roots.append(uri)
    if not inputs:
        examples = "; ".join(f"{uri}: {why}" for uri, why in sorted(aside.items())[:3])
        found_words = f"{len(aside)} FITS files are none ({examples})" if aside else "there is no FITS file"
        raise NotFoundError(f"no image: {found_words}", kind="input", table=IMAGE, uri=", ".join(uris))
    return Listing(tuple(inputs[uri] for uri in sorted(inputs)), tuple(sorted(aside.items())), tuple(roots))


def _values(data_id: Mapping[str, int | str]) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    for name, value in data_id.items():
        if name in INTEGERS and not re.fullmatch(r"\d+", str(value), re.ASCII):
            raise QueryError(f"{name} is an integer, found {value!r}", kind="data_id", table=IMAGE)
        values[name] = int(value) if name in INTEGERS else str(value)
    return values


def _files(uri: str, settings: Settings) -> tuple[str, Iterable[Listed], bool]:
    """Return the folder that was listed, its FITS files, and whether they are all that is under `uri`."""
    try:
        return uri.rpartition("/")[0], [Listed(uri, *storage.stamp(uri, settings), 0.0)], True
    except InputError:
        found = storage.listing(uri, settings)
    root, whole = uri, True
    if not found and (glob := _GLOB.search(uri)):
        root, whole = uri[: glob.start()].rpartition("/")[0], False
        found = storage.listing(root, settings, uri[len(root) + 1 :])
    if not found:
        raise NotFoundError("there is no file, and no folder with files", kind="input", table=IMAGE, uri=uri)
    return (
        root,
        [f for f in found if f.uri.lower().endswith(SUFFIXES + _GZIPPED) and "/." not in f.uri[len(root) :]],
        whole,
    )


def _recognised(file: Listed, root: str, known: _Known) -> Input | str:
    """Return the input that a file is, or why it is no image."""
    parts, above = _parts(file.uri), len(_parts(root))
    try:
        told = told_by(parts, above, known.images, known.told)
        table = told_by(parts, above, known.tables).dataset_type
    except ContradictionError as error:
        return str(error)
    if table is not None:
        return f"it is {table}, a table"
    if known.told is not None and told.dataset_type != known.told.name:
        return f"it is {told.dataset_type}, asked for was {known.told.name}"
    if told.dataset_type is not None and known.told is None and not told.data_id.keys() & set(INTEGERS):
        return f"it is called like {told.dataset_type} and tells no data id"  # such as deepCoadd_meas
    if file.uri.lower().endswith(_GZIPPED):
        return "it is compressed as a whole, so that no part can be read alone; gunzip it"
    data_id = {**_band(parts, told), **told.data_id, **known.data_id}
    return Input(file.uri, file.size, file.stamp, told.dataset_type, data_id, told.run)


def _parts(uri: str) -> list[str]:
    path = uri.partition("://")[2].partition("/")[2] if "://" in uri else uri
    return [part for part in path.split("/") if part]


def _band(parts: Sequence[str], told: Told) -> dict[str, int | str]:
    """Return the band of a coadd: the name says it after tract and patch."""
    if told.dataset_type is None or not {"tract", "patch"} <= told.data_id.keys():
        return {}
    place = f"_{told.data_id['tract']}_{told.data_id['patch']}_"
    after = parts[-1].removeprefix(told.dataset_type).partition(place)[2]
    match = re.match(r"([a-z])(?=[_.])", after)
    return {"band": match[1]} if match else {}
