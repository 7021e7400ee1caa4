"""KQ and OV between tokens: the model's own logits; attention maps as recorded; token norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import (
    attention_maps,
    evaluation_batch,
    kq_tokens,
    measure,
    ov_tokens,
    previous_token_score,
    sinks,
    token_norms,
)
from attnlab.config import ConfigError
from attnlab.models import BackcopyReduced, Transformer
from toy_tasks import BigramBackcopy

T, B = 12, 8
TASK = BigramBackcopy.tiny_shakespeare(length=T)


def sites(model, params, tokens):
    return jax.jit(lambda p: model.apply(p, tokens, tape=("*",)))(params)


def test_without_positions_the_token_circuit_is_the_attention_logit():
    model = Transformer(TASK.vocab_size, T, num_heads=2, width=16, positions="none")
    params = model.init(jax.random.key(0))
    tokens = evaluation_batch(TASK, B).inputs
    _, tape = sites(model, params, tokens)
    for head in range(2):
        table = kq_tokens(model, params, 0, head)
        assert table.shape == (TASK.vocab_size, TASK.vocab_size) and table.rank_bound == 8
        read = table.dense()[tokens[:, None, :], tokens[:, :, None]]
        np.testing.assert_allclose(read, tape["blocks.0.attn.logits"][:, head], atol=1e-5)


def test_without_norm_tokens_and_positions_add_up():
    model = Transformer(TASK.vocab_size, T, width=16, norm="none")
    params = model.init(jax.random.key(0))
    tokens = evaluation_batch(TASK, B).inputs
    _, tape = sites(model, params, tokens)
    place = jnp.broadcast_to(jnp.arange(T), tokens.shape)
    total = 0.0
    for keys, key_ids in (("token", tokens), ("position", place)):
        for queries, query_ids in (("token", tokens), ("position", place)):
            table = kq_tokens(model, params, keys=keys, queries=queries).dense()
            total = total + table[key_ids[:, None, :], query_ids[:, :, None]]
    scale = float(jnp.abs(total).max())
    np.testing.assert_allclose(total, tape["blocks.0.attn.logits"][:, 0], atol=1e-5 * scale)


def test_ov_is_what_attention_adds_to_the_output():
    model = Transformer(TASK.vocab_size, T, width=16, positions="none", final_norm=False, no_mlp=(0,))
    params = model.init(jax.random.key(0))
    tokens = evaluation_batch(TASK, B).inputs
    logits, tape = sites(model, params, tokens)
    direct = params["embed"]["token"][tokens] @ params["unembed"]
    added = jnp.einsum("btu,buv->btv", tape["blocks.0.attn.weights"][:, 0], ov_tokens(model, params).dense()[tokens])
    np.testing.assert_allclose(direct + added, logits, atol=1e-4)
    assert ov_tokens(model, params, normalised=False).shape == (TASK.vocab_size, TASK.vocab_size)


def test_the_reduced_model_is_in_token_space():
    model = BackcopyReduced(TASK.vocab_size, T, TASK.triggers, TASK.bos_id)
    params = model.init(jax.random.key(0))
    np.testing.assert_array_equal(kq_tokens(model, params).dense(), model.kq(params).dense())
    np.testing.assert_array_equal(ov_tokens(model, params).dense(), model.ov(params).dense())
    with pytest.raises(ConfigError, match="token"):
        kq_tokens(model, params, keys="position")


def test_positions_that_are_not_learned_cannot_be_read():
    model = Transformer(TASK.vocab_size, T, width=16, positions="rope")
    params = model.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="no learned positions"):
        kq_tokens(model, params, keys="position")
    with pytest.raises(ConfigError, match="head"):
        kq_tokens(model, params, head=1)


def test_attention_maps_are_those_of_the_evaluation_batch():
    model = Transformer(TASK.vocab_size, T, 2, num_heads=2, width=16, no_attention=(1,))
    params = model.init(jax.random.key(0))
    probe = attention_maps(TASK, indices=(5, 0), batch_size=B)
    found = measure(probe, model, params)
    batch = evaluation_batch(TASK, B)
    _, tape = sites(model, params, batch.inputs)
    np.testing.assert_array_equal(found["tokens"], batch.inputs[jnp.array([5, 0])])
    np.testing.assert_allclose(found["weights"][:, 0], tape["blocks.0.attn.weights"][jnp.array([5, 0])], atol=1e-6)
    assert found["weights"].shape == (2, 2, 2, T, T) and np.isnan(found["weights"][:, 1]).all()
    dims = probe.dims(found)
    assert all(len(dims[name]) == value.ndim for name, value in found.items())
    assert attention_maps(TASK, sequences=3).indices == (0, 1, 2)
    for options in ({"indices": ()}, {"indices": (-1,)}):
        with pytest.raises(ConfigError, match="indices"):
            attention_maps(TASK, **options)


def test_previous_token_score():
    before = jnp.eye(T, k=-1).at[0, 0].set(1)
    assert float(previous_token_score(before)) == 1
    assert float(previous_token_score(jnp.eye(T))) == 0
    uniform = jnp.tril(jnp.ones((2, 3, T, T))) / jnp.arange(1, T + 1)[:, None]
    np.testing.assert_allclose(previous_token_score(uniform), np.mean(1 / np.arange(2, T + 1)), rtol=1e-5)


def test_token_norms_are_those_of_the_sink_probe():
    model = Transformer(TASK.vocab_size, T, width=16)
    params = model.init(jax.random.key(0))
    found = measure(token_norms(TASK, B), model, params)
    whole = measure(sinks(TASK, B, by_token=True, min_count=1), model, params)
    for name in ("value_norm_by_token", "residual_norm_by_token", "value_norm_bos"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-5, err_msg=name)
    # What bos gives by token is what it gives by position.
    np.testing.assert_allclose(found["value_norm_by_token"][..., TASK.bos_id], found["value_norm_bos"], rtol=1e-5)
