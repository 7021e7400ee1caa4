"""The study of what attention can do without: its table, its runs, the orders of Taylor attention, a smoke preset."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from study_checks import smoke_holds

import toy_tasks as tt
from attnlab import attention
from attnlab.models import FixedStream, Transformer
from attnlab.studies.deconstructing import STUDY
from attnlab.studies.deconstructing.experiments import LAPTOP, VARIANTS, experiments, fixed_sequence
from attnlab.studies.deconstructing.logits import largest_logit
from attnlab.studies.deconstructing.orders import OrdersApart, approximate_apart


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "recall", "copying")


def test_the_runs_are_what_the_study_says():
    laptop, evening = experiments("laptop"), experiments("evening")
    assert len(laptop) == 15 and len(evening) == 24, "the numbers that the presets tell"
    for name, e in laptop.items():
        copies = name.startswith("copy ")
        assert isinstance(e.task, tt.BigramBackcopy if copies else tt.MQAR)
        assert e.model.num_layers == (1 if copies else 2)
        assert e.model.no_mlp == (() if copies else (0, 1)), "recall by attention alone"
    assert laptop["mlp standard"].model.mlp_mixer == (0,)
    assert laptop["mlp mlp"].model.mlp_mixer == (0, 1)
    assert laptop["random_qk standard"].model.qk_source_of(1) is None
    assert evening["alternating mlp"].model.mlp_mixer == (0, 2)
    fixed = laptop["fixed_qk fixed_qk"].model.qk_source_of(0)
    assert fixed == FixedStream(tuple(np.asarray(fixed_sequence(LAPTOP.recall)).tolist()))
    assert len(fixed.tokens) == LAPTOP.recall.length


def test_an_mlp_has_as_many_weights_as_the_attention_it_replaces():
    """Up to the rounding of its hidden width, 4 D / 3."""

    def size(name: str) -> int:
        shapes = jax.eval_shape(experiments("laptop")[name].model.init, jax.random.key(0))
        return sum(x.size for x in jax.tree.leaves(shapes["blocks"]["0"]["attn"]))

    attention_size, mlp = size("standard standard"), size("mlp standard")
    assert attention_size == 4 * 32 * 32 and abs(mlp - attention_size) <= 1.5 * 32


def test_orders_apart_against_loops(x64, rng):
    q, k, v = rng.normal(size=(3, 2, 7, 4))
    given = (jnp.asarray(x) for x in (q, k, v))
    out = approximate_apart.apply({}, *given, mask=attention.causal_mask(7)).out
    for head in range(2):
        for t in range(7):
            logits = np.array([q[head, t] @ k[head, u] / 2 for u in range(t + 1)])
            parts = [np.ones(t + 1), logits, logits**2 / 2]
            wanted = sum(sum(part[u] * v[head, u] for u in range(t + 1)) / part.sum() for part in parts)
            # Entries grow as 1 / sum(logits), and so does their rounding.
            np.testing.assert_allclose(out[head, t], wanted, rtol=1e-9, atol=1e-12)


def test_orders_apart_where_a_sum_vanishes(x64):
    """Scores 1 and -1: order 1 counts as 0, orders 0 and 2 give the mean each; the gradient is finite."""
    logits, visible = jnp.asarray([[1.0, -1.0]]), jnp.ones((1, 2), bool)
    np.testing.assert_allclose(OrdersApart()(logits, visible), [[1.0, 1.0]], rtol=1e-15)
    slope = jax.grad(lambda x: jnp.sum(OrdersApart()(x, visible) ** 2))(logits)
    assert np.isfinite(np.asarray(slope)).all()


def test_the_largest_logit_by_hand(key):
    task = tt.MQAR(vocab_size=16, length=16, num_pairs=2)
    model = Transformer(16, 16, num_layers=2, num_heads=2, width=8, mlp_mixer=(0,), no_mlp=(0, 1))
    params, probe = model.init(key), largest_logit(task, 4)
    found = np.asarray(probe(model, params))
    from attnlab.analysis.base import evaluation_batch

    tape = model.apply(params, evaluation_batch(task, 4).inputs, tape=("blocks.1.attn.q", "blocks.1.attn.k"))[1]
    q, k = (np.asarray(tape[f"blocks.1.attn.{name}"], np.float64) for name in "qk")
    wanted = max(
        abs(q[b, h, t] @ k[b, h, u]) / 2 for b in range(4) for h in range(2) for t in range(16) for u in range(t + 1)
    )
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1], wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["random_qk", "fixed_qk"])
def test_a_static_map_is_the_same_for_every_sequence(name: str, key):
    task = tt.MQAR(vocab_size=16, length=16, num_pairs=2)
    model = Transformer(
        16, 16, num_layers=2, num_heads=2, width=8, no_mlp=(0, 1), qk_source=VARIANTS[name].qk_source(task)
    )
    batch = task.sample(key, 3)
    weights = model.apply(model.init(key), batch.inputs, tape=("blocks.1.attn.weights",))[1]["blocks.1.attn.weights"]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])
