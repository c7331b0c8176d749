"""Which inputs a Butler repository names: dataset types, collections and constraints asked of the Butler itself.

Needs the extra ``butler`` (PyPI's lsst-daf-butler, no other part of the LSST stack), loaded when first used. Files are
then read as any others: the Butler tells URIs, data ids and runs, and opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import InputError, NotFoundError, QueryError, near_misses
from warehouse.faults import translated
from warehouse.readers.formats import known_suffix
from warehouse.readers.reader import Input
from warehouse.readers.tree import Listing

_EXAMPLES = {"skymap": "DC2", "instrument": "LSSTCam-imSim"}
_EXTRA = "pip install 'tractlake[butler]'"


def list_butler(
    repository: str,
    collections: Sequence[str],
    dataset_types: Sequence[str],
    where: str | None,
    settings: Settings,
) -> Listing:
    """Return the inputs that a Butler repository has of some dataset types.

    Parameters
    ----------
    repository
        The repository's root, its ``butler.yaml``, or an alias that the Butler knows. A repository on S3 is reached by
        the Butler's own means (``S3_ENDPOINT_URL`` and the AWS variables).
    collections
        In order of preference: a data id that several hold is taken from the first that has it.
    where
        A constraint on data ids in the Butler's own words, such as ``"visit > 200000 AND skymap = 'DC2'"``.

    Raises
    ------
    NotFoundError
        No such repository, collection or dataset type, nothing found, or the extra is not installed.
    QueryError
        No collection or dataset type given, or `where` is not understood.
    StorageError
        The store of the repository or of its files does not answer.
    """
    for what, given in (("collection", collections), ("dataset type", dataset_types)):
        if not given or isinstance(given, str):
            raise QueryError(f"give at least one {what} in a list, found {given!r}", kind="butler", uri=repository)
    with _translated(repository, where), _opened(repository) as butler:
        named: list[tuple[Any, Any]] = []
        for name in dataset_types:
            refs = _refs(butler, repository, name, collections, where)
            places = butler.get_many_uris(refs, allow_missing=True)
            named += [(places[ref].primaryURI if ref in places else None, ref) for ref in refs]
    found: list[Input] = []
    missing: list[tuple[str, str]] = []
    with ThreadPoolExecutor(settings.workers) as threads:
        for outcome in threads.map(partial(_input, settings), named):
            if isinstance(outcome, Input):
                found.append(outcome)
            else:
                missing.append(outcome)
    if not found:
        detail = f"; {len(missing)} are named and not stored" if missing else ""
        asked = f"{', '.join(dataset_types)} in {', '.join(collections)}" + (f" where {where}" if where else "")
        raise NotFoundError(f"the repository has no dataset of {asked}{detail}", kind="input", uri=repository)
    return Listing(tuple(sorted(found, key=lambda item: item.uri)), tuple(sorted(missing)))


@contextmanager
def _opened(repository: str) -> Iterator[Any]:
    try:
        from lsst.daf.butler import Butler
    except ImportError as error:
        raise NotFoundError(f"a Butler repository needs an extra: {_EXTRA}", kind="extra", uri=repository) from error
    try:
        butler = Butler.from_config(repository, writeable=False)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no Butler repository: {error}", kind="repository", uri=repository) from error
    try:
        yield butler
    finally:
        butler.close()


@contextmanager
def _translated(repository: str, where: str | None) -> Iterator[None]:
    with translated(repository, "asking the Butler"):
        try:
            yield
        except Exception as error:
            # The Butler's classes are known only where it is installed.
            names = {cls.__name__ for cls in type(error).__mro__}
            text = " ".join(str(error).split())[:500]
            if "MissingCollectionError" in names:
                raise NotFoundError(text, kind="collection", uri=repository) from error
            if "ButlerUserError" in names:
                message = f"the Butler refuses the question: {text}{_advice(text, where)}"
                raise QueryError(message, kind="butler", uri=repository) from error
            raise


def _advice(text: str, where: str | None) -> str:
    """Return what to ask instead where a number was given without what it counts in, such as a tract of no sky map."""
    lacks = re.search(r"dependent on (\w+) without constraining", text)
    if lacks is None or lacks[1] not in _EXAMPLES:
        return ""
    return f" Name it as well, such as: {lacks[1]} = '{_EXAMPLES[lacks[1]]}' AND ({where})"


def _refs(butler: Any, repository: str, name: str, collections: Sequence[str], where: str | None) -> list[Any]:  # noqa: ANN401 - a Butler, which publishes no types
    """Return what the repository holds of a dataset type, each data id once."""
    known = [dataset_type.name for dataset_type in butler.registry.queryDatasetTypes(...)]
    if name not in known:
        hint = near_misses(name, known)
        raise NotFoundError(f"the repository has no dataset type {name!r}; {hint}", kind="dataset_type", uri=repository)
    refs: list[Any] = butler.query_datasets(
        name, collections=list(collections), find_first=True, where=where or "", limit=None, explain=False
    )
    return refs


def _input(settings: Settings, named: tuple[Any, Any]) -> Input | tuple[str, str]:
    """Return the input of a dataset, or its URI and why it is none."""
    place, ref = named
    if place is None:
        return str(ref), "the repository names it and has not stored it as one file"
    uri = place.ospath if place.isLocal else f"{place.scheme}://{place.netloc}/{place.relativeToPathRoot}"
    if not known_suffix(uri):
        return uri, "no reader for a file of this suffix"
    try:
        size, stamp = storage.stamp(uri, settings)
    except InputError:
        return uri, "the repository names it, and there is no such file"
    data_id = {str(name): value for name, value in ref.dataId.mapping.items()}
    return Input(uri, size, stamp, ref.datasetType.name, data_id, ref.run)
