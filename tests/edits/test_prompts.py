"""Prompts as keys and values: against a plain loop with the prompts among the keys; roles, pools, mass, gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits
from attnlab.config import ConfigError
from attnlab.models import Transformer
from attnlab.tape import Edit, SiteError

T, HEADS, HEAD_DIM, N, D = 6, 2, 4, 5, 8
MODEL = Transformer(vocab_size=9, length=T, num_layers=2, num_heads=HEADS, width=D)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 9, (3, T)))
rng = np.random.default_rng(1)
KEYS, VALUES = (jnp.asarray(rng.normal(size=(HEADS, N, HEAD_DIM)), jnp.float32) for _ in range(2))
POOL = jnp.asarray(rng.normal(size=(N, D)), jnp.float32)
ROLES = edits.roles(jnp.arange(T) == jnp.array([[0], [1]]), 2)  # row 0, row 1, and rows without a role
SOME = jnp.asarray(rng.random((T, N)) < 0.5)
OUT = "blocks.0.attn.head_out"


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


def read(params, *held):
    return MODEL.apply(params, TOKENS, tape=("*",), edits=held)


def by_loop(tape, seen, place):
    """Softmax over visible tokens and prompts, row by row, float64. `seen[B, T, N]`."""
    q, k, v = (np.asarray(tape[f"blocks.0.attn.{name}"], np.float64) for name in "qkv")
    keys, values = np.asarray(KEYS, np.float64), np.asarray(VALUES, np.float64)
    out = np.zeros_like(q)
    for b, h, t in np.ndindex(*q.shape[:3]):
        asked = seen[b, t] if place == "logit" else np.ones(N, bool)
        scores = np.concatenate([k[b, h, : t + 1] @ q[b, h, t], keys[h, asked] @ q[b, h, t]]) / np.sqrt(HEAD_DIM)
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        kept = np.ones(len(weights), bool) if place == "logit" else np.concatenate([np.ones(t + 1, bool), seen[b, t]])
        out[b, h, t] = (weights * kept) @ np.concatenate([v[b, h, : t + 1], values[h, asked]])
    return out


@pytest.mark.parametrize("place", ["logit", "post"])
@pytest.mark.parametrize("allowed", [True, SOME], ids=["all", "some"])
def test_it_is_softmax_over_tokens_and_prompts(params, place, allowed) -> None:
    _, plain = read(params)
    _, found = read(params, edits.prompts(0, KEYS, VALUES, allowed, place=place))
    expected = by_loop(plain, np.broadcast_to(allowed, (3, T, N)), place)
    np.testing.assert_allclose(found[OUT], expected, rtol=0, atol=2e-6)  # float32 against float64, terms of size 2


def test_a_row_that_sees_no_prompt_changes_no_bit(params) -> None:
    _, plain = read(params)
    _, found = read(params, edits.prompts(0, KEYS, VALUES, False))
    np.testing.assert_array_equal(found[OUT], plain[OUT])
    four = (KEYS[:, :4], VALUES[:, :4])
    _, found = read(params, edits.prompts(0, *four, ROLES))
    np.testing.assert_array_equal(found[OUT][:, :, 2:], plain[OUT][:, :, 2:])
    assert (np.abs(found[OUT] - plain[OUT])[:, :, :2].max(axis=(0, 1, 3)) > 1e-3).all()


def test_roles_do_not_see_each_others_prompts(params) -> None:
    """Weights from the first role to the second's prompts are exactly 0: what these are does not matter to it."""
    np.testing.assert_array_equal(ROLES[:3], [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    keys, values = KEYS[:, :4], VALUES[:, :4]
    _, one = read(params, edits.prompts(0, keys, values, ROLES))
    _, two = read(params, edits.prompts(0, keys.at[:, 2:].set(7), values.at[:, 2:].set(7), ROLES))
    np.testing.assert_array_equal(one[OUT][:, :, 0], two[OUT][:, :, 0])
    assert not np.array_equal(one[OUT][:, :, 1], two[OUT][:, :, 1])


def test_mass_vanishes_only_behind_the_map(params) -> None:
    """Values of 1 everywhere (tokens, prompts): the output is the sum of the row's weights."""
    ones = Edit("blocks.0.attn.v", lambda v, _, __: jnp.ones_like(v))
    for place, least, most in (("logit", 1, 1), ("post", 0, 0.999)):
        held = edits.prompts(0, KEYS, jnp.ones_like(VALUES), SOME & (jnp.arange(N) > 0), place=place)
        _, found = read(params, ones, held)
        assert (found[OUT] > least - 1e-6).all() and (found[OUT] < most + 1e-6).all()


def test_a_pool_chooses_by_cosine(params) -> None:
    x = jnp.asarray(rng.normal(size=(2, 3, D)), jnp.float32)
    chosen = np.asarray(edits.nearest(x, POOL, 2))
    size = np.linalg.norm(x, axis=-1)[..., None] * np.linalg.norm(POOL, axis=-1)
    cosine = np.asarray(x) @ np.asarray(POOL).T / size
    best = np.sort(np.argsort(-cosine, axis=-1)[..., :2], axis=-1)
    np.testing.assert_array_equal(np.nonzero(chosen)[-1].reshape(2, 3, 2), best)
    np.testing.assert_allclose(edits.pull(x, POOL, 2), 1 - np.sort(cosine, axis=-1)[..., -2:].mean(), rtol=1e-6)
    limited = np.asarray(edits.nearest(x, POOL, 2, jnp.arange(N) < 1))
    np.testing.assert_array_equal(limited, np.broadcast_to(np.arange(N) < 1, limited.shape))


def test_choosing_all_is_no_choice(params) -> None:
    """A pool no larger than the choice: T-TCPA is R-TCPA, to the bit."""
    logits, _ = read(params, edits.prompts(0, KEYS, VALUES, SOME))
    chosen, _ = read(params, edits.prompts(0, KEYS, VALUES, SOME, POOL, N))
    np.testing.assert_array_equal(logits, chosen)
    fewer, _ = read(params, edits.prompts(0, KEYS, VALUES, SOME, POOL, 1))
    assert not np.array_equal(logits, fewer)


def test_gradients_reach_the_prompts_and_are_finite(params) -> None:
    """Against central differences, with rows that see no prompt."""

    def loss(keys, values):
        held = edits.prompts(0, keys, values, ROLES), edits.prompts(1, keys, values, place="post")
        return jnp.mean(MODEL.apply(params, TOKENS, edits=held)[0] ** 2)

    keys, values = KEYS[:, :4], VALUES[:, :4]
    for which in (0, 1):
        gradient = jax.grad(loss, which)(keys, values)
        assert np.isfinite(gradient).all()
        step = jnp.asarray(rng.normal(size=keys.shape), jnp.float32)
        moved = [loss(*(x + sign * 1e-2 * step if i == which else x for i, x in enumerate((keys, values))))
                 for sign in (1, -1)]  # fmt: skip
        # Central differences of step .01: rounding 1e-7 / .02 and a third derivative of size 1.
        np.testing.assert_allclose(jnp.vdot(gradient, step), (moved[0] - moved[1]) / 2e-2, rtol=0, atol=1e-3)


def test_what_cannot_be_is_an_error(params) -> None:
    with pytest.raises(ConfigError, match="count: got None; allowed is a number together with `pool`"):
        edits.prompts(0, KEYS, VALUES, pool=POOL)
    with pytest.raises(ConfigError, match="count: got 0; allowed is at least 1"):
        edits.prompts(0, KEYS, VALUES, pool=POOL, count=0)
    with pytest.raises(ConfigError, match="place: got 'pre'"):
        edits.prompts(0, KEYS, VALUES, place="pre")  # pyright: ignore[reportArgumentType]
    linear = Transformer(vocab_size=9, length=T, num_layers=1, num_heads=HEADS, width=D, mechanism=_linear())
    with pytest.raises(SiteError, match=r"'blocks\.0\.attn\.logits', which it reads, is not born"):
        linear.apply(linear.init(jax.random.key(0)), TOKENS, edits=(edits.prompts(0, KEYS, VALUES),))


def _linear():
    from attnlab.attention import recurrent_catalogue

    return recurrent_catalogue.identity_kernel
