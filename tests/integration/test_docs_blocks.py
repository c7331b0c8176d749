"""Every code block of README and docs runs, page by page, in a folder with a small demo, as a reader would run it."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pyarrow.parquet as pq
import pytest

from docs.blocks import BlockError, Session, blocks, pages, play
from support.butler import make_repository, put
from support.s3 import KEY_ID, SECRET, S3Server
from warehouse import Warehouse
from warehouse.config import Settings
from warehouse.simulate import simulate
from warehouse.simulate.images import simulate_images

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docs")]

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in pages(ROOT) if blocks(path.read_text("utf-8"))}
SETTINGS = Settings(workers=2, memory=1 << 30)

STANDING = {
    # The checkout, the environment and the demo are there; `make demo` has tests of its own.
    r"^(git clone|cd tractlake|make \w+|\. \.venv/).*$": ":",
    # The demo's sky has fewer sources here.
    r"objects=30_000": "objects=1_200, radius=0.2",
}
BUCKET = "survey"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """What `make demo` leaves, smaller: the same place on the sky, visits and ids of the same kind."""
    folder = tmp_path_factory.mktemp("docs") / "demo"
    simulate(str(folder / "inputs"), objects=1200, visits=6, radius=0.2, settings=SETTINGS)
    wh = Warehouse.create(str(folder / "warehouse"), settings=SETTINGS)
    wh.ingest_tree(str(folder / "inputs"))
    wh.materialise()
    draw = partial(simulate_images, str(folder / "images"), objects=1200, radius=0.2, settings=SETTINGS)
    draw(visits=6, dataset_types=["deepCoadd"], patches=1, bands="i")
    draw(visits=1, dataset_types=["calexp", "goodSeeingDiff_differenceExp"], only={"detector": ["R22_S00"]})
    wh.register_images(str(folder / "images"))
    return folder


@pytest.fixture
def session(demo, tmp_path) -> Session:
    """A reader in a folder with a copy of the demo."""
    shutil.copytree(demo, tmp_path / "demo")
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TRACTLAKE_MEMORY": "1GiB",
        "TRACTLAKE_WORKERS": "2",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    return Session(tmp_path, variables, dict(STANDING))


@pytest.fixture
def figures():
    """Draw without a display, and leave no figure behind."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


def butler_repository(session: Session) -> None:
    """Make the repository `repo` with a patch of objects and the sources of two visits."""
    run, root = "2.2i/runs/DP0.2", session.folder / "repo"
    make_repository(root, tracts=(3831,), patches=(10,), visits=(192350, 192357))
    inputs = session.folder / "demo" / "inputs"
    for dataset_type, data_ids in {
        "objectTable": [{"tract": 3831, "patch": 10}],
        "sourceTable_visit": [{"visit": 192350}, {"visit": 192357}],
    }.items():
        for data_id in data_ids:
            file = next(inputs.rglob(f"{dataset_type}_*{'_'.join(map(str, data_id.values()))}_*.parq"))
            put(root, run, dataset_type, data_id, pq.read_table(file))


def s3_store(session: Session, server: S3Server) -> None:
    """Let the page's endpoint and keys be those of a server that runs, with an empty bucket."""
    server.client().create_bucket(Bucket=BUCKET)
    session.replaced |= {r"https://s3\.example\.org": server.endpoint, "your-key": KEY_ID, "your-secret": SECRET}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("figures")
def test_every_block_of_the_page_runs(name, session, request):
    if name.endswith("from-a-butler-repository.md"):
        butler_repository(session)
    if name.endswith("s3-and-credentials.md"):
        s3_store(session, request.getfixturevalue("s3_server"))
    text = PAGES[name].read_text("utf-8")
    expected = sum(not block.not_executed for block in blocks(text))
    assert play(name, text, session) == expected


def test_pages_with_code_are_found():
    assert {"README.md", "docs/how-to/from-the-butler-and-tap.md", "docs/tutorial/05-photo-z.md"} <= PAGES.keys()


def test_a_block_that_fails_fails_its_page(tmp_path):
    here = Session(tmp_path, {})
    with pytest.raises(BlockError, match="exit code 3"):
        play("page", "```sh\nexit 3\n```\n", here)
    with pytest.raises(ZeroDivisionError):
        play("page", "```python\n1 / 0\n```\n", here)
    with pytest.raises(BlockError, match=r"prints no \['visits'\]"):
        play("page", "```sh\necho rows 3\n```\n\n```text\nrows visits 12\n```\n", here)


def test_a_page_s_blocks_share_names_and_variables(tmp_path):
    blocks_of_page = ("sh\nexport WHERE=here", "python\nimport os\nx = os.environ['WHERE']", "python\nprint(x)")
    page = "\n".join(f"```{block}\n```\n" for block in blocks_of_page)
    printed = []
    play("page", page, Session(tmp_path, {}), lambda _, output: printed.append(output))
    assert printed == ["", "", "here\n"]
    assert "WHERE" not in os.environ


def test_warnings_of_a_page_are_errors(tmp_path):
    with pytest.raises(UserWarning, match="loud"):
        play("page", "```python\nimport warnings\nwarnings.warn('loud')\n```\n", Session(tmp_path, {}))
    assert warnings.filters
