"""Units: what a re-delivery replaces, by which number its rows are known, and how they leave a table.

Every room that writes rows of inputs stands on this; what an input is, and when it is replaced, the rooms decide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract
from warehouse.lake import bounds, staged
from warehouse.lake.delta import Snapshot, StagedFile
from warehouse.lake.rows import stored

# A file's rows as they were, those that stay, and the writer's pages.
COPIES = 3

_RUN_TIME = re.compile(r"\d{8}T\d{6}Z")


def input_id(table: str, unit: str) -> int:
    """Return the 63-bit id of a unit of a table, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{table}\n{unit}".encode(), digest_size=8).digest(), "big") >> 1


def run_order(run: str | None) -> tuple[str, str]:
    """Return a sort key that puts a later RUN collection after an earlier one: its last time stamp, then its name."""
    times = _RUN_TIME.findall(run or "")
    return (times[-1] if times else "", run or "")


def without(
    contract: Contract, base: Snapshot, gone: Mapping[int, Sequence[int]], settings: Settings
) -> tuple[list[StagedFile], list[str]]:
    """Stage, for each live file that holds rows of the inputs `gone` (with their tracts), a file without them.

    Returns the new files and the paths of those they replace. A file with nothing else in it is only removed.
    Files are found by their tract, by their statistics of ``input_id``, and then by the column itself.
    """
    if not gone:
        return [], []
    candidates = _candidates(base, gone)
    largest = max(candidates.get_column("num_records"), default=1)
    held = COPIES * contract.row_bytes * max(1, largest)
    at_once = max(1, min(settings.workers, settings.memory // held))
    with ThreadPoolExecutor(at_once) as threads:
        work = partial(_rest, contract, base, [*gone], settings)
        done = [found for found in threads.map(work, candidates.iter_rows(named=True)) if found is not None]
    return [file for _, file in done if file is not None], [path for path, _ in done]


def _rest(
    contract: Contract, base: Snapshot, gone: Sequence[int], settings: Settings, row: Mapping[str, Any]
) -> tuple[str, StagedFile | None] | None:
    """Return the path of a file that holds rows of `gone` and what is staged in its place; None where it holds none."""
    rows = stored(base.uri, [row["path"]], pl.Schema(contract.file_schema), settings)
    keep = rows.select(~pl.col(INPUT_ID).is_in(gone)).collect().to_series()
    if keep.all():
        return None
    if not keep.any():
        return row["path"], None
    frame = rows.collect().filter(keep)
    partition = (row[TRACT], row[PATCH]) if contract.partitioned else ()
    return row["path"], staged.write_rows(frame, contract, base.uri, settings, partition)


def _candidates(base: Snapshot, gone: Mapping[int, Sequence[int]]) -> pl.DataFrame:
    """Return the live files that may hold rows of `gone`."""
    files = base.files
    tracts = {tract for lies in gone.values() for tract in lies}
    if TRACT in files.columns and tracts:
        files = files.filter(pl.col(TRACT).is_in(tracts))
    return files.filter(bounds.holding(files, INPUT_ID, np.sort(np.array([*gone], np.int64))))
