"""A unit of work stages its inputs within its memory, and says of every row what became of it."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import StorageError
from warehouse.ingest import stage
from warehouse.ingest.job import Job, StageUnit, find_staged, read_staged
from warehouse.lake.root import ensure_table
from warehouse.simulate.damage import KINDS

VISITS = "sourceTable_visit"
PATCHES = "forcedSourceTable"
SETTINGS = Settings(memory=512 << 20, workers=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [VISITS, PATCHES, "visitTable"])


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, [VISITS, PATCHES, "visitTable"])


def prepared(world, table, *, share=0.01):
    """Return a job for all inputs of a table, and its plan."""
    root = world.warehouse.root
    ensure_table(root, table, SETTINGS)
    plan = world.warehouse.plan(table, str(world.tree))
    return Job(root, table, plan.plan_id, "run", share), plan


def staged(job, plan, *, rows=1 << 40, scatter=False, inputs=None):
    """Stage the plan's work, or some inputs of it, as one unit that may hold so many rows."""
    memory = rows * job.contract.row_bytes
    unit = StageUnit("all of it", tuple(inputs or plan.work), memory, scatter)
    return read_staged(stage.stage(job, unit, SETTINGS), SETTINGS)


def rows_of_files(job, record):
    frames = [pl.read_parquet(Path(job.table_uri) / file.path, hive_partitioning=False) for file in record.files]
    return pl.concat(frames)


def set_aside(record):
    return pl.concat(pl.read_parquet(storage.read_bytes(uri, SETTINGS)) for uri in record.quarantine)


def test_a_unit_that_fits_leaves_a_sorted_file_a_patch_and_no_piece(world):
    job, plan = prepared(world, "ForcedSource")
    record = staged(job, plan)
    assert record.pieces == ()
    assert len(record.files) == 4
    assert sum(file.rows for file in record.files) == sum(entry.rows_committed for entry in record.entries)
    for file in record.files:
        frame = pl.read_parquet(Path(job.table_uri) / file.path, hive_partitioning=False)
        assert frame.columns == job.contract.file_schema.names
        assert frame.select(job.contract.cluster_by).equals(frame.select(job.contract.cluster_by).sort(pl.all()))
        assert f"tract={file.partition['tract']}/patch={file.partition['patch']}/" in file.path
    assert content.rows(world.warehouse, "ForcedSource").is_empty()


@pytest.mark.parametrize(("rows", "scatter"), [(200, False), (200, True), (1 << 40, True)])
def test_what_does_not_fit_or_is_shared_goes_into_pieces(world, rows, scatter):
    job, plan = prepared(world, "Source")
    record = staged(job, plan, rows=rows, scatter=scatter)
    assert record.files == ()
    assert (len(record.pieces) > 1) is (rows == 200)
    counted = sum(part[2] for piece in record.pieces for part in piece.parts)
    assert counted == sum(entry.rows_committed for entry in record.entries)
    assert counted == sum(pl.read_parquet(path).height for path in world.files(VISITS))


def test_one_input_larger_than_the_memory_is_read_in_batches_and_judged_as_one(world):
    path = world.largest(PATCHES)
    KINDS["duplicate_keys"](str(path))
    KINDS["null_positions"](str(path))
    job, plan = prepared(world, "ForcedSource")
    inputs = [p for p in plan.work if p.input.uri == str(path)]
    small = staged(job, plan, rows=1000, inputs=inputs)
    whole = staged(replace(job, plan_id="whole"), plan, inputs=inputs)
    assert len(small.pieces) > 1
    (one,), (other,) = small.entries, whole.entries
    assert replace(one, seconds=0) == replace(other, seconds=0)
    assert set(one.rules) == {"duplicate_key", "position_null"}
    assert set_aside(small).sort("row_number").equals(set_aside(whole).sort("row_number"))


@pytest.mark.parametrize("scatter", [False, True])
def test_rows_set_aside_beyond_a_part_of_the_memory_go_into_files_as_they_come(world, scatter):
    """However many they are: here every row of an input is, because nobody limits their share."""
    path = world.largest(PATCHES)
    frame = pl.read_parquet(path)
    frame.with_columns(coord_ra=pl.lit(None, pl.Float64)).write_parquet(path)
    job, plan = prepared(world, "ForcedSource", share=1.0)
    record = staged(job, plan, rows=1000, scatter=scatter)
    sizes = [pl.read_parquet(uri).estimated_size() for uri in record.quarantine]
    assert len(sizes) > 3
    assert max(sizes) < 1000 * job.contract.row_bytes
    found = set_aside(record)
    assert found["row_number"].sort().to_list() == list(range(frame.height))
    assert found["key"].cast(pl.Int64).sort().equals(frame["forcedSourceId"].sort().alias("key"))
    (entry,) = [e for e in record.entries if e.uri == str(path)]
    assert (entry.status, entry.rows_committed, entry.rows_quarantined) == ("committed", 0, frame.height)


def test_rows_of_an_input_that_proves_bad_at_its_end_are_named_for_discarding(world):
    """They are in pieces by then, with rows of others."""
    path = world.files(PATCHES)[1]
    frame = pl.read_parquet(path)
    last = pl.int_range(pl.len()) >= frame.height - frame.height // 20
    frame.with_columns(pl.when(last).then(None).otherwise(pl.col("coord_ra")).alias("coord_ra")).write_parquet(path)
    job, plan = prepared(world, "ForcedSource")
    record = staged(job, plan, rows=1000)
    (bad,) = [entry for entry in record.entries if entry.status == "refused"]
    assert bad.uri == str(path)
    assert record.discard == (bad.input_id,)
    assert (bad.rows_read, bad.rows_committed, bad.rows_quarantined) == (frame.height, 0, frame.height)
    assert bad.rules == {"share": 1, "position_null": frame.height // 20}
    assert not bad.tracts


def test_a_refused_input_that_fits_leaves_no_row_in_the_files_of_its_unit(world):
    KINDS["contradicting_path"](str(world.files(PATCHES)[1]))
    job, plan = prepared(world, "ForcedSource")
    record = staged(job, plan)
    (bad,) = [entry for entry in record.entries if entry.status == "refused"]
    assert record.discard == ()
    assert bad.input_id not in rows_of_files(job, record)["input_id"].unique().to_list()
    assert sum(file.rows for file in record.files) == sum(entry.rows_committed for entry in record.entries)


def test_a_table_without_tracts_is_one_file(world):
    job, plan = prepared(world, "Visit")
    record = staged(job, plan, rows=2, scatter=True)
    assert [(file.rows, dict(file.partition)) for file in record.files] == [(8, {})]
    assert record.pieces == ()


def test_statistics_are_those_of_the_contract_alone(world):
    job, plan = prepared(world, "ForcedSource")
    record = staged(job, plan)
    for file in record.files:
        frame = pl.read_parquet(Path(job.table_uri) / file.path, hive_partitioning=False)
        wanted = [name for name in job.contract.statistics if name in frame.columns]
        assert {"forcedSourceId", "coord_ra", "coord_dec", "input_id"} <= set(wanted)
        assert dict(file.nulls).keys() <= set(wanted)
        for name in wanted:
            assert (file.minimum[name], file.maximum[name]) == (frame[name].min(), frame[name].max())
            assert file.nulls[name] == frame[name].null_count()
        assert not {"tract", "patch"} & {*file.minimum, *file.maximum, *file.nulls}


def record_uri(job, unit):
    return f"{job.staging_uri}/{unit.key}.json"


@pytest.mark.parametrize("lost", ["file", "piece", "quarantine", "record"])
def test_staged_work_of_which_a_part_is_gone_is_done_again(world, lost):
    KINDS["null_positions"](str(world.largest(PATCHES)))
    job, plan = prepared(world, "ForcedSource")
    unit = StageUnit("all", plan.work, 1 << 40, scatter=lost == "piece")
    uri = stage.stage(job, unit, SETTINGS)
    first = find_staged(uri, job, SETTINGS)
    assert first == read_staged(uri, SETTINGS)
    gone = {
        "file": lambda: Path(job.table_uri) / first.files[0].path,
        "piece": lambda: Path(first.pieces[0].uri),
        "quarantine": lambda: Path(first.quarantine[0]),
        "record": lambda: Path(uri),
    }[lost]()
    gone.unlink()
    assert find_staged(uri, job, SETTINGS) is None
    events = []
    stage.stage(job, unit, SETTINGS, events.append)
    assert {event.step for event in events} == {"staging"}
    again = find_staged(uri, job, SETTINGS)
    assert [entry.rows_committed for entry in again.entries] == [entry.rows_committed for entry in first.entries]


def test_staged_work_that_a_cleanup_might_take_is_done_again(world):
    job, plan = prepared(world, "ForcedSource")
    unit = StageUnit("all", plan.work, 1 << 40, scatter=False)
    uri = stage.stage(job, unit, SETTINGS)
    assert find_staged(uri, job, SETTINGS) is not None
    record = json.loads(Path(uri).read_text())
    record["at"] -= 3600 * 100  # of the 168 hours after which an orphan may be removed
    Path(uri).write_text(json.dumps(record))
    assert find_staged(uri, job, SETTINGS) is None


def test_a_failing_store_is_no_fault_of_the_input(world, monkeypatch):
    job, plan = prepared(world, "Source")

    def fail(*_, **__):
        raise StorageError("the store does not answer", kind="unreachable")

    monkeypatch.setattr(stage.storage, "digest", fail)
    with pytest.raises(StorageError, match="does not answer"):
        staged(job, plan)


def test_units_keep_every_worker_busy_and_hold_what_the_memory_allows(world, monkeypatch):
    job, plan = prepared(world, "Source")
    units, limits = stage.units(job, plan, SETTINGS)
    assert [len(unit.inputs) for unit in units] == [8]
    assert not units[0].scatter
    monkeypatch.setattr(stage, "LEAST", 1)
    units, limits = stage.units(job, plan, SETTINGS)
    assert len(units) > limits.workers
    assert all(unit.scatter for unit in units)
    assert [p for unit in units for p in unit.inputs] == list(plan.work)
    job, plan = prepared(world, "ForcedSource")
    units, _ = stage.units(job, plan, SETTINGS)
    assert len(units) > 1
    assert not any(unit.scatter for unit in units)  # declared patches: nobody else has rows of them
