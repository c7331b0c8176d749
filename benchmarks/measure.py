"""Measure commands side by side: each in a process of its own, in turn, the median of several rounds.

A figure is worth something only as a ratio to a peer or a floor in the same run; machines are shared. Here belong how a
contender is run, watched and limited, and how results are kept and shown. What is measured stands in the scripts beside
this one; what a contender does, in `contenders.py`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
RESULTS = HERE / "results"
LOOK_SECONDS = 0.02
MB = 1_000_000
LEFT_FREE = 300 * MB

Said = dict[str, Any]


class SlowError(Exception):
    """A contender did not end in the time that it was given; the message is a figure to show."""


class FailedError(Exception):
    """A contender ended with an error, was killed for its memory, or has not all rows."""


@dataclass
class Timing:
    """What one contender took in each round, and what it last said of itself."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    says: Said = field(default_factory=dict)
    error: str | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    def record(self) -> Said:
        """Return what is kept of it as JSON."""
        kept: Said = {
            "name": self.name,
            "median_s": rounded(self.median),
            "seconds": [rounded(s) for s in self.seconds],
        }
        if self.cpu_seconds:
            kept["cpu_s"] = rounded(statistics.median(self.cpu_seconds))
        if self.megabytes:
            kept["peak_mb"] = round(max(self.megabytes))
        kept |= {name: value for name, value in self.says.items() if name in {"rows", "files", "gigabytes"}}
        return kept | ({"error": self.error} if self.error else {})


def run(
    command: Sequence[str], *, patience: float = 600.0, limit: int | None = None, env: Mapping[str, str] | None = None
) -> Said:
    """Run a command that prints one JSON object as its last line; return that, and the memory it took.

    Parameters
    ----------
    patience
        Seconds after which it is killed (`SlowError`).
    limit
        Bytes of resident memory beyond which it is killed (`FailedError`), mapped files counted. The high-water mark
        of the process is looked at, so that no short peak goes unseen.
    """
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"} | dict(env or {})
    # Compiling a peer's modules again and again is not what is measured.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with scratch() as folder, tempfile.TemporaryFile() as log:
        started = subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            start_new_session=True,
            env=environment | {"TMPDIR": folder},
        )
        watch = _Watch(started.pid, limit)
        try:
            output, _ = started.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            _kill(started.pid)
            started.communicate()
            raise SlowError(f"> {patience:.0f} s") from None
        finally:
            watch.stop()
            _kill(started.pid)  # what it left behind
        if watch.killed:
            raise FailedError(f"killed at {watch.peak / MB:,.0f} MB")
        log.seek(0)
        words = log.read().decode(errors="replace").strip().splitlines()
    if started.returncode:
        raise FailedError(words[-1][:300] if words else f"exit {started.returncode}")
    said: Said = json.loads(output.strip().splitlines()[-1])
    return said | {"megabytes": watch.peak / MB}


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Watch:
    """Looks at a process and its children until told to stop; kills them beyond a limit."""

    def __init__(self, pid: int, limit: int | None) -> None:
        self.peak = 0
        self.killed = False
        self._pid, self._limit = pid, limit
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self.peak = max(self.peak, high_water(self._pid), tree_resident(self._pid))
            if self._limit is not None and self.peak > self._limit:
                self.killed = True
                _kill(self._pid)
                return


def high_water(pid: int) -> int:
    """Return the most bytes that the process has ever held resident, 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    except OSError:
        return 0
    found = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(found.split()[1]) * 1024


def tree_resident(pid: int) -> int:
    """Return the bytes that the process and its children hold resident now; pages that they share count each time."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


def side_by_side(
    contenders: Mapping[str, Callable[[], Said]], rounds: Mapping[str, int], *, expected_rows: int | None = None
) -> list[Timing]:
    """Run all contenders in turn, each as often as `rounds` says; one that fails is named with its error, and left out.

    A contender that does not end with `expected_rows` has failed.
    """
    timings = {name: Timing(name) for name in contenders}
    for turn in range(max(rounds.values())):
        for name, contender in contenders.items():
            timing = timings[name]
            if timing.error or turn >= rounds[name]:
                continue
            try:
                with settled():
                    _note(timing, contender(), expected_rows)
            except (FailedError, SlowError) as error:
                timing.error = str(error)
            say(f"  round {turn + 1}: {name:<44s} {timing.error or f'{timing.seconds[-1]:8.2f} s'}")
            # Pages of the contender before are not this one's to write.
            os.sync()
    return list(timings.values())


@contextmanager
def settled() -> Iterator[None]:
    """Keep free memory filled with clean pages of a sparse file, as on a machine that has been at work for a while.

    A virtual machine may hand free memory back to its host within seconds; who writes into it first then waits for the
    host, at a tenth of the usual speed, and the figure is the host's. Clean pages are there at once.
    """
    with scratch() as folder:
        filler = Path(folder) / "filler"
        with filler.open("wb") as made:
            made.truncate(max(0, _free_memory() - LEFT_FREE))
        with filler.open("rb", buffering=0) as read:
            while read.read(8 * MB):
                pass
        yield


def _free_memory() -> int:
    told = Path("/proc/meminfo")
    lines = told.read_text("ascii").splitlines() if told.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))


def _note(timing: Timing, said: Said, expected_rows: int | None) -> None:
    if expected_rows is not None and said.get("rows") != expected_rows:
        raise FailedError(f"{said.get('rows')} rows of {expected_rows}")
    timing.seconds.append(said["seconds"])
    for name, kept in (("cpu_seconds", timing.cpu_seconds), ("megabytes", timing.megabytes)):
        if name in said:
            kept.append(said[name])
    timing.says = said


def say(line: str) -> None:
    """Tell the person watching."""
    print(line, file=sys.stderr, flush=True)


def machine() -> Said:
    """Return what the figures were measured on."""
    from importlib.metadata import version

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    told = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "polars": version("polars"),
        "deltalake": version("deltalake"),
        "load_before": round(os.getloadavg()[0], 1),
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
    }


def save(name: str, command: str, results: object, *, where: Path = RESULTS, on: Said | None = None) -> Path:
    """Keep results as JSON under ``benchmarks/results``, with the machine and the command that repeats them."""
    where.mkdir(exist_ok=True)
    path = where / f"{name}.json"
    kept = {"machine": on or machine(), "command": command, "results": results}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return path


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def rounded(value: float | None) -> float | None:
    """Return three significant digits or whole units, whatever is more."""
    if value is None:
        return None
    return round(value) if value >= 100 else float(f"{value:.3g}")


def fresh(name: str) -> Path:
    """Return a path where nothing stands, for a contender's output."""
    path = WORK / "out" / name
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the length of a block."""
    WORK.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=WORK)


def remove(path: Path) -> None:
    """Remove what a contender has left."""
    shutil.rmtree(path, ignore_errors=True)
