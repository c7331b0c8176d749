"""Contracts against the published schemas (read by felis itself) and against what is known of the releases."""

import dataclasses
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import deltalake
import felis
import polars as pl
import pyarrow as pa
import pytest

from warehouse.contracts import Column, Contract, Packed, SetAside, load
from warehouse.contracts import published as published_module
from warehouse.contracts.published import arrow_type, published
from warehouse.contracts.release import read
from warehouse.errors import ContractError, NotFoundError

ROOT = Path(__file__).parents[1]
SMALL = "obsloctap"  # a published schema that felis reads in no time
SCHEMAS = {"dp02": "dp02_dc2", "dp1": "dp1", "dp2": "dp2"}
# The same words in another order than the code's own table: from the Felis documentation.
ARROW = {
    pa.string(): {"char", "string", "text", "unicode"},
    pa.float64(): {"double"},
    pa.float32(): {"float"},
    pa.int64(): {"long"},
    pa.int32(): {"int"},
    pa.int16(): {"short"},
    pa.bool_(): {"boolean"},
}
DP02_COLUMNS = {
    "Object": 991,
    "Source": 144,
    "ForcedSource": 39,
    "DiaObject": 138,
    "DiaSource": 67,
    "ForcedSourceOnDiaObject": 36,
    "Visit": 15,
    "CcdVisit": 30,
    "CoaddPatches": 5,
    "MatchesTruth": 8,
    "TruthSummary": 24,
    "ObsCore": 37,
}
# table: key, position, assignment, dataset types with dimensions
DP02_TABLES = {
    "Object": (
        "objectId",
        "coord_ra coord_dec",
        "declared",
        {"objectTable": "tract patch", "objectTable_tract": "tract"},
    ),
    "Source": (
        "sourceId",
        "coord_ra coord_dec",
        "derived",
        {"sourceTable_visit": "visit", "sourceTable": "visit detector"},
    ),
    "ForcedSource": (
        "forcedSourceId",
        "coord_ra coord_dec",
        "declared",
        {"forcedSourceTable": "tract patch", "forcedSourceTable_tract": "tract"},
    ),
    "DiaObject": ("diaObjectId", "ra decl", "derived", {"diaObjectTable_tract": "tract"}),
    "DiaSource": (
        "diaSourceId",
        "ra decl",
        "derived",
        {"diaSourceTable_tract": "tract", "diaSourceTable": "visit"},
    ),
    "ForcedSourceOnDiaObject": (
        "forcedSourceOnDiaObjectId",
        "coord_ra coord_dec",
        "declared",
        {"forcedSourceOnDiaObjectTable": "tract patch", "forcedSourceOnDiaObjectTable_tract": "tract"},
    ),
    "TruthSummary": ("id_truth_type", "ra dec", "derived", {"truth_summary": "tract"}),
    "MatchesTruth": ("id_truth_type", "", "through", {"match_ref_truth_summary_objectTable_tract": "tract"}),
    "Visit": ("visit", "ra decl", "none", {"visitTable": ""}),
    "CcdVisit": ("ccdVisitId", "ra decl", "none", {"ccdVisitTable": ""}),
    "CoaddPatches": ("lsst_tract lsst_patch", "s_ra s_dec", "none", {}),
}
DP02_LINKS = {
    "Source": {"ccdVisitId": "CcdVisit.ccdVisitId"},
    "ForcedSource": {"ccdVisitId": "CcdVisit.ccdVisitId", "objectId": "Object.objectId"},
    "DiaSource": {"ccdVisitId": "CcdVisit.ccdVisitId", "diaObjectId": "DiaObject.diaObjectId"},
    "ForcedSourceOnDiaObject": {"ccdVisitId": "CcdVisit.ccdVisitId", "diaObjectId": "DiaObject.diaObjectId"},
    "CcdVisit": {"visitId": "Visit.visit"},
    "MatchesTruth": {"match_objectId": "Object.objectId", "id_truth_type": "TruthSummary.id_truth_type"},
}
ALL_TABLES = [(release, table) for release in SCHEMAS for table in load(release).tables]


@pytest.fixture(scope="session")
def felis_schemas():
    uri = "resource://lsst.sdm.schemas/{}.yaml"
    return {
        release: felis.Schema.from_uri(uri.format(name), context={"id_generation": True})
        for release, name in SCHEMAS.items()
    }


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tractlake"


def release_file(folder, text, name="own.toml"):
    path = folder / name
    path.write_text('schema = "dp02_dc2"\n' + text, encoding="utf-8")
    return path


# --- column for column the published schema


@pytest.mark.parametrize("release", SCHEMAS)
def test_a_release_has_the_published_tables_in_order(release, felis_schemas):
    assert list(load(release).tables) == [table.name for table in felis_schemas[release].tables]


@pytest.mark.parametrize("release", SCHEMAS)
@pytest.mark.usefixtures("empty_cache")
def test_columns_are_the_published_ones_in_order_with_unit_ucd_and_description(release, felis_schemas):
    tables = {table.name: table for table in published(SCHEMAS[release])}
    for table in felis_schemas[release].tables:
        expected = [
            (
                c.name,
                c.datatype.value,
                str(c.fits_tunit or c.ivoa_unit or ""),
                c.ivoa_ucd,
                (c.description or "").split(),
                c.nullable,
            )
            for c in table.columns
        ]
        found = [
            (c.name, c.datatype, c.unit or "", c.ucd, c.description.split(), c.nullable)
            for c in tables[table.name].columns
        ]
        assert found == expected, table.name
        # ... and so are those of the contract, which came by way of the cache.
        assert load(release).contract(table.name).columns == tables[table.name].columns


@pytest.mark.parametrize("release", SCHEMAS)
def test_every_datatype_has_its_arrow_type(release):
    for contract in load(release).tables.values():
        for column in contract.columns:
            if column.datatype == "timestamp":
                zone = None if "TAI" in column.description else "UTC"
                assert column.arrow == pa.timestamp("us", zone), column
            else:
                assert column.datatype in ARROW[column.arrow], column


def test_a_tai_clock_does_not_claim_to_be_utc():
    assert load("dp02").contract("Visit").column("expMidpt").arrow == pa.timestamp("us")
    assert load("dp1").contract("DiaSource").column("time_processed").arrow == pa.timestamp("us", "UTC")


def test_an_unknown_datatype_is_refused():
    with pytest.raises(ContractError, match="quaternion"):
        arrow_type("quaternion")


def test_dp02_has_its_known_numbers_of_columns():
    assert {name: len(contract.columns) for name, contract in load("dp02").tables.items()} == DP02_COLUMNS
    types = Counter(c.datatype for c in load("dp02").contract("Object").columns)
    assert types == {"double": 489, "boolean": 462, "float": 26, "int": 8, "long": 4, "char": 2}


# --- what our own files add


@pytest.mark.parametrize("table", DP02_TABLES)
def test_dp02_is_complete(table):
    key, position, assignment, dataset_types = DP02_TABLES[table]
    contract = load("dp02").contract(table)
    assert contract.key == tuple(key.split())
    assert contract.position == (tuple(position.split()) or None)
    assert contract.assignment == assignment
    assert [(d.name, " ".join(d.dimensions)) for d in contract.dataset_types] == list(dataset_types.items())
    assert {k.column: f"{k.table}.{k.references}" for k in contract.foreign_keys} == DP02_LINKS.get(table, {})


def test_dp02_knows_its_sky_map_and_its_instrument():
    assert (load("dp02").skymap, load("dp02").instrument) == ("DC2", "LSSTCam-imSim")


@pytest.mark.parametrize("table", ["Object", "ForcedSource", "ForcedSourceOnDiaObject"])
def test_dp1_keeps_tract_and_patch_of_coadd_tables(table):
    contract = load("dp1").contract(table)
    assert contract.assignment == "declared"
    assert contract.key
    assert contract.dataset_types


@pytest.mark.parametrize("table", ["Source", "DiaObject", "DiaSource"])
def test_dp1_derives_tract_and_patch_of_the_others(table):
    contract = load("dp1").contract(table)
    assert contract.assignment == "derived"
    assert contract.key
    assert contract.dataset_types


def test_dp1_is_on_its_own_sky_map():
    assert load("dp1").skymap == "lsst_cells_v1"
    assert set(load("dp1").dataset_types) == {
        "object",
        "source",
        "object_forced_source",
        "dia_object",
        "dia_source",
        "dia_object_forced_source",
        "visit_table",
        "visit_detector_table",
    }


def test_dp2_lists_its_tables_and_assigns_none():
    release = load("dp2")
    assert release.skymap is None
    assert {"Object", "Source", "ForcedSource", "DiaSource", "ShearObject"} <= set(release.tables)
    assert {c.assignment for c in release.tables.values()} == {"none"}
    assert not release.dataset_types


def test_generated_tables_are_marked():
    generated = {name for name, contract in load("dp02").tables.items() if contract.generated}
    assert generated == {"CoaddPatches", "ObsCore"}


def test_dataset_types_lead_to_their_table():
    contract, dataset_type = load("dp02").dataset_types["sourceTable_visit"]
    assert contract.table == "Source"
    assert dataset_type.dimensions == ("visit",)


def test_matches_follow_their_truth_row():
    through = load("dp02").contract("MatchesTruth").through
    assert through is not None
    assert (through.column, through.table, through.references) == ("id_truth_type", "TruthSummary", "id_truth_type")


@pytest.mark.parametrize(("release", "table"), ALL_TABLES)
def test_tables_follow_those_that_they_refer_to(release, table):
    order = load(release).order
    assert sorted(order) == sorted(load(release).tables)
    for link in load(release).contract(table).foreign_keys:
        assert order.index(link.table) < order.index(table)


# --- where data ids stand in the rows


def told(dataset_type, rows):
    _, kind = load("dp02").dataset_types[dataset_type]
    return pl.DataFrame(rows).select(**{name: packed.expr() for name, packed in kind.where.items()}).row(0)


def test_visit_and_detector_are_told_by_the_ccd_visit():
    assert told("sourceTable", {"ccdVisitId": [192350175]}) == (192350, 175)
    assert told("sourceTable_visit", {"ccdVisitId": [192350175]}) == (192350,)
    assert told("diaSourceTable", {"ccdVisitId": [192350175]}) == (192350,)


def test_a_published_id_tells_its_tract():
    # Published objects of tracts 4850 and 4638; diaObjectId is packed in the same way.
    assert told("diaObjectTable_tract", {"diaObjectId": [2090444283285865258]}) == (4850,)
    assert told("diaSourceTable_tract", {"diaObjectId": [1999404720506020289]}) == (4638,)


@pytest.mark.parametrize(("identifier", "tract"), [((4431 * 49 << 43) + 1, 4431), ((4432 * 49 << 43) - 1, 4431)])
def test_the_first_and_the_last_id_of_a_tract_tell_it(identifier, tract):
    for name in ("diaObjectTable_tract", "diaSourceTable_tract"):
        assert told(name, {"diaObjectId": [identifier]}) == (tract,)


def test_an_id_of_nothing_tells_nothing():
    assert told("diaSourceTable_tract", {"diaObjectId": [0]}) == (None,)


def test_declared_tract_and_patch_are_told_by_their_columns():
    for name in ("objectTable", "forcedSourceTable", "forcedSourceOnDiaObjectTable"):
        assert told(name, {"tract": [4431], "patch": [17]}) == (4431, 17)


def test_packed_divides_before_it_takes_the_rest():
    frame = pl.DataFrame({"id": [123456, None]}, schema={"id": pl.Int32})
    assert frame.select(Packed("id", divide=100, modulo=10).expr()).to_series().to_list() == [4, None]


# --- what happens to values


@pytest.mark.parametrize("table", ["MatchesTruth", "TruthSummary"])
@pytest.mark.parametrize("identifier", ["31379812", 31379812])
def test_the_truth_key_is_made_of_id_and_type(table, identifier):
    sql = load("dp02").contract(table).derive["id_truth_type"]
    frame = pl.DataFrame({"id": [identifier], "truth_type": [2]})
    assert frame.select(pl.sql_expr(sql)).item() == "31379812_2"


def test_no_match_is_null_in_every_spelling():
    null = load("dp02").contract("MatchesTruth").null_values
    assert set(null["match_objectId"]) == {0, -1, -(2**63)}


def test_the_best_of_several_matches_of_one_truth_row_comes_first():
    (rule,) = (s for s in load("dp02").contract("MatchesTruth").set_aside if s.best)
    rows = pl.DataFrame(
        {
            "match_candidate": [True, True, True, True, True, False, None, False],
            "match_objectId": [None, 5, None, 9, 7, 3, 2, None],
            "match_chisq": [None, 3.0, 0.5, 1.0, 1.0, 0.1, 0.2, None],
        },
    )
    ranked = rows.sort([pl.sql_expr(sql) for sql in rule.best], nulls_last=True)
    assert ranked["match_objectId"].to_list() == [7, 9, 5, None, None, 3, 2, None]


def test_a_match_row_that_says_nothing_is_left_to_the_tract_of_its_truth_row():
    (rule,) = (s for s in load("dp02").contract("MatchesTruth").set_aside if s.where)
    rows = pl.DataFrame(
        {"match_candidate": [True, False, False, None], "tract": [1, 1, 2, 1], "input_tract": [2, 2, 2, 2]}
    )
    aside = rows.select(pl.sql_expr(rule.where).fill_null(value=False)).to_series()
    assert aside.to_list() == [False, True, False, False]


def test_truth_rows_that_are_not_unique_are_set_aside():
    (rule,) = load("dp02").contract("TruthSummary").set_aside
    rows = pl.DataFrame({"is_unique_truth_entry": [True, False, None]})
    assert rows.select(pl.sql_expr(rule.where).fill_null(value=False)).to_series().to_list() == [False, True, False]


def test_every_sql_expression_of_the_releases_is_understood():
    for release in SCHEMAS:
        for contract in load(release).tables.values():
            for sql in (*contract.derive.values(), *(s for rule in contract.set_aside for s in rule.best)):
                roots = pl.sql_expr(sql).meta.root_names()
                assert set(roots) <= set(contract.by_name), (contract.table, sql)


# --- schemas


@pytest.mark.parametrize(("release", "table"), ALL_TABLES)
def test_a_file_holds_the_table_without_its_partition_columns_statistics_first(release, table):
    contract = load(release).contract(table)
    whole, file = contract.arrow_schema, contract.file_schema
    assert set(file.names) == set(whole.names) - set(contract.partition_by)
    assert len(file.names) == len(set(file.names))
    lead = [name for name in contract.statistics if name not in contract.partition_by]
    assert file.names[: len(lead)] == lead
    assert "input_id" in lead
    assert set(contract.key) | set(contract.position or ()) <= set(lead)
    assert all(file.field(name).equals(whole.field(name)) for name in file.names)


@pytest.mark.parametrize(("release", "table"), ALL_TABLES)
def test_delta_takes_every_schema_and_keeps_its_types(release, table):
    schema = load(release).contract(table).arrow_schema
    delta = deltalake.Schema.from_arrow(schema)
    back = pa.schema(delta.to_arrow())
    assert back.names == schema.names
    for name in schema.names:
        assert back.field(name).nullable == schema.field(name).nullable
        assert str(back.field(name).type).removeprefix("large_") == str(schema.field(name).type)


def test_derived_tables_gain_tract_and_patch_and_declared_ones_keep_theirs():
    for table in ("Source", "Object"):
        schema = load("dp02").contract(table).arrow_schema
        for name in ("tract", "patch", "input_id"):
            assert schema.names.count(name) == 1
            assert schema.field(name).type == pa.int64()
            assert not schema.field(name).nullable
    assert load("dp02").contract("Visit").arrow_schema.names[-1] == "input_id"
    assert "tract" not in load("dp02").contract("Visit").arrow_schema.names


def test_key_position_and_the_column_to_go_through_are_never_null():
    schema = load("dp02").contract("MatchesTruth").arrow_schema
    assert not schema.field("id_truth_type").nullable
    assert schema.field("match_objectId").nullable
    schema = load("dp02").contract("Object").arrow_schema
    held = {f.name for f in schema if not f.nullable}
    assert held == {"objectId", "coord_ra", "coord_dec", "tract", "patch", "input_id"}


def test_fields_carry_unit_ucd_and_description():
    metadata = load("dp02").contract("Object").arrow_schema.field("coord_ra").metadata
    assert metadata[b"unit"] == b"deg"
    assert metadata[b"ucd"] == b"pos.eq.ra;meta.main"
    assert b"Right Ascension" in metadata[b"description"]


# --- records


def test_contracts_cross_process_borders_and_hash():
    for contract in load("dp02").tables.values():
        schema = contract.arrow_schema
        again = pickle.loads(pickle.dumps(contract))  # noqa: S301 - our own bytes
        assert again == contract
        assert hash(again) == hash(contract)
        assert again.digest == contract.digest
        assert again.arrow_schema.equals(schema, check_metadata=True)


def test_a_release_crosses_process_borders():
    again = pickle.loads(pickle.dumps(load("dp02")))  # noqa: S301 - our own bytes
    assert again == load("dp02")
    assert again.order == load("dp02").order


def test_contracts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load("dp02").contract("Object").key = ("other",)


@pytest.mark.parametrize(
    "change",
    [
        {"key": ("sourceId", "visit")},
        {"position": ("ra", "decl")},
        {"assignment": "none"},
        {"derive": {"visit": "ccdVisitId / 1000"}},
        {"null_values": {"ccdVisitId": (0,)}},
        {"ignore": ("index",)},
        {"set_aside": (SetAside("blank", where="sourceId = 0"),)},
        {"columns": (Column("sourceId", "int", pa.int32()),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_changes_with_what_a_file_becomes(change):
    contract = load("dp02").contract("Source")
    assert dataclasses.replace(contract, **change).digest != contract.digest


@pytest.mark.parametrize("change", [{"cluster_by": ()}, {"statistics": ("sourceId",)}, {"description": "new"}])
def test_the_digest_does_not_change_with_the_layout(change):
    contract = load("dp02").contract("Source")
    assert dataclasses.replace(contract, **change).digest == contract.digest


# --- what does not exist


def test_an_unknown_release_is_named_with_its_near_misses():
    with pytest.raises(NotFoundError, match=r"'dp0\.2'.*dp02") as caught:
        load("dp0.2")
    assert caught.value.kind == "release"


@pytest.mark.parametrize("name", ["../contracts/dp02", "", "dp02.toml"])
def test_a_release_is_a_name_and_no_path(name):
    with pytest.raises(NotFoundError):
        load(name)


def test_an_unknown_table_or_column_is_named_with_its_near_misses():
    with pytest.raises(NotFoundError, match="did you mean Object"):
        load("dp02").contract("object")
    with pytest.raises(NotFoundError, match="g_cModelFlux"):
        load("dp02").contract("Object").column("g_cmodelFlux")


def test_a_dataset_type_is_found_among_those_of_its_table():
    contract = load("dp02").contract("Source")
    assert contract.dataset_type("sourceTable").dimensions == ("visit", "detector")
    assert len({*contract.dataset_types, contract.dataset_type("sourceTable")}) == 2
    with pytest.raises(NotFoundError, match=r"objectTable.*sourceTable"):
        contract.dataset_type("objectTable")


# --- a mistake in a release file


@pytest.mark.parametrize(
    ("text", "table", "field", "hint"),
    [
        ('[Objekt]\nassignment = "none"', None, "table", "Object"),
        ('[Object]\nposition = ["coord_ra", "coord_decl"]', "Object", "position", "coord_dec"),
        ('[Object]\nposition = ["coord_ra"]', "Object", "position", "RA and Dec"),
        ('[Object]\nkey = "objectId"', "Object", "key", "list of strings"),
        ('[Object]\nkey = ["objectid"]', "Object", "key", "objectId"),
        ('[Object]\ncluster = ["coord_ra"]', "Object", "field", "cluster_by"),
        ('[Object]\ncluster_by = ["coord"]', "Object", "cluster_by", "coord"),
        ('[Object]\nassignment = "declared"\nstatistics = ["tract"]', "Object", "statistics", "tract"),
        ('[Visit]\ntime = "expMidptMjd"', "Visit", "time", "expMidptMJD"),
        ('[Object]\nassignment = "deduced"', "Object", "assignment", "derived"),
        ('[Source]\nassignment = "declared"', "Source", "assignment declared", "tract"),
        ('[Source]\nassignment = "derived"', "Source", "position", "derived"),
        ('[MatchesTruth]\nassignment = "through"', "MatchesTruth", "through", "None"),
        (
            '[MatchesTruth]\nassignment = "through"\nthrough = "id"',
            "MatchesTruth",
            "through",
            "id_truth_type",
        ),
        ("[Source]\nforeign_keys = { ccdVisit = { none = [0] } }", "Source", "foreign_keys", "ccdVisitId"),
        ("[Source]\nforeign_keys = { visit = { none = [0] } }", "Source", "foreign_keys", "published"),
        (
            '[Source]\nforeign_keys = { visit = { table = "Visits", references = "visit" } }',
            "Source",
            "foreign_keys",
            "Visit",
        ),
        (
            '[Source]\nforeign_keys = { visit = { table = "Visit", references = "visitId" } }',
            "Source",
            "foreign_keys Visit",
            "visit",
        ),
        ('[DiaSource]\nderive = { coord = "ra" }', "DiaSource", "derive", "coord_ra"),
        ("[MatchesTruth]\nnull_values = { objectId = [0] }", "MatchesTruth", "null_values", "match_objectId"),
        ("[MatchesTruth]\nnull_values = { match_objectId = 0 }", "MatchesTruth", "null_values", "list of integers"),
        ("[Source]\nderive = 1", "Source", "derive", "expected a table"),
        (
            '[[Object.dataset_types]]\nname = "t"\ndimensions = ["tract"]\nwhere = { tract = { divide = 2 } }',
            "Object",
            "where",
            "column",
        ),
        ('[MatchesTruth]\nignore = ["id"]', "MatchesTruth", "ignore", "belongs"),
        ('[TruthSummary]\nset_aside = [{ rule = "none" }]', "TruthSummary", "set_aside", "where or best"),
        ('[Object]\nextra = [{ name = "photoz" }]', "Object", "extra", "datatype"),
        ('[Object]\nextra = [{ name = "photoz", datatype = "real" }]', "Object", "extra", "photoz"),
        (
            '[[Object.dataset_types]]\nname = "t"\ndimensions = ["tract"]\nwhere = { patch = "patch" }',
            "Object",
            "dataset_types",
            "patch",
        ),
        (
            '[[Object.dataset_types]]\nname = "t"\ndimensions = ["tract"]\nwhere = { tract = "trakt" }',
            "Object",
            "dataset_types t",
            "tract",
        ),
        ('[[Object.dataset_types]]\ndimensions = ["tract"]', "Object", "dataset_types", "name"),
        ('[[Object.dataset_types]]\nname = "t"', "Object", "dataset_types", "list of strings"),
        ('[[CoaddPatches.dataset_types]]\nname = "t"\ndimensions = []', "CoaddPatches", "key", "needs one"),
        (
            """[Object]\ndataset_types = [{ name = "t", dimensions = [] }]
            [Source]\ndataset_types = [{ name = "t", dimensions = [] }]""",
            "Object",
            "dataset_types",
            "Source",
        ),
        ('skymaps = "DC2"', None, "field", "skymap"),
    ],
)
def test_a_mistake_is_refused_by_file_table_and_field(tmp_path, text, table, field, hint):
    with pytest.raises(ContractError) as caught:
        read(release_file(tmp_path, text))
    error = caught.value
    assert (error.uri, error.table) == ("own.toml", table)
    assert error.message.startswith(f"{field}: ")
    assert hint in error.message


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"own\.toml.*no TOML"):
        read(release_file(tmp_path, "[Object"))


def test_a_schema_that_is_not_published_is_refused(tmp_path, empty_cache):
    path = tmp_path / "own.toml"
    path.write_text('schema = "dp99"', encoding="utf-8")
    with pytest.raises(ContractError, match="dp99"):
        read(path)
    assert not empty_cache.exists()


def test_tables_that_refer_to_each_other_are_refused(tmp_path):
    text = '[Visit]\nforeign_keys = { visit = { table = "CcdVisit", references = "visitId" } }'
    with pytest.raises(ContractError, match=r"in a circle.*CcdVisit"):
        read(release_file(tmp_path, text))


def test_extra_columns_follow_the_published_ones(tmp_path):
    text = '[Object]\nextra = [{ name = "ebv", datatype = "float", unit = "mag", description = "reddening" }]'
    contract: Contract = read(release_file(tmp_path, text)).contract("Object")
    assert len(contract.columns) == 992
    assert contract.columns[-1] == Column("ebv", "float", pa.float32(), "mag", None, "reddening")


# --- the cache


def run_fresh(cache, code):
    """Run code in a process of its own, with nothing loaded and the cache in a folder of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(ROOT),
        "HOME": str(cache),
    }
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def test_a_cached_release_needs_neither_felis_nor_astropy(tmp_path):
    code = (
        "import sys; from warehouse.contracts import load; release = load('dp02');"
        "print(len(release.contract('Object').columns), release.contract('Object').digest);"
        "print(*sorted({'felis', 'astropy', 'yaml', 'prefect'} & set(sys.modules)))"
    )
    first = run_fresh(tmp_path, code)
    second = run_fresh(tmp_path, code)
    assert first[0] == "991"
    assert "felis" in first
    assert second == first[:2]


@pytest.mark.parametrize("damage", ["", "x", "truncated", "flipped"])
def test_a_broken_cache_is_read_past_and_mended(empty_cache, damage):
    whole = published(SMALL)
    (entry,) = empty_cache.iterdir()
    good = entry.read_bytes()
    bad = {"truncated": good[: len(good) // 2], "flipped": good.replace(b"double", b"dOuble", 1)}
    entry.write_bytes(bad.get(damage, damage.encode()))
    assert entry.read_bytes() != good
    assert published(SMALL) == whole
    assert entry.read_bytes() == good
    assert list(empty_cache.iterdir()) == [entry]


def test_a_cache_is_read_where_it_is_whole(empty_cache, monkeypatch):
    whole = published(SMALL)
    assert len(list(empty_cache.iterdir())) == 1

    monkeypatch.setattr(published_module, "_read_felis", Mock(side_effect=AssertionError("read again")))
    assert published(SMALL) == whole


def test_a_changed_schema_package_is_another_entry(tmp_path):
    file, other = tmp_path / "base.yaml", tmp_path / "dp2.yaml"
    file.write_text("a", encoding="utf-8")
    other.write_text("a", encoding="utf-8")
    before = published_module._digest([file, other])
    assert published_module._digest([other, file]) == before
    assert published_module._digest([file]) != before
    file.write_text("b", encoding="utf-8")
    assert published_module._digest([file, other]) != before


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [table.name for table in published(SMALL)] == ["ObsPlan"]


def test_a_full_disk_leaves_no_half_entry(empty_cache, monkeypatch):
    monkeypatch.setattr(Path, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    assert published(SMALL)
    assert not list(empty_cache.iterdir())


def test_a_person_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("no home")))
    assert published_module._cache_entry("dp2") is None
