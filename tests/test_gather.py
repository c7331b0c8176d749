"""Pieces of many units become one sorted file a patch, without the rows of refused inputs."""

from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from warehouse.config import Settings
from warehouse.errors import InputError
from warehouse.ingest import gather, stage
from warehouse.ingest.job import Job, Staged, StageUnit, find_staged, read_gather_unit, read_staged
from warehouse.lake.root import ensure_table

VISITS = "sourceTable_visit"
SETTINGS = Settings(memory=512 << 20, workers=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gather")
    original = skies.make(folder / "sky", [VISITS])
    return skies.world(original, folder, SETTINGS, [VISITS])


@pytest.fixture
def scattered(world, tmp_path):
    """A job, and the records of its eight visits, each staged into pieces."""
    root = world.warehouse.root
    ensure_table(root, "Source", SETTINGS)
    plan = world.warehouse.plan("Source", str(world.tree))
    job = Job(root, "Source", f"{plan.plan_id}-{tmp_path.name}", "run", 0.01)
    units = [StageUnit("one", (planned,), 1 << 30, scatter=True) for planned in plan.work]
    return job, [read_staged(stage.stage(job, unit, SETTINGS), SETTINGS) for unit in units]


def gathered(job, records, memory=1 << 40):
    uris = gather.plan_gather(job, records, memory, SETTINGS)
    done = [read_staged(gather.gather(job, uri, SETTINGS), SETTINGS) for uri in uris]
    return [file for record in done for file in record.files]


def rows_of(job, files):
    frames = [
        pl.read_parquet(Path(job.table_uri) / file.path, hive_partitioning=False).with_columns(
            *(pl.lit(value, pl.Int64).alias(name) for name, value in file.partition.items())
        )
        for file in files
    ]
    return pl.concat(frames)


def test_each_patch_becomes_one_file_with_all_rows(world, scattered):
    job, records = scattered
    files = gathered(job, records)
    assert len({tuple(file.partition.values()) for file in files}) == len(files) == 4
    expected = content.delivered(world.warehouse, "Source", world.files(VISITS))
    found = rows_of(job, files).select(expected.columns).sort("sourceId")
    assert found.equals(expected)
    for file in files:
        ids = pl.read_parquet(Path(job.table_uri) / file.path, columns=["sourceId"]).to_series()
        assert ids.is_sorted()


def test_rows_of_discarded_inputs_stay_behind(scattered):
    job, records = scattered
    refused = records[3].entries[0].input_id
    marked = [
        Staged(pieces=r.pieces, entries=r.entries, discard=(refused,) if r is records[3] else ()) for r in records
    ]
    found = rows_of(job, gathered(job, marked))
    assert refused not in found["input_id"].unique().to_list()
    assert found.height == sum(r.entries[0].rows_committed for r in records if r is not records[3])


def test_a_patch_of_discarded_rows_alone_leaves_no_file(scattered):
    job, records = scattered
    only = records[0]
    assert gathered(job, [Staged(pieces=only.pieces, discard=(only.entries[0].input_id,))]) == []


def test_a_patch_beyond_the_memory_becomes_several_files(scattered):
    job, records = scattered
    files = gathered(job, records, memory=100 * job.contract.row_bytes)
    assert len(files) > 4
    found = rows_of(job, files)
    assert found.height == found["sourceId"].n_unique() == sum(r.entries[0].rows_committed for r in records)


def test_a_gather_unit_comes_back_from_its_file_as_it_was(scattered):
    job, records = scattered
    for uri in gather.plan_gather(job, records, 1 << 40, SETTINGS):
        unit = read_gather_unit(uri, SETTINGS)
        assert uri.endswith(f"gather-{unit.key}.json")
        assert len(unit.partitions) == len(unit.batches)


def test_gathering_twice_is_done_once(scattered):
    job, records = scattered
    (uri, *_) = gather.plan_gather(job, records, 1 << 40, SETTINGS)
    events = []
    first = gather.gather(job, uri, SETTINGS, events.append)
    again = gather.gather(job, uri, SETTINGS, events.append)
    assert first == again
    assert [event.step for event in events].count("gathered") == 1
    assert find_staged(first, job, SETTINGS) is not None


def test_a_piece_that_is_gone_is_named(scattered):
    job, records = scattered
    (uri, *_) = gather.plan_gather(job, records, 1 << 40, SETTINGS)
    lost = read_gather_unit(uri, SETTINGS).batches[0][0][0]
    Path(lost).unlink()
    with pytest.raises(InputError) as caught:
        gather.gather(job, uri, SETTINGS)
    assert (caught.value.kind, caught.value.uri) == ("vanished", lost)
