"""Interventions: equal to models built without the part, or to hand-made forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits
from attnlab.analysis import evaluation_batch, interventions, measure
from attnlab.config import ConfigError
from attnlab.models import BackcopyReduced, Transformer
from attnlab.tape import Edit, replace
from toy_tasks import BigramBackcopy

T, B = 12, 8
TASK = BigramBackcopy.tiny_shakespeare(length=T)
SIZES = {"num_layers": 2, "num_heads": 2, "width": 16}


@functools.cache
def setting():
    model = Transformer(TASK.vocab_size, T, **SIZES)
    params = model.init(jax.random.key(1))
    return model, params, measure(interventions(TASK, B), model, params)


def risks(model, params, *held):
    batch = evaluation_batch(TASK, B)
    logits = jax.jit(lambda p: model.apply(p, batch.inputs, edits=held)[0])(params)
    return TASK.risks(logits, batch)


def same(found, wanted):
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("full", {}),
        ("no_attention", {"no_attention": (0, 1)}),
        ("no_attention_1", {"no_attention": (1,)}),
        ("no_mlp", {"no_mlp": (0, 1)}),
        ("no_mlp_0", {"no_mlp": (0,)}),
        ("no_block", {"no_attention": (0, 1), "no_mlp": (0, 1)}),
        ("no_block_0", {"no_attention": (0,), "no_mlp": (0,)}),
    ],
)
def test_equal_to_the_model_built_without_the_part(name, built):
    _, params, found = setting()
    without = Transformer(TASK.vocab_size, T, **SIZES, **built)
    kept = jax.eval_shape(without.init, jax.random.key(0))["blocks"]
    blocks = {n: {part: params["blocks"][n][part] for part in block} for n, block in kept.items()}
    same(found[name], risks(without, params | {"blocks": blocks}))


def test_ideal_attention_is_the_map_of_the_task():
    model, params, found = setting()
    ideal = TASK.ideal_attention(evaluation_batch(TASK, B))[:, None]
    held = [replace(f"blocks.{n}.attn.weights", ideal) for n in range(2)]
    same(found["ideal_attention"], risks(model, params, *held))
    same(found["ideal_attention_1"], risks(model, params, held[1]))


def test_identity_and_the_three_at_bos():
    model, params, found = setting()
    at_bos = (jnp.arange(T) == 0)[:, None]

    def edit(site, change):
        return Edit(site, lambda x, value, inputs: change(x))

    each = range(2)
    eye = [edit(f"blocks.{n}.attn.weights", lambda x: 0 * x + jnp.eye(T)) for n in each]
    same(found["identity_attention"], risks(model, params, *eye))
    same(found["identity_attention_0"], risks(model, params, eye[0]))
    to_bos = [edit(f"blocks.{n}.attn.weights", lambda x: x.at[..., 0, 0].set(0)) for n in each]
    same(found["no_bos_to_bos"], risks(model, params, *to_bos))
    value = [edit(f"blocks.{n}.attn.v", lambda x: jnp.where(at_bos, 0, x)) for n in each]
    same(found["no_bos_value"], risks(model, params, *value))
    mlp = [edit(f"blocks.{n}.mlp.out", lambda x: jnp.where(at_bos, 0, x)) for n in each]
    same(found["no_mlp_at_bos"], risks(model, params, *mlp))
    same(found["no_mlp_at_bos_1"], risks(model, params, mlp[1]))


def test_what_the_parts_are_for_in_the_constructed_model():
    model = BackcopyReduced(TASK.vocab_size, T, TASK.triggers, TASK.bos_id)
    params = model.construct(jnp.asarray(TASK.kernel, jnp.float32), sink=20.0, previous=20.0, value=25.0)
    found = measure(interventions(TASK, B), model, params)
    assert "no_attention_0" not in found  # one layer: `no_attention` says it
    for name in ("full", "ideal_attention", "no_bos_value"):
        np.testing.assert_allclose(found[name]["excess_bigram"], 0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(found[name]["backcopy"], 0, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(found["no_attention"]["backcopy"], np.log(TASK.vocab_size), rtol=1e-4)
    np.testing.assert_allclose(found["no_attention"]["excess_bigram"], 0, atol=1e-4)
    assert found["no_mlp"]["excess_bigram"] > 1 and found["no_mlp"]["backcopy"] < 1e-4


def test_layers_without_a_part_are_left_out():
    model = Transformer(TASK.vocab_size, T, **SIZES, no_attention=(1,), no_mlp=(0, 1))
    params = model.init(jax.random.key(0))
    names = [name for name, _ in interventions(TASK, B).edits(model, params)]
    assert "no_attention_0" in names and "no_attention_1" not in names and "no_mlp" not in names
    assert "no_block_0" in names and "no_block_1" not in names


def test_tasks_without_bos_have_no_interventions_there():
    task = BigramBackcopy.tiny_shakespeare(length=T, bos=False)
    model = Transformer(task.vocab_size, T, width=8)
    names = [name for name, _ in interventions(task, B).edits(model, model.init(jax.random.key(0)))]
    assert names == ["full", "no_attention", "no_mlp", "no_block", "identity_attention", "ideal_attention"]


def test_a_choice_and_ones_own():
    model, params, found = setting()
    mine = ("half", (edits.remove_block(1),))
    probe = interventions(TASK, B, only=("full", "half"), extra=(mine,))
    chosen = measure(probe, model, params)
    assert set(chosen) == {"full", "half"}
    same(chosen["half"], found["no_block_1"])
    with pytest.raises(ConfigError, match="no_such"):
        interventions(TASK, B, only=("no_such",))(model, params)


def test_under_vmap_over_seeds():
    model = BackcopyReduced(TASK.vocab_size, T, TASK.triggers, TASK.bos_id)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(5), 2))
    probe = interventions(TASK, B, only=("full", "no_mlp"))
    together = jax.jit(jax.vmap(lambda p: probe(model, p)))(params)
    alone = jax.jit(lambda p: jax.lax.map(lambda one: probe(model, one), p))(params)
    for name, values in alone.items():
        same(together[name], values)
