"""Write the reference pages from the code: ``python docs/generate.py``; a test compares them with what stands there.

Commands come from the command line itself, settings from `Settings`, errors and rules from where they are raised, and
contracts from the releases. What a column means is told by the release's own documentation, by `tractlake columns` and
by the warehouse; the pages keep names, types, units and UCDs.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.core
import typer.main
from pydantic import AliasChoices

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.contract_pages import release, table  # noqa: E402
from docs.docstrings import documented  # noqa: E402
from flows import cli  # noqa: E402
from warehouse import Warehouse, contracts, errors  # noqa: E402
from warehouse.config import Settings  # noqa: E402
from warehouse.ingest.rules import RULES  # noqa: E402
from warehouse.query import catalogue, expr, scan, skyinfo, sql  # noqa: E402
from warehouse.sky import regions  # noqa: E402
from warehouse.truth.photoz import Selection  # noqa: E402

REFERENCE = Path("docs/reference")
RELEASES = {"dp02": "Data Preview 0.2", "dp1": "Data Preview 1", "dp2": "Data Preview 2"}
BANNER = "<!-- written by docs/generate.py; do not edit -->"

COMMANDS = """\
A command has the name of the method of `Warehouse` that does the same. `--warehouse` may be left out where the variable
`TRACTLAKE_WAREHOUSE` is set, and with `--json` a command answers in JSON. Exit codes: [errors](errors.md). What all
commands share: [settings](settings.md)."""
PYTHON = """\
The two lines that begin everything:

```python
from warehouse import Box, Cone, Polygon, Warehouse

wh = Warehouse.open("demo/warehouse")
```

Angles are degrees, fluxes nJy, unless a name says otherwise. What an error means: [errors](errors.md). A command of
[tractlake](command-line.md) has the name of the verb that it is."""
SETTINGS = """\
Given as variables of the environment, of which the first in a cell that is set counts, or in Python as
`Warehouse.open(uri, settings=Settings(memory="8GiB"))` with `from warehouse.config import Settings`. `--memory` and
`--workers` of the commands go before the variables. Examples: [deploy/examples](../../deploy/examples/).
How to reach a store: [S3 and credentials](../how-to/s3-and-credentials.md)."""
ERRORS = """\
An error's class says what to do about it. All derive from `warehouse.errors.WarehouseError` and carry `.kind`, a short
word for programs, `.table` and `.uri`; the message names what was expected and what was found. A command ends with the
class's exit code, with 0 where all is well, and with 130 or 143 where it was interrupted. An ingest that refuses inputs
commits the others and exits with 3."""
RULED = """\
A row that breaks a rule goes into the quarantine with the rule's name; see
[bad input and quarantine](../how-to/bad-input-and-quarantine.md). A table may have rules of its own: they stand with
the table in [contracts](contracts/dp02.md)."""


def pages() -> dict[Path, Callable[[], str]]:
    """Return what makes the text of every generated page, by its path below the project's folder."""
    return {
        REFERENCE / "command-line.md": command_line,
        REFERENCE / "python.md": python,
        REFERENCE / "settings.md": settings,
        REFERENCE / "errors.md": failures,
        **{REFERENCE / "contracts" / f"{name}.md": _release_page(name) for name in RELEASES},
    }


def written(make: Callable[[], str]) -> str:
    """Return a page as it is written."""
    return f"{BANNER}\n\n{make().rstrip()}\n"


def _release_page(name: str) -> Callable[[], str]:
    return lambda: release(contracts.load(name), RELEASES[name])


# ---------------------------------------------------------------------------------------------------- command line


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command's words, such as ``tractlake images show``, and the command, groups left out."""
    yield from _commands("tractlake", typer.main.get_command(cli.app))


def _commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - Typer's own click
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from _commands(f"{words} {name}", inner)


def command_line() -> str:
    """Return the page of commands: usage, arguments, options, defaults and variables of each."""
    parts = [
        "# Command line",
        COMMANDS,
    ]
    found = list(commands())
    parts.append("\n".join(f"- [`{words}`](#{words.replace(' ', '-')}): {_first(c.help)}" for words, c in found))
    for words, command in found:
        parts += [f"## {words}", _prose(command.help)]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join([words, "[OPTIONS]", *map(_argument, arguments)])
        parts += [f"```text\n{usage}\n```", table(("parameter", "meaning"), map(_parameter, command.params))]
    return "\n\n".join(parts)


def _first(text: str | None) -> str:
    return _prose(text or "").split("\n\n", 1)[0]


def _prose(text: str) -> str:
    """Return a help text as paragraphs; an example becomes a line of code."""
    paragraphs = [" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n")]
    return "\n\n".join(re.sub(r"^For example: (.*)$", r"For example: `\1`", part) for part in paragraphs)


def _argument(parameter: Any) -> str:  # noqa: ANN401 - Typer's own click
    """Return an argument as a usage line has it."""
    name = (parameter.metavar or parameter.name.upper()).removeprefix("[").replace("]...", "...").rstrip("]")
    name = name if not (parameter.nargs == -1 and not name.endswith("...")) else f"{name}..."
    return name if parameter.required else f"[{name}]"


def _parameter(parameter: Any) -> tuple[str, str]:  # noqa: ANN401 - Typer's own click
    """Return how a parameter is written, and its meaning with default and variable."""
    if parameter.param_type_name == "argument":
        written = f"`{_argument(parameter)}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _value(parameter)}"
        names = (*reversed(parameter.opts), *parameter.secondary_opts)
        written = ", ".join(f"`{name}{value if name.startswith('--') else ''}`" for name in names)
    said = " ".join((parameter.help or "").split())
    notes = []
    if parameter.default is not None and not parameter.required and "[default:" not in said:
        default = parameter.default() if callable(parameter.default) else parameter.default
        if default not in (False, (), "") and parameter.name != "help":
            notes.append(f"Default: `{default}`.")
    if parameter.envvar:
        notes.append(f"Or the variable `{parameter.envvar}`.")
    if parameter.required and parameter.param_type_name != "argument":
        notes.append("Required.")
    said = re.sub(r"\s*\[default: ([^\]]*)\]", r" Default: \1.", said)
    return written, " ".join([said, *notes])


def _value(parameter: Any) -> str:  # noqa: ANN401 - Typer's own click
    """Return what stands for an option's value."""
    kinds: dict[type, str] = {int: "N", float: "X", Path: "PATH"}
    name = str(parameter.opts[0]).removeprefix("--").upper()
    return kinds.get(parameter.type_descriptor.annotation, name)


# ---------------------------------------------------------------------------------------------------------- Python

ELSEWHERE = {
    "dataset_types": catalogue.dataset_types,
    "data_ids": catalogue.data_ids,
    "files": scan.files,
    "sky_info": skyinfo.sky_info,
    "sql": sql.query,
}
"""Where the work of a verb is done, and its arguments are described."""
EXPRESSIONS = (expr.abmag, expr.abmag_err, expr.separation_arcsec, expr.healpix)
REGIONS = (regions.Cone, regions.Box, regions.Polygon)


def python() -> str:
    """Return the page of the library: the verbs of `Warehouse`, regions, expressions, as their docstrings have them."""
    rooms = (Warehouse, *Warehouse.__bases__)
    verbs = {name: verb for room in rooms for name, verb in vars(room).items() if not name.startswith("_")}
    parts = ["# Python", PYTHON, "## Warehouse"]
    for name, verb in verbs.items():
        called = f"Warehouse.{name}" if isinstance(verb, classmethod) else f"wh.{name}"
        parts += documented(called, verb, ELSEWHERE.get(name))
    things_of = {"Regions": REGIONS, "Cuts of a photo-z set": (Selection,), "Expressions": EXPRESSIONS}
    for heading, things in things_of.items():
        parts.append(f"## {heading}")
        for thing in things:
            parts += documented(thing.__name__, thing)
    return "\n\n".join(parts)


# -------------------------------------------------------------------------------------------------------- settings


def settings() -> str:
    """Return the page of settings: name, variables, default and meaning of each."""
    said = _attributes(Settings)
    rows = []
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [f"TRACTLAKE_{name.upper()}"]
        default = None if field.default_factory or field.default is None else f"`{field.default}`"
        rows.append((f"`{name}`", "<br>".join(f"`{variable}`" for variable in names), default, said[name]))
    return "\n\n".join(
        [
            "# Settings",
            SETTINGS,
            table(("setting", "variables", "default", "meaning"), rows),
        ]
    )


def _attributes(documented: type) -> Mapping[str, str]:
    """Return what the Attributes section of a class says, by name."""
    _, _, section = (inspect.getdoc(documented) or "").partition("Attributes\n----------\n")
    said = {}
    for names, text in re.findall(r"^(\w[\w, ]*)\n((?:    .*\n?)+)", section, re.MULTILINE):
        for name in names.split(", "):
            said[name] = re.sub(r"``([^`]*)``", r"`\1`", " ".join(text.split()))
    return said


# ---------------------------------------------------------------------------------------------------------- errors


def failures() -> str:
    """Return the page of errors: classes, remedies, exit codes, kinds; and the rules that set rows aside."""
    kinds = _kinds()
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.WarehouseError)]
    rows = []
    for found in classes[1:]:
        remedy = _first(found.__doc__)
        again = "yes" if found.retryable else "no"
        named = ", ".join(f"`{kind}`" for kind in sorted({*kinds[found.__name__], found.default_kind}))
        rows.append((f"`{found.__name__}`", found.exit_code, remedy, again, named))
    rules = [(f"`{name}`", _first(rule.__doc__)) for name, rule in RULES.items()]
    return "\n\n".join(
        [
            "# Errors, exit codes and rules",
            ERRORS,
            table(("class", "exit code", "meaning", "tried again", "kinds"), rows),
            "## Rules that set rows aside",
            RULED,
            table(("rule", "what it does"), rules),
        ]
    )


def _kinds() -> Mapping[str, set[str]]:
    """Return the kinds that each error class is raised with, as the library's text has them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "warehouse").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
                for word in node.keywords:
                    if word.arg == "kind" and isinstance(word.value, ast.Constant):
                        found[node.func.id].add(str(word.value.value))
    return found


def main() -> None:
    """Write all pages."""
    for path, make in pages().items():
        text = written(make)
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, "utf-8")
        print(f"{path}: {len(text):,} characters")


if __name__ == "__main__":
    main()
