"""The reference page of a release: its tables, and of each what the contract says of keys, places, deliveries, columns.

Columns that differ in their band alone are one line, so that Object is 180 lines instead of 991.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from warehouse.contracts.contract import Column, Contract, DatasetType, Packed
from warehouse.contracts.release import Release

BANDS = "ugrizy"
CONTRACTS = """\
Names, types, units and UCDs are those of `lsst-sdm-schemas`; `tractlake columns TABLE` says what each column
means. A name with `{band}` stands for one column in each of the bands u, g, r, i, z, y, unless it names its bands."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; None is an empty cell."""
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for row in rows:
        cells = ["" if cell is None else str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def release(known: Release, title: str) -> str:
    """Return the page of a release: its sky map, and each table's key, position, order, deliveries and columns."""
    assigned = [c for c in known.tables.values() if c.dataset_types or c.generated or c.position]
    ours = list(known.derived.values()) if assigned else []
    listed = [c for c in known.tables.values() if c not in assigned]
    where = f"Its sky map is `{known.skymap}`." if known.skymap else "Its tables are listed only; none can be loaded."
    parts = [
        f"# {title}: `{known.name}`",
        f"{where} {CONTRACTS}",
    ]
    if assigned:
        parts.append(table(("table", "columns", "key", "tract and patch", "dataset types"), map(_overview, assigned)))
    for contract in [*assigned, *ours]:
        parts += _table_section(contract, ours=contract in ours)
    if listed:
        parts.append("## Further tables")
        parts.append("Published with the release; `Warehouse` lists their columns and does not load them.")
        parts.append(table(("table", "columns"), [(f"`{c.table}`", len(c.columns)) for c in listed]))
    return "\n\n".join(parts)


def _overview(contract: Contract) -> Sequence[object]:
    delivered = ", ".join(f"`{d.name}`" for d in contract.dataset_types)
    name = f"[{contract.table}](#{contract.table.lower()})"
    return name, len(contract.columns), _names(contract.key), _place(contract), delivered or _made(contract)


def _made(contract: Contract) -> str:
    """Return what a table is made of that no file delivers."""
    return {
        "CoaddPatches": "made from the sky map",
        "ObsCore": "made by `tractlake images register`",
        "ObjectTruth": "made by `tractlake materialise`",
    }.get(contract.table, "nothing")


def _table_section(contract: Contract, *, ours: bool) -> Iterator[str]:
    yield f"## {contract.table}"
    facts = {
        "key": _names(contract.key),
        "position": _names(contract.position or ()),
        "time": _names((contract.time,) if contract.time else ()),
        "tract and patch": _place(contract),
        "rows within a patch, by": _names(contract.cluster_by),
        "delivered as": "; ".join(map(_delivered, contract.dataset_types)) or _made(contract),
        "refers to": "; ".join(f"`{k.column}` to {k.table} `{k.references}`" for k in contract.foreign_keys),
        "null is also written": "; ".join(f"`{n}`: {', '.join(map(str, v))}" for n, v in contract.null_values.items()),
        "made where a file lacks them": "; ".join(f"`{name}` = `{sql}`" for name, sql in contract.derive.items()),
        "left out of files": _names(contract.ignore),
        "set aside": "; ".join(
            f"`{s.rule}`: `{s.where or 'all but the first by ' + ', '.join(s.best)}`" for s in contract.set_aside
        ),
    }
    if ours:
        yield f"tractlake's own table. {contract.description}."
    yield "\n".join(f"- {name}: {said}" for name, said in facts.items() if said)
    yield table(("column", "type", "unit", "UCD"), families(contract.columns))


def _place(contract: Contract) -> str:
    if contract.assignment == "through" and contract.through is not None:
        return f"those of its {contract.through.table} row"
    return {"declared": "its own", "derived": "from the position"}.get(contract.assignment, "not partitioned")


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _delivered(dataset_type: DatasetType) -> str:
    """Return a dataset type with its dimensions, and where rows tell their values if not in a column of that name."""
    told = {name: packed for name, packed in dataset_type.where.items() if packed.column != name or packed.divide != 1}
    notes = "; ".join(f"{name} = `{_formula(packed)}`" for name, packed in told.items())
    dimensions = ", ".join(dataset_type.dimensions) or "one file"
    return f"`{dataset_type.name}` ({dimensions}{'; ' if notes else ''}{notes})"


def _formula(packed: Packed) -> str:
    divided = f"{packed.column} // {packed.divide}" if packed.divide != 1 else packed.column
    return divided if packed.modulo is None else f"{divided} % {packed.modulo}"


def families(columns: Sequence[Column]) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield name, type, unit and UCD of columns in their order, those that differ in the band alone as one.

    A family is the columns that are alike but for a band letter that stands by itself between underscores, in the name
    as in the UCD; it stands where its first column does.
    """
    grouped: dict[tuple[str, str, str | None], list[Column]] = {}
    for column in columns:
        grouped.setdefault((_banded(column.name), column.datatype, column.unit), []).append(column)
    for (name, datatype, unit), family in grouped.items():
        ucd = sorted({re.sub(r"em\.\w+\.[A-Z0-9]\b", "em.opt.{BAND}", c.ucd or "") for c in family})
        if len(family) == 1:
            yield f"`{family[0].name}`", datatype, unit, family[0].ucd
            continue
        bands = "".join(sorted((_band(column.name) for column in family), key=BANDS.index))
        told = "" if bands == BANDS else f" ({', '.join(bands)})"
        yield f"`{name}`{told}", datatype, unit, " or ".join(u for u in ucd if u)


def _band(name: str) -> str:
    found = re.search(rf"(?:^|_)([{BANDS}])(?=_|$)", name)
    return found[1] if found else ""


def _banded(name: str) -> str:
    return re.sub(rf"(^|_)[{BANDS}](?=_|$)", r"\1{band}", name, count=1)
