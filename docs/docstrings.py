"""Docstrings as Markdown, for the reference page of the library.

Here belongs what numpy's style and Python's signatures mean; which things are shown is told by ``generate.py``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

LINE = 100
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ELSEWHERE = re.compile(r"[;,:]? [Ss]ee `(warehouse(?:\.\w+)+)`(?=[.;,])")
_ORDER = ("Attributes", "Parameters", "Returns", "Raises")


def documented(name: str, thing: Any, elsewhere: Any = None) -> Iterator[str]:  # noqa: ANN401 - anything with a docstring
    """Yield heading, call and docstring of one thing that is called as `name`, and what is said `elsewhere`."""
    yield f"### {name.removeprefix('wh.')}"
    if isinstance(thing, property):
        yield f"```text\n{name}\n```"
        thing = thing.fget
    else:
        thing = getattr(thing, "__func__", thing)
        yield f"```text\n{call(name, thing)}\n```"
    doc = inspect.getdoc(thing) or ""
    text, own = sections(_ELSEWHERE.sub("", doc))
    yield text
    for place in _ELSEWHERE.findall(doc):
        module, _, other = place.rpartition(".")
        own = sections(inspect.getdoc(getattr(import_module(module), other)) or "")[1] | own
    if elsewhere is not None:
        more, theirs = sections(inspect.getdoc(elsewhere) or "")
        yield from more.split("\n\n")[1:]
        own = theirs | own
    for title in sorted(own, key=_ORDER.index):
        yield f"*{title}*\n\n{own[title]}"


def call(name: str, thing: Any) -> str:  # noqa: ANN401 - a function or class
    """Return a call with the names, types and defaults of its arguments, and what comes back."""
    signature = inspect.signature(thing)
    words: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in "".join(words):
            words.append("*")
        if parameter.name not in {"self", "cls"}:
            words.append(_argument(parameter))
    back = "" if inspect.isclass(thing) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(words)}){back}"
    return line if len(line) < LINE else f"{name}(\n    " + ",\n    ".join(words) + f",\n){back}"


def _argument(parameter: inspect.Parameter) -> str:
    marks: dict[object, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    written = f"{marks.get(parameter.kind, '')}{parameter.name}: {parameter.annotation}"
    if parameter.default is parameter.empty:
        return written
    default = parameter.default
    shown = default.__name__ if callable(default) else repr(default)
    return f"{written} = {'...' if shown.startswith('<') else shown}"


def sections(doc: str) -> tuple[str, dict[str, str]]:
    """Return a numpy-style docstring as Markdown: its text, and a list for each section but examples."""
    text, *rest = _SECTION.split(doc)
    listed = {}
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        if title in _ORDER:
            entries = re.findall(r"^(\S.*)\n((?:    .*\n?|\n)*)", f"{body}\n", re.MULTILINE)
            lines = [f"- `{entry}`: {' '.join(said.split())}" if said.strip() else entry for entry, said in entries]
            listed[title] = _code("\n".join(lines))
    return _code(text.strip()), listed


def _code(text: str) -> str:
    return re.sub(r"``([^`]*)``", r"`\1`", text)
