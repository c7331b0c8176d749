"""The demo: a simulated piece of the DP0.2 sky goes through the whole of tractlake, and each step shows what it did.

It uses what everybody uses - the simulation, the flow `ingest`, the warehouse's verbs - and leaves all of it in one
folder, to go on with.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.syntax import Syntax

from flows import display, imaging, ingesting, simulating, truthing
from flows.serving import Ready, api
from warehouse import Cone, Warehouse
from warehouse.errors import QualityError, QueryError
from warehouse.lake.audit import Finding
from warehouse.query.footprint import footprint

RA_DEG, DEC_DEG, RADIUS_DEG = 62.0, -37.0, 0.5
SEED = 1
MARK = ".tractlake-demo"
FOLDERS = ("inputs", "images", "warehouse")

SETTING = """\
import polars as pl
from warehouse import Cone, Warehouse
from warehouse.query.expr import abmag

pl.Config.set_tbl_rows(20)
wh = Warehouse.open({warehouse!r})
centre = Cone(62.0, -37.0, 0.4)  # degrees
"""
COUNTS = """\
# Objects by magnitude: how many, which share is extended, how red?
print(
    wh.scan("Object", centre, primary=True)
    .select(
        r=abmag("r_cModelFlux").floor().cast(pl.Int8),
        g_r=abmag("g_cModelFlux") - abmag("r_cModelFlux"),
        extended=pl.col("refExtendedness"),
    )
    .filter(pl.col("r").is_between(18, 25))
    .group_by("r")
    .agg(pl.len(), pl.col("extended").mean(), pl.col("g_r").median())
    .sort("r")
    .collect()
)
"""
COMPLETENESS = """\
# True galaxies by magnitude: how many, and which share was found?
found = pl.col("match_objectId").is_not_null()
matches = wh.scan("MatchesTruth").select("id_truth_type", found=found)
print(
    wh.scan("TruthSummary", centre)
    .filter(pl.col("truth_type") == 1)
    .join(matches, on="id_truth_type")
    .group_by(r=pl.col("mag_r").floor().cast(pl.Int8))
    .agg(galaxies=pl.len(), found=pl.col("found").mean())
    .filter(pl.col("r").is_between(20, 28))
    .sort("r")
    .collect()
)
"""


def run(out: Path, objects: int, visits: int) -> dict[str, Any]:
    """Run the demo in the folder `out`; return what it left there and what its ingest and its audit found.

    Raises
    ------
    QueryError
        Something else is in the folder.
    QualityError
        The audit found something: a defect.
    """
    _prepare(out)
    inputs, images, warehouse = (str(out / name) for name in FOLDERS)
    with api(display.hint) as ready:
        with _step(f"A piece of sky: RA {RA_DEG:g}, Dec {DEC_DEG:g}, radius {RADIUS_DEG:g} degrees, as a Butler tree"):
            sky = simulating.Sky(RA_DEG, DEC_DEG, RADIUS_DEG, objects, visits, SEED)
            written = simulating.run(inputs, sky)
            display.simulated(written)
            simulating.as_fits(written, sky, last=1)
            count = len(simulating.images(images, sky))
            display.say(f"the sources of visit {written.visits[-1]} come as FITS; {count} images stand in {images}")
        with _step(f"Files in, tables out: tractlake ingest --warehouse {warehouse} {inputs}"):
            ingested = _ingest(warehouse, inputs, ready)
        with _step(f"Images by their headers: tractlake images register {images}"):
            for line in imaging.lines(imaging.as_flow(imaging.Request(warehouse, (images,)), ready)):
                display.say(line)
        with _step("The same tables once more"):
            request = ingesting.Request(warehouse=warehouse, inputs=(inputs,))
            display.summaries(ingesting.as_flow(request, ready, quiet=True))
    with _step("Measured and true, joined: tractlake materialise, photoz, report"):
        _truth(warehouse, out)
    with _step("Does it hold? tractlake audit"):
        findings = _audit(warehouse)
    for title, code in (("A question, in Polars", COUNTS), ("Another, across three tables", COMPLETENESS)):
        with _step(title):
            _ask(warehouse, code)
    with _step("Where is it? tractlake footprint"):
        wh = Warehouse.open(warehouse)
        title = f"tractlake demo: Object of {wh.root.release}"
        display.say(f"{footprint(wh.sky_info('Object', means=False), wh.skymap, out / 'footprint.png', title)}")
    with _step("What does it look like? tractlake images show deepCoadd"):
        display.say(f"{_show(warehouse, out / 'deepCoadd.png')}")
    script = out / "queries.py"
    script.write_text("\n".join((SETTING.format(warehouse=warehouse), COUNTS, COMPLETENESS)), encoding="utf-8")
    _farewell(out, script)
    files = ("footprint.png", "deepCoadd.png", "photoz.parquet", "report/index.html", script.name)
    return {
        "warehouse": warehouse,
        "tables": Warehouse.open(warehouse).tables().to_dicts(),
        "ingested": ingested,
        "audit": [asdict(finding) for finding in findings],
        "files": [str(out / name) for name in files],
    }


def _prepare(out: Path) -> None:
    """Make the folder, or empty the one that an earlier demo left."""
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise QueryError("the folder holds something else; choose another with --out", kind="demo", uri=str(out))
    for left in FOLDERS:
        shutil.rmtree(out / left, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    # The demo's server and its records stay in the demo's folder; a server that the environment names is used as it is.
    os.environ.setdefault("PREFECT_HOME", str((out / "prefect").absolute()))


@contextmanager
def _step(title: str) -> Iterator[None]:
    display.say(f"\n{title}\n", style="bold")
    started = time.monotonic()
    yield
    display.say(f"({time.monotonic() - started:.1f} s)", style="dim")


def _ingest(warehouse: str, inputs: str, ready: Ready) -> list[dict[str, Any]]:
    """Ingest the tree as a flow, and print a row a table; return a summary a table."""
    summaries = ingesting.as_flow(ingesting.Request(warehouse=warehouse, inputs=(inputs,)), ready)
    wh = Warehouse.open(warehouse)
    done = {summary["table"]: summary for summary in summaries}
    listed = [_row(wh, row, done.get(row["table"])) for row in wh.tables().iter_rows(named=True) if row["rows"]]
    headings = ("table", "rows", "tracts", "patches", "files", "MB", "quarantined", "rows/s")
    display.grid(headings, listed, wrap=("table",))
    for summary in summaries:
        for note in summary["notes"]:
            display.say(note)
    return summaries


def _row(wh: Warehouse, row: Mapping[str, Any], summary: Mapping[str, Any] | None) -> Sequence[Any]:
    """Return a table's row for the demo's table; what the sky map generated was not read from anywhere."""
    name = row["table"]
    places = wh.sky_info(name, means=False) if wh.root.contract(name).partitioned else None
    where = (None, None) if places is None else (places.get_column("tract").n_unique(), places.height)
    seconds = summary["seconds"] if summary else 0.0
    rate = round(summary["rows_read"] / seconds) if summary and seconds else None
    size = row["bytes"] / 1e6
    return name, row["rows"], *where, row["files"], size, summary["rows_quarantined"] if summary else None, rate


def _truth(warehouse: str, out: Path) -> None:
    """Make ObjectTruth, a photo-z set of it, and the page that looks at it."""
    for line in truthing.lines(truthing.materialise(warehouse)):
        display.say(line)
    wh = Warehouse.open(warehouse)
    rows = wh.write_photoz(out / "photoz.parquet", Cone(RA_DEG, DEC_DEG, RADIUS_DEG))
    display.say(f"photo-z set: {rows:,} galaxies in {out / 'photoz.parquet'}")
    wh.report(out / "report")
    display.say(f"figures: {out / 'report' / 'index.html'}")


def _show(warehouse: str, out: Path) -> Path:
    """Draw the registered coadd and return the picture's path."""
    from warehouse.images.show import draw

    wh = Warehouse.open(warehouse)
    row = wh.images(dataset_type="deepCoadd").sort("band").head(1).collect().row(0, named=True)
    data_id = {name: row[name] for name in ("tract", "patch", "band")}
    title = f"deepCoadd, tract {row['tract']}, patch {row['patch']}, {row['band']}"
    return draw(wh.get("deepCoadd", **data_id), str(out), title=title)


def _audit(warehouse: str) -> list[Finding]:
    findings = Warehouse.open(warehouse).audit()
    display.findings(findings, every=False)
    if not all(finding.holds for finding in findings):
        raise QualityError("the demo's warehouse does not hold what it should", kind="audit", uri=warehouse)
    return findings


def _ask(warehouse: str, code: str) -> None:
    """Print a query's code, run it, and so print its answer."""
    shown = Syntax(code.rstrip(), "python", theme="ansi_dark", background_color="default", word_wrap=False)
    display.console.print(Padding(shown, (0, 0, 1, 2)), soft_wrap=False)
    exec(SETTING.format(warehouse=warehouse) + code, {})  # noqa: S102 - our own text, run as it is shown


def _farewell(out: Path, script: Path) -> None:
    command = "tractlake"
    display.say("\nAll of it stays in this folder. To go on:\n", style="bold")
    if shutil.which(command) is None:
        display.say(f"  . {Path(os.path.relpath(sys.prefix)) / 'bin' / 'activate'}")
    centre = f"{RA_DEG:g} {DEC_DEG:g}"
    for line in (
        f"export TRACTLAKE_WAREHOUSE={out / 'warehouse'}",
        f"{command} tables",
        f"{command} scan Object --cone {centre} 0.05 --columns objectId,coord_ra,coord_dec,r_cModelFlux",
        f"{command} data-ids objectTable",
        f"{command} images list",
        f"{command} history Source",
        f"{Path(sys.executable).name} {script}",
    ):
        display.say(f"  {line}")
