"""A real Butler repository, made with nothing but PyPI's lsst-daf-butler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from lsst.daf.butler import Butler, DatasetType

INSTRUMENT, SKYMAP = "LSSTCam-imSim", "DC2"
DAY, BAND, FILTER = 20221017, "i", "i_sim_1.4"
DIMENSIONS = {
    "objectTable": ("skymap", "tract", "patch"),
    "objectTable_tract": ("skymap", "tract"),
    "sourceTable": ("instrument", "visit", "detector"),
    "sourceTable_visit": ("instrument", "visit"),
    "visitTable": ("instrument",),
    "truth_summary": ("skymap", "tract"),
}


def make_repository(
    root: Path, *, tracts=(4431,), patches=(16, 17), visits=(192350, 214437), detectors=(78, 94)
) -> None:
    """Make a repository with the dimension records that the dataset types of `DIMENSIONS` need, and these types."""
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        insert = butler.registry.insertDimensionData
        insert("skymap", {"name": SKYMAP, "hash": b"sha1", "tract_max": 18938, "patch_nx_max": 7, "patch_ny_max": 7})
        insert("tract", *({"skymap": SKYMAP, "id": tract} for tract in tracts))
        insert(
            "patch",
            *(
                {"skymap": SKYMAP, "tract": tract, "id": patch, "cell_x": patch % 7, "cell_y": patch // 7}
                for tract in tracts
                for patch in patches
            ),
        )
        insert("instrument", {"name": INSTRUMENT, "visit_max": 1 << 31, "detector_max": 256, "class_name": "none"})
        insert("physical_filter", {"instrument": INSTRUMENT, "name": FILTER, "band": BAND})
        insert("day_obs", {"instrument": INSTRUMENT, "id": DAY})
        insert("detector", *(_detector(number) for number in detectors))
        insert("visit", *(_visit(number) for number in visits))
        for name, dimensions in DIMENSIONS.items():
            butler.registry.registerDatasetType(DatasetType(name, dimensions, "ArrowTable", universe=butler.dimensions))


def put(root: Path, run: str, dataset_type: str, data_id: Mapping[str, int | str], table: pa.Table) -> str:
    """Put a table into the repository and return the path of its file."""
    with Butler.from_config(str(root), writeable=True, run=run) as butler:
        given = {"skymap": SKYMAP} if "skymap" in DIMENSIONS[dataset_type] else {"instrument": INSTRUMENT}
        ref = butler.put(table, dataset_type, {**given, **data_id})
        return butler.getURI(ref).ospath


def _detector(number: int) -> dict[str, int | str]:
    # LSSTCam's names of the two detectors that the tests use.
    raft, sensor = {78: ("R20", "S20"), 94: ("R22", "S11")}[number]
    return {
        "instrument": INSTRUMENT,
        "id": number,
        "full_name": f"{raft}_{sensor}",
        "raft": raft,
        "name_in_raft": sensor,
        "purpose": "SCIENCE",
    }


def _visit(number: int) -> dict[str, int | str]:
    return {
        "instrument": INSTRUMENT,
        "id": number,
        "name": str(number),
        "physical_filter": FILTER,
        "day_obs": DAY,
    }
