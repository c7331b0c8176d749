"""What every test stands on: an environment without AWS variables, settings, and real S3 servers on request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from support.s3 import S3Server, moto_server
from warehouse.config import Settings

MEMORY = 512 << 20

hypothesis.settings.register_profile("tractlake", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.load_profile("tractlake")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies where real servers and real processes are, for `make quick` to leave out."""
    for item in items:
        if {"integration", "stateful"} & set(item.path.parts):
            item.add_marker(pytest.mark.integration)


@dataclass(frozen=True)
class Bucket:
    """An empty bucket on a running server, and settings that reach it."""

    name: str
    server: S3Server
    settings: Settings

    def uri(self, *parts: str) -> str:
        return "/".join([f"s3://{self.name}", *parts])


@pytest.fixture(scope="session", autouse=True)
def hermetic_environment(tmp_path_factory) -> Iterator[None]:
    """Hide the machine's AWS and tractlake variables and AWS profiles, and let no test ask a cloud who it is."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("AWS_", "TRACTLAKE_")):
                patch.delenv(name)
        nowhere = tmp_path_factory.mktemp("no-aws")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Settings(memory=MEMORY, workers=2, scratch=scratch)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[S3Server]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, tmp_path: Path) -> Bucket:
    settings = s3_server.settings(memory=MEMORY, workers=2, scratch=tmp_path)
    return Bucket(s3_server.make_bucket(), s3_server, settings)
