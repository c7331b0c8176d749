"""SQL over the tables: joins and group-bys as Polars gives them, and plain words for what it cannot do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from support.small_warehouse import SETTINGS, emptied, simulated
from warehouse import Warehouse
from warehouse.errors import NotFoundError, QueryError


@pytest.fixture(scope="module")
def wh():
    return simulated().open()


def test_three_tables_are_joined_and_grouped(wh):
    found = wh.sql(
        """
        SELECT o.tract, COUNT(*) AS matched, AVG(ts.redshift) AS redshift  -- a comment; DROP TABLE nothing
        FROM MatchesTruth AS mt
        JOIN TruthSummary AS ts ON mt.id_truth_type = ts.id_truth_type
        JOIN Object AS o ON mt.match_objectId = o.objectId
        WHERE ts.truth_type = 1 AND o.detect_isPrimary AND o.refExtendedness IS NOT NULL
        GROUP BY o.tract ORDER BY o.tract
        """
    )
    assert isinstance(found, pl.LazyFrame)
    truth = wh.scan("TruthSummary").filter(truth_type=1)
    objects = wh.scan("Object", primary=True).filter(pl.col("refExtendedness").is_not_null())
    expected = (
        wh.scan("MatchesTruth", columns=["id_truth_type", "match_objectId"])
        .join(truth.select("id_truth_type", "redshift"), on="id_truth_type")
        .join(objects.select("objectId", "tract"), left_on="match_objectId", right_on="objectId")
        .group_by("tract")
        .agg(matched=pl.len(), redshift=pl.col("redshift").mean())
        .sort("tract")
        .collect()
    )
    answer = found.collect()
    assert answer["matched"].to_list() == expected["matched"].to_list()
    assert answer["redshift"].to_list() == pytest.approx(expected["redshift"].to_list(), rel=1e-6)
    assert answer["matched"].sum() > 100


@pytest.mark.parametrize(
    "query",
    [
        "SELECT visit -- the reader's choice\nFROM Visit -- the night's",
        "SELECT visit /* the reader's */ FROM Visit /* and 'theirs */",
        "SELECT visit FROM Visit WHERE '--' <> 'it''s /* no comment' -- 'Object'",
        "-- Object's\nSELECT visit FROM \"Visit\" WHERE '/*' < 'x' /* '*/",
        "SELECT visit AS \"it's\" FROM Visit WHERE 'b' > 'a'",
        'SELECT visit AS "a--b" FROM Visit',
    ],
)
def test_apostrophes_in_comments_and_dashes_in_texts_hide_no_table(wh, query):
    expected = wh.scan("Visit").collect()["visit"].sort().to_list()
    assert wh.sql(query).collect().to_series().sort().to_list() == expected
    # A version's number counts one table's versions, so what comments and texts name is not a second table.
    assert wh.sql(query, version=wh.version("Visit")).collect().height == len(expected)


def test_subqueries_and_common_table_expressions_do(wh):
    found = wh.sql(
        "WITH far AS (SELECT * FROM TruthSummary WHERE redshift > 1) SELECT COUNT(*) AS n FROM far"
    ).collect()
    assert found.item() == wh.scan("TruthSummary").filter(pl.col("redshift") > 1).select(pl.len()).collect().item()
    for query in (
        "(SELECT COUNT(*) FROM Visit)",
        "select count(*) from Visit",
        "With v As (Select 1 From Visit) Select 3",
    ):
        assert set(wh.sql(query).collect().to_series()) == {3}, query


def test_conditions_leave_out_files(wh, tmp_path):
    copy = simulated().copy(tmp_path)
    tract, patch, rows = wh.data_ids("objectTable").row(2)
    for path in (copy / "Object").rglob("tract=*/*/*.parquet"):
        if path.parts[-3:-1] != (f"tract={tract}", f"patch={patch}"):
            path.write_bytes(b"")
    query = f"SELECT objectId FROM Object WHERE tract = {tract} AND patch = {patch}"  # noqa: S608 - numbers of ours
    assert Warehouse.open(str(copy), settings=SETTINGS).sql(query).collect().height == rows


def test_only_the_tables_that_are_named_are_opened(tmp_path):
    copy = simulated().copy(tmp_path)
    for path in (copy / "Object" / "_delta_log").iterdir():
        path.write_bytes(b"{broken")
    found = Warehouse.open(str(copy), settings=SETTINGS).sql("SELECT visit, 'FROM Object' AS note FROM Visit").collect()
    assert found.height == 3


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        ("SELECT objektId FROM Object", NotFoundError, "no column 'objektId'; did you mean objectId"),
        ("SELECT o.objectId FROM Objekt o", NotFoundError, "no table 'Objekt'; did you mean Object"),
        ("SELECT * FROM ObsCore", NotFoundError, "nothing has been loaded"),
        ("SELEC * FROM Object", QueryError, "expected a query"),
        ("SELECT (objectId FROM Object", QueryError, "not understood"),
        ("DELETE FROM Object", QueryError, "expected a query"),
        ("DROP TABLE Object", QueryError, "expected a query"),
        ("CREATE TABLE x AS SELECT * FROM Object", QueryError, "expected a query"),
        ("", QueryError, "expected a query"),
        ("-- SELECT", QueryError, "expected a query"),
        ("SELECT no_such_function(objectId) FROM Object", QueryError, "no_such_function'$"),
        ("SELECT CONTAINS(coord_ra, coord_dec) FROM Object", QueryError, "geometry is asked of scan"),
        ("SELECT o.objectid FROM Object o", NotFoundError, "no column 'objectid'; did you mean objectId"),
        (
            "SELECT o.objectId FROM Object o JOIN MatchesTruth m ON m.match_objectid = o.objectId",
            NotFoundError,
            "did you mean match_objectId",
        ),
        ("SELECT x FROM (SELECT objectId FROM Object) t", NotFoundError, "no column 'x'; there are objectId$"),
        ("SELECT * FROM read_csv('/etc/passwd')", QueryError, "expected tables of the warehouse, found a file"),
        ("SELECT * FROM  READ_PARQUET ('x.parquet')", QueryError, "found a file"),
        ("SELECT objectId FROM Object; DROP TABLE Object", QueryError, "not understood"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(wh, query, error, says):
    with pytest.raises(error, match=says):
        wh.sql(query)


def test_a_version_s_number_is_of_one_table(wh):
    with pytest.raises(QueryError, match="names MatchesTruth, Object"):
        wh.sql("SELECT * FROM MatchesTruth m JOIN Object o ON m.match_objectId = o.objectId", version=1)
    assert wh.sql("SELECT COUNT(*) AS n FROM Object", version=0).collect().item() == 0


def test_a_pin_or_a_moment_is_of_all_tables_that_a_query_names(tmp_path):
    wh = Warehouse.open(str(simulated().copy(tmp_path)), settings=SETTINGS)
    query = "SELECT COUNT(*) AS n FROM Visit v LEFT JOIN CcdVisit c ON c.visitId = v.visit WHERE c.ra IS NOT NULL"
    wh.pin("before")
    moment = datetime.now(tz=UTC) + timedelta(hours=1)
    later = (moment + timedelta(hours=1)).timestamp()
    for table in ("Visit", "CcdVisit"):
        version = emptied(wh, table)
        os.utime(Path(wh.root.table_uri(table), f"_delta_log/{version:020d}.json"), (later, later))
    assert wh.sql(query).collect().item() == 0
    assert wh.sql(query, version="before").collect().item() == 9
    assert wh.sql(query, version=moment).collect().item() == 9
