"""A pin names one version of every table, once, and never changes."""

import json
import threading
from pathlib import Path

import pytest

from support import skies
from warehouse.errors import ConflictError, InputError, NotFoundError, QueryError
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


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "two words", "ünï", "a" * 101, "a\n", None, 5])
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


@pytest.mark.parametrize("name", ["../warehouse", "../_pins/release", "", ".release"])
def test_a_name_that_leads_elsewhere_is_no_pin(world, name):
    root, settings = world.warehouse.root, world.warehouse.settings
    made = pins.pin(root, "release", settings)
    for act in (pins.read, pins.unpin):
        with pytest.raises(NotFoundError, match="no pinned release"):
            act(root, name, settings)
    assert not pins.holds(root, name, settings)
    assert pins.pins(root, settings) == [made]


def test_what_else_lies_in_their_folder_is_no_pin(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    made = pins.pin(root, "release", settings)
    folder = Path(world.warehouse.uri) / "_pins"
    (folder / ".next.json.0123").write_bytes(b"")  # as a killed writer leaves it
    (folder / "notes.txt").write_text("not a pin")
    assert pins.pins(root, settings) == [made]
    (folder / "torn.json").write_text('{"name": ')
    for act in (pins.pins, lambda *args: pins.read(args[0], "torn", args[1])):
        with pytest.raises(InputError, match=r"torn\.json: expected a pin"):
            act(root, settings)


def test_pins_come_and_go_while_others_list_them(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    going = threading.Thread(target=lambda: [come_and_go(root, settings, f"p{n}") for n in range(40)])
    going.start()
    while going.is_alive():
        assert len(pins.pins(root, settings)) <= 1
    going.join()


def come_and_go(root, settings, name):
    pins.pin(root, name, settings)
    pins.unpin(root, name, settings)


def test_a_pin_is_of_one_moment(world, monkeypatch):
    """A commit to each of two tables, one after the other, between two looks at them: both are pinned, or the first."""
    root, settings = world.warehouse.root, world.warehouse.settings
    seen = iter([{"Object": 1, "Source": 2}, {"Object": 2, "Source": 2}, {"Object": 2, "Source": 2}])
    monkeypatch.setattr(pins, "present", lambda *_: next(seen))
    # The first look came to Object before its commit and to Source after a later one: a state that never was.
    assert pins.pin(root, "release", settings).versions == {"Object": 2, "Source": 2}


def test_among_writers_that_never_stop_nothing_is_pinned(world, monkeypatch):
    root, settings = world.warehouse.root, world.warehouse.settings
    version = iter(range(1000))
    monkeypatch.setattr(pins, "present", lambda *_: {"Object": next(version)})
    with pytest.raises(ConflictError, match="others committed"):
        pins.pin(root, "release", settings)


def test_pins_are_listed_by_age(world):
    root, settings = world.warehouse.root, world.warehouse.settings
    for name, day in (("b", 2), ("c", 1), ("a", 3)):
        pins.pin(root, name, settings)
        path = Path(root.uri, "_pins", f"{name}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": f"2026-11-0{day}T00:00:00+00:00"}))
    assert [pin.name for pin in pins.pins(root, settings)] == ["c", "b", "a"]


def test_a_pin_is_one_small_readable_object(world):
    pins.pin(world.warehouse.root, "now", world.warehouse.settings)
    (path,) = (Path(world.warehouse.uri) / "_pins").iterdir()
    assert set(json.loads(path.read_text())) == {"name", "created_at", "versions"}
