"""The flows on a real Prefect server: deployed, scheduled, run by a real worker, run by the command, interrupted."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table

from flows import serving
from support import misplaced, skies
from support.joined import by_hand, said
from support.prefect_server import ROOT, PrefectServer, prefect_server, prefect_worker
from warehouse import Warehouse
from warehouse.errors import InputError, NotFoundError, StorageError
from warehouse.simulate.damage import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("prefect")]

TABLES = {"objectTable": "Object", "sourceTable_visit": "Source"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return skies.make(tmp_path_factory.mktemp("tree"), TABLES)


@pytest.fixture(scope="module")
def deployed(server, tree, tmp_path_factory):
    """The server with a worker and the deployments, and the warehouse that they name."""
    folder = tmp_path_factory.mktemp("worker")
    warehouse = folder / "warehouse"
    with prefect_worker(server, folder, "tractlake"):
        server.command(
            *("--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml"),
            TRACTLAKE_WAREHOUSE=str(warehouse),
            TRACTLAKE_INPUTS=str(tree),
        )
        yield server, warehouse


FLOWS = {"ad-hoc": "ingest", "nightly": "nightly"}


def deployment(server: PrefectServer, name: str):
    found = server.ask(f"/deployments/name/{FLOWS[name]}/{name}")
    assert found is not None
    return found


def start(server: PrefectServer, name: str, **parameters):
    path = f"/deployments/{deployment(server, name)['id']}/create_flow_run"
    return server.finished(server.ask(path, {"parameters": parameters})["id"])


def flow_run_into(server: PrefectServer, warehouse: Path):
    """Return the one flow run that was asked to fill this warehouse."""
    runs = server.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["ingest"]}}})
    [run] = [run for run in runs if run["parameters"].get("warehouse") == str(warehouse)]
    return run


def completed_tasks(server: PrefectServer, flow_run_id: str):
    asked = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    return {run["name"] for run in server.ask("/task_runs/filter", asked)}


def ended_tasks(server: PrefectServer, flow_run_id: str, number: int):
    """Return the names of a flow run's completed tasks once the server knows of so many."""

    def enough():
        names = completed_tasks(server, flow_run_id)
        return names if len(names) >= number else None

    return server.wait(enough, f"{number} tasks of {flow_run_id}")


def artifact(server: PrefectServer, run, key: str) -> str:
    """Return what a run's one artifact of a key says; of a run that has failed Prefect keeps the error as another."""
    asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [key]}}}
    [found] = server.ask("/artifacts/filter", asked)
    return found["data"]


def delivered(tree: Path, dataset_type: str) -> int:
    files = [path for path in tree.rglob("*.parq") if f"/{dataset_type}/" in str(path)]
    return sum(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in files)


def rows(warehouse: Path, table: str) -> int:
    return Warehouse.open(str(warehouse)).scan(table).select(pl.len()).collect().item()


def tractlake(*arguments) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def run_tractlake(server: PrefectServer, *arguments, **environment):
    told = server.environment | environment
    return subprocess.run(tractlake(*arguments), cwd=ROOT, env=told, capture_output=True, text=True, check=False)


def without_server(server: PrefectServer, home: Path) -> dict[str, str]:
    """Return the environment of a command that finds no server."""
    return {k: v for k, v in server.environment.items() if k != "PREFECT_API_URL"} | {"PREFECT_HOME": str(home)}


def states(home: Path, of: str) -> set[str]:
    """Return the states that a server of the command's own has recorded, of its flow runs or task runs."""
    return recorded(home, f"select state_name from {of}")  # noqa: S608 - a table's name


def recorded(home: Path, query: str) -> set[str]:
    with closing(sqlite3.connect(home / "prefect.db")) as records:
        return {name for (name,) in records.execute(query)}


def test_a_worker_runs_what_is_deployed_and_fills_the_warehouse(deployed, tree):
    server, warehouse = deployed
    run = start(server, "ad-hoc", inputs=[str(tree)], workers=2)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    wh = Warehouse.open(str(warehouse))
    for dataset_type, table in TABLES.items():
        assert rows(warehouse, table) == delivered(tree, dataset_type) > 0
    assert all(finding.holds for finding in wh.audit())
    assert set(wh.history("Object")["run_id"]) == {run["id"]}

    visits = sorted(int(path.parent.name) for path in tree.rglob("sourceTable_visit*.parq"))
    expected = f"stage Source visits {visits[0]}-{visits[-1]}"
    assert server.wait(lambda: expected in completed_tasks(server, run["id"]), expected)

    [artifact] = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    assert artifact["type"] == "markdown"
    [told] = [line.split(" | ") for line in artifact["data"].splitlines() if line.startswith("| Object ")]
    assert f"{delivered(tree, 'objectTable'):,}" in told


def test_the_nightly_run_is_scheduled(deployed, tree):
    server, warehouse = deployed
    found = deployment(server, "nightly")
    [schedule] = found["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["timezone"] == "America/Santiago"
    assert found["parameters"] == {"warehouse": str(warehouse), "inputs": [str(tree)]}
    asked = {"deployments": {"id": {"any_": [found["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    assert server.wait(lambda: server.ask("/flow_runs/filter", asked), "scheduled runs")


def test_a_nightly_run_pins_what_it_brought_once_the_audit_holds(deployed, tree, tmp_path):
    server, _ = deployed
    warehouse = tmp_path / "nightly"
    run = start(server, "nightly", warehouse=str(warehouse), inputs=[str(tree)], workers=2)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    [pin] = Warehouse.open(str(warehouse)).pins()
    pinned = Warehouse.open(str(warehouse), release=pin.name)
    assert pinned.scan("Object").select(pl.len()).collect().item() == delivered(tree, "objectTable")
    again = start(server, "nightly", warehouse=str(warehouse), inputs=[str(tree)], workers=2)
    assert again["state"]["type"] == "COMPLETED", again["state"]
    assert Warehouse.open(str(warehouse)).pins() == [pin]

    Warehouse.open(str(warehouse)).unpin(pin.name)  # as if the run had ended just before it
    last = start(server, "nightly", warehouse=str(warehouse), inputs=[str(tree)], workers=2)
    assert last["state"]["type"] == "COMPLETED", last["state"]
    assert [made.versions for made in Warehouse.open(str(warehouse)).pins()] == [pin.versions]


def test_a_night_whose_audit_does_not_hold_pins_nothing_until_it_is_mended(deployed, tree, tmp_path):
    server, _ = deployed
    warehouse = tmp_path / "nightly"
    wh = Warehouse.create(str(warehouse))
    wh.ingest_tree(str(tree))
    path, (tract, patch) = misplaced.first(wh, "Object")
    moved = misplaced.move(wh, "Object", path, (tract, patch + 20))
    run = start(server, "nightly", warehouse=str(warehouse), inputs=[str(tree)], workers=2)
    assert run["state"]["type"] == "FAILED"
    assert "nothing was pinned; the first: position in its patch" in run["state"]["message"]
    assert "| Object |" in artifact(server, run, "nightly")
    assert wh.pins() == []
    misplaced.move(wh, "Object", moved, (tract, patch))
    mended = start(server, "nightly", warehouse=str(warehouse), inputs=[str(tree)], workers=2)
    assert mended["state"]["type"] == "COMPLETED", mended["state"]
    assert [pin.versions["Object"] for pin in wh.pins()] == [wh.version("Object")]


def test_a_nights_pin_holds_an_object_truth_that_is_up_to_date(deployed, tmp_path):
    server, _ = deployed
    types = ("objectTable", "truth_summary", "match_ref_truth_summary_objectTable_tract")
    inputs, warehouse = skies.make(tmp_path / "truth", types, objects=300), tmp_path / "warehouse"

    def night(**more) -> Warehouse:
        told = {"warehouse": str(warehouse), "inputs": [str(inputs)], "workers": 2, **more}
        run = start(server, "nightly", **told)
        assert run["state"]["type"] == "COMPLETED", run["state"]
        wh = Warehouse.open(str(warehouse))
        return Warehouse.open(str(warehouse), release=max(wh.pins(), key=lambda pin: pin.name).name)

    def is_the_join(wh) -> bool:
        truth, objects, matches = (wh.scan(name).collect() for name in ("TruthSummary", "Object", "MatchesTruth"))
        return said(wh.scan("ObjectTruth").collect()) == by_hand(matches, truth, objects)

    without = night(materialise=False)
    with pytest.raises(NotFoundError, match=r"when .* was pinned"):
        without.scan("ObjectTruth")
    first = night()
    assert is_the_join(first)
    path = next(path for path in inputs.rglob("*.parq") if f"/{types[2]}/" in str(path))
    rows = pl.read_parquet(path, glob=False)
    rows.with_columns(match_objectId=pl.lit(0, pl.Int64)).write_parquet(path)
    second = night()
    assert is_the_join(second)
    matched = [wh.scan("ObjectTruth").collect()["match_status"].eq("matched").sum() for wh in (first, second)]
    assert matched[1] < matched[0]
    assert len(Warehouse.open(str(warehouse)).pins()) == 3
    night()
    assert len(Warehouse.open(str(warehouse)).pins()) == 3


def test_the_form_of_a_deployment_is_typed_and_described(deployed):
    server, _ = deployed
    schema = deployment(server, "ad-hoc")["parameter_openapi_schema"]
    fields = schema["properties"]
    assert {"warehouse", "inputs"} <= set(schema["required"])
    assert all(field["description"] for field in fields.values())
    assert fields["remove_vanished"]["type"] == "boolean"
    assert fields["inputs"] == fields["inputs"] | {"type": "array", "items": {"type": "string"}}
    with pytest.raises(AssertionError, match="workers"):
        start(server, "ad-hoc", inputs=["x"], workers="many")


ATTEMPTS = """
from prefect import flow
from tasks import ingest, runner
from warehouse import errors
from warehouse.config import Settings
from warehouse.ingest.job import Job, StageUnit
from warehouse.lake.root import Root

calls, failures = [], []

def stage(job, unit, settings, on_event):
    calls.append(unit.label)
    if failures:
        raise failures.pop()("tried")
    return "done"

ingest.staging.stage = stage
ingest.stage = ingest.stage.with_options(retry_delay_seconds=0)
job = Job(Root("/nowhere", "dp02", "DC2", ""), "Object", "plan", "run", 0.01)

@flow
def steps():
    return runner.PrefectTasks().stage(job, [StageUnit("stage it", (), 1, False)], Settings(), told.append)

for name, times in (("StorageError", 2), ("ConflictError", 9), ("ContractError", 9)):
    told = []
    calls.clear()
    failures[:] = [getattr(errors, name)] * times
    try:
        outcome = steps()
    except errors.WarehouseError as error:
        outcome = type(error).__name__
    print(name, outcome, len(calls), [event.step for event in told])
"""


def test_only_what_may_pass_is_tried_again(server):
    program = [sys.executable, "-c", ATTEMPTS]
    done = subprocess.run(program, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "StorageError ['done'] 3 ['failed', 'failed']",
        "ConflictError ConflictError 4 ['failed', 'failed', 'failed']",
        "ContractError ContractError 1 []",
    ]


def test_a_flow_that_refuses_an_input_commits_the_rest_says_so_and_has_failed(server, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    files = sorted(path for path in (tmp_path / "tree").rglob("*.parq") if "/objectTable/" in str(path))
    KINDS["truncated"](str(files[0]), seed=1)
    warehouse = tmp_path / "warehouse"
    done = run_tractlake(server, "ingest", "-w", warehouse, tmp_path / "tree", COLUMNS="80")
    assert done.returncode == InputError.exit_code, done.stderr
    assert files[0].name in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "refused" not in line) <= 80
    assert "prefect" not in (done.stdout + done.stderr).lower()
    good = sum(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in files[1:])
    assert rows(warehouse, "Object") == good
    assert rows(warehouse, "Source") == delivered(tree, "sourceTable_visit")
    assert flow_run_into(server, warehouse)["state"]["type"] == "FAILED"


def test_a_flow_reads_the_hdu_that_is_named(server, tmp_path):
    path, warehouse = tmp_path / "night.fits", tmp_path / "warehouse"
    first, second = (
        fits.table_to_hdu(
            Table({"sourceId": np.arange(start, start + 3), "coord_ra": [62.0] * 3, "coord_dec": [-37.0] * 3})
        )
        for start in (1, 11)
    )
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(path)
    done = run_tractlake(server, "ingest", "-w", warehouse, "--table", "Source", "--hdu", "2", path)
    assert done.returncode == 0, done.stderr
    found = Warehouse.open(str(warehouse)).scan("Source").select("sourceId").collect()["sourceId"]
    assert sorted(found) == [11, 12, 13]
    assert flow_run_into(server, warehouse)["parameters"]["hdu"] == "2"


def test_sigterm_ends_a_flow_in_order_and_the_next_run_goes_on(server, tree, tmp_path):
    warehouse = tmp_path / "warehouse"
    command = tractlake("ingest", "-w", warehouse, tree, "--workers", 1)
    with subprocess.Popen(command, cwd=ROOT, env=server.environment, stderr=subprocess.PIPE, text=True) as process:
        assert "to read" in process.stderr.readline()
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 143, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert flow_run_into(server, warehouse)["state"]["type"] == "CRASHED"
    assert run_tractlake(server, "ingest", "--direct", "-w", warehouse, tree).returncode == 0
    assert rows(warehouse, "Object") == delivered(tree, "objectTable")
    assert all(finding.holds for finding in Warehouse.open(str(warehouse)).audit())


TRUTH_FLOWS = """
import json, sys
from flows import truth
warehouse, out = sys.argv[1:]
print(json.dumps([
    truth.match_truth(warehouse),
    truth.materialise_matches(warehouse),
    truth.photoz(warehouse, f"{out}/set.hdf5", errors=True, train_fraction=0.8),
    truth.report(warehouse, f"{out}/report"),
]))
"""


def test_the_flows_of_truth_run_in_tasks_and_end_as_the_library_does(server, tmp_path):
    wh = Warehouse.create(str(tmp_path / "warehouse"))
    wh.ingest_tree(str(skies.make(tmp_path / "tree", {"objectTable": "Object", "truth_summary": "TruthSummary"})))
    program = [sys.executable, "-c", TRUTH_FLOWS, wh.uri, str(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    matched, joined, written, drawn = json.loads(done.stdout.splitlines()[-1])
    assert matched["rows"] == rows(tmp_path / "warehouse", "TruthSummary")
    assert joined["rows"] == rows(tmp_path / "warehouse", "ObjectTruth")
    assert written["rows"] == wh.photoz().select(pl.len()).collect().item() > 0
    with h5py.File(tmp_path / "set.hdf5") as file:
        assert file["photometry/mag_err_i_lsst"].shape == (written["rows"],)
    statuses = dict(wh.scan("ObjectTruth").collect()["match_status"].value_counts().iter_rows())
    assert {name: n for name, n in drawn.items() if name != "page" and n} == statuses
    assert Path(drawn["page"]).read_text("utf-8").startswith("<!doctype html>")

    tracts = sorted(matched["tracts"])
    assert len(tracts) == 2
    for flow, tasks, artifacts in (
        ("match_truth", {f"match tract {tract}" for tract in tracts}, {"match-truth"}),
        ("materialise_matches", {f"join tract {tract}" for tract in tracts}, {"materialise-matches"}),
        ("photoz", {"photoz"}, {"photoz"}),
        ("report", {"report"}, {"truth-report", "truth-report-page"}),
    ):
        runs = server.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
        [run] = [run for run in runs if run["parameters"]["warehouse"] == wh.uri]
        assert run["state"]["type"] == "COMPLETED"
        assert {name.partition("-")[0] for name in ended_tasks(server, run["id"], len(tasks))} == tasks
        found = server.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
        assert {artifact["key"] for artifact in found} == artifacts


FAILING_TRACTS = """
import json, sys
from flows import truthing
from warehouse.errors import ContractError
from warehouse.truth import joining, matching

work = {matching: matching._matched, joining: joining._joined}
def broken(module):
    def made(unit, settings):
        if unit.tract == int(sys.argv[2]):
            raise ContractError("a key stands twice")
        return work[module](unit, settings)
    return made
matching._matched, joining._joined = broken(matching), broken(joining)
words = {"warehouse": sys.argv[1], "memory": None, "workers": None}
matched = truthing.run("match", {**words, "how": None, "replace_files": False}, direct=False, quiet=True)
matching._matched = work[matching]
truthing.match(sys.argv[1])
joined = truthing.run("materialise", {**words, "bands": None, "columns": None}, direct=False, quiet=True)
print(json.dumps([matched, joined]))
"""


def test_flows_that_leave_a_tract_behind_commit_the_rest_say_so_and_have_failed(server, tmp_path):
    wh = Warehouse.create(str(tmp_path / "warehouse"))
    wh.ingest_tree(str(skies.make(tmp_path / "tree", {"objectTable": "Object", "truth_summary": "TruthSummary"})))
    bad, good = sorted(wh.scan("TruthSummary").select("tract").unique().collect()["tract"])
    program = [sys.executable, "-c", FAILING_TRACTS, wh.uri, str(bad)]
    done = subprocess.run(program, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for flow, summary in zip(
        ("match_truth", "materialise_matches"), json.loads(done.stdout.splitlines()[-1]), strict=True
    ):
        assert (list(summary["tracts"]), list(summary["failed"])) == ([str(good)], [str(bad)])
        runs = server.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
        [run] = [run for run in runs if run["parameters"]["warehouse"] == wh.uri]
        assert run["state"]["type"] == "FAILED"
        assert (
            f"1 tract stayed behind, all else is committed; tract {bad}: a key stands twice" in run["state"]["message"]
        )
        assert f"tract {bad} is left as it was" in artifact(server, run, flow.replace("_", "-"))
    assert set(wh.scan("ObjectTruth").collect()["tract"]) == {good}


def test_the_demo_shows_every_step_on_a_server_of_its_own(server, tmp_path):
    out = tmp_path / "demo"
    environment = without_server(server, out / "prefect") | {"COLUMNS": "80"}
    command = tractlake("demo", "--out", out, "--objects", 500, "--visits", 2, "--json")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("ForcedSourceOnDiaObject", "checks hold", "nothing new", "wh.scan(", "footprint.png"):
        assert word in done.stderr
    told = json.loads(done.stdout)
    assert all(Path(path).is_file() for path in told["files"])
    assert {row["table"]: row["rows"] for row in told["tables"]}["Object"] == rows(out / "warehouse", "Object")
    assert all(finding["wrong"] == 0 for finding in told["audit"])
    assert {"Object", "MatchesTruth"} <= {summary["table"] for summary in told["ingested"]}
    assert (out / "footprint.png").read_bytes().startswith(b"\x89PNG")
    assert states(out / "prefect", "flow_run") == {"Completed"}
    assert states(out / "prefect", "task_run") == {"Completed"}
    events = recorded(out / "prefect", "select event from events")
    assert "prefect.flow-run.Completed" in events
    assert "prefect.flow-run.heartbeat" not in events  # each would make its run wait for a whole second
    script = [sys.executable, out / "queries.py"]
    queries = subprocess.run(
        script, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert "galaxies" in queries.stdout
    wh = Warehouse.open(str(out / "warehouse"))
    assert len(wh.scan("Object").collect_schema()) >= 991
    assert rows(out / "warehouse", "CoaddPatches") > 0


def test_a_server_of_ones_own_is_out_of_reach_of_ctrl_c_and_leaves_with_its_starter(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with (tmp_path / "log").open("w+b") as log, serving._server(0, log) as process:
        assert os.getpgid(process.pid) != os.getpgid(0)  # a terminal interrupts one group of processes
        process.stdin.close()  # what becomes of the pipe when this process is killed
        assert process.wait(60) != 0
        process.stdin = None


def test_a_server_that_does_not_answer_is_named(server, tree, tmp_path):
    nobody = "http://127.0.0.1:9/api"
    done = run_tractlake(server, "ingest", "-w", tmp_path / "warehouse", tree, PREFECT_API_URL=nobody)
    assert done.returncode == StorageError.exit_code
    assert nobody in done.stderr
    assert "--direct" in done.stderr
