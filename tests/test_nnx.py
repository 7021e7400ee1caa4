"""The nnx shells compute what the functions compute."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from attnlab import attention, edits
from attnlab.attention import causal_mask
from attnlab.config import ConfigError
from attnlab.models import FixedStream, StaticEmbedding, Transformer
from attnlab.models.attention_layer import AttentionOptions, attend
from attnlab.nnx import Attention, TransformerModule

MODEL = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8, mechanism=attention.kv_bias)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 6)))


SOME = (
    *(attention.softmax, attention.key_bias, attention.forgetting, attention.lssar, attention.head_gated),
    *(attention.dense_gated, attention.taylor, attention.ssd, attention.delta_net, attention.s6),
)


@pytest.mark.parametrize("mechanism", SOME, ids=lambda m: m.name)
def test_attention_is_the_function(mechanism) -> None:
    layer = Attention(8, 2, mechanism, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (3, 6, 8))
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))["params"]
    params.setdefault("mechanism", {})
    for mask in (None,) if getattr(mechanism, "causal_only", False) else (None, np.ones((6, 6), bool)):
        expected = attend(mechanism, params, x, mask=causal_mask(6) if mask is None else mask)
        assert layer(x, mask).tobytes() == expected.tobytes()


EVERYTHING = {"positions": "rope", "short_conv": 3, "qk_norm": "rmsnorm", "head_norm": "layernorm", "norm_eps": 1e-3}


def test_attention_has_every_option_of_the_layer() -> None:
    """With all of them and a second stream it is the function; none has its default here."""
    changed = {f.name for f in dataclasses.fields(AttentionOptions) if EVERYTHING[f.name] != f.default}
    assert changed == set(EVERYTHING), "an option of the layer is not under test"
    layer = Attention(8, 2, attention.sigmoid, init_kind="scaled", rngs=nnx.Rngs(0), **EVERYTHING)
    x, other = jax.random.normal(jax.random.key(1), (2, 3, 6, 8))
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))["params"] | {"mechanism": {}}
    assert {"conv", "query_norm", "key_norm", "head_norm"} < set(params)
    for stream in (None, other, other[0]):
        wanted = {"mask": causal_mask(6), "options": AttentionOptions(**EVERYTHING), "qk_from": stream}
        assert layer(x, qk_from=stream).tobytes() == attend(attention.sigmoid, params, x, **wanted).tobytes()
    assert not np.allclose(layer(x), layer(x, qk_from=other))


def test_attention_options() -> None:
    x = jax.random.normal(jax.random.key(1), (6, 8))
    outputs = [Attention(8, 2, positions=p, rngs=nnx.Rngs(0))(x) for p in ("none", "rope", "alibi")]
    assert not np.allclose(outputs[0], outputs[1]) and not np.allclose(outputs[0], outputs[2])
    assert Attention(8, 3, head_dim=5, rngs=nnx.Rngs(0))(x).shape == (6, 8)
    with pytest.raises(ValueError, match=r"Attention.width: got 8; allowed is a multiple of num_heads=3"):
        Attention(8, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"Attention.positions: got 'learned'; allowed is rope \| alibi \| none"):
        Attention(8, 2, positions="learned", rngs=nnx.Rngs(0))
    for wrong, message in (
        ({"qk_nrom": "rmsnorm"}, "AttentionOptions: unknown key 'qk_nrom'. Did you mean 'qk_norm'"),
        ({"head_norm": "batch"}, r"AttentionOptions.head_norm: got 'batch'; allowed is layernorm \| rmsnorm \| none"),
        ({"short_conv": 0}, "AttentionOptions.short_conv: got 0; allowed is an integer >= 1, or None"),
        ({"init_kind": "xavier"}, r"Attention.init_kind: got 'xavier'; allowed is torch \| normal \| scaled"),
        ({"head_dim": 3, "positions": "rope"}, "Attention.head_dim: got 3; allowed is even, for rope"),
    ):
        with pytest.raises(ConfigError, match=message):
            Attention(8, 2, rngs=nnx.Rngs(0), **wrong)


def test_transformer_is_the_function() -> None:
    params = MODEL.init(jax.random.key(0))
    module = TransformerModule(MODEL, params)
    held = (edits.remove_mlp(0),)
    logits, tape = MODEL.apply(params, TOKENS, tape=("*.weights",), edits=held)
    assert module(TOKENS, edits=held).tobytes() == logits.tobytes()
    again, read = module.read(TOKENS, tape=("*.weights",), edits=held)
    assert again.tobytes() == logits.tobytes()
    assert all(read[name].tobytes() == tape[name].tobytes() for name in tape)
    assert jax.tree.structure(module.plain()) == jax.tree.structure(params)
    drawn = TransformerModule(MODEL, rngs=nnx.Rngs(0))
    assert jax.tree.map(jnp.shape, drawn.plain()) == jax.tree.map(jnp.shape, params)


def test_transformer_has_every_option_of_the_function() -> None:
    """Second streams, a gated MLP as mixer, convolution, norms everywhere, registers; read and edited."""
    model = Transformer(
        vocab_size=11,
        length=6,
        num_layers=3,
        num_heads=2,
        width=8,
        mechanism=(attention.kv_bias, attention.softmax, attention.sigmoid),
        mlp_mixer=(1,),
        qk_source=(FixedStream((3, 1)), None, StaticEmbedding()),
        short_conv=3,
        qk_norm="rmsnorm",
        head_norm="layernorm",
        output_norm="rmsnorm",
        registers=2,
        no_mlp=(0, 2),
        activation="silu",
        tie_embeddings=True,
        init_kind="scaled",
    )
    params = model.init(jax.random.key(0))
    module, held = TransformerModule(model, params), (edits.remove_mlp(1),)
    wanted = ("blocks.*.attn.weights", "blocks.1.attn.hidden", "final")
    logits, tape = model.apply(params, TOKENS, tape=wanted, edits=held)
    again, read = module.read(TOKENS, tape=wanted, edits=held)
    assert again.tobytes() == logits.tobytes() != module(TOKENS).tobytes()
    assert {n: a.tobytes() for n, a in read.items()} == {n: a.tobytes() for n, a in tape.items()}
    assert {"blocks.0.attn.weights", "blocks.2.attn.weights", "blocks.1.attn.hidden"} < set(read)
    drawn = TransformerModule(model, rngs=nnx.Rngs(0))
    assert jax.tree.map(jnp.shape, drawn.plain()) == jax.tree.map(jnp.shape, params)


def test_parameters_come_from_one_place() -> None:
    for wrong in ({}, {"params": MODEL.init(jax.random.key(0)), "rngs": nnx.Rngs(0)}):
        with pytest.raises(ValueError, match="either params or rngs"):
            TransformerModule(MODEL, **wrong)


def test_gradient_and_a_step_of_training_are_those_of_the_pytree() -> None:
    params = MODEL.init(jax.random.key(0))
    module = TransformerModule(MODEL, params)

    def loss(logits):
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 0])

    expected = jax.grad(lambda p: loss(MODEL.apply(p, TOKENS)[0]))(params)
    measured = nnx.grad(lambda m: loss(m(TOKENS)))(module)
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
    optimizer.update(module, measured)
    stepped = jax.tree.map(lambda p, g: p - 0.1 * g, params, expected)
    for got, want in zip(jax.tree.leaves(module.plain()), jax.tree.leaves(stepped), strict=True):
        # One multiplication and one subtraction in float32 on values of size 1.
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-7)
    graph, state = nnx.split(module)
    assert nnx.merge(graph, state)(TOKENS).tobytes() == module(TOKENS).tobytes()
