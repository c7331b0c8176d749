"""The one frozen Settings: built at the door, passed down, never read from the environment again.

It holds what a person may choose. How a store wants to be told (fsspec's words, object_store's words) is the
business of `warehouse.storage`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_MEMORY = 512 << 20


def _machine_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: the machine's, or those of a control group around it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _limits(root):
        try:
            total = min(total, int(limit.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total


def _limits(root: Path) -> Iterator[Path]:
    """Yield where the limits of this process's control groups may stand, of the inner ones first."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        groups = ["0::/", "1:memory:/"]  # all that can be looked at is the outermost of either version
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = base / path.lstrip("/")
        for place in (group, *group.parents):
            if place.is_relative_to(base):
                yield place / ("memory.limit_in_bytes" if controllers else "memory.max")


def _default_memory() -> ByteSize:
    return ByteSize(max(MIN_MEMORY, _machine_memory() // 2))


def _default_workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _sufficient(value: object, parse: ValidatorFunctionWrapHandler) -> ByteSize:
    """Return a memory budget, refusing what is none in words that say how one is written."""
    try:
        size = ByteSize(parse(value))
    except ValidationError as error:
        raise ValueError("expected a number with its unit, such as 8GiB") from error
    if size < MIN_MEMORY:
        least = ByteSize(MIN_MEMORY).human_readable()
        meant = f"write {size}GiB if that is what is meant" if str(value) == str(int(size)) else "write such as 8GiB"
        raise ValueError(f"{size:,} bytes is less than {least}, the least that will do; {meant}")
    return size


OptionalText = Annotated[str | None, BeforeValidator(_empty_is_none)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_empty_is_none)]


def _aws(*names: str) -> AliasChoices:
    """Accept our own variable first, then the usual AWS ones."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """What a person may choose, from keyword arguments, ``TRACTLAKE_*`` and the usual ``AWS_*`` variables.

    Attributes
    ----------
    memory
        Bytes that one process may keep resident; accepts "2GiB". Default: half of the machine's.
    workers
        Units of work side by side. Default: the processors that this process may use.
    max_quarantined_share
        Share of an input's rows above which the whole input is refused instead of single rows.
    retention_hours
        Age above which staged orphans and tombstones may be removed; must exceed the longest run.
    scratch
        Folder for oversize row groups while they are read; default: the system's temporary folder.
    commit_attempts
        Tries of one commit against other writers before `ConflictError` is raised.
    s3_endpoint_url
        Address of a store that is not Amazon's.
    s3_region
        Region of the bucket.
    s3_profile
        Asked for keys, region and endpoint that are not given otherwise.
    s3_access_key_id
        Key, with ``s3_secret_access_key``.
    s3_secret_access_key
        Its secret.
    s3_session_token
        Token of temporary keys.
    s3_anonymous
        Ask without a name: public buckets.
    s3_addressing
        ``auto``: path style at an endpoint of one's own, virtual hosts at AWS.
    s3_ca_bundle
        Certificates to trust. Polars and deltalake take them from ``SSL_CERT_FILE``, which is set to this unless it
        is set already.
    s3_connect_timeout
        Seconds to wait for a connection.
    s3_read_timeout
        Seconds to wait for an answer.
    s3_attempts
        Tries after which a store counts as unreachable.
    s3_verify_tls
        Whether the store's certificate is checked. Off is for trying only.
    s3_checksums
        ``when_required``: for a store that refuses the checksums which Amazon's clients add by default.
    """

    model_config = SettingsConfigDict(env_prefix="TRACTLAKE_", frozen=True, extra="ignore", populate_by_name=True)

    memory: Annotated[ByteSize, WrapValidator(_sufficient)] = Field(default_factory=_default_memory)
    workers: int = Field(default_factory=_default_workers, ge=1, le=1024)
    max_quarantined_share: float = Field(default=0.01, ge=0.0, le=1.0)
    retention_hours: float = Field(default=168.0, gt=0.0)
    scratch: Path | None = None
    commit_attempts: int = Field(default=20, ge=1)

    s3_endpoint_url: OptionalText = Field(
        default=None, validation_alias=_aws("TRACTLAKE_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    s3_region: OptionalText = Field(
        default=None, validation_alias=_aws("TRACTLAKE_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    )
    s3_profile: OptionalText = Field(default=None, validation_alias=_aws("TRACTLAKE_S3_PROFILE", "AWS_PROFILE"))
    s3_access_key_id: OptionalText = Field(
        default=None, validation_alias=_aws("TRACTLAKE_S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID")
    )
    s3_secret_access_key: OptionalSecret = Field(
        default=None, validation_alias=_aws("TRACTLAKE_S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    s3_session_token: OptionalSecret = Field(
        default=None, validation_alias=_aws("TRACTLAKE_S3_SESSION_TOKEN", "AWS_SESSION_TOKEN")
    )
    s3_anonymous: bool = False
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    s3_connect_timeout: float = Field(default=5.0, gt=0.0)
    s3_read_timeout: float = Field(default=30.0, gt=0.0)
    s3_attempts: int = Field(default=3, ge=1)
    s3_verify_tls: bool = True
    s3_ca_bundle: OptionalText = Field(default=None, validation_alias=_aws("TRACTLAKE_S3_CA_BUNDLE", "AWS_CA_BUNDLE"))
    # Some S3-compatible stores reject the trailing checksums that botocore sends by default since 1.36.
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"
