"""Each kind of damage does to a file what it says, and to nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warehouse.config import Settings
from warehouse.errors import NotFoundError, QueryError
from warehouse.simulate import simulate
from warehouse.simulate.damage import KINDS, damage
from warehouse.sky import skymap

POSITIONS = {"objectTable": ("coord_ra", "coord_dec"), "diaSourceTable": ("ra", "decl")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    place = {"ra": 62.0, "dec": -37.0, "radius": 0.03}
    simulate(str(root), **place, objects=400, visits=1, detectors=9, dataset_types=["objectTable", "diaSourceTable"])
    return root


class Broken:
    """A copy of the largest file of a dataset type, with room to be broken in."""

    def __init__(self, whole, folder, dataset_type):
        self.root, self.dataset_type = folder / "tree", dataset_type
        shutil.copytree(whole, self.root)
        files = [path for path in self.root.rglob("*.parq") if f"/{dataset_type}/" in str(path)]
        self.path = max(files, key=lambda path: path.stat().st_size)
        self.before = pl.read_parquet(self.path)
        self.others = self.files() - {self.path}

    def files(self):
        return set(self.root.rglob("*.parq"))

    def __call__(self, kind, seed=1):
        done = KINDS[kind](str(self.path), Settings(), seed=seed)
        assert done.kind == kind
        assert done.was == str(self.path)
        assert len(done.told) > 5
        return done


@pytest.fixture(params=["objectTable", "diaSourceTable"])
def broken(whole, tmp_path, request):
    return Broken(whole, tmp_path, request.param)


@pytest.fixture
def objects(whole, tmp_path):
    return Broken(whole, tmp_path, "objectTable")


def changed_columns(before, after):
    return {name for name in before.columns if not before[name].equals(after[name], null_equal=True)}


def test_there_is_a_kind_for_each_bad_input():
    wanted = "truncated zero_byte not_parquet missing_required_column extra_columns permuted_columns int32_ids "
    wanted += "float_as_text null_positions non_finite_positions out_of_range_positions shifted_ra duplicate_keys "
    wanted += "outside_patch contradicting_path no_rows odd_path changed_rows later_run"
    assert set(wanted.split()) <= set(KINDS)


@pytest.mark.parametrize("kind", ["truncated", "zero_byte", "not_parquet"])
def test_files_that_are_no_parquet_are_refused_by_a_reader(broken, kind):
    size = broken.path.stat().st_size
    done = broken(kind)
    assert done.effect == "input refused"
    assert broken.path.stat().st_size < size
    with pytest.raises(pa.ArrowInvalid):
        pq.read_metadata(broken.path)


def test_a_garbled_file_shows_when_its_rows_are_read(broken):
    assert broken("garbled").effect == "input refused"
    assert pq.read_metadata(broken.path).num_rows == broken.before.height
    with pytest.raises(OSError, match=r"[Dd]eserializ|[Tt]hrift"):
        pq.read_table(broken.path)


def test_a_required_column_is_left_out(broken):
    assert broken("missing_required_column").effect == "input refused"
    after = pl.read_parquet(broken.path)
    assert set(broken.before.columns) - set(after.columns) == {POSITIONS[broken.dataset_type][1]}
    assert after.equals(broken.before.select(after.columns), null_equal=True)


def test_extra_columns_come_on_top(broken):
    assert broken("extra_columns").effect == "harmless"
    after = pl.read_parquet(broken.path)
    assert set(after.columns) - set(broken.before.columns) == {"extra_noise", "extra word"}
    assert after.select(broken.before.columns).equals(broken.before, null_equal=True)


def test_permuted_columns_are_the_same_columns(broken):
    assert broken("permuted_columns").effect == "harmless"
    after = pl.read_parquet(broken.path)
    assert after.columns != broken.before.columns
    assert after.select(broken.before.columns).equals(broken.before, null_equal=True)


def test_integers_that_fit_become_narrow(objects):
    assert objects("int32_columns").effect == "harmless"
    after = pl.read_parquet(objects.path)
    assert after.schema["tract"] == pl.Int32
    assert after.schema["objectId"] == pl.Int64
    assert (after["tract"] == objects.before["tract"]).all()


def test_ids_become_narrow(objects):
    assert objects("int32_ids").effect == "harmless"
    frame = pd.read_parquet(objects.path)
    assert frame.index.name == "objectId"
    assert frame.index.dtype == np.int32
    assert frame.index.is_unique


def test_a_float_column_becomes_text(broken):
    assert broken("float_as_text").effect == "input refused"
    after = pl.read_parquet(broken.path)
    (name,) = [name for name in after.columns if after.schema[name] != broken.before.schema[name]]
    assert after.schema[name] == pl.String
    assert name not in POSITIONS[broken.dataset_type]
    assert np.allclose(after[name].cast(pl.Float64), broken.before[name], equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "axis", "bad"),
    [
        ("null_positions", 0, lambda values: values.is_null()),
        ("non_finite_positions", 1, lambda values: ~values.is_finite()),
        ("out_of_range_positions", 1, lambda values: values.abs() > 90),
    ],
)
def test_a_few_positions_are_spoilt(broken, kind, axis, bad):
    done = broken(kind)
    after, name = pl.read_parquet(broken.path), POSITIONS[broken.dataset_type][axis]
    assert done.effect == "rows refused"
    assert bad(after[name]).sum() == done.rows >= 1
    assert done.rows <= max(1, 0.01 * after.height)
    assert changed_columns(broken.before, after) == {name}


def test_right_ascensions_are_a_turn_off(broken):
    assert broken("shifted_ra").effect == "harmless"
    after, name = pl.read_parquet(broken.path), POSITIONS[broken.dataset_type][0]
    turns = (after[name] - broken.before[name]) / 360
    assert np.allclose(turns.abs(), 1.0)
    assert turns.round().n_unique() == 2
    assert changed_columns(broken.before, after) == {name}


def test_a_few_rows_stand_twice(broken):
    done = broken("duplicate_keys")
    after = pl.read_parquet(broken.path)
    assert after.height == broken.before.height + done.rows
    assert after.n_unique() == broken.before.height


def test_a_few_rows_lie_outside_their_patch(objects):
    done = objects("outside_patch")
    after = pl.read_parquet(objects.path)
    inside = skymap.named("DC2").in_outer(after["tract"], after["patch"], after["coord_ra"], after["coord_dec"])
    assert done.effect == "rows refused"
    assert (~inside).sum() == done.rows >= 1
    assert changed_columns(objects.before, after) == {"coord_dec"}


def test_no_rows_are_left_but_all_columns(broken):
    assert broken("no_rows").effect == "harmless"
    after = pl.read_parquet(broken.path)
    assert after.height == 0
    assert after.schema == broken.before.schema
    assert len(pd.read_parquet(broken.path)) == 0


def test_the_path_contradicts_the_rows(objects):
    done = objects("contradicting_path")
    assert done.effect == "input refused"
    assert not objects.path.exists()
    tract = int(objects.before["tract"][0])
    assert f"/objectTable/{tract + 1}/" in done.uri
    assert f"/objectTable_{tract + 1}_" in done.uri
    assert pl.read_parquet(done.uri)["tract"].unique().to_list() == [tract]


def test_a_path_with_spaces_and_letters_beyond_ascii(broken):
    done = broken("odd_path")
    assert done.effect == "harmless"
    assert not broken.path.exists()
    assert not done.uri.isascii()
    assert " " in done.uri
    assert pl.read_parquet(done.uri, glob=False).equals(broken.before, null_equal=True)


def test_a_file_is_delivered_again_with_changed_rows(broken):
    done = broken("changed_rows")
    after = pl.read_parquet(broken.path)
    assert (done.effect, done.rows, done.uri) == ("rows replaced", broken.before.height, str(broken.path))
    assert after.height == broken.before.height - 1
    assert len(changed_columns(broken.before.head(-1), after)) == 1


def test_a_later_run_delivers_beside_the_earlier(broken):
    done = broken("later_run")
    assert done.effect == "rows replaced"
    assert done.uri > str(broken.path)
    assert pl.read_parquet(broken.path).equals(broken.before, null_equal=True)
    assert pl.read_parquet(done.uri).height == broken.before.height - 1


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_the_same_every_time_and_leaves_other_files_alone(whole, tmp_path, kind):
    contents = []
    for turn in ("a", "b"):
        objects = Broken(whole, tmp_path / turn, "objectTable")
        others = {path: path.read_bytes() for path in objects.others}
        done = objects(kind, seed=9)
        contents.append((done.uri.removeprefix(str(objects.root)), done.told, Path(done.uri).read_bytes()))
        assert all(path.read_bytes() == content for path, content in others.items())
    assert contents[0] == contents[1]


def test_damage_that_makes_no_sense_is_refused(whole, tmp_path):
    objects = Broken(whole, tmp_path, "objectTable")
    sources = Broken(whole, tmp_path / "more", "diaSourceTable")
    with pytest.raises(NotFoundError, match="truncated"):
        damage("truncate", str(objects.path))
    with pytest.raises(NotFoundError, match="dataset type"):
        damage("truncated", str(tmp_path / "plain.parquet"))
    for kind in ("outside_patch", "contradicting_path"):
        with pytest.raises(QueryError):
            damage(kind, str(sources.path))
    assert pl.read_parquet(sources.path).equals(sources.before, null_equal=True)
