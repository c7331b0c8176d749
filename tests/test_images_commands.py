"""`tractlake images`: its verbs, what they print, and how they exit."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from support import images
from warehouse import Warehouse
from warehouse.errors import NotFoundError, QueryError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    images.make(folder / "tree", visits=1)
    done = run(folder, "register", str(folder / "tree"), "--direct", "--json")
    assert json.loads(done.stdout)["new"] == 8
    return folder


def run(folder, *arguments, exit_code=0):
    done = CliRunner().invoke(app, ["images", *arguments, "--warehouse", str(folder / "warehouse")])
    if isinstance(done.exception, SystemExit) or done.exception is None:
        assert done.exit_code == exit_code, done.output
        return done
    raise done.exception


def test_registering_again_says_so(folder):
    assert "nothing new: 8 images" in run(folder, "register", str(folder / "tree"), "--direct").stdout


def test_refused_images_are_named_and_exit_with_3(folder, tmp_path):
    path = tmp_path / "calexp_900_1.fits"
    path.write_bytes(b"nothing")
    done = run(folder, "register", str(path), "--direct", exit_code=3)
    assert str(path) in done.stdout.replace("\n", "")


def test_images_are_listed_by_place_and_band(folder):
    rows = json.loads(run(folder, "list", "--dataset-type", "deepCoadd", "--band", "i", "--json").stdout)
    assert [row["band"] for row in rows] == ["i", "i"]
    place = ["--cone", str(rows[0]["ra_deg"]), str(rows[0]["dec_deg"]), "0"]
    found = json.loads(run(folder, "list", *place, "--json").stdout)
    assert rows[0]["dataset"] in {row["dataset"] for row in found}
    patch = ["--tract", str(rows[0]["tract"]), "--patch", str(rows[0]["patch"])]
    assert rows[0]["dataset"] in run(folder, "list", *patch).stdout
    with pytest.raises(QueryError, match="--tract"):
        run(folder, "list", "--patch", "1")
    with pytest.raises(QueryError, match="one region"):
        run(folder, "list", "--tract", "1", *place)


def test_the_commands_for_all_datasets_know_images(folder):
    uri = str(folder / "warehouse")
    types = json.loads(CliRunner().invoke(app, ["dataset-types", "cal*", "--json", "-w", uri]).stdout)
    assert [(row["dataset_type"], row["table"]) for row in types] == [("calexp", "Image")]
    (visit,) = {
        row["visit"] for row in json.loads(CliRunner().invoke(app, ["data-ids", "calexp", "--json", "-w", uri]).stdout)
    }
    asked = ["get", "calexp", f"visit={visit}", "detector=94", "--warehouse", uri]
    error = CliRunner().invoke(app, asked).exception
    assert isinstance(error, QueryError)
    assert f"`tractlake images show calexp visit={visit} detector=94 --out calexp.png` draws it" in str(error)


def test_images_are_shown_and_cut(folder, tmp_path):
    row = Warehouse.open(str(folder / "warehouse")).images(dataset_type="deepCoadd").collect().row(0, named=True)
    data_id = [f"{key}={row[key]}" for key in ("tract", "patch", "band")]
    assert "128 x 96" in run(folder, "show", "deepCoadd", *data_id, "--out", str(tmp_path / "a.png")).stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    place = ["--at", str(row["ra_deg"]), str(row["dec_deg"]), "--size", "4", "--band", row["band"]]
    done = run(folder, "cutout", *place, "--out", str(tmp_path / "a.fits"), "--json")
    assert json.loads(done.stdout) == {"out": str(tmp_path / "a.fits"), "width": 20, "height": 20}
    from astropy.nddata import CCDData

    saved = CCDData.read(tmp_path / "a.fits", hdu_flags="FLAGS", hdu_uncertainty="VARIANCE")
    assert saved.shape == saved.flags.shape == saved.uncertainty.array.shape == (20, 20)
    run(folder, "cutout", *place, "--out", str(tmp_path / "b.png"))
    with pytest.raises(QueryError, match=r"\.png or \.fits"):
        run(folder, "cutout", *place, "--out", str(tmp_path / "b.gif"))
    with pytest.raises(NotFoundError, match="nearest"):
        run(folder, "show", "deepCoadd", "tract=1", "patch=1", "band=i")
