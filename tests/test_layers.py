"""The layers hold, and the tool that says so would notice if they did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "warehouse")

FORBIDDEN = [
    ("tasks/wrong.py", "import flows", "flows say when"),
    ("warehouse/storage.py", "import tasks", "flows say when"),
    ("warehouse/errors.py", "import warehouse.config", "only upwards"),
    ("warehouse/contracts/wrong.py", "import warehouse.lake", "only upwards"),
    ("warehouse/readers/wrong.py", "from warehouse import simulate", "only upwards"),
    ("warehouse/ingest/wrong.py", "import warehouse.query", "only upwards"),
    ("warehouse/truth/wrong.py", "import warehouse.api", "only upwards"),
    ("warehouse/attic.py", "", "only upwards"),
    ("warehouse/lake/wrong.py", "def late():\n    from prefect import task", "knows no Prefect"),
    ("flows/wrong.py", "import polars", "no data frames"),
    ("tasks/wrong.py", "import pyarrow", "no data frames"),
    ("warehouse/lake/wrong.py", "import deltalake", "only lake.delta"),
    ("warehouse/query/wrong.py", "from deltalake import DeltaTable", "only lake.delta"),
]


def lint_imports(folder):
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_goes_upwards():
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(("path", "statement", "contract"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(project, path, statement, contract):
    with (project / path).open("a", encoding="utf-8") as module:
        module.write(f"\n{statement}\n")
    outcome = lint_imports(project)
    broken = [line for line in outcome.stdout.splitlines() if " BROKEN" in line]
    assert outcome.returncode != 0
    assert any(contract in line for line in broken), outcome.stdout + outcome.stderr
