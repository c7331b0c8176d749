"""Write the outputs and figures of README and docs as a real demo gives them: ``python docs/record.py``.

Makes the demo in a new folder (or takes the one that is named), runs the pages there, replaces what each page shows of
its output, and keeps the figures that a page shows. The simulated sky is the same everywhere, so that a change of an
output is a change of tractlake, to be read.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.blocks import Block, Session, pages, play  # noqa: E402

FIGURE = re.compile(r"!\[[^\]]*\]\((figures/([\w.-]+\.png))\)")
STANDING = {r"^(git clone|cd tractlake|make demo|\. \.venv).*$": ":"}
"""What a reader has done before: there is a checkout, an environment, a demo."""
APART = ("s3-and-credentials.md", "from-a-butler-repository.md")
"""Pages that need a store or a Butler; tests/integration/test_docs_blocks.py has both."""


def main() -> None:
    """Record the pages that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="a demo that stands already, made with default arguments")
    parser.add_argument("pages", nargs="*", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        demo = told.demo or _demo(Path(scratch) / "demo")
        for number, page in enumerate(told.pages or [p for p in pages(ROOT) if p.name not in APART]):
            folder = Path(scratch) / str(number)
            shutil.copytree(demo, folder / "demo")
            record(page.resolve(), Session(folder, variables(), STANDING), demo)


def record(page: Path, session: Session, demo: Path) -> None:
    """Run a page, and write what it printed and drew into it, places relative to the reader's folder."""
    text = page.read_text("utf-8")
    printed: list[tuple[Block, str]] = []
    play(page.name, text, session, lambda block, output: printed.append((block, output)))
    lines = text.splitlines()
    for block, output in reversed(printed):
        if block.shown is not None:
            end = next(n for n in range(block.shown_line - 1, len(lines)) if lines[n].startswith("```"))
            told = output.replace(f"{session.folder}/", "").replace(f"{demo}/", "demo/")
            lines[block.shown_line - 1 : end] = [line.rstrip() for line in told.strip("\n").splitlines()]
    page.write_text("\n".join(lines) + "\n", "utf-8")
    for path, name in FIGURE.findall(text):
        (page.parent / path).parent.mkdir(exist_ok=True)
        shutil.copy(session.folder / name, page.parent / path)
    print(f"{page.relative_to(ROOT)}: {len(printed)} blocks")


def variables() -> dict[str, str]:
    """Return the variables of a reader's shell; a terminal has a width, and tables keep to it."""
    beside = Path(sys.executable).parent
    return {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}", "MPLBACKEND": "Agg", "COLUMNS": "110"}


def _demo(folder: Path) -> Path:
    subprocess.run([Path(sys.executable).with_name("tractlake"), "demo", "--out", folder], check=True)  # noqa: S603
    return folder


if __name__ == "__main__":
    main()
