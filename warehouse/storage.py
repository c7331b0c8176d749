"""Where bytes lie: one Settings rendered for fsspec, object_store and Polars, and the few operations on whole files.

Here belong URIs, single files, listings and the probe. How S3 is reached is the business of `warehouse.s3`, what bytes
mean (Parquet, FITS, Delta) that of the readers and of the lake; what stores complain of is translated by
`warehouse.faults`. A URI is ``s3://bucket/key`` or an absolute local path; other modules need not know which of the two
they hold. Imports fsspec and s3fs only when used.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import xxhash

from warehouse import s3
from warehouse.config import Settings
from warehouse.errors import InputError, QueryError, StorageError, WarehouseError
from warehouse.faults import translated

_S3_SCHEMES = ("s3", "s3a", "s3n")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as a listing shows it.

    Attributes
    ----------
    stamp
        What `stamp` returns for it.
    modified
        When it was written, in seconds since 1970.
    """

    uri: str
    size: int
    stamp: str
    modified: float


# ---------------------------------------------------------------------------------------------------- URIs


def scheme(uri: str) -> str:
    """Return ``s3`` or ``file``.

    Raises
    ------
    QueryError
        Neither an S3 URI nor a local path.
    """
    head, separator, _ = uri.partition("://")
    if not separator or head == "file":
        return "file"
    if head in _S3_SCHEMES:
        return "s3"
    raise QueryError(f"scheme {head!r} is not supported; expected s3:// or a local path", kind="uri", uri=uri)


def absolute(uri: str | os.PathLike[str]) -> str:
    """Return `uri` in the one form that is compared and stored: ``s3://bucket/key``, or an absolute local path.

    ``file://`` is stripped and its percent escapes decoded, ``~`` is expanded, a relative path is completed. A path
    without a scheme and an S3 key are taken letter by letter: a percent sign in them is a percent sign.

    Raises
    ------
    QueryError
        An unknown scheme, or an S3 URI without a bucket.
    """
    text = os.fspath(uri)
    if scheme(text) == "s3":
        bucket, _, key = text.partition("://")[2].partition("/")
        if not bucket:
            raise QueryError("an S3 URI names a bucket: s3://bucket/key", kind="uri", uri=text)
        return f"s3://{bucket}/{key}".rstrip("/")
    if text.startswith("file://"):
        parts = urlsplit(text.replace("?", "%3F").replace("#", "%23"))
        if parts.netloc not in {"", "localhost"}:
            raise QueryError("a file URI names no other host: file:///path", kind="uri", uri=text)
        text = url2pathname(parts.path)
    return str(Path(os.path.abspath(Path(text).expanduser())))  # noqa: PTH100 - resolve() would follow links


def join(uri: str, *parts: str) -> str:
    """Return the URI of a file below `uri`."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def is_below(uri: str, roots: Collection[str]) -> bool:
    """Return whether `uri` is one of `roots`, or lies in one of them."""
    return any(uri == root or uri.startswith(root.rstrip("/") + "/") for root in roots)


# ------------------------------------------------------------------------------------ one Settings, three renderings


def fsspec_options(uri: str, settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of fsspec's filesystem for `uri`; none for a local path."""
    if scheme(uri) != "s3":
        return {}
    return s3.fsspec_options(uri, settings)


def object_store_options(uri: str, settings: Settings) -> dict[str, str]:
    """Return the storage options that deltalake takes (Polars takes them, too) for `uri`; none for a local path."""
    if scheme(uri) != "s3":
        return {}
    return s3.object_store_options(uri, settings)


def polars_options(uri: str, settings: Settings) -> dict[str, Any]:
    """Return Polars' ``storage_options`` for `uri`: those of object_store, and the retries in Polars' own words."""
    options = object_store_options(uri, settings)
    if not options:
        return {}
    milliseconds = round(1000 * settings.s3_connect_timeout * settings.s3_attempts)
    return {**options, "max_retries": settings.s3_attempts, "retry_timeout_ms": milliseconds}


def filesystem(uri: str, settings: Settings) -> tuple[Any, str]:
    """Return fsspec's filesystem for `uri` and the path in it.

    fsspec keeps one instance for each thread and set of options. s3fs does not survive a fork: start processes by
    spawning them.
    """
    import fsspec

    uri = absolute(uri)
    if scheme(uri) != "s3":
        return fsspec.filesystem("file"), uri
    fs = fsspec.filesystem("s3", session=s3.impatient_session(), **fsspec_options(uri, settings))
    # botocore has tried already; s3fs would repeat each series of tries five times.
    fs.retries = 1
    return fs, uri.removeprefix("s3://")


# ----------------------------------------------------------------------------------------------- operations


def stamp(uri: str, settings: Settings) -> tuple[int, str]:
    """Return size and stamp of the file `uri`: the ETag on S3, else its size and mtime in nanoseconds.

    Raises
    ------
    InputError
        No such file (kind ``vanished``).
    StorageError
        The store does not answer, or refuses.
    """
    with translated(uri, "looking at"):
        if scheme(uri) != "s3":
            return _local_stamp(os.stat(absolute(uri)))  # noqa: PTH116 - one call for each of millions of files
        fs, path = filesystem(uri, settings)
        return _s3_stamp(fs.info(path))


def exists(uri: str, settings: Settings) -> bool:
    """Return whether there is a file (not a folder) at `uri`."""
    try:
        stamp(uri, settings)
    except InputError as error:
        if error.kind == "vanished":
            return False
        raise
    return True


def read_bytes(uri: str, settings: Settings, most: int | None = None) -> bytes:
    """Return the file `uri`, its first `most` bytes if told (InputError of kind ``vanished`` where there is none)."""
    with translated(uri, "reading"):
        fs, path = filesystem(uri, settings)
        content: bytes = fs.cat_file(path, end=most)
        return content


def write_bytes(uri: str, content: bytes, settings: Settings) -> None:
    """Write the file `uri` in one piece, over an earlier one; a reader sees the old content or the new one."""
    with translated(uri, "writing"):
        if scheme(uri) == "s3":
            fs, path = filesystem(uri, settings)
            fs.pipe_file(path, content)
            return
        with _beside(Path(absolute(uri)), content) as written:
            written.replace(absolute(uri))


def put_if_absent(uri: str, content: bytes, settings: Settings) -> bool:
    """Write the file `uri` unless there is one, and return whether it was written; of racing writers one wins."""
    with translated(uri, "writing"):
        if scheme(uri) == "s3":
            fs, path = filesystem(uri, settings)
            try:
                fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            return True
        with _beside(Path(absolute(uri)), content) as written:
            try:
                # A link appears with its whole content or not at all, and never over another file.
                os.link(written, absolute(uri))
            except FileExistsError:
                return False
            return True


def delete(uris: str | Iterable[str], settings: Settings) -> None:
    """Delete one file or several; a file that is gone already is well."""
    wanted = [uris] if isinstance(uris, str) else list(uris)
    on_s3 = [uri for uri in wanted if scheme(uri) == "s3"]
    local = [uri for uri in wanted if scheme(uri) != "s3"]
    with ThreadPoolExecutor() as threads:  # the pages of a large file are given back as it goes, one by one
        deque(threads.map(_unlink, local), maxlen=0)
    if on_s3:
        fs, _ = filesystem(on_s3[0], settings)
        with translated(on_s3[0], "deleting"):
            fs.rm([absolute(uri).removeprefix("s3://") for uri in on_s3])


def digest(uri: str, settings: Settings) -> str:
    """Return what identifies the content of the file `uri`: its XXH3 of 128 bits on a local disk, the ETag on S3.

    It tells whether a file has changed, and guards against nobody who means ill: so speed decides (SHA-256 took a
    sixth of an ingest's processor time).
    """
    if scheme(uri) == "s3":
        return stamp(uri, settings)[1]
    with translated(uri, "reading"), Path(absolute(uri)).open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


def _unlink(uri: str) -> None:
    with translated(uri, "deleting"):
        Path(absolute(uri)).unlink(missing_ok=True)


def listing(uri: str, settings: Settings, pattern: str | None = None) -> list[Listed]:
    """Return the files below the folder `uri`, at any depth, sorted by URI; none where there is no such folder.

    Parameters
    ----------
    pattern
        A glob over paths relative to `uri`; ``*`` stays within a folder, ``**`` does not.

    Raises
    ------
    StorageError
        Part of the tree could not be listed: half a listing is never returned.
    """
    root = absolute(uri)
    with translated(root, "listing"):
        found = _s3_listing(root, settings) if scheme(root) == "s3" else _local_listing(root)
        if pattern is not None:
            wanted = _glob(pattern)
            skip = len(root.rstrip("/")) + 1
            found = (entry for entry in found if wanted.match(entry.uri[skip:]))
        return sorted(found, key=lambda entry: entry.uri)


def _glob(pattern: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern))


def _s3_listing(root: str, settings: Settings) -> Iterator[Listed]:
    fs, path = filesystem(root, settings)
    entries = fs.find(path, detail=True)
    # A key that equals the folder's name is a file beside the folder, and find() returns it alone.
    return (
        Listed(f"s3://{key}", *_s3_stamp(entry), entry["LastModified"].timestamp())
        for key, entry in entries.items()
        if entry["type"] == "file" and key != path
    )


def _local_listing(root: str) -> Iterator[Listed]:
    """Yield the files below `root`; links are followed, because Butler stores made by linking consist of them."""

    def refuse(error: OSError) -> None:
        raise error

    if not Path(root).is_dir():
        return
    seen = set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        here = os.stat(folder)  # noqa: PTH116 - os.walk speaks in text
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            try:
                status = os.stat(path)  # noqa: PTH116
                yield Listed(path, *_local_stamp(status), status.st_mtime)
            except FileNotFoundError:
                continue  # removed since, a link that leads nowhere, or a socket


def _local_stamp(status: os.stat_result) -> tuple[int, str]:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError("a folder, or no regular file")
    return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"


def _s3_stamp(info: dict[str, Any]) -> tuple[int, str]:
    if info["type"] != "file":
        raise FileNotFoundError(info["name"])
    return int(info["size"]), str(info["ETag"]).strip('"')


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """Write `content` into a hidden file beside `path`; what is left of it at the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}")
    try:
        written.write_bytes(content)
        yield written
    finally:
        written.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------- the probe

_PROBED: set[tuple[str, Settings]] = set()


def probe(uri: str, settings: Settings) -> None:
    """Make sure that the store of `uri` honours ``If-None-Match``, on which every commit rests.

    A scratch key is written twice on the condition that it does not exist; once a process, store and settings.
    Local paths pass.

    Raises
    ------
    StorageError
        The store accepted the second write (kind ``no_conditional_put``), or did not answer.
    """
    if scheme(uri) != "s3":
        return
    store = (urlsplit(uri).netloc, settings)
    if store in _PROBED:
        return
    scratch = join(absolute(uri), f"_tractlake_probe_{uuid.uuid4().hex}")
    try:
        first = put_if_absent(scratch, b"first", settings)
        second = put_if_absent(scratch, b"second", settings)
    finally:
        with suppress(WarehouseError):
            delete(scratch, settings)
    if second or not first:
        found = "accepted a second write of the same key" if first else "refused the first write of a new key"
        raise StorageError(
            f"the store ignores If-None-Match: it {found}; of two racing commits one would be lost in silence, so "
            "no warehouse is kept here. Use a store with conditional writes (AWS S3, MinIO, Ceph since Squid, GCS)",
            kind="no_conditional_put",
            uri=uri,
        )
    _PROBED.add(store)
