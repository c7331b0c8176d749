"""A process that dies at any step leaves nothing that the next run does not put right."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from support import content, skies
from support.processes import Task, killed
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.ingest import stage
from warehouse.simulate.damage import KINDS

pytestmark = pytest.mark.integration

TABLES = {"Source": "sourceTable_visit", "ForcedSource": "forcedSourceTable"}
SETTINGS = Settings(memory=512 << 20, workers=2)

# In the order in which a run comes past them. Source is scattered and gathered, ForcedSource is not.
STEPS = {
    "Source": (
        "planned",
        "staging 2",
        "scattered",
        "gathered",
        "staged",
        "before Source",
        "after Source",
        "before Quarantine",
        "before Ledger",
        "after Ledger",
    ),
    "ForcedSource": ("staging 2", "staged", "before ForcedSource", "committed"),
}
# What happens inside a step is the same for a run that appends.
WITHIN = {"scattered", "gathered", "before Quarantine", "after Ledger", "staging 2", "before ForcedSource"}
CASES = [(table, step, "replace") for table, steps in STEPS.items() for step in steps] + [
    (table, step, "append")
    for table, steps in STEPS.items()
    for step in steps
    if step not in WITHIN or (table, step) == ("Source", "staging 2")
]


@dataclass(frozen=True)
class Story:
    """A warehouse before a run, the tree that the run takes up, and the warehouse after a run without a crash."""

    start: Path
    tree: Path
    clean: Warehouse

    def begin(self, folder):
        shutil.copytree(self.start, folder)
        return Warehouse.open(str(folder), settings=SETTINGS)


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Appending to an empty warehouse, and replacing in a full one; both with rows to refuse and inputs to refuse."""
    folder = tmp_path_factory.mktemp("stories")
    first = skies.make(folder / "first", TABLES.values())
    second = folder / "second"
    shutil.copytree(first, second)
    for tree, changes in ((first, {1: "null_positions"}), (second, {1: "changed_rows", 2: "truncated"})):
        for dataset_type in TABLES.values():
            files = sorted(tree.rglob(f"{dataset_type}_*.parq"))
            for place, kind in changes.items():
                KINDS[kind](str(files[place]))
    empty = Warehouse.create(str(folder / "empty"), settings=SETTINGS)
    appended = _after(empty, folder / "appended", first)
    replaced = _after(appended, folder / "replaced", second)
    return {
        "append": Story(Path(empty.uri), first, appended),
        "replace": Story(Path(appended.uri), second, replaced),
    }


def _after(before, folder, tree):
    shutil.copytree(before.uri, folder)
    wh = Warehouse.open(str(folder), settings=SETTINGS)
    for table in TABLES:
        wh.ingest(table, str(tree))
    return wh


def test_the_stories_have_something_to_lose(stories):
    for table in TABLES:
        append, replace = stories["append"].clean, stories["replace"].clean
        assert append.quarantine(table).height > 0
        assert set(replace.history(table).filter(pl.col("version") == 2)["status"]) == {"committed", "refused"}
        assert content.fingerprint(append, table) != content.fingerprint(replace, table)


@pytest.mark.parametrize(("table", "step", "kind"), CASES)
def test_a_run_after_a_crash_gives_what_a_run_without_one_gives(stories, tmp_path, monkeypatch, table, step, kind):
    least = 1 if table == "Source" else stage.LEAST
    monkeypatch.setattr(stage, "LEAST", least)
    story = stories[kind]
    wh = story.begin(tmp_path / "warehouse")
    before = content.fingerprint(wh, table)
    assert killed(Task(wh.uri, table, str(story.tree), SETTINGS, die_at=step, least=least))

    # Readers see the state before or the state after, whatever was going on.
    landed = STEPS[table].index(step) > STEPS[table].index(f"before {table}")
    assert content.fingerprint(wh, table) == (content.fingerprint(story.clean, table) if landed else before)

    events = []
    report = wh.ingest(table, str(story.tree), on_event=events.append)
    assert report.nothing_new is landed
    assert content.fingerprint(wh, table) == content.fingerprint(story.clean, table)
    assert content.ledger(wh, table).equals(content.ledger(story.clean, table))
    assert wh.quarantine(table).equals(story.clean.quarantine(table))
    assert wh.version(table) == story.clean.version(table)
    history = wh.history(table)
    assert (history["rows_read"] == history["rows_committed"] + history["rows_quarantined"]).all()

    steps = [event.step for event in events]
    if step in {"scattered", "gathered", "staged", f"before {table}"}:
        assert "staging" not in steps
        assert steps.count("resumed") >= 1
        assert "gathered" not in steps or step in {"scattered", "gathered"}
    assert all(finding.holds for finding in wh.audit(table))
    assert content.nothing_is_left_behind(wh, table)
    assert content.fingerprint(wh, table) == content.fingerprint(story.clean, table)


def test_a_dead_run_leaves_nothing_once_its_remains_are_cleared_away(stories, tmp_path):
    """Without another run over the same inputs, too."""
    story = stories["replace"]
    wh = story.begin(tmp_path / "warehouse")
    before = content.fingerprint(wh, "ForcedSource")
    assert killed(Task(wh.uri, "ForcedSource", str(story.tree), SETTINGS, die_at="before ForcedSource"))
    assert content.nothing_is_left_behind(wh, "ForcedSource")
    assert content.fingerprint(wh, "ForcedSource") == before
    wh.ingest("ForcedSource", str(story.tree))
    assert content.fingerprint(wh, "ForcedSource") == content.fingerprint(story.clean, "ForcedSource")


def test_a_cleanup_leaves_the_work_of_a_young_run_alone(stories, tmp_path):
    story = stories["append"]
    wh = story.begin(tmp_path / "warehouse")
    assert killed(Task(wh.uri, "ForcedSource", str(story.tree), SETTINGS, die_at="staged"))
    staged = content.files_below(Path(wh.uri) / "ForcedSource")
    for hours in (None, 0.5):
        wh.maintain(hours=hours)
        assert staged.keys() <= content.files_below(Path(wh.uri) / "ForcedSource").keys()
    events = []
    wh.ingest("ForcedSource", str(story.tree), on_event=events.append)
    assert "resumed" in [event.step for event in events]


def test_ledger_and_quarantine_are_made_again_from_the_logs(stories, tmp_path):
    clean = stories["replace"].clean
    folder = tmp_path / "warehouse"
    shutil.copytree(clean.uri, folder)
    shutil.rmtree(folder / "Ledger")
    shutil.rmtree(folder / "Quarantine")
    wh = Warehouse.create(str(folder), settings=SETTINGS)
    for table in TABLES:
        assert wh.ingest(table, str(stories["replace"].tree)).nothing_new
        assert wh.history(table).equals(clean.history(table))
        assert wh.quarantine(table).equals(clean.quarantine(table))
    assert all(finding.holds for finding in wh.audit())
