"""A real Prefect server and a real worker, each a process of its own with a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.s3 import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
LOOK_SECONDS = 0.1
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the API answers to a GET, or to a POST of `body`; None for what it does not know.

        A server that is too busy is asked again, as Prefect's own clients do.
        """
        answer = self.wait(lambda: self._answer(path, body), f"answer to {path}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:1000]}"
        return answer.json()

    def _answer(self, path: str, body: dict[str, Any] | None) -> httpx.Response | None:
        method = "GET" if body is None else "POST"
        answer = httpx.request(method, f"{self.url}{path}", json=body, timeout=30)
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

    def wait(self, found: Callable[[], Any], what: str) -> Any:
        """Return what `found` gives once that is something."""
        return _wait(self.process, found, what)

    def finished(self, flow_run_id: str) -> dict[str, Any]:
        """Return a flow run once it has come to an end."""

        def ended() -> dict[str, Any] | None:
            run = self.ask(f"/flow_runs/{flow_run_id}")
            return run if run["state"]["type"] in FINAL else None

        return self.wait(ended, f"the end of the flow run {flow_run_id}")

    def command(self, *arguments: str, **environment: str) -> str:
        """Run a command of Prefect's against this server and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _wait(process: subprocess.Popen[bytes], found: Callable[[], Any], what: str) -> Any:
    """Return what `found` gives, asking again until then, as long as the process lives."""
    for _ in range(int(START_SECONDS / LOOK_SECONDS)):
        answer = found()
        if answer is not None and answer is not False and answer != []:
            return answer
        try:
            process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the process ended before {what}")
    raise AssertionError(f"no {what} within {START_SECONDS} s")


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def prefect_server(folder: Path) -> Iterator[PrefectServer]:
    """Run a server with its database and its log in `folder`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    known = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment = known | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    with _running(command, environment, folder / "server.log") as process:

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/health", timeout=5).is_success
            except httpx.TransportError:
                return False

        _wait(process, answers, "answer of the Prefect server")
        yield PrefectServer(url, process, environment | {"PREFECT_API_URL": url})


@contextmanager
def prefect_worker(server: PrefectServer, folder: Path, pool: str) -> Iterator[None]:
    """Run a worker of type process, which makes its pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", "one"]
    environment = server.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with _running(command, environment, folder / "worker.log") as process:
        _wait(process, lambda: server.ask(f"/work_pools/{pool}"), "work pool")
        yield
