"""Options of the transformer beyond mixing: second streams, gated MLP mixer, convolution, norms of heads, registers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention
from attnlab.config import ConfigError
from attnlab.models import FixedStream, RandomStream, StaticEmbedding, Transformer
from attnlab.models.attention_layer import causal_conv

V, T, D, H = 11, 7, 8, 2
# float32 sums of about 50 terms of size one.
CLOSE = 1e-5


def make(**options) -> tuple[Transformer, dict]:
    model = Transformer(vocab_size=V, length=T, width=D, num_heads=H, **options)
    return model, model.init(jax.random.key(0))


def tokens_of(seed: int = 0, batch: int = 3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(V, size=(batch, T)))


def maps(model, params, tokens) -> dict:
    return model.apply(params, tokens, tape=("blocks.*.attn.weights",))[1]


@pytest.mark.parametrize("source", [RandomStream(), FixedStream((3, 1, 4))], ids=["random", "fixed"])
def test_maps_of_a_second_stream_are_the_same_for_every_input(source) -> None:
    model, params = make(num_layers=2, qk_source=source)
    first, second = maps(model, params, tokens_of(0)), maps(model, params, tokens_of(1))
    for name in first:
        assert first[name].tobytes() == second[name].tobytes()
        assert (first[name] == first[name][:1]).all()
        assert float(jnp.ptp(first[name][0, 0, -1])) > 1e-3, "not the uniform map"
    assert float(jnp.max(jnp.abs(first["blocks.0.attn.weights"] - first["blocks.1.attn.weights"]))) > 1e-3


def test_a_fixed_stream_is_the_models_own_maps_of_that_sequence() -> None:
    """Queries and keys of the second stream at every depth are those of a plain model that reads the sequence."""
    sequence = (3, 1, 4, 1, 5, 9, 2)
    model, params = make(num_layers=3, qk_source=FixedStream(sequence))
    plain = Transformer(vocab_size=V, length=T, width=D, num_heads=H, num_layers=3)
    expected = maps(plain, params, jnp.asarray([sequence]))
    found = maps(model, params, tokens_of(2))
    for name, weights in found.items():
        np.testing.assert_allclose(weights[0], expected[name][0], rtol=0, atol=CLOSE)


def test_static_embedding_reads_the_embedded_tokens_in_every_layer() -> None:
    model, params = make(num_layers=2, qk_source=StaticEmbedding(), norm="none")
    tokens = tokens_of()
    _, tape = model.apply(params, tokens, tape=("embed", "blocks.*.attn.q"))
    for layer in range(2):
        expected = jnp.einsum("btd,dhk->bhtk", tape["embed"], params["blocks"][str(layer)]["attn"]["query"])
        np.testing.assert_allclose(tape[f"blocks.{layer}.attn.q"], expected, rtol=0, atol=CLOSE)
    first, _ = make(num_layers=1, qk_source=StaticEmbedding())
    plain, weights = make(num_layers=1)
    same = first.apply(weights, tokens)[0] - plain.apply(weights, tokens)[0]
    assert float(jnp.max(jnp.abs(same))) < CLOSE, "in the first layer the stream is the embedding"


def test_hybrid_takes_the_second_stream_in_some_layers_only() -> None:
    model, params = make(num_layers=2, qk_source=(RandomStream(), None))
    first, second = maps(model, params, tokens_of(0)), maps(model, params, tokens_of(1))
    assert first["blocks.0.attn.weights"].tobytes() == second["blocks.0.attn.weights"].tobytes()
    assert float(jnp.max(jnp.abs(first["blocks.1.attn.weights"] - second["blocks.1.attn.weights"]))) > 1e-3


def test_gradients_flow_through_the_second_stream() -> None:
    """The random stream's own MLP of block 0 shapes the maps of block 1, so it gets a gradient from there alone."""
    model, params = make(num_layers=2, qk_source=RandomStream(), no_mlp=(1,))

    def score(up):
        block = {**params["blocks"]["0"], "mlp": {**params["blocks"]["0"]["mlp"], "up": up}}
        return jnp.sum(
            maps(model, {**params, "blocks": {**params["blocks"], "0": block}}, tokens_of())["blocks.1.attn.weights"][
                ..., 0
            ]
        )

    assert float(jnp.max(jnp.abs(jax.grad(score)(params["blocks"]["0"]["mlp"]["up"])))) > 1e-4


def test_mlp_mixer_mixes_no_tokens_and_has_the_weights_of_attention() -> None:
    model, params = make(num_layers=1, mlp_mixer=(0,))
    reads = jax.jacobian(lambda e: model.apply({**params, "embed": {**params["embed"], "position": e}}, tokens_of())[0])
    slope = reads(params["embed"]["position"])  # [B, T, V, T, D]: how position u's embedding moves position t
    size = np.asarray(jnp.max(jnp.abs(slope), axis=(0, 2, 4)))
    assert (size[~np.eye(T, dtype=bool)] == 0).all()
    assert (np.diag(size) > 0).all()
    _, plain = make(num_layers=1)
    count = {
        name: sum(x.size for x in jax.tree.leaves(p["blocks"]["0"]["attn"]))
        for name, p in (("mlp", params), ("attn", plain))
    }
    assert abs(count["mlp"] / count["attn"] - 1) < 0.05
    with pytest.raises(ConfigError, match="layer: got 0; allowed is a layer that has attention"):
        model.kq(params, 0, 0)


def test_causal_conv_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, taps = rng.normal(size=(2, H, T, 3)), rng.normal(size=(4, H, 3))
    expected = np.zeros_like(x)
    for t in range(T):
        for back in range(4):
            if t >= back:
                expected[:, :, t] += taps[back] * x[:, :, t - back]
    expected = expected / (1 + np.exp(-expected))
    np.testing.assert_allclose(causal_conv(jnp.asarray(x), jnp.asarray(taps)), expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    "options",
    [
        {"short_conv": 3},
        {"qk_norm": "rmsnorm"},
        {"qk_norm": "layernorm", "positions": "rope"},
        {"head_norm": "rmsnorm"},
        {"output_norm": "layernorm"},
        {"registers": 2},
        {"activation": "silu"},
    ],
    ids=str,
)
def test_every_option_keeps_the_model_causal(options) -> None:
    model, params = make(**options)
    tokens = tokens_of()
    logits = model.apply(params, tokens)[0]
    assert logits.shape == (3, T, V)
    assert bool(jnp.isfinite(logits).all())
    later = tokens.at[:, 4:].set((tokens[:, 4:] + 1) % V)
    moved = model.apply(params, later)[0]
    assert moved[:, :4].tobytes() == logits[:, :4].tobytes(), "a later token changes an earlier prediction"
    assert moved[:, 4:].tobytes() != logits[:, 4:].tobytes()


def test_normed_queries_and_heads() -> None:
    """After RMSNorm with gain 1 the mean square is 1 (up to epsilon over the mean square before)."""
    model, params = make(qk_norm="rmsnorm", head_norm="rmsnorm", positions="none")
    _, tape = model.apply(params, tokens_of(), tape=("blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.head_out"))
    for name, value in tape.items():
        np.testing.assert_allclose(jnp.mean(value**2, -1), 1, rtol=0, atol=1e-2, err_msg=name)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_output_norm_is_hybrid_norm(kind) -> None:
    """`x + Norm(Attn(Norm(x)))`, both norms with a gain of their own, the second behind the output matrix."""
    model, params = make(mechanism=attention.sigmoid, norm=kind, output_norm=kind, no_mlp=(0,), positions="none")
    block, gain = params["blocks"]["0"], np.linspace(0.5, 2.0, model.width)
    block["output_norm"]["scale"] = jnp.asarray(gain, jnp.float32)
    read = ("embed", "blocks.0.attn.in", "blocks.0.attn.out", "blocks.0.out")
    x, seen, said, after = (np.asarray(a, np.float64) for a in model.apply(params, tokens_of(), tape=read)[1].values())

    def normed(y):
        y = y - (y.mean(-1, keepdims=True) if kind == "layernorm" else 0)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + model.norm_eps)

    # float32 rounds at 6e-8 of numbers up to 5, sums of eight.
    np.testing.assert_allclose(seen, normed(x), rtol=0, atol=3e-6)
    np.testing.assert_allclose(after, x + gain * normed(said), rtol=0, atol=3e-6)


def test_registers_are_keys_of_every_query() -> None:
    model, params = make(registers=2, window=1)
    (weights,) = maps(model, params, tokens_of()).values()
    assert weights.shape == (3, H, T + 2, T + 2)
    seen = np.asarray(weights[0, 0] > 0)
    assert seen[2:, :2].all()
    assert (seen[2:, 2:] == np.eye(T, dtype=bool)).all()
    grad = jax.grad(
        lambda r: jnp.sum(model.apply({**params, "embed": {**params["embed"], "register": r}}, tokens_of())[0][..., 0])
    )
    assert float(jnp.max(jnp.abs(grad(params["embed"]["register"])))) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"registers": -1}, "Transformer.registers: got -1; allowed is an integer >= 0"),
        ({"short_conv": 0}, "Transformer.short_conv: got 0"),
        ({"mlp_mixer": (3,)}, "Transformer.mlp_mixer: got 3; allowed is 0 to 0"),
        ({"mlp_mixer": (0,), "no_attention": (0,)}, "layers that are not in no_attention"),
        ({"qk_source": "random"}, "Transformer.qk_source: got 'random'; allowed is None, RandomStream"),
        ({"qk_source": (None, None)}, "Transformer.qk_source: got .*; allowed is one for all layers, or a tuple of 1"),
        ({"head_norm": "batch"}, "Transformer.head_norm: got 'batch'; allowed is layernorm | rmsnorm | none"),
    ],
    ids=str,
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_a_recurrence_takes_no_window() -> None:
    class Recurrence:
        name, causal_only = "recurrence", True
        init, apply = attention.softmax.init, attention.softmax.apply

    with pytest.raises(ConfigError, match=r"\(2, 0\); allowed is \(None, 0\).*recurrence is a recurrence"):
        make(mechanism=Recurrence(), window=2)
