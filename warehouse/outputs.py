"""Files that a user asks for, for whatever comes after us: each appears under its name when it is whole, or not at all.

What stood in its place stands there until then. What the files hold is the business of those who write them; files of
a warehouse are not among them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import QueryError


def local(out: str, *endings: str) -> Path:
    """Return the path of a local file to write with one of these endings (QueryError for any other)."""
    if storage.scheme(out) != "file" or Path(out).suffix.lower() not in endings:
        raise QueryError(f"expected a local file that ends with {' or '.join(endings)}", kind="format", uri=out)
    return Path(storage.absolute(out)) if "://" in out else Path(out).expanduser()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a hidden file to write, which takes the place of `path` once the block has ended well.

    A link stays one: its target is replaced.
    """
    whole = path.resolve()
    part = whole.with_name(f".{whole.name[:200]}.{uuid.uuid4().hex}")
    try:
        yield part
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def opened(out: str, settings: Settings) -> Iterator[Any]:
    """Yield a binary file to write, local or on S3, which takes the place of `out` once the block has ended well.

    Polars is given the file rather than its name: of a name it may make a file after it has failed, and on S3 it may
    complete the upload of the rows that came before.
    """
    if storage.scheme(out) == "file":
        with replacing(Path(storage.absolute(out))) as part, part.open("wb") as file:
            yield file
        return
    fs, path = storage.filesystem(out, settings)
    upload = fs.open(path, "wb", autocommit=False)
    try:
        with upload:
            yield upload
    except BaseException:
        upload.discard()
        raise
    upload.commit()
