"""Every notebook runs from top to bottom in its quick form, and is stored without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SLOW, FAST = "FAST = False", "FAST = True"


def test_there_are_notebooks():
    expected = {
        "01_quickstart",
        "02_attention_sinks",
        "03_icl_regression",
        "04_attention_catalogue",
        "05_associative_recall",
        "06_local_linear_attention",
        "07_edit_a_trained_model",
        "08_circuits",
    }
    assert {n.stem for n in NOTEBOOKS} >= expected
    assert not list((Path(__file__).parents[1] / "notebooks").glob("*.ipynb.*"))


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    text = path.read_text()
    assert text.count(SLOW) == 1, "a notebook has exactly one switch, so that the quick form cannot silently vanish"
    notebook = jupytext.reads(text.replace(SLOW, FAST), fmt="py:percent")
    assert len(notebook.cells) <= 40
    # The kernel is another process: it must not inherit this one's devices.
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    errors = [o for c in notebook.cells for o in c.get("outputs", ()) if o["output_type"] == "error"]
    assert not errors
