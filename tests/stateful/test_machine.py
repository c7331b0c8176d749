"""Whatever is done to a warehouse in whatever order, it holds what a plain dictionary says.

The model knows three things: what lies in each file now, what of it was last taken up, and how the table looked at each
of its versions. Everything else - logs, staging, ledger, clean-ups, crashes, lost races - must make no difference.
"""

import shutil
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support import content, skies
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.ingest import stage
from warehouse.lake import delta, ledger

TABLE, VISITS = "Source", "sourceTable_visit"
INPUTS = 4
SETTINGS = Settings(memory=512 << 20, workers=1, commit_attempts=5)
STEPS = ("planned", "staging", "staged", "committed")
NUMBERS = st.integers(0, INPUTS - 1)

_SKY: dict[str, list[pl.DataFrame]] = {}


def sky():
    """Return the rows of a few visits, made once a process."""
    if "rows" not in _SKY:
        with tempfile.TemporaryDirectory() as folder:
            tree = skies.make(Path(folder), [VISITS], visits=INPUTS, objects=120, detectors=1)
            _SKY["rows"] = [pl.read_parquet(path) for path in sorted(tree.rglob("*.parq"))]
    return _SKY["rows"]


class Ingests(RuleBasedStateMachine):
    """A warehouse of one table beside its model.

    `files` is what lies in each file: rows (key -> flux), None where the file is broken, absent where it is gone.
    `loaded` is what the table holds of each input, `tried` what was last looked at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tractlake-machine-"))
        self.tree = self.folder / "tree"
        self.tree.mkdir()
        self.wh = Warehouse.create(str(self.folder / "warehouse"), settings=SETTINGS)
        self.files: dict[int, dict[int, float] | None] = {}
        self.loaded: dict[int, dict[int, float]] = {}
        self.tried: dict[int, bytes] = {}
        self.versions: dict[int, dict[int, float]] = {}
        self.stamp = 0
        self.scatter = False

    def teardown(self) -> None:
        stage.LEAST = 16 << 20
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------------------------------------- what the world does

    @initialize(scatter=st.booleans())
    def choose(self, scatter: bool) -> None:
        stage.LEAST = 1 if scatter else 16 << 20
        for number in range(2):
            self._write(number, 1.0, 0)

    def _path(self, number: int) -> Path:
        return self.tree / f"visit{number}.parq"

    def _write(self, number: int, factor: float, fewer: int) -> None:
        rows = sky()[number]
        rows = rows.head(rows.height - fewer).with_columns(pl.col("psfFlux") * factor)
        rows.write_parquet(self._path(number))
        self.files[number] = dict(rows.select("sourceId", "psfFlux").fill_nan(None).iter_rows())

    @rule(number=NUMBERS, factor=st.sampled_from([1.0, 2.0, 0.5]), fewer=st.integers(0, 2))
    def deliver(self, number: int, factor: float, fewer: int) -> None:
        self._write(number, factor, fewer)

    @rule(number=NUMBERS)
    def spoil(self, number: int) -> None:
        self.stamp += 1
        self._path(number).write_bytes(b"no table %d" % self.stamp)
        self.files[number] = None

    @rule(number=NUMBERS)
    def take_away(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        self.files.pop(number, None)

    # -------------------------------------------------------------------------------------------- what the model does

    def _now(self) -> dict[int, float]:
        return {key: flux for rows in self.loaded.values() for key, flux in rows.items()}

    def _taken_up(self, *, remove_vanished: bool = False) -> bool:
        """Do to the model what a run does to the table; return whether there is anything to do."""
        work = [n for n in self.files if self.tried.get(n) != self._path(n).read_bytes()]
        for number in work:
            rows = self.files[number]
            self.tried[number] = self._path(number).read_bytes()
            if rows is not None:
                self.loaded[number] = rows
        gone = [n for n in self.tried if n not in self.files] if remove_vanished else []
        for number in gone:
            del self.tried[number]
            self.loaded.pop(number, None)
        return bool(work or gone)

    def _landed(self) -> None:
        self.versions[self.wh.version(TABLE)] = self._now()

    # ----------------------------------------------------------------------------------------- what people do with it

    @precondition(lambda self: self.files)
    @rule(remove_vanished=st.booleans())
    def ingest(self, remove_vanished: bool) -> None:
        report = self.wh.ingest(TABLE, str(self.tree), remove_vanished=remove_vanished)
        assert report.nothing_new is not self._taken_up(remove_vanished=remove_vanished)
        assert report.rows_read == report.rows_committed + report.rows_quarantined
        self._landed()

    @precondition(lambda self: self.files)
    @rule(step=st.sampled_from(STEPS), turn=st.integers(1, 2))
    def crash(self, step: str, turn: int) -> None:
        reached = False
        try:
            self.wh.ingest(TABLE, str(self.tree), on_event=skies.crash_at(step, turn if step == "staging" else 1))
        except skies.CrashError:
            reached = True
        if not reached or step == "committed":
            self._taken_up()
        if self.wh.version(TABLE) not in self.versions:
            self._landed()

    @precondition(lambda self: self.files)
    @rule(overlap=st.booleans(), step=st.sampled_from(["planned", "staged"]))
    def race(self, overlap: bool, step: str) -> None:
        """Let another run come first, over all inputs or some, when this one has come to a step."""
        other = Warehouse.open(self.wh.uri, settings=SETTINGS)
        uris = [str(self._path(number)) for number in sorted(self.files)]
        chosen = uris if overlap else uris[::2]
        done = []

        def overtake(event):
            if event.step == step and not done:
                done.append(other.ingest(TABLE, chosen))

        self.wh.ingest(TABLE, uris, on_event=overtake)
        assert done or step != "planned"
        self._taken_up()
        newest = self.wh.version(TABLE)
        self.versions[newest] = self._now()

    @precondition(lambda self: self.tried and self.files)
    @rule()
    def retry(self) -> None:
        ledger.catch_up(self.wh.uri, TABLE, SETTINGS)  # it may be behind a crash
        refused = {n for n in self.tried if n in self.files and self._refused(n)}
        self.wh.retry(TABLE)
        for number in refused:
            self.tried[number] = self._path(number).read_bytes()
            if self.files[number] is not None:
                self.loaded[number] = self.files[number]
        self._landed()

    def _refused(self, number: int) -> bool:
        rows = self.wh.history(TABLE).filter(pl.col("uri") == str(self._path(number)))
        return bool(rows.height) and rows["status"][-1] == "refused"

    @rule(hours=st.sampled_from([None, 0]), forget=st.booleans())
    def clean_up(self, hours: float | None, forget: bool) -> None:
        self.wh.maintain(hours=hours)
        if hours == 0:
            self.versions = {v: rows for v, rows in self.versions.items() if v == max(self.versions)}
            folder = Path(self.wh.uri) / TABLE
            left = {path for path in content.files_below(folder) if path.endswith(".parquet") and path[0] != "_"}
            assert left == set(content.live_files(self.wh, TABLE))
        if forget:
            shutil.rmtree(Path(self.wh.uri) / "Ledger")
            shutil.rmtree(Path(self.wh.uri) / "Quarantine")
            self.wh = Warehouse.create(self.wh.uri, settings=SETTINGS)

    # --------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def the_table_holds_what_the_model_says(self) -> None:
        assert fluxes(self.wh) == self._now()

    @rule()
    def every_kept_version_is_as_it_was(self) -> None:
        for version, rows in self.versions.items():
            assert fluxes(self.wh, version) == rows

    @rule()
    def the_audit_holds(self) -> None:
        if delta.exists(self.wh.root.table_uri(TABLE), SETTINGS):
            ledger.catch_up(self.wh.uri, TABLE, SETTINGS)
        assert [finding for finding in self.wh.audit() if not finding.holds] == []
        assert content.rows(self.wh, TABLE)["sourceId"].is_unique().all()


def fluxes(wh, version=None):
    return dict(content.rows(wh, TABLE, version).select("sourceId", "psfFlux").iter_rows())


Ingests.TestCase.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
TestIngests = Ingests.TestCase
