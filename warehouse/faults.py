"""What stores complain of, as our errors: the edge at which file systems' and S3 clients' errors are translated.

The clients are fsspec's local files, s3fs and botocore, and object_store inside Polars and deltalake; they say the
same things in different words. Imports errors only.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from warehouse.errors import InputError, StorageError, WarehouseError

_ERRNO_KINDS = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
    errno.ECONNREFUSED: "unreachable",
    errno.ETIMEDOUT: "unreachable",
    errno.EBUSY: "throttled",
}

# What the clients write into their messages, most telling first.
_SIGNS = (
    ("bucket", r"NoSuchBucket|specified bucket does not exist"),
    ("credentials", r"NoCredential|Unable to locate credentials|ExpiredToken|ProfileNotFound|config profile"),
    (
        "permission",
        r"AccessDenied|Access Denied|(?:code: |\()403\b|InvalidAccessKeyId|SignatureDoesNotMatch|[Pp]ermission denied",
    ),
    ("no_space", r"No space left|QuotaExceeded|Disk quota|InsufficientStorage"),
    ("tls", r"(?i:certificate|SSL:|SSLError)"),
    ("throttled", r"SlowDown|TooManyRequests|(?:code: |\()(?:429|503)\b|reduce your request rate"),
    (
        "unreachable",
        (
            r"(?i:could not connect|connect timeout|read timeout|timed out|error sending request|connection refused"
            r"|connection (?:was )?(?:closed|reset)|dns error|name or service not known|server disconnected)"
        ),
    ),
)

_ADVICE = {
    "bucket": "there is no such bucket; check its name, the endpoint and the region",
    "credentials": "credentials are missing or expired; check AWS_ACCESS_KEY_ID, AWS_PROFILE and their like",
    "permission": "permission denied; check the credentials, the bucket's policy, or the folder's owner and mode",
    "no_space": "no space left; free some, or choose another place",
    "tls": "the TLS certificate does not hold; check AWS_CA_BUNDLE and the endpoint's name",
    "throttled": "the store asks for fewer requests; wait, or lower the number of workers",
    "unreachable": "the store does not answer; check the endpoint URL, the network, and that the server runs",
    "storage": "the store failed",
}


@contextmanager
def translated(uri: str, doing: str) -> Iterator[None]:
    """Translate what file systems and S3 clients raise in the block; `doing` is a word such as "reading".

    Raises
    ------
    InputError
        The file is not there (kind ``vanished``).
    StorageError
        Everything else that a store can complain of; the message says what to check.
    """
    try:
        yield
    except Exception as error:
        found = translation(error, uri, doing)
        if found is None:
            raise
        raise found from error


def translation(error: BaseException, uri: str, doing: str) -> WarehouseError | None:
    """Return our error for what a store's client raised, or None where `error` is not a store's."""
    module = type(error).__module__.partition(".")[0]
    # Polars' Parquet writer wraps what the system says into an error of its own.
    system = re.search(r"\(os error (\d+)\)", str(error)) if module == "polars" else None
    if not (isinstance(error, OSError) or system or module in {"botocore", "aiobotocore", "aiohttp"}):
        return None
    text = f"{type(error).__name__}: {error} {error.__cause__!r}"
    sign = next((kind for kind, words in _SIGNS if re.search(words, text)), None)
    absent = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    if absent and sign != "bucket" and not doing.startswith("writing"):
        return InputError(f"no such file ({doing} it)", kind="vanished", uri=uri)
    number = int(system[1]) if system else error.errno if isinstance(error, OSError) else None
    unanswered = "unreachable" if isinstance(error, ConnectionError | TimeoutError) else "storage"
    kind = _ERRNO_KINDS.get(number or 0) or sign or unanswered
    detail = " ".join(str(error).split())[:300]
    return StorageError(f"{_ADVICE[kind]} ({doing}: {detail})", kind=kind, uri=uri)
