"""The benchmarks' harness: commands are run, watched and limited, figures kept and shown. Nothing is timed here."""

import importlib
import json
import os
import select
import sys
from pathlib import Path

import astropy.io.fits
import numpy as np
import polars as pl
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import scripts that are no package; forget them afterwards."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def measure(load, monkeypatch, tmp_path):
    module = load("measure")
    monkeypatch.setattr(module, "WORK", tmp_path / "work")
    monkeypatch.setattr(module, "tree_resident", lambda _: 0)  # psutil belongs to the benchmarks' environment
    return module


def python(code):
    return [sys.executable, "-c", code]


def test_a_contender_is_known_by_its_last_line(measure):
    said = measure.run(python("print('noise'); print('{\"seconds\": 1.5, \"rows\": 7}')"))
    assert (said["seconds"], said["rows"]) == (1.5, 7)
    assert said["megabytes"] >= 0


def test_a_contender_that_fails_says_its_last_words(measure):
    with pytest.raises(measure.FailedError, match="ValueError: no such thing"):
        measure.run(python("raise ValueError('no such thing')"))


def test_a_slow_contender_is_ended_with_its_children(measure, tmp_path):
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(measure.SlowError, match="> 3 s"):
        measure.run(python(code), patience=3)
    pid = int((tmp_path / "pid").read_text())
    try:
        ending = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    # It has been sent its signal, and may need a moment for its end.
    assert select.select([ending], [], [], 60)[0]
    os.close(ending)


def test_a_contender_above_its_memory_is_killed(measure):
    with pytest.raises(measure.FailedError, match="killed at"):
        measure.run(python("import time; held = bytearray(200 << 20); time.sleep(600)"), limit=100 << 20, patience=60)


def test_a_short_peak_of_memory_is_seen(measure):
    code = "import time; held = bytearray(200 << 20); del held; time.sleep(0.5); print('{\"seconds\": 0}')"
    assert measure.run(python(code))["megabytes"] > 200


def test_rows_lost_are_a_failure_and_end_a_contender(measure):
    calls = []

    def lossy():
        calls.append(1)
        return {"seconds": 1.0, "rows": 9}

    rounds = {"lossy": 3, "good": 3, "once": 1}
    good = {"seconds": 2.0, "cpu_seconds": 3.0, "rows": 10, "files": 4}
    contenders = {"lossy": lossy, "good": lambda: dict(good), "once": lambda: dict(good)}
    timings = {t.name: t for t in measure.side_by_side(contenders, rounds, expected_rows=10)}
    assert timings["lossy"].error == "9 rows of 10"
    assert len(calls) == 1
    assert timings["good"].seconds == [2.0, 2.0, 2.0]
    assert timings["once"].seconds == [2.0]
    assert timings["good"].record() == {
        "name": "good", "median_s": 2.0, "seconds": [2.0, 2.0, 2.0], "cpu_s": 3.0, "rows": 10, "files": 4,
    }  # fmt: skip


def test_figures_are_kept_with_machine_and_command(measure, tmp_path):
    path = measure.save("positions", "make bench ARGS=positions", [{"rows": 1}], where=tmp_path / "results")
    kept = json.loads(path.read_text())
    assert kept["command"] == "make bench ARGS=positions"
    assert kept["machine"]["cores"] >= 1
    assert kept["results"] == [{"rows": 1}]


JOB = {
    "job": "Object", "scale": 1.0, "rows": 75_000, "files": 2, "gigabytes": 0.3,
    "targets": {"floor": 2.0, "write_deltalake": 6.0, "hats-import": 12.0},
    "contenders": [
        {"name": "floor", "median_s": 1.0, "seconds": [1.0]},
        {"name": "tractlake", "median_s": 2.0, "seconds": [2.0], "peak_mb": 1234},
        {"name": "write_deltalake", "median_s": 15.0, "seconds": [15.0]},
        {"name": "hats-import", "median_s": None, "seconds": [], "error": "> 120 s"},
    ],
}  # fmt: skip


def test_an_ingest_is_shown_as_ratios_to_ours(load):
    lines = load("render").job(JOB).splitlines()
    assert lines[0] == "**Object**: 75,000 rows in 2 files, 0.3 GB"
    assert lines[4] == "| floor | 1 | 0.50 | >= 0.50 |  |  |  |  |"
    assert lines[5] == "| tractlake | 2 | 1.00 |  |  | 1,234 |  |  |"
    assert lines[6] == "| write_deltalake | 15 | 7.50 | >= 6 |  |  |  |  |"
    assert lines[7] == "| hats-import | > 120 s |  | >= 12 |  |  |  |  |"


def test_remarks_outlive_a_new_rendering(load):
    render, machine = load("render"), load("measure").machine()
    kept = {"ingest": {"machine": machine, "command": "make bench ARGS=ingest", "results": [JOB]}}
    first = render.document(kept, ["ingest"], "")
    assert "make bench ARGS=ingest" in first
    assert render.remarks(first) == ""
    second = render.document(kept, ["ingest"], render.remarks(first + "Measured at night.\n".replace("None yet.", "")))
    assert render.remarks(second).endswith("Measured at night.")


def test_any_figures_become_a_table(load):
    render = load("render")
    lines = [{"sky": "a tract", "ours_s": 0.1}, {"sky": "a crowd", "times_faster": 1500}]
    assert render.section("match", lines).splitlines() == [
        "| sky | ours s | times faster |",
        "|---|---|---|",
        "| a tract | 0.1 |  |",
        "| a crowd |  | 1,500 |",
    ]
    nested = {"python": "3", "source": {"rows": 5, "astropy": {"read_s": 2.0}}}
    assert render.section("fits", nested).splitlines()[0] == "| what | rows | astropy read s |"


def test_printed_json_is_read_whole_or_by_lines(load):
    run = load("run")
    assert run.parsed('{"a": 1}') == {"a": 1}
    assert run.parsed('{"a": 1}\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]


def test_an_unknown_benchmark_is_refused(load, capsys):
    assert load("run").main(["tables"]) == 2
    assert "there are: all, render, positions, ingest, prefect, memory" in capsys.readouterr().err


def test_every_job_has_inputs_of_its_table_and_contenders_that_exist(load):
    ingest, contenders = load("ingest"), load("contenders")
    for job in ingest.JOBS.values():
        assert job.arguments(0.1)["tables"] == [job.table]
        assert set(job.targets) <= set(job.contenders)
        assert {ingest.OURS, ingest.BOUNDED} <= set(job.contenders)
        assert job.make in contenders.CONTENDERS
    assert {"ours", "floor", "naive", "duckdb", "hats", "acid"} <= set(contenders.CONTENDERS)


@pytest.mark.parametrize(
    ("ra", "dec", "tract", "patch"),
    [(56.64971166122064, -36.44625321395279, 3828, 24), (53.01240743567535, -34.1195835309739, 4225, 3)],
)
def test_the_peers_formulas_give_published_places(load, ra, dec, tract, patch):
    positions = load("positions")
    found = positions.whole_array(positions.np.array([ra]), positions.np.array([dec]))
    assert (int(found[0][0]), int(found[1][0])) == (tract, patch)


def test_duckdbs_formula_is_the_sky_maps(load):
    positions = load("positions")
    random = positions.np.random.default_rng(3)
    ra, dec = random.uniform(49, 75, 2000), random.uniform(-44, -27, 2000)
    tract, patch = positions.by_sql(ra, dec, 1)()
    expected = load("warehouse.sky.skymap").named("DC2").find(ra, dec)
    assert (tract == expected[0]).all()
    assert (patch == expected[1]).all()


def test_the_benchmark_of_fits_compares_nulls(load, tmp_path):
    fits = load("fits")
    path = tmp_path / "source.fits"
    fits.write_source(path, 300)
    ours = fits.ours(path, 1, None)
    nulls = ours[fits.NULLED].is_null()
    assert 0 < nulls.sum() < 300
    assert fits.stored_nulls(path) == {fits.NULLED: -999}
    with astropy.io.fits.open(path) as opened:
        raw = np.array(opened[1].data)  # as fitsio gives the rows: TNULL's value stands where there is none
    assert (raw[fits.NULLED] == -999).tolist() == nulls.to_list()
    numbers = [name for name, dtype in ours.schema.items() if dtype != pl.Boolean]  # these raw bytes are T and F
    for read, names in ((fits.by_astropy(path, None), ours.columns), (raw, numbers)):
        theirs = fits.frame(read, names, fits.stored_nulls(path))
        assert [name for name in names if not fits.same(ours[name], theirs[name])] == []
    assert not fits.same(ours[fits.NULLED], ours[fits.NULLED].fill_null(-999))
