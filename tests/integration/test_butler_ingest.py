"""A Butler repository as the input: its data ids, its runs and its collections decide what the tables hold."""

import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from support import content, skies
from support.butler import INSTRUMENT, make_repository, put
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.ingest.run import ingest_inputs
from warehouse.simulate.damage import KINDS

pytestmark = pytest.mark.integration

EARLY, LATE = "2.2i/runs/DP0.2/step3/20220317T233937Z", "2.2i/runs/DP0.2/step3/20220401T000000Z"
PATCHES, VISITS = "objectTable", "sourceTable_visit"
SETTINGS = Settings(memory=512 << 20, workers=2)


def data_id(path):
    """Return what a simulated file's folders tell."""
    if f"/{VISITS}/" in str(path):
        return VISITS, {"visit": int(path.parts[-2])}
    return PATCHES, {"tract": int(path.parts[-3]), "patch": int(path.parts[-2])}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with patches and visits of an early run, and one of each again of a late run."""
    folder = tmp_path_factory.mktemp("butler")
    tree = skies.make(folder / "tree", [PATCHES, VISITS], objects=120, visits=2, detectors=1)
    files = sorted(tree.rglob("*.parq"))
    places = [data_id(path)[1] for path in files]
    repository = folder / "repository"
    make_repository(
        repository,
        tracts=sorted({place["tract"] for place in places if "tract" in place}),
        patches=sorted({place["patch"] for place in places if "patch" in place}),
        visits=sorted({place["visit"] for place in places if "visit" in place}),
    )
    early = [Path(put(repository, EARLY, *data_id(path), pq.read_table(path))) for path in files]
    again = [next(path for path in files if f"/{name}/" in str(path)) for name in (PATCHES, VISITS)]
    for path in again:
        KINDS["changed_rows"](str(path))
    late = [Path(put(repository, LATE, *data_id(path), pq.read_table(path))) for path in again]
    return repository, early, late


@pytest.fixture
def wh(tmp_path):
    return Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)


def ingest(wh, repository, collections, dataset_types=(PATCHES, VISITS), where=None):
    listing = wh.list_butler(str(repository), collections, dataset_types, where=where)
    return {report.table: report for report in ingest_inputs(wh.root, listing.inputs, SETTINGS, roots=listing.roots)}


def of(paths, dataset_type):
    return [path for path in paths if path.name.startswith(f"{dataset_type}_")]


def holds(wh, files):
    """Return whether Object and Source hold exactly the rows of these files."""
    tables = (("Object", PATCHES), ("Source", VISITS))
    return all(content.same(wh, table, content.delivered(wh, table, of(files, kind))) for table, kind in tables)


def preferred(first, second):
    """Return the files of `first`, and those of `second` whose data ids it lacks."""
    stems = {path.name.split("_2_2i_runs")[0] for path in first}
    return [*first, *(path for path in second if path.name.split("_2_2i_runs")[0] not in stems)]


def test_a_repository_is_ingested_by_its_dataset_types_and_collections(wh, made):
    repository, early, _ = made
    reports = ingest(wh, repository, [EARLY])
    assert {table: report.inputs for table, report in reports.items()} == {"Object": 4, "Source": 2}
    assert holds(wh, early)
    assert all(finding.holds for finding in wh.audit())
    history = wh.history("Object")
    assert set(history["run"]) == {EARLY}
    assert set(history["uri"]) == {str(path) for path in of(early, PATCHES)}
    assert history["unit"].str.starts_with("objectTable tract=").all()
    assert all(report.nothing_new for report in ingest(wh, repository, [EARLY]).values())


@pytest.mark.parametrize("order", [[LATE, EARLY], [EARLY, LATE]])
def test_of_several_collections_the_first_that_has_a_data_id_is_loaded(wh, made, order):
    repository, early, late = made
    ingest(wh, repository, order)
    runs = {EARLY: early, LATE: late}
    assert holds(wh, preferred(runs[order[0]], runs[order[1]]))


def test_a_later_run_replaces_the_data_ids_that_it_has_and_no_others(wh, made):
    repository, early, late = made
    ingest(wh, repository, [EARLY])
    before = content.rows(wh, "Object")
    reports = ingest(wh, repository, [LATE])
    assert {table: report.inputs for table, report in reports.items()} == {"Object": 1, "Source": 1}
    assert holds(wh, preferred(late, early))
    own = reports["Object"].entries[0].input_id
    after = content.rows(wh, "Object")
    assert after.filter(pl.col("input_id") != own).equals(before.filter(pl.col("input_id") != own))
    aside = ingest(wh, repository, [EARLY])["Object"]
    assert aside.nothing_new
    assert [left.uri for left in aside.plan.left_aside] == [
        str(path) for path in of(early, PATCHES) if path.name.split("_2_2i")[0] == late[0].name.split("_2_2i")[0]
    ]


def test_a_constraint_loads_a_part(wh, made):
    repository, early, _ = made
    visit = int(of(early, VISITS)[0].parts[-2])
    reports = ingest(wh, repository, [EARLY], [VISITS], where=f"instrument = '{INSTRUMENT}' AND visit = {visit}")
    assert set(reports) == {"Source"}
    files = [path for path in of(early, VISITS) if f"/{visit}/" in str(path)]
    assert content.same(wh, "Source", content.delivered(wh, "Source", files))


def test_the_same_files_below_a_plain_folder_are_the_same_units(wh, made, tmp_path):
    """Asked of the Butler or recognised by their paths."""
    repository, _, _ = made
    ingest(wh, repository, [EARLY])
    before = {table: content.fingerprint(wh, table) for table in ("Object", "Source")}
    shutil.copytree(repository / EARLY, tmp_path / "copy" / EARLY)
    assert all(report.nothing_new for report in wh.ingest_tree(str(tmp_path / "copy")))
    assert {table: content.fingerprint(wh, table) for table in before} == before


def test_a_file_that_the_repository_names_and_that_is_gone_removes_nothing(wh, made, tmp_path):
    repository, early, _ = made
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    ingest(wh, copy, [EARLY])
    before = content.fingerprint(wh, "Object")
    gone = copy / of(early, PATCHES)[1].relative_to(repository)
    gone.unlink()
    listing = wh.list_butler(str(copy), [EARLY], [PATCHES])
    assert [uri for uri, _ in listing.unrecognised] == [str(gone)]
    assert ingest(wh, copy, [EARLY])["Object"].nothing_new
    assert content.fingerprint(wh, "Object") == before
