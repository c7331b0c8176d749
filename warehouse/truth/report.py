"""What is measured against what is true: a static page with figures from ObjectTruth, and numbers under each.

Belongs here: from a version of the table to files in a folder. What is counted is `warehouse.truth.report_counts`, what
is drawn `warehouse.truth.report_figures`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from warehouse.config import Settings
from warehouse.contracts.derived import MATCHED, MISSED, OBJECT_TRUTH, UNMATCHED_OBJECT
from warehouse.errors import NotFoundError
from warehouse.faults import translated
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root
from warehouse.truth import tables
from warehouse.truth.materialise import Origin, origin
from warehouse.truth.report_counts import SKY_CELLS, Counts, Layout, added, bands_of, counted
from warehouse.truth.report_figures import Drawn, figures
from warehouse.truth.tables import Slice

PAGE = "index.html"
NUMBERS = "numbers.json"
# Rows that are counted at a time.
ROWS = 250_000
_MARGIN = 0.02


@dataclass(frozen=True)
class TruthReport:
    """A report that was written: its page, its images, and the number of rows of each match status.

    `tables` are the numbers under each figure: its title, the headings, and the rows.
    """

    page: Path
    images: tuple[Path, ...]
    counts: Mapping[str, int]
    tables: tuple[tuple[str, Sequence[str], Sequence[Sequence[str]]], ...] = field(default=())


def write(root: Root, snapshot: Snapshot, out: str | os.PathLike[str], settings: Settings) -> TruthReport:
    """Write the page of a version of ObjectTruth into the folder `out`; files of the same names are replaced.

    Raises
    ------
    NotFoundError
        The table holds no rows.
    StorageError
        A file cannot be read or written.
    """
    made_of = origin(root, snapshot, settings)
    slices = list(tables.by_tract(snapshot).values())
    if not slices:
        raise NotFoundError("the table holds no rows to report on", kind="rows", table=OBJECT_TRUTH, uri=root.uri)
    layout = _layout(snapshot, made_of)
    counts = _counted(slices, layout, made_of, settings)
    folder = Path(out)
    images, sections, links, numbers = [], [], [], []
    with translated(str(folder), "writing"):
        folder.mkdir(parents=True, exist_ok=True)
        for drawn in figures(counts, layout):
            images.append(_saved(drawn, folder))
            sections.append(_section(drawn))
            links.append(f'<a href="#{drawn.name}">{escape(drawn.title)}</a>')
            numbers.append((drawn.title, drawn.headings, drawn.rows))
        totals = {name: int(counts[name][0]) for name in (MATCHED, MISSED, UNMATCHED_OBJECT)}
        page = folder / PAGE
        page.write_text(_page(root, made_of, totals, sections, links), encoding="utf-8")
        said = {"warehouse": root.uri, "versions": dict(made_of.versions), "counts": totals, "figures": numbers}
        (folder / NUMBERS).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return TruthReport(page, tuple(images), totals, tuple(numbers))


def _layout(snapshot: Snapshot, made_of: Origin) -> Layout:
    """Return the layout of the counts; the extent of the footprint is told by the statistics in the log."""
    limits = snapshot.files.select("min.ra_deg", "max.ra_deg", "min.dec_deg", "max.dec_deg").drop_nulls()
    west, east, south, north = (limits[name].to_numpy() for name in limits.columns)
    angle = np.radians(0.5 * (west + east))
    # A whole degree, so that the axis has round numbers.
    middle = float(round(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()))) % 360)
    # A file that holds RA 0 in its middle has limits that are a whole turn apart, and says nothing of its extent.
    narrow = east - west < 180
    turned = [(ends[narrow] - middle + 180) % 360 - 180 for ends in (west, east)]
    low, high = (float(turned[0].min()), float(turned[1].max())) if narrow.any() else (-180.0, 180.0)
    return Layout(
        bands=bands_of(made_of.contract),
        east=_edges(low, high),
        north=_edges(float(south.min()), float(north.max())),
        middle=middle,
    )


def _edges(low: float, high: float) -> tuple[float, ...]:
    margin = max(_MARGIN * (high - low), 1e-4)
    return tuple(np.linspace(low - margin, high + margin, SKY_CELLS + 1).tolist())


def _counted(slices: Sequence[Slice], layout: Layout, made_of: Origin, settings: Settings) -> Counts:
    def count(part: Slice) -> Counts:
        return counted(tables.read(part, made_of.contract, layout.columns(), settings), layout)

    with ThreadPoolExecutor(max_workers=settings.workers) as pool:
        return added(list(pool.map(count, _parts(slices))))


def _parts(slices: Sequence[Slice]) -> Iterator[Slice]:
    """Yield the files of all tracts, about `ROWS` rows at a time."""
    for part in slices:
        held: list[int] = []
        rows = 0
        for number, file in enumerate(part.files):
            held.append(number)
            rows += file.rows
            if rows >= ROWS:
                yield part.take(held)
                held, rows = [], 0
        if held:
            yield part.take(held)


def _saved(drawn: Drawn, folder: Path) -> Path:
    path = folder / f"{drawn.name}.png"
    drawn.figure.savefig(path, format="png", metadata={"Title": drawn.title})
    return path


def _section(drawn: Drawn) -> str:
    heads = "".join(f'<th scope="col">{escape(word)}</th>' for word in drawn.headings)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in drawn.rows)
    width, height = (round(inches * drawn.figure.dpi) for inches in drawn.figure.get_size_inches())
    return "\n".join(
        (
            f'<section id="{drawn.name}">',
            f"<h2>{escape(drawn.title)}</h2>",
            f"<p>{escape(drawn.caption)}</p>",
            f'<img src="{drawn.name}.png" alt="{escape(drawn.title)}" width="{width}" height="{height}">',
            f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>',
            "</section>",
        )
    )


def _page(root: Root, made_of: Origin, totals: Mapping[str, int], sections: Sequence[str], links: Sequence[str]) -> str:
    truth = totals[MATCHED] + totals[MISSED]
    share = f"{100 * totals[MATCHED] / truth:.1f} %" if truth else "none"
    summary = (
        f"{totals[MATCHED]:,} of {truth:,} truth rows that were match candidates have an object ({share}); "
        f"{totals[UNMATCHED_OBJECT]:,} primary objects have no truth row."
    )
    versions = ", ".join(f"{table} {version}" for table, version in made_of.versions.items())
    template = Template(files("warehouse.truth").joinpath("report_page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"Truth and measurement: {root.release}"),
        summary=escape(summary),
        links="\n".join(links),
        sections="\n".join(sections),
        footer=escape(f"Warehouse {root.uri}; versions: {versions}."),
    )
