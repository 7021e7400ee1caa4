"""Feature maps: the kernels they stand for, their sizes and signs, their start; the distillation loss."""

from __future__ import annotations

from functools import partial
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrent_cases import QUICK
from recurrent_reference import num_monomials
from recurrent_reference import powers as dense_powers

from attnlab.attention import Dims, features
from attnlab.attention.distillation import distillation_loss
from attnlab.attention.features import CosFormer, Dpfp, Favor, Hedgehog, Rebased, TruncatedExp

DIMS = Dims(2, 4, 6)
AT = np.arange(5)


def tokens(width: int = 4, seed: int = 0, num: int = 5):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(2, num, width))) for _ in range(2))


def kernel(feature, q, k, params=None):
    """`φ(q_t) · φ(k_u)`."""
    f, g = feature(params or {}, q, k, jnp.arange(q.shape[-2]))
    return np.asarray(f @ g.mT)


def scores(q, k):
    return np.asarray(q @ k.mT) / np.sqrt(q.shape[-1])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.usefixtures("x64")
def test_powers_are_the_truncated_exponential(order, dense) -> None:
    q, k = tokens(3)
    feature = TruncatedExp(order, dense)
    s = scores(q, k)
    expected = sum(s**n / factorial(n) for n in range(order + 1))
    np.testing.assert_allclose(kernel(feature, q, k), expected, rtol=1e-13, atol=1e-13)
    made = feature({}, q, k, AT)[0]
    assert made.shape[-1] == (sum(3**n for n in range(order + 1)) if dense else num_monomials(3, order))
    if dense:
        np.testing.assert_allclose(made[0, 0], dense_powers(np.asarray(q[0, 0]), order), rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_second_order_is_at_least_one_half_and_not_monotone() -> None:
    """`1 + s + s^2 / 2 >= 1/2`, least at `s = -1`; for scores below -1 it falls while they rise."""
    q = jnp.linspace(-3, 3, 61)[None, :, None]
    one = jnp.ones((1, 1, 1))
    values = kernel(TruncatedExp(2), q, one)[0, :, 0]
    assert values.min() == pytest.approx(0.5, abs=1e-12)
    assert values.argmin() == 20
    assert (np.diff(values[:21]) < 0).all() and (np.diff(values[20:]) > 0).all()


@pytest.mark.usefixtures("x64")
def test_more_orders_come_to_softmax() -> None:
    """Exponentials are off by less than `r = |s|^(p+1) e^(2|s|) / (p+1)!` of themselves, weights by `2r / (1-r)`."""
    q, k = tokens(2, num=8)
    s = scores(q, k)
    soft = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    errors = []
    for order in (1, 2, 4, 8, 12):
        weights = kernel(TruncatedExp(order), q, k)
        errors.append(np.abs(weights / weights.sum(-1, keepdims=True) - soft).max())
        top = np.abs(s).max()
        remainder = top ** (order + 1) / factorial(order + 1) * np.exp(2 * top)
        assert remainder > 0.5 or errors[-1] <= 2 * remainder / (1 - remainder), (order, errors)
    assert (np.diff(errors) < 0).all() and remainder < 0.5, errors


@pytest.mark.usefixtures("x64")
def test_rebased_is_a_square_of_normalised_vectors() -> None:
    q, k = tokens()
    start = Rebased().init(jax.random.key(0), DIMS)

    def normalised(x):
        centered = x - x.mean(-1, keepdims=True)
        return np.asarray(centered / np.sqrt(x.var(-1, keepdims=True) + 1e-5))

    expected = (normalised(q) @ normalised(k).swapaxes(-1, -2)) ** 2 / 4
    np.testing.assert_allclose(kernel(Rebased(), q, k, start), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_cosformer_weighs_by_distance() -> None:
    q, k = tokens()
    t = np.arange(5)
    expected = np.maximum(q, 0) @ np.maximum(k, 0).mT * np.cos(np.pi * (t[:, None] - t) / (2 * 16))
    np.testing.assert_allclose(kernel(CosFormer(16), q, k), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_random_features_have_the_exponential_as_their_mean() -> None:
    """20000 features of vectors of norm below 1: the mean of each pair within 5 of its standard errors."""
    q, k = (0.5 * x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in tokens())
    omega = Favor(20000).init(jax.random.key(0), DIMS)["omega"].astype(jnp.float64)
    one = [np.asarray(x) * 4**-0.25 for x in (q, k)]
    each = np.exp(np.einsum("htk,mk->htm", one[0], omega) - (one[0] ** 2).sum(-1)[..., None] / 2)[:, :, None]
    other = np.exp(np.einsum("huk,mk->hum", one[1], omega) - (one[1] ** 2).sum(-1)[..., None] / 2)[:, None]
    deviation = (each * other).std(-1) / np.sqrt(20000)
    found = kernel(Favor(20000), q, k, {"omega": omega})
    assert (np.abs(found - np.exp(scores(q, k))) < 5 * deviation).all()
    assert (found > 0).all()


@pytest.mark.usefixtures("x64")
def test_random_directions_are_orthogonal_within_a_block_and_have_lengths_of_gaussians() -> None:
    omega = np.asarray(features.orthogonal_gaussian(jax.random.key(0), 400, 4))
    blocks = omega.reshape(-1, 4, 4)
    products = blocks @ blocks.swapaxes(-1, -2)
    off = products - products * np.eye(4)
    assert np.abs(off).max() < 1e-12
    # The squared length is chi-squared with 4 degrees: mean 4, variance 8; 5 standard errors of 400 draws.
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    assert squares.mean() == pytest.approx(4, abs=5 * np.sqrt(8 / 400))
    assert np.abs(omega.mean(0)).max() < 5 / np.sqrt(400)


@pytest.mark.usefixtures("x64")
def test_dpfp_keeps_both_signs_positive() -> None:
    """`[relu(x), relu(-x)]`, not `[relu(x), -relu(x)]`: that has negative products, and is blind to inputs below 0."""
    x = jnp.asarray([[1.0, -2.0]])
    np.testing.assert_array_equal(Dpfp()(x), [[2.0, 0.0, 0.0, 0.0]])  # r = [1, 0, 0, 2], r ⊙ roll(r, 1)
    np.testing.assert_array_equal(Dpfp()(-x), [[0.0, 0.0, 2.0, 0.0]])
    q, _ = tokens()
    made = Dpfp(3)(q)
    assert made.shape[-1] == 2 * 4 * 3
    assert (made >= 0).all() and (made > 0).any(-1).all()


@pytest.mark.usefixtures("x64")
def test_the_forms_of_hedgehog_differ() -> None:
    """flash-linear-attention: one softmax, factor 2; LoLCATs: two softmaxes; the paper: exponentials."""
    x = jnp.asarray([[1.0, -0.5]])
    start = Hedgehog(bias=True).init(jax.random.key(0), Dims(1, 2, 2))
    assert (start["feature_query"][0] == np.eye(2)).all() and (start["feature_query_shift"] == 0).all()

    def of(feature):
        return np.asarray(feature(start, x[None], x[None], AT)[0])[0, 0]

    e = np.exp
    both = np.array([e(2), e(-1), e(-2), e(1)])
    np.testing.assert_allclose(of(Hedgehog()), both / both.sum(), rtol=1e-12)
    first, second = np.array([e(1), e(-0.5)]), np.array([e(-1), e(0.5)])
    halves = np.concatenate([first / first.sum(), second / second.sum()])
    np.testing.assert_allclose(of(Hedgehog(features.split, 1.0, bias=False)), halves, rtol=1e-12)
    np.testing.assert_allclose(of(Hedgehog(features.plain, 1.0)), [e(1), e(-0.5), e(-1), e(0.5)], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_keys_of_the_delta_rule_have_norm_one() -> None:
    """Not sum one: only with norm 1 is `1 - β |k|^2` the eigenvalue `1 - β`."""
    made = features.l2_silu(tokens()[0])
    np.testing.assert_allclose(jnp.linalg.norm(made, axis=-1), 1, rtol=0, atol=2e-5)  # eps 1e-6 beside |silu|^2 > 0.03
    assert float(jnp.max(jnp.abs(jnp.sum(jnp.abs(made), -1) - 1))) > 0.1
    assert np.isfinite(jax.grad(lambda x: features.l2_silu(x).sum())(jnp.zeros((1, 1, 3)))).all()


@pytest.mark.usefixtures("x64")
def test_kernel_metrics_of_random_queries_and_keys() -> None:
    """`H / log n` and KL(softmax | map), d = 16, n = 128, Gaussian: catalogued numbers within 10 %.

    softmax .897; ELU+1 .995, .422; ReLU .949; Taylor .947, .066; exp .979, .380; Hedgehog (W = I) .913, .281. ReLU's
    divergence is left out: one weight in a hundred is 0, and it is .39 or .56 as these count as 1e-8 or 1e-30.
    """
    rng = np.random.default_rng(0)
    q, k = jnp.asarray(rng.normal(size=(8, 64, 16))), jnp.asarray(rng.normal(size=(8, 128, 16)))
    soft = np.asarray(jax.nn.softmax(q @ k.mT / 4, axis=-1))
    start = Hedgehog().init(jax.random.key(0), Dims(1, 16, 16))
    rows = {
        "elu": (features.elu_plus_one(q), features.elu_plus_one(k), 0.995, 0.422),
        "relu": (features.relu(q), features.relu(k), 0.949, None),
        "taylor": (*TruncatedExp(2)({}, q, k, AT), 0.947, 0.066),
        "exp": (jnp.exp(q), jnp.exp(k), 0.979, 0.380),
        "hedgehog": (*Hedgehog()(start, q, k, AT), 0.913, 0.281),
    }

    def entropy(p):
        return float(-np.sum(p * np.log(np.maximum(p, 1e-300)), -1).mean() / np.log(128))

    assert entropy(soft) == pytest.approx(0.897, rel=0.1)
    for name, (f, g, share, divergence) in rows.items():
        weights = np.asarray(f @ g.mT)
        weights = weights / weights.sum(-1, keepdims=True)
        assert entropy(weights) == pytest.approx(share, rel=0.1), name
        kl = float(distillation_loss(jnp.asarray(soft), jnp.asarray(weights)).kl)
        assert divergence is None or kl == pytest.approx(divergence, rel=0.1), name


@pytest.mark.usefixtures("x64")
def test_distillation_loss_is_cross_entropy_and_divergence_of_visible_rows() -> None:
    rng = np.random.default_rng(0)
    mask = np.tri(4, dtype=bool)
    mask[2] = False  # a row that sees nothing does not count
    rows = np.where(mask, rng.random((2, 2, 4, 4)), 0)
    teacher, student = (r / np.maximum(r.sum(-1, keepdims=True), 1e-9) for r in (rows, rows**2))
    ce = kl = 0.0
    for b, h, t in np.ndindex(2, 2, 4):
        if t == 2:
            continue
        for u in range(t + 1):
            ce -= teacher[b, h, t, u] * np.log(student[b, h, t, u]) / 12
            kl += teacher[b, h, t, u] * np.log(teacher[b, h, t, u] / student[b, h, t, u]) / 12
    loss = partial(distillation_loss, mask=mask)
    found = loss(jnp.asarray(teacher), jnp.asarray(student))
    assert float(found.cross_entropy) == pytest.approx(ce, rel=1e-12)
    assert float(found.kl) == pytest.approx(kl, rel=1e-12)
    assert float(loss(jnp.asarray(teacher), jnp.asarray(teacher)).kl) == pytest.approx(0, abs=1e-14)
    for which in ("cross_entropy", "kl"):
        to_teacher, to_student = jax.grad(lambda t, s, which=which: getattr(loss(t, s), which), argnums=(0, 1))(
            jnp.asarray(teacher), jnp.asarray(student)
        )
        assert (to_teacher == 0).all(), "the teacher is fixed"
        expected = np.where(mask, -teacher / np.where(mask, student, 1) / 12, 0)
        np.testing.assert_allclose(to_student, expected, rtol=1e-12)
    silent = distillation_loss(jnp.asarray(teacher), jnp.zeros_like(jnp.asarray(student)), mask)
    assert np.isfinite(silent.cross_entropy)


@pytest.mark.usefixtures("x64")
def test_hedgehog_learns_the_weights_of_softmax() -> None:
    """200 steps of gradient descent on the loss: KL falls below half of the value at `W = I`."""
    q, k = tokens(num=8)
    mask = np.tri(8, dtype=bool)
    teacher = jax.nn.softmax(jnp.where(mask, q @ k.mT / 2, -jnp.inf), axis=-1)
    start = jax.tree.map(lambda a: a.astype(jnp.float64), Hedgehog().init(jax.random.key(0), DIMS))

    def loss(params):
        f, g = Hedgehog()(params, q, k, AT)
        weights = jnp.where(mask, f @ g.mT, 0)
        return distillation_loss(teacher, weights / jnp.sum(weights, -1, keepdims=True), mask)

    def descend(params, _):
        gradient = jax.grad(lambda p: loss(p).cross_entropy)(params)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient), loss(params).kl

    _, kl = jax.jit(lambda p: jax.lax.scan(descend, p, length=200), compiler_options=QUICK)(start)
    assert kl[-1] < 0.5 * kl[0], kl[:: len(kl) // 5]
