"""The pointer over objects: scores by the formula, no slots, no future, padding without influence, three stops."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.config import ConfigError
from attnlab.models import Pointer
from toy_tasks import Display

MODEL = Pointer(3, width=8, num_heads=2, encoder_layers=1)
B, N, T = 2, 5, 4


def display_of(rng, items: int = N, missing: int = 1) -> Display:
    present = np.arange(items) < items - missing
    fixated = rng.integers(0, items - missing, (B, T))
    fixated[:, 0] = -1
    features = rng.normal(size=(B, items, 3))
    return Display(
        jnp.asarray(features, jnp.float32),
        jnp.asarray(rng.uniform(size=(B, items, 2)), jnp.float32),
        jnp.asarray(np.tile(present, (B, 1))),
        jnp.asarray(features[:, 0], jnp.float32),
        jnp.asarray(fixated, jnp.int32),
    )


def params_of(model: Pointer, seed: int = 0):
    """All leaves normal, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)


@pytest.fixture(scope="module")
def run():
    return jax.jit(lambda params, display: MODEL.apply(params, display)[0])


@pytest.mark.parametrize("stop", ["zero", "learned", "none"])
def test_scores_are_the_formula(stop, rng):
    model = dataclasses.replace(MODEL, stop=stop)
    params, display = params_of(model), display_of(rng)
    names = ("items", "fixations", "scores")
    logits, tape = jax.jit(lambda p, d: model.apply(p, d, tape=names))(params, display)
    h, g = (np.asarray(tape[name], np.float64) for name in ("items", "fixations"))
    p = {name: np.asarray(value, np.float64) for name, value in params["pointer"].items()}
    for b in range(B):
        for t in range(T):
            asked = [g[b, t] @ p["decode"][:, m] + p["decode_bias"][m] for m in range(2)]
            for i in range(N - 1):
                keys = [h[b, i] @ p["encode"][:, m] + p["encode_bias"][m] for m in range(2)]
                wanted = sum(p["mix"][m] * keys[m] @ asked[m] for m in range(2)) / np.sqrt(8)
                assert float(logits[b, t, i]) == pytest.approx(wanted, abs=1e-4)
            learned = sum(p["mix"][m] * p["stop"][m] @ asked[m] for m in range(2)) / np.sqrt(8) if "stop" in p else 0
            wanted = {"zero": 0.0, "none": -1e9, "learned": learned}[stop]
            assert float(logits[b, t, N]) == pytest.approx(wanted, abs=1e-4)
    assert (np.asarray(logits[..., N - 1]) == -1e9).all()


def test_items_have_no_order_and_padding_no_influence(run, rng):
    params, display = params_of(MODEL), display_of(rng)
    logits = np.asarray(run(params, display))
    order = np.array([3, 0, 4, 2, 1])
    moved = Display(
        display.features[:, order],
        display.places[:, order],
        display.present[:, order],
        display.target,
        jnp.where(display.fixated < 0, -1, jnp.asarray(np.argsort(order), jnp.int32)[display.fixated]),
    )
    np.testing.assert_allclose(run(params, moved), logits[..., [*order, N]], atol=1e-5, rtol=1e-5)
    other = dataclasses.replace(display, features=display.features.at[:, N - 1].set(7.0))
    np.testing.assert_allclose(run(params, other), logits, atol=1e-6)
    longer = Display(
        jnp.pad(display.features, ((0, 0), (0, 9), (0, 0)), constant_values=3.0),
        jnp.pad(display.places, ((0, 0), (0, 9), (0, 0))),
        jnp.pad(display.present, ((0, 0), (0, 9))),
        display.target,
        display.fixated,
    )
    found = np.asarray(run(params, longer))  # more items than ever: the same parameters
    assert found.shape == (B, T, N + 10)
    np.testing.assert_allclose(found[..., [*range(N), N + 9]], logits, atol=1e-5)
    alone = jax.tree.map(lambda x: x[0], display)
    np.testing.assert_allclose(run(params, alone), logits[0], atol=1e-5)


def test_later_fixations_have_no_influence_earlier_ones_have(run, rng):
    params, display = params_of(MODEL), display_of(rng)
    logits = np.asarray(run(params, display))
    other = dataclasses.replace(display, fixated=display.fixated.at[:, 2].set((display.fixated[:, 2] + 1) % (N - 1)))
    found = np.asarray(run(params, other))
    np.testing.assert_array_equal(found[:, :2], logits[:, :2])
    items = found[..., : N - 1] - logits[..., : N - 1]
    assert (np.abs(items[:, 2:]).max(axis=(0, 2)) > 1e-4).all()


def test_target_and_places_matter_and_every_parameter_learns(run, rng):
    params, display = params_of(MODEL), display_of(rng)
    logits = run(params, display)
    for change in ({"target": display.target + 1}, {"places": display.places * 0.5}):
        assert float(jnp.abs(run(params, dataclasses.replace(display, **change)) - logits)[..., 0].max()) > 1e-3
    learned = dataclasses.replace(MODEL, stop="learned")

    def loss(params):
        return -jnp.mean(jax.nn.log_softmax(learned.apply(params, display)[0])[..., 0])

    gradient = jax.jit(jax.grad(loss))(params_of(learned))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert float(jnp.abs(leaf).max()) > 0, path


def test_errors_name_the_field():
    for wrong, field in (({"width": 9}, "width"), ({"num_scores": 0}, "num_scores"), ({"stop": "one"}, "stop")):
        with pytest.raises(ConfigError, match=rf"Pointer\.{field}"):
            dataclasses.replace(MODEL, **wrong)
