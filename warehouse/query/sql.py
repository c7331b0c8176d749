"""SQL over the warehouse's tables: Polars' dialect, read only.

Only the tables that a query names are opened. ADQL, with its geometry, is another language and gets a module beside
this one; its translation can end in a call of `query`.
"""

from __future__ import annotations

import re

import polars as pl
from polars.exceptions import PolarsError

from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.query.answers import first_line
from warehouse.query.scan import read
from warehouse.query.tables import Tables, Version

# In one pass, because each of the three may hold what would begin another: "-- the reader's choice".
_TOKENS = re.compile(r"""(--[^\n]*|/\*.*?\*/)|('(?:[^']|'')*')|"[^"]*"|`[^`]*`""", re.DOTALL)
_FILES = re.compile(r"\b(?:read|scan)_\w+\s*\(", re.IGNORECASE)  # Polars' functions that read any file
_WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What Polars says of a query, in the first line of an error; below it stands its whole plan.
_NO_TABLE = re.compile(r"relation '([^']*)' was not found")
_NO_COLUMN = re.compile(r"""(?:unable to find column|no column named) ["']([^"']+)["']""")
_COLUMNS = re.compile(r"valid columns: \[(.*)\]")
_GEOMETRY = re.compile(r"(?i)unsupported function '(contains|intersects|point|circle|box|polygon|distance)'")
_INSTEAD = "; geometry is asked of scan, as in wh.scan(table, Cone(ra, dec, radius))"


def query(tables: Tables, sql: str, *, version: Version | None = None) -> pl.LazyFrame:
    """Return the answer to a query as a LazyFrame; files and rows are left out as its conditions allow.

    Conditions on tract and patch leave out files, two-sided ones on positions and ids row groups.

    Parameters
    ----------
    sql
        One SELECT, or WITH ... SELECT, in Polars' dialect; tables by their names.
    version
        A moment or a pinned release's name, for all tables; a version's number where the query names one table.

    Raises
    ------
    QueryError
        Not a query, or outside of what Polars' SQL can do.
    NotFoundError
        No such table or column; with the near misses.
    """
    plain = _TOKENS.sub(_without, sql).strip()
    if not re.match(r"\(*\s*(SELECT|WITH)\b", plain, re.IGNORECASE):
        raise QueryError(f"expected a query, SELECT or WITH ... SELECT, found {sql[:60]!r}", kind="sql")
    if outside := _FILES.search(plain):
        raise QueryError(f"expected tables of the warehouse, found a file: {outside.group()}...", kind="sql")
    named = [name for name in dict.fromkeys(_WORDS.findall(plain)) if name in tables.contracts]
    if isinstance(version, int) and len(named) > 1:
        message = f"version {version} counts one table's versions, and the query names {', '.join(named)}"
        raise QueryError(message, kind="sql")
    opened = {name: tables.loaded(name, version) for name in named}
    known = {name: read(table, table.files) for name, table in opened.items() if table is not None}
    try:
        answer = pl.SQLContext(known, eager=False).execute(sql)
        answer.collect_schema()
    except PolarsError as error:
        raise _refused(tables, named, error) from error
    return answer


def _without(token: re.Match[str]) -> str:
    """Return a token as the tables' names are looked for in it: no comments, empty texts, quoted names as they are."""
    comment, text = token.groups()
    return " " if comment else "''" if text else token.group()


def _refused(tables: Tables, named: list[str], error: PolarsError) -> QueryError | NotFoundError:
    """Return what is wrong with a query: a table or column that there is not, a table that holds nothing, its words."""
    said = first_line(error)
    if column := _NO_COLUMN.search(said):
        there = _COLUMNS.search(said)
        own = (name for table in named for name in tables.contract(table).arrow_schema.names)
        known = set(re.findall(r'"([^"]+)"', there.group(1)) if there else own) - {column.group(1)}
        return NotFoundError(f"no column {column.group(1)!r}; {near_misses(column.group(1), known)}", kind="column")
    if (table := _NO_TABLE.search(said)) is None:
        hint = _INSTEAD if _GEOMETRY.search(said) else ""
        return QueryError(f"the query is not understood: {said}{hint}", kind="sql")
    name = table.group(1)
    if name in tables.contracts:
        return NotFoundError("nothing has been loaded into this table", kind="table", table=name, uri=tables.root.uri)
    return NotFoundError(f"no table {name!r}; {near_misses(name, tables.contracts)}", kind="table")
