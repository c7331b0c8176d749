from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from warehouse import contracts
from warehouse.errors import InputError, NotFoundError, QueryError, StorageError
from warehouse.readers import list_inputs, reader_for, refuse_absent
from warehouse.readers.paths import detector_number, told_by

RUN = "2.2i/runs/DP0.2/v23_0_1/PREOPS-905/step3_1/20220317T233937Z"
PLAIN_RUN = "2_2i_runs_DP0_2_v23_0_1_PREOPS-905_step3_1_20220317T233937Z"
INSTRUMENT = "LSSTCam-imSim"
VISIT = {"day_obs": 20221017, "band": "i", "physical_filter": "i_sim_1.4", "visit": 214437, "instrument": INSTRUMENT}
BY_VISIT, NAMED_BY_VISIT = "20221017/i/i_sim_1.4/214437", f"{INSTRUMENT}_i_i_sim_1_4_214437"
MATCH = "match_ref_truth_summary_objectTable_tract"
DP02 = contracts.load("dp02")

# The first two are spelled as DP0.2's own repository spells them.
PATHS = {
    f"{RUN}/objectTable_tract/2897/objectTable_tract_2897_DC2_{PLAIN_RUN}.parq": (
        "objectTable_tract",
        {"tract": 2897},
        RUN,
    ),
    "2.2i/truth_summary/truth_summary/3828/truth_summary_3828_DC2_2_2i_truth_summary.parq": (
        "truth_summary",
        {"tract": 3828},
        "2.2i/truth_summary",
    ),
    f"{RUN}/objectTable/4431/17/objectTable_4431_17_DC2_{PLAIN_RUN}.parq": (
        "objectTable",
        {"tract": 4431, "patch": 17},
        RUN,
    ),
    f"{RUN}/sourceTable_visit/{BY_VISIT}/sourceTable_visit_{NAMED_BY_VISIT}_{PLAIN_RUN}.parq": (
        "sourceTable_visit",
        VISIT,
        RUN,
    ),
    f"{RUN}/sourceTable/{BY_VISIT}/sourceTable_{NAMED_BY_VISIT}_R20_S20_{PLAIN_RUN}.parq": (
        "sourceTable",
        {**VISIT, "detector": 78},
        RUN,
    ),
    f"{RUN}/visitTable/visitTable_LSSTCam-imSim_{PLAIN_RUN}.parq": (
        "visitTable",
        {"instrument": INSTRUMENT},
        RUN,
    ),
    f"{RUN}/{MATCH}/3828/{MATCH}_3828_DC2_{PLAIN_RUN}.parq": (
        MATCH,
        {"tract": 3828},
        RUN,
    ),
    # A copy without its folders, one without its name, and one with neither run nor values.
    f"objectTable_4431_17_DC2_{PLAIN_RUN}.parq": ("objectTable", {"tract": 4431, "patch": 17}, None),
    "objectTable_tract/4431/part 0.parquet": ("objectTable_tract", {"tract": 4431}, None),
    "mine/ü 50%/objectTable/x.parq": ("objectTable", {}, "mine/ü 50%"),
    f"sourceTable_{NAMED_BY_VISIT}_R22_S11_{PLAIN_RUN}.fits": (
        "sourceTable",
        {"visit": 214437, "detector": 94, "instrument": INSTRUMENT},
        None,
    ),
}
NOT_TABLES = [
    f"{RUN}/calexp/{BY_VISIT}/calexp_{NAMED_BY_VISIT}_R20_S20_{PLAIN_RUN}.fits",
    "objectTables/4431.parq",
]
PASSED_OVER = ["objectTable/.hidden.parq", "objectTable/.tmp/x.parq", "butler.yaml", "objectTable/4431/17/x.parq.tmp"]


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    # A repository may well lie in a folder that is called as its sky map.
    root = tmp_path_factory.mktemp("tree") / "DC2"
    touch(root, *PATHS, *NOT_TABLES, *PASSED_OVER)
    return root


def listed(root, settings, **how):
    return list_inputs([str(root)], settings, release="dp02", **how)


# --------------------------------------------------------------------------------------------- recognising


def test_a_tree_is_recognised_by_its_paths(tree, settings):
    listing = listed(tree, settings)
    found = {item.uri.removeprefix(f"{tree}/"): (item.dataset_type, item.data_id, item.run) for item in listing.inputs}
    assert found == PATHS
    assert [item.uri for item in listing.inputs] == sorted(item.uri for item in listing.inputs)
    assert {uri.removeprefix(f"{tree}/") for uri, _ in listing.unrecognised} == set(NOT_TABLES)
    assert listing.roots == (str(tree),)
    for item in listing.inputs:
        status = Path(item.uri).stat()
        assert (item.size, item.stamp) == (status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


@pytest.mark.parametrize("depth", range(1, 9))
def test_a_file_belongs_to_the_same_run_wherever_the_listing_begins(tree, settings, depth):
    path = next(iter(PATHS))
    root = tree.joinpath(*Path(path).parts[:depth])
    (item,) = [item for item in listed(root, settings).inputs if item.uri == str(tree / path)]
    assert (item.dataset_type, item.data_id, item.run) == PATHS[path]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("objectTable_tract/2897/objectTable_tract_3828_DC2_run.parq", "tract 2897.*3828"),
        ("objectTable/4431/17/objectTable_4431_18_DC2_run.parq", "patch 17.*18"),
        ("objectTable/4431/17/sourceTable_visit_LSSTCam-imSim_i_i_214437_run.parq", "objectTable .*sourceTable_visit"),
    ],
)
def test_folders_and_name_that_disagree_are_not_believed(tmp_path, settings, path, words):
    touch(tmp_path, path)
    with pytest.raises(NotFoundError, match=words):
        listed(tmp_path, settings)


def test_the_numbers_of_detectors_follow_the_camera():
    # From the release notes of the cameras: R22_S11 is the middle of both.
    assert detector_number("R22_S11", "LSSTCam-imSim") == 94
    assert detector_number("R20_S20", "LSSTCam") == 78
    assert detector_number("R01_S00", "LSSTCam") == 0
    assert detector_number("R43_S22", "LSSTCam") == 188
    assert detector_number("R22_S11", "LSSTComCam") == 4
    assert detector_number("R00_SW0", "LSSTCam") == "R00_SW0"


@given(st.lists(st.text(min_size=1).filter(lambda t: "/" not in t), min_size=1, max_size=12))
def test_no_path_is_too_odd(parts):
    told_by(parts, 0, DP02)


@given(
    st.integers(0, 18937), st.integers(0, 48), st.lists(st.sampled_from(["u", "2.2i", "a b", "x-1", "ü"]), min_size=1)
)
def test_a_run_of_any_name_is_found_again(tract, patch, run):
    plain = "".join(c if c.isalnum() or c in "_-" else "_" for c in "_".join(run))
    name = f"objectTable_{tract}_{patch}_DC2_{plain}.parq"
    told = told_by(["data", *run, "objectTable", str(tract), str(patch), name], 1, DP02)
    assert (told.data_id, told.run) == ({"tract": tract, "patch": patch}, "/".join(run))


# ------------------------------------------------------------------------------------- as the caller says


def test_a_table_takes_its_dataset_types_and_plain_files(tree, settings):
    listing = listed(tree, settings, table="Object")
    dataset_types = [item.dataset_type for item in listing.inputs]
    assert sorted(set(dataset_types) - {None}) == ["objectTable", "objectTable_tract"]
    assert {item.uri for item in listing.inputs if item.dataset_type is None} == {str(tree / p) for p in NOT_TABLES}
    others = dict(listing.unrecognised)
    visits = str(tree / RUN / "visitTable" / f"visitTable_LSSTCam-imSim_{PLAIN_RUN}.parq")
    assert others[visits] == "it is visitTable, which delivers Visit and not Object"


def test_a_dataset_type_takes_plain_files_for_what_they_are_said_to_be(tmp_path, settings):
    touch(tmp_path, "one.parq", "objectTable_4431_17_DC2_r.parq", "visitTable/v.parq")
    listing = listed(tmp_path, settings, table="Object", dataset_type="objectTable", data_id={"tract": "4431"})
    assert {Path(i.uri).name: (i.dataset_type, i.data_id) for i in listing.inputs} == {
        "one.parq": ("objectTable", {"tract": 4431}),
        "objectTable_4431_17_DC2_r.parq": ("objectTable", {"tract": 4431, "patch": 17}),
    }
    assert [Path(uri).name for uri, _ in listing.unrecognised] == ["v.parq"]
    assert listed(tmp_path, settings, dataset_type="objectTable").inputs[0].dataset_type == "objectTable"


def test_a_data_id_chooses_where_the_path_tells_one(tree, settings):
    listing = listed(tree, settings, table="Object", dataset_type="objectTable_tract", data_id={"tract": 4431})
    recognised = [item for item in listing.inputs if str(tree / "calexp") not in item.uri and RUN not in item.uri]
    assert str(tree / "objectTable_tract/4431/part 0.parquet") in [item.uri for item in recognised]
    assert all(item.data_id["tract"] == 4431 for item in listing.inputs)
    assert "tract is 2897" in " ".join(why for _, why in listing.unrecognised)
    # What was not asked for has not vanished.
    assert listing.roots == ()


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"table": "Objects"}, NotFoundError, "did you mean Object"),
        ({"table": "Object", "dataset_type": "sourceTable"}, NotFoundError, "sourceTable"),
        ({"dataset_type": "objectTabel"}, NotFoundError, "did you mean objectTable"),
        ({"data_id": {"track": 1}}, QueryError, "did you mean tract"),
        ({"data_id": {"tract": "x"}}, QueryError, "tract is an integer"),
        ({"data_id": {"tract": -1}}, QueryError, "tract is an integer"),
    ],
)
def test_a_wrong_wish_is_refused_by_name(tree, settings, how, error, words):
    with pytest.raises(error, match=words):
        listed(tree, settings, **how)


# ------------------------------------------------------------------------------------------- files and globs


def test_single_files_and_globs(tmp_path, settings):
    touch(tmp_path, "a b/x1.parq", "a b/x2.parq", "a b/y.parq", "a b/deep/x3.parq", "[odd]/x*.parq")

    def names(*uris):
        listing = list_inputs([str(tmp_path / u) for u in uris], settings, release="dp02", table="Object")
        return [Path(item.uri).name for item in listing.inputs], listing.roots

    assert names("a b/x1.parq") == (["x1.parq"], (str(tmp_path / "a b/x1.parq"),))
    assert names("a b/x?.parq") == (["x1.parq", "x2.parq"], ())
    assert names("a b/**/x*.parq")[0] == ["x3.parq", "x1.parq", "x2.parq"]
    assert names("*b/deep")[0] == ["x3.parq"]
    # What exists under a name is no glob.
    assert names("[odd]")[0] == ["x*.parq"]
    assert names("[odd]/x*.parq")[0] == ["x*.parq"]
    # The same file is one input.
    assert names("a b", "a b/x1.parq")[0] == ["x3.parq", "x1.parq", "x2.parq", "y.parq"]


def test_a_file_uri_and_a_relative_path(tmp_path, settings, monkeypatch):
    touch(tmp_path, "a b/x.parq")
    monkeypatch.chdir(tmp_path)
    for uri in ((tmp_path / "a b").as_uri(), "a b", "a b/"):
        listing = list_inputs([uri], settings, release="dp02", table="Object")
        assert [item.uri for item in listing.inputs] == [str(tmp_path / "a b/x.parq")]


@pytest.mark.parametrize("missing", ["none", "none.parq", "no*.parq", "empty"])
def test_nothing_is_never_an_answer(tmp_path, settings, missing):
    touch(tmp_path, "x.parq")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError) as caught:
        list_inputs([str(tmp_path), str(tmp_path / missing)], settings, release="dp02", table="Object")
    assert caught.value.uri.startswith(str(tmp_path))


def test_files_that_are_nothing_known_are_named(tmp_path, settings):
    touch(tmp_path, "x.parq", "notes.txt")
    with pytest.raises(NotFoundError, match=r"1 file of another kind \(.*x\.parq: its path names no dataset type"):
        listed(tmp_path, settings)
    (tmp_path / "x.parq").unlink()
    with pytest.raises(NotFoundError, match="no file of a known format"):
        listed(tmp_path, settings, table="Object")


def test_a_failing_listing_raises(tmp_path, settings, monkeypatch):
    touch(tmp_path, "a/x.parq", "b/x.parq")
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("/b"):
            raise OSError(5, "Input/output error", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(StorageError, match="Input/output"):
        listed(tmp_path, settings, table="Object")


# ------------------------------------------------------------------------------------------------ the registry


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("x.parq", "ParquetReader"),
        ("x.PARQUET", "ParquetReader"),
        ("s3://b/x.fits", "FitsReader"),
        ("x.fits.gz", "FitsReader"),
        ("x.fits.fz", "FitsReader"),
    ],
)
def test_a_suffix_finds_its_reader(name, reader):
    assert type(reader_for(name)).__name__ == reader


@pytest.mark.parametrize(
    ("begins", "reader"), [(b"PAR1" + bytes(20), "ParquetReader"), (b"SIMPLE  =       T", "FitsReader")]
)
def test_without_a_suffix_the_first_bytes_tell(tmp_path, settings, begins, reader):
    path = tmp_path / "table.data"
    path.write_bytes(begins)
    assert type(reader_for(str(path), settings)).__name__ == reader


def test_a_file_of_no_format_is_refused(tmp_path, settings):
    path = tmp_path / "table.csv"
    path.write_bytes(b"ra,dec\n1,2\n")
    for known in (settings, None):
        with pytest.raises(InputError) as caught:
            reader_for(str(path), known)
        assert caught.value.kind == "unknown_format"
    with pytest.raises(InputError) as caught:
        reader_for(str(tmp_path / "none.csv"), settings)
    assert caught.value.kind == "vanished"


def test_what_is_nowhere_is_said_without_a_listing(tree, settings, monkeypatch):
    def listing(*_):
        raise AssertionError("listed")

    monkeypatch.setattr("warehouse.storage.listing", listing)
    refuse_absent([str(tree), str(tree / "butler.yaml"), str(tree / "no*where")], settings)
    with pytest.raises(NotFoundError, match="/nowhere: there is no file"):
        refuse_absent([str(tree), str(tree / "nowhere")], settings)
