"""The simulated sky's values: errors that mean what they say, truth that can be learned from, summaries that add up."""

import numpy as np
import polars as pl
import pytest

from warehouse import contracts
from warehouse.simulate import simulate
from warehouse.simulate.detection import COADD_DEPTH, flux_error
from warehouse.simulate.forced import forced_pieces, object_targets
from warehouse.simulate.lightcurves import band_statistics
from warehouse.simulate.observing import detector_to_sky, land, plan_visits
from warehouse.simulate.plane import deproject, project, scatter_on_disc
from warehouse.simulate.sky import make_sky
from warehouse.simulate.streams import stream
from warehouse.sky import skymap
from warehouse.truth.match import match_tract

PLACE = {"ra": 62.2, "dec": -37.1, "radius": 0.15}
BANDS = "ugrizy"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("values")
    report = simulate(str(root), **PLACE, objects=2500, visits=18, detectors=9, seed=5)
    return {
        name: pl.concat([pl.read_parquet(root / p) for p in report.paths if f"/{name}/" in p], how="diagonal")
        for name in report.files
    }


@pytest.fixture(scope="module")
def matched(tables):
    """Matched truth, the object of each, galaxies and stars."""
    match = tables["match_ref_truth_summary_objectTable_tract"].filter("match_candidate", pl.col("match_objectId") > 1)
    truth = tables["truth_summary"].filter("is_unique_truth_entry")
    return match.join(truth, on=["id", "truth_type"], validate="1:1").join(
        tables["objectTable"], left_on="match_objectId", right_on="objectId", validate="1:1"
    )


@pytest.mark.parametrize("band", BANDS)
def test_coadd_fluxes_scatter_about_the_truth_with_their_error(matched, band):
    pull = matched.select((pl.col(f"{band}_cModelFlux") - pl.col(f"flux_{band}")) / pl.col(f"{band}_cModelFluxErr"))
    pull = pull.to_series().drop_nans()
    # Four standard errors of mean and standard deviation.
    assert len(pull) > 2000
    assert abs(pull.mean()) < 4 / len(pull) ** 0.5
    assert abs(pull.std() - 1) < 4 / (2 * len(pull)) ** 0.5
    assert pull.abs().max() < 6


def test_positions_scatter_about_the_truth_with_their_error(matched):
    sky = skymap.named("DC2")
    x, y = sky.to_pixels(matched["tract"], matched["ra"], matched["dec"])
    for measured, true in (("x", x), ("y", y)):
        pull = (matched[measured].to_numpy() - true) / matched[f"{measured}Err"].to_numpy()
        assert abs(pull.mean()) < 4 / len(pull) ** 0.5
        assert abs(pull.std() - 1) < 4 / (2 * len(pull)) ** 0.5
    faint, bright = matched.filter(pl.col("mag_r") > 25), matched.filter(pl.col("mag_r") < 21)
    assert faint["xErr"].mean() > 5 * bright["xErr"].mean()


def test_chi_square_of_the_match_is_that_of_its_finite_terms(matched):
    reduced = matched["match_chisq"] / matched["match_n_chisq_finite"]
    assert abs(reduced.mean() - 1) < 0.1
    assert matched["match_n_chisq_finite"].max() == 8
    assert matched["match_n_chisq_finite"].min() >= 3


def test_the_match_by_position_and_flux_finds_what_the_sky_knows(tables):
    truth = tables["truth_summary"].with_columns(
        pl.concat_str("id", "truth_type", separator="_").alias("id_truth_type")
    )
    known = tables["match_ref_truth_summary_objectTable_tract"].unique(["id", "truth_type", "match_candidate"])
    differing, compared = 0, 0
    for tract in tables["objectTable"]["tract"].unique().to_list():
        objects = tables["objectTable"].filter(pl.col("tract") == tract)
        found = match_tract(truth.unique("id_truth_type"), objects, skymap.named("DC2"), tract)
        found = found.filter(pl.col("match_objectId").is_not_null())
        both = found.join(known.filter("match_candidate"), on=["id", "truth_type"], validate="1:1", suffix="_known")
        differing += both.filter(pl.col("match_objectId") != pl.col("match_objectId_known")).height
        compared += both.height
    assert compared > 2000
    assert differing <= 0.001 * compared


def test_completeness_falls_from_one_to_nothing(tables, matched):
    truth = tables["truth_summary"].filter("is_unique_truth_entry", pl.col("truth_type") < 3)
    magnitude = 31.4 - 2.5 * pl.col("flux_i").log10()
    bins = magnitude.floor().cast(pl.Int32).alias("bin")
    everything = truth.group_by(bins).len()
    found = matched.group_by(bins).len("found")
    share = everything.join(found, on="bin", how="left").fill_null(0).sort("bin")
    share = dict(zip(share["bin"], share["found"] / share["len"], strict=True))
    assert min(share[m] for m in (22, 23, 24)) > 0.98
    assert share[27] < 0.05
    assert share[25] > share[26] > share[27]


def test_faint_sources_are_more_than_bright_ones(tables):
    truth = tables["truth_summary"].filter("is_unique_truth_entry", pl.col("truth_type") == 1)
    magnitude = 31.4 - 2.5 * truth["flux_i"].log10()
    ratio = magnitude.is_between(26, 27).sum() / magnitude.is_between(25, 26).sum()
    assert 1.6 < ratio < 2.5, "counts grow as 10^(0.3 m)"


def test_colours_tell_redshift(tables):
    galaxies = tables["truth_summary"].filter(pl.col("truth_type") == 1, pl.col("flux_i") > 100)
    magnitudes = np.stack([-2.5 * np.log10(galaxies[f"flux_{b}"].to_numpy()) for b in BANDS])
    colours = np.diff(magnitudes, axis=0)
    terms = np.stack([np.ones(galaxies.height), *colours, *colours**2, *(colours[:-1] * colours[1:])], axis=1)
    redshift = galaxies["redshift"].to_numpy()
    fitted = terms @ np.linalg.lstsq(terms, redshift, rcond=None)[0]
    assert np.corrcoef(fitted, redshift)[0, 1] > 0.8
    assert 0 < redshift.min() < redshift.max() < 3.2


def test_stars_look_like_points_and_bright_galaxies_do_not(matched):
    bright = matched.filter(pl.col("mag_r") < 23, pl.col("refExtendedness").is_not_nan())
    assert bright.filter(pl.col("truth_type") == 2)["refExtendedness"].mean() < 0.05
    assert bright.filter(pl.col("truth_type") == 1)["refExtendedness"].mean() > 0.9


def test_dust_only_dims(tables):
    truth = tables["truth_summary"].filter(pl.col("truth_type") < 3)
    dimming = truth["flux_g_noMW"] / truth["flux_g"]
    assert dimming.is_between(1.02, 1.2).all()
    assert (truth["flux_u_noMW"] / truth["flux_u"] > dimming).all()


def test_measurements_of_a_source_in_several_patches_agree(tables):
    rows = tables["objectTable"].filter(~pl.col("merge_peak_sky") & (pl.col("deblend_nChild") == 0))
    spread = rows.group_by("coord_ra", "coord_dec").agg(
        (pl.col("i_cModelFlux").std() / pl.col("i_cModelFluxErr").mean()).alias("spread"), pl.len()
    )
    spread = spread.filter(pl.col("len") > 1)["spread"].drop_nans()
    assert len(spread) > 100
    assert 0 < spread.median() < 0.3


def test_sky_objects_have_no_flux(tables):
    empty = tables["objectTable"].filter("merge_peak_sky")
    pull = (empty["i_cModelFlux"] / empty["i_cModelFluxErr"]).drop_nans()
    assert 20 < len(pull) < 0.05 * tables["objectTable"].height
    assert abs(pull.mean()) < 4 / len(pull) ** 0.5
    assert pull.std() < 1.5


@pytest.mark.parametrize("flux", ["psfDiffFlux", "psfFlux"])
def test_forced_fluxes_of_constant_sources_scatter_with_their_error(tables, matched, flux):
    constant = matched.filter(pl.col("is_variable") == 0).select(
        "match_objectId", "detect_isIsolated", *[f"flux_{b}" for b in BANDS]
    )
    rows = tables["forcedSourceTable"].join(constant, left_on="objectId", right_on="match_objectId")
    static = pl.coalesce([pl.when(pl.col("band") == b).then(pl.col(f"flux_{b}")) for b in BANDS])
    expected = static if flux == "psfFlux" else pl.lit(0.0)
    pull = rows.select((pl.col(flux) - expected) / pl.col(f"{flux}Err")).to_series()
    assert len(pull) > 10_000
    assert abs(pull.mean()) < 4 / len(pull) ** 0.5
    assert abs(pull.std() - 1) < 4 / (2 * len(pull)) ** 0.5


def test_variables_vary(tables, matched):
    variable = matched.filter(pl.col("is_variable") == 1, pl.col("mag_r") < 23)["match_objectId"]
    rows = tables["forcedSourceTable"].filter(pl.col("objectId").is_in(variable.implode()))
    pull = rows["psfDiffFlux"] / rows["psfDiffFluxErr"]
    assert len(pull) > 20
    assert pull.std() > 5


def test_sources_are_found_above_the_threshold_near_their_truth(tables):
    sources = tables["sourceTable_visit"]
    # A little noise comes on top of that which was there when they were found.
    assert (sources["psfFlux"] / sources["psfFluxErr"]).min() > 4
    bright = sources.filter(pl.col("psfFlux") > 50 * pl.col("psfFluxErr"))
    truth = tables["truth_summary"].filter(pl.col("truth_type") < 3, pl.col("mag_r") < 24)
    xi, eta = project(bright["ra"].to_numpy()[:, None], bright["decl"].to_numpy()[:, None], truth["ra"], truth["dec"])
    nearest = np.hypot(xi, eta).min(axis=1) * 3600
    assert np.median(nearest) < 0.05
    assert nearest.max() < 0.3


def test_difference_sources_are_significant_and_differences_of_the_total(tables):
    rows = tables["diaSourceTable_tract"]
    assert (rows["snr"] > 5).all()
    assert (rows["psFlux"] < 0).any()
    variable = rows.join(tables["diaObjectTable_tract"], on="diaObjectId", validate="m:1")
    assert variable.height == rows.height
    xi, eta = project(
        variable["ra"].to_numpy(), variable["decl"].to_numpy(), variable["ra_right"], variable["decl_right"]
    )
    assert np.hypot(xi, eta).max() * 3600 < 1.0


@pytest.mark.parametrize("band", ["i", "u"])
def test_light_curve_summaries_are_those_of_the_difference_sources(band):
    generator = np.random.default_rng(8)
    rows = np.repeat([0, 2, 3], [7, 1, 12])[generator.permutation(20)]
    times, flux, error, total = generator.normal(np.array([[60000], [20], [4], [90]]), 1, (4, 20))
    error = np.abs(error) + 0.1
    columns = band_statistics(band, rows, times, flux, error, total, 4)
    assert columns[f"{band}PSFluxNdata"].tolist() == [7, 0, 1, 12]
    for place in (0, 2, 3):
        here = rows == place
        f, e, t = flux[here], error[here], times[here]
        expected = {
            "PSFluxMean": np.average(f, weights=1 / e**2),
            "PSFluxMin": f.min(),
            "PSFluxMax": f.max(),
            "PSFluxChi2": (((f - np.average(f, weights=1 / e**2)) / e) ** 2).sum(),
            "PSFluxErrMean": e.mean(),
            "PSFluxMAD": np.median(np.abs(f - np.median(f))),
            **{f"PSFluxPercentile{q:02d}": np.percentile(f, q) for q in (5, 25, 50, 75, 95)},
            "TOTFluxMean": np.average(total[here], weights=1 / e**2),
        }
        if here.sum() > 1:
            slope, intercept = np.polyfit(t - 60000, f, 1)
            expected |= {"PSFluxSigma": f.std(ddof=1), "PSFluxLinearSlope": slope}
            assert columns[f"{band}PSFluxLinearIntercept"][place] + slope * 60000 == pytest.approx(intercept, abs=1e-5)
        assert {name: columns[band + name][place] for name in expected} == pytest.approx(expected)
    assert np.isnan(columns[f"{band}PSFluxMean"][1])
    # Every published column of a band that a light curve tells.
    published = {column.name for column in contracts.load("dp02").contract("DiaObject").columns}
    assert set(columns) <= published


def test_no_epochs_give_no_summary():
    none = np.zeros(0)
    columns = band_statistics("z", np.zeros(0, np.int64), none, none, none, none, 3)
    assert columns["zPSFluxNdata"].tolist() == [0, 0, 0]
    assert np.isnan(columns["zPSFluxMean"]).all()


def test_a_flux_at_the_depth_has_five_sigma():
    faintest = 10 ** (0.4 * (31.4 - COADD_DEPTH))
    assert faintest / flux_error(faintest, COADD_DEPTH, 0.0) == pytest.approx(5.0, rel=1e-3)


# ------------------------------------------------------------------------------------------------- the sphere


@pytest.mark.parametrize("centre", [(0.0, 0.0), (359.9, -60.0), (123.0, 90.0), (5.0, -89.99)])
def test_planes_go_there_and_back(centre):
    xi, eta = np.random.default_rng(1).uniform(-2, 2, (2, 50))
    ra, dec = deproject(*centre, xi, eta)
    back_xi, back_eta = project(*centre, ra, dec)
    assert np.allclose(back_xi, xi, atol=1e-9)
    assert np.allclose(back_eta, eta, atol=1e-9)
    assert ((ra >= 0) & (ra < 360)).all()


def test_planes_agree_with_the_sky_map():
    sky = skymap.named("DC2")
    ra0, dec0 = (float(v) for v in sky.tract_centre(3831))
    ra, dec = np.array([61.9, 62.5]), np.array([-36.2, -36.8])
    xi, eta = project(ra0, dec0, ra, dec)
    x, y = sky.to_pixels(3831, ra, dec)
    # In units of a degree of the tangent plane; pixels of 0.2 arcsec, growing against right ascension.
    assert np.allclose(x, 13999 - xi * 18000, atol=1e-5)
    assert np.allclose(y, 13999 + eta * 18000, atol=1e-5)


def test_the_other_hemisphere_has_no_place_on_the_plane():
    assert np.isnan(project(0.0, 0.0, 180.0, 10.0)).all()


def test_positions_are_even_over_the_disc():
    ra, dec = scatter_on_disc(stream(1, "test"), 62.0, 89.0, 3.0, 20_000)
    xi, eta = project(62.0, 89.0, ra, dec)
    distance = np.degrees(np.arctan(np.radians(np.hypot(xi, eta))))
    assert distance.max() <= 3.0
    assert (distance < 1.5).mean() == pytest.approx(0.25, abs=0.015)


def test_detectors_land_where_they_look():
    visit = plan_visits(1, 62.0, -37.0, 0.5, 1, 5, 189)[0]
    generator = np.random.default_rng(2)
    for detector in (0, 94, 188):
        x, y = generator.uniform(0, 4071, 20), generator.uniform(0, 3999, 20)
        landed = land(visit, *detector_to_sky(visit, detector, x, y))
        assert (landed.detector == detector).all()
        assert np.allclose(landed.x, x, atol=1e-5)
        assert np.allclose(landed.y, y, atol=1e-5)
    assert land(visit, np.array([242.0]), np.array([37.0])).detector.tolist() == [-1]


def test_streams_depend_on_purpose_and_place_only():
    first = stream(1, "a", 2, 3).random(4)
    assert (stream(1, "a", 2, 3).random(4) == first).all()
    others = [stream(2, "a", 2, 3), stream(1, "b", 2, 3), stream(1, "a", 3, 2), stream(1, "a", 2)]
    assert all((other.random(4) != first).all() for other in others)


# --------------------------------------------------------------------------------------------------- memory


def test_forced_rows_come_in_bounded_blocks():
    sky = make_sky(
        contracts.load("dp02"),
        skymap.named("DC2"),
        ra_deg=62.0,
        dec_deg=-37.0,
        radius_deg=0.05,
        objects=300,
        visits=40,
        first_visit=0,
        detectors=9,
        seed=1,
        reprocessing=0,
    )
    view = max(sky.patches, key=lambda view: view.objects)
    targets = object_targets(sky, view)
    sizes = [piece.num_rows for piece in forced_pieces(sky, "ForcedSource", targets, sky.visits, block_rows=1000)]
    assert len(sizes) > 3
    # A block ends with the visit that fills it.
    assert max(sizes) < 1000 + view.objects
    assert min(sizes[:-1]) >= 1000
