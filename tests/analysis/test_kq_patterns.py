"""Patterns of KQ and OV: planted circuits whose every measure is known, and what must not change a measure."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab.analysis import HEAD_TYPES, head_patterns, head_terms, head_types, identified, identified_part
from attnlab.config import ConfigError
from attnlab.models.regression_attention import RegressionAttention

d, H = 5, 4
PROBE = head_patterns(matrices=True)
probed = jax.jit(PROBE, static_argnums=0)
# Sums of about 10 float32 terms of size 1.
CLOSE: Any = {"rtol": 1e-5, "atol": 1e-6}


def measured(kq, ov):
    model = RegressionAttention(d, len(kq), np.shape(ov)[-1], form="merged")
    return jax.device_get(probed(model, {"kq": np.float32(kq), "ov": np.float32(ov)}))


def random_circuits(rng, heads=H, outputs=1):
    wide = d + outputs
    return rng.normal(size=(heads, wide, wide)).astype(np.float32), rng.normal(size=(heads, wide, outputs)).astype(
        np.float32
    )


def same(found, expected, skip=()):
    for name in set(found) - set(skip):
        np.testing.assert_allclose(found[name], expected[name], **CLOSE, err_msg=name)


@pytest.mark.parametrize("form", ["separate", "merged", "reduced"])
def test_the_solution_of_the_paper(form):
    """One positive, two negative heads, one dummy, as in the authors' run with four heads."""
    model = RegressionAttention(d, H, form=form)
    omega, mu = np.array([-0.12, 0.12, -0.12, 0.0]), np.array([-1.9, 3.4, -1.5, 0.0])
    found = measured(*jax.jit(lambda: model.circuits(model.construct(omega, mu)))())
    np.testing.assert_allclose(found["omega"], omega, **CLOSE)
    np.testing.assert_allclose(found["mu"][:, 0], mu, **CLOSE)
    np.testing.assert_allclose(found["diagonal"], np.broadcast_to(omega[:, None], (H, d)), **CLOSE)
    for name in ("diagonality", "ov_purity"):
        np.testing.assert_allclose(found[name].reshape(H), [1, 1, 1, 0], **CLOSE)
    np.testing.assert_allclose(found["identity_cosine"], [-1, 1, -1, 0], **CLOSE)
    for name in ("homogeneity", "off_diagonal_norm", "label_row_norm", "zero_sum", "omega_spread", "same_sign"):
        np.testing.assert_allclose(found[name], 0, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["eta"], [omega @ mu], **CLOSE)
    np.testing.assert_allclose(found["step_matrix"][0], omega @ mu * np.eye(d), **CLOSE)
    assert [HEAD_TYPES[i] for i in found["head_type"][:, 0]] == ["negative", "positive", "negative", "dummy"]
    counts = {name: int(found[f"num_{name}"][0]) for name in HEAD_TYPES}
    assert counts == {"positive": 1, "negative": 2, "mixed": 0, "averaging": 0, "dummy": 1}
    np.testing.assert_allclose([found["mu_positive"][0], found["mu_negative"][0]], [3.4, -3.4], **CLOSE)
    np.testing.assert_allclose([found["purity_positive"][0], found["purity_negative"][0]], 1, **CLOSE)


def test_planted_departures(rng):
    """Each measure sees its own departure from the pattern, by the amount planted."""
    kq, ov = np.zeros((4, d + 1, d + 1)), np.zeros((4, d + 1, 1))
    kq[:, :d, :d] = 2 * np.eye(d)
    kq[0, 0, 1] = 4.0  # off the diagonal
    kq[1, np.arange(d), np.arange(d)] = [1, 2, 3, 4, 5]  # not homogeneous
    kq[2, d, :d] = 3.0  # reads labels of keys
    ov[:, d, 0], ov[3, 0, 0] = 1.0, 2.0  # the last head hands on an input
    found = measured(kq, ov)
    on = np.sqrt(4 * d)
    np.testing.assert_allclose(found["diagonality"], [on / np.sqrt(4 * d + 16), 1, 1, 1], **CLOSE)
    np.testing.assert_allclose(found["off_diagonal_norm"], [4, 0, 0, 0], **CLOSE)
    np.testing.assert_allclose(found["homogeneity"], [0, np.sqrt(2) / 3, 0, 0], **CLOSE)
    np.testing.assert_allclose(found["label_row_norm"], [0, 0, 3 * np.sqrt(d), 0], **CLOSE)
    cosines = [on / np.sqrt(4 * d + 16), 3 * np.sqrt(d) / np.sqrt(55), on / np.sqrt(4 * d + 9 * d), 1]
    np.testing.assert_allclose(found["identity_cosine"], cosines, **CLOSE)
    np.testing.assert_allclose(found["ov_purity"][:, 0], [1, 1, 1, 0.2], **CLOSE)
    assert found["omega_spread"][0] == pytest.approx((3 - 2) / (9 / 4), rel=1e-5)
    assert found["same_sign"] == 1


def test_every_type():
    typed = jax.jit(head_types)
    omega = jnp.array([1.0, -1.0, 1.0, -1.0, 0.05, 0.0, 1.0, 0.0])
    mu = jnp.array([2.0, -2.0, -2.0, 2.0, -2.0, 1.0, 0.1, 0.0])[:, None]
    names = [HEAD_TYPES[i] for i in typed(omega, mu)[:, 0]]
    assert names == ["positive", "negative", "mixed", "mixed", "averaging", "averaging", "dummy", "dummy"]
    # The threshold is relative to the largest head, of every output by itself.
    two = jnp.concatenate([mu, 1e-3 * mu[::-1]], axis=1)
    np.testing.assert_array_equal(typed(omega, two)[:, 0], typed(omega, mu)[:, 0])
    np.testing.assert_array_equal(typed(omega, two)[:, 1], typed(omega, mu[::-1])[:, 0])
    np.testing.assert_array_equal(typed(7 * omega, 3 * mu), typed(omega, mu))
    assert HEAD_TYPES[int(head_types(omega, mu, threshold=0.0)[6, 0])] == "positive"


def test_impurities_that_cancel_within_a_sign():
    """Two positive heads with opposite parts that read inputs: impure each, pure together."""
    kq = np.zeros((H, d + 1, d + 1))
    kq[:, :d, :d] = np.array([1.0, 1.0, -1.0, 0.0])[:, None, None] * np.eye(d)
    ov = np.zeros((H, d + 1, 1))
    ov[:, d, 0], ov[0, 1, 0], ov[1, 1, 0] = [1.0, 1.0, -2.0, 0.0], 1.0, -1.0
    found = measured(kq, ov)
    np.testing.assert_allclose(found["ov_purity"][:, 0], [0.5, 0.5, 1, 0], **CLOSE)
    np.testing.assert_allclose([found["purity_positive"][0], found["purity_negative"][0]], 1, **CLOSE)
    np.testing.assert_allclose(found["ov_positive"][:, 0], [0] * d + [2], **CLOSE)
    np.testing.assert_allclose(found["ov_negative"][:, 0], [0] * d + [-2], **CLOSE)


def test_nothing_is_nan_where_heads_are_zero(rng):
    """No head; one head that is 0; KQ or OV alone 0. The only infinity: a diagonal that differs about a mean of 0."""
    kq, ov = random_circuits(rng)
    for scale_kq, scale_ov in ((0, 0), (0, 1), (1, 0), (np.eye(H)[0][:, None, None], 1)):
        found = measured(scale_kq * kq, scale_ov * ov)
        assert all(np.isfinite(value).all() for value in found.values()), found
    zero = measured(0 * kq, 0 * ov)
    assert set(zero["head_type"][:, 0]) == {HEAD_TYPES.index("dummy")}
    assert not zero["same_sign"] and not zero["ov_purity"].any() and not zero["homogeneity"].any()
    kq[:] = 0
    kq[:, 0, 0], kq[:, 1, 1] = 1, -1
    assert np.isinf(measured(kq, ov)["homogeneity"]).all()


@given(seed=st.integers(0, 2**16), size=st.floats(-100, 100, width=32))
def test_what_the_query_label_would_read_changes_nothing(seed, size):
    kq, ov = random_circuits(np.random.default_rng(seed))
    garbage = kq.copy()
    garbage[..., d] = size
    found, expected = measured(garbage, ov), measured(kq, ov)
    same(found, expected, skip={"kq"})
    np.testing.assert_array_equal(identified_part(jnp.asarray(garbage)), identified_part(jnp.asarray(kq)))


@given(seed=st.integers(0, 2**16))
def test_order_of_heads(seed):
    rng = np.random.default_rng(seed)
    kq, ov = random_circuits(rng, outputs=2)
    order = rng.permutation(H)
    found, expected = measured(kq[order], ov[order]), measured(kq, ov)
    for name, dims in PROBE.dims(found).items():
        value = expected[name][order] if "head" in dims else expected[name]
        np.testing.assert_allclose(found[name], value, **CLOSE, err_msg=name)


@given(seed=st.integers(0, 2**16), power=st.integers(-6, 6))
def test_scale_moved_from_ov_to_kq(seed, power):
    """`(omega, mu) -> (c omega, mu / c)`: products, shares and types stay; powers of two, so that rounding does too."""
    kq, ov = random_circuits(np.random.default_rng(seed))
    c = np.float32(2.0**power)
    found, expected = measured(c * kq, ov / c), measured(kq, ov)
    stay = ("eta", "step_matrix", "diagonality", "homogeneity", "identity_cosine", "ov_purity", "head_type")
    for name in (*stay, "purity_positive", "omega_spread", "same_sign"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    np.testing.assert_allclose(found["zero_sum"] * c, expected["zero_sum"], **CLOSE)


def test_seeds_at_once_are_seeds_one_by_one(rng):
    """By `vmap`, and with the seeds as a leading axis of the parameters; compiled."""
    model = RegressionAttention(d, H, 2, form="merged")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = {name: rng.normal(size=(3, *leaf.shape)).astype(np.float32) for name, leaf in shapes.items()}
    mapped = jax.jit(jax.vmap(lambda p: PROBE(model, p)))(params)
    leading = probed(model, params)
    for i in range(3):
        alone = probed(model, jax.tree.map(lambda leaf, i=i: leaf[i], params))
        for name, value in alone.items():
            np.testing.assert_allclose(mapped[name][i], value, rtol=1e-4, atol=1e-4, err_msg=name)
            np.testing.assert_allclose(leading[name][i], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_every_output_has_named_axes():
    model = RegressionAttention(d, 3, num_outputs=2)
    params = jax.eval_shape(model.init, jax.random.key(0))
    found = jax.eval_shape(lambda p: PROBE(model, p), params)
    sizes = {"head": 3, "output": 2, "coordinate": d, "token_coordinate": d + 2}
    sizes |= {"query_coordinate": d, "query_token_coordinate": d + 2}
    for name, dims in PROBE.dims(found).items():
        assert found[name].shape == tuple(sizes[axis] for axis in dims), name
        assert len(set(dims)) == len(dims)
    assert {"kq", "ov"}.isdisjoint(jax.eval_shape(lambda p: head_patterns()(model, p), params))


def test_identified_entries_are_those_that_predictions_depend_on():
    """Where the gradient of a prediction with respect to KQ is not 0, for generic circuits and prompts."""
    model = RegressionAttention(3, 1, num_outputs=2, form="merged", scale=1.0)
    params = model.init(jax.random.key(0))
    tokens = jax.random.normal(jax.random.key(1), (4, 7, 5)).at[:, -1, 3:].set(0)
    slope = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, tokens)[0] ** 2)))(params)["kq"][0]
    np.testing.assert_array_equal(slope != 0, identified(3, 2))


def test_bad_arguments():
    with pytest.raises(ConfigError, match="threshold"):
        head_patterns(1.0)
    with pytest.raises(ConfigError, match="circuits"):
        head_patterns()(object(), {})
    with pytest.raises(ConfigError, match="dim"):
        identified(0)
    with pytest.raises(ConfigError, match="outputs"):  # without the run-time check of shapes
        inspect.unwrap(head_terms.read_heads)(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)))
