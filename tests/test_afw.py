"""Catalogues of afw: flag bits, angles and aliases, and what of Source they can tell."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from astropy.io.fits import Column

from support.fits import replace_card, write_afw, write_table
from warehouse import contracts
from warehouse.config import Settings
from warehouse.errors import ContractError, InputError
from warehouse.readers.afw import AfwSourceReader, seen_as
from warehouse.readers.fits import FitsReader

ONE = Settings(workers=1)
ROWS = 50
VISIT, DETECTOR = 192350, 175
ALIASES = {
    "slot_Centroid": "base_SdssCentroid",
    "slot_Shape": "base_SdssShape",
    "slot_PsfShape": "base_SdssShape_psf",
    "slot_PsfFlux": "base_PsfFlux",
    "slot_CalibFlux": "slot_ApFlux",
    "slot_ApFlux": "base_CircularApertureFlux_12_0",
    "base_PsfFlux_flag_badCentroid": "base_SdssCentroid_flag",
}
FLAGS = [
    "base_SdssCentroid_flag",
    "base_PixelFlags_flag_edge",
    "base_PsfFlux_flag",
    "base_CircularApertureFlux_12_0_flag",
    "base_CircularApertureFlux_12_0_flag_apertureTruncated",
    "base_LocalPhotoCalib_flag",
    "ext_shapeHSM_HsmPsfMoments_flag_no_pixels",
    "calib_psf_used",
    "deblend_skipped",
    "detect_isPrimary",
]


@pytest.fixture(scope="module")
def source():
    return contracts.load("dp02").contract("Source")


@pytest.fixture
def values():
    rng = np.random.default_rng(3)
    made = {
        "id": ((VISIT * 1000 + DETECTOR) << 29) + np.arange(1, ROWS + 1),
        "coord_ra": rng.uniform(0, 2 * np.pi, ROWS),
        "coord_dec": rng.uniform(-1, 1, ROWS),
        "parent": np.zeros(ROWS, np.int64),
        "base_SdssCentroid_x": rng.uniform(0, 4000, ROWS),
        "base_SdssCentroid_xErr": rng.uniform(0, 1, ROWS).astype(np.float32),
        "base_PsfFlux_instFlux": rng.normal(1000, 100, ROWS),
        "base_PsfFlux_instFluxErr": rng.uniform(5, 10, ROWS),
        "base_CircularApertureFlux_12_0_instFlux": rng.normal(1000, 100, ROWS),
        "base_CircularApertureFlux_12_0_instFluxErr": rng.uniform(5, 10, ROWS),
        "base_LocalPhotoCalib": rng.uniform(0.5, 1.5, ROWS),
        "base_LocalPhotoCalibErr": rng.uniform(0.01, 0.02, ROWS),
        "base_FootprintArea_value": rng.integers(1, 99, ROWS, np.int32),
    }
    made["base_PsfFlux_instFlux"][7] = np.nan
    return made


@pytest.fixture
def flags():
    rng = np.random.default_rng(4)
    return {name: rng.random(ROWS) < 0.5 for name in FLAGS}


UNITS = {"coord_ra": "rad", "coord_dec": "rad", "base_SdssCentroid_x": "pixel"}
FORMS = {"f8": "D", "f4": "E", "i8": "K", "i4": "J"}


def catalogue(path, values, flags, **how):
    columns = [
        Column(name, FORMS[array.dtype.str[1:]], array=array, unit="count" if "inst" in name else UNITS.get(name))
        for name, array in values.items()
    ]
    return write_afw(path, columns, flags, angles=["coord_ra", "coord_dec"], aliases=ALIASES, **how)


@pytest.fixture
def src(tmp_path, values, flags):
    return catalogue(tmp_path / "src.fits", values, flags)


def test_flag_bits_become_named_columns_and_the_bit_column_is_gone(src, values, flags):
    opened = FitsReader().open(str(src), ONE)
    assert opened.schema.names == [*FLAGS, *values]
    frame = pl.concat(opened.batches(opened.schema.names, 1))
    for name in FLAGS:
        assert frame[name].to_list() == flags[name].tolist()


def test_angles_become_degrees_and_say_so(src, values):
    opened = FitsReader().open(str(src), ONE)
    assert opened.schema.field("coord_ra").metadata == {b"unit": b"deg"}
    (frame,) = opened.batches(["coord_ra", "coord_dec"], 1 << 20)
    np.testing.assert_allclose(frame["coord_ra"].to_numpy(), values["coord_ra"] * 180 / np.pi, rtol=1e-15)
    np.testing.assert_allclose(frame["coord_dec"].to_numpy(), values["coord_dec"] * 180 / np.pi, rtol=1e-15)


def test_an_angle_that_is_degrees_already_stays(src, values):
    number = 2 + list(values).index("coord_ra")
    replace_card(src, f"TUNIT{number}", "'deg'")
    (frame,) = FitsReader().open(str(src), ONE).batches(["coord_ra"], 1 << 20)
    np.testing.assert_array_equal(frame["coord_ra"].to_numpy(), values["coord_ra"])


def test_radians_that_nobody_marks_as_an_angle_stay_radians(tmp_path):
    path = write_table(tmp_path / "t.fits", [Column("ra", "D", unit="rad", array=[1.0])])
    opened = FitsReader().open(str(path), ONE)
    assert opened.schema.field("ra").metadata == {b"unit": b"rad"}
    assert next(opened.batches(["ra"], 1 << 20)).item() == 1.0


def test_aliases_resolve_whole_names_and_leading_parts_and_aliases_of_aliases(src, values, flags):
    asked = ["slot_Centroid_x", "base_PsfFlux_flag_badCentroid", "slot_CalibFlux_instFlux"]
    (frame,) = FitsReader().open(str(src), ONE).batches(asked, 1 << 20)
    assert frame.columns == asked
    assert frame["slot_Centroid_x"].to_list() == values["base_SdssCentroid_x"].tolist()
    assert frame["base_PsfFlux_flag_badCentroid"].to_list() == flags["base_SdssCentroid_flag"].tolist()
    assert frame["slot_CalibFlux_instFlux"].to_list() == values["base_CircularApertureFlux_12_0_instFlux"].tolist()


def test_aliases_that_go_round_end(tmp_path, values):
    path = write_afw(
        tmp_path / "c.fits",
        [Column("id", "K", array=values["id"])],
        {},
        aliases={"slot_A": "slot_B", "slot_B": "slot_A"},
    )
    opened = FitsReader().open(str(path), ONE)
    assert opened.field("slot_A_x") is None


def test_archives_are_no_tables(src):
    with pytest.raises(InputError, match="HDU 2 is asked for and holds no table of rows"):
        FitsReader(hdu=2).open(str(src), ONE)


# -------------------------------------------------------------------------------------------------- as Source


def as_source(path, contract, *names):
    opened = AfwSourceReader(contract).open(str(path), ONE)
    return pl.concat(opened.batches(names or opened.schema.names, 1 << 20))


def test_a_catalogue_becomes_rows_of_source(src, source, values, flags):
    frame = as_source(src, source)
    same = {
        "sourceId": values["id"],
        "parentSourceId": values["parent"],
        "x": values["base_SdssCentroid_x"],
        "xErr": values["base_SdssCentroid_xErr"],
        "footprintArea_value": values["base_FootprintArea_value"],
        "localPhotoCalib": values["base_LocalPhotoCalib"],
        "apFlux_12_0_instFlux": values["base_CircularApertureFlux_12_0_instFlux"],
        "centroid_flag": flags["base_SdssCentroid_flag"],
        "pixelFlags_edge": flags["base_PixelFlags_flag_edge"],
        "psfFlux_flag": flags["base_PsfFlux_flag"],
        "ap12Flux_flag": flags["base_CircularApertureFlux_12_0_flag"],
        "apFlux_12_0_flag": flags["base_CircularApertureFlux_12_0_flag"],
        "apFlux_12_0_flag_apertureTruncated": flags["base_CircularApertureFlux_12_0_flag_apertureTruncated"],
        "localPhotoCalib_flag": flags["base_LocalPhotoCalib_flag"],
        "hsmPsfMoments_flag_no_pixels": flags["ext_shapeHSM_HsmPsfMoments_flag_no_pixels"],
        "calib_psf_used": flags["calib_psf_used"],
        "deblend_skipped": flags["deblend_skipped"],
        "detect_isPrimary": flags["detect_isPrimary"],
    }
    for name, wanted in same.items():
        np.testing.assert_array_equal(frame[name].to_numpy(), wanted, err_msg=name)
    for name, radians in [
        ("coord_ra", "coord_ra"),
        ("ra", "coord_ra"),
        ("coord_dec", "coord_dec"),
        ("decl", "coord_dec"),
    ]:
        np.testing.assert_allclose(frame[name].to_numpy(), np.rad2deg(values[radians]), rtol=1e-15)
    assert set(frame["ccdVisitId"]) == {VISIT * 1000 + DETECTOR}
    assert set(frame["visit"]) == {VISIT}
    assert set(frame["detector"]) == {DETECTOR}


def test_fluxes_are_calibrated_in_njy_with_errors_in_quadrature(src, source, values):
    opened = AfwSourceReader(source).open(str(src), ONE)
    assert opened.schema.field("psfFlux").metadata == {b"unit": b"nJy"}
    frame = as_source(src, source)
    calibration, its_error = values["base_LocalPhotoCalib"], values["base_LocalPhotoCalibErr"]
    for name, measured in [
        ("psfFlux", "base_PsfFlux"),
        *((n, "base_CircularApertureFlux_12_0") for n in ("ap12Flux", "calibFlux")),
    ]:
        flux, error = values[f"{measured}_instFlux"], values[f"{measured}_instFluxErr"]
        np.testing.assert_allclose(frame[name].to_numpy(), flux * calibration, rtol=1e-14)
        np.testing.assert_allclose(
            frame[f"{name}Err"].to_numpy(), np.hypot(error * calibration, flux * its_error), rtol=1e-14
        )
    assert np.isnan(frame["psfFlux"][7])


RADII = {"ap03": 3, "ap06": 6, "ap09": 9, "ap12": 12, "ap17": 17, "ap25": 25, "ap35": 35, "ap50": 50, "ap70": 70}
# Source's column -> the catalogue's, as LSST's pipelines named them when they made the one of the other.
NUMBERS = {
    "y": "base_SdssCentroid_y",
    "yErr": "base_SdssCentroid_yErr",
    "ixx": "base_SdssShape_xx",
    "iyy": "base_SdssShape_yy",
    "ixy": "base_SdssShape_xy",
    "ixxPSF": "base_SdssShape_psf_xx",
    "iyyPSF": "base_SdssShape_psf_yy",
    "ixyPSF": "base_SdssShape_psf_xy",
    "extendedness": "base_ClassificationExtendedness_value",
    "blendedness_abs": "base_Blendedness_abs",
    "variance_value": "base_Variance_value",
    "jacobian_value": "base_Jacobian_value",
    "localPhotoCalibErr": "base_LocalPhotoCalibErr",
    "localBackground_instFlux": "base_LocalBackground_instFlux",
    "localBackground_instFluxErr": "base_LocalBackground_instFluxErr",
    "localWcs_CDMatrix_1_1": "base_LocalWcs_CDMatrix_1_1",
    "localWcs_CDMatrix_1_2": "base_LocalWcs_CDMatrix_1_2",
    "localWcs_CDMatrix_2_1": "base_LocalWcs_CDMatrix_2_1",
    "localWcs_CDMatrix_2_2": "base_LocalWcs_CDMatrix_2_2",
}
CALIBRATED = {
    "sky": "base_LocalBackground",
    "gaussianFlux": "base_GaussianFlux",
    **{f"{name}Flux": f"base_CircularApertureFlux_{radius}_0" for name, radius in RADII.items()},
}
BITS = {
    "blendedness_flag_noShape": "base_Blendedness_flag_noShape",
    "extendedness_flag": "base_ClassificationExtendedness_flag",
    "gaussianFlux_flag": "base_GaussianFlux_flag",
    "jacobian_flag": "base_Jacobian_flag",
    "localBackground_flag_noPsf": "base_LocalBackground_flag_noPsf",
    "localWcs_flag": "base_LocalWcs_flag",
    "variance_flag_emptyFootprint": "base_Variance_flag_emptyFootprint",
    **{f"{name}Flux_flag": f"base_CircularApertureFlux_{radius}_0_flag" for name, radius in RADII.items()},
}


def test_every_other_column_comes_from_its_own(tmp_path, source, values):
    rng = np.random.default_rng(5)
    fluxes = [f"{name}_{part}" for name in CALIBRATED.values() for part in ("instFlux", "instFluxErr")]
    values |= {name: rng.normal(50, 5, ROWS) for name in (*NUMBERS.values(), *fluxes)}
    flags = {name: rng.random(ROWS) < 0.5 for name in BITS.values()}
    frame = as_source(catalogue(tmp_path / "src.fits", values, flags), source)
    for name, origin in NUMBERS.items():
        np.testing.assert_array_equal(frame[name].to_numpy(), values[origin], err_msg=name)
    for name, origin in BITS.items():
        np.testing.assert_array_equal(frame[name].to_numpy(), flags[origin], err_msg=name)
    for name, origin in CALIBRATED.items():
        expected = values[f"{origin}_instFlux"] * values["base_LocalPhotoCalib"]
        np.testing.assert_allclose(frame[name].to_numpy(), expected, rtol=1e-14, err_msg=name)


def test_what_cannot_be_derived_is_absent(src, source):
    names = AfwSourceReader(source).open(str(src), ONE).schema.names
    assert names == [name for name in source.by_name if name in names]
    assert not {"band", "instrument", "physical_filter", "y", "ixx", "gaussianFlux", "ap03Flux"} & set(names)
    with pytest.raises(ContractError, match="tells no 'band'"):
        as_source(src, source, "band")


def test_without_a_calibration_there_are_no_calibrated_fluxes(tmp_path, source, values, flags):
    del values["base_LocalPhotoCalibErr"]
    names = as_source(catalogue(tmp_path / "a.fits", values, flags), source).columns
    assert "psfFlux" in names
    assert "psfFluxErr" not in names
    del values["base_LocalPhotoCalib"]
    names = as_source(catalogue(tmp_path / "b.fits", values, flags), source).columns
    assert not {"psfFlux", "calibFlux", "localPhotoCalib"} & set(names)
    assert "apFlux_12_0_instFlux" in names


def test_before_version_3_instrumental_fluxes_had_another_name(tmp_path, source, values, flags):
    old = {name.replace("_instFlux", "_flux"): array for name, array in values.items()}
    frame = as_source(catalogue(tmp_path / "old.fits", old, flags, version=2), source)
    np.testing.assert_allclose(
        frame["psfFlux"].to_numpy(), values["base_PsfFlux_instFlux"] * values["base_LocalPhotoCalib"], rtol=1e-14
    )
    names = as_source(catalogue(tmp_path / "new.fits", old, flags, version=3), source).columns
    assert "psfFlux" not in names


def test_only_a_source_catalogue_and_only_for_source_is_seen_as_source(src, tmp_path, source):
    opened = FitsReader().open(str(src), ONE)
    assert "psfFlux" in seen_as(source, opened).schema.names
    assert seen_as(contracts.load("dp02").contract("Object"), opened) is opened
    plain = FitsReader().open(str(write_table(tmp_path / "p.fits", [Column("id", "K", array=[1])])), ONE)
    assert seen_as(source, plain) is plain


def test_another_table_is_no_source_catalogue(tmp_path, source):
    path = write_table(tmp_path / "t.fits", [Column("id", "K", array=[1])])
    with pytest.raises(InputError, match="AFW_TYPE is None, expected SOURCE") as caught:
        AfwSourceReader(source).open(str(path), ONE)
    assert caught.value.kind == "not_afw"
