"""A release's contracts: its published schema, completed by our own short file beside this module.

A release file (``dp02.toml``) names the published `schema`, the `skymap` and the `instrument`, and has one table
for each table that it completes, with these fields:

key, position, time
    columns; the key only where the release publishes none
assignment
    declared | derived | through | none, and for the third `through`: the foreign key to follow
dataset_types
    in order of preference: name, dimensions, and `where` the rows tell a dimension's value: a column's name, or
    {column, divide, modulo, none} of `Packed`
foreign_keys
    {column = {none = values that refer to nothing}} for a published one, {table, references, none} for another
cluster_by
    the order of rows within a patch
statistics
    columns that get file statistics besides key, position, time, foreign keys and input_id
null_values, derive, ignore, set_aside, generated
    as in `Contract`
extra
    columns beyond the published ones: name, datatype, unit, ucd, description

Every name is checked when a release is loaded. A table that the file leaves out is listed, not assigned.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn, get_args

from warehouse.contracts.contract import (
    INPUT_ID,
    PATCH,
    TRACT,
    Assignment,
    Column,
    Contract,
    DatasetType,
    ForeignKey,
    Packed,
    SetAside,
)
from warehouse.contracts.published import PublishedTable, arrow_type, published
from warehouse.errors import ContractError, NotFoundError, near_misses

Spec = Mapping[str, Any]

FOLDER = Path(__file__).parent
FIELDS = frozenset(
    {"key", "position", "time", "assignment", "through", "dataset_types", "foreign_keys", "cluster_by", "statistics"}
    | {"null_values", "derive", "ignore", "set_aside", "generated", "extra"}
)


@dataclass(frozen=True)
class Release:
    """A release: its sky map, its instrument, and the contracts of its tables in published order.

    `skymap` is None where the release's sky map is unknown here; such a release can be listed only.
    """

    name: str
    skymap: str | None
    instrument: str
    tables: Mapping[str, Contract]

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Tables so that each follows those that it refers to; unpartitioned ones as early as they can."""
        waiting = sorted(self.tables, key=lambda name: self.tables[name].partitioned)
        done: list[str] = []
        while waiting:
            ready = (name for name in waiting if all(to in done for to in _refers_to(self.tables[name])))
            name = next(ready, None)
            if name is None:
                raise ContractError(f"tables refer to each other in a circle: {', '.join(waiting)}", uri=self.name)
            waiting.remove(name)
            done.append(name)
        return tuple(done)

    @cached_property
    def every(self) -> Mapping[str, Contract]:
        """The contracts of all tables by name: the release's in `order`, then our own."""
        return {**{name: self.tables[name] for name in self.order}, **self.derived}

    @cached_property
    def derived(self) -> Mapping[str, Contract]:
        """The contracts of our own tables, which are made of the release's (`warehouse.contracts.derived`)."""
        from warehouse.contracts.derived import derived

        return derived(self)

    @cached_property
    def dataset_types(self) -> Mapping[str, tuple[Contract, DatasetType]]:
        """The dataset types that deliver tables, by name, each with its table's contract."""
        return {d.name: (contract, d) for contract in self.tables.values() for d in contract.dataset_types}

    def contract(self, table: str) -> Contract:
        """Return the contract of `table`, a published one or one that is derived from them.

        Raises
        ------
        NotFoundError
            The release has no such table; the message names the near misses.
        """
        found = self.tables.get(table) or self.derived.get(table)
        if found is None:
            hint = near_misses(table, self.every)
            raise NotFoundError(f"{self.name} has no table {table!r}; {hint}", kind="table")
        return found


@cache
def load(release: str) -> Release:
    """Return the release called `release`: ``dp02``, ``dp1`` or ``dp2``.

    The first time on a machine this reads the published YAML (about a second), afterwards a cache on disk (some
    milliseconds), and within a process always the same object.

    Raises
    ------
    NotFoundError
        No such release; the message names the near misses.
    ContractError
        The published schema and our release file contradict each other.
    """
    files = {path.stem: path for path in FOLDER.glob("*.toml")}
    if release not in files:
        raise NotFoundError(f"no release {release!r}; {near_misses(release, files)}", kind="release")
    return read(files[release])


def read(path: Path) -> Release:
    """Return the release that a release file describes; the file's stem is its name.

    Raises
    ------
    ContractError
        The file is no TOML, or names what its published schema lacks; the message says where.
    """
    try:
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"the release file is no TOML: {error}", uri=path.name) from error
    words = {name: value for name, value in spec.items() if not isinstance(value, dict)}
    top = _Place(path.name)
    top.known("field", words, ("schema", "skymap", "instrument"))
    tables = {table.name: table for table in published(str(words.get("schema")))}
    top.known("table", [name for name in spec if name not in words], tables)
    contracts = {
        name: _contract(path.stem, table, spec.get(name, {}), _Place(path.name, name)) for name, table in tables.items()
    }
    for contract in contracts.values():
        _check(contract, contracts, _Place(path.name, contract.table))
    release = Release(path.stem, words.get("skymap"), str(words.get("instrument", "")), contracts)
    _ = release.order  # refuses a circle now rather than in the middle of an ingest
    return release


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a release file we are, to say so when something is wrong there."""

    file: str
    table: str | None = None

    def refuse(self, field: str, message: str) -> NoReturn:
        raise ContractError(f"{field}: {message}", kind="release_file", table=self.table, uri=self.file)

    def known(self, field: str, names: Iterable[str], candidates: Iterable[str]) -> None:
        """Refuse a name that is not among the candidates."""
        candidates = tuple(candidates)
        for name in names:
            if name not in candidates:
                self.refuse(field, f"{name!r} is unknown; {near_misses(str(name), candidates)}")

    def names(self, field: str, value: object) -> tuple[str, ...]:
        """Return a list of strings as a tuple; refuse anything else."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.refuse(field, f"expected a list of strings, found {value!r}")
        return tuple(value)

    def numbers(self, field: str, value: object) -> tuple[int, ...]:
        """Return a list of integers as a tuple; refuse anything else."""
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            self.refuse(field, f"expected a list of integers, found {value!r}")
        return tuple(value)

    def record(self, field: str, value: object, allowed: Sequence[str]) -> Spec:
        """Return a TOML table whose fields are all allowed; refuse anything else."""
        if not isinstance(value, dict):
            self.refuse(field, f"expected a table, found {value!r}")
        self.known(field, value, allowed)
        return value


def _contract(release: str, table: PublishedTable, spec: Spec, place: _Place) -> Contract:
    """Return the contract of a published table and its entry in the release file."""
    place.known("field", spec, FIELDS)
    assignment: Assignment = spec.get("assignment", "none")
    place.known("assignment", [assignment], get_args(Assignment))
    columns = table.columns + tuple(_extra(entry, place) for entry in spec.get("extra", ()))
    position = place.names("position", spec.get("position", []))
    if len(position) not in {0, 2}:
        place.refuse("position", f"expected the columns of RA and Dec, found {list(position)}")
    key = place.names("key", spec["key"]) if "key" in spec else table.key
    foreign_keys = _foreign_keys(table, spec.get("foreign_keys", {}), place)
    derive = place.record("derive", spec.get("derive", {}), [c.name for c in columns])
    null_values = place.record("null_values", spec.get("null_values", {}), [c.name for c in columns])
    return Contract(
        release=release,
        table=table.name,
        description=table.description,
        columns=columns,
        key=key,
        position=(position[0], position[1]) if position else None,
        assignment=assignment,
        through=_through(spec.get("through"), assignment, foreign_keys, place),
        dataset_types=tuple(_dataset_type(entry, place) for entry in spec.get("dataset_types", ())),
        generated=spec.get("generated", False),
        foreign_keys=foreign_keys,
        set_aside=tuple(_set_aside(entry, place) for entry in spec.get("set_aside", ())),
        cluster_by=place.names("cluster_by", spec.get("cluster_by", [])),
        statistics=_statistics(key, position, foreign_keys, spec, place),
        null_values={name: place.numbers("null_values", values) for name, values in null_values.items()},
        derive=dict(derive),
        ignore=place.names("ignore", spec.get("ignore", [])),
        time=spec.get("time"),
    )


def _extra(entry: object, place: _Place) -> Column:
    spec = place.record("extra", entry, ("name", "datatype", "unit", "ucd", "description"))
    if not {"name", "datatype"} <= set(spec):
        place.refuse("extra", f"expected at least name and datatype, found {dict(spec)}")
    description = spec.get("description", "")
    try:
        arrow = arrow_type(spec["datatype"], description)
    except ContractError as error:
        place.refuse("extra", f"{spec['name']}: {error.message}")
    return Column(spec["name"], spec["datatype"], arrow, spec.get("unit"), spec.get("ucd"), description)


def _foreign_keys(table: PublishedTable, entries: object, place: _Place) -> tuple[ForeignKey, ...]:
    """Return the published foreign keys with their empty values, then those that the release file adds."""
    links = {link.column: link for link in table.foreign_keys}
    for column, entry in place.record("foreign_keys", entries, [c.name for c in table.columns]).items():
        spec = place.record("foreign_keys", entry, ("table", "references", "none"))
        none = place.numbers("foreign_keys", spec.get("none", []))
        if {"table", "references"} <= set(spec):
            links[column] = ForeignKey(column, spec["table"], spec["references"], none)
        elif column in links:
            links[column] = ForeignKey(column, links[column].table, links[column].references, none)
        else:
            place.refuse("foreign_keys", f"{column} has none that is published: name its table and references")
    return tuple(links.values())


def _through(
    column: str | None, assignment: Assignment, foreign_keys: Sequence[ForeignKey], place: _Place
) -> ForeignKey | None:
    """Return the foreign key through which rows get tract and patch, for the assignment that needs one."""
    if (assignment == "through") != (column is not None):
        place.refuse("through", f"goes with assignment 'through' and no other, found {column!r} and {assignment!r}")
    if column is None:
        return None
    links = {link.column: link for link in foreign_keys}
    place.known("through", [column], links)
    return links[column]


def _dataset_type(entry: object, place: _Place) -> DatasetType:
    spec = place.record("dataset_types", entry, ("name", "dimensions", "where"))
    name = spec.get("name")
    if not isinstance(name, str):
        place.refuse("dataset_types", f"expected a name, found {dict(spec)}")
    dimensions = place.names("dataset_types", spec.get("dimensions"))
    where = place.record("dataset_types", spec.get("where", {}), dimensions)
    return DatasetType(name, dimensions, {dimension: _packed(value, place) for dimension, value in where.items()})


def _packed(value: object, place: _Place) -> Packed:
    if isinstance(value, str):
        return Packed(value)
    spec = place.record("where", value, ("column", "divide", "modulo", "none"))
    if "column" not in spec:
        place.refuse("where", f"expected a column, found {dict(spec)}")
    none = place.numbers("where", spec.get("none", []))
    return Packed(spec["column"], spec.get("divide", 1), spec.get("modulo"), none)


def _set_aside(entry: object, place: _Place) -> SetAside:
    spec = place.record("set_aside", entry, ("rule", "where", "best"))
    if "rule" not in spec or ("where" in spec) == ("best" in spec):
        place.refuse("set_aside", f"expected a rule and either where or best, found {dict(spec)}")
    return SetAside(spec["rule"], spec.get("where"), place.names("best", spec.get("best", [])))


def _statistics(
    key: Iterable[str], position: Iterable[str], foreign_keys: Iterable[ForeignKey], spec: Spec, place: _Place
) -> tuple[str, ...]:
    """Return the columns that get file statistics: what rows are looked up by, each once."""
    time = [spec["time"]] if "time" in spec else []
    more = place.names("statistics", spec.get("statistics", []))
    names = [*key, *position, *time, *(link.column for link in foreign_keys), *more, INPUT_ID]
    return tuple(dict.fromkeys(names))


def _check(contract: Contract, contracts: Mapping[str, Contract], place: _Place) -> None:
    """Refuse a contract that names a column or a table which does not exist, or lacks what its assignment needs."""
    columns = contract.by_name
    place.known("key", contract.key, columns)
    place.known("position", contract.position or (), columns)
    place.known("time", [contract.time] if contract.time else (), columns)
    place.known("cluster_by", contract.cluster_by, columns)
    in_file = [name for name in (*columns, INPUT_ID) if name not in contract.partition_by]
    place.known("statistics", contract.statistics, in_file)
    for dataset_type in contract.dataset_types:
        place.known(f"dataset_types {dataset_type.name}", [p.column for p in dataset_type.where.values()], columns)
    for link in contract.foreign_keys:
        place.known("foreign_keys", [link.column], columns)
        place.known("foreign_keys", [link.table], contracts)
        place.known(f"foreign_keys {link.table}", [link.references], contracts[link.table].by_name)
    if both := set(contract.ignore) & set(columns):
        place.refuse("ignore", f"{', '.join(sorted(both))} belongs to the table")
    if contract.assignment == "declared":
        place.known("assignment declared", (TRACT, PATCH), columns)
    if contract.assignment == "derived" and contract.position is None:
        place.refuse("position", "assignment 'derived' needs one")
    if contract.dataset_types and not contract.key:
        place.refuse("key", "a table that is ingested needs one, and none is published")
    for other in contracts.values():
        twice = {d.name for d in contract.dataset_types} & {d.name for d in other.dataset_types}
        if other is not contract and twice:
            place.refuse("dataset_types", f"{', '.join(sorted(twice))} also delivers {other.table}")


def _refers_to(contract: Contract) -> set[str]:
    return {link.table for link in contract.foreign_keys} - {contract.table}
