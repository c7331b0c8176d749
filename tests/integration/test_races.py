"""Processes that load one table side by side lose no row, double none, and record each input once."""

import shutil
from pathlib import Path

import pytest

from support import content, skies
from support.processes import Task, race
from warehouse import Warehouse
from warehouse.simulate.damage import KINDS

pytestmark = pytest.mark.integration

VISITS = "sourceTable_visit"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [VISITS])


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, [VISITS])


def halves(world):
    """Move every second file into a tree of its own; return both trees."""
    other = world.tree.with_name("other")
    for path in world.files(VISITS)[::2]:
        to = other / path.relative_to(world.tree)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, to)
    return world.tree, other


def in_files(*trees):
    return sorted(path for tree in trees for path in tree.rglob("*.parq"))


def check(world, files, versions):
    wh = world.warehouse
    assert content.same(wh, "Source", content.delivered(wh, "Source", files))
    assert wh.version("Source") == versions
    newest = wh.history("Source").group_by("input_id").last()
    assert sorted(newest["uri"]) == sorted(map(str, files))
    assert set(newest["status"]) == {"committed"}
    assert all(finding.holds for finding in wh.audit())
    assert wh.ingest("Source", [str(path) for path in files]).nothing_new


@pytest.mark.parametrize(("step", "least"), [("planned", 1), ("staged", 1), ("staged", 16 << 20)])
def test_two_processes_over_the_same_inputs(world, settings, step, least):
    task = Task(world.warehouse.uri, "Source", str(world.tree), settings, meet_at=step, least=least)
    race([task, task])
    check(world, world.files(VISITS), versions=1)
    assert world.warehouse.history("Source").height == 8


@pytest.mark.parametrize("step", ["planned", "staged"])
def test_two_processes_over_different_inputs(world, settings, step):
    tasks = [Task(world.warehouse.uri, "Source", str(tree), settings, meet_at=step) for tree in halves(world)]
    race(tasks)
    check(world, in_files(world.tree, world.tree.with_name("other")), versions=2)


def test_two_processes_that_replace_rows_of_the_same_files(world, settings):
    """Each rewrites files that the other needs as they were."""
    world.warehouse.ingest("Source", str(world.tree))
    trees = halves(world)
    for path in in_files(*trees):
        KINDS["changed_rows"](str(path))
    race([Task(world.warehouse.uri, "Source", str(tree), settings, meet_at="staged") for tree in trees])
    check(world, in_files(*trees), versions=3)


def test_three_processes_over_inputs_that_overlap(world, settings):
    one, other = halves(world)
    both = world.tree.with_name("both")
    for tree in (one, other):
        shutil.copytree(tree, both, dirs_exist_ok=True)
    race([Task(world.warehouse.uri, "Source", str(tree), settings, meet_at="staged") for tree in (one, other, both)])
    wh = world.warehouse
    assert content.same(wh, "Source", content.delivered(wh, "Source", in_files(both)))
    assert wh.history("Source").height == 8
    assert all(finding.holds for finding in wh.audit())


def test_processes_that_load_different_tables_record_side_by_side(tmp_path, settings):
    """Ledger and quarantine are tables of all of them."""
    tree = skies.make(tmp_path / "tree", ["forcedSourceTable", VISITS], objects=300)
    wh = Warehouse.create(str(tmp_path / "warehouse"), settings=settings)
    tables = {"Source": VISITS, "ForcedSource": "forcedSourceTable"}
    for dataset_type in tables.values():
        KINDS["truncated"](str(next(tree.rglob(f"{dataset_type}_*.parq"))))
    race([Task(wh.uri, table, str(tree), settings, meet_at="committed") for table in tables])
    for table, dataset_type in tables.items():
        files = sorted(Path(tree).rglob(f"{dataset_type}_*.parq"))
        assert sorted(wh.history(table)["uri"]) == list(map(str, files))
        assert wh.quarantine(table).height == 1
