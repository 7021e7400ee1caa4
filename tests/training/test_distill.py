"""Distillation: only the student learns, the divergence falls and is what NumPy says of the weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy_tasks as tt
from attnlab import attention, keys
from attnlab.attention import recurrent_catalogue as catalogue
from attnlab.config import ConfigError
from attnlab.models import Transformer
from attnlab.training import distill, swapped
from attnlab.training.distill import FRESH, taught_layers

TASK = tt.MQAR(vocab_size=16, length=12, num_pairs=2)
MODEL = Transformer(16, 12, num_layers=2, num_heads=2, width=8, no_mlp=(0, 1), no_attention=(0,))


@pytest.fixture(scope="module")
def params():
    drawn = [MODEL.init(keys.root(seed)) for seed in range(2)]
    # Larger queries: the teacher's rows are then far from even, and there is something to learn.
    for one in drawn:
        one["blocks"]["1"]["attn"]["query"] = 6 * one["blocks"]["1"]["attn"]["query"]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


@pytest.fixture(scope="module")
def found(params):
    return distill(TASK, MODEL, params, catalogue.hedgehog, steps=40, batch_size=8)


def _softmax_rows(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    scores = np.where(np.tri(len(q), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _hedgehog_rows(q: np.ndarray, k: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    """`softmax([y, -y])` of `y = 2 (W x + b)`, the dot products divided by the row sum."""

    def feature(x, name):
        y = 2 * (x @ own[name] + own[f"{name}_shift"])
        both = np.exp(np.concatenate([y, -y], axis=1))
        return both / both.sum(axis=1, keepdims=True)

    raw = np.tril(feature(q, "feature_query") @ feature(k, "feature_key").T)
    return raw / raw.sum(axis=1, keepdims=True)


def test_the_divergence_falls_for_every_seed_and_head(found):
    assert found.kl.shape == (2, 40) and found.before.kl.shape == (2, 1, 2)
    assert (found.after.kl < found.before.kl).all()
    # The entropy of the teacher, the same before and after, is what lies between the two.
    entropy = [d.cross_entropy - d.kl for d in (found.before, found.after)]
    np.testing.assert_allclose(entropy[0], entropy[1], rtol=1e-5)  # float32, a few hundred terms


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_divergence_is_that_of_the_weights(params, found, when):
    seed, head = 1, 0
    own = found.own["1"] if when == "after" else {"feature_query": np.eye(4), "feature_key": np.eye(4)}
    total = []
    one = jax.tree.map(lambda x: x[seed], params)
    for number in range(FRESH):
        inputs = TASK.sample(keys.stream(keys.root(seed), "eval", number), 8).inputs
        _, tape = MODEL.apply(one, inputs, tape=("blocks.1.attn.q", "blocks.1.attn.k"))
        queries, values = (np.asarray(tape[f"blocks.1.attn.{n}"], np.float64)[:, head] for n in ("q", "k"))
        mine: dict[str, np.ndarray] = {
            n: np.asarray(x[seed, head] if when == "after" else x, np.float64) for n, x in own.items()
        }
        for name in ("feature_query_shift", "feature_key_shift"):
            mine.setdefault(name, np.zeros(4))
        for q, k in zip(queries, values, strict=True):
            p, a = _softmax_rows(q, k), _hedgehog_rows(q, k, mine)
            rows = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, a, 1))), 0)
            total.append(rows.sum(axis=1).mean())
    measured = getattr(found, when).kl[seed, 0, head]
    np.testing.assert_allclose(measured, np.mean(total), rtol=2e-3)  # float32, and 1e-8 added to row sums


def test_the_base_is_untouched_and_the_student_takes_its_place(params, found):
    student, together = swapped(MODEL, params, catalogue.hedgehog, found.own)
    assert student.mechanism is catalogue.hedgehog and taught_layers(student) == (1,)
    for name in ("query", "key", "value", "output"):
        assert together["blocks"]["1"]["attn"][name] is params["blocks"]["1"]["attn"][name]
    assert together["blocks"]["1"]["attn"]["mechanism"] is found.own["1"]
    assert "mechanism" not in params["blocks"]["1"]["attn"] or not params["blocks"]["1"]["attn"]["mechanism"]


def test_a_softmax_student_is_its_own_teacher(params):
    """Without parameters nothing is trained, and the divergence of a mechanism from itself is 0."""
    same = distill(TASK, MODEL, params, attention.softmax, steps=0, batch_size=8)
    np.testing.assert_allclose(same.before.kl, 0, atol=1e-6)  # rounding of float32
    assert same.kl.shape == (2, 0) and same.own == {"1": {}}


def test_bad_input(params):
    with pytest.raises(ConfigError, match="steps"):
        distill(TASK, MODEL, params, catalogue.hedgehog, steps=-1)
    with pytest.raises(ConfigError, match="attention"):
        distill(TASK, Transformer(16, 12, width=8, no_attention=(0,)), params, catalogue.hedgehog, steps=1)
