"""Where bytes lie: one Settings rendered for fsspec, object_store and Polars, and the few operations on whole files.

Here belong URIs, connection options, single files, listings and the probe. What the bytes mean (Parquet, FITS, Delta)
does not; what stores complain of is translated by `warehouse.faults`. A URI is ``s3://bucket/key`` or an absolute
local path; other modules need not know which of the two they hold. Imports fsspec, s3fs and botocore only when used.
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
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import xxhash

from warehouse.config import Settings
from warehouse.errors import InputError, QueryError, StorageError, WarehouseError
from warehouse.faults import translated

_S3_SCHEMES = ("s3", "s3a", "s3n")
_DEFAULT_REGION = "us-east-1"


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


@dataclass(frozen=True, slots=True)
class _Connection:
    """How to reach S3 at this moment: what the settings say, completed by the AWS profile."""

    endpoint: str | None
    region: str
    key_id: str | None
    secret: str | None
    token: str | None
    path_style: bool


@lru_cache(maxsize=16)
def _session(profile: str | None) -> Any:  # noqa: ANN401 - botocore publishes no types
    from botocore.session import Session

    return Session(profile=profile)


def _connection(uri: str, settings: Settings) -> _Connection:
    """Return where and as whom to connect; temporary credentials are renewed by botocore when they are near their end.

    Without keys among the settings, botocore's own chain is asked (profile, container, instance), so that both
    families of clients below see the same identity.
    """
    endpoint, region = settings.s3_endpoint_url, settings.s3_region
    key_id, secret, token = settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_session_token
    keys = (key_id, secret.get_secret_value() if secret else None, token.get_secret_value() if token else None)
    if settings.s3_anonymous:
        keys = (None, None, None)
    if not (keys[0] or settings.s3_anonymous) or settings.s3_profile:
        with translated(uri, "finding S3 credentials"):
            session = _session(settings.s3_profile)
            scoped = session.get_scoped_config()
            region = region or scoped.get("region")
            endpoint = endpoint or scoped.get("endpoint_url")
            if not (keys[0] or settings.s3_anonymous):
                keys = _keys(uri, session)
    path_style = settings.s3_addressing == "path" or (settings.s3_addressing == "auto" and endpoint is not None)
    return _Connection(endpoint, region or _DEFAULT_REGION, *keys, path_style)


def _keys(uri: str, session: Any) -> tuple[str, str, str | None]:  # noqa: ANN401 - as above
    credentials = session.get_credentials()
    if credentials is None:
        raise StorageError(
            "no S3 credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
            "or TRACTLAKE_S3_ANONYMOUS=true for a public bucket",
            kind="credentials",
            uri=uri,
        )
    frozen = credentials.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


def fsspec_options(uri: str, settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of fsspec's filesystem for `uri`; none for a local path."""
    if scheme(uri) != "s3":
        return {}
    to = _connection(uri, settings)
    verify: bool | str = (settings.s3_ca_bundle or True) if settings.s3_verify_tls else False
    return {
        "anon": settings.s3_anonymous,
        "key": to.key_id,
        "secret": to.secret,
        "token": to.token,
        "endpoint_url": to.endpoint,
        "client_kwargs": {"region_name": to.region, "verify": verify},
        "config_kwargs": {
            "connect_timeout": settings.s3_connect_timeout,
            "read_timeout": settings.s3_read_timeout,
            "retries": {"total_max_attempts": settings.s3_attempts, "mode": "standard"},
            "s3": {"addressing_style": "path" if to.path_style else "virtual"},
            "request_checksum_calculation": settings.s3_checksums,
            "response_checksum_validation": settings.s3_checksums,
        },
        # A plan made from a cached listing would miss what came since.
        "use_listings_cache": False,
    }


def object_store_options(uri: str, settings: Settings) -> dict[str, str]:
    """Return the storage options that deltalake takes (Polars takes them, too) for `uri`; none for a local path."""
    if scheme(uri) != "s3":
        return {}
    to = _connection(uri, settings)
    options = {
        "aws_region": to.region,
        "aws_endpoint_url": to.endpoint,
        "aws_access_key_id": to.key_id,
        "aws_secret_access_key": to.secret,
        "aws_session_token": to.token,
        "aws_skip_signature": "true" if settings.s3_anonymous else None,
        "aws_virtual_hosted_style_request": "false" if to.path_style else "true",
        "aws_allow_http": "true" if (to.endpoint or "").startswith("http://") else None,
        "allow_invalid_certificates": None if settings.s3_verify_tls else "true",
        "aws_conditional_put": "etag",
        "connect_timeout": f"{settings.s3_connect_timeout:g}s",
        "timeout": f"{settings.s3_read_timeout:g}s",
        # Attempts cannot be given here: deltalake wants them as text, Polars as a number.
        "retry_timeout": f"{settings.s3_connect_timeout * settings.s3_attempts:g}s",
    }
    if settings.s3_ca_bundle and settings.s3_verify_tls and (to.endpoint or "https").startswith("https"):
        # Polars and deltalake take a bundle from this variable only.
        os.environ.setdefault("SSL_CERT_FILE", settings.s3_ca_bundle)
    return {name: value for name, value in options.items() if value is not None}


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
    fs = fsspec.filesystem("s3", session=_impatient_session(), **fsspec_options(uri, settings))
    # botocore has tried already; s3fs would repeat each series of tries five times.
    fs.retries = 1
    return fs, uri.removeprefix("s3://")


@lru_cache(maxsize=1)
def _impatient_session() -> Any:  # noqa: ANN401 - aiobotocore publishes no types
    """Return the session of all S3 clients here, which sends no ``Expect: 100-continue`` before a write.

    aiohttp waits for the answer to it without a time limit, so that a server that hangs would hang us.
    """
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]
    from botocore.handlers import add_expect_header

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session


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
