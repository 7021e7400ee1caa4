"""The report in a real headless browser: the script runs, deep links, keys, pointer and selectors work, pixels appear.

Skipped where no Chromium is installed, except under CI, where it has to be there.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from attnlab.report import Panel, Scrubber, write_report
from attnlab.report.scrubber import viewer_source

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
    "--virtual-time-budget=6000",
    "--window-size=1100,1000",
)
STEPS = np.array([0, 10, 100, 500, 1000, 2000])
VALUES = np.linspace(0, 1, STEPS.size)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on the path (apt-get install chromium)"
)


def browse(tmp_path: Path, page: Path, hash: str = "", *extra: str) -> str:
    assert CHROMIUM is not None, "CI has to install chromium"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *extra, f"{page.as_uri()}{hash}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Two seeds; attention is 1 on the first key times the training progress, and seed 1 is half of seed 0."""
    labels = ["<s>", "t", "h", "e"]
    frames = np.zeros((2, STEPS.size, 4, 4))
    frames[:, :, :, 0] = VALUES[:, None] * np.array([1.0, 0.5])[:, None, None]
    broken = frames.copy()
    broken[1, -1] = np.nan
    scrubber = Scrubber(
        steps=STEPS,
        seeds=[0, 1],
        panels=[
            Panel("attention", frames, labels, labels, "sequential", "query", "key"),
            Panel("KQ", 20 * frames - 3, labels, labels, "diverging", "query token", "key token"),
            Panel("broken", broken, labels, labels),
        ],
        curves={"backcopy risk": np.stack([4.3 - 4 * VALUES, 4.3 - 3 * VALUES])},
    )
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder / "report.html", title="Browser test", scrubbers={"one": scrubber, "two": scrubber})


def step_labels(dom: str) -> list[str]:
    return re.findall(r'class="?als-step"?[^>]*>\s*(step [^<]*?)\s*<', dom)


def test_script_runs_and_shows_the_last_step(report, tmp_path):
    dom = browse(tmp_path, report, "", "--dump-dom")
    assert dom.count('data-ready="1"') == 2
    assert step_labels(dom) == ["step 2000"] * 2


def test_hash_is_a_deep_link(report, tmp_path):
    dom = browse(tmp_path, report, "#step=480&seed=1&cell=0.2.0", "--dump-dom")
    assert step_labels(dom) == ["step 500"] * 2
    assert "attention: query h (2), key &lt;s&gt; (0) = 0.3" in dom  # half of 3/5


@pytest.mark.parametrize("hash", ["#step=abc", "#step=-5&seed=9", "#cell=9.9.9", "#cell=0", "#claims"])
def test_a_bad_link_is_ignored(report, tmp_path, hash):
    dom = browse(tmp_path, report, hash, "--dump-dom")
    assert step_labels(dom) == ["step 2000"] * 2


def test_keys_pointer_and_selectors(report, tmp_path):
    page = tmp_path / "actions.html"
    actions = f'<script type="module">\n{Path(__file__).with_name("actions.js").read_text(encoding="utf-8")}</script>'
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{actions}</body>"), encoding="utf-8")
    dom = browse(tmp_path, page, "", "--dump-dom")
    seen = json.loads(html.unescape(re.findall(r"<title>(.*?)</title>", dom)[0]))
    assert (seen["left"], seen["home"], seen["right"], seen["end"]) == ("step 1000", "step 0", "step 10", "step 2000")
    assert seen["slider"] == "step 500" and seen["hash"].startswith("#step=1000&seed=0")
    assert seen["hover"] == seen["click"] == "attention: query t (1), key <s> (0) = 0.6"
    assert seen["left_map"] == "" and seen["cell"].endswith("cell=0.1.0")
    assert seen["seed"].endswith("= 0.3")
    assert seen["panel"] == "KQ: query token t (1), key token <s> (0) = 3"
    assert seen["broken"].endswith("= not finite")
    assert seen["map_colours"] > 5 and seen["curve_colours"] > 5
    assert "pause" in seen["playing"] and seen["played"] == "step 2000" and "play" in seen["stopped"]


def test_the_same_module_serves_as_a_widget(report, tmp_path):
    data = re.findall(
        r'<script type="application/json" id="scrubber-0">(.*?)</script>', report.read_text(encoding="utf-8")
    )[0]
    module = viewer_source("scrubber.js").replace("export default", "const widget =")
    page = tmp_path / "widget.html"
    page.write_text(
        f"""<!doctype html><meta charset="utf-8"><div id="el"></div><script type="module">{module}
const values = {{ data: {json.dumps(data)}, step: 480 }}, handlers = {{}}, saved = [];
const model = {{ get: (k) => values[k], set: (k, v) => (values[k] = v), save_changes: () => saved.push(values.step),
  on: (name, f) => (handlers[name] = f) }};
const close = await widget.render({{ model, el: document.getElementById("el") }});
const label = () => document.querySelector(".als-step").textContent, seen = [label()];
document.querySelector(".als").dispatchEvent(new KeyboardEvent("keydown", {{ key: "ArrowRight" }}));
seen.push(label(), ...saved);
values.step = 10; handlers["change:step"](); seen.push(label());
close();
document.title = JSON.stringify(seen);</script>""",
        encoding="utf-8",
    )
    dom = browse(tmp_path, page, "", "--dump-dom")
    assert json.loads(re.findall(r"<title>(.*?)</title>", dom)[0]) == ["step 500", "step 1000", 1000, "step 10"]


def test_screenshot_has_the_heat_map(report, tmp_path):
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(tmp_path, report, "#step=2000", f"--screenshot={shot}")
    pixels = np.round(imread(shot)[..., :3] * 255).astype(int)
    dark_blue = (np.abs(pixels - np.array([0x08, 0x23, 0x4D])) <= 3).all(axis=-1)  # attention 1
    dark_red = (np.abs(pixels - np.array([0x7D, 0x1D, 0x0A])) <= 3).all(axis=-1)  # KQ at its largest
    assert dark_blue.sum() > 5_000 and dark_red.sum() > 5_000
