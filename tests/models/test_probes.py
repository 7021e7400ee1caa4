"""Probes: pooling by the formula, no order, sizes of the table, full attention as efficient probing, folding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab.config import ConfigError
from attnlab.models import AttentionProbe, EfficientProbe, MeanProbe

D, C, B, T = 8, 3, 5, 6
PROBES = {
    "mean": MeanProbe(D, C),
    "one": EfficientProbe(D, C),
    "four": EfficientProbe(D, C, queries=4, shrink=2),
    "full": AttentionProbe(D, C, num_heads=2),
}


def params_of(probe, seed: int = 0, dtype=jnp.float32):
    """All leaves normal, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(probe.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), shapes)


def softmax(x: np.ndarray) -> np.ndarray:
    raw = np.exp(x - x.max())
    return raw / raw.sum()


def pooled_by_loops(name: str, p: dict[str, np.ndarray], bag: np.ndarray) -> np.ndarray:
    """Of one bag `[T, D]`, in float64, query by query."""
    if name == "mean":
        return bag.mean(axis=0)
    if name == "full":
        width, found = D // 2, []
        for h in range(2):
            cut = slice(h * width, (h + 1) * width)
            keys, asked = bag @ p["key"][:, cut], (p["seed"] @ p["query"])[cut]
            found.append(softmax(keys @ asked / np.sqrt(width)) @ bag @ p["value"][:, cut])
        return np.concatenate(found) @ p["output"]
    number, each = len(p["query"]), p["value"].shape[1] // len(p["query"])
    slices = [slice(q * each, (q + 1) * each) for q in range(number)]
    return np.concatenate(
        [softmax(bag @ u / np.sqrt(D)) @ bag @ p["value"][:, s] for u, s in zip(p["query"], slices, strict=True)]
    )


@pytest.mark.parametrize("name", PROBES)
def test_it_is_the_formula(name, x64, rng):
    probe, params = PROBES[name], params_of(PROBES[name], dtype=jnp.float64)
    bags = rng.normal(size=(B, T, D))
    logits, tape = probe.apply(params, jnp.asarray(bags), tape=("pooled", "features"))
    p = jax.tree.map(np.asarray, params)
    wanted = np.stack([pooled_by_loops(name, p, bag) for bag in bags])
    np.testing.assert_allclose(tape["pooled"], wanted, atol=1e-12)
    features = (wanted - wanted.mean(axis=0)) / np.sqrt(wanted.var(axis=0) + 1e-5)
    np.testing.assert_allclose(tape["features"], features, atol=1e-12)
    said = features @ p["classifier"] + p["bias"]
    np.testing.assert_allclose(logits, np.repeat(said[:, None], T, axis=1), atol=1e-12)


@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(PROBES)))
def test_order_means_nothing(seed, name):
    probe, params = PROBES[name], params_of(PROBES[name], seed)
    rng = np.random.default_rng(seed)
    bags = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
    turned = bags[:, rng.permutation(T)]
    # float32: sums in another order, then divided by a spread over five bags
    np.testing.assert_allclose(probe.apply(params, turned)[0], probe.apply(params, bags)[0], atol=1e-3, rtol=1e-3)


def test_sizes_are_those_of_the_table():
    sizes = [MeanProbe(32, 8).size, *(EfficientProbe(32, 8, queries=q).size for q in (1, 4, 8))]
    assert [*sizes, AttentionProbe(32, 8).size] == [264, 1320, 1416, 1544, 4392]
    assert EfficientProbe(32, 8, queries=4, shrink=2).size == 4 * 32 + 32 * 16 + 16 * 8 + 8


def test_one_query_is_attention_of_one_head(x64, rng):
    """Keys, query matrix and output the identity: the seed is the query."""
    one, full = EfficientProbe(D, C), AttentionProbe(D, C, num_heads=1)
    params = params_of(one, dtype=jnp.float64)
    eye = jnp.eye(D, dtype=jnp.float64)
    same = {name: eye for name in ("query", "key", "output")} | {"seed": params["query"][0]}
    same |= {name: params[name] for name in ("value", "classifier", "bias")}
    bags = jnp.asarray(rng.normal(size=(B, T, D)))
    found, wanted = (probe.apply(p, bags)[0] for probe, p in ((one, params), (full, same)))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_full_attention_is_efficient_probing(heads, x64, rng):
    full = AttentionProbe(D, C, batch_norm=False, num_heads=heads)
    params = params_of(full, dtype=jnp.float64)
    other, same = full.as_efficient(params)
    assert other.queries == heads and jax.tree.map(jnp.shape, same) == jax.tree.map(
        jnp.shape, jax.eval_shape(other.init, jax.random.key(0))
    )
    bags = jnp.asarray(rng.normal(size=(B, T, D)))
    np.testing.assert_allclose(other.apply(same, bags)[0], full.apply(params, bags)[0], atol=1e-11)


@pytest.mark.parametrize("name", PROBES)
def test_folded_says_the_same_of_its_tokens_and_speaks_of_each_bag_alone(name, x64, rng):
    probe, params = PROBES[name], params_of(PROBES[name], dtype=jnp.float64)
    bags, others = (jnp.asarray(rng.normal(size=(4 * B, T, D))) for _ in range(2))
    alone, fixed = probe.folded(params, bags)
    said = alone.apply(fixed, bags)[0]
    np.testing.assert_allclose(said, probe.apply(params, bags)[0], atol=1e-10)
    mixed = jnp.concatenate([bags[:1], others])
    np.testing.assert_allclose(alone.apply(fixed, mixed)[0][0], said[0], atol=1e-12)
    assert np.abs(probe.apply(params, mixed)[0][0] - said[0]).max() > 1e-3  # the batch counts before
    assert alone.folded(fixed, others)[1] is fixed


def test_any_leading_axes(rng):
    probe = PROBES["four"]
    params, bags = params_of(probe), jnp.asarray(rng.normal(size=(2, B, T, D)), jnp.float32)
    found = probe.apply(params, bags)[0]
    flat = probe.apply(params, bags.reshape(2 * B, T, D))[0]
    np.testing.assert_allclose(found.reshape(2 * B, T, C), flat, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MeanProbe(0, 3), "MeanProbe.dim"),
        (lambda: EfficientProbe(8, 3, queries=3), "EfficientProbe.queries"),
        (lambda: EfficientProbe(8, 3, shrink=3), "EfficientProbe.shrink"),
        (lambda: AttentionProbe(8, 3, num_heads=3), "AttentionProbe.num_heads"),
        (lambda: PROBES["full"].as_efficient(params_of(PROBES["full"])), "batch_norm"),
        (lambda: PROBES["mean"].apply(params_of(PROBES["mean"]), jnp.ones((2, 3, 4))), "width 4"),
    ],
)
def test_bad_input(make, told):
    with pytest.raises(ConfigError, match=told):
        make()
