"""Losses of activations: the pair that a tapped model gives, and attention pulled to a target."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attnlab as al
import toy_tasks as tt
from attnlab import analysis, tape
from attnlab.config import ConfigError
from attnlab.models import Tapped, Transformer
from attnlab.tape import SiteError
from attnlab.training import Aligned

TASK = tt.NeedleCopy(num_tokens=8, haystack=6, needle=2)
MODEL = Transformer(TASK.vocab_size, TASK.length, num_layers=2, num_heads=2, width=16, no_mlp=(0, 1))
TAPPED = Tapped(MODEL, ("blocks.*.attn.weights",))


def test_a_tapped_model_says_the_same_and_gives_its_maps() -> None:
    params, tokens = TAPPED.init(jax.random.key(0)), TASK.sample(jax.random.key(1), 3).inputs
    wanted, read = MODEL.apply(params, tokens, tape=("*",))
    (logits, found), outer = TAPPED.apply(params, tokens, tape=("blocks.0.out",))
    np.testing.assert_array_equal(logits, wanted)
    assert set(found) == {"blocks.0.attn.weights", "blocks.1.attn.weights"} and set(outer) == {"blocks.0.out"}
    for name, value in found.items():
        np.testing.assert_array_equal(value, read[name])
    assert TAPPED.num_layers == 2 and TAPPED.vocab_size == MODEL.vocab_size


def test_edits_hold_before_the_taps_and_unknown_taps_are_errors() -> None:
    params, tokens = TAPPED.init(jax.random.key(0)), TASK.sample(jax.random.key(1), 3).inputs
    (_, found), _ = TAPPED.apply(params, tokens, edits=(tape.zero("blocks.0.attn.weights"),))
    assert (found["blocks.0.attn.weights"] == 0).all()
    with pytest.raises(SiteError, match="matches no activation"):
        Tapped(MODEL, ("blocks.7.attn.weights",)).apply(params, tokens)


def test_the_loss_is_the_sum_of_both() -> None:
    params, batch = TAPPED.init(jax.random.key(0)), TASK.sample(jax.random.key(1), 5)
    output, _ = TAPPED.apply(params, batch.inputs)
    loss = Aligned("answer", "needle", (0.4, 0.6), 0.05, 2.0)
    found = loss.measured(output[1], batch)
    wanted = analysis.interactions_of(MODEL, params, batch.inputs, batch.positions["answer"], batch.positions["needle"])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    gaps = np.abs(np.asarray(found, float) - [0.4, 0.6])
    huber = np.where(gaps <= 0.05, gaps**2 / 2, 0.05 * (gaps - 0.025)).mean()
    from attnlab.training.losses import next_token

    np.testing.assert_allclose(loss(output, batch), next_token(output[0], batch) + 2 * huber, rtol=1e-5)


def test_training_pulls_every_layer_to_its_target(tmp_path) -> None:
    """Within 300 steps and within delta, two seeds; and it is recorded, read and resumed like any run."""
    loss = Aligned("answer", "needle", (0.25, 0.6), 0.05, weight=200.0)
    options = {"seeds": 2, "batch_size": 32, "loss": loss, "progress": False}
    run = al.run(TASK, TAPPED, al.adamw(3e-3), steps=300, path=tmp_path / "run", **options)
    batch = TASK.sample(jax.random.key(3), 256)
    for seed in range(2):
        params = jax.tree.map(lambda x, s=seed: jnp.asarray(x[s]), run.params)
        found = loss.measured(TAPPED.apply(params, batch.inputs)[0][1], batch)
        assert (jnp.abs(found - jnp.asarray([0.25, 0.6])) <= 0.05).all(), found
    again = al.resume(tmp_path / "run", progress=False)
    np.testing.assert_array_equal(jax.tree.leaves(again.params)[0], jax.tree.leaves(run.params)[0])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Aligned("answer", "needle", 0.5, 0.0), "delta"),
        (lambda: Aligned("answer", "needle", 0.5, 0.1, -1.0), "weight"),
    ],
)
def test_numbers_out_of_range(make, told) -> None:
    with pytest.raises(ConfigError, match=told):
        make()


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (Aligned("answers", "needle", 0.5), "position class"),
        (Aligned("answer", "needle", (0.1, 0.2, 0.3)), "one a layer"),
    ],
)
def test_losses_that_do_not_fit(loss, told) -> None:
    params, batch = TAPPED.init(jax.random.key(0)), TASK.sample(jax.random.key(1), 5)
    output, _ = TAPPED.apply(params, batch.inputs)
    with pytest.raises(ConfigError, match=told):
        loss(output, batch)
    with pytest.raises(ConfigError, match="Tapped"):
        Aligned("answer", "needle", 0.5)((output[0], {}), batch)
