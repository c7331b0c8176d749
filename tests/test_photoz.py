"""The photo-z set: the selection against the rules by hand, the split, and each file read back by its own readers."""

import json
import math

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from warehouse.contracts import load
from warehouse.contracts.derived import object_truth_contract
from warehouse.errors import ContractError, QueryError, StorageError
from warehouse.sky.regions import Cone
from warehouse.truth.photoz import Selection, photoz, split, stable_hash
from warehouse.truth.photoz_files import FORMATS, needed, write

BANDS = ("u", "g", "r", "i", "z", "y")
CONTRACT = object_truth_contract(load("dp02"))
PUBLISHED = [
    *("mt_id_truth_type", "mt_match_objectId", "ts_ra", "ts_dec", "ts_truth_type", "ts_mag_r", "ts_is_pointsource"),
    *("ts_redshift", "ts_flux_u", "ts_flux_g", "ts_flux_r", "ts_flux_i", "ts_flux_z", "ts_flux_y", "obj_coord_ra"),
    *("obj_coord_dec", "obj_u_cModelFlux", "obj_g_cModelFlux", "obj_r_cModelFlux", "obj_i_cModelFlux"),
    *("obj_z_cModelFlux", "obj_y_cModelFlux", "obj_u_cModelMag", "obj_g_cModelMag", "obj_r_cModelMag"),
    *("obj_i_cModelMag", "obj_z_cModelMag", "obj_y_cModelMag"),
]


def flux(magnitude):
    return 10 ** ((31.4 - magnitude) / 2.5)


def row(number, **changes):
    """Return an ObjectTruth row that is in the set: magnitude 20 in all bands, error a tenth of the flux."""
    wanted = {
        "match_status": "matched",
        "mt_id_truth_type": f"{number}_1",
        "mt_match_objectId": number,
        "ts_ra": 62.0,
        "ts_dec": -37.0,
        "ts_truth_type": 1,
        "ts_redshift": 0.5,
        "obj_coord_ra": 62.0,
        "obj_coord_dec": -37.0,
        "obj_detect_isPrimary": True,
        "obj_refExtendedness": 1.0,
        **{f"ts_flux_{b}": flux(20) for b in BANDS},
        **{f"obj_{b}_cModelFlux": flux(20) for b in BANDS},
        **{f"obj_{b}_cModelFluxErr": flux(20) / 10 for b in BANDS},
        **changes,
    }
    wanted |= {
        f"obj_{b}_cModelMag": 31.4 - 2.5 * math.log10(wanted[f"obj_{b}_cModelFlux"])
        for b in BANDS
        if (wanted[f"obj_{b}_cModelFlux"] or 0) > 0
    }
    return wanted


def object_truth(*rows):
    schema = pl.DataFrame(CONTRACT.arrow_schema.empty_table()).schema
    return pl.DataFrame(rows, schema).lazy()


def chosen(frame, **selection):
    return photoz(frame, Selection(**selection)).collect()["mt_match_objectId"].to_list()


def test_the_set_has_the_published_columns_in_their_order():
    found = photoz(object_truth(row(2))).collect()
    assert found.columns == PUBLISHED
    assert len(PUBLISHED) == 28
    assert found.row(0, named=True) == {name: row(2).get(name) for name in PUBLISHED} | {
        "ts_flux_" + b: pytest.approx(flux(20), rel=1e-6) for b in BANDS
    }


@pytest.mark.parametrize(
    "out",
    [
        {"match_status": "missed"},
        {"ts_truth_type": 2},
        {"obj_detect_isPrimary": False},
        {"obj_detect_isPrimary": None},
        {"obj_refExtendedness": None},
        {"obj_refExtendedness": math.nan},
        {"obj_g_cModelFlux": flux(16.999)},
        {"obj_r_cModelFlux": flux(26.001)},
        {"obj_i_cModelFlux": -5.0},
        {"obj_i_cModelFlux": None},
    ],
    ids=str,
)
def test_what_is_left_out(out):
    assert chosen(object_truth(row(2), row(3, **out))) == [2]


def test_the_limits_are_exclusive_and_of_any_band():
    frame = object_truth(*(row(n, obj_u_cModelFlux=flux(n), obj_r_cModelFlux=10 ** (n - 10.0)) for n in (18, 20, 22)))
    assert chosen(frame, magnitude_limits={"u": (18.0, None)}) == [20, 22]
    assert chosen(frame, magnitude_limits={"u": (None, 20.0)}) == [18]
    # A flux of 10 ** 10 nJy is magnitude 6.4 to the last digit.
    assert chosen(frame, magnitude_limits={"r": (6.4, 100.0)}) == [18]
    assert chosen(frame, magnitude_limits={}) == [18, 20, 22]


def test_region_by_the_truths_position_and_kinds_of_truth():
    frame = object_truth(row(2), row(3, ts_dec=-36.4), row(4, obj_coord_dec=-36.4), row(5, ts_truth_type=2))
    assert chosen(frame, region=Cone(62.0, -37.0, 0.5)) == [2, 4]
    assert chosen(frame, truth_types=(1, 2)) == [2, 3, 4, 5]
    assert chosen(frame, truth_types=()) == [2, 3, 4, 5]


def test_errors_bands_and_more_columns():
    found = photoz(object_truth(row(2)), Selection(bands=("r",), errors=True, extra=("separation_arcsec",))).collect()
    assert found.columns[-5:] == [
        *("obj_r_cModelFlux", "obj_r_cModelMag", "obj_r_cModelFluxErr", "obj_r_cModelMagErr", "separation_arcsec")
    ]
    # A tenth of the flux is 2.5 / ln(10) / 10 of a magnitude.
    assert found["obj_r_cModelMagErr"].item() == pytest.approx(0.108574, abs=1e-6)


def test_magnitudes_that_object_truth_does_not_hold_are_computed():
    frame = object_truth(row(2, obj_u_cModelFlux=-1.0), row(3, obj_g_cModelFlux=flux(27)))
    bare = frame.drop([f"obj_{b}_cModelMag" for b in BANDS])
    expected, found = photoz(frame).collect(), photoz(bare).collect()
    assert found.columns == PUBLISHED
    for name in PUBLISHED:
        assert found[name].to_list() == pytest.approx(expected[name].to_list()), name


def test_what_object_truth_lacks_is_named():
    with pytest.raises(ContractError, match="obj_g_cModelFlux"):
        photoz(object_truth(row(2)).drop("obj_g_cModelFlux"))
    with pytest.raises(ContractError, match=r"'separation'.*separation_arcsec"):
        photoz(object_truth(row(2)), Selection(extra=("separation",)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": ()},
        {"bands": ("r", "r")},
        {"magnitude_limits": {"r": (26.0, 17.0)}},
        {"magnitude_limits": {"r": (17.0,)}},
        {"train_fraction": 1.5},
    ],
    ids=str,
)
def test_selections_that_mean_nothing_are_refused(wrong):
    with pytest.raises(QueryError):
        Selection(**wrong)


def fnv1a(text, finish):
    value = 0xCBF29CE484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53) if finish else ():
        value = (value ^ value >> 33) * multiplier % 2**64
    return value ^ value >> 33 if finish else value


def test_the_hash_is_what_it_says_it_is():
    # The published test vectors of FNV-1a, 64 bits.
    assert [fnv1a(text, finish=False) for text in (b"", b"a", b"foobar")] == [
        *(0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8)
    ]
    texts = ["", "a", "foobar", "31307_1", "MS_9940_3541_3", "β", None]
    found = stable_hash(pl.Series(texts), "7:").tolist()
    assert found == [fnv1a(("7:" + (text or "")).encode(), finish=True) for text in texts]
    assert stable_hash(pl.Series([], dtype=pl.String)).size == 0


def test_the_split_is_stable_nested_and_fair():
    ids = pl.DataFrame({"id": [f"{n}_1" for n in range(20_000)]})

    def training(fraction, seed=0, rows=ids):
        return rows.filter(split(pl.col("id"), fraction, seed) == "train")["id"]

    half, most = set(training(0.5)), set(training(0.8))
    assert half < most
    # Within five standard deviations of the binomial.
    assert abs(len(half) - 10_000) < 5 * 71
    assert abs(len(most) - 16_000) < 5 * 57
    assert set(training(0.5, rows=ids.tail(500))) == half & set(ids.tail(500)["id"])
    assert abs(len(half & set(training(0.5, seed=1))) - 5_000) < 5 * 62
    assert (training(0.0).len(), training(1.0).len()) == (0, 20_000)
    found = photoz(object_truth(row(2)), Selection(train_fraction=1.0)).collect()
    assert (found.columns[:28], found["split"].to_list()) == (PUBLISHED, ["train"])


RECIPE = Selection(region=Cone(62.0, -37.0, 0.5), errors=True).recipe() | {"release": "dp02", "versions": {"Object": 3}}


@pytest.fixture(scope="module")
def whole():
    """Return a set with every kind of value and null."""
    extra = ("ts_is_variable", "ts_cosmodc2_id", "obj_merge_peak_sky", "obj_refBand", "obj_r_cModel_flag")
    rows = [
        row(2, ts_is_variable=1, ts_cosmodc2_id=2**60 + 1, obj_merge_peak_sky=True, obj_refBand="i"),
        row(2**43 * 4431 * 49 + 1, mt_id_truth_type="long_identifier_1", obj_u_cModelFlux=-1.0),
    ]
    rows = [r | {"obj_r_cModel_flag": bool(n), "ts_is_pointsource": n} for n, r in enumerate(rows)]
    return photoz(object_truth(*rows), Selection(errors=True, extra=extra, train_fraction=0.5)).collect()


def same(found, whole, *, nulls_are=math.isnan):
    """Compare columns by name, value for value, with what stands for null."""
    assert list(found) == whole.columns
    for name, values in found.items():
        for value, expected in zip(values, whole[name], strict=True):
            text = value.decode() if isinstance(value, bytes) else value
            if expected is None:
                assert (
                    value is None
                    or value is np.ma.masked
                    or (text == "" if isinstance(text, str) else nulls_are(value))
                ), name
            else:
                assert text == expected, name


@pytest.mark.parametrize("ending", [".parquet", ".parq"])
def test_parquet(whole, tmp_path, ending):
    path = tmp_path / f"set{ending}"
    assert write(whole.lazy(), path, RECIPE, CONTRACT) == 2
    assert pl.read_parquet(path).equals(whole)
    schema = pq.read_schema(path)
    assert json.loads(schema.metadata[b"recipe"]) == RECIPE
    assert schema.field("obj_r_cModelFlux").metadata[b"unit"] == b"nJy"
    assert schema.field("obj_r_cModelMagErr").metadata[b"unit"] == b"mag"
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    same({name: values.tolist() for name, values in table.items()}, whole, nulls_are=pd.isna)


def test_fits(whole, tmp_path):
    path = tmp_path / "set.fits"
    write(whole, path, RECIPE, CONTRACT)
    table = Table.read(path)
    assert table["obj_r_cModelFlux"].unit == "nJy"
    same({name: list(table[name]) for name in table.colnames}, whole, nulls_are=lambda v: v == -1 or math.isnan(v))
    with fits.open(path, checksum=True) as file:
        assert json.loads(file["PHOTOZ"].header["RECIPE"]) == RECIPE
        assert file["PHOTOZ"].data["ts_redshift"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("ending", [".hdf5", ".h5"])
def test_hdf5_and_rails_names(whole, tmp_path, ending):
    path = tmp_path / f"set{ending}"
    write(whole, path, RECIPE, CONTRACT)
    with h5py.File(path) as file:
        found = {name: file["photoz"][name][:].tolist() for name in whole.columns}
        same(found, whole, nulls_are=lambda v: v in (-1, -(2**63)) or math.isnan(v))
        assert file["photoz/obj_r_cModelFlux"].attrs["unit"] == "nJy"
        assert json.loads(file.attrs["recipe"]) == RECIPE
        rail = {name: values[:].tolist() for name, values in file["photometry"].items()}
        units = {name: values.attrs.get("unit") for name, values in file["photometry"].items()}
    banded = [f"mag_{e}{b}_lsst" for b in BANDS for e in ("", "err_")]
    assert sorted(rail) == sorted(["id", "redshift", *banded])
    assert units == {"id": None, "redshift": None} | dict.fromkeys(banded, "mag")
    assert rail["mag_r_lsst"] == pytest.approx([20.0, 20.0])
    assert rail["mag_err_r_lsst"] == pytest.approx([0.108574] * 2, abs=1e-6)
    assert rail["id"] == whole["mt_match_objectId"].to_list()
    assert [math.isnan(v) for v in rail["mag_u_lsst"]] == [False, True]


def test_what_is_beside_the_set_is_rails_alone(whole, tmp_path):
    path = tmp_path / "set.hdf5"
    wide = Selection(extra=("separation_arcsec",))
    assert needed(wide, path, whole.columns) == Selection(extra=("separation_arcsec",), errors=True)
    assert needed(wide, tmp_path / "set.fits", whole.columns) is wide
    assert needed(wide, path, ["obj_r_cModelFluxErr"]) is wide
    write(whole, path, RECIPE, CONTRACT, PUBLISHED)
    with h5py.File(path) as file:
        assert sorted(file["photoz"]) == sorted(PUBLISHED)
        assert {f"mag_err_{band}_lsst" for band in BANDS} < set(file["photometry"])


def test_csv(whole, tmp_path):
    path = tmp_path / "set.csv"
    write(whole, path, RECIPE, CONTRACT)
    table = Table.read(path, format="ascii.ecsv")
    assert table["obj_r_cModelFlux"].unit == "nJy"
    assert table.meta["recipe"] == RECIPE
    same({name: list(table[name]) for name in table.colnames}, whole)
    plain = pd.read_csv(path, comment="#")
    assert plain.columns.tolist() == whole.columns
    assert plain["obj_r_cModelFlux"].tolist() == whole["obj_r_cModelFlux"].to_list()


@pytest.mark.parametrize("ending", [".pkl", ".pickle"])
def test_pickle(whole, tmp_path, ending):
    path = tmp_path / f"set{ending}"
    write(whole, path, RECIPE, CONTRACT)
    table = pd.read_pickle(path)  # noqa: S301 - our own file
    assert (table.attrs["recipe"], table.attrs["units"]["ts_ra"]) == (RECIPE, "deg")
    same({name: values.tolist() for name, values in table.items()}, whole, nulls_are=pd.isna)


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".hdf5", ".csv", ".pkl"])
def test_an_empty_set_is_a_file_too(whole, tmp_path, ending):
    path = tmp_path / f"set{ending}"
    assert write(whole.clear(), path, RECIPE, CONTRACT) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_leaves_nothing(whole, tmp_path):
    with pytest.raises(QueryError, match=r"set\.txt: expected a local file.*\.parquet.*\.pkl"):
        write(whole, tmp_path / "set.txt", RECIPE, CONTRACT)
    (tmp_path / "set.parquet").mkdir()
    with pytest.raises(StorageError, match=r"set\.parquet: cannot write"):
        write(whole, tmp_path / "set.parquet", RECIPE, CONTRACT)
    with pytest.raises(StorageError, match="cannot write"):
        write(whole, tmp_path / "nowhere" / "set.hdf5", RECIPE, CONTRACT)
    assert [file.name for file in tmp_path.iterdir()] == ["set.parquet"]


def test_a_failing_write_leaves_the_set_in_its_place_as_it_was(whole, tmp_path, monkeypatch):
    path = tmp_path / "set.hdf5"
    path.write_text("an earlier set")

    def full(_described, part):
        part.write_text("half of th")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, ".hdf5", full)
    with pytest.raises(StorageError, match="No space left"):
        write(whole, path, RECIPE, CONTRACT)
    assert path.read_text() == "an earlier set"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
