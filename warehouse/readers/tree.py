"""Which inputs there are: files, folders, globs and Butler-like trees, local or on S3, listed and recognised.

Nothing is opened: a listing and the paths are all that is looked at. What is to be done with an input is decided by
the ingest plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from warehouse import contracts, storage
from warehouse.config import Settings
from warehouse.contracts import DatasetType, Release
from warehouse.errors import InputError, NotFoundError, QueryError, near_misses
from warehouse.faults import translated
from warehouse.readers.formats import known_suffix, may_have_hdus
from warehouse.readers.paths import INTEGERS, ContradictionError, Told, told_by
from warehouse.readers.reader import Input
from warehouse.storage import Listed
from warehouse.wording import counted

DataId = Mapping[str, int | str]

_GLOB = re.compile(r"[*?[]")
_DIMENSIONS = ("instrument", "skymap", "tract", "patch", "day_obs", "band", "physical_filter", "visit", "detector")


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found.

    Attributes
    ----------
    inputs
        By URI, each once.
    unrecognised
        Files of a known format that are no input here, each with the reason.
    roots
        Folders and files of which `inputs` is the whole: an input below them that is missing here has vanished.
        Empty where only a part was asked for.
    """

    inputs: tuple[Input, ...]
    unrecognised: tuple[tuple[str, str], ...] = ()
    roots: tuple[str, ...] = ()

    def of_hdu(self, hdu: int | str | None) -> Listing:
        """Return the listing with that HDU, a number or a name, asked for in every FITS file; None asks for none.

        Raises
        ------
        QueryError
            The text is empty, or none of the inputs is a FITS file.
        """
        if hdu is None:
            return self
        told = str(hdu).strip()
        if not told:
            raise QueryError("hdu: expected a number or a name, found an empty text", kind="hdu")
        if not any(may_have_hdus(item.uri) for item in self.inputs):
            example = f", such as {self.inputs[0].uri}" if self.inputs else ""
            raise QueryError(f"HDU {told} is asked for, and none of the inputs is a FITS file{example}", kind="hdu")
        inputs = (replace(item, hdu=told) if may_have_hdus(item.uri) else item for item in self.inputs)
        return replace(self, inputs=tuple(inputs))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the files shall be, where the caller says so."""

    release: Release
    table: str | None
    dataset_type: DatasetType | None
    data_id: DataId


def list_inputs(
    uris: Sequence[str],
    settings: Settings,
    *,
    release: str,
    table: str | None = None,
    dataset_type: str | None = None,
    data_id: DataId | None = None,
) -> Listing:
    """Return the inputs at `uris`.

    Parameters
    ----------
    uris
        Files, folders or globs. In folders, hidden files and files of other formats are passed over.
    release
        Whose dataset types are recognised in paths.
    table, dataset_type
        What the files are. Then files with any name are taken; those that are something else by their path are not.
    data_id
        Values that hold for every input; a file that has another value by its path is not taken.

    Raises
    ------
    NotFoundError
        One of `uris` has nothing to list, or nothing that was asked for; no such table or dataset type.
    QueryError
        No such dimension in `data_id`, or a value that is no integer where it must be.
    StorageError
        The store does not answer, or refuses.
    """
    wanted = _wanted(contracts.load(release), table, dataset_type, data_id or {})
    inputs: dict[str, Input] = {}
    unrecognised: dict[str, str] = {}
    roots: list[str] = []
    for uri in map(storage.absolute, uris):
        root, files, whole = _files(uri, settings)
        for file in files:
            found = _recognise(file, root, wanted)
            if isinstance(found, Input):
                inputs[found.uri] = found
            else:
                unrecognised[file.uri] = found
        if whole and not wanted.data_id:
            roots.append(uri)
    if not inputs:
        raise _nothing(uris, unrecognised, wanted)
    return Listing(
        tuple(inputs[uri] for uri in sorted(inputs)),
        tuple(sorted((uri, why) for uri, why in unrecognised.items() if uri not in inputs)),
        tuple(dict.fromkeys(roots)),
    )


def refuse_absent(uris: Sequence[str], settings: Settings) -> None:
    """Raise at once what `list_inputs` would say of a URI at which there is nothing, and list nothing.

    What a glob names only a listing can tell.
    """
    for uri in map(storage.absolute, uris):
        if not _GLOB.search(uri):
            filesystem, path = storage.filesystem(uri, settings)
            with translated(uri, "looking at"):
                there = filesystem.exists(path)
            if not there:
                raise _absent(uri)


def _absent(uri: str) -> NotFoundError:
    return NotFoundError("there is no file, and no folder with files", kind="input", uri=uri)


def _wanted(release: Release, table: str | None, dataset_type: str | None, data_id: DataId) -> _Wanted:
    values: dict[str, int | str] = {}
    for name, value in data_id.items():
        if name not in _DIMENSIONS:
            raise QueryError(f"no dimension {name!r}; {near_misses(name, _DIMENSIONS)}", kind="data_id")
        if name in INTEGERS and not re.fullmatch(r"\d+", str(value), re.ASCII):
            raise QueryError(f"{name} is an integer, found {value!r}", kind="data_id")
        values[name] = int(value) if name in INTEGERS else str(value)
    if table is not None:
        contract = release.contract(table)
        return _Wanted(release, table, contract.dataset_type(dataset_type) if dataset_type else None, values)
    if dataset_type is None:
        return _Wanted(release, None, None, values)
    if dataset_type not in release.dataset_types:
        hint = near_misses(dataset_type, release.dataset_types)
        raise NotFoundError(f"{release.name} has no dataset type {dataset_type!r}; {hint}", kind="dataset_type")
    contract, kind = release.dataset_types[dataset_type]
    return _Wanted(release, contract.table, kind, values)


def _files(uri: str, settings: Settings) -> tuple[str, Iterable[Listed], bool]:
    """Return the folder that was listed, its files to look at, and whether they are all that is under `uri`.

    Files of other formats and hidden ones are left out. What exists under a name with ``*``, ``?`` or ``[`` in it is
    that file or folder; otherwise such a name is a glob, and folders that it names mean what lies in them.
    """
    try:
        return uri.rpartition("/")[0], [Listed(uri, *storage.stamp(uri, settings), 0.0)], True
    except InputError:
        found = storage.listing(uri, settings)
    root, whole = uri, True
    if not found and (glob := _GLOB.search(uri)):
        root, whole = uri[: glob.start()].rpartition("/")[0], False
        pattern = uri[len(root) + 1 :]
        found = storage.listing(root, settings, pattern) or storage.listing(root, settings, f"{pattern}/**")
    if not found:
        raise _absent(uri)
    skip = len(root)
    return root, [f for f in found if known_suffix(f.uri) and not _hidden(f.uri[skip:])], whole


def _hidden(path: str) -> bool:
    return "/." in path or "/_delta_log/" in path


def _recognise(file: Listed, root: str, wanted: _Wanted) -> Input | str:
    """Return the input that a file is, or why it is none."""
    parts = _parts(file.uri)
    try:
        told = told_by(parts, len(_parts(root)), wanted.release, wanted.dataset_type)
    except ContradictionError as error:
        return str(error)
    if told.dataset_type is None and wanted.table is None:
        return "its path names no dataset type; tell the table that it belongs to"
    if reason := _unwanted(told, wanted):
        return reason
    return Input(file.uri, file.size, file.stamp, told.dataset_type, {**told.data_id, **wanted.data_id}, told.run)


def _parts(uri: str) -> list[str]:
    """Return folders and name; an S3 bucket is no folder."""
    path = uri.partition("://")[2].partition("/")[2] if "://" in uri else uri
    return [part for part in path.split("/") if part]


def _unwanted(told: Told, wanted: _Wanted) -> str | None:
    """Return why a file that is recognised is not one of those asked for."""
    if told.dataset_type is not None:
        contract, _ = wanted.release.dataset_types[told.dataset_type]
        if wanted.table not in {None, contract.table}:
            return f"it is {told.dataset_type}, which delivers {contract.table} and not {wanted.table}"
        if wanted.dataset_type is not None and told.dataset_type != wanted.dataset_type.name:
            return f"it is {told.dataset_type}, asked for was {wanted.dataset_type.name}"
    for name, value in wanted.data_id.items():
        if told.data_id.get(name, value) != value:
            return f"its {name} is {told.data_id[name]}, asked for was {value}"
    return None


def _nothing(uris: Sequence[str], unrecognised: Mapping[str, str], wanted: _Wanted) -> NotFoundError:
    what = wanted.dataset_type.name if wanted.dataset_type else wanted.table or "dataset type"
    examples = "; ".join(f"{uri}: {why}" for uri, why in sorted(unrecognised.items())[:3])
    found = (
        f"{counted(len(unrecognised), 'file')} of another kind ({examples})"
        if unrecognised
        else "no file of a known format"
    )
    return NotFoundError(f"nothing to ingest as {what}: {found}", kind="input", table=wanted.table, uri=", ".join(uris))
