"""Mechanisms of the weight family that are one another: exactly, or in a limit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, HEAD_DIM, HEADS, LENGTH, SHAPE, inputs_of, mask_of

from attnlab import attention
from attnlab.attention import (
    Alibi,
    Differential,
    Gated,
    HeadNorm,
    QKNorm,
    Softpick,
    ValueTemper,
    Weighted,
    causal_mask,
    named,
    relu,
    relu_for,
    sigmoid,
    softmax,
    softmax_off_by_one,
)
from attnlab.attention.posts import tilted
from attnlab.models.layers import alibi_bias, rotate

pytestmark = pytest.mark.usefixtures("x64")

# Sums of at most 10 terms of size one in float64.
EXACT = 1e-13
CAUSAL = mask_of("causal")


def look(mechanism, x, params=None, mask=CAUSAL, bias=None, **changed):
    """The map view for the arrays of `x`, some exchanged."""
    q, k, v = (changed.get(name, getattr(x, name)) for name in "qkv")
    own = x.params if params is None else params
    return mechanism.apply(own, q, k, v, x=x.x, mask=mask, bias=bias, view="map")


def lse(x, mask=CAUSAL):
    """`log sum exp` of the visible logits of softmax, `[B, H, T]`."""
    logits = x.q @ jnp.swapaxes(x.k, -1, -2) / HEAD_DIM**0.5
    return jax.scipy.special.logsumexp(jnp.where(mask, logits, -jnp.inf), axis=-1)


def logistic(score):
    return 1 / (1 + np.exp(-np.asarray(score)))


def close(one, two, atol=EXACT):
    np.testing.assert_allclose(one, two, rtol=0, atol=atol)


# Escapes from the sum of 1.


def test_off_by_one_is_a_key_and_a_value_of_zero_in_front() -> None:
    x = inputs_of(softmax, np.float64)
    zero = jnp.zeros((BATCH, HEADS, 1, HEAD_DIM))
    mask = np.concatenate([np.ones((LENGTH, 1), bool), CAUSAL], axis=1)
    more = look(softmax, x, mask=mask, k=jnp.concatenate([zero, x.k], -2), v=jnp.concatenate([zero, x.v], -2))
    off = look(softmax_off_by_one, x)
    close(off.out, more.out)
    close(off.weights, more.weights[..., 1:])
    close(off.null, more.weights[..., 0])


def test_sink_logit_is_a_gate_on_the_output_of_softmax() -> None:
    """`A = sigmoid(lse - b) softmax`; `b = 0` is softmax-off-by-one, `b = -inf` softmax."""
    x = inputs_of(attention.sink_logit, np.float64)
    plain, sink = look(softmax, x), look(attention.sink_logit, x)
    gate = logistic(lse(x) - x.params["sink"][:, None])
    close(sink.weights, gate[..., None] * plain.weights)
    close(sink.out, gate[..., None] * plain.out)
    close(sink.null, 1 - gate)
    for value, same in ((0.0, softmax_off_by_one), (-np.inf, softmax)):
        limit = look(attention.sink_logit, x, {"sink": jnp.full(HEADS, value)})
        assert limit.out.tobytes() == look(same, x).out.tobytes()


def test_key_bias_is_a_gate_that_depends_on_the_query() -> None:
    """`A = sigmoid(lse_t - q_t . k* / sqrt(K)) softmax`."""
    x = inputs_of(attention.key_bias, np.float64)
    along = jnp.sum(x.q * x.params["key"][:, None], axis=-1) / HEAD_DIM**0.5
    gate = logistic(lse(x) - along)
    close(look(attention.key_bias, x).weights, gate[..., None] * look(softmax, x).weights)


def test_a_first_token_that_never_changes_is_a_bias_of_key_and_value() -> None:
    """So a learned one in front of data with a fixed first token finds its work done."""
    x = inputs_of(softmax, np.float64)
    first = {"key": x.k[0, :, 0], "value": x.v[0, :, 0]}
    k = x.k.at[:, :, 0].set(first["key"])
    v = x.v.at[:, :, 0].set(first["value"])
    with_token = look(softmax, x, k=k, v=v)
    with_bias = attention.kv_bias.apply(
        first, x.q[..., 1:, :], k[..., 1:, :], v[..., 1:, :], mask=CAUSAL[1:, 1:], view="map"
    )
    close(with_token.out[..., 1:, :], with_bias.out)
    close(with_token.weights[..., 1:, 0], with_bias.null)


def test_sigmoid_is_a_softmax_of_two() -> None:
    """`sigmoid(l_tu)` is the weight of key `u` beside a logit of 0, when no other key is seen."""
    x = inputs_of(sigmoid, np.float64)
    one_key = [np.broadcast_to(row, CAUSAL.shape) for row in np.eye(LENGTH, dtype=bool)]
    alone = [look(softmax_off_by_one, x, mask=mask).weights[..., u] for u, mask in enumerate(one_key)]
    close(look(sigmoid, x, mask=None).weights, jnp.stack(alone, axis=-1))


@pytest.mark.parametrize("seed", range(6))
def test_jacobian_of_sigmoid_attention_is_bounded(seed) -> None:
    """`|J|_2 <= |W_v| (s + 2 s' |W_q^T W_k| (mean |x|^2 + |mean x x^T|))`, `s = n max sigmoid`, `s' = n max sigmoid'`.

    The maxima are over the logits of the input (2409.04431 has such a bound; this form was checked here).
    """
    rng, n, d = np.random.default_rng(seed), 5, 3
    size = (0.3, 1.0, 3.0)[seed % 3]
    x = size * rng.normal(size=(n, d))
    w_q, w_k, w_v = rng.normal(size=(3, d, d))
    plain = named(sigmoid, "unscaled", scale=1.0)

    def layer(x):
        return plain.apply({}, *((x @ w)[None] for w in (w_q, w_k, w_v))).out[0]

    jacobian = np.asarray(jax.jacobian(layer)(jnp.asarray(x))).reshape(n * d, n * d)
    s = logistic((x @ w_q) @ (x @ w_k).T)

    def norm(matrix):
        return np.linalg.norm(matrix, 2)

    spread = np.mean(np.sum(x**2, axis=1)) + norm(x.T @ x / n)
    bound = norm(w_v) * (n * s.max() + 2 * n * (s * (1 - s)).max() * norm(w_q @ w_k.T) * spread)
    assert 0.001 * bound < norm(jacobian) <= bound


# Temperatures and positions.


def test_ssa_without_temperatures_is_softmax_bit_for_bit() -> None:
    x = inputs_of(attention.ssa, np.float64)
    off = {name: (jnp.zeros_like(p) if "temper" in name else jnp.full_like(p, -np.inf)) for name, p in x.params.items()}
    for same in (look(attention.ssa, x, off), look(attention.ssa_position, x, {"growth": jnp.asarray(np.inf)})):
        assert same.out.tobytes() == look(softmax, x).out.tobytes()


def test_the_value_temperature_scales_values_not_the_output() -> None:
    x = inputs_of(attention.ssa, np.float64)
    only_values = named(softmax, "values", tokens=ValueTemper())
    tau = np.tanh(np.sum(x.v * x.params["value_temper"][:, None], -1)) + 1
    tau = tau + logistic(x.params["value_growth"])[:, None] * np.log(np.arange(1, LENGTH + 1))
    plain = look(softmax, x)
    out = look(only_values, x).out
    close(out, plain.weights @ (tau[..., None] * x.v))
    assert float(jnp.max(jnp.abs(out - tau[..., None] * plain.out))) > 0.1


def test_alibi_is_a_bias_and_a_forget_gate_that_never_moves() -> None:
    """With `f = exp(-slope)`: the weights are zero in `w`, `b` the logit of `f`."""
    x = inputs_of(attention.forgetting, np.float64)
    slope = 2.0 ** (-8 * np.arange(1, HEADS + 1) / HEADS)
    gate = {
        "forget": jnp.zeros((HEADS * HEAD_DIM, HEADS)),
        "forget_bias": jnp.asarray(-slope - np.log(-np.expm1(-slope))),
    }
    expected = look(softmax, x, bias=jnp.asarray(alibi_bias(HEADS, LENGTH))).weights
    close(look(attention.alibi, x).weights, expected)
    close(look(attention.forgetting, x, gate).weights, expected)


def test_sigmoid_needs_the_whole_offset_of_alibi() -> None:
    """Kernels for softmax may drop what is constant in a row, here `-slope t`. Sigmoid may not, and does not here."""
    x = inputs_of(sigmoid, np.float64)
    whole = jnp.asarray(alibi_bias(HEADS, LENGTH))
    without_row = whole - whole[..., :, :1]
    moved = {}
    for base in (sigmoid, softmax):
        own = look(named(base, "alibi", tokens=Alibi()), x).weights
        close(own, look(base, x, bias=whole).weights)
        moved[base.name] = float(jnp.max(jnp.abs(own - look(base, x, bias=without_row).weights)))
    assert moved["softmax"] < EXACT and moved["sigmoid"] > 0.1


def test_rotated_scores_depend_on_the_distance_only() -> None:
    x = inputs_of(softmax, np.float64)

    def at(shift, base=softmax, params=None):
        q, k = (rotate(y, jnp.arange(LENGTH) + shift) for y in (x.q, x.k))
        return look(base, x, params, q=q, k=k).weights

    # The angle is up to 1000 radians, rounded at 1e-13.
    close(at(0), at(1000), atol=1e-11)
    no_gain = named(softmax, "no_gain", tokens=QKNorm(gain=False))
    close(at(0, no_gain), at(1000, no_gain), atol=1e-11)
    q, k = (y / jnp.sqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6) for y in (x.q, x.k))
    before = look(softmax, x, q=rotate(q, jnp.arange(LENGTH)), k=rotate(k, jnp.arange(LENGTH))).weights
    close(at(0, no_gain), before)
    # A gain per channel does not turn with the vectors.
    gain = {"query_gain": jnp.arange(1.0, 5.0), "key_gain": jnp.ones(HEAD_DIM)}
    assert float(jnp.max(jnp.abs(at(0, attention.qk_norm, gain) - at(3, attention.qk_norm, gain)))) > 0.01


def test_lengths_of_queries_and_keys_do_not_matter_to_cosines() -> None:
    for mechanism in (attention.cosine, attention.lssa, attention.lssar):
        x = inputs_of(mechanism, np.float64)
        close(look(mechanism, x).weights, look(mechanism, x, q=7 * x.q, k=x.k / 3).weights, atol=1e-12)


def test_a_soft_cap_bounds_logits_and_vanishes_when_it_is_high() -> None:
    """`c tanh(l / c) = l - l^3 / 3 c^2`: at c = 1e4 and logits up to 5, 4e-7 of difference."""
    x = inputs_of(softmax, np.float64)
    close(look(named(softmax, "high", cap=1e4), x).weights, look(softmax, x).weights, atol=1e-6)
    capped = look(named(softmax, "low", cap=0.5), x, q=100 * x.q, mask=None).weights
    assert float((capped.max(-1) / capped.min(-1)).max()) <= np.e + 1e-12


def test_tables_do_not_read_the_input() -> None:
    for mechanism in (attention.uniform, attention.offset_table, attention.position_table, attention.identity):
        x = inputs_of(mechanism, np.float64)
        pulled = jax.grad(lambda q, k, m=mechanism, x=x: jnp.sum(look(m, x, q=q, k=k).weights ** 2), (0, 1))(x.q, x.k)
        assert all((part == 0).all() for part in pulled)
    close(
        look(attention.uniform, x).weights, CAUSAL / np.arange(1.0, LENGTH + 1)[:, None] * np.ones((*SHAPE[:2], 1, 1))
    )
    assert (look(attention.identity, x).weights == np.eye(LENGTH)).all()


# Maps.


def test_second_order_rows_share_one_normaliser() -> None:
    """`(1 + l + l^2 / 2) / sum` (Based, 2402.18668), not each order over its own sum (2510.11602, eq. 14 to 17)."""
    x = inputs_of(attention.approximate, np.float64)
    logits = np.asarray(x.q @ jnp.swapaxes(x.k, -1, -2)) / HEAD_DIM**0.5
    orders = [np.where(CAUSAL, term, 0) for term in (np.ones_like(logits), logits, logits**2 / 2)]
    total = sum(term.sum(-1, keepdims=True) for term in orders)
    weights = look(attention.approximate, x).weights
    close(weights, sum(orders) / total)
    apart = sum(term / term.sum(-1, keepdims=True) for term in orders)
    assert np.abs(apart - weights).max() > 0.1


def test_non_approximate_is_a_ratio_of_running_sums() -> None:
    x = inputs_of(attention.non_approximate, np.float64)
    score = jnp.exp(jnp.sum(jax.nn.silu(x.q) * x.k, axis=-1, keepdims=True) / HEAD_DIM**0.5)
    expected = jnp.cumsum(score * x.v, axis=-2) / jnp.cumsum(score, axis=-2)
    close(look(attention.non_approximate, x).out, expected, atol=1e-12)


def test_softpick_is_softmax_where_logits_are_large_and_nothing_where_none_is_positive() -> None:
    """`(exp(l + c) - 1) / sum`: the difference to softmax is of the order of `n exp(-c)`."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)))
    seen = jnp.ones(logits.shape, bool)
    soft = attention.Softmax()(logits, seen)
    close(Softpick()(logits + 30, seen), soft, atol=6 * np.exp(-27))
    assert (Softpick()(-jnp.abs(logits), seen) == 0).all()
    # Small logits keep their digits: weights are `max(l, 0) / sum |l|` to first order.
    tiny = 1e-9 * logits
    first_order = np.maximum(tiny, 0) / np.abs(tiny).sum(-1, keepdims=True)
    close(Softpick()(tiny, seen), first_order, atol=1e-8)


def test_differential_attention_without_the_second_map_is_softmax_of_half_the_width() -> None:
    """`exp(0) - exp(0) + 0 = 0`; rows sum to `1 - lambda`."""
    mechanism = Differential("difference", initial=0.0)
    x = inputs_of(mechanism, np.float64)
    zero = jax.tree.map(jnp.zeros_like, x.params)
    half = HEAD_DIM // 2
    same = softmax.apply({}, x.q[..., :half], x.k[..., :half], x.v[..., :half], mask=CAUSAL, view="map")
    assert look(mechanism, x, zero).weights.tobytes() == same.weights.tobytes()
    close(look(mechanism, x).weights.sum(-1), 1 - mechanism.amount(x.params))


def test_the_norm_of_heads_cancels_any_positive_normaliser() -> None:
    """`relu / n_t` and `relu / 90`: the same direction, and the norm keeps no size."""
    x = inputs_of(relu, np.float64)
    one, two = (look(HeadNorm(base, eps=0.0), x, mask=mask_of("none")).out for base in (relu, relu_for(90)))
    close(one, two, atol=1e-12)
    close(jnp.mean(one**2, axis=-1), 1)
    assert float(jnp.max(jnp.abs(look(relu, x).out - look(relu_for(90), x).out))) > 0.1


# Regression with softmax weights.


def with_ridge(log_ridge):
    return {"log_ridge": jnp.full(HEADS, float(log_ridge))}


def test_local_linear_attention_with_an_infinite_ridge_is_softmax() -> None:
    """The tilt falls like `1 / ridge`."""
    x = inputs_of(attention.lla, np.float64)
    plain = look(softmax, x).weights
    error = [float(jnp.max(jnp.abs(look(attention.lla, x, with_ridge(r)).weights - plain))) for r in np.log([1e4, 1e6])]
    assert error[0] / error[1] == pytest.approx(100, rel=0.05)


def test_local_linear_attention_without_a_ridge_is_exact_on_affine_values() -> None:
    """`v = k W + c` gives `q W + c` as soon as `K + 1` keys span. The ridge counts as 1.5e-8 of the spread of keys,
    which is wrong by that times the condition of their covariance: 10 to 100 with twice as many keys as dimensions."""
    rng, num = np.random.default_rng(1), 12
    w, c = rng.normal(size=(HEAD_DIM, HEAD_DIM)), rng.normal(size=HEAD_DIM)
    q, k = (jnp.asarray(rng.normal(size=(HEADS, num, HEAD_DIM))) for _ in range(2))
    out = attention.lla.apply(with_ridge(np.log(1e-12)), q, k, k @ w + c, mask=causal_mask(num)).out
    wrong = np.abs(out - (q @ w + c)).max(axis=(0, 2))
    assert wrong[2 * HEAD_DIM - 1 :].max() < 2e-6, wrong
    assert wrong[: HEAD_DIM - 1].min() > 0.1, "few keys span no plane"


def test_local_linear_attention_with_equal_weights_is_ridge_regression_with_an_intercept() -> None:
    flat = named(attention.lla, "flat", scale=0.0)
    x = inputs_of(flat, np.float64)
    k, v, q = (np.asarray(y[0, 0]) for y in (x.k, x.v, x.q))
    centred = k - k.mean(0)
    slope = np.linalg.solve(centred.T @ centred + np.eye(HEAD_DIM), centred.T @ (v - v.mean(0)))
    close(look(flat, x, with_ridge(0), mask=None).out[0, 0], v.mean(0) + (q - k.mean(0)) @ slope, atol=1e-12)


def test_local_linear_attention_is_parallax_with_the_regression_s_probe() -> None:
    """`r = rho / (1 - mu . rho)`, `rho = (sum p x x^T + ridge / w)^-1 mu`, `mu = sum p x`, `x = k - q` (derived)."""
    x = inputs_of(attention.lla, np.float64)
    p, total = (np.asarray(y) for y in (look(softmax, x).weights, jnp.exp(lse(x))))
    apart = np.asarray(x.k)[..., None, :, :] - np.asarray(x.q)[..., :, None, :]
    mu = np.einsum("bhtu,bhtui->bhti", p, apart)
    second = np.einsum("bhtu,bhtui,bhtuj->bhtij", p, apart, apart) + np.eye(HEAD_DIM) / total[..., None, None]
    rho = np.linalg.solve(second, mu[..., None])[..., 0]
    r = rho / (1 - np.sum(mu * rho, -1, keepdims=True))
    close(look(attention.lla, x, with_ridge(0)).weights, tilted(jnp.asarray(p), x.k, jnp.asarray(r)), atol=1e-11)


def test_rows_of_regression_sum_to_one() -> None:
    for mechanism in (attention.lla, attention.parallax):
        x = inputs_of(mechanism, np.float64)
        weights = look(mechanism, x).weights
        close(weights.sum(-1), 1, atol=1e-12)
        assert (np.asarray(weights) < 0).any()


# A gate of 1.


@pytest.mark.parametrize("place", ["output", "value", "key", "query"])
@pytest.mark.parametrize("per", ["element", "head"])
def test_a_gate_of_one_is_no_gate(place, per) -> None:
    """`sigmoid(50) = 1` in float64: the same bits."""
    gate = Gated(attention.kv_bias, place, per, input_dependent=False)
    x = inputs_of(gate, np.float64)
    opened = x.params | {"gate": jnp.full_like(x.params["gate"], 50.0)}
    for one, two in zip(look(gate, x, opened), look(attention.kv_bias, x), strict=True):
        assert one.tobytes() == two.tobytes()


def test_a_mechanism_is_its_slots() -> None:
    assert isinstance(attention.lssar, Weighted)
    assert named(attention.lssar, "lssa", post=None) == attention.lssa
    assert causal_mask(LENGTH).tobytes() == CAUSAL.tobytes()
