"""The code in README and docs: found, run page by page as a reader would, and its output written back.

Here belongs what a block is and how one is run; which pages there are is told by the tests and by ``record.py``.

A block is fenced as ``python``, ``sh`` or ``console`` (lines that begin with ``$``). The blocks of a page run in their
order and share a folder, Python's names and the shell's exported variables. A block that cannot be run stands after a
line ``<!-- not executed: the reason -->``. A block fenced as ``text`` straight after another is its output, and an
output without a block of its own is nobody's business.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

RUN = ("python", "sh", "console")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_SKIP = re.compile(r"<!-- not executed: (?P<reason>.*\S) *-->")
_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where its code begins (1 is the page's first line), and where the one of its output does."""

    language: str
    code: str
    line: int
    not_executed: str | None = None
    shown: str | None = None
    shown_line: int = 0


class BlockError(Exception):
    """A block does not do what its page promises."""


@dataclass
class Session:
    """A reader at a terminal: a folder, a shell's variables, Python's names.

    Attributes
    ----------
    replaced
        Pattern -> text: what stands for a command that cannot be the same here, such as an endpoint.
    """

    folder: Path
    variables: dict[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})

    def run(self, block: Block, page: str) -> str:
        """Return what a block prints (BlockError where it fails)."""
        code = block.code
        for pattern, text in self.replaced.items():
            code = re.sub(pattern, text, code, flags=re.MULTILINE)
        if block.language == "python":
            return self._python(code, f"{page}:{block.line}")
        return self._shell(code if block.language == "sh" else commands(code), f"{page}:{block.line}")

    def _python(self, code: str, place: str) -> str:
        printed = io.StringIO()
        with self._at_home(), contextlib.redirect_stdout(printed):
            exec(compile(code, place, "exec"), self.names)  # noqa: S102 - our own documentation
        return printed.getvalue()

    @contextlib.contextmanager
    def _at_home(self) -> Iterator[None]:
        """Be in the session's folder, with what its shell has exported."""
        before = dict(os.environ)
        with contextlib.chdir(self.folder):
            os.environ.update(self.variables)
            try:
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)

    def _shell(self, code: str, place: str) -> str:
        after = self.folder / ".variables"
        script = f"set -eao pipefail\n{code}\nenv -0 > .variables\n"
        done = subprocess.run(  # noqa: S603 - our own documentation
            ["/bin/bash", "-c", script],
            cwd=self.folder,
            env=os.environ | self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BlockError(f"{place}: exit code {done.returncode}\n{code}\n{done.stdout}\n{done.stderr}")
        pairs = (line.partition("=") for line in after.read_text("utf-8").split("\0") if line)
        self.variables |= {name: value for name, _, value in pairs if name not in {"_", "PWD", "OLDPWD", "SHLVL"}}
        return done.stdout


def commands(console: str) -> str:
    """Return the commands of a console block: its lines after ``$``, and their continuations after ``>``."""
    return "\n".join(line[2:] for line in console.splitlines() if line.startswith(("$ ", "> ")))


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that can be run, with the outputs that follow them."""
    fenced = list(_fenced(text.splitlines()))
    found = []
    for number, (language, code, line, above, _) in enumerate(fenced):
        if language not in RUN:
            continue
        skip = _SKIP.search(above)
        following = fenced[number + 1] if number + 1 < len(fenced) else None
        shown = following if following is not None and following[0] == "text" and not following[4] else None
        found.append(
            Block(
                language,
                code,
                line,
                skip and skip["reason"],
                shown and shown[1],
                shown[2] if shown else 0,
            )
        )
    return found


def _fenced(lines: list[str]) -> Iterator[tuple[str, str, int, str, bool]]:
    """Yield language, code, first line, the line above, and whether there was text since the last block."""
    inside: tuple[str, int, str, str, bool] | None = None
    above, since = "", True
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if inside is not None:
            language, start, before, indent, apart = inside
            if fence and not fence["language"]:
                code = "\n".join(text.removeprefix(indent) for text in lines[start - 1 : number - 1]) + "\n"
                yield language, code, start, before, apart
                inside, above, since = None, "", False
        elif fence:
            inside = fence["language"], number + 1, above, fence["indent"], since
        elif line.strip():
            above, since = line, True


def headings(output: str) -> set[str]:
    """Return the words at the head of an output: what does not depend on which sky it is about.

    Of a Polars frame the names and types of its columns, of anything else the first line.
    """
    head, ruled, _ = output.partition("╞")
    lines = output.strip().splitlines()
    kept = head.split("\n", 1)[-1] if ruled else (lines[0] if lines else "")
    return set(_WORD.findall(kept))


def play(page: str, text: str, session: Session, told: Callable[[Block, str], None] | None = None) -> int:
    """Run the blocks of a page in their order; return how many there were.

    Raises
    ------
    BlockError
        One fails, prints nothing although its output is shown, or prints under other headings.
    """
    count = 0
    for block in blocks(text):
        if block.not_executed:
            continue
        printed = session.run(block, page)
        count += 1
        if told is not None:
            told(block, printed)
        elif block.shown is not None and (missing := headings(block.shown) - set(_WORD.findall(printed))):
            raise BlockError(f"{page}:{block.line} prints no {sorted(missing)}, but:\n{printed}")
    return count


def pages(root: Path) -> list[Path]:
    """Return the pages whose code is run: README and everything written in docs."""
    return [root / "README.md", *sorted(path for path in (root / "docs").rglob("*.md") if path.parent.name != "design")]
