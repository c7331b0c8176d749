"""Tracts as tasks of Prefect: the first that fails ends the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import truth
from warehouse.errors import StorageError
from warehouse.lake.events import Event, StoppedError, ignore


@pytest.mark.parametrize("step", ["match", "join"])
def test_the_first_failure_ends_the_tracts_that_were_begun_before_it(settings, monkeypatch, step):
    begun = []

    def failing(calls, _width):
        begun.extend(call.args[-1] for call in calls)
        begun[0](Event("staging", "Object"))
        raise StorageError("the store is gone")

    monkeypatch.setattr(truth, "windowed", failing)
    run = getattr(truth.PrefectTracts(), step)
    with pytest.raises(StorageError, match="the store is gone"):
        run([SimpleNamespace(tract=1), SimpleNamespace(tract=2)], settings, ignore)
    for watch in begun:
        with pytest.raises(StoppedError):
            watch(Event("staging", "Object"))
