"""How far a run is: bars on a terminal, lines of log elsewhere - rows, bytes, inputs, time left.

Both are watchers (`warehouse.lake.events.OnEvent`), called by several threads at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.text import Text

from warehouse.lake.events import Event, OnEvent
from warehouse.wording import counted

QUIET_SECONDS = 10.0
WIDE = 100  # characters
_ADVANCES = {"staging", "resumed"}
_UNSAID = {"gathered", "recorded", "scattered"}
# What a person should know of although the run goes on.
_TROUBLE = {"conflict", "failed", "left aside", "vanished"}


@dataclass
class _Sum:
    """What has been done of a table since it was planned."""

    started: float
    inputs: int = 0
    rows: int = 0
    bytes: int = 0
    all_inputs: int = 0
    all_bytes: int = 0

    def add(self, event: Event) -> None:
        self.inputs += event.inputs
        self.rows += event.rows
        self.bytes += event.bytes

    def seconds_left(self) -> float | None:
        """Return the time that the rest takes at the pace so far, None before there is one."""
        if not self.bytes:
            return None
        return (time.monotonic() - self.started) * (self.all_bytes - self.bytes) / self.bytes

    def line(self) -> str:
        """Return where it stands, in words."""
        left = self.seconds_left()
        text = (
            f"{self.inputs:,} of {counted(self.all_inputs, 'input')}, {counted(self.rows, 'row')}, "
            f"{self.bytes / 1e6:,.1f} of {self.all_bytes / 1e6:,.1f} MB"
        )
        return text if left is None or left < 1 else f"{text}, {_clock(left)} left"


class Lines:
    """Writes a line at each step, and while inputs are read one now and then.

    Parameters
    ----------
    write
        Takes a line of text.
    seconds
        At least so long between two lines about inputs.
    """

    def __init__(self, write: Callable[[str], object], seconds: float = QUIET_SECONDS) -> None:
        self._write = write
        self._seconds = seconds
        self._sums: dict[str, _Sum] = {}
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take notice of an event."""
        with self._lock:
            text = self._text(event)
        if text is not None:
            self._write(_said(event, text))

    def _text(self, event: Event) -> str | None:
        if event.step == "planned":
            now = time.monotonic()
            self._sums[event.table] = _Sum(now, all_inputs=event.inputs, all_bytes=event.bytes)
            size = f", {event.bytes / 1e6:,.1f} MB" if event.bytes else ""
            detail = f" ({event.detail})" if event.detail else ""
            return f"{counted(event.inputs, 'input')} to read{size}{detail}" if event.inputs else None
        done = self._sums.get(event.table)
        if event.step in _ADVANCES and done is not None:
            done.add(event)
            if time.monotonic() - self._last < self._seconds:
                return None
            self._last = time.monotonic()
            return done.line()
        if event.step == "staged" and done is not None:
            if not done.all_inputs:
                return "nothing to read, only rows of inputs that are gone to remove"
            staged = f"{counted(done.rows, 'row')} of {counted(done.inputs, 'input')}"
            return f"{staged} staged in {counted(event.files, 'file')}"
        return None if event.step in _UNSAID else f"{event.step} {event.detail}".rstrip()


class Bars:
    """Moves a bar a table; a table whose rows are gathered by patch goes over its bar a second time."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._sums: dict[str, _Sum] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Move the table's bar."""
        with self._lock:
            self._move(event)

    def _move(self, event: Event) -> None:
        if event.step == "planned":
            self._plan(event)
            return
        if event.step in _TROUBLE:
            self._bars.console.print(_said(event, f"{event.step} {event.detail}".rstrip()), markup=False)
        task, done = self._tasks.get(event.table), self._sums.get(event.table)
        if task is None or done is None:
            return
        if event.step in _ADVANCES:
            done.add(event)
            self._bars.update(task, completed=done.bytes, done=done)
        elif event.step == "scattered":
            self._bars.reset(task, total=max(1, done.rows), done=done, state="sorting")
        elif event.step == "gathered":
            self._bars.update(task, advance=event.rows)
        elif event.step in {"staged", "committed"}:
            self._bars.update(task, total=1, completed=1, state=event.detail or event.step)

    def _plan(self, event: Event) -> None:
        if not event.inputs:
            return
        done = _Sum(time.monotonic(), all_inputs=event.inputs, all_bytes=event.bytes)
        self._sums[event.table] = done
        if event.table in self._tasks:  # planned again after a lost race
            self._bars.reset(self._tasks[event.table], total=event.bytes, done=done, state="")
        else:
            self._tasks[event.table] = self._bars.add_task(event.table, total=event.bytes, done=done, state="")


class _Where(TextColumn):
    """The words beside a bar: rows, bytes and inputs, and the time left or the step that goes on."""

    def __init__(self, width: int) -> None:
        super().__init__("")
        self._inputs = " inputs" if width >= WIDE else ""

    def render(self, task: Task) -> Text:
        """Return the words for a bar's present state."""
        done: _Sum = task.fields["done"]
        left = done.seconds_left()
        state = task.fields["state"] or ("" if left is None else f"{_clock(left)} left")
        inputs = f"{done.inputs:,}/{done.all_inputs:,}"
        return Text(f"{done.rows:>10,} rows {done.bytes / 1e6:>7,.1f} MB {inputs:>7}{self._inputs}  {state}")


@contextmanager
def progress(console: Console) -> Iterator[OnEvent]:
    """Show progress on `console` inside the block: bars that go away at its end on a terminal, else lines."""
    if not console.is_terminal:
        yield Lines(lambda text: console.print(text, markup=False))
        return
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20 if console.width >= WIDE else 8),
        _Where(console.width),
        console=console,
        transient=True,
    )
    with bars:
        yield Bars(bars)


def _said(event: Event, text: str) -> str:
    return f"{event.table}: {text}" if event.table else text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
