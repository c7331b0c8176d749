"""The documentation as a whole: generated pages are this code's, nothing is left out, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import contract_pages, generate
from docs.blocks import RUN, blocks, headings
from warehouse import Warehouse, contracts
from warehouse.config import Settings
from warehouse.contracts.contract import Column
from warehouse.ingest.rules import RULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
MOST_BYTES = 1 << 20


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize(("path", "make"), [pytest.param(*page, id=str(page[0])) for page in generate.pages().items()])
def test_a_generated_page_is_what_the_code_says(path, make):
    """``python docs/generate.py`` writes them all anew."""
    assert (ROOT / path).read_text("utf-8") == generate.written(make)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_index():
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = LINK.findall(FENCED.sub("", page.read_text("utf-8")))
        found = [(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
        waiting += [path for path in found if path.is_file()]
    ours = {*(DOCS / "tutorial").glob("*.md"), *(DOCS / "explanation").glob("*.md"), *DOCS.rglob("reference/**/*.md")}
    assert ours
    assert ours <= seen


def section(text: str, heading: str) -> str:
    return re.split(r"^## ", text.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*command, id=command[0]) for command in generate.commands()]
)
def test_every_command_argument_and_option_is_documented(words, command):
    page = section((DOCS / "reference" / "command-line.md").read_text("utf-8"), words)
    assert command.help.strip().split("\n", 1)[0].rstrip(".") in page
    for parameter in command.params:
        written = parameter.opts if parameter.param_type_name == "option" else []
        assert all(f"`{name}" in page for name in written), (words, written)
        assert parameter.help, (words, parameter.name)
        assert parameter.help.split("[default")[0].split(".")[0].strip() in page


def test_every_method_has_its_command_or_page():
    """What `Warehouse` can do is told somewhere a reader looks, by name."""
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    public = {name for name in dir(Warehouse) if callable(getattr(Warehouse, name)) and not name.startswith("_")}
    untold = {name for name in public if not re.search(rf"\b{name}\b|\b{name.replace('_', '-')}\b", told)}
    assert untold == set()


def test_every_setting_rule_and_error_is_documented():
    settings = (DOCS / "reference" / "settings.md").read_text("utf-8")
    failures = (DOCS / "reference" / "errors.md").read_text("utf-8")
    assert all(f"`{name}` | `TRACTLAKE_{name.upper()}`" in settings for name in Settings.model_fields)
    assert all(f"`{rule}`" in failures for rule in RULES)
    for name, code in {"InputError": 3, "ContractError": 4, "QualityError": 5, "StorageError": 7}.items():
        assert f"| `{name}` | {code} |" in failures


def test_a_setting_without_a_meaning_stops_the_page(monkeypatch):
    monkeypatch.setattr(generate.Settings, "__doc__", "What a person may choose.")
    with pytest.raises(KeyError):
        generate.settings()


@pytest.mark.parametrize("release", ["dp02", "dp1"])
def test_every_column_of_every_contract_stands_on_its_page(release):
    known = contracts.load(release)
    page = (DOCS / "reference" / "contracts" / f"{release}.md").read_text("utf-8")
    for contract in known.tables.values():
        if not (contract.dataset_types or contract.position):
            continue
        rows = re.findall(
            r"^\| `([^`]+)`(?: \(([^)]*)\))? \| (\w+) \| ([^|]*?) ?\|", section(page, contract.table), re.MULTILINE
        )
        shown = {
            (name.replace("{band}", band), datatype, unit.strip())
            for name, bands, datatype, unit in rows
            for band in ((bands or "u, g, r, i, z, y").split(", ") if "{band}" in name else [""])
        }
        assert shown == {(c.name, c.datatype, c.unit or "") for c in contract.columns}, contract.table


def test_only_columns_that_differ_in_a_band_alone_are_a_family():
    def column(name, unit=None, ucd=None):
        return Column(name, "double", None, unit, ucd)

    listed = [
        column("u_flux", "nJy"),
        column("x_flux", "nJy"),
        column("g_flux", "nJy"),
        column("i_flux", "Jy"),
        column("psf_r_flux", "nJy"),
        column("visit"),
    ]
    assert [(name, unit) for name, _, unit, _ in contract_pages.families(listed)] == [
        ("`{band}_flux` (u, g)", "nJy"),
        ("`x_flux`", "nJy"),
        ("`i_flux`", "Jy"),
        ("`psf_r_flux`", "nJy"),
        ("`visit`", None),
    ]


STEPS = (
    *("calexp", "goodSeeingDiff_differenceExp", "deepCoadd", "sourceTable", "diaSourceTable", "objectTable"),
    *("diaObjectTable_tract", "forcedSourceTable", "forcedSourceOnDiaObjectTable"),
    *("dataset_types", "data_ids", "tables()", "columns(", "photoz(", "sky_info(", "tractlake footprint", "report("),
)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_two_notebooks_is_run_beside_its_equal(step):
    page = (DOCS / "how-to" / "from-the-butler-and-tap.md").read_text("utf-8")
    assert any(step in block.code for block in blocks(page) if not block.not_executed)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=named)
def test_a_page_is_light_and_names_no_machine(page):
    text = page.read_text("utf-8")
    assert len(text) < MOST_BYTES
    assert not re.findall(r"/(?:root|tmp|home)/\S*", text)
    fences = re.findall(r"^ *```(\S+)", text, re.MULTILINE)
    assert set(fences) <= {*RUN, "text", "toml", "json"}


def test_what_is_not_executed_says_why():
    for page in PAGES:
        for comment in re.findall(r"<!-- not executed.*?-->", page.read_text("utf-8")):
            assert re.fullmatch(r"<!-- not executed: \S.{10,} -->", comment), (page, comment)


def test_figures_are_small():
    figures = list(DOCS.rglob("*.png"))
    assert figures
    assert all(path.stat().st_size < 200_000 for path in figures)


def test_blocks_are_found_with_what_is_shown_of_them():
    text = (
        "```sh\none\n```\n\n```text\nout\n```\n\nWords.\n\n```text\nnot its output\n```\n"
        "<!-- not executed: needs a store -->\n```python\ntwo\n```\nWords.\n```text\nneither\n```\n"
    )
    first, second = blocks(text)
    assert (first.code, first.line, first.shown, first.shown_line, first.not_executed) == ("one\n", 2, "out\n", 6, None)
    assert (second.code, second.shown, second.not_executed) == ("two\n", None, "needs a store")


def test_headings_are_what_does_not_depend_on_the_sky():
    lines = (
        "shape: (1, 2)",
        "┌──┬──┐",
        "│ tract ┆ rows │",
        "│ i64   ┆ u32 │",
        "╞══╪══╡",
        "│ 3831  ┆ many │",
        "└──┴──┘",
    )
    assert headings("\n".join(lines)) == {"tract", "rows", "i64", "u32"}
    assert headings("table  rows\nObject  12\n") == {"table", "rows"}
    assert headings("") == set()
