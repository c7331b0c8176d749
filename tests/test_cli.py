"""The command: what it prints, what it exits with, and that it ends in order."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.table import Table
from polars.testing import assert_frame_equal

from flows import cli, display
from support import content, images, skies, small_warehouse
from warehouse import Cone, Warehouse, errors
from warehouse.config import Settings
from warehouse.simulate import images as images_module
from warehouse.simulate.damage import KINDS

ROOT = Path(__file__).parents[1]
TYPES = ["objectTable", "sourceTable_visit", "forcedSourceTable", "visitTable", "ccdVisitTable"]
CENTRE = (skies.CORNER["ra"], skies.CORNER["dec"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return skies.make(tmp_path_factory.mktemp("tree"), TYPES)


@pytest.fixture(scope="module")
def loaded(tree, tmp_path_factory) -> Warehouse:
    uri = str(tmp_path_factory.mktemp("loaded") / "warehouse")
    wh = Warehouse.create(uri, settings=Settings(workers=2))
    wh.ingest_tree(str(tree))
    return wh


@pytest.fixture(scope="module")
def pictured(tmp_path_factory) -> Warehouse:
    """A warehouse with images and ObjectTruth."""
    folder = tmp_path_factory.mktemp("pictured")
    wh = Warehouse.open(str(small_warehouse.simulated().copy(folder)), settings=small_warehouse.SETTINGS)
    images.make(folder / "images")
    wh.register_images(str(folder / "images"))
    wh.materialise()
    return wh


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process, in a terminal of 80 characters; return exit code, output and errors."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["tractlake", *map(str, arguments)])
        monkeypatch.setattr(display.console, "width", 80)
        monkeypatch.setattr(display.errors, "width", 80)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return command


@pytest.fixture
def on(run, loaded, monkeypatch):
    """Run the command on the loaded warehouse, which it finds by the environment; return what it prints."""
    monkeypatch.setenv("TRACTLAKE_WAREHOUSE", loaded.uri)

    def command(*arguments):
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    return command


def commands():
    listed = cli.app.registered_commands
    return {command.callback.__name__.replace("_", "-") for command in listed}


def test_every_command_has_help_that_fits(run):
    for name in sorted(commands()):
        code, out, _ = run(name, "--help")
        assert code == 0
        assert "Usage: tractlake" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("tables",),
        ("columns", "MatchesTruth"),
        ("scan", "Object"),
        ("scan", "Object", "--columns", "objectId,coord_ra,coord_dec,refBand"),
        ("dataset-types",),
        ("data-ids", "objectTable"),
        ("sky-info", "Object"),
        ("history",),
        ("audit",),
        ("maintain", "--dry-run"),
        ("pins",),
        ("sql", "SELECT band, COUNT(*) AS n FROM Source GROUP BY band"),
    ],
    ids=" ".join,
)
def test_tables_fit_80_characters_and_say_the_same_as_json(on, arguments):
    printed = on(*arguments)
    assert printed.strip()
    assert max(map(len, printed.splitlines())) <= 80
    assert isinstance(json.loads(on(*arguments, "--json")), list)


def test_tables_and_columns_are_the_warehouses(on, loaded):
    assert json.loads(on("tables", "--json")) == loaded.tables().to_dicts()
    assert json.loads(on("columns", "Source", "--json")) == loaded.columns("Source").to_dicts()


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (("--cone", *CENTRE, 0.02), Cone(*CENTRE, 0.02)),
        (("--cone", *CENTRE, 0.02, "--primary"), Cone(*CENTRE, 0.02)),
        (("--tract", 3831), 3831),
    ],
    ids=["cone", "primary", "tract"],
)
def test_a_scan_gives_the_rows_of_its_region(on, loaded, region, expected):
    found = json.loads(on("scan", "Object", *region, "--columns", "objectId,detect_isPrimary", "--json"))
    rows = loaded.scan("Object", expected, primary="--primary" in region).select("objectId").collect()
    assert 0 < rows.height < loaded.scan("Object").select(pl.len()).collect().item()
    assert {row["objectId"] for row in found} == set(rows["objectId"])


def test_box_and_polygon_are_the_same_place_where_they_should_be(on):
    ra, dec = CENTRE
    box = on("scan", "Object", "--box", ra - 0.02, ra + 0.02, dec - 0.01, dec + 0.01, "--columns", "objectId", "--json")
    corners = ((-0.02, -0.01), (0.02, -0.01), (0.02, 0.01), (-0.02, 0.01))
    polygon = " ".join(f"{ra + east},{dec + north}" for east, north in corners)
    # Great circles leave the parallels by some microdegrees, so that a row may lie between the two.
    other = on("scan", "Object", "--polygon", polygon, "--columns", "objectId", "--json")
    assert len(json.loads(box)) == pytest.approx(len(json.loads(other)), abs=1)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow", "jsonl", "fits", "ecsv", "vot"])
def test_rows_are_saved_in_the_format_that_the_name_says(on, loaded, tmp_path, suffix):
    out = tmp_path / f"cone of objects.{suffix}"
    said = on("scan", "Object", "--cone", *CENTRE, 0.02, "--columns", "objectId,coord_ra,refBand", "--out", out)
    expected = loaded.scan("Object", Cone(*CENTRE, 0.02), columns=["objectId", "coord_ra", "refBand"]).collect()
    read = {
        "parquet": pl.read_parquet,
        "csv": pl.read_csv,
        "arrow": pl.read_ipc,
        "jsonl": pl.read_ndjson,
    }
    if suffix in read:
        found = read[suffix](out).to_dicts()
    else:
        table = Table.read(out)
        assert str(table["coord_ra"].unit) == "deg"
        found = [{name: row[name] for name in table.colnames} for row in table]
    assert f"{expected.height:,} rows" in said
    assert sorted(int(row["objectId"]) for row in found) == sorted(expected["objectId"])
    assert [str(row["refBand"]) for row in sorted(found, key=lambda row: row["objectId"])] == expected.sort("objectId")[
        "refBand"
    ].to_list()


def test_a_dataset_is_got_by_its_data_id(on, tree, tmp_path):
    [first, *_] = sorted(path for path in tree.rglob("*.parq") if "/objectTable/" in str(path))
    tract, patch = first.parts[-3:-1]
    on("get", "objectTable", f"tract={tract}", f"patch={patch}", "--out", tmp_path / "patch.parquet")
    assert (
        pl.read_parquet(tmp_path / "patch.parquet").height == pl.scan_parquet(first).select(pl.len()).collect().item()
    )


def test_a_light_curve_is_in_order_of_time(on, loaded):
    busiest = loaded.scan("ForcedSource").group_by("objectId").len().sort("len").last().collect()["objectId"].item()
    rows = json.loads(on("lightcurve", "--object-id", busiest, "--json"))
    times = [row["expMidptMJD"] for row in rows]
    assert len(times) > 1
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("table", "flux", "words"),
    [
        ("ForcedSource", "psfFlux", ("--object-id",)),
        ("ForcedSourceOnDiaObject", "psfFlux", ("--dia-object-id",)),
        ("DiaSource", "psFlux", ("--detections", "--dia-object-id")),
    ],
)
def test_a_saved_light_curve_tells_units_of_fluxes_and_times(run, pictured, tmp_path, table, flux, words):
    column = "objectId" if table == "ForcedSource" else "diaObjectId"
    [number] = pictured.scan(table).select(pl.col(column).drop_nulls().first()).collect()[column]
    out = tmp_path / "lc.ecsv"
    code, _, err = run("lightcurve", *words, number, "--warehouse", pictured.uri, "--out", out)
    assert code == 0, err
    read = Table.read(out)
    assert len(read) > 0
    assert (str(read["expMidptMJD"].unit), str(read[flux].unit)) == ("d", "nJy")
    assert read["visit"].description


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_tables_of_our_own_and_moments_are_saved_for_astropy(run, pictured, tmp_path, suffix):
    unlike = {"ObjectTruth": ("obj_i_cModelFlux", "nJy"), "Image": ("radius_deg", "deg"), "Visit": ("expTime", "s")}
    for table, (column, unit) in unlike.items():
        out = tmp_path / f"{table}.{suffix}"
        code, _, err = run("scan", table, "--warehouse", pictured.uri, "--out", out)
        assert code == 0, err
        read, expected = Table.read(out), pictured.scan(table).collect()
        assert (len(read), str(read[column].unit)) == (expected.height, unit)
        values = np.ma.filled(np.ma.asarray(read[column]), math.nan)
        assert values.tolist() == pytest.approx(expected[column].fill_null(math.nan).to_list(), nan_ok=True)
        if table == "Visit":
            moments = [datetime.fromisoformat(str(text)) for text in read["expMidpt"]]
            assert moments == [moment.replace(tzinfo=None) for moment in expected["expMidpt"]]
        if table == "Image":
            assert [str(text).split(",") for text in read["mask_planes"]] == expected["mask_planes"].to_list()
            assert [list(touched) for touched in read["touches"]] == expected["touches"].to_list()


def test_the_footprint_is_drawn(on, tmp_path):
    on("footprint", "--out", tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_pin_is_made_read_listed_and_removed(on):
    assert "dr1" in on("pin", "dr1")
    assert [pin["name"] for pin in json.loads(on("pins", "--json"))] == ["dr1"]
    pinned = on("scan", "Object", "--version", "dr1", "--columns", "objectId", "--json")
    assert json.loads(pinned) == json.loads(on("scan", "Object", "--version", "1", "--columns", "objectId", "--json"))
    on("unpin", "dr1")
    assert json.loads(on("pins", "--json")) == []


def test_every_question_is_answered_as_of_a_version(on, run, loaded, tmp_path):
    busiest = loaded.scan("ForcedSource").group_by("objectId").len().sort("len").last().collect()["objectId"].item()
    on("pin", "then")
    for ask in (
        ("sql", "SELECT objectId FROM Object"),
        ("lightcurve", "--object-id", busiest),
        ("data-ids", "objectTable"),
        ("sky-info", "Object"),
    ):
        now = json.loads(on(*ask, "--json"))
        assert now == json.loads(on(*ask, "--json", "--version", "then"))
        assert json.loads(on(*ask, "--json", "--version", "0")) == [] != now
    code, _, err = run("footprint", "--version", "0", "--out", tmp_path / "map.png")
    assert (code, "no rows" in err) == (errors.QueryError.exit_code, True)
    on("footprint", "--version", "then", "--out", tmp_path / "map.png")
    on("unpin", "then")


def test_rows_are_counted_where_they_lie(on, loaded):
    assert json.loads(on("sky-info", "Source", "--json")) == loaded.sky_info("Source").to_dicts()
    some = json.loads(on("sky-info", "Source", "--cone", *CENTRE, 0.02, "--no-means", "--json"))
    expected = loaded.sky_info("Source", Cone(*CENTRE, 0.02), means=False).drop("ra_mean_deg", "dec_mean_deg")
    assert some == expected.to_dicts()
    assert 0 < sum(row["rows"] for row in some) < loaded.sky_info("Source")["rows"].sum()
    [first] = {row["tract"] for row in some[:1]}
    told = json.loads(on("sky-info", "Source", "--tract", first, "--no-means", "--json"))
    assert {row["tract"] for row in told} == {first}
    assert not any("ra_mean_deg" in row for row in told)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("1", "rows"),  # is a version's number, too
        ("29991231", "no version 29991231"),
        ("2999-12-31", "rows"),  # and these are moments
        ("2999W011", "rows"),
        ("2999-11", "no pinned release '2999-11'"),
    ],
)
def test_a_pin_named_like_a_number_or_a_moment_is_what_its_name_means(on, run, loaded, name, without):
    ask = ("scan", "Object", "--version", name, "--columns", "objectId", "--json")
    pin = Path(loaded.uri, "_pins", f"{name}.json")
    pin.parent.mkdir(exist_ok=True)
    pin.write_text(json.dumps({"name": name, "created_at": "2026-11-01", "versions": {"Object": 0}}))
    assert json.loads(on(*ask)) == []
    on("unpin", name)
    code, out, err = run(*ask)
    assert (len(json.loads(out)) > 100) if without == "rows" else (code and without in " ".join(err.split()))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("scan", "Objet"), errors.NotFoundError, "Object"),
        (("scan", "Object", "--columns", "coord_rá"), errors.NotFoundError, "coord_ra"),
        (("scan", "Object", "--version", "99"), errors.NotFoundError, "99"),
        (("scan", "Object", "--cone", "1", "91", "1"), errors.QueryError, "91"),
        (("scan", "Object", "--cone", "1", "1", "1", "--tract", "3"), errors.QueryError, "--tract"),
        (("scan", "Object", "--patch", "3"), errors.QueryError, "--tract"),
        (("scan", "Object", "--polygon", "1 2 3"), errors.QueryError, "RA,DEC"),
        (("scan", "Object", "--out", "x.xlsx"), errors.QueryError, ".parquet"),
        (("scan", "Object", "--out", "/nowhere/at/all/x.parquet"), errors.StorageError, "/nowhere/at/all"),
        (("sql", "SELECT 1", "--out", "x.fits"), errors.QueryError, "one table"),
        (("sql", "DROP TABLE Object"), errors.QueryError, "SELECT"),
        (("scan", "Object", "--columns", ""), errors.QueryError, "expected names, separated by commas, found ''"),
        (("scan", "Object", "--columns", ","), errors.QueryError, "found ','"),
        (("get", "objectTable", "tract"), errors.QueryError, "tract=4431"),
        (("get", "objectTable", "tract=1", "patch=1"), errors.NotFoundError, "tract=1"),
        (("get", "objectTable", "tract=1", "tract=2"), errors.QueryError, "found tract=1 and tract=2"),
        (("get", "objectTable", "tract=1", "columns=objectId"), errors.QueryError, "objectTable has no 'columns'"),
        (("get", "objectTable", "tract=1", "version=1"), errors.QueryError, "objectTable has no 'version'"),
        (("get", "objectTable", "self=1"), errors.QueryError, "objectTable has no 'self'"),
        (("data-ids", "objectTable", "dataset_type=x"), errors.QueryError, "objectTable has no 'dataset_type'"),
        (("data-ids", "objectTable", "version=1"), errors.QueryError, "objectTable has no 'version'"),
        (("data-ids", "objectTable", "columns=1"), errors.QueryError, "no 'columns'"),
        (("footprint", "--out", "s3://bucket/x.png"), errors.QueryError, "s3://bucket/x.png: expected a local file"),
        (("report", "--out", "s3://bucket/report"), errors.QueryError, "s3://bucket/report: expected a local folder"),
        (("footprint", "--out", "x.jpg"), errors.QueryError, "ends with .png"),
        (("images", "show", "calexp", "--out", "s3://bucket/x.png"), errors.QueryError, "a local file"),
        (("images", "show", "calexp", "--out", "x.jpg"), errors.QueryError, "ends with .png"),
        (("images", "cutout", "--at", "1", "1", "--out", "s3://bucket/x.fits"), errors.QueryError, ".png or .fits"),
        (("images", "cutout", "--at", "1", "1", "--out", "x.jpg"), errors.QueryError, "ends with .png or .fits"),
        (("ingest",), errors.QueryError, "--butler"),
        (("ingest", "/nowhere/at/all", "--direct"), errors.NotFoundError, "/nowhere/at/all"),
        # Without a word of a server, which none of these needs.
        (("ingest", "/nowhere/at/all"), errors.NotFoundError, "/nowhere/at/all"),
        (("ingest", "/", "--table", "Sauce"), errors.NotFoundError, "Source"),
        (("images", "register", "/nowhere/at/all"), errors.NotFoundError, "/nowhere/at/all"),
        (("ingest", "x", "--memory", "little", "--direct"), errors.QueryError, "such as 8GiB, found 'little'"),
        (("ingest", "x", "--memory", "12"), errors.QueryError, "12 bytes is less than 512.0MiB"),
        (("ingest", "x", "--memory", "12"), errors.QueryError, "write 12GiB"),
        (("ingest", "x", "--memory", "12MiB"), errors.QueryError, "write such as 8GiB"),
        (("ingest", "x", "--where", "visit > 1", "--direct"), errors.QueryError, "--butler"),
        (("ingest", "x", "--butler", "/nowhere", "--direct"), errors.QueryError, "--collections"),
        (("create", "--release", "dp03"), errors.NotFoundError, "dp02"),
        (("unpin", "dr9"), errors.NotFoundError, "dr9"),
    ],
)
def test_an_error_is_one_line_and_its_own_exit_code(run, loaded, monkeypatch, arguments, error, words):
    monkeypatch.setenv("TRACTLAKE_WAREHOUSE", loaded.uri)
    code, out, err = run(*arguments)
    assert code == error.exit_code
    assert out == ""
    assert err.startswith("tractlake: ")
    assert error.__name__ in err
    assert words in err


def test_a_setting_of_the_environment_that_is_none_is_one_line_too(run, loaded, monkeypatch):
    monkeypatch.setenv("TRACTLAKE_MEMORY", "12")
    for arguments in (("tables", "-w", loaded.uri), ("create", "-w", loaded.uri)):
        code, out, err = run(*arguments)
        assert (code, out) == (errors.QueryError.exit_code, "")
        assert "memory: 12 bytes is less than" in err


def test_every_command_answers_in_json(run):
    for name in sorted(commands()):
        assert "--json" in run(name, "--help")[1]


def test_a_warehouse_that_is_not_there_or_not_named_is_said(run, tmp_path):
    code, _, err = run("tables", "--warehouse", tmp_path / "none")
    assert code == errors.NotFoundError.exit_code
    assert "tractlake create" in err
    code, _, err = run("tables")
    assert code == 2
    assert "TRACTLAKE_WAREHOUSE" in err


def test_a_plan_is_shown_and_nothing_written(run, tree, tmp_path):
    warehouse = tmp_path / "warehouse"
    code, out, _ = run("ingest", "--dry-run", "-w", warehouse, tree)
    assert code == 0
    assert "nothing was written" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not warehouse.exists()
    plans = json.loads(run("ingest", "--dry-run", "--json", "-w", warehouse, tree)[1])["plans"]
    assert {plan["table"]: plan["counts"]["new"] for plan in plans} == {
        plan["table"]: sum(f"/{plan['dataset_type']}/" in str(path) for path in tree.rglob("*.parq")) for plan in plans
    }


def test_a_tree_is_ingested_once(run, tree, tmp_path):
    ingest = ("ingest", "--direct", "-w", tmp_path / "warehouse", tree)
    code, out, err = run(*ingest)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"^Object +\d+", out, re.MULTILINE)
    assert re.search(r"^Object: [\d,]+ inputs? to read", err, re.MULTILINE)
    code, out, _ = run(*ingest)
    assert (code, out.startswith("nothing new")) == (0, True)
    summaries = json.loads(run(*ingest, "--json")[1])
    assert all(summary["nothing_new"] for summary in summaries)


def test_one_table_and_one_dataset_type_are_loaded_as_told(run, tree, tmp_path):
    warehouse = tmp_path / "warehouse"
    run("ingest", "--direct", "-w", warehouse, "--dataset-type", "visitTable", tree)
    run("ingest", "--direct", "-w", warehouse, "--table", "CcdVisit", tree)
    found = Warehouse.open(str(warehouse)).tables().drop_nulls("version").filter(pl.col("rows") > 0)
    assert set(found["table"]) == {"Visit", "CcdVisit"}


def test_refused_inputs_are_named_kept_out_and_taken_up_again(run, tree, tmp_path):
    copy, warehouse = tmp_path / "tree", tmp_path / "warehouse"
    shutil.copytree(tree, copy)
    broken = max(copy.rglob("objectTable*.parq"), key=lambda path: path.stat().st_size)
    good = broken.read_bytes()
    KINDS["truncated"](str(broken), seed=1)
    code, out, _ = run("ingest", "--direct", "-w", warehouse, copy)
    assert code == errors.InputError.exit_code
    assert broken.name in out
    shown = run("quarantine", "-w", warehouse, "Object")[1]
    assert "whole input" in shown
    assert broken.name in shown
    told = json.loads(run("quarantine", "-w", warehouse, "--json")[1])
    assert told == Warehouse.open(str(warehouse)).quarantine().to_dicts()
    assert json.loads(run("quarantine", "-w", warehouse, "Source", "--json")[1]) == []
    assert run("quarantine", "-w", warehouse, "Sauce", "--json")[0] == errors.NotFoundError.exit_code
    assert run("quarantine", "--retry", "-w", warehouse)[0] == errors.InputError.exit_code
    broken.write_bytes(good)
    code, out, _ = run("quarantine", "--retry", "-w", warehouse)
    assert code == 0
    assert "nothing is set aside" in run("quarantine", "-w", warehouse)[1]


def test_a_table_that_contradicts_its_inputs_stops_itself_alone(run, tree, tmp_path):
    """Source is fed by visits, and ForcedSource, which comes after it, has never been loaded."""
    warehouse = tmp_path / "warehouse"
    ingest = ("ingest", "--direct", "-w", warehouse)
    assert run(*ingest, "--dataset-type", "sourceTable_visit", tree)[0] == 0
    wh = Warehouse.open(str(warehouse))
    held = content.fingerprint(wh, "Source")
    other = skies.make(tmp_path / "other", ["sourceTable", "forcedSourceTable"], objects=100, visits=2)
    code, out, _ = run(*ingest, other)
    assert code == errors.ContractError.exit_code
    assert "Source: nothing was ingested: the table is fed by sourceTable_visit" in out
    assert content.fingerprint(wh, "Source") == held
    forced = [path for path in other.rglob("*.parq") if "/forcedSourceTable/" in str(path)]
    assert content.same(wh, "ForcedSource", content.delivered(wh, "ForcedSource", forced))
    code, out, _ = run(*ingest, "--json", other)
    assert code == errors.ContractError.exit_code
    assert [(s["table"], s["nothing_new"], bool(s["error"])) for s in json.loads(out)] == [
        ("Source", False, True),
        ("ForcedSource", True, False),
    ]


def test_a_mistyped_input_leaves_no_warehouse_behind(run, tmp_path):
    warehouse = tmp_path / "warehouse"
    code, _, err = run("ingest", "--direct", "-w", warehouse, tmp_path / "nowhere")
    assert code == errors.NotFoundError.exit_code
    assert "nowhere" in err
    assert not warehouse.exists()


def test_an_audit_that_does_not_hold_exits_so(run, tree, tmp_path):
    warehouse = tmp_path / "warehouse"
    run("ingest", "--direct", "-w", warehouse, "--table", "Object", tree)
    next((warehouse / "Object").rglob("patch=*/*.parquet")).unlink()
    code, out, _ = run("audit", "-w", warehouse)
    assert code == errors.QualityError.exit_code
    assert re.search(r"^1 check of \d+ failed", out, re.MULTILINE)


def test_a_simulation_says_what_it_wrote(run, tmp_path):
    arguments = ("--out", tmp_path, "--radius", "0.02", "--objects", "50", "--visits", "1")
    written = json.loads(run("simulate", *arguments, "--json")[1])
    assert sum(written["files"].values()) == len(list(tmp_path.rglob("*.parq"))) > 0
    assert "objectTable" in run("simulate", *arguments)[1]


def test_a_simulation_has_images_and_fits_catalogues_where_told(run, tmp_path):
    plain, tree, warehouse = tmp_path / "plain", tmp_path / "tree", tmp_path / "warehouse"
    sky = ("--ra", CENTRE[0], "--dec", CENTRE[1], "--radius", "0.02", "--objects", "60", "--visits", "3")
    run("simulate", "--out", plain, *sky)
    written = json.loads(run("simulate", "--out", tree, *sky, "--fits", "--images", "--json")[1])
    paths = [*written["paths"], *written["images"]]
    assert sorted(paths) == sorted(str(path.relative_to(tree)) for path in tree.rglob("*.*") if path.is_file())
    sources = [tree / path for path in written["paths"] if "/sourceTable_visit/" in path]
    assert {path.suffix for path in sources} == {".fits"}
    assert written["files"]["sourceTable_visit"] == len(sources) > 1
    assert written["bytes"]["sourceTable_visit"] == sum(path.stat().st_size for path in sources)
    kinds = Counter(kind for kind in images_module.IMAGE_TYPES for path in written["images"] if f"/{kind}/" in path)
    assert kinds == {"deepCoadd": 1, "calexp": 18, "goodSeeingDiff_differenceExp": 18}

    assert run("ingest", "--direct", "-w", warehouse, tree)[0] == 0
    assert run("ingest", "--direct", "-w", tmp_path / "other", plain)[0] == 0
    ours, theirs = (Warehouse.open(str(uri)).scan("Source").drop("input_id") for uri in (warehouse, tmp_path / "other"))
    assert_frame_equal(ours.collect(), theirs.collect(), check_row_order=False)
    registered = json.loads(run("images", "register", tree, "--direct", "-w", warehouse, "--json")[1])
    assert registered["new"] == len(written["images"])
    assert "37 images: `tractlake images register" in run("simulate", "--out", tree, *sky, "--images")[1]


def test_of_a_demo_in_json_nothing_else_goes_to_the_output(run, monkeypatch):
    def shown(*_):
        display.say("a step")
        print("an answer")  # noqa: T201 - as the demo's queries do
        return {"files": ["map.png"]}

    monkeypatch.setattr("flows.demo.run", shown)
    code, out, err = run("demo", "--json")
    assert (code, json.loads(out)) == (0, {"files": ["map.png"]})
    assert err == "a step\nan answer\n"
    assert run("demo")[1] == "a step\nan answer\n"


def test_the_demo_leaves_a_folder_alone_that_is_not_its_own(run, tmp_path):
    (tmp_path / "thesis.tex").touch()
    code, _, err = run("demo", "--out", tmp_path)
    assert code == errors.QueryError.exit_code
    assert "--out" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_order_and_the_next_one_goes_on(run, tree, tmp_path, number, code):
    warehouse = tmp_path / "warehouse"
    ingest = ("ingest", "--direct", "--workers", "1", "-w", warehouse, tree)
    command = [sys.executable, "-m", "flows.cli", *map(str, ingest)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert "to read" in process.stderr.readline()
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == code, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert run(*ingest)[0] == 0
    assert run("audit", "-w", warehouse)[0] == 0
    expected = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in tree.rglob("objectTable*.parq"))
    assert Warehouse.open(str(warehouse)).scan("Object").select(pl.len()).collect().item() == expected


SAYS_WHAT_IT_LOADED = """
import sys
from flows.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", ["--help", "tables", "scan Object", "ingest --direct -w {new} {tree}"])
def test_what_runs_no_flow_loads_no_prefect(loaded, tree, tmp_path, arguments):
    words = arguments.format(new=tmp_path / "new", tree=tree).split()
    environment = {"TRACTLAKE_WAREHOUSE": loaded.uri, "PATH": "", "COLUMNS": "80"}
    command = [sys.executable, "-c", SAYS_WHAT_IT_LOADED, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    modules = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert "typer" in modules
    assert modules & {"prefect", "matplotlib", "fastapi", "sqlalchemy", "duckdb", "pandas"} == set()


def test_output_into_a_pipe_is_whole_lines(loaded):
    command = [sys.executable, "-m", "flows.cli", "columns", "Object", "--warehouse", loaded.uri]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + len(loaded.columns("Object"))
