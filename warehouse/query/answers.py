"""What goes wrong while a lazy frame's rows are read or written, in our words: the store, a file, or the question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from polars.exceptions import PolarsError

from warehouse.errors import InputError, QueryError
from warehouse.faults import translated


@contextmanager
def answered(uri: str, doing: str = "reading") -> Iterator[None]:
    """Translate what is raised in the block, in which rows of a table at `uri` are read, or written to it.

    Raises
    ------
    InputError
        A file of the table is gone (kind ``vanished``) or damaged (``unreadable``).
    StorageError
        The store fails.
    QueryError
        The question itself is wrong, which shows only at its rows: a number held against a text.
    """
    try:
        with translated(uri, doing):
            try:
                yield
            except FileNotFoundError as error:
                if doing != "reading":
                    raise
                message = f"a file is gone ({first_line(error)}); versions that maintain has cleared away have none"
                raise InputError(message, kind="vanished", uri=uri) from error
    except PolarsError as error:
        said = first_line(error)
        if said.startswith("parquet:"):
            raise InputError(f"a file is damaged: {said}", uri=uri) from error
        raise QueryError(f"the rows cannot be made ({doing}): {said}", kind="rows", uri=uri) from error


def collected(frame: pl.LazyFrame, uri: str) -> pl.DataFrame:
    """Return the rows of a lazy frame, with what can go wrong translated (see `answered`)."""
    with answered(uri):
        return frame.collect()


def first_line(error: Exception) -> str:
    """Return what Polars says is wrong, without the plan that it prints below."""
    return str(error).split("\n", 1)[0]
