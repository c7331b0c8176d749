"""The tree that the simulated sky is delivered as: paths, files, keys, links, and the same values every time."""

import hashlib
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from warehouse import contracts
from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.simulate import DATASET_TYPES, RUN, simulate
from warehouse.simulate.observing import detector_name, nearest_detectors
from warehouse.simulate.simulation import threads
from warehouse.simulate.tree import butler_path
from warehouse.sky import skymap

# Where three tracts of DC2 meet: 3831 north, 3637 and 3638 south.
CORNER = {"ra": 62.487, "dec": -37.19, "radius": 0.12}
SMALL = {**CORNER, "objects": 700, "visits": 4, "detectors": 4, "seed": 3}
# Columns as published Butler files have them, without the index; DiaSource files have none.
PUBLISHED_COLUMNS = {
    "objectTable": (990, "objectId"),
    "objectTable_tract": (990, "objectId"),
    "sourceTable": (143, "sourceId"),
    "sourceTable_visit": (143, "sourceId"),
    "forcedSourceTable": (38, "forcedSourceId"),
    "forcedSourceTable_tract": (38, "forcedSourceId"),
    "diaObjectTable_tract": (137, "diaObjectId"),
    "diaSourceTable": (65, None),
    "diaSourceTable_tract": (65, None),
    "forcedSourceOnDiaObjectTable": (35, "forcedSourceOnDiaObjectId"),
    "forcedSourceOnDiaObjectTable_tract": (35, "forcedSourceOnDiaObjectId"),
    "visitTable": (14, "visit"),
    "ccdVisitTable": (29, "ccdVisitId"),
}


class Tree:
    """A small tree with every dataset type, and its tables read back by Polars."""

    def __init__(self, root):
        self.root = root
        self.calls = []
        self.report = simulate(
            str(root), **SMALL, dataset_types=DATASET_TYPES, on_file=lambda *call: self.calls.append(call)
        )

    def files(self, dataset_type):
        return sorted(path for path in self.root.rglob("*.parq") if f"/{dataset_type}/" in str(path))

    def read(self, dataset_type):
        frames = [pl.read_parquet(path) for path in self.files(dataset_type)]
        return pl.concat(frames, how="diagonal")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return Tree(tmp_path_factory.mktemp("sky"))


def digests(root):
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.parq")}


# ------------------------------------------------------------------------------------------------------ the files


def test_paths_are_those_of_published_file_stores():
    run = "2.2i/runs/DP0.2/v23_0_1/PREOPS-905/step3_1/20220317T233937Z"
    assert butler_path(run, "objectTable_tract", {"tract": 2897, "skymap": "DC2"}) == (
        f"{run}/objectTable_tract/2897/"
        "objectTable_tract_2897_DC2_2_2i_runs_DP0_2_v23_0_1_PREOPS-905_step3_1_20220317T233937Z.parq"
    )
    data_id = {
        "instrument": "LSSTCam-imSim",
        "day_obs": 20221017,
        "band": "i",
        "physical_filter": "i_sim_1.4",
        "visit": 214437,
        "detector": "R20_S20",
    }
    assert butler_path("r/s", "calexp", data_id) == (
        "r/s/calexp/20221017/i/i_sim_1.4/214437/calexp_LSSTCam-imSim_i_i_sim_1_4_214437_R20_S20_r_s.parq"
    )
    truth = butler_path("2.2i/truth_summary", "truth_summary", {"tract": 3828, "skymap": "DC2"})
    assert truth.endswith("/truth_summary/3828/truth_summary_3828_DC2_2_2i_truth_summary.parq")


def test_every_dataset_type_is_written_where_the_report_says(tree):
    assert set(tree.report.files) == set(contracts.load("dp02").dataset_types)
    found = {str(path.relative_to(tree.root)) for path in tree.root.rglob("*") if path.is_file()}
    assert found == set(tree.report.paths)
    for dataset_type in DATASET_TYPES:
        files = tree.files(dataset_type)
        assert len(files) == tree.report.files[dataset_type] > 0
        assert sum(pq.read_metadata(path).num_rows for path in files) == tree.report.rows[dataset_type] > 0
        assert sum(path.stat().st_size for path in files) == tree.report.bytes[dataset_type]
    assert tree.report.tracts == (3637, 3638, 3831)


def test_progress_is_told_file_by_file(tree):
    assert len(tree.calls) == len(tree.report.paths)
    assert {name for name, _, _ in tree.calls} == set(DATASET_TYPES)
    assert sum(rows for _, rows, _ in tree.calls) == sum(tree.report.rows.values())


@pytest.mark.parametrize("dataset_type", PUBLISHED_COLUMNS)
def test_pandas_reads_the_published_columns_and_the_key_as_index(tree, dataset_type):
    columns, index = PUBLISHED_COLUMNS[dataset_type]
    frame = pd.read_parquet(tree.files(dataset_type)[0])
    assert (frame.shape[1], frame.index.name) == (columns, index)
    assert len(frame) > 0


@pytest.mark.parametrize("dataset_type", DATASET_TYPES)
def test_files_hold_the_contract_s_columns_and_types_uncompressed(tree, dataset_type):
    contract, _ = contracts.load("dp02").dataset_types[dataset_type]
    orders = set()
    for path in tree.files(dataset_type):
        parquet = pq.ParquetFile(path)
        assert parquet.metadata.num_row_groups == 1
        assert parquet.metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
        schema = parquet.schema_arrow
        optional = set(contract.derive) | set(contract.ignore)
        assert {column.name for column in contract.columns} - set(schema.names) <= optional
        assert set(schema.names) - {column.name for column in contract.columns} <= optional
        for column in contract.columns:
            if column.name in schema.names:
                told = str(schema.field(column.name).type)
                assert told == ("timestamp[ns]" if column.datatype == "timestamp" else str(column.arrow)), column.name
        orders.add(tuple(schema.names))
    assert len(orders) == len(tree.files(dataset_type)), "column order differs from file to file"


def test_measured_columns_do_not_compress(tree):
    path = max(tree.files("objectTable_tract"), key=lambda path: path.stat().st_size)
    frame = pl.read_parquet(path)
    rows = frame.height
    constant = [
        name
        for name, values in frame.select(pl.selectors.float()).to_dict().items()
        if values.drop_nans().n_unique() < 0.9 * values.drop_nans().len() and "xtendedness" not in name
    ]
    # A source has one position error, which its rows in other patches share.
    assert set(constant) <= {"xErr", "yErr"}
    assert rows > 100
    flags = frame.select(pl.selectors.boolean().mean())
    assert 0.0 < flags.row(0)[0] < 0.9


def test_absent_bands_are_nan_with_flags_set_and_a_fill_value(tree):
    objects = tree.read("objectTable")
    # An aperture flux is never lost but with its whole band.
    absent = objects.filter(pl.col("u_ap12Flux").is_nan())
    assert 0 < absent.height < 0.1 * objects.height
    assert absent["u_cModelFlux"].is_nan().all()
    assert absent["u_kronFlux_flag"].all()
    assert absent["u_pixelFlags_edge"].all()
    assert absent["u_inputCount"].unique().to_list() == [-1]
    assert not absent["r_ap12Flux"].is_nan().all()
    present = objects.filter(~pl.col("u_ap12Flux").is_nan())
    assert present["u_kronFlux_flag"].mean() < 0.05
    assert present["u_inputCount"].min() > 0


# ---------------------------------------------------------------------------------------------------- keys and links


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("objectTable", "objectTable_tract"),
        ("sourceTable", "sourceTable_visit"),
        ("forcedSourceTable", "forcedSourceTable_tract"),
        ("forcedSourceOnDiaObjectTable", "forcedSourceOnDiaObjectTable_tract"),
    ],
)
def test_two_dataset_types_of_a_table_hold_the_same_rows(tree, one, other):
    key = PUBLISHED_COLUMNS[one][1]
    first, second = tree.read(one).sort(key), tree.read(other).sort(key)
    assert first[key].n_unique() == first.height
    assert first.equals(second.select(first.columns), null_equal=True)


def test_object_ids_pack_tract_and_patch_and_count_from_one(tree):
    objects = tree.read("objectTable")
    place = objects["tract"] * 49 + objects["patch"]
    assert (objects["objectId"] // 2**43).equals(place.rename("objectId"))
    counts = objects.group_by("tract", "patch").agg(
        (pl.col("objectId") % 2**43).min().alias("first"),
        (pl.col("objectId") % 2**43).max().alias("last"),
        pl.col("objectId").n_unique().alias("ids"),
        pl.len(),
    )
    assert counts["first"].unique().to_list() == [1]
    assert (counts["last"] == counts["len"]).all()
    assert (counts["ids"] == counts["len"]).all()


def test_source_ids_pack_visit_and_detector_and_count_from_one(tree):
    for dataset_type, key in (("sourceTable", "sourceId"), ("diaSourceTable", "diaSourceId")):
        sources = tree.read(dataset_type)
        assert (sources[key] // 2**29 == sources["ccdVisitId"]).all()
        counters = sources.group_by("ccdVisitId").agg((pl.col(key) % 2**29).max().alias("last"), pl.len())
        assert (counters["last"] == counters["len"]).all()
        assert sources[key].n_unique() == sources.height
    sources = tree.read("sourceTable")
    assert (sources["ccdVisitId"] == sources["visit"] * 1000 + sources["detector"]).all()


def test_forced_ids_are_unique_over_all_tracts(tree):
    for dataset_type in ("forcedSourceTable", "forcedSourceOnDiaObjectTable"):
        rows, key = tree.read(dataset_type), PUBLISHED_COLUMNS[dataset_type][1]
        assert rows[key].n_unique() == rows.height
        assert (rows[key] // 2**29 == rows["ccdVisitId"]).all()


@pytest.mark.parametrize("dataset_type", DATASET_TYPES)
def test_foreign_keys_hold(tree, dataset_type):
    release = contracts.load("dp02")
    contract, _ = release.dataset_types[dataset_type]
    home = {c.table: d.name for c in release.tables.values() for d in c.dataset_types[:1]}
    rows = tree.read(dataset_type)
    for link in contract.foreign_keys:
        if link.table not in home or link.column not in rows.columns or link.references == "id_truth_type":
            continue
        none = {*link.none, *contract.null_values.get(link.column, ())}
        values = rows.filter(~pl.col(link.column).is_in(list(none)))[link.column].drop_nulls()
        assert values.is_in(tree.read(home[link.table])[link.references].implode()).all(), link


def test_difference_sources_by_tract_are_those_of_the_visits_with_their_objects(tree):
    by_visit, by_tract = (
        tree.read("diaSourceTable").sort("diaSourceId"),
        tree.read("diaSourceTable_tract").sort("diaSourceId"),
    )
    assert by_visit["diaObjectId"].unique().to_list() == [0]
    assert by_tract["diaObjectId"].min() > 0
    same = [name for name in by_visit.columns if name != "diaObjectId"]
    assert by_visit.select(same).equals(by_tract.select(same))
    counts = by_tract.group_by("diaObjectId").len()
    joined = tree.read("diaObjectTable_tract").join(counts, on="diaObjectId", validate="1:1")
    assert joined.height == counts.height == tree.report.rows["diaObjectTable_tract"]
    assert (joined["nDiaSources"] == joined["len"]).all()


def test_difference_objects_lie_in_the_tract_and_patch_of_their_id(tree):
    rows = tree.read("diaObjectTable_tract")
    tract, patch = skymap.named("DC2").find(rows["ra"].to_numpy(), rows["decl"].to_numpy())
    assert (rows["diaObjectId"].to_numpy() >> 43 == tract * 49 + patch).all()


def test_visits_and_detectors_tell_the_same(tree):
    visits, detectors = tree.read("visitTable"), tree.read("ccdVisitTable")
    assert visits.height == 4
    assert detectors.height == 4 * 4
    joined = detectors.join(visits, left_on="visitId", right_on="visit", validate="m:1")
    assert joined.height == detectors.height
    for name in ("band", "physical_filter", "expMidptMJD", "expMidpt"):
        assert (joined[name] == joined[f"{name}_right"]).all()
    epoch = pl.datetime(1858, 11, 17)
    days = visits.select((pl.col("expMidpt") - epoch).dt.total_microseconds() / 86_400e6)["expMidpt"]
    assert np.allclose(days, visits["expMidptMJD"], atol=1e-9)
    assert all(later > earlier for earlier, later in pairwise(visits.sort("visit")["expMidptMJD"]))


def test_detectors_are_named_and_chosen_as_on_the_focal_plane():
    assert nearest_detectors(9) == tuple(range(90, 99))
    assert nearest_detectors(189) == tuple(range(189))
    assert [detector_name(d) for d in (0, 94, 175, 188)] == ["R01_S00", "R22_S11", "R42_S11", "R43_S22"]


# ---------------------------------------------------------------------------------------------------------- geometry


def test_flags_follow_from_the_sky_map(tree):
    sky, rows = skymap.named("DC2"), tree.read("objectTable")
    ra, dec = rows["coord_ra"].to_numpy(), rows["coord_dec"].to_numpy()
    tract, patch = rows["tract"].to_numpy(), rows["patch"].to_numpy()
    assert sky.in_outer(tract, patch, ra, dec).all()
    x, y = sky.to_pixels(tract, ra, dec)
    assert np.allclose(rows["x"], x, atol=1e-6)
    assert np.allclose(rows["y"], y, atol=1e-6)
    inner_tract, inner_patch = sky.find(ra, dec)
    assert (rows["detect_isTractInner"].to_numpy() == (inner_tract == tract)).all()
    # Inner boxes are 4000 pixels, numbered along x first.
    own = np.floor((y + 0.5) / 4000) * 7 + np.floor((x + 0.5) / 4000)
    assert (rows["detect_isPatchInner"].to_numpy() == (own == patch)).all()
    expected = (inner_tract == tract) & (inner_patch == patch)
    expected &= (rows["deblend_nChild"] == 0).to_numpy() & ~rows["merge_peak_sky"].to_numpy()
    assert (rows["detect_isPrimary"].to_numpy() == expected).all()


def test_each_found_source_has_one_primary_row_and_others_in_borders_and_overlaps(tree):
    rows = tree.read("objectTable").filter(~pl.col("merge_peak_sky") & (pl.col("deblend_nChild") == 0))
    places = rows.group_by("coord_ra", "coord_dec").agg(
        pl.col("detect_isPrimary").sum().alias("primaries"), pl.len(), pl.col("tract").n_unique().alias("tracts")
    )
    assert places.height == tree.report.truth["detected"] == SMALL["objects"]
    assert places["primaries"].unique().to_list() == [1]
    assert places["tracts"].max() == 3
    assert (places["len"] > places["tracts"]).any(), "some lie in the border of a neighbouring patch"


def test_every_object_is_in_each_patch_whose_outer_box_holds_it(tree):
    sky = skymap.named("DC2")
    rows = tree.read("objectTable").filter(~pl.col("merge_peak_sky") & (pl.col("deblend_nChild") == 0))
    places = rows.select("coord_ra", "coord_dec").unique()
    expected = 0
    for tract in sky.neighbours(3831).tolist():
        for patch in range(49):
            expected += int(sky.in_outer(tract, patch, places["coord_ra"], places["coord_dec"]).sum())
    assert rows.height == expected


def test_deblended_children_point_to_a_parent_of_their_patch(tree):
    rows = tree.read("objectTable")
    children = rows.filter(pl.col("parentObjectId") > 0)
    parents = rows.filter(pl.col("deblend_nChild") > 0)
    assert children.height > 0
    counted = children.group_by("parentObjectId").len()
    joined = parents.join(counted, left_on="objectId", right_on="parentObjectId", validate="1:1")
    assert joined.height == parents.height
    assert (joined["deblend_nChild"] == joined["len"]).all()
    assert not parents["detect_isPrimary"].any()


def test_forced_photometry_covers_each_object_in_each_visit_that_sees_it(tree):
    objects = tree.read("objectTable")
    forced = tree.read("forcedSourceTable")
    corners = tree.read("ccdVisitTable")
    assert forced.select("objectId", "ccdVisitId").n_unique() == forced.height
    expected = set()
    for row in corners.iter_rows(named=True):
        inside = inside_polygon(
            objects["coord_ra"].to_numpy(),
            objects["coord_dec"].to_numpy(),
            [(row[f"{c}cra"], row[f"{c}cdec"]) for c in ("ll", "ul", "ur", "lr")],
        )
        expected |= {(i, row["ccdVisitId"]) for i in objects["objectId"].to_numpy()[inside].tolist()}
    assert set(forced.select("objectId", "ccdVisitId").iter_rows()) == expected


def inside_polygon(ra, dec, corners):
    """Whether points lie on the same side of all four great circles."""

    def unit(ra, dec):
        ra, dec = np.radians(ra), np.radians(dec)
        return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)

    points, (a, b, c, d) = unit(ra, dec), [unit(*corner) for corner in corners]
    sides = np.stack([points @ np.cross(start, end) for start, end in ((a, b), (b, c), (c, d), (d, a))])
    return (sides >= 0).all(axis=0) | (sides <= 0).all(axis=0)


# ------------------------------------------------------------------------------------------------------------- truth


def test_truth_overlaps_between_tracts_and_is_unique_once(tree):
    truth = tree.read("truth_summary")
    name = truth["id"] + "_" + truth["truth_type"].cast(pl.String)
    counts = (
        truth.with_columns(name.alias("name")).group_by("name").agg(pl.col("is_unique_truth_entry").sum(), pl.len())
    )
    assert counts["is_unique_truth_entry"].unique().to_list() == [1]
    assert counts["len"].max() == 3
    assert counts.height == sum(n for kind, n in tree.report.truth.items() if kind != "detected")
    assert truth["id"].n_unique() < counts.height, "ids are unique only together with the type"
    unique = truth.filter("is_unique_truth_entry")
    supernovae = unique.filter(pl.col("truth_type") == 3)
    assert supernovae["flux_r"].unique().to_list() == [0.0]
    assert (
        supernovae["host_galaxy"].is_in(unique.filter(pl.col("truth_type") == 1)["id"].cast(pl.Int64).implode()).all()
    )
    assert unique.filter(pl.col("truth_type") != 3)["host_galaxy"].unique().to_list() == [-1]


def test_matches_have_a_row_for_each_truth_row_and_name_primary_objects(tree):
    truth, match = tree.read("truth_summary"), tree.read("match_ref_truth_summary_objectTable_tract")
    assert match.height == truth.height
    matched = match.filter(pl.col("match_objectId") > 1)
    primary = tree.read("objectTable").filter("detect_isPrimary")["objectId"]
    assert matched["match_objectId"].n_unique() == matched.height
    assert matched["match_objectId"].is_in(primary.implode()).all()
    assert matched["match_candidate"].all()
    assert matched["match_chisq"].is_finite().all()
    others = match.filter(pl.col("match_objectId") <= 1)
    assert set(others["match_objectId"].unique()) <= {0, -1, -(2**63)}
    assert others["match_count"].unique().to_list() == [0]
    assert others["match_chisq"].is_nan().all()
    # All but a few of the found ones are bright enough in six bands together.
    assert matched.height > 0.97 * SMALL["objects"]


def test_match_candidates_are_unique_and_bright_enough_in_all_bands_together(tree):
    files = zip(tree.files("truth_summary"), tree.files("match_ref_truth_summary_objectTable_tract"), strict=True)
    for truth, match in ((pl.read_parquet(a), pl.read_parquet(b)) for a, b in files):
        assert (truth["id"] == match["id"]).all()
        total = sum(truth[f"flux_{band}"].cast(pl.Float64) for band in "ugrizy")
        bright = total >= 10 ** (0.4 * (31.4 - 27.0))
        assert (match["match_candidate"] == (truth["is_unique_truth_entry"] & bright)).all()
        assert (bright & ~truth["is_unique_truth_entry"]).any()


# ------------------------------------------------------------------------------------------- the same, every time


@pytest.fixture(scope="module")
def tables():
    return ("objectTable", "sourceTable_visit", "forcedSourceTable_tract", "diaSourceTable_tract", "truth_summary")


def test_files_do_not_depend_on_workers_nor_on_what_else_is_written(tree, tables, tmp_path):
    for workers in (1, 3):
        root = tmp_path / str(workers)
        simulate(str(root), **SMALL, dataset_types=tables, settings=Settings(workers=workers))
        all_files = digests(tree.root)
        found = digests(root)
        assert len(found) > 10
        assert {path: all_files[path] for path in found} == found


def test_another_seed_is_another_sky(tree, tmp_path):
    simulate(str(tmp_path), **{**SMALL, "seed": 4}, dataset_types=["visitTable"])
    assert not pl.read_parquet(next(tmp_path.rglob("*.parq"))).equals(tree.read("visitTable"))


def test_later_visits_continue_the_sequence(tree, tmp_path):
    simulate(
        str(tmp_path), **{**SMALL, "visits": 2, "first_visit": 2}, dataset_types=["sourceTable_visit", "diaSourceTable"]
    )
    later = digests(tmp_path)
    assert 0 < len(later) <= 4
    everything = digests(tree.root)
    assert {path: everything[path] for path in later} == later


def test_reprocessing_changes_values_and_neither_keys_nor_positions(tree, tmp_path):
    run = "2.2i/runs/DP0.2/simulated/20250101T000000Z"
    report = simulate(
        str(tmp_path), **SMALL, dataset_types=["objectTable"], run=run, reprocessing=1, only={"tract": [3831]}
    )
    assert all(path.startswith(f"{run}/objectTable/3831/") for path in report.paths)
    again = pl.concat([pl.read_parquet(tmp_path / path) for path in report.paths], how="diagonal").sort("objectId")
    once = tree.read("objectTable").filter(pl.col("tract") == 3831).sort("objectId")
    same = ["objectId", "coord_ra", "coord_dec", "tract", "patch", "detect_isPrimary"]
    assert again.select(same).equals(once.select(same))
    assert (again["i_cModelFlux"] != once["i_cModelFlux"]).mean() > 0.99


def test_a_tree_has_one_dataset_type_a_table_unless_told(tmp_path):
    report = simulate(str(tmp_path), **{**SMALL, "objects": 50, "visits": 1}, tables=["Object", "Visit", "Source"])
    assert set(report.files) == {"objectTable", "visitTable", "sourceTable_visit"}
    assert all(re.match(rf"{RUN}/\w+/", path) for path in report.paths)


def test_forced_epochs_bound_the_visits_of_forced_tables(tree, tmp_path):
    simulate(str(tmp_path), **SMALL, dataset_types=["forcedSourceTable_tract"], forced_epochs=1)
    rows = pl.concat([pl.read_parquet(path) for path in tmp_path.rglob("*.parq")], how="diagonal")
    first = tree.read("visitTable")["visit"].min()
    assert (rows["ccdVisitId"] // 1000).unique().to_list() == [first]


def test_large_files_are_closed_into_several_row_groups(tmp_path):
    report = simulate(
        str(tmp_path),
        **SMALL,
        dataset_types=["forcedSourceTable_tract"],
        row_group_bytes=10_000,
        only={"tract": [3831]},
    )
    (path,) = report.paths
    assert pq.read_metadata(tmp_path / path).num_row_groups > 1
    assert pd.read_parquet(tmp_path / path).index.name == "forcedSourceId"


@pytest.mark.parametrize("place", [(0.0, 0.0), (359.999, -45.0), (10.0, 89.99), (200.0, -90.0)])
def test_the_sky_has_no_seams(tmp_path, place):
    ra, dec = place
    report = simulate(
        str(tmp_path),
        ra=ra,
        dec=dec,
        radius=0.05,
        objects=60,
        visits=1,
        tables=["Object", "TruthSummary"],
    )
    rows = pl.concat([pl.read_parquet(tmp_path / p) for p in report.paths if "/objectTable/" in p], how="diagonal")
    assert rows.filter("detect_isPrimary").height == 60
    assert rows["coord_ra"].is_between(0.0, 360.0, closed="left").all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"radius": 0.0}, "radius"),
        ({"dec": 91.0}, "dec"),
        ({"objects": 0}, "objects"),
        ({"detectors": 190}, "detectors"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, wrong, told):
    with pytest.raises(QueryError, match=told):
        simulate(str(tmp_path), **wrong)


def test_only_releases_with_these_tables_can_be_simulated(tmp_path):
    with pytest.raises(QueryError, match="dp1 cannot be simulated"):
        simulate(str(tmp_path), release="dp1")


def test_unknown_names_are_told_with_near_misses(tmp_path):
    with pytest.raises(NotFoundError, match="objectTable"):
        simulate(str(tmp_path), dataset_types=["objectTables"])
    with pytest.raises(NotFoundError, match="Object"):
        simulate(str(tmp_path), tables=["object"])
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(("memory", "expected"), [("512MiB", 1), ("2GiB", 2), ("16GiB", 8)])
def test_no_more_files_are_written_at_once_than_the_memory_has_room_for(memory, expected):
    # As measured with as many objects: 0.55 GB for the sky, up to 0.55 GB a thread.
    assert threads(Settings(memory=memory, workers=8), objects=900_000, row_group_bytes=128 << 20) == expected
