"""The report's numbers are those that one counts by hand, and its page names every figure that it shows."""

import json
import math
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from support.report_rows import BANDS, frame, row
from support.small_truth import MATCHES, OBJECT, TRUTH, SmallTruth, match_row, object_row, truth_row
from warehouse.errors import NotFoundError, StorageError
from warehouse.lake import delta
from warehouse.truth import report
from warehouse.truth.materialise import materialise
from warehouse.truth.report_counts import COARSE_MAGNITUDE, REDSHIFT, Layout, added, counted, quantile
from warehouse.truth.report_figures import COLOURS, SYMBOLS, figures

LAYOUT = Layout(BANDS, tuple(np.linspace(-1, 1, 11)), tuple(np.linspace(-38, -36, 11)), 62.0)

ROWS = [
    *(row("matched", magnitude=20.1, measured=20.2, offset_arcsec=0.1, redshift=0.52) for _ in range(15)),
    *(row("matched", magnitude=25.1, measured=25.0, redshift=1.02, truth_type=2) for _ in range(5)),
    *(row("missed", magnitude=25.1, redshift=2.02) for _ in range(15)),
    *(row("unmatched_object", measured=25.05) for _ in range(10)),
]


def at(edges, value):
    return int(np.searchsorted(edges, value) - 1)


def test_counts_are_those_of_the_rows():
    counts = counted(frame(ROWS), LAYOUT)
    assert [int(counts[name][0]) for name in ("matched", "missed", "unmatched_object")] == [20, 15, 10]
    faint = at(COARSE_MAGNITUDE, 25.1)
    assert (counts["truth r"][faint], counts["found r"][faint]) == (20, 5)
    assert (counts["objects g"][faint], counts["explained g"][faint]) == (15, 5)
    assert counts["redshift"][at(REDSHIFT, 0.52)] == counts["redshift matched"][at(REDSHIFT, 0.52)] == 15
    assert counts["redshift"][at(REDSHIFT, 2.02)] == 15
    assert counts["redshift matched"].sum() == 15  # stars have none that is worth drawing
    assert counts["sky"].sum() == counts["sky"].max() == 45


def test_counts_of_parts_add_up_to_those_of_the_whole():
    whole = counted(frame(ROWS), LAYOUT)
    parts = added([counted(frame(ROWS[:7]), LAYOUT), counted(frame(ROWS[7:]), LAYOUT), counted(frame([]), LAYOUT)])
    assert parts.keys() == whole.keys()
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_values_that_are_no_magnitude_are_counted_nowhere():
    nothing = row("matched", magnitude=20.0, measured=20.0) | {f"obj_{band}_cModelFlux": -3.0 for band in BANDS}
    counts = counted(frame([nothing]), LAYOUT)
    assert counts["magnitude r"].sum() == counts["flux r"].sum() == counts["residual r"].sum() == 0
    assert counts["found r"].sum() == 1


def test_a_footprint_across_ra_0_is_one_piece():
    layout = Layout(BANDS, tuple(np.linspace(-1, 1, 11)), tuple(np.linspace(-38, -36, 11)), 0.0)
    counts = counted(frame([row("missed", magnitude=20, ra=359.9), row("missed", magnitude=20, ra=0.1)]), layout)
    rows = np.flatnonzero(counts["sky"].sum(axis=1))
    assert rows.tolist() == [4, 5]


@pytest.mark.parametrize("share", [0.1587, 0.5, 0.8413])
def test_quantiles_of_a_histogram_are_those_of_the_values(share):
    values = np.random.default_rng(4).normal(0.3, 0.2, 100_000)
    edges = np.linspace(-2, 2, 401)
    assert quantile(np.histogram(values, edges)[0], edges, share) == pytest.approx(
        np.quantile(values, share), abs=0.005
    )


def test_of_no_values_there_is_no_quantile():
    assert math.isnan(quantile(np.zeros(4, np.int64), np.arange(5.0), 0.5))


def test_the_numbers_under_the_figures_are_those_of_the_rows():
    drawn = {figure.name: figure for figure in figures(counted(frame(ROWS), LAYOUT), LAYOUT)}
    assert list(drawn) == ["footprint", "completeness", "offsets", "magnitudes", "fluxes", "colours", "redshifts"]
    assert drawn["footprint"].rows[0][1] == "20"
    north = drawn["offsets"].rows[1]
    assert north[:2] == ("Dec", "20")
    by_band = {cells[0]: cells for cells in drawn["completeness"].rows}
    assert by_band["r"][1:5] == ("35", "20", "30", "20")
    assert drawn["redshifts"].rows[0][1] == "30"
    medians = {cells[0]: float(cells[2]) for cells in drawn["magnitudes"].rows}
    assert medians == pytest.approx({"g": 100.0, "r": 100.0}, abs=2)


def test_the_numbers_of_fluxes_and_colours_are_those_of_the_rows():
    rng = np.random.default_rng(7)
    flux = {
        (kind, band): 10 ** (0.4 * (31.4 - 22 - redder - rng.normal(0, 0.2, 500)))
        for kind, redder_by in (("true", 0.0), ("measured", 0.1))
        for band, redder in (("g", 0.9 + redder_by), ("r", 0.2))
    }
    flux["measured", "g"][:30] = -5.0
    flux["measured", "r"][20:60] = np.nan
    names = {("true", b): f"ts_flux_{b}" for b in BANDS} | {("measured", b): f"obj_{b}_cModelFlux" for b in BANDS}
    rows = [
        row("matched", magnitude=22, measured=22) | {names[key]: float(values[n]) for key, values in flux.items()}
        for n in range(500)
    ]
    table = frame([*rows, *ROWS[20:]]).fill_nan(None)
    drawn = {figure.name: figure for figure in figures(counted(table, LAYOUT), LAYOUT)}
    positive = {"g": np.arange(30, 500), "r": np.r_[0:20, 60:500]}
    for (band, number, true, measured), which in zip(drawn["fluxes"].rows, positive.values(), strict=True):
        assert (band, number) == (band, str(len(which)))
        for kind, said in (("true", true), ("measured", measured)):
            # To half a cell's width.
            assert float(said.replace(",", "")) == pytest.approx(np.median(flux[kind, band][which]), rel=0.06)
    assert [cells[0] for cells in drawn["fluxes"].rows] == list(positive)

    both = np.arange(60, 500)
    for cells, kind, which in zip(drawn["colours"].rows, ("true", "measured"), (np.arange(500), both), strict=True):
        colour = 2.5 * np.log10(flux[kind, "r"][which] / flux[kind, "g"][which])
        low, middle, high = np.quantile(colour, [0.1587, 0.5, 0.8413])
        assert cells[:2] == (f"{kind} g - r", str(len(which)))
        assert [float(text) for text in cells[2:]] == pytest.approx([middle, (high - low) / 2], abs=0.03)


def test_half_completeness_lies_between_the_bins_that_tell():
    rows = [
        *(row("matched", magnitude=24.1, measured=24.1) for _ in range(20)),
        *(row("matched", magnitude=24.4, measured=24.4) for _ in range(5)),
        *(row("missed", magnitude=24.4) for _ in range(15)),
    ]
    drawn = {figure.name: figure for figure in figures(counted(frame(rows), LAYOUT), LAYOUT)}
    # 100 % at 24.125, 25 % at 24.375: half of it at two thirds of the way.
    assert drawn["completeness"].rows[1][5] == "24.3"


def test_bands_have_the_colours_that_rubin_gives_them():
    assert COLOURS == {
        "u": "#56b4e9",
        "g": "#008060",
        "r": "#ff4000",
        "i": "#850000",
        "z": "#6600cc",
        "y": "#000000",
    }
    assert SYMBOLS == {"u": "o", "g": "^", "r": "v", "i": "s", "z": "*", "y": "p"}
    lines = {
        line.get_label(): (line.get_color(), line.get_marker())
        for figure in figures(counted(frame(ROWS), LAYOUT), LAYOUT)
        if figure.name == "completeness"
        for line in figure.figure.axes[0].get_lines()
    }
    assert lines == {band: (COLOURS[band], SYMBOLS[band]) for band in BANDS}


class Page(HTMLParser):
    """What a page holds: images, ids and links."""

    def __init__(self, text):
        super().__init__()
        self.images, self.ids, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def world(tmp_path, settings):
    world = SmallTruth.at(tmp_path / "ware & <house>", settings)
    world.put(OBJECT, 3831, [object_row(n, n % 3) for n in range(30)])
    world.put(TRUTH, 3831, [truth_row(n, n % 3) for n in range(40)])
    world.put(MATCHES, 3831, [match_row(n, n if n < 28 else None, n % 3) for n in range(40)])
    materialise(world.root, settings)
    return world


def write(world, out):
    snapshot = delta.snapshot(world.root.table_uri("ObjectTruth"), world.settings)
    return report.write(world.root, snapshot, out, world.settings)


def test_the_page_shows_every_figure_with_its_numbers(world, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROWS", 10)
    done = write(world, tmp_path / "report")
    assert done.counts == {"matched": 28, "missed": 12, "unmatched_object": 2}
    text = done.page.read_text("utf-8")
    page = Page(text)
    assert [image["src"] for image in page.images] == [path.name for path in done.images]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in done.images)
    assert page.links == [f"#{name}" for name in page.ids]
    assert all(image["alt"] for image in page.images)
    assert "28 of 40 truth rows that were match candidates have an object (70.0 %)" in text
    assert any("ware & <house>" in word for word in page.words)  # escaped, and so whole
    said = json.loads((tmp_path / "report" / "numbers.json").read_text("utf-8"))
    assert said["counts"] == done.counts
    assert said["versions"]["ObjectTruth"] == 1
    assert len(said["figures"]) == len(done.images) == 7


def test_a_report_of_no_rows_says_so(world, tmp_path):
    for table in (OBJECT, TRUTH, MATCHES):
        world.put(table, 3831, [])
    materialise(world.root, world.settings)
    with pytest.raises(NotFoundError, match="no rows to report on"):
        write(world, tmp_path / "report")


def test_a_folder_that_cannot_be_written_is_named(world, tmp_path):
    (tmp_path / "report").write_text("a file", "utf-8")
    with pytest.raises(StorageError, match="writing"):
        write(world, tmp_path / "report")


def test_a_table_of_objects_only_can_be_drawn(world, tmp_path):
    world.put(TRUTH, 3831, [])
    materialise(world.root, world.settings)
    assert write(world, tmp_path / "report").counts == {"matched": 0, "missed": 0, "unmatched_object": 30}
    assert pl.read_json(tmp_path / "report" / "numbers.json").height == 1
