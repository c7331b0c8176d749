"""The report's page in a real browser: every image is there, and nothing is wider than the window.

Where no Chromium is installed there is nothing to run it in; what the page holds is tested in test_report.py all the
same.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from support.small_truth import MATCHES, OBJECT, TRUTH, SmallTruth, match_row, object_row, truth_row
from warehouse.lake import delta
from warehouse.truth import report
from warehouse.truth.materialise import materialise

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
LOOK = """
<script>
const shape = image => image.naturalWidth / image.naturalHeight;
addEventListener("load", () => {
  const images = [...document.images];
  const seen = {
    images: images.length,
    loaded: images.filter(image => image.complete && image.naturalWidth > 0).length,
    undistorted: images.filter(image => Math.abs(image.width / image.height - shape(image)) < 0.03).length,
    tables: document.querySelectorAll("table tbody tr").length,
    targets: [...document.querySelectorAll("nav a")].filter(a => document.querySelector(a.getAttribute("href"))).length,
    overflow: document.documentElement.scrollWidth - innerWidth,
  };
  document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
});
</script>
"""

pytestmark = pytest.mark.integration

if BROWSER is not None:

    @pytest.fixture(scope="module")
    def page(tmp_path_factory):
        from warehouse.config import Settings

        folder = tmp_path_factory.mktemp("report")
        world = SmallTruth.at(folder / "warehouse", Settings(memory=512 << 20, workers=2))
        world.put(OBJECT, 3831, [object_row(n, n % 3) for n in range(30)])
        world.put(TRUTH, 3831, [truth_row(n, n % 3) for n in range(40)])
        world.put(MATCHES, 3831, [match_row(n, n, n % 3) for n in range(40)])
        materialise(world.root, world.settings)
        snapshot = delta.snapshot(world.root.table_uri("ObjectTruth"), world.settings)
        return report.write(world.root, snapshot, folder / "out", world.settings).page

    @pytest.mark.parametrize("width", [500, 1400])
    def test_every_figure_is_shown_and_fits_the_window(page, tmp_path, width):
        looked_at = page.with_name(f"looked-at-{width}.html")
        looked_at.write_text(page.read_text("utf-8").replace("</body>", LOOK + "</body>"), "utf-8")
        outcome = subprocess.run(
            [
                BROWSER,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--window-size={width},900",
                "--virtual-time-budget=10000",
                "--dump-dom",
                looked_at.as_uri(),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        seen = json.loads(unescape(re.search(r'<pre id="seen">(.*?)</pre>', outcome.stdout, re.DOTALL)[1]))
        figures = 7
        assert seen["images"] == seen["loaded"] == seen["undistorted"] == seen["targets"] == figures
        assert seen["tables"] > figures
        assert seen["overflow"] <= 0
