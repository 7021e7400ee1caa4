"""The probe of sinks: each metric against loops written from its definition, closed forms, invariances."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_model import Fake
from slow_metrics import Slow

from attnlab import attention, config
from attnlab.analysis import Probe, evaluation_batch, measure, sinks
from attnlab.analysis.sinks import PARTS
from attnlab.config import ConfigError
from attnlab.models import BackcopyReduced, Transformer
from toy_tasks import BigramBackcopy

T, B = 16, 12
TASK = BigramBackcopy.tiny_shakespeare(length=T)
NO_BOS = BigramBackcopy.tiny_shakespeare(length=T, bos=False)
RELATIVE = 2e-4  # float32 norms and sums against float64


@functools.cache
def setting(name):
    """Softmax without attention in block 1, a key bias, and sigmoid without bos."""
    task = NO_BOS if name == "sigmoid_no_bos" else TASK
    mechanism = {"key_bias": attention.key_bias, "sigmoid_no_bos": attention.sigmoid}.get(name, attention.softmax)
    skip = {"num_layers": 2, "no_attention": (1,)} if name == "two_layers" else {}
    model = Transformer(
        task.vocab_size, T, num_heads=2, width=16, head_dim=6, mechanism=mechanism, embed_std=2.0, **skip
    )
    return task, model, model.init(jax.random.key(3))


def slow(task, model, params, layer, head):
    batch = evaluation_batch(task, B)
    _, tape = jax.jit(lambda p: model.apply(p, batch.inputs, tape=("*",)))(params)
    attn = f"blocks.{layer}.attn"
    weights, logits, v = (tape[f"{attn}.{site}"][:, head] for site in ("weights", "logits", "v"))
    null = tape[f"{attn}.null"][:, head] if f"{attn}.null" in tape else None
    output = params["blocks"][str(layer)]["attn"]["output"][head]
    stream = tape[f"blocks.{layer}.out"]
    newline = task.names.index("\n")
    return Slow(weights, logits, v, output, stream, batch.inputs, task.triggers, task.bos_id, newline, null)


@pytest.mark.parametrize("name", ["two_layers", "key_bias", "sigmoid_no_bos"])
def test_against_loops_from_the_definitions(name):
    task, model, params = setting(name)
    probe = sinks(task, batch_size=B, by_token=True, min_count=3, num_keys=3, eps=0.1)
    found = measure(probe, model, params)
    for head in range(2):
        reference = slow(task, model, params, 0, head)
        wanted = (
            reference.attention()
            | reference.sink(3, 0.1)
            | reference.logit(task.vocab_size, 3)
            | reference.values(task.vocab_size, 3)
        )
        for metric, value in wanted.items():
            np.testing.assert_allclose(found[metric][0, head], value, rtol=RELATIVE, atol=2e-5, err_msg=metric)
        for metric, value in reference.residual(task.vocab_size, 3).items():
            np.testing.assert_allclose(found[metric][0], value, rtol=RELATIVE, atol=2e-5, err_msg=metric)
        measured = set(wanted) | set(reference.residual(task.vocab_size, 3))
    batch = evaluation_batch(task, B)
    risks = task.risks(model.apply(params, batch.inputs)[0], batch)
    for risk, value in risks.items():
        np.testing.assert_allclose(found[risk], value, rtol=1e-5, atol=1e-6, err_msg=risk)
    assert set(found) == measured | set(risks)
    if name == "two_layers":  # block 1 has no attention: NaN there, but a residual stream
        assert np.isnan(found["bos_attention"][1]).all() and np.isnan(found["sink_mass"][1]).all()
        assert np.isnan(found["value_ratio"][1]).all() and np.isfinite(found["residual_peak"]).all()


def ideal():
    batch = evaluation_batch(TASK, B)
    weights = TASK.ideal_attention(batch)[:, None]
    logits = jnp.where(weights > 0, 7.0, 2.0)
    v = jnp.where(batch.inputs == TASK.bos_id, 1.0, 10.0)[:, None, :, None]
    stream = jnp.where(batch.inputs == TASK.bos_id, 50.0, 3.0)[..., None]
    attn = "blocks.0.attn"
    sites = {f"{attn}.weights": weights, f"{attn}.logits": logits, f"{attn}.v": v, "blocks.0.out": stream}
    return batch, Fake(sites, TASK.vocab_size)


def test_closed_forms_of_the_ideal_head():
    batch, fake = ideal()
    found = measure(sinks(TASK, batch_size=B), fake, {})
    triggers = float(batch.positions["trigger"].mean())
    exact = {"bos_attention": 1, "previous_attention": 1, "row_sum": 1, "null_mass": 0, "dormant_mass_triggers": 0}
    exact |= {"sink_logit": 5, "sink_logit_sd": 0, "sink_logit_q10": 5, "sink_logit_q90": 5}
    exact |= {"value_norm_bos": 1, "value_norm_ordinary": 10, "value_norm_ordinary_median": 10, "value_ratio": 0.1}
    exact |= {"residual_norm_bos": 50, "residual_norm_other": 3, "residual_peak": 47}
    for name, value in exact.items():
        np.testing.assert_allclose(np.ravel(found[name]), [value], rtol=1e-6, atol=1e-6, err_msg=name)
    # A trigger at i sees its own 2 at bos and one 7 among the i - 1 keys between: 2 - (2 + 5 / (i - 1)).
    place = np.broadcast_to(np.arange(T), (B, T))[np.asarray(batch.positions["trigger"])]
    np.testing.assert_allclose(found["sink_logit_trigger"], [[np.mean(-5 / (place - 1))]], rtol=1e-5)
    np.testing.assert_allclose(found["sink_mass"][0, 0, 0], 1 - triggers, rtol=1e-6)
    assert float(found["sink_rate"][0, 0, 0]) == 1


@pytest.mark.parametrize("shift", ["constant", "per_row"])
def test_a_constant_on_all_logits_changes_no_sink_logit(shift):
    _, fake = ideal()
    probe = sinks(TASK, batch_size=B, parts="logits", by_token=True)
    name = "blocks.0.attn.logits"
    rows = jax.random.normal(jax.random.key(1), (B, 1, T, 1))
    added = 3.0 if shift == "constant" else rows
    moved = dataclasses.replace(fake, sites=fake.sites | {name: fake.sites[name] + added})
    before, after = measure(probe, fake, {}), measure(probe, moved, {})
    for metric, value in before.items():
        np.testing.assert_allclose(after[metric], value, atol=1e-5, err_msg=metric)


def test_uniform_attention_on_the_task():
    _, fake = ideal()
    weights = jnp.tril(jnp.ones((T, T))) / jnp.arange(1, T + 1)[:, None]
    sites = fake.sites | {"blocks.0.attn.weights": jnp.broadcast_to(weights, (B, 1, T, T))}
    found = measure(sinks(TASK, batch_size=B, parts=("attention", "sink")), dataclasses.replace(fake, sites=sites), {})
    np.testing.assert_allclose(found["sink_mass"][0, 0, 0], np.mean(1 / np.arange(1, T + 1)), rtol=1e-5)
    np.testing.assert_allclose(found["row_sum"], 1, rtol=1e-6)
    assert "value_ratio" in found  # rate, raw mass and value ratio are given together


def test_the_constructed_reduced_model_is_a_full_sink():
    model = BackcopyReduced(TASK.vocab_size, T, TASK.triggers, TASK.bos_id)
    kernel = jnp.asarray(TASK.kernel, jnp.float32)
    params = model.construct(kernel, sink=20.0, previous=20.0, value=25.0)
    found = measure(sinks(TASK, batch_size=B), model, params)
    for name, value in {"bos_attention": 1, "previous_attention": 1, "sink_logit": 20, "value_ratio": 0}.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    assert float(found["backcopy"]) < 1e-5 and np.isnan(found["residual_peak"]).all()


def test_a_mechanism_of_ones_own_without_logits():
    def weights(params, q, k, *, mask):
        return jnp.where(mask, 1.0, 0.0) / jnp.sum(mask, axis=-1, keepdims=True) + 0 * (q @ jnp.swapaxes(k, -1, -2))

    model = Transformer(TASK.vocab_size, T, width=8, mechanism=attention.from_weights(None, weights))
    found = measure(sinks(TASK, batch_size=B, parts=("attention", "logits")), model, model.init(jax.random.key(0)))
    assert np.isnan(found["sink_logit"]).all() and np.isfinite(found["bos_attention"]).all()


def test_vmap_over_seeds_is_the_loop():
    model = Transformer(TASK.vocab_size, T, width=8)
    probe = sinks(TASK, batch_size=B, parts=("attention", "logits", "residual"))
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    together = jax.jit(jax.vmap(lambda p: probe(model, p)))(params)
    one = jax.jit(lambda p: probe(model, p))
    for seed in range(3):
        alone = one(jax.tree.map(lambda x, s=seed: x[s], params))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][seed], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_parts_and_dims():
    task, model, params = setting("two_layers")
    every = jax.eval_shape(lambda p: sinks(task, B, by_token=True)(model, p), params)
    names = set()
    for part in PARTS:
        probe = sinks(task, batch_size=B, parts=part, by_token=True)
        found = jax.eval_shape(lambda p, probe=probe: probe(model, p), params)
        assert {n: x.shape for n, x in found.items()}.items() <= {n: x.shape for n, x in every.items()}.items()
        names |= set(found)
    assert names == set(every)
    sizes = {"layer": 2, "head": 2, "key": 2, "token": task.vocab_size}
    for name, dims in sinks(task).dims(every).items():
        assert every[name].shape == tuple(sizes[d] for d in dims), name
    assert isinstance(sinks(task), Probe)


def test_a_probe_is_written_to_the_manifest_and_read_back():
    _, fake = ideal()
    probe = sinks(TASK, batch_size=B, parts=("attention", "values"), num_keys=1)
    again = config.loads(config.dumps(probe))
    for name, value in measure(probe, fake, {}).items():
        np.testing.assert_array_equal(value, measure(again, fake, {})[name])
    assert hash(probe) == hash(sinks(TASK, batch_size=B, parts=("attention", "values"), num_keys=1))


class Tokens:
    vocab_size, length = 7, T

    def sample(self, key, batch_size):
        return dataclasses.replace(evaluation_batch(TASK, batch_size), positions={})


def test_a_task_without_triggers_or_risks():
    plain = Tokens()
    model = Transformer(TASK.vocab_size, T, width=8)
    params = model.init(jax.random.key(0))
    with pytest.raises(ConfigError, match="risks"):
        sinks(plain)
    plain.vocab_size = TASK.vocab_size
    found = measure(sinks(plain, batch_size=B, parts=("attention", "values")), model, params)
    assert np.isnan(found["previous_attention"]).all()  # no trigger, no mean over triggers
    assert np.isfinite(found["bos_attention"]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"parts": "all"},
        {"parts": ()},
        {"batch_size": 0},
        {"seed": -1},
        {"num_keys": T + 1},
        {"eps": 2},
        {"min_count": 0},
    ],
)
def test_bad_options(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*allowed"):
        sinks(TASK, **options)
