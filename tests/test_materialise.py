"""ObjectTruth follows its inputs: which tracts are made again and why, across edges, after crashes, with bad rows."""

import json
import threading
import tomllib
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from flows.cli import app
from support.joined import by_hand, said
from support.small_truth import (
    BANDS,
    JOINED,
    MATCHES,
    OBJECT,
    TRUTH,
    SmallTruth,
    match_row,
    object_row,
    truth_row,
)
from warehouse import Warehouse
from warehouse.contracts.derived import ObjectChoice, fitting
from warehouse.errors import ConflictError, NotFoundError, QueryError, StorageError
from warehouse.lake import audit, delta
from warehouse.lake import root as roots
from warehouse.simulate import simulate
from warehouse.truth import joining
from warehouse.truth import materialise as module
from warehouse.truth.join import Tally
from warehouse.truth.materialise import materialise, origin, staleness
from warehouse.truth.units import STAGING


@pytest.fixture
def world(tmp_path, settings):
    """Three tracts of two patches: truth n is matched with object n, each tenth truth with none."""
    world = SmallTruth.at(tmp_path / "warehouse", settings)
    for tract in (1, 2, 3):
        numbers = range(10 * tract, 10 * tract + 10)
        world.put(OBJECT, tract, [object_row(n, n % 2) for n in numbers if n % 10])
        world.put(TRUTH, tract, [truth_row(n, n % 2) for n in numbers])
        world.put(MATCHES, tract, [match_row(n, n if n % 10 else None, n % 2) for n in numbers])
    return world


def made(world, **words):
    return materialise(world.root, world.settings, **words)


def holds(world):
    """Whether ObjectTruth is the join, row by row, of what its inputs should hold."""
    return said(world.joined()) == by_hand(world.whole(MATCHES), world.whole(TRUTH), world.whole(OBJECT))


def files_by_tract(world):
    files = delta.snapshot(world.root.table_uri(JOINED), world.settings).files
    return {t: set(files.filter(pl.col("tract") == t)["path"]) for t in files["tract"].unique()}


def test_the_first_run_makes_every_tract_in_one_commit(world):
    done = made(world)
    assert holds(world)
    assert done.tracts == {tract: ["never made"] for tract in (1, 2, 3)}
    assert done.tally == Tally(27, 3, 0, 0, 0, 0, 0)
    assert done.version == 1
    assert done.files == 6


def test_a_patch_lies_by_status_then_position_so_that_matches_are_read_without_the_rest(world):
    by = ["match_status", "dec_deg", "ra_deg"]
    world.put(TRUTH, 1, [truth_row(n, 0, dec=-37.0 + (n * 7 % 10) / 3600) for n in range(10, 20)])
    world.put(MATCHES, 1, [match_row(n, n if n % 3 else None, 0) for n in range(10, 20)])
    world.put(OBJECT, 1, [object_row(n, 0) for n in range(10, 20)])
    made(world)
    frames = [pl.read_parquet(path, glob=False) for path in Path(world.root.table_uri(JOINED)).rglob("*.parquet")]
    assert {status for frame in frames for status in frame["match_status"]} == {"matched", "missed", "unmatched_object"}
    for frame in frames:
        assert frame.select(by).rows() == sorted(frame.select(by).rows())


def test_a_run_with_nothing_to_do_commits_nothing(world):
    made(world)
    again = made(world)
    assert again.nothing_new
    assert again.version == delta.snapshot(world.root.table_uri(JOINED), world.settings).version == 1


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (OBJECT, [object_row(n, 0) for n in (21, 22, 50)]),
        (TRUTH, [truth_row(n, 1) for n in range(20, 25)]),
        (MATCHES, [match_row(n, None) for n in range(20, 30)]),
        (OBJECT, []),
        (TRUTH, []),
        (MATCHES, []),
    ],
)
def test_only_the_tract_that_changed_is_made_again(world, table, rows):
    made(world)
    before = files_by_tract(world)
    world.put(table, 2, rows)
    found = staleness(world.root, world.settings)
    assert list(found.tracts) == [2]
    assert found.tracts[2][0].startswith(f"{table}: ")
    done = made(world)
    assert dict(done.tracts) == dict(found.tracts)
    assert holds(world)
    after = files_by_tract(world)
    assert (after[1], after[3]) == (before[1], before[3])
    assert not after.get(2, set()) & before[2]
    assert staleness(world.root, world.settings).up_to_date


def test_a_match_across_a_tract_is_found_once_and_follows_either_side(world):
    # Truth 10 of tract 1 is matched with object 35 of tract 3, which truth 35 leaves alone.
    world.put(MATCHES, 3, [match_row(n, n if n % 10 and n != 35 else None, n % 2) for n in range(30, 40)])
    world.put(MATCHES, 1, [match_row(n, 35 if n == 10 else n, n % 2) for n in range(10, 20)])
    done = made(world)
    assert holds(world)
    assert done.tally.across_tracts == 1
    row = world.joined().filter(pl.col("mt_id_truth_type") == "10_1").row(0, named=True)
    assert (row["tract"], row["ts_tract"], row["match_status"]) == (3, 1, "matched")
    # The object goes: the truth falls back to its own tract, which did not change.
    world.put(OBJECT, 3, [object_row(n, n % 2) for n in range(31, 40) if n != 35])
    done = made(world)
    assert holds(world)
    assert done.tracts[1] == ["shares a match with tract 3"]
    assert list(done.tracts) == [1, 3]
    assert done.tally.absent_objects == 1
    # The object comes back: as before.
    world.put(OBJECT, 3, [object_row(n, n % 2) for n in range(31, 40)])
    assert list(made(world).tracts) == [1, 3]
    assert holds(world)
    # The truth goes: its object is alone.
    world.put(TRUTH, 1, [truth_row(n, n % 2) for n in range(11, 20)])
    assert list(made(world).tracts) == [1, 3]
    assert holds(world)
    assert world.joined().filter(pl.col("match_status") == "unmatched_object")["obj_objectId"].to_list() == [37]


def test_a_truth_row_that_moved_to_another_tract_keeps_its_match(world):
    made(world)
    world.put(TRUTH, 1, [truth_row(n, n % 2) for n in range(11, 20)])
    world.put(TRUTH, 2, [truth_row(n, n % 2) for n in (10, *range(20, 30))])
    done = made(world)
    assert holds(world)
    assert list(done.tracts) == [1, 2]
    row = world.joined().filter(pl.col("mt_id_truth_type") == "10_1").row(0, named=True)
    assert (row["tract"], row["match_status"]) == (2, "missed")


def test_patches_made_a_few_at_a_time_are_the_same_rows(world, monkeypatch):
    # Truth of patch 0 that is matched in patch 1, and the other way round.
    crossing = [match_row(n, n + 1 if n % 2 and n < 19 else None, n % 2) for n in range(10, 20)]
    world.put(MATCHES, 1, crossing)
    whole = made(world)
    expected = world.joined()
    monkeypatch.setattr(joining, "GROUP_BYTES", 1)
    again = made(world, choice=ObjectChoice(bands=BANDS, columns=("refExtendedness", "detect_isPrimary")))
    assert holds(world)
    assert again.tally == whole.tally
    assert again.tally.across_patches == 4
    columns = [name for name in world.joined().columns if name in expected.columns]
    by = ["mt_id_truth_type", "obj_objectId"]
    assert_frame_equal(world.joined().select(columns).sort(by), expected.select(columns).sort(by))


def test_no_group_of_patches_reads_its_neighbours_files(world, monkeypatch):
    places = [n % 5 for n in range(20)]
    world.put(TRUTH, 1, [truth_row(n, place) for n, place in enumerate(places)])
    world.put(OBJECT, 1, [object_row(n, (place + max(0, 3 - n // 5)) % 5) for n, place in enumerate(places)])
    world.put(MATCHES, 1, [match_row(n, n, place) for n, place in enumerate(places)])
    read = joining.tables.read
    wide = []

    def counted(part, contract, columns, settings):
        if contract.table == TRUTH and "redshift" in columns:
            wide.extend(file.path for file in part.files)
        return read(part, contract, columns, settings)

    monkeypatch.setattr(joining, "GROUP_BYTES", 1)
    monkeypatch.setattr(joining.tables, "read", counted)
    made(world)
    assert holds(world)
    # Once for its own patch, and once for the few rows that others need.
    assert {path: wide.count(path) for path in wide if "tract=1" in path} == {
        path: 2 for path in wide if "tract=1" in path
    }


def test_a_contradiction_in_a_linked_tract_does_not_stop_this_one(world):
    world.put(MATCHES, 3, [match_row(n, n if n % 10 and n != 35 else None, n % 2) for n in range(30, 40)])
    world.put(MATCHES, 1, [match_row(n, 35 if n == 10 else n, n % 2) for n in range(10, 20)])
    world.put(OBJECT, 3, [object_row(n, 0) for n in (32, 32, 35)])
    done = made(world)
    assert list(done.failed) == [3]
    assert list(done.tracts) == [1, 2]


def test_two_truths_that_claim_one_object_are_two_rows_and_counted(world):
    world.put(MATCHES, 1, [match_row(n, 11, n % 2) for n in range(10, 20)])
    assert made(world).tally.shared_objects == 1
    assert holds(world)


def test_a_tract_that_contradicts_itself_is_left_and_the_others_go_on(world):
    made(world)
    before = files_by_tract(world)
    world.put(TRUTH, 1, [truth_row(n, n % 2) for n in (11, 11, 12)])
    world.put(OBJECT, 2, [object_row(n, n % 2) for n in range(21, 25)])
    done = made(world)
    assert list(done.tracts) == [2]
    assert "TruthSummary" in done.failed[1]
    assert "id_truth_type stands twice" in done.failed[1]
    assert files_by_tract(world)[1] == before[1]
    found = staleness(world.root, world.settings)
    assert list(found.tracts) == [1]
    assert "failed before" in found.tracts[1][0]
    world.put(TRUTH, 1, [truth_row(n, n % 2) for n in (11, 12)])
    assert list(made(world).tracts) == [1]
    assert holds(world)


def test_an_interrupted_run_is_gone_on_with(world, monkeypatch):
    work = joining.join_unit
    done = []

    def dies_at_the_third(unit, settings, on_event):
        if unit.tract == 3:
            raise StorageError("the store went away", kind="unreachable")
        done.append(unit.tract)
        return work(unit, settings, on_event)

    monkeypatch.setattr(module, "join_unit", dies_at_the_third)
    with pytest.raises(StorageError):
        made(world)
    monkeypatch.setattr(module, "join_unit", work)
    seen = []
    made(world, on_event=lambda event: seen.append((event.step, event.detail)))
    assert {("resumed", f"tract {tract}") for tract in done} <= set(seen)
    assert ("staging", "tract 3") in seen
    assert holds(world)
    assert not list((delta_path(world) / STAGING).glob("*.json"))


def delta_path(world):
    return Path(world.root.table_uri(JOINED))


def test_what_an_earlier_run_committed_and_did_not_clear_away_is_not_committed_twice(world, monkeypatch):
    monkeypatch.setattr(module, "clear", lambda *_: None)
    made(world)
    left = list((delta_path(world) / STAGING).glob("*.json"))
    assert left
    # The same files again: another tract's rows come and go, and the choice of columns is the same.
    monkeypatch.undo()
    base = delta.snapshot(world.root.table_uri(JOINED), world.settings)
    delta.commit(base, "nothing", world.settings, metadata={"materialise": {**noted(world), "versions": {}}})
    made(world)
    assert holds(world)
    assert world.joined().height == 30


def noted(world):
    log = delta_path(world) / "_delta_log" / f"{1:020d}.json"
    info = next(json.loads(line) for line in log.read_text("utf-8").splitlines() if "commitInfo" in line)
    return info["commitInfo"]["tractlake"]["materialise"]


def test_of_two_runs_at_once_one_commits_and_the_other_finds_nothing_to_do(world):
    gate = threading.Barrier(2, timeout=60)
    first = threading.local()

    def meet(event):
        if event.step == "planned" and not getattr(first, "met", False):
            first.met = True
            gate.wait()

    reports = []
    threads = [threading.Thread(target=lambda: reports.append(made(world, on_event=meet))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.nothing_new for report in reports) == [False, True]
    assert holds(world)


def test_other_columns_make_the_whole_table_again_under_another_schema(world):
    made(world)
    assert "obj_refBand" not in world.joined().columns  # the small release has none
    choice = ObjectChoice(bands=("r",), columns=("detect_isPrimary",), per_band=("{band}_cModelFlux",), magnitudes=())
    done = made(world, choice=choice)
    assert done.tracts == {tract: ["other columns"] for tract in (1, 2, 3)}
    names = [name for name in world.joined().columns if name.startswith("obj_")]
    assert names == ["obj_objectId", "obj_coord_ra", "obj_coord_dec", "obj_detect_isPrimary", "obj_r_cModelFlux"]
    assert holds(world)
    # Without being told again, the choice is kept.
    world.put(OBJECT, 2, [])
    assert list(made(world).tracts) == [2]
    assert set(names) == {name for name in world.joined().columns if name.startswith("obj_")}
    told = origin(world.root, delta.snapshot(world.root.table_uri(JOINED), world.settings), world.settings)
    assert [c.name for c in told.contract.columns if c.name.startswith("obj_")] == names


def test_the_bands_that_a_release_has_are_taken_and_one_that_it_lacks_is_named(world):
    assert fitting(world.root.contract(OBJECT)).bands == BANDS
    with pytest.raises(NotFoundError, match="y_extendedness"):
        made(world, choice=ObjectChoice(bands=("y",), columns=()))
    with pytest.raises(QueryError, match="different bands"):
        ObjectChoice(bands=("r", "r"))


def test_a_set_from_a_table_that_was_never_made_says_what_makes_it(tmp_path, settings):
    wh = Warehouse.create(str(tmp_path / "empty"), settings=settings)
    for ask in (wh.photoz, lambda: wh.write_photoz(tmp_path / "set.csv"), lambda: wh.report(tmp_path / "report")):
        with pytest.raises(NotFoundError, match="`tractlake materialise` makes it"):
            ask()


def test_a_missing_table_is_named_with_what_fills_it(tmp_path, settings):
    root = roots.create(str(tmp_path / "empty"), "dp02", settings)
    with pytest.raises(NotFoundError, match=r"TruthSummary.*truth_summary"):
        materialise(root, settings)


def test_an_input_whose_log_was_cut_off_makes_everything_again(world):
    made(world)
    world.put(OBJECT, 2, [])
    log = delta_path(world).parent / OBJECT / "_delta_log"
    delta.checkpoint(delta.snapshot(world.root.table_uri(OBJECT), world.settings))
    for version in range(4):
        (log / f"{version:020d}.json").unlink()
    done = made(world)
    assert list(done.tracts) == [1, 2, 3]
    assert holds(world)


def test_a_commit_that_was_overtaken_too_often_is_a_conflict(world, monkeypatch):
    def overtaken(*_args, **_words):
        raise ConflictError("another was first")

    monkeypatch.setattr(module.delta, "commit", overtaken)
    with pytest.raises(ConflictError, match="overtaken"):
        made(world)


@pytest.fixture(scope="module")
def made_sky(tmp_path_factory):
    """A simulated sky on the edge of two tracts in a warehouse of its own, and what its materialisation reported."""
    folder = tmp_path_factory.mktemp("sky")
    simulate(
        str(folder / "tree"), ra=61.218, objects=1500, radius=0.1, tables=["Object", "TruthSummary", "MatchesTruth"]
    )
    wh = Warehouse.create(str(folder / "warehouse"))
    wh.ingest_tree(str(folder / "tree"))
    return wh, wh.materialise()


def test_from_files_to_object_truth_and_back_nothing_is_lost(made_sky):
    sky, done = made_sky
    matched = sky.scan("MatchesTruth").filter(pl.col("match_objectId").is_not_null()).collect().height
    candidates = sky.scan("MatchesTruth").filter(pl.col("match_candidate")).collect().height
    assert done.tally.matched == matched > 0
    assert done.tally.matched + done.tally.missed == candidates
    frame = sky.scan("ObjectTruth").filter(pl.col("match_status") == "matched").collect()
    assert frame["separation_arcsec"].max() <= 0.5
    primaries = sky.scan("Object", primary=True).filter(~pl.col("merge_peak_sky")).collect().height
    assert done.tally.matched + done.tally.unmatched_object == primaries


def test_object_truth_is_listed_described_pinned_and_audited(made_sky):
    sky, _ = made_sky
    row = sky.tables().filter(pl.col("table") == "ObjectTruth").row(0, named=True)
    assert row["rows"] == sky.scan("ObjectTruth").collect().height
    units = dict(sky.columns("ObjectTruth").select("column", "unit").iter_rows())
    assert units["obj_r_cModelFlux"] == "nJy"
    assert units["separation_arcsec"] == "arcsec"
    findings = audit.audit(sky.root, sky.settings, tables=("ObjectTruth",))
    assert [finding for finding in findings if not finding.holds] == []
    assert {finding.check for finding in findings} >= {"position in its patch", "files are there"}
    pinned = sky.pin("first")
    assert pinned.versions["ObjectTruth"] == row["version"]
    with pytest.raises(QueryError, match="pinned release"):
        Warehouse.open(sky.uri, release="first").materialise()


def test_a_photoz_set_tells_which_versions_it_came_from(made_sky, tmp_path):
    sky, _ = made_sky
    written = sky.write_photoz(tmp_path / "set.parquet", magnitude_limits={"i": (17, 26)}, errors=True)
    table = pq.read_table(tmp_path / "set.parquet")
    recipe = json.loads(table.schema.metadata[b"recipe"])
    assert written == table.num_rows == sky.photoz(magnitude_limits={"i": (17, 26)}).collect().height > 0
    versions = {name: sky.version(name) for name in ("ObjectTruth", "Object", "TruthSummary", "MatchesTruth")}
    assert recipe["versions"] == versions
    assert recipe["magnitude_limits"] == {"i": [17, 26]}
    assert (recipe["release"], recipe["pinned"]) == ("dp02", None)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert recipe["tractlake"] == project["version"]


@pytest.mark.parametrize("asked", ["version", "release", "command"])
def test_a_photoz_set_from_a_pin_names_it(made_sky, tmp_path, asked):
    sky, _ = made_sky
    name, out = f"pin-{asked}", tmp_path / "set.parquet"
    versions = dict(sky.pin(name).versions)
    if asked == "version":
        sky.write_photoz(out, version=name)
    elif asked == "release":
        Warehouse.open(sky.uri, release=name).write_photoz(out)
    else:
        told = ["photoz", "--warehouse", sky.uri, "--version", name, "--out", str(out)]
        assert CliRunner().invoke(app, told).exit_code == 0
    recipe = json.loads(pq.read_schema(out).metadata[b"recipe"])
    assert recipe["pinned"] == name
    assert recipe["versions"]["ObjectTruth"] == versions["ObjectTruth"]


def test_rails_group_has_errors_also_where_the_set_has_none(made_sky, tmp_path):
    sky, _ = made_sky
    out = tmp_path / "set.hdf5"
    rows = sky.write_photoz(out)
    expected = sky.photoz(errors=True).collect()
    with h5py.File(out) as file:
        assert len(file["photoz"]) == 28
        order = np.argsort(file["photometry/id"][:])
        for band in "ugrizy":
            errors = file[f"photometry/mag_err_{band}_lsst"]
            assert errors.attrs["unit"] == "mag"
            by_id = expected.sort("mt_match_objectId")[f"obj_{band}_cModelMagErr"].fill_null(float("nan"))
            assert np.array_equal(errors[:][order], by_id.to_numpy(), equal_nan=True)
            assert np.isfinite(errors[:]).sum() > rows / 2


def test_a_word_that_is_no_cut_is_named(made_sky):
    sky, _ = made_sky
    with pytest.raises(QueryError, match="magnitude_limits"):
        sky.photoz(magnitude_limit={"i": (17, 26)})
