"""A pin names one version of every table, once, and never changes."""

import json
import threading
from pathlib import Path

import pytest

from support import skies
from warehouse.errors import ConflictError, NotFoundError, QueryError
from warehouse.lake import pins
from warehouse.simulate.damage import KINDS

PATCHES = "forcedSourceTable"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return skies.make(tmp_path_factory.mktemp("sky"), [PATCHES], objects=60, visits=1)


@pytest.fixture
def world(original, tmp_path, settings):
    return skies.world(original, tmp_path, settings, [PATCHES])


def again(world, seed):
    KINDS["changed_rows"](str(world.files(PATCHES)[0]), seed=seed)
    world.warehouse.ingest("ForcedSource", str(world.tree))


def test_a_pin_names_the_versions_of_its_moment(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    world.warehouse.ingest("ForcedSource", str(world.tree))
    assert not pins.holds_present(root, settings)
    first = pins.pin(root, "first", settings)
    assert pins.holds_present(root, settings)
    again(world, 1)
    assert not pins.holds_present(root, settings)
    second = pins.pin(root, "second", settings)
    assert (first.versions["ForcedSource"], second.versions["ForcedSource"]) == (1, 2)
    assert "Object" not in first.versions
    assert pins.read(root, "first", settings) == first
    assert [pin.name for pin in pins.pins(root, settings)] == ["first", "second"]
    assert pins.versions(root, "ForcedSource", settings) == [1, 2]
    assert pins.versions(root, "Object", settings) == []
    pins.unpin(root, "first", settings)
    assert pins.versions(root, "ForcedSource", settings) == [2]


def test_a_pin_is_never_moved(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    world.warehouse.ingest("ForcedSource", str(world.tree))
    made = pins.pin(root, "release", settings)
    again(world, 1)
    with pytest.raises(ConflictError, match="'release' exists"):
        pins.pin(root, "release", settings)
    assert pins.read(root, "release", settings) == made


def test_of_several_that_pin_one_name_one_does(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    barrier, outcomes = threading.Barrier(4), []

    def attempt():
        barrier.wait(60)
        try:
            outcomes.append(pins.pin(root, "one", settings).name)
        except ConflictError as error:
            outcomes.append(error.kind)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["one", "pin", "pin", "pin"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "two words", "ünï", "a" * 101, "a\n"])
def test_names_that_are_no_file_names_are_refused(world, name):
    with pytest.raises(QueryError, match="cannot name a pin"):
        pins.pin(world.warehouse.root, name, world.warehouse.settings)
    assert not (Path(world.warehouse.uri) / "_pins").exists()


def test_an_unknown_pin_is_named_with_its_near_misses(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    pins.pin(root, "dp02-2026.1", settings)
    for act in (pins.read, pins.unpin):
        with pytest.raises(NotFoundError, match=r"did you mean dp02-2026\.1"):
            act(root, "dp02-2026.2", settings)


def test_a_pin_is_one_small_readable_object(world):
    pins.pin(world.warehouse.root, "now", world.warehouse.settings)
    (path,) = (Path(world.warehouse.uri) / "_pins").iterdir()
    assert set(json.loads(path.read_text())) == {"name", "created_at", "versions"}
