"""The readers' side on a real S3 server: same rows, same errors, and a new version is seen."""

from __future__ import annotations

import pytest

from support.small_warehouse import simulated
from warehouse import Cone, Warehouse
from warehouse.errors import NotFoundError

CONE = Cone(62.0, -37.0, 0.1)


@pytest.fixture
def both(s3):
    local = simulated().open()
    there = Warehouse.create(s3.uri("dp02"), settings=s3.settings)
    for name, table in (("visitTable", "Visit"), ("objectTable", "Object"), ("forcedSourceTable", "ForcedSource")):
        there.ingest(table, [str(path) for path in simulated().files(name)])
    return local, there


def test_a_warehouse_on_s3_answers_as_one_on_disk(both):
    local, there = both
    assert all(path.startswith("s3://") for path in there.files("Object", CONE))
    assert len(there.files("Object", CONE)) == len(local.files("Object", CONE))
    columns = ["objectId", "tract", "i_cModelFlux"]
    rows = sorted(there.scan("Object", CONE, columns=columns).collect().rows())
    assert rows == sorted(local.scan("Object", CONE, columns=columns).collect().rows())
    where = local.data_ids("objectTable").drop("rows").row(1, named=True)
    found = there.get("objectTable", **where).sort("objectId")
    assert found.equals(local.get("objectTable", **where).sort("objectId"))
    some = [row[0] for row in rows[:5]]
    assert there.lightcurve(some).rows() == local.lightcurve(some).rows()
    assert there.sky_info("Object", means=False).rows() == local.sky_info("Object", means=False).rows()
    counted = there.sql("SELECT tract, COUNT(*) AS n FROM Object GROUP BY tract ORDER BY tract").collect()
    assert counted["n"].sum() == there.tables().filter(table="Object")["rows"].item()


def test_a_later_version_is_seen_and_a_pinned_reader_stays(both):
    _, there = both
    there.pin("now")
    reader = Warehouse.open(there.uri, release="now", settings=there.settings)
    before = there.scan("Visit").collect().height
    another = Warehouse.open(there.uri, settings=there.settings)
    another.ingest("CcdVisit", [str(path) for path in simulated().files("ccdVisitTable")])
    assert there.scan("CcdVisit").collect().height == 9
    assert reader.scan("Visit").collect().height == before
    with pytest.raises(NotFoundError, match="when 'now' was pinned"):
        reader.scan("CcdVisit")
    with pytest.raises(NotFoundError, match="there is no warehouse"):
        Warehouse.open(f"{there.uri}-not", settings=there.settings)
