"""The code of README, tutorial and how-to runs as it stands, from the top of the page to its end."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from support import skies
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.simulate import DATASET_TYPES

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/tutorial.md", "docs/how-to/ingest.md")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder with a demo/ as `make demo` leaves it, of a smaller sky."""
    folder = tmp_path_factory.mktemp("pages")
    types = [name for name in DATASET_TYPES if name not in {"objectTable_tract", "sourceTable", "diaSourceTable"}]
    types = [name for name in types if not name.startswith("forced") or not name.endswith("_tract")]
    skies.make(folder / "demo" / "inputs", types, ra=62.0, dec=-37.0, objects=300, visits=2)
    wh = Warehouse.create(str(folder / "demo" / "warehouse"), settings=Settings(workers=2))
    wh.ingest_tree(str(folder / "demo" / "inputs"))
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_code_on_a_page_runs(demo, monkeypatch, page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(demo)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n".join(blocks), page, "exec"), {})  # noqa: S102 - our own pages
    assert printed.getvalue()


def test_every_link_on_a_page_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
