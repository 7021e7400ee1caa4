"""The catalogue's recurrences with the kernel in them say what they say without: every view, and in a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.attention import Dims
from attnlab.config import ConfigError, decode, encode
from attnlab.kernels import INTERPRETED, RecurrentKernel, by_kernel, delta_net_kernel
from attnlab.models import Transformer

BATCH, HEADS, LENGTH, WIDTH = 2, 3, 40, 4
DIMS = Dims(HEADS, WIDTH, HEADS * WIDTH)
NAMED = {m.name: m for m in (attention.linear, attention.delta_net, attention.gated_delta_net)}
# With one decay for every token, and with several steps per token.
MORE = {m.name: m for m in (attention.retnet, attention.delta_product)}
CLOSE = {"rtol": 0, "atol": 1e-11}  # float64; sums of 40 numbers up to 10, normalised ones over sums down to 0.1


def inputs(mechanism):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(BATCH, HEADS, LENGTH, WIDTH))) for _ in range(3))
    params = jax.tree.map(lambda p: p.astype(float), mechanism.init(jax.random.key(1), DIMS))
    return params, q, k, v, jnp.asarray(rng.normal(size=(BATCH, LENGTH, DIMS.width)))


def with_gradient(mechanism):
    def total(params, q, k, v, x):
        out = mechanism.apply(params, q, k, v, x=x).out
        return jnp.sum(jnp.sin(out)), out

    return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3, 4), has_aux=True))


def same(one, two) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), one, two)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [*NAMED, *MORE])
def test_output_and_gradient_are_those_of_the_catalogue(name) -> None:
    """By queries, keys and values, by the layer's input, and by the parameters of strengths and decays."""
    mechanism = (NAMED | MORE)[name]
    kernel = by_kernel(mechanism, chunk=16, pallas=INTERPRETED)
    args = inputs(mechanism)
    same(with_gradient(kernel)(*args), with_gradient(mechanism)(*args))


@pytest.mark.usefixtures("x64")
def test_views_agree() -> None:
    """The map and decoding, which are those of the slots without the kernel, with the sequence by the kernel."""
    kernel = by_kernel(attention.gated_delta_net, chunk=16, pallas=INTERPRETED)
    params, q, k, v, x = inputs(kernel)
    full = kernel.apply(params, q, k, v, x=x).out
    seen = kernel.apply(params, q, k, v, x=x, view="map")
    same(seen.out, full)
    same(seen.weights @ v, full)
    edited = kernel.apply(params, q, k, v, x=x, site=lambda name, value: 2 * value).out
    same(edited, 2 * full)
    state, step = kernel.start(params, (BATCH,), LENGTH, DIMS, q.dtype), jax.jit(kernel.step)
    for t in range(20):
        out, state = step(params, state, q[:, :, t], k[:, :, t], v[:, :, t], x=x[:, t])
        same(out, full[:, :, t])


@pytest.mark.usefixtures("x64")
def test_in_a_model() -> None:
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (BATCH, 20)))
    found = []
    for mechanism in (attention.delta_net, by_kernel(attention.delta_net, chunk=16, pallas=INTERPRETED)):
        size = {"vocab_size": 5, "length": 20, "num_layers": 1, "num_heads": HEADS, "width": 12}
        model = Transformer(**size, mechanism=mechanism, no_mlp=(0,))
        params = jax.tree.map(lambda x: x.astype(float), model.init(jax.random.key(0)))

        def loss(params, model=model):
            return -jnp.mean(jax.nn.log_softmax(model.apply(params, tokens)[0])[..., 0])

        found.append(jax.jit(jax.value_and_grad(loss))(params))
    same(*found)


def test_it_is_a_value_like_any_mechanism() -> None:
    kernel = by_kernel(attention.retnet, chunk=32, pallas=INTERPRETED)
    assert isinstance(kernel, attention.Mechanism) and kernel.name == "retnet_kernel"
    assert decode(encode(delta_net_kernel)) == delta_net_kernel
    assert delta_net_kernel.plain().rule == attention.delta_net.rule
    assert not isinstance(delta_net_kernel.plain(), RecurrentKernel)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"s6_kernel\.rule: got .*; allowed is one without a recurrence per channel"):
        by_kernel(attention.s6)
    with pytest.raises(ConfigError, match=r"linear_kernel\.chunk: got 24; allowed is a power of 2"):
        by_kernel(attention.linear, chunk=24)
    kernel = by_kernel(attention.gla, pallas=INTERPRETED)
    params, q, k, v, x = inputs(kernel)
    with pytest.raises(ConfigError, match=r"steps\.log_decay: got 'one per channel'"):
        kernel.apply(params, q, k, v, x=x)
    linear = by_kernel(attention.linear)
    with pytest.raises(NotImplementedError, match="cpu"):
        jax.jit(lambda q: linear.apply({}, q, q, q).out).lower(q)
