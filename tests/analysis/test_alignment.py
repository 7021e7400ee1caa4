"""Alignment with gradient descent: 1 for a model made to equal a predictor, known values for planted departures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixed_prompts import FixedPrompts

from attnlab.analysis import gd_alignment, rescaled, scale_sweep, step_matrix
from attnlab.analysis.prompts import over_leading, query_gradient, reader
from attnlab.config import ConfigError
from attnlab.models.regression_attention import RegressionAttention
from toy_tasks.base import Batch, Prompt
from toy_tasks.linear_regression import LinearRegression
from toy_tasks.regression_predictors import DebiasedStep, GradientStep, SoftmaxHeads

d, B = 3, 32
TASK = FixedPrompts(d)
MODEL = RegressionAttention(d, 2, form="reduced")
CLOSE: Any = {"rtol": 1e-4, "atol": 1e-5}
UNLIKE = {"omega": jnp.array([0.5, -0.3]), "mu": jnp.array([[2.0], [-1.0]])}


def opposite(omega, eta=0.8):
    """Two opposite heads whose step size is `eta`."""
    return {"omega": jnp.array([omega, -omega]), "mu": jnp.array([[eta], [-eta]]) / (2 * omega)}


@jax.jit
def aligned(params):
    """Of any number of seeds, with a debiased step of size 0.8."""
    return jax.vmap(lambda p: gd_alignment(TASK, DebiasedStep(0.8), B)(MODEL, p))(params)


def stack(*params):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def test_two_opposite_heads_are_a_debiased_step():
    """What they leave is of order `omega^2`; at 0.01 that is below 1e-3, and so is float32 rounding by `1 / omega`."""
    found = jax.device_get(aligned(stack(opposite(0.1), opposite(0.05), opposite(0.01))))
    far, half, near = found["prediction_relative"][:, 0]
    assert 3 < far / half < 5 and near < 1e-3
    assert (np.diff(found["gradient_cosine"][:, 0]) > 0).all()
    for name, value in found.items():
        exact = 0 if "distance" in name or "relative" in name else 1
        np.testing.assert_allclose(value[-1], exact, atol=2e-3, err_msg=name)


def test_the_step_matrix_is_the_step_that_small_heads_take(rng):
    """Two opposite heads with any KQ, not symmetric: a debiased step preconditioned by `Gamma`, not its transpose."""
    kq = jnp.zeros((2, d + 1, d + 1)).at[:, :d, :d].set(0.01 * rng.normal(size=(d, d))) * jnp.array([[[1.0]], [[-1.0]]])
    ov = jnp.zeros((2, d + 1, 1)).at[:, d, 0].set(jnp.array([40.0, -40.0]))
    model = RegressionAttention(d, 2, form="merged")

    def gaps(params):
        gamma = step_matrix(params["kq"], params["ov"][:, d:, 0])[0]
        probes = [gd_alignment(TASK, DebiasedStep(1.0, factor), B) for factor in (gamma, gamma.T)]
        return [probe(model, params)["gradient_relative"] for probe in probes]

    right, wrong = jax.jit(gaps)({"kq": kq, "ov": ov})
    assert right < 5e-3 and wrong > 0.1


def test_planted_departures():
    """A step twice as long the wrong way, no step at all, and the order of heads."""
    params = opposite(0.01)
    wrong = {"omega": params["omega"], "mu": -2 * params["mu"]}
    swapped = jax.tree.map(lambda leaf: leaf[::-1], UNLIKE)
    found = jax.device_get(aligned(stack(wrong, jax.tree.map(jnp.zeros_like, wrong), UNLIKE, swapped)))
    expected = {
        "gradient_cosine": (-1, 0),
        "gradient_norm_ratio": (2, 0),
        "gradient_relative": (3, 1),
        "prediction_relative": (3, 1),
        "prediction_cosine": (-1, 0),
    }
    for name, pair in expected.items():
        np.testing.assert_allclose(found[name][:2, 0], pair, atol=5e-3, err_msg=name)
    for name, value in found.items():
        np.testing.assert_allclose(value[2], value[3], **CLOSE, err_msg=name)
    assert set(gd_alignment(TASK, DebiasedStep(0.8)).dims(found).values()) == {("output",)}


def test_a_model_that_is_the_predictor_and_one_seed_alone():
    """Softmax heads against the same formula, in plain numbers; then one seed against the seeds at once."""
    probe = gd_alignment(TASK, SoftmaxHeads(np.array([0.5, -0.3]), np.array([2.0, -1.0])), B)
    for name, value in jax.device_get(jax.jit(lambda p: probe(MODEL, p))(UNLIKE)).items():
        exact = 0 if "distance" in name or "relative" in name else 1
        np.testing.assert_allclose(value, exact, **CLOSE, err_msg=name)
    alone = jax.jit(lambda p: gd_alignment(TASK, DebiasedStep(0.8), B)(MODEL, p))(UNLIKE)
    many = aligned(stack(UNLIKE, opposite(0.1), opposite(0.2)))
    for name, value in alone.items():
        np.testing.assert_allclose(many[name][0], value, **CLOSE, err_msg=name)


def test_slopes_of_several_outputs():
    """The gradient of a step is its slope, `eta mean_c y_c x_c`, per output."""
    task, step = FixedPrompts(d, outputs=2), GradientStep(0.7)
    x, y, query, _ = task.arrays(B)
    prompt = task.sample(None, B).inputs
    values, slopes = jax.jit(lambda p: query_gradient(lambda q: step(q.x, q.y, q.query), p))(prompt)
    expected = 0.7 * np.einsum("bcm,bcd->bmd", y, x) / task.context
    np.testing.assert_allclose(slopes, expected, **CLOSE)
    np.testing.assert_allclose(values, np.einsum("bmd,bd->bm", expected, query), **CLOSE)


def test_token_layouts_are_read_as_prompts_are():
    task = LinearRegression(d, 12, supports=((0, 1), (1, 2)), layout="masked_key")
    model = RegressionAttention(d, 2, 2, form="reduced")
    params = {"omega": jnp.array([0.5, -0.3]), "mu": jnp.array([[2.0, 1.0], [-1.0, 0.5]])}
    prompt = FixedPrompts(d, outputs=2).sample(None, B).inputs
    tokens, plain = jax.jit(lambda p: (reader(model, p, task)(prompt), reader(model, p, TASK)(prompt)))(params)
    np.testing.assert_allclose(tokens, plain, **CLOSE)


def test_interleaved_tokens_hold_the_prompt():
    """A model of tokens that alternate is given those whose prompt this is, and is read at its last place."""

    class Last:
        def apply(self, params, tokens):
            found = task.prompt(Batch(tokens, tokens, tokens, {}))
            says = jnp.sum(found.x * params) + jnp.sum(found.y, axis=1) + jnp.sum(found.query, axis=1, keepdims=True)
            return jnp.broadcast_to(says[:, None], (*tokens.shape[:2], 1)).at[:, :-1].set(jnp.nan), {}

    task = LinearRegression(d, 12, layout="interleaved")
    x, y, query, _ = TASK.arrays(B)
    found = reader(Last(), 0.5, task)(Prompt(jnp.asarray(x), jnp.asarray(y), jnp.asarray(query)))
    np.testing.assert_allclose(found, 0.5 * x.sum() + y.sum(axis=1) + query.sum(axis=1, keepdims=True), rtol=1e-4)


def test_scales():
    """Noiseless, a step of size `eta` at input scale `s` is one of size `s^2 eta` at scale 1; weights do not matter."""
    scales, eta = (0.5, 1.0, 2.0), 0.4
    sweep = scale_sweep(TASK, GradientStep(eta), input_scales=scales, weight_scales=(1.0, 3.0), batch_size=B)
    found = jax.device_get(jax.jit(lambda p: sweep(MODEL, p))(UNLIKE))
    x, y, query, label = TASK.arrays(B)
    for i, scale in enumerate(scales):
        step = scale**2 * eta * np.einsum("bcm,bcd,bd->bm", y, x, query) / TASK.context
        expected = np.mean((step - label) ** 2) / np.mean(label**2)
        np.testing.assert_allclose(found["input_error_predictor"][i], expected, rtol=1e-4)
    for name in ("error", "error_predictor", "gap"):
        by_weight, by_input = found[f"weight_{name}"], found[f"input_{name}"]
        np.testing.assert_allclose(by_weight, by_weight[:1].repeat(2, axis=0), rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(by_weight[0], by_input[1], rtol=1e-4, err_msg=name)
    assert (found["input_gap"] > 0).all()
    for name, dims in sweep.dims(found).items():
        assert dims == (f"{name.split('_')[0]}_scale", "output") and found[name].ndim == 2
    alone = jax.eval_shape(lambda p: scale_sweep(TASK)(MODEL, p), UNLIKE)
    assert {name: value.shape for name, value in alone.items()} == {"input_error": (7, 1), "weight_error": (6, 1)}
    far = rescaled(TASK.sample(None, 2).inputs, 2.0, 3.0)
    np.testing.assert_allclose(far.y, 6 * TASK.arrays(2)[1], rtol=1e-6)


def test_leading_axes_of_parameters():
    params = {"omega": jnp.ones((2, 3, 2)), "mu": jnp.arange(12.0).reshape(2, 3, 2, 1)}
    found = over_leading(lambda one: jnp.sum(one["mu"]), MODEL, params)
    np.testing.assert_array_equal(found, params["mu"].sum(axis=(-1, -2)))
    with pytest.raises(ConfigError, match="leading"):
        over_leading(lambda one: one, MODEL, params | {"mu": jnp.ones((2, 1))})


def test_bad_arguments():
    with pytest.raises(ConfigError, match="predictor"):
        gd_alignment(TASK, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="input_scales"):
        scale_sweep(TASK, input_scales=())
