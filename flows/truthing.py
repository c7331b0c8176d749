"""What is asked of truth and measurement - match, materialise, photo-z set, report - and what comes back, as values.

The flows (`flows.truth`) and the commands share what is here; they differ in the runner that they hand on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from flows import display
from flows.ingesting import settings
from flows.serving import api
from flows.watching import watched, watched_by
from warehouse import Cone, Warehouse
from warehouse.contracts.derived import OBJECT_TRUTH, ObjectChoice, fitting
from warehouse.errors import QualityError
from warehouse.lake.events import OnEvent, ignore
from warehouse.truth import matching
from warehouse.truth import materialise as materialising
from warehouse.truth.match import MatchSettings
from warehouse.truth.matching import MatchReport
from warehouse.truth.materialise import MaterialiseReport, Staleness
from warehouse.truth.report import TruthReport
from warehouse.truth.units import MATCHES, Runner
from warehouse.wording import counted

# Why a tract is made that has never been: no news to anybody, unlike the others.
_NEVER = {OBJECT_TRUTH: materialising.NEVER, MATCHES: matching.NEVER}
# Reasons are as many as tracts: a few tell what is going on.
_SHOWN = 20


class BehindError(QualityError):
    """Tracts of a table could not be made and are as they were; `summary` tells of all."""

    default_kind = "behind"
    summary: Mapping[str, Any] = {}


def match(
    warehouse: str,
    *,
    how: Mapping[str, Any] | None = None,
    replace_files: bool = False,
    memory: str | None = None,
    workers: int | None = None,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
) -> dict[str, Any]:
    """Compute MatchesTruth; return a summary. `how` are settings of the match by name; those not told stay."""
    opened = Warehouse.open(warehouse, settings=settings(memory=memory, workers=workers))
    done = matching.match_truth(
        opened.root,
        opened.settings,
        how=_how(opened, how),
        replace=replace_files,
        runner=runner,
        on_event=on_event,
    )
    return match_summary(done)


def _how(opened: Warehouse, told: Mapping[str, Any] | None) -> MatchSettings | None:
    """Return the settings of the last match with those that were told, by name; None where none was."""
    given = {name: value for name, value in (told or {}).items() if value is not None}
    words: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return replace(matching.present_settings(opened.root, opened.settings), **words) if words else None


def materialise(
    warehouse: str,
    *,
    bands: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    memory: str | None = None,
    workers: int | None = None,
    runner: Runner | None = None,
    on_event: OnEvent = ignore,
) -> dict[str, Any]:
    """Bring ObjectTruth up to date; return a summary. `bands` and `columns` (of Object, more of them) are kept."""
    opened = Warehouse.open(warehouse, settings=settings(memory=memory, workers=workers))
    choice = choose(opened, bands, columns)
    done = materialising.materialise(opened.root, opened.settings, choice=choice, runner=runner, on_event=on_event)
    return materialise_summary(done)


def choose(opened: Warehouse, bands: Sequence[str] | None, columns: Sequence[str] | None) -> ObjectChoice | None:
    """Return the choice of Object columns: the usual ones in these bands, and more columns; None where none is told."""
    if bands is None and columns is None:
        return None
    usual = fitting(opened.root.contract("Object"))
    return replace(
        usual,
        bands=usual.bands if bands is None else tuple(bands),
        columns=tuple(dict.fromkeys((*usual.columns, *(columns or ())))),
    )


def selection(
    cone: Sequence[float] | None = None,
    magnitude_limits: Mapping[str, Sequence[float | None]] | None = None,
    **cuts: Any,  # noqa: ANN401 - as `Selection` has them
) -> dict[str, Any]:
    """Return what `Warehouse.photoz` takes, from plain values: a cone is RA, Dec and radius, degrees."""
    words = {name: value for name, value in cuts.items() if value is not None}
    if cone is not None:
        words["region"] = Cone(*cone)
    if magnitude_limits is not None:
        words["magnitude_limits"] = {band: tuple(limits) for band, limits in magnitude_limits.items()}
    return words


def match_summary(done: MatchReport) -> dict[str, Any]:
    """Return a match's report as values that JSON can hold."""
    return {
        "table": MATCHES,
        "version": done.version,
        "nothing_new": done.nothing_new,
        "tracts": dict(done.tracts),
        "rows": done.counts.get("rows", 0),
        "counts": {name: n for name, n in done.counts.items() if name != "rows"},
        "failed": dict(done.failed),
        "how": asdict(done.how),
        "seconds": round(done.seconds, 3),
    }


def materialise_summary(done: MaterialiseReport) -> dict[str, Any]:
    """Return a materialisation's report as values that JSON can hold."""
    return {
        "table": OBJECT_TRUTH,
        "version": done.version,
        "nothing_new": done.nothing_new,
        "tracts": dict(done.tracts),
        "rows": done.tally.rows,
        "counts": asdict(done.tally),
        "failed": dict(done.failed),
        "made_of": dict(done.made_of),
        "files": done.files,
        "bytes_written": done.bytes_written,
        "seconds": round(done.seconds, 3),
    }


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a summary as lines of text: what was done, where, and why there."""
    table, version = summary["table"], summary["version"]
    if summary["nothing_new"]:
        return [f"{table}: nothing to do, version {version} is up to date"]
    counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in summary["counts"].items() if n)
    first = all(list(why) == [_NEVER[table]] for why in summary["tracts"].values())
    where = f"{counted(summary['rows'], 'row')} in {counted(len(summary['tracts']), 'tract')}"
    made = f"{where} made" if first else f"{where} made again"
    said = [f"{table}: {made}, version {version}, {summary['seconds']:.1f} s", *([f"  {counts}"] if counts else [])]
    said += [] if first else reasons(summary["tracts"])
    return [*said, *(f"  tract {tract} is left as it was: {error}" for tract, error in summary["failed"].items())]


def behind(summary: Mapping[str, Any], then: str = "all else is committed") -> BehindError | None:
    """Return the error that ends a run which left tracts behind, None where it left none; `then` says what followed."""
    if not summary["failed"]:
        return None
    tract, why = next(iter(summary["failed"].items()))
    tracts = counted(len(summary["failed"]), "tract")
    error = BehindError(f"{tracts} stayed behind, {then}; tract {tract}: {why}", table=summary["table"])
    error.summary = summary
    return error


def reasons(tracts: Mapping[int, Sequence[str]]) -> list[str]:
    """Return a line for each of the first tracts: why it is behind, or was made again."""
    said = [f"  tract {tract}: {'; '.join(why)}" for tract, why in list(tracts.items())[:_SHOWN]]
    return said if len(tracts) <= _SHOWN else [*said, f"  ... and {counted(len(tracts) - _SHOWN, 'more tract')}"]


def staleness_lines(found: Staleness) -> list[str]:
    """Return how stale ObjectTruth is as lines of text."""
    if found.version is None:
        head = "has never been made"
    elif found.up_to_date:
        head = f"version {found.version} is up to date"
    else:
        head = f"version {found.version} is behind in {counted(len(found.tracts), 'tract')}"
    inputs = (f"{name} {found.made_of.get(name, '-')} -> {version}" for name, version in found.now.items())
    return [f"{OBJECT_TRUTH} {head} ({', '.join(inputs)})", *reasons(found.tracts)]


def report_markdown(done: TruthReport) -> str:
    """Return a report's numbers as Markdown tables, a heading a figure."""
    said = [f"Page: {done.page.absolute().as_uri()}"]
    for title, headings, rows in done.tables:
        said += ["", f"## {title}", "", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
        said += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(said)


def run(work: str, words: Mapping[str, Any], *, direct: bool, quiet: bool) -> dict[str, Any]:
    """Run ``match`` or ``materialise`` for a command: as a flow, or in this process, with progress on the terminal.

    No server is started for a run that has nothing to do.
    """
    here: Mapping[str, Callable[..., dict[str, Any]]] = {"match": match, "materialise": materialise}
    if direct or _nothing_to_do(work, words):
        with watched(quiet=quiet) as on_event:
            return here[work](**words, on_event=on_event)
    with api((lambda _: None) if quiet else display.hint) as ready:
        from flows import truth

        flows: Mapping[str, Callable[..., dict[str, Any]]]
        flows = {"match": truth.match_truth, "materialise": truth.materialise_matches}
        ready()
        with watched(quiet=quiet) as on_event, watched_by(on_event):
            try:
                return flows[work](**words)
            except BehindError as error:
                return dict(error.summary)


def _nothing_to_do(work: str, words: Mapping[str, Any]) -> bool:
    opened = Warehouse.open(words["warehouse"])
    if work == "match":
        how = _how(opened, words["how"])
        return not matching.outdated(opened.root, opened.settings, how=how, replace=words["replace_files"])
    choice = choose(opened, words["bands"], words["columns"])
    return materialising.staleness(opened.root, opened.settings, choice=choice).up_to_date
