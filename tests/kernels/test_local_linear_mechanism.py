"""`lla_blockwise` is `lla`: in all its views, in a model, and where someone looks at the map."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.attention import Dims, Gated, QKNorm, causal_mask, lla, named
from attnlab.config import ConfigError, decode, encode
from attnlab.kernels import INTERPRETED, LocalLinearBlockwise, Solver, lla_blockwise
from attnlab.models import Transformer

pytestmark = pytest.mark.usefixtures("x64")

BATCH, HEADS, LENGTH, WIDTH = 2, 3, 7, 4
DIMS = Dims(HEADS, WIDTH, HEADS * WIDTH)
TIGHT = Solver(tol=1e-13, max_iters=40, block_q=4, block_k=4)
BLOCKS = named(lla_blockwise, "blocks", solver=TIGHT, scale=0.6)
DENSE = named(lla, "dense", scale=0.6)
# The ridge counts as 1.5e-8 of the spread of keys at least, which rounding is divided by where keys are few.
CLOSE = 1e-7


def inputs():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(BATCH, HEADS, LENGTH, WIDTH))) for _ in range(3))
    return {"log_ridge": jnp.asarray(rng.normal(size=HEADS))}, q, k, v


def same(one, two, bound=CLOSE) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=bound), one, two)


def test_views_agree_with_one_another_and_with_lla() -> None:
    """Parallel and step with the map of the catalogue's mechanism, under a mask with holes, and gradients too."""
    params, q, k, v = inputs()
    mask = np.random.default_rng(1).random((BATCH, 1, LENGTH, LENGTH)) < 0.6
    weights = np.random.default_rng(2).normal(size=q.shape)

    def total(mechanism):
        def run(*args):
            out = mechanism.apply(*args, mask=mask).out
            return jnp.sum(weights * out), out

        return jax.jit(jax.value_and_grad(run, (0, 1, 2, 3), has_aux=True))(params, q, k, v)

    fast, slow = total(BLOCKS), total(DENSE)
    same(fast, slow)
    by_map = BLOCKS.apply(params, q, k, v, mask=mask, view="map")
    same(by_map.weights @ v, fast[0][1])
    assert by_map.weights.tobytes() == DENSE.apply(params, q, k, v, mask=mask, view="map").weights.tobytes()


@pytest.mark.parametrize("causal_only", [False, True])
def test_decoding_is_the_full_pass(causal_only) -> None:
    """One query against a cache that is longer than what is filled, position by position."""
    params, q, k, v = inputs()
    mechanism = named(BLOCKS, "blocks", causal_only=False)
    full = DENSE.apply(params, q, k, v, mask=causal_mask(LENGTH)).out
    state = mechanism.start(params, (BATCH,), LENGTH + 3, DIMS, q.dtype)
    step = jax.jit(mechanism.step)
    for t in range(LENGTH):
        out, state = step(params, state, q[:, :, t], k[:, :, t], v[:, :, t])
        same(out, full[:, :, t])


def test_a_map_is_made_only_where_someone_asks_for_it() -> None:
    params, q, k, v = inputs()
    shape = f"f64[{BATCH},{HEADS},{LENGTH},{LENGTH}]"

    def program(**options):
        return str(
            jax.make_jaxpr(lambda *args: BLOCKS.apply(*args, mask=causal_mask(LENGTH), **options).out)(*inputs())
        )

    assert shape not in program()
    edits = {}

    def site(name, value):
        edits[name] = value.shape
        return 2 * value if name == "weights" else value

    assert shape in program(view="map")
    out = BLOCKS.apply(params, q, k, v, mask=causal_mask(LENGTH), site=site).out
    assert edits == {"logits": (BATCH, HEADS, LENGTH, LENGTH), "weights": (BATCH, HEADS, LENGTH, LENGTH)}
    same(out, 2 * DENSE.apply(params, q, k, v, mask=causal_mask(LENGTH)).out, 1e-12)
    bias = jnp.asarray(np.random.default_rng(3).normal(size=(LENGTH, LENGTH)))
    same(BLOCKS.apply(params, q, k, v, bias=bias).out, DENSE.apply(params, q, k, v, bias=bias).out, 1e-12)


def test_in_a_model_it_says_what_lla_says() -> None:
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (BATCH, LENGTH)))
    fast = named(lla_blockwise, "fast", solver=TIGHT, causal_only=True)
    found = []
    for mechanism in (fast, lla):
        model = Transformer(vocab_size=5, length=LENGTH, num_heads=HEADS, width=12, mechanism=mechanism, no_mlp=(0,))
        params = jax.tree.map(lambda x: x.astype(float), model.init(jax.random.key(0)))
        found.append(jax.jit(lambda params, model=model: model.apply(params, tokens)[0])(params))
    same(*found)
    with pytest.raises(ConfigError, match=r"Transformer\.window, prefix"):
        Transformer(vocab_size=5, length=LENGTH, num_heads=HEADS, width=12, mechanism=fast, window=2)


def test_by_pallas_kernels_it_is_the_same() -> None:
    """Value and gradient; decoding has no kernel and goes on as it did."""
    params, q, k, v = inputs()
    kernel = named(BLOCKS, "kernel", solver=Solver(tol=1e-13, max_iters=40), pallas=INTERPRETED)

    def loss(mechanism):
        return lambda *x: jnp.sum(jnp.sin(mechanism.apply(*x, mask=causal_mask(LENGTH)).out))

    fast, slow = (jax.jit(jax.value_and_grad(loss(m), (0, 1, 2, 3)))(params, q, k, v) for m in (kernel, BLOCKS))
    jax.tree.map(same, fast, slow)
    state = kernel.start(params, (BATCH,), LENGTH, DIMS, q.dtype)
    out, _ = kernel.step(params, state, q[:, :, 0], k[:, :, 0], v[:, :, 0])
    same(out, v[:, :, 0])
    assert decode(encode(kernel)) == kernel


def test_causal_only_believes_no_other_mask() -> None:
    params, q, k, v = inputs()
    mechanism = named(BLOCKS, "blocks", causal_only=True)
    for mask in (np.ones((LENGTH, LENGTH), bool), causal_mask(LENGTH, window=3)):
        with pytest.raises(ValueError, match="got a mask that is not the causal one"):
            mechanism.apply(params, q, k, v, mask=mask)
    causal = DENSE.apply(params, q, k, v, mask=causal_mask(LENGTH), view="map").weights
    assert mechanism.apply(params, q, k, v, view="map").weights.tobytes() == causal.tobytes()
    short = jax.eval_shape(lambda *x: mechanism.apply(*x, mask=causal_mask(3, LENGTH)), params, q[:, :, -3:], k, v)
    assert short.out.shape == (BATCH, HEADS, 3, WIDTH)


def test_the_penalty_is_that_of_the_post() -> None:
    """A ridge over normalised weights, value and gradient, beside the slots with the same post."""
    params, q, k, v = inputs()
    post = attention.LocalLinear(penalty="relative")
    pair = named(BLOCKS, "blocks", post=post), named(DENSE, "dense", post=post)

    def loss(mechanism):
        return lambda *x: jnp.sum(jnp.sin(mechanism.apply(*x, mask=causal_mask(LENGTH)).out))

    fast, slow = (jax.value_and_grad(loss(m), argnums=(0, 1, 2, 3))(params, q, k, v) for m in pair)
    jax.tree.map(same, fast, slow)
    assert not np.allclose(fast[0], loss(DENSE)(params, q, k, v))


@pytest.mark.parametrize(
    ("slot", "value"),
    [
        ("map", attention.Sigmoid()),
        ("post", None),
        ("columns", attention.ZeroLogit()),
        ("temper", attention.LogCount(64)),
        ("cap", 2.0),
        ("value_bias", True),
    ],
)
def test_other_slots_are_refused(slot, value) -> None:
    with pytest.raises(ConfigError, match=f"changed.{slot}"):
        named(lla_blockwise, "changed", **{slot: value})


def test_it_is_a_value_like_any_mechanism() -> None:
    assert isinstance(lla_blockwise, attention.Mechanism)
    assert hash(named(lla_blockwise, "lla_blockwise")) == hash(lla_blockwise)
    assert decode(encode(BLOCKS)) == BLOCKS
    params = lla_blockwise.init(jax.random.key(0), DIMS)
    same(params, lla.init(jax.random.key(0), DIMS), 0)
    assert dataclasses.replace(lla_blockwise, tokens=QKNorm()).init(jax.random.key(0), DIMS).keys() > params.keys()
    assert Gated(lla_blockwise).name == "lla_blockwise+gate"
    assert isinstance(lla_blockwise, LocalLinearBlockwise)
