"""Inputs and warehouse on a real S3 server: the same promises as on a disk."""

import os
import signal
from dataclasses import dataclass

import polars as pl
import pytest

from support import content, skies
from support.processes import Task, killed, race
from support.s3 import moto_server
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.errors import NotFoundError, StorageError
from warehouse.ingest import stage
from warehouse.readers import refuse_absent
from warehouse.simulate import simulate
from warehouse.simulate.damage import KINDS

pytestmark = pytest.mark.integration

VISITS = "sourceTable_visit"
TABLE = "Source"
INPUTS = 4


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [VISITS], visits=INPUTS)


@dataclass(frozen=True)
class Cloud:
    """A bucket with a tree of inputs and a warehouse, and the tree's files on a local disk."""

    local: skies.World
    client: object
    bucket: str
    warehouse: Warehouse

    @property
    def tree(self):
        return f"s3://{self.bucket}/in put"

    def uri(self, path):
        return f"{self.tree}/{path.relative_to(self.local.tree)}"

    def upload(self, *paths):
        """Bring local files to their places in the bucket."""
        for path in paths:
            key = self.uri(path).removeprefix(f"s3://{self.bucket}/")
            self.client.put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

    def remove(self, path):
        key = self.uri(path).removeprefix(f"s3://{self.bucket}/")
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def ingest(self, **more):
        return self.warehouse.ingest(TABLE, self.tree, **more)

    def files(self):
        return self.local.files(VISITS)

    def holds(self, files=None):
        """Return whether the table holds exactly the rows of these local files, and the audit finds no fault."""
        expected = content.delivered(self.warehouse, TABLE, self.files() if files is None else files)
        return content.same(self.warehouse, TABLE, expected) and all(f.holds for f in self.warehouse.audit(TABLE))

    def contents(self):
        """Return key -> ETag of all that is in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}


@pytest.fixture
def cloud(original, tmp_path, settings, s3):
    local = skies.world(original, tmp_path, settings, [VISITS])
    wh = Warehouse.create(s3.uri("dp02"), settings=s3.settings)
    made = Cloud(local, s3.server.client(), s3.name, wh)
    made.upload(*made.files())
    return made


def test_a_tree_lands_and_a_second_run_writes_nothing(cloud):
    report = cloud.ingest()
    assert (report.inputs, report.refused, report.version) == (INPUTS, (), 1)
    assert cloud.holds()
    before = cloud.contents()
    assert cloud.ingest().nothing_new
    assert cloud.contents() == before
    assert not [key for key in before if "_staging" in key or "probe" in key]


def test_what_is_not_there_is_told_apart_from_what_is(cloud):
    settings = cloud.warehouse.settings
    refuse_absent([f"s3://{cloud.bucket}", cloud.tree, cloud.uri(cloud.files()[0])], settings)
    with pytest.raises(NotFoundError, match="in pit: there is no file"):
        refuse_absent([cloud.tree, f"s3://{cloud.bucket}/in pit"], settings)


def test_a_changed_input_is_replaced_and_the_version_before_stays(cloud):
    cloud.ingest()
    before = content.fingerprint(cloud.warehouse, TABLE)
    changed, broken = cloud.files()[1:3]
    KINDS["changed_rows"](str(changed))
    cloud.upload(changed)
    good = broken.read_bytes()
    KINDS["truncated"](str(broken))
    cloud.upload(broken)
    report = cloud.ingest()
    broken.write_bytes(good)
    assert [entry.uri for entry in report.refused] == [cloud.uri(broken)]
    assert report.version == 2
    assert cloud.holds()  # with the old rows of what came broken
    assert content.fingerprint(cloud.warehouse, TABLE, 1) == before
    quarantined = cloud.warehouse.quarantine(TABLE)
    assert quarantined.select("uri", "rules").rows() == [(cloud.uri(broken), ["truncated"])]
    cloud.upload(broken)
    again = cloud.warehouse.retry(TABLE)
    assert (again.inputs, again.refused) == (1, ())
    assert cloud.holds()
    assert cloud.warehouse.quarantine(TABLE).is_empty()


def test_bad_rows_are_set_aside_and_vanished_inputs_go_when_told(cloud):
    largest = max(cloud.files(), key=lambda path: path.stat().st_size)
    done = KINDS["null_positions"](str(largest))
    cloud.upload(largest)
    gone, *rest = [path for path in cloud.files() if path != largest]
    report = cloud.ingest()
    assert report.rules == {"position_null": done.rows}
    cloud.remove(gone)
    assert cloud.ingest().nothing_new
    cloud.ingest(remove_vanished=True)
    bad = cloud.warehouse.quarantine(TABLE)["key"].cast(pl.Int64).implode()
    expected = content.delivered(cloud.warehouse, TABLE, [largest, *rest]).filter(~pl.col("sourceId").is_in(bad))
    assert content.same(cloud.warehouse, TABLE, expected)


def test_what_changes_or_vanishes_between_listing_and_reading_is_told_by_its_etag(cloud):
    changed, gone = cloud.files()[2:4]

    def meddle(event):
        if event.step == "planned" and event.inputs == INPUTS:
            KINDS["changed_rows"](str(changed))
            cloud.upload(changed)
            cloud.remove(gone)

    report = cloud.ingest(on_event=meddle)
    assert {entry.uri: list(entry.rules) for entry in report.refused} == {
        cloud.uri(changed): ["changed"],
        cloud.uri(gone): ["vanished"],
    }
    assert cloud.holds([path for path in cloud.files() if path not in {changed, gone}])
    cloud.upload(gone)
    assert cloud.ingest().refused == ()
    assert cloud.holds()


def test_two_processes_over_the_same_inputs_load_them_once(cloud):
    task = Task(cloud.warehouse.uri, TABLE, cloud.tree, cloud.warehouse.settings, meet_at="staged", least=1)
    race([task, task])
    assert cloud.warehouse.version(TABLE) == 1
    assert cloud.warehouse.history(TABLE).height == INPUTS
    assert cloud.holds()


def test_two_processes_over_different_inputs_lose_nothing(cloud):
    tracks = [cloud.files()[:2], cloud.files()[2:]]
    for files, folder in zip(tracks, ("one", "other"), strict=True):
        for path in files:
            cloud.remove(path)
            key = f"{folder}/{path.relative_to(cloud.local.tree)}"
            cloud.client.put_object(Bucket=cloud.bucket, Key=key, Body=path.read_bytes())
    settings = cloud.warehouse.settings
    uri = cloud.warehouse.uri
    race([Task(uri, TABLE, f"s3://{cloud.bucket}/{folder}", settings, meet_at="staged") for folder in ("one", "other")])
    assert cloud.warehouse.version(TABLE) == 2
    assert cloud.warehouse.history(TABLE).height == INPUTS
    assert cloud.holds()


@pytest.mark.parametrize("step", ["staged", f"after {TABLE}"])
def test_a_process_that_dies_is_made_up_for_by_the_next(cloud, monkeypatch, step):
    monkeypatch.setattr(stage, "LEAST", 1)
    wh = cloud.warehouse
    assert killed(Task(wh.uri, TABLE, cloud.tree, wh.settings, die_at=step, least=1))
    events = []
    report = cloud.ingest(on_event=events.append)
    landed = step == f"after {TABLE}"
    assert report.nothing_new is landed
    assert ("resumed" in [event.step for event in events]) is not landed
    assert cloud.holds()
    assert wh.history(TABLE).height == INPUTS
    wh.maintain(hours=0)
    left = [key for key in cloud.contents() if key.startswith(f"dp02/{TABLE}/")]
    data = {key.removeprefix(f"dp02/{TABLE}/") for key in left if key.endswith(".parquet") and f"{TABLE}/_" not in key}
    assert data == set(content.live_files(wh, TABLE))
    assert not [key for key in left if "_staging" in key]


def test_a_store_that_dies_in_the_middle_is_named_and_the_work_is_taken_up_when_it_is_back(
    original, tmp_path, settings, monkeypatch
):
    monkeypatch.setattr(stage, "LEAST", 1)
    local = skies.world(original, tmp_path, settings, [VISITS])
    quick = {"memory": settings.memory, "workers": 1, "s3_connect_timeout": 1.0, "s3_attempts": 1}

    def cloud(server):
        there: Settings = server.settings(**quick)
        made = Cloud(local, server.client(), "inputs", Warehouse(local.warehouse.root, there))
        made.client.create_bucket(Bucket="inputs")
        made.upload(*made.files())
        return made

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with moto_server(first) as server:
        made = cloud(server)

        def pull_the_plug(event):
            if event.step == "staging":
                os.kill(server.process_id, signal.SIGKILL)

        with pytest.raises(StorageError) as caught:
            made.ingest(on_event=pull_the_plug)
        assert caught.value.kind == "unreachable"
        assert caught.value.uri.startswith("s3://inputs/in put/")
    assert content.rows(local.warehouse, TABLE).is_empty()
    with moto_server(second) as server:
        made = cloud(server)
        events = []
        assert made.ingest(on_event=events.append).refused == ()
        assert "resumed" in [event.step for event in events]
        assert made.holds()


def test_a_simulated_sky_may_be_written_to_the_store_itself(s3, tmp_path):
    small = {"dataset_types": [VISITS], "objects": 60, "visits": 2}
    skies.make(tmp_path / "local", **small)
    simulate(s3.uri("sky"), settings=s3.settings, **(skies.CORNER | skies.SIZE | small))
    wh = Warehouse.create(s3.uri("dp02"), settings=s3.settings)
    reports = wh.ingest_tree(s3.uri("sky"))
    assert [report.table for report in reports] == [TABLE]
    files = sorted((tmp_path / "local").rglob("*.parq"))
    assert content.same(wh, TABLE, content.delivered(wh, TABLE, files))
