"""The study of local linear attention: smoke preset, streams against theory's weights, steps on a small system."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from study_checks import smoke_holds

from attnlab.studies import find
from attnlab.studies.local_linear import rates, stream
from theory import recall

STUDY = find("local-linear-attention")


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-stream", "f2-rates")


def test_mechanisms_are_the_memories_of_theory(x64, rng):
    """Every mechanism's prediction is `A v` with the weights that theory writes down, 40 pairs of width 4, float64."""
    law = recall.Stream(4, 3.0, 40, 20)
    keys, values = law.keys(rng), rng.normal(size=(40, 4))
    for name, memory in recall.stream_memories(1.0, stream.RIDGE).items():
        said = stream.predictions(name, jnp.asarray(keys)[None], jnp.asarray(values)[None], 1.0)
        # The delta rule divides by |k|^2 + 1e-6.
        np.testing.assert_allclose(said[0], memory.weights(keys) @ values, atol=1e-5, err_msg=name)


def test_an_answer_at_a_point_is_a_weighted_mean_or_line(x64, rng):
    x, y = rng.uniform(size=(2, 30)), rng.normal(size=(2, 30))
    p = np.exp(-((x - 1.0) ** 2) / (2 * 0.2**2))
    p /= p.sum(1, keepdims=True)
    mean = rates.said("softmax", 1.0, jnp.asarray(x), jnp.asarray(y), jnp.asarray(0.2))
    np.testing.assert_allclose(mean, (p * y).sum(1), rtol=1e-10)
    line = rates.said("lla", 1.0, jnp.asarray(x), jnp.asarray(y), jnp.asarray(0.2))
    fitted = [np.polynomial.Polynomial.fit(a, b, 1, w=np.sqrt(c))(1.0) for a, b, c in zip(x, y, p, strict=True)]
    np.testing.assert_allclose(line, fitted, atol=1e-5)  # a ridge of 1e-9 in units of the bandwidth


def test_the_surprise_is_in_standard_errors():
    told = {"a": np.array([1.0, 2.0])}
    lab = SimpleNamespace(theory=lambda part: {"streams": {"a": np.full(4, 4.0)}, "expected": told}[part])
    assert stream.surprise(lab) == 3.0  # 3 above, 2 / sqrt(4) = 1
    assert jax.config.jax_enable_x64 is False
