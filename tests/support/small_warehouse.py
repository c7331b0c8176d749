"""Small warehouses to read from: a simulated sky, ingested once a process, and tables of bare points anywhere."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from support.small_contracts import declared, derived
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.contracts import Contract
from warehouse.lake import delta, layout, staged
from warehouse.lake.root import Root
from warehouse.query.tables import Tables
from warehouse.simulate import DATASET_TYPES, simulate
from warehouse.sky import skymap
from warehouse.sky.regions import Cone

POINTS = "Points"
SETTINGS = Settings(workers=2)


@dataclass(frozen=True)
class Simulated:
    """A simulated tree with the files of every dataset type, and the warehouse made of it."""

    tree: Path
    uri: str

    def open(self) -> Warehouse:
        """Return the warehouse, opened anew."""
        return Warehouse.open(self.uri, settings=SETTINGS)

    def files(self, dataset_type: str) -> list[Path]:
        """Return the tree's files of a dataset type."""
        return sorted(self.tree.rglob(f"{dataset_type}_*.parq"))

    def copy(self, folder: Path) -> Path:
        """Return the path of a copy of the warehouse that a test may break."""
        return Path(shutil.copytree(self.uri, folder / "copy"))


@cache
def simulated() -> Simulated:
    """Return a sky of some 1,400 Object rows in two tracts, three visits, and all tables; read only."""
    folder = Path(tempfile.mkdtemp(prefix="tractlake-sky-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tree = folder / "tree"
    simulate(
        str(tree),
        objects=1200,
        visits=3,
        radius=0.2,
        detectors=3,
        seed=3,
        dataset_types=DATASET_TYPES,
        settings=SETTINGS,
    )
    made = Warehouse.create(str(folder / "warehouse"), settings=SETTINGS)
    made.ingest_tree(str(tree))
    return Simulated(tree, made.uri)


def emptied(wh: Warehouse, table: str) -> int:
    """Commit a version of a table in which no row is left, and return it."""
    base = delta.snapshot(wh.root.table_uri(table), SETTINGS)
    return delta.commit(base, uuid.uuid4().hex, SETTINGS, remove=base.files["path"].to_list())


def points_contract(*, assignment: str = "derived") -> Contract:
    """Return the contract of a table of ids and positions."""
    words = {"table": POINTS, "statistics": ("id", "ra", "dec", "input_id"), "cluster_by": ("ra", "dec")}
    return derived(**words) if assignment == "derived" else declared(**words)


def points(
    folder: Path, ra: np.ndarray, dec: np.ndarray, *, assignment: str = "derived", statistics: bool = True
) -> Tables:
    """Return the tables of a warehouse whose one table holds these positions, with row groups of 32 rows.

    With `declared`, a row is in any one of the patches whose outer box holds it.
    """
    contract = points_contract(assignment=assignment)
    sky = skymap.named("DC2")
    tract, patch = sky.find(ra, dec)
    if assignment == "declared":
        tract, patch = _some_outer(sky, ra, dec)
    frame = pl.DataFrame({"id": np.arange(len(ra)), "ra": ra, "dec": dec, "tract": tract, "patch": patch})
    root = Root(str(folder), "dp02", "DC2", sky.sha1)
    uri = root.table_uri(POINTS)
    told = contract.statistics if statistics else ()
    delta.create(uri, contract.arrow_schema, SETTINGS, name=POINTS, partition_by=contract.partition_by, statistics=told)
    append(uri, contract, frame, statistics=statistics)
    return Tables(root, SETTINGS, more={POINTS: contract})


def append(uri: str, contract: Contract, frame: pl.DataFrame, *, statistics: bool = True) -> int:
    """Commit rows to a table of points, and return the new version."""
    rows = layout.clustered(frame.with_columns(input_id=pl.lit(1, pl.Int64)), contract)
    told = contract.statistics if statistics else ()
    files = [
        staged.write(
            part.select(contract.file_schema.names),
            uri,
            SETTINGS,
            schema=contract.file_schema,
            statistics=told,
            partition=layout.partition_values(partition),
            row_group_rows=32,
        )
        for partition, part in layout.by_partition(rows, contract)
    ]
    return delta.commit(delta.snapshot(uri, SETTINGS), uuid.uuid4().hex, SETTINGS, add=files)


def _some_outer(sky: skymap.SkyMap, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    chosen = []
    for here in zip(ra.tolist(), dec.tolist(), strict=True):
        tract, patch = sky.outer_candidates(Cone(*here, 1e-6))
        inside = np.flatnonzero(sky.in_outer(tract, patch, *here))
        at = rng.choice(inside) if inside.size else None
        chosen.append(
            tuple(int(v[0]) for v in sky.find([here[0]], [here[1]])) if at is None else (tract[at], patch[at])
        )
    return tuple(np.array(values, np.int64) for values in zip(*chosen, strict=True))
