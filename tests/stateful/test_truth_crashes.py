"""A process that dies while it matches, or joins, leaves readers what they had and the next run what was done."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from support.joined import by_hand, said
from support.processes import Task, fill, killed
from warehouse import Warehouse
from warehouse.config import Settings

pytestmark = pytest.mark.integration

OBJECTS = "objectTable"
INPUTS = {"Object": OBJECTS, "TruthSummary": "truth_summary"}
SETTINGS = Settings(memory=512 << 20, workers=1)  # one unit after the other: the first is done when it dies
TABLES = ("MatchesTruth", "ObjectTruth")
# In the order in which a run comes past them; the first of two tracts is staged at "staging".
STEPS = ("planned", "staging", "before {}", "after {}", "committed")


@dataclass(frozen=True)
class Story:
    """A warehouse before a run that nothing disturbs, and after it."""

    start: Path
    clean: Warehouse


def opened(folder):
    return Warehouse.open(str(folder), settings=SETTINGS)


def copied(wh, folder):
    shutil.copytree(wh.uri, folder)
    return opened(folder)


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Each table made for the first time, and made again after both tracts have lost half of their objects."""
    folder = tmp_path_factory.mktemp("stories")
    tree = skies.make(folder / "tree", INPUTS.values(), objects=2000)
    loaded = Warehouse.create(str(folder / "loaded"), settings=SETTINGS)
    for table in INPUTS:
        loaded.ingest(table, str(tree))
    matched = copied(loaded, folder / "matched")
    matched.match()
    joined = copied(matched, folder / "joined")
    joined.materialise()
    for path in sorted(tree.rglob(f"{OBJECTS}_*.parq")):
        rows = pl.read_parquet(path, glob=False)
        rows.head(rows.height // 2).write_parquet(path)
    changed = copied(joined, folder / "changed")
    changed.ingest("Object", str(tree))
    matched_again = copied(changed, folder / "matched again")
    matched_again.match()
    joined_again = copied(matched_again, folder / "joined again")
    joined_again.materialise()
    return {
        ("MatchesTruth", "new"): Story(Path(loaded.uri), matched),
        ("ObjectTruth", "new"): Story(Path(matched.uri), joined),
        ("MatchesTruth", "again"): Story(Path(changed.uri), matched_again),
        ("ObjectTruth", "again"): Story(Path(matched_again.uri), joined_again),
    }


def test_the_stories_have_two_tracts_and_something_to_lose(stories):
    for table in TABLES:
        new, again = stories[table, "new"].clean, stories[table, "again"].clean
        assert content.fingerprint(new, table) != content.fingerprint(again, table)
        assert len({tract for tract, _ in content.live_files(new, table).values()}) == 2


@pytest.mark.parametrize("kind", ["new", "again"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("table", TABLES)
def test_a_run_after_a_crash_gives_what_a_run_without_one_gives(stories, tmp_path, table, step, kind):
    story = stories[table, kind]
    wh = copied(opened(story.start), tmp_path / "warehouse")
    before = content.live_files(wh, table)
    assert killed(Task(wh.uri, table, "", SETTINGS, die_at=step.format(table)))

    landed = STEPS.index(step) > STEPS.index("before {}")
    if landed:
        assert content.fingerprint(wh, table) == content.fingerprint(story.clean, table)
    else:
        assert content.live_files(wh, table) == before

    steps = []
    fill(wh, table, "", lambda event: steps.append(event.step))
    assert content.fingerprint(wh, table) == content.fingerprint(story.clean, table)
    assert wh.version(table) == story.clean.version(table)
    expected = {"planned": ("staging", "staging"), "staging": ("resumed", "staging"), "before {}": ("resumed",) * 2}
    assert tuple(name for name in steps if name in {"staging", "resumed"}) == expected.get(step, ())
    if table == "ObjectTruth":
        assert said(wh.scan(table).collect()) == by_hand(
            *(wh.scan(name).collect() for name in ("MatchesTruth", "TruthSummary", "Object"))
        )
    assert all(finding.holds for finding in wh.audit(table))
    assert content.nothing_is_left_behind(wh, table)


@pytest.mark.parametrize("table", TABLES)
def test_a_dead_run_leaves_nothing_once_its_remains_are_cleared_away(stories, tmp_path, table):
    wh = copied(opened(stories[table, "again"].start), tmp_path / "warehouse")
    before = content.fingerprint(wh, table)
    assert killed(Task(wh.uri, table, "", SETTINGS, die_at=f"before {table}"))
    assert content.nothing_is_left_behind(wh, table)
    assert content.fingerprint(wh, table) == before
    fill(wh, table, "")
    assert content.fingerprint(wh, table) == content.fingerprint(stories[table, "again"].clean, table)
