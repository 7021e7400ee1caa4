"""Which blocks are read, which pairs are seen: against the masks written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab.kernels.blocks import Keys, Queries, Span, pad_to, reach, sweep
from attnlab.kernels.head_rows import apart, masks_of, span_of, together

ROWS, KEYS, BLOCK_Q, BLOCK_K = 12, 20, 4, 5


@jax.jit
def counted(first, last, seen, mask):
    """How often each pair is met and seen in sweeps over all blocks, `[ROWS, KEYS]`; how many blocks are read."""
    union = jnp.any((mask & seen).reshape(-1, BLOCK_Q, KEYS), axis=1)
    begin, end = reach(Span(first, last), union, BLOCK_Q, BLOCK_K)
    blank = jnp.zeros((KEYS // BLOCK_K, BLOCK_K, 1))
    keys = Keys(blank, blank, jnp.zeros(1), seen.reshape(-1, BLOCK_K))

    def cut(x):
        return x.reshape(-1, BLOCK_Q, *x.shape[1:])

    def one(queries):
        def add(carry, block):
            at = block.number * BLOCK_K
            here = jax.lax.dynamic_slice_in_dim(carry, at, BLOCK_K, 1) + block.seen
            return jax.lax.dynamic_update_slice_in_dim(carry, here, at, 1)

        return sweep(queries, keys, add, jnp.zeros((BLOCK_Q, KEYS), jnp.int32))

    span = Span(cut(first), cut(last))
    masks = jnp.swapaxes(cut(mask).reshape(-1, BLOCK_Q, KEYS // BLOCK_K, BLOCK_K), 1, 2)
    blocks = Queries(cut(jnp.zeros((ROWS, 1))), cut(jnp.zeros(ROWS)), span, masks, begin, end)
    return jax.lax.map(one, blocks).reshape(ROWS, KEYS), jnp.maximum(end - begin, 0)


@given(st.data())
def test_every_pair_that_is_seen_is_met_once_and_blocks_outside_are_not_read(data) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    first = rng.integers(0, KEYS, ROWS)
    last = first + rng.integers(-2, 8, ROWS)
    seen = rng.random(KEYS) < rng.choice([0.0, 0.2, 1.0])
    mask = rng.random((ROWS, KEYS)) < rng.choice([0.05, 1.0])
    u = np.arange(KEYS)
    expected = (u >= first[:, None]) & (u <= last[:, None]) & seen & mask
    met, read = counted(*(jnp.asarray(x) for x in (first, last, seen, mask)))
    assert (np.asarray(met) == expected).all()
    in_span = ((u >= first[:, None]) & (u <= last[:, None])).reshape(-1, BLOCK_Q, KEYS // BLOCK_K, BLOCK_K)
    in_mask = (seen & mask).reshape(in_span.shape)
    for number, count in enumerate(np.asarray(read)):
        ends = [np.flatnonzero(x[number].any((0, 2))) for x in (in_span, in_mask)]
        common = range(max(x.min(initial=99) for x in ends), min(x.max(initial=-1) for x in ends) + 1)
        assert count <= max(len(common), 0)


def test_heads_that_share_keys_lie_side_by_side_in_time() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 4, 5))
    rows = together(jnp.asarray(x), 2)
    assert rows.shape == (2 * 3 * 2, 4 * 3, 5)
    assert (np.asarray(rows[1, 3:6]) == np.float32(x[0, 0, 3:6, 1])).all()
    assert (np.asarray(apart(rows, x.shape)) == np.float32(x)).all()
    assert (np.asarray(apart(rows[..., 0], x.shape)) == np.float32(x[..., 0])).all()


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((4, 7), ("mask", 1)),
        ((1, 7), ("seen", 1)),
        ((1, 1), ("seen", 1)),
        ((4, 1), ("mask", 1)),
        ((2, 1, 1, 7), ("seen", 4)),
        ((2, 1, 4, 7), ("mask", 4)),
        ((6, 1, 7), ("mask", 4)),
        ((2, 6, 4, 7), ("mask", 4)),
    ],
)
def test_masks_are_those_of_numpy_s_broadcasting(shape, kept) -> None:
    """And no larger than what they come from demands: one for all heads stays one, one for all queries a row."""
    full, groups = (2, 6, 4, 7), 2
    mask = np.random.default_rng(0).random(shape) < 0.5
    pairs, keys = masks_of(jnp.asarray(mask), full, groups)
    found = pairs if kept[0] == "mask" else keys
    assert (pairs is None) != (keys is None) and found is not None and found.shape[0] == kept[1]
    rows = found if pairs is not None else found[:, None]
    rows = jnp.broadcast_to(rows, (4, 12, 7))
    assert (np.asarray(apart(rows, full)) == np.broadcast_to(mask, full)).all()


def test_spans_and_padding() -> None:
    t = np.arange(3, 7)
    for options, first, last in (
        ((True, None, None), 0 * t, t),
        ((True, 2, None), t - 1, t),
        ((False, None, None), 0 * t, 0 * t + 6),
        ((True, None, np.array([0, 2, 2, 1])), 0 * t, np.array([0, 2, 2, 1])),
    ):
        span = span_of(4, 7, *options, 2)
        assert (np.asarray(span.first) == np.repeat(first, 2)).all()
        assert (np.asarray(span.last) == np.repeat(last, 2)).all()
    x = jnp.ones((2, 3))
    assert pad_to(x, 3, 1) is x
    assert np.asarray(pad_to(x, 5, -1, 7)).tolist() == [[1, 1, 1, 7, 7]] * 2
