"""What `import warehouse` and its first lines load, seen from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each costs its user a tenth of a second to several seconds, and a query needs none of them.
HEAVY = {
    "astropy",
    "botocore",
    "fastapi",
    "felis",
    "lsst",
    "matplotlib",
    "mocpy",
    "pandas",
    "prefect",
    "scipy",
    "sqlalchemy",
}


def loaded_by(statement):
    program = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(outcome.stdout))


@pytest.mark.parametrize("statement", ["import warehouse", "from warehouse import Box, Cone, Polygon, Warehouse"])
def test_importing_the_library_loads_nothing_heavy(statement):
    loaded = loaded_by(statement)
    assert "warehouse" in loaded
    assert loaded & HEAVY == set()


def test_a_heavy_import_would_be_seen():
    assert "astropy" in loaded_by("import warehouse, astropy.units")
