"""The study of task vectors: a smoke preset that runs, its table, injection at its ends, the best step is kept."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from study_checks import smoke_holds

from attnlab import tape as tape_edits
from attnlab.studies.task_vectors import STUDY
from attnlab.studies.task_vectors.experiments import experiments
from attnlab.studies.task_vectors.site import embeddings, injected, learn, split


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-accuracy", "f2-parts", "f3-amounts", "f4-losses")


def test_symbols_are_kept_apart():
    task = experiments("laptop")["even"].task
    parts = split(task)
    assert [len(part) for part in parts] == [5, 3, 4]
    assert sorted(np.concatenate(parts).tolist()) == list(range(12))


def test_injection_at_its_ends(key):
    """Amount 0 changes no bit; amount 1 in a head of the last layer moves the stream by `(t - z) W_O`, by hand."""
    e = experiments("smoke")["choosing"]
    params, queries = e.model.init(key), jnp.arange(6)
    t = embeddings(e.model, params, e.task, jnp.asarray(1))
    plain, tape = e.model.apply(params, queries[:, None], tape=("blocks.1.attn.head_out", "blocks.1.attn.out"))
    np.testing.assert_array_equal(injected(e.model, params, queries, t, jnp.zeros((2, 4))), plain[:, -1])
    one = jnp.zeros((2, 4)).at[1, 2].set(1.0)
    moved = (t[1, 2] - tape["blocks.1.attn.head_out"][:, 2]) @ params["blocks"]["1"]["attn"]["output"][2]
    by_hand = tape_edits.add("blocks.1.attn.out", moved)
    wanted = e.model.apply(params, queries[:, None], edits=[by_hand])[0][:, -1]
    np.testing.assert_allclose(injected(e.model, params, queries, t, one), wanted, atol=1e-5)
    assert np.abs(wanted - plain[:, -1]).max() > 1e-4


def test_an_embedding_is_a_mean_over_prompts_without_symbols_of_the_report(key):
    """Changing what a token of the report is embedded as changes no embedding; any other symbol's does."""
    e = experiments("smoke")["choosing"]
    params, parts = e.model.init(key), split(e.task)

    def moved(symbol: int):
        token = params["embed"]["token"].at[symbol, 0].add(3.0)  # not all alike: a norm would undo that
        return embeddings(e.model, params | {"embed": params["embed"] | {"token": token}}, e.task, jnp.asarray(0))

    same = embeddings(e.model, params, e.task, jnp.asarray(0))
    assert same.shape == (2, 4, 4)
    np.testing.assert_array_equal(moved(int(parts[2][0])), same)
    assert np.abs(moved(int(parts[0][0])) - same).max() > 1e-3


def test_the_best_step_is_kept():
    """A check that is best early and worsens while the loss falls: the released code would return the end."""

    def loss(a):
        return jnp.sum((a - 0.95) ** 2)

    def check(a):
        return jnp.sum((a - 0.7) ** 2)

    best, last, step, checks = jax.jit(lambda: learn(loss, check, (2,)))()
    assert abs(float(best[0]) - 0.7) < 0.05 and abs(float(last[0]) - 0.95) < 0.02
    assert int(step) == int(np.argmin(checks)) + 1 < 50
    assert abs(float(check(best)) - float(np.min(checks))) < 1e-6
