"""Sparsemax and entmax are what they maximise, and their derivatives are slopes.

The usual reference implementation needs torch and works in float32; the certificate of optimality used here needs
neither and holds in float64.
"""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions import entmax as entmax_by_halving
from hypothesis import given
from hypothesis import strategies as st

from attnlab.attention import AdaptiveEntmax, Dims, Entmax, Entmax15, Softmax, Sparsemax
from attnlab.config import ConfigError

MAPS = [
    (Sparsemax(), 2.0),
    (Entmax15(), 1.5),
    (Entmax(1.1), 1.1),
    (Entmax(1.5), 1.5),
    (Entmax(2.0), 2.0),
    (Entmax(3.0), 3.0),
]
by_map = pytest.mark.parametrize(("map_", "alpha"), MAPS, ids=[f"{type(m).__name__}-{a}" for m, a in MAPS])

ROWS = hnp.arrays(np.float64, (3, 6), elements=st.floats(-30, 30, allow_subnormal=False) | st.sampled_from([0.0, 1.0]))
SEEN = np.ones((3, 6), bool)
SEEN[1, 2:4] = SEEN[2, 1:] = False


@by_map
@given(rows=ROWS)
def test_optimal(map_, alpha, rows) -> None:
    """The conditions of Karush, Kuhn and Tucker, which have one solution.

    `p^(alpha - 1) = (alpha - 1) l - tau` where `p > 0`, `(alpha - 1) l <= tau` elsewhere, `sum p = 1`. A root closes in
    on `tau` to 1e-16 and `p` to `1e-16 / (alpha - 1)`; logits up to 30 are rounded at 4e-15.
    """
    with jax.enable_x64(True):
        p = np.asarray(map_(jnp.asarray(rows), jnp.asarray(SEEN)))
    assert (p[~SEEN] == 0).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=0, atol=1e-14)
    for row, weight, seen in zip(rows, p, SEEN, strict=True):
        z, w = (alpha - 1) * row[seen], weight[seen]
        tau = z[w.argmax()] - w.max() ** (alpha - 1)
        positive = w > 0
        np.testing.assert_allclose(w[positive] ** (alpha - 1), z[positive] - tau, rtol=0, atol=3e-14)
        assert (z[~positive] <= tau + 3e-14).all()


@by_map
@pytest.mark.usefixtures("x64")
def test_slopes(map_, alpha, rng) -> None:
    """Central differences of halving in plain numbers: h^2 f''' / 6 and 1e-16 / h at h = 1e-5."""
    logits, direction, h = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), 1e-5

    def definition(amount):
        return np.array([entmax_by_halving(list(row), alpha) for row in logits + amount * direction])

    seen = jnp.ones(logits.shape, bool)
    p, slope = jax.jvp(lambda x: map_(x, seen), (jnp.asarray(logits),), (jnp.asarray(direction),))
    np.testing.assert_allclose(p, definition(0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(slope, (definition(h) - definition(-h)) / (2 * h), rtol=0, atol=3e-9)
    assert (np.asarray(p) == 0).any() or alpha < 1.5


@pytest.mark.parametrize("a", [-3.0, 0.0, 2.0])
@pytest.mark.usefixtures("x64")
def test_slope_in_alpha(a, rng) -> None:
    """As above, for `alpha = 1 + sigmoid(a)` and logits moving at once, one alpha per head."""
    logits, h = rng.normal(size=(2, 4, 6)), 1e-5
    seen = jnp.ones(logits.shape, bool)
    steps = np.array([1.0, -0.5])

    def definition(amount):
        alphas = 1 + 1 / (1 + np.exp(-(a + amount * steps)))
        heads = zip(logits, alphas, strict=True)
        return np.array([[entmax_by_halving(list(row), alpha) for row in rows] for rows, alpha in heads])

    _, slope = jax.jvp(
        lambda a: AdaptiveEntmax().given({"alpha": a})(jnp.asarray(logits), seen),
        (jnp.full(2, a),),
        (jnp.asarray(steps),),
    )
    # `p = z^(1 / (alpha - 1))`: at alpha = 1.05 the power of 20 multiplies rounding and curvature.
    np.testing.assert_allclose(slope, (definition(h) - definition(-h)) / (2 * h), rtol=0, atol=1e-8)
    assert float(jnp.max(jnp.abs(slope))) > 0.01


@pytest.mark.parametrize("map_", [Sparsemax(), Entmax15(), Entmax(1.3)], ids=lambda m: type(m).__name__)
def test_gradients_where_the_closed_form_has_none(map_) -> None:
    """Ties, one column, a weight of 1, logits that are far apart, rows that see nothing: no nan, sums of 0."""
    rows = jnp.asarray([[0.0] * 4, [5.0, 5.0, 0.0, 0.0], [1e4, 0.0, -1e4, 3.0], [1.0, 2.0, 3.0, 4.0], [1.0] * 4])
    seen = jnp.asarray([[True] * 4, [True] * 4, [True] * 4, [False, True, False, False], [False] * 4])
    p, pull = jax.vjp(lambda x: map_(x, seen), rows)
    (gradient,) = pull(jnp.asarray([1.0, -2.0, 3.0, 0.5]) * jnp.ones_like(p))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)
    np.testing.assert_allclose(p[0], 0.25, rtol=1e-6)
    np.testing.assert_array_equal(p[2:], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert float(jnp.abs(gradient[0]).max()) > 0.1, "the gradient is there, not merely finite"


@pytest.mark.parametrize("map_", [Sparsemax(), Entmax15(), Entmax(1.3)], ids=lambda m: type(m).__name__)
def test_single_precision(map_, rng) -> None:
    """Of float64: `tau` is rounded at 6e-8, a power of it a little more, sums of 12 gradients ten times as much."""
    logits, weight = rng.normal(size=(50, 12)), rng.normal(size=(50, 12))
    seen = np.tri(50, 12, dtype=bool)
    seen[:, 0] = True

    def both(dtype):
        p, pull = jax.vjp(lambda x: map_(x, jnp.asarray(seen)), jnp.asarray(logits, dtype))
        return np.asarray(p), np.asarray(pull(jnp.asarray(weight, dtype))[0])

    single = both(jnp.float32)
    with jax.enable_x64(True):
        double = both(jnp.float64)
    np.testing.assert_allclose(single[0], double[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(single[1], double[1], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_softmax_is_the_limit_of_alpha_one(rng) -> None:
    """The difference falls like `alpha - 1` (derived): by a factor of 10 per factor of 10, to first order."""
    logits = jnp.asarray(rng.normal(size=(5, 7)))
    seen = jnp.ones(logits.shape, bool)
    soft = Softmax()(logits, seen)
    error = [float(jnp.max(jnp.abs(Entmax(1 + e)(logits, seen) - soft))) for e in (1e-2, 1e-3, 1e-4)]
    assert error[0] / error[1] == pytest.approx(10, rel=0.1)
    assert error[1] / error[2] == pytest.approx(10, rel=0.02)


@pytest.mark.usefixtures("x64")
def test_support_does_not_grow_with_the_row_where_there_is_a_margin(rng) -> None:
    """A key 2 above all others has all the weight at any length (for alpha >= 1.5: `z - tau >= 1`); softmax spreads."""
    soft = []
    for n in (16, 1024):
        logits = jnp.asarray([2.0, *-np.abs(rng.normal(size=n - 1))])[None]
        seen = jnp.ones(logits.shape, bool)
        for map_ in (Sparsemax(), Entmax15()):
            assert float(map_(logits, seen)[0, 0]) == 1
        soft.append(float(Softmax()(logits, seen)[0, 0]))
    assert soft[0] > 0.4 and soft[1] < 0.02


def test_alpha_is_learned_from_one_and_a_half() -> None:
    params = AdaptiveEntmax().init(jax.random.key(0), Dims(3, 4, 12))
    np.testing.assert_array_equal(params["alpha"], np.zeros(3))
    with pytest.raises(ConfigError, match=r"Entmax.alpha: got 1; allowed is a number > 1. alpha = 1 is Softmax"):
        Entmax(1)
