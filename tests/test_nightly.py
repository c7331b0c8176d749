"""What a nightly run pins is what it has audited, whoever else writes meanwhile."""

import logging
import uuid

import pytest

from flows.nightly import audited, nightly, refuse_behind
from flows.truthing import materialise_summary
from support import misplaced
from support.small_warehouse import SETTINGS, simulated
from warehouse import Warehouse
from warehouse.errors import ConflictError, QualityError
from warehouse.lake import delta, pins
from warehouse.truth.materialise import MaterialiseReport, inputs_are_there


class Busy(Warehouse):
    """A warehouse to which others do something after each audit, one thing each time."""

    others = ()

    def audit(self, *tables):
        found = super().audit(*tables)
        if self.others:
            first, *self.others = self.others
            first()
        return found


@pytest.fixture
def wh(tmp_path):
    return Busy.open(str(simulated().copy(tmp_path)), settings=SETTINGS)


def commit(wh, table="Source"):
    delta.commit(delta.snapshot(wh.root.table_uri(table), SETTINGS), uuid.uuid4().hex, SETTINGS, metadata={"n": 1})


def test_the_versions_that_were_audited_are_given_and_pinned_although_others_go_on(wh):
    before = pins.present(wh.root, SETTINGS)
    assert audited(wh) == before
    commit(wh)
    pins.pin(wh.root, "night", SETTINGS, versions=before)
    assert wh.pins()[0].versions == before
    assert not pins.holds_present(wh.root, SETTINGS)


def test_tables_that_others_wrote_to_meanwhile_are_audited_again(wh):
    before = pins.present(wh.root, SETTINGS)
    wh.others = [lambda: commit(wh)]
    assert audited(wh) == {**before, "Source": before["Source"] + 1}


def test_what_others_break_after_it_was_looked_at_is_found(wh):
    path, (tract, patch) = misplaced.first(wh, "Object")
    wh.others = [lambda: misplaced.move(wh, "Object", path, (tract, patch + 20))]
    with pytest.raises(QualityError, match="1 check of the audit failed, nothing was pinned; the first: position in"):
        audited(wh)


def test_what_others_mend_meanwhile_is_not_held_against_the_tables(wh):
    path, (tract, patch) = misplaced.first(wh, "Object")
    moved = misplaced.move(wh, "Object", path, (tract, patch + 20))
    wh.others = [lambda: misplaced.move(wh, "Object", moved, (tract, patch))]
    assert audited(wh) == pins.present(wh.root, SETTINGS)


def test_tables_that_never_rest_are_not_pinned(wh):
    wh.others = [lambda: commit(wh)] * 10
    with pytest.raises(ConflictError, match="others wrote during each of 3 audits"):
        audited(wh)


def test_a_tract_of_object_truth_that_stayed_behind_is_no_night_to_pin():
    refuse_behind(None)
    refuse_behind({"failed": {}})
    with pytest.raises(QualityError, match=r"ObjectTruth.*2 tracts stayed behind, nothing was pinned; tract 7: a key"):
        refuse_behind({"table": "ObjectTruth", "failed": {7: "a key stands twice", 9: "so does another"}})


@pytest.fixture
def night(wh, monkeypatch):
    """The flow's own function, without Prefect about it: a night whose inputs are all there already."""
    monkeypatch.setattr("flows.nightly.get_run_logger", lambda: logging.getLogger("nightly"))
    monkeypatch.setattr("flows.nightly.create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr("flows.nightly.PrefectTasks", lambda: None)
    visits = str(simulated().files("visitTable")[0])
    return lambda **told: nightly.fn(wh.uri, [visits], memory="1GiB", workers=2, **told)


def test_a_night_that_brought_nothing_pins_only_what_no_pin_holds(wh, night):
    first = night(materialise=False)["pin"]
    assert first is not None
    assert night(materialise=False)["pin"] is None
    assert [pin.name for pin in wh.pins()] == [first]


def test_a_night_that_leaves_a_tract_behind_fails_without_a_pin(wh, night, monkeypatch):
    behind = MaterialiseReport(1, {}, failed={7: "a key stands twice"})
    monkeypatch.setattr("flows.truthing.materialise", lambda *_, **__: materialise_summary(behind))
    for pin in (True, False):
        with pytest.raises(QualityError, match="1 tract stayed behind, nothing was pinned; tract 7: a key"):
            night(pin=pin)
    assert wh.pins() == []


@pytest.mark.parametrize("release", ["dp02", "dp1"])
def test_without_truth_nothing_is_materialised(tmp_path, settings, release):
    wh = Warehouse.create(str(tmp_path / "warehouse"), release=release, settings=settings)
    assert not inputs_are_there(wh.root, wh.settings)
