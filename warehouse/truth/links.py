"""Links: matches whose truth, whose match row and whose object do not all lie in one tract.

Almost every match stays within its tract. The few that do not - at a tract's edge, or because a truth row has been
delivered again and moved - decide which tracts must be made again when one of them changes. They are found from ids
alone: first what does not find its partner at home (loose rows), then where that partner is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import TRACT
from warehouse.lake import bounds
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root
from warehouse.truth import tables
from warehouse.truth.tables import Slice
from warehouse.truth.units import MATCHES, OBJECTS, TRUTH

Slices = Mapping[str, Mapping[int, Slice]]
"""The files of each tract, by table."""


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """Tracts that share a match: of the match row, of its truth row, and of its object (-1 where it has none)."""

    match: int
    truth: int
    object: int

    @property
    def tracts(self) -> frozenset[int]:
        """The tracts."""
        return frozenset({self.match, self.truth, self.object} - {-1})


def find_links(
    root: Root, tracts: Collection[int], slices: Slices, objects: Snapshot, settings: Settings
) -> tuple[set[Link], set[int]]:
    """Return the links of the match rows of `tracts`, and which of the tracts have loose rows at all.

    A loose row whose partner is nowhere makes no link, but may make one as soon as the partner comes: its tract must be
    looked at each time.
    """
    with ThreadPoolExecutor(max_workers=settings.workers) as pool:
        looked_at = pool.map(lambda tract: _loose(root, tract, slices, settings), sorted(tracts))
        frames = [frame for frame in looked_at if frame.height]
    if not frames:
        return set(), set()
    loose = pl.concat(frames)
    elsewhere = loose.filter(pl.col("truth").is_null())["id_truth_type"]
    truth = _where(root, TRUTH, "id_truth_type", elsewhere, slices[TRUTH].values(), settings)
    away = loose.filter(pl.col("match_objectId").is_not_null() & pl.col("object").is_null())["match_objectId"]
    found = _where(root, OBJECTS, "objectId", away, _near(slices[OBJECTS], objects, away), settings)
    placed = (
        loose.join(truth, on="id_truth_type", how="left")
        .join(found, left_on="match_objectId", right_on="objectId", how="left", suffix="_found")
        .select(
            pl.col("match"),
            pl.coalesce("truth", TRACT).alias("truth"),
            pl.coalesce("object", f"{TRACT}_found").fill_null(-1).alias("object"),
        )
        .drop_nulls("truth")
        .unique()
    )
    links = {Link(*row) for row in placed.iter_rows()}
    return {link for link in links if len(link.tracts) > 1}, set(loose["match"].unique())


def _loose(root: Root, tract: int, slices: Slices, settings: Settings) -> pl.DataFrame:
    """Return the match rows of a tract that lack their truth or their object there, with the tracts of the rest."""

    def here(table: str, columns: tuple[str, ...]) -> pl.DataFrame:
        part = slices[table].get(tract, Slice("", ()))
        return tables.read(part, root.contract(table), columns, settings)

    at_home = pl.lit(tract, pl.Int64)
    truth = here(TRUTH, ("id_truth_type",)).to_series().implode()
    objects = here(OBJECTS, ("objectId",)).to_series().implode()
    named = pl.col("match_objectId").is_not_null()
    return (
        here(MATCHES, ("id_truth_type", "match_candidate", "match_objectId"))
        .filter(pl.col("match_candidate").fill_null(value=False) | named)
        .select(
            "id_truth_type",
            "match_objectId",
            match=at_home,
            truth=pl.when(pl.col("id_truth_type").is_in(truth)).then(at_home),
            object=pl.when(pl.col("match_objectId").is_in(objects)).then(at_home),
        )
        .filter(pl.col("truth").is_null() | (named & pl.col("object").is_null()))
    )


def _near(slices: Mapping[int, Slice], snapshot: Snapshot, ids: pl.Series) -> list[Slice]:
    """Return the files that may hold one of the object ids, by the statistics in the log."""
    may = set(snapshot.files.filter(bounds.holding(snapshot.files, "objectId", np.sort(ids.to_numpy())))["path"])
    chosen = (Slice(part.uri, tuple(file for file in part.files if file.path in may)) for part in slices.values())
    return [part for part in chosen if part.files]


def _where(
    root: Root, table: str, key: str, ids: pl.Series, parts: Collection[Slice], settings: Settings
) -> pl.DataFrame:
    """Return `key` and tract of the rows of `parts` that have one of the ids."""
    contract = root.contract(table)
    wanted = ids.unique().to_frame(key)
    empty = pl.DataFrame(schema={key: wanted.schema[key], TRACT: pl.Int64})
    if not wanted.height:
        return empty

    def look(part: Slice) -> pl.DataFrame:
        return tables.read(part, contract, (key, TRACT), settings).join(wanted, on=key, how="semi")

    with ThreadPoolExecutor(max_workers=settings.workers) as pool:
        return pl.concat([empty, *pool.map(look, parts)])
