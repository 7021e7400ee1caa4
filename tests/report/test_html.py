"""The report file is complete, escaped, self-contained, repeatable; the scrubber's data is exact to a known bound."""

import base64
import builtins
import json
import re
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlab.report import Claim, Panel, Scrubber, figures, judge, not_run, show, write_report
from attnlab.report.markup import render_markup
from attnlab.report.scrubber import dequantise, log_spaced_indices, quantise, viewer_source
from attnlab.report.tables import format_spread

EVIL = '<script>alert("1")</script> & </script>'


def make_scrubber(num_seeds: int = 2, num_steps: int = 6, size: int = 4, **changes: object) -> Scrubber:
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(num_seeds, num_steps, size, size))
    labels = ["<s>", " ", "e", "\n", *map(str, range(60))][:size]
    fields: dict = {
        "steps": np.arange(num_steps) * 100,
        "seeds": range(num_seeds),
        "panels": [
            Panel("attention", np.abs(frames), labels, labels, "sequential", "query", "key"),
            Panel("KQ </script>", frames, labels, labels, "diverging"),
        ],
        "curves": {"risk": np.exp(-np.arange(num_steps) / 2) * np.ones((num_seeds, 1))},
    }
    return Scrubber(**{**fields, **changes})


def make_verdicts() -> list:
    def claim(id: str, statement: str) -> Claim:
        return Claim(id, statement, "spec 6.1", "measured", "mass", "in [0.6, 1]", "seeds differ a lot", ("laptop",))

    return [
        judge(claim("A16.mass", "queries park on <s>"), [0.7531, 0.9, 0.8123], 0.6, 1.0, 0.8, 12.0, "step 2000"),
        judge(claim("A17.mass", EVIL), [0.1], 0.6, None),
        not_run(claim("A9", "paper size"), "needs an accelerator"),
    ]


def write(path, **changes):
    fields: dict = {
        "title": f"A run {EVIL}",
        "summary": f"**Four** seeds {EVIL}",
        "verdicts": make_verdicts(),
        "figures": {f"Dynamics {EVIL}": figures.dynamics([0, 1, 2], {"risk": np.ones((2, 3))})},
        "scrubbers": {"The head": make_scrubber()},
        "config": {"width": 64, "name": EVIL},
        "versions": {"jax": "0.11.2"},
        "notes": f"# Read this\n- one {EVIL}\n\n`code`",
        "commands": ["attnlab reproduce active-dormant && echo <done>"],
    }
    return write_report(path, **{**fields, **changes})


def test_report_holds_everything(tmp_path):
    text = write(tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    parts = (
        "✓ passed",
        "✗ failed",
        "– not run",
        "A16.mass",
        "0.8123",
        "0.7531, 0.9, 0.8123",
        "[0.6, 1]",
        "≥ 0.6",
        "queries park on &lt;s&gt;",
        "spec 6.1 [measured]",
        "seeds differ a lot",
        "step 2000",
        "needs an accelerator",
        "0.11.2",
        "&quot;width&quot;: 64",
        "<h3>Read this</h3>",
        "&lt;done&gt;",
        "data:image/png;base64,",
    )
    for part in parts:
        assert part in text, part


def test_report_is_self_contained(tmp_path):
    text = write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text
    assert re.findall(r'\bsrc="(?!data:image/png;base64,)', text) == []
    assert re.findall(r'\bhref="(?!#|data:,)', text) == []
    assert "@import" not in text and "url(" not in text and "import(" not in text
    assert "default-src 'none'" in text


def test_nothing_from_outside_becomes_markup(tmp_path):
    text = write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "alert(" in text
    assert "<script>alert" not in text
    # The scripts are ours: one JSON block and one module, nothing closed early.
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text)) == 2


def test_same_input_same_bytes(tmp_path):
    assert write(tmp_path / "a.html").read_bytes() == write(tmp_path / "b.html").read_bytes()


def test_a_table_of_text(tmp_path):
    rows = [["name", "rate", "loss"], [EVIL, "0.1 ★", "0.5 (0.4 … 0.6)"], ["b", "–", "never"]]
    text = write(tmp_path / "report.html", tables={f"Values {EVIL}": rows}).read_text(encoding="utf-8")
    assert "<script>alert" not in text and '<a href="#table-0">Values &lt;script&gt;' in text
    assert '<td class="">b</td><td class="number">–</td><td class="">never</td>' in text, (
        "a column of numbers to the right"
    )
    assert text.index('id="claims"') < text.index('id="table-0"') < text.index('id="figures"')


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.5, 0.25, 1.0], "0.5 (0.25 … 1)"),
        ([2.0], "2"),
        ([1.0, np.nan, 3.0], "2 (1 … 3), 2/3"),
        ([np.nan, np.inf], "never"),
        ([], "–"),
    ],
)
def test_median_and_range_in_words(values, told):
    assert format_spread(values, "never") == told


def test_report_without_extras_and_with_a_png(tmp_path):
    png = tmp_path / "figure.png"
    figures.save_png(figures.dynamics([0, 1, 2], {"risk": np.ones((2, 3))}), png)
    path = write_report(tmp_path / "report.html", title="x", figures={"one": png, "two": str(png)})
    text = path.read_text(encoding="utf-8")
    assert text.count("data:image/png") == 2 and "<script" not in text and not list(tmp_path.glob("*.partial"))
    with pytest.raises(ValueError, match="not a PNG"):
        write_report(tmp_path / "r.html", title="x", figures={"one": path})
    with pytest.raises(ValueError, match="title"):
        write_report(tmp_path / "r.html", title=" ")
    with pytest.raises(ValueError, match="folder"):
        write_report(tmp_path, title="x")


def test_markup():
    text = "# T\nfirst `a*b*` line\nsecond\n\n- one\n- two\n  more\n```\n<x>\n```\nlast"
    assert render_markup(text).splitlines() == [
        "<h3>T</h3>",
        "<p>first <code>a*b*</code> line second</p>",
        "<ul><li>one</li><li>two more</li></ul>",
        "<pre><code>&lt;x&gt;</code></pre>",
        "<p>last</p>",
    ]
    assert render_markup("") == "" and "<pre>" in render_markup("```\nnot closed")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(1e-12, 1e12), st.floats(-1e6, 1e6))
def test_quantisation_error_bound(seed, scale, shift):
    frames = np.random.default_rng(seed).normal(size=(2, 3, 4, 5)) * scale + shift
    codes, low, high = quantise(frames)
    error = np.abs(dequantise(codes, low, high) - frames).max(axis=(2, 3))
    assert codes.dtype == np.uint8
    assert (error <= (high - low) / 255 / 2 + 1e-12 * np.abs(frames).max()).all()


def test_quantised_ends_are_exact_and_constant_frames_stay():
    frames = np.array([[[[0.0, 1.0], [0.25, 0.5]], [[3.0, 3.0], [3.0, 3.0]]]])
    back = dequantise(*quantise(frames))
    assert back[0, 0, 0].tolist() == [0.0, 1.0] and (back[0, 1] == 3.0).all()


def test_frames_that_are_not_finite_are_marked():
    frames = np.zeros((1, 2, 2, 2))
    frames[0, 1, 0, 0] = np.nan
    data = json.loads(make_scrubber(1, 2, 2, panels=[Panel("x", frames, "ab", "cd")]).to_json())
    assert data["panels"][0]["lo"] == [[0.0, None]]


def test_scrubber_json_gives_the_frames_back():
    scrubber = make_scrubber()
    data = json.loads(scrubber.to_json())
    assert data["steps"] == [0, 100, 200, 300, 400, 500] and data["panels"][0]["row_labels"] == ["<s>", "␣", "e", "↵"]
    for panel, stored in zip(scrubber.panels, data["panels"], strict=True):
        codes = np.frombuffer(zlib.decompress(base64.b64decode(stored["frames"])), np.uint8).reshape(panel.frames.shape)
        low, high = np.array(stored["lo"]), np.array(stored["hi"])
        error = np.abs(dequantise(codes, low, high) - panel.frames).max(axis=(2, 3))
        assert (error <= (high - low) / 255 / 2 + 1e-7).all()


def test_thinning_keeps_the_ends_is_even_in_log_and_says_so():
    scrubber = make_scrubber(3, 200, note="Fixed sequence.")
    thin = scrubber.thin(12, num_seeds=2)
    assert 8 <= thin.steps.size <= 12 and (thin.steps[0], thin.steps[-1]) == (0, 19900)
    assert thin.panels[0].frames.shape == (2, thin.steps.size, 4, 4) and thin.curves["risk"].shape == (2, 200)
    shown = f"{thin.steps.size} of 200 recorded steps are shown, evenly in log step."
    assert thin.note == f"Fixed sequence. {shown} 2 of 3 seeds are shown."
    gaps = np.diff(np.log1p(thin.steps[1:]))
    assert gaps.max() < 4 * gaps.min()
    assert scrubber.thin(500).note == "Fixed sequence."
    assert log_spaced_indices(np.arange(5), 2).tolist() == [0, 4]


def test_capping_obeys_the_limit():
    scrubber = make_scrubber(2, 100, 30)
    assert len(scrubber.to_json()) > 200_000
    small = scrubber.capped(60_000)
    assert len(small.to_json()) <= 60_000 and "of 100 recorded steps" in small.note
    assert make_scrubber().capped(10**9).note == ""


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Panel("x", np.ones((2, 3)), "ab", "abc"), "frames of panel 'x'"),
        (lambda: Panel("x", np.ones((1, 2, 3)), "ab", "abc", "rainbow"), "kind.*rainbow.*sequential"),  # type: ignore[arg-type]
        (lambda: make_scrubber(steps=np.array([3, 2, 1])), "steps.*increasing"),
        (lambda: make_scrubber(panels=[]), "panels is empty"),
        (lambda: make_scrubber(seeds=range(5)), "frames of panel 'attention'"),
        (lambda: make_scrubber(curves={"risk": np.ones((2, 5))}), r"curves\['risk'\]"),
        (lambda: make_scrubber().thin(1), "n_frames is 1"),
    ],
)
def test_bad_scrubber_is_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_viewer_is_small_and_names_no_address():
    source = viewer_source("scrubber.js")
    assert len(source) < 12_000
    assert "http" not in source and "fetch(" not in source and "import " not in source


def test_widget_takes_the_same_module():
    pytest.importorskip("anywidget", reason='needs the extra "notebooks"')
    widget = show(make_scrubber(), step=200)
    assert widget.step == 200.0
    assert json.loads(widget.data)["steps"][-1] == 500
    assert str(widget._esm) == viewer_source("scrubber.js")
    with pytest.raises(ValueError, match="Scrubber"):
        show("run")  # type: ignore[arg-type]


def test_missing_anywidget_says_what_to_install(monkeypatch):
    from attnlab.report import notebook

    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "anywidget":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    notebook._widget_class.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"attnlab\[notebooks\]"):
        show(make_scrubber())
    monkeypatch.undo()
    notebook._widget_class.cache_clear()
