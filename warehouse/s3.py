"""How S3 is reached: one Settings and the AWS profile as a connection, in the words of fsspec and of object_store.

Nothing is read or written here. Imports botocore and aiobotocore only when used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from warehouse.config import Settings
from warehouse.errors import StorageError
from warehouse.faults import translated

_DEFAULT_REGION = "us-east-1"


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
    """Return the keyword arguments of fsspec's filesystem."""
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
    """Return the storage options that deltalake takes, and Polars, too."""
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


@lru_cache(maxsize=1)
def impatient_session() -> Any:  # noqa: ANN401 - aiobotocore publishes no types
    """Return the session of all S3 clients here, which sends no ``Expect: 100-continue`` before a write.

    aiohttp waits for the answer to it without a time limit, so that a server that hangs would hang us.
    """
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]
    from botocore.handlers import add_expect_header

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session
