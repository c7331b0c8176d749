"""A Prefect server to talk to: the one that is configured, or one of our own for as long as a command runs.

Prefect would start a temporary server by itself, but in the terminal's foreground group, where a Ctrl-C ends it before
the run can say that it was interrupted. Ours is in a session of its own, leaves with the process that started it,
however that one ends, and can be asked for long before it is needed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from warehouse.errors import StorageError

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 10
LOOK_SECONDS = 0.05
LOOK_TIMEOUT_SECONDS = 10

Ready = Callable[[], None]
Say = Callable[[str], object]

# What a command wants of Prefect: no log between its own lines; an error comes as one line of ours.
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
# By itself a server writes each state of a task to its database alone, and leaves behind those it has not come to when
# it stops; a batch is written at the stop as well.
_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "1000",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
}


@contextmanager
def api(say: Say) -> Iterator[Ready]:
    """Have a Prefect server inside the block; call what is yielded before the first flow, to wait for it.

    Nothing is started where a server is configured (``PREFECT_API_URL``, or the profile's).

    Parameters
    ----------
    say
        Is told in a line that a server starts, because that takes its time.

    Raises
    ------
    StorageError
        No server answers. Raised by what is yielded, not by the block.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured:
        yield lambda: _look(configured)
        return
    say("starting a Prefect server for this run, 10 to 30 s (PREFECT_API_URL would name one that runs)")
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        port = _free_port()
        server = stack.enter_context(_server(port, log))
        # Nobody looks after runs that have gone silent here, and the thread that sends heartbeats ends on a whole
        # second of a run only.
        mine = {PREFECT_API_URL: f"http://{HOST}:{port}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        stack.enter_context(temporary_settings(mine))
        stack.callback(_say_the_rest)
        yield lambda: _wait(server, port, log)


def _say_the_rest() -> None:
    """Send what Prefect's workers still hold of logs and of the states of tasks, while there is a server to hear it."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=STOP_SECONDS)
    EventsWorker.drain_all(timeout=STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flows.serving", str(port)]
    # The pipe to its standard input closes when this process ends, killed or not, and the server ends with it.
    server = subprocess.Popen(  # noqa: S603 - this module, by this interpreter
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=os.environ | _SERVER
    )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def _wait(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/api/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(LOOK_SECONDS)
    log.seek(0)
    words = log.read().decode(errors="replace")[-2000:]
    state = "ended at its start" if server.poll() is not None else f"did not answer within {START_SECONDS} s"
    raise StorageError(f"the Prefect server {state}; --direct works without it\n{words}", kind="prefect")


def _look(url: str) -> None:
    """Return if somebody answers where a server is configured, be it with a refusal."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=LOOK_TIMEOUT_SECONDS):  # noqa: S310 - as configured
            return
    except urllib.error.HTTPError:
        return
    except (urllib.error.URLError, OSError, ValueError) as error:
        message = f"no Prefect server answers ({error}); unset PREFECT_API_URL to have one started, or use --direct"
        raise StorageError(message, kind="prefect", uri=url) from error


def _serve(port: int) -> None:
    """Run a server until the process that started this one ends, or asks for it."""
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    uvicorn.run(create_app(ephemeral=True), host=HOST, port=port, log_level="error")


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
