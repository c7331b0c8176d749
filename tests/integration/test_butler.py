from __future__ import annotations

import builtins
from pathlib import Path

import pyarrow as pa
import pytest

from support.butler import make_repository, put
from warehouse.errors import NotFoundError, QueryError
from warehouse.readers import list_inputs, reader_for
from warehouse.readers.butler import list_butler

pytestmark = pytest.mark.integration

EARLY, LATE = "2.2i/runs/DP0.2/step3/20220317T233937Z", "2.2i/runs/DP0.2/step3/20220401T000000Z"
PATCHES = [{"tract": 4431, "patch": 16}, {"tract": 4431, "patch": 17}]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("butler") / "répo of DC2"
    make_repository(root)
    for data_id in PATCHES:
        put(root, EARLY, "objectTable", data_id, table(rows=2))
    put(root, LATE, "objectTable", PATCHES[0], table(rows=3))
    for visit in (192350, 214437):
        put(root, EARLY, "sourceTable_visit", {"visit": visit}, table())
    put(root, EARLY, "sourceTable", {"visit": 214437, "detector": 78}, table())
    put(root, EARLY, "visitTable", {}, table())
    return root


def table(rows=1):
    return pa.table({"objectId": pa.array(range(rows), pa.int64())})


def test_a_repository_tells_uris_data_ids_and_runs(repository, settings):
    listing = list_butler(str(repository), [EARLY], ["objectTable", "sourceTable_visit"], None, settings)
    found = {
        (i.dataset_type, i.data_id.get("tract"), i.data_id.get("patch"), i.data_id.get("visit")) for i in listing.inputs
    }
    assert found == {
        ("objectTable", 4431, 16, None),
        ("objectTable", 4431, 17, None),
        ("sourceTable_visit", None, None, 192350),
        ("sourceTable_visit", None, None, 214437),
    }
    assert {i.run for i in listing.inputs} == {EARLY}
    assert listing.unrecognised == ()
    for item in listing.inputs:
        assert Path(item.uri).stat().st_size == item.size
        assert reader_for(item.uri).open(item.uri, settings).rows == (2 if item.dataset_type == "objectTable" else 1)


@pytest.mark.parametrize("collections", [[EARLY, LATE], [LATE, EARLY]])
def test_the_first_collection_that_has_a_data_id_wins(repository, settings, collections):
    listing = list_butler(str(repository), collections, ["objectTable"], None, settings)
    by_patch = {item.data_id["patch"]: item.run for item in listing.inputs}
    assert by_patch == {16: collections[0], 17: EARLY}


def test_a_constraint_is_asked_of_the_butler(repository, settings):
    constraint = "instrument = 'LSSTCam-imSim' AND visit > 200000"
    listing = list_butler(str(repository), [EARLY], ["sourceTable_visit"], constraint, settings)
    assert [item.data_id["visit"] for item in listing.inputs] == [214437]


@pytest.mark.parametrize(
    ("dataset_type", "constraint", "found"),
    [("objectTable", "tract = 4431", 2), ("sourceTable_visit", "visit > 200000", 1)],
)
def test_a_number_without_what_it_counts_in_is_refused_with_the_question_to_ask(
    repository, settings, dataset_type, constraint, found
):
    with pytest.raises(QueryError, match="Name it as well") as caught:
        list_butler(str(repository), [EARLY], [dataset_type], constraint, settings)
    question = caught.value.message.partition("such as: ")[2]
    assert len(list_butler(str(repository), [EARLY], [dataset_type], question, settings).inputs) == found


def test_the_tree_of_a_repository_is_listed_as_the_butler_names_it(repository, settings):
    """The path grammar is held against the paths that a Butler makes."""
    asked = ["objectTable", "sourceTable", "sourceTable_visit", "visitTable"]
    runs = [
        list_butler(str(repository), [run], asked[: 1 if run == LATE else 4], None, settings) for run in (EARLY, LATE)
    ]
    expected = {item.uri: item for listing in runs for item in listing.inputs}
    listing = list_inputs([str(repository)], settings, release="dp02")
    assert {item.uri for item in listing.inputs} == set(expected)
    for item in listing.inputs:
        named = expected[item.uri]
        assert (item.dataset_type, item.run, item.size, item.stamp) == (
            named.dataset_type,
            named.run,
            named.size,
            named.stamp,
        )
        dimensions = named.data_id.keys() - {"skymap", "instrument"}
        assert {name: item.data_id[name] for name in dimensions} == {name: named.data_id[name] for name in dimensions}


def test_folders_within_a_repository_tell_the_same(repository, settings):
    whole = {i.uri: i for i in list_inputs([str(repository)], settings, release="dp02").inputs}
    for part in (f"{EARLY}", f"{EARLY}/objectTable", f"{EARLY}/objectTable/4431/17"):
        for item in list_inputs([str(repository / part)], settings, release="dp02").inputs:
            assert item == whole[item.uri]


def test_a_file_that_is_gone_is_named(tmp_path, settings):
    make_repository(tmp_path / "repo")
    gone = put(tmp_path / "repo", EARLY, "objectTable", PATCHES[0], table())
    kept = put(tmp_path / "repo", EARLY, "objectTable", PATCHES[1], table())
    Path(gone).unlink()
    listing = list_butler(str(tmp_path / "repo"), [EARLY], ["objectTable"], None, settings)
    assert [item.uri for item in listing.inputs] == [kept]
    assert [uri for uri, _ in listing.unrecognised] == [gone]


@pytest.mark.parametrize(
    ("collections", "dataset_types", "where", "error", "words"),
    [
        ([EARLY], ["objectTabel"], None, NotFoundError, "did you mean objectTable"),
        (["2.2i/none"], ["objectTable"], None, NotFoundError, "2.2i/none"),
        ([LATE], ["sourceTable"], None, NotFoundError, "no dataset of sourceTable"),
        ([EARLY], ["objectTable"], "tract = = 1", QueryError, "tract"),
        ([EARLY], ["objectTable"], "flavour = 1", QueryError, "flavour"),
        ([], ["objectTable"], None, QueryError, "collection"),
        ([EARLY], [], None, QueryError, "dataset type"),
    ],
)
def test_a_wrong_question_is_refused_by_name(repository, settings, collections, dataset_types, where, error, words):
    with pytest.raises(error, match=words):
        list_butler(str(repository), collections, dataset_types, where, settings)


def test_a_folder_that_is_no_repository_is_not_found(tmp_path, settings):
    with pytest.raises(NotFoundError, match="no Butler repository") as caught:
        list_butler(str(tmp_path / "none"), [EARLY], ["objectTable"], None, settings)
    assert caught.value.uri == str(tmp_path / "none")


def test_without_the_extra_the_message_says_what_to_install(monkeypatch, settings):
    real_import = builtins.__import__

    def no_lsst(name, *args, **kwargs):
        if name.startswith("lsst.daf.butler"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_lsst)
    with pytest.raises(NotFoundError, match=r"tractlake\[butler\]"):
        list_butler("repo", [EARLY], ["objectTable"], None, settings)
