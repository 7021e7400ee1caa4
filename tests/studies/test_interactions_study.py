"""The study of interactions: its smoke preset, its table, players that are hidden, dividends of the exact law."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from study_checks import smoke_holds

import toy_tasks as tt
from attnlab import analysis
from attnlab.studies.interactions import STUDY
from attnlab.studies.interactions.segments import hidden, lead


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-parts", "f2-bounds", "f3-evidence", "f4-dividends")


TASK = tt.GridQA(num_patches=3, num_shapes=4, objects=(1, 3), blank=0.0, general=0.0)


def test_what_is_hidden_looks_like_training(key):
    batch = TASK.sample(key, 4)
    for present in ([True] * 4, [False, True, True, True], [True, True, True, False], [False] * 4):
        found = np.asarray(hidden(TASK, batch.inputs, jnp.asarray(present)))
        for place, there in enumerate(present, start=1):
            if there:
                np.testing.assert_array_equal(found[:, place], batch.inputs[:, place])
            else:
                name = "general" if place == TASK.length - 1 else "background"
                wanted = np.zeros(TASK.width)
                wanted[TASK.coordinates[name]] = 1
                np.testing.assert_array_equal(found[:, place], np.tile(wanted, (4, 1)))
        np.testing.assert_array_equal(found[:, 0], batch.inputs[:, 0])


def test_the_exact_law_has_one_interaction(key):
    """With a question: the prior is the question's, the evidence is that of the patch asked for and the question."""
    batch = TASK.sample(key, 6)
    answer, asked = batch.targets[:, -1], np.asarray(batch.positions["target"][:, 1:-1])

    def score(present):
        there = dataclasses.replace(batch, inputs=hidden(TASK, batch.inputs, present))
        law = jnp.log(TASK.oracle(there)[:, -1] + 1e-30)
        return jnp.where(present[-1], lead(TASK, law, answer), 0.0)  # a count says nothing of colours

    parts = np.asarray(jax.jit(lambda: analysis.dividends(score, 4))())
    seen = np.sum(np.asarray(batch.inputs[:, 1:-1, TASK.coordinates["colour"]]) * asked[..., None], axis=1)
    evidence = np.asarray(lead(TASK, jnp.asarray(seen) / TASK.noise**2, answer))
    for b in range(6):
        pair = 1 << int(asked[b].argmax()) | 1 << 3
        np.testing.assert_allclose(parts[b, pair], evidence[b], atol=1e-4)
        others = [c for c in range(16) if c not in (pair, 1 << 3)]
        np.testing.assert_allclose(parts[b, others], 0, atol=1e-4)
