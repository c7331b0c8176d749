"""The commands match, materialise, photoz and report: what they take, say, and exit with."""

import json
from dataclasses import asdict, replace

import polars as pl
import pytest
from typer.testing import CliRunner

from flows import truthing
from flows.cli import app
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import QualityError, QueryError
from warehouse.lake import delta
from warehouse.simulate import simulate
from warehouse.truth.match import MatchSettings
from warehouse.truth.matching import MatchReport
from warehouse.truth.materialise import Staleness

TABLES = ("Object", "TruthSummary")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A warehouse of truth and objects, without matches."""
    folder = tmp_path_factory.mktemp("commands")
    simulate(str(folder / "tree"), objects=400, radius=0.05, tables=TABLES)
    wh = Warehouse.create(str(folder / "warehouse"), settings=Settings(workers=2))
    wh.ingest_tree(str(folder / "tree"))
    return wh.uri


@pytest.fixture
def run(uri):
    def run(*words, expected=0):
        outcome = CliRunner().invoke(app, [*map(str, words), "--warehouse", uri])
        if expected is not None and outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        assert outcome.exit_code == expected, outcome.output
        return outcome.output

    return run


def test_from_truth_and_objects_to_a_photoz_file_and_a_page(run, uri, tmp_path):
    first = json.loads(run("match", "--direct", "--json"))
    again = json.loads(run("match", "--json"))  # nothing to do, and so no server
    assert again["version"] == first["version"]
    assert again["nothing_new"]
    made = json.loads(run("materialise", "--direct", "--json"))
    assert made["rows"] == Warehouse.open(uri).scan("ObjectTruth").collect().height
    assert "up to date" in run("materialise", "--status")
    assert json.loads(run("materialise", "--json"))["nothing_new"]
    cuts = ("--limit", "i=17:25.5", "--limit", "r=:26", "--errors", "--train-fraction", 0.8)
    shown = json.loads(run("photoz", *cuts, "--json"))
    assert shown
    assert all(17 < row["obj_i_cModelMag"] < 25.5 and row["split"] in {"train", "test"} for row in shown)
    out = tmp_path / "set.parquet"
    assert json.loads(run("photoz", *cuts, "--out", out, "--json")) == {"out": str(out), "rows": len(shown)}
    assert pl.read_parquet(out).height == len(shown)
    page = tmp_path / "report" / "index.html"
    assert json.loads(run("report", "--out", page.parent, "--json"))["page"] == str(page)
    assert page.exists()


def test_the_status_tells_versions_and_reasons():
    found = Staleness(None, {}, {"Object": 3}, {7: ["never made"]})
    assert truthing.staleness_lines(found) == [
        "ObjectTruth has never been made (Object - -> 3)",
        "  tract 7: never made",
    ]
    stale = Staleness(4, {"Object": 2}, {"Object": 3}, {7: ["Object: 1 file new", "failed before: x"]})
    assert truthing.staleness_lines(stale) == [
        "ObjectTruth version 4 is behind in 1 tract (Object 2 -> 3)",
        "  tract 7: Object: 1 file new; failed before: x",
    ]


def test_a_run_says_what_it_did_where_and_why_and_what_it_left():
    counts, failed = {"rows": 1200, "matched": 7}, {2: "key"}
    report = MatchReport(3, MatchSettings(), {1: ["Object: 1 file new"], 4: ["never matched"]}, counts, failed, 1.25)
    assert truthing.lines(truthing.match_summary(report)) == [
        "MatchesTruth: 1,200 rows in 2 tracts made again, version 3, 1.2 s",
        "  7 matched",
        "  tract 1: Object: 1 file new",
        "  tract 4: never matched",
        "  tract 2 is left as it was: key",
    ]


def test_what_is_made_for_the_first_time_is_not_said_to_be_made_again():
    report = MatchReport(3, MatchSettings(), {1: ["never matched"]}, {"rows": 1200, "matched": 7}, {}, 1.25)
    assert truthing.lines(truthing.match_summary(report)) == [
        "MatchesTruth: 1,200 rows in 1 tract made, version 3, 1.2 s",
        "  7 matched",
    ]


def test_of_many_tracts_the_first_tell():
    said = truthing.reasons({tract: ["never made"] for tract in range(30)})
    assert len(said) == 21
    assert said[-1] == "  ... and 10 more tracts"


@pytest.mark.parametrize("text", ["i", "i=", "=17:26", "i=17", "i=a:b"])
def test_a_magnitude_limit_that_is_none_is_refused(run, text):
    with pytest.raises(QueryError, match=r"i=17:25\.3"):
        run("photoz", "--limit", text)


def test_a_failed_tract_is_an_exit_code(run, monkeypatch):
    summary = {"failed": {1: "a key stands twice"}, "nothing_new": False, "table": "ObjectTruth", "version": 2}
    summary |= {"rows": 0, "counts": {}, "tracts": {}, "seconds": 0.1}
    monkeypatch.setattr(truthing, "materialise", lambda *_, **__: summary)
    said = run("materialise", "--direct", expected=QualityError.exit_code)
    assert "tract 1 is left as it was: a key stands twice" in said


def test_bands_and_more_columns_are_a_choice(uri):
    wh = Warehouse.open(uri)
    assert truthing.choose(wh, None, None) is None
    choice = truthing.choose(wh, ["g", "r"], ["parentObjectId"])
    assert choice.bands == ("g", "r")
    assert "parentObjectId" in choice.columns
    assert "refExtendedness" in choice.columns


def last_match(uri):
    notes = [c.metadata["match"] for c in delta.commits(f"{uri}/MatchesTruth", Settings()) if "match" in c.metadata]
    return MatchSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in notes[-1]["how"].items()})


def test_settings_of_the_match_that_are_not_given_stay_as_they_were(run, uri):
    """Each run gives some settings only; what the run before had been told holds on."""
    told = {"radius_arcsec": 0.5, "magnitude_limit": 27.0, "bands": ("u", "g", "r", "i", "z", "y")}
    at_first = MatchSettings(**told, published_quirk=False)
    bands = ",".join(at_first.bands)
    run("match", "--direct", "--radius-arcsec", 0.5, "--magnitude-limit", 27, "--bands", bands, "--no-published-quirk")
    for words, changed in (
        (["--published-quirk"], {"published_quirk": True}),
        (["--radius-arcsec", 0.3], {"radius_arcsec": 0.3}),
        (["--magnitude-limit", 26], {"magnitude_limit": 26.0}),
        (["--bands", "g,r,i"], {"bands": ("g", "r", "i")}),
        ([], {}),
        (["--no-published-quirk"], {"published_quirk": False}),
        (["--radius-arcsec", 0.5, "--magnitude-limit", 27, "--bands", bands], told),
    ):
        at_first = replace(at_first, **changed)
        found = json.loads(run("match", "--direct", "--json", *words))
        assert found["nothing_new"] == (not words)
        assert found["how"] == json.loads(json.dumps(asdict(at_first)))
        assert last_match(uri) == at_first


def test_settings_of_a_first_match_are_the_releases_with_what_was_told(tmp_path):
    wh = Warehouse.create(str(tmp_path / "warehouse"), release="dp02")
    assert truthing._how(wh, None) is None
    assert truthing._how(wh, {"published_quirk": None, "bands": None}) is None
    assert truthing._how(wh, {"radius_arcsec": 0.3, "bands": ["g", "r"]}) == MatchSettings(
        radius_arcsec=0.3, bands=("g", "r")
    )
