"""Gates and norms around mechanisms: what they are called, where they begin, what they refuse, and the dense one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, DIMS, HEAD_DIM, HEADS, LENGTH, SHAPE, inputs_of, mask_of

from attnlab import attention, tape
from attnlab.attention import Dims, Gated, HeadNorm, differential_at, softmax
from attnlab.attention.difference import initial_lambda
from attnlab.attention.gated import identity, ns_sigmoid, silu
from attnlab.attention.recurrent_catalogue import retnet
from attnlab.config import ConfigError
from attnlab.models import Transformer
from attnlab.models.attention_layer import attend

NAMES = {
    Gated(softmax): "softmax+gate",
    Gated(softmax, per="head"): "softmax+head_gate",
    Gated(softmax, "value", shared=True): "softmax+shared_value_gate",
    Gated(softmax, "key", "head"): "softmax+key_head_gate",
    Gated(softmax, "dense", function=silu): "softmax+silu_dense_gate",
    Gated(softmax, combine="add", function=identity): "softmax+added_identity_gate",
    Gated(softmax, input_dependent=False): "softmax+constant_gate",
    Gated(softmax, of_itself=True): "softmax+self_gate",
    HeadNorm(Gated(softmax)): "softmax+gate+head_norm",
    Gated(softmax, label="mine"): "mine",
}


def test_names_and_values() -> None:
    for mechanism, name in NAMES.items():
        assert mechanism.name == name
        assert isinstance(mechanism, attention.Mechanism)
        assert not mechanism.causal_only
    assert len(NAMES) == 10
    assert Gated(softmax) == attention.output_gated
    assert Gated(retnet).causal_only


@pytest.mark.parametrize(
    ("gate", "shape"),
    [
        (Gated(softmax), (48, 4, 12)),
        (Gated(softmax, "value", "head"), (48, 4, 1)),
        (Gated(softmax, "dense"), (48, 48)),
        (Gated(softmax, "query", "head", shared=True), (48, 1, 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_initial_gates_are_near_one_half(gate, shape) -> None:
    """`W` is N(0, 1 / D) and `x` normed: scores are N(0, 1), `sigmoid` of them has mean 1/2 and deviation 0.208."""
    dims = Dims(4, 12, 48)
    params = gate.init(jax.random.key(0), dims)
    assert params["gate"].shape == shape
    size = params["gate"].size
    assert float(jnp.std(params["gate"])) == pytest.approx(48**-0.5, rel=5 / (2 * size) ** 0.5)
    constant = Gated(softmax, gate.place, gate.per, gate.shared, input_dependent=False)
    constant_gate = constant.init(jax.random.key(0), dims)["gate"]
    assert constant_gate.shape == shape[1:]
    assert (constant_gate == 0).all()


def test_parameters_of_the_base_are_beside_the_gate_and_drawn_as_without_it() -> None:
    params = Gated(attention.kv_bias).init(jax.random.key(0), DIMS)
    assert set(params) == {"key", "value", "gate"}
    again = Gated(attention.kv_bias, "value").init(jax.random.key(0), DIMS)
    assert params["key"].tobytes() == again["key"].tobytes()
    assert set(Gated(softmax, of_itself=True).init(jax.random.key(0), DIMS)) == set()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"place": "logits"}, r"Gated.place: got 'logits'; allowed is output \| value \| key \| query \| dense"),
        ({"per": "token"}, r"Gated.per: got 'token'; allowed is element \| head"),
        ({"combine": "divide"}, r"Gated.combine: got 'divide'; allowed is multiply \| add"),
        ({"place": "dense", "per": "head"}, "no heads are left there"),
        ({"of_itself": True, "shared": True}, "Gated.of_itself"),
    ],
)
def test_settings_that_mean_nothing(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Gated(softmax, **settings)


def test_what_a_gate_needs() -> None:
    x = inputs_of(attention.output_gated)
    with pytest.raises(ConfigError, match=r"x: got None; .* Pass x=: softmax\+gate depends on it"):
        attention.output_gated.apply(*x.arrays[:4])
    with pytest.raises(ConfigError, match="a base whose parameters have no such name"):
        Gated(Gated(softmax), "value").init(jax.random.key(0), DIMS)


def test_a_gate_that_cannot_close() -> None:
    scores = jnp.asarray([-1e4, -1.0, 0.0, 1e4])
    np.testing.assert_allclose(ns_sigmoid(scores), [0.5, 0.5 + 0.5 / (1 + np.e), 0.75, 1.0], rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("combine", ["multiply", "add"])
def test_a_dense_gate_acts_behind_the_output_matrix(combine) -> None:
    gate = Gated(softmax, "dense", combine=combine)
    x, output = inputs_of(gate, np.float64), np.random.default_rng(3).normal(size=(HEADS, HEAD_DIM, DIMS.width))
    layer = {
        name: np.random.default_rng(i).normal(size=(DIMS.width, HEADS, HEAD_DIM))
        for i, name in enumerate(("query", "key", "value"))
    }
    layer = jax.tree.map(jnp.asarray, layer | {"output": output, "mechanism": x.params})
    mask = mask_of("causal")
    met = []

    def note(name, value):
        met.append((name, value.shape))
        return value

    plain = np.asarray(attend(softmax, layer, x.x, mask=mask))
    gated = attend(gate, layer, x.x, mask=mask, site=note)
    score = 1 / (1 + np.exp(-np.asarray(x.x) @ np.asarray(x.params["gate"])))
    np.testing.assert_allclose(gated, plain * score if combine == "multiply" else plain + score, rtol=1e-13, atol=1e-13)
    assert met[-2:] == [("gate", (BATCH, LENGTH, DIMS.width)), ("out", (BATCH, LENGTH, DIMS.width))]
    # Around it, other wrappers hand it on.
    inner = Gated(gate, "value", of_itself=True)
    assert inner.finish(layer["mechanism"], jnp.asarray(plain), x.x).tobytes() == gated.tobytes()


def test_gates_are_read_and_edited_by_name() -> None:
    """An edit of `gate` to 1 is the model without the gate."""
    model = Transformer(
        vocab_size=7, length=5, num_layers=1, num_heads=2, width=8, mechanism=Gated(softmax, per="head")
    )
    params, tokens = model.init(jax.random.key(0)), jnp.asarray([[0, 3, 2, 6, 1]])
    logits, read = model.apply(params, tokens, tape=("*.gate",))
    assert read["blocks.0.attn.gate"].shape == (1, 2, 5, 1)
    opened, _ = model.apply(params, tokens, edits=(tape.replace("blocks.0.attn.gate", 1.0),))
    plain = Transformer(vocab_size=7, length=5, num_layers=1, num_heads=2, width=8)
    np.testing.assert_allclose(opened, plain.apply(params, tokens)[0], rtol=0, atol=1e-6)
    assert float(jnp.max(jnp.abs(opened - logits))) > 1e-3


@pytest.mark.parametrize("wrap", [Gated, lambda m: Gated(m, "value", "head"), lambda m: Gated(m, "key"), HeadNorm])
@pytest.mark.usefixtures("x64")
def test_around_a_recurrence(wrap) -> None:
    """The three views of a wrapped mechanism of the other family; the gate from its definition."""
    mechanism = wrap(retnet)
    x = inputs_of(mechanism, np.float64)
    out, weights, _ = mechanism.apply(*x.arrays[:4], x=x.x, view="map")
    state, rows = mechanism.start(x.params, (BATCH,), LENGTH, DIMS, jnp.float64), []
    for t in range(LENGTH):
        row, state = mechanism.step(x.params, state, *(y[..., t, :] for y in (x.q, x.k, x.v)), x=x.x[:, t])
        rows.append(row)
    np.testing.assert_allclose(jnp.stack(rows, -2), out, rtol=0, atol=1e-12)
    mixed = weights @ x.v
    if mechanism.name == "retnet+gate":
        mixed = mixed / (1 + np.exp(-np.einsum("btd,dhk->bhtk", x.x, x.params["gate"])))
    np.testing.assert_allclose(mixed, out, rtol=0, atol=1e-12)


def test_norm_of_heads() -> None:
    """Every head and position has mean square `factor^2`, but for `eps`; zero stays zero, with a finite gradient."""
    x = inputs_of(softmax)
    mechanism = HeadNorm(softmax, 0.8)
    out = mechanism.apply(*x.arrays[:4], mask=mask_of("causal")).out
    # eps = 1e-5 beside a mean square of 0.1 or more.
    np.testing.assert_allclose(jnp.mean(jnp.square(out), -1), 0.64, rtol=2e-3)
    still = jax.grad(lambda v: mechanism.apply({}, x.q, x.k, v).out.sum())(jnp.zeros(SHAPE))
    assert np.isfinite(still).all()


def test_differential_attention_by_layer() -> None:
    """`0.8 - 0.6 exp(-0.3 l)`: 0.2, 0.356, ... 0.8 in deep layers; the norm's factor is what is left of 1."""
    assert [round(initial_lambda(layer), 4) for layer in (0, 1, 100)] == [0.2, 0.3555, 0.8]
    assert differential_at(0) == attention.differential
    second = differential_at(1)
    assert (second.name, second.factor, second.base.initial) == (
        "differential_1",
        1 - initial_lambda(1),
        initial_lambda(1),
    )
    params = second.init(jax.random.key(0), Dims(4, 200, 800))
    for name in ("lambda_query", "lambda_key"):
        assert params[name].shape == (2, 100)
        assert float(jnp.std(params[name])) == pytest.approx(0.1, rel=5 / 400**0.5)
    with pytest.raises(ConfigError, match="differential_unnormalized: head_dim: got 3; allowed is even"):
        attention.differential.init(jax.random.key(0), Dims(2, 3, 6))


def test_the_cache_holds_gated_keys() -> None:
    x = inputs_of(attention.key_gated)
    state = attention.key_gated.start(x.params, (BATCH,), LENGTH, DIMS)
    _, state = attention.key_gated.step(x.params, state, x.q[..., 0, :], x.k[..., 0, :], x.v[..., 0, :], x=x.x[:, 0])
    gate = jax.nn.sigmoid(jnp.einsum("bd,dhk->bhk", x.x[:, 0], x.params["gate"]))
    np.testing.assert_allclose(state.k[..., 0, :], gate * x.k[..., 0, :], rtol=1e-6)
    assert int(state.filled) == 1
