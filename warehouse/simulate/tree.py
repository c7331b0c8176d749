"""The tree that a Butler's file store is: paths from data ids, and Parquet as pandas writes it.

What the rows are is nobody's business here. Imports storage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.config import Settings
from warehouse.faults import translated
from warehouse.storage import filesystem

DataId = Mapping[str, int | str]

# A file store's path and file name hold these data-id values, in this order, where the dataset type has them.
_FOLDERS = ("tract", "patch", "day_obs", "band", "physical_filter", "visit")
_NAMES = ("instrument", "tract", "patch", "band", "physical_filter", "visit", "detector", "skymap")
_NOT_IN_A_NAME = re.compile(r"[^\w-]")
# What pandas writes for the metadata of its types.
_PANDAS_TYPES = {"double": "float64", "float": "float32", "string": "unicode", "timestamp[ns]": "datetime"}


def butler_path(run: str, dataset_type: str, data_id: DataId) -> str:
    """Return a dataset's path below the repository's root, as Rubin's file stores name it.

    Parameters
    ----------
    run
        The RUN collection, such as ``2.2i/runs/DP0.2/v23``.
    data_id
        Values by dimension; ``detector`` is the name that file names carry (R22_S11).
    """
    folders = [run, dataset_type, *(str(data_id[name]) for name in _FOLDERS if name in data_id)]
    words = [dataset_type, *(str(data_id[name]) for name in _NAMES if name in data_id), run]
    return "/".join([*folders, "_".join(_NOT_IN_A_NAME.sub("_", word) for word in words) + ".parq"])


def write_parquet(
    uri: str,
    pieces: Iterable[pa.Table],
    settings: Settings,
    *,
    index: str | None = None,
    row_group_bytes: int = 128 << 20,
    order: np.random.Generator | None = None,
) -> tuple[int, int]:
    """Write one file as DP0.2's pandas did, and return its rows and bytes.

    Uncompressed; pieces are gathered into row groups of about `row_group_bytes`; the column `index` becomes the
    pandas index and stands last; `order` permutes the others, because the column order of real files differs.

    Parameters
    ----------
    pieces
        At least one, all of the same columns; consumed one by one, so that a large file need not fit in memory.
    """
    groups = _groups(pieces, row_group_bytes)
    first = next(groups)
    if index is None:
        # A range index holds the number of rows, which must be known before the first byte is written.
        first = pa.concat_tables([first, *groups])
    places = [place for place, name in enumerate(first.column_names) if name != index]
    if order is not None:
        places = order.permutation(places).tolist()
    places += [first.column_names.index(index)] if index is not None else []
    schema = pa.schema([first.schema.field(place) for place in places])
    schema = schema.with_metadata({"pandas": _pandas_metadata(schema, index, first.num_rows)})
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    rows = 0
    with translated(uri, "writing"):
        fs, path = filesystem(uri, settings)
        with suppress(FileExistsError):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        # Dictionaries of floats cost seconds and are given up in the end.
        with (
            fs.open(path, "wb") as file,
            pq.ParquetWriter(file, schema, compression="none", use_dictionary=texts or False) as writer,
        ):
            for group in _chain(first, groups):
                ordered = pa.Table.from_arrays([group.column(place) for place in places], schema=schema)
                writer.write_table(ordered, row_group_size=max(1, group.num_rows))
                rows += group.num_rows
            writer.close()
            size = file.tell()
    return rows, size


def _chain(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


def _groups(pieces: Iterable[pa.Table], row_group_bytes: int) -> Iterator[pa.Table]:
    """Yield tables of at least `row_group_bytes`, but for the last; at least one table, may it be empty."""
    waiting: list[pa.Table] = []
    held = 0
    yielded = False
    for piece in pieces:
        waiting.append(piece)
        held += piece.nbytes
        if held >= row_group_bytes:
            yield pa.concat_tables(waiting)
            waiting, held, yielded = [], 0, True
    if waiting and (not yielded or sum(piece.num_rows for piece in waiting)):
        yield pa.concat_tables(waiting)


def _pandas_metadata(schema: pa.Schema, index: str | None, rows: int) -> str:
    """Return what pandas writes into the schema's metadata, and reads to restore the index."""
    ranged = {"kind": "range", "name": None, "start": 0, "stop": rows, "step": 1}
    text = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    return json.dumps(
        {
            "index_columns": [index if index is not None else ranged],
            "column_indexes": [{**text, "metadata": {"encoding": "UTF-8"}}],
            "columns": [_described(field) for field in schema],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "1.4.2",
        }
    )


def _described(field: pa.Field) -> dict[str, str | None]:
    word = str(field.type)
    numpy_type = "object" if word == "string" else "datetime64[ns]" if "timestamp" in word else _pandas_type(word)
    return {
        "name": field.name,
        "field_name": field.name,
        "pandas_type": _pandas_type(word),
        "numpy_type": numpy_type,
        "metadata": None,
    }


def _pandas_type(word: str) -> str:
    return _PANDAS_TYPES.get(word, word)
