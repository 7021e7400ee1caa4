"""Where the parameters of the slots begin, and what the slots refuse."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.attention import Chain, Dims, Forget, QKNorm, SelectiveTemper, Unit, named, softmax
from attnlab.attention.maps import Length
from attnlab.config import ConfigError

DIMS = Dims(4, 50, 200)

# Names of parameters: shape, mean, deviation. A mechanism that is not here has no parameters of its own.
BEGIN = {
    "sink_logit": {"sink": ((4,), 0, 0)},
    "key_bias": {"key": ((4, 50), 0, 0.02)},
    "kv_bias": {"key": ((4, 50), 0, 0.02), "value": ((4, 50), 0, 0.02)},
    "value_bias": {"value_bias": ((4, 50), 0, 0.02)},
    "qk_norm": {"query_gain": ((50,), 1, 0), "key_gain": ((50,), 1, 0)},
    "qk_layernorm": {
        **{f"{name}_gain": ((50,), 1, 0) for name in ("query", "key")},
        **{f"{name}_shift": ((50,), 0, 0) for name in ("query", "key")},
    },
    "cosine": {"log_temper": ((4,), np.log(8), 0)},
    "relative": {"bucket": ((4, 32), 0, 0)},
    "ssa": {
        **{"temper": ((4, 50), 0, 0.02), "growth": ((4,), 0, 0)},
        **{"value_temper": ((4, 50), 0, 0.02), "value_growth": ((4,), 0, 0)},
    },
    "ssa_query": {"temper": ((4, 50), 0, 0.02), "growth": ((4,), 0, 0)},
    "ssa_position": {"growth": ((), 1.5, 0)},
    "forgetting": {"forget": ((200, 4), 0, 200**-0.5), "forget_bias": ((4,), 4, 0)},
    "mlp_kernel_quadratic": {f"feature_{name}": ((50, 50), 0, 50**-0.5) for name in ("up", "down")},
    "mlp_kernel_normalized_quadratic": {f"feature_{name}": ((50, 50), 0, 50**-0.5) for name in ("up", "down")},
    "entmax": {"alpha": ((4,), 0, 0)},
    "differential": {f"lambda_{name}": ((2, 25), 0, 0.1) for name in ("query", "key")},
    "offset_table": {"offset": ((4, 255), 0, 0)},
    "position_table": {"table": ((4, 128, 128), 0, 0)},
    "parallax": {"probe": ((200, 4, 50), 0, 200**-0.5)},
    "lla": {"log_ridge": ((4,), 0, 0)},
}
PLAIN = [
    mechanism
    for mechanism in attention.WEIGHTED
    if "+" not in mechanism.name and not getattr(mechanism, "causal_only", False)
]


@pytest.mark.parametrize("mechanism", PLAIN, ids=lambda m: m.name)
def test_initial_parameters(mechanism) -> None:
    """Means and deviations within five standard errors; no two parameters are the same draw."""
    params = mechanism.init(jax.random.key(0), DIMS)
    expected = BEGIN.get(mechanism.name, {})
    assert set(params) == set(expected)
    for name, (shape, mean, deviation) in expected.items():
        value = np.asarray(params[name])
        assert value.shape == shape, name
        error = 5 * deviation / value.size**0.5
        assert value.mean() == pytest.approx(mean, abs=error + 1e-6), name
        assert value.std() == pytest.approx(deviation, abs=error), name
    drawn = [np.asarray(params[name]).tobytes() for name, (_, _, deviation) in expected.items() if deviation]
    assert len(set(drawn)) == len(drawn)


def test_the_names_of_parameters_say_which_mechanisms_are_meant() -> None:
    assert set(BEGIN) <= {mechanism.name for mechanism in PLAIN}


def test_temperatures_at_the_beginning() -> None:
    """SSA: `1 + log(n) / 2` with a token part of `tanh(N(0, 0.02^2 |q|^2))`; its released form within 1.2 % of 1."""
    q = jnp.zeros((4, 3, 50))
    count = jnp.asarray([[1.0], [10.0], [100.0]])
    tokens = attention.pairwise.Tokens(q, q, q)
    rows = attention.pairwise.Rows(None, jnp.arange(3))
    for temper, expected in (
        (SelectiveTemper(), 1 + 0.5 * np.log([1, 10, 100])),
        (attention.PositionTemper(), 1 + 0.01131 * np.log([1, 10, 100])),
        (attention.LogCount(10), np.log([1, 10, 100]) / np.log(10)),
        (attention.LogWidthLogCount(), np.log(50) * np.log([1, 10, 100])),
        (attention.LearnedTemper(8.0), np.full(3, 8.0)),
    ):
        factor = temper(temper.init(jax.random.key(0), DIMS), tokens, rows, count)
        np.testing.assert_allclose(jnp.broadcast_to(factor, (4, 3, 1))[0, :, 0], expected, rtol=1e-4)


def test_forget_gates_begin_near_one() -> None:
    """`sigmoid(4) = 0.982` at `x = 0`: half is forgotten in 38 tokens."""
    slot = Forget()
    zeros = jnp.zeros((4, 3, 50))
    made = slot(
        slot.init(jax.random.key(0), DIMS),
        attention.pairwise.Tokens(zeros, zeros, zeros),
        jnp.zeros((3, 200)),
        jnp.arange(3),
    )
    np.testing.assert_allclose(jnp.exp(made.tick), 0.98201, rtol=1e-5)
    assert np.log(0.5) / float(made.tick[0, 0]) == pytest.approx(38.2, abs=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QKNorm("batchnorm"), "QKNorm.kind: got 'batchnorm'; allowed is rmsnorm | layernorm"),
        (lambda: attention.LogCount(1), "LogCount.length: got 1; allowed is an integer >= 2"),
        (lambda: attention.LearnedTemper(0), "LearnedTemper.initial: got 0; allowed is a number > 0"),
        (lambda: attention.OffsetTable(0), "OffsetTable.length: got 0; allowed is an integer >= 1"),
        (lambda: attention.PositionTable(0), "PositionTable.length: got 0; allowed is an integer >= 1"),
        (lambda: attention.Buckets(1), "Buckets.number: got 1; allowed is an integer >= 2"),
        (lambda: attention.Buckets(32, 16), "Buckets.farthest: got 16; allowed is above 16"),
        (lambda: attention.Reweight(0), "Reweight.power: got 0; allowed is a number > 0"),
        (lambda: attention.LocalLinear(0), "LocalLinear.ridge: got 0; allowed is a number > 0"),
        (lambda: Length(0), "Length.n: got 0; allowed is an integer >= 1"),
        (
            lambda: Chain((Forget(), Unit(), Forget())).init(jax.random.key(0), DIMS),
            "Chain: two slots have a parameter 'forget'; rename one of them.",
        ),
    ],
)
def test_settings_that_mean_nothing(make, message) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()


def test_a_table_that_is_too_short_says_so() -> None:
    zeros = jnp.zeros((4, 129, 50))
    params = attention.position_table.init(jax.random.key(0), DIMS)
    with pytest.raises(ConfigError, match=r"PositionTable: got '129 keys'; allowed is at most 128.*a greater length"):
        attention.position_table.apply(params, zeros, zeros, zeros)


def test_two_slots_with_parameters_of_one_name() -> None:
    both = named(attention.ssa_query, "both", columns=attention.KeyBias(), map=attention.AdaptiveEntmax())
    assert set(both.init(jax.random.key(0), DIMS)) == {"key", "temper", "growth", "alpha"}
    twice = named(attention.ssa_query, "twice", tokens=Forget(), post=attention.LocalLinear(), score=SelectiveTemper())
    with pytest.raises(ValueError, match="twice: two slots have a parameter 'temper'; rename one of them"):
        twice.init(jax.random.key(0), DIMS)


def test_what_reads_the_layer_s_input_says_when_there_is_none() -> None:
    zeros = jnp.zeros((4, 3, 50))
    for mechanism, who in ((attention.forgetting, "the forget gate"), (attention.parallax, "the probe of Parallax")):
        with pytest.raises(ConfigError, match=f"Pass x=: {who} depends on it"):
            mechanism.apply(mechanism.init(jax.random.key(0), DIMS), zeros, zeros, zeros)
    assert softmax.apply({}, zeros, zeros, zeros).weights is None
