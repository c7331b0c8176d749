"""Aside: where a unit's refused rows wait until they are committed - in memory while they are few, then in files.

As text a row takes several times its place, and an input of which every row is refused may be as large as any: so
rows become text a part at a time, and parts are written out before they are many.
"""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass, field

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.errors import WarehouseError
from warehouse.ingest.job import Job
from warehouse.ingest.plan import Planned
from warehouse.ingest.quality import Checked, quarantine_rows
from warehouse.lake.ledger import QUARANTINED_ROWS

# A value of eight bytes becomes its column's name, its digits and the quotes of JSON, and is put together from parts.
TEXT = 16


@dataclass
class Aside:
    """The refused rows of a unit of work, of which at most about `memory` bytes are held."""

    job: Job
    settings: Settings
    memory: int
    frames: list[pl.DataFrame] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    held: int = 0

    def put(self, planned: Planned, checked: Checked) -> None:
        """Take the refused rows of a batch."""
        table, uri = self.job.table, planned.input.uri
        each = max(1, self.memory // (TEXT * self.job.contract.row_bytes))
        for part in checked.refused_parts(each):
            self._hold(quarantine_rows(part, table=table, input_id=planned.input_id, uri=uri).drop("table"))

    def put_input(self, planned: Planned, error: WarehouseError) -> None:
        """Take an input that was refused as a whole, as a row of its own beside those that were seen before."""
        whole = {
            "input_id": planned.input_id,
            "uri": planned.input.uri,
            "row_number": None,
            "rules": [error.kind],
            "key": None,
            "values": json.dumps({"error": str(error)}),
        }
        self._hold(pl.DataFrame([whole], schema=pl.Schema(QUARANTINED_ROWS)))

    def finish(self) -> tuple[str, ...]:
        """Write what is held, and return where all of it lies."""
        if self.frames:
            self._write()
        return tuple(self.uris)

    def _hold(self, rows: pl.DataFrame) -> None:
        self.frames.append(rows)
        self.held += int(rows.estimated_size())
        if self.held > self.memory:
            self._write()

    def _write(self) -> None:
        uri = storage.join(self.job.staging_uri, f"{uuid.uuid4().hex}.quarantine.parquet")
        buffer = io.BytesIO()
        pl.concat(self.frames).write_parquet(buffer)
        storage.write_bytes(uri, buffer.getvalue(), self.settings)
        self.uris.append(uri)
        self.frames, self.held = [], 0
