"""Twenty steps, kept: what changes these numbers changes every result."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax
import numpy as np
from training_cases import tiny_model, train

import attnlab as al

STORED = Path(__file__).parents[1] / "golden" / "training_20_steps.json"
UPDATE = "ATTNLAB_UPDATE_GOLDEN=1 python -m pytest tests/training/test_golden.py"


def test_twenty_steps(tmp_path):
    model = tiny_model(norm="layernorm", num_heads=2)
    run = train(tmp_path / "run", al.adamw(1e-2), model=model, steps=20, seeds=2, chunk_steps=20, record={})
    found = {
        "loss": run.trajectory.loss.values[:, 1:].astype(float).tolist(),
        "parameter_norm": np.sqrt(
            sum(np.square(x.astype(float)).reshape(2, -1).sum(1) for x in jax.tree.leaves(run.params))
        ).tolist(),
    }
    if os.environ.get("ATTNLAB_UPDATE_GOLDEN"):
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    kept = json.loads(STORED.read_text())
    message = f"The training of a tiny model has changed. If it was meant to: {UPDATE}, and say why in CHANGELOG.md."
    for name, values in kept.items():
        # Float32 rounding differs between CPUs and versions of XLA, and twenty steps make it grow: seen up to 1e-6.
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=f"{name}. {message}")
