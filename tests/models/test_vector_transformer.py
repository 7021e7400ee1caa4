"""The transformer on real vectors: against itself on tokens, causality, prefixes, ends, bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prompt_cases import run

from attnlab import config, tape
from attnlab.config import ConfigError
from attnlab.models import Transformer

# The sizes of test_transformer.py.
TOKENS_IN = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8, activation="gelu")
VECTORS = dataclasses.replace(TOKENS_IN, vocab_size=None, input_dim=5, output_dim=3)
INPUTS = np.random.default_rng(0).normal(size=(2, 6, 5))


def random_params(model: Transformer, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.6, shapes)


@pytest.mark.usefixtures("x64")
def test_one_hot_vectors_are_tokens() -> None:
    """With the table of embeddings as `W` every activation is that of the token; a bias shifts every embedding."""
    tokens_in = dataclasses.replace(TOKENS_IN, norm_place="post", window=3, prefix=1)
    vectors = dataclasses.replace(tokens_in, vocab_size=None, input_dim=11, output_dim=11)
    params = random_params(tokens_in)
    tokens = np.random.default_rng(1).integers(0, 11, (2, 6))
    logits, seen = run(tokens_in, params, tokens, tape=("*",))
    table = params["embed"]["token"]
    for bias in (np.zeros(8), np.arange(8.0)):
        read_in = {"input": table - bias, "bias": bias, "position": params["embed"]["position"]}
        found, taped = run(vectors, params | {"embed": read_in}, np.eye(11)[tokens], tape=("*",))
        np.testing.assert_allclose(found, logits, rtol=0, atol=1e-11)
        assert list(taped) == ["prediction" if name == "logits" else name for name in seen]
        for name, value in taped.items():
            want = seen["logits" if name == "prediction" else name]
            np.testing.assert_allclose(value, want, rtol=0, atol=1e-11, err_msg=name)


def test_a_vocabulary_at_one_end() -> None:
    """Vectors in and logits out, tokens in and numbers out; the other end is as it was."""
    numbers_out = dataclasses.replace(TOKENS_IN, output_dim=3)
    logits_out = dataclasses.replace(TOKENS_IN, input_dim=5)
    tokens = np.zeros((2, 6), int)
    for model, inputs, last, width in ((numbers_out, tokens, "prediction", 3), (logits_out, INPUTS, "logits", 11)):
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        assert ("token" in shapes["embed"]) == (model is numbers_out)
        out, seen = jax.eval_shape(lambda p, x, model=model: model.apply(p, x, tape=("*",)), shapes, inputs)
        assert out.shape == (2, 6, width) and last in seen and len({"prediction", "logits"} & set(seen)) == 1


@pytest.mark.parametrize("change", [{}, {"window": 2, "prefix": 3, "num_layers": 1}], ids=str)
def test_which_vectors_have_an_influence(change) -> None:
    """By gradients of every prediction to every input vector, exactly 0 where nothing is seen."""
    model = dataclasses.replace(VECTORS, **change)
    weight = np.random.default_rng(1).normal(size=3)
    slopes = jax.jit(jax.jacrev(lambda x, p: model.apply(p, x)[0] @ weight))
    seen = np.asarray(slopes(INPUTS[0], random_params(model)) != 0).any(-1)
    t, u = np.indices((6, 6))
    reach = model.num_layers * (model.window - 1) if model.window else 6
    assert (seen == (((u <= t) & (t - u <= reach)) | (u < model.prefix))).all()


@pytest.mark.usefixtures("x64")
def test_a_prefix_is_predicted_alike() -> None:
    """What is said of the first vectors does not depend on how many follow: float64, about 100 sums in a row."""
    params = random_params(VECTORS)
    whole, _ = run(VECTORS, params, INPUTS)
    assert whole.shape == (2, 6, 3)
    np.testing.assert_allclose(run(VECTORS, params, INPUTS[:, :4])[0], whole[:, :4], rtol=0, atol=1e-11)
    np.testing.assert_allclose(run(VECTORS, params, INPUTS[0, :1])[0], whole[0, :1], rtol=0, atol=1e-11)


def test_edits_hold() -> None:
    params = random_params(VECTORS)
    edits = (tape.zero("blocks.*.out"), tape.replace("embed", np.ones(8)))
    found, _ = run(VECTORS, params, INPUTS, edits=edits)
    assert (found == found[:1, :1]).all(), "nothing of the inputs is left"
    with pytest.raises(tape.SiteError, match=r"'logits' matches no activation.*prediction"):
        run(VECTORS, params, INPUTS, tape=("logits",))


def test_names_and_starts_of_the_new_parameters() -> None:
    """`torch`: U(-1, 1) / sqrt(fan in) for matrix and bias; `normal`: bias 0."""
    model = dataclasses.replace(VECTORS, input_dim=20, width=64)
    other = dataclasses.replace(model, init_kind="normal", init_std=0.1, no_mlp=(0, 1), no_attention=(0, 1))
    params, drawn = jax.device_get(jax.jit(lambda key: (model.init(key), other.init(key)))(jax.random.key(0)))
    assert {name: value.shape for name, value in params["embed"].items()} == {
        "input": (20, 64),
        "bias": (64,),
        "position": (6, 64),
    }
    assert params["unembed"].shape == (64, 3)
    for name in ("input", "bias"):
        assert 0.9 * 20**-0.5 < np.abs(params["embed"][name]).max() <= 20**-0.5
    assert drawn["embed"]["input"].std() == pytest.approx(0.1, rel=5 / (2 * 20 * 64) ** 0.5)
    assert (drawn["embed"]["bias"] == 0).all()


def test_every_parameter_learns() -> None:
    params, inputs = random_params(VECTORS), jnp.asarray(INPUTS)
    slope = jax.jit(jax.grad(lambda p: jnp.sum(VECTORS.apply(p, inputs)[0] ** 2)))(params)
    for path, leaf in jax.tree_util.tree_flatten_with_path(slope)[0]:
        assert np.isfinite(leaf).all() and (np.asarray(leaf) != 0).any(), path


def test_settings_on_disk() -> None:
    """A model is read back; one stored before it could read vectors is what it was."""
    for model in (VECTORS, TOKENS_IN):
        assert config.loads(config.dumps(model)) == model
    old = {k: v for k, v in config.encode(TOKENS_IN).items() if k not in ("input_dim", "output_dim")}
    assert config.decode(old) == TOKENS_IN


BAD = {
    "no ends": (
        {"vocab_size": None},
        r"Transformer.vocab_size: got None; allowed is an integer >= 1.*both input_dim and",
    ),
    "no output": (
        {"vocab_size": None, "input_dim": 5},
        r"Transformer.vocab_size: got None; .*both input_dim and output",
    ),
    "no input": (
        {"vocab_size": None, "output_dim": 5},
        r"Transformer.vocab_size: got None; .*both input_dim and output",
    ),
    "too much": (
        {"input_dim": 5, "output_dim": 5},
        r"Transformer.vocab_size: got 11; allowed is None. .*leave vocab_size",
    ),
    "tied input": ({"input_dim": 5, "tie_embeddings": True}, r"Transformer.input_dim: got 5; allowed is None with tie"),
    "tied output": (
        {"output_dim": 5, "tie_embeddings": True},
        r"Transformer.output_dim: got 5; allowed is None with tie",
    ),
    "no width": ({"input_dim": 0}, r"Transformer.input_dim: got 0; allowed is an integer >= 1"),
    "broken width": ({"output_dim": 1.0}, r"Transformer.output_dim: got 1.0; allowed is an integer >= 1"),
    "no length": ({"length": 0}, r"Transformer.length: got 0; allowed is an integer >= 1"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_one_clear_error(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TOKENS_IN, **change)


def test_bad_calls() -> None:
    params = random_params(VECTORS)
    with pytest.raises(ConfigError, match="inputs: got 'vectors of width 4'; allowed is input_dim=5"):
        run(VECTORS, params, INPUTS[..., :4])
    with pytest.raises(ConfigError, match="tokens: got '7 positions'; allowed is at most length=6"):
        run(VECTORS, params, np.zeros((1, 7, 5)))
    with pytest.raises(ConfigError, match=r"inputs: got .*int.*; allowed is .*vectors"):
        run(VECTORS, params, np.zeros((2, 6), int))
    with pytest.raises(ConfigError, match=r"inputs: got .*float.*; allowed is .*tokens"):
        run(TOKENS_IN, random_params(TOKENS_IN), INPUTS)
