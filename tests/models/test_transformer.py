"""The tiny transformer: every option against NumPy, causality, sizes, initial values, bad input."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_reference import forward

from attnlab import attention, tape
from attnlab.config import ConfigError
from attnlab.models import Transformer

# The sizes of tests/test_tape.py, test_edits.py and test_nnx.py: what one file compiles the others need not.
SMALL = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8)
OPTIONS = {
    "default": {},
    "one layer, one head": {"num_layers": 1, "num_heads": 1},
    "head_dim": {"head_dim": 6},
    "mlp_width": {"mlp_width": 5},
    "gelu": {"activation": "gelu"},
    "linear": {"activation": "linear"},
    "rmsnorm": {"norm": "rmsnorm"},
    "no norm": {"norm": "none"},
    "post": {"norm_place": "post"},
    "post, rmsnorm, no final norm": {"norm_place": "post", "norm": "rmsnorm", "final_norm": False},
    "sinusoidal": {"positions": "sinusoidal"},
    "rope": {"positions": "rope"},
    "alibi": {"positions": "alibi"},
    "no positions": {"positions": "none"},
    "no attention in 0, no mlp in 1": {"no_attention": (0,), "no_mlp": (1,)},
    "tied": {"tie_embeddings": True},
    "relu attention": {"mechanism": attention.relu},
    "mechanism per layer": {"mechanism": (attention.softmax_off_by_one, attention.relu)},
    "window": {"window": 3},
    "prefix": {"prefix": 2},
    "prefix, alibi": {"prefix": 2, "positions": "alibi"},
    "norm_eps": {"norm_eps": 0.1},
}
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 6))


def random_params(model, seed: int = 0):
    """All leaves random, gains and shifts of the norms too, which start at 1 and 0."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)) * 0.6, shapes)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.usefixtures("x64")
def test_every_activation_is_that_of_the_reference(options) -> None:
    """float64 on both sides; about 100 sums of size 10 in a row, each rounded at 1e-15."""
    model = dataclasses.replace(SMALL, **options)
    params = random_params(model)
    logits, measured = model.apply(params, jnp.asarray(TOKENS), tape=("*",))
    expected = [forward(model, jax.tree.map(np.asarray, params), row) for row in TOKENS]
    names = [name for name in measured if not name.endswith(".null")]
    assert sorted(names) == sorted(expected[0])
    for name in names:
        want = np.stack([tape[name] for tape in expected])
        assert measured[name].dtype == jnp.float64
        np.testing.assert_allclose(measured[name], want, rtol=0, atol=1e-11, err_msg=name)
    assert logits is measured["logits"]


def test_single_precision_jit_and_leading_axes() -> None:
    """float32: 1e-7 of sums of size 10, 100 of them in a row, at random."""
    params = random_params(SMALL)
    expected = np.stack([forward(SMALL, jax.tree.map(np.asarray, params), row)["logits"] for row in TOKENS])
    run = jax.jit(lambda p, t: SMALL.apply(p, t)[0])
    batched = run(params, jnp.asarray(TOKENS))
    assert batched.dtype == jnp.float32
    np.testing.assert_allclose(batched, expected, rtol=0, atol=3e-5)
    np.testing.assert_allclose(run(params, jnp.asarray(TOKENS[0])), expected[0], rtol=0, atol=3e-5)
    np.testing.assert_allclose(run(params, jnp.asarray(TOKENS[:, None]))[:, 0], expected, rtol=0, atol=3e-5)
    assert run(params, jnp.asarray(TOKENS)).tobytes() == batched.tobytes(), "the same program, the same bits"


def test_shorter_sequences_are_prefixes() -> None:
    params = random_params(SMALL)
    full, _ = SMALL.apply(params, jnp.asarray(TOKENS))
    short, _ = SMALL.apply(params, jnp.asarray(TOKENS[:, :4]))
    # float32 sums in another grouping.
    np.testing.assert_allclose(short, full[:, :4], rtol=0, atol=3e-5)


def test_seeds_are_an_axis() -> None:
    """`vmap` over keys is the loop over keys, in initial values bit for bit and in logits to float32 rounding."""
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.vmap(SMALL.init)(keys)
    logits = jax.vmap(lambda p: SMALL.apply(p, jnp.asarray(TOKENS))[0])(stacked)
    for i, key in enumerate(keys):
        alone = SMALL.init(key)
        for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(stacked), strict=True):
            assert one.tobytes() == many[i].tobytes()
        np.testing.assert_allclose(logits[i], SMALL.apply(alone, jnp.asarray(TOKENS))[0], rtol=0, atol=1e-5)


def influence(model, params=None) -> np.ndarray:
    """`Bool[T, U]`: whether the logits at `t` change with the embedding at `u` (by gradients, exactly)."""
    params = random_params(model) if params is None else params
    weight = jnp.asarray(np.random.default_rng(1).normal(size=model.vocab_size), jnp.float32)

    def outputs(shift):
        return model.apply(params, jnp.asarray(TOKENS[0]), edits=(tape.add("embed", shift),))[0] @ weight

    jacobian = jax.jacrev(outputs)(jnp.zeros((model.length, model.width)))
    return np.asarray((jacobian != 0).any(-1))


@pytest.mark.parametrize("mechanism", [attention.softmax, attention.relu, attention.kv_bias], ids=lambda m: m.name)
def test_later_tokens_have_exactly_no_influence(mechanism) -> None:
    seen = influence(dataclasses.replace(SMALL, mechanism=mechanism))
    t, u = np.indices(seen.shape)
    assert not seen[u > t].any()
    assert seen[u == t].all()
    if mechanism is not attention.relu:
        assert seen[u < t].all()


@pytest.mark.parametrize("positions", ["sinusoidal", "rope", "alibi", "none"])
def test_positions_keep_causality(positions) -> None:
    seen = influence(dataclasses.replace(SMALL, positions=positions))
    t, u = np.indices(seen.shape)
    assert (seen == (u <= t)).all()


def test_window_and_prefix_set_who_is_seen() -> None:
    t, u = np.indices((6, 6))
    two_layers = influence(dataclasses.replace(SMALL, window=3))
    assert (two_layers == ((u <= t) & (t - u <= 2 * 2))).all(), "each layer reaches 2 positions further back"
    prefix = influence(dataclasses.replace(SMALL, prefix=3))
    assert (prefix == ((u <= t) | (u < 3))).all()


@pytest.mark.parametrize(("layers", "expected"), [(1, 887_808), (3, 2_462_720)])
def test_parameter_count_of_the_published_size(layers, expected) -> None:
    """0.89 M and 2.46 M in the paper's code: d=256, N=256, V=67.

    `V D + N D + L (4 D^2 + 8 D^2 + 4 D) + 2 D + D V`.
    """
    model = Transformer(vocab_size=67, length=256, num_layers=layers, width=256)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_names_of_the_parameters() -> None:
    """Trajectories on disk hold these names: a change here makes them unreadable."""
    model = dataclasses.replace(SMALL, no_mlp=(1,), mechanism=(attention.softmax, attention.kv_bias))
    paths = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))[0]
    names = {".".join(str(part.key) for part in path): leaf.shape for path, leaf in paths}
    assert names == {
        "embed.token": (11, 8),
        "embed.position": (6, 8),
        "blocks.0.attn_norm.scale": (8,),
        "blocks.0.attn_norm.bias": (8,),
        "blocks.0.attn.query": (8, 2, 4),
        "blocks.0.attn.key": (8, 2, 4),
        "blocks.0.attn.value": (8, 2, 4),
        "blocks.0.attn.output": (2, 4, 8),
        "blocks.0.mlp_norm.scale": (8,),
        "blocks.0.mlp_norm.bias": (8,),
        "blocks.0.mlp.up": (8, 32),
        "blocks.0.mlp.down": (32, 8),
        "blocks.1.attn_norm.scale": (8,),
        "blocks.1.attn_norm.bias": (8,),
        "blocks.1.attn.query": (8, 2, 4),
        "blocks.1.attn.key": (8, 2, 4),
        "blocks.1.attn.value": (8, 2, 4),
        "blocks.1.attn.output": (2, 4, 8),
        "blocks.1.attn.mechanism.key": (2, 4),
        "blocks.1.attn.mechanism.value": (2, 4),
        "final_norm.scale": (8,),
        "final_norm.bias": (8,),
        "unembed": (8, 11),
    }


WIDE = Transformer(vocab_size=50, length=40, num_heads=4, width=64, head_dim=8, mlp_width=96)
FAN_IN = {"query": 64, "key": 64, "value": 64, "output": 32, "up": 64, "down": 96, "unembed": 64}


def matrices(params) -> dict[str, np.ndarray]:
    block = params["blocks"]["0"]
    found = {name: block["attn"][name] for name in ("query", "key", "value", "output")} | dict(block["mlp"])
    return {name: np.asarray(m, np.float64).ravel() for name, m in (found | {"unembed": params["unembed"]}).items()}


@pytest.mark.parametrize("kind", ["torch", "normal", "scaled"])
def test_initial_values_have_their_law(kind) -> None:
    """Mean, variance within 5 standard errors (2000 to 6000 draws; kurtosis 1.8 uniform, 3 normal), and the support."""
    found = matrices(dataclasses.replace(WIDE, init_kind=kind, init_std=0.03).init(jax.random.key(1)))
    assert set(found) == set(FAN_IN)
    for name, values in found.items():
        variance = {"torch": 1 / (3 * FAN_IN[name]), "normal": 0.03**2, "scaled": 1 / FAN_IN[name]}[kind]
        kurtosis = 1.8 if kind == "torch" else 3.0
        assert abs(values.mean()) < 5 * (variance / values.size) ** 0.5, name
        assert abs(values.var() / variance - 1) < 5 * ((kurtosis - 1) / values.size) ** 0.5, name
        if kind == "torch":
            bound = FAN_IN[name] ** -0.5
            assert 0.99 * bound < np.abs(values).max() <= bound, name
        else:
            assert np.abs(values).max() > 3 * variance**0.5, f"{name}: a normal law has tails"


def test_embeddings_norms_and_streams_at_the_start() -> None:
    params = dataclasses.replace(WIDE, embed_std=0.5).init(jax.random.key(0))
    for table in params["embed"].values():
        assert float(jnp.std(table)) == pytest.approx(0.5, rel=5 / (2 * table.size) ** 0.5)
    for norm in (params["final_norm"], params["blocks"]["0"]["attn_norm"], params["blocks"]["0"]["mlp_norm"]):
        assert (norm["scale"] == 1).all() and (norm["bias"] == 0).all()
    leaves = [np.asarray(leaf).ravel()[:50] for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    largest = max(abs(np.corrcoef(a, b)[0, 1]) for i, a in enumerate(leaves) for b in leaves[:i])
    assert largest < 0.6, "two matrices share their random numbers (36 correlations of 50 draws: 0.6 is 4 sigma)"
    again, other = WIDE.init(jax.random.key(0)), WIDE.init(jax.random.key(1))
    assert (again["unembed"] == WIDE.init(jax.random.key(0))["unembed"]).all()
    assert (again["unembed"] != other["unembed"]).all()


def test_layers_draw_their_own_mechanism_parameters() -> None:
    blocks = dataclasses.replace(SMALL, mechanism=attention.key_bias).init(jax.random.key(0))["blocks"]
    first, second = (blocks[layer]["attn"]["mechanism"]["key"] for layer in "01")
    assert (first != second).all()


BAD = {
    "negative width": ({"width": -8}, r"Transformer.width: got -8; allowed is an integer >= 1"),
    "width and heads": ({"num_heads": 3}, r"Transformer.width: got 8; allowed is a multiple of num_heads.*num_heads=3"),
    "no layers": ({"num_layers": 0}, r"Transformer.num_layers: got 0"),
    "fractional heads": ({"num_heads": 2.0}, r"Transformer.num_heads: got 2.0"),
    "true layers": ({"num_layers": True}, r"Transformer.num_layers: got True"),
    "layer out of range": ({"no_attention": (2,)}, r"Transformer.no_attention: got 2; allowed is 0 to 1"),
    "negative layer": ({"no_mlp": (-1,)}, r"Transformer.no_mlp: got -1; allowed is 0 to 1"),
    "too few mechanisms": (
        {"mechanism": (attention.relu,)},
        r"Transformer.mechanism: got \('relu',\); .*tuple of 2 \(one per layer\)",
    ),
    "mechanism by name": ({"mechanism": "softmax"}, r"Transformer.mechanism: got 'softmax'; allowed is a mechanism"),
    "mechanisms by name": ({"mechanism": ("relu", "relu")}, r"Transformer.mechanism: got 'relu'; allowed is a mech"),
    "unknown norm": ({"norm": "batchnorm"}, r"Transformer.norm: got 'batchnorm'; allowed is layernorm \| rmsnorm"),
    "unknown place": ({"norm_place": "both"}, r"Transformer.norm_place: got 'both'"),
    "unknown positions": ({"positions": "rotary"}, r"Transformer.positions: got 'rotary'; allowed is .*rope"),
    "unknown activation": ({"activation": "swish"}, r"Transformer.activation: got 'swish'"),
    "unknown init": ({"init_kind": "xavier"}, r"Transformer.init_kind: got 'xavier'"),
    "odd rope": ({"positions": "rope", "head_dim": 3}, r"Transformer.head_dim: got 3; allowed is even, for rope"),
    "empty window": ({"window": 0}, r"Transformer.window: got 0"),
    "negative prefix": ({"prefix": -1}, r"Transformer.prefix: got -1; allowed is an integer >= 0"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_one_clear_error(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)


def test_bad_calls() -> None:
    params = SMALL.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="tokens: got '7 positions'; allowed is at most length=6"):
        SMALL.apply(params, jnp.zeros((1, 7), int))
    partly = dataclasses.replace(SMALL, no_attention=(1,))
    for call in (partly.kq, partly.ov):
        with pytest.raises(ConfigError, match="layer: got 2; allowed is 0 to 1"):
            call(params, 2, 0)
        with pytest.raises(ConfigError, match="layer: got 1; allowed is a layer that has attention"):
            call(params, 1, 0)
        with pytest.raises(ConfigError, match="head: got -1; allowed is 0 to 1"):
            call(params, 0, -1)


def test_a_model_is_a_value() -> None:
    """Equal settings are one key of the compilation cache."""
    again = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8)
    assert again == SMALL and hash(again) == hash(SMALL)
    count = 0

    @partial(jax.jit, static_argnums=0)
    def run(model, params):
        nonlocal count
        count += 1
        return model.apply(params, jnp.asarray(TOKENS))[0]

    params = SMALL.init(jax.random.key(0))
    run(SMALL, params)
    run(again, params)
    assert count == 1


def test_a_snapshot_without_the_empty_entry_of_its_mechanism() -> None:
    """What is read from disk has no place for a mechanism without parameters."""
    params = SMALL.init(jax.random.key(0))
    bare = params | {"blocks": {name: dict(block) for name, block in params["blocks"].items()}}
    for block in bare["blocks"].values():
        block["attn"] = {name: leaf for name, leaf in block["attn"].items() if name != "mechanism"}
    found, want = (SMALL.apply(p, jnp.asarray(TOKENS))[0] for p in (bare, params))
    assert found.tobytes() == want.tobytes()
