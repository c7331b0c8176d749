"""`get` gives the rows of the Butler's file, whichever files the rows came by."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support import skies
from support.small_warehouse import SETTINGS, simulated
from warehouse import Warehouse
from warehouse.errors import InputError, NotFoundError, QueryError
from warehouse.lake import ledger
from warehouse.lake.root import Root
from warehouse.query import Patch
from warehouse.readers import list_inputs
from warehouse.simulate import DATASET_TYPES


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


@cache
def inputs() -> Mapping[str, list]:
    """The tree's files by dataset type, each with its data id."""
    found = list_inputs([str(simulated().tree)], SETTINGS, release="dp02").inputs
    return {name: [item for item in found if item.dataset_type == name] for name in DATASET_TYPES}


def data_id(wh, item):
    """The data id of a file; its detector's name as the number that its rows have."""
    dimensions = wh.root.contracts.dataset_types[item.dataset_type][1].dimensions
    found = {key: item.data_id[key] for key in dimensions if key in item.data_id}
    if "detector" in dimensions:
        found["detector"] = int(pd.read_parquet(item.uri)["ccdVisitId"].iloc[0] % 1000)
    return found


def from_file(wh, item, without=()) -> pl.DataFrame:
    """The rows of a file as pandas reads them, which knows nothing of this package; the table's columns, by key."""
    contract, _ = wh.root.contracts.dataset_types[item.dataset_type]
    raw = pd.read_parquet(item.uri)
    raw = raw.drop(raw.index[list(without)])
    raw = raw.reset_index() if raw.index.name else raw
    if "id_truth_type" in contract.key and "id_truth_type" not in raw:
        raw["id_truth_type"] = raw["id"].astype(str) + "_" + raw["truth_type"].astype(str)
    if "is_unique_truth_entry" in raw:
        raw = raw[raw["is_unique_truth_entry"]]
    frame = pl.from_pandas(raw, nan_to_null=True)
    names = [name for name in contract.by_name if name in frame.columns]
    types = {n: t for n, t in pl.Schema(contract.arrow_schema).items() if n in names}
    return frame.select(names).cast(types).sort(contract.key)


# The match files of the simulation have doubled truth rows that the contract sets aside; see their own test below.
COMPARED = [name for name in DATASET_TYPES if not name.startswith("match_ref")]


@pytest.mark.parametrize("name", COMPARED)
def test_every_dataset_has_the_rows_and_values_of_its_file(wh, name):
    assert inputs()[name]
    contract, _ = wh.root.contracts.dataset_types[name]
    for item in inputs()[name]:
        expected = from_file(wh, item)
        found = wh.get(name, **data_id(wh, item))
        assert found.columns == list(contract.by_name)
        if name == "diaSourceTable":
            # By visit, the pipeline does not know the DiaObject yet; the table has it from the tract's file.
            expected = expected.drop("diaObjectId")
        found = found.sort(contract.key).select(expected.columns)
        assert_frame_equal(found, with_nulls(expected), check_exact=True)


def with_nulls(frame: pl.DataFrame) -> pl.DataFrame:
    """A warehouse has null where a file has infinity."""
    floats = pl.selectors.float()
    return frame.with_columns(pl.when(floats.is_finite()).then(floats))


def test_a_matched_row_that_was_set_aside_is_in_no_dataset(wh):
    """Neighbouring tracts' files repeat the truth rows of their overlap, and the table has each once."""
    name = "match_ref_truth_summary_objectTable_tract"
    aside = wh.quarantine("MatchesTruth")
    assert aside.height
    for item in inputs()[name]:
        found = wh.get(name, tract=item.data_id["tract"]).sort("id_truth_type")
        numbers = aside.filter(uri=item.uri)["row_number"].to_list()
        expected = from_file(wh, item, without=numbers)
        names = [c for c in expected.columns if c != "match_objectId"]
        assert_frame_equal(found.select(names), with_nulls(expected.select(names)), check_exact=True)
        # A file spells "no match" as a number that is no object's.
        objects = expected.select(pl.when(pl.col("match_objectId") > 1).then("match_objectId"))
        assert_frame_equal(found.select("match_objectId"), objects)


def test_the_datasets_of_a_type_are_the_whole_table(wh):
    for name in COMPARED:
        contract, dataset_type = wh.root.contracts.dataset_types[name]
        known = wh.data_ids(name)
        rows = sum(wh.get(name, columns=contract.key, **key).height for key in known.drop("rows").to_dicts())
        assert rows == wh.tables().filter(table=contract.table)["rows"].item() == known["rows"].sum(), name
        assert known.height == len(inputs()[name]) or not dataset_type.dimensions, name


def test_further_keys_narrow_the_rows_where_these_tell_them(wh):
    visit = wh.data_ids("sourceTable_visit")["visit"][0]
    sources = wh.get("sourceTable_visit", visit=visit)
    detector = int(sources["ccdVisitId"][0] % 1000)
    assert (
        wh.get("sourceTable_visit", visit=visit, detector=detector).rows()
        == sources.filter(pl.col("ccdVisitId") == visit * 1000 + detector).rows()
    )
    dia = wh.get("diaSourceTable", visit=visit)
    detector = int(dia["ccdVisitId"][0] % 1000)
    narrowed = wh.get("diaSourceTable", visit=visit, detector=detector)
    assert narrowed.height == (dia["ccdVisitId"] == visit * 1000 + detector).sum() > 0
    where = wh.data_ids("forcedSourceTable").drop("rows").row(0, named=True)
    forced = wh.get("forcedSourceTable", **where)
    band = forced["band"][0]
    assert wh.get("forcedSourceTable", **where, band=band).height == (forced["band"] == band).sum()
    assert wh.get("forcedSourceTable", **where, band="none of these").height == 0
    of_visit = wh.get("forcedSourceTable", **where, visit=int(forced["ccdVisitId"][0] // 1000))
    assert of_visit.height == (forced["ccdVisitId"] // 1000 == forced["ccdVisitId"][0] // 1000).sum()


def test_sky_map_and_instrument_may_be_named_as_the_butler_does(wh):
    where = wh.data_ids("objectTable").drop("rows").row(0, named=True)
    assert wh.get("objectTable", **where, skymap="DC2").height == wh.get("objectTable", **where).height
    visit = wh.data_ids("sourceTable_visit")["visit"][0]
    assert wh.get("sourceTable_visit", visit=np.int64(visit), instrument="LSSTCam-imSim").height > 0
    with pytest.raises(NotFoundError, match="which is 'DC2'"):
        wh.get("objectTable", **where, skymap="hsc_rings_v1")


@pytest.mark.parametrize(
    ("name", "key", "error", "says"),
    [
        ("objectTabel", {"tract": 3831, "patch": 1}, NotFoundError, "did you mean objectTable"),
        ("skyCorr", {"visit": 1, "detector": 1}, NotFoundError, "no dataset type .skyCorr."),
        ("objectTable", {"tract": 3831}, QueryError, "needs tract, patch; missing patch"),
        ("sourceTable", {}, QueryError, "missing visit, detector"),
        ("objectTable", {"tract": 3831, "patch": 9, "visit": 5}, QueryError, "has no 'visit'"),
        ("visitTable", {"tract": 3831}, QueryError, "has no 'tract'"),
        ("objectTable", {"tract": "3831", "patch": 9}, QueryError, "expected an integer, found '3831'"),
        ("objectTable", {"tract": 3831.0, "patch": 9}, QueryError, "expected an integer"),
        ("objectTable", {"tract": 2**63, "patch": 9}, QueryError, "tract: expected an integer of 64 bits"),
        ("objectTable", {"tract": 3831, "patch": 9, "visitt": 3}, QueryError, "has no 'visitt'.*dimensions: tract, pa"),
        ("objectTable", {"tract": True, "patch": 9}, QueryError, "expected an integer"),
        ("forcedSourceTable", {"tract": 3831, "patch": 9, "band": 3}, QueryError, "expected a word"),
        ("objectTable", {"tract": 3831, "patch": 48}, NotFoundError, "no objectTable tract=3831 patch=48; nearest"),
        ("objectTable_tract", {"tract": 4431}, NotFoundError, "nearest are tract=3831"),
        ("truth_summary", {"tract": 1}, NotFoundError, "no truth_summary tract=1; nearest are tract="),
        ("sourceTable_visit", {"visit": 7}, NotFoundError, "nearest are visit="),
        ("sourceTable", {"visit": 7, "detector": 3}, NotFoundError, "nearest are visit="),
        ("sourceTable", {"visit": 192350, "detector": 3}, NotFoundError, "nearest are visit=192350 detector="),
        ("diaSourceTable_tract", {"tract": 7}, NotFoundError, "nearest are tract="),
    ],
)
def test_data_ids_that_name_nothing_are_refused_with_the_near_misses(wh, name, key, error, says):
    with pytest.raises(error, match=says):
        wh.get(name, **key)


def test_the_butlers_whole_data_id_may_be_given(wh):
    for name in ("sourceTable_visit", "sourceTable", "diaSourceTable_tract", "objectTable"):
        for item in inputs().get(name, inputs()["sourceTable_visit"])[:1]:
            keys = wh.root.contracts.dataset_types[name][1].dimensions
            own = {key: value for key, value in item.data_id.items() if key in keys}
            own |= {"detector": wh.data_ids(name, **own)["detector"][0]} if "detector" in keys else {}
            whole = {**item.data_id, **own} | ({"visit_system": 1} if "visit" in keys else {})
            assert wh.get(name, **whole).equals(wh.get(name, **own))
            assert wh.get(name, whole).equals(wh.get(name, **own))


def test_a_data_id_is_a_mapping_or_keywords_and_keywords_count(wh):
    first, second = wh.data_ids("objectTable").drop("rows").head(2).rows(named=True)
    assert wh.get("objectTable", first, **second).equals(wh.get("objectTable", second))
    assert wh.data_ids("objectTable", first).equals(wh.data_ids("objectTable", **first))
    for wrong in ("tract=1", [first]):
        with pytest.raises(QueryError, match="expected a data id as a mapping"):
            wh.get("objectTable", wrong)
    for key in ("columns", "version", "dataset_type"):
        with pytest.raises(QueryError, match=f"objectTable has no '{key}'"):
            wh.get("objectTable", {**first, key: 3})


def test_data_ids_are_narrowed_by_what_a_visit_implies(wh):
    every = wh.data_ids("sourceTable_visit")
    days = {item.data_id["day_obs"] for item in inputs()["sourceTable_visit"]}
    assert days == {20221231}
    assert wh.data_ids("sourceTable_visit", day_obs=20221231).equals(every)
    assert wh.data_ids("sourceTable_visit", day_obs=19990101).height == 0


def test_what_contradicts_the_visit_has_no_rows(wh):
    visit = wh.data_ids("sourceTable_visit")["visit"][0]
    assert wh.get("sourceTable_visit", visit=visit, physical_filter="g_other").height == 0  # as each row tells
    with pytest.raises(NotFoundError, match=r"no sourceTable_visit visit=.* day_obs=19990101"):
        wh.get("sourceTable_visit", visit=visit, day_obs=19990101)
    with pytest.raises(QueryError, match="has no 'visit_system'"):
        wh.get("objectTable", tract=3831, patch=9, visit_system=1)


@pytest.mark.parametrize(("table", "name"), [("Source", "sourceTable_visit"), ("Object", "objectTable")])
def test_a_dataset_that_was_delivered_without_rows_is_there_and_empty(wh, tmp_path, table, name):
    item = inputs()[name][0]
    path = tmp_path / "tree" / Path(item.uri).relative_to(simulated().tree)
    path.parent.mkdir(parents=True)
    pl.read_parquet(item.uri, glob=False).clear().write_parquet(path)
    others = [other for other in inputs()[name] if other != item]
    for other in others:
        copy = tmp_path / "tree" / Path(other.uri).relative_to(simulated().tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other.uri, copy)
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest(table, str(tmp_path / "tree"))
    found = made.get(name, **item.data_id)
    assert found.height == 0
    assert found.schema == wh.get(name, **item.data_id).schema
    assert made.get(name, **item.data_id, format="lazy").collect().equals(found)


def test_what_is_wrong_with_a_file_of_the_table_is_said(tmp_path):
    made = Warehouse.open(str(simulated().copy(tmp_path)), settings=SETTINGS)
    where = made.data_ids("objectTable").drop("rows").row(0, named=True)
    (path,) = made.files("Object", Patch(where["tract"], where["patch"]))
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="Object: a file is damaged"):
        made.get("objectTable", **where)
    Path(path).unlink()
    with pytest.raises(InputError, match=f"a file is gone.*{Path(path).name}") as gone:
        made.get("objectTable", **where)
    assert gone.value.kind == "vanished"


def test_rows_that_do_not_tell_their_dataset_are_in_the_one_they_came_by(wh, tmp_path):
    """A DiaSource without a DiaObject has 0 for it, which is in no tract."""
    files = inputs()["diaSourceTable_tract"]
    for item in files:
        raw = pd.read_parquet(item.uri)
        raw.loc[raw.index[::3], "diaObjectId"] = 0
        path = tmp_path / Path(item.uri).relative_to(simulated().tree)
        path.parent.mkdir(parents=True)
        raw.to_parquet(path)
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("DiaSource", str(tmp_path))
    for item in files:
        found = made.get("diaSourceTable_tract", tract=item.data_id["tract"])
        assert sorted(found["diaSourceId"]) == sorted(from_file(wh, item)["diaSourceId"])
        assert (found["diaObjectId"] == 0).any()
        # What the rows alone tell leaves these out, rather than naming a dataset of no tract.
        visit = int(found["ccdVisitId"][0] // 1000)
        told = found.filter(pl.col("ccdVisitId") // 1000 == visit, pl.col("diaObjectId") != 0).height
        ids = made.data_ids("diaSourceTable_tract", tract=item.data_id["tract"], visit=visit)
        assert ids.rows() == [(item.data_id["tract"], told)]


def test_unknown_columns_and_formats_are_refused(wh):
    where = wh.data_ids("objectTable").drop("rows").row(0, named=True)
    with pytest.raises(NotFoundError, match="did you mean objectId"):
        wh.get("objectTable", **where, columns=["objektId"])
    with pytest.raises(QueryError, match="expected a list of columns' names"):
        wh.get("objectTable", **where, columns="objectId")
    with pytest.raises(QueryError, match="did you mean astropy"):
        wh.get("objectTable", **where, format="astropie")


def test_pandas_gets_the_key_as_its_index(wh):
    where = wh.data_ids("objectTable").drop("rows").row(0, named=True)
    frame = wh.get("objectTable", **where, format="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert (frame.index.name, frame.shape[1]) == ("objectId", 990)
    assert frame.index.is_unique


def test_astropy_gets_units_descriptions_and_masks(wh):
    where = wh.data_ids("objectTable").drop("rows").row(0, named=True)
    plain = wh.get("objectTable", **where)
    table = wh.get("objectTable", **where, format="astropy")
    assert (len(table), len(table.columns)) == plain.shape
    assert table["coord_ra"].unit == "deg"
    assert table["g_cModelFlux"].unit == "nJy"
    assert table["coord_ra"].description == wh.columns("Object").filter(column="coord_ra")["description"].item()
    for name in ("objectId", "g_cModelFlux", "refBand", "detect_isPrimary"):
        masked = getattr(table[name], "mask", np.zeros(len(table), bool))
        assert masked.tolist() == plain[name].is_null().to_list()
        found = [None if gone else value for value, gone in zip(table[name].tolist(), masked, strict=True)]
        assert found == plain[name].to_list()
    visits = wh.get("visitTable", format="astropy")
    assert visits["expMidpt"].dtype == np.dtype("datetime64[us]")


def test_lazily_nothing_is_read_before_it_is_collected(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    where = wh.data_ids("forcedSourceTable").drop("rows").row(0, named=True)
    for path in (copy / "ForcedSource").rglob("tract=*/*/*.parquet"):
        path.unlink()
    lazy = Warehouse.open(str(copy), settings=SETTINGS).get("forcedSourceTable", **where, format="lazy")
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect_schema() == wh.get("forcedSourceTable", **where).schema


MIDDLE, LAST, EMPTY = 192357, 192364, 91


@pytest.fixture(scope="module")
def by_detector(wh, tmp_path_factory):
    """Source by detector: one of the middle visit's has no rows, and in a far tract lie rows of the first and last."""
    folder = tmp_path_factory.mktemp("by_detector")
    far = wh.scan("Source", 3637, columns=["coord_ra", "coord_dec"]).collect().row(0)
    for item in inputs()["sourceTable"]:
        raw = pd.read_parquet(item.uri)
        if (item.data_id["visit"], item.data_id["detector"]) == (MIDDLE, EMPTY):
            raw = raw.iloc[:0]
        elif item.data_id["visit"] == LAST:
            raw.loc[raw.index[0], ["coord_ra", "coord_dec"]] = far
        path = folder / "tree" / Path(item.uri).relative_to(simulated().tree)
        path.parent.mkdir(parents=True, exist_ok=True)
        raw.to_parquet(path)
    made = Warehouse.create(str(folder / "warehouse"), settings=SETTINGS)
    made.ingest("Source", str(folder / "tree"))
    return made


def copied(wh, folder):
    """A copy of a warehouse that a test may break."""
    return Warehouse.open(str(shutil.copytree(wh.uri, folder / "copy")), settings=SETTINGS)


def test_a_visit_is_read_from_the_tracts_that_it_lies_in(by_detector, tmp_path):
    """The ledger knows them; the ids do not tell, where a file holds visits before and after."""
    expected = by_detector.scan("Source").filter(pl.col("ccdVisitId") // 1000 == MIDDLE).collect()
    opened = copied(by_detector, tmp_path)
    elsewhere = [Path(path) for path in opened.files("Source") if "tract=3831" not in path]
    assert set(expected["tract"]) == {3831}
    for path in elsewhere:
        visits = pl.read_parquet(path, columns=["ccdVisitId"]).to_series() // 1000
        assert visits.min() < MIDDLE < visits.max()
        path.write_bytes(b"")
    assert elsewhere
    assert sorted(opened.get("sourceTable_visit", visit=MIDDLE)["sourceId"]) == sorted(expected["sourceId"])


def test_a_visit_is_read_from_the_files_that_may_hold_its_ids(wh, tmp_path):
    opened = copied(wh, tmp_path)
    others = 0
    for path in map(Path, opened.files("DiaSource")):
        if pl.read_parquet(path).filter(pl.col("ccdVisitId") // 1000 == LAST).is_empty():
            path.write_bytes(b"")
            others += 1
    assert 0 < others < len(opened.files("DiaSource"))
    assert opened.get("diaSourceTable", visit=LAST).rows() == wh.get("diaSourceTable", visit=LAST).rows() != []


def test_a_dataset_that_its_rows_do_not_tell_is_read_from_its_input_s_files(tmp_path):
    """Two files of truth, the patches of one tract between them."""
    one, other = simulated().files("truth_summary")
    raw = pd.read_parquet(max(one, other, key=lambda path: path.stat().st_size))
    _, patch = simulated().open().skymap.find(raw["ra"], raw["dec"])
    for path, rows in ((one, raw[patch == 3]), (other, raw[patch != 3])):
        rows.to_parquet(tmp_path / path.name)
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("TruthSummary", [str(tmp_path / path.name) for path in (one, other)])
    files = [Path(path) for path in made.files("TruthSummary")]
    assert {path.parent.parent.name for path in files} == {"tract=3831"}
    for path in files:
        if path.parent.name != "patch=3":
            path.write_bytes(b"")
    tract = int(one.name.split("_")[2])
    expected = raw[(patch == 3) & raw["is_unique_truth_entry"]]
    assert sorted(made.get("truth_summary", tract=tract)["id"]) == sorted(expected["id"].astype(str))


def test_a_ledger_that_lags_behind_leaves_nothing_out(wh, tmp_path, monkeypatch):
    """A crash between commit and record, or a lost ledger: rows are found all the same."""
    copy = simulated().copy(tmp_path)
    real = ledger.read

    def behind(root, name, table, settings):
        rows = real(root, name, table, settings)
        return rows.slice(1) if table == "Source" else rows.clear()

    monkeypatch.setattr(ledger, "read", behind)
    opened = Warehouse.open(str(copy), settings=SETTINGS)
    for name in ("sourceTable_visit", "sourceTable", "objectTable", "objectTable_tract", "diaSourceTable_tract"):
        monkeypatch.setattr(ledger, "read", real)
        known = wh.data_ids(name)
        monkeypatch.setattr(ledger, "read", behind)
        assert opened.data_ids(name).rows() == known.rows(), name
        for key in known.drop("rows").to_dicts():
            assert opened.get(name, **key).height == wh.get(name, **key).height, name


@pytest.mark.parametrize(
    "less",
    [
        pl.lit(None, pl.String).alias("tracts"),
        pl.lit("[]").alias("tracts"),
        pl.col("data_id").str.replace(r'"detector": (\d+)', r'"detector": "R22_S$1"'),
    ],
    ids=["no tracts", "empty tracts", "detectors in words"],
)
def test_what_a_ledger_of_an_earlier_version_does_not_tell_leaves_nothing_out(by_detector, monkeypatch, less):
    known = by_detector.scan("Source").collect()["ccdVisitId"].value_counts()
    real = ledger.read
    monkeypatch.setattr(ledger, "read", lambda *asked: real(*asked).with_columns(less))
    opened = Warehouse.open(by_detector.uri, settings=SETTINGS)
    for number, rows in known.iter_rows():
        visit, detector = divmod(number, 1000)
        assert opened.get("sourceTable", visit=visit, detector=detector).height == rows


def test_a_dataset_without_rows_is_there_while_the_ledger_lags_behind_with_others(by_detector, monkeypatch):
    real = ledger.read
    monkeypatch.setattr(ledger, "read", lambda *asked: real(*asked).filter(~pl.col("data_id").str.contains(str(LAST))))
    opened = Warehouse.open(by_detector.uri, settings=SETTINGS)
    found = opened.get("sourceTable", visit=MIDDLE, detector=EMPTY)
    assert (found.height, found.columns) == (0, by_detector.columns("Source")["column"].to_list())
    with pytest.raises(NotFoundError, match="no sourceTable visit=192357 detector=7"):
        opened.get("sourceTable", visit=MIDDLE, detector=7)


def test_what_the_ledger_has_come_to_tell_is_known_to_who_has_asked_before(tmp_path):
    """A run dies between commit and record, and another brings the ledger up to date."""
    one, other = simulated().files("truth_summary")
    first, second = ({"tract": int(path.name.split("_")[2])} for path in (one, other))
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("TruthSummary", str(one))
    reader = Warehouse.open(made.uri, settings=SETTINGS)
    rows = reader.get("truth_summary", **first).height
    with skies.crashing("committed") as watch:
        made.ingest("TruthSummary", str(other), on_event=watch)
    with pytest.raises(NotFoundError, match="no truth_summary"):
        reader.get("truth_summary", **second)
    ledger.catch_up(made.uri, "TruthSummary", SETTINGS)
    assert reader.get("truth_summary", **second).height + rows == reader.scan("TruthSummary").collect().height
    assert reader.data_ids("truth_summary").select("tract").rows() == sorted((i["tract"],) for i in (first, second))


def test_a_dataset_stays_as_it_was_where_its_next_delivery_is_refused(tmp_path):
    path = Path(shutil.copy(simulated().files("truth_summary")[0], tmp_path))
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("TruthSummary", str(path))
    key, ids = {"tract": int(path.name.split("_")[2])}, made.data_ids("truth_summary")
    before = made.get("truth_summary", **key)
    path.write_bytes(b"PAR1 and no more")
    assert made.ingest("TruthSummary", str(path)).refused
    assert made.get("truth_summary", **key).rows() == before.rows() != []
    assert made.data_ids("truth_summary").rows() == ids.rows()


def test_plain_files_are_no_dataset_of_a_type_whatever_data_id_was_told_with_them(tmp_path):
    path = shutil.copy(simulated().files("truth_summary")[0], tmp_path / "truth.parquet")
    made = Warehouse.create(str(tmp_path / "warehouse"), settings=SETTINGS)
    made.ingest("TruthSummary", str(path), tract=3637)
    assert made.history("TruthSummary").select("dataset_type", "data_id").row(0) == (None, '{"tract": 3637}')
    assert made.data_ids("truth_summary").height == 0
    with pytest.raises(NotFoundError, match=r"no truth_summary tract=3637$"):
        made.get("truth_summary", tract=3637)


def test_a_table_that_holds_nothing_says_so(tmp_path):
    made = Warehouse.create(str(tmp_path / "empty"), settings=SETTINGS)
    assert isinstance(made.root, Root)
    with pytest.raises(NotFoundError, match="nothing has been loaded"):
        made.get("objectTable", tract=3831, patch=1)
    assert Path(tmp_path, "empty", "warehouse.json").exists()
