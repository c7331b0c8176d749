"""A command run under limits that a machine may put on it: a full disk, files that it may not read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_CAPABILITIES = """
import ctypes, os
def drop():
    "Give up root's right to pass over a file's permissions; nobody else has it."
    if os.geteuid() == 0 and os.path.exists("/proc/self/status"):
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.capget(header, data)
        for word in range(3):
            data[word] &= ~0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")
drop()
"""

_FILE_SIZE = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
"""

_INGEST = """
import json, sys
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import WarehouseError
wh = Warehouse.open({uri!r}, settings=Settings(memory=512 << 20, workers=2))
try:
    report = wh.ingest({table!r}, {tree!r})
    told = dict(refused=[[e.uri, e.error] for e in report.refused], committed=report.rows_committed)
except WarehouseError as error:
    told = dict(error=type(error).__name__, kind=error.kind, message=str(error))
print(json.dumps(told))
"""


def ingest_unprivileged(uri: str, table: str, tree: Path) -> dict:
    """Ingest in a process that is bound by files' permissions, and return what it told."""
    return _run(_CAPABILITIES, uri, table, tree)


def ingest_with_little_room(uri: str, table: str, tree: Path, most: int) -> dict:
    """Ingest in a process whose files cannot grow beyond `most` bytes, and return what it told."""
    return _run(_FILE_SIZE.format(bytes=most), uri, table, tree)


def _run(limits: str, uri: str, table: str, tree: Path) -> dict:
    script = limits + _INGEST.format(uri=uri, table=table, tree=str(tree))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
