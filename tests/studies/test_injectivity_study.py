"""The study of InLine: its table, its runs, rows of given queries against loops, prompts asked last, a smoke preset."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from study_checks import smoke_holds

import toy_tasks as tt
from attnlab import attention
from attnlab.attention import recurrent_catalogue as recurrent
from attnlab.studies.injectivity import STUDY
from attnlab.studies.injectivity.asked_last import AskedLast
from attnlab.studies.injectivity.experiments import experiments, regression
from attnlab.studies.injectivity.heads import head_injectivity, last_rows
from attnlab.studies.injectivity.mechanisms import LADDER, RECALL, identity_divided, inline_relu


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "doubled", "taylor", "heads", "losses")


def test_the_runs_are_what_the_study_says():
    for preset in ("laptop", "evening"):
        found = experiments(preset)
        assert set(found) == {f"recall {n}" for n in RECALL} | {f"regression {n}" for n in LADDER}
        for name, e in found.items():
            assert e.model.num_layers == 1 and e.model.no_mlp == (0,) and e.model.positions == "none"
            assert e.model.mechanism == (RECALL | LADDER)[name.split()[1]]
    # With fewer keys than channels of a head nothing is injective; the laptop's queries see more.
    laptop = experiments("laptop")["recall inline"]
    assert laptop.model.dims.head_dim == 16 == laptop.task.length


def rows_by_loops(name: str, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    scores = q @ k.T / np.sqrt(q.shape[-1])
    if name == "softmax":
        raw = np.exp(scores)
        return raw / raw.sum(axis=-1, keepdims=True)
    if name == "identity_divided":
        return scores / (scores.sum(axis=-1, keepdims=True) + 1e-8)
    if name == "inline_relu":
        scores = np.maximum(q, 0) @ np.maximum(k, 0).T / np.sqrt(q.shape[-1])
    return (scores - scores.mean(axis=-1, keepdims=True) + 1) / len(k)


MAPS = {
    "softmax": attention.softmax,
    "inline": recurrent.inline,
    "inline_relu": inline_relu,
    "identity_divided": identity_divided,
}


@pytest.mark.parametrize("name", sorted(MAPS))
def test_rows_of_given_queries(name: str, x64, rng):
    q, k = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    found = np.asarray(last_rows(MAPS[name], {}, jnp.asarray(k)[None], jnp.asarray(q)[None]))[0]
    # The recurrences keep their state in float32 at least; 1 / sum magnifies what a row sum loses.
    np.testing.assert_allclose(found, rows_by_loops(name, q, k), rtol=1e-5, atol=1e-6)


def test_heads_of_a_model_against_loops(key):
    """Two heads, two sequences: the queries of the last places, each behind all keys."""
    task = tt.PairedRecall(8, 8, 4)
    model = experiments("smoke")["recall inline"].model
    params = model.init(key)
    found = head_injectivity(task, 2)(model, params)
    from attnlab.analysis.base import evaluation_batch

    tape = model.apply(params, evaluation_batch(task, 2).inputs, tape=("blocks.0.attn.q", "blocks.0.attn.k"))[1]
    q, k = (np.asarray(tape[f"blocks.0.attn.{name}"], np.float64) for name in "qk")
    for head in range(2):
        changes, least = [], []
        for b in range(2):
            queries = q[b, head, -4:]
            rows, twice = (rows_by_loops("inline", x, k[b, head]) for x in (queries, 2 * queries))
            changes += list(np.linalg.norm(twice - rows, axis=1) / np.linalg.norm(rows, axis=1))
            pairs = [(i, j) for i in range(4) for j in range(i) if not np.array_equal(queries[i], queries[j])]
            gaps = [np.linalg.norm(rows[i] - rows[j]) / np.linalg.norm(queries[i] - queries[j]) for i, j in pairs]
            least.append(min(gaps))
        np.testing.assert_allclose(found["doubled"][head], np.mean(changes), rtol=1e-4)
        if np.isfinite(np.asarray(found["closest"][head])):
            np.testing.assert_allclose(found["closest"][head], np.mean(least), rtol=1e-3)


def test_only_the_last_answer_counts(key):
    task = regression(3, 5)
    batch, plain = task.sample(key, 4), task.task.sample(key, 4)
    assert batch.inputs.shape == (4, 6, 4) == (4, task.length, task.width)
    np.testing.assert_array_equal(batch.targets[:, -1], plain.targets[:, -1])
    np.testing.assert_array_equal(batch.loss_mask, np.tile([0, 0, 0, 0, 0, 1], (4, 1)))
    np.testing.assert_array_equal(batch.inputs[:, -1, 3], 0)
    assert bool(jnp.all(batch.positions["query"][:, -1])) and int(batch.positions["query"].sum()) == 4
    # The label is linear in the input without noise: least squares on the five pairs tells it.
    inputs = np.asarray(batch.inputs, np.float64)
    for row, target in zip(inputs, np.asarray(batch.targets), strict=True):
        beta = np.linalg.lstsq(row[:-1, :3], row[:-1, 3], rcond=None)[0]
        np.testing.assert_allclose(row[-1, :3] @ beta, target[-1, 0], atol=1e-4)
    with pytest.raises(ValueError, match="masked_key"):
        AskedLast(tt.LinearRegression(3, 5))


def test_the_change_of_a_doubled_query_in_closed_form(rng):
    """InLine: `|s| / sqrt(1/n + |s|^2)` with the centred part `s`, which is orthogonal to the mean; so below 1."""
    q, k = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (3, 9))
    rows, twice = (np.asarray(last_rows(recurrent.inline, {}, k[None], f * q[None]))[0] for f in (1.0, 2.0))
    found = np.linalg.norm(twice - rows, axis=1) / np.linalg.norm(rows, axis=1)
    centred = np.asarray(q, np.float64) @ (np.asarray(k, np.float64) - np.asarray(k, np.float64).mean(axis=0)).T
    size = np.linalg.norm(centred, axis=1) / (2 * 9)
    np.testing.assert_allclose(found, size / np.sqrt(1 / 9 + size**2), rtol=1e-4)
    assert (jax.device_get(found) < 1).all()
